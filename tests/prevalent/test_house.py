"""House: connectivity files whole and damaged, shortest paths against networkx, floors, a house worked out by hand."""

import math

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmlab.data.registry import data_home
from dgmlab.prevalent.house import House, check_path, floors_by_height

CONNECTIVITY = data_home() / "matterport" / "connectivity"
needs_connectivity = pytest.mark.skipif(not CONNECTIVITY.is_dir(), reason="needs matterport/connectivity in DGMLAB_DATA")


# worked out by hand


def test_edges_of_the_cottage_leave_out_the_excluded_panorama(cottage):
    assert cottage.edges.tolist() == [[0, 1], [0, 2], [1, 2], [1, 4]]


def test_distances_and_paths_of_the_cottage(cottage):
    assert cottage.distance[0, 4] == pytest.approx(2 + math.sqrt(13), abs=1e-12)
    assert cottage.distance[2, 4] == pytest.approx(2 * math.sqrt(13), abs=1e-12)
    assert np.isinf(cottage.distance[0, 3]) and cottage.distance[3, 3] == 0
    assert cottage.shortest_path("a", "e") == ["a", "b", "e"] and cottage.shortest_path("c", "c") == ["c"]
    assert cottage.next_hop[2, 4] == 1 and cottage.next_hop[4, 4] == 4 and cottage.next_hop[0, 3] == -1
    with pytest.raises(ValueError, match="no path from a to d"):
        cottage.shortest_path("a", "d")


def test_the_cottage_has_two_floors(cottage):
    assert cottage.floor.tolist() == [0, 0, 0, 0, 1]


def test_floors_are_where_heights_crowd_and_stairs_join_the_nearest():
    z = np.array([0.1, 0, 0.2, 0, 0.7, 1.3, 1.9, 2.8, 2.9, 3.0, 2.9, 5.6, 5.7, 5.7])
    assert floors_by_height(z, z > -1).tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]
    assert floors_by_height(np.array([1.0]), np.array([False])).tolist() == [0]


def test_check_path_names_the_edge_that_does_not_exist(cottage):
    assert check_path(cottage, ["a", "b", "b", "e"]) is None and check_path(cottage, []) is None
    with pytest.raises(ValueError, match="step 1 of a path in house cottage goes from b to d"):
        check_path(cottage, ["a", "b", "d"])
    with pytest.raises(ValueError, match="step 0 .* from a to d"):  # unobstructed, but d is excluded
        check_path(cottage, ["a", "d"])
    with pytest.raises(KeyError, match="house cottage has no viewpoint 'z'"):
        check_path(cottage, ["z"])


# properties


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_shortest_paths_agree_with_networkx(seed):
    assert_shortest(House.toy(seed, n_floors=1 + seed % 3, n_rooms=3))


def assert_shortest(house):
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(house)))
    for a, b in house.edges.tolist():
        graph.add_edge(a, b, weight=np.linalg.norm(house.position[a] - house.position[b]))
    expected = np.full((len(house), len(house)), np.inf)
    for a, lengths in networkx.all_pairs_dijkstra_path_length(graph):
        expected[a, list(lengths)] = list(lengths.values())
    finite = np.isfinite(expected)
    assert (np.isfinite(house.distance) == finite).all(), house.scan
    assert np.abs(house.distance[finite] - expected[finite]).max() < 1e-12, house.scan
    a, b = np.nonzero(finite & ~np.eye(len(house), dtype=bool))
    hop = house.next_hop[a, b]
    step = np.linalg.norm(house.position[a] - house.position[hop], axis=1)
    assert house._walkable[a, hop].all(), house.scan
    assert np.abs(step + house.distance[hop, b] - house.distance[a, b]).max() < 1e-12, house.scan
    assert (house.next_hop[~finite] == -1).all() and (np.diag(house.next_hop) == np.arange(len(house))).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_what_is_written_is_read(tmp_path_factory, write_house, seed):
    house = House.toy(seed)
    read = House.load(house.scan, write_house(tmp_path_factory.mktemp("scans"), house).parent)
    assert read.viewpoints == house.viewpoints
    for name in ("position", "included", "unobstructed", "edges", "distance", "next_hop"):
        assert np.array_equal(getattr(read, name), getattr(house, name)), name
    assert (read.floor[read.floor != house.floor]).size <= 1  # the landing may be nearer to either


