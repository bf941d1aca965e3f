"""The simulator by hand, and what holds of any batch; test_traces.py holds it against the original."""

import math

import numpy as np
import pytest

from dgmlab.prevalent.house import House
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.simulator import Simulator, nearest_view
from dgmlab.prevalent.visibility import R2R_CAMERA, Camera, bearings, neighbours_at, unpacked, view_table, ways_of


def house_of(position, edges, excluded=()):
    """A house by hand: panoramas 'a', 'b', ... at positions, joined by pairs of letters."""
    n = len(position)
    unobstructed = np.zeros((n, n), bool)
    for a, b in edges:
        a, b = ord(a) - 97, ord(b) - 97
        unobstructed[a, b] = unobstructed[b, a] = True
    included = np.array([chr(97 + i) not in excluded for i in range(n)])
    names = tuple(chr(97 + i) for i in range(n))
    return House("hand", names, np.array(position, float), included, unobstructed, np.zeros(n, int))


CROSS = house_of([(0, 0, 0), (0, 2, 0), (2, 0, 0), (0, -3, 0), (0, 0, 3), (-1, 1, 1)], ["ab", "ac", "ad", "ae", "af"], "f")


def seen(sim, agent=0):
    return [sim.houses.name(row)[1] for row in sim.neighbours.row[agent, : sim.neighbours.count[agent]]]


def test_a_cross_by_hand():
    sim = Simulator(Houses([CROSS]))
    sim.reset(0)
    assert seen(sim) == ["a", "b"] and sim.view == 12  # f is excluded, e stands in no direction
    assert sim.neighbours.distance[0, 1] == 2
    sim.step(heading=[1])
    assert sim.heading[0] == pytest.approx(math.radians(30)) and seen(sim) == ["a", "b"]
    assert sim.neighbours.heading[0, 1] == pytest.approx(-math.radians(30))  # b is now to the left
    sim.step(heading=[0.001], elevation=[9.0])
    assert sim.view == 26 and seen(sim) == ["a", "c"] and sim.neighbours.elevation[0, 1] == pytest.approx(-math.radians(30))
    sim.step(1, heading=-1, elevation=1)
    assert sim.row == 2 and sim.view == 25 and sim.steps == 3 and seen(sim) == ["c"]
    everything = Simulator(Houses([CROSS]), restricted=False)
    everything.reset(0, 0.1)
    assert seen(everything)[:2] == ["a", "b"] and set(seen(everything)) == set("abcde")
    up = seen(everything).index("e")
    assert everything.neighbours.elevation[0, up] == pytest.approx(math.pi / 2) and everything.neighbours.distance[0, up] == 3
    assert seen(everything)[2:] == ["e", "c", "d"]  # a right angle up is one in float64, to the right in float32: a hair more


def test_headings_snap_half_a_step_up_and_elevations_not():
    step = math.pi * 2.0 / 12
    assert nearest_view(np.array([0, 14.9, 15.1, 344.9, 345.1, -14.9, 725.0]) * math.pi / 180, 0.0).tolist() == [
        12, 12, 13, 23, 12, 12, 12]
    assert nearest_view(0.5 * step, 0.0) == 13 and nearest_view(11.5 * step, 0.0) == 12 and nearest_view(-1e-17, 0.0) == 12
    assert nearest_view(0.0, np.array([-1.0, -step / 2, step / 2, np.nextafter(step / 2, 1)])).tolist() == [0, 12, 12, 24]


def test_the_field_of_view_is_linear_in_the_aspect_ratio():
    angles = np.radians([39.9, 40.1])
    house = house_of([(0, 0, 0), *((math.sin(a), math.cos(a), 0) for a in angles)], ["ab", "ac"])
    sim = Simulator(Houses([house]), camera=R2R_CAMERA)
    sim.reset(0)
    assert seen(sim) == ["a", "b"]  # 60 degrees * 4 / 3 / 2 = 40; by the tangent it would be 37.6
    assert R2R_CAMERA.least_cosine == pytest.approx(math.cos(math.radians(40)))
    assert Camera() == (320, 240, 0.8)


def test_order_counts_the_elevation_of_the_camera():
    house = house_of([(0, 0, 0), (0.3, 3, 0), (0.9, 3, 1.8)], ["ab", "ac"])
    sim = Simulator(Houses([house]), 3)
    sim.reset(0, 0.0, [0.0, 0.5, -0.5])
    assert [seen(sim, agent) for agent in range(3)] == [["a", "b", "c"], ["a", "c", "b"], ["a", "b", "c"]]


