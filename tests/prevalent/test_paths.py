"""Augmentation paths: by hand, against networkx, and the published counts out of the real training houses."""

import json

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmlab.data.registry import data_home
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.paths import augmentation_paths

TRAIN = data_home() / "matterport" / "R2R" / "R2R_train.json"


def listed(paths):
    return [paths.path(i).tolist() for i in range(paths.n)]


def test_paths_of_the_cottage(cottage):
    houses = Houses([cottage])
    assert listed(augmentation_paths(houses, 2, 2, 0.0)) == [[0, 1, 4], [2, 1, 4], [4, 1, 0], [4, 1, 2]]
    assert listed(augmentation_paths(houses, 2, 3, 6.0)) == [[2, 1, 4], [4, 1, 2]]  # a-b-e is 5.6 m
    assert listed(augmentation_paths(houses, 1, 1, 3.6)) == [[1, 2], [1, 4], [2, 1], [4, 1]]
    assert listed(augmentation_paths(houses)) == []


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True), st.integers(1, 4), st.integers(0, 3))
def test_paths_are_those_that_networkx_finds(seeds, fewest, more):
    houses = Houses.toy(seeds)
    expected = []
    for scan, house in houses.houses.items():
        graph = networkx.Graph()
        for a, b in house.edges.tolist():
            graph.add_edge(a, b, weight=np.linalg.norm(house.position[a] - house.position[b]))
        for _, (lengths, paths) in networkx.all_pairs_dijkstra(graph):
            expected += [[houses.offset[scan] + x for x in paths[b]] for b in sorted(paths)
                         if fewest <= len(paths[b]) - 1 <= fewest + more and lengths[b] >= 5.0]
    assert sorted(listed(augmentation_paths(houses, fewest, fewest + more))) == sorted(expected)


def test_blocks_cover_all_paths_in_order():
    paths = augmentation_paths(Houses.toy([0, 1]))
    assert paths.n > 100 and (paths.edges == [len(path) - 1 for path in listed(paths)]).all()
    blocks = list(paths.blocks(37))
    assert [block.n for block in blocks[:-1]] == [37] * (len(blocks) - 1) and 0 < blocks[-1].n <= 37
    assert [path for block in blocks for path in listed(block)] == listed(paths)
    assert np.shares_memory(blocks[1].rows, paths.rows)
    assert paths.path(-1).tolist() == listed(paths)[-1] and list(augmentation_paths(Houses.toy([0]), 1, 1, 99).blocks(3)) == []
    with pytest.raises(IndexError):
        paths.path(paths.n)


def test_impossible_numbers_of_edges_are_refused():
    with pytest.raises(ValueError, match="1 <= min_edges <= max_edges, found 6 and 4"):
        augmentation_paths(Houses.toy([0]), 6, 4)


@pytest.mark.skipif(not TRAIN.is_file(), reason="needs matterport/R2R in DGMLAB_DATA")
def test_the_training_houses_have_the_published_paths_and_nearly_all_of_r2r_is_among_them():
    annotated = json.loads(TRAIN.read_text())
    houses = Houses.load(sorted({item["scan"] for item in annotated}))
    paths = augmentation_paths(houses)
    assert len(houses.scans) == 61 and paths.n == 178_300 and len(paths.rows) == 1_080_378
    assert np.bincount(paths.edges).tolist() == [0, 0, 0, 0, 53_486, 60_750, 64_064]
    assert paths.rows.nbytes + paths.offsets.nbytes < 6_000_000
    rows = {tuple(houses.row(item["scan"], name) for name in item["path"]) for item in annotated}
    assert sorted(map(len, rows - {tuple(path) for path in listed(paths)})) == [4] * 8  # R2R has eight paths of three edges
