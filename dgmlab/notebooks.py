"""Notebooks without a browser: find them, check what they are given, and run them into a run folder.

    plan = plan_run("11", overrides={"n_steps": "300"}, recipe="ptb_small")     everything is checked here
    outcome = run_notebook(plan)                                                papermill runs the notebook

Papermill runs a notebook with a misspelt parameter and only mentions it in its log; `plan_run` refuses it before anything
starts. The same request runs in the same folder, so that starting it again resumes it.
"""

import ast
import fcntl
import glob
import hashlib
import json
import os
import shlex
import signal
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dgmlab.config import cast, differences, unknown_name
from dgmlab.kernel import Progress, execute
from dgmlab.run import Run, environment, home, move_aside, read_json, write_error, write_json

RECIPE_KEYS = ("notebook", "description", "parameters")
TYPES = {"int": int, "float": float, "str": str, "bool": bool}
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Parameter(NamedTuple):
    name: str
    type: type | None  # None where it can be read neither from an annotation nor from the default
    default: Any
    help: str


class Plan(NamedTuple):
    """A checked request: run `notebook` with `parameters` into `folder`."""

    notebook: Path
    folder: Path
    parameters: dict  # every parameter of the notebook, defaults included
    given: dict  # those that the recipe and the overrides set
    command: tuple  # words after `dgmlab` that ask for the same again


class Outcome(NamedTuple):
    state: str  # done | failed
    folder: Path
    seconds: float
    error: str | None  # one line that names the cell, when failed


class InUse(ValueError):
    """Another process holds the run folder."""


# what there is


def notebooks_folder():
    """The folder of numbered notebooks: below DGMLAB_HOME or the checkout one stands in, else beside the package."""
    for folder in (home() / "notebooks", Path(__file__).resolve().parent.parent / "notebooks"):
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            return folder
    raise FileNotFoundError(
        f"no numbered notebooks (NN_name.ipynb) in {home() / 'notebooks'}. "
        "Work inside a checkout of dgmlab, or set DGMLAB_HOME to one."
    )


def list_notebooks():
    """Paths of the numbered notebooks, in order."""
    return sorted(notebooks_folder().glob("[0-9][0-9]_*.ipynb"))


def list_recipes():
    """Paths of notebooks/recipes/*.yaml, in order."""
    return sorted((notebooks_folder() / "recipes").glob("*.yaml"))


def find_notebook(name):
    """Path of the notebook called `name`: its number ("11"), the start of its name, its name, or a path."""
    name = str(name)
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name).resolve()
    stem = Path(name).name.removesuffix(".ipynb")
    found = list_notebooks()
    exact = [path for path in found if path.stem == stem]
    matching = exact or [path for path in found if stem and path.stem.startswith(stem)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise KeyError(f"'{name}' could be any of: {', '.join(path.stem for path in matching)}. Give more of the name.")
    raise KeyError(unknown_name(name, [path.stem for path in found], "notebook"))


def title(notebook):
    """First heading of a notebook, without the `#`."""
    for cell in json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]:
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("#"):
                return line.lstrip("# ").strip()
    return ""


def parameters_of(notebook):
    """name -> Parameter for each line of the cell tagged `parameters`: `name: type = default  # help`."""
    from papermill import inspect_notebook

    found = {}
    for name, row in inspect_notebook(str(notebook)).items():
        try:
            default = ast.literal_eval(row["default"])
        except (ValueError, SyntaxError):
            default = row["default"]
        kind = TYPES.get(row["inferred_type_name"]) or (type(default) if type(default) in TYPES.values() else None)
        found[name] = Parameter(name, kind, default, row["help"])
    return found


# what is asked for


