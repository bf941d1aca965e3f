"""A grid of runs: every combination of parameters and recipes, on this machine's slots or on Slurm, through submitit.

    jobs = plan_jobs("11", grid=["seed=0,1,2", "latent_size=16,32"])       all six are checked before one starts
    rows = run_jobs(jobs, slots=2)

A job is the very command a person would type, `python -m dgmlab run ...`, so its run folder and its exit code are all that
a sweep knows of it. A finished folder is skipped: the same sweep, started again, goes on where it stopped.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dgmlab.config import unknown_name
from dgmlab.notebooks import Plan, check_same_request, plan_run, read_recipe
from dgmlab.run import Run, home

GRID_KEYS = ("notebook", "description", "recipes", "parameters", "grid")
SLURM_OPTIONS = {  # our name -> (submitit's name, type)
    "partition": ("slurm_partition", str), "account": ("slurm_account", str), "qos": ("slurm_qos", str),
    "constraint": ("slurm_constraint", str), "time": ("timeout_min", int), "mem_gb": ("mem_gb", float),
    "cpus_per_task": ("cpus_per_task", int), "gpus_per_node": ("gpus_per_node", int),
}
NO_LIMIT_MIN = 60 * 24 * 365  # submitit's local executor kills a job after two minutes unless told otherwise
STOP_SECONDS = 30


class Job(NamedTuple):
    label: str  # "ptb_small seed=0"
    plan: Plan


class Row(NamedTuple):
    """How a job ended."""

    label: str
    state: str  # done | failed | interrupted
    seconds: float | None
    metric: str
    error: str
    folder: Path


class Task:
    """What submitit calls in the job's process: run the command, hand on an interruption once. Returns the exit code.

    submitit pickles it, so it holds plain values only. `checkpoint` puts it back into the queue when Slurm takes the
    machine away; the run resumes from its own folder.
    """

    def __init__(self, command, env, log, stop):
        self.command, self.env, self.log, self.stop = command, env, log, stop

    def __call__(self):
        interrupted = []
        # a function, not SIG_IGN, which the child would inherit from here as this process did from the sweep
        signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
        # of its own session, so that Ctrl-C in a terminal reaches it once, from here
        env = {**os.environ, **self.env}
        with open(self.log, "ab") as log:
            child = subprocess.Popen(self.command, env=env, stdout=log, stderr=log, start_new_session=True)
            told = None
            while child.poll() is None:
                if told is None and (interrupted or Path(self.stop).exists()):
                    child.send_signal(signal.SIGINT)
                    told = time.time()
                elif told is not None and time.time() - told > STOP_SECONDS:
                    child.kill()  # its kernel ends with it, and the run resumes from its last checkpoint
                time.sleep(0.1)
        return child.returncode

    def checkpoint(self):
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


# what is asked for


def plan_jobs(notebook=None, grid_file=None, grid=(), recipes=(), overrides=None):
    """Check a whole grid before anything starts.

    notebook   name or number; may be left out where the grid file or the recipes name one
    grid_file  YAML with the keys of GRID_KEYS
    grid       "name=v1,v2,..." each; they win over the file's
    recipes    recipes to run each combination on
    overrides  parameters that are the same in all jobs
    -> list[Job], one for each recipe and combination
    """
    content = read_recipe(grid_file, keys=GRID_KEYS)[1] if grid_file else {}
    values = {**(content.get("grid") or {}), **dict(map(read_axis, grid))}
    for name, choices in values.items():
        if not isinstance(choices, list) or not choices:
            raise TypeError(f"grid: '{name}' must be a list of values, found {choices!r}. Write e.g. `{name}: [1, 2]`.")
    if not values and not recipes and not content.get("recipes"):
        raise ValueError("the grid is empty. Give values, e.g. `-g seed=0,1,2`, or several recipes with -r.")
    fixed = {**(content.get("parameters") or {}), **(overrides or {})}
    jobs = {}
    for recipe in recipes or content.get("recipes") or [None]:
        for combination in itertools.product(*values.values()):
            point = dict(zip(values, combination, strict=True))
            name = notebook if notebook is not None else content.get("notebook")
            plan = plan_run(name, {**fixed, **point}, recipe)
            check_same_request(plan)
            words = [Path(recipe).stem] if recipe else [plan.notebook.stem]
            jobs[plan.folder] = Job(" ".join([*words, *(f"{key}={value}" for key, value in point.items())]), plan)
    return list(jobs.values())


def read_axis(text):
    """"seed=0,1,2" -> ("seed", ["0", "1", "2"])"""
    name, sign, values = text.partition("=")
    choices = [value for value in values.split(",") if value]
    if not sign or not name or not choices:
        raise ValueError(f"-g takes NAME=V1,V2,..., found '{text}'. For values with commas use a grid file.")
    return name, choices


def read_slurm(text):
    """"partition=gpu,time=120" -> options as submitit names them; None stays None (run here)."""
    if text is None:
        return None
    options = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in SLURM_OPTIONS:
            raise KeyError(unknown_name(name, list(SLURM_OPTIONS), "option of --slurm"))
        key, kind = SLURM_OPTIONS[name]
        try:
            options[key] = kind(value)
        except ValueError:
            raise TypeError(f"--slurm: '{name}' must be {kind.__name__}, found '{value}'.") from None
    return options


def visible_gpus():
    """Names of the GPUs a job may see, as CUDA_VISIBLE_DEVICES takes them; asks nvidia-smi, not torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return asked.stdout.split() if asked.returncode == 0 else []


