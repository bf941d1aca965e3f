"""Scripted policies and the teacher, on a house worked out by hand, toy houses, and R2R."""

import numpy as np
import pytest
import torch

from dgmlab.data.registry import data_home
from dgmlab.prevalent.episodes import Episode
from dgmlab.prevalent.evaluate import evaluate
from dgmlab.prevalent.features import open_features
from dgmlab.prevalent.house import House
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.ndh import load_ndh
from dgmlab.prevalent.policies import RandomAgent, ShortestAgent, StopAgent, goal_rows, select, teacher_actions
from dgmlab.prevalent.rollout import run_episodes
from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.toy_tasks import toy_episodes


@pytest.fixture
def ring():
    """s, u, g two metres apart to the north; p and q a way round from s to g; z that no edge leads to."""
    places = {"s": (0, 0), "u": (0, 2), "g": (0, 4), "p": (3, 1), "q": (3, 3), "z": (9, 9)}
    position = np.array([(x, y, 1.5) for x, y in places.values()], dtype=float)
    joined = np.zeros((6, 6), dtype=bool)
    for pair in ("su", "ug", "sp", "pq", "qg"):
        a, b = ("sugpqz".index(letter) for letter in pair)
        joined[a, b] = joined[b, a] = True
    return Houses([House("ring", tuple("sugpqz"), position, np.ones(6, dtype=bool), joined)])


def episode(path, goals=None, name="0"):
    return Episode(name, "ring", 0.0, 0.0, tuple(path), "", tuple(path[-1:] if goals is None else goals), {})


def chosen(houses, row, action):
    """Viewpoint that an action leads to."""
    return "STOP" if action == 0 else houses.name(houses.candidates.index[row, action - 1])[1]


def test_the_teacher_takes_the_shortest_way_and_not_the_annotated_one(ring):
    goals = goal_rows(ring, [episode("spqg")] * 5)
    rows = np.array([ring.row("ring", viewpoint) for viewpoint in "supqg"])
    actions = teacher_actions(ring, rows, goals)
    assert [chosen(ring, row, action) for row, action in zip(rows, actions, strict=True)] == ["u", "g", "q", "g", "STOP"]


def test_the_teacher_goes_to_the_nearest_goal_and_stops_where_there_is_no_way(ring):
    goals = goal_rows(ring, [episode("spqg", "pg"), episode("su", "gu"), episode("sz")])
    assert goals.tolist() == [[3, 2], [2, 1], [5, -1]]
    actions = teacher_actions(ring, np.zeros(3, int), goals)
    assert [chosen(ring, 0, action) for action in actions] == ["p" if ring.distance(0, 3) < 4 else "u", "u", "STOP"]


def test_a_path_that_ends_elsewhere_than_at_the_goal_is_followed_to_its_own_end(ring):
    assert goal_rows(ring, [episode("su", "g")]).tolist() == [[1]]
    assert goal_rows(ring, [episode("s", "g")]).tolist() == [[2]]  # only the start is known of the path
    with pytest.raises(ValueError, match="episode '0' hides its goal"):
        goal_rows(ring, [episode("s", ())])


def test_memories_keep_repeat_and_reorder_walkers():
    policy = RandomAgent()
    memory = policy.start(torch.zeros(3, 0), torch.zeros(3, 0, dtype=torch.bool))._replace(moves=torch.tensor([5, 6, 7]))
    assert select(memory, np.array([2, 0, 0])).moves.tolist() == [7, 5, 5]


def test_the_random_agent_goes_straight_on_and_stops_after_its_moves():
    houses = Houses.toy([3])
    episodes = toy_episodes(houses, 60, 0)
    features = open_features("toy", houses)
    generator = torch.Generator().manual_seed(torch.seed() % 2**31)
    first = set()
    for trajectory in run_episodes(RandomAgent(4), houses, features, None, episodes, feedback="sample", generator=generator):
        assert len(trajectory.path) == 5 and trajectory.actions[-1] == 0 and 0 not in trajectory.actions[:-1]
        np.testing.assert_allclose(trajectory.scores[0][1:], 1 / len(trajectory.candidates[0]), rtol=1e-6)
        first.add(trajectory.actions[0])
        for viewpoint, view, action in zip(trajectory.path[1:-1], trajectory.views[1:], trajectory.actions[1:], strict=False):
            row = houses.row("toy3", viewpoint)
            turn = houses.candidates.heading[row, : houses.candidates.count[row]] - view % 12 * np.pi / 6
            assert np.cos(turn)[action - 1] >= np.cos(turn).max() - 1e-6
    assert len(first) > 2


def test_stopping_at_once_leaves_everybody_where_they_are():
    houses = Houses.toy([4])
    episodes = toy_episodes(houses, 20, 1)
    found = run_episodes(StopAgent(), houses, open_features("none", houses), None, episodes)
    assert all(trajectory.path == list(episode.path[:1]) for trajectory, episode in zip(found, episodes, strict=True))


def test_the_shortest_agent_is_perfect_in_toy_houses():
    houses = Houses.toy([5, 6])
    episodes = toy_episodes(houses, 80, 2)
    summary = evaluate(run_episodes(ShortestAgent(houses), houses, open_features("none", houses), None, episodes), episodes,
                       houses).summary
    assert summary["success_rate"].mean == summary["spl"].mean == 1 and summary["nav_error"].mean == 0
    with pytest.raises(ValueError, match="needs the episodes"):
        ShortestAgent(houses).start(torch.zeros(1, 0), torch.zeros(1, 0, dtype=torch.bool))


there = (data_home() / "matterport" / "R2R").is_dir()
needs_matterport = pytest.mark.skipif(not there, reason="needs matterport/ in DGMLAB_DATA")


@needs_matterport
@pytest.mark.parametrize(("split", "metres"), [("val_seen", (8.29, 7.63, 9.52)), ("val_unseen", (8.36, 7.99, 9.58))])
def test_on_cvdn_the_shortest_agent_makes_the_published_upper_bounds(split, metres):
    episodes = {kind: load_ndh(split, kind) for kind in ("oracle", "navigator", "mixed")}
    houses = Houses.load(sorted({episode.scan for episode in episodes["mixed"]}))
    features = open_features("none", houses)
    for (_, some), expected in zip(episodes.items(), metres, strict=True):
        found = run_episodes(ShortestAgent(houses), houses, features, None, some, batch_size=512)
        assert abs(evaluate(found, some, houses, n_draws=1).summary["goal_progress"].mean - expected) < 0.005


@needs_matterport
def test_on_r2r_the_shortest_agent_is_perfect_and_the_random_one_is_as_published():
    episodes = load_r2r("val_unseen")
    houses = Houses.load(sorted({episode.scan for episode in episodes}))
    features = open_features("none", houses)

    def score(policy, feedback, n=None):
        some = episodes[:n]
        return evaluate(run_episodes(policy, houses, features, None, some, feedback=feedback, batch_size=512,
                                     generator=torch.Generator().manual_seed(0)), some, houses, n_draws=10).summary

    best = score(ShortestAgent(houses), "argmax")
    assert best["success_rate"].mean == best["spl"].mean == 1
    assert abs(score(StopAgent(), "argmax")["nav_error"].mean - 9.48) < 0.005
    guess = score(RandomAgent(), "sample")  # Anderson et al. 2018, table 2: 16.3 % and 9.23 m in the low-level action space
    assert abs(guess["success_rate"].mean - 0.163) < 0.03 and abs(guess["nav_error"].mean - 9.23) < 0.4
