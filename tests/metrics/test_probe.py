"""Few-label probes: on two points and on Gaussians whose best accuracy is known, and nothing of the test set gets in."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from dgmlab.metrics import probe
from dgmlab.metrics.probe import (
    Curve,
    Scale,
    draw_labels,
    interval,
    paired_difference,
    probe_curve,
    probe_draw,
    probe_score,
)


def gaussians(n, size=4, distance=3.0, seed=0):
    """Two unit Gaussians whose means are `distance` apart; the best accuracy is Phi(distance / 2)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    features = rng.standard_normal((n, size))
    features[:, 0] += distance * labels
    return features, labels


@pytest.fixture(scope="module")
def corpus():
    return *gaussians(3000), *gaussians(2000, seed=1)


def test_a_draw_has_n_rows_of_each_class_and_larger_draws_hold_smaller_ones():
    labels = np.random.default_rng(3).integers(3, size=300)
    small, large = (draw_labels(labels, n, draw=2, seed=5) for n in (4, 20))
    assert np.bincount(labels[large]).tolist() == [20, 20, 20] and len(set(large)) == 60
    assert labels[small].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert set(small) <= set(large) and set(small) != set(draw_labels(labels, 4, draw=3, seed=5))
    assert np.array_equal(small, draw_labels(labels, 4, draw=2, seed=5))
    assert not np.array_equal(small, draw_labels(labels, 4, draw=2, seed=6))


def test_draws_are_uniform_over_the_rows_of_a_class():
    labels = np.array([0] * 5 + [1] * 50)
    counts = np.bincount([draw_labels(labels, 1, draw)[0] for draw in range(2000)], minlength=5)
    assert counts.sum() == 2000 and abs(counts - 400).max() < 4 * math.sqrt(400 * 0.8)


def test_one_label_a_class_gives_the_plane_between_the_two_points(corpus):
    features, labels, unseen, truth = corpus
    scale, curve = Scale.of(features), probe_curve(features, labels, unseen, truth, (1,), n_draws=4)
    for draw in range(4):
        a, b = scale(features)[draw_labels(labels, 1, draw)]
        nearer = np.linalg.norm(scale(unseen) - b, axis=1) < np.linalg.norm(scale(unseen) - a, axis=1)
        assert curve.scores[0, draw] == pytest.approx((nearer == truth).mean(), abs=2e-3)


def test_many_labels_reach_the_best_accuracy_that_there_is(corpus):
    curve = probe_curve(*corpus, n_labels=(1, 10, 1000), n_draws=5)
    best = norm.cdf(1.5)
    assert curve.scores.shape == (3, 5) and curve.n_labels == (1, 10, 1000)
    mean = curve.scores.mean(1)
    assert mean[0] < mean[1] < mean[2] and abs(mean[2] - best) < 4 * math.sqrt(best * (1 - best) / 2000)


def test_the_scale_of_a_feature_does_not_matter_nor_does_one_that_never_changes(corpus):
    features, labels, unseen, truth = corpus
    factors, shift = np.array([1e-3, 1, 1e3, 7]), np.array([5, 0, -300, 1])
    plain = probe_curve(features, labels, unseen, truth, (10,), 3)
    assert np.allclose(probe_curve(features * factors + shift, labels, unseen * factors + shift, truth, (10,), 3).scores,
                       plain.scores, atol=2e-3)
    scaled = Scale.of(np.c_[features, np.full(len(features), 3.0)])(np.c_[features, np.full(len(features), 3.0)])
    assert (scaled[:, -1] == 0).all() and np.square(scaled).sum(1).mean() == pytest.approx(4 / 5)


def test_nothing_of_the_test_labels_reaches_the_probe(corpus, monkeypatch):
    features, labels, unseen, truth = corpus
    seen = []
    real = probe.fit_probe

    def spy(rows, kinds, seed=0):
        seen.append((rows.copy(), kinds.copy()))
        return real(rows, kinds, seed)

    monkeypatch.setattr(probe, "fit_probe", spy)
    curve = probe_curve(features, labels, unseen, truth, (3, 30), 2)
    other = probe_curve(features, labels, unseen, 1 - truth, (3, 30), 2)
    assert np.allclose(curve.scores, 1 - other.scores)
    assert [len(kinds) for _, kinds in seen] == [6, 6, 60, 60] * 2
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(seen[:4], seen[4:], strict=True))