# running


def run_jobs(jobs, slots=None, slurm=None, say=print, again=False):
    """Run the jobs that are not finished; a failing one does not stop the others.

    slots  jobs at once; default one per GPU, or one. On Slurm: of the array, default all
    slurm  submitit's options, {} for the cluster's defaults; None runs on this machine
    again  run the finished ones as well
    -> list[Row] in the order of `jobs`; KeyboardInterrupt passes through after the jobs have stopped
    """
    todo = [job for job in jobs if again or Run(job.plan.folder).status.get("state") != "done"]
    if len(todo) < len(jobs):
        say(f"{len(jobs) - len(todo)} of {len(jobs)} jobs are finished already")
    folder = home() / "runs" / ".sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    stop = folder / f"stop-{os.getpid()}-{time.time_ns()}"
    started = time.time()
    try:
        if todo and slurm is not None:
            _run_on_slurm(todo, folder, stop, slots, slurm, say)
        elif todo:
            _run_here(todo, folder, stop, slots, say)
    finally:
        stop.unlink(missing_ok=True)
    return [_row(job, started if job in todo else None, folder) for job in jobs]


def _run_here(todo, folder, stop, slots, say):
    """A queue over local slots; slot i sees GPU i alone, where there are GPUs."""
    import submitit

    gpus = visible_gpus()
    slots = slots or max(1, len(gpus))
    executor = submitit.AutoExecutor(folder / "%j", cluster="local")
    executor.update_parameters(timeout_min=NO_LIMIT_MIN)
    queue, free, active = list(todo), list(range(slots)), {}
    try:
        while queue or active:
            while queue and free:
                slot, job = free.pop(0), queue.pop(0)
                if gpus:
                    env = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]}
                else:
                    env = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // slots)))}
                with _sigint_ignored():
                    active[slot] = job, executor.submit(_task(job, env, folder, stop))
                say(f"[slot {slot}] {job.label} -> {job.plan.folder}")
            time.sleep(0.2)
            for slot, (job, handle) in list(active.items()):
                if handle.done():
                    del active[slot]
                    free.append(slot)
                    say(f"[slot {slot}] {job.label}: {Run(job.plan.folder).status.get('state', 'failed')}")
    except KeyboardInterrupt:
        stop.touch()
        while not all(handle.done() for _, handle in active.values()):
            time.sleep(0.2)
        raise


@contextmanager
def _sigint_ignored():
    """What starts in here is deaf to the terminal's Ctrl-C: submitit's controllers die of it, with a traceback each."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run_on_slurm(todo, folder, stop, slots, slurm, say):
    """One job array; each task is requeued by submitit where Slurm preempts it."""
    import submitit

    try:
        executor = submitit.AutoExecutor(folder / "%j", cluster="slurm")
    except RuntimeError as error:
        raise OSError(f"no Slurm here ({error}). Leave --slurm out to run on this machine.") from None
    executor.update_parameters(name="dgmlab", slurm_array_parallelism=slots or len(todo), **{"timeout_min": 60 * 24, **slurm})
    with executor.batch():
        handles = [executor.submit(_task(job, {}, folder, stop)) for job in todo]
    for job, handle in zip(todo, handles, strict=True):
        say(f"[slurm {handle.job_id}] {job.label} -> {job.plan.folder}")
    try:
        while not all(handle.done() for handle in handles):
            time.sleep(2)
    except KeyboardInterrupt:
        for handle in handles:
            handle.cancel()
        raise


def _task(job, env, folder, stop):
    """The Task of a job: the command `dgmlab run` would be, in an environment without relative paths."""
    env = {**env, "DGMLAB_HOME": str(home())}
    if os.environ.get("DGMLAB_DATA"):
        env["DGMLAB_DATA"] = str(Path(os.environ["DGMLAB_DATA"]).expanduser().resolve())
    return Task([sys.executable, "-m", "dgmlab", *job.plan.command], env, str(_log(job, folder)), str(stop))


def _log(job, folder):
    return folder / f"{job.plan.notebook.stem}-{job.plan.folder.name}.log"


def _row(job, started, folder):
    """Read the job's run folder; a job that never wrote one is explained by the last line of its log."""
    run = Run(job.plan.folder)
    status = run.status
    state = status.get("state", "failed")
    error = status.get("error") or ""
    log = _log(job, folder)
    if state not in ("done", "failed", "interrupted") or (started and _untouched(run, started)):
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        state, error = "failed", lines[-1] if lines else "it wrote nothing"
    metrics = [(key, value) for key, value in run.results.get("metrics", {}).items() if isinstance(value, int | float)]
    metric = f"{metrics[0][0]} {metrics[0][1]:.4g}" if metrics else ""
    return Row(job.label, state, status.get("seconds"), metric, error, run.dir)


def _untouched(run, started):
    """Whether the run's status is older than this sweep: the job was refused before it began."""
    path = run.dir / "status.json"
    return not path.exists() or path.stat().st_mtime < started
