"""The generator of StyleGAN2 and its path length regulariser (Karras et al. 2020), 8 to 1024 pixels, in plain PyTorch.

Configuration e (channel_base 16384), which FQ-GAN used, is the default; f has 32768. Unconditional, as in the paper.
The discriminator is in `dgmlab.fqgan.stylegan_discriminator`.

Letters: B batch, C channels, H W, Z latent z, S width of w, L layers that take a style.
"""

import math
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from dgmlab.fqgan.stylegan_layers import (
    EqualLinear,
    ModulatedConv,
    Upsample,
    activate,
    full_precision,
    resolutions,
    width_at,
)

NOISES = ("random", "fixed", "none")


class Generated(NamedTuple):
    """images (B, C, R, R) float32, about [-1, 1]; ws (B, L, S) float32, the styles they were made of."""

    images: torch.Tensor
    ws: torch.Tensor


class Mapping(nn.Module):
    """f: z -> w, a stack of slow equalised layers; `w_avg` (S,) follows the mean of w while training, for truncation."""

    def __init__(self, z_dim, w_dim, n_layers, decay=0.995):
        super().__init__()
        self.layers = nn.ModuleList(EqualLinear(z_dim if i == 0 else w_dim, w_dim, rate=0.01) for i in range(n_layers))
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.decay = decay

    def forward(self, z):
        """w (B, S) float32 of z (B, Z) ~ N(0, 1); z is first put on the sphere of radius sqrt(Z)."""
        with full_precision(z):
            w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
            for layer in self.layers:
                w = activate(layer(w))
        if self.training:
            self.w_avg.lerp_(w.detach().mean(0), 1 - self.decay)
        return w


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and activation, at one side of `side` pixels."""

    def __init__(self, n_in, n_out, w_dim, side, up=False):
        super().__init__()
        self.conv = ModulatedConv(n_in, n_out, 3, w_dim, up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.register_buffer("fixed_noise", torch.randn(side, side))

    def forward(self, x, w, noise="random", generator=None):
        """x (B, C, H, W), w (B, S) -> (B, O, H, W), or twice the size."""
        y = self.conv(x, w)
        if noise == "random":
            shape = (len(y), 1, *y.shape[2:])
            y = y + torch.randn(shape, generator=generator, device=y.device, dtype=y.dtype) * self.noise_strength
        elif noise == "fixed":
            y = y + self.fixed_noise.to(y.dtype) * self.noise_strength
        return activate(y + self.bias.to(y.dtype)[:, None, None])


class ToRGB(nn.Module):
    """A 1 x 1 modulated convolution to image channels, without demodulation; float32."""

    def __init__(self, n_in, image_channels, w_dim):
        super().__init__()
        self.conv = ModulatedConv(n_in, image_channels, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(image_channels))

    def forward(self, x, w):
        """x (B, C, H, W), w (B, S) -> (B, image_channels, H, W)."""
        y = self.conv(x, w)
        return y.to(torch.promote_types(y.dtype, torch.float32)) + self.bias[:, None, None]


class SynthesisBlock(nn.Module):
    """Twice the size: two styled convolutions; `to_rgb` makes of their output what it adds to the image."""

    def __init__(self, n_in, n_out, w_dim, side, image_channels):
        super().__init__()
        self.conv0 = StyledConv(n_in, n_out, w_dim, side, up=True)
        self.conv1 = StyledConv(n_out, n_out, w_dim, side)
        self.to_rgb = ToRGB(n_out, image_channels, w_dim)

    def forward(self, x, ws, noise="random", generator=None):
        """x (B, C, H, W), ws (B, 2, S) -> (B, O, 2 H, 2 W)."""
        x = self.conv0(x, ws[:, 0], noise, generator)
        return self.conv1(x, ws[:, 1], noise, generator)


class StyleGANGenerator(nn.Module, PyTorchModelHubMixin, library_name="dgmlab"):
    """StyleGAN2's generator with skip connections to the image: `blocks.8` to `blocks.R` by the side of their output.

    resolution    R, side of the images in pixels, a power of two from 8 on
    z_dim, w_dim  Z and S; the paper: 512
    n_mapping     layers of the mapping network; 8 in the paper, 2 in the automatic settings of StyleGAN2-ADA
    channel_base  channels at a side s are channel_base / s, at most channel_max; 16384 is configuration e, 32768 is f

    >>> images = G(torch.randn(4, 512), psi=0.7, noise="fixed")
    """

    def __init__(self, resolution=32, z_dim=512, w_dim=512, n_mapping=8, channel_base=16384, channel_max=512,
                 image_channels=3):
        super().__init__()
        sides = resolutions(resolution)
        widths = [width_at(side, channel_base, channel_max) for side in sides]
        self.z_dim = z_dim
        self.n_styles = 2 * len(sides)  # L: one a convolution, and one for the last RGB
        self.mapping = Mapping(z_dim, w_dim, n_mapping)
        self.constant = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.conv = StyledConv(widths[0], widths[0], w_dim, 4)
        self.to_rgb = ToRGB(widths[0], image_channels, w_dim)
        self.upsample = Upsample()
        self.blocks = nn.ModuleDict({str(side): SynthesisBlock(widths[i], widths[i + 1], w_dim, side, image_channels)
                                     for i, side in enumerate(sides[1:])})

    def forward(self, z, z_mix=None, mixing=0.9, psi=1.0, noise="random", return_ws=False, generator=None):
        """Images (B, C, R, R) float32, about [-1, 1], of latents z (B, Z) ~ N(0, 1).

        z_mix   (B, Z)  second latents; an image takes their styles from a random layer on, with probability `mixing`
        psi     truncation: w is moved towards the mean of w, w_avg + psi (w - w_avg); 1 leaves it, 0 is the mean image
        noise   'random' draws it, 'fixed' takes the maps saved with the model, 'none' leaves it out
        return_ws  True gives Generated(images, ws), which `PathLength` needs
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; expected (B, {self.z_dim}), drawn by torch.randn.")
        w = self.mapping(z if z_mix is None else torch.cat([z, z_mix]))
        if psi != 1:
            w = self.mapping.w_avg.lerp(w, psi)
        ws = w.unsqueeze(1).expand(-1, self.n_styles, -1)
        if z_mix is not None:
            ws = mix_styles(*ws.chunk(2), mixing, generator)
        images = self.synthesize(ws, noise, generator)
        return Generated(images, ws) if return_ws else images

    def synthesize(self, ws, noise="random", generator=None):
        """Images (B, C, R, R) float32 of styles ws (B, L, S), where L is `n_styles`; `noise` as in `forward`."""
        if noise not in NOISES:
            raise ValueError(f"noise is '{noise}'; choose one of: {', '.join(NOISES)}.")
        x = self.constant.expand(len(ws), -1, -1, -1)
        x = self.conv(x, ws[:, 0], noise, generator)
        image = self.to_rgb(x, ws[:, 1])
        for i, block in enumerate(self.blocks.values()):
            # an RGB layer has the same style as the first convolution of the next block
            x = block(x, ws[:, 2 * i + 1:2 * i + 3], noise, generator)
            image = self.upsample(image) + block.to_rgb(x, ws[:, 2 * i + 3])
        return image


