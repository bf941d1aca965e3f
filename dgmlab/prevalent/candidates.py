"""The panoramic action space: what can be reached from each panorama, and in which of its 36 views it stands.

The rule is `make_candidate` of R2R-EnvDrop (Tan et al. 2019, r2r_src/env.py) on the geometry of Matterport3DSimulator
(Anderson et al. 2018, src/lib/MatterSim.cpp) with the camera of R2R: 640 x 480 pixels, 60 degrees high, discretised angles,
restricted navigation. A camera sweeps the views 0..35 (12 headings, right turns of 30 degrees, at -30, 0 and +30 degrees). A
neighbour is seen in a view when it stands within 40 degrees of its heading, at whatever elevation; its candidate is the
view in which its angular distance sqrt(relative heading^2 + relative elevation^2) is smallest, the first of equals.
"""

from typing import NamedTuple

import numpy as np

N_HEADINGS = 12
STEP = np.pi / 6  # radians between two headings, and between two levels
LEVELS = np.array([-STEP, 0.0, STEP])  # camera elevations of the views 0-11, 12-23, 24-35
HALF_WIDTH = np.deg2rad(40)  # half the horizontal field: linear in the aspect ratio, 60 degrees * 640 / 480 / 2


class Candidates(NamedTuple):
    """Neighbours of N panoramas, at most K each, in the order of first sight over the views 0..35; angles in radians.

    index      (N, K) int32    panorama that the candidate leads to, -1 where there is none
    view       (N, K) int8     0..35, the view it is best seen in ('pointId'), kept by an agent that moves there; -1 padded
    slot       (N, K) int8     its place in the navigableLocations of that view (the panorama itself is 0); -1 padded
    heading    (N, K) float64  absolute: that of the view plus the relative one, -15 to 345 degrees; 0 padded
    elevation  (N, K) float64  absolute, up positive; 0 padded
    distance   (N, K) float64  metres, straight; 0 padded
    angle      (N, K) float64  angular distance from the middle of the view; 0 padded
    count      (N,) int64      candidates of each panorama
    """

    index: np.ndarray
    view: np.ndarray
    slot: np.ndarray
    heading: np.ndarray
    elevation: np.ndarray
    distance: np.ndarray
    angle: np.ndarray
    count: np.ndarray


def candidate_table(position, edges):
    """Candidates of every panorama of a graph (or of several graphs side by side).

    position  (N, 3) float64 metres, z up
    edges     (E, 2) int, each undirected edge once
    -> Candidates; one straight above another is in no view and so no candidate, as in the original
    """
    source, target = np.concatenate([edges, edges[:, ::-1]]).reshape(-1, 2).T
    turn, rise, distance = _bearings(position, source, target)
    seen = ~np.isnan(turn)
    source, target, turn, rise, distance, seen = (x[seen.any(1)] for x in (source, target, turn, rise, distance, seen))
    off_level = rise[:, None] - LEVELS  # (D, 3)
    angle = np.sqrt(turn[:, None, :] ** 2 + off_level[:, :, None] ** 2).reshape(-1, 36)  # (D, 36), nan where not in sight
    first = seen.argmax(1)  # all headings of the lowest level come first, and elevation hides nothing
    each = np.arange(len(source))
    order = np.lexsort((target, angle[each, first], first, source))
    source, target, turn, rise, distance, angle = (x[order] for x in (source, target, turn, rise, distance, angle))
    view = np.nanargmin(angle, axis=1) if len(angle) else first

    count = np.bincount(source, minlength=len(position))
    start = np.cumsum(count) - count
    table = (source, each - start[source])  # row and column of each directed edge
    shape = (len(position), count.max(initial=0))

    def filled(values, dtype, pad=0):
        padded = np.full(shape, pad, dtype)
        padded[table] = values
        return padded

    heading = STEP * (view % N_HEADINGS) + turn[each, view % N_HEADINGS]
    slot = _slots(filled(each, np.int64, -1)[source], angle, view, target)
    return Candidates(filled(target, np.int32, -1), filled(view, np.int8, -1), filled(slot, np.int8, -1),
                      filled(heading, np.float64), filled(rise, np.float64), filled(distance, np.float64),
                      filled(angle[each, view], np.float64), count)


def _bearings(position, source, target):
    """Relative heading (D, 12) from each camera heading, nan where out of sight; elevation (D,) and distance (D,).

    In single precision wherever the simulator has it, so that what is in sight, and in which order, agrees with it.
    """
    way = position[target].astype(np.float32) - position[source].astype(np.float32)  # (D, 3)
    x, y, z = way.T[:, :, None]
    flat = np.hypot(x, y)
    camera = np.pi / 2 - STEP * np.arange(N_HEADINGS)
    cx, cy = np.cos(camera).astype(np.float32), np.sin(camera).astype(np.float32)
    ahead, right = x * cx + y * cy, x * cy - y * cx  # (D, 12)
    with np.errstate(invalid="ignore", divide="ignore"):
        in_sight = x / flat * cx + y / flat * cy >= np.cos(HALF_WIDTH)
    turn = np.where(in_sight, np.arctan2(right, ahead), np.float32(np.nan)).astype(np.float64)
    rise = np.arctan2(z[:, 0].astype(np.float64), flat[:, 0])
    return turn, rise, np.sqrt((way**2).sum(1)).astype(np.float64)


def _slots(siblings, angle, view, target):
    """Place of each directed edge among those in sight in its view: nearest to the middle first, then by panorama.

    siblings (D, K) the directed edges that leave the same panorama, -1 padded. -> (D,) int, from 1
    """
    theirs = np.where(siblings >= 0, angle[siblings, view[:, None]], np.nan)  # (D, K), nan where not in sight
    own = angle[np.arange(len(view)), view][:, None]
    before = (theirs < own) | ((theirs == own) & (target[siblings] < target[:, None]))
    return 1 + before.sum(1)
