"""BigGAN at 32, 64 and 128 pixels (Brock et al. 2019): conditional residual G, projection D, spectral norm in both.

The networks of the authors' PyTorch code (ajbrock/BigGAN-PyTorch), which FQ-GAN extends; the tests hold their parameter
counts. One thing is done in another order with the same result: 1x1 shortcuts run at the smaller resolution, because they
commute with nearest upsampling and average pooling.

The micro-batches of one step share their weights inside `held_spectral_norm` (`dgmlab.fqgan.spectral`).

Letters: B batch, C channels, H W, R resolution, Z latent, S shared class embedding.
"""

import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from torch.nn import functional

from dgmlab.config import unknown_name
from dgmlab.fqgan.losses import DOut
from dgmlab.fqgan.spectral import spectral_norm


class Tower(NamedTuple):
    """Channels in multiples of the width (G: of the 4x4 map and after each block; D: after each block), and D's map sizes."""

    g_widths: tuple
    d_widths: tuple
    d_sizes: tuple


TOWERS = {  # resolution -> Tower (Brock et al. 2019, appendix B; 32 and 64 are from the authors' code)
    32: Tower((4, 4, 4, 4), (4, 4, 4, 4), (16, 8, 8, 8)),
    64: Tower((16, 16, 8, 4, 2), (1, 2, 4, 8, 16), (32, 16, 8, 4, 4)),
    128: Tower((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), (64, 32, 16, 8, 4, 4)),
}
INITS = {
    "orthogonal": nn.init.orthogonal_,
    "normal": lambda weight: nn.init.normal_(weight, std=0.02),
    "xavier": nn.init.xavier_uniform_,
}