def test_the_penalty_is_the_one_that_predicts_held_out_rows_best():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    noise = Scale.of(rng.standard_normal((200, 50)))(rng.standard_normal((200, 50)))
    assert probe.choose_strength(noise, labels) == min(probe.STRENGTHS)
    clear = np.c_[labels + 0.01 * rng.standard_normal(200), rng.standard_normal(200)]
    assert probe.choose_strength(Scale.of(clear)(clear), labels) == max(probe.STRENGTHS)
    assert probe.choose_strength(noise[[0, 150]], labels[[0, 150]]) == probe.DEFAULT


def test_from_many_rows_on_one_fold_is_held_out(monkeypatch):
    fits = []
    real = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, x, y: (fits.append(len(x)), real(self, x, y))[1])
    features, labels = gaussians(1200)
    rows = draw_labels(labels, 500, 0)
    probe.choose_strength(features[rows], labels[rows])
    assert fits == [800] * len(probe.STRENGTHS)
    fits.clear()
    probe.choose_strength(features[rows[:30]], labels[rows[-30:]] * 0 + np.tile([0, 1], 15))
    assert fits == [24] * 5 * len(probe.STRENGTHS)


def test_interval_by_hand():
    found = interval([[0.5, 0.7, 0.9], [0.2, 0.2, 0.2]])
    half = 4.302653 * 0.2 / math.sqrt(3)  # t of 2 degrees of freedom
    assert np.allclose(found, [[0.7, 0.2], [0.7 - half, 0.2], [0.7 + half, 0.2]])
    with pytest.raises(ValueError, match="two draws or more, found 1"):
        interval([[0.5]])


def test_paired_difference_is_narrow_where_the_draws_go_together():
    up_and_down = np.array([[0.5, 0.6, 0.7, 0.8]])
    a, b = Curve((3,), up_and_down + [0.02, 0.03, 0.02, 0.03], 0, 9), Curve((3,), up_and_down, 0, 9)
    found = paired_difference(a, b)
    assert found.mean == pytest.approx(0.025) and found.low > 0 and found.high - found.low < 0.02
    with pytest.raises(ValueError, match=r"same draws were expected, found seed 0 and 1"):
        paired_difference(a, b._replace(seed=1))
    with pytest.raises(ValueError, match=r"found n_labels \(3,\) and \(4,\)"):
        paired_difference(a, b._replace(n_labels=(4,)))
    with pytest.raises(ValueError, match="found 4 and 2"):
        paired_difference(a, b._replace(scores=b.scores[:, :2]))


def test_one_draw_is_that_of_the_curve(corpus):
    features, labels, unseen, truth = corpus
    found = probe_draw(features, labels, unseen, 10, draw=1)
    assert np.array_equal(found.rows, draw_labels(labels, 10, 1)) and np.allclose(found.probabilities.sum(1), 1)
    curve = probe_curve(features, labels, unseen, truth, (10,), 2)
    assert (found.probabilities.argmax(1) == truth).mean() == curve.scores[0, 1]


def test_all_labels_at_once_for_classes_and_for_numbers(corpus):
    features, labels, unseen, truth = corpus
    assert (probe_score(features, labels, unseen) == truth).mean() > 0.91
    weights = np.array([2.0, -1, 0, 0.5])
    assert np.allclose(probe_score(features, features @ weights + 3, unseen), unseen @ weights + 3, atol=0.05)


def test_mistakes_are_one_line(corpus):
    features, labels, unseen, truth = corpus
    least = np.bincount(labels).min()
    with pytest.raises(ValueError, match=rf"5000 labels a class were asked for, but class \d has {least} rows. Ask for 1 to"):
        probe_curve(features, labels, unseen, truth, (5000,), 2)
    with pytest.raises(ValueError, match="two classes or more were expected, found 1"):
        probe_curve(features, labels * 0, unseen, truth * 0, (3,), 2)
    with pytest.raises(ValueError, match=r"with a label each were expected, found \(3000, 4\) and 2999 labels"):
        probe_curve(features, labels[1:], unseen, truth, (3,), 2)
    with pytest.raises(ValueError, match="of one width were expected, found 4 and 3"):
        probe_curve(features, labels, unseen[:, 1:], truth, (3,), 2)
    with pytest.raises(ValueError, match="found also 2"):
        probe_curve(features, labels, unseen, truth + 1, (3,), 2)
    with pytest.raises(ValueError, match="found n_draws=1"):
        probe_curve(features, labels, unseen, truth, (3,), 1)
    with pytest.raises(ValueError, match="finite test features were expected"):
        probe_curve(features, labels, unseen * np.nan, truth, (3,), 2)
