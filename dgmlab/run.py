"""A run is a folder: parameters, environment, metrics, checkpoints, samples and the executed notebook.

    params.json     what was asked for                     env.json      versions, git commit, device
    metrics.jsonl   one line a logged step, no clock in it  status.json   running | done | failed | interrupted
    results.json    final numbers, with the paper's         tensorboard/  the same metrics as event files
    checkpoints/    step-00000100/ ...                      samples/      pictures, and the numbers behind them

Nothing here imports torch, so that lists, reports and the runner stay light. Every file but metrics.jsonl is replaced
atomically; metrics.jsonl is appended a line at a time, and a half-written last line (a killed process) is ignored.
"""

import contextlib
import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from dgmlab.config import differences

RUN_VARIABLE = "DGMLAB_RUN"


def home():
    """Folder that holds runs/ and data/: DGMLAB_HOME, else the checkout around the working folder, else that folder."""
    if os.environ.get("DGMLAB_HOME"):
        return Path(os.environ["DGMLAB_HOME"]).expanduser().resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        marker = folder / "pyproject.toml"
        if marker.is_file() and 'name = "dgmlab"' in marker.read_text(errors="replace"):
            return folder
    return here


def locate(path):
    """A path as a recipe names it: `~` is spelled out, and what is not in the working folder is looked for below `home()`."""
    path = Path(path).expanduser()
    return path if path.is_absolute() or path.exists() else home() / path


