"""Scores: names that carry the protocol, cards that must agree, intervals around values."""

import numpy as np
import pytest

from dgmlab.metrics.image import frechet_distance, inception_score, kernel_distance
from dgmlab.metrics.manifold import density_coverage, precision_recall
from dgmlab.metrics.scores import (
    Card,
    Features,
    Score,
    all_scores,
    change_over_seeds,
    classifier_score,
    frechet_infinity,
    frechet_score,
    kernel_score,
    manifold_scores,
    over_seeds,
    score_name,
)

CARD = Card("fd_resnet20", "0a1b2c3d", "bicubic to 32", 0)


def features(n, shift=0.0, seed=0, **card):
    """Features (n, 6) with class scores (n, 4) and a card."""
    rng = np.random.default_rng(seed)
    rows = (rng.normal(size=(n, 6)) + shift).astype(np.float32)
    return Features(rows, rng.normal(size=(n, 4)).astype(np.float32), CARD._replace(n=n, **card))


@pytest.mark.parametrize("extractor, n, kind, name", [
    ("fid", 50_000, "fd", "fid_50k"), ("fid", 50_000, "kd", "kid_50k"), ("fid", 1500, "cs", "is_1500"),
    ("fid", 5000, "recall", "recall_inception_5k"), ("fd_resnet20", 5000, "fd", "fd_resnet20_5k"),
    ("fd_resnet56", 999, "kd", "kd_resnet56_999"), ("fd_digits", 1797, "cs", "cs_digits_1797"),
    ("fd_fidelity", 2000, "fd", "fd_fidelity_2k"), ("fd_mine", 100, "coverage", "coverage_mine_100"),
])
def test_names_carry_extractor_and_size_and_fid_is_inception_only(extractor, n, kind, name):
    assert score_name(kind, CARD._replace(extractor=extractor, n=n)) == name


def test_scores_are_the_plain_metrics_with_a_card_and_an_interval():
    real, fake = features(300), features(200, 0.3, seed=1)
    scores = {score.name: score for score in all_scores(real, fake, subset_size=100, n_draws=20)}
    ends = ("fd_resnet20_200", "fd_resnet20_inf", "kd_resnet20_200", "cs_resnet20_200", "precision_resnet20_200",
            "recall_resnet20_200", "density_resnet20_200", "coverage_resnet20_200")
    assert tuple(scores) == ends
    for score in scores.values():
        assert score.low < score.value < score.high and score.card.n == 200
    x, y = real.features, fake.features
    assert scores["fd_resnet20_200"].value == pytest.approx(frechet_distance(x, y))
    assert scores["kd_resnet20_200"].value == pytest.approx(kernel_distance(x, y, subset_size=100).value)
    assert scores["cs_resnet20_200"].value == pytest.approx(inception_score(fake.logits).value)
    assert [scores[ends[i]].value for i in (4, 5)] == pytest.approx(list(precision_recall(x, y)))
    assert [scores[ends[i]].value for i in (6, 7)] == pytest.approx(list(density_coverage(x, y)))
    assert scores["fd_resnet20_inf"].value < scores["fd_resnet20_200"].value  # the bias is gone
    assert scores["fd_resnet20_200"].card.n_reference == 300 and scores["cs_resnet20_200"].card.n_reference == 0


def test_features_of_two_protocols_do_not_compare():
    real = features(50)
    for change in ({"extractor": "fd_resnet56"}, {"weights": "ffffffff"}, {"resize": "bilinear to 32"}):
        other = features(50, **change)
        for score in (frechet_score, frechet_infinity, kernel_score, manifold_scores, all_scores):
            with pytest.raises(ValueError, match="two protocols do not compare: the reference is fd_resnet20 0a1b2c3d"):
                score(real, other)
    assert frechet_score(real, features(50, ema=False, mode="train"), n_draws=0).card.mode == "train"


