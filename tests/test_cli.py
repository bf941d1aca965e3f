"""The command as a person types it: real processes, real kernels, tiny notebooks."""

import os
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dgmlab import cli


def write_notebook(home, name, parameters, *cells):
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (home / "notebooks" / "recipes").mkdir(parents=True, exist_ok=True)
    cells = [new_markdown_cell(f"# About {name}"), tagged, *map(new_code_cell, cells)]
    nbformat.write(new_notebook(cells=cells, metadata=spec), home / "notebooks" / f"{name}.ipynb")


def dgmlab(home, *words, **env):
    """Run the command with DGMLAB_HOME = home. -> CompletedProcess"""
    env = {**os.environ, "DGMLAB_HOME": str(home), **env}
    return subprocess.run([sys.executable, "-m", "dgmlab", *words], capture_output=True, text=True, env=env, timeout=120)


@pytest.fixture
def here(home, monkeypatch, capsys):
    """`dgmlab` in this process: words -> (exit code, stdout, stderr)."""
    monkeypatch.setenv("DGMLAB_HOME", str(home))
    monkeypatch.delenv("DGMLAB_DATA", raising=False)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["dgmlab", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a notebook that works, one that fails, and a recipe."""
    folder = tmp_path_factory.mktemp("home")
    train = "from dgmlab.run import Run\nrun = Run.here('11_toy_train', dict(n_steps=n_steps))\n" \
            "for step in range(n_steps):\n    run.log(step, loss=1 / (step + 1))\nrun.save_results({'loss': 1 / n_steps})"
    write_notebook(folder, "11_toy_train", "n_steps: int = 4  # optimizer steps\nrate: float = 0.5  # step size", train)
    write_notebook(folder, "12_toy_fail", "depth: int = 1  # levels", "value = 1", "# why\nraise OSError('disk is on fire')")
    (folder / "notebooks" / "recipes" / "toy_big.yaml").write_text(
        "notebook: 11_toy_train\ndescription: more steps\nparameters:\n  n_steps: 8\n")
    return folder


def test_list_shows_notebooks_and_recipes_and_the_parameters_of_one(here):
    _, out, _ = here("list")
    assert "11_toy_train  About 11_toy_train" in out
    assert "toy_big  11_toy_train  more steps" in out
    _, out, _ = here("list", "11")
    assert [line.split() for line in out.splitlines()[3:]] == [
        ["n_steps", "int", "4", "optimizer", "steps"], ["rate", "float", "0.5", "step", "size"]]


@pytest.mark.parametrize(
    "words, message",
    [(("run", "11", "-p", "n_step", "3"),
      "KeyError: no parameter of 11_toy_train is called 'n_step'. Did you mean 'n_steps'? Choose one of: n_steps, rate."),
     (("run", "11", "-p", "n_steps", "few"), "TypeError: parameter 'n_steps' must be int, found 'few' (str)."),
     (("run", "11_toy_trian"), "KeyError: no notebook is called '11_toy_trian'. Did you mean '11_toy_train'?"),
     (("run", "11", "-f", "toy_bgi"), "FileNotFoundError: recipe 'toy_bgi' was expected there"),
     (("sweep", "11", "-g", "n_step=1,2"), "KeyError: no parameter of 11_toy_train is called 'n_step'."),
     (("run", "11", "-p", "n_steps"), "ValueError: -p takes a name and a value, found 'n_steps'."),
     (("data", "get", "ptbb"), "KeyError: no data set 'ptbb'"),
     (("data", "check", "ptbb"), "KeyError: no data set 'ptbb'")],
)
def test_mistakes_are_one_line_and_exit_2(here, words, message):
    code, out, err = here(*words)
    assert (code, out) == (2, "")
    assert err.startswith(message) and err.count("\n") == 1


def test_mistake_in_a_process_of_its_own_leaves_nothing_behind(tmp_path):
    write_notebook(tmp_path, "11_toy_train", "n_steps: int = 4", "pass")
    done = dgmlab(tmp_path, "run", "11", "-p", "n_step", "3")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Did you mean 'n_steps'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_debug_shows_the_traceback(home):
    done = dgmlab(home, "list", "99", DGMLAB_DEBUG="1")
    assert done.returncode != 0 and "Traceback" in done.stderr and "no notebook is called '99'" in done.stderr


def test_missing_package_says_what_to_install(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "papermill", None)
    code, _, err = here("list", "11")
    assert code == 2 and "pip install 'dgmlab[notebooks]'" in err


@pytest.mark.parametrize("slots", ["1", "2"])
def test_run_all_goes_on_after_a_failure_and_writes_the_gallery(slots, home, here):
    done = dgmlab(home, "run-all", "--profile", "--slots", slots)
    assert done.returncode == 1
    assert f"gallery: {home / 'runs' / 'index.html'}" in done.stdout
    assert "1 of 2 notebooks failed: 12_toy_fail" in done.stderr
    # the cell is named by its number, its first line and its error
    assert "failed in cell 4 `# why`: OSError: disk is on fire (notebook kept: " in done.stderr
    states = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line.startswith(("11_", "12_"))
              and "->" not in line}
    assert states == {"11_toy_train": "done", "12_toy_fail": "failed"}
    assert " s from dgmlab.run import Run" in done.stdout  # the slowest cells of --profile
    gallery = (home / "runs" / "index.html").read_text()
    assert "disk is on fire" in gallery and "11_toy_train/default/notebook.html" in gallery
    assert (home / "runs" / "12_toy_fail" / "default" / "notebook.ipynb").exists()

    _, out, _ = here("runs")
    rows = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert rows["11_toy_train/default"].split()[1:3] == ["done", "3"] and "loss 0.25" in rows["11_toy_train/default"]
    assert rows["12_toy_fail/default"].split()[1] == "failed"
    assert here("report") == (0, f"gallery: {home / 'runs' / 'index.html'}\n", "")


def test_recipe_runs_in_its_own_folder(home, here):
    code, out, err = here("run", "-f", "toy_big")
    assert (code, err) == (0, "") and f"{home / 'runs' / '11_toy_train' / 'toy_big' / 'notebook.html'}" in out
    assert (home / "runs" / "11_toy_train" / "toy_big" / "metrics.jsonl").read_text().count("\n") == 8


def test_doctor_reports_and_passes(home):
    done = dgmlab(home, "doctor", DGMLAB_DATA="")
    assert done.returncode == 0
    for word in ("python", "torch", "gpu", "memory", "disk", "data", "versions"):
        assert f" {word} " in done.stdout


def test_data_list_names_every_data_set(here):
    from dgmlab.data.registry import DATASETS

    _, out, _ = here("data", "list")
    assert all(name in out for name in DATASETS)


def test_help_is_quick_and_imports_nothing_heavy(home):
    check = "import sys, dgmlab, dgmlab.cli; heavy = {'torch', 'transformers', 'numpy', 'papermill', 'yaml', 'matplotlib'}\n" \
            "print(sorted(heavy & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "[]"
    seconds = []
    for _ in range(5):  # the quickest of five: the machine may be busy with something else
        start = time.perf_counter()
        assert dgmlab(home, "--help").returncode == 0
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_runner_does_not_import_torch():
    check = "import sys, dgmlab.notebooks, dgmlab.kernel, dgmlab.sweep, dgmlab.report; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "False"


def test_name_and_value_may_stand_apart_or_be_joined():
    assert cli.join_pairs(["run", "11", "-p", "a", "-1", "-p", "b=2", "-p", "c", "x=y"]) == [
        "run", "11", "-p", "a=-1", "-p", "b=2", "-p", "c=x=y"]
    assert cli.join_pairs(["run", "-p", "a"]) == ["run", "-p", "a"]
