"""Training of agents: resuming to the bit, what learns, back-translation, what is left behind, and mistakes."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dgmlab import training
from dgmlab.data.registry import data_home
from dgmlab.prevalent import finetune
from dgmlab.prevalent.agent import load_agent
from dgmlab.prevalent.agent_data import PseudoLabels, open_data
from dgmlab.prevalent.evaluate import evaluate
from dgmlab.prevalent.features import environment_mask
from dgmlab.prevalent.finetune import FinetuneConfig, build, train
from dgmlab.prevalent.policies import goal_rows
from dgmlab.prevalent.pretrain import PretrainConfig
from dgmlab.prevalent.pretrain import train as pretrain
from dgmlab.prevalent.rollout import load_trajectories
from dgmlab.prevalent.speaker import Speaker
from dgmlab.prevalent.speaking import save_speaker
from dgmlab.prevalent.words import Words
from dgmlab.run import Run

TINY = FinetuneConfig(n_houses=2, n_episodes=40, dev_houses=1, n_steps=6, batch_size=8, lr=1e-3, max_steps=6, precision="fp32",
                      ml_weight=0.2, rl_weight=1.0, image_dropout=0.3, eval_every=2, save_every=3, n_watch=6, n_eval=8)


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    """Folder of a speaker at random."""
    folder, data = tmp_path_factory.mktemp("speaker"), open_data(TINY)
    words = Words.build([episode.instruction for episode in data.train], 2)
    torch.manual_seed(0)
    save_speaker(folder, Speaker.from_preset("tiny", len(words), data.features.size, max_length=12), words)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Run folder of a short pre-training."""
    folder = tmp_path_factory.mktemp("pretrain")
    pretrain(Run.start(folder, {}), PretrainConfig(n_houses=2, n_episodes=40, n_steps=2, batch_size=8, n_watch=8, n_eval=8,
                                                   precision="fp32"))
    return folder


def train_here(folder, config):
    torch.manual_seed(999)  # a run depends on its own seed alone
    return train(Run.start(folder, vars(config)), config)


def stop_at(step, patch):
    """Kill the run when step `step` (from 1) has been taken, before it is logged."""
    original, seen = training.clip, []

    def clip(*arguments):
        seen.append(1)
        if len(seen) == step:
            raise Stopped
        return original(*arguments)

    patch.setattr(training, "clip", clip)


@pytest.mark.parametrize("kind", ["follower", "prevalent"])
def test_resumed_run_is_the_uninterrupted_one_to_the_bit(kind, speaker, tmp_path, monkeypatch):
    some = {"speaker": str(speaker)} if kind == "follower" else {"tune": "cross", "batch_size": 4, "n_watch": 2, "n_eval": 2}
    config = dataclasses.replace(TINY, agent=kind, **some)
    results = train_here(tmp_path / "whole", config)
    with monkeypatch.context() as patch:
        stop_at(5, patch)
        with pytest.raises(Stopped):
            train_here(tmp_path / "run", config)
    assert train_here(tmp_path / "run", config) == results
    for name in ("metrics.jsonl", "model/model.safetensors", "samples/trajectories-val_unseen.json.gz"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert train_here(tmp_path / "whole", config) == results  # a finished run is not trained again


def test_a_run_leaves_its_best_agent_and_what_that_did(tmp_path):
    results = train_here(tmp_path, TINY)
    data, run = open_data(TINY), Run(tmp_path)
    looks = [row for row in run.metrics() if "spl/dev" in row]
    assert [row["step"] for row in looks] == [2, 4, 6]
    best = max(looks, key=lambda row: (row["spl/dev"], -row["step"]))
    assert results["best_step"] == best["step"] == load_agent(tmp_path).about["step"]
    for split, episodes in data.splits.items():
        trajectories = load_trajectories(run.samples / f"trajectories-{split}.json.gz")
        summary = evaluate(trajectories, episodes, data.houses).summary
        assert results[f"{split}_spl"] == pytest.approx(summary["spl"].mean)
        assert results[f"{split}_spl_low"] <= results[f"{split}_spl"] <= results[f"{split}_spl_high"]
    assert {"loss", "ml", "rl", "entropy", "value_loss", "reward", "gradient_norm", "lr"} <= set(run.metrics()[0])


def test_what_is_kept_is_the_best_look_and_not_the_last(tmp_path, monkeypatch):
    scores = iter([0.3, 0.2, 0.1, 0.3])
    monkeypatch.setattr(finetune, "look_at", lambda *_: {"spl/dev": next(scores)})
    config = dataclasses.replace(TINY, decay=False)
    assert train_here(tmp_path / "six", config)["best_step"] == 2
    train_here(tmp_path / "two", dataclasses.replace(config, n_steps=2))
    six, two = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("six", "two"))
    assert six == two


def test_the_first_look_that_reaches_a_target(tmp_path):
    run = Run.start(tmp_path, {})
    for step, rate in ((50, 0.1), (100, 0.5), (150, 0.3), (200, 0.6)):
        run.log(step, **{"success_rate/val_unseen": rate})
        run.log(step, loss=1.0)
    found = [finetune.first_step(run, "success_rate/val_unseen", target) for target in (0.0, 0.3, 0.55, 0.9)]
    assert found == [50, 100, 200, None]


def test_splits_share_no_path_and_the_unseen_ones_no_house():
    data = open_data(TINY)
    scans = {name: {episode.scan for episode in some} for name, some in {**data.splits, "train": data.train}.items()}
    assert list(data.splits)[0] == "dev" and scans["val_seen"] <= scans["train"] == set(data.known.scans)
    assert not scans["dev"] & scans["train"] and not scans["val_unseen"] & (scans["train"] | scans["dev"])
    paths = [{(episode.scan, episode.path) for episode in some} for some in (data.train, data.splits["val_seen"])]
    assert not paths[0] & paths[1]
    assert list(open_data(dataclasses.replace(TINY, dev_houses=0)).splits)[0] == "val_unseen"