def test_too_few_pictures_for_a_score_are_refused():
    with pytest.raises(ValueError, match="subsets of 1000 pictures, found 300 real and 50 generated"):
        kernel_score(features(300), features(50))
    without = Features(np.zeros((9, 2)), None, CARD._replace(n=9))
    with pytest.raises(ValueError, match="fd_resnet20 gives no class scores"):
        classifier_score(without)
    assert not [score for score in all_scores(without, without, subset_size=5, n_draws=2) if score.name.startswith("cs_")]


def test_a_score_prints_its_card_and_flattens_into_a_log_line():
    card = Card("fd_resnet20", "0a1b2c3d", "bicubic to 32", 5000, True, "eval", 3, 10_000)
    score = Score("fd_resnet20_5k", 12.34567, 11.9, 12.8, card)
    assert str(score) == ("fd_resnet20_5k 12.35 [11.9, 12.8] (fd_resnet20 0a1b2c3d, n = 5,000 against 10,000, "
                          "resize bicubic to 32, EMA weights, eval mode, seed 3)")
    assert str(card._replace(ema=None, mode=None, n_reference=0)).endswith("n = 5,000, resize bicubic to 32, data")
    assert score.flat() == {"fd_resnet20_5k": 12.34567, "fd_resnet20_5k_low": 11.9, "fd_resnet20_5k_high": 12.8}
    assert score._replace(low=None, high=None).flat() == {"fd_resnet20_5k": 12.34567}


def test_intervals_can_be_left_out_and_do_not_hang_on_global_randomness():
    real, fake = features(60), features(60, seed=1)
    assert frechet_score(real, fake, n_draws=0)[2:4] == (None, None)
    np.random.seed(0)
    first = frechet_score(real, fake, n_draws=5)
    np.random.seed(1)
    assert frechet_score(real, fake, n_draws=5) == first != frechet_score(real, fake, n_draws=5, seed=1)


# over seeds


def test_mean_over_seeds_has_the_interval_of_student():
    mean = over_seeds([1.0, 2.0, 3.0])  # std 1, t(2) = 4.302653
    assert mean.mean == 2 and mean.n == 3
    assert mean.high - mean.mean == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6) == mean.mean - mean.low
    assert over_seeds([5.0]) == (5.0, None, None, 1)


def test_change_over_seeds_is_a_ratio_with_welchs_interval():
    change = change_over_seeds(np.exp([1.0, 3.0]), np.exp([0.0, 0.0]))  # variances of the means 1 and 0: one degree of freedom
    assert change.ratio == pytest.approx(np.e**2)
    assert np.log(change.high / change.ratio) == pytest.approx(12.706205, rel=1e-6)
    assert change.low * change.high == pytest.approx(change.ratio**2)
    assert change_over_seeds([2.0], [4.0]) == (0.5, None, None)
    assert change_over_seeds([2.0, 2.0], [4.0, 4.0]) == (0.5, 0.5, 0.5)


def test_interval_of_a_change_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(4)
    changes = [change_over_seeds(np.exp(rng.normal(0.1, 0.2, 3)), np.exp(rng.normal(0, 0.1, 3))) for _ in range(2000)]
    assert np.mean([change.low < np.exp(0.1) < change.high for change in changes]) == pytest.approx(0.955, abs=0.025)


def test_matrices_of_manifold_scores_are_bounded_and_their_names_say_so():
    real, fake = (Features(np.random.default_rng(i).standard_normal((60, 4)), None, Card("fd_x", "0", "none", 60))
                  for i in range(2))
    names = {score.name: score.card for score in all_scores(real, fake, subset_size=20, n_draws=2, n_manifold=25)}
    assert {"fd_x_60", "fd_x_inf", "kd_x_60", "precision_x_25", "recall_x_25", "density_x_25", "coverage_x_25"} == set(names)
    assert (names["recall_x_25"].n, names["recall_x_25"].n_reference, names["kd_x_60"].n_reference) == (25, 25, 60)
