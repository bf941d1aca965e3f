"""Distances between sets of pictures: by hand, against independent float64 references, and where they must refuse."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from dgmlab.metrics import image
from dgmlab.metrics.image import (
    FeatureStatistics,
    bootstrap_interval,
    extrapolate,
    feature_rows,
    frechet_distance,
    inception_score,
    kernel_distance,
)


@pytest.fixture
def rng():
    """Fresh inputs at every run; tests of frequencies, which would fail once in a while, take a seed."""
    return np.random.default_rng()


def correlated(rng, n, size, shift=0.0):
    """Features (n, size) with a spectrum that falls, as a network's does."""
    mixing = rng.normal(size=(size, size)) / np.arange(1, size + 1)[:, None]
    return rng.normal(size=(n, size)) @ mixing + shift


def frechet_by_sqrtm(x, y):
    """The formula with scipy's matrix square root."""
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    return np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s1 + s2 - 2 * root)


# statistics


def test_statistics_of_a_stream_equal_those_of_the_whole(rng):
    x = rng.normal(size=(1000, 7)).astype(np.float32) * 3 + 100
    statistics = FeatureStatistics()
    for part in np.split(x, [1, 2, 300, 999]):
        statistics.update(torch.from_numpy(part))
    assert statistics.n == 1000 and statistics.covariance.dtype == torch.float64
    assert np.allclose(statistics.mean, x.astype(np.float64).mean(0), rtol=1e-12)
    assert np.allclose(statistics.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10)


def test_covariance_keeps_its_digits_beside_a_huge_mean(rng):
    x = rng.normal(size=(500, 3))
    statistics = FeatureStatistics()
    for part in np.split(x + 1e8, 10):  # sums of squares would leave no digit: 1e16 against 1
        statistics.update(part)
    assert np.allclose(statistics.covariance, np.cov(x, rowvar=False), atol=1e-6)


def test_many_features_are_folded_in_with_the_memory_of_a_few(rng, monkeypatch):
    seen = []
    monkeypatch.setattr(image, "CHUNK", 100)
    monkeypatch.setattr(image, "feature_rows", lambda rows: seen.append(len(rows)) or feature_rows(rows))
    statistics = FeatureStatistics().update(np.zeros((50_000, 4), np.float32))
    assert statistics.n == 50_000 and max(seen) == 100
    held = [value for value in vars(statistics).values() if isinstance(value, torch.Tensor)]
    assert sum(tensor.numel() for tensor in held) == 4 + 4 * 4


def test_published_moments_stand_for_their_features(rng):
    x, y = correlated(rng, 300, 5), correlated(rng, 200, 5)
    published = FeatureStatistics.from_moments(x.mean(0), np.cov(x, rowvar=False), 300)
    assert frechet_distance(published, y) == pytest.approx(frechet_distance(x, y), rel=1e-9)
    with pytest.raises(ValueError, match=r"found n = 300 and shapes \(5,\) and \(4, 4\)"):
        FeatureStatistics.from_moments(np.zeros(5), np.eye(4), 300)


def test_broken_features_are_refused():
    x = np.zeros((4, 3))
    x[1, 2], x[3, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="of 2 of 4 pictures are NaN or infinite"):
        FeatureStatistics().update(x)
    with pytest.raises(ValueError, match=r"shape \(N, D\).*found \(2, 3, 4\)"):
        FeatureStatistics().update(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="of 3 features a picture, found 2"):
        FeatureStatistics().update(np.zeros((5, 3))).update(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="at least 2 pictures, found 1"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="found 3 and 2. Use one extractor"):
        frechet_distance(np.zeros((5, 3)), np.zeros((5, 2)))


# Frechet distance


def test_frechet_distance_of_known_normals_by_hand():
    moments = FeatureStatistics.from_moments
    # one dimension: (3 - 0)^2 + (5 - 2)^2
    assert frechet_distance(moments([0.0], [[4.0]], 9), moments([3.0], [[25.0]], 9)) == pytest.approx(18)
    # diagonal: 0 + (3 - 1)^2 + (2 - 2)^2 + (0 - 4)^2, one variance being zero
    a, b = moments(np.zeros(3), np.diag([9.0, 4.0, 0.0]), 9), moments(np.zeros(3), np.diag([1.0, 4.0, 16.0]), 9)
    assert frechet_distance(a, b) == pytest.approx(20) and frechet_distance(b, a) == pytest.approx(20)
    # [[2, 1], [1, 2]] against the unit: its eigenvalues are 1 and 3, so (1 - 1)^2 + (sqrt 3 - 1)^2
    turned = moments(np.zeros(2), [[2.0, 1.0], [1.0, 2.0]], 9)
    assert frechet_distance(turned, moments(np.zeros(2), np.eye(2), 9)) == pytest.approx((math.sqrt(3) - 1) ** 2)
    # two that do not commute: tr sqrt(S1 S2) of a 2x2 is sqrt(tr + 2 sqrt det)
    s1, s2 = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 4.0]])
    product = s1 @ s2
    expected = 4 + 5 - 2 * math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    assert frechet_distance(turned, moments(np.zeros(2), s2, 9)) == pytest.approx(expected)


