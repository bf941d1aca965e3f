"""The layers of StyleGAN2: equalised weights, FIR resampling, modulated convolution (Karras et al. 2018, 2019, 2020).

Everything is an ordinary torch operation, twice differentiable, so that R1 and path lengths need no custom kernel.

Letters: B batch, C input channels, O output channels, H W, S width of w.
"""

import math
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional

TAPS = (1, 3, 3, 1)  # the binomial low-pass filter of StyleGAN2


def resolutions(resolution):
    """The sides of a network's feature maps in pixels, [4, 8, ..., resolution]; resolution is a power of two from 8 on."""
    n = int(math.log2(resolution)) if resolution >= 8 else 0
    if 2**n != resolution:
        raise ValueError(f"resolution is {resolution}; expected a power of two, at least 8. Resize or crop the images.")
    return [2**i for i in range(2, n + 1)]


def width_at(side, channel_base, channel_max):
    """Channels of the feature maps of `side` pixels: channel_base / side, at most channel_max."""
    return min(channel_base // side, channel_max)


def full_precision(x):
    """A context in which autocast leaves the operations on x's device alone; it does nothing where none exists (meta)."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def activate(x):
    """Leaky ReLU of slope 0.2, scaled by sqrt(2) to keep the variance; shape and dtype of x."""
    return functional.leaky_relu(x, 0.2) * math.sqrt(2)


class EqualLinear(nn.Module):
    """A linear map with weights stored as N(0, 1) and scaled when used, so that Adam moves all alike (Karras et al. 2018).

    rate  multiplies the learning rate of this layer; 0.01 in the mapping network
    bias  initial value of the bias
    """

    def __init__(self, n_in, n_out, rate=1.0, bias=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / rate)
        self.bias = nn.Parameter(torch.full((n_out,), bias / rate))
        self.rate = rate
        self.gain = rate / math.sqrt(n_in)

    def forward(self, x):
        """(B, n_in) -> (B, n_out)."""
        return functional.linear(x, self.weight * self.gain, self.bias * self.rate)


class EqualConv(nn.Module):
    """A convolution with equalised weights; the size is kept unless stride and padding say otherwise."""

    def __init__(self, n_in, n_out, kernel_size, stride=1, padding=None, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.gain = 1 / math.sqrt(n_in * kernel_size**2)
        self.stride = stride
        self.padding = kernel_size // 2 if padding is None else padding

    def forward(self, x):
        """(B, C, H, W) -> (B, O, H', W')."""
        return functional.conv2d(x, self.weight * self.gain, self.bias, self.stride, self.padding)


class Fir(nn.Module):
    """The 4 x 4 low-pass filter as a depthwise convolution, in the dtype of its input (RGB skips stay float32 in autocast).

    One depthwise kernel beats two separable passes on a CPU (the filter is bound by memory). Padding is with zeros.

    stride  2 with padding 1 halves the image
    gain    factor on the result; 4 where zeros were inserted between the pixels before, as a transposed convolution does
    """

    def __init__(self, padding, stride=1, gain=1):
        super().__init__()
        taps = torch.tensor(TAPS, dtype=torch.float32)
        kernel = torch.outer(taps, taps)
        self.register_buffer("kernel", (kernel * gain / kernel.sum())[None, None], persistent=False)
        self.padding, self.stride = padding, stride

    def forward(self, x):
        """(B, C, H, W) -> (B, C, H', W') with H' = (H + 2 padding - 4) // stride + 1."""
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)
        with full_precision(x):
            return functional.conv2d(x, kernel, stride=self.stride, padding=self.padding, groups=x.shape[1])


class Upsample(Fir):
    """Twice the size: zeros between the pixels, then the filter, in one transposed depthwise convolution."""

    def __init__(self):
        super().__init__(padding=1, stride=2, gain=4)

    def forward(self, x):
        """(B, C, H, W) -> (B, C, 2 H, 2 W)."""
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)
        with full_precision(x):
            return functional.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def modulated_conv(x, weight, style, demodulate=True, fir=None):
    """Convolution with a kernel of its own for every image, w'_oikl = s_i w_oikl / |s w_o| (Karras et al. 2020, eq. 1-3).

    x       (B, C, H, W) float
    weight  (O, C, k, k)          shared by all images; k is odd
    style   (B, C)                s, one scale per input channel
    demodulate  divide by the norm of the kernel, so that unit-variance input gives unit-variance output
    fir     None keeps the size; a `Fir(padding=1, gain=4)` doubles it, by a transposed convolution and this filter
    -> (B, O, H, W), or (B, O, 2 H, 2 W); dtype of the convolution

    The style scales the input and the norm divides the output: the same function as B different kernels in one grouped
    convolution, but it is an ordinary batched convolution (fast on a CPU, in channels_last and in bf16) and keeps no
    (B, O, C, k, k) weights for the backward pass.
    """
    scaled = x * style.to(x.dtype)[:, :, None, None]
    if fir is None:
        y = functional.conv2d(scaled, weight, padding=weight.shape[-1] // 2)
    else:
        y = fir(functional.conv_transpose2d(scaled, weight.transpose(0, 1), stride=2))
    if demodulate:
        with full_precision(x):
            norm = torch.rsqrt(style.square() @ weight.square().sum((2, 3)).T + 1e-8)  # (B, O)
        y = y * norm.to(y.dtype)[:, :, None, None]
    return y


class ModulatedConv(nn.Module):
    """A modulated convolution with the affine map from w to its style.

    up          double the size
    demodulate  False in the layers that make RGB; their weights are then scaled as equalised ones
    """

    def __init__(self, n_in, n_out, kernel_size, w_dim, up=False, demodulate=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel_size, kernel_size))
        self.style = EqualLinear(w_dim, n_in, bias=1.0)
        self.fir = Fir(padding=1, gain=4) if up else None
        self.demodulate = demodulate
        self.gain = 1.0 if demodulate else 1 / math.sqrt(n_in * kernel_size**2)

    def forward(self, x, w):
        """x (B, C, H, W), w (B, S) -> (B, O, H, W), or twice the size."""
        with full_precision(x):
            style = self.style(w.to(self.weight.dtype)) * self.gain
        return modulated_conv(x, self.weight, style, self.demodulate, self.fir)
