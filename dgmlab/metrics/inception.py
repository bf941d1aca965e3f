"""The Inception-v3 that FID is defined by (Szegedy et al. 2016; Heusel et al. 2017), for pt_inception-2015-12-05-6726825d.pth.

That file holds TensorFlow's graph of 2015-12-05, ported to PyTorch by mseitzer/pytorch-fid and released there under
`fid_weights`; torch-fidelity ships the same bytes as weights-inception-2015-12-05-6726825d.pth. The network differs from
torchvision's: average pools do not count the padding, the last block pools by maximum where the others average, and there
are 1008 classes. Class scores leave out the bias of `fc`, as in the original Inception Score (torch-fidelity, stylegan2-ada).
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"  # its first digits, as in the name
ADDRESS = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}"


class Extracted(NamedTuple):
    """features (B, D) float32; logits (B, K) float32, or None where the network has no classes."""

    features: torch.Tensor
    logits: torch.Tensor | None


POOLS = {
    "average": lambda x: functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False),
    "maximum": lambda x: functional.max_pool2d(x, 3, stride=1, padding=1),
    "halve": lambda x: functional.max_pool2d(x, 3, stride=2),
}


def step(name, channels, kernel=1, stride=1):
    """One convolution of a block, by the name it has in the file."""
    return {name: (channels, kernel, stride)}


def fork(name, channels):
    """Two convolutions side by side, 1x3 and 3x1."""
    return {f"{name}a": (channels, (1, 3), 1), f"{name}b": (channels, (3, 1), 1)}


# A block is a list of branches, a branch a list of steps; the outputs of all branches are concatenated.


def block_35(pool_channels):
    """Blocks at 35 x 35."""
    return [[step("branch1x1", 64)],
            [step("branch5x5_1", 48), step("branch5x5_2", 64, 5)],
            [step("branch3x3dbl_1", 64), step("branch3x3dbl_2", 96, 3), step("branch3x3dbl_3", 96, 3)],
            ["average", step("branch_pool", pool_channels)]]


def block_17(width):
    """Blocks at 17 x 17: convolutions of 7 x 7 taken apart into 1 x 7 and 7 x 1."""
    return [[step("branch1x1", 192)],
            [step("branch7x7_1", width), step("branch7x7_2", width, (1, 7)), step("branch7x7_3", 192, (7, 1))],
            [step("branch7x7dbl_1", width), step("branch7x7dbl_2", width, (7, 1)), step("branch7x7dbl_3", width, (1, 7)),
             step("branch7x7dbl_4", width, (7, 1)), step("branch7x7dbl_5", 192, (1, 7))],
            ["average", step("branch_pool", 192)]]


def block_8(pool):
    """Blocks at 8 x 8: each of two branches ends in a fork."""
    return [[step("branch1x1", 320)],
            [step("branch3x3_1", 384), fork("branch3x3_2", 384)],
            [step("branch3x3dbl_1", 448), step("branch3x3dbl_2", 384, 3), fork("branch3x3dbl_3", 384)],
            [pool, step("branch_pool", 192)]]


TO_17 = [[step("branch3x3", 384, 3, stride=2)],
         [step("branch3x3dbl_1", 64), step("branch3x3dbl_2", 96, 3), step("branch3x3dbl_3", 96, 3, stride=2)],
         ["halve"]]
TO_8 = [[step("branch3x3_1", 192), step("branch3x3_2", 320, 3, stride=2)],
        [step("branch7x7x3_1", 192), step("branch7x7x3_2", 192, (1, 7)), step("branch7x7x3_3", 192, (7, 1)),
         step("branch7x7x3_4", 192, 3, stride=2)],
        ["halve"]]
BLOCKS = {
    "Mixed_5b": block_35(32), "Mixed_5c": block_35(64), "Mixed_5d": block_35(64), "Mixed_6a": TO_17, "Mixed_6b": block_17(128),
    "Mixed_6c": block_17(160), "Mixed_6d": block_17(160), "Mixed_6e": block_17(192), "Mixed_7a": TO_8,
    "Mixed_7b": block_8("average"), "Mixed_7c": block_8("maximum"),
}


class Convolution(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, in_channels, out_channels, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x):
        """(B, C, H, W) -> (B, C', H', W')"""
        return functional.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """A block of parallel branches, built from its list."""

    def __init__(self, in_channels, branches):
        super().__init__()
        self.branches, self.out_channels = branches, 0
        for branch in branches:
            channels = in_channels
            for parallel in branch:
                if isinstance(parallel, str):  # a pool
                    continue
                for name, (width, kernel, stride) in parallel.items():
                    height_width = (kernel, kernel) if isinstance(kernel, int) else kernel
                    padding = [side // 2 for side in height_width] if stride == 1 else 0
                    setattr(self, name, Convolution(channels, width, kernel, stride, padding))
                channels = sum(width for width, _, _ in parallel.values())
            self.out_channels += channels

    def forward(self, x):
        """(B, C, H, W) -> (B, C', H', W')"""
        outputs = []
        for branch in self.branches:
            y = [x]
            for parallel in branch:
                y = [POOLS[parallel](y[0])] if isinstance(parallel, str) else [getattr(self, name)(y[0]) for name in parallel]
            outputs += y
        return torch.cat(outputs, dim=1)


class InceptionV3(nn.Module):
    """Inception-v3 of FID: 2,048 features after the last pool, and 1,008 class scores."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        channels = 192
        for name, branches in BLOCKS.items():
            setattr(self, name, Mixed(channels, branches))
            channels = getattr(self, name).out_channels
        self.fc = nn.Linear(channels, 1008)

    def forward(self, x):
        """x (B, 3, 299, 299) in [-1, 1] -> Extracted(features (B, 2048), logits (B, 1008) without bias)"""
        x = POOLS["halve"](self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))  # (B, 64, 73, 73)
        x = POOLS["halve"](self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))  # (B, 192, 35, 35)
        for name in BLOCKS:
            x = getattr(self, name)(x)  # the last: (B, 2048, 8, 8)
        features = x.mean(dim=(2, 3))
        return Extracted(features, features @ self.fc.weight.T)


def load_inception(path):
    """The network with the weights of FID, from the well-known file -> InceptionV3 in evaluation mode

    path  pt_inception-2015-12-05-6726825d.pth (about 95 MB); only that file makes a FID, so any other content is refused
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the Inception weights were expected at {path}, found nothing there. Download {ADDRESS}, or "
                                "use the extractor fd_resnet20.")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(SHA256):
        raise ValueError(f"{path} ({path.stat().st_size:,} bytes) is not {FILE}: expected a sha256 that begins with {SHA256}, "
                         f"found {found[:8]}. Download it again from {ADDRESS}.")
    with torch.device("meta"):
        net = InceptionV3()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    return net.eval()
