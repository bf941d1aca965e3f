"""The loop of StyleGAN2: exact resumption, micro-batches, lazy regularisation, averages, ranks, NaN."""

import functools
import json
import multiprocessing
import os
import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from dgmlab import checkpoint, training
from dgmlab.data.images import load_images
from dgmlab.fqgan import train_stylegan
from dgmlab.fqgan.attach import add_fq
from dgmlab.fqgan.sample import load_trained, sample
from dgmlab.fqgan.source import ImageStream
from dgmlab.fqgan.stylegan import PathLength
from dgmlab.fqgan.train_stylegan import StyleGANConfig, build, ema_decay, interleaved, judge, lazy_adam, take_step, train
from dgmlab.fqgan.watch import open_reference
from dgmlab.run import Run

TINY = StyleGANConfig(data="digits", resolution=16, limit=200, channel_base=64, channel_max=8, z_size=8, w_size=8, n_mapping=2,
                      fq="quantize", fq_layers="blocks.16,blocks.8", n_codes=8, n_steps=8, batch_size=8, r1_every=3,
                      path_every=2, ada_target=0.6, ada_images=500, eval_every=4, save_every=3, n_watch=40, n_eval=40,
                      precision="fp32")


@pytest.fixture(scope="module")
def reference():
    return open_reference(load_images("digits", size=16, limit=200), "digits")


def changed(**values):
    return StyleGANConfig(**{**vars(TINY), **values})


def train_here(folder, config, reference):
    torch.set_num_threads(1)
    run = Run.start(folder, vars(config))
    return train(run, config, reference)


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


# the whole run


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, reference):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train_here(folder, TINY, reference)


