"""Matterport3DSimulator in numpy: B agents on navigation graphs, stepped together over tables.

    sim = Simulator(houses, batch_size=64)
    sim.reset(rows, headings)                    everyone; sim.reset(rows, headings, agents=[3, 7]) two of them
    sim.step(index, heading, elevation)          move to a neighbour in sight (0: stay), then turn and tilt the camera
    sim.row, sim.view, sim.heading, sim.neighbours

The states are those of the original (Anderson et al. 2018, src/lib/MatterSim.cpp), so traces of the two can be compared number
by number; the rules of sight and order are in `visibility`. With discretised angles everything that can be seen is a table of
36 views a panorama, made when a camera is first used on some houses and shared by their simulators; a step is some
twenty numpy calls, whatever the batch. With continuous angles neighbours are computed for the batch at every step.

Where the original surprises: a bad index leaves agents before it in the batch already moved (here nobody moves); its state
objects change under the reader (arrays handed out here are never written again, so a kept one stays, and `copy` costs
nothing); episodes begin for the whole batch (here for any agents).
"""

import copy
import weakref

import numpy as np

from dgmlab.prevalent.candidates import N_HEADINGS, STEP
from dgmlab.prevalent.visibility import (
    N_VIEWS,
    R2R_CAMERA,
    VIEW_ELEVATION,
    VIEW_HEADING,
    neighbours_at,
    unpacked,
    view_table,
    ways_of,
)

ELEVATION_LIMITS = (-0.94, 0.94)  # radians, of the continuous camera


def wrapped(heading):
    """Headings in [0, 2 pi), by the remainder of C (a hair below 0 gives 2 pi itself, as there)."""
    heading = np.fmod(heading, 2.0 * np.pi)
    return np.where(heading < 0, heading + 2.0 * np.pi, heading)


def nearest_view(heading, elevation):
    """View index 0..35 that the discretised camera snaps to.

    heading, elevation  (...) radians; half a step of heading rounds up, half a step of elevation is still level
    """
    steps = wrapped(heading) / STEP
    whole = np.floor(steps)
    step = (whole + (steps - whole >= 0.5)).astype(np.int64) % N_HEADINGS
    level = 1 + np.greater(elevation, STEP / 2.0) - np.less(elevation, -STEP / 2.0)
    return level * N_HEADINGS + step


