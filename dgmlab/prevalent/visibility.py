"""Which neighbours a camera shows, where they stand in its picture, and in which order: the rules of Matterport3DSimulator.

The geometry is that of `populateNavigable` (Anderson et al. 2018, Matterport3DSimulator, src/lib/MatterSim.cpp), operation by
operation in the precision of the original: positions, directions and relative headings in float32, elevations in float64.
With restricted navigation a neighbour counts while it stands within half the horizontal field of view of the camera's
heading, at whatever elevation; the field of view is linear in the aspect ratio, vfov * width / height, not by the tangent. The
order is by sqrt(relative heading^2 + relative elevation^2), where the elevation is relative to the camera's, ties by index.
Entry 0 is always the panorama itself. One straight above another has no direction to compare: restricted navigation never
shows it, unrestricted navigation does.
"""

import math
import numbers
from typing import NamedTuple

import numpy as np

from dgmlab.prevalent.candidates import LEVELS, N_HEADINGS, STEP

N_VIEWS = 3 * N_HEADINGS
VIEW_HEADING = np.tile(np.arange(N_HEADINGS) * STEP, 3)  # (36,) radians of each view index, level * 12 + heading step
VIEW_ELEVATION = np.repeat(LEVELS, N_HEADINGS)


class Camera(NamedTuple):
    """A camera: picture size in pixels, vertical field of view in radians. The original's by default; see `R2R_CAMERA`."""

    width: int = 320
    height: int = 240
    vfov: float = 0.8

    def checked(self):
        """The camera itself; ValueError where it could not take a picture."""
        whole = all(isinstance(size, numbers.Integral) and size > 0 for size in self[:2])
        if not (whole and 0 < self.vfov < np.inf):
            raise ValueError("a camera has a width and a height in whole pixels above 0 and a vfov in radians above 0, found "
                             f"{tuple(self)}. Use for instance Camera(640, 480, math.radians(60)).")
        return self

    @property
    def least_cosine(self):
        """Cosine of half the horizontal field of view: what a direction must reach to be seen."""
        return math.cos(self.vfov * self.width / self.height / 2.0)


R2R_CAMERA = Camera(640, 480, math.radians(60))  # of R2R, REVERIE, CVDN and their features


class Ways(NamedTuple):
    """The D directed edges of P panoramas, sorted by where they begin, then by where they lead.

    start, end   (D,) int64 panoramas
    first        (P + 1,) int64: those of panorama p are first[p]:first[p + 1]
    x, y         (D,) float32 metres from start to end, seen from above; ux, uy the same with length 1, NaN straight up
    rise         (D,) float64 radians above the horizon
    distance     (D,) float32 metres
    widest       most edges that a panorama has
    """

    start: np.ndarray
    end: np.ndarray
    first: np.ndarray
    x: np.ndarray
    y: np.ndarray
    ux: np.ndarray
    uy: np.ndarray
    rise: np.ndarray
    distance: np.ndarray
    widest: int


class Neighbours(NamedTuple):
    """What B agents see, at most K - 1 neighbours each, nearest to the middle of the picture first.

    row        (B, K) int32    panorama; entry 0 the agent's own, -1 where there is none
    heading    (B, K) float32  radians right of the camera, (-pi, pi]; 0 for entry 0 and where there is none, as below
    elevation  (B, K) float64  radians above the camera's
    distance   (B, K) float32  metres, straight
    count      (B,) int64      entries that are there, the agent's own among them
    """

    row: np.ndarray
    heading: np.ndarray
    elevation: np.ndarray
    distance: np.ndarray
    count: np.ndarray


def ways_of(position, edges):
    """Directed edges of a graph.

    position  (P, 3) float metres, z up
    edges     (E, 2) int, each undirected edge once
    -> Ways with D = 2 E
    """
    start, end = np.concatenate([edges, edges[:, ::-1]]).reshape(-1, 2).T
    order = np.lexsort((end, start))
    start, end = start[order], end[order]
    position = position.astype(np.float32)
    x, y, z = (position[end] - position[start]).T
    flat = x * x + y * y
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.float32(1) / np.sqrt(flat)
        ux, uy = x * scale, y * scale
    rise = np.arctan2(z.astype(np.float64), np.sqrt(flat).astype(np.float64))
    first = np.searchsorted(start, np.arange(len(position) + 1))
    return Ways(start, end, first, x, y, ux, uy, rise, np.sqrt(flat + z * z), int(np.diff(first).max(initial=0)))


