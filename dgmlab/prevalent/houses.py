"""Several houses as one table: a panorama is a row number 0..P-1, house after house, so that agents batch over houses.

    houses = Houses.load(["17DRP5sb8fy", "2t7WUuJeko7"])       or Houses.toy(range(8)), Houses([house, ...])
    row = houses.row("17DRP5sb8fy", viewpoint)
    houses.distance(rows, goals)                                metres, vectorised
"""

import numpy as np

from dgmlab.prevalent.candidates import Candidates
from dgmlab.prevalent.house import House


class Houses:
    """A table of houses (list of House, each scan once).

    houses      dict scan -> House, in the order given; scans: list of their names
    offset      dict scan -> first row of the house
    included    (P,) bool
    candidates  Candidates of every row; `index` holds rows
    """

    def __init__(self, houses):
        self.houses = {house.scan: house for house in houses}
        if len(self.houses) < len(houses):
            scans = [house.scan for house in houses]
            twice = next(scan for scan in scans if scans.count(scan) > 1)
            raise ValueError(f"house '{twice}' was given {scans.count(twice)} times, expected once. Leave out the others.")
        self.scans = list(self.houses)
        sizes = np.array([len(house) for house in houses], dtype=np.int64)
        self._first = np.cumsum(sizes) - sizes  # (houses,) first row of each
        self._size = sizes
        self._block = np.cumsum(sizes**2) - sizes**2  # where the (N, N) table of each house begins in the flat ones
        self._house = np.repeat(np.arange(len(sizes)), sizes)  # (P,) number of the house of each row
        self.offset = dict(zip(self.scans, self._first.tolist(), strict=True))
        self.included = np.concatenate([house.included for house in houses])
        self._distance = np.concatenate([house.distance.ravel() for house in houses])
        self._next = np.concatenate([house.next_hop.ravel() for house in houses])
        self.candidates = _stacked([house.candidates for house in houses], self._first)

    @classmethod
    def load(cls, scans, folder=None):
        """Houses of connectivity files, in the order of `scans`."""
        return cls([House.load(scan, folder) for scan in scans])

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
            shown = ", ".join(self.scans[:5]) + (", ..." if len(self.scans) > 5 else "")
            raise KeyError(f"no house '{scan}' in this table; it has {len(self.scans)}: {shown}. Load it with the others.")
        return self.offset[scan] + self.houses[scan].index(viewpoint)

    def name(self, row):
        """(scan, viewpoint) of a row."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} is not in this table of {len(self)} panoramas. Rows are 0..{len(self) - 1}.")
        house = self._house[row]
        scan = self.scans[house]
        return scan, self.houses[scan].viewpoints[row - self._first[house]]

    def _pairs(self, a, b):
        """Places of the pairs of rows a, b in the flat tables, and the first row of their houses."""
        a, b = np.asarray(a), np.asarray(b)
        house = self._house[a]
        if (house != self._house[b]).any():
            raise ValueError("a pair of rows lies in two houses, expected both ends in one. Compare rows of one scan.")
        first = self._first[house]
        return self._block[house] + (a - first) * self._size[house] + (b - first), first

    def distance(self, a, b):
        """Metres along the shortest path between rows a and b of the same houses, which broadcast; inf where there is none."""
        return self._distance[self._pairs(a, b)[0]]

    def next_row(self, a, goal):
        """Rows after a on the shortest path to goal; a itself at the goal, -1 where there is no path."""
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


def _stacked(tables, first):
    """Candidates of several houses below each other, with rows in place of indices."""
    widest = max(table.index.shape[1] for table in tables)

    def stacked(name, pad):
        fields = [getattr(table, name) for table in tables]
        return np.concatenate([np.pad(x, ((0, 0), (0, widest - x.shape[1])), constant_values=pad) for x in fields])

    tables = [table._replace(index=np.where(table.index < 0, -1, table.index + row).astype(np.int32))
              for table, row in zip(tables, first, strict=True)]
    pads = {"index": -1, "view": -1, "slot": -1, "heading": 0, "elevation": 0, "distance": 0, "angle": 0}
    return Candidates(**{name: stacked(name, pad) for name, pad in pads.items()},
                      count=np.concatenate([table.count for table in tables]))
