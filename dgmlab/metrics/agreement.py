"""How well predictions agree with the truth: GLUE's scores, and intervals over the items they were taken on.

    accuracy   share of equal classes                      f1         of class 1 (Dice)
    matthews   correlation of two binary classes (1975)    spearman   correlation of ranks, ties sharing their mean rank
"""

from typing import NamedTuple

import numpy as np

from dgmlab.config import unknown_name
from dgmlab.metrics.interval import percentile_interval


class Score(NamedTuple):
    """A score and its 95 % percentile interval over resampled items."""

    value: float
    low: float
    high: float


def accuracy(predicted, truth):
    """Share of equal entries. (N,), (N,) -> float in [0, 1]"""
    return float(np.mean(predicted == truth))


def f1(predicted, truth):
    """2 right / (predicted + true) of class 1; 0 where neither has it. (N,), (N,) of 0 and 1 -> float in [0, 1]"""
    predicted, truth = predicted == 1, truth == 1
    total = predicted.sum() + truth.sum()
    return float(2 * (predicted & truth).sum() / total) if total else 0.0


def matthews(predicted, truth):
    """Pearson correlation of two binary classes; 0 where one of them never changes. (N,), (N,) -> float in [-1, 1]"""
    return pearson(predicted == 1, truth == 1)


def spearman(predicted, truth):
    """Pearson correlation of the ranks; 0 where one side never changes. (N,), (N,) numbers -> float in [-1, 1]"""
    from scipy.stats import rankdata

    return pearson(rankdata(predicted), rankdata(truth))


def pearson(predicted, truth):
    """Correlation of two series, 0 where one of them never changes. (N,), (N,) -> float in [-1, 1]"""
    a, b = (np.asarray(side, dtype=np.float64) - np.mean(side) for side in (predicted, truth))
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0


SCORES = {"accuracy": accuracy, "f1": f1, "matthews": matthews, "spearman": spearman}


def score(metric, predicted, truth, other=None, n_draws=1000, level=0.95, seed=0):
    """A score with its interval over items; with `other`, predictions of the same items, by how much `predicted` is above it.

    metric            accuracy | f1 | matthews | spearman
    predicted, truth  (N,) classes, or numbers for spearman
    -> Score
    """
    if metric not in SCORES:
        raise KeyError(unknown_name(metric, SCORES, "score"))
    sides = [np.asarray(side) for side in (predicted, truth, *([] if other is None else [other]))]
    if len({side.shape for side in sides}) != 1 or sides[0].ndim != 1 or not len(sides[0]):
        raise ValueError(f"one prediction an item was expected, found {', '.join(str(side.shape) for side in sides)}. "
                         "Predict the items that the truth is of.")

    def value(rows):
        above = SCORES[metric](sides[0][rows], sides[1][rows])
        return above - SCORES[metric](sides[2][rows], sides[1][rows]) if other is not None else above

    low, high = percentile_interval(value, len(sides[0]), n_draws, level, seed)
    return Score(value(np.arange(len(sides[0]))), float(low), float(high))
