"""The loop of BigGAN and TAC-GAN: exact resumption, micro-batches, dictionaries, collapse and the way back, two processes."""

import contextlib
import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from dgmlab import training
from dgmlab.fqgan import train as loop
from dgmlab.fqgan import watch as watching
from dgmlab.fqgan.sample import load_trained, sample
from dgmlab.fqgan.train import TrainConfig, build, ema_decay, fq_of, train
from dgmlab.quantize import VectorQuantizer
from dgmlab.run import Run

TINY = TrainConfig(width=4, limit=200, n_steps=6, batch_size=8, eval_every=3, save_every=2, n_watch=64, n_eval=64,
                   precision="fp32", fq="quantize", n_codes=8, n_d_steps=2)


@pytest.fixture(scope="module")
def reference():
    """One extractor for all runs of this file: the sixty-four pictures of a look are judged alike."""
    images = loop.open_images(None, TINY, 32, show=False)
    return watching.open_reference(images, "digits")


def train_here(folder, reference, config=TINY):
    torch.set_num_threads(1)
    return train(Run.start(folder, {"config": str(config)}), config, reference)


class Stopped(Exception):
    pass


def stop_at(step, patch):
    """Make the run die right after it has taken `step`, as a killed one does."""
    real = training.Progress.update

    def update(self, done, **numbers):
        if done == step:
            raise Stopped
        real(self, done, **numbers)

    patch.setattr(training.Progress, "update", update)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, reference):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train_here(folder, reference)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_resumed_run_is_the_uninterrupted_one_to_the_bit(whole, reference, step, tmp_path, monkeypatch):
    folder, results = whole
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(Stopped):
            train_here(tmp_path / "run", reference)
    assert train_here(tmp_path / "run", reference) == results
    for name in ("metrics.jsonl", "model/generator/model.safetensors", "model/discriminator/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes(), name


def test_finished_run_is_not_trained_again_and_samples_without_its_data(whole, reference):
    folder, results = whole
    assert train_here(folder, reference) == results
    trained = load_trained(folder)
    assert trained.class_names == tuple("0123456789") and trained.about["fq"]["mode"] == "quantize"
    assert sample(trained, 5).shape == (5, 3, 32, 32)


def test_run_logs_what_pictures_and_reports_read(whole):
    folder, results = whole
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    logged = set().union(*rows)
    layer = "blocks.2"
    assert {"d_loss", "g_loss", "commit", "d_real", "d_fake", "fd_digits_64", "fd_digits_64_low", "classes_found"} <= logged
    assert {f"{kind}/{layer}" for kind in ("usage", "usage_fake", "dead", "js", "dictionary_perplexity")} <= logged
    looks = [row for row in rows if f"js/{layer}" in row]
    assert [row["step"] for row in looks] == [1, 3, 6]
    assert sum(looks[0][f"usage/{layer}"]) == 200 * 8 * 8 and len(looks[0][f"usage/{layer}"]) == 8
    assert sum(looks[0][f"usage_fake/{layer}"]) == 64 * 8 * 8
    assert {"fd_digits_64", "kd_digits_64", "precision_digits_64", "best_while_training", "step"} <= set(results)
    assert {path.name for path in (folder / "samples").iterdir()} == {f"grid-{step:08d}.png" for step in (1, 3, 6)}
    card = json.loads((folder / "card.json").read_text())
    assert (card["extractor"], card["ema"], card["mode"], card["n"]) == ("fd_digits", True, "eval", 64)
    assert json.loads((folder / "data.json").read_text())["counts"]["7"] > 0


@pytest.mark.parametrize("head", ["projection", "ac", "tac"])
@pytest.mark.parametrize("fq", ["off", "regularize", "warmup"])
def test_every_head_trains_with_and_without_dictionaries(head, fq, reference, tmp_path):
    config = dataclasses.replace(TINY, head=head, fq=fq, fq_layers="1,3", n_steps=2, n_d_steps=1)
    numbers = train_here(tmp_path / "run", reference, config)
    run = Run(tmp_path / "run")
    assert numbers["step"] == 2 and len(run.column("classifier")[0]) == (0 if head == "projection" else 2)
    assert len(run.column("twin")[0]) == (2 if head == "tac" else 0)
    assert len(run.column("commit")[0]) == (0 if fq == "off" else 2)
    assert len(run.column("js/blocks.1")[0]) == (0 if fq == "off" else 2) and not len(run.column("js/blocks.0")[0])


def one_step_gradients(config, folder, reference, monkeypatch, net):
    """Gradients of `net` ('D' or 'G') when its optimizer first steps."""
    seen = {}

    def step(self, *args, **kwargs):
        seen.setdefault(len(seen), [p.grad.clone() for group in self.param_groups for p in group["params"]])

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        with contextlib.suppress(Stopped):
            stop_at(1, patch)
            train_here(folder, reference, config)
    return seen[0 if net == "D" else 1]


@pytest.mark.parametrize("fq", ["off", "regularize", "quantize"])
def test_four_micro_batches_of_16_give_d_the_gradient_of_64(fq, reference, tmp_path, monkeypatch):
    real = loop.build

    def with_dictionaries(*args):  # which else begin at pictures of the first micro-batch, or of the whole batch
        G, D = real(*args)
        for part in D.modules():
            if isinstance(part, VectorQuantizer):
                part.load_state_dict({**part.state_dict(), "initialised": torch.tensor(True)})
        return G, D

    monkeypatch.setattr(loop, "build", with_dictionaries)
    config = dataclasses.replace(TINY, batch_size=64, n_d_steps=1, n_codes=16, fq=fq)
    whole = one_step_gradients(config, tmp_path / "whole", reference, monkeypatch, "D")
    parts = one_step_gradients(dataclasses.replace(config, accumulate=4), tmp_path / "parts", reference, monkeypatch, "D")
    one, four = (torch.cat([gradient.flatten().double() for gradient in each]) for each in (whole, parts))
    assert one.norm() > 1 and (one - four).norm() <= 1e-5 * one.norm()


def test_dictionaries_move_once_a_step_whatever_the_micro_batches(reference, tmp_path):
    moved = {}
    for name, own in {"both": {}, "parts": {"accumulate": 2}, "d only": {"fq_from_g": False}}.items():
        train_here(tmp_path / name, reference, dataclasses.replace(TINY, n_steps=2, **own))
        moved[name] = {int(part.n_updates) for part in load_trained(tmp_path / name).D.modules()
                       if isinstance(part, VectorQuantizer)}
    assert moved == {"both": {6}, "parts": {6}, "d only": {4}}  # 2 steps, each of 2 D steps and a G step


def test_averages_rise_to_their_decay_and_copy_before_they_start():
    config = TrainConfig(ema_decay=0.99, ema_start=100)
    assert ema_decay(config, 99) == 0 and ema_decay(config, 100) == pytest.approx(0.1)
    assert ema_decay(config, 100_000) == 0.99


def test_fq_off_adds_nothing_and_on_names_the_blocks():
    plain, quantized = (build(dataclasses.replace(TINY, fq=fq), 10)[1] for fq in ("off", "quantize"))
    assert fq_of(dataclasses.replace(TINY, fq="off")) is None
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in quantized.named_parameters()]
    assert sum(isinstance(part, VectorQuantizer) for part in quantized.modules()) == 4
    assert fq_of(dataclasses.replace(TINY, fq_layers="0, 2"))["layers"] == ["blocks.0", "blocks.2"]


