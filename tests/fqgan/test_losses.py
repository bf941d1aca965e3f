"""Losses against answers worked out by hand, and against slow references in float64."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from dgmlab.fqgan.losses import (
    ADVERSARIAL,
    DOut,
    class_terms_d,
    class_terms_g,
    hinge_d,
    hinge_g,
    logistic_d,
    logistic_g,
    orthogonal_penalty,
    r1_penalty,
    raw_weight,
)
from dgmlab.fqgan.spectral import spectral_norm


def out(logits, class_logits=None, twin_logits=None):
    return DOut(logits, class_logits, twin_logits)


# adversarial


def test_hinge_by_hand():
    terms = hinge_d(torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 1.0]))
    assert terms.real.item() == pytest.approx((0 + 0.5 + 2) / 3) and terms.fake.item() == pytest.approx((0 + 2) / 2)
    assert terms.loss.item() == pytest.approx(2.5 / 3 + 1)
    assert hinge_g(torch.tensor([3.0, -1.0])).item() == -1.0


def test_logistic_by_hand():
    terms = logistic_d(torch.tensor([0.0, math.log(3)]), torch.tensor([0.0, -math.log(4)]))
    # sigmoid(log 3) = 3/4; 1 - sigmoid(-log 4) = 4/5
    assert terms.real.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert terms.fake.item() == pytest.approx((math.log(2) + math.log(5 / 4)) / 2)
    assert terms.loss.item() == pytest.approx(terms.real.item() + terms.fake.item())
    assert logistic_g(torch.tensor([math.log(3)])).item() == pytest.approx(math.log(4 / 3))


def test_logistic_equals_binary_cross_entropy_in_float64():
    real, fake = torch.randn(7, dtype=torch.float64) * 3, torch.randn(5, dtype=torch.float64) * 3
    bce = functional.binary_cross_entropy_with_logits
    assert torch.allclose(logistic_d(real, fake).loss, bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake)))
    assert torch.allclose(logistic_g(fake), bce(fake, torch.ones_like(fake)))


def test_hinge_is_flat_beyond_the_margin_and_logistic_never():
    for name, beyond in (("hinge", True), ("logistic", False)):
        real = torch.tensor([0.9, 1.1], requires_grad=True)
        fake = torch.tensor([-0.9, -1.1], requires_grad=True)
        ADVERSARIAL[name].d(real, fake).loss.backward()
        assert real.grad[0] < 0 < fake.grad[0]
        assert ((real.grad[1] == 0) and (fake.grad[1] == 0)) == beyond


@pytest.mark.parametrize("name", list(ADVERSARIAL))
def test_losses_are_finite_at_extreme_logits_and_g_wants_higher_ones(name):
    far = torch.tensor([1e4, -1e4])
    game = ADVERSARIAL[name]
    assert game.d(far, far).loss.isfinite() and game.g(far).isfinite()
    fake = torch.randn(9, requires_grad=True)
    game.g(fake).backward()
    assert (fake.grad < 0).all()
    assert game.d(torch.ones(3), -torch.ones(3)).loss < game.d(-torch.ones(3), torch.ones(3)).loss


# class terms


def test_class_terms_by_hand():
    even, sure = torch.zeros(2, 4), torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])
    labels = torch.tensor([0, 1])
    real, fake = out(torch.zeros(2), sure, even[:, :2]), out(torch.zeros(2), even, sure)
    terms = class_terms_d(real, labels, fake, labels.flip(0))  # classifier right with 3/4, twin wrong with 1/4
    assert terms.classifier.item() == pytest.approx(math.log(4 / 3)) and terms.twin.item() == pytest.approx(math.log(4))
    assert terms.loss.item() == pytest.approx(math.log(4 / 3) + math.log(4))
    terms = class_terms_g(fake, labels)
    assert terms.classifier.item() == pytest.approx(math.log(4)) and terms.twin.item() == pytest.approx(math.log(4 / 3))
    assert terms.loss.item() == pytest.approx(math.log(4) - math.log(4 / 3))


def test_class_terms_without_a_twin_are_those_of_ac_gan_and_without_any_zero():
    scores, labels = torch.randn(5, 3), torch.randint(3, (5,))
    ac, plain = out(torch.zeros(5), scores), out(torch.zeros(5))
    expected = functional.cross_entropy(scores, labels)
    assert class_terms_d(ac, labels, ac, labels) == class_terms_g(ac, labels) == (expected, expected, 0)
    assert class_terms_d(plain, labels, plain, labels) == class_terms_g(plain, labels) == (0, 0, 0)


def test_a_twin_as_good_as_the_classifier_leaves_g_nothing_to_gain():
    scores = torch.randn(6, 4)
    assert class_terms_g(out(torch.zeros(6), scores, scores), torch.randint(4, (6,))).loss == 0


# regularisers


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5)])
def test_orthogonal_penalty_and_its_gradient_equal_the_formula(shape):
    layer = nn.Linear(shape[1], shape[0]).double()
    w = layer.weight.detach()
    off = w @ w.T * (1 - torch.eye(shape[0], dtype=torch.float64))
    penalty = orthogonal_penalty(layer)
    penalty.backward()
    assert torch.allclose(penalty, off.square().sum() / 2)
    assert torch.allclose(layer.weight.grad, 2 * off @ w) and layer.bias.grad is None


def test_orthogonal_penalty_by_hand_takes_raw_weights_of_convolutions_and_linear_maps():
    conv, linear = spectral_norm(nn.Conv2d(1, 2, (1, 2), bias=False)), spectral_norm(nn.Linear(2, 2))
    with torch.no_grad():
        raw_weight(conv).copy_(torch.tensor([[3.0, 0.0], [1.0, 1.0]]).view(2, 1, 1, 2))  # inner product 3: 9 + 9 over 2
        raw_weight(linear).copy_(torch.tensor([[5.0, 0.0], [0.0, 0.1]]))  # at right angles, whatever the lengths
    before = conv.parametrizations.weight[0].u.clone()
    assert orthogonal_penalty(nn.ModuleList([conv, linear, nn.Embedding(9, 9)])).item() == pytest.approx(9.0)
    assert torch.equal(conv.parametrizations.weight[0].u, before), "the penalty must not iterate"


def test_orthogonal_weights_cost_nothing():
    model = nn.Sequential(nn.Linear(16, 4), nn.Conv2d(4, 8, 3))
    for layer in model:
        nn.init.orthogonal_(layer.weight)
    assert orthogonal_penalty(model).item() == pytest.approx(0.0, abs=1e-5)


def test_r1_by_hand():
    images = torch.tensor([[[[1.0, 2.0]]], [[[0.0, -1.0]]]], requires_grad=True)  # (2, 1, 1, 2)
    logits = images.square().flatten(1).sum(1)  # slope 2x: squared lengths 4 + 16 and 4
    assert r1_penalty(logits, images, gamma=10.0).item() == pytest.approx(10 / 2 * (20 + 4) / 2)


def test_r1_and_its_gradient_equal_finite_differences_in_float64():
    torch.manual_seed(0)
    net = nn.Sequential(spectral_norm(nn.Conv2d(2, 3, 3)), nn.Softplus(), nn.Flatten(), nn.Linear(12, 1)).double()
    for _ in range(200):  # u and v are constants of the gradient, which is exact where they have settled
        net[0].train()(torch.zeros(1, 2, 4, 4, dtype=torch.float64))
    net.eval()
    images = torch.randn(3, 2, 4, 4, dtype=torch.float64)

    def penalty(x):
        return r1_penalty(net(x).squeeze(1), x, gamma=3.0)

    slopes = torch.zeros_like(images)
    for index in range(images[0].numel()):
        shift = torch.zeros(images[0].numel(), dtype=torch.float64)
        shift[index] = 1e-5
        shift = shift.view_as(images[0])
        slopes.view(3, -1)[:, index] = ((net(images + shift) - net(images - shift)) / 2e-5).detach()[:, 0]
    expected = 1.5 * slopes.square().sum((1, 2, 3)).mean()
    assert torch.allclose(penalty(images.clone().requires_grad_()), expected, rtol=1e-7)
    raw, eps = raw_weight(net[0]), 1e-6
    (gradient,) = torch.autograd.grad(penalty(images.clone().requires_grad_()), raw)
    with torch.no_grad():
        ahead = []
        for sign in (1, -1):
            raw[0, 0, 0, 0] += sign * eps
            with torch.enable_grad():
                ahead.append(penalty(images.clone().requires_grad_()).item())
            raw[0, 0, 0, 0] -= sign * eps
    assert gradient[0, 0, 0, 0].item() == pytest.approx((ahead[0] - ahead[1]) / (2 * eps), rel=1e-5)


def test_r1_without_a_gradient_in_the_images_is_a_one_line_error():
    images = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"call images.requires_grad_\(\) before D\(images, y\)"):
        r1_penalty(images.sum(1), images, 1.0)
