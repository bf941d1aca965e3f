"""Spectral normalisation, the one of all networks here: weights of largest singular value 1 (Miyato et al. 2018).

One power iteration per training forward follows the weight as it is trained, as in the paper. It runs in float32 inside
autocast (torch's own would iterate in half precision), and it starts from 15 iterations, not from a random vector.

Letters: O output channels, K inputs of one of them (C kH kW for a convolution).
"""

import contextlib

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from dgmlab.fqgan.stylegan_layers import full_precision

START_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """A parametrization: weight / sigma, with sigma = |W v| and v the right singular vector as the iteration has it.

    Buffers, (O,): `u`, the left vector after the last training forward, and `before`, the one it began with. The right vector
    is computed from the left one each time, so that neither the order of a weight in memory nor an average of `u` over many
    steps can make the two disagree. Evaluation iterates once from `u` as well, and leaves it where it is.
    """

    def __init__(self, weight, eps=1e-12):
        super().__init__()
        self.eps, self.held = eps, False
        matrix, u = _as_matrix(weight.detach()), weight.new_empty(len(weight)).normal_()
        for _ in range(START_ITERATIONS):
            u = functional.normalize(matrix @ self._right(matrix, u), dim=0, eps=eps)
        self.register_buffer("u", u)
        self.register_buffer("before", u.clone(), persistent=False)

    def _right(self, matrix, u):
        return functional.normalize(u @ matrix, dim=0, eps=self.eps)  # (K,)

    def forward(self, weight):
        """(O, ...) -> (O, ...), float32 or better also under autocast."""
        held = self.held and self.training
        with full_precision(weight):
            matrix = _as_matrix(weight)
            with torch.no_grad():
                v = self._right(matrix, self.before if held else self.u)
            image = matrix @ v  # (O,)
            sigma = torch.linalg.vector_norm(image)
            if self.training and not held:
                with torch.no_grad():
                    self.before.copy_(self.u)
                    self.u.copy_(image / sigma.clamp(min=self.eps))
            return weight * sigma.reciprocal()  # the backward pass of a quotient goes over the weight three more times


def _as_matrix(weight):
    """(O, K) of a weight (O, ...) without a copy: the order of columns, another one in channels-last, changes no sigma."""
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        weight = weight.permute(0, 2, 3, 1)
    return weight.flatten(1)


def spectral_norm(layer, eps=1e-12):
    """The layer (convolution, linear map or embedding), with its weight divided by its largest singular value from now on.

    eps  smallest norm that a vector of the power iteration is divided by
    """
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight, eps))
    return layer


@contextlib.contextmanager
def held_spectral_norm(model):
    """Within the block, training forwards do not iterate: every micro-batch of a step sees the weights of the first.

    >>> for i, (x, y) in enumerate(micro_batches):
    ...     with held_spectral_norm(D) if i else contextlib.nullcontext():
    ...         D(x, y)
    """
    norms = [part for part in model.modules() if isinstance(part, SpectralNorm)]
    before = [norm.held for norm in norms]
    try:
        for norm in norms:
            norm.held = True
        yield
    finally:
        for norm, held in zip(norms, before, strict=True):
            norm.held = held
