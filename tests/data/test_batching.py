"""Batches are a pure function of their arguments, waste little padding and lose no row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmlab.data.batching import Position, batches, pad, position, share, sorted_batches


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 5), st.integers(0, 3)
)
@settings(deadline=None)
def test_an_epoch_holds_every_row_once(lengths, batch_size, seed, epoch):
    made = batches(lengths, batch_size, seed, epoch)
    assert sorted(np.concatenate(made).tolist()) == list(range(len(lengths)))
    assert len(made) == -(-len(lengths) // batch_size)
    assert sum(len(batch) < batch_size for batch in made) == (len(lengths) % batch_size > 0)


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 9))
@settings(deadline=None)
def test_sorted_batches_hold_every_row_once_the_shortest_first(lengths, batch_size):
    made = sorted_batches(lengths, batch_size)
    rows = [row for batch in made for row in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths))) and [lengths[row] for row in rows] == sorted(lengths)
    assert all(len(batch) == batch_size for batch in made[:-1])


def test_batches_depend_on_seed_and_epoch_and_nothing_else():
    lengths = np.random.default_rng(0).integers(1, 30, 500)

    def flat(*key):
        return np.concatenate(batches(lengths, 8, *key)).tolist()

    np.random.seed(0)
    first = flat(3, 7)
    np.random.seed(1)
    assert first == flat(3, 7)
    assert len({tuple(flat(*key)) for key in ((3, 7), (3, 8), (4, 7), (7, 3))}) == 4


def test_buckets_hold_rows_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 60, 4000)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches(lengths, 16, 0, 0))
    shuffled = np.random.default_rng(1).permutation(4000).reshape(-1, 16)
    unsorted = sum(16 * lengths[batch].max() for batch in shuffled)
    assert padded / lengths.sum() < 1.05 < 1.7 < unsorted / lengths.sum()


def test_batches_of_an_epoch_are_not_ordered_by_length():
    lengths = np.arange(1, 801)
    means = np.array([lengths[batch].mean() for batch in batches(lengths, 8, 0, 0)])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_position_of_a_step():
    assert [position(step, 3) for step in (0, 2, 3, 7)] == [Position(0, 0), Position(0, 2), Position(1, 0), Position(2, 1)]


@given(st.integers(1, 40), st.integers(1, 5))
def test_ranks_share_a_batch_without_overlap(size, world):
    batch = np.arange(size)
    shares = [share(batch, rank, world).tolist() for rank in range(world)]
    assert all(shares)
    if size >= world:
        assert sorted(sum(shares, [])) == batch.tolist()
    else:
        assert sorted(set(sum(shares, []))) == batch.tolist() and all(len(rows) == 1 for rows in shares)


def test_ranks_take_every_world_th_row():
    assert share([10, 11, 12, 13, 14], 0, 2) == [10, 12, 14]
    assert share([10, 11, 12, 13, 14], 1, 2) == [11, 13]
    assert share([10], 1, 2) == [10]


def test_pad_fills_on_the_right():
    padded = pad([[5, 6, 7], [8], []], pad_id=-100)
    assert padded.tolist() == [[5, 6, 7], [8, -100, -100], [-100, -100, -100]]
    assert str(padded.dtype) == "torch.int64"


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="Is the corpus empty"):
        batches([], 4, 0, 0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, found 0"):
        batches([1], 0, 0, 0)
    with pytest.raises(ValueError, match="at least one batch, found 0"):
        position(3, 0)
    with pytest.raises(ValueError, match=r"rank must lie in 0..1 for 2 processes, found 2"):
        share([1, 2], 2, 2)
