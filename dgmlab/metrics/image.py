"""Distances between sets of pictures, taken in the feature space of a network; all sums in float64 on the CPU.

    FeatureStatistics().update(features)   mean and covariance of a stream
    frechet_distance(real, fake)           the FID formula
    kernel_distance(real, fake)            the KID formula
    inception_score(logits)                class scores alone, no reference
    bootstrap_interval, extrapolate        how sure such a number is, and where it goes with ever more pictures

They know neither pictures nor networks: `dgmlab.metrics.extractors` makes features, `dgmlab.metrics.scores` names the numbers.
Letters: N generated pictures, M real ones, D features, K classes, R rank of a covariance.
"""

from typing import NamedTuple

import numpy as np
import torch

CHUNK = 4096  # rows held in float64 at once while statistics are folded in


class KernelDistance(NamedTuple):
    """value: mean over the subsets; std: of one subset's value, as papers print it; standard_error: of `value`."""

    value: float
    std: float
    standard_error: float


class InceptionScore(NamedTuple):
    """value, std: mean and standard deviation over the splits; value in [1, K]."""

    value: float
    std: float


class Extrapolation(NamedTuple):
    """value: the line's value at infinitely many pictures; slope: times 1 / N; sizes, values: the points it runs through."""

    value: float
    slope: float
    sizes: np.ndarray
    values: np.ndarray


def feature_rows(features, what="features"):
    """Features (N, D), numpy or torch -> float64 tensor on the CPU; NaN, infinity and other shapes are refused."""
    if not isinstance(features, torch.Tensor):
        features = torch.from_numpy(np.array(features, dtype=np.float64))
    rows = features.detach().to("cpu", torch.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"{what} must be of shape (N, D) with N of at least 1, found {tuple(rows.shape)}.")
    broken = int((~rows.isfinite().all(1)).sum())
    if broken:
        raise ValueError(f"{what} of {broken} of {len(rows)} pictures are NaN or infinite. Look at the pictures: "
                         "a generator that has diverged makes such ones.")
    return rows


