"""Resumption, checkpoints and the small print of a training loop, on Optimus and the grammar at the smallest size."""

import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from dgmlab import checkpoint, training
from dgmlab.optimus.train import TrainConfig, train
from dgmlab.run import Run

TINY = TrainConfig(vocab_size=0, max_length=16, limit=400, n_steps=30, batch_size=8, eval_every=10, save_every=7, n_watch=16,
                   n_eval=16, iw_samples=2, latent_size=4, precision="fp32", ema_decay=0.9)


def train_here(folder, config=TINY, threads=1):
    torch.set_num_threads(threads)
    run = Run.start(folder, {"config": str(config)})
    return train(run, config)


def metric_lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Stopped(Exception):
    pass


def stop_at(step, monkeypatch):
    """Make the run die right after it has taken `step`, as a killed one does."""
    real = training.Progress.update

    def update(self, done, **numbers):
        if done == step:
            raise Stopped
        real(self, done, **numbers)

    monkeypatch.setattr(training.Progress, "update", update)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    results = train_here(folder)
    return folder, results


@pytest.mark.parametrize("step", [3, 7, 16, 29])
def test_resume_gives_bit_identical_metrics(uninterrupted, step, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(Stopped):
            train_here(tmp_path / "run")
    results = train_here(tmp_path / "run")
    assert results == uninterrupted[1]
    assert metric_lines(tmp_path / "run") == metric_lines(uninterrupted[0])


def test_finished_run_is_not_trained_again(uninterrupted):
    before = (uninterrupted[0] / "metrics.jsonl").read_bytes()
    assert train_here(uninterrupted[0]) == uninterrupted[1]
    assert (uninterrupted[0] / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_damaged_checkpoint_is_named_and_the_one_before_used(uninterrupted, tmp_path, monkeypatch, damage):
    with monkeypatch.context() as patch:
        stop_at(20, patch)
        with pytest.raises(Stopped):
            train_here(tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    assert newest.name == "step-00000014"
    victim = newest / "optimizer.safetensors"
    content = bytearray(victim.read_bytes())
    if damage == "truncate":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[-5] ^= 255
        victim.write_bytes(content)
    else:
        victim.unlink()
    with pytest.warns(UserWarning, match="step-00000014 cannot be used .optimizer.safetensors is"):
        results = train_here(tmp_path / "run")
    assert results == uninterrupted[1]
    assert metric_lines(tmp_path / "run") == metric_lines(uninterrupted[0])


def test_checkpoint_of_another_configuration_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(8, patch)
        with pytest.raises(Stopped):
            train_here(folder)
    other = TrainConfig(**{**TINY.__dict__, "latent_size": 8})
    with pytest.raises(ValueError, match="holds a run with other parameters"):
        train_here(folder, other)
    with pytest.raises(ValueError, match="does not fit this configuration .model: .*Start a new run folder"):
        train(Run(folder), other)


def test_nan_stops_the_run_naming_the_step_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    from dgmlab.optimus import train as module

    real, calls = module.elbo, []

    def poisoned(*args, **kwargs):
        calls.append(1)
        terms = real(*args, **kwargs)
        return terms._replace(loss=terms.loss * float("nan")) if len(calls) == 10 else terms

    monkeypatch.setattr(module, "elbo", poisoned)
    with pytest.raises(FloatingPointError, match="loss is nan at step 10; a finite number was expected"):
        train_here(tmp_path / "run")
    assert Run(tmp_path / "run").status["state"] == "failed"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000007"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError(
    "Error while serializing: I/O error: No space left on device (os error 28)")], ids=["system", "safetensors"])
