"""Fusing two latent spaces: a pull between them and a push within each (Gao et al. 2019, SpaceFusion, eq. 4-7; StyleFusion).

Distances are root mean squares over dimensions, |a - b| / sqrt(Z): two draws of N(0, I) are about 1.4 apart in any Z.

The released dialog code of Optimus takes a point's nearest neighbour from a list that holds the point itself, so that its push
is 0 whatever the space looks like. Here a point is never its own neighbour, nor is another point of the same text. And since a
space without bounds could win for ever by growing, a neighbour further than `margin` is far enough.

Letters: B batch, M N points, Z latent.
"""

from typing import NamedTuple

import torch


class FusionTerms(NamedTuple):
    """pull (): distance of each context to its response; push (): distance to the nearest other point, at most `margin`, in
    the more crowded of the two spaces. Both in RMS per dimension; the loss is pull - weight * push."""

    pull: torch.Tensor
    push: torch.Tensor


def rms(difference):
    """Root mean square over the last dimension, (..., Z) -> (...); of a zero vector the gradient is 0, not NaN."""
    square = difference.square().mean(-1)
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)


def distances(a, b):
    """RMS distances of all pairs: (M, Z), (N, Z) -> (M, N)"""
    return rms(a.unsqueeze(1) - b.unsqueeze(0))


def crowding(z, keys=None, margin=1.0):
    """Mean distance to the nearest other point, counted up to `margin`.

    z     (B, Z)
    keys  (B,) ints, equal for points of one text, which are no neighbours; None: all differ
    -> (); margin where no point has a neighbour
    """
    others = ~torch.eye(len(z), dtype=torch.bool, device=z.device) if keys is None else keys.unsqueeze(1) != keys.unsqueeze(0)
    return distances(z, z).masked_fill(~others, torch.inf).amin(1).clamp(max=margin).mean()


def fusion(z_ae, z_s2s, response_keys=None, context_keys=None, margin=1.0):
    """Pull and push of a batch of exchanges: z of the responses and z of their contexts, both (B, Z). -> FusionTerms"""
    push = torch.minimum(crowding(z_ae, response_keys, margin), crowding(z_s2s, context_keys, margin))
    return FusionTerms(rms(z_ae - z_s2s).mean(), push)


def style_fusion(z_style, z_dialog, margin=1.0):
    """Pull and push for texts that are not paired: z of style sentences (M, Z) and of contexts or responses (N, Z).

    The pull is the distance of each point to the nearest of the other set, averaged over both directions, so that neither is
    drawn into a corner of the other; the push keeps the style sentences apart. -> FusionTerms
    """
    across = distances(z_style, z_dialog)
    return FusionTerms((across.amin(0).mean() + across.amin(1).mean()) / 2, crowding(z_style, margin=margin))


def between(z_a, z_b, noise, generator=None):
    """Noisy points on the lines between rows of (B, Z) and (B, Z): u z_a + (1 - u) z_b + noise eps, u uniform.

    noise  standard deviation in each dimension [0.1]
    -> (points (B, Z), u (B,))
    """
    u = torch.rand(len(z_a), generator=generator, device=z_a.device)
    eps = torch.randn(z_a.shape, generator=generator, device=z_a.device)
    return z_b + u.unsqueeze(1) * (z_a - z_b) + noise * eps, u
