"""Batches as a pure function of their arguments: length-bucketed for sentences, equally large for pictures.

A sampler that keeps no state can stop and go on anywhere: the position in training is (epoch, index), it follows from the
step, and the batch at that position follows from (lengths, batch_size, seed, epoch). Corpora too large for a list of lengths
are read by `dgmlab.data.stream`.
"""

from typing import NamedTuple

import numpy as np

POOL = 50  # batches sorted by length together: enough of them to waste little padding, few enough to mix lengths in an epoch


class Position(NamedTuple):
    """Where a step stands: which pass over the data, and which batch of it."""

    epoch: int
    index: int


def batches(lengths, batch_size, seed, epoch):
    """All batches of one epoch: rows of similar length together, in a random order; every row once, none dropped.

    lengths     (N,) int   tokens of each row
    batch_size  int        rows in a batch; one batch of the epoch is smaller when batch_size does not divide N
    seed, epoch int >= 0   other values give other batches, the same values the same batches
    -> list of ceil(N / batch_size) arrays of row indices, (<= batch_size,) int64
    """
    lengths = np.asarray(lengths)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}.")
    if lengths.ndim != 1 or not len(lengths):
        raise ValueError(f"lengths must be a list of one or more numbers, found shape {lengths.shape}. Is the corpus empty?")
    rng = np.random.default_rng([seed, epoch])
    rows = rng.permutation(len(lengths))
    made = []
    for start in range(0, len(rows), POOL * batch_size):
        pool = rows[start : start + POOL * batch_size]
        made += [pool[picked] for picked in sorted_batches(lengths[pool], batch_size)]
    return [made[i] for i in rng.permutation(len(made))]


def sorted_batches(lengths, batch_size):
    """Batches for a look at every row, when the order is free: the shortest rows first, so that little is padding.

    lengths  (N,) int   tokens of each row
    -> list of arrays of row indices, (<= batch_size,) int64
    """
    order = np.argsort(lengths, kind="stable")
    return [order[i:i + batch_size] for i in range(0, len(order), batch_size)]


def equal_batches(n_rows, batch_size, seed, epoch):
    """All batches of one epoch over rows of one length, such as pictures: shuffled, equally large.

    The n_rows % batch_size rows at the end of the order are left out; they differ from epoch to epoch, so none is lost. Use:
    `for epoch, rows in endless(lambda epoch: equal_batches(len(x), 64, seed, epoch), start_step)`.
    -> list of n_rows // batch_size arrays of row indices, (batch_size,) int64
    """
    if not 1 <= batch_size <= n_rows:
        raise ValueError(f"batch_size must lie in 1..{n_rows} for {n_rows} rows, found {batch_size}. Lower it, or add data.")
    rows = np.random.default_rng([seed, epoch]).permutation(n_rows)
    return list(rows[: n_rows // batch_size * batch_size].reshape(-1, batch_size))


def position(step, n_batches):
    """Where a step stands when an epoch has `n_batches` batches; the first step is 0. -> Position(epoch, index)"""
    if n_batches < 1:
        raise ValueError(f"an epoch needs at least one batch, found {n_batches}. Is the corpus empty?")
    return Position(*divmod(step, n_batches))


def share(batch, rank, world):
    """The rows of a batch that process `rank` of `world` works on: rank::world.

    A batch with fewer rows than processes gives the surplus processes a row that another one has too, since all of them must
    take part in the step.
    batch  array or list of B rows
    -> the same type with ceil((B - rank) / world) rows, at least 1
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank must lie in 0..{world - 1} for {world} processes, found {rank}.")
    if rank < len(batch):
        return batch[rank::world]
    lent = rank % len(batch)
    return batch[lent : lent + 1]


def pad(rows, pad_id):
    """Rows of ids as one rectangle, padded on the right.

    rows    list of B lists of ints
    pad_id  int, fills the gaps (-100 for targets that a loss must ignore)
    -> (B, T) long, T = longest row
    """
    import torch  # here, so that listing corpora and planning batches stay light

    width = max(map(len, rows), default=0)
    padded = np.full((len(rows), width), pad_id, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