class FeatureStatistics:
    """Count, mean (D,) and covariance (D, D) of a stream of features, in float64 (Chan et al. 1983, eq. 2.1).

    However many features are folded in, memory is one (D, D) matrix and CHUNK rows. Deviations are taken from the mean of
    their own chunk, so that a large mean costs no digits of the covariance.
    """

    def __init__(self):
        self.n = 0
        self.mean = self._scatter = self._factor = None

    @classmethod
    def from_moments(cls, mean, covariance, n):
        """The statistics of `n` features given as published: mean (D,) and unbiased covariance (D, D)."""
        statistics = cls()
        statistics.n = int(n)
        statistics.mean = torch.as_tensor(mean).to("cpu", torch.float64)
        statistics._scatter = torch.as_tensor(covariance).to("cpu", torch.float64) * (n - 1)
        if n < 2 or statistics._scatter.shape != 2 * statistics.mean.shape:
            raise ValueError(f"moments are a mean (D,) and a covariance (D, D) of at least 2 pictures, found n = {n} and "
                             f"shapes {tuple(statistics.mean.shape)} and {tuple(statistics._scatter.shape)}.")
        return statistics

    def update(self, features):
        """Fold in features (N, D), numpy or torch -> self"""
        for start in range(0, len(features), CHUNK):
            rows = feature_rows(features[start:start + CHUNK])
            if self.mean is None:
                self.mean, self._scatter = rows.new_zeros(rows.shape[1]), rows.new_zeros(2 * rows.shape[1:])
            if rows.shape[1] != len(self.mean):
                raise ValueError(f"these statistics are of {len(self.mean)} features a picture, found {rows.shape[1]}. "
                                 "Use one extractor throughout.")
            total, mean = self.n + len(rows), rows.mean(0)
            shift, rows = mean - self.mean, rows - mean
            self._scatter += rows.T @ rows + torch.outer(shift, shift) * (self.n * len(rows) / total)
            self.mean = self.mean + shift * (len(rows) / total)
            self.n, self._factor = total, None
        return self

    @property
    def covariance(self):
        """Unbiased covariance (D, D), divided by n - 1."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 pictures, found {self.n}.")
        return self._scatter / (self.n - 1)

    def factor(self):
        """A (D, R) with A A^T = covariance; found once (seconds at D = 2048) and kept until the next `update`."""
        if self._factor is None:
            values, vectors = torch.linalg.eigh(self.covariance)
            self._factor = vectors[:, -self.rank:] * values[-self.rank:].clamp(min=0).sqrt()
        return self._factor

    @property
    def rank(self):
        """R: n samples span at most n - 1 directions around their mean."""
        return min(self.n - 1, len(self.mean))


def frechet_distance(real, fake):
    """Squared Frechet distance of the normal distributions through two sets of features (Heusel et al. 2017, eq. 6).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). With S1 = A A^T the trace of the root is the sum of the roots of the
    eigenvalues of A^T S2 A, which is symmetric: nothing is ever complex. With fewer samples than features most eigenvalues
    are 0; their rounding errors of 1e-16 would have roots of 1e-8 and add up, so no more are taken than there is rank.

    real, fake  FeatureStatistics, or features (M, D) and (N, D). The factor A of `real` is kept with its statistics: pass
                the same object again, and a call costs two products and the eigenvalues.
    -> float >= 0. Biased upwards by about a constant over the number of pictures: compare at one N, or see `extrapolate`.
    """
    real, fake = (x if isinstance(x, FeatureStatistics) else FeatureStatistics().update(x) for x in (real, fake))
    if real.n == 0 or fake.n == 0 or len(real.mean) != len(fake.mean):
        sizes = [0 if x.n == 0 else len(x.mean) for x in (real, fake)]
        raise ValueError(f"a Frechet distance needs two sets with as many features a picture, found {sizes[0]} and "
                         f"{sizes[1]}. Use one extractor for both.")
    factor, covariance = real.factor(), fake.covariance
    eigenvalues = torch.linalg.eigvalsh(factor.T @ covariance @ factor)[-fake.rank:]  # (R,) ascending
    roots = eigenvalues.clamp(min=0).sqrt().sum()
    distance = (real.mean - fake.mean).square().sum() + factor.square().sum() + covariance.trace() - 2 * roots
    return max(float(distance), 0.0)  # rounding can leave -1e-13


def kernel_distance(real, fake, n_subsets=100, subset_size=1000, seed=0):
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018, eq. 4).

    real, fake   features (M, D) and (N, D)
    n_subsets    pairs of subsets over which the value is averaged; the usual protocol is 100 subsets of 1,000
    subset_size  pictures in each; at most the smaller of M and N
    seed         of the choice of subsets
    -> KernelDistance; not multiplied by 100 or 1,000 as some papers do. Being unbiased, it is as often below 0 as above
       when both sets come from one distribution. The standard error is the one over other generated pictures, with the
       reference held fixed: the first term of the variance of a U-statistic, and the choice of subsets.
    """
    real, fake = feature_rows(real, "real features"), feature_rows(fake, "generated features")
    n_least = min(len(real), len(fake))
    if not 2 <= subset_size <= n_least:
        raise ValueError(f"the kernel distance takes subsets of {subset_size} pictures, found {len(real)} real and "
                         f"{len(fake)} generated ones. Pass subset_size={n_least} or less (2 at least), or more pictures.")
    rng = np.random.default_rng(seed)
    values, variances = [], []
    for _ in range(n_subsets):
        x, y = (rows[rng.choice(len(rows), subset_size, replace=False)] for rows in (real, fake))
        xx, yy, xy = _mean_of_others(_kernel(x, x)), _mean_of_others(_kernel(y, y)), _kernel(x, y)
        values.append(float(xx.mean() + yy.mean() - 2 * xy.mean()))
        variances.append(float((2 * (yy - xy.mean(0))).var()))  # 2 (yy - xy): what each generated picture adds
    standard_error = np.sqrt(np.mean(variances) / len(fake) + np.var(values) / n_subsets)
    return KernelDistance(float(np.mean(values)), float(np.std(values)), float(standard_error))


