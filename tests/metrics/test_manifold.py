"""Precision, recall, density and coverage: counted by hand on a line, and by loops."""

import numpy as np
import pytest

from dgmlab.metrics import manifold
from dgmlab.metrics.image import feature_rows
from dgmlab.metrics.manifold import density_coverage, neighbourhoods, precision_recall

LINE = np.array([[0.0], [1.0], [2.0], [3.0]])  # with k = 1 every ball has radius 1, with k = 2 the radii are 2 1 1 2


def test_balls_on_a_line_by_hand():
    points = [[-1.0], [0.5], [3.5], [4.5]]
    assert neighbourhoods(LINE, points, 1).int().tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert neighbourhoods(LINE, points, 2).int().tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]


def test_a_shifted_set_by_hand():
    shifted = LINE + 2  # 2 3 4 5, likewise of radius 1
    # generated 2, 3 and, at the edge of the ball of 3, 4 are on the real manifold; so are real 1, 2, 3 on the generated one
    assert precision_recall(LINE, shifted, k=1) == (0.75, 0.75)
    # balls around 2: those of 1, 2, 3; around 3: 2, 3; around 4: 3; around 5: none. Balls with a point: those of 1, 2, 3
    assert density_coverage(LINE, shifted, k=1) == ((3 + 2 + 1 + 0) / 4, 0.75)
    assert precision_recall(LINE, LINE + 10, k=1) == (0, 0) == density_coverage(LINE, LINE + 10, k=1)


def test_a_set_with_a_stray_half_by_hand():
    stray = np.array([[0.0], [1.0], [9.0], [10.0]])  # radius 1 each
    assert precision_recall(LINE, stray, k=1) == (0.5, 0.75)  # 0 and 1 are real; they reach 0, 1 and 2
    assert density_coverage(LINE, stray, k=1) == ((2 + 3) / 4, 0.75)


def test_a_collapsed_generator_is_precise_and_recalls_nothing():
    collapsed = np.full((6, 1), 1.5)
    assert precision_recall(LINE, collapsed, k=3) == (1, 0)
    density, coverage = density_coverage(LINE, collapsed, k=1)
    assert (density, coverage) == (2, 0.5)  # in the balls of 1 and 2, and in no other


def test_an_outlier_widens_precision_but_not_density():
    real = np.concatenate([LINE, [[103.0]]])  # its ball reaches down to 3
    far = np.array([[50.0], [60.0], [70.0]])
    assert precision_recall(real, far, k=1).precision == 1
    assert density_coverage(real, far, k=1) == (1, 0.2) and density_coverage(real, LINE, k=1).density > 2


def test_equal_sets_are_on_each_other_also_where_points_repeat():
    x = np.random.default_rng().normal(size=(50, 7)) * 0.1 + 3
    for real in (x, np.repeat(x[:10], 5, axis=0), np.tile(x[:1], (50, 1))):  # repeated points have balls of radius 0
        assert precision_recall(real, real.copy()) == (1, 1)
        assert density_coverage(real, real.copy()).coverage == 1


def test_copies_lie_on_each_other_whatever_the_rounding():
    x = np.random.default_rng().normal(size=(40, 9)) + 1000
    squares = manifold._square_distances(*(feature_rows(rows) for rows in (x, x[:7])))
    assert not squares[:7].diagonal().any() and (squares[7:] > 0).all()


def test_balls_equal_loops_whatever_the_chunk(monkeypatch):
    rng = np.random.default_rng()
    x, y = rng.normal(size=(30, 5)), rng.normal(size=(20, 5)) * 1.5
    expected = np.zeros((30, 20), bool)
    for i in range(30):
        radius = sorted(np.linalg.norm(x[i] - x[j]) for j in range(30) if j != i)[3]
        expected[i] = [np.linalg.norm(x[i] - point) <= radius for point in y]
    for chunk in (1, 7, 1000):
        monkeypatch.setattr(manifold, "CHUNK", chunk)
        assert np.array_equal(neighbourhoods(x, y, 4).numpy(), expected)


def test_too_few_pictures_and_other_features_are_refused():
    with pytest.raises(ValueError, match="5-th neighbour need more than 5 pictures, found 4"):
        density_coverage(LINE, LINE)
    with pytest.raises(ValueError, match="found 1 and 2 a picture"):
        precision_recall(LINE, np.zeros((9, 2)))
    with pytest.raises(ValueError, match="NaN"):
        precision_recall(LINE, LINE * np.nan)
