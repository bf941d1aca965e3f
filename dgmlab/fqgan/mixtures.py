"""Mixtures of Gaussians in the plane with classes that overlap, and how well generated points follow them.

    real, labels = ring().draw(1000, generator)
    score_points(Points(fake, labels), ring())

Letters: N points, M modes of a mixture, L classes.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.metrics.image import FeatureStatistics, frechet_distance

SIGMAS = 3  # within so many standard deviations of a mode lie 98.9 % of its points, in the plane
LEAST = 0.2  # a mode is covered when it gets this share of what is due to it


class Points(NamedTuple):
    """x (N, 2) float, y (N,) long classes."""

    x: torch.Tensor
    y: torch.Tensor


class Moments(NamedTuple):
    """mean (2,) and covariance (2, 2) of a distribution in the plane."""

    mean: torch.Tensor
    covariance: torch.Tensor


class Mixture(NamedTuple):
    """Round Gaussians in the plane, in classes that may share them; the classes are equally frequent.

    means (M, 2), sigmas (M,), shares (L, M) probability of a mode given the class
    """

    means: torch.Tensor
    sigmas: torch.Tensor
    shares: torch.Tensor

    def draw(self, n, generator):
        """n points of random classes, from a torch.Generator -> Points"""
        y = torch.randint(len(self.shares), (n,), generator=generator)
        mode = torch.multinomial(self.shares[y], 1, generator=generator).squeeze(1)
        noise = torch.randn(n, 2, generator=generator)
        return Points(self.means[mode] + self.sigmas[mode, None] * noise, y)

    def moments(self, y=None):
        """Mean and covariance of class y, exactly, in float64; of all points where y is None -> Moments"""
        shares, means, sigmas = (values.double() for values in (self.shares, self.means, self.sigmas))
        weights = shares.mean(0) if y is None else shares[y]  # (M,)
        mean = weights @ means
        apart = means - mean
        covariance = (weights[:, None] * apart).T @ apart + (weights @ sigmas.square()) * torch.eye(2, dtype=torch.float64)
        return Moments(mean, covariance)


def _neighbours_share(n_modes):
    """(n / 2, n) shares: half of class c is in mode 2 c, and a quarter in each mode beside it, which two classes share."""
    c = torch.arange(n_modes // 2)
    shares = torch.zeros(n_modes // 2, n_modes)
    for offset, share in ((-1, 0.25), (0, 0.5), (1, 0.25)):
        shares[c, (2 * c + offset) % n_modes] += share
    return shares


def ring(n_modes=8, radius=2.0, sigma=0.2):
    """Gaussians on a circle, all equally frequent; every second one is shared by the two classes beside it -> Mixture"""
    angle = torch.arange(n_modes) * (2 * math.pi / n_modes)
    return Mixture(radius * torch.stack([angle.cos(), angle.sin()], dim=1), torch.full((n_modes,), sigma),
                   _neighbours_share(n_modes))


def grid(side=4, spacing=1.0, sigma=0.1):
    """side x side Gaussians, all equally frequent; every second column is shared by the classes beside it -> Mixture

    The last column lies beside the first one.
    """
    place = (torch.arange(side) - (side - 1) / 2) * spacing
    return Mixture(torch.cartesian_prod(place, place), torch.full((side**2,), sigma),
                   _neighbours_share(side).repeat_interleave(side, dim=1) / side)


def line(gap=1.0):
    """Three classes of one Gaussian each, wider from left to right, that overlap much -> Mixture

    The proportions are those of TAC-GAN's synthetic experiment, N(0, 1), N(3, 2), N(6, 3) (recalled, not verified), here
    in the plane and scaled by a third.
    """
    return Mixture(torch.tensor([[-gap, 0.0], [0.0, 0.0], [gap, 0.0]]), torch.tensor([1.0, 2.0, 3.0]) / 3, torch.eye(3))


MIXTURES = {"ring": ring, "grid": grid, "line": line}


class ToyScore(NamedTuple):
    """How well points follow a mixture.

    modes           modes that get at least a fifth of their due share of all points within 3 sigma
    high_quality    share of points within 3 sigma of a mode, [0, 1]; of true points 0.989
    fd              squared Frechet distance to the mixture itself, from its exact moments
    fd_class        the same within each class, averaged over classes
    spread          standard deviation within a class over the true one, averaged over classes: below 1 is too narrow
    """

    modes: int
    high_quality: float
    fd: float
    fd_class: float
    spread: float


def score_points(points, mixture):
    """points Points, of all classes of the mixture -> ToyScore"""
    x, y = points.x.double(), points.y
    gaps = (x[:, None] - mixture.means).norm(dim=2) / mixture.sigmas  # (N, M), in sigmas
    nearest = gaps.min(dim=1)
    good = nearest.values < SIGMAS
    found = torch.bincount(nearest.indices[good], minlength=len(mixture.means)) / len(x)
    distances, spreads = [], []
    for c in range(len(mixture.shares)):
        truth, own = mixture.moments(c), x[y == c]
        distances.append(_distance(truth, own))
        spreads.append(float((own.var(0).sum() / truth.covariance.trace()).sqrt()))
    return ToyScore(int((found >= LEAST * mixture.shares.mean(0)).sum()), float(good.double().mean()),
                    _distance(mixture.moments(), x), float(np.mean(distances)), float(np.mean(spreads)))


def _distance(truth, x):
    return frechet_distance(FeatureStatistics.from_moments(*truth, n=len(x)), x)
