"""What every test stands on: its own home folder, no network, one thread, pictures without a screen.

Set before anything imports torch, and inherited by the kernels and commands that tests start.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FIRST = ("slow", "browser")  # markers of the files that take longest


def pytest_configure(config):
    """Environment of the whole session. Every xdist worker comes by here too, with a scratch folder of its own."""
    scratch = Path(tempfile.mkdtemp(prefix="dgmlab-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(scratch, ignore_errors=True))
    for name in ("DGMLAB_RUN", "DGMLAB_DEBUG", "MPLBACKEND"):
        os.environ.pop(name, None)
    os.environ.update(
        DGMLAB_HOME=str(scratch / "home"), HF_HOME=str(scratch / "huggingface"), IPYTHONDIR=str(scratch / "ipython"),
        HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
    )
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    beside = ROOT.parent / "shared" / "data"
    if os.environ.get("DGMLAB_DATA"):
        os.environ["DGMLAB_DATA"] = str(Path(os.environ["DGMLAB_DATA"]).expanduser().resolve())
    elif beside.is_dir():
        os.environ["DGMLAB_DATA"] = str(beside)
    import matplotlib

    matplotlib.use("Agg")  # not by MPLBACKEND: notebook kernels inherit that, and would show no pictures
    # Hooks in a conftest are heard only below its own folder; as a plugin they are heard for notebooks/ as well.
    config.pluginmanager.register(EveryFile(scratch), "dgmlab-every-file")


class EveryFile:
    """Hooks for test files and notebooks alike."""

    def __init__(self, scratch):
        self.scratch = scratch

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item):
        """A home folder per file: the order of files and the number of workers change nothing."""
        home = self.scratch / "home" / re.sub(r"\W+", "-", os.path.relpath(item.path, ROOT))
        home.mkdir(parents=True, exist_ok=True)
        os.environ["DGMLAB_HOME"] = str(home)

    def pytest_collectstart(self, collector):
        """Where a notebook's stored output is compared at all, warnings on stderr are not part of it."""
        if hasattr(collector, "skip_compare"):
            collector.skip_compare += ("stderr",)


def pytest_collection_modifyitems(items):
    """Long files first, so that two workers end together; `gpu` tests are skipped where there is no CUDA."""
    def rank(path):
        return 0 if path in long else 1 if path.suffix == ".ipynb" else 2

    long = {item.path for item in items if any(item.get_closest_marker(name) for name in FIRST)}
    items.sort(key=lambda item: rank(item.path))
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            for item in items:
                if item.get_closest_marker("gpu"):
                    item.add_marker(pytest.mark.skip(reason="needs a CUDA device, found none"))
