"""The loop of HANNA by hand, and its teachers against what the paper says."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dgmlab.prevalent.agent import build_agent
from dgmlab.prevalent.evaluate import PROTOCOLS, evaluate
from dgmlab.prevalent.features import observe_at, open_features
from dgmlab.prevalent.hanna import Absent, Anna, make_routes, object_episodes
from dgmlab.prevalent.hanna_agent import HannaAgent, HannaStep, Situation, entropy, renewed
from dgmlab.prevalent.hanna_play import HannaTrajectory, Party, Played, Record, openings, play, run_hanna
from dgmlab.prevalent.hanna_teacher import FLOOR, ask_targets, hanna_loss, past_mistakes
from dgmlab.prevalent.house import check_path
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.model import Prevalent
from dgmlab.prevalent.policies import Step
from dgmlab.prevalent.words import Words


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
    played = play(new_agent(world), Absent(world.houses), world.features, world.words, world.episodes[:8], 6, "sample")
    assert not any(any(one.asked) for one in played.trajectories)
    loss = hanna_loss(played)
    assert loss.ask == 0 and loss.reasons == 0 and torch.isfinite(loss.loss)


def test_openings_are_the_steps_at_which_help_was_to_be_had(world):
    episode, row, answer = asker(world)
    house, path = world.houses.houses[episode.scan], episode.path[:3]
    able = [bool(world.anna.can_request[world.houses.row(episode.scan, here)]) for here in path]
    sure, torn = np.array([1, 0, 0], np.float32), np.array([0.5, 0.5, 0], np.float32)
    one = HannaTrajectory(episode.instr_id, episode.scan, list(path), [], [0, 1, 1, 0], [torn, sure, sure, torn], [], [], [],
                          [], [True, False, False, False], [])  # asks, walks twice, stops
    found = openings([one, one], [episode, episode], world.anna)
    steps = [step for step, place in enumerate((0, 0, 1, 2)) if able[place]]
    goals = [house.index(goal) for goal in episode.goals]
    assert found.asked.tolist() == [step == 0 for step in steps] * 2
    np.testing.assert_allclose(found.entropy, [np.log(2) / np.log(37) * (step in (0, 3)) for step in steps] * 2, atol=1e-6)
    away = [house.distance[house.index(path[place]), goals].min() for place in (0, 0, 1, 2)]
    np.testing.assert_allclose(found.distance, [away[step] for step in steps] * 2)


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
