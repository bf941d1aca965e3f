"""How good and how different several responses to one context are, after the evaluation of DialogWAE (Gu et al. 2019).

That is the protocol of Optimus's dialog table as well: 10 responses a context; BLEU of up to 3-grams with the seventh
smoothing of Chen and Cherry (2014) as nltk has it; similarity of word vectors; distinct n-grams within a response and over
those of a context. Here sentences are lower-cased and cut into words and punctuation by `words`, on both sides.

Letters: N contexts, S responses each, D width of word vectors.
"""

import math
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from dgmlab.metrics.interval import percentile_interval
from dgmlab.metrics.overlap import distinct_ngrams, ngrams
from dgmlab.metrics.style import StyleJudge

ORDER = 3
SMOOTHING_K = 5.0  # of Chen and Cherry's fourth method


class ResponseBleu(NamedTuple):
    """recall: best response, precision: mean response, both averaged over contexts; f1: their harmonic mean, and its 95 %
    bootstrap interval over contexts. By this smoothing, equal sentences of many words score 1.15, not 1."""

    recall: float
    precision: float
    f1: float
    f1_low: float
    f1_high: float


class BowSimilarity(NamedTuple):
    """Cosine similarity to the reference of the best response, in [-1, 1], averaged over contexts."""

    average: float
    extrema: float
    greedy: float


class Distinct(NamedTuple):
    """Share of n-grams that are different: within a response (intra), among all responses to a context (inter)."""

    intra_1: float
    intra_2: float
    inter_1: float
    inter_2: float


class AnswerScores(NamedTuple):
    """precision: share of responses that are right answers; coverage: different right answers found, as a share of those
    that S responses could have found."""

    precision: float
    coverage: float


def words(sentence):
    """Lower-case words and single punctuation marks: 'I'm fine.' -> i ' m fine ."""
    return re.findall(r"\w+|[^\w\s]", sentence.lower())


def sentence_bleu(candidate, reference):
    """BLEU of one sentence against one reference, 1- to 3-grams equally weighted, as nltk's `SmoothingFunction().method7`.

    A precision without a match becomes ln(length) / (5 * 2^i) / n-grams, i counting such orders from 1 (method 4); then each
    is averaged with its smoothed neighbour below and its neighbour above (method 5), for which the original takes 5-grams
    above the 3-grams. No common word gives 0; the score of equal sentences of 5 words or more is 1.15.

    candidate, reference  lists of tokens -> float
    """
    matches, totals = zip(*(_overlap(candidate, reference, n) for n in (1, 2, 3, 5)), strict=True)
    if not matches[0]:
        return 0.0
    precisions, missing = [], 0
    for match, total in zip(matches[:ORDER], totals[:ORDER], strict=True):
        if match == 0 and len(candidate) > 1:
            missing += 1
            match = math.log(len(candidate)) / (SMOOTHING_K * 2**missing)
        precisions.append(match / total)
    above = [*precisions[1:], matches[ORDER] / totals[ORDER]]
    below = precisions[0] + 1
    log_sum = 0.0
    for own, higher in zip(precisions, above, strict=True):
        below = (below + own + higher) / 3
        log_sum += math.log(below) / ORDER
    return math.exp(log_sum + min(0.0, 1 - len(reference) / len(candidate)))


def _overlap(candidate, reference, n):
    """(n-grams of the candidate that the reference has too, n-grams of the candidate but at least 1)."""
    mine, theirs = ngrams(candidate, n), ngrams(reference, n)
    return (mine & theirs).total(), max(1, mine.total())


def response_bleu(responses, references, seed=0):
    """Recall, precision and F1 of S responses to each of N contexts.

    responses   N lists of S strings
    references  N lists of one or more strings; with several, the scores are averaged over them
    -> ResponseBleu
    """
    _check(responses, references)
    best, mean = np.empty(len(responses)), np.empty(len(responses))
    for i, (some, others) in enumerate(zip(responses, references, strict=True)):
        some, others = [words(text) for text in some], [words(text) for text in others]
        scores = np.array([[sentence_bleu(mine, other) for mine in some] for other in others])  # (references, S)
        best[i], mean[i] = scores.max(1).mean(), scores.mean()
    low, high = percentile_interval(lambda rows: _f1(best[rows].mean(), mean[rows].mean()), len(best), seed=seed)
    return ResponseBleu(float(best.mean()), float(mean.mean()), _f1(best.mean(), mean.mean()), float(low), float(high))


def _f1(recall, precision):
    return float(2 * recall * precision / (recall + precision)) if recall + precision else 0.0


def bow_similarity(responses, references, vectors):
    """Similarity of bags of word vectors: of their means, of their extreme values, and of each word to its best match.

    responses, references  as for `response_bleu`
    vectors                dict word -> (D,), e.g. of `read_vectors` or `learn_vectors`; words without one are left out, and a
                           sentence of such words alone has similarity 0
    -> BowSimilarity
    """
    _check(responses, references)
    scores = []
    for some, others in zip(responses, references, strict=True):
        bags = [_bag(text, vectors) for text in some]
        scores.append(np.mean([np.max([_similarities(bag, _bag(other, vectors)) for bag in bags], axis=0)
                               for other in others], axis=0))
    return BowSimilarity(*(float(value) for value in np.mean(scores, axis=0)))


