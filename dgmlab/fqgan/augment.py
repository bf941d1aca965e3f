"""Adaptive discriminator augmentation: random pictures of every image, and how often (Karras et al. 2020b).

"Training Generative Adversarial Networks with Limited Data", the pipeline 'bgc': pixel blitting, geometry, colour. Both real
and generated images pass through it before the discriminator, in every step. Differentiable twice, so R1 may look through.
Simpler than the official code in one thing: geometry is sampled bilinearly, without its wavelet filter against aliasing.

Letters: B batch, C channels, H W.
"""

import math

import torch
from torch.nn import functional

from dgmlab.fqgan.stylegan_layers import full_precision

KINDS = ("blit", "geometry", "colour")


class _Draws:
    """Random parameters, one an image; each is its neutral value with probability 1 - p."""

    def __init__(self, n, p, device, generator):
        self.n, self.p, self.device, self.generator = n, p, device, generator

    def _rand(self):
        return torch.rand(self.n, generator=self.generator, device=self.device)

    def sometimes(self, value, neutral=0.0, p=None):
        return torch.where(self._rand() < (self.p if p is None else p), value, torch.full_like(value, neutral))

    def integer(self, n, p=None):
        return self.sometimes((self._rand() * n).floor(), p=p)

    def uniform(self, limit, p=None):
        return self.sometimes((2 * self._rand() - 1) * limit, p=p)

    def normal(self, std):
        return self.sometimes(torch.randn(self.n, generator=self.generator, device=self.device) * std)

    def factor(self, std):
        """Log-normal around 1; std in octaves."""
        return torch.exp2(self.normal(std))


def augment(images, p, kinds=KINDS, generator=None):
    """Each image through its own random transformations, every one of them applied with probability p.

    images  (B, C, H, W) float in about [-1, 1], square; colour needs C = 1 (brightness and contrast only) or 3
    p       in [0, 1], usually `AdaptiveProbability.p`; 0 gives the images back unchanged
    kinds   'blit' (mirror, quarter turns, shifts by whole pixels up to 1/8), 'geometry' (scale, stretch, rotation, shift),
            'colour' (brightness, contrast, luma flip, hue, saturation)
    -> (B, C, H, W), dtype of images; borders are filled by reflection
    """
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise ValueError(f"unknown kinds of augmentation: {', '.join(sorted(unknown))}; choose among: {', '.join(KINDS)}.")
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"images are {images.shape[2]} x {images.shape[3]}; augmentation expects squares. Crop them.")
    if p == 0:
        return images
    draws = _Draws(len(images), p, images.device, generator)
    with full_precision(images):
        x = images.to(torch.promote_types(images.dtype, torch.float32))
        inverse = torch.eye(3, device=x.device).expand(len(x), 3, 3)  # from places in the result to places in the image
        if "blit" in kinds:
            inverse = inverse @ _blit(draws, x.shape[3])
        if "geometry" in kinds:
            inverse = inverse @ _geometry(draws)
        if "blit" in kinds or "geometry" in kinds:
            grid = functional.affine_grid(inverse[:, :2].to(x.dtype), x.shape, align_corners=False)
            x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        if "colour" in kinds:
            x = _recolour(x, draws)
    return x.to(images.dtype)


def _blit(draws, width):
    """Mirror, quarter turns and whole-pixel shifts as matrices (B, 3, 3) on coordinates in [-1, 1]."""
    mirror = _scaling(1 - 2 * draws.integer(2), 1.0)
    turn = _rotation(draws.integer(4) * (math.pi / 2))
    shift = _translation(*((draws.uniform(0.125) * width).round() * 2 / width for _ in range(2)))
    return mirror @ turn @ shift


def _geometry(draws):
    """Scale, rotation before and after a stretch, and shifts as matrices (B, 3, 3) on coordinates in [-1, 1]."""
    p = 1 - math.sqrt(1 - draws.p)  # of each rotation, so that an image is rotated with probability p
    scale, stretch = draws.factor(0.2), draws.factor(0.2)
    turns = [_rotation(draws.uniform(math.pi, p)) for _ in range(2)]
    shift = _translation(*(2 * draws.normal(0.125) for _ in range(2)))
    return _scaling(scale, scale) @ turns[0] @ _scaling(stretch, 1 / stretch) @ turns[1] @ shift