def write_json(path, obj):
    """Write `obj` as JSON so that the file is either the old one or the new one, never half of it."""
    path = Path(path)
    text = json.dumps(obj, indent=1, ensure_ascii=False, default=_plain) + "\n"
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(scratch, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise write_error(path, error) from error
    return path


def read_json(path, default=None):
    """The object in a JSON file, or `default` where there is none; a broken file is named, not guessed at."""
    path = Path(path)
    if not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not readable JSON ({error.msg}, line {error.lineno}). Delete it or restore it.") from None


def write_error(path, error):
    """An OSError in one line: what could not be written, why, and what to do (nothing already written is lost)."""
    reason = error.strerror or str(error)
    advice = {
        28: "Free some space and start the same command again: it resumes from the last checkpoint.",
        30: "The disk is read-only; set DGMLAB_HOME to a folder that can be written.",
        13: "Make the run folder writable, or set DGMLAB_HOME to another one.",
    }.get(error.errno, "What was written before is intact; start the same command again to resume.")
    return OSError(error.errno, f"cannot write {path}: {reason}. {advice}")


def one_line(error):
    """A user's mistake as it is told, `KeyError: ...`, without the quotes and the errno that str() gives some exceptions."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        text = error.strerror if not error.filename else f"{error.strerror}: {error.filename}"
    if isinstance(error, ModuleNotFoundError) and error.name:  # not one that already says what to install
        text = f"{error}. `pip install 'dgmlab[notebooks]'` brings what running notebooks needs."
    return f"{type(error).__name__}: {' '.join(str(text).split())}"


class Run:
    """An open run folder. Opening writes nothing; `Run.start` makes the folder and marks it as running.

    dir      Path of the folder
    name     its path below runs/, e.g. "11_optimus_train/ptb_small"
    """

    def __init__(self, dir):
        self.dir = Path(dir).resolve()
        self._log = None
        self._events = None

    @classmethod
    def start(cls, dir, params, fresh=False):
        """Make the run folder, or take up the one that is there, for the same parameters.

        ValueError  the folder holds a run of other parameters (named); nothing is changed
        fresh       move what is there aside (name + time) instead
        """
        run = cls(dir)
        stored = read_json(run.dir / "params.json")
        if stored is not None and fresh:
            move_aside(run.dir)
            stored = None
        params = json.loads(json.dumps(params, default=_plain))
        if stored is not None and stored != params:
            raise ValueError(
                f"{run.dir} holds a run with other parameters ({'; '.join(differences(stored, params))}). "
                "Use another folder, the same parameters to resume, or start over with --fresh (in Python: fresh=True)."
            )
        write_json(run.dir / "params.json", params)
        write_json(run.dir / "env.json", environment())
        if run.dir != supervised():  # the runner has begun its own run, and noted its process there
            run.begin(pid=os.getpid(), host=socket.gethostname())
        return run

    @classmethod
    def here(cls, notebook, params):
        """The run of a notebook: the folder the runner chose (DGMLAB_RUN), else one named by the parameters' hash."""
        chosen = supervised()
        if chosen:
            return cls.start(chosen, params)
        digest = hashlib.sha256(json.dumps(params, sort_keys=True, default=_plain).encode()).hexdigest()[:6]
        return cls.start(home() / "runs" / notebook / f"lab-{digest}", params)

    def child(self, name, params):
        """A run inside this one, for a notebook that trains several models."""
        return Run.start(self.dir / name, params)

    # what is in the folder

    @property
    def name(self):
        """Path below the nearest folder called runs, or the folder's own name."""
        parts = self.dir.parts
        return "/".join(parts[len(parts) - parts[::-1].index("runs"):]) if "runs" in parts[:-1] else self.dir.name

    @property
    def params(self):
        return read_json(self.dir / "params.json", {})

    @property
    def env(self):
        return read_json(self.dir / "env.json", {})

    @property
    def status(self):
        return read_json(self.dir / "status.json", {})

    @property
    def results(self):
        return read_json(self.dir / "results.json", {"metrics": {}, "compare": []})

    def finished(self, beside="model/config.json"):
        """Final numbers of a loop that came to its end; {} where they, or the file `beside` that goes with them, are not."""
        return self.results["metrics"] if (self.dir / beside).exists() else {}

    @property
    def checkpoints(self):
        return self.dir / "checkpoints"

    @property
    def samples(self):
        return self.dir / "samples"

    def figures(self):
        """Pictures of this run and its children, oldest first."""
        found = [*self.dir.glob("samples/*.png"), *self.dir.glob("*/samples/*.png")]
        return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))

    # metrics

    def log(self, step, **values):
        """Append one line of finite numbers to metrics.jsonl (and to the event files where tensorboard is installed).

        Time does not belong here: an interrupted and an uninterrupted run must give the same bytes. Put it into status.
        """
        row = {"step": int(step), **{key: _plain(value) for key, value in values.items()}}
        try:
            if self._log is None:
                self._log = open(self.dir / "metrics.jsonl", "a", encoding="utf-8")
            self._log.write(json.dumps(row) + "\n")
            self._log.flush()
        except OSError as error:
            raise write_error(self.dir / "metrics.jsonl", error) from error
        self._write_event(row)

    def metrics(self):
        """Every complete line of metrics.jsonl as a dict, in order."""
        path = self.dir / "metrics.jsonl"
        rows = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").split("\n"):
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return rows

    def column(self, key):
        """(steps (n,), values (n,)) float64 of the rows that have `key`."""
        rows = [(row["step"], row[key]) for row in self.metrics() if isinstance(row.get(key), int | float)]
        steps, values = zip(*rows, strict=True) if rows else ((), ())
        return np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)

    def rewind(self, step):
        """Forget the metrics after `step`: training goes on from a checkpoint made there."""
        self.close()
        path = self.dir / "metrics.jsonl"
        if path.exists():
            kept = [json.dumps(row) for row in self.metrics() if row["step"] <= step]
            scratch = path.with_name(".metrics.tmp")
            scratch.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            os.replace(scratch, path)

    def close(self):
        """Close the metric files; logging again opens them again."""
        for file in (self._log, self._events):
            if file is not None:
                file.close()
        self._log = self._events = None

    def _write_event(self, row):
        if self._events is None:
            try:
                from tensorboard.summary.writer.event_file_writer import EventFileWriter
            except ImportError:
                return
            self._events = EventFileWriter(str(self.dir / "tensorboard"))
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = {key: value for key, value in row.items() if key != "step" and isinstance(value, int | float)}
        summary = Summary(value=[Summary.Value(tag=key, simple_value=value) for key, value in numbers.items()])
        self._events.add_event(Event(wall_time=time.time(), step=row["step"], summary=summary))

    # state, results, pictures

    def begin(self, **info):
        """Mark as running from now on. Of a run that was killed while running, the time since its death does not count."""
        if self.status.get("state") == "running":
            write_json(self.dir / "status.json", {**self.status, "state": "interrupted"})
        self.set_status("running", **info)

    def set_status(self, state=None, **info):
        """Update status.json. state: running, done, failed or interrupted; info: step, n_steps, line, error ..."""
        now = time.time()
        status = self.status
        if state == "running" and status.get("state") != "running":
            status = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "before": status.get("seconds", 0.0),
                      "began": now, **info}
        status = {**status, **info, "state": state or status.get("state", "running")}
        status["seconds"] = round(status.get("before", 0.0) + now - status.get("began", now), 1)
        write_json(self.dir / "status.json", status)

    def save_results(self, metrics, compare=()):
        """Final numbers. compare: rows of metric, ours, paper, source, same_protocol, note."""
        write_json(self.dir / "results.json", {"metrics": dict(metrics), "compare": list(compare)})

    def save_figure(self, fig, name, data=None):
        """Save a matplotlib figure as samples/NAME.png, and the numbers behind it as samples/NAME.json."""
        path = self.samples / f"{name}.png"
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            fig.savefig(path, dpi=120, bbox_inches="tight", metadata={"Software": None})
        except OSError as error:
            raise write_error(path, error) from error
        if data is not None:
            write_json(path.with_suffix(".json"), data)
        return path


