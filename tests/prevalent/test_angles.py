"""The layout of the angle feature, by hand and against a plain rewriting of the published rule."""

import math

import numpy as np
import pytest

from dgmlab.prevalent.angles import ANGLE_SIZE, angle_feature, view_angles, view_direction


def test_layout_is_interleaved_by_hand():
    feature = angle_feature(math.pi / 2, math.pi / 6)
    assert feature.shape == (ANGLE_SIZE,) and feature.dtype == np.float32
    np.testing.assert_allclose(feature[:4], [1, 0, 0.5, math.sqrt(3) / 2], atol=1e-7)
    np.testing.assert_array_equal(feature, np.tile(feature[:4], 32))
    blocks = np.repeat(feature[:4], 32)  # the order of the released pre-training, which must not come back
    assert not np.array_equal(feature, blocks)


def test_shapes_broadcast_and_wrong_sizes_are_named():
    feature = angle_feature(np.zeros((2, 3)), 0.1, 8)
    assert feature.shape == (2, 3, 8)
    np.testing.assert_allclose(feature[1, 2], [0, 1, math.sin(0.1), math.cos(0.1)] * 2, atol=1e-7)
    for size in (0, 6):
        with pytest.raises(ValueError, match=f"a multiple of 4, expected 128 as published, found {size}"):
            angle_feature(0, 0, size)


def test_views_count_from_below_and_clockwise():
    heading, elevation = view_direction(np.array([0, 3, 12, 23, 35]))
    np.testing.assert_allclose(np.degrees(heading), [0, 90, 0, 330, 330], atol=1e-9)
    np.testing.assert_allclose(np.degrees(elevation), [-30, -30, 0, 0, 30], atol=1e-9)


def test_view_angles_turn_with_the_agent_and_keep_the_level():
    table = view_angles()
    assert table.shape == (12, 36, ANGLE_SIZE) and not table.flags.writeable
    for agent in range(12):
        for view in range(36):
            relative = (view - agent) % 12 * math.radians(30)
            level = (view // 12 - 1) * math.radians(30)
            four = [math.sin(relative), math.cos(relative), math.sin(level), math.cos(level)]
            np.testing.assert_allclose(table[agent, view], four * 32, atol=1e-6)
    assert np.allclose(table[5, 12 + 5, :2], [0, 1], atol=1e-6)  # what lies ahead has heading 0