def bearings(ways, which, heading):
    """Where the ends of edges stand in the pictures of cameras.

    which    (...) int edges
    heading  (...) float64 radians of the cameras, broadcast against `which`
    -> (cosine (...) float32 of the angle from the camera's heading, relative heading (...) float32)
    """
    angle = np.pi / 2.0 - heading
    cx, cy = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    x, y = ways.x[which], ways.y[which]
    return ways.ux[which] * cx + ways.uy[which] * cy, np.arctan2(x * cy - y * cx, x * cx + y * cy)


def view_table(ways, camera, restricted=True):
    """Neighbours of all S = 36 P states of the discretised camera, for the edges in sight only; state = panorama * 36 + view.

    -> (S,) structured array with the fields of Neighbours, K as the fullest view needs: what an agent reads lies together
    """
    cosine, turn = bearings(ways, np.arange(len(ways.start))[:, None], VIEW_HEADING[:N_HEADINGS])  # (D, 12)
    edge, step = np.nonzero(cosine >= camera.least_cosine) if restricted else np.indices(cosine.shape).reshape(2, -1)
    state = ways.start[edge] * N_VIEWS + step
    state = np.concatenate([state, state + N_HEADINGS, state + 2 * N_HEADINGS])  # every level sees the same
    edge, turn = np.tile(edge, 3), np.tile(turn[edge, step], 3)
    tilt = ways.rise[edge] - VIEW_ELEVATION[state % N_VIEWS]
    order = np.lexsort((edge, off_centre(turn, tilt), state))
    state, edge, turn, tilt = state[order], edge[order], turn[order], tilt[order]

    n_states = (len(ways.first) - 1) * N_VIEWS
    seen = np.bincount(state, minlength=n_states)
    place = (state, np.arange(len(state)) - (np.cumsum(seen) - seen)[state] + 1)
    width = seen.max(initial=0) + 1
    table = np.zeros(n_states, np.dtype([("elevation", np.float64, width), ("count", np.int64), ("row", np.int32, width), (
        "heading", np.float32, width), ("distance", np.float32, width)], align=True))
    table["row"] = -1
    table["row"][:, 0] = np.arange(n_states) // N_VIEWS
    table["count"] = seen + 1
    for name, values in (("row", ways.end[edge]), ("heading", turn), ("elevation", tilt), ("distance", ways.distance[edge])):
        table[name][place] = values
    return table


def unpacked(records):
    """Records of a view table as Neighbours; the arrays are parts of them."""
    return Neighbours(*(records[name] for name in Neighbours._fields))


def neighbours_at(ways, row, heading, elevation, camera, restricted=True):
    """Neighbours of B agents whose cameras point anywhere.

    row, heading, elevation  (B,) panorama, radians, radians
    -> Neighbours with `ways.widest` + 1 columns
    """
    begin, degree = ways.first[row], ways.first[row + 1] - ways.first[row]
    slot = np.arange(ways.widest)
    there = slot < degree[:, None]  # (B, K - 1)
    edge = np.where(there, begin[:, None] + slot, 0)
    cosine, turn = bearings(ways, edge, heading[:, None])
    tilt = ways.rise[edge] - elevation[:, None]
    seen = there & (cosine >= camera.least_cosine) if restricted else there
    order = np.where(seen, off_centre(turn, tilt), np.inf).argsort(axis=1, kind="stable")
    seen = np.take_along_axis(seen, order, axis=1)

    def in_order(own, values, pad=0):
        table = np.empty((len(row), 1 + len(slot)), values.dtype)
        table[:, 0] = own
        table[:, 1:] = np.where(seen, np.take_along_axis(values, order, axis=1), values.dtype.type(pad))
        return table

    return Neighbours(in_order(row, ways.end[edge].astype(np.int32), -1), in_order(0, turn), in_order(0, tilt),
                      in_order(0, ways.distance[edge]), seen.sum(axis=1) + 1)


def off_centre(turn, tilt):
    """Angular distance from the middle of the picture by which neighbours are sorted; float64 radians."""
    turn = turn.astype(np.float64)
    return np.sqrt(turn * turn + tilt * tilt)
