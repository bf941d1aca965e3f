"""Several houses as one table: a panorama is a row number 0..P-1, house after house, so that agents batch over houses.

    houses = Houses.load(["17DRP5sb8fy", "2t7WUuJeko7"])       or Houses.toy(range(8)), Houses([house, ...])
    row = houses.row("17DRP5sb8fy", viewpoint)
    houses.distance(rows, goals)                                metres, vectorised

`Houses.load` keeps what it computes in HOME/cache, one file a set of houses, and computes again when a connectivity file has
changed, or when the cache is unreadable; it may be deleted at any time.
"""

import contextlib
import hashlib
import json
import os
import zipfile
from itertools import pairwise

import numpy as np

from dgmlab.prevalent.candidates import Candidates, candidate_table
from dgmlab.prevalent.house import House, connectivity_file
from dgmlab.run import home

CACHE = 1  # goes up when what is cached, or how it is computed, changes


class Houses:
    """A table of houses (list of House, each scan once).

    houses      dict scan -> House, in the order given; scans: list of their names
    offset      dict scan -> first row of the house
    included    (P,) bool
    candidates  Candidates of every row; `index` holds rows
    """

    def __init__(self, houses, candidates=None):
        self.houses = {house.scan: house for house in houses}
        self.scans = list(self.houses)
        if len(self.scans) < len(houses) or not houses:
            raise ValueError(f"a table needs one or more houses, each once; found {len(houses)} with {len(self.scans)} names "
                             f"({_shortened(self.scans)}). Name each house once.")
        self._size = np.array([len(house) for house in houses])
        self._first = np.cumsum(self._size) - self._size  # (houses,) first row of each
        self._block = np.cumsum(self._size**2) - self._size**2  # where the (N, N) table of each begins in the flat ones
        self._house = np.repeat(np.arange(len(houses)), self._size)  # (P,) number of the house of each row
        self.offset = dict(zip(self.scans, self._first.tolist(), strict=True))
        self.included = np.concatenate([house.included for house in houses])
        self._distance = np.concatenate([house.distance.ravel() for house in houses])
        self._next = np.concatenate([house.next_hop.ravel() for house in houses])
        self.candidates = candidates or candidate_table(
            np.concatenate([house.position for house in houses]),
            np.concatenate([house.edges + first for house, first in zip(houses, self._first, strict=True)]))

    @classmethod
    def load(cls, scans, folder=None):
        """Houses of connectivity files, in the order of `scans`; folder as in `House.load`."""
        scans = list(scans)
        files = [connectivity_file(scan, folder) for scan in scans]
        key = json.dumps([CACHE, *((file.stat().st_size, file.stat().st_mtime_ns) for file in files)])
        name = hashlib.sha256("\n".join(str(file.absolute()) for file in files).encode()).hexdigest()[:16]
        cache = home() / "cache" / f"houses-{name}.npz"
        kept = _read_cache(cache, key, scans)
        if kept is not None:
            return cls(*kept)
        houses = cls([House.load(scan, folder) for scan in scans])
        with contextlib.suppress(OSError):  # a full or read-only disk costs time, nothing else
            _write_cache(cache, key, houses)
        return houses

    @classmethod
    def toy(cls, seeds, **plan):
        """Procedural houses, one a seed; `plan` as in `toy_house`."""
        return cls([House.toy(seed, **plan) for seed in seeds])

    def __len__(self):
        return len(self.included)

    def __repr__(self):
        return f"Houses({len(self.scans)} houses, {self.included.sum()} panoramas)"

    def row(self, scan, viewpoint):
        """Row of a viewpoint; KeyError where the table has no such house, or the house no such viewpoint."""
        if scan not in self.houses:
            raise KeyError(f"no house '{scan}' in this table of {len(self.scans)}: {_shortened(self.scans)}. Load it too.")
        return self.offset[scan] + self.houses[scan].index(viewpoint)

    def name(self, row):
        """(scan, viewpoint) of a row."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} is not in this table of {len(self)} panoramas. Rows are 0..{len(self) - 1}.")
        house = self._house[row]
        scan = self.scans[house]
        return scan, self.houses[scan].viewpoints[row - self._first[house]]

    def distance(self, a, b):
        """Metres along the shortest path between rows a and b of the same houses, which broadcast; inf where there is none."""
        return self._distance[self._pairs(a, b)[0]]

    def next_row(self, a, goal):
        """Rows after a on the shortest path to goal, which broadcast; a itself at the goal, -1 where there is no path."""
        place, first = self._pairs(a, goal)
        hop = self._next[place]
        return np.where(hop < 0, -1, first + hop)

    def shortest_path(self, a, b):
        """Rows of the shortest path between two rows, both ends included."""
        path = [int(a)]
        while path[-1] != b:
            path.append(int(self.next_row(path[-1], b)))
            if path[-1] < 0:
                raise ValueError(f"there is no path from {self.name(a)} to {self.name(b)}. Choose two that are connected.")
        return path

    def _pairs(self, a, b):
        """Places of the pairs of rows a, b in the flat tables, and the first rows of their houses."""
        a, b = np.asarray(a), np.asarray(b)
        house = self._house[a]
        if (house != self._house[b]).any():
            raise ValueError("a pair of rows lies in two houses, expected both ends in one. Compare rows of one scan.")
        first = self._first[house]
        return self._block[house] + (a - first) * self._size[house] + (b - first), first


def _shortened(names):
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _write_cache(path, key, houses):
    """Write all tables of `houses` so that the file is either the old one or the new one."""
    members = list(houses.houses.values())
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(scratch, "wb") as file:
            np.savez(file, key=key, size=houses._size, distance=houses._distance, next=houses._next, included=houses.included,
                     viewpoints=np.array([name for house in members for name in house.viewpoints]),
                     position=np.concatenate([house.position for house in members]),
                     floor=np.concatenate([house.floor for house in members]),
                     unobstructed=np.concatenate([house.unobstructed.ravel() for house in members]),
                     **{f"candidates_{name}": table for name, table in houses.candidates._asdict().items()})
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _read_cache(path, key, scans):
    """([House], Candidates) of a cache file, or None where it is missing, unreadable, or of other source files."""
    try:
        with np.load(path) as kept:
            if str(kept["key"]) != key:
                return None
            tables = {name: kept[name] for name in kept.files}
        return _unpacked(tables, scans), Candidates(**{name: tables[f"candidates_{name}"] for name in Candidates._fields})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _unpacked(tables, scans):
    """The houses of a cache, with their shortest paths."""
    size = tables["size"]
    rows, cells = (np.concatenate([[0], np.cumsum(n)]) for n in (size, size**2))
    houses = []
    for scan, n, row, cell in zip(scans, size, pairwise(rows), pairwise(cells), strict=True):
        row, cell = slice(*row), slice(*cell)
        house = House(scan, tuple(tables["viewpoints"][row].tolist()), tables["position"][row], tables["included"][row],
                      tables["unobstructed"][cell].reshape(n, n), tables["floor"][row])
        house.__dict__["_paths"] = tables["distance"][cell].reshape(n, n), tables["next"][cell].reshape(n, n)
        houses.append(house)
    return houses