def test_pseudo_labels_are_written_for_shortest_paths_of_training_houses(speaker):
    data = open_data(TINY)
    agent, words = build(TINY, data)
    pseudo = PseudoLabels(speaker, data, words, TINY)
    mask = environment_mask(data.features.size, 0.5, torch.Generator().manual_seed(0))
    batch, again, other = (pseudo.batch(step, mask) for step in (3, 3, 4))
    assert torch.equal(batch.ids, again.ids) and not np.array_equal(batch.walk.row, other.walk.row)
    assert batch.ids.shape[0] == len(batch.goals) == TINY.batch_size and (batch.ids[:, 0] == words.cls).all()
    for row, goal in zip(batch.walk.row, batch.goals[:, 0], strict=True):
        assert data.houses.name(row)[0] in data.known.houses and 4 <= len(data.houses.shortest_path(row, goal)) - 1 <= 6
        assert data.houses.distance(row, goal) >= 5


def test_a_pretrained_encoder_is_taken_over_with_its_words_and_stays_frozen(encoder, tmp_path):
    config = dataclasses.replace(TINY, agent="prevalent", pretrained=str(encoder), n_steps=2)
    data = open_data(config)
    before, words = build(config, data)
    assert words.vocabulary == Words.load(encoder / "model").vocabulary
    train_here(tmp_path, config)
    after = load_agent(tmp_path).agent
    for name, value in before.encoder.state_dict().items():
        assert torch.equal(value, after.encoder.state_dict()[name]), name
    learned = {id(p) for group in finetune.make_optimizer(config, before).param_groups for p in group["params"]}
    assert not learned & {id(p) for p in before.encoder.parameters()}
    going_on = dataclasses.replace(config, init=str(tmp_path), pretrained="", tune="cross")
    found, _ = build(going_on, data)
    assert torch.equal(found.decoder.choose.query.weight, after.decoder.choose.query.weight)


def test_seq2seq_imitates_along_its_own_samples(tmp_path):
    config = dataclasses.replace(TINY, agent="seq2seq", rl_weight=0.0, feedback="sample", optimizer="rmsprop", n_steps=2)
    results = train_here(tmp_path, config)
    assert 0 <= results["val_unseen_spl"] <= results["val_unseen_success_rate"] <= 1
    assert "rl" not in Run(tmp_path).metrics()[0]


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"agent": "seq2seq"}, ValueError, "rl_weight is 1.0 but seq2seq has no critic"),
    ({"agent": "folower"}, KeyError, "seq2seq, follower, prevalent"),
    ({"feedback": "student"}, KeyError, "teacher, argmax, sample"),
    ({"optimizer": "sgd"}, KeyError, "rmsprop, adam"),
    ({"pretrained": "x"}, ValueError, "follower has no encoder to take it"),
    ({"agent": "prevalent", "pretrained": "nowhere"}, FileNotFoundError, "a pre-trained model was expected at .*nowhere"),
    ({"init": "nowhere"}, FileNotFoundError, "an agent was expected in .*nowhere, found none"),
    ({"speaker": "nowhere"}, FileNotFoundError, "a speaker was expected at .*nowhere"),
    ({"data": "rxr"}, KeyError, "toy, r2r, ndh"),
    ({"max_length": 8, "cut": ""}, ValueError, "but the model reads 8"),
])
def test_mistakes_are_named(changes, error, message, tmp_path):
    with pytest.raises(error, match=message):
        train_here(tmp_path, dataclasses.replace(TINY, **changes))
    assert Run(tmp_path).status["state"] == "failed"


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "start", lambda *settings: SimpleNamespace(num_processes=2))
    with pytest.raises(ValueError, match="trained by one process, found 2. Leave torchrun out"):
        train_here(tmp_path, TINY)


def test_another_kind_of_features_than_the_checkpoints_is_named(tmp_path, encoder):
    train_here(tmp_path / "run", dataclasses.replace(TINY, n_steps=1))
    with pytest.raises(ValueError, match="feature_size is 266 in .* but 128 was asked for"):
        train_here(tmp_path / "other", dataclasses.replace(TINY, init=str(tmp_path / "run"), features="none"))
    with pytest.raises(ValueError, match="feature_size is 266 in the encoder but 128 in the agent"):
        train_here(tmp_path / "third", dataclasses.replace(TINY, agent="prevalent", pretrained=str(encoder), features="none"))


@pytest.mark.skipif(not (data_home() / "matterport" / "R2R").is_dir(), reason="needs matterport/ in DGMLAB_DATA")
@pytest.mark.parametrize("data", ["r2r", "ndh"])
def test_real_houses_are_split_by_house(data, monkeypatch):
    config = FinetuneConfig(data=data, features="none", dev_houses=5, n_eval=50)
    monkeypatch.setattr("dgmlab.prevalent.agent_data.NDH_EPISODES", 60)
    monkeypatch.setattr("dgmlab.prevalent.agent_data.DEV_EPISODES", 10)
    found = open_data(config)
    assert len(found.known.scans) == 56 and {episode.scan for episode in found.train} <= set(found.known.scans)
    aside = {episode.scan for episode in found.splits["dev"]}
    assert 1 <= len(aside) <= 5 and not aside & set(found.known.scans)
    assert not {episode.scan for episode in found.splits["val_unseen"]} & (aside | set(found.known.scans))
    assert [len(found.splits[name]) for name in ("val_seen", "val_unseen")] == [50, 50]
    assert (goal_rows(found.houses, found.train[:50])[:, 0] >= 0).all()
