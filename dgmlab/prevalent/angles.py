"""Directions as features: the 128 numbers that follow every picture feature, in one layout.

A direction is [sin heading, cos heading, sin elevation, cos elevation], repeated 32 times, so that its energy is of the order
of the picture's (Fried et al. 2018). The layout is interleaved, as in EnvDrop (Tan et al. 2019). The released PREVALENT code
pre-trains on four blocks (32 sines, 32 cosines, ...) and fine-tunes on the interleaved order, which feeds its encoder permuted
directions; here there is no other layout than this one.

Views are numbered 0..35: `level * 12 + heading`, the levels looking 30 degrees down, straight and 30 degrees up, the headings
30 degrees apart, clockwise from the +y axis. All angles are in radians.
"""

from functools import cache

import numpy as np

ANGLE_SIZE = 128  # numbers of a direction, 32 x 4
HEADINGS, VIEWS = 12, 36
STEP = np.pi / 6  # 30 degrees


def angle_feature(heading, elevation, size=ANGLE_SIZE):
    """Directions as features (Tan et al. 2019, section 3).

    heading, elevation  (...) float radians, broadcast against each other
    size                a multiple of 4
    -> (..., size) float32 in [-1, 1], [sin h, cos h, sin e, cos e] over and over
    """
    if size < 4 or size % 4:
        raise ValueError(f"the size of an angle feature is a multiple of 4, expected {ANGLE_SIZE} as published, found {size}.")
    heading, elevation = np.broadcast_arrays(np.asarray(heading, np.float64), np.asarray(elevation, np.float64))
    four = np.stack([np.sin(heading), np.cos(heading), np.sin(elevation), np.cos(elevation)], axis=-1)
    return np.tile(four.astype(np.float32), size // 4)


def view_direction(view):
    """Heading in [0, 2 pi) and elevation (-pi/6, 0 or pi/6) of view indices (...) 0..35. -> two (...) float64 arrays"""
    view = np.asarray(view)
    return view % HEADINGS * STEP, (view // HEADINGS - 1) * STEP


@cache
def view_angles(size=ANGLE_SIZE):
    """The directions of the 36 views as an agent sees them: heading relative to its own, elevation absolute.

    -> (12, 36, size) float32, read-only; the row is the agent's `view % 12`
    """
    heading, elevation = view_direction(np.arange(VIEWS))
    base = np.arange(HEADINGS)[:, None] * STEP
    table = angle_feature(heading - base, elevation, size)
    table.flags.writeable = False
    return table