def move_aside(folder):
    """Rename a run folder to NAME.old-TIME; lists and the gallery leave such folders out."""
    folder.rename(folder.with_name(f"{folder.name}.old-{datetime.now():%Y%m%d-%H%M%S-%f}"))


def supervised():
    """Path of the run folder that the runner chose for this process and watches, or None outside the runner."""
    chosen = os.environ.get(RUN_VARIABLE)
    return Path(chosen).resolve() if chosen else None


def list_runs(home_folder=None):
    """Top-level runs below HOME/runs (notebook/label, or label alone), newest first."""
    root = Path(home_folder or home()) / "runs"
    found = []
    for path in [*root.glob("*/status.json"), *root.glob("*/*/status.json")]:
        if ".old-" not in path.parent.name and not (path.parent.parent / "status.json").exists():
            found.append(Run(path.parent))
    return sorted(found, key=_began, reverse=True)


def _began(run):
    """Seconds since 1970 at which a run was last started; 0 where its status.json is broken (the gallery still shows it)."""
    try:
        return float(run.status.get("began", 0))
    except (ValueError, TypeError, AttributeError):
        return 0.0


def environment():
    """Versions, git commit, device and command of this process, for env.json."""
    names = ("dgmlab", "torch", "transformers", "accelerate", "numpy")
    versions = {name: _version(name) for name in names}
    torch = sys.modules.get("torch")  # asked only where it is loaded: this module must not load it
    cuda = torch is not None and torch.cuda.is_available()
    request = read_json(supervised() / "request.json", {}) if supervised() else {}  # in a notebook: what started it
    return {
        "python": platform.python_version(), **versions,
        "git_commit": _git_commit(), "device": torch.cuda.get_device_name() if cuda else _processor(),
        "platform": platform.platform(), "cpu_count": os.cpu_count(),
        "command": request.get("command") or " ".join(map(str, sys.argv)),
    }


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit():
    """Commit of the code that runs, with `+changes` where the tree is not clean; None outside a checkout."""
    def git(*words):
        return subprocess.run(["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, timeout=10)

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        if head.returncode != 0:
            return None
        dirty = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+changes" if dirty else "")


def _processor():
    """A human name for this CPU."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()} ({os.cpu_count()} cores)"
    except OSError:
        pass
    return f"{platform.processor() or platform.machine()} ({os.cpu_count()} cores)"


def _plain(value):
    """numpy and torch scalars, arrays and paths as what JSON can hold."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return value
