"""A house as a graph of panoramas: positions, which can be walked between, shortest paths, candidates of each.

    house = House.load("17DRP5sb8fy")        a Matterport3D connectivity file below data_home()
    house = House.toy(0)                     a procedural house with rooms and landmarks, nothing to download

The format is that of Matterport3DSimulator (Anderson et al. 2018, connectivity/README.md): a list with one entry a panorama.
Excluded panoramas keep their place (`ix`) but have no edges. Shortest paths weigh an edge by its length in three dimensions.
"""

import difflib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.data.registry import data_home
from dgmlab.prevalent.candidates import candidate_table

STOREY = 1.8  # metres of height between two storeys, at least
STAIR = 0.3  # metres: heights that differ by less are those of one storey (half a storey for a few steps up)


class Sighting(NamedTuple):
    """An object that is seen from a panorama: its name, and the view indices 0..35 it is in (level * 12 + heading)."""

    name: str
    views: tuple


class RoomBox(NamedTuple):
    """A room of a procedural house, seen from above: its name, its floor, and its rectangle in metres."""

    name: str
    floor: int
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, eq=False)
class House:
    """One house of N panoramas; derived tables are computed when first asked for, and kept.

    scan          name of the house
    viewpoints    N ids; the place of an id is its index
    position      (N, 3) float64 metres, z up
    included      (N,) bool; an agent is only ever at included ones
    unobstructed  (N, N) bool, symmetric
    floor         (N,) int, 0 the lowest; by default from the heights, see `floors_by_height`
    rooms         room of each panorama, '' where unknown; () where nothing is known
    objects       of each panorama a tuple of Sighting; () where nothing is known
    floor_plan    tuple of RoomBox; () where nothing is known
    """

    scan: str
    viewpoints: tuple
    position: np.ndarray
    included: np.ndarray
    unobstructed: np.ndarray
    floor: np.ndarray = None
    rooms: tuple = ()
    objects: tuple = ()
    floor_plan: tuple = ()

    def __post_init__(self):
        n = len(self.viewpoints)
        if len(set(self.viewpoints)) < n or n == 0:
            raise ValueError(f"house {self.scan} has {n} viewpoints with {len(set(self.viewpoints))} different names, "
                             "expected one or more, each with its own. Name each once.")
        shapes = {"position": (n, 3), "included": (n,), "unobstructed": (n, n)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"house {self.scan} has {n} viewpoints, so {name} should have the shape {shape}, found "
                                 f"{getattr(self, name).shape}. Give one row a viewpoint.")
        if not np.isfinite(self.position).all():
            lost = np.flatnonzero(~np.isfinite(self.position).all(1))[0]
            raise ValueError(f"viewpoint {self.viewpoints[lost]} of house {self.scan} has the position {self.position[lost]}, "
                             "expected finite metres. Correct it.")
        one_way = np.argwhere(self._walkable & ~self._walkable.T)
        if len(one_way):
            a, b = (self.viewpoints[i] for i in one_way[0])
            raise ValueError(f"house {self.scan} leads from {a} to {b} but not back; expected a symmetric graph. Set both "
                             "entries of unobstructed, or restore the file.")
        if self.floor is None:
            object.__setattr__(self, "floor", floors_by_height(self.position[:, 2], self.included))

    @classmethod
    def load(cls, scan, folder=None):
        """The house of a connectivity file; folder: by default matterport/connectivity below `data_home()`."""
        return read_connectivity(scan, folder)

    @classmethod
    def toy(cls, seed, **plan):
        """A procedural house; see `toy_house` for what can be said about it."""
        from dgmlab.prevalent.toy_house import toy_house

        return toy_house(seed, **plan)

    def __len__(self):
        return len(self.viewpoints)

    def __repr__(self):
        return f"House({self.scan}: {self.included.sum()} panoramas, {len(self.edges)} edges, {self.floor.max() + 1} floors)"

    @cached_property
    def _index(self):
        return {viewpoint: i for i, viewpoint in enumerate(self.viewpoints)}

    def index(self, viewpoint):
        """The place of a viewpoint id; KeyError where the house has none such."""
        try:
            return self._index[viewpoint]
        except KeyError:
            raise KeyError(f"house {self.scan} has no viewpoint '{viewpoint}'; it has {len(self)}, such as "
                           f"'{self.viewpoints[0]}'. Check the scan.") from None

    @cached_property
    def _walkable(self):
        """(N, N) bool: unobstructed, and both ends included."""
        return self.unobstructed & self.included & self.included[:, None]

    @cached_property
    def edges(self):
        """(E, 2) int64 pairs a < b of included panoramas that can be walked between, sorted."""
        return np.argwhere(np.triu(self._walkable, 1))

    @cached_property
    def candidates(self):
        """Candidates of every panorama; none for an excluded one."""
        return candidate_table(self.position, self.edges)

    @property
    def distance(self):
        """(N, N) float64 metres along the shortest path; inf where there is none."""
        return self._paths[0]

    @property
    def next_hop(self):
        """(N, N) int32: at a, b the panorama after a on the shortest path to b; a itself where a == b, -1 without a path."""
        return self._paths[1]

    @cached_property
    def _paths(self):
        return shortest_paths(self.position, self.edges)

    def shortest_path(self, a, b):
        """Viewpoint ids of the shortest path between two, both ends included."""
        here, goal = self.index(a), self.index(b)
        if self.next_hop[here, goal] < 0:
            raise ValueError(f"house {self.scan} has no path from {a} to {b}. Choose two that are connected.")
        path = [here]
        while path[-1] != goal:
            path.append(self.next_hop[path[-1], goal])
        return [self.viewpoints[i] for i in path]


