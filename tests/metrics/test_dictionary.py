"""Numbers of a dictionary: answers worked out by hand, brute force in float64, and properties on fresh draws."""

import math

import numpy as np
import pytest
import torch

from dgmlab.metrics import dictionary
from dgmlab.metrics.dictionary import (
    code_counts,
    dead_share,
    dictionary_perplexity,
    js_divergence,
    lifetimes,
    nearest_patches,
    patch_of,
)


def test_counts_of_codes_of_any_shape():
    codes = torch.tensor([[0, 3], [3, 3]])
    for given in (codes, codes.numpy(), codes.tolist(), codes.view(2, 2, 1)):
        np.testing.assert_array_equal(code_counts(given, 5), [1, 0, 0, 3, 0])
    np.testing.assert_array_equal(code_counts(torch.empty(0, dtype=torch.long), 2), [0, 0])
    with pytest.raises(ValueError, match="0 to 2 for 3 codes, found 0 to 3"):
        code_counts(codes, 3)
    with pytest.raises(ValueError, match="0 to 2 for 3 codes, found -1 to 0"):
        code_counts([-1, 0], 3)
    with pytest.raises(ValueError, match=r"integers, found torch.float32"):
        code_counts(codes.float(), 4)


def test_perplexity_counts_the_codes_that_matter():
    assert dictionary_perplexity([7, 7, 7, 7]) == pytest.approx(4)
    assert dictionary_perplexity([9, 0, 0]) == 1
    # shares 1/2, 1/4, 1/4: entropy 1.5 bits
    assert dictionary_perplexity([4, 2, 2, 0]) == pytest.approx(2**1.5)
    with pytest.raises(ValueError, match="all 0: no vector was coded"):
        dictionary_perplexity([0, 0])
    with pytest.raises(ValueError, match=r"found shape \(1, 2\)"):
        dictionary_perplexity([[1, 2]])


def test_dead_codes_are_those_that_neither_set_took():
    real, fake = np.array([3, 0, 0, 1]), np.array([0, 5, 0, 1])
    assert dead_share(real) == 0.5 and dead_share(real + fake) == 0.25
    with pytest.raises(ValueError, match="0 or more"):
        dead_share([-1, 2])


