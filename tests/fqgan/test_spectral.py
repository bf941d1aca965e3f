"""Spectral norm against singular values and its own definition, in every precision, memory order and mode."""

import contextlib
import copy

import pytest
import torch
from torch import nn

from dgmlab.fqgan.biggan import BigGANConfig, Discriminator, Generator
from dgmlab.fqgan.losses import raw_weight
from dgmlab.fqgan.spectral import SpectralNorm, _as_matrix, held_spectral_norm, spectral_norm
from dgmlab.training import EMA

LAYERS = {"convolution": lambda: nn.Conv2d(5, 8, 3), "linear": lambda: nn.Linear(7, 20), "row": lambda: nn.Linear(9, 1),
          "embedding": lambda: nn.Embedding(6, 4)}
EVERY_LAYER = pytest.mark.parametrize("kind", LAYERS)
FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["plain", "last"])


def norm_of(layer):
    return layer.parametrizations.weight[0]


def norms(model):
    return [part for part in model.modules() if isinstance(part, SpectralNorm)]


def moved(layer):
    """`layer` with a weight drawn anew, which its vectors do not know yet."""
    with torch.no_grad():
        raw_weight(layer).normal_()
    return layer


def with_a_clear_largest_value(layer):
    """The first singular value 1.5 times as large: where the first two are nearly equal, the iteration takes for ever."""
    raw = raw_weight(layer)
    with torch.no_grad():
        left, values, right = torch.linalg.svd(raw.flatten(1), full_matrices=False)
        values[0] *= 1.5
        raw.copy_((left * values @ right).view_as(raw))
    return layer


@EVERY_LAYER
def test_largest_singular_value_is_one_to_the_digits_of_float32_under_autocast(kind):
    layer = with_a_clear_largest_value(moved(spectral_norm(LAYERS[kind]())))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(100):
            weight = layer.weight
    sigma = torch.linalg.svdvals(raw_weight(layer).detach().double().flatten(1))[0]
    assert weight.dtype == torch.float32
    assert torch.allclose(weight.double() * sigma, raw_weight(layer).double(), rtol=1e-5, atol=0)


@EVERY_LAYER
@FORMATS
def test_one_training_forward_is_one_power_iteration_and_its_gradient_takes_the_vectors_as_constant(kind, memory_format):
    layer = moved(spectral_norm(LAYERS[kind]())).to(memory_format=memory_format)
    u = norm_of(layer).u.double()
    raw = raw_weight(layer).detach().double().requires_grad_()
    matrix = raw.flatten(1)
    v = matrix.detach().T @ u
    v /= v.norm()
    after = matrix.detach() @ v
    after /= after.norm()
    wanted = raw / (after @ matrix @ v)
    weight, above = layer.weight, torch.randn_like(raw)
    assert torch.allclose(weight.double(), wanted, rtol=1e-5, atol=1e-6)
    assert torch.allclose(norm_of(layer).u.double(), after, atol=1e-5)
    wanted.backward(above)
    weight.backward(above.float())
    assert torch.allclose(raw_weight(layer).grad.double(), raw.grad, rtol=1e-4, atol=1e-5)


@FORMATS
def test_no_copy_of_the_weight_is_made(memory_format):
    for shape in ((8, 4, 3, 3), (8, 4, 1, 1), (1, 4, 3, 3), (8, 1, 4, 4)):
        weight = torch.randn(shape).to(memory_format=memory_format)
        matrix = _as_matrix(weight)
        assert matrix.shape == (shape[0], weight[0].numel()) and matrix.data_ptr() == weight.data_ptr()
    layer = spectral_norm(nn.Conv2d(4, 8, 3)).to(memory_format=memory_format)
    assert layer.weight.is_contiguous(memory_format=memory_format)


def test_state_saved_in_one_memory_order_is_right_in_the_other():
    last = moved(spectral_norm(nn.Conv2d(5, 8, 3))).to(memory_format=torch.channels_last)
    _ = last.weight
    plain = spectral_norm(nn.Conv2d(5, 8, 3))
    plain.load_state_dict(last.state_dict())
    assert set(plain.state_dict()) == {"bias", "parametrizations.weight.original", "parametrizations.weight.0.u"}
    assert torch.allclose(plain.eval().weight, last.eval().weight, atol=1e-6)


