"""U-GAT-IT: translation between two unpaired domains, with attention and AdaLIN (Kim et al. 2020).

Two generators (A to B, B to A) and, per domain, a global and a local discriminator. Attention comes from an auxiliary
classifier (CAM), whose heat maps are returned. The sizes are those of the authors' PyTorch code, full and light.

Two things differ from that code. Variances are the biased ones, as in the TensorFlow code that the paper's numbers are of.
The discriminators' attention uses the spectrally normalised weights of the classifier, the same that make its logits.

Letters: B batch, C channels, H W.
"""

from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from torch.nn import functional

from dgmlab.fqgan.spectral import spectral_norm
from dgmlab.fqgan.stylegan_layers import full_precision


class Attended(NamedTuple):
    """features (B, C, H, W); cam_logits (B, 2) of the classifier on mean and maximum; heat_map (B, H, W) float32 in [0, 1]."""

    features: torch.Tensor
    cam_logits: torch.Tensor
    heat_map: torch.Tensor


class Translation(NamedTuple):
    """images (B, 3, H, W) in [-1, 1]; cam_logits (B, 2), high for the source domain; heat_map (B, H/4, W/4) in [0, 1]."""

    images: torch.Tensor
    cam_logits: torch.Tensor
    heat_map: torch.Tensor


class Judgement(NamedTuple):
    """logits (B, 1, h, w), one a patch, high for real; cam_logits (B, 2), likewise; heat_map (B, h + 1, w + 1) in [0, 1]."""

    logits: torch.Tensor
    cam_logits: torch.Tensor
    heat_map: torch.Tensor


