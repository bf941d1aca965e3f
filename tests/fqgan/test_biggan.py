"""BigGAN's networks: the official parameter counts, the official maths written out again, and the contract of every model."""

import copy
import dataclasses
import json
import re

import pytest
import torch
from torch.nn import functional
from torch.nn.utils import parametrize

from dgmlab.fqgan import biggan
from dgmlab.fqgan.biggan import PRESETS, BigGANConfig, Discriminator, Generator, initialised, preset
from dgmlab.fqgan.losses import hinge_d, hinge_g, r1_penalty, raw_weight
from dgmlab.fqgan.spectral import held_spectral_norm
from dgmlab.training import EMA

COUNTS = [  # preset, overrides, G, D: measured on the authors' code, FQ-GAN's and BigGAN's settings
    ("cifar10", {}, 4_304_387, 4_207_361),
    ("cifar100", {}, 4_580_867, 4_230_401),
    ("cifar10", {"shared_size": 128}, 4_668_163, 4_207_361),
    ("cifar10", {"shared_size": 128, "hierarchical": True}, 4_373_251, 4_207_361),
    ("imagenet64", {}, 31_969_540, 20_571_842),
    ("imagenet128", {}, 31_978_628, 39_448_258),
    ("imagenet128", {"width": 96}, 70_433_988, 87_982_370),
]
EVERYTHING = BigGANConfig(width=8, latent_size=12, shared_size=5, n_classes=3, hierarchical=True, attention=16,
                          init="orthogonal")
PLAIN = BigGANConfig(width=2, latent_size=6, n_classes=3)  # without anything optional, as CIFAR's
BOTH = pytest.mark.parametrize("config", [PLAIN, EVERYTHING], ids=["plain", "everything"])


def make(config, seed=0):
    """(G, D) with attention switched on (it starts at 0), weights neither tiny nor orthogonal, and their norms settled."""
    torch.manual_seed(seed)
    G, D = Generator(config), Discriminator(config)
    with torch.no_grad():
        for name, p in [*G.named_parameters(), *D.named_parameters()]:
            if name.endswith("gamma"):
                p.fill_(0.7)
            elif p.ndim > 1:
                p.normal_(std=0.3)
        for layer in [*normalised_layers(G).values(), *normalised_layers(D).values()] * 20:
            _ = layer.weight  # in training, reading it is one power iteration
    return G, D


def normalised_layers(model):
    return {name: layer for name, layer in model.named_modules() if parametrize.is_parametrized(layer)}


def noise(config, n=4, seed=1):
    """(z, y, x) of a batch."""
    g, side = torch.Generator().manual_seed(seed), config.resolution
    return (torch.randn(n, config.latent_size, generator=g), torch.arange(n) % config.n_classes,
            torch.rand(n, 3, side, side, generator=g) * 2 - 1)


def n_parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.fixture
def without_iterations(monkeypatch):
    """Spectral norm adds no parameters; without it a large network on the meta device is there at once."""
    monkeypatch.setattr(biggan, "spectral_norm", lambda layer, eps: layer)


@pytest.mark.parametrize("name, overrides, n_g, n_d", COUNTS)
def test_parameter_counts_are_the_official_ones(name, overrides, n_g, n_d, without_iterations):
    config = preset(name, **overrides)
    with torch.device("meta"):
        assert (n_parameters(Generator(config)), n_parameters(Discriminator(config))) == (n_g, n_d)


def test_counts_of_cifar10_by_part_with_spectral_norm():
    with torch.device("meta"):
        G, D = Generator(PRESETS["cifar10"]), Discriminator(PRESETS["cifar10"])
    assert [n_parameters(block) for block in D.blocks] == [598_272, 1_245_952, 1_180_160, 1_180_160]
    assert (n_parameters(D.linear), n_parameters(D.embed)) == (257, 2_560)
    assert [n_parameters(block) for block in G.blocks] == [1_256_192] * 3
    assert (n_parameters(G.linear), n_parameters(G.to_rgb)) == (528_384, 7_427)