@pytest.mark.parametrize("size", [3, 64])
def test_frechet_distance_equals_scipys_root(rng, size):
    x, y = correlated(rng, 400, size), correlated(rng, 300, size, shift=0.1)
    assert frechet_distance(x, y) == pytest.approx(frechet_by_sqrtm(x, y), rel=1e-8)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-8)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-7)
    assert frechet_distance(x, x + 2) == pytest.approx(4 * size)


def test_frechet_distance_is_right_with_fewer_samples_than_features(rng):
    x, y = rng.normal(size=(40, 256)), rng.normal(size=(30, 256)) + 0.5
    # tr (S1 S2)^(1/2) is the nuclear norm of X^T Y for centred, scaled X and Y: no root of a singular matrix
    a, b = (z - z.mean(0) for z in (x, y))
    nuclear = np.linalg.svd(a @ b.T, compute_uv=False).sum() / math.sqrt(39 * 29)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.square(a).sum() / 39 + np.square(b).sum() / 29 - 2 * nuclear
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-7)


def test_frechet_distance_of_a_point_is_its_distance():
    point = np.tile([1.0, 2.0], (5, 1))  # covariance 0, rank 0
    assert frechet_distance(point, point) == 0
    assert frechet_distance(point, point + [3, 4]) == pytest.approx(25)
    spread = np.array([[1.0, 2.0], [3.0, 2.0]])  # mean (2, 2), variance 2
    assert frechet_distance(point, spread) == pytest.approx(1 + 2) == frechet_distance(spread, point)


def test_the_references_factor_is_found_once_and_forgotten_with_new_features(rng, monkeypatch):
    real, y = FeatureStatistics().update(correlated(rng, 50, 6)), correlated(rng, 50, 6)
    calls, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: calls.append(1) or eigh(matrix))
    first = frechet_distance(real, y)
    assert frechet_distance(real, y) == first and len(calls) == 1
    assert np.allclose(real.factor() @ real.factor().T, real.covariance)
    real.update(y)
    assert frechet_distance(real, y) != first and len(calls) == 2


# kernel distance


def kernel_distance_by_loops(x, y):
    """The unbiased estimator, pair by pair."""
    kernel = lambda a, b: (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3  # noqa: E731
    m, n = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (m * n)


def test_kernel_distance_by_hand_and_by_loops(rng):
    # one feature: k(1, 1) = 8, k(0, .) = 1; 8 + 1 - 2
    assert kernel_distance([[1.0], [1.0]], [[0.0], [0.0]], n_subsets=1, subset_size=2).value == pytest.approx(7)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 3)) + 0.5
    found = kernel_distance(x, y, n_subsets=3, subset_size=12)  # each subset is the whole
    assert found.value == pytest.approx(kernel_distance_by_loops(x, y), rel=1e-10) and found.std == pytest.approx(0, abs=1e-12)


def test_kernel_distance_of_one_set_with_itself_is_what_the_diagonal_leaves(rng):
    x = rng.normal(size=(9, 2))
    gram = (x @ x.T / 2 + 1) ** 3
    others = (gram.sum() - np.trace(gram)) / 72
    assert kernel_distance(x, x, 1, 9).value == pytest.approx(2 * (others - gram.mean()))  # below 0: it is unbiased
    assert kernel_distance(x, x, 1, 9).value < 0


def test_kernel_distance_is_unbiased_and_its_standard_error_true():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(2000, 4))
    shifted = [kernel_distance(real, rng.normal(size=(600, 4)) + 0.3, 50, 120, seed) for seed in range(40)]
    values = np.array([found.value for found in shifted])
    claimed = np.mean([found.standard_error for found in shifted])
    assert 0.7 < values.std() / claimed < 1.4
    same = np.array([kernel_distance(real, rng.normal(size=(600, 4)), 20, 120, seed).value for seed in range(40)])
    assert abs(same.mean()) < 5 * same.std() / math.sqrt(40) < values.mean() and (same < 0).any()


def test_fewer_pictures_than_the_kernel_subset_are_refused(rng):
    with pytest.raises(ValueError, match="of 1000 pictures, found 1200 real and 300 generated ones. Pass subset_size=300"):
        kernel_distance(np.zeros((1200, 2)), np.zeros((300, 2)))


# inception score


