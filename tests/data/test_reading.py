"""Which rows are taken where only so many are wanted."""

import numpy as np
import pytest

from dgmlab.data.reading import draw_rows


@pytest.mark.parametrize("limit", (None, 0, 7, 8))
def test_all_rows_where_no_fewer_are_wanted(limit):
    assert draw_rows(7, limit).tolist() == list(range(7))


def test_a_draw_is_ascending_without_repeats_and_depends_on_the_seed():
    first = draw_rows(1000, 100, seed=4)
    assert len(first) == 100 and (np.diff(first) > 0).all() and 0 <= first[0] and first[-1] < 1000
    assert draw_rows(1000, 100, seed=4).tolist() == first.tolist() != draw_rows(1000, 100, seed=5).tolist()


def test_every_row_is_drawn_about_equally_often():
    counts = np.bincount(np.concatenate([draw_rows(10, 3, seed) for seed in range(2000)]), minlength=10)
    assert counts.min() > 500 and counts.max() < 700  # 600 are expected, five standard deviations are 100
