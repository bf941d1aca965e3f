"""The game of U-GAT-IT: two generators against four discriminators, and the losses of both (Kim et al. 2020, section 2.2).

Domains are called a and b. Each side is one module with one forward pass, so that autocast, micro-batches and
DistributedDataParallel meet one network each. The losses are those of the authors' code: least squares, where the paper has
a logarithm, on the logits and on the attention's own logits alike.

Letters: B batch, C channels, H W.
"""

from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from torch.nn import functional

from dgmlab.fqgan.attach import add_fq, collect
from dgmlab.fqgan.ugatit import UGATITDiscriminator, UGATITGenerator


class Round(NamedTuple):
    """What the generators make of real pictures a and b, all (B, 3, H, W) in [-1, 1] but the last two.

    fake_a, fake_b  the pictures of the other domain, translated
    same_a, same_b  their own domain's pictures, "translated" to where they are
    back_a, back_b  the translated ones, translated back
    cam_ab, cam_ba  (2B, 2) logits of each generator's attention, high for its source: first half source, then target pictures
    """

    fake_a: torch.Tensor
    fake_b: torch.Tensor
    same_a: torch.Tensor
    same_b: torch.Tensor
    back_a: torch.Tensor
    back_b: torch.Tensor
    cam_ab: torch.Tensor
    cam_ba: torch.Tensor


class Verdict(NamedTuple):
    """What the discriminators say about B pictures of each domain.

    patches  4 tensors (B, 1, h, w), high for real: global and local of a, global and local of b
    cams     4 tensors (B, 2), likewise, of their attention
    commit   (B,) commitment terms, summed over dictionaries and domains; zeros without any
    """

    patches: tuple
    cams: tuple
    commit: torch.Tensor

    def halves(self):
        """What was said of the first and of the second half of the batch -> pair of Verdict"""
        parts = [[each.chunk(2) for each in group] for group in (self.patches, self.cams)]
        commits = self.commit.chunk(2)
        return tuple(Verdict(*(tuple(each[i] for each in group) for group in parts), commits[i]) for i in (0, 1))

    def share_real(self):
        """Share () of patches nearer to 1, real, than to 0."""
        return torch.cat([each.detach().flatten() > 0.5 for each in self.patches]).float().mean()


class CycleTerms(NamedTuple):
    """Unweighted losses () of the generators beside the adversarial one, summed over both directions."""

    cycle: torch.Tensor
    identity: torch.Tensor
    cam: torch.Tensor


class Generators(nn.Module):
    """`ab` translates from domain a to b, `ba` back; options are those of UGATITGenerator."""

    def __init__(self, **options):
        super().__init__()
        self.ab, self.ba = UGATITGenerator(**options), UGATITGenerator(**options)

    def forward(self, a, b):
        """a, b (B, 3, H, W) in [-1, 1] -> Round. Every norm is of one picture, so one pass takes both domains."""
        to_b, to_a = self.ab(torch.cat([a, b])), self.ba(torch.cat([b, a]))
        (fake_b, same_b), (fake_a, same_a) = to_b.images.chunk(2), to_a.images.chunk(2)
        back_a, back_b = self.ba(fake_b).images, self.ab(fake_a).images
        return Round(fake_a, fake_b, same_a, same_b, back_a, back_b, to_b.cam_logits, to_a.cam_logits)


class Discriminators(nn.Module, PyTorchModelHubMixin, library_name="dgmlab"):
    """A global and a local discriminator for each domain.

    n_global, n_local  layers of each kind, see `n_layers`
    channels           width after the first block
    fq                 options of `add_fq` (layers, n_codes, ...) for the global ones, each with dictionaries of its own
    """

    def __init__(self, n_global, n_local, channels=64, fq=None):
        super().__init__()
        self.global_a, self.local_a, self.global_b, self.local_b = (
            UGATITDiscriminator(n, channels) for n in (n_global, n_local, n_global, n_local))
        self.quantized = fq is not None
        for D in (self.global_a, self.global_b) if fq else ():
            side = 3 * 2**D.n_halvings  # the smallest picture that fits, to learn the channels of each layer from
            add_fq(D, **fq, example=(torch.zeros(1, 3, side, side),))

    def forward(self, a, b):
        """a, b (B, 3, H, W) in [-1, 1], real or translated -> Verdict"""
        judged = [D(x) for x, D in ((a, self.global_a), (a, self.local_a), (b, self.global_b), (b, self.local_b))]
        commit = (collect(self.global_a).commit + collect(self.global_b).commit if self.quantized
                  else a.new_zeros(len(a), dtype=torch.float32))
        return Verdict(tuple(each.logits for each in judged), tuple(each.cam_logits for each in judged), commit)


def n_layers(image_size):
    """Layers of the global and of the local discriminator at a size: 7 and 5 at 256 pixels, one fewer a halving, at least 3.

    >>> n_layers(64)
    (5, 3)
    """
    halvings = 8 - (image_size.bit_length() - 1)  # from 256 = 2^8 down
    return max(7 - halvings, 3), max(5 - halvings, 3)


def least_squares(verdict, target):
    """Mean square of the logits' distance to `target` (Mao et al. 2017, eq. 9 without its halves), summed over the eight
    outputs of a Verdict; D wants 1 for real and 0 for fake, G wants 1 for fake -> ()"""
    return sum((each.float() - target).square().mean() for each in (*verdict.patches, *verdict.cams))


def cycle_terms(made, a, b):
    """What keeps the content: there and back again, rest where nothing is to do, and attention that knows its domain.

    made  Round of the real pictures a, b (B, 3, H, W) -> CycleTerms (Kim et al. 2020, section 2.2)
    """
    cycle = functional.l1_loss(made.back_a, a) + functional.l1_loss(made.back_b, b)
    identity = functional.l1_loss(made.same_a, a) + functional.l1_loss(made.same_b, b)
    return CycleTerms(cycle, identity, _cam_loss(made.cam_ab) + _cam_loss(made.cam_ba))


def _cam_loss(logits):
    """Cross-entropies in nats of the attention's classifier, (2B, 2) with source pictures first -> ()"""
    on_source, on_target = logits.float().chunk(2)
    return functional.softplus(-on_source).mean() + functional.softplus(on_target).mean()
