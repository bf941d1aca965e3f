"""One agent at a time in plain Python: the states that `mattersim` hands out, and the buildings they are in.

For a single agent Python's own numbers are faster than arrays of one. The rules are those of `visibility`; with continuous
angles they are written out once more here, in float64 rounded to float32 after every operation of the original's float32
(which for +, - and * is the same thing), and the tests hold the two against each other.
"""

import math
import operator
import struct
from typing import NamedTuple

import numpy as np

from dgmlab.prevalent.simulator import NEXT_VIEW, nearest_view
from dgmlab.prevalent.visibility import N_VIEWS, VIEW_ELEVATION, VIEW_HEADING, unpacked, view_table, ways_of

TURN = 2.0 * math.pi
NEXT_VIEWS = NEXT_VIEW.reshape(N_VIEWS, 16).tolist()
ONE, TWO, THREE, SIX = map(struct.Struct, ("f", "2f", "3f", "6f"))  # packing and unpacking rounds to float32
FIRST = operator.itemgetter(0)
HEADINGS, ELEVATIONS = VIEW_HEADING.tolist(), VIEW_ELEVATION.tolist()


class ViewPoint(NamedTuple):
    """A panorama as one agent sees it: metres in the world, radians relative to the camera."""

    viewpointId: str
    ix: int
    x: float
    y: float
    z: float
    rel_heading: float
    rel_elevation: float
    rel_distance: float

    @property
    def point(self):
        """[x, y, z], the name of v0.1."""
        return [self.x, self.y, self.z]


class SimState:
    """One agent at one moment: a snapshot. What is costly is made when it is asked for, and kept.

    scanId, step, viewIndex (0 with continuous angles), heading in [0, 2 pi), elevation: radians
    """

    __slots__ = ("_navigable", "elevation", "heading", "ix", "step", "viewIndex", "building")

    def __init__(self, building, ix, step, view, heading, elevation):
        self.building, self.ix, self._navigable = building, ix, None
        self.step, self.viewIndex, self.heading, self.elevation = step, view, heading, elevation

    def __repr__(self):
        return (f"SimState({self.scanId}, {self.location.viewpointId}, step {self.step}, heading {self.heading:.3f}, "
                f"elevation {self.elevation:.3f})")

    @property
    def scanId(self):
        return self.building.scan

    @property
    def location(self):
        """ViewPoint where the agent stands; its angles and distance are 0."""
        return self.building.viewpoint(self.ix)

    @property
    def navigableLocations(self):
        """List of ViewPoint; entry 0 is `location`, the others by their distance from the middle of the picture."""
        return list(self.navigable())

    def navigable(self):
        """The same as a tuple, which is kept."""
        if self._navigable is None:
            self._navigable = self.building.navigable(self)
        return self._navigable

    @property
    def rgb(self):
        """Black picture, (height, width, 3) uint8."""
        return np.zeros((self.building.camera.height, self.building.camera.width, 3), np.uint8)

    @property
    def depth(self):
        """Black picture, (height, width, 1) uint16."""
        return np.zeros((self.building.camera.height, self.building.camera.width, 1), np.uint16)


class Building:
    """One scan as seen by one camera; shared by simulators, never written."""

    def __init__(self, house, camera, restricted):
        self.scan, self.house, self.camera, self.restricted = house.scan, house, camera, restricted
        self.ways = ways_of(house.position, house.edges)
        position = house.position.astype(np.float32).tolist()
        self.places = [(name, ix, *xyz) for ix, (name, xyz) in enumerate(zip(house.viewpoints, position, strict=True))]

    def viewpoint(self, ix, heading=0.0, elevation=0.0, distance=0.0):
        return ViewPoint(*self.places[ix], heading, elevation, distance)

    def included(self):
        return np.flatnonzero(self.house.included).tolist()

    def index(self, viewpoint):
        """Index of a viewpoint id where an episode may start."""
        try:
            ix = self.house.index(viewpoint)
        except KeyError as error:
            raise ValueError(f"MatterSim: Could not find viewpointId: {viewpoint}, is viewpoint id valid? "
                             f"({error.args[0]})") from None
        if not self.house.included[ix]:
            raise ValueError(f"MatterSim: ViewpointId: {viewpoint}, is excluded from the connectivity graph of {self.scan}. "
                             "Start at another.")
        return ix


