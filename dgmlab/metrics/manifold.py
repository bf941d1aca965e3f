"""Fidelity and variety apart: precision and recall, density and coverage, from balls around nearest neighbours.

Every point of a set carries a ball that reaches to its k-th nearest fellow; together they stand for the set's manifold.
Letters: M real pictures, N generated ones, D features.
"""

from typing import NamedTuple

import torch

from dgmlab.metrics.image import feature_rows

CHUNK = 1024  # centres whose distances are held at once


class PrecisionRecall(NamedTuple):
    """precision: share of generated pictures on the real manifold; recall: share of real ones on the generated manifold."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """density: real balls around a generated picture, over k (1 expected for equal sets, may be more); coverage: share of
    real balls with a generated picture inside."""

    density: float
    coverage: float


def neighbourhoods(centres, points, k):
    """Which points lie in whose ball.

    centres  (M, D) features; the ball of each is closed and reaches to its k-th nearest fellow, itself not counted
    points   (N, D) features
    -> (M, N) bool tensor: M * N bytes
    """
    centres, points = feature_rows(centres), feature_rows(points)
    if centres.shape[1] != points.shape[1]:
        raise ValueError(f"two sets need as many features, found {centres.shape[1]} and {points.shape[1]} a picture.")
    if not 1 <= k < len(centres):
        raise ValueError(f"balls to the {k}-th neighbour need more than {k} pictures, found {len(centres)}. "
                         "Pass a smaller k, or use more pictures.")
    inside = torch.empty(len(centres), len(points), dtype=torch.bool)
    for start in range(0, len(centres), CHUNK):
        some = centres[start:start + CHUNK]
        own = _square_distances(some, centres)
        own[torch.arange(len(some)), torch.arange(start, start + len(some))] = torch.inf
        radius = own.kthvalue(k, dim=1, keepdim=True).values
        inside[start:start + CHUNK] = _square_distances(some, points) <= radius
    return inside


def _square_distances(x, y):
    """|x - y|^2 of every pair, by products: (N, D), (M, D) -> (N, M); what may be a rounding error of 0 is 0, so that copies
    of a picture lie on each other"""
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    squares = norms - 2 * x @ y.T
    return torch.where(squares > norms * x.shape[1] * torch.finfo(x.dtype).eps, squares, 0.0)


def precision_recall(real, fake, k=3):
    """Improved precision and recall (Kynkaanniemi et al. 2019): real (M, D), fake (N, D); paper: k = 3 -> PrecisionRecall"""
    precision = neighbourhoods(real, fake, k).any(0).double().mean()
    recall = neighbourhoods(fake, real, k).any(0).double().mean()
    return PrecisionRecall(float(precision), float(recall))


def density_coverage(real, fake, k=5):
    """Density and coverage (Naeem et al. 2020): real (M, D), fake (N, D); the paper: k = 5. One outlier among the real
    pictures widens precision's manifold a lot, but hardly these. -> DensityCoverage"""
    inside = neighbourhoods(real, fake, k)
    return DensityCoverage(float(inside.sum(0).double().mean() / k), float(inside.any(1).double().mean()))