@pytest.mark.parametrize("name, maps", [
    ("cifar10", [(256, 16), (256, 8), (256, 8), (256, 8)]),
    ("imagenet64", [(64, 32), (128, 16), (256, 8), (512, 4), (1024, 4)]),
    ("imagenet128", [(64, 64), (128, 32), (256, 16), (512, 8), (1024, 4), (1024, 4)]),
])
def test_layers_by_name_have_the_maps_that_fqgan_quantises(name, maps, without_iterations):
    with torch.device("meta"):
        D, seen = Discriminator(preset(name)), []
        for i in range(len(maps)):
            D.get_submodule(f"blocks.{i}").register_forward_hook(lambda _, __, h: seen.append((h.shape[1], h.shape[2])))
        assert D.features(torch.zeros(2, 3, D.config.resolution, D.config.resolution)).shape == (2, maps[-1][0])
    assert seen == maps


# the maths, written out again in the official order of operations


def reference_attention(a, x):
    batch, channels, height, width = x.shape
    theta, phi = functional.conv2d(x, a.query.weight), functional.max_pool2d(functional.conv2d(x, a.key.weight), 2)
    g = functional.max_pool2d(functional.conv2d(x, a.value.weight), 2)
    out = torch.zeros(batch, channels // 2, height, width, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            weights = torch.einsum("bc,bchw->bhw", theta[:, :, i, j], phi).flatten(1).softmax(1)
            out[:, :, i, j] = torch.einsum("bn,bcn->bc", weights, g.flatten(2))
    return a.gamma * functional.conv2d(out, a.out.weight) + x


def reference_discriminator(D, x, y):
    h = x
    for i, block in enumerate(D.blocks):
        r = functional.conv2d(functional.relu(h) if i else h, block.conv1.weight, block.conv1.bias, padding=1)
        r = functional.conv2d(functional.relu(r), block.conv2.weight, block.conv2.bias, padding=1)
        if i < 2:  # at 32 pixels two blocks shrink
            h = functional.conv2d(h, block.shortcut.weight, block.shortcut.bias)
            h, r = functional.avg_pool2d(h, 2), functional.avg_pool2d(r, 2)
        h = h + r
        if h.shape[-1] == D.config.attention:
            h = reference_attention(D.attention[i], h)
    h = functional.relu(h).sum((2, 3))
    projection = torch.stack([D.embed.weight[c] @ v for c, v in zip(y, h, strict=True)])
    return (h @ D.linear.weight.T + D.linear.bias)[:, 0] + projection


def reference_norm(n, x, condition):
    """Statistics of the batch, biased variance; gain around 1."""
    x = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    gain, bias = (m.weight[condition] if condition.ndim == 1 else condition @ m.weight.T for m in (n.gain, n.bias))
    return x * (1 + gain)[:, :, None, None] + bias[:, :, None, None]


def reference_generator(G, z, y):
    parts, conditions = [z], [y] * len(G.blocks)
    if G.config.hierarchical:
        parts = z.split(z.shape[1] // (len(G.blocks) + 1), 1)
        conditions = [torch.cat([G.shared.weight[y], part], 1) for part in parts[1:]]
    h = (parts[0] @ G.linear.weight.T + G.linear.bias).view(len(z), -1, 4, 4)
    for i, (block, c) in enumerate(zip(G.blocks, conditions, strict=True)):
        r = functional.interpolate(functional.relu(reference_norm(block.norm1, h, c)), scale_factor=2)
        h = functional.conv2d(functional.interpolate(h, scale_factor=2), block.shortcut.weight, block.shortcut.bias)
        r = functional.conv2d(r, block.conv1.weight, block.conv1.bias, padding=1)
        r = functional.relu(reference_norm(block.norm2, r, c))
        h = h + functional.conv2d(r, block.conv2.weight, block.conv2.bias, padding=1)
        if h.shape[-1] == G.config.attention:
            h = reference_attention(G.attention[i], h)
    norm, _, last = G.to_rgb
    h = functional.relu(functional.batch_norm(h, None, None, norm.weight, norm.bias, training=True))
    return torch.tanh(functional.conv2d(h, last.weight, last.bias, padding=1))


@BOTH
def test_networks_equal_the_official_order_of_operations_in_float64(config):
    G, D = (model.double() for model in make(config))
    z, y, x = (t.double() if t.is_floating_point() else t for t in noise(config))
    with held_spectral_norm(G), held_spectral_norm(D):  # reading .weight would iterate too
        assert torch.allclose(G(z, y), reference_generator(G, z, y), rtol=0, atol=1e-10)
        out = D(x, y)
        assert torch.allclose(out.logits, reference_discriminator(D, x, y), rtol=1e-10, atol=1e-10)
    assert out.logits.std() > 1e-3, "every image scores alike: the test would show nothing"
    assert out.class_logits is None


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_images_and_logits_have_their_shapes_and_ranges(resolution):
    config = BigGANConfig(resolution, n_classes=3, width=1, latent_size=12)
    (G, D), (z, y, _) = make(config), noise(config, n=2)
    images = G(z, y)
    assert images.shape == (2, 3, resolution, resolution) and images.abs().max() <= 1
    assert D(images, y).logits.shape == (2,) and D.features(images).shape == (2, D.n_features)


# conditioning


@BOTH
def test_class_changes_image_and_logit(config):
    (G, D), (z, _, x) = make(config), noise(config)
    G.eval(), D.eval()
    zero, one = torch.tensor([[0], [1]]).expand(2, 4)
    assert ((G(z, zero) - G(z, one)).abs().amax((1, 2, 3)) > 1e-3).all()
    assert ((D(x, zero).logits - D(x, one).logits).abs() > 1e-4).all()


def test_class_embeddings_can_be_mixed():
    (G, _), (z, y, _) = make(EVERYTHING), noise(EVERYTHING)
    G.eval()
    assert torch.equal(G(z, y), G(z, G.shared(y)))
    between = G(z, (G.shared.weight[:1] + G.shared.weight[1:2]).expand(4, -1) / 2)
    assert not torch.equal(between, G(z, torch.zeros(4, dtype=torch.long)))


def test_each_slice_of_z_enters_at_its_own_block():
    (G, _), (z, y, _), seen = make(EVERYTHING), noise(EVERYTHING), []
    for block in G.eval().blocks:
        block.register_forward_hook(lambda _, __, h: seen.append(h.detach()))
    G(z, y)
    z[:, 6:9] += 1  # 12 = 4 parts of 3: the linear map, then one for each block; this is the second block's
    G(z, y)
    assert [torch.equal(before, after) for before, after in zip(seen[:3], seen[3:], strict=True)] == [True, False, False]


# spectral norm


def test_largest_singular_value_is_one_by_svd():
    G, D = make(EVERYTHING)
    assert {"embed", "linear", "blocks.0.conv1", "blocks.1.shortcut", "attention.0.query"} <= set(normalised_layers(D))
    assert "shared" not in normalised_layers(G) and {"linear", "to_rgb.2", "blocks.0.norm1.gain"} <= set(normalised_layers(G))
    for model in (G, D):
        for name, layer in normalised_layers(model).items():
            for _ in range(200):
                weight = layer.weight
            raw = torch.linalg.svdvals(raw_weight(layer).flatten(1).double())
            assert len(raw) == 1 or raw[0] > 1.01 * raw[-1], "orthogonal: any vectors would do"
            assert torch.linalg.svdvals(weight.flatten(1).double())[0].item() == pytest.approx(1.0, abs=5e-3), name
            assert torch.allclose(weight * raw[0], raw_weight(layer), rtol=5e-3, atol=1e-6), name


# the contract of every model


@pytest.mark.parametrize("config", [PRESETS["micro"], PRESETS["tiny"], PRESETS["small"], PLAIN, EVERYTHING])
def test_every_parameter_gets_a_gradient(config):
    (G, D), (z, y, _) = make(config), noise(config, n=config.n_classes)
    D(G(z, y), y).logits.square().mean().backward()  # no margin, where a hinge would be flat
    assert [name for model in (G, D) for name, p in model.named_parameters()
            if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()] == []


def test_saved_and_loaded_networks_are_the_same(tmp_path):
    (G, D), (z, y, x) = make(EVERYTHING), noise(EVERYTHING)
    G(z, y), D(x, y)  # statistics and vectors move from their start
    for model, given in ((G.eval(), z), (D.eval(), x)):
        folder = tmp_path / type(model).__name__
        model.save_pretrained(folder)
        assert {"config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}
        assert json.loads((folder / "config.json").read_text()) == dataclasses.asdict(EVERYTHING)
        loaded = type(model).from_pretrained(folder)
        assert loaded.config == EVERYTHING and not loaded.training
        mine, theirs = model(given, y), loaded(given, y)
        assert torch.equal(*(out if model is G else out.logits for out in (mine, theirs)))


def test_d_separates_two_fixed_batches_and_g_follows():
    torch.manual_seed(0)
    config = preset("tiny", n_classes=2, latent_size=8, shared_size=4)
    G, D = Generator(config), Discriminator(config)
    z, y, x = noise(config, n=8)
    fake = G(z, y).detach()
    steps = torch.optim.Adam(D.parameters(), lr=2e-3, betas=(0.0, 0.999))
    for _ in range(15):
        steps.zero_grad()
        loss = hinge_d(D(x, y).logits, D(fake, y).logits).loss
        loss.backward()
        steps.step()
    assert loss < 0.1 and (D.eval()(x, y).logits > 0).all() and (D(fake, y).logits < 0).all()
    steps = torch.optim.Adam(G.parameters(), lr=2e-3, betas=(0.0, 0.999))
    for _ in range(15):
        steps.zero_grad()
        loss = hinge_g(D(G(z, y), y).logits)
        loss.backward()
        steps.step()
    assert loss < 0, "G does not reach what D calls real"


def test_r1_differentiates_twice_through_d():
    (_, D), (_, y, x) = make(EVERYTHING), noise(EVERYTHING)
    r1_penalty(D(x.requires_grad_(), y).logits, x, gamma=1.0).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for name, p in D.named_parameters()
               if name.startswith("blocks") and name.endswith("original"))


def test_average_of_g_is_a_copy_that_follows():
    G, _ = make(EVERYTHING)
    G_ema, ema, bias = copy.deepcopy(G), EMA(G, decay=0.5), G.blocks[0].conv1.bias
    bias.data += 1
    ema.update(G)
    ema.copy_to(G_ema)
    assert torch.allclose(G_ema.blocks[0].conv1.bias, bias - 0.5)
    assert torch.equal(raw_weight(G_ema.linear), raw_weight(G.linear))


@pytest.mark.parametrize("name", ["orthogonal", "normal", "xavier"])
def test_weights_start_as_asked(name):
    torch.manual_seed(0)
    config = BigGANConfig(width=8, latent_size=128, init=name)
    weight = initialised(torch.nn.Linear(128, 256), config).weight.detach().double()
    raw = raw_weight(Discriminator(config).blocks[1].conv1).detach().flatten(1)  # (32, 288)
    if name == "orthogonal":
        assert torch.allclose(weight.T @ weight, torch.eye(128, dtype=torch.float64), atol=1e-5)
        assert torch.allclose(raw @ raw.T, torch.eye(32), atol=1e-5)
    else:
        for found, n_in_and_out in ((weight, 128 + 256), (raw, 288 + 288)):
            std = {"normal": 0.02, "xavier": (2 / n_in_and_out) ** 0.5}[name]
            assert found.std().item() == pytest.approx(std, rel=0.05)


# precision, memory format, compilation


def test_bf16_autocast_keeps_images_and_logits_in_float32():
    (G, D), (z, y, x) = make(EVERYTHING), noise(EVERYTHING)
    G.eval(), D.eval()
    images, logits = G(z, y), D(x, y).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = []
        D.blocks[1].register_forward_hook(lambda _, __, h: seen.append(h.dtype))
        half_images, out = G(z, y), D(x, y)
    assert seen == [torch.bfloat16] and half_images.dtype == out.logits.dtype == torch.float32
    assert (half_images - images).abs().max() < 0.05 and torch.allclose(out.logits, logits, rtol=0.05, atol=0.05)
    assert not torch.equal(out.logits, out.logits.bfloat16().float()), "the logits were rounded to bf16"
    (out.logits.sum() + half_images.sum()).backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in [*G.parameters(), *D.parameters()])


def test_channels_last_gives_the_same_and_stays_channels_last():
    (G, D), (z, y, x) = make(PLAIN), noise(PLAIN)
    G.eval(), D.eval()
    images, logits, layouts = G(z, y), D(x, y).logits, []
    G.to(memory_format=torch.channels_last), D.to(memory_format=torch.channels_last)
    for block in (*G.blocks, *D.blocks):
        block.register_forward_hook(lambda _, __, h: layouts.append(h.is_contiguous(memory_format=torch.channels_last)))
    assert torch.allclose(G(z, y), images, atol=1e-5)
    assert torch.allclose(D(x.to(memory_format=torch.channels_last), y).logits, logits, rtol=1e-4, atol=1e-5)
    assert all(layouts) and len(layouts) == 7


def test_networks_compile_without_a_graph_break():
    (G, D), (z, y, x) = make(EVERYTHING), noise(EVERYTHING)
    twins = copy.deepcopy((G, D))
    compiled = [torch.compile(model, backend="eager", fullgraph=True) for model in (G, D)]
    assert torch.allclose(compiled[0](z, y), twins[0](z, y), atol=1e-6)
    assert torch.allclose(compiled[1](x, y).logits, twins[1](x, y).logits, atol=1e-5)
    assert torch.allclose(D.linear.parametrizations.weight[0].u, twins[1].linear.parametrizations.weight[0].u)


# errors


@pytest.mark.parametrize("fields, message", [
    ({"resolution": 48}, "resolution is 48; choose one of: 32, 64, 128."),
    ({"init": "ortho"}, "init is 'ortho'; choose one of: orthogonal, normal, xavier."),
    ({"attention": 32}, "attention is 32; choose one of: 0, 8, 16."),
    ({"attention": 16, "width": 4}, "width is 4; attention needs at least 8"),
    ({"n_classes": 0}, "n_classes is 0; a positive number was expected."), ({"hierarchical": True}, "set shared_size"),
    ({"hierarchical": True, "shared_size": 8, "latent_size": 30}, "cut into 4 equal parts at 32 pixels: use 28."),
])
def test_impossible_configurations_are_named(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        BigGANConfig(**fields)


def test_wrong_inputs_and_presets_are_one_line_errors():
    (G, D), (z, y, x) = make(PLAIN), noise(PLAIN)
    with pytest.raises(ValueError, match=r"z of shape \(B, 6\) was expected, found \(4, 5\)"):
        G(z[:, :5], y)
    with pytest.raises(ValueError, match=r"images of shape \(B, 3, 32, 32\) were expected, found \(4, 1, 32, 32\)"):
        D(x[:, :1], y)
    with pytest.raises(KeyError, match="no preset of BigGAN is called 'cifar'. Did you mean 'cifar10'"):
        preset("cifar")
