"""Real pictures for the loops: endless shuffled batches whose position is a number, so that nothing of it needs saving."""

from typing import NamedTuple

import numpy as np
import torch

from dgmlab.data import pixels
from dgmlab.data.images import load_images
from dgmlab.run import write_json


class Batch(NamedTuple):
    """x (B, 3, S, S) float32 in [-1, 1], channels_last; y (B,) long, classes."""

    x: torch.Tensor
    y: torch.Tensor


class ImageStream:
    """Batches of a set of pictures, epoch after epoch without a gap; `batch(i)` is a pure function of i.

    images      `dgmlab.data.images.Images`
    batch_size  B over all ranks; larger than the set, and a batch has some pictures twice
    seed        of the order and of the mirroring
    mirror      each picture is mirrored with probability 1/2; wrong for digits and letters
    rank, world this process takes every `world`-th picture of a batch, from `rank` on
    """

    def __init__(self, images, batch_size, seed, mirror=False, device="cpu", rank=0, world=1):
        if batch_size < world or batch_size % world:
            raise ValueError(f"batch_size is {batch_size}; a multiple of the {world} processes was expected.")
        self.images, self.batch_size, self.seed, self.mirror = images, batch_size, seed, mirror
        self.device, self.rank, self.world = device, rank, world
        self._orders = {}

    def batch(self, index):
        """The batch number `index`, from 0 on -> Batch on the device"""
        n = len(self.images.y)
        places = np.arange(index * self.batch_size, (index + 1) * self.batch_size)[self.rank::self.world]
        rows = torch.from_numpy(np.array([self._order(place // n)[place % n] for place in places]))
        x = pixels.to_float(self.images.x[rows].to(self.device))
        if self.mirror:
            state = np.random.SeedSequence([self.seed, index, self.rank]).generate_state(1)
            x = pixels.random_flip(x, torch.Generator().manual_seed(int(state[0])))
        return Batch(x.contiguous(memory_format=torch.channels_last), self.images.y[rows].to(self.device))

    def _order(self, epoch):
        """Permutation (N,) of an epoch; the last two are kept, as a batch may lie across their border."""
        if epoch not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key == epoch - 1}
            self._orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(len(self.images.y))
        return self._orders[epoch]


def open_images(run, config, size, min_classes=1, show=True):
    """The training pictures of a config (its data and limit), side `size`; their card is shown and kept as data.json.

    ValueError  fewer classes than `min_classes`: usually class folders at another level
    """
    images = load_images(config.data, "train", size, config.limit or None, min_classes=min_classes)
    if show:
        print(images.card, flush=True)
        write_json(run.dir / "data.json", images.card._asdict())
    return images


def micro_slices(batch_size, n):
    """The parts of a batch that go through the networks one by one -> list of n slices of equal length"""
    if n < 1 or batch_size % n:
        raise ValueError(f"accumulate is {n}; a divisor of the {batch_size} pictures that each process has was expected.")
    return [slice(start, start + batch_size // n) for start in range(0, batch_size, batch_size // n)]
