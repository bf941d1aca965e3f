"""Observations against a plain rewriting of the published rule, dropout and what it leaves alone, and what is refused."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dgmlab.prevalent.angles import ANGLE_SIZE, angle_feature
from dgmlab.prevalent.features import Features, environment_mask, observe, observe_at, open_features
from dgmlab.prevalent.houses import Houses

SIZE = 6
rng = np.random.default_rng()


@pytest.fixture(scope="module")
def houses():
    return Houses.toy([3, 4])


@pytest.fixture(scope="module")
def features(houses):
    return Features(houses, rng.uniform(0.5, 1, (len(houses), 36, SIZE)).astype(np.float32), "drawn")


def walkers(houses, n=9):
    rows, width = rng.integers(0, len(houses), n), houses.candidates.index.shape[1] + 1
    return SimpleNamespace(row=rows, view=rng.integers(0, 36, n), mask=rng.random((n, width)) < 0.5)


def heading_of(view):
    return np.radians(view % 12 * 30)


def elevation_of(view):
    return np.radians((view // 12 - 1) * 30)


def expected(features, row, view):
    """The views and candidates of one agent, step by step (reference: make_candidate of R2R-EnvDrop)."""
    base = heading_of(view)
    angles = [angle_feature(heading_of(i) - base, elevation_of(i)) for i in range(36)]
    around = [np.concatenate([features.views[row, i], angles[i]]) for i in range(36)]
    table = features.houses.candidates
    ahead = [np.zeros(features.size + ANGLE_SIZE)]
    for k in range(table.index.shape[1]):
        there = table.index[row, k] >= 0
        direction = angle_feature(table.heading[row, k] - base, table.elevation[row, k])
        ahead.append(np.concatenate([features.views[row, table.view[row, k]], direction]) * there)
    return np.array(around), np.array(ahead)


def test_observation_follows_the_published_rule(houses, features):
    walk = walkers(houses)
    seen = observe(features, walk)
    assert seen.views.shape == (9, 36, SIZE + 128) and seen.views.dtype == seen.candidates.dtype == torch.float32
    for i in range(9):
        around, ahead = expected(features, walk.row[i], walk.view[i])
        np.testing.assert_allclose(seen.views[i], around, atol=2e-6)
        np.testing.assert_allclose(seen.candidates[i], ahead, atol=2e-6)
        own = angle_feature(heading_of(walk.view[i]), elevation_of(walk.view[i]))
        np.testing.assert_allclose(seen.angle[i], own, atol=2e-6)
    assert seen.row.tolist() == walk.row.tolist() and seen.view.tolist() == walk.view.tolist()
    assert (seen.mask.numpy() == walk.mask).all()


def test_stop_is_zeros_and_padded_candidates_are_zeros(houses, features):
    row = torch.arange(len(houses))
    seen = observe_at(features, row, row % 36, image_dropout=0.2)
    assert (seen.candidates[:, 0] == 0).all() and seen.mask[:, 0].all()
    assert (seen.candidates[~seen.mask] == 0).all()
    assert (seen.candidates[:, 1:][seen.mask[:, 1:]].abs().sum(-1) > 0).all()
    assert (seen.mask.sum(1).numpy() == 1 + houses.candidates.count).all()


def test_image_dropout_leaves_angles_alone_and_is_new_for_views_and_candidates(features):
    row, view = torch.arange(20), torch.arange(20)
    plain = observe_at(features, row, view)
    seen = observe_at(features, row, view, image_dropout=0.25, generator=torch.Generator().manual_seed(0))
    assert torch.equal(seen.views[..., SIZE:], plain.views[..., SIZE:])
    assert torch.equal(seen.candidates[..., SIZE:], plain.candidates[..., SIZE:])
    kept = seen.views[..., :SIZE] != 0
    assert abs(kept.float().mean() - 0.75) < 0.04
    np.testing.assert_allclose(seen.views[..., :SIZE][kept], plain.views[..., :SIZE][kept] / 0.75, rtol=1e-6)
    again = observe_at(features, row, view, image_dropout=0.25, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.views, seen.views) and torch.equal(again.candidates, seen.candidates)
    at = features.tensors().view[row]  # a candidate shows the picture of a view, but not the same dropout
    same_view = kept[torch.arange(20)[:, None], at] == (seen.candidates[:, 1:, :SIZE] != 0)
    assert not same_view[seen.mask[:, 1:]].all()


def test_environment_dropout_is_one_mask_for_all(features):
    mask = environment_mask(1000, 0.4, torch.Generator().manual_seed(1))
    assert mask.shape == (1000,) and abs((mask == 0).float().mean() - 0.4) < 0.06
    np.testing.assert_allclose(mask[mask > 0], 1 / 0.6, rtol=1e-6)
    mask = torch.tensor([0.0, 2.0, 0.0, 2.0, 2.0, 0.0])
    plain, seen = (observe_at(features, torch.arange(5), torch.arange(5), environment=m) for m in (None, mask))
    assert torch.equal(seen.views[..., :SIZE], plain.views[..., :SIZE] * mask)
    assert torch.equal(seen.candidates[..., :SIZE], plain.candidates[..., :SIZE] * mask)
    assert torch.equal(seen.views[..., SIZE:], plain.views[..., SIZE:])


def test_no_features_leave_directions(houses):
    features = open_features("none", houses)
    seen = observe(features, walkers(houses), image_dropout=0.5)
    assert features.size == 0 and seen.views.shape[-1] == ANGLE_SIZE and (seen.views != 0).any()


def test_wrong_kinds_shapes_and_shares_are_named(houses, features):
    with pytest.raises(KeyError, match="no features 'resnet'; choose one of: toy, semantic, tsv, hdf5, none"):
        open_features("resnet", houses)
    with pytest.raises(ValueError, match=rf"features 'x' should have the shape \({len(houses)}, 36, F\), found \(3, 36, 2\)"):
        Features(houses, np.zeros((3, 36, 2), np.float32), "x")
    with pytest.raises(ValueError, match=r"lies in \[0, 1\), found 1.0"):
        observe_at(features, torch.arange(2), torch.arange(2), image_dropout=1.0)


def test_a_batch_is_observed_in_a_few_milliseconds(houses):
    features = Features(houses, rng.integers(0, 2, (len(houses), 36, 334), dtype=np.uint8), "drawn")
    row, view = torch.arange(64) % len(houses), torch.arange(64) % 36
    times = []
    for _ in range(8):
        start = time.perf_counter()
        observe_at(features, row, view, image_dropout=0.3)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.03, f"{min(times) * 1e3:.1f} ms"
