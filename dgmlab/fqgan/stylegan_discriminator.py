"""The residual discriminator of StyleGAN2 (Karras et al. 2020), 8 to 1024 pixels, in plain PyTorch.

Letters: B batch, C channels, H W, R side of the images, M members of a group.
"""

import math

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from dgmlab.fqgan.stylegan_layers import EqualConv, EqualLinear, Fir, activate, full_precision, resolutions, width_at


def minibatch_stddev(x, group_size=4):
    """x with one more channel: the standard deviation over a group of images, averaged (Karras et al. 2018, section 3).

    x           (B, C, H, W)
    group_size  M, at most; the largest divisor of B up to it is taken. Image i is grouped with i + B/M, i + 2 B/M, ...
    -> (B, C + 1, H, W), dtype of x; constant over a group, 1e-4 where all its images are alike (or M is 1)
    """
    n = len(x)
    size = max(m for m in range(1, min(group_size, n) + 1) if n % m == 0)
    with full_precision(x):
        groups = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (size, -1))  # (M, B/M, C, H, W)
        stddev = (groups.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))  # (B/M,)
    channel = stddev.to(x.dtype).repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], 1)


class DiscriminatorBlock(nn.Module):
    """Half the size: two convolutions beside a 1 x 1 shortcut, both behind the low-pass filter."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.conv0 = EqualConv(n_in, n_in, 3)
        self.conv1 = nn.Sequential(Fir(padding=2), EqualConv(n_in, n_out, 3, stride=2, padding=0))
        self.shortcut = nn.Sequential(Fir(padding=1, stride=2), EqualConv(n_in, n_out, 1, bias=False))

    def forward(self, x):
        """(B, C, H, W) -> (B, O, H/2, W/2)."""
        y = activate(self.conv1(activate(self.conv0(x))))
        return (y + self.shortcut(x)) * math.sqrt(0.5)


class StyleGANDiscriminator(nn.Module, PyTorchModelHubMixin, library_name="dgmlab"):
    """StyleGAN2's discriminator: `blocks.R` to `blocks.8`, named by the side of their *input*, end at 4 x 4.

    The output of `blocks.32` is (B, channels, 16, 16); FQ-GAN quantised that of `blocks.32` and `blocks.16` (its layers
    "45"). The arguments are those of `StyleGANGenerator`; group_size is that of `minibatch_stddev`.

    >>> logits = D(images)
    """

    def __init__(self, resolution=32, channel_base=16384, channel_max=512, image_channels=3, group_size=4):
        super().__init__()
        sides = resolutions(resolution)[::-1]
        widths = [width_at(side, channel_base, channel_max) for side in sides]
        self.image_shape = (image_channels, resolution, resolution)
        self.group_size = group_size
        self.from_rgb = EqualConv(image_channels, widths[0], 1)
        self.blocks = nn.ModuleDict({str(side): DiscriminatorBlock(widths[i], widths[i + 1])
                                     for i, side in enumerate(sides[:-1])})
        self.conv = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.dense = EqualLinear(widths[-1] * 4 * 4, widths[-1])
        self.to_logit = EqualLinear(widths[-1], 1)

    def forward(self, images):
        """Logits (B,) float32, high for real, of images (B, C, R, R) float in [-1, 1]."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(f"images have shape {tuple(images.shape)}; this discriminator expects (B, "
                             f"{', '.join(map(str, self.image_shape))}). Resize them, or build it for their resolution.")
        x = activate(self.from_rgb(images))
        for block in self.blocks.values():
            x = block(x)
        with full_precision(x):  # the end is cheap, and logits want more than the three digits of bf16
            x = minibatch_stddev(x.to(self.conv.weight.dtype), self.group_size)
            x = activate(self.dense(activate(self.conv(x)).flatten(1)))
            return self.to_logit(x).squeeze(1)