def test_divergence_by_hand():
    # p = (1/2, 1/2), q = (1, 0), m = (3/4, 1/4): (1/2 log2 2/3 + 1/2 log2 2) / 2 + (log2 4/3) / 2
    by_hand = (0.5 * math.log2(2 / 3) + 0.5) / 2 + math.log2(4 / 3) / 2
    assert by_hand == pytest.approx(0.311278, abs=1e-6)
    assert js_divergence([10, 10], [4, 0]) == pytest.approx(by_hand)
    assert js_divergence([1, 2, 0], [100, 200, 0]) == 0  # shares, not counts
    assert js_divergence([1, 2, 0, 0], [0, 0, 5, 1]) == 1
    with pytest.raises(ValueError, match="3 and 2 codes"):
        js_divergence([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="fake counts are all 0"):
        js_divergence([1, 2], [0, 0])


def test_divergence_is_symmetric_bounded_and_blind_to_the_order_of_codes():
    rng = np.random.default_rng()
    for _ in range(20):
        p, q = rng.integers(0, 9, (2, 12)) + np.eye(12, dtype=int)[:2]
        shuffle = rng.permutation(12)
        js = js_divergence(p, q)
        assert 0 <= js <= 1 and js == pytest.approx(js_divergence(q, p))
        assert js == pytest.approx(js_divergence(p[shuffle], q[shuffle]))


def test_bias_of_the_divergence_is_the_one_of_the_docstring():
    rng = np.random.default_rng(0)
    shares, n, m = rng.dirichlet(np.full(32, 3.0)), 2000, 4000
    found = np.mean([js_divergence(rng.multinomial(n, shares), rng.multinomial(m, shares)) for _ in range(300)])
    assert found == pytest.approx(31 / (8 * math.log(2)) * (1 / n + 1 / m), rel=0.05)


def test_lives_of_codes_by_hand():
    usage = np.array([[5, 0, 1, 0, 0],
                      [4, 0, 0, 2, 0],
                      [3, 0, 2, 0, 0],
                      [9, 0, 0, 0, 1]])
    lives = lifetimes(usage)
    np.testing.assert_array_equal(lives.first, [0, -1, 0, 1, 3])
    np.testing.assert_array_equal(lives.last, [3, -1, 2, 1, 3])
    np.testing.assert_array_equal(lives.deaths, [0, 0, 2, 1, 0])
    np.testing.assert_array_equal(lives.revivals, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(lifetimes(usage[:1]).deaths, np.zeros(5))
    with pytest.raises(ValueError, match=r"found shape \(5,\)"):
        lifetimes(usage[0])


def test_a_code_dies_at_most_once_more_than_it_is_revived():
    usage = np.random.default_rng().integers(0, 2, (30, 50))
    lives = lifetimes(usage)
    assert set(lives.deaths - lives.revivals) <= {0, 1}
    np.testing.assert_array_equal(lives.deaths - lives.revivals, (lives.last >= 0) & (usage[-1] == 0))


@pytest.mark.parametrize("chunk", [1, 30, 10_000])
def test_nearest_patches_are_those_of_brute_force(monkeypatch, chunk):
    monkeypatch.setattr(dictionary, "CHUNK", chunk)
    features, codes = torch.randn(9, 5, 4, 3), [6, 0, 2]
    entries = torch.randn(7, 5)
    found = nearest_patches(features, entries, codes, 4)
    every = (features.double().movedim(1, 3)[None] - entries[codes].double()[:, None, None, None]).norm(dim=-1)  # (k, N, H, W)
    per_image = every.flatten(2).min(dim=2)
    expected = per_image.values.sort(dim=1)
    torch.testing.assert_close(found.distance.double(), expected.values[:, :4])
    assert torch.equal(found.image, expected.indices[:, :4])
    at = every[torch.arange(3)[:, None], found.image, found.row, found.column]
    torch.testing.assert_close(at, expected.values[:, :4])
    assert all(len(set(row)) == 4 for row in found.image.tolist())  # a picture once


def test_distances_of_far_features_keep_their_digits():
    features = torch.full((3, 4, 1, 1), 1000.0)
    features[1, 0], features[2, 0] = 1000.5, 1000.25
    found = nearest_patches(features, torch.full((1, 4), 1000.0), [0], 3)
    assert found.image.tolist() == [[0, 2, 1]] and found.distance.tolist() == [[0, 0.25, 0.5]]


def test_nearest_patches_say_what_does_not_fit():
    features, entries = torch.randn(3, 5, 2, 2), torch.randn(7, 5)
    with pytest.raises(ValueError, match="1 to the 3 there are; found 4"):
        nearest_patches(features, entries, [0], 4)
    with pytest.raises(ValueError, match=r"found \(3, 5, 2, 2\) and \(7, 4\)"):
        nearest_patches(features, entries[:, :4], [0], 1)


def test_patches_are_the_pixels_under_a_position():
    images = torch.arange(2 * 3 * 8 * 8).view(2, 3, 8, 8)
    patch = patch_of(images, [1, 0], [0, 3], [2, 1], map_size=4)
    assert torch.equal(patch, torch.stack([images[1, :, 0:2, 4:6], images[0, :, 6:8, 2:4]]))
    wide = patch_of(images, [1], [1], [1], map_size=4, margin=2)
    assert torch.equal(wide[0], images[1, :, 0:6, 0:6])
    many = patch_of(images.numpy().astype(np.uint8), torch.zeros(3, 2, dtype=int), torch.zeros(3, 2, dtype=int),
                    torch.zeros(3, 2, dtype=int), 4)
    assert many.shape == (3, 2, 3, 2, 2) and many.dtype == torch.uint8


def test_patches_repeat_the_border_and_stay_in_the_middle():
    images = torch.arange(16).view(1, 1, 4, 4)
    corner = patch_of(images, [0], [0], [0], map_size=4, margin=1)[0, 0]
    assert corner.tolist() == [[0, 0, 1], [0, 0, 1], [4, 4, 5]]
    # 4 pixels on a map of 3: each position has ceil(4/3) = 2 pixels, and no position leaves the picture
    thirds = patch_of(images, [0, 0, 0], [0, 1, 2], [0, 1, 2], map_size=3)[:, 0]
    assert thirds.tolist() == [[[0, 1], [4, 5]], [[5, 6], [9, 10]], [[10, 11], [14, 15]]]
    with pytest.raises(ValueError, match="0 to 2 on a map of 3 x 3"):
        patch_of(images, [0], [3], [0], map_size=3)
    with pytest.raises(ValueError, match="square pictures"):
        patch_of(images[0], [0], [0], [0], map_size=2)
