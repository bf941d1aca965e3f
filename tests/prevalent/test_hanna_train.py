"""Training of an agent that asks: resumed, from a pre-trained encoder, from a shell, on task files made by hand."""

import json

import numpy as np
import pytest
import torch

from dgmlab.data.registry import data_home
from dgmlab.prevalent import pretrain
from dgmlab.prevalent.__main__ import main
from dgmlab.prevalent.agent import build_agent
from dgmlab.prevalent.evaluate import PROTOCOLS, evaluate
from dgmlab.prevalent.hanna import Absent
from dgmlab.prevalent.hanna_agent import HannaAgent, load_hanna_agent, save_hanna
from dgmlab.prevalent.hanna_play import HannaTrajectory, run_hanna
from dgmlab.prevalent.hanna_train import HannaConfig, build, open_hanna, score, train
from dgmlab.prevalent.house import House
from dgmlab.prevalent.policies import RandomAgent
from dgmlab.prevalent.rollout import load_trajectories, run_episodes
from dgmlab.prevalent.words import Words
from dgmlab.run import Run

SMALL = {"n_houses": 4, "n_episodes": 40, "n_eval": 6, "batch_size": 6, "train_steps": 4, "eval_steps": 5, "precision": "fp32",
         "eval_every": 0, "save_every": 3, "n_rooms": 4}


def params(run):
    return load_hanna_agent(run.dir)[0].state_dict()


def test_resume_gives_the_same_agent(tmp_path):
    whole = Run.start(tmp_path / "whole", {})
    train(whole, HannaConfig(n_steps=6, **SMALL))
    halves = Run.start(tmp_path / "halves", {})
    train(halves, HannaConfig(n_steps=3, **SMALL))
    (halves.dir / "results.json").unlink()
    final = train(halves, HannaConfig(n_steps=6, **SMALL))
    for name, value in params(whole).items():
        assert torch.equal(value, params(halves)[name]), name
    assert final == whole.results["metrics"] and {"val_unseen_spl", "val_seen_help_requests_high"} <= set(final)