def _bag(text, vectors):
    """Vectors of the known words of a sentence (T, D), or None."""
    found = [vectors[word] for word in words(text) if word in vectors]
    return np.asarray(found, dtype=np.float64) if found else None


def _similarities(a, b):
    """(average, extrema, greedy) of two bags (T, D)."""
    if a is None or b is None:
        return np.zeros(3)
    extreme = [np.take_along_axis(bag, np.abs(bag).argmax(0)[None], 0) for bag in (a, b)]
    pairs = _cosine(a, b)
    return np.array([_cosine(a.mean(0, keepdims=True), b.mean(0, keepdims=True)).item(), _cosine(*extreme).item(),
                     (pairs.max(0).mean() + pairs.max(1).mean()) / 2])


def _cosine(a, b):
    """Cosines of rows: (M, D), (N, D) -> (M, N); 0 where a row has no length."""
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    return np.divide(a @ b.T, norms, out=np.zeros_like(norms), where=norms > 1e-12)


def distinct(responses):
    """Different 1- and 2-grams of N lists of S responses; a response too short for an n-gram is left out. -> Distinct"""
    texts = [[words(text) for text in some] for some in responses]
    intra = [np.nanmean([distinct_ngrams([text], n) for some in texts for text in some] or [np.nan]) for n in (1, 2)]
    inter = [np.nanmean([distinct_ngrams(some, n) for some in texts]) for n in (1, 2)]
    return Distinct(*(float(value) for value in (*intra, *inter)))


def answer_scores(responses, answers):
    """How many of N lists of S responses are right, where all right answers of each context are known. -> AnswerScores"""
    _check(responses, answers)
    right = [[text for text in some if text in set(known)] for some, known in zip(responses, answers, strict=True)]
    precision = np.mean([len(found) / len(some) for found, some in zip(right, responses, strict=True)])
    coverage = np.mean([len(set(found)) / min(len(some), len(set(known)))
                        for found, some, known in zip(right, responses, answers, strict=True)])
    return AnswerScores(float(precision), float(coverage))


def style_judge(plain, styled):
    """An independent classifier of style: a `StyleJudge` on 1- and 2-grams of `words`.

    plain, styled  sentences of each kind, two or more
    -> function: list of N sentences -> (N,) probability of being styled, kinds equally likely beforehand
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    if min(len(plain), len(styled)) < 2:
        raise ValueError(f"a judge of style needs 2 sentences or more of each kind, found {len(plain)} plain and "
                         f"{len(styled)} styled.")
    judge = StyleJudge([*plain, *styled], [0] * len(plain) + [1] * len(styled),
                       vectorizer=TfidfVectorizer(tokenizer=words, token_pattern=None, ngram_range=(1, 2)))
    return lambda sentences: judge(sentences)[:, 1]


def _check(responses, references):
    if not len(responses) or len(responses) != len(references):
        raise ValueError(f"expected a list of references for each context, found {len(responses)} contexts with responses and "
                         f"{len(references)} with references. Make them align.")
    for what, lists in (("responses", responses), ("references", references)):
        for i, some in enumerate(lists):
            if isinstance(some, str) or not len(some):
                raise ValueError(f"context {i} should have a list of one or more {what}, found {some!r}.")


# word vectors


def learn_vectors(sentences, size=100, window=5, min_count=3):
    """Word vectors of a corpus: singular vectors of positive pointwise mutual information (Levy and Goldberg 2014).

    sentences  strings; words within `window` of each other are a pair, those used less than `min_count` times are left out
    size       D; fewer where the vocabulary is smaller
    -> dict word -> (D,) float64, singular vectors times the root of the singular values
    """
    from scipy.sparse import coo_matrix
    from sklearn.utils.extmath import randomized_svd

    texts = [words(sentence) for sentence in sentences]
    counts = Counter(word for text in texts for word in text)
    number = {word: i for i, word in enumerate(sorted(word for word, count in counts.items() if count >= min_count))}
    if len(number) < 3:
        raise ValueError(f"word vectors need at least 3 words used {min_count} times or more, found {len(number)}. Give more "
                         "text, or lower min_count.")
    pairs = Counter()
    for text in texts:
        ids = [number[word] for word in text if word in number]
        pairs.update((a, b) for i, a in enumerate(ids) for b in ids[i + 1:i + 1 + window])
    rows, columns = np.array(list(pairs)).T
    together = coo_matrix((np.array(list(pairs.values()), dtype=np.float64), (rows, columns)), shape=(len(number),) * 2)
    together = (together + together.T).tocoo()
    share = np.asarray(together.sum(1)).ravel() / together.sum()
    mutual = np.log(together.data / together.data.sum() / (share[together.row] * share[together.col]))
    positive = coo_matrix((np.maximum(mutual, 0), (together.row, together.col)), shape=together.shape).tocsr()
    left, values, _ = randomized_svd(positive, min(size, len(number)), random_state=0)  # signs fixed: extrema depend on them
    return dict(zip(number, left * np.sqrt(values), strict=True))


def read_vectors(path):
    """Word vectors of a text file as GloVe has them, `word number number ...` -> dict word -> (D,) float32"""
    vectors, size = {}, None
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            word, *numbers = line.rstrip().split(" ")
            size = size or len(numbers)
            if len(numbers) != size or not size:
                raise ValueError(f"{path}, line {number}: expected a word and {size or 'some'} numbers, found {len(numbers)}.")
            vectors[word] = np.array(numbers, dtype=np.float32)
    return vectors
