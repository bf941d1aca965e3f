"""How sure a score is: its percentile interval over resampled items."""

import numpy as np


def percentile_interval(statistic, n, n_draws=1000, level=0.95, seed=0):
    """Interval of a statistic of n items over draws of n of them, with replacement (Efron 1979).

    statistic  (n,) indices of the items drawn -> a number, or several (K,)
    -> (low, high), numbers or (K,) float64
    """
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(n, size=n)) for _ in range(n_draws)]
    return np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
