"""Scores worked out by hand and against scikit-learn and scipy; intervals over items."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from dgmlab.metrics.agreement import accuracy, f1, matthews, score, spearman

TRUTH, SAID = np.array([1, 1, 1, 0, 0, 0, 0, 1]), np.array([1, 1, 0, 0, 0, 1, 0, 1])  # two are wrong


def test_scores_by_hand():
    assert accuracy(SAID, TRUTH) == 6 / 8 and f1(SAID, TRUTH) == 2 * 3 / 8
    assert matthews(SAID, TRUTH) == pytest.approx((3 * 3 - 1 * 1) / math.sqrt(4 * 4 * 4 * 4))
    assert spearman([1.0, 2.0, 30.0], [0.1, 0.2, 0.3]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 1, 2]) == pytest.approx(-0.5)


def test_scores_agree_with_the_libraries_on_fresh_draws():
    rng = np.random.default_rng()
    said, truth = rng.integers(2, size=(2, 60))
    numbers = rng.integers(5, size=60) + 0.5 * truth  # with ties
    for ours, theirs in ((accuracy, accuracy_score), (f1, f1_score), (matthews, matthews_corrcoef)):
        assert ours(said, truth) == pytest.approx(theirs(truth, said))
    assert spearman(numbers, truth) == pytest.approx(spearmanr(numbers, truth).statistic)


def test_who_always_says_the_same_has_no_correlation():
    assert matthews(np.ones(8), TRUTH) == 0 and spearman(np.ones(8), TRUTH) == 0 and f1(np.zeros(8), TRUTH * 0) == 0


def test_intervals_cover_the_score_and_narrow_with_the_items():
    rng = np.random.default_rng(1)
    truth = rng.integers(2, size=2000)
    said = np.where(rng.random(2000) < 0.8, truth, 1 - truth)
    few, many = score("accuracy", said[:100], truth[:100]), score("accuracy", said, truth)
    assert few.low < few.value < few.high and many.low < many.value < many.high
    assert many.high - many.low == pytest.approx(2 * 1.96 * math.sqrt(0.16 / 2000), rel=0.15)
    assert many.high - many.low < few.high - few.low
    assert score("accuracy", said, truth) == many


def test_differences_are_paired():
    rng = np.random.default_rng(2)
    truth = rng.integers(2, size=500)
    said = np.where(rng.random(500) < 0.7, truth, 1 - truth)
    better = said.copy()
    better[:20] = truth[:20]
    above = score("accuracy", better, truth, other=said)
    assert above.value == pytest.approx((better == truth).mean() - (said == truth).mean()) and above.low >= 0
    alone = score("accuracy", better, truth)
    assert above.high - above.low < alone.high - alone.low
    assert score("matthews", said, truth, other=said) == (0, 0, 0)


def test_mistakes_are_one_line():
    with pytest.raises(KeyError, match="no score is called 'matthew'. Did you mean 'matthews'"):
        score("matthew", SAID, TRUTH)
    with pytest.raises(ValueError, match=r"one prediction an item was expected, found \(7,\), \(8,\)"):
        score("accuracy", SAID[1:], TRUTH)
