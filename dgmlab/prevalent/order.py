"""In which order triplets are seen: a pure function of the step, for any number of them, in no memory to speak of.

A run that stops and goes on has its step, and nothing else to restore. Ranks ask for the same batch and take their share.
"""

import numpy as np


class Order:
    """The triplets of each step.

    Every triplet comes once a pass, in an order that is computed and not stored. The triplets of POOL steps are sorted by the
    length of their instructions before they are cut into batches, which leaves little padding.

    batch_size       triplets of a step
    synthetic_share  in [0, 1], of each POOL of steps; None or negative takes all triplets alike, their natural share
    """

    POOL = 50

    def __init__(self, triplets, batch_size, seed=0, synthetic_share=None):
        self.triplets, self.batch_size, self.seed = triplets, batch_size, seed
        real, synthetic, wanted = triplets.counts.real_steps, triplets.counts.synthetic_steps, self.POOL * batch_size
        if synthetic_share is None or synthetic_share < 0:
            self.parts = [(0, real + synthetic, wanted)]  # first triplet, how many there are, how many a pool takes
        else:
            n = round(wanted * min(synthetic_share, 1.0))
            self.parts = [part for part in ((0, real, wanted - n), (real, synthetic, n)) if part[2]]
        if not all(size for _, size, _ in self.parts):
            raise ValueError(f"synthetic_share is {synthetic_share}, but there are {real:,} real and {synthetic:,} synthetic "
                             "triplets. Give what is asked for, or leave synthetic_share at -1.")
        self._kept = None, None  # the pool that was asked for last

    def indices(self, step):
        """The triplets of a step, the first is 0. -> (batch_size,) int64"""
        pool, place = divmod(step, self.POOL)
        if self._kept[0] != pool:
            self._kept = pool, self._pool(pool)
        return self._kept[1][place]

    def _pool(self, pool):
        """(POOL, batch_size) int64, batches of like length in a random order."""
        drawn = []
        for number, (first, size, wanted) in enumerate(self.parts):
            places = pool * wanted + np.arange(wanted)  # of an endless row of passes
            passes, within = places // size, places % size
            drawn += [first + shuffled(within[passes == one], size, (self.seed, number, one)) for one in np.unique(passes)]
        drawn = np.concatenate(drawn)
        drawn = drawn[np.argsort(self.triplets.lengths(drawn), kind="stable")].reshape(self.POOL, self.batch_size)
        return drawn[np.random.default_rng([self.seed, pool]).permutation(self.POOL)]


def shuffled(places, size, key):
    """Where `places` (M,) of 0..size-1 stand in a random order of `size` things, without writing that order down.

    A Feistel network of four rounds permutes the numbers below the next power of 4; what falls outside walks on until it is
    inside (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
    key  ints that decide the order
    -> (M,) int64, different for different places
    """
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    keys = np.random.SeedSequence([int(part) for part in key]).generate_state(4, np.uint64)
    values = np.array(places, dtype=np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> np.uint64(half), values[outside] & low
        for one in keys:
            mixed = (right ^ one) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & low)
        values[outside] = (left << np.uint64(half)) | right
        outside = values >= size
    return values.astype(np.int64)
