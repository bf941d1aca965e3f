"""Which rows are taken where only so many are wanted."""

import numpy as np
import pytest

from dgmlab.data.reading import check_limit, draw, draw_rows


@pytest.mark.parametrize("limit", (None, 0, -1, 7, 8))
def test_all_rows_where_no_fewer_are_wanted(limit):
    assert draw_rows(7, limit).tolist() == list(range(7))


def test_a_draw_is_ascending_without_repeats_and_depends_on_the_seed():
    first = draw_rows(1000, 100, seed=4)
    assert len(first) == 100 and (np.diff(first) > 0).all() and 0 <= first[0] and first[-1] < 1000
    assert draw_rows(1000, 100, seed=4).tolist() == first.tolist() != draw_rows(1000, 100, seed=5).tolist()


def test_items_are_drawn_in_their_order():
    items = list("abcdefgh")
    assert draw(items, 8) is items and draw(items) is items
    assert draw(items, 3, seed=2) == [items[i] for i in draw_rows(8, 3, seed=2)] == sorted(draw(items, 3, seed=2))


def test_a_loader_gives_one_item_or_more():
    assert check_limit(None, "pictures") is None and check_limit(1, "pictures") is None
    with pytest.raises(ValueError, match="limit must be at least 1, found 0. Use limit=None for all pictures."):
        check_limit(0, "pictures")


def test_every_row_is_drawn_about_equally_often():
    counts = np.bincount(np.concatenate([draw_rows(10, 3, seed) for seed in range(2000)]), minlength=10)
    assert counts.min() > 500 and counts.max() < 700  # 600 are expected, five standard deviations are 100
