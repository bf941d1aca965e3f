"""Scores of generated pictures: every number with its name, its interval and the card of what it was measured with.

A number is comparable only within one extractor, resize, sample size and state of the generator (averaged weights or not,
BatchNorm in evaluation mode or not: that alone moved BigGAN's FID from 18.8 to 42, ajbrock/BigGAN-PyTorch issue 23). So the
name carries extractor and size, `fd_resnet20_5k`, the card the rest, and features of two protocols are refused. Names:

    extractor          Frechet          kernel           class scores     also
    fid (Inception)    fid_5k           kid_5k           is_5k            precision_inception_5k, recall_, density_, coverage_
    fd_resnet20        fd_resnet20_5k   kd_resnet20_5k   cs_resnet20_5k   precision_resnet20_5k ...

Intervals are at 95 %, over what other generated pictures would give; the reference is held fixed.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dgmlab.metrics.image import (
    FeatureStatistics,
    bootstrap_interval,
    extrapolate,
    feature_rows,
    frechet_distance,
    inception_score,
    kernel_distance,
)
from dgmlab.metrics.manifold import neighbourhoods

INCEPTION = {"fd": "fid", "kd": "kid", "cs": "is"}  # names that are said of Inception-v3 only


class Card(NamedTuple):
    """The protocol behind a number."""

    extractor: str  # its name: 'fid' is Inception-v3, all others begin with 'fd_'
    weights: str  # fingerprint of its weights
    resize: str  # how pictures come to its size
    n: int  # pictures measured
    ema: bool | None = None  # sampled with averaged weights; None: pictures of a data set
    mode: str | None = None  # mode of the generator: 'eval' or 'train'; None: pictures of a data set
    seed: int | None = None  # of the generator's noise
    n_reference: int = 0  # real pictures compared with; 0: none

    def __str__(self):
        source = "data" if self.ema is None and self.mode is None else (
            f"{'EMA' if self.ema else 'raw'} weights, {self.mode} mode, seed {self.seed}")
        reference = f" against {self.n_reference:,}" if self.n_reference else ""
        return f"{self.extractor} {self.weights}, n = {self.n:,}{reference}, resize {self.resize}, {source}"


class Score(NamedTuple):
    """A number, its 95 % interval (None where not asked for), and its card."""

    name: str
    value: float
    low: float | None
    high: float | None
    card: Card

    def __str__(self):
        interval = "" if self.low is None else f" [{self.low:.4g}, {self.high:.4g}]"
        return f"{self.name} {self.value:.4g}{interval} ({self.card})"

    def flat(self):
        """The score as entries of a log line: NAME, NAME_low, NAME_high."""
        interval = {} if self.low is None else {f"{self.name}_low": self.low, f"{self.name}_high": self.high}
        return {self.name: self.value, **interval}


@dataclass(frozen=True)
class Features:
    """Features (N, D) float32 of N pictures and, where the extractor is a classifier, class scores (N, K); with their card."""

    features: np.ndarray
    logits: np.ndarray | None
    card: Card

    @cached_property
    def statistics(self):
        """FeatureStatistics of all pictures; made once, and with them the factor of a Frechet distance's reference."""
        return FeatureStatistics().update(self.features)


def score_name(kind, card, size=None):
    """Name of a score: kind 'fd', 'kd', 'cs', 'precision', ...; size in place of the number of pictures, such as 'inf'."""
    size = size or (f"{card.n // 1000}k" if card.n % 1000 == 0 and card.n else str(card.n))
    if card.extractor == "fid":
        return f"{INCEPTION[kind]}_{size}" if kind in INCEPTION else f"{kind}_inception_{size}"
    return f"{kind}_{card.extractor.removeprefix('fd_')}_{size}"


def compared(real, fake):
    """The card of a comparison of two Features, which must come from one extractor, with one set of weights and one resize."""
    ours, theirs = fake.card, real.card
    if ours[:3] != theirs[:3]:
        raise ValueError(f"features of two protocols do not compare: the reference is {theirs.extractor} {theirs.weights}, "
                         f"resize {theirs.resize}; the pictures {ours.extractor} {ours.weights}, resize {ours.resize}. "
                         "Extract both with one extractor.")
    return ours._replace(n_reference=theirs.n)


def frechet_score(real, fake, n_draws=100, seed=0):
    """Frechet distance of two Features, with a bootstrap interval (n_draws = 0: none, a draw costs a distance) -> Score"""
    card, statistic = _frechet(real, fake)
    value = frechet_distance(real.statistics, fake.statistics)
    return Score(score_name("fd", card), value, *_interval(statistic, card.n, value, n_draws, seed), card)


def frechet_infinity(real, fake, n_points=15, n_draws=100, seed=0):
    """Frechet distance extrapolated to infinitely many generated pictures (`extrapolate`), whose line is drawn again for each
    bootstrap draw; a draw costs n_points distances -> Score"""
    card, statistic = _frechet(real, fake)
    value = extrapolate(statistic, card.n, n_points, seed=seed).value

    def again(index):
        return extrapolate(lambda subset: statistic(index[subset]), card.n, n_points, seed=seed).value

    return Score(score_name("fd", card, "inf"), value, *_interval(again, card.n, value, n_draws, seed), card)


def _frechet(real, fake):
    """(card, statistic of an index of generated pictures)"""
    card, rows = compared(real, fake), feature_rows(fake.features, "generated features")
    return card, lambda index: frechet_distance(real.statistics, FeatureStatistics().update(rows[index]))