# mistakes


@pytest.mark.parametrize(("own", "line"), [
    ({"head": "acgan"}, "no head of a discriminator is called 'acgan'"),
    ({"fq": "on"}, "no setting of fq is called 'on'"),
    ({"fq_layers": "0,7"}, "no layer of Discriminator is called 'blocks.7'"),
    ({"accumulate": 3}, "accumulate is 3; a divisor of the 8 pictures"),
    ({"data": "photos", "size": "imagenet64", "resolution": 48}, "resolution is 48; choose one of: 32, 64, 128"),
])
def test_mistakes_are_named_before_the_first_step(own, line, reference, tmp_path):
    with pytest.raises((ValueError, KeyError)) as error:
        train_here(tmp_path / "run", reference, dataclasses.replace(TINY, **own))
    assert line in str(error.value)


def test_one_class_only_is_refused_with_the_likely_reason(reference, tmp_path):
    from PIL import Image

    (tmp_path / "set" / "pictures").mkdir(parents=True)
    for i in range(12):
        Image.new("RGB", (32, 32), (20 * i, 0, 0)).save(tmp_path / "set" / "pictures" / f"{i}.png")
    with pytest.raises(ValueError, match="expected 2 classes or more"):
        train_here(tmp_path / "run", reference, dataclasses.replace(TINY, data=str(tmp_path / "set")))


