"""How a dictionary of feature vectors is used: how evenly, by real and by generated pictures alike, over time, and for what.

    code_counts(codes, K)                histogram; the other numbers are made of these
    dictionary_perplexity, dead_share    how much of the dictionary is in use
    js_divergence(real, fake)            whether both sets use it alike: a look at the generator that costs nothing
    lifetimes(usage)                     codes that are born, die and are revived
    nearest_patches, patch_of            what a code stands for

Letters: N pictures, C channels, H W height and width of a feature map, S side of a picture, K codes, T evaluations.
"""

from typing import NamedTuple

import numpy as np
import torch

CHUNK = 4096  # feature vectors compared at a time


class Lifetimes(NamedTuple):
    """Each code over T evaluations; all (K,) long-integer arrays.

    first, last  the first and the last evaluation that used the code, 0 to T - 1; -1 where none did
    deaths       how often an evaluation did not use it though the one before had
    revivals     how often it was used again after a death
    """

    first: np.ndarray
    last: np.ndarray
    deaths: np.ndarray
    revivals: np.ndarray


class NearestPatches(NamedTuple):
    """Where the features nearest to each of k codes are, nearest first; all (k, n).

    image, row, column  long, indices into the (N, C, H, W) feature maps
    distance            float, Euclidean
    """

    image: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    distance: torch.Tensor


def code_counts(codes, n_codes):
    """How often each code was taken: codes of any shape, integers 0 to K - 1, torch or numpy -> (K,) int64 array"""
    codes = torch.as_tensor(codes).flatten()
    if codes.is_floating_point() or codes.dtype == torch.bool:
        raise ValueError(f"codes must be integers, found {codes.dtype}. Pass the codes of a quantizer, not its features.")
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < n_codes:
        raise ValueError(f"codes must lie in 0 to {n_codes - 1} for {n_codes} codes, found {int(codes.min())} to "
                         f"{int(codes.max())}. Pass the size of the dictionary that gave them.")
    return torch.bincount(codes.long(), minlength=n_codes).cpu().numpy()


def dictionary_perplexity(counts):
    """exp of the entropy of the usage: counts (K,) -> float from 1 (one code only) to K (all alike often).

    Of the counts of a whole set; the mean over batches, which papers print, is lower when batches are small.
    """
    shares = _shares(counts, "counts")
    used = shares[shares > 0]
    return float(np.exp(-(used * np.log(used)).sum()))


def dead_share(counts):
    """Share of the codes that nothing took: counts (K,) -> float in [0, 1]. Add the counts of real and fake pictures first."""
    return float((_counts(counts, "counts") == 0).mean())


def js_divergence(real_counts, fake_counts):
    """Jensen-Shannon divergence of two code histograms, in bits (Lin 1991, eq. 4.1, with equal weights).

    real_counts, fake_counts  (K,) of at least one vector each; their totals may differ
    -> float from 0 (the same shares) to 1 (no code in common)

    Biased upwards: two sets of N and M independent draws from *one* distribution over K codes give about
    (K - 1) / (8 ln 2) (1/N + 1/M) bits, not 0 (from the bias of the entropy, Miller 1955). Neighbouring positions of a feature
    map are not independent, so there it is more. Compare at one number of pictures, and against two halves of the real ones.
    """
    real, fake = _shares(real_counts, "real counts"), _shares(fake_counts, "fake counts")
    if real.shape != fake.shape:
        raise ValueError(f"both histograms must be of one dictionary, found {len(real)} and {len(fake)} codes.")
    middle = (real + fake) / 2
    parts = [(p[p > 0] * np.log2(p[p > 0] / middle[p > 0])).sum() for p in (real, fake)]
    return float(np.clip(sum(parts) / 2, 0.0, 1.0))  # rounding can leave -1e-17


def lifetimes(usage):
    """When codes lived, died and were revived: usage (T, K) counts of T evaluations, in their order -> Lifetimes"""
    alive = np.asarray(usage) > 0
    if alive.ndim != 2 or not alive.size:
        raise ValueError(f"usage must be (T, K), counts of at least one evaluation, found shape {alive.shape}.")
    ever, change = alive.any(axis=0), np.diff(alive.astype(np.int64), axis=0)  # (T - 1, K): 1 begins a life, -1 ends one
    first = np.where(ever, alive.argmax(axis=0), -1)
    last = np.where(ever, len(alive) - 1 - alive[::-1].argmax(axis=0), -1)
    births = (change == 1).sum(axis=0) + alive[0]
    return Lifetimes(first, last, (change == -1).sum(axis=0), np.maximum(births - 1, 0))


