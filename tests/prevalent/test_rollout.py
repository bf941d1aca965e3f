"""Rollouts: who has stopped is out, what is written down fits the houses, and batches do not matter."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from dgmlab.prevalent.agent import build_agent
from dgmlab.prevalent.episodes import Episode
from dgmlab.prevalent.features import open_features
from dgmlab.prevalent.house import check_path
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.policies import ShortestAgent, Step
from dgmlab.prevalent.rollout import load_trajectories, run_episodes, save_trajectories
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.words import Words


@pytest.fixture(scope="module")
def world():
    """(houses, features, episodes, words)"""
    houses = Houses.toy([7, 8])
    episodes = toy_episodes(houses, 30, 0)
    return houses, open_features("toy", houses), episodes, Words.build([episode.instruction for episode in episodes], 1)


@pytest.fixture(scope="module")
def agent(world):
    torch.manual_seed(0)
    return build_agent("follower", "tiny", len(world[3]), world[1].size + 128)


class Patience(NamedTuple):
    left: torch.Tensor


class Patient:
    """Takes the first candidate as often as the k-th walker has patience, k times, and remembers who was asked."""

    def __init__(self):
        self.asked = []

    def start(self, ids, mask, episodes=None):
        return Patience(torch.arange(len(ids)))

    def step(self, memory, observation):
        self.asked.append(len(observation.row))
        logits = torch.full(observation.mask.shape, -torch.inf)
        logits[torch.arange(len(logits)), (memory.left > 0).long()] = 0.0
        return Step(logits, Patience(memory.left - 1))


def test_who_has_stopped_leaves_the_batch(world):
    houses, features, episodes, _ = world
    episodes = sorted(episodes[:5], key=lambda episode: len(episode.instruction))
    policy = Patient()
    found = run_episodes(policy, houses, features, None, episodes)
    assert policy.asked == [5, 4, 3, 2, 1]
    assert [len(trajectory.path) for trajectory in found] == [1, 2, 3, 4, 5]
    assert [trajectory.actions for trajectory in found] == [[1] * k + [0] for k in range(5)]


def test_steps_run_out_with_a_move(world):
    houses, features, episodes, _ = world
    found = run_episodes(Patient(), houses, features, None, episodes[:6], max_steps=2)
    assert sorted(len(trajectory.actions) for trajectory in found) == [1, 2, 2, 2, 2, 2]
    assert sorted(len(trajectory.path) for trajectory in found) == [1, 2, 3, 3, 3, 3]


def test_trajectories_say_what_could_be_seen_and_done(world, agent):
    houses, features, episodes, words = world
    for trajectory, episode in zip(run_episodes(agent, houses, features, words, episodes, 8), episodes, strict=True):
        house = houses.houses[episode.scan]
        assert trajectory.instr_id == episode.instr_id and trajectory.path[0] == episode.path[0]
        check_path(house, trajectory.path)
        n = len(trajectory.actions)
        assert len(trajectory.path) == n if trajectory.actions[-1] == 0 else n + 1
        assert {len(trajectory.views), len(trajectory.scores), len(trajectory.candidates), len(trajectory.word_attention),
                len(trajectory.view_attention)} == {n}
        assert trajectory.words == words.tokens(words.encode(episode.instruction))
        steps = zip(trajectory.path, trajectory.actions, trajectory.scores, trajectory.candidates, strict=False)
        for t, (here, action, scores, candidates) in enumerate(steps):
            assert len(scores) == len(candidates) + 1 and scores.sum() == pytest.approx(1, abs=1e-5)
            assert scores.argmax() == action
            assert set(candidates) == {house.viewpoints[k] for k in np.flatnonzero(house.unobstructed[house.index(here)])}
            if action:
                assert trajectory.path[t + 1] == candidates[action - 1]
        for weights in trajectory.word_attention:
            assert weights.shape == (len(trajectory.words),) and weights.sum() == pytest.approx(1, abs=1e-5)
        assert all(weights.shape == (36,) for weights in trajectory.view_attention)


def test_batches_and_the_mode_of_the_network_do_not_matter(world, agent):
    houses, features, episodes, words = world
    agent.train()
    alone = run_episodes(agent, houses, features, words, episodes, 8, batch_size=1)
    assert agent.training
    together = run_episodes(agent.eval(), houses, features, words, episodes, 8, batch_size=30)
    assert [one.path for one in alone] == [other.path for other in together]


def test_feedback_teacher_walks_the_shortest_way_whatever_the_policy_says(world, agent):
    houses, features, episodes, words = world
    found = run_episodes(agent, houses, features, words, episodes, feedback="teacher")
    best = run_episodes(ShortestAgent(houses), houses, features, None, episodes)
    assert [one.path for one in found] == [other.path for other in best]
    assert [len(one.path) for one in best] == [len(episode.path) for episode in episodes]


def test_sampling_follows_its_generator(world, agent):
    houses, features, episodes, words = world
    def sample(seed):
        return [one.actions for one in run_episodes(agent, houses, features, words, episodes, 6, feedback="sample",
                                                    generator=torch.Generator().manual_seed(seed))]
    assert sample(1) == sample(1) != sample(2)
    with pytest.raises(KeyError, match="argmax, sample, teacher"):
        run_episodes(agent, houses, features, words, episodes, feedback="student")


def test_trajectories_come_back_from_their_file(world, agent, tmp_path):
    houses, features, episodes, words = world
    found = run_episodes(agent, houses, features, words, episodes, 5)
    loaded = load_trajectories(save_trajectories(tmp_path / "samples" / "trajectories-val.json.gz", found))
    for one, other in zip(found, loaded, strict=True):
        assert one[:5] == other[:5] and one.candidates == other.candidates and one.words == other.words
        for name in ("scores", "word_attention", "view_attention"):
            for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
                np.testing.assert_allclose(a, b, atol=5.1e-5)
    with pytest.raises(FileNotFoundError, match="trajectories were expected at"):
        load_trajectories(tmp_path / "none.json.gz")


def test_long_instructions_and_unknown_places_are_named(world, agent):
    houses, features, episodes, words = world
    long = episodes[0]._replace(instruction="go to the kitchen " * 40)
    with pytest.raises(ValueError, match="tokens with CLS and SEP, but the model reads 80"):
        run_episodes(agent, houses, features, words, [long])
    assert len(run_episodes(agent, houses, features, words, [long], 4, cut="start")[0].words) == 80
    with pytest.raises(KeyError, match="has no viewpoint 'nowhere'"):
        run_episodes(agent, houses, features, words, [Episode("1", "toy7", 0.0, 0.0, ("nowhere",), "go", (), {})])
    with pytest.raises(KeyError, match="has no viewpoint 'nowhere'"):
        run_episodes(agent, houses, features, words, [episodes[0]._replace(goals=("nowhere",), path=episodes[0].path[:1])],
                     feedback="teacher")