def _next_views():
    """(36 * 16,) int64: the view after one action; entry view * 16 + (right) + 2 (left) + 4 (up) + 8 (down)."""
    view, way = np.divmod(np.arange(N_VIEWS * 16), 16)
    turn, tilt = (way & 1) - (way >> 1 & 1), (way >> 2 & 1) - (way >> 3 & 1)
    level = np.clip(view // N_HEADINGS + tilt, 0, 2)
    return level * N_HEADINGS + (view + turn) % N_HEADINGS


NEXT_VIEW = _next_views()
_shared = weakref.WeakKeyDictionary()  # houses -> {key: table}; goes when the houses go


def _table(houses, key, make):
    tables = _shared.setdefault(houses, {})
    if key not in tables:
        tables[key] = make()
    return tables[key]


def ways_of_houses(houses):
    """Ways over the rows of a Houses table, made once."""
    def make():
        parts = list(houses.houses.items())
        edges = [house.edges + houses.offset[scan] for scan, house in parts]
        return ways_of(np.concatenate([house.position for _, house in parts]), np.concatenate(edges))
    return _table(houses, "ways", make)


def with_values(array, where, values):
    """A copy of an array with other values in some places."""
    array = array.copy()
    array[where] = values
    return array


def check_starts(houses, rows, headings, elevations):
    """TypeError or ValueError where an episode cannot start at a row, or would look nowhere; says that nobody was reset."""
    if rows.dtype.kind not in "iu":
        raise TypeError(f"rows were expected as whole numbers, found {rows.dtype}. Use houses.row(scan, viewpoint).")
    for row in rows[(rows < 0) | (rows >= len(houses))]:
        raise ValueError(f"row {row} is no panorama of these houses, which have rows 0..{len(houses) - 1}. Nobody was reset.")
    for row in rows[~houses.included[rows]]:
        scan, viewpoint = houses.name(row)
        raise ValueError(f"viewpoint {viewpoint} of house {scan} is excluded from its graph, so no episode can start there. "
                         "Nobody was reset.")
    if not (np.isfinite(headings).all() and np.isfinite(elevations).all()):
        raise ValueError("headings and elevations were expected in radians, found one that is not finite. Nobody was reset.")


class Simulator:
    """B agents in the houses of one table.

    houses            Houses; a panorama is a row of it
    batch_size        B
    camera            Camera; the default is R2R's
    discretized       headings in steps of 30 degrees and three levels; else any heading, and elevations within the limits
    restricted        only neighbours in the picture can be moved to; else all, in the same order
    elevation_limits  radians (lowest, highest) of the continuous camera, lowest < 0 < highest

    After `reset`, and replaced (never written) by every step:

    row               (B,) int64  panorama
    view              (B,) int64  view index 0..35, level * 12 + heading step; 0 with continuous angles, as in the original
    heading           (B,) float64  radians in [0, 2 pi), 0 = +y, right positive
    elevation         (B,) float64  radians, up positive
    steps             (B,) int64  actions since the agent's reset
    neighbours        Neighbours: who can be moved to, entry 0 the own panorama; `index` of `step` counts its columns
    """

    def __init__(self, houses, batch_size=1, camera=R2R_CAMERA, discretized=True, restricted=True,
                 elevation_limits=ELEVATION_LIMITS):
        low, high = elevation_limits
        if not -np.pi / 2 < low < 0 < high < np.pi / 2:
            raise ValueError(f"elevation_limits were expected as -pi/2 < lowest < 0 < highest < pi/2, found "
                             f"{elevation_limits}.")
        if batch_size < 1:
            raise ValueError(f"batch_size was expected to be 1 or more, found {batch_size}.")
        self.houses, self.batch_size, self.camera = houses, batch_size, camera.checked()
        self.discretized, self.restricted, self.elevation_limits = discretized, restricted, elevation_limits
        self._ways = ways_of_houses(houses)
        if discretized:
            key = ("views", camera, restricted)
            self._views = _table(houses, key, lambda: view_table(self._ways, camera, restricted))
        self._agents = np.arange(batch_size)
        self.row = None

    def reset(self, rows, headings=0.0, elevations=0.0, agents=None):
        """New episodes for all agents, or for some; nobody is reset where anything is wrong.

        rows        panoramas, (A,) int or one for all; `houses.row(scan, viewpoint)` gives them
        headings    radians, (A,) or one; snapped to a view with discretised angles
        elevations  radians, (A,) or one; snapped, or cut to the limits
        agents      which of the batch: (A,) int numbers, or (B,) bool; None for all, and the first time it must be all
        """
        everyone = agents is None
        agents = self._agents[slice(None) if everyone else agents]
        if self.row is None and not everyone:
            raise RuntimeError("some agents were to be reset before all were. Call reset without `agents` first.")
        rows, headings, elevations = (np.broadcast_to(x, agents.shape) for x in (rows, headings, elevations))
        check_starts(self.houses, rows, headings, elevations)
        if everyone:
            self.row, self.view, self.steps = np.zeros((3, self.batch_size), np.int64)
            self._angles = np.zeros((2, self.batch_size))
        self.row, self.steps = with_values(self.row, agents, rows), with_values(self.steps, agents, 0)
        if self.discretized:
            self.view = with_values(self.view, agents, nearest_view(headings, elevations))
        else:
            self._angles = with_values(self._angles, (slice(None), agents), [wrapped(headings), np.clip(
                elevations, *self.elevation_limits)])
        self._look()

    def step(self, index=0, heading=0.0, elevation=0.0):
        """One action of every agent: move, then turn. Nobody moves where anything is wrong.

        index      (B,) int, or one for all: column of `neighbours` to move to, 0 to stay
        heading    (B,) or one: radians to turn right; with discretised angles only the sign counts, one step of 30 degrees
        elevation  (B,) or one: radians to tilt up; the same
        """
        if self.row is None:
            raise RuntimeError("step was called before reset. Call reset(rows) first.")
        index = self._checked_index(index)
        if self.discretized:
            way = np.greater(heading, 0) + 2 * np.less(heading, 0) + 4 * np.greater(elevation, 0) + 8 * np.less(elevation, 0)
            view = NEXT_VIEW.take(self.view * 16 + way)
            if view.shape != self.row.shape:
                raise ValueError(f"heading and elevation were expected for {self.batch_size} agents; nobody moved.")
            self.view = view
        else:
            self._angles = self._turned(heading, elevation)
        self.row = self.neighbours.row[self._agents, index].astype(np.int64)
        self.steps = self.steps + 1
        self._look()

    def _checked_index(self, index):
        index = np.asarray(index)
        if index.dtype.kind not in "iu":
            raise TypeError(f"index was expected as whole numbers, found {index.dtype}; nobody moved.")
        wrong = index.astype(np.uint64) >= self.neighbours.count.view(np.uint64)  # a negative one becomes huge
        if wrong.shape != self.row.shape:
            raise ValueError(f"index was expected for {self.batch_size} agents, found the shape {index.shape}; nobody moved.")
        if wrong.any():
            agent = int(wrong.argmax())
            scan, viewpoint = self.houses.name(self.row[agent])
            chosen = int(np.broadcast_to(index, wrong.shape)[agent])
            raise IndexError(f"agent {agent} of {self.batch_size} chose neighbour {chosen}, but from viewpoint {viewpoint} of "
                             f"house {scan} it sees 0..{self.neighbours.count[agent] - 1} (0 is to stay); nobody moved.")
        return index

    def _turned(self, heading, elevation):
        """Angles (2, B) of the continuous camera after a turn."""
        angles = np.empty((2, self.batch_size))
        angles[0], angles[1] = wrapped(self._angles[0] + heading), np.clip(self._angles[1] + elevation, *self.elevation_limits)
        if not np.isfinite(angles).all():
            raise ValueError("heading and elevation were expected in radians, found one that is not finite; nobody moved.")
        return angles

    def _look(self):
        """What the agents see now."""
        if self.discretized:
            self.neighbours = unpacked(self._views.take(self.row * N_VIEWS + self.view))
        else:
            self.neighbours = neighbours_at(self._ways, self.row, *self._angles, self.camera, self.restricted)

    @property
    def heading(self):
        return VIEW_HEADING.take(self.view) if self.discretized else self._angles[0]

    @property
    def elevation(self):
        return VIEW_ELEVATION.take(self.view) if self.discretized else self._angles[1]

    @property
    def names(self):
        """List of (scan, viewpoint) of the agents."""
        return [self.houses.name(row) for row in self.row]

    def copy(self):
        """A simulator in the same states that goes its own way from here, for branching."""
        return copy.copy(self)