def read_recipe(recipe, keys=RECIPE_KEYS):
    """(name, content) of a recipe: a YAML file, or the name of one in notebooks/recipes."""
    import yaml

    path = Path(recipe)
    if not path.is_file():
        path = notebooks_folder() / "recipes" / f"{Path(recipe).name.removesuffix('.yaml')}.yaml"
    if not path.is_file():
        names = ", ".join(p.stem for p in list_recipes()) or "(none yet)"
        raise FileNotFoundError(f"recipe '{recipe}' was expected there or at {path}. Recipes: {names}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise ValueError(f"{path} is not valid YAML{f' (line {where.line + 1})' if where else ''}. Correct it.") from None
    if not isinstance(content, dict):
        raise TypeError(f"{path} must hold keys ({', '.join(keys)}), found {type(content).__name__}.")
    for key in content:
        if key not in keys:
            raise KeyError(f"{path.name}: {unknown_name(key, keys, 'key of a recipe')}")
    for key in {"parameters", "grid"} & set(content):
        if not isinstance(content[key] or {}, dict):
            raise TypeError(f"{path.name}: '{key}' must map names to values, found {type(content[key]).__name__}.")
    return path.stem, content


def check_parameters(given, parameters, notebook):
    """`given` with every value of its parameter's type. Strings, as a command line gives them, are read.

    KeyError   a name the notebook does not have; names the closest one and all valid ones
    TypeError  a value that cannot be read as the annotated type
    """
    checked = {}
    for name, value in given.items():
        if name not in parameters:
            raise KeyError(unknown_name(name, list(parameters), f"parameter of {notebook}"))
        checked[name] = _read_value(name, value, parameters[name].type)
    return checked


def _read_value(name, value, kind):
    """`value` as `kind`; YAML reads 1e-4 as a string, and a command line has nothing but strings."""
    if isinstance(value, str) and kind is bool and value.lower() in BOOLEANS:
        return BOOLEANS[value.lower()]
    if isinstance(value, str) and kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    if kind is None and isinstance(value, str):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            pass
    return value if kind is None else cast(name, value, kind)


def _absolute(value):
    """A path from here (also KIND:PATH, also a glob) made absolute, as the notebook runs elsewhere; else the value itself."""
    if not isinstance(value, str):
        return value
    kind, colon, path = value.rpartition(":")
    is_path = "/" in path or Path(path).suffix  # a corpus called ptb is not the folder ptb that may lie here
    return f"{kind}{colon}{Path(path).absolute()}" if is_path and glob.glob(path) else value


def plan_run(notebook=None, overrides=None, recipe=None):
    """Check a request and choose its run folder; nothing is written.

    notebook   name or number; may be left out where the recipe names one
    overrides  name -> value or string; they win over the recipe
    recipe     path, or name in notebooks/recipes
    -> Plan; the folder is runs/<notebook>/<recipe or "default">, plus a hash of the overrides if there are any
    """
    label, content = read_recipe(recipe) if recipe else ("default", {})
    if notebook is None and "notebook" not in content:
        raise ValueError("no notebook was named. Give one, e.g. `dgmlab run 11_optimus_train`; `dgmlab list` shows them.")
    path = find_notebook(notebook if notebook is not None else content["notebook"])
    if "notebook" in content and find_notebook(content["notebook"]) != path:
        raise ValueError(f"recipe {label} is for {content['notebook']}, not for {path.stem}. Use the notebook it names.")
    parameters = parameters_of(path)
    from_recipe, chosen = (check_parameters({name: _absolute(value) for name, value in (given or {}).items()}, parameters,
                                            path.stem) for given in (content.get("parameters"), overrides))
    if chosen:
        digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:6]
        label = f"{label}-{digest}"
    given = {**from_recipe, **chosen}
    values = {**{name: p.default for name, p in parameters.items()}, **given}
    options = [word for name, value in chosen.items() for word in ("-p", f"{name}={value}")]
    command = ("run", str(notebook or path.stem), *(("-f", str(recipe)) if recipe else ()), *options)
    return Plan(path, home() / "runs" / path.stem / label, values, given, command)


# running