def layer_instance_norm(x, rho, gamma, beta, eps=1e-5):
    """gamma (rho IN(x) + (1 - rho) LN(x)) + beta (Kim et al. 2020, eq. 1): instance and layer normalisation, blended.

    x            (B, C, H, W)
    rho          (C,)            share of the instance norm, in [0, 1]
    gamma, beta  (B, C) or (C,)
    -> (B, C, H, W), dtype of x; computed in float32 or better

    One pass over x gives the moments of each channel, and of them come those of the layer; the rest is one scale and one
    shift per image and channel, so that nothing of the size of x but x (in float32) is kept for the backward pass.
    """
    with full_precision(x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(wide, dim=(2, 3), correction=0)  # (B, C)
        layer_mean = mean.mean(1, keepdim=True)  # (B, 1)
        layer_var = (var + (mean - layer_mean).square()).mean(1, keepdim=True)
        instance, layer = rho * torch.rsqrt(var + eps), (1 - rho) * torch.rsqrt(layer_var + eps)
        scale = gamma * (instance + layer)
        shift = beta - gamma * (instance * mean + layer * layer_mean)
        return (wide * scale[:, :, None, None] + shift[:, :, None, None]).to(x.dtype)


class AdaLIN(nn.Module):
    """Adaptive layer-instance normalisation: only rho is learnt here, gamma and beta come from the attention features."""

    def __init__(self, channels):
        super().__init__()
        self.rho = nn.Parameter(torch.full((channels,), 0.9))

    def forward(self, x, gamma, beta):
        """x (B, C, H, W), gamma and beta (B, C) -> (B, C, H, W)."""
        return layer_instance_norm(x, self.rho, gamma, beta)


class LIN(nn.Module):
    """Layer-instance normalisation with gamma and beta of its own; rho starts at 0, pure layer norm."""

    def __init__(self, channels):
        super().__init__()
        self.rho = nn.Parameter(torch.zeros(channels))
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        """(B, C, H, W) -> (B, C, H, W)."""
        return layer_instance_norm(x, self.rho, self.gamma, self.beta)


@torch.no_grad()
def clip_rho(module):
    """Put every rho of AdaLIN and LIN inside `module` back into [0, 1]; call it after each step of the generators."""
    for part in module.modules():
        if isinstance(part, AdaLIN | LIN):
            part.rho.clamp_(0, 1)


class Attention(nn.Module):
    """CAM: features weighted by how much each speaks for the domain, in an auxiliary classifier's eyes (eq. in section 2.1).

    Its two linear maps read the mean and the maximum of every channel; their weights scale the channels, and a 1 x 1
    convolution merges both scaled copies. As both are of the same features, it folds to one convolution of C channels.
    """

    def __init__(self, channels, slope=0.0, spectral=False):
        super().__init__()
        wrap = spectral_norm if spectral else nn.Identity()
        self.mean = wrap(nn.Linear(channels, 1, bias=False))
        self.maximum = wrap(nn.Linear(channels, 1, bias=False))
        self.merge = nn.Conv2d(2 * channels, channels, 1)
        self.slope = slope

    def forward(self, x):
        """(B, C, H, W) -> Attended(features (B, C, H, W), cam_logits (B, 2), heat_map (B, H, W))."""
        by_mean, by_maximum = self.mean.weight, self.maximum.weight  # (1, C); read once: each reading is a power iteration
        with full_precision(x):
            pooled = x.mean((2, 3)).to(by_mean.dtype), x.amax((2, 3)).to(by_mean.dtype)
            logits = torch.cat([functional.linear(pooled[0], by_mean), functional.linear(pooled[1], by_maximum)], 1)
        from_mean, from_maximum = self.merge.weight.chunk(2, dim=1)  # (C, C, 1, 1)
        weight = from_mean * by_mean[:, :, None, None] + from_maximum * by_maximum[:, :, None, None]
        features = functional.leaky_relu(functional.conv2d(x, weight, self.merge.bias), self.slope)
        return Attended(features, logits, _heat_map(features))


def _heat_map(features):
    """Sum over the channels, stretched to [0, 1] in every image: (B, C, H, W) -> (B, H, W) float32, detached."""
    heat = features.detach().float().sum(1)
    low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
    return (heat - low) / (high - low).clamp(min=1e-12)


def _conv(n_in, n_out, kernel_size, stride=1, bias=False):
    """A convolution that reflects at the borders."""
    padding = 1 if kernel_size == 4 else kernel_size // 2
    return nn.Conv2d(n_in, n_out, kernel_size, stride, padding, bias=bias, padding_mode="reflect")


class ResidualBlock(nn.Module):
    """x + IN(conv(ReLU(IN(conv(x)))))."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(_conv(channels, channels, 3), nn.InstanceNorm2d(channels), nn.ReLU(),
                                    _conv(channels, channels, 3), nn.InstanceNorm2d(channels))

    def forward(self, x):
        """(B, C, H, W) -> (B, C, H, W)."""
        return x + self.layers(x)


class AdaLINBlock(nn.Module):
    """x + AdaLIN(conv(ReLU(AdaLIN(conv(x)))))."""

    def __init__(self, channels):
        super().__init__()
        self.conv0, self.norm0 = _conv(channels, channels, 3), AdaLIN(channels)
        self.conv1, self.norm1 = _conv(channels, channels, 3), AdaLIN(channels)

    def forward(self, x, gamma, beta):
        """x (B, C, H, W), gamma and beta (B, C) -> (B, C, H, W)."""
        y = functional.relu(self.norm0(self.conv0(x), gamma, beta))
        return x + self.norm1(self.conv1(y), gamma, beta)


class UGATITGenerator(nn.Module, PyTorchModelHubMixin, library_name="dgmlab"):
    """From one domain to the other: encoder, attention, blocks steered by it, decoder.

    image_size  side in pixels, a multiple of 4; full wants exactly this size, light takes any
    light       gamma and beta come from the mean of the attended features, not from all of them: 10.6 M parameters, not
                279 M at 256 pixels; the paper's results are of the full one
    channels    width at full size; the paper: 64
    n_blocks    residual blocks before and after the attention; the paper: 4

    >>> fake_b, cam_logits, heat_map = G_ab(images_a)
    """

    def __init__(self, image_size=256, light=False, channels=64, n_blocks=4, image_channels=3):
        super().__init__()
        if image_size % 4:
            raise ValueError(f"image_size is {image_size}; expected a multiple of 4. Resize or crop the images.")
        self.image_size, self.light = image_size, light
        width = 4 * channels
        encoder = [_conv(image_channels, channels, 7), nn.InstanceNorm2d(channels), nn.ReLU()]
        for n in (channels, 2 * channels):
            encoder += [_conv(n, 2 * n, 3, stride=2), nn.InstanceNorm2d(2 * n), nn.ReLU()]
        self.encoder = nn.Sequential(*encoder, *(ResidualBlock(width) for _ in range(n_blocks)))
        self.attention = Attention(width)
        n_features = width if light else width * (image_size // 4) ** 2
        self.style = nn.Sequential(nn.Linear(n_features, width, bias=False), nn.ReLU(),
                                   nn.Linear(width, width, bias=False), nn.ReLU())
        self.gamma = nn.Linear(width, width, bias=False)
        self.beta = nn.Linear(width, width, bias=False)
        self.blocks = nn.ModuleList(AdaLINBlock(width) for _ in range(n_blocks))
        decoder = []
        for n in (width, width // 2):
            decoder += [nn.Upsample(scale_factor=2), _conv(n, n // 2, 3), LIN(n // 2), nn.ReLU()]
        self.decoder = nn.Sequential(*decoder, _conv(channels, image_channels, 7), nn.Tanh())

    def forward(self, images):
        """(B, 3, H, W) in [-1, 1] -> Translation(images (B, 3, H, W), cam_logits (B, 2), heat_map (B, H/4, W/4))."""
        height, width = images.shape[2:]
        if height % 4 or width % 4 or (not self.light and {height, width} != {self.image_size}):
            wanted = "sides that are multiples of 4" if self.light else f"{self.image_size} x {self.image_size}"
            raise ValueError(f"images are {height} x {width}; this generator expects {wanted}. Resize or crop them.")
        x, cam_logits, heat_map = self.attention(self.encoder(images))
        style = self.style(x.mean((2, 3)) if self.light else x.flatten(1))
        gamma, beta = self.gamma(style), self.beta(style)
        for block in self.blocks:
            x = block(x, gamma, beta)
        return Translation(self.decoder(x).to(images.dtype), cam_logits, heat_map)


class UGATITDiscriminator(nn.Module, PyTorchModelHubMixin, library_name="dgmlab"):
    """A patch discriminator with attention: `blocks.0` on, each a convolution that halves the size and a leaky ReLU.

    n_layers  convolutions in all. At 256 pixels the paper's global one has 7 (patches 6 x 6), the local one 5 (30 x 30);
              take one fewer at each halving of the size
    channels  width after the first block, doubled in each; the paper: 64

    FQ-GAN quantised the outputs of `blocks.1`, `blocks.2` and `blocks.3` of the global one.

    >>> logits, cam_logits, heat_map = D(images)
    """

    def __init__(self, n_layers=7, channels=64, image_channels=3):
        super().__init__()
        if n_layers < 3:
            raise ValueError(f"n_layers is {n_layers}; expected at least 3: one that halves the size and the last two.")
        widths = [image_channels, *(channels * 2**i for i in range(n_layers - 1))]
        self.n_halvings = n_layers - 2
        self.blocks = nn.Sequential(*(
            nn.Sequential(spectral_norm(_conv(widths[i], widths[i + 1], 4, stride=2 if i < self.n_halvings else 1, bias=True)),
                          nn.LeakyReLU(0.2))
            for i in range(n_layers - 1)))
        self.attention = Attention(widths[-1], slope=0.2, spectral=True)
        self.to_logits = spectral_norm(_conv(widths[-1], 1, 4))

    def forward(self, images):
        """(B, 3, H, W) in [-1, 1] -> Judgement(logits (B, 1, h, w), cam_logits (B, 2), heat_map (B, h + 1, w + 1))."""
        smallest = 3 * 2**self.n_halvings
        if min(images.shape[2:]) < smallest:
            raise ValueError(f"images are {images.shape[2]} x {images.shape[3]}; n_layers={self.n_halvings + 2} expects sides "
                             f"of at least {smallest}. Use fewer layers, or larger images.")
        x, cam_logits, heat_map = self.attention(self.blocks(images))
        with full_precision(x):
            logits = self.to_logits(x.to(cam_logits.dtype))
        return Judgement(logits, cam_logits, heat_map)
