"""Pull and push: by hand, that they act and in which direction, and that a point is not its own neighbour."""

import math

import pytest
import torch

from dgmlab.optimus.fusion import between, crowding, distances, fusion, rms, style_fusion


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distances_are_root_mean_squares():
    a, b = drawn(5, 7), drawn(3, 7, seed=1)
    expected = torch.cdist(a, b) / math.sqrt(7)
    assert torch.allclose(distances(a, b), expected) and torch.allclose(rms(a[:3] - b), expected.diagonal())
    assert distances(drawn(4000, 32), drawn(2, 32, seed=2)).mean() == pytest.approx(math.sqrt(2), rel=0.1)


def test_a_point_is_not_its_own_neighbour():
    # on a line: 0, 3, 4 -> nearest others at 3, 1, 1; the released code finds 0 everywhere
    z = torch.tensor([[0.0], [3.0], [4.0]])
    assert crowding(z, margin=math.inf) == pytest.approx(5 / 3)
    assert crowding(z, margin=2.0) == pytest.approx((2 + 1 + 1) / 3)
    # the last two are of one text: then 3, 3, 4; and where all are of one text, nobody is near
    assert crowding(z, torch.tensor([0, 1, 1]), margin=math.inf) == pytest.approx(10 / 3)
    assert crowding(z, torch.zeros(3), margin=2.0) == 2.0


def test_fusion_by_hand():
    z_ae, z_s2s = torch.tensor([[0.0, 0], [6, 8]]), torch.tensor([[3.0, 4], [6, 8]])
    terms = fusion(z_ae, z_s2s, margin=100.0)
    # pairs are 5 and 0 apart, neighbours 10 in the one space and 5 in the other; all over the root of 2
    assert terms.pull == pytest.approx(2.5 / math.sqrt(2)) and terms.push == pytest.approx(5 / math.sqrt(2))


def test_a_step_along_pull_brings_the_spaces_together_and_along_push_spreads_them():
    z_ae, z_s2s = drawn(8, 4).requires_grad_(), (drawn(8, 4, seed=1) / 2).requires_grad_()
    before = fusion(z_ae, z_s2s, margin=10.0)
    pull_gradient = torch.autograd.grad(before.pull, (z_ae, z_s2s), retain_graph=True)
    push_gradient = torch.autograd.grad(before.push, z_s2s)[0]
    assert all(gradient.abs().sum(1).min() > 0 for gradient in pull_gradient)
    assert (push_gradient.abs().sum(1) > 0).all(), "every point of the more crowded space is pushed"
    nearer = fusion(z_ae - 0.1 * pull_gradient[0], z_s2s - 0.1 * pull_gradient[1], margin=10.0)
    wider = fusion(z_ae, z_s2s + 0.1 * push_gradient, margin=10.0)
    assert nearer.pull < before.pull and wider.push > before.push


def test_pull_moves_context_and_response_towards_each_other():
    z_ae, z_s2s = drawn(5, 3).requires_grad_(), drawn(5, 3, seed=1).requires_grad_()
    gradients = torch.autograd.grad(fusion(z_ae, z_s2s).pull, (z_ae, z_s2s))
    apart = z_ae - z_s2s
    assert torch.allclose(gradients[0], -gradients[1])
    assert torch.allclose(torch.cosine_similarity(gradients[0], apart), torch.ones(5, dtype=torch.float64))


def test_push_ends_at_the_margin_and_equal_points_give_no_nan():
    far = (100 * drawn(4, 3)).requires_grad_()
    assert torch.autograd.grad(fusion(far, far.detach(), margin=0.5).push, far)[0].abs().sum() == 0
    equal = torch.ones(3, 2, requires_grad=True)
    terms = fusion(equal, torch.ones(3, 2))
    gradient = torch.autograd.grad(terms.pull - terms.push, equal)[0]
    assert terms.pull == terms.push == 0 and gradient.isfinite().all()


def test_style_pull_goes_both_ways_and_does_not_need_pairs():
    style, dialog = torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [2.0], [9.0]])
    terms = style_fusion(style, dialog, margin=100.0)
    # to the nearest: of the dialogs 1, 2, 1; of the styles 1, 1
    assert terms.pull == pytest.approx((4 / 3 + 1) / 2) and terms.push == pytest.approx(10)
    assert style_fusion(style, dialog[torch.tensor([2, 0, 1])], margin=100.0).pull == pytest.approx(float(terms.pull))
    moving = style.clone().requires_grad_()
    gradient = torch.autograd.grad(style_fusion(moving, dialog).pull, moving)[0]
    assert gradient[0] < 0 < gradient[1], "descent brings 0 up to 1 and 10 down to 9"


def test_points_between_lie_on_the_line_and_the_noise_has_its_size():
    z_a, z_b = drawn(5, 3).float(), drawn(5, 3, seed=1).float()
    points, u = between(z_a, z_b, 0.0, torch.Generator().manual_seed(2))
    assert torch.allclose(points, u[:, None] * z_a + (1 - u[:, None]) * z_b, atol=1e-6)
    assert (0 <= u).all() and (u < 1).all()
    noisy, _ = between(z_a.repeat(4000, 1), z_a.repeat(4000, 1), 0.1, torch.Generator().manual_seed(2))
    assert (noisy - z_a.repeat(4000, 1)).std() == pytest.approx(0.1, rel=0.02)
