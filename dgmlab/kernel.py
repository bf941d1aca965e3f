"""One notebook through papermill: a kernel over ipc, started again if it does not start, and a live log.

The kernel speaks over ipc sockets, since kernels started side by side over TCP now and then take each other's port.
"""

import json
import os
import tempfile
import threading
import time
from pathlib import Path

from dgmlab.run import RUN_VARIABLE, home, write_error

KERNEL_ATTEMPTS = 3
IOPUB_TIMEOUT = 120  # seconds; a laptop that slept, or a busy machine, is not a dead kernel


def execute(notebook, folder, parameters, progress):
    """Run `notebook` with `parameters` injected; the executed copy is saved after each cell as FOLDER/notebook.ipynb.

    -> None, or the failure in one line that names the cell; OSError if no kernel starts
    """
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        """papermill's own engine, telling the progress where it is."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            start = nb_man.cell_start

            def cell_start(cell, cell_index=None, **more):
                progress.enter(nb_man.nb.cells, cell_index)
                return start(cell, cell_index, **more)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("dgmlab", Engine)
    for attempt in range(1, KERNEL_ATTEMPTS + 1):
        try:
            # what the kernel process itself says (aborts, its own tracebacks) is kept, and stays off the console
            with tempfile.TemporaryDirectory(prefix="dgmlab-") as sockets, open(folder / "kernel.log", "wb") as log:
                papermill.execute_notebook(
                    str(notebook), str(folder / "notebook.ipynb"), parameters=parameters,
                    engine_name="dgmlab", kernel_name="python3", language="python", cwd=str(notebook.parent),
                    progress_bar=False, stdout_file=progress, stderr_file=progress,
                    iopub_timeout=IOPUB_TIMEOUT,
                    kernel_manager_class=_kernel_manager(_kernel_environment(folder), sockets, log),
                )
            return None
        except papermill.PapermillExecutionError as error:
            return progress.describe(error.cell_index, error.source, error.ename, error.evalue)
        except (RuntimeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise write_error(folder / "notebook.ipynb", error) from error
            if progress.cell is not None:
                last = (folder / "kernel.log").read_text(errors="replace").strip().split("\n")[-1]
                why = f"it said: {last}" if last else "out of memory?"
                return progress.describe_current(type(error).__name__, f"the kernel died ({error}); {why}")
            if attempt == KERNEL_ATTEMPTS:
                raise OSError(f"the Jupyter kernel did not start in {attempt} attempts ({error}). "
                              "Check `python -m ipykernel --version` and `dgmlab doctor`.") from error
            progress.say(f"the kernel did not start ({error}); attempt {attempt + 1} of {KERNEL_ATTEMPTS}")


def _kernel_environment(folder):
    """What the notebook finds in its environment. Paths are absolute: it runs in the notebooks' folder."""
    env = {RUN_VARIABLE: str(folder), "DGMLAB_HOME": str(home()), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    if os.environ.get("DGMLAB_DATA"):
        env["DGMLAB_DATA"] = str(Path(os.environ["DGMLAB_DATA"]).expanduser().resolve())
    env["TQDM_DISABLE"] = os.environ.get("TQDM_DISABLE", "1")  # bars are for eyes; the log has status lines
    return env


def _kernel_manager(env, sockets, log):
    """An AsyncKernelManager class over ipc: kernels get `env` and write to `log`; `sockets` is a folder of a short name."""
    from jupyter_client.manager import AsyncKernelManager

    class IpcKernelManager(AsyncKernelManager):
        def __init__(self, **options):
            # a Unix socket's path must stay below 108 characters, which a long home folder would break
            super().__init__(transport="ipc", connection_file=str(Path(sockets) / "kernel.json"), **options)

        async def start_kernel(self, **options):
            return await super().start_kernel(**{**options, "env": {**os.environ, **env}, "stdout": log, "stderr": log})

    return IpcKernelManager


class Progress:
    """What a run says while it goes: the notebook's output line by line, and every few seconds where it stands.

    It is the file papermill writes the notebook's output to, and a thread that reads the status.json of the run and of
    the runs inside it. Carriage returns (progress bars of other libraries) keep only what was last on the line.
    """

    def __init__(self, folder, say, every):
        self.folder, self.say, self.every = folder, say, every
        self.cell = None  # index in the running notebook, None before the first cell
        self.cells = []
        self._began = self._spoke = time.time()
        self._last = None
        self._rest = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        if self._rest:
            self.write("\n")

    def write(self, text):
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            line = line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()
            if line:
                self._spoke = time.time()
                self.say(f"  {line}")

    def flush(self):
        pass

    def enter(self, cells, index):
        self.cells, self.cell, self._began = cells, index, time.time()

    def _watch(self):
        while not self._stop.wait(self.every):
            line = self._standing()
            if line and line != self._last:
                self._last, self._spoke = line, time.time()
                self.say(f"[cell {self.cell + 1}/{len(self.cells)}] {line}")
            elif self.cell is not None and time.time() - self._spoke > 6 * self.every:
                self._spoke = time.time()
                self.say(f"[cell {self.cell + 1}/{len(self.cells)}] working for {time.time() - self._began:.0f} s")

    def _standing(self):
        """`gpt2: step 120/300  kl 3.2` of the run or sub-run that moved last in this cell, or None."""
        if self.cell is None:
            return None
        moved = []
        for path in [self.folder / "status.json", *self.folder.glob("*/status.json")]:
            try:
                moved.append((path.stat().st_mtime, path, json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, json.JSONDecodeError):
                continue
        fresh = [item for item in moved if item[0] >= self._began and (item[2].get("line") or item[2].get("step"))]
        if not fresh:
            return None
        _, path, status = max(fresh, key=lambda item: item[0])
        name = f"{path.parent.name}: " if path.parent != self.folder else ""
        total = f"/{status['n_steps']}" if status.get("n_steps") else ""
        step = f"step {status['step']}{total}  " if status.get("step") is not None else ""
        return f"{name}{step}{status.get('line') or ''}".rstrip()

    def describe(self, index, source, ename, evalue):
        """A failing cell in one line: its number in the notebook as it is stored, first line of source, error."""
        injected = any("injected-parameters" in cell.metadata.get("tags", []) for cell in self.cells[:index])
        first = next((line.strip() for line in source.splitlines() if line.strip()), "")
        return f"cell {index + 1 - injected} `{first}`: {ename}: {' '.join(str(evalue).split())}"

    def describe_current(self, ename, evalue):
        return self.describe(self.cell, self.cells[self.cell].source, ename, evalue)
