"""Guessed rooms: two rooms by hand, real labels held back, and what the sentences of REVERIE say about the goals."""

import json

import numpy as np
import pytest

from dgmlab.data.registry import data_home
from dgmlab.prevalent.house import House, Sighting
from dgmlab.prevalent.rooms import SHAPES, evidence, fit_rooms, guess_rooms, keys_of
from dgmlab.prevalent.semantic import ROOMS, Vocabulary, annotations, describe, real_vocabulary

needs_real = pytest.mark.skipif(not (data_home() / "matterport").is_dir(), reason="needs matterport/ in DGMLAB_DATA")
BED, STOVE = (Sighting("bed", (0,)),), (Sighting("stove", (1, 2)), Sighting("boat", (3,)))


def house_of(scan, objects, rise=0.0):
    """Panoramas in a row, 2 m apart, each joined to the next."""
    n = len(objects)
    position = np.stack([np.arange(n) * 2.0, np.zeros(n), np.arange(n) * rise], 1)
    near = np.eye(n, k=1, dtype=bool) | np.eye(n, k=-1, dtype=bool)
    return House(scan, tuple("abcdef"[:n]), position, np.ones(n, bool), near, objects=tuple(objects))


def test_rooms_by_hand():
    old, new = house_of("old", [BED, STOVE, BED, STOVE]), house_of("new", [(), BED, (), STOVE])
    labels = {"old_a": "bedroom", "old_b": "kitchen", "old_c": "bedroom", "old_d": "kitchen"}
    model = fit_rooms([old], labels, {}, Vocabulary(("bed", "stove"), ("bedroom", "kitchen")))
    np.testing.assert_allclose(np.exp(model.prior), [0.5, 0.5])
    # two bedrooms: a bed each, and three facts of shape each, of 2 + SHAPES columns smoothed by 0.1
    np.testing.assert_allclose(np.exp(model.evidence[0, :2]), [2.1 / (8 + 0.1 * (2 + SHAPES)), 0.1 / (8 + 0.1 * (2 + SHAPES))])
    regions = {"new_a": "1", "new_b": "1", "new_c": "2", "new_d": "2"}
    assert guess_rooms(new, regions, model) == ["bedroom", "bedroom", "kitchen", "kitchen"]


def test_evidence_pools_a_region_and_tells_its_shape():
    house = house_of("x", [BED, (), STOVE, ()], rise=1.0)  # 27 degrees: steep
    facts = evidence(house, {"x_a": "r", "x_b": "r"}, {"bed": 0, "stove": 1})
    assert facts.shape == (4, 2 + SHAPES)
    assert facts[:, :2].tolist() == [[1, 0], [1, 0], [0, 1], [0, 0]]
    assert facts[:, 2:5].argmax(1).tolist() == [2, 2, 2, 2]  # one steep way or more from each panorama of each region
    assert facts[:, 5:10].argmax(1).tolist() == [1, 1, 0, 0]  # regions of two, and of one
    assert facts[:, 10:].argmax(1).tolist() == [0, 1, 1, 0]  # ends have one way, the others two
    assert evidence(house_of("x", [(), ()]), {}, {})[:, :3].argmax(1).tolist() == [0, 0]  # level


@needs_real
def test_most_rooms_of_houses_not_fitted_on_are_named_rightly():
    tables = annotations()
    scans = sorted({key.partition("_")[0] for key in tables.rooms})
    held = scans[::5]
    houses = [describe(House.load(scan), guess=False) for scan in scans]
    model = fit_rooms([h for h in houses if h.scan not in held], tables.rooms, tables.regions, real_vocabulary())
    right = {room: [] for room in ROOMS}
    for house in houses:
        if house.scan in held:
            for key, guess in zip(keys_of(house), guess_rooms(house, tables.regions, model), strict=True):
                if key in tables.rooms:
                    right[tables.rooms[key]].append(guess == tables.rooms[key])
    assert np.mean(sum(right.values(), [])) > 0.55
    assert min(np.mean(right[room]) for room in ("bathroom", "bedroom", "kitchen", "stairs")) > 0.7


@needs_real
def test_labels_and_guesses_agree_with_what_people_say_about_goals():
    """REVERIE's sentences name the room of the goal: this confirms the names of the labels, and checks the guesses."""
    def agreement(split, rooms):
        items = json.loads((data_home() / "matterport" / "REVERIE" / f"REVERIE_{split}.json").read_text())[:1300]
        houses = {scan: describe(House.load(scan)) for scan in {item["scan"] for item in items}}
        hits = []
        for item in items:
            house = houses[item["scan"]]
            for text in item["instructions"]:
                said = [room for room in ROOMS if room in text.lower()]
                if len(said) == 1 and said[0] in rooms:
                    hits.append(house.rooms[house.index(item["path"][-1])] == said[0])
        return np.mean(hits), len(hits)

    share, n = agreement("train", ROOMS)
    assert n > 1000 and share > 0.85
    share, n = agreement("val_unseen", ("bathroom", "bedroom", "kitchen"))  # no label in any of its houses
    assert n > 500 and share > 0.85