# bad input


def shorten(field):
    def change(rows):
        rows[1][field] = rows[1][field][:-1]
    return change


def one_way(rows):
    rows[1]["unobstructed"][0] = False


def lose(rows):
    del rows[2]["included"]


def repeat(rows):
    rows[1]["image_id"] = rows[0]["image_id"]


def drift(rows):
    rows[4]["pose"][7] = float("nan")


@pytest.mark.parametrize("change, said", [
    (shorten("visible"), r"'visible' of viewpoint b should have 5 entries, found 4"),
    (shorten("unobstructed"), r"'unobstructed' of viewpoint b should have 5 entries, found 4"),
    (shorten("pose"), r"'pose' of viewpoint b should have 16 entries, found 15"),
    (one_way, r"leads from a to b but not back; expected a symmetric graph"),
    (lose, "an entry has no 'included'"),
    (repeat, "5 viewpoints with 4 different names"),
    (drift, "the position .*nan.*, expected finite metres"),
    (lambda rows: rows.clear(), "has 0 viewpoints"),
])
def test_damaged_files_are_named_with_what_is_wrong(tmp_path, cottage, write_house, change, said):
    path = write_house(tmp_path, cottage, change)
    with pytest.raises(ValueError, match=said) as caught:
        House.load("cottage", tmp_path)
    assert str(path) in str(caught.value) and "restore" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[{", "{}", '{"a": 1}', "[1, 2]", "null", "\xff"])
def test_other_files_are_no_houses(tmp_path, text):
    (tmp_path / "x_connectivity.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="x_connectivity.json is not a whole connectivity file"):
        House.load("x", tmp_path)


def test_unknown_scans_and_viewpoints_are_told_what_there_is(tmp_path, write_house):
    with pytest.raises(FileNotFoundError, match=r"expected at .*toy0_connectivity.json. Run .* or use House.toy"):
        House.load("toy0", tmp_path)
    for seed in range(7):
        write_house(tmp_path, House.toy(seed, n_floors=1, n_rooms=2))
    with pytest.raises(KeyError, match=r"no house 'toy33' in .*; choose one of 7: toy\d, toy\d, toy\d, toy\d, toy\d, \.\.\."):
        House.load("toy33", tmp_path)
    with pytest.raises(KeyError, match="house toy0 has no viewpoint 'attic'; it has"):
        House.load("toy0", tmp_path).index("attic")


def test_tables_of_the_wrong_size_are_refused():
    house = House.toy(0)
    with pytest.raises(ValueError, match=r"position should have the shape \(\d+, 3\)"):
        House("x", house.viewpoints, house.position[1:], house.included, house.unobstructed)


# real houses


def test_a_real_house_agrees_with_networkx(random_scan):
    assert_shortest(House.load(random_scan))


@needs_connectivity
def test_only_stairs_join_the_floors_of_real_houses():
    houses = [House.load(scan) for scan in (CONNECTIVITY / "scans.txt").read_text().split()]
    crossing = sum((house.floor[house.edges[:, 0]] != house.floor[house.edges[:, 1]]).sum() for house in houses)
    n_edges = sum(len(house.edges) for house in houses)
    assert (sum(map(len, houses)), sum(house.included.sum() for house in houses), n_edges) == (10800, 10567, 21468)
    assert crossing < 0.01 * n_edges  # 179 when this was written
    assert all(set(house.floor) == set(range(house.floor.max() + 1)) for house in houses)
