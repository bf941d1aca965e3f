"""From pictures to features: networks behind a fixed preprocessing, each under the name that its numbers carry.

    extractor = load_extractor("fd_resnet20")              CIFAR-10 classifier from the data folder
    extractor = load_extractor("fid", path)                Inception-v3, from the well-known file
    extractor = digits_extractor()                         trained in place on scikit-learn's digits, in seconds
    extractor = trained_extractor(images, labels, "shoes") the same on any small labelled pictures
    extractor = Extractor(net, "fd_mine", size=64)         any nn.Module that gives features (B, D) or (features, logits)

    real = extract(extractor, images)
    fake = extract(extractor, samples, ema=True, mode="eval", seed=0)
    print(frechet_score(real, fake))                       from dgmlab.metrics.scores

Pictures are (B, C, H, W), uint8 in 0..255 or float in [-1, 1]; floats are brought to the 256 levels of a saved picture, so
that samples score alike before and after saving. Letters: B batch, N pictures, C channels, H W, D features, K classes.
"""

import hashlib

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from dgmlab.config import unknown_name
from dgmlab.data.registry import data_home
from dgmlab.metrics.inception import Extracted, InceptionV3, load_inception
from dgmlab.metrics.scores import Card, Features

RESIZES = {
    "bilinear": {"mode": "bilinear"},  # without antialiasing, as pytorch-fid
    "bicubic": {"mode": "bicubic", "antialias": True},  # as Pillow, which clean-fid takes (Parmar et al. 2022)
}
CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what these classifiers were trained with: ImageNet's
CLASSIFIERS = {  # name: (blocks in each stage, sha256); from akamaster/pytorch_resnet_cifar10 at d5489e8, BSD-2-Clause
    "resnet20": (3, "02926273efb1deadb6dc654c7087baea932ef2026d9f854680d6858146d85838"),
    "resnet56": (9, "cf29b05e3acebb9dc28868ebd84a604ff452971bb6770f22beaff48708079aee"),
}
NAMES = ("fid", "fd_digits", *(f"fd_{name}" for name in CLASSIFIERS))


class Extractor(nn.Module):
    """A frozen network behind its preprocessing.

    net        nn.Module: (B, channels, size, size) -> features (B, D), or a pair (features, logits (B, K))
    name       begins with 'fd_'; 'fid' is said of InceptionV3 only
    size       pixels a side that the network takes; None takes pictures as they are
    mean, std  of the network's training data, for pixels in [0, 1]: numbers, or one a channel
    channels   3, or 1: grey pictures are repeated, coloured ones averaged
    resize     a key of RESIZES; Inception-v3: 'bilinear' agrees with pytorch-fid, 'bicubic' with clean-fid
    """

    def __init__(self, net, name, size=None, mean=0.5, std=0.5, channels=3, resize="bicubic"):
        super().__init__()
        if not (name == "fid" and isinstance(net, InceptionV3) or name.startswith("fd_")):
            raise ValueError(f"'{name}' is no name for this extractor: 'fid' is said of Inception-v3 only. Call it 'fd_...'.")
        if resize not in RESIZES:
            raise KeyError(unknown_name(resize, RESIZES, "resize"))
        self.net, self.name, self.size, self.channels = net.eval().requires_grad_(False), name, size, channels
        self.resize, self.weights = f"{resize} to {size}" if size else "none", _fingerprint(net)
        self._interpolation = {**RESIZES[resize], "size": (size, size), "align_corners": False}
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def train(self, mode=True):
        """Stays in evaluation mode, also as part of a model that trains."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images):
        """images (B, C, H, W) uint8 or float in [-1, 1], C = 1 or 3 -> Extracted, float32"""
        x = _pixels(images).to(self.mean.device)
        with torch.autocast(x.device.type, enabled=False):
            if x.shape[1] != self.channels:
                x = x.expand(-1, 3, -1, -1) if self.channels == 3 else x.mean(dim=1, keepdim=True)
            if self.size and x.shape[2:] != (self.size, self.size):
                x = functional.interpolate(x, **self._interpolation)
            found = self.net((x - self.mean) / self.std)
        features, logits = found if isinstance(found, tuple) else (found, None)
        if features.ndim != 2 or len(features) != len(images):
            raise ValueError(f"the network of {self.name} must give features ({len(images)}, D), found "
                             f"{tuple(features.shape)}. Pool its feature maps.")
        return Extracted(features, logits)


def _fingerprint(net):
    """Eight digits that tell one set of weights from another."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:8]


