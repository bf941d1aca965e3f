"""What Prevalent learns from a triplet: its hidden words and its next action (Hao et al. 2020, section 3.2).

    attended masked language modelling    -log p(word | the other words, the panorama), over the hidden words
    action prediction                     -log p(action | words, panorama), from the pooled first token

The loss is their sum, each a mean: over the hidden words of the batch, and over its triplets.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

SHARE, MASKED, RANDOM = 0.15, 0.8, 0.1  # of the words; of those: hidden behind MASK, replaced by any word, else left (BERT)


class Hidden(NamedTuple):
    """ids (B, T) long as the model sees them; asked (B, T) bool, the words it is to predict."""

    ids: torch.Tensor
    asked: torch.Tensor


class PretrainSums(NamedTuple):
    """Sums over a batch: mlm_loss and action_loss in nats (with gradient), mlm_right and action_right as counts; each ()."""

    mlm_loss: torch.Tensor
    action_loss: torch.Tensor
    mlm_right: torch.Tensor
    action_right: torch.Tensor


def hide_words(ids, words, rng):
    """Hide 15 % of the words: 80 % of them become MASK, 10 % any word of the vocabulary, 10 % stay (Devlin et al. 2019).

    ids    (B, T) long. Special tokens are never asked for, the unknown word included: there is nothing to learn from it
    words  Words;  rng: np.random.Generator
    -> Hidden
    """
    table = ids.numpy()
    asked = (rng.random(table.shape) < SHARE) & ~np.isin(table, list(words.special))
    fate = rng.random(table.shape)
    hidden = np.where(asked & (fate < MASKED), words.mask, table)
    other = asked & (fate >= MASKED) & (fate < MASKED + RANDOM)
    hidden[other] = rng.integers(len(words), size=other.sum())
    return Hidden(torch.from_numpy(hidden), torch.from_numpy(asked))


def pretrain_sums(out, targets, action):
    """The losses of a batch.

    out      PretrainOut: mlm_logits (M, V) of the asked words, action_logits (B, A)
    targets  (M,) long, the words themselves, in the same order
    action   (B,) long
    -> PretrainSums
    """
    words, actions = out.mlm_logits.float(), out.action_logits.float()
    return PretrainSums(functional.cross_entropy(words, targets, reduction="sum"),
                        functional.cross_entropy(actions, action, reduction="sum"),
                        (words.argmax(-1) == targets).sum(), (actions.argmax(-1) == action).sum())