def _interval(statistic, n, value, n_draws, seed):
    return bootstrap_interval(statistic, n, value, n_draws, seed=seed) if n_draws else (None, None)


def kernel_score(real, fake, n_subsets=100, subset_size=1000, seed=0):
    """Kernel distance of two Features; value plus and minus 1.96 standard errors -> Score"""
    card = compared(real, fake)
    found = kernel_distance(real.features, fake.features, n_subsets, subset_size, seed)
    width = 1.96 * found.standard_error
    return Score(score_name("kd", card), found.value, found.value - width, found.value + width, card)


def classifier_score(fake, n_splits=10, n_draws=100, seed=0):
    """Inception score, or with another classifier the classifier score, of one Features -> Score"""
    if fake.logits is None:
        raise ValueError(f"the extractor {fake.card.extractor} gives no class scores. Use a classifier, such as fd_resnet20.")

    def statistic(index):
        return inception_score(fake.logits[index], n_splits, seed).value

    value = statistic(np.arange(fake.card.n))
    return Score(score_name("cs", fake.card), value, *_interval(statistic, fake.card.n, value, n_draws, seed), fake.card)


def manifold_scores(real, fake, k_precision=3, k_density=5, n_draws=100, seed=0):
    """Precision, recall, density and coverage of two Features -> list of 4 Scores

    The functions of `dgmlab.metrics.manifold`; their matrices are kept for the draws, 3 * M * N bytes.
    """
    card = compared(real, fake)
    on_real = neighbourhoods(real.features, fake.features, k_precision).any(0).double()  # (N,)
    on_fake = neighbourhoods(fake.features, real.features, k_precision)  # (N, M): resampled pictures bring their own balls
    inside = neighbourhoods(real.features, fake.features, k_density)  # (M, N)
    balls = inside.sum(0).double() / k_density  # (N,)
    statistics = {
        "precision": lambda index: float(on_real[index].mean()),
        "recall": lambda index: float(on_fake[index].any(0).double().mean()),
        "density": lambda index: float(balls[index].mean()),
        "coverage": lambda index: float(inside[:, index].any(1).double().mean()),
    }
    scores = []
    for kind, statistic in statistics.items():
        value = statistic(np.arange(card.n))
        scores.append(Score(score_name(kind, card), value, *_interval(statistic, card.n, value, n_draws, seed), card))
    return scores


def all_scores(real, fake, subset_size=1000, n_draws=100, seed=0, n_manifold=10_000):
    """Every score of two Features, for a results table -> list of Score; class scores only where the extractor gives them

    With more than 256 features a distance takes seconds: a fifth of the draws, and none for the extrapolation.
    n_manifold  pictures that precision, recall, density and coverage look at on each side, as their matrices are its square;
                their names say so
    """
    wide = real.features.shape[1] > 256
    classes = [classifier_score(fake, n_draws=n_draws, seed=seed)] if fake.logits is not None else []
    return [frechet_score(real, fake, n_draws // 5 if wide else n_draws, seed),
            frechet_infinity(real, fake, n_draws=0 if wide else n_draws, seed=seed),
            kernel_score(real, fake, subset_size=subset_size, seed=seed), *classes,
            *manifold_scores(_first(real, n_manifold), _first(fake, n_manifold), n_draws=n_draws, seed=seed)]


def _first(features, n):
    """The Features of the first n pictures; themselves where there are no more."""
    if features.card.n <= n:
        return features
    logits = None if features.logits is None else features.logits[:n]
    return Features(features.features[:n], logits, features.card._replace(n=n))


# over seeds


class SeedMean(NamedTuple):
    """Mean of a score over n runs that differ by their seed, and the 95 % interval of that mean; None for one run."""

    mean: float
    low: float | None
    high: float | None
    n: int


class Change(NamedTuple):
    """ratio: of two means, theirs in the denominator; low, high: its 95 % interval, None where a setting has one run only."""

    ratio: float
    low: float | None
    high: float | None


def over_seeds(values):
    """Mean of one score over runs, +- t(n - 1) std / sqrt(n): wide for two or three seeds, as it must be -> SeedMean"""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return SeedMean(float(values.mean()), None, None, len(values))
    half = _t_quantile(len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return SeedMean(float(values.mean()), float(values.mean() - half), float(values.mean() + half), len(values))


def change_over_seeds(ours, theirs):
    """Geometric mean of positive scores `ours` over that of `theirs`, with Welch's interval on the logarithms -> Change

    ours, theirs  (n,), (m,) the same score of runs that differ by their seed; an interval that holds 1 shows no difference
    """
    ours, theirs = np.log(np.asarray(ours, dtype=float)), np.log(np.asarray(theirs, dtype=float))
    ratio = float(np.exp(ours.mean() - theirs.mean()))
    if min(len(ours), len(theirs)) < 2:
        return Change(ratio, None, None)
    parts = np.array([ours.var(ddof=1) / len(ours), theirs.var(ddof=1) / len(theirs)])
    if parts.sum() == 0:
        return Change(ratio, ratio, ratio)
    freedom = parts.sum() ** 2 / (parts**2 / [len(ours) - 1, len(theirs) - 1]).sum()  # Welch and Satterthwaite
    half = _t_quantile(freedom) * np.sqrt(parts.sum())
    return Change(ratio, ratio * float(np.exp(-half)), ratio * float(np.exp(half)))


def _t_quantile(freedom):
    """97.5 % quantile of Student's t."""
    from scipy import stats  # brought by scikit-learn

    return float(stats.t.ppf(0.975, freedom))