class Discretized(Building):
    """With a camera that snaps to 36 views: everything is in a table."""

    def __init__(self, house, camera, restricted):
        super().__init__(house, camera, restricted)
        self.table = unpacked(view_table(self.ways, camera, restricted))
        self.reach = self.table.row.tolist()  # state -> panoramas, -1 padded
        self.count = self.table.count.tolist()

    def start(self, ix, heading, elevation):
        view = int(nearest_view(heading, elevation))
        return SimState(self, ix, 0, view, HEADINGS[view], ELEVATIONS[view])

    def after(self, state, index, heading, elevation):
        """The next state, or None where there is no such index."""
        view = state.viewIndex
        here = state.ix * N_VIEWS + view
        if not 0 <= index < self.count[here]:
            return None
        view = NEXT_VIEWS[view][(heading > 0) + 2 * (heading < 0) + 4 * (elevation > 0) + 8 * (elevation < 0)]
        return SimState(self, self.reach[here][index], state.step + 1, view, HEADINGS[view], ELEVATIONS[view])

    def navigable(self, state):
        here = state.ix * N_VIEWS + state.viewIndex
        stop, table = self.count[here], self.table
        return tuple(map(self.viewpoint, self.reach[here][:stop], table.heading[here, :stop].tolist(),
                         table.elevation[here, :stop].tolist(), table.distance[here, :stop].tolist()))


class Continuous(Building):
    """With a camera that looks anywhere between the elevation limits: neighbours are computed when they are needed."""

    def __init__(self, house, camera, restricted, limits):
        super().__init__(house, camera, restricted)
        self.limits = limits
        self.least_cosine = camera.least_cosine
        columns = [column.tolist() for column in (self.ways.end, *self.ways[3:9])]  # end, x, y, ux, uy, rise, distance
        edges, first = list(zip(*columns, strict=True)), self.ways.first.tolist()
        self.edges = [edges[begin:end] for begin, end in zip(first, first[1:], strict=False)]

    def start(self, ix, heading, elevation):
        return self._at(ix, 0, heading, elevation)

    def _at(self, ix, step, heading, elevation):
        heading = math.fmod(heading, TURN)
        return SimState(self, ix, step, 0, heading + TURN if heading < 0 else heading,
                        float(max(min(elevation, self.limits[1]), self.limits[0])))

    def after(self, state, index, heading, elevation):
        """The next state, or None where there is no such index."""
        if not (math.isfinite(heading) and math.isfinite(elevation)):
            raise ValueError(f"heading and elevation were expected in radians, found {heading} and {elevation}; nobody moved.")
        ix = state.ix
        if index:
            locations = state.navigable()
            if not 0 <= index < len(locations):
                return None
            ix = locations[index].ix
        return self._at(ix, state.step + 1, state.heading + heading, state.elevation + elevation)

    def navigable(self, state):
        """ViewPoints in order, the own one first."""
        angle = math.pi / 2.0 - state.heading
        cx, cy = TWO.unpack(TWO.pack(math.cos(angle), math.sin(angle)))
        seen = [(0.0, state.ix, 0.0, 0.0, 0.0)]
        for end, x, y, ux, uy, rise, distance in self.edges[state.ix]:
            a, b, c, d, e, f = SIX.unpack(SIX.pack(x * cx, y * cy, x * cy, y * cx, ux * cx, uy * cy))
            ahead, right, cosine = THREE.unpack(THREE.pack(a + b, c - d, e + f))
            if cosine >= self.least_cosine or not self.restricted:  # the cosine of one straight above is not a number
                turn, = ONE.unpack(ONE.pack(math.atan2(right, ahead)))
                tilt = rise - state.elevation
                seen.append((math.sqrt(turn * turn + tilt * tilt), end, turn, tilt, distance))
        seen.sort(key=FIRST)
        return tuple([self.viewpoint(*place) for _, *place in seen])
