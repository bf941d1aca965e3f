"""Beam search against all sequences there are, and re-ranking by hand."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch

from dgmlab.prevalent.agent import build_agent
from dgmlab.prevalent.beam import beam_search, rank, search
from dgmlab.prevalent.features import open_features
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.policies import Step
from dgmlab.prevalent.rollout import run_episodes, start_walk
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.words import Words


@pytest.fixture(scope="module")
def world():
    """(houses, features, episodes, words, agent)"""
    houses = Houses.toy([9], n_floors=1, n_rooms=3)
    episodes = toy_episodes(houses, 8, 0, moves=(2, 4))
    features, words = open_features("toy", houses), Words.build([episode.instruction for episode in episodes], 1)
    torch.manual_seed(0)
    agent = build_agent("follower", "tiny", len(words), features.size + 128).eval()
    with torch.no_grad():  # a new agent hardly prefers anything
        agent.decoder.choose.query.weight.mul_(20)
    return houses, features, episodes, words, agent


class Moves(NamedTuple):
    moves: torch.Tensor


class ByTable:
    """A policy whose logits depend on the panorama and on how often the walker has moved."""

    def __init__(self, houses, seed):
        shape = (6, len(houses), houses.candidates.index.shape[1] + 1)
        self.logits = 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def start(self, n):
        return Moves(torch.zeros(n, dtype=torch.long))

    def step(self, memory, observation):
        logits = self.logits[memory.moves, observation.row].masked_fill(~observation.mask, -torch.inf)
        return Step(logits, Moves(memory.moves + 1))


class Bare(NamedTuple):
    row: torch.Tensor
    mask: torch.Tensor


def look(walk):
    return Bare(torch.from_numpy(walk.row), torch.from_numpy(walk.mask))


def every_sequence(houses, policy, row, n_steps):
    """All ways from a row: list of (log p, rows), stopped or out of steps."""
    done, going = [], [(0.0, [row])]
    for t in range(n_steps):
        following = []
        for log_p, rows in going:
            n = houses.candidates.count[rows[-1]]
            ahead = torch.log_softmax(policy.logits[t, rows[-1], : n + 1].double(), 0)
            done.append((log_p + ahead[0].item(), rows))
            following += [(log_p + ahead[i + 1].item(), [*rows, int(houses.candidates.index[rows[-1], i])]) for i in range(n)]
        going = following
    return sorted(done + going, key=lambda item: -item[0])


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_what_trying_everything_finds(world, seed):
    houses, _, episodes, _, _ = world
    policy, walk = ByTable(houses, seed), start_walk(houses, episodes)
    beams = search(policy, policy.start(len(episodes)), walk, look, beam_size=400, max_steps=3)
    for i, row in enumerate(walk.row):
        expected = every_sequence(houses, policy, int(row), 3)
        n = len(expected)
        assert n < 400 and np.isfinite(beams.log_p[i]).sum() == n
        np.testing.assert_allclose(beams.log_p[i, :n], [log_p for log_p, _ in expected], atol=1e-5)
        assert beams.paths[i][0] == expected[0][1]
        assert np.exp(beams.log_p[i, :n]).sum() == pytest.approx(1, abs=1e-5)


def test_a_beam_of_one_is_greedy_and_a_wider_one_is_never_less_likely(world):
    houses, features, episodes, words, agent = world
    greedy = run_episodes(agent, houses, features, words, episodes, 6)
    one = beam_search(agent, houses, features, words, episodes, beam_size=1, max_steps=6, batch_size=3)
    assert [a.path for a in greedy] == [b.path for b in one] and [a.actions for a in greedy] == [b.actions for b in one]
    wide = beam_search(agent, houses, features, words, episodes, beam_size=40, max_steps=6)

    def log_p(trajectory):
        return sum(np.log(scores[action]) for scores, action in zip(trajectory.scores, trajectory.actions, strict=True))

    assert all(log_p(b) >= log_p(a) - 1e-4 for a, b in zip(greedy, wide, strict=True))
    assert all(len(b.word_attention) == len(b.actions) and b.words for b in wide)


def test_the_speaker_decides_by_its_weight(world):
    log_p, scores = np.array([[-1.0, -2.0, -np.inf]]), np.array([[-30.0, -10.0, 0.0]])
    assert rank(log_p).tolist() == rank(log_p, scores, 0.0).tolist() == [0]
    assert rank(log_p, scores, 0.5).tolist() == rank(log_p, scores, 1.0).tolist() == [1]  # never a beam that does not exist
    assert rank(log_p, scores, 0.04).tolist() == [0]  # 0.04 x 20 < 0.96 x 1
    houses, features, episodes, words, agent = world
    asked = []

    def score(paths, instructions, headings, wish):
        asked.extend(zip(instructions, headings, strict=True))
        return torch.tensor([float(len(path) == wish) for path in paths])

    for wish in (1, 3):
        found = beam_search(agent, houses, features, words, episodes, 30, 4, 16, partial(score, wish=wish), 1.0)
        assert {len(trajectory.path) for trajectory in found} == {wish}
    assert {name for name, _ in asked} == {episode.instruction for episode in episodes}


def test_what_makes_no_search_is_named(world):
    houses, features, episodes, words, agent = world
    with pytest.raises(ValueError, match="beam_size is 0; expected at least 1"):
        beam_search(agent, houses, features, words, episodes, beam_size=0)
    with pytest.raises(ValueError, match=r"speaker_weight is 2; expected 0 \(policy alone\) to 1"):
        beam_search(agent, houses, features, words, episodes, speaker_weight=2)
