"""The loop of HANNA by hand, its teachers against what the paper says, and an agent that learns in toy houses."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dgmlab.data.registry import data_home
from dgmlab.prevalent.agent import build_agent
from dgmlab.prevalent.evaluate import PROTOCOLS, evaluate
from dgmlab.prevalent.features import observe_at, open_features
from dgmlab.prevalent.hanna import Anna, make_routes, object_episodes
from dgmlab.prevalent.hanna_agent import HannaAgent, HannaStep, Situation, entropy, load_hanna_agent, renewed, save_hanna
from dgmlab.prevalent.hanna_play import Party, Played, Record, play, run_hanna
from dgmlab.prevalent.hanna_teacher import FLOOR, ask_targets, hanna_loss, past_mistakes
from dgmlab.prevalent.hanna_train import HannaConfig, open_hanna, train
from dgmlab.prevalent.house import House, check_path
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.model import Prevalent
from dgmlab.prevalent.policies import RandomAgent, Step
from dgmlab.prevalent.rollout import run_episodes
from dgmlab.prevalent.words import Words
from dgmlab.run import Run


@pytest.fixture(scope="module")
def world():
    houses = Houses.toy([3, 4], n_floors=1, n_rooms=4)
    routes = make_routes(houses, seed=0)
    episodes = object_episodes(houses, 24, seed=0)
    words = Words.build([e.instruction for e in episodes] + [r.instruction for r in routes], min_count=1)
    return SimpleNamespace(houses=houses, anna=Anna(houses, routes), episodes=episodes, words=words,
                           features=open_features("toy", houses))


def new_agent(world, kind="follower"):
    size = world.features.size + 128
    encoder = Prevalent.from_preset("tiny", len(world.words), size) if kind == "prevalent" else None
    return HannaAgent(build_agent(kind, "tiny", len(world.words), size, encoder, max_length=50))


# the loop


def asker(world):
    """An episode that starts where help can be had, its row, and what Anna says there."""
    for episode in world.episodes:
        row = world.houses.row(episode.scan, episode.path[0])
        if world.anna.can_request[row]:
            goals = np.array([world.houses.row(episode.scan, goal) for goal in episode.goals])
            return episode, row, world.anna.answer(row, goals)
    raise AssertionError("no episode starts near a route")


def test_asking_leads_to_a_route_and_stopping_leads_back(world):
    episode, row, answer = asker(world)
    party = Party(world.anna, [episode])
    before = set(party.targets[0][party.targets[0] >= 0])
    assert not party.on_route[0] and party.told == [episode.instruction]
    assert party.act(np.array([0]), np.array([True])).tolist() == [True]
    assert party.told == [answer.route.instruction] and party.on_route[0] and not party.walk.ended[0]
    assert party.walk.row[0] == answer.start and party.walk.view[0] == answer.route.view
    assert party.shown[0] == answer.depart == party.targets[0, 0] and (party.targets[0, 1:] == -1).all()
    assert party.distance[0] == world.houses.distance(answer.start, answer.depart)
    assert party.act(np.array([0]), np.array([False])).tolist() == [True]  # STOP leaves the route, the episode goes on
    assert party.told == [episode.instruction] and not party.on_route[0] and not party.walk.ended[0]
    assert party.shown[0] == answer.goal == party.targets[0, 0] and answer.goal in before
    assert party.act(np.array([0]), np.array([False])).tolist() == [False]  # and now it ends it
    assert party.walk.ended[0] and party.task[0] == 2
    assert party.act(np.array([1]), np.array([True])).tolist() == [False] and party.told == [episode.instruction]


def test_moving_reads_the_same_text_on(world):
    party = Party(world.anna, world.episodes[:4])
    rows = party.walk.row
    assert not party.act(np.ones(4, int), np.zeros(4, bool)).any()
    assert (party.walk.row == world.houses.candidates.index[rows, 0]).all() and (party.task == 0).all()


def test_situation_tells_what_is_known(world):
    episode, row, answer = asker(world)
    party = Party(world.anna, [episode, episode])
    party.act(np.array([0, 1]), np.array([True, False]))
    observation = observe_at(world.features, torch.from_numpy(party.walk.row), torch.from_numpy(party.walk.view))
    situation = party.situation(world.features, observation, 0.25)
    again = float(answer.start == row)
    np.testing.assert_allclose(situation.flags, [[1, 1, again, 0.25], [0, 0, 0, 0.25]])
    views = np.asarray(world.features.views[answer.depart], np.float32)
    np.testing.assert_allclose(situation.shown[0, :-128], views.mean(0), atol=1e-6)
    assert (situation.shown[1] == 0).all() and (situation.shown[:, -128:] == 0).all()
    assert situation.can_ask.tolist() == world.anna.can_request[party.walk.row].tolist()


@pytest.mark.parametrize("kind", ["follower", "prevalent", "seq2seq"])
def test_play_keeps_its_own_books(world, kind):
    torch.manual_seed(0)
    episodes = world.episodes[:6]
    played = play(new_agent(world, kind), world.anna, world.features, world.words, episodes, 8, "sample")
    assert any(any(one.asked) for one in played.trajectories)
    for episode, one in zip(episodes, played.trajectories, strict=True):
        check_path(world.houses.houses[episode.scan], one.path)
        assert one.instr_id == episode.instr_id and one.path[0] == episode.path[0] and one.told[0] == episode.instruction
        n = len(one.actions)
        assert n == len(one.views) == len(one.scores) == len(one.candidates) == len(one.asked) == len(one.told) <= 8
        assert len(one.path) == 1 + sum(action > 0 for action in one.actions)
        here = 0
        for t, action in enumerate(one.actions):
            np.testing.assert_allclose(one.scores[t].sum(), 1, atol=1e-5)
            if action:
                here += 1
                assert one.candidates[t][action - 1] == one.path[here]
    hanna_loss(played).loss.backward()


def test_scores_count_the_requests(world):
    torch.manual_seed(1)
    agent = new_agent(world)
    found = run_hanna(agent, world.anna, world.features, world.words, world.episodes, 6, batch_size=7)
    summary = evaluate(found, world.episodes, world.houses, **PROTOCOLS["hanna"]).summary
    assert summary["help_requests"].mean == np.mean([sum(one.asked) for one in found])
    again = run_hanna(agent, world.anna, world.features, world.words, world.episodes[:5], 6, batch_size=5)
    assert [one.path for one in again] == [one.path for one in found[:5]]


def test_nobody_asks_where_there_is_no_route(world):
    torch.manual_seed(2)
    deaf = SimpleNamespace(houses=world.houses, can_request=np.zeros(len(world.houses), bool))
    played = play(new_agent(world), deaf, world.features, world.words, world.episodes[:8], 6, "sample")
    assert not any(any(one.asked) for one in played.trajectories)
    loss = hanna_loss(played)
    assert loss.ask == 0 and loss.reasons == 0 and torch.isfinite(loss.loss)


def test_renewed_replaces_words_and_states_of_some(world):
    torch.manual_seed(3)
    agent = new_agent(world).eval()
    memory = agent.start(*world.words.batch(["find the red lamp", "find the blue vase in the kitchen"]))
    fresh = agent.start(*world.words.batch(["find the blue vase in the kitchen"]))
    both = renewed(memory, fresh, torch.tensor([0]))
    assert torch.equal(both.attended[0], fresh.attended[0]) and torch.equal(both.attended[1], memory.attended[1])
    assert torch.equal(both.words[0], fresh.words[0]) and torch.equal(both.mask[1], memory.mask[1])
    longer = agent.start(*world.words.batch(["find the blue vase in the kitchen in the kitchen"]))
    wide = renewed(memory, longer, torch.tensor([1]))
    n = memory.words.shape[1]
    assert wide.words.shape[1] == wide.mask.shape[1] == longer.words.shape[1] > n
    assert torch.equal(wide.words[0, :n], memory.words[0]) and not wide.mask[0, n:].any()


def test_a_new_agent_is_its_navigator_and_what_is_shown_pulls(world):
    torch.manual_seed(4)
    agent = new_agent(world).eval()
    row = torch.tensor([int(world.houses.row(e.scan, e.path[0])) for e in world.episodes[:3]])
    observation = observe_at(world.features, row, torch.full((3,), 12))
    memory = agent.start(*world.words.batch(["find the red lamp"] * 3))
    views = observation.views.mean(1)
    situation = Situation(torch.cat([views[:, :-128], views.new_zeros(3, 128)], 1), torch.zeros(3, 4),
                          torch.tensor([True, False, True]))
    out, plain = agent.step(memory, observation, situation), agent.navigator.step(memory, observation)
    difference = (out.step.logits - plain.logits)[:, 1:]
    assert (difference[observation.mask[:, 1:]].abs() < 1e-6).all() and (out.step.logits[~observation.mask] == -np.inf).all()
    assert out.ask[1, 1] == -np.inf and torch.isfinite(out.ask[[0, 2]]).all()
    with torch.no_grad():
        agent.aim.query.weight.copy_(torch.eye(len(agent.aim.query.weight)))
    there = observation.mask[:, 1:]
    pulled = (agent.step(memory, observation, situation).step.logits - plain.logits)[:, 1:][there]
    wanted = (observation.candidates @ situation.shown[:, :, None])[:, 1:, 0][there]
    np.testing.assert_allclose(pulled.detach(), wanted, atol=1e-4)


# the teachers


def record(**given):
    """A Record of one walker on five actions."""
    one = {"active": True, "row": 0, "view": 12, "can_ask": True, "task": 0, "distance": 5.0, "best": 1, "action": 1,
           "asked": False}
    one |= {name: value for name, value in given.items() if name in one}
    logits = torch.tensor([given.get("logits", [0.0, 30.0, 0.0, 0.0, 0.0])])
    out = HannaStep(Step(logits, None), torch.zeros(1, 2), torch.zeros(1, 3))
    return Record(**{name: np.array([value]) for name, value in one.items()}, told=[""], out=out)


def told(records, final=9.0):
    targets = ask_targets(Played([], records, np.array([final])))
    return targets.ask[:, 0].tolist(), targets.reasons[:, 0].tolist()


def test_lost_is_whoever_never_came_as_near_again():
    # nearest at step 1, and nothing after it is nearer: steps 2 and 3 should have asked; the last step stops
    away = [5.0, 2.0, 3.0, 4.0]
    records = [record(distance=d, row=i, action=1 if i < 3 else 0) for i, d in enumerate(away)]
    assert told(records) == ([0, 0, 1, 1], [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]])
    for away, final, wanted in (([3.0, 2.0], 1.0, [0, 0]), ([3.0, 2.0], 2.5, [0, 0]), ([2.0, 3.0], 4.0, [0, 1])):
        assert told([record(distance=d, row=i) for i, d in enumerate(away)], final)[0] == wanted  # the steps ran out


def test_each_text_is_judged_by_itself_and_only_where_help_is():
    records = [record(distance=2.0, row=0), record(distance=6.0, row=1, asked=True, action=0),
               record(distance=3.0, row=2, task=1), record(distance=4.0, row=3, task=1, action=0)]
    assert told(records)[0] == [0, 1, 0, 1]
    records[3] = records[3]._replace(can_ask=np.array([False]))
    assert told(records)[0] == [0, 1, 0, -1]
    records[3] = records[3]._replace(active=np.array([False]))
    assert told(records, final=2.0)[0] == [0, 1, 0, -1]


def test_doubt_and_error_together_are_a_reason_and_a_second_question_is_not():
    doubt = [0.0, 0.0, 0.3, 0.0, 0.0]
    share = float(entropy(torch.tensor([doubt]).softmax(1)))
    assert share == pytest.approx(np.log(5) / np.log(37), abs=0.01)
    assert told([record(logits=doubt, action=0)]) == ([1], [[0, 1, 0]])
    assert told([record(logits=doubt, best=2, action=0)])[0] == [0]  # in doubt, but right
    assert told([record(logits=[0.0, 0.0, 30.0, 0.0, 0.0], action=0)])[0] == [0]  # wrong, but sure
    twice = [record(row=7, asked=True, action=0, logits=doubt), record(row=7, logits=doubt, task=1),
             record(row=8, logits=doubt, task=1)]
    assert told(twice, final=0.0) == ([1, 0, 1], [[0, 1, 0], [0, 1, 1], [0, 1, 0]])


def test_mistakes_are_remembered_at_a_place_and_in_a_text():
    records = [record(row=1, action=3, best=2), record(row=4, action=2, best=2), record(row=1, action=2, best=2),
               record(row=1, action=0, best=2, asked=True), record(row=1, task=1, action=0, best=2), record(row=1, task=1)]
    wanted = np.zeros((6, 5), bool)
    wanted[2, 3] = wanted[5, 0] = True
    np.testing.assert_array_equal(past_mistakes(records, 5)[:, 0], wanted)


def test_loss_by_hand():
    logits = [0.0, 1.0, 2.0, -np.inf, 0.5]
    log_p = np.array(logits) - np.log(np.exp(logits).sum())
    records = [record(row=1, action=2, best=1, logits=logits), record(row=1, action=4, best=1, logits=logits, task=0),
               record(row=1, action=1, best=1, logits=logits), record(row=1, action=0, asked=True, logits=logits)]
    terms = hanna_loss(Played([], records, np.array([9.0])), alpha=0.5)
    assert float(terms.navigation) == pytest.approx(-log_p[1], abs=1e-6)
    assert float(terms.curiosity) == pytest.approx((0 + log_p[2] + (log_p[2] + log_p[4]) / 2) / 3, abs=1e-6)
    assert float(terms.ask) == pytest.approx(np.log(2), abs=1e-6) == float(terms.reasons)
    whole = terms.navigation + 0.5 * terms.curiosity + terms.ask + terms.reasons
    assert float(terms.loss) == pytest.approx(float(whole), abs=1e-6)
    never = [record(action=2, best=1, logits=[0.0, 40.0, 0.0, 0.0, 0.0])] * 2
    assert float(hanna_loss(Played([], never, np.array([9.0]))).curiosity) == FLOOR / 2


# training

SMALL = {"n_houses": 4, "n_episodes": 40, "n_eval": 6, "batch_size": 6, "train_steps": 4, "eval_steps": 5, "precision": "fp32",
         "eval_every": 0, "save_every": 3}


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


def test_wrong_settings_are_named(tmp_path, world):
    with pytest.raises(KeyError, match="no data of an agent that asks is called 'toys'. Did you mean 'toy'"):
        open_hanna(HannaConfig(data="toys"))
    agent = new_agent(world)
    save_hanna(tmp_path / "model", agent, world.words)
    again, words = load_hanna_agent(tmp_path)
    assert words.vocabulary == world.words.vocabulary
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in agent.state_dict().items())
    (tmp_path / "model" / "asking.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="an agent that asks was expected .* found a navigator alone"):
        load_hanna_agent(tmp_path)


@pytest.mark.slow
def test_an_agent_learns_in_toy_houses_and_asking_helps_it(tmp_path):
    config = HannaConfig(precision="fp32", n_steps=160, eval_every=0)
    final = train(Run.start(tmp_path, {}), config)
    data = open_hanna(config)
    episodes = data.splits["val_unseen"]
    paths = run_episodes(RandomAgent(), data.houses, data.features, None, episodes, feedback="sample",
                         generator=torch.Generator().manual_seed(0))
    rate = evaluate(paths, episodes, data.houses, **PROTOCOLS["hanna"]).summary
    assert final["val_unseen_success_rate_low"] > rate["success_rate"].high
    agent, words = load_hanna_agent(tmp_path)
    deaf = SimpleNamespace(houses=data.houses, can_request=np.zeros(len(data.houses), bool))
    alone = run_hanna(agent, deaf, data.features, words, episodes, config.eval_steps)
    alone = evaluate(alone, episodes, data.houses, **PROTOCOLS["hanna"]).summary
    assert final["val_unseen_success_rate"] > alone["success_rate"].mean