def test_first_weights_are_those_of_fifteen_iterations():
    for _ in range(5):
        layer = with_a_clear_largest_value(nn.Linear(12, 10))
        assert torch.linalg.matrix_norm(spectral_norm(layer).weight, 2).item() == pytest.approx(1, abs=1e-3)


def test_evaluation_leaves_the_vectors_alone():
    model = Discriminator(BigGANConfig(width=2, n_classes=3))
    x, y = torch.randn(2, 3, 32, 32), torch.arange(2)
    for layer in model.modules():
        if hasattr(layer, "parametrizations"):
            moved(layer)
    start = [norm.u.clone() for norm in norms(model)]
    assert torch.equal(model.eval()(x, y).logits, model(x, y).logits)
    assert all(torch.equal(norm.u, u) for norm, u in zip(norms(model), start, strict=True))
    with torch.no_grad():  # the D step runs G so, and its vectors move there as well
        model.train()(x, y)
    assert all(len(u) == 1 or not torch.equal(norm.u, u) for norm, u in zip(norms(model), start, strict=True))


def test_held_spectral_norm_makes_four_micro_batches_equal_one_batch():
    config = BigGANConfig(width=2, latent_size=6, n_classes=3)
    D, x, y = Discriminator(config).double(), torch.randn(16, 3, 32, 32, dtype=torch.float64), torch.randint(3, (16,))
    for p in D.parameters():
        p.data.normal_(std=0.3)
    whole, parts, moving = D, copy.deepcopy(D), copy.deepcopy(D)
    for model, hold in ((whole, None), (parts, True), (moving, False)):
        for i in range(0, 16, size := 16 if hold is None else 4):
            with held_spectral_norm(model) if i and hold else contextlib.nullcontext():
                (model(x[i:i + size], y[i:i + size]).logits.square().sum() / 16).backward()
        assert all(not norm.held for norm in norms(model))
    distances = [max(float((a.grad - b.grad).abs().max()) for a, b in zip(whole.parameters(), model.parameters(), strict=True))
                 for model in (parts, moving)]
    assert distances[0] < 1e-9 * distances[1], distances


def test_averaged_generator_has_the_norms_of_its_averaged_weights():
    G = Generator(BigGANConfig(width=2, n_classes=3, latent_size=8))
    average, ema = copy.deepcopy(G).eval(), EMA(G, 0.5)
    for step in range(30):
        for p in G.parameters():
            p.data += 0.3 * torch.randn_like(p) / (1 + step)
        G(torch.randn(2, 8), torch.arange(2))
        ema.update(G)
    ema.copy_to(average)
    largest = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in average.modules()
               if hasattr(layer, "parametrizations")]
    assert len(largest) == 11 and all(0.999 < value < 1.1 for value in largest)
    assert [norm.u.norm().item() for norm in norms(average)] != pytest.approx([1.0] * len(largest)), "averages are shorter"


def test_frozen_weights_build_no_graph_and_follow_no_copy():
    layer = spectral_norm(nn.Conv2d(3, 4, 3)).requires_grad_(False)
    x = torch.randn(1, 3, 5, 5, requires_grad=True)
    assert not layer.weight.requires_grad
    layer(x).sum().backward()
    assert x.grad.any() and raw_weight(layer).grad is None
    twin, u = copy.deepcopy(layer), norm_of(layer).u.clone()
    moved(twin)(x)
    assert torch.equal(norm_of(layer).u, u) and not torch.equal(norm_of(twin).u, u)


def test_two_forwards_may_precede_one_backward():
    layer = moved(spectral_norm(nn.Linear(5, 4)))
    (layer(torch.randn(2, 5)).sum() + layer(torch.randn(2, 5)).sum()).backward()
    assert raw_weight(layer).grad.isfinite().all()
