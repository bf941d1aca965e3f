"""Two commands set everything up: the lock, the conda file, CI's script and the Makefile's own logic.

The Makefile is run with a stand-in for Python that writes down what it is asked to do, so nothing is installed here.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK_TEXT = (ROOT / "constraints.txt").read_text()

STAND_IN = """#!/bin/sh
# a Python that only writes down what it is asked for
echo "$0 $* [find-links=$UV_FIND_LINKS] [no-bytecode=$PYTHONDONTWRITEBYTECODE]" >> "{log}"
case "$*" in
    *"-m venv"*) for folder; do :; done; mkdir -p "$folder/bin"; touch "$folder/pyvenv.cfg"; cp "$0" "$folder/bin/python" ;;
    *"-m pip install"*" uv") exit {uv_exit} ;;
    *"-m uv pip install"*|*"-m pip install"*) exit {install_exit} ;;
esac
"""


def direct_dependencies():
    """Every requirement of pyproject.toml, extras included, but the package itself."""
    extras = PROJECT["optional-dependencies"].values()
    found = [Requirement(line) for lines in (PROJECT["dependencies"], *extras) for line in lines]
    return [requirement for requirement in found if requirement.name != PROJECT["name"]]


def pins():
    """name -> versions in the lock (several where they differ by Python or platform)."""
    found = {}
    for line in LOCK_TEXT.splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(str(requirement.specifier).removeprefix("=="))
    return found


@pytest.mark.parametrize("requirement", [pytest.param(r, id=r.name) for r in direct_dependencies()])
def test_every_direct_dependency_is_locked_at_an_allowed_version(requirement):
    versions = pins().get(canonicalize_name(requirement.name))
    assert versions, f"{requirement.name} is not in constraints.txt; run `make lock`"
    for version in versions:
        assert requirement.specifier.contains(version), f"locked {version}, asked {requirement}; run `make lock`"


def test_lock_pins_torch_and_names_its_command_and_no_place():
    assert pins()["torch"] == ["2.13.0"]
    header = [line for line in LOCK_TEXT.splitlines() if line.startswith("#")]
    assert any("uv pip compile pyproject.toml" in line and "make lock" in line for line in header)
    assert "://" not in LOCK_TEXT and "find-links" not in LOCK_TEXT and "+cpu" not in LOCK_TEXT
    assert not re.search(r"(^|\s)[/~]\w", LOCK_TEXT), "a path of one machine is in the lock"


def test_package_accepts_the_torch_and_transformers_of_gpu_servers():
    by_name = {requirement.name: requirement for requirement in direct_dependencies()}
    assert by_name["torch"].specifier.contains("2.11.0") and by_name["transformers"].specifier.contains("5.17.0")
    assert PROJECT["requires-python"] == ">=3.11"
    core = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert not core & {"jupyterlab", "ipywidgets", "papermill", "nbconvert", "datasets", "submitit"}


def test_conda_file_rests_on_the_same_constraints():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["name"] == PROJECT["name"] and conda["channels"] == ["conda-forge"]
    *packages, last = conda["dependencies"]
    assert packages == ["python=3.11", "pip"], "conda brings Python and pip only; versions come from constraints.txt"
    assert last == {"pip": ["-c constraints.txt", "-e .[test]"]}
    assert "test" in PROJECT["optional-dependencies"] and (ROOT / "constraints.txt").is_file()
    python = packages[0].removeprefix("python=")
    assert f"--python-version {python}" in LOCK_TEXT, "the lock was made for another Python"


def test_ci_is_strict_and_calls_make_test():
    script = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "set -euo pipefail" in script and "exec make test" in script
    assert "|| true" not in script, "a failure of CI must not be hidden"
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


# the Makefile


@pytest.fixture
def checkout(tmp_path):
    """A copy of the files that set-up reads, and of nothing else, in a folder with a space in its name."""
    folder = tmp_path / "my checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def stand_in(folder, uv_exit=0, install_exit=0):
    """(path of the stand-in for Python, path of what it writes down)."""
    log, python = folder / "asked.log", folder / "python-stand-in"
    log.touch()
    python.write_text(STAND_IN.format(log=log, uv_exit=uv_exit, install_exit=install_exit))
    python.chmod(0o755)
    return python, log


def make(folder, *words, **variables):
    """`make WORDS` in `folder`, with none of the variables of the make that may run these tests."""
    taken = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "DGMLAB_VENV", "PYTHON", "UV_FIND_LINKS", "PIP_FIND_LINKS", "ARGS")
    environment = {key: value for key, value in os.environ.items() if key not in taken} | variables
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, env=environment, timeout=60)


def installs(log):
    return [line for line in log.read_text().splitlines() if "-e .[test]" in line]


def test_setup_installs_once_under_the_constraints_and_again_only_after_a_change(checkout):
    python, log = stand_in(checkout)
    first = make(checkout, "setup", PYTHON="./python-stand-in")
    assert first.returncode == 0, first.stderr
    assert (checkout / ".venv" / "pyvenv.cfg").is_file()
    assert len(installs(log)) == 1 and "-m uv pip install" in installs(log)[0] and "-c constraints.txt" in installs(log)[0]
    before = log.read_text()
    assert make(checkout, "setup", PYTHON="./python-stand-in").returncode == 0
    assert log.read_text() == before, "the second call started Python"
    with open(checkout / "constraints.txt", "a") as file:
        file.write("# changed\n")
    assert make(checkout, "setup", PYTHON="./python-stand-in").returncode == 0
    assert len(installs(log)) == 2
    assert len(list((checkout / ".venv").glob(".dgmlab-*"))) == 1, "the stamp of the earlier state is still there"


def test_a_failed_install_fails_and_leaves_no_stamp(checkout):
    stand_in(checkout, install_exit=3)
    assert make(checkout, "setup", PYTHON="./python-stand-in").returncode != 0
    assert list((checkout / ".venv").glob(".dgmlab-*")) == []


def test_pip_serves_where_uv_cannot_be_installed(checkout):
    _, log = stand_in(checkout, uv_exit=1)
    done = make(checkout, "setup", PYTHON="./python-stand-in")
    assert done.returncode == 0 and "pip does the same" in done.stdout
    assert len(installs(log)) == 1 and "-m pip install -c constraints.txt" in installs(log)[0]


@pytest.mark.parametrize("given, handed_on", [
    ({}, ""),
    ({"PIP_FIND_LINKS": "/a/wheels /b"}, "/a/wheels,/b"),
    ({"PIP_FIND_LINKS": "/a/wheels", "UV_FIND_LINKS": "/c"}, "/c"),
])
def test_folders_of_local_wheels_are_handed_to_uv(checkout, given, handed_on):
    _, log = stand_in(checkout)
    assert make(checkout, "setup", PYTHON="./python-stand-in", **given).returncode == 0
    assert f"[find-links={handed_on}]" in installs(log)[0]


def test_venv_can_be_elsewhere(checkout, tmp_path):
    _, log = stand_in(checkout)
    assert make(checkout, "setup", PYTHON="./python-stand-in", DGMLAB_VENV=str(tmp_path / "else where")).returncode == 0
    assert (tmp_path / "else where" / "pyvenv.cfg").is_file() and not (checkout / ".venv").exists()
    assert len(installs(log)) == 1


def test_no_suitable_python_is_one_line_that_says_what_to_do(checkout):
    done = make(checkout, "setup", PYTHON="python-of-nowhere")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1 and lines[0].startswith("error: Python 3.11 or newer")
    assert "python-of-nowhere" in lines[0] and "make setup PYTHON=" in lines[0]


def test_python_3_11_is_preferred(checkout):
    plan = make(checkout, "-n", "install").stdout
    assert "for python in python3.11 python3.12 python3.13 python3.14 python3;" in plan


def test_targets_run_what_the_readme_says(checkout):
    assert '"/v/bin/dgmlab" run-all' in make(checkout, "-n", "run", DGMLAB_VENV="/v").stdout
    test = make(checkout, "-n", "test", DGMLAB_VENV="/v").stdout
    for words in ("-m ruff check", "-m pytest tests notebooks -n 2 --dist loadfile", "--nbval-lax", "OMP_NUM_THREADS=1"):
        assert words in test
    lock = make(checkout, "-n", "lock", DGMLAB_VENV="/v").stdout
    assert "echo 'torch==2.13.0' | env -u UV_FIND_LINKS -u PIP_FIND_LINKS" in lock
    assert "jupyterlab notebooks" in make(checkout, "-n", "lab", DGMLAB_VENV="/v").stdout


def test_make_test_sets_up_then_checks_style_then_runs_pytest_on_compiled_modules(checkout):
    _, log = stand_in(checkout)
    done = make(checkout, "test", PYTHON="./python-stand-in", PYTHONDONTWRITEBYTECODE="1", ARGS="-k elbo")
    assert done.returncode == 0, done.stderr
    style, tests = log.read_text().splitlines()[-2:]
    assert len(installs(log)) == 1 and "-m ruff check" in style and "-m pytest tests notebooks" in tests and "-k elbo" in tests
    assert "[no-bytecode=]" in tests, "every process would compile torch and transformers again"


def test_clean_keeps_runs_and_data(checkout):
    for name in (".venv", "build", "runs", "data", "dgmlab/__pycache__", "tests", "notebooks"):
        (checkout / name).mkdir(parents=True)
    assert make(checkout, "clean").returncode == 0
    left = {path.name for path in checkout.iterdir()}
    assert {"runs", "data", "dgmlab"} <= left and not left & {".venv", "build"}
    assert not (checkout / "dgmlab" / "__pycache__").exists()
