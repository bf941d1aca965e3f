"""Augmentation: neutral at p = 0, exact where pixels only move, differentiable twice; its probability steers itself."""

import json

import pytest
import torch

from dgmlab.fqgan.augment import KINDS, AdaptiveProbability, augment


def symmetries_and_shifts(image):
    """Every mirrored and turned copy of a square image (C, H, W)."""
    return [turned for flipped in (image, image.flip(2)) for turned in (torch.rot90(flipped, k, (1, 2)) for k in range(4))]


@pytest.mark.parametrize("kinds", [KINDS, *((kind,) for kind in KINDS)])
@pytest.mark.parametrize("channels", [1, 3])
def test_p_zero_is_the_identity_and_p_one_changes_images_differentiably(kinds, channels):
    x = torch.rand(16, channels, 16, 16) * 2 - 1
    assert augment(x, 0.0, kinds) is x
    barely = augment(x, 1e-12, kinds)  # the whole pipeline, with neutral parameters
    assert torch.allclose(barely, x, atol=1e-4)
    x.requires_grad_()
    y = augment(x, 1.0, kinds)
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()
    assert ((y - x).abs().amax((1, 2, 3)) > 1e-3).float().mean() > 0.6
    gradient, = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert (gradient.abs().amax((1, 2, 3)) > 0).all()
    gradient.square().sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().sum() > 0


def test_first_and_second_derivatives_are_right():
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)

    def augmented(x):
        return augment(x, 1.0, generator=torch.Generator().manual_seed(2)).square()

    assert torch.autograd.gradcheck(augmented, x) and torch.autograd.gradgradcheck(augmented, x)


def test_blitting_only_mirrors_turns_and_shifts_by_whole_pixels():
    image = torch.rand(1, 16, 16)
    inner = slice(4, 12)  # shifts are at most 2 of 16 pixels, so the middle of the result lies inside
    candidates = torch.stack([torch.roll(copy, (dy, dx), (1, 2))[0, inner, inner] for copy in symmetries_and_shifts(image)
                              for dy in range(-2, 3) for dx in range(-2, 3)])
    results = augment(image.expand(200, -1, -1, -1), 1.0, ("blit",))[:, 0, inner, inner]
    distances = (results[:, None] - candidates).abs().amax((2, 3))  # (200, 8 * 25)
    assert distances.amin(1).max() < 1e-4
    assert len(distances.argmin(1).unique()) > 60, "of 200 kinds of copies"


def test_the_mean_of_the_images_moves_by_contrast_and_brightness_alone():
    x = torch.rand(4000, 3, 2, 2) - 0.5
    grey = x.mean(1, keepdim=True)
    y = augment(x, 1.0, ("colour",))
    # on the grey axis the matrix is +- contrast: y_grey = a (x_grey + b), the same a and b at every pixel
    y_grey = y.mean(1).flatten(1)
    centred_x, centred_y = grey.flatten(1) - grey.flatten(1).mean(1, True), y_grey - y_grey.mean(1, True)
    a = (centred_x * centred_y).sum(1) / centred_x.square().sum(1)
    assert torch.allclose(centred_y, a[:, None] * centred_x, atol=1e-4)
    assert 0.45 < (a < 0).float().mean() < 0.55, "luma is flipped half of the time"
    assert abs(a.abs().log2().std().item() - 0.5) < 0.05 and abs(a.abs().log2().mean().item()) < 0.05
    b = y_grey.mean(1) / a - grey.mean((1, 2, 3))
    assert abs(b.std().item() - 0.2) < 0.02
    # across the grey axis hue is a rotation and saturation a factor: a log-normal with one octave of deviation
    chroma_x, chroma_y = (x - grey).flatten(1).norm(dim=1), (y - y.mean(1, keepdim=True)).flatten(1).norm(dim=1)
    assert abs((chroma_y / chroma_x / a.abs()).log2().std().item() - 1) < 0.1


def test_p_is_the_share_of_images_that_each_transformation_touches():
    x = torch.rand(1, 1, 8, 8).expand(6000, -1, -1, -1)
    same = ((augment(x, 0.2, ("colour",)) - x).abs().amax((1, 2, 3)) < 1e-5).float().mean().item()
    assert abs(same - 0.8**2) < 0.03, "grey images: brightness and contrast, each left alone with 0.8"
    same = ((augment(x, 0.2, ("geometry",)) - x).abs().amax((1, 2, 3)) < 1e-4).float().mean().item()
    assert abs(same - 0.8**5) < 0.03, "scale, rotation (in two halves), stretch, shift in x and in y"


def test_a_generator_makes_it_repeatable_and_dtypes_are_kept():
    x = torch.rand(4, 3, 8, 8)
    first, second = (augment(x, 0.8, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first, augment(x, 0.8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = augment(x.bfloat16(), 0.8, generator=torch.Generator().manual_seed(1))
        assert torch.equal(first, augment(x, 0.8, generator=torch.Generator().manual_seed(1))), "autocast leaves it alone"
    assert low.dtype == torch.bfloat16 and torch.allclose(low.float(), first, atol=0.1)


def test_wrong_kinds_and_shapes_are_one_line_errors():
    with pytest.raises(ValueError, match="unknown kinds of augmentation: cutout; choose among: blit, geometry, colour"):
        augment(torch.zeros(1, 3, 8, 8), 0.5, ("cutout",))
    with pytest.raises(ValueError, match="images are 8 x 9; augmentation expects squares"):
        augment(torch.zeros(1, 3, 8, 9), 0.5)
    with pytest.raises(ValueError, match="images have 4 channels; colour augmentation expects 1 or 3"):
        augment(torch.zeros(1, 4, 8, 8), 0.5)


def test_probability_rises_and_falls_by_images_seen():
    ada = AdaptiveProbability(n_images=1000, interval=2)
    assert ada.update(torch.ones(50)) == 0.0
    assert ada.update(torch.ones(50, 1)) == pytest.approx(0.1)  # 100 images of 1000, all called real
    signs = torch.tensor([1.0] * 8 + [-1.0] * 2)  # r_t is 0.6, not above the target
    ada.update(signs)
    assert ada.update(signs) == pytest.approx(0.08)
    for _ in range(100):
        ada.update(-torch.ones(50))
    assert ada.p == 0.0
    for _ in range(100):
        ada.update(torch.ones(50))
    assert ada.p == 1.0


def test_probability_is_that_of_all_ranks(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda totals: totals.add_(torch.tensor([60.0, 60.0])))
    ada = AdaptiveProbability(0.5, n_images=1000, interval=1)
    assert ada.update(-torch.ones(10)) == pytest.approx(0.57)  # r_t = (60 - 10) / 70 of 70 images, though it is -1 here


def test_probability_goes_on_from_its_state():
    options = {"n_images": 300, "interval": 3}
    ada = AdaptiveProbability(0.5, **options)
    logits = torch.randn(40, 7)
    for row in logits[:20]:
        ada.update(row)
    resumed = AdaptiveProbability(**options)
    resumed.load_state_dict(json.loads(json.dumps(ada.state_dict())))
    assert [ada.update(row) for row in logits[20:]] == [resumed.update(row) for row in logits[20:]]
    assert ada.p != 0.5
