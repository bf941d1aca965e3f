"""The panoramic action space: what a move does, by hand and against the simulator that turns and walks step by step."""

import numpy as np
import pytest

from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.simulator import Simulator
from dgmlab.prevalent.walk import STOP, Walk


@pytest.fixture(scope="module")
def houses():
    return Houses.toy([0, 1])


def drawn(houses, n, rng):
    return Walk(houses, rng.choice(np.flatnonzero(houses.included), n), rng.uniform(-9, 9, n))


def choices(walk, rng, least=0):
    return rng.integers(least, walk.houses.candidates.count[walk.row] + 1)


def test_a_move_is_what_the_simulator_does_by_turns_and_steps(houses):
    rng = np.random.default_rng()
    walk = drawn(houses, 30, rng)
    sim = Simulator(houses, 30)
    sim.reset(walk.row, walk.heading)
    for _ in range(5):
        choice = choices(walk, rng, least=1)
        slot = houses.candidates.slot[walk.row, choice - 1]
        walk.move(choice)
        for _ in range(2):  # the level first, then right turns until the view of the candidate is there
            sim.step(0, 0, walk.view // 12 - sim.view // 12)
        for _ in range(12):
            sim.step(0, (walk.view != sim.view).astype(int), 0)
        sim.step(slot)
        np.testing.assert_array_equal(sim.row, walk.row)
        np.testing.assert_array_equal(sim.view, walk.view)
    np.testing.assert_array_equal(walk.heading, sim.heading)
    np.testing.assert_array_equal(walk.elevation, sim.elevation)


def test_mask_and_trails_by_hand(houses):
    a, b = houses.houses["toy1"].edges[0] + houses.offset["toy1"]
    walk = Walk(houses, [a, b, a], [0.0, 0.3, -0.1], np.array([0.6, -0.6, 0.0]))
    assert walk.view.tolist() == [24, 1, 12] and len(walk) == 3
    candidates = houses.candidates
    assert walk.mask.shape == (3, candidates.index.shape[1] + 1) and walk.mask[:, STOP].all()
    assert walk.mask.sum(1).tolist() == (candidates.count[[a, b, a]] + 1).tolist()
    to_b, to_a = (int(np.flatnonzero(candidates.index[x] == y)[0]) + 1 for x, y in ((a, b), (b, a)))
    walk.move([to_b, to_a, STOP])
    walk.move(np.array([STOP, to_b, -1]))
    walk.move([99, STOP, 99])
    assert walk.trails == [[a, b], [b, a, b], [a]] and walk.ended.all() and walk.row.tolist() == [b, b, a]
    assert walk.view.tolist() == [candidates.view[a, to_b - 1], candidates.view[a, to_b - 1], 12]
    assert all(type(row) is int for trail in walk.trails for row in trail)


def test_a_bad_choice_is_named_and_nobody_moves(houses):
    rng = np.random.default_rng()
    walk = drawn(houses, 10, rng)
    walk.move(np.where(np.arange(10) == 3, STOP, 1))
    before = walk.copy()
    for agent, bad in ((5, int(houses.candidates.count[walk.row[5]]) + 1), (9, -1)):
        choice = choices(walk, rng)
        choice[[3, agent]] = 1000, bad
        _, viewpoint = houses.name(walk.row[agent])
        with pytest.raises(IndexError, match=f"walker {agent} of 10 chose action {bad}, but viewpoint {viewpoint} of house"):
            walk.move(choice)
    for wrong in ([1.0] * 10, [1] * 9, 1):
        with pytest.raises(TypeError, match="expected as 10 whole numbers"):
            walk.move(wrong)
    assert all(np.array_equal(getattr(walk, name), getattr(before, name)) for name in ("row", "view", "ended"))
    assert walk.trails == before.trails
    with pytest.raises(ValueError, match="is no panorama"):
        Walk(houses, [0, len(houses)])
    with pytest.raises(ValueError, match="not finite"):
        Walk(houses, [0, 0], np.nan)


def test_copies_and_beams_go_their_own_way(houses):
    rng = np.random.default_rng()
    walk = drawn(houses, 6, rng)
    walk.move(choices(walk, rng, 1))
    kept, trails = walk.copy(), walk.trails
    beams = walk.take([4, 4, 0])
    assert beams.trails == [trails[4], trails[4], trails[0]] and beams.row.tolist() == walk.row[[4, 4, 0]].tolist()
    beams.move([1, STOP, 1])
    walk.move(choices(walk, rng, 1))
    assert kept.trails == trails and [trail[:2] for trail in walk.trails] == trails
    assert beams.trails[1] == trails[4] and beams.trails[0][:2] == trails[4] and len(beams.trails[0]) == 3
    assert beams.ended.tolist() == [False, True, False] and not walk.ended.any()


def test_some_move_and_some_start_anew(houses):
    rng = np.random.default_rng()
    walk = drawn(houses, 6, rng)
    start = walk.row
    walk.move([STOP, 1], [2, 5])
    assert walk.ended.tolist() == [False, False, True, False, False, False] and (walk.row[:5] == start[:5]).all()
    assert [len(trail) for trail in walk.trails] == [1, 1, 1, 1, 1, 2]
    walk.reset(np.array([2, 5]), start[:2], [0.0, np.pi / 2])
    assert not walk.ended.any() and walk.trails == [[row] for row in walk.row] and walk.view[[2, 5]].tolist() == [12, 15]
