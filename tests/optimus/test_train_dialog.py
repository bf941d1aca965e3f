"""The loop: it resumes, each term acts, switching one off changes what it is there for, and mistakes are one line."""

import contextlib

import pytest
import torch

from dgmlab import training
from dgmlab.data import registry
from dgmlab.optimus.data import load_trained
from dgmlab.optimus.dialog import load_dialog_model
from dgmlab.optimus.fusion import FusionTerms
from dgmlab.optimus.train import TrainConfig
from dgmlab.optimus.train import train as train_optimus
from dgmlab.optimus.train_dialog import DialogTrainConfig, Fused, Fuser, build_dialog_model, open_dialogs, train, watch
from dgmlab.run import Run

SMALLEST = {"latent_size": 4, "max_context": 20, "max_length": 14, "limit": 60, "n_steps": 4, "batch_size": 8, "warmup": 1,
            "style_batch": 4, "n_watch": 16, "n_eval": 4, "n_samples": 2, "precision": "fp32", "eval_every": 2, "dropout": 0.1}


def config(**changes):
    return DialogTrainConfig(**{**SMALLEST, **changes})


def opened(tmp_path, **changes):
    """(config, data, model) as the loop has them at its start."""
    asked = config(**changes)
    accelerator = training.start(asked.seed, asked.precision)
    data = open_dialogs(Run.start(tmp_path / "opened", {}), asked, accelerator)
    return asked, data, build_dialog_model(asked, data.tokenizers)


def short_training(tmp_path, n_steps=25, **changes):
    """The state of the spaces after a few plain steps from the same start and batches, dropout off."""
    asked, data, model = opened(tmp_path, dropout=0.0, batch_size=16, limit=200, **changes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    fuser, epoch = Fuser(model, asked.margin, asked.noise), data.train.epoch_batches(asked.batch_size, 0)
    torch.manual_seed(0)
    for step in range(n_steps):
        batches = epoch(step // 12)
        style = data.style and data.style.pair(data.style.epoch_batches(asked.style_batch, 0)(0)[step % 12])
        optimizer.zero_grad()
        fuser(data.train.batch(batches[step % len(batches)]), style).loss(asked.pull, asked.push).backward()
        optimizer.step()
    return watch(model, data, autocast=contextlib.nullcontext)


class Stopped(Exception):
    pass


def test_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, monkeypatch):
    asked = config(style="toy", save_every=2)
    whole, run = Run.start(tmp_path / "whole", {}), Run.start(tmp_path / "run", {})
    results = train(whole, asked)
    set_lr, seen = training.set_lr, []

    def stop_at_the_fourth(optimizer, lr):
        seen.append(lr)
        if len(seen) == 4:
            raise Stopped
        set_lr(optimizer, lr)

    with monkeypatch.context() as patch:
        patch.setattr(training, "set_lr", stop_at_the_fourth)
        with pytest.raises(Stopped):
            train(run, asked)
    assert train(run, asked) == results and train(run, asked) == results
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (run.dir / name).read_bytes() == (whole.dir / name).read_bytes(), name
    assert {"ball_f1", "beam_inter_2", "sample_average", "ball_right", "val_style"} <= set(results)
    model, _ = load_dialog_model(run.dir)
    assert model.config.radius == pytest.approx(results["distance"], rel=1e-6) and not model.training


def gradient_of(model, value):
    """Size of the gradient of a scalar over all parameters."""
    model.zero_grad()
    value.backward(retain_graph=True)
    return sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None)


def test_every_term_of_the_loss_has_a_gradient(tmp_path):
    asked, data, model = opened(tmp_path, style="toy")
    fused = Fuser(model, 10.0, asked.noise)(data.train.batch(range(8)), data.style.pair(range(4)))
    terms = {"ae": fused.ae, "s2s": fused.s2s, "mix": fused.mix, "style": fused.style, "pull": fused.terms.pull,
             "push": fused.terms.push, "style pull": fused.style_terms.pull, "style push": fused.style_terms.push}
    assert {name: value for name, value in terms.items() if gradient_of(model, value) == 0} == {}


def test_the_loss_by_hand():
    pair = FusionTerms(torch.tensor(0.5), torch.tensor(0.25))
    fused = Fused(*(torch.tensor(value) for value in (3.0, 6.0, 9.0, 1.0)), pair, None)
    assert fused.loss(2.0, 4.0) == pytest.approx(6 + 1 + 2 * 0.5 - 4 * 0.25)
    assert fused._replace(style_terms=pair).loss(2.0, 3.0) == pytest.approx(7 + 2 * (2 * 0.5 - 3 * 0.25))


def test_without_pull_the_spaces_drift_apart_and_without_push_they_crowd(tmp_path):
    both = short_training(tmp_path / "both", pull=2.0, push=4.0)
    no_pull = short_training(tmp_path / "no_pull", pull=0.0, push=4.0)
    no_push = short_training(tmp_path / "no_push", pull=2.0, push=0.0)
    assert no_pull["distance"] > 1.5 * both["distance"], "the pull keeps a context near its response"
    assert no_push["spread_ae"] < 0.7 * both["spread_ae"] and no_push["spread_s2s"] < 0.7 * both["spread_s2s"]


def test_without_the_terms_style_stays_away_from_the_dialogs(tmp_path):
    fused = short_training(tmp_path / "fused", n_steps=12, style="toy", pull=2.0, push=0.0)
    loose = short_training(tmp_path / "loose", n_steps=12, style="toy", pull=0.0, push=0.0)
    assert loose["style_distance"] > 1.5 * fused["style_distance"]


def test_a_trained_optimus_is_taken_up_and_must_fit(tmp_path):
    plain = TrainConfig(data="grammar", vocab_size=0, latent_size=4, max_length=24, limit=64, n_steps=1, batch_size=8,
                        n_watch=8, n_eval=4, iw_samples=2, precision="fp32")
    train_optimus(Run.start(tmp_path / "plain", {}), plain)
    init = str(tmp_path / "plain")
    _, data, model = opened(tmp_path, init=init)
    trained, tokenizers = load_trained(init)
    assert torch.equal(model.to_memory.weight, trained.to_memory.weight)
    assert data.tokenizers.decoder.get_vocab() == tokenizers.decoder.get_vocab()
    with pytest.raises(ValueError, match="latent_size is 4 in this checkpoint but 5 was asked for"):
        opened(tmp_path, init=init, latent_size=5)
    with pytest.raises(ValueError, match="max_length is 40 but the model holds sentences of"):
        opened(tmp_path, init=init, max_context=40)


@pytest.mark.parametrize(("wrong", "told"), [
    ({"data": "dailydialogue"}, "no dialog corpus is called 'dailydialogue'"),
    ({"style": "caption_style:roman"}, "no class of 'caption_style' is called 'roman'"),
    ({"max_length": 2}, "split train of 'toy': the responses has no sentence of 1 to 2 tokens"),
    ({"context_layers": 0}, "at least 1 layer of its own"),
])
def test_mistakes_are_one_line_and_mark_the_run_as_failed(wrong, told, tmp_path):
    run = Run.start(tmp_path, {})
    if "style" in wrong and not registry.data_home().joinpath("caption_style").is_dir():
        pytest.skip("caption_style is not on this machine")
    with pytest.raises((KeyError, ValueError), match=told):
        train(run, config(**wrong))
    assert run.status["state"] == "failed"