def check_path(house, path):
    """ValueError where two neighbours of a path of viewpoint ids have no edge between them (standing still is allowed)."""
    indices = [house.index(viewpoint) for viewpoint in path]
    for step, (a, b) in enumerate(zip(indices, indices[1:], strict=False)):
        if a != b and not house._walkable[a, b]:
            raise ValueError(f"step {step} of a path in house {house.scan} goes from {path[step]} to {path[step + 1]}, but "
                             "its graph has no such edge. Use paths along house.edges, such as house.shortest_path.")


def shortest_paths(position, edges):
    """Distances (N, N) float64 and next hops (N, N) int32 of a graph whose edges weigh their length."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    n = len(position)
    length = np.sqrt(((position[edges[:, 0]] - position[edges[:, 1]]) ** 2).sum(1))
    graph = csr_array((np.tile(length, 2), np.concatenate([edges, edges[:, ::-1]]).T), shape=(n, n))
    distance, before = dijkstra(graph, return_predecessors=True)
    next_hop = np.where(before < 0, -1, before).T.astype(np.int32)  # the way from b to a, walked backwards
    np.fill_diagonal(next_hop, np.arange(n))
    return distance, next_hop


def floors_by_height(z, included):
    """Storeys guessed from heights alone: where panoramas crowd at a height there is a storey, on stairs they are sparse.

    The density of the included heights (Gaussian kernel of `STAIR`) is read from its highest peak downwards; a peak counts if
    it is `STOREY` away from those before and at least a twentieth as high as the first. A guess: split levels join
    the nearest storey, and a storey of one or two panoramas is lost.

    z         (N,) float64 metres
    included  (N,) bool
    -> (N,) int64 floor of each, that of the nearest peak, 0 the lowest
    """
    crowd = z[included] if included.any() else z
    grid = np.arange(crowd.min() - STAIR, crowd.max() + 2 * STAIR, STAIR / 3)
    density = np.exp(-0.5 * ((grid[:, None] - crowd) / STAIR) ** 2).sum(1)
    inner = density[1:-1]
    peaks = 1 + np.flatnonzero((inner >= density[:-2]) & (inner > density[2:]) & (inner > density.max() / 20))
    storeys = []
    for height in grid[peaks[np.argsort(-density[peaks], kind="stable")]]:
        if all(abs(height - other) >= STOREY for other in storeys):
            storeys.append(height)
    return np.abs(z[:, None] - np.sort(storeys)).argmin(1)


def connectivity_folder(folder=None):
    """Where connectivity files are: the folder that was named, else matterport/connectivity below `data_home()`."""
    return Path(folder) if folder else data_home() / "matterport" / "connectivity"


def connectivity_file(scan, folder=None):
    """Path of the connectivity file of a scan, which must exist."""
    folder = connectivity_folder(folder)
    path = folder / f"{scan}_connectivity.json"
    if path.is_file():
        return path
    scans = sorted(file.name.removesuffix("_connectivity.json") for file in folder.glob("*_connectivity.json"))
    if not scans:
        raise FileNotFoundError(f"connectivity of house '{scan}' was expected at {path}. "
                                "Run `dgmlab data get matterport`, or use House.toy(seed).")
    near = difflib.get_close_matches(str(scan), scans, 1)
    shown = [*near, *(name for name in scans if name not in near)][:5]
    raise KeyError(f"no house '{scan}' in {folder}; choose one of {len(scans)}: {', '.join(shown)}"
                   f"{', ...' if len(scans) > 5 else ''}.")


def read_connectivity(scan, folder=None):
    """The House of a connectivity file; a damaged one is named, with what is wrong."""
    path = connectivity_file(scan, folder)
    try:
        entries = json.loads(path.read_bytes())
        n = len(entries)
        for entry in entries:
            for field, expected in (("pose", 16), ("visible", n), ("unobstructed", n)):
                if len(entry[field]) != expected:
                    raise ValueError(f"'{field}' of viewpoint {entry['image_id']} should have {expected} entries, found "
                                     f"{len(entry[field])}")
        return House(scan, tuple(entry["image_id"] for entry in entries),
                     np.array([entry["pose"][3:12:4] for entry in entries], dtype=np.float64),
                     np.array([entry["included"] for entry in entries], dtype=bool),
                     np.array([entry["unobstructed"] for entry in entries], dtype=bool))
    except (ValueError, TypeError, KeyError) as error:
        reason = f"an entry has no {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise ValueError(f"{path} is not a whole connectivity file: {reason}. Move it away and restore it, "
                         "for instance with `dgmlab data get matterport`.") from None
