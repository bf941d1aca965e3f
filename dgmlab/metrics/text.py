"""Perplexities, each named by its denominator, and intervals for them.

One NLL gives many perplexities: dividing the nats of a sentence of T tokens by T + 1 predicted tokens or by T + 2 (the
original Optimus counted `<bos>` too) differs by 15 % for short sentences. So every variant is reported and labelled.
"""

import math
from typing import NamedTuple

import numpy as np

from dgmlab.metrics.interval import percentile_interval


class Perplexity(NamedTuple):
    """nll in nats per sentence; the rest exp(total nats / total of the denominator), bits_per_byte in bits."""

    nll: float  # nats per sentence
    ppl_token: float  # per predicted token: T tokens and the end
    ppl_word: float  # per whitespace word and the end; comparable across tokenizers
    ppl_optimus: float  # per T + 2 tokens, as the original's evaluation counts
    bits_per_byte: float  # of the UTF-8 text and one byte for the end


def perplexity(nll, n_tokens, sentences):
    """Corpus perplexities under every denominator.

    nll        (N,) nats     -log p(sentence), the end of the sentence included
    n_tokens   (N,) ints     tokens of each sentence, without `<bos>` and `<eos>`
    sentences  N strings     for words and bytes
    """
    nll, n_tokens = np.asarray(nll, dtype=np.float64), np.asarray(n_tokens)
    if not len(nll) == len(n_tokens) == len(sentences) or len(nll) == 0:
        raise ValueError(f"perplexity needs as many nll as lengths and sentences and at least one, found {len(nll)}, "
                         f"{len(n_tokens)} and {len(sentences)}.")
    total = nll.sum()
    n = len(nll)
    words = sum(len(sentence.split()) for sentence in sentences)
    n_bytes = sum(len(sentence.encode()) for sentence in sentences)
    per = lambda count: math.exp(min(total / count, 700.0))  # noqa: E731  700: the largest exponent of a float
    return Perplexity(float(total / n), per(n_tokens.sum() + n), per(words + n), per(n_tokens.sum() + 2 * n),
                      float(total / math.log(2) / (n_bytes + n)))


def bootstrap_interval(values, weights=None, n_draws=1000, level=0.95, seed=0, transform=float):
    """Percentile interval of transform(sum(values) / sum(weights)) over resampled items.

    values, weights  (N,) e.g. nats and predicted tokens of each sentence, with transform=math.exp for a perplexity
    -> (low, high)
    """
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    low, high = percentile_interval(lambda rows: transform(values[rows].sum() / weights[rows].sum()), len(values),
                                    n_draws, level, seed)
    return float(low), float(high)
