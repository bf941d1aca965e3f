"""StyleGAN2: official sizes, layers against references written out in float64, and the properties of the whole."""

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from torch.nn import functional

from dgmlab.fqgan.stylegan import NOISES, Mapping, PathLength, StyleGANGenerator, mix_styles
from dgmlab.fqgan.stylegan_discriminator import StyleGANDiscriminator, minibatch_stddev
from dgmlab.fqgan.stylegan_layers import EqualConv, EqualLinear, Fir, ModulatedConv, Upsample, modulated_conv

# (G, D) parameters of the official networks by resolution, z = w = 512, 8 mapping layers
CONFIG_E = {32: (21_523_475, 21_507_073), 64: (23_819_544, 23_407_361), 128: (24_525_213, 23_882_369),
            256: (24_767_458, 24_001_089), 512: (24_860_935, 24_030_753), 1024: (24_900_764, 24_038_161)}
CONFIG_F = {32: (21_523_475, 21_507_073), 64: (27_032_600, 26_488_833), 128: (29_328_669, 28_389_121),
            256: (30_034_338, 28_864_129), 512: (30_276_583, 28_982_849), 1024: (30_370_060, 29_012_513)}
Z, S = 12, 10
WIDTHS = {"channel_base": 128, "channel_max": 16}


def tiny_generator(resolution=16, **options):
    return StyleGANGenerator(resolution, z_dim=Z, w_dim=S, n_mapping=2, **WIDTHS, **options)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def loud(module):
    """`module` with every parameter moved away from its start, zeros included, so that none can hide."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


# sizes


@pytest.mark.parametrize(("base", "counts"), [(16384, CONFIG_E), (32768, CONFIG_F)])
def test_parameter_counts_are_the_official_ones(base, counts):
    with torch.device("meta"):
        ours = {side: (n_parameters(StyleGANGenerator(side, channel_base=base)),
                       n_parameters(StyleGANDiscriminator(side, channel_base=base))) for side in counts}
        assert n_parameters(Mapping(512, 512, 8)) == 2_101_248
    assert ours == counts


@pytest.mark.parametrize(("resolution", "channels"), [(8, 1), (32, 3)])
def test_shapes_and_names_at_each_side(resolution, channels):
    G = tiny_generator(resolution, image_channels=channels)
    D = StyleGANDiscriminator(resolution, image_channels=channels, **WIDTHS)
    images, ws = G(torch.randn(3, Z), return_ws=True)
    assert images.shape == (3, channels, resolution, resolution) and images.dtype == torch.float32
    assert ws.shape == (3, 2 * int(np.log2(resolution)) - 2, S)
    seen = {}
    for side in D.blocks:
        D.get_submodule(f"blocks.{side}").register_forward_hook(lambda m, i, out, side=side: seen.update({side: out.shape[2]}))
    assert D(images).shape == (3,)
    assert seen == ({"8": 4} if resolution == 8 else {"32": 16, "16": 8, "8": 4})


@pytest.mark.slow
def test_at_1024_pixels_forward_and_backward_run():
    G, D = StyleGANGenerator(1024), StyleGANDiscriminator(1024)
    images = G(torch.randn(1, 512))
    assert images.shape == (1, 3, 1024, 1024)
    D(images).sum().backward()
    for network in (G, D):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_rgb_layers_share_their_style_with_the_next_block():
    G, used = tiny_generator(16), []
    for module in G.modules():
        if isinstance(module, ModulatedConv):
            module.register_forward_pre_hook(lambda module, inputs: used.append(int(inputs[1][0, 0])))
    G.synthesize(torch.arange(G.n_styles, dtype=torch.float32).view(1, -1, 1).expand(1, -1, S))
    assert used == [0, 1, 1, 2, 3, 3, 4, 5]  # conv, RGB at 4; conv, conv, RGB at 8 and at 16


# layers


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_equals_one_kernel_per_sample(demodulate, up):
    x, style = torch.randn(3, 4, 5, 6, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    weight = torch.randn(7, 4, 3, 3, dtype=torch.float64)
    fir = Fir(padding=1, gain=4).double() if up else None
    ours = modulated_conv(x, weight, style, demodulate, fir)
    for i in range(3):
        kernel = weight * style[i].view(1, 4, 1, 1)
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:  # zeros between the pixels, a full convolution, the filter
            spread = torch.zeros(1, 4, 10, 12, dtype=torch.float64)
            spread[:, :, ::2, ::2] = x[i]
            full = functional.conv2d(functional.pad(spread, (2, 1, 2, 1)), kernel.flip(2, 3))
            taps = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 4
            blur = torch.outer(taps, taps).expand(7, 1, 4, 4)
            wanted = functional.conv2d(functional.pad(full, (1, 1, 1, 1)), blur, groups=7)
        else:
            wanted = functional.conv2d(x[i:i + 1], kernel, padding=1)
        assert torch.allclose(ours[i:i + 1], wanted, atol=1e-10)


def test_demodulation_keeps_unit_variance_whatever_the_style():
    conv = ModulatedConv(64, 32, 3, S)
    with torch.no_grad():
        conv.style.weight.mul_(20)
    y = conv(torch.randn(8, 64, 18, 18), torch.randn(8, S))[:, :, 1:-1, 1:-1]  # the border sees zeros
    assert torch.allclose(y.var((2, 3)).mean(), torch.tensor(1.0), atol=0.05)
    assert y.var((1, 2, 3)).min() > 0.8 and y.var((1, 2, 3)).max() < 1.2


def test_equalised_layers_keep_unit_variance_and_scale_the_step():
    assert abs(EqualLinear(400, 500)(torch.randn(200, 400)).var().item() - 1) < 0.1
    assert abs(EqualConv(50, 60, 3, padding=0)(torch.randn(4, 50, 16, 16)).var().item() - 1) < 0.1
    slow = EqualLinear(400, 500, rate=0.01, bias=1.0)
    y = slow(torch.randn(200, 400))
    assert abs(y.var().item() - 1) < 0.1 and abs(y.mean().item() - 1) < 0.1
    y.sum().backward()  # 200 rows, each with the bias times 0.01
    assert torch.allclose(slow.bias.grad, torch.full((500,), 2.0))


def test_fir_resampling_of_one_pixel_by_hand():
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 0, 0] = 16.0
    # it lands on rows -1, 0, 1, 2 with weights (1, 3, 3, 1) / 4; row -1 falls off
    row = torch.tensor([3.0, 3.0, 1.0, 0.0])
    assert torch.allclose(Upsample()(x)[0, 0], torch.outer(row, row))
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 2] = 64.0
    # result i sees the rows 2i - 1 to 2i + 2 with weights (1, 3, 3, 1) / 8: row 1 has weights 3 and 1, column 2 has 1 and 3
    assert torch.allclose(Fir(padding=1, stride=2)(x)[0, 0], torch.tensor([[3.0, 9.0], [1.0, 3.0]]))


@pytest.mark.parametrize("side", [5, 8])
def test_fir_resampling_equals_scipy(side):
    x = np.random.default_rng().standard_normal((2, 3, side, side))

    def reference(up, down, padding, n):
        result = x
        for axis in (2, 3):  # scipy's result k ends at pixel k, ours begins `padding` before pixel 0
            full = upfirdn(np.array([1, 3, 3, 1]) / 8 * up, result, up, axis=axis)
            result = full.take(3 - padding + down * np.arange(n), axis=axis)
        return result

    tensor = torch.from_numpy(x)
    assert np.allclose(Fir(padding=1, stride=2).double()(tensor), reference(1, 2, 1, side // 2), atol=1e-12)
    assert np.allclose(Fir(padding=2).double()(tensor), reference(1, 1, 2, side + 1), atol=1e-12)
    assert np.allclose(Upsample().double()(tensor), reference(2, 1, 2, 2 * side), atol=1e-12)


def test_minibatch_standard_deviation_by_hand():
    x = torch.zeros(4, 1, 2, 2)
    x[2] = 2.0  # groups of two: images 0 and 2 differ by 2 (deviation 1) everywhere, 1 and 3 are alike
    y = minibatch_stddev(x, group_size=2)
    assert y.shape == (4, 2, 2, 2) and torch.equal(y[:, :1], x)
    for image, wanted in enumerate((1.0, 1e-4, 1.0, 1e-4)):
        assert torch.allclose(y[image, 1], torch.full((2, 2), wanted), rtol=1e-5)
    x = torch.randn(6, 3, 4, 4)
    wanted = x.double().view(3, 2, 3, 4, 4).std(0, correction=0).mean((1, 2, 3))  # 3 is the largest divisor of 6 up to 4
    assert torch.allclose(minibatch_stddev(x, group_size=4)[:, 3, 0, 0].double(), wanted.repeat(3), atol=1e-5)
    assert torch.allclose(minibatch_stddev(x[:1])[:, 3], torch.tensor(1e-4))


# the generator


def test_psi_zero_is_the_mean_image_and_psi_one_is_the_image():
    G = loud(tiny_generator())
    for _ in range(20):
        G(torch.randn(32, Z))
    G.eval()
    z = torch.randn(4, Z)
    mean = G.synthesize(G.mapping.w_avg.expand(1, G.n_styles, S), noise="fixed")
    assert torch.allclose(G(z, psi=0, noise="fixed"), mean.expand(4, -1, -1, -1), atol=1e-5)
    plain, half = G(z, noise="fixed", return_ws=True), G(z, psi=0.5, noise="fixed", return_ws=True)
    assert torch.allclose(half.ws, (plain.ws + G.mapping.w_avg) / 2, atol=1e-6)
    assert torch.equal(plain.images, G(z, psi=1.0, noise="fixed")) and (plain.images - mean).abs().mean() > 1e-3


def test_mean_of_w_is_tracked_in_training_only():
    mapping = loud(Mapping(Z, S, 2, decay=0.9))
    w = mapping(torch.randn(64, Z))
    assert torch.allclose(mapping.w_avg, 0.1 * w.mean(0), atol=1e-6)
    before = mapping.eval().w_avg.clone()
    w = mapping(torch.randn(64, Z))
    assert torch.equal(mapping.w_avg, before) and not mapping.w_avg.requires_grad
    z = torch.randn(3, Z)
    assert torch.allclose(mapping(z), mapping(7 * z), atol=1e-4), "z is put on a sphere first"


def test_styles_mix_from_a_random_layer_on():
    ws, other = torch.zeros(2000, 8, 1), torch.ones(2000, 8, 1)
    mixed = mix_styles(ws, other, 0.9, torch.Generator().manual_seed(5))[:, :, 0]
    assert (mixed.diff(dim=1) >= 0).all() and (mixed[:, 0] == 0).all(), "own styles first, the other's from a layer on"
    n_other = mixed.sum(1)
    assert 0.87 < (n_other > 0).float().mean() < 0.93
    shares = torch.bincount(n_other.long(), minlength=8)[1:] / 2000
    assert (shares - 0.9 / 7).abs().max() < 0.04, "the layer is uniform over 1..L-1"
    assert torch.equal(mix_styles(ws, other, 0.0), ws)
    G = loud(tiny_generator()).eval()
    z, z_mix = torch.randn(2, 4, Z)
    assert torch.equal(G(z, z_mix, mixing=0.0, noise="none"), G(z, noise="none"))
    mixed = G(z, z_mix, mixing=1.0, return_ws=True).ws
    assert torch.allclose(mixed[:, 0], G.mapping(z)) and torch.allclose(mixed[:, -1], G.mapping(z_mix), atol=1e-6)


def test_noise_is_random_fixed_or_none():
    G, z = loud(tiny_generator()).eval(), torch.randn(2, Z)
    assert torch.equal(G(z, noise="fixed"), G(z, noise="fixed")) and torch.equal(G(z, noise="none"), G(z, noise="none"))
    first, second = G(z, noise="random"), G(z, noise="random")
    assert not torch.equal(first, second) and not torch.equal(G(z, noise="fixed"), G(z, noise="none"))
    drawn = [G(z, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*drawn)
    with pytest.raises(ValueError, match="noise is 'const'; choose one of: random, fixed, none"):
        G(z, noise="const")


@pytest.mark.parametrize("noise", NOISES)
def test_path_length_has_a_gradient_and_keeps_its_mean(noise):
    G, path = loud(tiny_generator()), PathLength(decay=0.25)
    images, ws = G(torch.randn(4, Z), noise=noise, return_ws=True)
    loss, lengths = path(images, ws, torch.Generator().manual_seed(1))
    assert lengths.shape == (4,) and lengths.min() > 0 and loss > 0 and not lengths.requires_grad
    assert torch.allclose(path.mean, 0.25 * lengths.mean())
    assert torch.allclose(loss, (lengths - path.mean).square().mean())
    loss.backward()
    assert G.mapping.layers[0].weight.grad.abs().sum() > 0 and G.blocks["16"].conv1.conv.weight.grad.abs().sum() > 0
    resumed = PathLength()
    resumed.load_state_dict(path.state_dict())
    assert torch.equal(resumed.mean, path.mean)


def test_path_lengths_of_a_linear_generator_by_hand():
    # image = w_0 everywhere, so y^T J is sum(y) / sqrt(HW) in the first of S coordinates, shared by L = 2 layers
    ws = torch.zeros(3, 2, S, requires_grad=True)
    images = ws.mean(1)[:, :1, None, None].expand(3, 1, 4, 4)
    y = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(8))
    lengths = PathLength()(images, ws, torch.Generator().manual_seed(8)).lengths
    # |sum(y)| / 4 / 2 in either layer; the root of the mean square over layers is that same number
    assert torch.allclose(lengths, y.sum((1, 2, 3)).abs() / 8, atol=1e-6)


# both networks


def test_every_parameter_gets_a_gradient_also_of_the_gradient_penalty():
    G, D = loud(tiny_generator()), loud(StyleGANDiscriminator(16, **WIDTHS))
    D(G(torch.randn(4, Z), torch.randn(4, Z))).sum().backward()
    silent = [name for network in (G, D) for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    D.zero_grad()
    reals = torch.randn(4, 3, 16, 16, requires_grad=True)
    gradient, = torch.autograd.grad(D(reals).sum(), reals, create_graph=True)
    gradient.square().sum((1, 2, 3)).mean().backward()
    assert all(p.grad.any() for name, p in D.named_parameters() if name.endswith("weight"))


def test_saved_and_loaded_networks_are_the_same(tmp_path):
    G, D = loud(tiny_generator(image_channels=1)), loud(StyleGANDiscriminator(16, image_channels=1, **WIDTHS))
    G(torch.randn(8, Z))
    z, images = torch.randn(4, Z), torch.randn(4, 1, 16, 16)
    for name, network in (("G", G.eval()), ("D", D)):
        network.save_pretrained(tmp_path / name)
        assert {path.name for path in (tmp_path / name).iterdir()} >= {"config.json", "model.safetensors"}
    loaded = StyleGANGenerator.from_pretrained(tmp_path / "G")
    assert torch.equal(loaded(z, psi=0.7, noise="fixed"), G(z, psi=0.7, noise="fixed"))
    assert torch.equal(StyleGANDiscriminator.from_pretrained(tmp_path / "D")(images), D(images))


def test_bf16_autocast_runs_and_ends_in_float32():
    G, D = tiny_generator(), StyleGANDiscriminator(16, **WIDTHS)
    z = torch.randn(4, Z)
    plain = G(z, noise="none")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images, ws = G(z, noise="none", return_ws=True)
        logits = D(images)
        assert images.dtype == ws.dtype == logits.dtype == torch.float32
        loss = functional.softplus(-logits).mean() + PathLength()(images, ws).loss
    loss.backward()
    assert (images - plain).abs().max() < 0.1 * plain.abs().max() + 0.02
    assert all(p.grad.isfinite().all() for network in (G, D) for p in network.parameters() if p.grad is not None)
    assert G.bfloat16()(z.bfloat16()).isfinite().all() and D.bfloat16()(images.bfloat16()).isfinite().all()


@pytest.mark.parametrize("resolution", [0, 4, 48, 100])
def test_a_resolution_that_is_no_power_of_two_is_refused(resolution):
    for network in (StyleGANGenerator, StyleGANDiscriminator):
        with pytest.raises(ValueError, match=f"resolution is {resolution}; expected a power of two, at least 8"):
            network(resolution)


def test_wrong_shapes_are_one_line_errors():
    with pytest.raises(ValueError, match=rf"z has shape \(2, 5\); expected \(B, {Z}\)"):
        tiny_generator()(torch.randn(2, 5))
    with pytest.raises(ValueError, match=r"images have shape \(2, 1, 16, 16\); this discriminator expects \(B, 3, 16, 16\)"):
        StyleGANDiscriminator(16, **WIDTHS)(torch.randn(2, 1, 16, 16))
