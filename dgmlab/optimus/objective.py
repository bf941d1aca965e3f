"""The objective of Optimus: sentence-summed reconstruction, thresholded KL, cyclical weight (Li et al. 2020, eq. 3-5)."""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

CPU_SOFTMAX = 128_000  # numbers in one softmax on a CPU: 16 rows of 8,000, half a megabyte of float32


class ElboTerms(NamedTuple):
    """loss () to minimise; rec (B,) and kl (B,) in nats per sentence, unweighted; kl_per_dim (Z,) in nats, batch mean."""

    loss: torch.Tensor
    rec: torch.Tensor
    kl: torch.Tensor
    kl_per_dim: torch.Tensor


def cyclical_beta(n_steps, start=0.0, stop=1.0, n_cycles=4, ratio_increase=0.5, ratio_zero=0.3):
    """Weight of the KL term at each step: in every cycle `start`, then a linear ramp, then `stop` (Fu et al. 2019).

    n_steps         number of steps; -> float64 array (n_steps,)
    n_cycles        the paper: 10 in pre-training, 1 in fine-tuning
    ratio_increase  share of a cycle spent on the ramp (0 jumps); the paper: 0.25
    ratio_zero      share of a cycle at `start` before the ramp; the paper: 0.5; 0 gives the schedule without a zero stage

    The ramp is summed up step by step and leaves its first value at `start`, exactly as in the original code, so that
    the two agree to rounding; where the ratios add up to more than 1 the next cycle cuts the ramp off.
    """
    if n_steps < 1 or n_cycles < 1 or ratio_increase < 0 or ratio_zero < 0:
        raise ValueError(f"a schedule needs n_steps >= 1, n_cycles >= 1 and ratios >= 0, found n_steps={n_steps}, "
                         f"n_cycles={n_cycles}, ratio_increase={ratio_increase}, ratio_zero={ratio_zero}.")
    betas = np.full(n_steps, float(stop))
    period = n_steps / n_cycles
    n_zero = int(np.ceil(period * ratio_zero))
    rise = (stop - start) / (period * ratio_increase) if ratio_increase > 0 else np.inf
    for cycle in range(n_cycles):
        value, i = float(start), 0
        while value <= stop and int(i + cycle * period) < n_steps:
            betas[int(i + cycle * period)] = start if i < n_zero else value
            if i >= n_zero:
                value += rise
            i += 1
    return betas


def kl_divergence(mu, logvar):
    """KL(N(mu, exp(logvar)) || N(0, 1)) of every sample and dimension, in nats: (B, Z) -> (B, Z)."""
    return 0.5 * (mu.square() + logvar.exp() - logvar - 1)


def sentence_nll(logits, target_ids):
    """-log p(sentence) in nats: logits (B, T, V) where logits[:, t] predicts target_ids[:, t]; -100 is not counted -> (B,)"""
    flat, targets = logits.flatten(0, 1), target_ids.flatten()
    # on a CPU a few rows at a time: their float32 copy stays in the cache, which is five times faster than one big copy
    n = max(1, CPU_SOFTMAX // flat.shape[1] if logits.device.type == "cpu" else len(flat))
    losses = [functional.cross_entropy(rows.float(), wanted, ignore_index=-100, reduction="none")
              for rows, wanted in zip(flat.split(n), targets.split(n), strict=True)]
    return torch.cat(losses).view(target_ids.shape).sum(1)


def elbo(logits, target_ids, mu, logvar, beta, free_bits=0.5, length_weighted=False):
    """Weighted negative ELBO of Optimus, averaged over sentences (Li et al. 2020, eq. 3).

    logits      (B, T, V) float  logits[:, t] predicts target_ids[:, t]
    target_ids  (B, T) long      -100 where padded
    mu, logvar  (B, Z) float     parameters of q(z|x)
    beta        weight of the KL term, usually `cyclical_beta(...)[step]`
    free_bits   threshold lambda in nats per sample and dimension: a dimension below it adds nothing to the loss and gets no
                KL gradient. Too low and the KL vanishes, too high and prior samples get worse. The loss is therefore
                lambda lower per silent dimension than with max(KL, lambda); the gradient is the same.
    length_weighted  divide each sentence's reconstruction by its T + 2 tokens (`<bos>` and `<eos>` counted), as the paper's
                fine-tuning recipe does: beta = 1 then weighs the KL about T + 2 times more
    -> ElboTerms(loss (), rec (B,) nats, kl (B,) nats, kl_per_dim (Z,) nats); rec and kl are the plain ones, without
       threshold or weights, whatever the loss uses
    """
    rec = sentence_nll(logits, target_ids)
    kl = kl_divergence(mu, logvar)
    counted = torch.where(kl > free_bits, kl, 0.0).sum(1) if free_bits > 0 else kl.sum(1)
    lengths = (target_ids != -100).sum(1) + 1  # predicted tokens: T and <eos>; with <bos>, T + 2
    weighted = rec / lengths if length_weighted else rec
    return ElboTerms((weighted + beta * counted).mean(), rec, kl.sum(1), kl.mean(0))
