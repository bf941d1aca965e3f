"""The wheel and the source archive are whole: built from the tracked files, installed, and used away from the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


def call(*words, **keywords):
    """Standard output of a command that must succeed; nothing of the checkout is on its import path."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    words = [str(word) for word in words]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300, **keywords)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
    return done.stdout


def package_files():
    """Tracked files of the package, as paths below the checkout."""
    return call("git", "-C", ROOT, "ls-files", "-z", "dgmlab").split("\0")[:-1]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """(wheel, source archive), built without network from a copy of the tracked files."""
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse"], capture_output=True).returncode != 0:
        pytest.skip("needs a git checkout, to know what is part of the project")
    copy, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in [*package_files(), "pyproject.toml", "README.md"]:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, copy, cwd=dist)
    return next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory):
    """bin/ of an empty environment that holds our wheel, and sees the dependencies of this one."""
    venv = tmp_path_factory.mktemp("installed")
    call(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", archives[0])
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # A folder named in a .pth file is searched, but its own .pth files (our editable install) are not read.
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("".join(f"{place}\n" for place in sorted(places)))
    return venv / "bin"


def test_every_file_of_the_package_is_in_both_archives(archives):
    wheel, source = archives
    with zipfile.ZipFile(wheel) as file:
        in_wheel = set(file.namelist())
    with tarfile.open(source) as file:
        in_source = {name.split("/", 1)[1] for name in file.getnames() if "/" in name}
    ours = {name for name in package_files() if (ROOT / name).is_file()}
    assert {"dgmlab/__init__.py", "dgmlab/optimus/model.py", "dgmlab/data/grammar.py"} <= ours
    assert ours - in_wheel == set() and ours - in_source == set()
    strangers = {name for name in in_wheel - ours if ".dist-info/" not in name}
    assert strangers == set(), "the wheel holds more than the package"


def test_command_works_away_from_the_checkout(installed, tmp_path):
    assert "run-all" in call(installed / "dgmlab", "--help", cwd=tmp_path)


def test_every_module_imports_from_the_wheel(installed, tmp_path):
    code = ("import importlib, pathlib, pkgutil, sys, dgmlab, dgmlab.optimus\n"
            "home = pathlib.Path(dgmlab.__file__).parent\n"
            "assert home.is_relative_to(sys.prefix), home\n"
            "names = [m.name for m in pkgutil.walk_packages([str(home)], 'dgmlab.') if not m.name.endswith('__main__')]\n"
            "for name in names:\n"
            "    module = importlib.import_module(name)\n"
            "    assert pathlib.Path(module.__file__).is_relative_to(home), module\n"
            "print(dgmlab.optimus.Optimus.__module__, len(names))")
    printed = call(installed / "python", "-c", code, cwd=tmp_path).split()
    assert printed[-2] == "dgmlab.optimus.model"
    n_modules = sum(name.endswith(".py") and not name.endswith("__main__.py") for name in package_files())
    assert int(printed[-1]) == n_modules - 1, "modules are missing in the wheel (the package itself is not counted)"
    assert list(tmp_path.iterdir()) == [], "importing wrote files"
