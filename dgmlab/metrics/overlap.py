"""How much sentences have in common: with references (BLEU, CIDEr-D), and with each other (self-BLEU, distinct n-grams).

Sentences are lists of tokens, or strings, which are split at spaces: cut them the same way on both sides before.
"""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

MAX_ORDER = 4
SIGMA = 6.0  # tokens; width of the penalty of CIDEr-D for another length


def bleu(candidates, references, n=MAX_ORDER, smooth=False):
    """BLEU of a corpus (Papineni et al. 2002): precisions of 1- to n-grams, clipped by the references, and a brevity penalty.

    candidates  N sentences
    references  for each a list of one or more sentences; the length that counts is the nearest to the candidate's, the shorter
                of two equally near
    smooth      add 1 to matches and to candidates' n-grams of the orders above 1 (Lin and Och 2004), for few or short
                sentences; without, a corpus with no matching n-gram has 0
    -> float in [0, 1]; published tables give 100 times as much
    """
    return score_counts(bleu_counts(candidates, references, n), smooth)


class BleuCounts(NamedTuple):
    """Of N candidates: matches, totals (N, n) n-grams found and there are, by order; length, wanted (N,) tokens."""

    matches: np.ndarray
    totals: np.ndarray
    length: np.ndarray
    wanted: np.ndarray


def bleu_counts(candidates, references, n=MAX_ORDER):
    """What BLEU counts in each candidate; sums over rows are what `score_counts` takes, so resampling is cheap."""
    pairs = _pairs(candidates, references)
    counts = BleuCounts(np.zeros((len(pairs), n)), np.zeros((len(pairs), n)), np.zeros(len(pairs)), np.zeros(len(pairs)))
    for i, (candidate, others) in enumerate(pairs):
        counts.length[i] = len(candidate)
        counts.wanted[i] = min((abs(len(other) - len(candidate)), len(other)) for other in others)[1]
        for order in range(n):
            found, allowed = ngrams(candidate, order + 1), Counter()
            for other in others:
                allowed |= ngrams(other, order + 1)
            counts.matches[i, order] = (found & allowed).total()
            counts.totals[i, order] = found.total()
    return counts


def score_counts(counts, smooth=False, rows=slice(None)):
    """BLEU of the corpus made of the candidates `rows` of `bleu_counts` (an index may occur twice) -> float in [0, 1]"""
    return _score(*(column[rows].sum(0) for column in counts), smooth)


def _score(matches, totals, length, wanted, smooth):
    """BLEU of counts by order (n,) and of the lengths of candidates and references."""
    if smooth:
        above = np.arange(len(matches)) > 0
        matches, totals = matches + above, totals + above
    if not matches.all():
        return 0.0
    return float(np.exp(np.log(matches / totals).mean() + min(0.0, 1 - wanted / length)))


def cider(candidates, references, corpus=None):
    """CIDEr-D (Vedantam et al. 2015, sections 3 and 5), averaged over the candidates.

    Of each candidate and reference the counts of n-grams, n = 1..4, weighted by log(documents / documents that hold it), are
    compared by a cosine in which the candidate's are clipped to the reference's, times exp(-(difference of lengths)^2 / 72);
    mean over references and orders, times 10.

    candidates  N sentences; references: for each a list of one or more
    corpus      the documents, each a list of sentences, from which the weights come; by default `references`. With a single
                document every weight is 0, and so is the score
    -> float in [0, 10]
    """
    pairs = _pairs(candidates, references)
    documents = [[_tokens(text) for text in texts] for texts in corpus] if corpus is not None else [refs for _, refs in pairs]
    scores = np.zeros((len(pairs), MAX_ORDER))
    for order in range(MAX_ORDER):
        holders = Counter(gram for texts in documents for gram in set().union(*(ngrams(text, order + 1) for text in texts)))
        for i, (candidate, others) in enumerate(pairs):
            mine = _weighted(candidate, order + 1, holders, len(documents))
            scores[i, order] = np.mean([_clipped_cosine(mine, _weighted(other, order + 1, holders, len(documents)))
                                        * math.exp(-(len(candidate) - len(other)) ** 2 / (2 * SIGMA**2)) for other in others])
    return float(10 * scores.mean())


def self_bleu(sentences, n=MAX_ORDER):
    """Mean BLEU of each sentence with all the others as its references: 1 where all are alike (Zhu et al. 2018), smoothed.

    sentences  2 or more; the time grows with their words, not with the square of their number
    -> float in [0, 1]
    """
    if len(sentences) < 2:
        raise ValueError(f"self-BLEU compares two sentences or more, found {len(sentences)}.")
    texts = [_tokens(sentence) for sentence in sentences]
    lengths = np.array([len(text) for text in texts])
    matches, totals = np.zeros((len(texts), n)), np.zeros((len(texts), n))
    for order in range(n):
        most, second = Counter(), Counter()  # the most uses of an n-gram in one sentence, and in another one besides
        grams = [ngrams(text, order + 1) for text in texts]
        for found in grams:
            second |= found & most
            most |= found
        for i, found in enumerate(grams):  # who has the most is compared with the others' most, which is the second
            allowed = ((uses, second[gram] if uses == most[gram] else most[gram]) for gram, uses in found.items())
            matches[i, order] = sum(map(min, allowed))
            totals[i, order] = found.total()
    scores = []
    for i, length in enumerate(lengths):
        others = np.delete(lengths, i)
        nearest = others[np.lexsort((others, np.abs(others - length)))[0]]
        scores.append(_score(matches[i], totals[i], length, nearest, smooth=True))
    return float(np.mean(scores))


def distinct_ngrams(sentences, n=2):
    """Different n-grams as a share of all n-grams of the sentences ('distinct-n', Li et al. 2016); nan without any."""
    counts = Counter()
    for sentence in sentences:
        counts.update(ngrams(_tokens(sentence), n))
    return len(counts) / counts.total() if counts else math.nan


def _tokens(sentence):
    return sentence.split() if isinstance(sentence, str) else list(sentence)


def _pairs(candidates, references):
    """(tokens, list of tokens of its references) of each candidate."""
    if not len(candidates) or len(candidates) != len(references):
        raise ValueError(f"expected one list of references for each candidate, found {len(candidates)} and {len(references)}.")
    for i, others in enumerate(references):
        if isinstance(others, str) or not len(others):
            raise ValueError(f"candidate {i} should have a list of one or more references, found {others!r}.")
    return [(_tokens(text), [_tokens(other) for other in others]) for text, others in zip(candidates, references, strict=True)]


def ngrams(tokens, n):
    """How often each n-gram is used: list of tokens -> Counter of tuples"""
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def _weighted(tokens, n, holders, n_documents):
    """n-gram -> count times inverse document frequency; an n-gram that no document holds counts as held by one."""
    return {gram: count * math.log(n_documents / max(1, holders[gram])) for gram, count in ngrams(tokens, n).items()}


def _clipped_cosine(mine, theirs):
    norm = math.sqrt(sum(x * x for x in mine.values()) * sum(x * x for x in theirs.values()))
    return sum(min(x, theirs[gram]) * theirs[gram] for gram, x in mine.items() if gram in theirs) / norm if norm else 0.0