def mix_styles(ws, other, probability=0.9, generator=None):
    """Style mixing (Karras et al. 2019, section 3.1): an image takes `other`'s styles from a layer drawn from 1..L-1 on.

    ws, other  (B, L, S)  styles of two sets of latents
    probability  that an image is mixed at all; the official code draws once a batch, here each image draws for itself
    -> (B, L, S)
    """
    n, n_styles, _ = ws.shape
    start = torch.randint(1, n_styles, (n, 1), generator=generator, device=ws.device)
    mixed = torch.rand((n, 1), generator=generator, device=ws.device) < probability
    taken = mixed & (torch.arange(n_styles, device=ws.device) >= start)  # (B, L)
    return torch.where(taken.unsqueeze(2), other, ws)


class PathTerms(NamedTuple):
    """loss () to minimise, unweighted; lengths (B,) of the gradients, detached."""

    loss: torch.Tensor
    lengths: torch.Tensor


class PathLength(nn.Module):
    """Path length regulariser: E (|J_w^T y| - a)^2, a the running mean of the lengths (Karras et al. 2020, eq. 4).

    It keeps `mean` (a) in its state dict. The paper: weight 2, every 4 steps (so the loss is weighted by 8 there), and to
    save memory on half of the batch.
    """

    def __init__(self, decay=0.01):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.decay = decay

    def forward(self, images, ws, generator=None):
        """images (B, C, H, W) made from ws (B, L, S) with gradients on -> PathTerms(loss (), lengths (B,))."""
        y = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        y = y / math.sqrt(images.shape[2] * images.shape[3])
        gradient, = torch.autograd.grad((images * y).sum(), ws, create_graph=True)  # (B, L, S)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        mean = self.mean.lerp(lengths.mean(), self.decay)
        self.mean.copy_(mean.detach())
        return PathTerms((lengths - mean).square().mean(), lengths.detach())
