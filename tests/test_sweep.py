"""Sweeps, with submitit's local executor and real runs of a tiny notebook."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from dgmlab import sweep


def write_notebook(home, name, parameters, cell):
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (home / "notebooks" / "recipes").mkdir(parents=True, exist_ok=True)
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_code_cell(cell)]
    nbformat.write(new_notebook(cells=cells, metadata=spec), home / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home whose notebook fails for seed 1 and writes down the GPU and thread variables it sees."""
    monkeypatch.setenv("DGMLAB_HOME", str(tmp_path))
    cell = (
        "import os\nfrom dgmlab.run import Run\nrun = Run.here('11_toy_train', dict(seed=seed, rate=rate))\n"
        "run.save_results({'loss': rate * seed, 'gpu': os.environ.get('CUDA_VISIBLE_DEVICES')})\n"
        "assert seed != 1, 'seed 1 is unlucky'"
    )
    write_notebook(tmp_path, "11_toy_train", "seed: int = 0  # seed\nrate: float = 0.5  # step size", cell)
    return tmp_path


def test_grid_is_the_product_of_its_lists(home):
    jobs = sweep.plan_jobs("11", grid=["seed=0,1", "rate=0.1,0.2,0.1"])
    assert [job.label for job in jobs] == [
        "11_toy_train seed=0 rate=0.1", "11_toy_train seed=0 rate=0.2",
        "11_toy_train seed=1 rate=0.1", "11_toy_train seed=1 rate=0.2"]
    assert jobs[3].plan.given == {"seed": 1, "rate": 0.2}
    assert len({job.plan.folder for job in jobs}) == 4


def test_grid_file_names_notebook_recipes_and_values(home):
    (home / "notebooks" / "recipes" / "slow.yaml").write_text("notebook: '11'\nparameters: {rate: 0.01}\n")
    (home / "notebooks" / "recipes" / "quick.yaml").write_text("notebook: '11'\nparameters: {rate: 0.9}\n")
    (home / "grid.yaml").write_text("recipes: [slow, quick]\nparameters: {}\ngrid:\n  seed: [3, 4]\n")
    jobs = sweep.plan_jobs(None, str(home / "grid.yaml"))
    assert [(job.label, job.plan.given) for job in jobs] == [
        ("slow seed=3", {"rate": 0.01, "seed": 3}), ("slow seed=4", {"rate": 0.01, "seed": 4}),
        ("quick seed=3", {"rate": 0.9, "seed": 3}), ("quick seed=4", {"rate": 0.9, "seed": 4})]


@pytest.mark.parametrize(
    "text, kind, message",
    [("grid: {seed: 3}", TypeError, "'seed' must be a list of values, found 3"),
     ("gird: {seed: [3]}", KeyError, "Did you mean 'grid'"), ("notebook: '11'", ValueError, "the grid is empty"),
     ("grid: {sed: [3]}", KeyError, "Did you mean 'seed'"),
     ("grid: {seed: [3, x]}", TypeError, "'seed' must be int, found 'x'")],
)
def test_bad_grid_is_refused_before_anything_runs(home, text, kind, message):
    (home / "grid.yaml").write_text(text)
    with pytest.raises(kind, match=message):
        sweep.plan_jobs("11", str(home / "grid.yaml"))
    assert not (home / "runs").exists()


def test_axis_without_values_is_refused():
    with pytest.raises(ValueError, match="-g takes NAME=V1,V2"):
        sweep.read_axis("seed")


def test_slurm_options_are_checked_and_renamed():
    assert sweep.read_slurm("partition=gpu,time=90,mem_gb=16") == {"slurm_partition": "gpu", "timeout_min": 90, "mem_gb": 16.0}
    assert sweep.read_slurm(None) is None and sweep.read_slurm("") == {}
    with pytest.raises(KeyError, match="Did you mean 'partition'"):
        sweep.read_slurm("partiton=gpu")
    with pytest.raises(TypeError, match="'time' must be int, found 'long'"):
        sweep.read_slurm("time=long")