@pytest.mark.parametrize("step", [4, 7])
def test_resume_is_bit_identical(uninterrupted, reference, step, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(Stopped):
            train_here(tmp_path / "run", TINY, reference)
    assert train_here(tmp_path / "run", TINY, reference) == uninterrupted[1]
    assert metric_lines(tmp_path / "run") == metric_lines(uninterrupted[0])
    ours, theirs = (folder / "checkpoints" / "step-00000008" for folder in (tmp_path / "run", uninterrupted[0]))
    files = {path.name for path in theirs.iterdir()}
    assert {f"{part}.json" for part in ("G", "D", "opt_g", "opt_d", "ema", "path", "ada", "alarm", "rng-0")} <= files
    assert all((ours / name).read_bytes() == (theirs / name).read_bytes() for name in files)


def test_a_run_leaves_what_pictures_and_sampling_need(uninterrupted):
    folder, numbers = uninterrupted
    rows = metric_lines(folder)
    logged = {key: [row["step"] for row in rows if key in row] for key in {key for row in rows for key in row}}
    assert logged["r1"] == [1, 4, 7] and logged["d_loss"] == [1, 4, 7, 8]
    assert logged["fd_digits_40"] == logged["js/blocks.16"] == [4, 8]
    last = rows[-1]
    assert sum(last["usage/blocks.16"]) == 200 * 8 * 8 and sum(last["usage_fake/blocks.8"]) == 40 * 4 * 4
    assert 0 < rows[-2]["ada_p"] <= 1 and rows[-2]["commit"] > 0
    trained = load_trained(folder)
    assert trained.kind == "stylegan" and trained.about["fq"]["layers"] == ["blocks.16", "blocks.8"]
    assert trained.D.get_submodule("blocks.8").fq.dictionary.shape == (8, 8) and trained.D.blocks["8"].fq.n_updates == 16
    assert sample(folder, 3, truncation=0.7).shape == (3, 3, 16, 16)
    assert numbers["step"] == 8 and Run(folder).status["state"] == "done"
    assert (folder / "samples" / "grid-00000008.png").exists()


def test_finished_run_is_not_trained_again(uninterrupted, reference):
    before = (uninterrupted[0] / "metrics.jsonl").read_bytes()
    assert train_here(uninterrupted[0], TINY, reference) == uninterrupted[1]
    assert (uninterrupted[0] / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("options", [
    {"fq": "off", "gamma": 0.0, "path_weight": 0.0, "ada_target": 0.0, "mixing": 0.0},
    {"fq": "regularize", "precision": "bf16", "accumulate": 4, "mirror": True},
    {"fq": "warmup", "fq_warmup": 2, "accumulate": 8},
], ids=["bare", "bf16", "single images"])
def test_other_settings_run(options, reference, tmp_path):
    numbers = train_here(tmp_path / "run", changed(n_steps=3, **options), reference)
    assert np.isfinite(numbers["fd_digits_40"])


# what a step does


def gradients_of(config, reference, folder, monkeypatch):
    """What a run does until its first average: gradients of each step, [{name: gradient}], and sums for the dictionaries."""
    seen, sums = [], []

    def note(accelerator, network, optimizer, step):
        seen.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
        optimizer.zero_grad(set_to_none=True)

    def add_up(D):
        sums.append([part.fq._pending[1].clone() for part in D.blocks.values()])

    def stop(ema, network, decay):
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(train_stylegan, "take_step", note)
        patch.setattr(train_stylegan, "update_dictionaries", add_up)
        patch.setattr(train_stylegan, "add_fq", functools.partial(add_fq, init="normal", revive_below=0))
        patch.setattr(training.EMA, "update", stop)
        train_here(folder, config, reference)
    return seen, sums


def test_micro_batches_give_the_gradients_and_sums_of_the_whole_batch(reference, tmp_path, monkeypatch):
    # noise has no strength yet at the first step; mixing, augmentation and path lengths would draw for each micro-batch
    whole = changed(n_steps=1, batch_size=64, mixing=0.0, ada_target=0.0, path_weight=0.0, fq_layers="blocks.16,blocks.8")
    results = [gradients_of(StyleGANConfig(**{**vars(whole), "accumulate": n}), reference, tmp_path / str(n), monkeypatch)
               for n in (1, 4)]
    (one, sums_one), (four, sums_four) = results
    assert len(one) == 3, "a step of D, its R1 penalty, a step of G"
    for ours, theirs in zip(four, one, strict=True):
        assert ours.keys() == theirs.keys()
        for name in (name for name in theirs if not name.endswith("noise_strength")):
            assert torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-5 * theirs[name].abs().max().item()), name
    for ours, theirs in zip(sums_four, sums_one, strict=True):
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


def test_micro_batches_must_divide_the_batch(reference, tmp_path):
    assert interleaved(6, 2) == [slice(0, None, 2), slice(1, None, 2)]
    with pytest.raises(ValueError, match="accumulate is 3; a divisor of the 8 pictures that each process has was expected"):
        train_here(tmp_path / "run", changed(accumulate=3), reference)


def test_regularisers_are_lazy_and_dictionaries_do_not_learn_from_them(reference, tmp_path, monkeypatch):
    steps, frozen = [], []

    def note(accelerator, network, optimizer, step):
        steps.append((step, type(network).__name__[8]))
        other = networks[network is networks[0]]
        assert all(p.grad is None for p in other.parameters()), "one player's step leaves the other alone"
        take_step(accelerator, network, optimizer, step)

    def penalty(logits, images, gamma):
        frozen.append((gamma, [part.fq.frozen for part in networks[1].blocks.values()]))
        return r1(logits, images, gamma)

    networks, r1 = [], train_stylegan.r1_penalty
    monkeypatch.setattr(train_stylegan, "take_step", note)
    monkeypatch.setattr(train_stylegan, "r1_penalty", penalty)
    monkeypatch.setattr(train_stylegan, "build", lambda config: networks.extend(build(config)) or tuple(networks))
    train_here(tmp_path / "run", changed(n_steps=4, gamma=7.0), reference)
    assert steps == [(1, "D"), (1, "D"), (1, "G"), (1, "G"), (2, "D"), (2, "G"), (3, "D"), (3, "G"), (3, "G"),
                     (4, "D"), (4, "D"), (4, "G")]
    assert frozen == [(7.0, [True, True])] * 2, "no dictionary learns from the images of R1"


def test_each_term_enters_with_its_weight(reference, tmp_path, monkeypatch):
    bare = {"n_steps": 1, "ada_target": 0.0, "commit_weight": 0.0}

    def gradients(name, **values):
        found, _ = gradients_of(changed(**{**bare, **values}), reference, tmp_path / name, monkeypatch)
        return [torch.cat([gradient.flatten() for gradient in step.values()]) for step in found]

    def same(first, second):
        return [torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(first, second, strict=True)]

    plain = gradients("plain")  # of D, R1, G, path lengths
    assert same(plain, gradients("again")) == [True] * 4
    rarer = gradients("rarer", r1_every=6, gamma=0.5, path_every=8, path_weight=1.0)
    assert same(plain, [rarer[0], rarer[1], rarer[2], rarer[3] / 2]) == [True] * 4, "times `every`: 3 * 1.0 = 6 * 0.5"
    one, two = (gradients(f"commit{weight}", commit_weight=weight) for weight in (1.0, 2.0))
    assert same(plain, one) == [False, True, False, True], "commitment in the losses of D and G, not in the regularisers"
    assert same([2 * step for step in one], [a + b for a, b in zip(plain, two, strict=True)]) == [True] * 4


def test_real_and_generated_images_are_augmented_alike_and_reals_come_first(reference, tmp_path, monkeypatch):
    seen, real = [], train_stylegan.augment
    monkeypatch.setattr(train_stylegan, "augment", lambda images, p, kinds: seen.append((images.detach(), p, kinds))
                        or real(images, p, kinds))
    train_here(tmp_path / "run", changed(n_steps=5, ada_kinds="blit,colour", ada_target=-1.0), reference)
    assert {kinds for *_, kinds in seen} == {("blit", "colour")}
    assert [p for _, p, _ in seen] == [0.0] * 14 + [32 / 500] * 3, "p moves between steps, after each four; R1 at two of five"
    first = ImageStream(load_images("digits", size=16, limit=200), 8, TINY.seed).batch(0).x
    assert torch.equal(seen[0][0], first) and torch.equal(seen[2][0], first), "D on reals, on fakes, R1 on the same reals"
    assert not torch.equal(seen[1][0], first)


def test_lazy_adam_by_hand():
    network = torch.nn.Linear(2, 2)
    group = lazy_adam(network, changed(lr=0.002), 16).param_groups[0]
    assert group["lr"] == pytest.approx(0.002 * 16 / 17) and group["betas"] == (0.0, pytest.approx(0.99 ** (16 / 17)))
    group = lazy_adam(network, changed(lr=0.002, beta1=0.5), 4).param_groups[0]
    assert group["lr"] == pytest.approx(0.0016) and group["betas"][0] == pytest.approx(0.5**0.8)
    assert lazy_adam(network, changed(), 0).param_groups[0]["betas"] == (0.0, 0.99)


def test_averages_have_the_half_life_of_the_config():
    config = changed(ema_images=1000, ema_rampup=0.0, batch_size=10)
    assert ema_decay(config, 0) ** 100 == pytest.approx(0.5)
    ramped = changed(ema_images=1000, ema_rampup=0.05, batch_size=10)
    assert ema_decay(ramped, 0) == 0.0, "the first step copies"
    assert ema_decay(ramped, 40) ** 2 == pytest.approx(0.5), "400 images: a half-life of 20 images, two steps"
    assert ema_decay(ramped, 10**6) == pytest.approx(ema_decay(config, 0))


def test_judge_counts_the_commitment_of_its_dictionaries_only():
    images = torch.randn(4, 3, 16, 16)
    plain, quantized = (build(changed(fq=fq))[1] for fq in ("off", "regularize"))
    assert judge(plain, images).commit == 0
    found = judge(quantized, images)
    assert found.commit > 0 and found.commit.shape == () and found.logits.shape == (4,)


def test_r1_reaches_through_dictionaries_and_augmentation():
    _, D = build(TINY)
    images = torch.randn(8, 3, 16, 16, requires_grad=True)
    seen = train_stylegan.augment(images, 0.9, generator=torch.Generator().manual_seed(0))
    with train_stylegan.frozen(D):
        train_stylegan.r1_penalty(D(seen), images, 1.0).backward()
    weights = [p.grad for name, p in D.named_parameters() if name.endswith("weight")]
    assert all(gradient is not None and gradient.isfinite().all() and gradient.any() for gradient in weights)


# what goes wrong


def test_nan_stops_the_run_before_a_parameter_moves(reference, tmp_path, monkeypatch):
    real, calls = train_stylegan.logistic_g, []

    def poisoned(logits):
        calls.append(1)
        return real(logits) * (float("nan") if len(calls) == 5 else 1.0)

    monkeypatch.setattr(train_stylegan, "logistic_g", poisoned)
    with pytest.raises(FloatingPointError, match="gradient_norm is nan at step 5; a finite number was expected"):
        train_here(tmp_path / "run", TINY, reference)
    run = Run(tmp_path / "run")
    assert run.status["state"] == "failed" and [path.name for path in run.checkpoints.glob("step-*")] == ["step-00000003"]


def test_unknown_setting_of_fq_names_the_choices(reference, tmp_path):
    with pytest.raises(KeyError, match="no setting of fq is called 'quantise'. Did you mean 'quantize'. Choose one of: off"):
        train_here(tmp_path / "run", changed(fq="quantise"), reference)


def test_an_alarm_goes_back_to_the_best_checkpoint_and_halves_the_rate(reference, tmp_path, monkeypatch):
    reasons = iter(["", "all alike", ""])
    monkeypatch.setattr(train_stylegan.CollapseAlarm, "check", lambda self, step, distance, *_: (
        setattr(self, "best", min(self.best, distance)), setattr(self, "best_step", 2), next(reasons))[2])
    train_here(tmp_path / "run", changed(n_steps=4, eval_every=2), reference)
    alarm, = json.loads((tmp_path / "run" / "alarms.json").read_text())
    assert alarm["step"] == 4 and alarm["back_to"] == 2 and alarm["reason"] == "all alike"
    assert [row["step"] for row in metric_lines(tmp_path / "run")] == sorted(r["step"] for r in metric_lines(tmp_path / "run"))
    state = checkpoint._read_part(tmp_path / "run" / "checkpoints" / "step-00000004", "opt_d")
    assert state["param_groups"][0]["lr"] == pytest.approx(TINY.lr * 3 / 4 / 2)


# several processes


def test_take_step_averages_over_the_ranks():
    network = torch.nn.Linear(2, 3)
    network(torch.ones(1, 2)).sum().backward()
    ranks = SimpleNamespace(num_processes=2, reduce=lambda message, how: message / 2 if how == "mean" else None)
    seen = []
    optimizer = SimpleNamespace(step=lambda: seen.extend(p.grad.clone() for p in network.parameters()),
                                zero_grad=lambda set_to_none: None)
    take_step(ranks, network, optimizer, 1)
    assert all(torch.equal(gradient, torch.full_like(gradient, 0.5)) for gradient in seen)


def test_two_processes_agree(tmp_path, reference, monkeypatch):
    config, networks = changed(n_steps=2, eval_every=0, n_watch=20, n_eval=20), []
    monkeypatch.setattr(train_stylegan, "build", lambda config: networks.extend(build(config)) or tuple(networks))
    monkeypatch.setattr(train_stylegan, "PathLength", lambda: networks.append(PathLength()) or networks[-1])
    run = Run.start(tmp_path / "run", vars(config))

    def work(rank):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                          MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")
        AcceleratorState._reset_state(reset_partial_state=True)
        train(run, config, reference)
        torch.save([network.state_dict() for network in networks], tmp_path / f"rank{rank}.pt")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0]
    states = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    differing = [name for first, second in zip(*states, strict=True) for name in first
                 if not torch.equal(first[name], second[name])]
    assert differing == ["mapping.w_avg"], "each rank follows the w that it drew; that of rank 0 is saved"
    assert run.results["metrics"]["step"] == 2