def run_notebook(plan, fresh=False, say=print, every=5.0):
    """Run the notebook of `plan` in its folder: notebook.ipynb, notebook.html, status.json, and what the notebook writes.

    fresh  move what the folder holds aside first (name + time); without it the notebook resumes what it finds
    say    called with one line at a time: what the notebook prints, and where its training stands
    every  seconds between two progress lines
    -> Outcome; KeyboardInterrupt passes through after the kernel is gone and the status says interrupted
    """
    if fresh:
        _move_aside(plan.folder)
    run = Run(plan.folder)
    with only_one(plan.folder), _terminate_as_interrupt():
        check_same_request(plan)
        command = shlex.join(("dgmlab", *plan.command))
        write_json(plan.folder / "request.json", {"command": command, "parameters": plan.parameters})
        write_json(plan.folder / "env.json", {**environment(), "command": command})
        run.begin(pid=os.getpid(), host=socket.gethostname(), error=None, line=None, step=None)
        began = time.time()
        progress = Progress(plan.folder, say, every)
        try:
            with progress:
                error = execute(plan.notebook, plan.folder, plan.given, progress)
        except BaseException as failure:
            interrupted = isinstance(failure, KeyboardInterrupt)
            run.set_status("interrupted" if interrupted else "failed", error=None if interrupted else str(failure))
            raise
        finally:
            _write_html(plan.folder / "notebook.ipynb", say)
        run.set_status("failed" if error else "done", error=error)
    return Outcome("failed" if error else "done", plan.folder, time.time() - began, error)


def cell_times(notebook, n=3):
    """(seconds of the whole notebook or None, its `n` slowest cells in words) of an executed notebook."""
    content = read_json(notebook, {"cells": [], "metadata": {}})
    cells = []
    for cell in content["cells"]:
        seconds = cell["metadata"].get("papermill", {}).get("duration")
        if seconds and cell["cell_type"] == "code":
            cells.append((seconds, "".join(cell["source"]).strip().split("\n")[0][:40]))
    slowest = "; ".join(f"{seconds:.1f} s {first}" for seconds, first in sorted(cells, reverse=True)[:n])
    return content["metadata"].get("papermill", {}).get("duration"), slowest


def needs_fresh(plan):
    """Whether the folder of `plan` holds a run of the same name with other parameters."""
    stored = read_json(plan.folder / "request.json")
    return stored is not None and stored["parameters"] != json.loads(json.dumps(plan.parameters))


def check_same_request(plan):
    """ValueError that names the differing parameters where the folder holds another run."""
    if needs_fresh(plan):
        stored = read_json(plan.folder / "request.json")["parameters"]
        changed = "; ".join(differences(stored, plan.parameters))
        raise ValueError(
            f"{plan.folder} holds a run with other parameters ({changed}). Add --fresh to move it aside, "
            "or restore the parameters to resume it."
        )


def _move_aside(folder):
    if folder.exists():
        with only_one(folder):
            move_aside(folder)


@contextmanager
def only_one(folder):
    """Hold the lock of a run folder; a second run of the same folder would write over the first one's files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a+")
    except OSError as error:
        raise write_error(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InUse(f"{folder} is in use by another dgmlab run. Wait for it, or change a parameter.") from None
        yield


@contextmanager
def _terminate_as_interrupt():
    """SIGTERM (a batch system's notice, a closed terminal) ends a run as Ctrl-C does: resumable."""

    def interrupt(*_):
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_html(notebook, say):
    """notebook.html beside the executed notebook; a page that cannot be made is no reason to fail the run."""
    if not notebook.exists():
        return
    try:
        from nbconvert import HTMLExporter

        page, _ = HTMLExporter(require_js_url="", mermaid_js_url="").from_filename(str(notebook))
        notebook.with_suffix(".html").write_text(page, encoding="utf-8")
    except Exception as error:  # nbconvert raises whatever its templates raise
        say(f"notebook.html could not be made: {type(error).__name__}: {error}")
