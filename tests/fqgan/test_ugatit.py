"""U-GAT-IT: official sizes, AdaLIN against the paper's formula in float64, attention, both networks."""

import pytest
import torch
from torch.nn import functional

from dgmlab.fqgan.ugatit import (
    LIN,
    AdaLIN,
    Attention,
    UGATITDiscriminator,
    UGATITGenerator,
    clip_rho,
    layer_instance_norm,
)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def tiny_generator(light=True, **options):
    return UGATITGenerator(16, light, channels=4, n_blocks=2, **options)


def test_parameter_counts_are_the_official_ones():
    with torch.device("meta"):
        assert n_parameters(UGATITGenerator(256)) == 278_959_808
        assert n_parameters(UGATITGenerator(256, light=True)) == 10_589_888
        assert n_parameters(UGATITDiscriminator(7)) == 53_130_176
        assert n_parameters(UGATITDiscriminator(5)) == 3_290_560


@pytest.mark.parametrize(("n_layers", "patches"), [(7, 6), (5, 30)])
def test_at_256_pixels_patches_and_quantised_maps_are_the_papers(n_layers, patches):
    D, seen = UGATITDiscriminator(n_layers, channels=2), []
    for name in ("blocks.1", "blocks.2", "blocks.3"):
        D.get_submodule(name).register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[1:])))
    judged = D(torch.randn(1, 3, 256, 256))
    assert judged.logits.shape == (1, 1, patches, patches) and judged.heat_map.shape == (1, patches + 1, patches + 1)
    if n_layers == 7:  # 64 channels are 128 x 64^2, 256 x 32^2, 512 x 16^2
        assert seen == [(4, 64, 64), (8, 32, 32), (16, 16, 16)]


@pytest.mark.parametrize("light", [True, False])
def test_shapes_and_ranges(light):
    G, x = tiny_generator(light), torch.randn(3, 3, 16, 16)
    images, cam_logits, heat_map = G(x)
    assert images.shape == x.shape and images.abs().max() <= 1 and cam_logits.shape == (3, 2)
    assert heat_map.shape == (3, 4, 4) and heat_map.dtype == torch.float32 and not heat_map.requires_grad
    assert torch.equal(heat_map.amin((1, 2)), torch.zeros(3)) and torch.allclose(heat_map.amax((1, 2)), torch.ones(3))


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 3, 1, 1)])
def test_adalin_equals_the_papers_formula(shape):
    n, channels = shape[:2]
    x = 3 * torch.randn(shape, dtype=torch.float64) + torch.arange(channels).view(1, -1, 1, 1)
    rho = torch.rand(channels, dtype=torch.float64)
    gamma, beta = torch.randn(2, n, channels, dtype=torch.float64)
    instance = functional.instance_norm(x) if shape[2] > 1 else torch.zeros_like(x)
    layer = functional.layer_norm(x, shape[1:])
    mix = rho.view(1, -1, 1, 1)
    wanted = gamma[:, :, None, None] * (mix * instance + (1 - mix) * layer) + beta[:, :, None, None]
    assert torch.allclose(layer_instance_norm(x, rho, gamma, beta), wanted, atol=1e-10)
    assert torch.allclose(layer_instance_norm(x.float(), rho, gamma, beta).double(), wanted, atol=1e-4)


def test_rho_starts_as_published_and_stays_in_range():
    assert (AdaLIN(4).rho == 0.9).all() and (LIN(4).rho == 0).all()
    G = tiny_generator()
    rhos = [p for name, p in G.named_parameters() if name.endswith("rho")]
    assert len(rhos) == 2 * 2 + 2
    others = {name: p.clone() for name, p in G.named_parameters() if not name.endswith("rho")}
    with torch.no_grad():
        for rho in rhos:
            rho.copy_(torch.linspace(-0.5, 1.5, len(rho)))
    clip_rho(G)
    assert all(rho.min() == 0 and rho.max() == 1 and ((rho > 0) & (rho < 1)).any() for rho in rhos)
    assert all(torch.equal(dict(G.named_parameters())[name], p) for name, p in others.items())