def test_full_disk_is_one_line_and_leaves_the_older_checkpoint(error, uninterrupted, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        real = checkpoint.save_file
        patch.setattr(checkpoint, "save_file",
                      lambda tensors, path: full() if "00000014" in str(path) else real(tensors, path))
        with pytest.raises(OSError, match="cannot write .*step-00000014: No space left on device. Free some space"):
            train_here(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000007"]
    assert train_here(tmp_path / "run") == uninterrupted[1]


def test_unwritable_run_folder_is_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file where the run folder should be")
    with pytest.raises(OSError, match="cannot write .*params.json.*start the same command again|cannot write"):
        train_here(tmp_path / "taken" / "run")


def test_fused_adam_goes_on_exactly_in_channels_last(tmp_path):
    # it walks through memory, not through indices: after loading, its averages must lie as the parameter does
    gradients = torch.randn(4, 8, 4, 3, 3)
    start, accelerator, run = torch.randn(8, 4, 3, 3), Accelerator(cpu=True), Run.start(tmp_path / "run", {})

    def walk(weight, rows, resumed=False):
        weight = torch.nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        parts = {"optimizer": torch.optim.Adam([weight], lr=0.1, fused=True)}
        if resumed:
            checkpoint.load_state(run, accelerator, parts)
        for gradient in rows:
            weight.grad = gradient.contiguous(memory_format=torch.channels_last)
            parts["optimizer"].step()
        return weight.detach(), parts

    whole, _ = walk(start, gradients)
    half, parts = walk(start, gradients[:2])
    checkpoint.save_state(run, 2, accelerator, parts)
    assert torch.equal(walk(half, gradients[2:], resumed=True)[0], whole)


def test_only_the_last_checkpoints_are_kept(uninterrupted):
    assert [p.name for p in sorted((uninterrupted[0] / "checkpoints").iterdir())] == ["step-00000028", "step-00000030"]


def test_accumulated_gradient_equals_that_of_the_large_batch(tmp_path):
    finals = []
    for accumulate in (1, 3):
        config = TrainConfig(**{**TINY.__dict__, "accumulate": accumulate, "dropout": 0.0, "n_steps": 4, "ema_decay": 0.0})
        run = Run.start(tmp_path / str(accumulate), {})
        # z is drawn per micro-batch, so the draws are taken out of the comparison
        original, module = torch.randn, torch
        module.randn = lambda *shape, **kwargs: torch.zeros(*shape)
        try:
            train(run, config)
        finally:
            module.randn = original
        finals.append([row["loss"] for row in run.metrics() if "loss" in row])
    assert np.allclose(*finals, rtol=1e-5)


def test_warmup_rises_and_decay_ends_at_zero():
    factors = [training.warmup_linear(step, 10, 4) for step in range(10)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0 and factors[-1] == pytest.approx(1 / 6) and training.warmup_linear(10, 10, 4) == 0


def test_endless_batches_continue_where_a_step_stands():
    epochs = [["a", "b", "c"], ["d"], ["e", "f"]]
    whole = training.endless(lambda epoch: epochs[epoch % 3])
    expected = [next(whole) for _ in range(12)]
    for start in range(10):
        resumed = training.endless(lambda epoch: epochs[epoch % 3], start)
        assert [next(resumed) for _ in range(2)] == expected[start:start + 2]
    with pytest.raises(ValueError, match="the corpus is empty"):
        next(training.endless(lambda epoch: []))


def test_one_process_may_train_with_one_precision_and_then_another():
    assert [training.start(0, precision).mixed_precision for precision in ("bf16", "fp32", "bf16")] == ["bf16", "no", "bf16"]
    with pytest.raises(ValueError, match="precision is 'fp8'; choose one of: auto, fp32, bf16"):
        training.start(0, "fp8")


def test_ema_follows_its_formula():
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    ema = training.EMA(model, 0.75)
    model.weight.data.fill_(3.0)
    ema.update(model)
    ema.update(model)
    assert ema.average["weight"].item() == pytest.approx(1 * 0.75**2 + 3 * (1 - 0.75**2))
    ema.copy_to(model)
    assert model.weight.item() == pytest.approx(ema.average["weight"].item())


class Running(torch.nn.Module):
    """A parameter, a float buffer, two countable ones, and one that no state_dict holds."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3))
        for name, buffer in (("mean", torch.randn(2)), ("count", torch.tensor(4)), ("seen", torch.tensor(False))):
            self.register_buffer(name, buffer)
        self.register_buffer("kernel", torch.ones(2), persistent=False)

    def move(self):
        for tensor in (self.weight.data, self.mean, self.kernel):
            tensor.normal_()
        self.count += 3
        self.seen.logical_not_()


def test_ema_averages_floating_buffers_and_copies_the_others():
    model = Running()
    ema, decays = training.EMA(model, 0.9), (None, 0.5, 0.0, 1.0, 0.99)
    wanted = {name: getattr(model, name).detach().double().clone() for name in ("weight", "mean")}
    for decay in decays:
        model.move()
        ema.update(model, decay)
        for name, average in wanted.items():
            average.lerp_(getattr(model, name).detach().double(), 1 - (0.9 if decay is None else decay))
    assert set(ema.average) == {"weight", "mean", "count", "seen"}
    assert all(torch.allclose(ema.average[name].double(), value, atol=1e-6) for name, value in wanted.items())
    resumed, target = training.EMA(Running(), 0.9), Running()
    resumed.load_state_dict(ema.state_dict())
    resumed.copy_to(target)
    assert all(torch.equal(getattr(target, name), ema.average[name]) for name in ema.average)
    assert target.count == 4 + 3 * len(decays) and target.seen and torch.equal(target.kernel, torch.ones(2))
    assert target.seen.dtype == torch.bool and ema.average["count"].dtype == torch.long


def test_ema_is_kept_in_fp32_and_is_not_the_model_itself():
    model = Running().bfloat16()
    ema = training.EMA(model, 0.999)
    start = ema.average["weight"].clone()
    model.weight.data += 1  # 0.001 of it would be lost in bf16
    ema.update(model)
    assert ema.average["weight"].dtype == torch.float32
    assert torch.allclose(ema.average["weight"] - start, (model.weight.float() - start) / 1000, rtol=1e-2)


def test_clip_reports_the_norm_before_clipping_and_stops_at_nan():
    model, accelerator = torch.nn.Linear(2, 1, bias=False), Accelerator(cpu=True)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    assert training.clip(accelerator, model, 1.0, 5) == pytest.approx(5.0)
    assert model.weight.grad.norm() == pytest.approx(1.0, rel=1e-4)
    model.weight.grad = torch.tensor([[float("nan"), 0.0]])
    with pytest.raises(FloatingPointError, match="gradient_norm is nan at step 6"):
        training.clip(accelerator, model, 1.0, 6)


KILLED = TrainConfig(**{**TINY.__dict__, "n_steps": 300, "save_every": 25, "eval_every": 50})


@pytest.mark.slow
def test_twenty_sigkills_leave_no_trace(tmp_path):
    """Twenty kills at random moments of a 300-step run: bit-identical metrics, every file readable."""
    context = multiprocessing.get_context("forkserver")  # imports torch once; each life is a process of its own
    context.set_forkserver_preload(["dgmlab.optimus.train", "dgmlab.data.text", "tensorboard"])

    def life(folder):
        process = context.Process(target=train_here, args=(folder, KILLED))
        process.start()
        return process

    began = time.monotonic()
    whole = life(tmp_path / "whole")
    whole.join()
    assert whole.exitcode == 0
    duration = time.monotonic() - began
    def check(folder):
        assert metric_lines(folder) == metric_lines(tmp_path / "whole")
        assert Run(folder).results == Run(tmp_path / "whole").results

    rng, kills, n_runs = random.Random(0), 0, 0
    folder = tmp_path / "killed-0"
    while kills < 20:
        process = life(folder)
        process.join(rng.uniform(0.02, 0.35) * duration)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        for file in folder.rglob("*.json"):
            if not file.name.startswith(".") and ".writing" not in str(file):
                json.loads(file.read_text())
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:  # it came to its end between kills: the others fall on a new run
            check(folder)
            n_runs += 1
            folder = tmp_path / f"killed-{n_runs}"
    last = life(folder)
    last.join()
    assert last.exitcode == 0
    check(folder)


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    """torchrun with 2 gloo processes: same global batch, dropout off and z at its mean: the losses of one process."""
    script = tmp_path / "go.py"
    script.write_text(
        "import sys, torch\n"
        "torch.set_num_threads(1)\n"
        "from dgmlab.run import Run\n"
        "from dgmlab.optimus import model\n"
        "from dgmlab.optimus.train import TrainConfig, train\n"
        "model.Posterior.sample = lambda self, generator=None: self.mu\n"
        "config = TrainConfig(vocab_size=0, max_length=16, limit=400, n_steps=12, batch_size=9, eval_every=6, save_every=5,\n"
        "                     n_watch=16, n_eval=16, iw_samples=2, latent_size=4, precision='fp32', dropout=0.0)\n"
        "train(Run.start(sys.argv[1], {}), config)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    for world in (1, 2):
        done = subprocess.run([*command, str(world), str(script), str(tmp_path / f"world{world}")],
                              capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (metric_lines(tmp_path / f"world{world}") for world in (1, 2))
    losses = [[row["loss"] for row in rows if "loss" in row] for rows in (one, two)]
    assert len(losses[0]) == 3 and np.allclose(*losses, rtol=1e-4)
    manifest = json.loads((tmp_path / "world2" / "checkpoints" / "step-00000012" / "manifest.json").read_text())
    assert manifest["world_size"] == 2 and "rng-1.json" in manifest["sha256"]