def test_inception_score_of_uniform_and_of_sure_predictions():
    assert inception_score(np.zeros((50, 10))).value == pytest.approx(1)
    sure = np.full((40, 4), -np.inf)
    sure[np.arange(40), np.arange(40) % 4] = 0
    sure = np.where(np.isinf(sure), -1e4, 0.0)  # probabilities of exactly 0 in float64
    assert inception_score(sure, n_splits=1) == pytest.approx((4, 0))
    assert inception_score(sure[:30][sure[:30, 0] == 0], n_splits=1).value == pytest.approx(1)  # sure, but of one class
    # half says (3/4, 1/4), half the reverse: KL to the even marginal
    logits = np.log([[0.75, 0.25], [0.25, 0.75]])
    assert inception_score(logits, 1).value == pytest.approx(math.exp(0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_inception_score_equals_the_plain_formula_split_by_split(rng):
    logits = rng.normal(size=(57, 6)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    whole = np.exp((p * np.log(p / p.mean(0))).sum(1).mean())
    assert inception_score(logits, 1).value == pytest.approx(whole, rel=1e-12)
    order = np.random.default_rng(5).permutation(57)
    parts = [np.exp((part * np.log(part / part.mean(0))).sum(1).mean()) for part in np.array_split(p[order], 4)]
    assert inception_score(logits, 4, seed=5) == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-12)


def test_inception_score_does_not_depend_on_the_sorting_of_a_set():
    by_class = np.kron(np.eye(10), np.ones((100, 1))) * 50  # 100 of each class in turn: ordered splits would say 1
    assert inception_score(by_class).value > 9
    with pytest.raises(ValueError, match="10 splits need as many pictures, found 3"):
        inception_score(np.zeros((3, 4)))


# intervals and limits


def test_bootstrap_interval_of_a_mean_is_the_normal_one():
    rng = np.random.default_rng(2)
    x = rng.normal(5, 2, size=2000)
    low, high = bootstrap_interval(lambda index: x[index].mean(), 2000, x.mean(), n_draws=400)
    assert low < x.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * x.std() / math.sqrt(2000), rel=0.2)


@pytest.mark.parametrize("scale, narrowest, widest", [(1.0, 0.9, 2.5), (2.0, 0.6, 1.6)])
def test_bootstrap_interval_of_a_biased_distance_holds_what_other_samples_give(scale, narrowest, widest):
    rng = np.random.default_rng(3)
    real = FeatureStatistics.from_moments(np.zeros(8), np.eye(8), 10_000)
    def distance(x):
        return frechet_distance(real, FeatureStatistics().update(x))
    others = np.array([distance(rng.normal(size=(100, 8)) * scale) for _ in range(200)])
    held, widths = 0, []
    for seed in range(25):
        x = rng.normal(size=(100, 8)) * scale
        low, high = bootstrap_interval(lambda index, x=x: distance(x[index]), 100, distance(x), 60, seed=seed)
        held += low <= others.mean() <= high
        widths.append(high - low)
    assert held >= 19  # 95 % of 25 is 24
    assert narrowest < np.mean(widths) / np.subtract(*np.quantile(others, [0.975, 0.025])) < widest


def test_a_plain_percentile_interval_would_leave_the_distance_out():
    rng = np.random.default_rng(5)
    real, x = FeatureStatistics.from_moments(np.zeros(8), np.eye(8), 10_000), rng.normal(size=(100, 8))
    draws = []
    def distance(index):
        draws.append(frechet_distance(real, FeatureStatistics().update(x[index])))
        return draws[-1]
    low, high = bootstrap_interval(distance, 100, value := frechet_distance(real, x))
    assert low < value < high and np.quantile(draws, 0.025) > value


def test_extrapolation_finds_the_value_of_a_line_over_1_by_n_and_the_population():
    rng = np.random.default_rng(4)
    found = extrapolate(lambda index: 3 + 20 / len(index), 500)
    assert found.value == pytest.approx(3) and found.slope == pytest.approx(20)
    assert list(found.sizes[[0, -1]]) == [50, 500] and len(found.values) == 15
    real = FeatureStatistics.from_moments(np.zeros(10), np.eye(10), 10_000)
    x = rng.normal(size=(2000, 10)) * 1.2  # the population's distance: 10 * 0.2^2
    plain = frechet_distance(real, FeatureStatistics().update(x[:200]))
    found = extrapolate(lambda index: frechet_distance(real, FeatureStatistics().update(x[index])), 2000)
    assert abs(found.value - 0.4) < abs(plain - 0.4) and found.slope > 0
    with pytest.raises(ValueError, match="found n_points = 15, smallest = 2 and n = 2"):
        extrapolate(len, 2)


def test_extrapolation_takes_subsets_without_repetition():
    seen = []
    extrapolate(lambda index: seen.append(index) or 1.0, 40, n_points=3, smallest=10)
    assert [len(set(index.tolist())) for index in seen] == [10, 25, 40]