def _pixels(images):
    """Pictures as 256 levels in [0, 1], float32."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"pictures must be (B, C, H, W) with 1 or 3 channels, found {tuple(images.shape)}.")
    if images.dtype == torch.uint8:
        return images.float() / 255
    low, high = float(images.min()), float(images.max())
    if not -1.01 <= low <= high <= 1.01:  # also where NaN
        raise ValueError(f"pictures must be uint8 or floats in [-1, 1], found {images.dtype} from {low:.4g} to {high:.4g}.")
    return ((images.float() + 1) * 127.5).round().clamp(0, 255) / 255


def extract(extractor, images, batch_size=100, ema=None, mode=None, seed=None):
    """Features of pictures, with the card of how they were made -> Features (numpy float32)

    extractor  Extractor, on any device
    images     (N, C, H, W) numpy or torch; or an iterable of such batches, such as a generator at work
    ema, mode, seed  of the generator, for the card (`Card`); not given for pictures of a data set
    """
    batches = [images[i:i + batch_size] for i in range(0, len(images), batch_size)] if hasattr(images, "shape") else images
    found = [extractor(batch if isinstance(batch, torch.Tensor) else torch.from_numpy(np.array(batch))) for batch in batches]
    if not found:
        raise ValueError("there are no pictures to extract features of.")
    features = torch.cat([batch.features for batch in found]).float().cpu().numpy()
    logits = None if found[0].logits is None else torch.cat([batch.logits for batch in found]).float().cpu().numpy()
    card = Card(extractor.name, extractor.weights, extractor.resize, len(features), ema, mode, seed)
    return Features(features, logits, card)


def load_extractor(name, path=None):
    """An extractor by the name of its Frechet distance: 'fid', 'fd_digits', 'fd_resnet20', 'fd_resnet56'.

    path  file of the weights: needed for 'fid', else found in `data_home()`/classifiers
    """
    if name not in NAMES:
        raise KeyError(unknown_name(name, NAMES, "extractor"))
    if name == "fd_digits":
        return digits_extractor()
    if name != "fid":
        return Extractor(load_classifier(name.removeprefix("fd_"), path), name, 32, CIFAR_MEAN, CIFAR_STD)
    if path is None:
        raise ValueError("'fid' needs the path of its weights, pt_inception-2015-12-05-6726825d.pth. "
                         "Pass path=..., or use the extractor fd_resnet20.")
    return Extractor(load_inception(path), "fid", 299, resize="bilinear")


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters: every second pixel, zeros for the new channels (option A)."""

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.stride, self.new = stride, channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        """(B, C, H, W) -> (B, C', H / stride, W / stride)"""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = functional.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.new // 2, self.new // 2))
        return functional.relu(y + shortcut)


class CifarResNet(nn.Module):
    """ResNet of depth 6 n_blocks + 2 for 32 x 32 pixels (He et al. 2016, section 4.2): 64 features, 10 class scores."""

    def __init__(self, n_blocks):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        stages = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(before, width, stride), *(Block(width, width, 1) for _ in range(n_blocks - 1)))
            for before, width, stride in stages)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        """x (B, 3, 32, 32), CIFAR-10 pixels minus CIFAR_MEAN over CIFAR_STD -> Extracted(features (B, 64), logits (B, 10))"""
        x = functional.relu(self.bn1(self.conv1(x)))
        features = self.layer3(self.layer2(self.layer1(x))).mean(dim=(2, 3))
        return Extracted(features, self.linear(features))


def load_classifier(name, path=None):
    """A CIFAR-10 classifier, 'resnet20' or 'resnet56', from the data folder or `path` -> CifarResNet in evaluation mode

    Reported test errors: 8.27 % and 6.61 %. Labels in the order of CIFAR-10: airplane, automobile, bird, cat, deer, dog, frog,
    horse, ship, truck.
    """
    if name not in CLASSIFIERS:
        raise KeyError(unknown_name(name, CLASSIFIERS, "classifier"))
    n_blocks, sha256 = CLASSIFIERS[name]
    path = path or data_home() / "classifiers" / f"{name}_cifar10.safetensors"
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise FileNotFoundError(f"the weights of {name} were expected at {path}, found nothing there. Set DGMLAB_DATA to the "
                                "folder that holds classifiers/, or use the extractor fd_digits.") from None
    if found != sha256:
        raise ValueError(f"{path} does not hold the weights of {name}: expected sha256 {sha256[:8]}, found {found[:8]}. "
                         "Fetch the file again, or give other weights a name of their own: Extractor(net, 'fd_...').")
    net = CifarResNet(n_blocks)
    net.load_state_dict(load_file(path))
    return net.eval()


class SmallClassifier(nn.Module):
    """Two convolutions, pooled to 4 x 4, and two layers: 64 features, for pictures from 8 to some 64 pixels."""

    def __init__(self, channels, n_classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.hidden, self.linear = nn.Linear(32 * 4 * 4, 64), nn.Linear(64, n_classes)

    def forward(self, x):
        """x (B, C, H, W) -> Extracted(features (B, 64), logits (B, K))"""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.adaptive_avg_pool2d(functional.relu(self.conv2(x)), 4)
        features = functional.relu(self.hidden(x.flatten(1)))
        return Extracted(features, self.linear(features))


def trained_extractor(images, labels, name, n_epochs=12, seed=0):
    """A small classifier trained in place on labelled pictures -> Extractor 'fd_NAME'

    images  (N, C, S, S) uint8 or float in [-1, 1], C = 1 or 3
    labels  (N,) ints from 0
    seed    of weights and order: on one machine the same weights each time; the global random state is left as it was

    Features are scaled to a mean square of 1 over these pictures, so that numbers are of a like size whatever was learnt.
    """
    x, y = _pixels(torch.as_tensor(images)) * 2 - 1, torch.as_tensor(labels).long()
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        net = SmallClassifier(x.shape[1], int(y.max()) + 1)
        optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
        n_batches = -(-len(x) // 64)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=n_epochs * n_batches)
        for _ in range(n_epochs):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                functional.cross_entropy(net(x[rows]).logits, y[rows]).backward()
                optimizer.step()
                schedule.step()
    with torch.no_grad():
        scale = torch.cat([net(rows).features for rows in x.split(500)]).square().mean().sqrt()
        for parameter in (net.hidden.weight, net.hidden.bias):
            parameter /= scale
        net.linear.weight *= scale
    return Extractor(net, f"fd_{name}", size=x.shape[-1], channels=x.shape[1])


def digits_extractor(seed=0):
    """The extractor of the embedded default, 'fd_digits': trained on scikit-learn's 1,797 digits of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images / 8 - 1).unsqueeze(1)  # 0..16 -> [-1, 1], (N, 1, 8, 8)
    return trained_extractor(images, digits.target, "digits", seed=seed)
