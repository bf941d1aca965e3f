"""Names as features: a house made by hand, toy houses, the real tables, and what is refused."""

import gzip
import json

import numpy as np
import pytest

from dgmlab.data.registry import data_home
from dgmlab.prevalent import semantic
from dgmlab.prevalent.features import open_features
from dgmlab.prevalent.house import House, Sighting
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.semantic import Vocabulary, describe, real_vocabulary, semantic_views, toy_vocabulary

needs_real = pytest.mark.skipif(not (data_home() / "matterport").is_dir(), reason="needs matterport/ in DGMLAB_DATA")


def row_of_three(**known):
    """Three panoramas along the y axis, 2 m apart, the fourth excluded: from each, view 12 looks at the next."""
    position = np.array([[0, 0, 0], [0, 2, 0], [0, 4, 0], [9, 9, 0]], float)
    near = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    return House("line", ("a", "b", "c", "d"), position, np.array([True] * 3 + [False]), near, **known)


def test_columns_by_hand():
    vocabulary = Vocabulary(("bed", "lamp"), ("hall", "bedroom"))
    assert vocabulary.size == 2 + 3 + 3
    objects = ((Sighting("lamp", (0, 13)), Sighting("boat", (1,))), (Sighting("bed", ()),), (Sighting("bed", (35,)),), ())
    house = row_of_three(rooms=("hall", "cellar", "bedroom", ""), objects=objects)
    views = semantic_views(Houses([house]), vocabulary)
    assert views.shape == (4, 36, 8) and views.dtype == np.uint8
    wanted = np.zeros((4, 36, 8), np.uint8)
    wanted[0, [0, 13], 1] = 1  # the lamp; a boat has no number, a bed seen from nowhere is not in a view
    wanted[2, 35, 0] = 1
    wanted[0, :, 2] = wanted[1, :, 4] = wanted[2, :, 3] = 1  # hall, unknown (a cellar has no number), bedroom
    wanted[0, 12, 5 + 2] = 1  # ahead of a: b, unknown
    wanted[1, 12, 5 + 1] = wanted[1, 18, 5 + 0] = 1  # from b: c ahead, a behind
    wanted[2, 18, 5 + 2] = 1
    np.testing.assert_array_equal(views, semantic.LOUDNESS * wanted)


def test_toy_houses_share_their_columns_and_name_all_they_show():
    vocabulary, houses = toy_vocabulary(), Houses.toy(range(30))
    names = {sighting.name for house in houses.houses.values() for seen in house.objects for sighting in seen}
    assert len(names) > 50 and names <= set(vocabulary.objects)
    assert {room for house in houses.houses.values() for room in house.rooms} <= set(vocabulary.rooms)
    features = open_features("toy", houses)
    assert features.size == vocabulary.size == len(set(vocabulary.objects)) + 2 * (len(vocabulary.rooms) + 1)
    alone = open_features("toy", Houses.toy([7]))
    np.testing.assert_array_equal(alone.views, features.views[houses.offset["toy7"]:][: len(alone.views)])


def write_tables(folder, objects, rooms, regions=()):
    (folder / "REVERIE").mkdir()
    (folder / "regions").mkdir()
    (folder / "REVERIE" / "objects_by_viewpoint.json.gz").write_bytes(gzip.compress(json.dumps({"data": objects}).encode()))
    (folder / "regions" / "room_label_by_panorama.json").write_text(json.dumps(rooms))
    (folder / "regions" / "house_region_to_panorama.json").write_text(json.dumps(dict(regions)))


def test_describe_reads_tables_made_by_hand(tmp_path):
    found = {"4": ["bath#cabinet", [3, 4], [[0, 0, 1, 1]] * 2], "9": ["bath#cabinet", [], []]}
    write_tables(tmp_path, {"line_a": found, "line_b": {}, "line_c": {}}, {"line_c": 11})
    house = describe(row_of_three(), tmp_path, guess=False)
    assert house.rooms == ("", "", "bedroom", "")
    assert house.objects == ((Sighting("bath cabinet", (3, 4)), Sighting("bath cabinet", ())), (), (), ())
    with pytest.raises(ValueError, match="house 'toy1' is not annotated. Use one of the 90"):
        describe(House.toy(1), tmp_path, guess=False)


def test_names_with_ten_uses_have_a_number(tmp_path):
    chairs = {str(i): ["chair", [0], [[0, 0, 1, 1]]] for i in range(10)}
    lamps = {str(i): ["lamp", [0], [[0, 0, 1, 1]]] for i in range(10, 19)}
    write_tables(tmp_path, {"line_a": chairs | lamps}, {})
    assert real_vocabulary(tmp_path) == (("chair",), semantic.ROOMS)


def test_missing_and_broken_tables_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="objects_by_viewpoint.json.gz, found no file. DGMLAB_DATA names the folder"):
        describe(row_of_three(), tmp_path)
    write_tables(tmp_path, {}, {})
    path = tmp_path / "REVERIE" / "objects_by_viewpoint.json.gz"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="objects_by_viewpoint.json.gz is not whole JSON"):
        describe(row_of_three(), tmp_path)


@needs_real
def test_real_tables_have_the_published_counts():
    tables, vocabulary = semantic.annotations(), real_vocabulary()
    assert len(tables.objects) == 10_567 and sum(map(len, tables.objects.values())) == 38_293
    assert sum(len(s.views) for found in tables.objects.values() for s in found) == 210_198
    assert len(tables.rooms) == 7_482 and len(vocabulary.objects) == 308 and vocabulary.size == 334


@needs_real
def test_a_real_house_is_described_and_a_bathroom_shows_a_toilet():
    house = describe(House.load("17DRP5sb8fy"))
    i = house.index("00ebbf3782c64d74aaf7dd39cd561175")
    assert house.rooms[i] == "bathroom" and Sighting("toilet", (3, 4, 5, 6, 7, 16, 17, 18)) in house.objects[i]
    houses = Houses([House.load("17DRP5sb8fy")])
    views, names = open_features("semantic", houses).views, real_vocabulary().objects
    assert np.flatnonzero(views[i, :, names.index("toilet")]).tolist() == [3, 4, 5, 6, 7, 16, 17, 18]
    assert (views[i, :, 308 + semantic.ROOMS.index("bathroom")] > 0).all() and (views[i, :, 308:321] > 0).sum() == 36
    leading = houses.candidates.view[i][houses.candidates.index[i] >= 0]
    assert np.flatnonzero(views[i, :, 321:].any(1)).tolist() == sorted(set(leading.tolist()))
