"""The `dgmlab` command. Each command imports what it needs when it is called, so that `--help` stays instant.

A user's mistake is one line on stderr and exit code 2; a failing notebook is exit code 1, an interrupted one 130.
Set DGMLAB_DEBUG=1 to see tracebacks.
"""

import contextlib
import os
import sys
from typing import Annotated

import typer

app = typer.Typer(
    name="dgmlab", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="A workbench for deep generative models: run its notebooks headless, in grids, and look at what came out.\n\n"
    "Start with `dgmlab list`, then `dgmlab run 11`. Runs go to runs/ (DGMLAB_HOME moves it), data is read from "
    "data/ (DGMLAB_DATA moves it).",
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What corpora there are; download and check them.")
app.add_typer(data_app, name="data")

USER_ERRORS = (ValueError, KeyError, TypeError, FileNotFoundError, OSError, ModuleNotFoundError)
Overrides = Annotated[
    list[str] | None,
    typer.Option("-p", "--parameter", metavar="NAME VALUE", help="Set a parameter (or NAME=VALUE); repeatable. Wins over -f."),
]


@app.command("list")
def list_(notebook: Annotated[str | None, typer.Argument(help="Name or number; shows its parameters.")] = None):
    """Show the notebooks and recipes, or the parameters of one notebook.

    Examples: dgmlab list          dgmlab list 11
    """
    from dgmlab import notebooks
    from dgmlab.sweep import GRID_KEYS

    if notebook is None:
        rows = [(path.stem, notebooks.title(path)) for path in notebooks.list_notebooks()]
        typer.echo(table(rows, ("notebook", "")))
        recipes = []
        for path in notebooks.list_recipes():
            name, content = notebooks.read_recipe(path, keys=(*notebooks.RECIPE_KEYS, *GRID_KEYS))
            recipes.append((name, content.get("notebook", ""), content.get("description", "")))
        if recipes:
            typer.echo("\n" + table(recipes, ("recipe", "notebook", "")))
        return
    path = notebooks.find_notebook(notebook)
    rows = [(p.name, p.type.__name__ if p.type else "any", repr(p.default), p.help)
            for p in notebooks.parameters_of(path).values()]
    typer.echo(f"{path.stem}: {notebooks.title(path)}\n\n" + table(rows, ("parameter", "type", "default", "")))


@app.command()
def run(
    notebook: Annotated[str | None, typer.Argument(help="Name or number; optional where the recipe names it.")] = None,
    parameter: Overrides = None,
    recipe: Annotated[str | None, typer.Option("-f", "--recipe", help="YAML file, or its name in notebooks/recipes.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an earlier run aside instead of resuming it.")] = False,
):
    """Run a notebook headless into its run folder. The same command resumes an interrupted run.

    Examples: dgmlab run 11        dgmlab run 11 -p n_steps 300 -p seed 1        dgmlab run -f ptb_small
    """
    from dgmlab.notebooks import plan_run

    raise typer.Exit(_run(plan_run(notebook, _overrides(parameter), recipe), fresh))


def _run(plan, fresh=False):
    """Run a plan, say how it ended. -> exit code 0, 1 or 130"""
    import shlex

    from dgmlab.notebooks import run_notebook
    from dgmlab.report import duration

    _say(f"{plan.notebook.stem} -> {plan.folder}")
    try:
        outcome = run_notebook(plan, fresh=fresh, say=_say)
    except KeyboardInterrupt:
        _say(f"interrupted. Resume with: {shlex.join(('dgmlab', *plan.command))}")
        return 130
    if outcome.state == "failed":
        print(f"failed in {outcome.error} (notebook kept: {plan.folder / 'notebook.ipynb'})", file=sys.stderr)
        return 1
    _say(f"done in {duration(outcome.seconds)}: {plan.folder / 'notebook.html'}")
    return 0


@app.command("run-all")
def run_all(
    profile: Annotated[bool, typer.Option("--profile", help="Also show the slowest cells of each notebook.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move earlier runs aside instead of resuming them.")] = False,
    slots: Annotated[int, typer.Option(min=1, help="Notebooks at once; of several, the steps are in their logs only.")] = 1,
):
    """Run every notebook at its defaults, then write the gallery. Goes on after a failure; exit 1 names the failed ones.

    Examples: dgmlab run-all        dgmlab run-all --profile        dgmlab run-all --slots 2
    """
    from dgmlab import notebooks, report

    rows, failed = [], []
    codes = _run_at_once(slots, fresh) if slots > 1 else {}
    for path in notebooks.list_notebooks():
        code, seconds, slowest = 1, None, ""
        try:
            plan = notebooks.plan_run(path.stem)
            # a notebook whose defaults were edited since is another experiment: it does not take up the old folder
            code = codes[path.stem] if slots > 1 else _run(plan, fresh or notebooks.needs_fresh(plan))
            seconds, slowest = notebooks.cell_times(plan.folder / "notebook.ipynb")
        except USER_ERRORS as error:
            _complain(error)
        if code == 130:
            raise typer.Exit(130)
        rows.append((path.stem, "failed" if code else "done", report.duration(seconds), *((slowest,) if profile else ())))
        failed += [path.stem] if code else []
    typer.echo("\n" + table(rows, ("notebook", "state", "time", *(("slowest cells",) if profile else ()))))
    typer.echo(f"gallery: {report.build()}")
    if failed:
        print(f"{len(failed)} of {len(rows)} notebooks failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


def _run_at_once(slots, fresh):
    """Run the notebooks in so many processes, their errors on stderr -> {name: exit code}"""
    from dgmlab import notebooks
    from dgmlab import sweep as sweeps

    jobs = []
    for path in notebooks.list_notebooks():
        with contextlib.suppress(*USER_ERRORS):  # complained of where the notebook has its turn
            plan = notebooks.plan_run(path.stem)
            again = ("--fresh",) if fresh or notebooks.needs_fresh(plan) else ()
            jobs.append(sweeps.Job(path.stem, plan._replace(command=(*plan.command, *again))))
    try:
        rows = sweeps.run_jobs(jobs, slots, say=_say, again=True)
    except KeyboardInterrupt:
        _say("interrupted. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    for row in rows:
        if row.state != "done":
            print(f"{row.label}: failed in {row.error} (notebook kept: {row.folder / 'notebook.ipynb'})", file=sys.stderr)
    return {row.label: int(row.state != "done") for row in rows}


@app.command()
def sweep(
    notebook: Annotated[str | None, typer.Argument(help="Name or number; optional where the grid file names it.")] = None,
    grid_file: Annotated[str | None, typer.Option("-f", "--grid-file", help="YAML of the grid.")] = None,
    grid: Annotated[list[str] | None, typer.Option("-g", "--grid", metavar="NAME=V1,V2", help="Values to try.")] = None,
    recipe: Annotated[list[str] | None, typer.Option("-r", "--recipe", help="Base recipe; repeat to try several.")] = None,
    parameter: Overrides = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Jobs at once; default one per GPU, or 1.")] = None,
    slurm: Annotated[str | None, typer.Option(metavar="K=V,...", help="Submit to Slurm, e.g. partition=gpu,time=120.")] = None,
):
    """Run a grid of parameters and recipes, on this machine's slots or on Slurm. Finished jobs are skipped.

    Examples: dgmlab sweep 11 -g seed=0,1,2 -g latent_size=16,32 --slots 2

              dgmlab sweep 11 -r ptb_small -g seed=0,1,2 --slurm partition=gpu,time=120,gpus_per_node=1

    A grid file has the keys notebook, recipes (names), parameters (the same in all jobs) and grid (name: list of values).
    """
    from dgmlab import sweep as sweeps
    from dgmlab.report import duration

    jobs = sweeps.plan_jobs(notebook, grid_file, grid or [], recipe or [], _overrides(parameter))
    try:
        rows = sweeps.run_jobs(jobs, slots=slots, slurm=sweeps.read_slurm(slurm), say=_say)
    except KeyboardInterrupt:
        _say("interrupted. The same command goes on where it stopped.")
        raise typer.Exit(130) from None
    typer.echo("\n" + table([(r.label, r.state, duration(r.seconds), r.metric, r.error) for r in rows],
                            ("job", "state", "time", "metric", "")))
    failed = [row.label for row in rows if row.state != "done"]
    if failed:
        print(f"{len(failed)} of {len(rows)} jobs failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def runs():
    """Show the runs: state, step, duration and first metric, newest first."""
    from dgmlab import report

    rows = []
    for card in report.collect():
        metric = next((f"{key} {report.number(value)}" for key, value in card.metrics.items()), "")
        rows.append((card.name, card.state, str(card.step or ""), report.duration(card.seconds), metric, card.started))
    typer.echo(table(rows, ("run", "state", "step", "time", "metric", "started")) if rows
               else "No runs yet. `dgmlab list` shows the notebooks, `dgmlab run NOTEBOOK` runs one.")


@app.command("report")
def report_():
    """Write the gallery of all runs, one HTML file, and print its path."""
    from dgmlab import report

    typer.echo(f"gallery: {report.build()}")


@app.command()
def doctor():
    """Check this machine: Python, torch, devices, memory, disk, data, and versions against constraints.txt."""
    from dgmlab import doctor as checks

    found = checks.examine()
    typer.echo(table([(check.state, check.name, check.found) for check in found], ("", "", "")).lstrip("\n "))
    for check in found:
        if check.advice:
            typer.echo(f"{check.name}: {check.advice}")
    if any(check.state == "bad" for check in found):
        raise typer.Exit(1)


@app.command()
def bench(names: Annotated[list[str] | None, typer.Argument(help="Benchmarks to run; default all.")] = None):
    """Measure this machine against the numbers the project promises."""
    from dgmlab import bench as benchmarks

    benchmarks.main(names or [])


@data_app.command("list")
def data_list():
    """Show every data set: where it was found, licence, what it is."""
    from dgmlab.data import registry

    rows = []
    for name, dataset in registry.DATASETS.items():
        try:
            where = str(registry.find(name))
        except FileNotFoundError:
            where = "not here" if dataset.files else "bring your own"
        rows.append((name, where, dataset.licence, dataset.note))
    typer.echo(f"data folder: {registry.data_home()}\n\n" + table(rows, ("name", "found", "licence", "note")))


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(help="A name of `dgmlab data list`.")]):
    """Download a data set; a download that broke off is resumed, and every file is checked against its sha256."""
    from dgmlab.data import registry

    typer.echo(f"{name}: {registry.get(name)}")


@data_app.command("check")
def data_check(name: Annotated[str | None, typer.Argument(help="One data set; default all that are found.")] = None):
    """Compare the files on disk with their sums. Exit 1 names what is wrong."""
    from dgmlab.data import registry

    bad = 0
    for each in [name] if name else registry.DATASETS:
        if not name and not registry.is_here(each):
            typer.echo(f"{each}: not here")
            continue
        problems = registry.check(each)
        typer.echo("\n".join(f"{each}: {problem}" for problem in problems) or f"{each}: fine")
        bad += bool(problems)
    if bad:
        raise typer.Exit(1)


# small parts


def table(rows, header):
    """Columns as wide as their widest cell, two spaces between; plain text, so that a log can be searched."""
    rows = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def join_pairs(argv):
    """`-p NAME VALUE` as `-p NAME=VALUE`, since the parser knows options of one value only."""
    joined, rest = [], list(argv)
    while rest:
        word = rest.pop(0)
        joined.append(word)
        if word in ("-p", "--parameter") and len(rest) > 1 and "=" not in rest[0]:
            joined.append(f"{rest.pop(0)}={rest.pop(0)}")
    return joined


def _overrides(pairs):
    """["a=1", "b=x"] -> {"a": "1", "b": "x"}"""
    for pair in pairs or []:
        if "=" not in pair:
            raise ValueError(f"-p takes a name and a value, found '{pair}'. Write `-p {pair} VALUE` or `-p {pair}=VALUE`.")
    return dict(pair.split("=", 1) for pair in pairs or [])


def _say(line):
    print(line, flush=True)


def _complain(error):
    if os.environ.get("DGMLAB_DEBUG") == "1":
        raise error
    from dgmlab.run import one_line

    print(one_line(error), file=sys.stderr)


def main():
    """Entry point of the command."""
    try:
        app(join_pairs(sys.argv[1:]), prog_name="dgmlab")
    except USER_ERRORS as error:
        _complain(error)
        sys.exit(2)
