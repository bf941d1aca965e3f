"""Procedural houses: plausible, solvable by who reads landmarks, hard for who does not, the same for the same seed."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmlab.prevalent.house import House
from dgmlab.prevalent.toy_house import COLOURS, FURNITURE, NOUNS, _in_sight, _sightings

seeds = st.integers(0, 2**32 - 1)
plans = st.fixed_dictionaries({"n_floors": st.integers(1, 3), "n_rooms": st.integers(2, 7)})


def views_by_name(house, i):
    return {thing.name: thing.views for thing in house.objects[i]}


@settings(max_examples=20, deadline=None)
@given(seeds, plans)
def test_houses_are_connected_and_their_edges_plausible(seed, plan):
    house = House.toy(seed, **plan)
    assert np.isfinite(house.distance).all() and house.included.all() and len(set(house.viewpoints)) == len(house)
    length = np.linalg.norm(house.position[house.edges[:, 0]] - house.position[house.edges[:, 1]], axis=1)
    assert length.min() >= 1.5 and length.max() <= 4.0
    assert house.candidates.count.sum() == 2 * len(house.edges)
    assert sorted(set(house.floor)) == list(range(plan["n_floors"]))


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_by_default_a_house_has_thirty_to_forty_panoramas_and_eleven_rooms(seed):
    house = House.toy(seed)
    assert 29 <= len(house) <= 41 and house.scan == f"toy{seed}"
    assert len(set(house.rooms) & set(FURNITURE)) == 10 and {"hallway", "stairs"} < set(house.rooms)


@settings(max_examples=20, deadline=None)
@given(seeds, plans)
def test_panoramas_stand_in_their_rooms_and_rooms_do_not_overlap(seed, plan):
    house = House.toy(seed, **plan)
    for room, floor, (x, y, _) in zip(house.rooms, house.floor, house.position, strict=True):
        around = [box for box in house.floor_plan if box.floor == floor and box.x0 < x < box.x1 and box.y0 < y < box.y1]
        assert [box.name for box in around] == [room]
    for i, a in enumerate(house.floor_plan):
        for b in house.floor_plan[i + 1:]:
            apart = min(a.x1, b.x1) - max(a.x0, b.x0) < 1e-9 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1e-9
            assert apart or a.floor != b.floor, (a, b)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_the_same_seed_gives_the_same_house_and_another_seed_another(seed):
    house, again, other = House.toy(seed), House.toy(seed), House.toy(seed + 1)
    assert np.array_equal(house.position, again.position) and np.array_equal(house.unobstructed, again.unobstructed)
    assert (house.objects, house.rooms, house.floor_plan) == (again.objects, again.rooms, again.floor_plan)
    assert house.objects != other.objects and house.floor_plan != other.floor_plan


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_landmarks_are_named_once_and_views_are_in_range(seed):
    house = House.toy(seed)
    names = {thing.name for things in house.objects for thing in things}
    landmarks = {name for name in names if name.split()[0] in COLOURS}
    assert len(landmarks) == len(house) - 1  # one beside each panorama but the landing
    assert all(name.split()[1] in NOUNS for name in landmarks)
    assert names - landmarks <= {"stairs up", "stairs down", "hallway door"} | set(FURNITURE.values()) | {
        f"{room} door" for room in FURNITURE}
    views = [view for things in house.objects for thing in things for view in thing.views]
    assert 0 <= min(views) and max(views) <= 35 and all(thing.views for things in house.objects for thing in things)


def test_who_reads_what_stands_in_a_view_can_tell_the_candidates_apart():
    told, n = 0, 0
    for seed in np.random.default_rng().integers(2**32, size=20):
        house = House.toy(int(seed))
        table = house.candidates
        for i in range(len(house)):
            seen = [{name for name, views in views_by_name(house, i).items() if view in views}
                    for view in table.view[i, :table.count[i]]]
            told += sum(bool(names.difference(*seen[:k], *seen[k + 1:])) for k, names in enumerate(seen))
            n += len(seen)
    assert told / n > 0.9  # 0.96 when this was written


def test_a_random_walk_mostly_fails():
    rng = np.random.default_rng()
    successes = []
    for seed in rng.integers(2**32, size=20):
        house = House.toy(int(seed))
        table = house.candidates
        for start, goal in rng.integers(len(house), size=(40, 2)):
            if house.distance[start, goal] >= 5:
                here = start
                for _ in range(rng.integers(4, 7)):
                    here = table.index[here, rng.integers(table.count[here])]
                successes.append(house.distance[here, goal] < 3)
    assert np.mean(successes) < 0.2  # 0.06 when this was written


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_doors_name_the_room_behind_them_and_stairs_the_way(seed):
    house = House.toy(seed)
    table = house.candidates
    for a, b in np.concatenate([house.edges, house.edges[:, ::-1]]).tolist():
        here, there, names = house.rooms[a], house.rooms[b], views_by_name(house, a)
        if here == "hallway" and there in FURNITURE:
            view = table.view[a, table.index[a].tolist().index(b)]
            assert view in names[f"{there} door"] and f"{here} door" not in names
        if here == "hallway" and there == "stairs":
            up = house.position[b, 2] > house.position[a, 2]
            view = table.view[a, table.index[a].tolist().index(b)]
            assert view // 12 == (2 if up else 0) and view in names["stairs up" if up else "stairs down"]


def test_views_of_things_worked_out_by_hand():
    def rise(flat, degrees):
        return flat * math.tan(math.radians(degrees))

    way = np.array([[0, 2, 0], [3, 0, rise(3, 40)], [1, 2, rise(5**0.5, -20)], [-0.1, -1, -5]])  # the last too far below
    assert _sightings(way, ["a", "b", "c", "d"]) == (("a", (12,)), ("b", (27,)), ("c", (0, 1, 12, 13)))


def test_walls_hide_and_doors_do_not():
    walls = np.array([[0.0, 0, 1, 0], [2, 0, 3, 0]])  # a wall along x with a gap from 1 to 2
    a, b = np.array([[0.2, -1.0], [1.5, -1]]), np.array([[0.2, 1.0], [1.5, 1], [2.9, 1]])
    assert _in_sight(a, b, walls).tolist() == [[False, False, True], [False, True, False]]


def test_impossible_plans_are_refused():
    for plan in ({"n_floors": 0}, {"n_rooms": 1}):
        with pytest.raises(ValueError, match="at least 1 floor and 2 rooms a floor, found"):
            House.toy(0, **plan)