def test_attention_equals_the_two_scaled_copies_merged():
    attention, x = Attention(6).double(), torch.randn(2, 6, 4, 5, dtype=torch.float64)
    mean, maximum = functional.adaptive_avg_pool2d(x, 1).flatten(1), functional.adaptive_max_pool2d(x, 1).flatten(1)
    logits = torch.cat([attention.mean(mean), attention.maximum(maximum)], 1)
    copies = torch.cat([x * attention.mean.weight[..., None, None], x * attention.maximum.weight[..., None, None]], 1)
    wanted = torch.relu(attention.merge(copies))
    features, cam_logits, heat_map = attention(x)
    assert torch.allclose(features, wanted) and torch.allclose(cam_logits, logits)
    heat = wanted.sum(1).flatten(1)
    order = heat_map.flatten(1).argsort(1)
    assert (heat.gather(1, order).diff(dim=1) >= -1e-6).all(), "the heat map ranks the places as the features' sum does"
    assert attention(torch.ones_like(x)).heat_map.isfinite().all(), "a constant map has no range to stretch"


@pytest.mark.parametrize("light", [True, False])
def test_every_parameter_gets_a_gradient(light):
    G, D = tiny_generator(light), UGATITDiscriminator(3, channels=4)
    images, cam_logits, _ = G(torch.randn(2, 3, 16, 16))
    judged = D(images)
    loss = judged.logits.square().mean() + judged.cam_logits.square().mean() + cam_logits.square().mean()
    loss.backward()
    silent = [name for network in (G, D) for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_real_and_fake_may_be_judged_before_one_backward():
    D = UGATITDiscriminator(3, channels=4)
    real, fake = D(torch.randn(2, 3, 16, 16)), D(torch.randn(2, 3, 16, 16))
    ((real.logits - 1).square().mean() + fake.logits.square().mean()).backward()
    assert all(p.grad is not None for name, p in D.named_parameters() if name.startswith("blocks"))


def test_saved_and_loaded_networks_are_the_same(tmp_path):
    x = torch.randn(2, 3, 16, 16)
    networks = {"full": tiny_generator(False), "light": tiny_generator(), "D": UGATITDiscriminator(3, channels=4)}
    for name, network in networks.items():
        network.eval().save_pretrained(tmp_path / name)
        assert {path.name for path in (tmp_path / name).iterdir()} >= {"config.json", "model.safetensors"}
        loaded = type(network).from_pretrained(tmp_path / name)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(network(x), loaded(x), strict=True))


def test_bf16_autocast_runs_and_ends_in_float32():
    G, D = tiny_generator(), UGATITDiscriminator(3, channels=4)
    x = torch.randn(2, 3, 16, 16)
    plain = G(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        translated = G(x)
        judged = D(translated.images)
    assert {result.dtype for result in (*translated, *judged)} == {torch.float32}
    assert (translated.images - plain.images).abs().mean() < 0.05
    (judged.logits.mean() + judged.cam_logits.mean()).backward()
    assert all(p.grad.isfinite().all() for network in (G, D) for p in network.parameters() if p.grad is not None)


def test_wrong_sizes_are_one_line_errors():
    with pytest.raises(ValueError, match="image_size is 30; expected a multiple of 4"):
        UGATITGenerator(30, light=True)
    with pytest.raises(ValueError, match="images are 20 x 20; this generator expects 16 x 16"):
        tiny_generator(light=False)(torch.randn(1, 3, 20, 20))
    assert tiny_generator(light=True)(torch.randn(1, 3, 20, 24)).images.shape == (1, 3, 20, 24)
    with pytest.raises(ValueError, match="images are 18 x 16; this generator expects sides that are multiples of 4"):
        tiny_generator(light=True)(torch.randn(1, 3, 18, 16))
    with pytest.raises(ValueError, match="images are 64 x 64; n_layers=7 expects sides of at least 96"):
        UGATITDiscriminator(7, channels=1)(torch.randn(1, 3, 64, 64))
    assert UGATITDiscriminator(7, channels=1)(torch.randn(1, 3, 96, 96)).logits.shape == (1, 1, 1, 1)
