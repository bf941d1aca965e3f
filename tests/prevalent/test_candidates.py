"""Candidates: by hand, against the rule written out as the simulator has it, against recorded tables of real houses."""

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmlab.data.registry import data_home
from dgmlab.prevalent.candidates import candidate_table
from dgmlab.prevalent.house import House

CONNECTIVITY = data_home() / "matterport" / "connectivity"
GOLDEN = data_home().parent / "golden" / "matterport" / "panoramic_candidates_1scan.json.gz"
needs_connectivity = pytest.mark.skipif(not CONNECTIVITY.is_dir(), reason="needs matterport/connectivity in DGMLAB_DATA")


def rows_of(house, i):
    """Candidates of panorama i as in the recorded table: name, view, slot, heading, elevation, distance, angle."""
    table = house.candidates
    return [(house.viewpoints[table.index[i, k]], int(table.view[i, k]), int(table.slot[i, k]),
             *(float(getattr(table, name)[i, k]) for name in ("heading", "elevation", "distance", "angle")))
            for k in range(table.count[i])]


def assert_rows(found, expected, where):
    assert [row[:3] for row in found] == [tuple(row[:3]) for row in expected], where
    assert np.allclose([row[3:] for row in found], [row[3:] for row in expected], rtol=0, atol=1e-6), where


def seen_in(house, i, heading, elevation):
    """(angular distance, panorama, heading, elevation, distance) of what a camera sees, nearest to its middle first."""
    single = np.float32
    cx, cy = single(math.cos(math.pi / 2 - heading)), single(math.sin(math.pi / 2 - heading))
    found = []
    for j in range(len(house)):
        if j == i or not (house.unobstructed[i, j] and house.included[i] and house.included[j]):
            continue
        x, y, z = house.position[j].astype(single) - house.position[i].astype(single)
        flat = np.sqrt(x * x + y * y)
        if (x * cx + y * cy) / flat >= math.cos(math.radians(40)):
            turn = float(np.arctan2(x * cy - y * cx, x * cx + y * cy))
            rise = math.atan2(z, flat)
            found.append((math.hypot(turn, rise - elevation), j, heading + turn, rise, float(np.sqrt(x * x + y * y + z * z))))
    return sorted(found)


def swept(house, i):
    """The rule of R2R-EnvDrop, one view after the other."""
    best = {}
    for view in range(36):
        for slot, (angle, j, heading, rise, far) in enumerate(seen_in(house, i, math.radians(view % 12 * 30),
                                                                      math.radians((view // 12 - 1) * 30)), start=1):
            if j not in best or angle < best[j][-1]:
                best[j] = (house.viewpoints[j], view, slot, heading, rise, far, angle)
    return list(best.values())


def test_candidates_of_the_cottage(cottage):
    degrees = np.deg2rad
    assert_rows(rows_of(cottage, 0), [("b", 12, 1, 0, 0, 2, 0), ("c", 15, 1, math.pi / 2, 0, 3, 0)], "a")
    east = math.atan2(3, -2)  # 123.7 degrees: 3.7 from view 16
    assert_rows(rows_of(cottage, 1), [("e", 24, 1, 0, math.atan2(3, 2), 13**0.5, math.atan2(3, 2) - degrees(30)),
                                    ("c", 16, 1, east, 0, 13**0.5, east - degrees(120)), ("a", 18, 1, math.pi, 0, 2, 0)], "b")
    assert rows_of(cottage, 3) == [] and cottage.candidates.count.tolist() == [2, 3, 2, 0, 1]


def test_a_neighbour_straight_above_is_in_no_view():
    table = candidate_table(np.array([[0, 0, 0], [0, 0, 3], [0, 2, 0]]), np.array([[0, 1], [0, 2]]))
    assert table.index.tolist() == [[2], [-1], [0]] and table.count.tolist() == [1, 0, 1]


def test_no_edges_no_candidates():
    table = candidate_table(np.zeros((3, 3)), np.zeros((0, 2), dtype=np.int64))
    assert table.index.shape == (3, 0) and table.count.tolist() == [0, 0, 0]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_graphs_agree_with_the_rule_written_out(seed):
    rng = np.random.default_rng(seed)
    n = 9
    joined = rng.random((n, n)) < 0.6
    joined = (joined | joined.T) & ~np.eye(n, dtype=bool)
    house = House("random", tuple("abcdefghi"), rng.normal(0, (3, 3, 1), (n, 3)), rng.random(n) < 0.9, joined)
    for i in range(n):
        assert_rows(rows_of(house, i), swept(house, i), (seed, i))


def test_padding_and_counts():
    table = House.toy(3).candidates
    padded = np.arange(table.index.shape[1]) >= table.count[:, None]
    assert padded.any() and (table.count == (table.index >= 0).sum(1)).all() and table.count.max() == table.index.shape[1]
    fields = {"index": np.int32, "view": np.int8, "slot": np.int8, **dict.fromkeys(table._fields[3:7], np.float64)}
    for name, dtype in fields.items():
        values = getattr(table, name)
        assert values.dtype == dtype and (values[padded] == (0 if dtype == np.float64 else -1)).all(), name


@needs_connectivity
@pytest.mark.skipif(not GOLDEN.is_file(), reason="needs golden/matterport beside DGMLAB_DATA")
def test_the_recorded_table_is_met_in_every_field():
    with gzip.open(GOLDEN) as file:
        recorded = json.load(file)["candidates"]
    houses = {scan: House.load(scan) for scan in {key.split("_")[0] for key in recorded}}
    assert sum(map(len, recorded.values())) == sum(house.candidates.count.sum() for house in houses.values()) == 166
    for key, expected in recorded.items():
        scan, viewpoint = key.split("_")
        assert_rows(rows_of(houses[scan], houses[scan].index(viewpoint)), expected, key)


def test_a_real_house_agrees_with_the_rule_written_out(random_scan):
    house = House.load(random_scan)
    for i in np.random.default_rng().permutation(len(house))[:40]:
        assert_rows(rows_of(house, i), swept(house, i), (house.scan, i))
