"""Fine-tuning: it learns classes and numbers, takes the probe's draws, and a stopped run repeats nothing."""

import json

import numpy as np
import pytest
import torch

from dgmlab import training
from dgmlab.data import grammar
from dgmlab.data.glue import Task
from dgmlab.metrics.probe import paired_difference, probe_curve
from dgmlab.optimus import finetune
from dgmlab.optimus.classify import Reader, open_encoder, sentence_features
from dgmlab.optimus.data import Tokenizers, save_trained, word_tokenizer
from dgmlab.optimus.finetune import ClassifyConfig, fine_tune, open_task, predict, predictions, sizes, train, tuned_curve
from dgmlab.optimus.model import Optimus
from dgmlab.run import Run

CONFIG = {"data": "grammar:sentiment", "n_labels": "1,8", "n_draws": 2, "n_epochs": 4, "max_steps": 4, "limit": 200,
          "n_test": 60, "lr": 1e-3, "precision": "fp32"}


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizers = Tokenizers(*[word_tokenizer(grammar.sentences())] * 2)
    torch.manual_seed(0)
    optimus = Optimus.from_preset("tiny", tokenizers, latent_size=4, n_positions=40, dropout=0.0)
    save_trained(tmp_path_factory.mktemp("optimus") / "model", optimus, tokenizers)
    return str(tmp_path_factory.getbasetemp() / "optimus0" / "model")


def start(path, folder, **settings):
    config = ClassifyConfig(encoder=folder, **{**CONFIG, **settings})
    return Run.start(path, vars(config)), config


def test_fits_are_logged_with_their_predictions_and_make_a_curve(folder, tmp_path):
    run, config = start(tmp_path / "run", folder)
    numbers = train(run, config)
    rows = run.metrics()
    assert [(row["step"], row["n_labels"], row["draw"]) for row in rows] == [(1, 1, 0), (2, 1, 1), (3, 8, 0), (4, 8, 1)]
    curve, truth = tuned_curve(run), open_task(config.data, "test", 60).labels
    assert curve.n_labels == (1, 8) and curve.scores.shape == (2, 2) and curve.n_rows == 200
    assert [(predictions(run, i + 1) == truth).mean() for i in range(4)] == curve.scores.ravel().tolist()
    assert numbers == {"accuracy_1": curve.scores[0].mean(), "accuracy_8": curve.scores[1].mean()}
    encoder, known = open_encoder(folder), open_task(config.data, "train", 200)
    probed = probe_curve(sentence_features(encoder, known.first), known.labels,
                         sentence_features(encoder, open_task(config.data, "test", 60).first), truth, (1, 8), 2)
    assert paired_difference(curve, probed).mean.shape == (2,), "frozen and tuned are on the same draws"


def test_a_stopped_run_repeats_no_fit_and_ends_alike(folder, tmp_path, monkeypatch):
    whole, config = start(tmp_path / "whole", folder)
    numbers = train(whole, config)
    calls, real = [], finetune.fine_tune

    def counted(*args):
        if len(calls) == 2:
            calls.append("stop")
            raise Stopped
        calls.append("fit")
        return real(*args)

    monkeypatch.setattr(finetune, "fine_tune", counted)
    stopped, _ = start(tmp_path / "stopped", folder)
    with pytest.raises(Stopped):
        train(stopped, config)
    assert train(stopped, config) == numbers and calls == ["fit", "fit", "stop", "fit", "fit"]
    lines = [(run.dir / "metrics.jsonl").read_text().splitlines() for run in (whole, stopped)]
    assert [json.loads(line) for line in lines[0]] == [json.loads(line) for line in lines[1]]


def test_the_encoder_that_was_opened_is_left_as_it_was(folder):
    encoder, task = open_encoder(folder), open_task("grammar:sentiment", "train", 40)
    before = {name: tensor.clone() for name, tensor in encoder.body.state_dict().items()}
    accelerator = training.start(0, "fp32")
    config = ClassifyConfig(**CONFIG)
    model = fine_tune(encoder, Reader(encoder, task.first), np.arange(40), task, config, accelerator)
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.body.state_dict().items())
    moved = [name for name, tensor in model.body.state_dict().items() if not torch.equal(before[name], tensor)]
    assert set(moved) == set(dict(model.body.named_parameters())) and not model.training


def test_classes_pairs_and_numbers_are_learnt(folder):
    """Whether two sentences speak of one topic, and how many words the first has."""
    encoder, accelerator = open_encoder(folder), training.start(0, "fp32")
    config = ClassifyConfig(**{**CONFIG, "max_steps": 40, "n_epochs": 40, "lr": 2e-3})
    first = grammar.sample(48, seed=5)
    moods = Task(first, None, grammar.labels(first, "mood"), grammar.FACTORS["mood"], "accuracy")
    reader = Reader(encoder, first)
    found = predict(fine_tune(encoder, reader, np.arange(48), moods, config, accelerator), reader, moods, accelerator)
    assert found.dtype == np.int64 and (found == moods.labels).mean() > 0.95
    lengths = np.array([float(len(text.split())) for text in first])
    pairs = Task(first, first[::-1], 100 + 7 * lengths, (), "spearman")
    reader = Reader(encoder, pairs.first, pairs.second)
    found = predict(fine_tune(encoder, reader, np.arange(48), pairs, config, accelerator), reader, pairs, accelerator)
    assert np.corrcoef(found, pairs.labels)[0, 1] > 0.8 and abs(found.mean() - pairs.labels.mean()) < 3


def test_sizes_are_read_and_refused():
    assert sizes("1, 10,100") == [1, 10, 100] and sizes("all") == [0] and sizes("5") == [5]
    for text in ("", "ten", "1,0", "1,all", "-3"):
        with pytest.raises(ValueError, match="labels a class were expected as numbers by commas"):
            sizes(text)


def test_more_labels_than_there_are_is_refused_before_anything_is_fitted(folder, tmp_path):
    run, config = start(tmp_path / "run", folder, n_labels="8,900")
    with pytest.raises(ValueError, match="900 labels a class were asked for"):
        train(run, config)
    assert run.metrics() == [] and run.status["state"] == "failed"