def _recolour(x, draws):
    """x (B, C, H, W) with other brightness and contrast and, in colour, other luma sign, hue and saturation.

    The colour matrix is contrast (flip P + saturation R(hue) (1 - P)), with P the projection on the grey axis v:
    R(hue) (1 - P) = cos(hue) (1 - P) + sin(hue) K, where K is the cross product with v.
    """
    if x.shape[1] not in (1, 3):
        raise ValueError(f"images have {x.shape[1]} channels; colour augmentation expects 1 or 3. Leave 'colour' out.")
    brightness, contrast = draws.normal(0.2).to(x.dtype), draws.factor(0.5).to(x.dtype)
    if x.shape[1] == 1:
        return (x + brightness[:, None, None, None]) * contrast[:, None, None, None]
    flip, hue, saturation = (value.to(x.dtype)[:, None, None]
                             for value in (1 - 2 * draws.integer(2), draws.uniform(math.pi), draws.factor(1.0)))
    grey = torch.full((3, 3), 1 / 3, dtype=x.dtype, device=x.device)
    cross = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=x.dtype, device=x.device) / math.sqrt(3)
    chroma = hue.cos() * (torch.eye(3, dtype=x.dtype, device=x.device) - grey) + hue.sin() * cross
    matrix = contrast[:, None, None] * (flip * grey + saturation * chroma)  # (B, 3, 3)
    bright = x + brightness[:, None, None, None]
    return torch.einsum("bij,bjhw->bihw", matrix, bright)


def _matrix(rows, like):
    """(B, 3, 3) from rows of numbers and (B,) tensors."""
    entries = [torch.as_tensor(entry, dtype=like.dtype, device=like.device).expand(len(like)) for row in rows for entry in row]
    return torch.stack(entries, 1).view(-1, 3, 3)


def _scaling(x, y):
    return _matrix([[x, 0, 0], [0, y, 0], [0, 0, 1]], like=x)


def _translation(x, y):
    return _matrix([[1, 0, x], [0, 1, y], [0, 0, 1]], like=x)


def _rotation(angle):
    cos, sin = angle.cos(), angle.sin()
    return _matrix([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], like=angle)


class AdaptiveProbability:
    """The probability p of `augment`, steered by the overfitting heuristic r_t = E[sign D(real)] (section 3.1).

    target    of r_t; more means that D has learnt the real images by heart, and p rises. The paper: 0.6
    n_images  real images after which p could have gone from 0 to 1; the paper: 500,000
    interval  updates between adjustments; the paper: 4

    Saved with `state_dict`, for `accelerator.register_for_checkpointing`; in a process group all ranks agree on p.
    """

    def __init__(self, p=0.0, target=0.6, n_images=500_000, interval=4):
        self.p, self.target, self.n_images, self.interval = float(p), target, n_images, interval
        self.n_updates = 0
        self.totals = torch.zeros(2)  # since the last adjustment: the sum of the signs, and how many

    def update(self, real_logits):
        """Take note of D's logits of real images, of any shape; every `interval` calls p moves. -> p in [0, 1]"""
        signs = real_logits.detach().float().sign()
        # stays on the device, so that only an adjustment waits for it
        self.totals = self.totals.to(signs.device) + torch.stack([signs.sum(), signs.new_tensor(float(signs.numel()))])
        self.n_updates += 1
        if self.n_updates % self.interval == 0:
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(self.totals)
            total, n = self.totals.tolist()
            step = n / self.n_images
            self.p = min(max(self.p + (step if total / n > self.target else -step), 0.0), 1.0)
            self.totals = torch.zeros_like(self.totals)
        return self.p

    def state_dict(self):
        """What `load_state_dict` needs to go on exactly."""
        return {"p": self.p, "n_updates": self.n_updates, "totals": self.totals.tolist()}

    def load_state_dict(self, state):
        """Go on where `state` was taken."""
        self.p, self.n_updates, self.totals = state["p"], state["n_updates"], torch.tensor(state["totals"])