def test_equals_come_by_index():
    house = house_of([(0, 0, 0), (1, 3, 0.5), (-1, 3, 0.5), (1, 3, 0.5)], ["ad", "ab", "ac"])
    for discretized in (True, False):
        sim = Simulator(Houses([house]), discretized=discretized)
        sim.reset(0)
        assert seen(sim) == ["a", "b", "c", "d"]


def test_limits_hold_the_continuous_camera_only():
    houses = Houses([CROSS])
    free = Simulator(houses, discretized=False, elevation_limits=(-0.2, 0.3))
    free.reset(0, 7.0, 1.0)
    assert free.heading[0] == pytest.approx(7.0 - 2 * math.pi) and free.elevation[0] == 0.3 and free.view == 0
    free.step(0, -1.0, -0.6)
    assert free.heading[0] == pytest.approx(6.0) and free.elevation[0] == -0.2
    snapped = Simulator(houses, elevation_limits=(-0.2, 0.3))
    snapped.reset(0, 0.0, 1.0)
    assert snapped.elevation[0] == pytest.approx(math.pi / 6)


# batches


@pytest.fixture
def walkers():
    """Twenty agents in two toy houses, some steps into their episodes, and a generator."""
    rng = np.random.default_rng()
    sim = Simulator(Houses.toy([0, 1]), 20)
    sim.reset(rng.choice(np.flatnonzero(sim.houses.included), 20), rng.uniform(0, 6, 20))
    for _ in range(3):
        wander(sim, rng)
    return sim, rng


def wander(sim, rng):
    n = sim.batch_size
    sim.step((rng.random(n) * sim.neighbours.count).astype(int), rng.integers(-1, 2, n), rng.integers(-1, 2, n))


def state(sim):
    return [*map(np.array, (sim.row, sim.view, sim.heading, sim.elevation, sim.steps)), *sim.neighbours]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("discretized", [True, False])
def test_a_batch_is_its_agents_one_by_one(discretized):
    rng = np.random.default_rng()
    houses = Houses.toy([0, 1])
    rows, headings = rng.choice(np.flatnonzero(houses.included), 9), rng.uniform(0, 6, 9)
    sim, alone = Simulator(houses, 9, discretized=discretized), [Simulator(houses, 1, discretized=discretized) for _ in rows]
    sim.reset(rows, headings)
    for one, row, heading in zip(alone, rows, headings, strict=True):
        one.reset(row, heading)
    for _ in range(10):
        action = (rng.random(9) * sim.neighbours.count).astype(int), rng.normal(size=9), rng.normal(size=9)
        sim.step(*action)
        for agent, one in enumerate(alone):
            one.step(*(column[agent] for column in action))
        assert same(state(sim), [np.concatenate(column) for column in zip(*map(state, alone), strict=True)])


@pytest.mark.parametrize("agent, index", [(7, 15), (19, -1), (0, 2**40)])
def test_a_bad_index_in_the_middle_of_a_batch_is_named_and_nobody_moves(walkers, agent, index):
    sim, _ = walkers
    before, action = state(sim), np.zeros(20, int)
    action[:] = sim.neighbours.count - 1
    action[agent] = index
    scan, viewpoint = sim.names[agent]
    message = (f"agent {agent} of 20 chose neighbour {index}, but from viewpoint {viewpoint} of house {scan} it sees "
               f"0..{before[-1][agent] - 1} ")
    with pytest.raises(IndexError, match=message):
        sim.step(action, 1, 1)
    assert same(state(sim), before)
    with pytest.raises(TypeError, match="whole numbers, found float64; nobody moved"):
        sim.step(action * 1.0)
    for shapes in ([(3,), (20,)], [(20,), (20, 1)], [(20,), (20, 20)]):
        with pytest.raises(ValueError):
            sim.step(np.zeros(shapes[0], int), np.ones(shapes[1]))
        assert same(state(sim), before)