def _kernel(x, y):
    """(x.y / D + 1)^3 of every pair: (N, D), (M, D) -> (N, M)"""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_others(kernel):
    """Mean of each row of a kernel matrix (N, N) without its diagonal -> (N,)"""
    return (kernel.sum(1) - kernel.diagonal()) / (len(kernel) - 1)


def inception_score(logits, n_splits=10, seed=0):
    """exp of the mean KL(p(y|x) || p(y)) (Salimans et al. 2016), from class scores.

    logits    (N, K) unnormalised log probabilities; the softmax is taken in float64 and never turns into log 0
    n_splits  the score is averaged over so many parts, each with its own p(y); papers take 10
    seed      of the order, as sets are often sorted by class
    -> InceptionScore; 1 where all pictures score alike, K where each is sure and all classes are equally frequent
    """
    logits = feature_rows(logits, "class scores")
    if not 1 <= n_splits <= len(logits):
        raise ValueError(f"{n_splits} splits need as many pictures, found {len(logits)}. Pass n_splits=1, or more pictures.")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(logits)))
    log_p = torch.log_softmax(logits, dim=1)[order]
    scores = []
    for part in log_p.tensor_split(n_splits):
        log_marginal = torch.logsumexp(part, dim=0) - np.log(len(part))  # (K,)
        scores.append(float((part.exp() * (part - log_marginal)).sum(1).mean().exp()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def bootstrap_interval(statistic, n, value, n_draws=100, level=0.95, seed=0):
    """Interval of a number that is biased by the size of its sample, as distances and scores of sets are.

    A resample repeats items, which biases the number a second time: the plain percentile interval of a Frechet distance
    often leaves out the distance itself. So the draws give the width, and are shifted to have `value` as their mean: an
    interval for what other sets *of the same size* would give. Where a distance is little more than its bias, the repeats
    widen the draws as well, up to twice: the interval is then too wide, never too narrow.

    statistic  callable: index (n,) of resampled items -> float
    n          items to resample, e.g. generated pictures
    value      the statistic of the items themselves
    -> (low, high)
    """
    rng = np.random.default_rng(seed)
    draws = np.array([statistic(rng.integers(n, size=n)) for _ in range(n_draws)])
    low, high = np.quantile(draws - draws.mean(), [(1 - level) / 2, (1 + level) / 2])
    return float(value + low), float(value + high)


def extrapolate(statistic, n, n_points=15, smallest=None, seed=0):
    """A number at infinitely many pictures: the straight line through it over 1 / N, at 1 / N = 0 (Chong and Forsyth 2020).

    statistic  callable: index (s,) of a random subset -> float
    n          pictures there are
    n_points   sizes of subsets, evenly spaced from `smallest` to n; the paper: 15
    smallest   default n / 10, the paper's 5,000 of 50,000; with fewer pictures than features the line bends
    -> Extrapolation
    """
    smallest = max(n // 10, 2) if smallest is None else smallest
    if not 2 <= smallest < n or n_points < 2:
        raise ValueError(f"a line needs at least 2 sizes from 2 up to n, found n_points = {n_points}, smallest = {smallest} "
                         f"and n = {n}. Use more pictures.")
    rng = np.random.default_rng(seed)
    sizes = np.linspace(smallest, n, n_points).round().astype(int)
    values = np.array([statistic(rng.choice(n, size, replace=False)) for size in sizes])
    slope, value = np.polyfit(1 / sizes, values, 1)
    return Extrapolation(float(value), float(slope), sizes, values)
