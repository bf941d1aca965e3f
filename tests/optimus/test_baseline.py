"""The GPT-2 twin: where it starts from, and what is kept of every sentence."""

import json
import shutil

import numpy as np
import pytest

from dgmlab.optimus import baseline, train
from dgmlab.optimus.data import load_trained, model_folder
from dgmlab.optimus.train import TrainConfig
from dgmlab.run import Run

SMALLEST = {"vocab_size": 0, "max_length": 16, "limit": 64, "batch_size": 8, "n_watch": 8, "n_eval": 30, "iw_samples": 2,
            "latent_size": 4, "precision": "fp32", "dropout": 0.0, "n_steps": 3}


def config(**given):
    return TrainConfig(**{**SMALLEST, **given})


def per_sentence(run):
    return json.loads((run.dir / "per_sentence.json").read_text())


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Runs of an Optimus and of its twin, side by side as notebook 11 leaves them."""
    folder = tmp_path_factory.mktemp("pair")
    runs = Run.start(folder / "vae", {}), Run.start(folder / "gpt2", {})
    train.train(runs[0], config())
    baseline.train(runs[1], config(n_steps=12))
    return runs


def start_from(init, folder, **given):
    """A twin that takes one step of no length from `init`: what it started from."""
    run = Run.start(folder, {})
    baseline.train(run, config(init=str(init), n_steps=1, lr=0.0, **given))
    return run


def test_twin_takes_up_a_trained_twin_by_its_own_name_or_beside_its_optimus(pair, tmp_path, capsys):
    optimus, twin = pair
    for name, init in (("own", twin.dir), ("folder", twin.dir / "model"), ("beside", optimus.dir / "model")):
        found = per_sentence(start_from(init, tmp_path / name))
        np.testing.assert_allclose(found["nll"], per_sentence(twin)["nll"], atol=1e-4)
    assert "not pre-trained" not in capsys.readouterr().out


def test_twin_beside_no_twin_starts_from_the_preset_and_says_so(pair, tmp_path, capsys):
    shutil.copytree(pair[0].dir / "model", tmp_path / "alone")
    alone = per_sentence(start_from(tmp_path / "alone", tmp_path / "run"))
    assert "there is no twin beside" in capsys.readouterr().out
    assert np.abs(np.subtract(alone["nll"], per_sentence(pair[1])["nll"])).min() > 0.1


def test_an_older_twin_with_one_tokenizer_is_taken_up_too(pair, tmp_path):
    shutil.copytree(pair[1].dir / "model", tmp_path / "older")
    for side in ("encoder", "decoder"):
        shutil.rmtree(tmp_path / "older" / f"{side}_tokenizer")
    found = per_sentence(start_from(tmp_path / "older", tmp_path / "run"))
    np.testing.assert_allclose(found["nll"], per_sentence(pair[1])["nll"], atol=1e-4)


def test_other_vocabulary_and_longer_sentences_are_refused(pair, tmp_path):
    folder = tmp_path / "pair"
    shutil.copytree(pair[0].dir, folder / "vae")
    other = config(vocab_size=300, n_steps=1, max_length=40)
    baseline.train(Run.start(folder / "gpt2", {}), other)
    with pytest.raises(ValueError, match=r"another vocabulary: expected the \d+ tokens of Optimus, found 300, \d+ of them"):
        baseline.train(Run.start(tmp_path / "run", {}), config(init=str(folder / "vae")))
    with pytest.raises(ValueError, match="max_length is 19 but the twin in .* holds sentences of 18 tokens"):
        baseline.train(Run.start(tmp_path / "long", {}), config(init=str(pair[1].dir), max_length=19))


def test_numbers_of_every_sentence_are_kept_and_add_up(pair):
    for run, name in zip(pair, ("nll_iw2", "nll"), strict=True):
        kept = per_sentence(run)
        assert len(kept["sentences"]) == len(kept["nll"]) == len(kept["n_tokens"]) == 30
        assert np.mean(kept["nll"]) == pytest.approx(run.results["metrics"][name], abs=1e-5)
    optimus, twin = map(per_sentence, pair)
    np.testing.assert_allclose(np.add(optimus["rec"], optimus["kl"]), optimus["elbo"], atol=1e-5)
    assert optimus["sentences"] == twin["sentences"]


def test_kinds_of_folders_are_told_apart(pair):
    assert [baseline.is_optimus(model_folder(run.dir)) for run in pair] == [True, False]
    assert load_trained(pair[0].dir)[1].decoder.get_vocab() == load_trained(pair[0].dir)[1].encoder.get_vocab()