@torch.no_grad()
def nearest_patches(features, dictionary, codes, n):
    """The n pictures that come nearest to each of some codes, and the position where they do.

    features    (N, C, H, W) float, what the dictionary was laid over
    dictionary  (K, C) float, on the same device
    codes       k integers 0 to K - 1, the codes to look at
    n           1 to N. At most one position of a picture is taken: its neighbours would show nearly the same pixels again
    -> NearestPatches (k, n), nearest first and earlier pictures first among equals. Memory is k * 4,096 distances at a time.
    """
    if features.ndim != 4 or dictionary.ndim != 2 or features.shape[1] != dictionary.shape[1]:
        raise ValueError("features (N, C, H, W) and a dictionary (K, C) of as many channels were expected, found "
                         f"{tuple(features.shape)} and {tuple(dictionary.shape)}.")
    n_images, _, height, width = features.shape
    if not 1 <= n <= n_images:
        raise ValueError(f"n is the number of pictures for each code, 1 to the {n_images} there are; found {n}.")
    chosen = dictionary[torch.as_tensor(codes, device=dictionary.device)].float()  # (k, C)
    best, place = [], []
    for part in features.split(max(1, CHUNK // (height * width))):
        rows = part.flatten(2).transpose(1, 2).float()  # (b, H W, C)
        # differences, not products: the nearest vectors are those whose digits |x|^2 - 2 x e + |e|^2 would cancel
        distance = torch.cdist(chosen, rows.reshape(-1, rows.shape[2]), compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distance.view(len(chosen), len(part), height * width).min(dim=2)
        best.append(nearest.values)
        place.append(nearest.indices)
    distance, image = torch.cat(best, dim=1).sort(dim=1, stable=True)  # (k, N)
    position = torch.cat(place, dim=1).gather(1, image[:, :n])
    return NearestPatches(image[:, :n], position // width, position % width, distance[:, :n])


def patch_of(images, image, row, column, map_size, margin=0):
    """The pixels under positions of a feature map, with a margin; border pixels are repeated outside the picture.

    images              (N, C, S, S), torch or numpy, any dtype
    image, row, column  integers of one shape (...), as `nearest_patches` gives them
    map_size            H = W of the feature map; need not divide S
    margin              pixels added on each side: what a layer sees reaches further than its share of the picture
    -> (..., C, P, P) like the images, with P = ceil(S / map_size) + 2 margin
    """
    images = torch.as_tensor(images)
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"square pictures (N, C, S, S) were expected, found {tuple(images.shape)}.")
    image, row, column = (torch.as_tensor(index, device=images.device) for index in (image, row, column))
    if row.numel() and not 0 <= int(torch.stack([row, column]).min()) <= int(torch.stack([row, column]).max()) < map_size:
        raise ValueError(f"rows and columns must lie in 0 to {map_size - 1} on a map of {map_size} x {map_size}. "
                         "Pass the size of the map they come from.")
    size = images.shape[2]
    side = -(-size // map_size) + 2 * margin
    offsets = torch.arange(side, device=images.device)

    def pixels(index):
        """(..., P): the pixels around the middle of a position, to half a pixel, kept inside the picture"""
        start = ((2 * index + 1) * size - (side - 1) * map_size) // (2 * map_size)
        return (start[..., None] + offsets).clamp(0, size - 1)

    found = images[image[..., None, None], :, pixels(row)[..., :, None], pixels(column)[..., None, :]]  # (..., P, P, C)
    return found.movedim(-1, -3)


def _counts(counts, what):
    """(K,) counts as float64, checked."""
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 1 or not len(counts) or not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError(f"{what} must be (K,) numbers of 0 or more, found shape {counts.shape}. Make them by code_counts.")
    return counts


def _shares(counts, what):
    """(K,) shares that add up to 1, of counts (K,) with at least one."""
    counts = _counts(counts, what)
    if not counts.any():
        raise ValueError(f"{what} are all 0: no vector was coded. Count the codes of at least one picture.")
    return counts / counts.sum()