def test_nan_stops_the_run_and_keeps_the_checkpoint(reference, tmp_path, monkeypatch):
    real, calls = loop.hinge_g, []

    def poisoned(logits):
        calls.append(1)
        return real(logits) * (float("nan") if len(calls) == 5 else 1)

    monkeypatch.setattr(loop, "hinge_g", poisoned)
    with pytest.raises(FloatingPointError, match="g_loss is nan at step 5"):
        train_here(tmp_path / "run", reference)
    assert Run(tmp_path / "run").status["state"] == "failed"
    assert (tmp_path / "run" / "checkpoints" / "step-00000004" / "manifest.json").exists()


def test_larger_dictionary_than_the_first_batch_is_said_aloud(reference, tmp_path):
    config = dataclasses.replace(TINY, batch_size=2, n_codes=1000, fq_layers="3", n_steps=1, n_d_steps=1)
    with pytest.warns(UserWarning, match="the first batch has 256 vectors for 1,000 codes"):
        train_here(tmp_path / "run", reference, config)


# collapse


def collapsing(monkeypatch, at):
    """Distances that explode from the look at step `at` on, the first time that it is reached."""
    real, seen = watching.frechet_score, []

    def score(*args, **kwargs):
        found = real(*args, **kwargs)
        seen.append(len(seen))
        return found._replace(value=100.0 * found.value) if at <= len(seen) < at + 2 else found

    monkeypatch.setattr(watching, "frechet_score", score)


def test_collapse_is_noted_with_its_reason_and_the_run_goes_back(reference, tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, n_steps=8, eval_every=1)
    collapsing(monkeypatch, at=5)  # looks at steps 1, 2, 3, 4, and then 5 and 6 are bad
    numbers = train_here(tmp_path / "run", reference, config)
    run = Run(tmp_path / "run")
    alarm, = json.loads((run.dir / "alarms.json").read_text())
    assert "the distance is" in alarm["reason"] and alarm["step"] == 6 and alarm["back_to"] <= 4
    assert [row["step"] for row in alarm["lost"] if "fd_digits_64" in row] == list(range(alarm["back_to"] + 1, 7))
    steps = [row["step"] for row in run.metrics() if "fd_digits_64" in row]
    assert steps == sorted(set(steps)) and steps[-1] == 8 and numbers["n_rollbacks"] == 1 and numbers["step"] == 8


def test_run_that_is_told_to_stop_ends_at_its_best(reference, tmp_path, monkeypatch):
    collapsing(monkeypatch, at=3)
    config = dataclasses.replace(TINY, n_steps=8, eval_every=1, on_collapse="stop")
    numbers = train_here(tmp_path / "run", reference, config)
    assert numbers["step"] <= 2 and load_trained(tmp_path / "run").about["step"] == numbers["step"]


def test_warned_run_goes_on(reference, tmp_path, monkeypatch):
    collapsing(monkeypatch, at=3)
    numbers = train_here(tmp_path / "run", reference, dataclasses.replace(TINY, n_steps=6, eval_every=1, on_collapse="warn"))
    assert numbers["step"] == 6 and numbers["n_rollbacks"] == 0 and not (tmp_path / "run" / "alarms.json").exists()


# processes


@pytest.mark.slow
def test_two_processes_keep_one_discriminator_and_one_dictionary(tmp_path):
    script = tmp_path / "go.py"
    script.write_text(
        "import sys, torch\n"
        "torch.set_num_threads(1)\n"
        "from dgmlab.fqgan import train as loop\n"
        "from dgmlab.run import Run\n"
        "nets, real = [], loop.build\n"
        "loop.build = lambda *args: nets.extend(real(*args)) or tuple(nets)\n"
        "config = loop.TrainConfig(width=4, limit=200, n_steps=4, batch_size=8, eval_every=2, save_every=2, n_watch=64,\n"
        "                          n_eval=64, precision='fp32', fq='quantize', n_codes=8)\n"
        "loop.train(Run.start(sys.argv[1], {}), config)\n"
        "print('STATE', [float(t.double().sum()) for name, t in nets[1].state_dict().items() if 'original' in name\n"
        "                or 'dictionary' in name])\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*command, str(script), str(tmp_path / "run")], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    states = [json.loads(line.split("STATE")[1]) for line in done.stdout.splitlines() if "STATE" in line]
    assert len(states) == 2 and len(states[0]) > 10 and np.allclose(*states, rtol=0, atol=0)
    manifest = json.loads((tmp_path / "run" / "checkpoints" / "step-00000004" / "manifest.json").read_text())
    assert manifest["world_size"] == 2 and "rng-1.json" in manifest["sha256"]