@dataclass(frozen=True)
class BigGANConfig:
    """Everything that rebuilds a generator and its discriminator; the defaults are those of CIFAR-10."""

    resolution: int = 32  # R in pixels: 32 | 64 | 128
    n_classes: int = 10  # classes that both players are told
    width: int = 64  # channel multiplier, "ch" in the papers [64; BigGAN at 128: 96]
    latent_size: int = 128  # Z; with hierarchical z a multiple of (blocks of G + 1) [128; ImageNet 120]
    shared_size: int = 0  # S, class embedding shared by all BatchNorms; 0 gives each its own gains per class [0; ImageNet 128]
    hierarchical: bool = False  # a slice of z for the first layer and for every block; needs a shared embedding
    attention: int = 0  # resolution of the feature maps that attend to themselves; 0 is none [0; ImageNet 64 or 32]
    init: str = "normal"  # of the weights: normal, N(0, 0.02) | orthogonal | xavier [normal; ImageNet orthogonal]
    sn_eps: float = 1e-8  # smallest norm that spectral norm divides by [1e-8; ImageNet 1e-6]

    def __post_init__(self):
        _check_choice("resolution", self.resolution, TOWERS)
        _check_choice("init", self.init, INITS)
        _check_choice("attention", self.attention, (0, *(2**i for i in range(3, 7) if 2**i < self.resolution)))
        for field in ("n_classes", "width", "latent_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; a positive number was expected.")
        if self.attention and self.width < 8:
            raise ValueError(f"width is {self.width}; attention needs at least 8, as its keys are an eighth of the channels.")
        if self.hierarchical and not self.shared_size:
            raise ValueError("hierarchical z joins slices of z to the class embedding: set shared_size, e.g. to 128.")
        if self.latent_size % self.n_slices:
            raise ValueError(f"latent_size is {self.latent_size}; hierarchical z is cut into {self.n_slices} equal parts at "
                             f"{self.resolution} pixels: use {max(1, self.latent_size // self.n_slices) * self.n_slices}.")

    @property
    def n_slices(self):
        """Parts that z is cut into: one, or with hierarchical z one for the first layer and one for each block of G."""
        return len(TOWERS[self.resolution].g_widths) if self.hierarchical else 1

    @property
    def condition_size(self):
        """Length of the vector that a BatchNorm of G is told: class embedding and, with hierarchical z, a slice of z."""
        return self.shared_size + (self.latent_size // self.n_slices if self.hierarchical else 0)


def _check_choice(field, value, choices):
    if value not in choices:
        raise ValueError(f"{field} is {value!r}; choose one of: {', '.join(map(str, choices))}.")


def initialised(layer, config):
    """The layer with its weight drawn anew by `config.init`; biases keep torch's start."""
    INITS[config.init](layer.weight)
    return layer


def normalised(layer, config):
    """The layer, initialised, with its weight divided by its largest singular value (Miyato et al. 2018)."""
    return spectral_norm(initialised(layer, config), eps=config.sn_eps)


def conv(before, after, size, config, bias=True):
    """A spectrally normalised size x size convolution that keeps H and W."""
    return normalised(nn.Conv2d(before, after, size, padding=size // 2, bias=bias), config)


class Attention(nn.Module):
    """Self-attention of a feature map over its own 2x2 max-pooled copy, scaled by gamma from 0 on (Zhang et al. 2019)."""

    def __init__(self, channels, config):
        super().__init__()
        self.query = conv(channels, channels // 8, 1, config, bias=False)
        self.key = conv(channels, channels // 8, 1, config, bias=False)
        self.value = conv(channels, channels // 2, 1, config, bias=False)
        self.out = conv(channels // 2, channels, 1, config, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        """x (B, C, H, W) -> (B, C, H, W)"""
        query = self.query(x).flatten(2)  # (B, C/8, HW)
        key = functional.max_pool2d(self.key(x), 2).flatten(2)  # (B, C/8, HW/4)
        value = functional.max_pool2d(self.value(x), 2).flatten(2)  # (B, C/2, HW/4)
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)  # (B, HW, HW/4), unscaled as in the paper
        read = value @ weights.transpose(1, 2)  # (B, C/2, HW)
        return x + self.gamma * self.out(read.unflatten(2, x.shape[2:]))


def attentions(channels, sizes, config):
    """One module per block, to be run after it: self-attention where the map has the configured size, else the identity."""
    return nn.ModuleList(Attention(c, config) if size == config.attention else nn.Identity()
                         for c, size in zip(channels, sizes, strict=True))


# generator


def class_map(channels, config):
    """Condition -> (B, C): linear in the shared embedding, or without one a table by class."""
    if config.shared_size:
        return normalised(nn.Linear(config.condition_size, channels, bias=False), config)
    # embeddings of G have no spectral norm: the authors report that it cripples G at random
    return initialised(nn.Embedding(config.n_classes, channels), config)


class ConditionalBatchNorm(nn.Module):
    """BatchNorm whose gain (around 1) and bias are linear in the condition, or looked up by class (Dumoulin et al. 2017)."""

    def __init__(self, channels, config):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain, self.bias = class_map(channels, config), class_map(channels, config)

    def forward(self, x, condition):
        """x (B, C, H, W); condition (B, S + slice of z) float, or (B,) long class without shared embedding -> (B, C, H, W)"""
        h = self.norm(x)
        gain = (1 + self.gain(condition)).to(h.dtype)[:, :, None, None]
        bias = self.bias(condition).to(h.dtype)[:, :, None, None]
        return torch.addcmul(bias, h, gain)


class GBlock(nn.Module):
    """Residual block that doubles H and W: twice (conditional BatchNorm, ReLU, 3x3), and a 1x1 shortcut."""

    def __init__(self, before, after, config):
        super().__init__()
        self.norm1 = ConditionalBatchNorm(before, config)
        self.conv1 = conv(before, after, 3, config)
        self.norm2 = ConditionalBatchNorm(after, config)
        self.conv2 = conv(after, after, 3, config)
        self.shortcut = conv(before, after, 1, config)
        self.upsample = nn.Upsample(scale_factor=2)  # nearest

    def forward(self, x, condition):
        """x (B, C, H, W), condition as in ConditionalBatchNorm -> (B, C', 2H, 2W)"""
        h = self.conv1(self.upsample(torch.relu(self.norm1(x, condition))))
        h = self.conv2(torch.relu(self.norm2(h, condition)))
        return h + self.upsample(self.shortcut(x))


class Generator(nn.Module, PyTorchModelHubMixin):
    """Noise and class to image.

    >>> G = Generator(preset("cifar10"))
    >>> images = G(torch.randn(8, 128), torch.arange(8))
    """

    def __init__(self, config: BigGANConfig):
        super().__init__()
        self.config = config
        widths = [config.width * times for times in TOWERS[config.resolution].g_widths]
        self.shared = nn.Identity()
        if config.shared_size:
            self.shared = initialised(nn.Embedding(config.n_classes, config.shared_size), config)
        self.linear = normalised(nn.Linear(config.latent_size // config.n_slices, 16 * widths[0]), config)
        self.blocks = nn.ModuleList(GBlock(before, after, config) for before, after in pairwise(widths))
        self.attention = attentions(widths[1:], [8 << i for i in range(len(self.blocks))], config)
        self.to_rgb = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(), conv(widths[-1], 3, 3, config))

    def forward(self, z, y):
        """Images of the classes y.

        z  (B, Z) float  N(0, 1), or truncated
        y  (B,) long     class; or (B, S) float, a class embedding mixed from rows of `shared.weight`
        -> (B, 3, R, R) float in [-1, 1], in the precision of the parameters also under autocast
        """
        if z.shape[1:] != (self.config.latent_size,):
            raise ValueError(f"z of shape (B, {self.config.latent_size}) was expected, found {tuple(z.shape)}.")
        condition = y if y.is_floating_point() else self.shared(y)
        if self.config.hierarchical:
            z, *slices = z.chunk(self.config.n_slices, dim=1)
            conditions = [torch.cat([condition, part], dim=1) for part in slices]
        else:
            conditions = [condition] * len(self.blocks)
        h = self.linear(z).unflatten(1, (-1, 4, 4))  # (B, C, 4, 4)
        for block, attend, condition in zip(self.blocks, self.attention, conditions, strict=True):
            h = attend(block(h, condition))
        return torch.tanh(self.to_rgb(h).to(self.to_rgb[-1].bias.dtype))


# discriminator


class DBlock(nn.Module):
    """Residual block: (ReLU, 3x3) twice, average pooling where it shrinks, 1x1 shortcut where the shape changes."""

    def __init__(self, before, after, shrink, first, config):
        super().__init__()
        self.enter = nn.Identity() if first else nn.ReLU()  # pixels are not rectified
        self.conv1 = conv(before, after, 3, config)
        self.conv2 = conv(after, after, 3, config)
        self.shrink = nn.AvgPool2d(2) if shrink else nn.Identity()
        self.shortcut = conv(before, after, 1, config) if shrink or before != after else nn.Identity()

    def forward(self, x):
        """x (B, C, H, W) -> (B, C', H/2, W/2), or (B, C', H, W) where it does not shrink"""
        h = self.conv2(torch.relu(self.conv1(self.enter(x))))
        return self.shrink(h) + self.shortcut(self.shrink(x))


class Trunk(nn.Module, PyTorchModelHubMixin):
    """The residual tower below every head; a head is a subclass with `head(features, y) -> DOut`.

    Layers by name: `blocks.0`, `blocks.1`, ... are the residual blocks, before the ReLU and before self-attention
    (`attention.0`, ...): where FQ-GAN quantises.
    """

    def __init__(self, config: BigGANConfig):
        super().__init__()
        self.config = config
        tower = TOWERS[config.resolution]
        widths = [config.width * times for times in tower.d_widths]
        channels, sizes = [3, *widths], [config.resolution, *tower.d_sizes]
        self.blocks = nn.ModuleList(
            DBlock(channels[i], channels[i + 1], shrink=sizes[i + 1] < sizes[i], first=i == 0, config=config)
            for i in range(len(widths)))
        self.attention = attentions(widths, tower.d_sizes, config)
        self.n_features = widths[-1]
        self.linear = normalised(nn.Linear(self.n_features, 1), config)

    def features(self, x):
        """Features after the last block, rectified and summed over the map: x (B, 3, R, R) in [-1, 1] -> (B, C)

        They are in the precision of the parameters, also under autocast.
        """
        side = self.config.resolution
        if x.shape[1:] != (3, side, side):
            raise ValueError(f"images of shape (B, 3, {side}, {side}) were expected, found {tuple(x.shape)}.")
        for block, attend in zip(self.blocks, self.attention, strict=True):
            x = attend(block(x))
        return torch.relu(x).sum((2, 3), dtype=self.linear.bias.dtype)

    def forward(self, x, y):
        """How real the images look, given their classes: x (B, 3, R, R) float in [-1, 1], y (B,) long -> DOut"""
        h = self.features(x)
        with torch.autocast(h.device.type, enabled=False):  # a logit of bf16 has three digits
            return self.head(h, y)


class Discriminator(Trunk):
    """BigGAN's own: the logit is a linear map plus the projection of the features on the class (Miyato and Koyama 2018)."""

    def __init__(self, config: BigGANConfig):
        super().__init__(config)
        self.embed = normalised(nn.Embedding(config.n_classes, self.n_features), config)

    def head(self, h, y):
        """h (B, C) features, y (B,) long -> DOut without class logits"""
        return DOut(self.linear(h).squeeze(1) + (self.embed(y) * h).sum(1))


PRESETS = {
    # 32 and 64 channels in every block, for two CPU cores. With z in the first layer alone, micro learns fastest in its first
    # minute; trained on, it draws one picture per class
    "micro": BigGANConfig(width=8, latent_size=32, shared_size=16, init="orthogonal"),
    "tiny": BigGANConfig(width=8, latent_size=32, shared_size=16, hierarchical=True, init="orthogonal"),
    "small": BigGANConfig(width=16, latent_size=64, shared_size=32, hierarchical=True, init="orthogonal"),
    # FQ-GAN's scripts launch_C10, launch_C100, launch_I64_bs128x4 and launch_I128_bs256x4; the last version of that one lost
    # the shared embedding, without which its hierarchical z cannot run
    "cifar10": BigGANConfig(),
    "cifar100": BigGANConfig(n_classes=100),
    "imagenet64": BigGANConfig(64, 1000, latent_size=120, shared_size=128, hierarchical=True, attention=32,
                               init="orthogonal", sn_eps=1e-6),
    "imagenet128": BigGANConfig(128, 1000, latent_size=120, shared_size=128, hierarchical=True, attention=64,
                                init="orthogonal", sn_eps=1e-6),
}


def preset(name, **overrides):
    """The configuration called `name` in PRESETS with some fields replaced, e.g. preset("tiny", n_classes=3)."""
    if name not in PRESETS:
        raise KeyError(unknown_name(name, PRESETS, "preset of BigGAN"))
    return dataclasses.replace(PRESETS[name], **overrides)
