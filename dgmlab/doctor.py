"""Is this machine ready? One line a check; a check never raises, it says what it found and what to do."""

import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from dgmlab.run import home

LOWEST_PYTHON = (3, 11)
LOWEST = {"torch": "2.11", "transformers": "5.17"}
FOR_NOTEBOOKS = ("papermill", "ipykernel", "nbconvert", "jupyterlab", "ipywidgets", "submitit")
FREE_GB = 5


class Check(NamedTuple):
    """One line of the report: state (ok, note or problem), what was looked at, and what was found."""

    state: str  # ok | note | bad; only `bad` makes `dgmlab doctor` fail
    name: str
    found: str
    advice: str = ""


def examine(lock=None):
    """Every check, in reading order. -> list[Check]

    lock  the constraints file to compare with; default constraints.txt of the checkout
    """
    lock = Path(lock) if lock else Path(__file__).resolve().parent.parent / "constraints.txt"
    return [
        check_python(), *check_packages(), *check_devices(), check_memory(), check_disk(home()), check_writable(home()),
        *check_data(), check_lock(lock),
    ]


def check_python():
    """Whether this Python is new enough."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < LOWEST_PYTHON:
        return Check("bad", "python", found, "dgmlab needs Python 3.11 or newer; make a new environment with it.")
    return Check("ok", "python", found)


def check_packages():
    """The two packages nothing works without, and the ones that running notebooks needs."""
    checks = []
    for name, lowest in LOWEST.items():
        version = _version(name)
        if version is None:
            checks.append(Check("bad", name, "not installed", "Set the environment up again with `make run`."))
        elif _numbers(version) < _numbers(lowest):
            checks.append(Check("bad", name, version, f"dgmlab needs {name} {lowest} or newer."))
        else:
            checks.append(Check("ok", name, version))
    missing = [name for name in FOR_NOTEBOOKS if _version(name) is None]
    advice = "Training works without; `pip install 'dgmlab[notebooks]'` brings the notebooks." if missing else ""
    found = f"missing: {', '.join(missing)}" if missing else "papermill, kernel, JupyterLab and widgets are here"
    return [*checks, Check("note" if missing else "ok", "notebooks", found, advice)]


def check_devices():
    """What torch computes on."""
    try:
        import torch
    except Exception as error:  # a broken CUDA library raises OSError, a half-installed wheel anything
        return [Check("bad", "devices", f"torch cannot be imported ({type(error).__name__}: {error})",
                      "Install torch again with constraints.txt.")]
    cores = os.cpu_count()
    checks = [Check("ok", "cpu", f"{cores} cores, torch uses {torch.get_num_threads()} threads")]
    if not torch.cuda.is_available():
        built = torch.version.cuda
        found = f"torch was built for CUDA {built}, but no device answers" if built else "none (torch is a CPU build)"
        advice = "Check `nvidia-smi` and CUDA_VISIBLE_DEVICES." if built and shutil.which("nvidia-smi") else ""
        return [*checks, Check("note", "gpu", found, advice)]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        found = f"{device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        checks.append(Check("ok", f"gpu {index}", found))
    return checks


def check_memory():
    """Total and unused memory of the machine."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Check("note", "memory", "unknown on this system")
    total, free = (count * os.sysconf("SC_PAGE_SIZE") / 2**30 for count in pages)
    return Check("ok", "memory", f"{total:.1f} GiB, {free:.1f} GiB unused")


def check_disk(folder):
    """Free space where the runs go."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    found = f"{free:.1f} GB free at {folder}"
    if free < FREE_GB:
        return Check("note", "disk", found, f"Free some space, or set DGMLAB_HOME to a disk with {FREE_GB} GB.")
    return Check("ok", "disk", found)


def check_writable(folder):
    """Whether a run can be written there."""
    probe = folder / f".dgmlab-probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        found = f"{folder / 'runs'} cannot be written ({error.strerror})"
        return Check("bad", "runs", found, "Set DGMLAB_HOME to a folder of yours.")
    return Check("ok", "runs", str(folder / "runs"))


def check_data():
    """The data folder, and which of the known data sets are in it."""
    from dgmlab.data.registry import DATASETS, data_home, find

    folder = data_home()
    variable = os.environ.get("DGMLAB_DATA")
    if not folder.exists():
        if variable:
            return [Check("bad", "data", f"DGMLAB_DATA is {variable}, which does not exist", "Correct it, or unset it.")]
        return [Check("ok", "data", f"no {folder}; the embedded grammar needs none")]
    found = []
    for name in DATASETS:
        try:
            find(name)
            found.append(name)
        except FileNotFoundError:
            continue
    return [Check("ok", "data", f"{folder}: {', '.join(found) or 'nothing that dgmlab knows'}")]


def check_lock(lock):
    """Installed versions against the lock; a local build tag (2.13.0+cpu) does not count as a difference."""
    from packaging.markers import Marker

    if not lock.is_file():
        return Check("note", "versions", "no constraints.txt beside the package: nothing to compare with")
    text = lock.read_text(encoding="utf-8")
    lines = re.findall(r"^([A-Za-z0-9_.\-]+)==([^\s;#]+)[ \t]*(?:;[ \t]*([^#\n]+))?", text, re.MULTILINE)
    pinned = [(name, wanted) for name, wanted, marker in lines if not marker or Marker(marker.strip()).evaluate()]
    installed = [(name, wanted, _version(name)) for name, wanted in pinned]
    present = [(name, wanted, version) for name, wanted, version in installed if version is not None]
    other = [f"{name} {version} (lock: {wanted})" for name, wanted, version in present
             if version.split("+")[0] != wanted.split("+")[0]]
    if other:
        shown = ", ".join(other[:6]) + (f" and {len(other) - 6} more" if len(other) > 6 else "")
        return Check("note", "versions", f"{len(other)} of {len(present)} differ from the lock: {shown}",
                     "Results were measured with the lock; `make run` installs it.")
    return Check("ok", "versions", f"{len(present)} packages as in the lock ({len(pinned)} pinned)")


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version):
    """"2.13.0+cpu" -> (2, 13)"""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