def test_what_is_saved_can_be_looked_at_again(tmp_path):
    config = HannaConfig(n_steps=1, **SMALL)
    run = Run.start(tmp_path, {})
    train(run, config)
    played = score(*load_hanna_agent(run.dir), open_hanna(config), "val_seen", config)[1]
    kept = load_trajectories(run.samples / "trajectories-val_seen.json.gz", HannaTrajectory)
    for ours, theirs in zip(kept, played, strict=True):
        assert ours._replace(scores=[]) == theirs._replace(scores=[])
        for a, b in zip(ours.scores, theirs.scores, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Run folder of a short pre-training."""
    run = Run.start(tmp_path_factory.mktemp("runs") / "encoder", {})
    pretrain.train(run, pretrain.PretrainConfig(n_steps=2, n_houses=3, n_episodes=60, batch_size=8, n_watch=8, n_eval=8,
                                                eval_every=0, save_every=0, precision="fp32"))
    return run.dir


@pytest.mark.parametrize(("tune", "learns"), [("none", ()), ("cross", ("cross_layers",)), ("all", ("cross", "text"))])
def test_a_pretrained_encoder_is_taken_over_and_tuned_as_asked(encoder, tune, learns, tmp_path):
    config = HannaConfig(n_steps=2, agent="prevalent", pretrained=str(encoder), tune=tune, **SMALL)
    trained, words = pretrain.load_trained(encoder)
    agent, read = build(config, open_hanna(config))
    assert read.vocabulary == words.vocabulary
    for name, value in agent.navigator.encoder.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
    train(Run.start(tmp_path, {}), config)
    after, words = load_hanna_agent(tmp_path)
    assert words.vocabulary == read.vocabulary
    moved = {name for name, value in after.navigator.encoder.named_parameters()
             if not torch.equal(value, trained.state_dict()[name])}
    assert bool(moved) == bool(learns) and all(any(part in name for name in moved) for part in learns)
    assert tune == "all" or not any("text_layers" in name or "embeddings.words" in name for name in moved)


def test_only_prevalent_takes_an_encoder(encoder):
    config = HannaConfig(pretrained=str(encoder), **SMALL)
    with pytest.raises(ValueError, match="follower has no encoder to take it. Use agent='prevalent'"):
        build(config, open_hanna(config))


def test_without_the_assistant_nobody_asks(tmp_path):
    config = HannaConfig(n_steps=2, assistant=False, **SMALL)
    assert all(isinstance(anna, Absent) for anna in open_hanna(config).anna.values())
    final = train(Run.start(tmp_path, {}), config)
    assert final["val_seen_help_requests"] == final["val_unseen_help_requests_high"] == 0


def test_training_from_a_shell(tmp_path, capsys):
    words = [word for name, value in (SMALL | {"n_steps": 2}).items() for word in ("-p", f"{name}={value}")]
    assert main([str(tmp_path / "run"), "--model", "hanna", *words]) == 0, capsys.readouterr().err
    assert "val_unseen_help_requests" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"
    assert json.loads((tmp_path / "run" / "params.json").read_text())["model"] == "hanna"
    assert isinstance(load_hanna_agent(tmp_path / "run")[0], HannaAgent)


@pytest.mark.skipif(not (data_home() / "matterport").is_dir(), reason="needs matterport/ in DGMLAB_DATA")
def test_task_files_put_in_by_hand_can_be_trained_on(tmp_path, monkeypatch):
    real, folder = data_home() / "matterport", tmp_path / "matterport"
    (folder / "HANNA").mkdir(parents=True)
    for name in ("connectivity", "REVERIE", "regions"):
        (folder / name).symlink_to(real / name)
    routes = {}
    for split, scan in (("train", "8194nk5LbLH"), ("val_seen", "8194nk5LbLH"), ("val_unseen", "2t7WUuJeko7")):
        house = House.load(scan)
        start = house.edges[0, 0]
        far = np.where(np.isfinite(house.distance[start]), house.distance[start], 0).argmax()
        path = house.shortest_path(house.viewpoints[start], house.viewpoints[far])
        task = {"path_id": 5, "scan": scan, "heading": 0.5, "paths": [path], "instructions": ["find a mug", "find the mug"]}
        (folder / "HANNA" / f"hanna_{split}.json").write_text(json.dumps([task]))
        routes.setdefault(scan, []).append({"path_id": split, "path": path[:3], "instruction": "go on to the door and wait",
                                            "view_id": 13, "split": split})
    (folder / "HANNA" / "routes.json").write_text(json.dumps(routes))
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))
    data = open_hanna(HannaConfig(data="hanna", n_eval=1))
    assert len(data.train) == 2 and [len(data.splits[name]) for name in ("val_seen", "val_unseen")] == [1, 1]
    assert data.features.name == "semantic" and data.features.size == 334
    assert {split: [route.route_id for route in anna.routes] for split, anna in data.anna.items()} == {
        split: [split] for split in ("train", "val_seen", "val_unseen")}
    words = Words.build(data.texts, min_count=1)
    assert "door" in words.vocabulary and "mug" in words.vocabulary
    agent = HannaAgent(build_agent("follower", "tiny", len(words), data.features.size + 128, max_length=50))
    found = run_hanna(agent, data.anna["val_unseen"], data.features, words, data.splits["val_unseen"], 4)
    assert found[0].instr_id == "5_0" and found[0].path[0] == data.splits["val_unseen"][0].path[0]


def test_wrong_settings_are_named(tmp_path):
    with pytest.raises(KeyError, match="no data of an agent that asks is called 'toys'. Did you mean 'toy'"):
        open_hanna(HannaConfig(data="toys"))
    config = HannaConfig(**SMALL)
    agent, read = build(config, open_hanna(config))
    save_hanna(tmp_path / "model", agent, read)
    again, words = load_hanna_agent(tmp_path)
    assert words.vocabulary == read.vocabulary
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in agent.state_dict().items())
    (tmp_path / "model" / "asking.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="an agent that asks was expected .* found a navigator alone"):
        load_hanna_agent(tmp_path)


@pytest.mark.slow
def test_an_agent_learns_in_toy_houses_and_asking_helps_it(tmp_path):
    config = HannaConfig(precision="fp32", n_steps=120, eval_every=0)
    final = train(Run.start(tmp_path, {}), config)
    data = open_hanna(config)
    episodes = data.splits["val_unseen"]
    paths = run_episodes(RandomAgent(), data.houses, data.features, None, episodes, feedback="sample",
                         generator=torch.Generator().manual_seed(0))
    rate = evaluate(paths, episodes, data.houses, **PROTOCOLS["hanna"]).summary
    assert final["val_unseen_success_rate_low"] > rate["success_rate"].high
    agent, words = load_hanna_agent(tmp_path)
    alone = run_hanna(agent, Absent(data.houses), data.features, words, episodes, config.eval_steps)
    alone = evaluate(alone, episodes, data.houses, **PROTOCOLS["hanna"]).summary
    assert final["val_unseen_success_rate"] > alone["success_rate"].mean
