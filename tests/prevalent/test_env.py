"""Navigation as Gymnasium environments: its checker, rewards by hand, and the batch against one agent at a time."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dgmlab.prevalent import env as environments
from dgmlab.prevalent.env import FORWARD, LEFT, RIGHT, UP, NavEnv, NavVectorEnv, toy_task
from dgmlab.prevalent.episodes import Episode
from dgmlab.prevalent.features import observe
from dgmlab.prevalent.simulator import Simulator
from dgmlab.prevalent.walk import STOP, Walk

NAMES = ("dgmlab/Panoramic-v0", "dgmlab/LowLevel-v0")
KINDS = ("panoramic", "low_level")


@pytest.mark.parametrize("name", NAMES)
def test_the_checker_of_gymnasium_has_nothing_to_say(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name)
        for _ in range(3):
            check_env(env.unwrapped)
        batch = gymnasium.make_vec(name, num_envs=3)
    assert isinstance(batch, NavVectorEnv) and batch.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observation, info = batch.reset(seed=0)
    assert observation in batch.observation_space and info["action_mask"].shape == (3, batch.single_action_space.n)


def teacher(env):
    """The action that brings a panoramic agent one panorama nearer to its goal, or STOP there."""
    game = env.game
    row, goal = int(game.agents.row[0]), int(game.goals[game.current[0], 0])
    if row == goal:
        return STOP
    return int(np.flatnonzero(game.houses.candidates.index[row] == game.houses.next_row(row, goal))[0]) + 1


def test_the_shortest_path_earns_one_a_move_and_two_at_the_goal():
    env = NavEnv()
    for seed in range(5):
        env.reset(seed=seed)
        rewards, terminated = [], False
        while not terminated:
            _, reward, terminated, truncated, info = env.step(teacher(env))
            rewards.append(reward)
        assert rewards == [1.0] * (len(env.episode.path) - 1) + [2.0] and info["success"] and info["distance"] == 0
        assert env.trail == list(env.episode.path) and not truncated
    with pytest.raises(RuntimeError, match="Call reset before step"):
        env.step(0)


def test_stopping_far_away_costs_two_and_strictly_less_than_the_threshold_is_near():
    env = NavEnv()
    _, info = env.reset(seed=1)
    for threshold, reward in ((info["distance"], -2.0), (info["distance"] + 1e-9, 2.0)):
        env = NavEnv(threshold=threshold)
        env.reset(options={"instr_id": info["instr_id"]})
        _, got, terminated, truncated, after = env.step(STOP)
        assert (got, terminated, truncated, after["success"]) == (reward, True, False, reward > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_exist_costs_a_step_and_changes_nothing(kind):
    env = NavEnv(kind, max_steps=4)
    for seed in range(20):  # until an action is missing at the start
        before, info = env.reset(seed=seed)
        missing = np.flatnonzero(info["action_mask"] == 0)
        if len(missing):
            break
    assert np.array_equal(before["mask"], info["action_mask"]) and before["mask"].dtype == np.int8
    for step in range(4):
        after, reward, terminated, truncated, _ = env.step(missing[0])
        assert reward == 0 and not terminated and truncated == (step == 3)
        assert all(np.array_equal(before[name], after[name]) for name in before)
    assert len(env.trail) == 1
    env.reset()
    for bad in (env.action_space.n, -1, 1.0):
        with pytest.raises(ValueError, match="is not one of 0.."):
            env.step(bad)


def test_panoramic_observations_are_those_of_a_walk():
    houses, episodes, features = toy_task()
    env = NavEnv(houses=houses, episodes=episodes, features=features)
    observation, info = env.reset(seed=2)
    episode = env.episode
    assert observation["instruction"] == episode.instruction and info["instr_id"] == episode.instr_id
    walk = Walk(houses, [houses.row(episode.scan, episode.path[0])], [episode.heading], [episode.elevation])
    for _ in range(3):
        seen = observe(features, walk)
        for name in ("views", "candidates", "mask", "angle", "view"):
            np.testing.assert_array_equal(observation[name], getattr(seen, name)[0].numpy())
        walk.move([1])
        observation, *_ = env.step(1)


def test_low_level_actions_are_those_of_the_simulator():
    env = NavEnv("low_level")
    rng = np.random.default_rng()
    observation, _ = env.reset(seed=int(rng.integers(100)))
    game, features = env.game, toy_task()[2]
    sim = Simulator(game.houses)
    sim.reset(game.starts[game.current], env.episode.heading)
    moves = {FORWARD: (1, 0, 0), LEFT: (0, -1, 0), RIGHT: (0, 1, 0), UP: (0, 0, 1), UP + 1: (0, 0, -1)}
    for _ in range(40):
        assert observation["mask"].tolist() == [1, sim.neighbours.count[0] > 1, 1, 1, sim.view[0] < 24, sim.view[0] > 11]
        assert observation["view"] == sim.view[0]
        np.testing.assert_array_equal(observation["picture"][:features.size], features.views[sim.row[0], sim.view[0]])
        np.testing.assert_allclose(observation["picture"][features.size:][:4], [0, 1, 0, 1])
        np.testing.assert_allclose(observation["angle"][:4], [np.sin(sim.heading[0]), np.cos(sim.heading[0]),
                                                              np.sin(sim.elevation[0]), np.cos(sim.elevation[0])], atol=1e-6)
        action = rng.choice(np.flatnonzero(observation["mask"])[1:])
        sim.step(*moves[action])
        observation, *_ = env.step(action)
        assert game.agents.row[0] == sim.row[0]


def equal(a, b):
    if isinstance(a, dict):
        return set(a) == set(b) and all(equal(a[name], b[name]) for name in a)
    if isinstance(a, tuple) or (isinstance(a, np.ndarray) and a.dtype == object):
        return len(a) == len(b) and all(map(equal, a, b))
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_is_gymnasiums_own_batch_of_single_agents(kind, mode):
    settings = dict(actions=kind, max_steps=6, reward=lambda before, after, stopped, success: before - after - 0.1)
    ours = NavVectorEnv(5, autoreset_mode=mode, **settings)
    theirs = SyncVectorEnv([lambda: NavEnv(**settings)] * 5, autoreset_mode=mode)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert equal(ours.reset(seed=11), theirs.reset(seed=11))
    ends = np.zeros(2, int)
    for _ in range(40):
        actions = ours.action_space.sample()
        a, b = ours.step(actions), theirs.step(actions)
        assert all(map(equal, a[:4], b[:4]))
        assert equal(a[4], b[4])
        assert a[1].dtype == b[1].dtype and a[2].dtype == b[2].dtype
        ends += [a[2].sum(), a[3].sum()]
    assert (ends > 0).all()  # both ways of ending came about


def test_agents_of_a_batch_can_be_reset_one_by_one():
    episodes = toy_task()[1]
    env = NavVectorEnv(3, autoreset_mode="Disabled")
    with pytest.raises(RuntimeError, match="before reset"):
        env.step([0, 0, 0])
    ids = [episode.instr_id for episode in episodes[:3]]
    _, info = env.reset(options={"instr_id": ids})
    assert info["instr_id"].tolist() == ids
    _, _, terminated, _, _ = env.step([STOP, 1, 1])
    assert terminated.tolist() == [True, False, False]
    with pytest.raises(RuntimeError, match=r"agents \[0\] are over"):
        env.step([1, 1, 1])
    trails = [list(trail) for trail in env.game.trails]
    mask = np.array([True, False, False])
    _, info = env.reset(options={"reset_mask": mask, "instr_id": episodes[7].instr_id})
    assert info["instr_id"][0] == episodes[7].instr_id and info["_instr_id"].tolist() == mask.tolist()
    assert env.game.trails[1:] == trails[1:] and env.game.steps.tolist() == [0, 1, 1]
    env.step([1, 1, 1])
    for bad in ([0, 0], [0, 0, -1], [0, 0, 99], [0.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match="expected as 3 whole numbers"):
            env.step(bad)
    with pytest.raises(ValueError, match="reset_mask was expected"):
        env.reset(options={"reset_mask": [True, False, False]})


def test_seeds_choose_the_episodes():
    env, batch = NavEnv(), NavVectorEnv(4)
    drawn = [[env.reset(seed=seed)[1]["instr_id"], env.reset()[1]["instr_id"]] for seed in range(4)]
    assert len({first for first, _ in drawn}) > 1
    assert np.array_equal([batch.reset(seed=0)[1]["instr_id"], batch.reset()[1]["instr_id"]], np.transpose(drawn))


def test_a_reward_of_ones_own():
    env = NavEnv(reward=lambda before, after, stopped, success: before - after)
    _, info = env.reset(seed=4)
    _, reward, *_, after = env.step(teacher(env))
    assert reward == pytest.approx(info["distance"] - after["distance"]) and reward > 0


def test_episodes_that_cannot_be_played_are_named():
    houses, episodes, _ = toy_task()
    hidden = episodes[0]._replace(instr_id="hidden_0", goals=())
    with pytest.raises(ValueError, match="episode hidden_0 has no goal"):
        NavEnv(houses=houses, episodes=[episodes[1], hidden])
    with pytest.raises(ValueError, match="needs houses and episodes"):
        NavEnv(houses=houses)
    with pytest.raises(KeyError, match="no actions 'fly'"):
        NavEnv("fly")
    with pytest.raises(KeyError, match="no episode 'x'"):
        NavEnv().reset(options={"instr_id": "x"})
    with pytest.raises(KeyError, match="toy99"):
        NavEnv(houses=houses, episodes=[hidden._replace(scan="toy99")])


def test_the_nearest_of_several_goals_counts():
    houses, _, _ = toy_task()
    scan = houses.scans[0]
    house = houses.houses[scan]
    a, b = (house.viewpoints[i] for i in house.edges[0])
    far = house.viewpoints[int(np.where(np.isfinite(house.distance[0]), house.distance[0], 0).argmax())]
    both = Episode("two_0", scan, 0.0, 0.0, (a, b), "", (far, b), {})
    one = both._replace(instr_id="one_0", goals=(b,))
    env = NavEnv(houses=houses, episodes=[one, both])
    distances = [env.reset(options={"instr_id": name})[1]["distance"] for name in ("one_0", "two_0")]
    assert distances[0] == distances[1] == houses.distance(*(houses.row(scan, x) for x in (a, b)))
    observation, _ = env.reset()
    assert observation["views"].shape == (36, 128) and observation in env.observation_space  # directions only, and no words


def test_importing_the_simulator_needs_no_gymnasium():
    import subprocess
    import sys

    code = ("import sys, dgmlab.prevalent.simulator, dgmlab.prevalent.mattersim, dgmlab.prevalent.walk; "
            "print([name for name in ('gymnasium', 'torch', 'h5py') if name in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    assert environments.STOP == STOP == 0