def test_failing_job_does_not_stop_the_others_and_finished_ones_are_skipped(home):
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,7"}
    command = [sys.executable, "-m", "dgmlab", "sweep", "11", "-g", "seed=0,1,2", "--slots", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "1 of 3 jobs failed: 11_toy_train seed=1\n"
    rows = [line.split() for line in done.stdout.split("\n\n")[-1].splitlines()[1:]]
    assert [(row[1], row[2]) for row in rows] == [("seed=0", "done"), ("seed=1", "failed"), ("seed=2", "done")]
    assert "AssertionError: seed 1 is unlucky" in done.stdout and "loss 1" in done.stdout
    folders = {job.plan.given["seed"]: job.plan.folder for job in sweep.plan_jobs("11", grid=["seed=0,1,2"])}
    gpus = {seed: json.loads((folder / "results.json").read_text())["metrics"]["gpu"] for seed, folder in folders.items()}
    assert set(gpus.values()) == {"4", "7"} and gpus[0] != gpus[1]

    lines, finished = [], (folders[0] / "status.json").stat().st_mtime_ns
    rows = sweep.run_jobs(sweep.plan_jobs("11", grid=["seed=0,2"]), say=lines.append)
    assert lines == ["2 of 2 jobs are finished already"] and [row.state for row in rows] == ["done", "done"]
    assert (folders[0] / "status.json").stat().st_mtime_ns == finished


def test_interrupted_sweep_stops_its_runs(home):
    busy = "import os, pathlib, time\n" \
           "pathlib.Path(os.environ['DGMLAB_RUN'], 'busy').write_text(str(os.getpid()))\ntime.sleep(60)"
    write_notebook(home, "12_toy_wait", "seed: int = 0  # seed", busy)
    command = [sys.executable, "-m", "dgmlab", "sweep", "12", "-g", "seed=0,1,2", "--slots", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # ignored in background jobs
    folders = [job.plan.folder for job in sweep.plan_jobs("12", grid=["seed=0,1,2"])]
    deadline = time.time() + 60
    while not ((folders[0] / "busy").exists() and (folders[0] / "busy").read_text()):
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    output, _ = process.communicate(timeout=40)
    assert "Traceback" not in output
    assert process.returncode == 130 and "The same command goes on where it stopped." in output
    assert json.loads((folders[0] / "status.json").read_text())["state"] == "interrupted"
    assert not folders[1].exists() and not folders[2].exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((folders[0] / "busy").read_text()), 0)


FAKE_SBATCH = """#!/bin/sh
# Runs the array task by task in the background, as a cluster of one machine would.
cp "$1" "$FAKE_SLURM/script.sh"
export SLURM_ARRAY_JOB_ID=4242 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
export SLURM_JOB_NODELIST=localhost SLURM_NODELIST=localhost
(for task in 0 1; do
  SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=4242_$task sh "$FAKE_SLURM/script.sh" >>"$FAKE_SLURM/out.txt" 2>&1
done; touch "$FAKE_SLURM/done") >/dev/null 2>&1 &
echo "Submitted batch job 4242"
"""
FAKE_SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do
  case "$1" in --output|--error) shift 2;; *) shift;; esac
done
exec "$@"
"""
FAKE_SACCT = """#!/bin/sh
state=RUNNING
[ -e "$FAKE_SLURM/done" ] && state=COMPLETED
printf 'JobID|State|NodeList\\n4242_0|%s|localhost\\n4242_1|%s|localhost\\n' $state $state
"""


def test_slurm_jobs_are_one_array_with_the_options_asked_for(home, tmp_path, monkeypatch):
    tools = tmp_path / "slurm"
    tools.mkdir()
    for name, text in {"sbatch": FAKE_SBATCH, "srun": FAKE_SRUN, "sacct": FAKE_SACCT, "scancel": "#!/bin/sh\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("FAKE_SLURM", str(tools))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    rows = sweep.run_jobs(sweep.plan_jobs("11", grid=["seed=0,2"]), slots=1, slurm=sweep.read_slurm("partition=gpu,time=90"),
                          say=lambda line: None)
    assert [row.state for row in rows] == ["done", "done"], (tools / "out.txt").read_text()
    script = (tools / "script.sh").read_text()
    for line in ("--partition=gpu", "--time=90", "--array=0-1%1"):
        assert line in script


def test_without_slurm_the_remedy_is_named(home, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OSError, match="no Slurm here.*Leave --slurm out"):
        sweep.run_jobs(sweep.plan_jobs("11", grid=["seed=0,2"]), slurm={}, say=lambda line: None)