def test_some_agents_begin_anew_while_the_others_go_on(walkers):
    sim, rng = walkers
    before = state(sim)
    row = int(np.flatnonzero(sim.houses.included)[5])
    sim.reset([row, row], [0.0, 3.2], 0.6, agents=[4, 11])
    assert sim.row[[4, 11]].tolist() == [row, row] and sim.view[[4, 11]].tolist() == [24, 30] and not sim.steps[[4, 11]].any()
    others = np.setdiff1d(np.arange(20), [4, 11])
    assert same([x[others] for x in state(sim)], [x[others] for x in before])
    mask = np.zeros(20, bool)
    mask[3] = True
    sim.reset(row, agents=mask)
    assert sim.steps[3] == 0 and (np.delete(sim.steps, [3, 4, 11]) == 3).all()
    wander(sim, rng)


def test_a_copy_goes_its_own_way_and_kept_arrays_stay(walkers):
    sim, rng = walkers
    before, row, near = state(sim), sim.row, sim.neighbours
    branch = sim.copy()
    wander(branch, rng)
    branch.reset(row[0], agents=[1])
    assert same(state(sim), before) and not same(state(branch), before)
    wander(sim, rng)
    assert same([row, *near], [before[0], *before[5:]])


def test_bad_starts_are_named_and_nobody_is_reset(walkers):
    sim, _ = walkers
    before = state(sim)
    cases = [(10_000, "row 10000 is no panorama of these"), (-1, "row -1 is no panorama"), (float("nan"), "whole numbers")]
    for bad, message in cases:
        rows = np.array([*sim.row[:19].tolist(), bad])
        with pytest.raises((ValueError, TypeError), match=message):
            sim.reset(rows)
    with pytest.raises(ValueError, match="not finite. Nobody was reset"):
        sim.reset(sim.row, np.inf)
    assert same(state(sim), before)
    fresh = Simulator(Houses([CROSS]), 2)
    with pytest.raises(ValueError, match="viewpoint f of house hand is excluded"):
        fresh.reset([0, 5])
    with pytest.raises(RuntimeError, match="Call reset"):
        fresh.step()
    with pytest.raises(RuntimeError, match="before all were"):
        fresh.reset(0, agents=[1])
    cameras = [Camera(0, 240), Camera(vfov=-1), Camera(1.5, 2)]
    for bad in (*(dict(camera=camera) for camera in cameras), dict(elevation_limits=(0.1, 1)), dict(batch_size=0)):
        with pytest.raises(ValueError):
            Simulator(sim.houses, **bad)


def test_continuous_angles_must_be_finite():
    sim = Simulator(Houses([CROSS]), 2, discretized=False)
    sim.reset([0, 1])
    with pytest.raises(ValueError, match="not finite; nobody moved"):
        sim.step([1, 0], [0, np.nan])
    assert sim.row.tolist() == [0, 1] and not sim.steps.any()


# tables


def test_simulators_of_the_same_houses_share_their_tables():
    houses = Houses.toy([0])
    a, b, c = Simulator(houses, 2), Simulator(houses, 5), Simulator(houses, 2, Camera())
    assert a._views is b._views and a._views is not c._views and a._ways is c._ways


def test_the_table_of_views_is_what_a_free_camera_sees_there():
    house = House.toy(int(np.random.default_rng().integers(100)))
    ways = ways_of(house.position, house.edges)
    views = np.arange(36 * len(house))
    for restricted in (True, False):
        table = unpacked(view_table(ways, R2R_CAMERA, restricted))
        heading, elevation = views % 12 * math.pi / 6, (views % 36 // 12 - 1) * math.pi / 6
        free = neighbours_at(ways, views // 36, heading, elevation, R2R_CAMERA, restricted)
        assert np.array_equal(table.count, free.count)
        for ours, theirs in zip(table[:4], free[:4], strict=True):
            width = min(ours.shape[1], theirs.shape[1])
            np.testing.assert_array_equal(ours[:, :width], theirs[:, :width])
            assert ours.dtype == theirs.dtype
    assert table.row.shape[1] == ways.widest + 1
    cosine, turn = bearings(ways, np.arange(len(ways.start)), 0.3)
    np.testing.assert_allclose(cosine, np.cos(turn), atol=1e-6)


def test_a_house_without_edges_can_be_stood_in():
    for discretized in (True, False):
        sim = Simulator(Houses([house_of([(0, 0, 0), (9, 9, 9)], [])]), 2, discretized=discretized)
        sim.reset([0, 1])
        sim.step(0, 1, 1)
        assert sim.neighbours.row[:, 0].tolist() == [0, 1] and sim.neighbours.count.tolist() == [1, 1]
