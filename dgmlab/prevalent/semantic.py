"""Seeing without pictures: names of objects and rooms as features of views, from public tables of Matterport3D.

    house = describe(House.load("17DRP5sb8fy"))         house.rooms and house.objects filled in
    views = semantic_views(houses, real_vocabulary())   (P, 36, 334) uint8

Objects are those that REVERIE annotates (Qi et al. 2020), within 3 m of a panorama and in the views that show them. Rooms are
the labels of Matterport3D's region classification (Chang et al. 2017), guessed where there are none (see rooms). The tables
are read from `data_home()/matterport`; nothing of them is part of this package. Toy houses bring their own objects and rooms.

The numbers of a view are 0, or LOUDNESS for what is there, in this order:
    objects      one per name of the vocabulary: the object is in the view
    room         one per room and one for unknown: where the panorama stands, the same in its 36 views
    room ahead   the same for the panoramas that this view leads to (those whose candidate stands in it): what a picture
                 shows through the door; all 0 where it leads nowhere
"""

import dataclasses
import gzip
import json
import zlib
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.data.registry import data_home
from dgmlab.prevalent.angles import VIEWS
from dgmlab.prevalent.house import House, Sighting
from dgmlab.prevalent.rooms import fit_rooms, guess_rooms, keys_of
from dgmlab.prevalent.toy_house import COLOURS, FURNITURE, NOUNS

# the 12 labels of the region classification, 1..12 in the table; names from the paper, half of them confirmed by the objects
# that stand in such rooms
ROOMS = ("office", "lounge", "family room", "entryway", "dining room", "living room", "stairs", "kitchen", "porch", "bathroom",
         "bedroom", "hallway")
LOUDNESS = 8  # of a name that is there: the norm of the 128 numbers of a direction, which stand beside it
MIN_USES = 10  # objects of a name in all houses for it to have a number of its own: 308 names


class Vocabulary(NamedTuple):
    """Names with a number of their own; other objects are not seen, other rooms are unknown."""

    objects: tuple
    rooms: tuple

    @property
    def size(self):
        """F: the objects, the room, the room ahead."""
        return len(self.objects) + 2 * (len(self.rooms) + 1)


class Annotations(NamedTuple):
    """Tables by scan_viewpoint: objects tuple of Sighting, rooms name, regions name of the region it belongs to."""

    objects: dict
    rooms: dict
    regions: dict


def describe(house, folder=None, guess=True):
    """A House of Matterport3D with its rooms and objects.

    folder  by default matterport below `data_home()`
    guess   name rooms that have no label by what stands in them (see rooms); without, they are ''
    -> House; '' is also the room of excluded panoramas
    """
    tables = annotations(folder)
    keys = keys_of(house)
    if not any(key in tables.objects for key in keys):
        raise ValueError(f"house '{house.scan}' is not annotated. Use one of the 90 of Matterport3D, or a toy house.")
    house = dataclasses.replace(house, objects=tuple(tables.objects.get(key, ()) for key in keys))
    guessed = guess_rooms(house, tables.regions, room_model(folder)) if guess else [""] * len(house)
    rooms = [tables.rooms.get(key, room) for key, room in zip(keys, guessed, strict=True)]
    return dataclasses.replace(house, rooms=tuple(np.where(house.included, rooms, "").tolist()))


def room_model(folder=None):
    """What guesses rooms, fitted once on all labelled panoramas of Matterport3D. -> RoomModel"""
    return _room_model(Path(folder) if folder else data_home() / "matterport")


@cache
def _room_model(folder):
    tables = annotations(folder)
    scans = dict.fromkeys(key.partition("_")[0] for key in tables.rooms)
    houses = [describe(House.load(scan, folder / "connectivity"), folder, guess=False) for scan in scans]
    return fit_rooms(houses, tables.rooms, tables.regions, real_vocabulary(folder))


def annotations(folder=None):
    """The tables of objects, rooms and regions, read once. -> Annotations"""
    return _annotations(Path(folder) if folder else data_home() / "matterport")


@cache
def _annotations(folder):
    objects = _read(folder / "REVERIE" / "objects_by_viewpoint.json.gz")["data"]
    rooms = _read(folder / "regions" / "room_label_by_panorama.json")
    regions = _read(folder / "regions" / "house_region_to_panorama.json")
    return Annotations(
        {key: tuple(Sighting(name.replace("#", " "), tuple(views)) for name, views, _ in found.values())
         for key, found in objects.items()},
        {key: ROOMS[label - 1] for key, label in rooms.items()},
        {f"{scan}_{viewpoint}": f"{scan}_{region}" for scan, parts in regions.items() for region, viewpoints in parts.items()
         for viewpoint in viewpoints},
    )


def _read(path):
    if not path.is_file():
        raise FileNotFoundError(f"objects and rooms were expected at {path}, found no file. DGMLAB_DATA names the folder that "
                                "holds matterport/; toy houses need none.")
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not whole JSON ({error}). Restore the file.") from None


def real_vocabulary(folder=None):
    """Names of Matterport3D with at least 10 uses, most used first, and the 12 rooms. Of all houses, so that columns agree."""
    uses = Counter(sighting.name for found in annotations(folder).objects.values() for sighting in found)
    return Vocabulary(tuple(name for name, n in uses.most_common() if n >= MIN_USES), ROOMS)


@cache
def toy_vocabulary():
    """All names that procedural houses can have, the same for every seed."""
    rooms = (*FURNITURE, "hallway", "stairs")
    landmarks = (f"{colour} {noun}" for colour, noun in product(COLOURS, NOUNS))
    doors = (f"{room} door" for room in rooms)
    return Vocabulary((*FURNITURE.values(), "stairs up", "stairs down", *doors, *landmarks), rooms)


def semantic_views(houses, vocabulary):
    """Names as features (see the top of this file); real houses without annotations are described first.

    A name that is there counts LOUDNESS: with 1, beside directions of norm 8, attention by dot products hardly heard it, and
    a follower reached 33 % in unseen toy houses after 300 steps in place of 59 %.

    -> (P, 36, F) uint8 of 0 and LOUDNESS, F = vocabulary.size; zeros for excluded panoramas
    """
    n_objects, n_rooms = len(vocabulary.objects), len(vocabulary.rooms) + 1
    column = {name: i for i, name in enumerate(vocabulary.objects)}
    number = {name: i for i, name in enumerate(vocabulary.rooms)}
    views = np.zeros((len(houses), VIEWS, vocabulary.size), np.uint8)
    rooms = np.full(len(houses), n_rooms - 1)  # unknown comes last
    for scan, house in houses.houses.items():
        house = house if house.rooms or house.objects else describe(house)
        first = houses.offset[scan]
        seen = [(first + i, view, column[sighting.name]) for i, found in enumerate(house.objects) for sighting in found
                if sighting.name in column for view in sighting.views]
        if seen:
            views[tuple(np.array(seen).T)] = LOUDNESS
        for i, room in enumerate(house.rooms):
            rooms[first + i] = number.get(room, n_rooms - 1)

    views[np.arange(len(houses)), :, n_objects + rooms] = LOUDNESS
    row, k = np.nonzero(houses.candidates.index >= 0)
    ahead = rooms[houses.candidates.index[row, k]]
    views[row, houses.candidates.view[row, k], n_objects + n_rooms + ahead] = LOUDNESS
    views[~houses.included] = 0
    return views
