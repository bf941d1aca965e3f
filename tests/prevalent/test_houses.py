"""Houses: rows of several houses, vectorised distances, the cache and what may go wrong with it."""

import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmlab.data.registry import data_home
from dgmlab.prevalent.candidates import Candidates
from dgmlab.prevalent.house import House
from dgmlab.prevalent.houses import Houses
from dgmlab.run import home

CONNECTIVITY = data_home() / "matterport" / "connectivity"
needs_connectivity = pytest.mark.skipif(not CONNECTIVITY.is_dir(), reason="needs matterport/connectivity in DGMLAB_DATA")


@pytest.fixture
def folder(tmp_path, monkeypatch, cottage, write_house):
    """A folder of two connectivity files, toy1 and cottage, and a home folder without a cache."""
    monkeypatch.setenv("DGMLAB_HOME", str(tmp_path / "home"))
    write_house(tmp_path, House.toy(1))
    write_house(tmp_path, cottage)
    return tmp_path


def assert_same(one, other):
    assert one.scans == other.scans and one.offset == other.offset
    for name in Candidates._fields:
        assert np.array_equal(getattr(one.candidates, name), getattr(other.candidates, name)), name
    for a, b in zip(one.houses.values(), other.houses.values(), strict=True):
        assert a.viewpoints == b.viewpoints
        for name in ("position", "included", "unobstructed", "floor", "edges", "distance", "next_hop"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
            assert getattr(a, name).dtype == getattr(b, name).dtype, name


def forbid_reading(monkeypatch):
    def load(*_):
        raise AssertionError("a connectivity file was read")
    monkeypatch.setattr(House, "load", load)


# the table


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=4, unique=True))
def test_rows_say_the_same_as_the_houses(seeds):
    houses = Houses.toy(seeds)
    rng = np.random.default_rng(seeds)
    assert len(houses) == sum(map(len, houses.houses.values())) == len(houses.included)
    for scan, house in houses.houses.items():
        first = houses.offset[scan]
        a, b = rng.integers(len(house), size=(2, 3, 5))
        assert np.array_equal(houses.distance(first + a, first + b), house.distance[a, b])
        assert np.array_equal(houses.next_row(first + a, first + b), first + house.next_hop[a, b])
        one, other = first + a[0, 0], first + b[0, 0]
        names = [houses.name(row) for row in houses.shortest_path(one, other)]
        assert names == [(scan, name) for name in house.shortest_path(house.viewpoints[a[0, 0]], house.viewpoints[b[0, 0]])]
        assert houses.row(scan, house.viewpoints[b[0, 0]]) == other
        own = house.candidates
        width = own.index.shape[1]
        rows = slice(first, first + len(house))
        assert np.array_equal(houses.candidates.index[rows, :width], np.where(own.index < 0, -1, own.index + first))
        assert (houses.candidates.index[rows, width:] == -1).all()
        for name in Candidates._fields[1:7]:
            assert np.array_equal(getattr(houses.candidates, name)[rows, :width], getattr(own, name)), name


def test_an_excluded_panorama_keeps_its_row_and_has_no_path(cottage):
    houses = Houses([House.toy(0), cottage])
    row = houses.row("cottage", "d")
    assert not houses.included[row] and houses.candidates.count[row] == 0
    assert np.isinf(houses.distance(row, row - 1)) and houses.next_row(row, row - 1) == -1
    with pytest.raises(ValueError, match=r"no path from \('cottage', 'a'\) to \('cottage', 'd'\)"):
        houses.shortest_path(row - 3, row)


def test_wrong_rows_and_names_are_told_what_there_is():
    houses = Houses.toy(range(7), n_floors=1, n_rooms=2)
    with pytest.raises(KeyError, match=r"no house 'x' in this table of 7: toy0, toy1, toy2, toy3, toy4, \.\.\."):
        houses.row("x", "y")
    with pytest.raises(KeyError, match="house toy3 has no viewpoint 'y'"):
        houses.row("toy3", "y")
    with pytest.raises(IndexError, match="row -1 is not in this table"):
        houses.name(-1)
    with pytest.raises(ValueError, match="lies in two houses"):
        houses.distance([0, 0], [1, len(houses) - 1])
    with pytest.raises(ValueError, match="found 2 with 1 names"):
        Houses.toy([3, 3])
    with pytest.raises(ValueError, match="one or more houses"):
        Houses([])


# the cache


def test_a_second_load_reads_the_cache_and_gives_the_same(folder, monkeypatch):
    scans = ["toy1", "cottage"]
    first = Houses.load(scans, folder)
    forbid_reading(monkeypatch)
    assert_same(Houses.load(scans, folder), first)
    assert [path.suffix for path in (home() / "cache").iterdir()] == [".npz"]
    with pytest.raises(AssertionError, match="was read"):  # another order is another table
        Houses.load(scans[::-1], folder)


def test_a_changed_file_is_read_again(folder, cottage, write_house):
    before = Houses.load(["cottage"], folder)
    path = write_house(folder, cottage, lambda rows: rows[4].update(included=False))
    os.utime(path, ns=(0, 0))
    after = Houses.load(["cottage"], folder)
    assert before.included.sum() == 4 and after.included.sum() == 3


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"x" * 100,
                                    lambda whole: whole.replace(b"candidates_slot", b"candidates_slat")])
def test_a_damaged_cache_is_made_again(folder, damage):
    first = Houses.load(["toy1"], folder)
    path, = (home() / "cache").iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert_same(Houses.load(["toy1"], folder), first)
    assert path.stat().st_size == len(whole)


def test_no_cache_can_be_written_and_all_is_well(folder):
    home().mkdir()
    (home() / "cache").write_text("a file where the folder should be")
    assert Houses.load(["cottage"], folder).scans == ["cottage"]


def test_a_full_disk_leaves_no_half_written_cache(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "replace", full)
    assert Houses.load(["cottage"], folder).scans == ["cottage"]
    assert list((home() / "cache").iterdir()) == []


def test_a_missing_house_is_named_though_others_are_cached(folder):
    Houses.load(["toy1"], folder)
    with pytest.raises(KeyError, match="no house 'toy2' in .*; choose one of 2: toy1, cottage"):
        Houses.load(["toy1", "toy2"], folder)


@needs_connectivity
def test_ninety_houses_load_in_three_seconds_and_from_the_cache_in_one(monkeypatch):
    scans = (CONNECTIVITY / "scans.txt").read_text().split()
    start = time.process_time()
    houses = Houses.load(scans)
    read = time.process_time()
    forbid_reading(monkeypatch)
    again = Houses.load(scans)
    assert read - start < 3 and time.process_time() - read < 1  # 0.8 and 0.05 when this was written
    assert_same(again, houses)


@needs_connectivity
def test_candidates_of_the_ninety_houses():
    houses = Houses.load((CONNECTIVITY / "scans.txt").read_text().split())
    table, real = houses.candidates, houses.candidates.index >= 0
    assert (len(houses), houses.included.sum(), table.count.max()) == (10800, 10567, 13)
    assert round(table.count[houses.included].mean(), 2) == 4.06 and (table.count[~houses.included] == 0).all()
    assert np.bincount(table.view[real] // 12).tolist() == [1128, 40680, 1128]
    found = set(zip(np.nonzero(real)[0].tolist(), table.index[real].tolist(), strict=True))
    edges = {(houses.offset[scan] + a, houses.offset[scan] + b)
             for scan, house in houses.houses.items() for a, b in house.edges.tolist()}
    assert found == edges | {(b, a) for a, b in edges}
