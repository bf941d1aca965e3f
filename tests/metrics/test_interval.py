"""The percentile interval: known spreads, several statistics at once, and draws that depend on the seed alone."""

import numpy as np
import pytest

from dgmlab.metrics.interval import percentile_interval


def test_interval_of_a_mean_is_as_wide_as_its_standard_error():
    values = np.random.default_rng(3).normal(5, 2, 400)
    low, high = percentile_interval(lambda rows: values[rows].mean(), len(values))
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.12)


def test_wider_for_a_higher_level():
    values = np.arange(30.0)
    ends = [percentile_interval(lambda rows: values[rows].mean(), 30, level=level) for level in (0.5, 0.95)]
    assert ends[1][0] < ends[0][0] < ends[0][1] < ends[1][1]


def test_one_item_leaves_nothing_to_draw():
    assert list(percentile_interval(lambda rows: float(rows.sum()) + 7, 1)) == [7, 7]


def test_several_statistics_share_their_draws():
    values = np.random.default_rng(0).random(50)
    low, high = percentile_interval(lambda rows: [values[rows].mean(), -values[rows].mean()], 50, n_draws=200)
    assert low.shape == high.shape == (2,)
    assert low[1] == pytest.approx(-high[0]) and high[1] == pytest.approx(-low[0])
    again = percentile_interval(lambda rows: values[rows].mean(), 50, n_draws=200)
    other = percentile_interval(lambda rows: values[rows].mean(), 50, n_draws=200, seed=1)
    assert tuple(again) == (low[0], high[0]) != tuple(other)
