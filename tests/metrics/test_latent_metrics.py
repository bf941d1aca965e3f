"""Active units and mutual information: by hand, by brute force, and at their limits."""

import math

import numpy as np
import pytest

from dgmlab.metrics.latent import active_units, log_aggregate, mutual_information


def test_active_units_counts_dimensions_whose_mean_moves():
    mu = np.array([[0.0, 0.0, 1.0], [0.0, 0.15, -1.0]])  # unbiased variances: 0, 0.01125, 2
    assert active_units(mu) == 2
    assert active_units(mu, threshold=0.012) == 1
    with pytest.raises(ValueError, match="at least 2 sentences"):
        active_units(mu[:1])


def test_information_is_zero_when_all_posteriors_are_alike_and_log_n_when_all_are_apart():
    n = 50
    assert mutual_information(np.zeros((n, 4)), np.zeros((n, 4))) == pytest.approx(0.0, abs=1e-12)
    apart = np.zeros((n, 2))
    apart[:, 0] = np.arange(n) * 100.0
    assert mutual_information(apart, np.full((n, 2), -4.0)) == pytest.approx(math.log(n))


def test_information_equals_brute_force():
    rng = np.random.default_rng(1)
    mu, logvar, z = rng.normal(size=(40, 3)), rng.normal(size=(40, 3)) - 1, rng.normal(size=(40, 3))
    def log_normal(x, m, lv):
        return sum(-0.5 * (math.log(2 * math.pi) + lv[d] + (x[d] - m[d]) ** 2 / math.exp(lv[d])) for d in range(3))
    total = 0.0
    for i in range(40):
        mixture = [log_normal(z[i], mu[j], logvar[j]) for j in range(40)]
        total += mixture[i] - math.log(sum(math.exp(value) for value in mixture) / 40)
    assert mutual_information(mu, logvar, z=z, chunk=7) == pytest.approx(total / 40, abs=1e-10)


def test_chunks_do_not_change_the_information():
    rng = np.random.default_rng(2)
    mu, logvar = rng.normal(size=(130, 8)), rng.normal(size=(130, 8))
    assert mutual_information(mu, logvar, chunk=17) == pytest.approx(mutual_information(mu, logvar, chunk=1000), rel=1e-12)


def test_aggregate_of_one_standard_normal_is_its_density():
    assert log_aggregate(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)))[0] == pytest.approx(-math.log(2 * math.pi))
    with pytest.raises(ValueError, match="one shape"):
        mutual_information(np.zeros((3, 2)), np.zeros((3, 4)))
