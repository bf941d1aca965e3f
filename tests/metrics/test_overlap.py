"""Overlap of sentences: answers worked by hand, a second writing in exact fractions, and properties."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from dgmlab.metrics.overlap import bleu, cider, distinct_ngrams, self_bleu

WORDS = "walk to the bed stop at door turn left right".split()


def drawn(n, seed, low=0, high=12):
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randint(low, high))) for _ in range(n)]


def test_bleu_of_papineni_by_hand():
    # the examples of the paper: clipped unigram precision 2 / 7, and a bigram that never matches
    the = ["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]]
    assert bleu(*the, n=1) == pytest.approx(2 / 7) and bleu(*the) == 0
    # 5 of 6 words and 3 of 5 pairs match; 6 words against 7: exp(1 - 7 / 6)
    pair = ["walk to the bed and stop"], [["walk to the big bed and wait"]]
    assert bleu(*pair, n=2) == pytest.approx(math.exp(1 - 7 / 6) * math.sqrt(5 / 6 * 3 / 5))
    assert bleu(*pair, n=2, smooth=True) == pytest.approx(math.exp(1 - 7 / 6) * math.sqrt(5 / 6 * 4 / 6))


def test_bleu_counts_over_the_corpus_and_takes_the_nearest_length():
    # matches 2 + 1 of 2 + 2 words; lengths 4 against 2 (nearest of 2 and 4) + 1 (shorter of 1 and 3)
    score = bleu(["a b", "a c"], [["a b", "a b c d"], ["a", "x y z"]], n=1)
    assert score == pytest.approx(3 / 4)
    assert bleu(["a b c"], [["a b c"]], n=3) == 1 and bleu([""], [["a"]], n=1) == 0


def reference_bleu(candidates, references, n):
    """The same from its definition: exact fractions, n-grams listed and crossed off one by one."""
    logs, c, r = 0.0, 0, 0
    for order in range(1, n + 1):
        right = total = 0
        for text, others in zip(candidates, references, strict=True):
            split = [t.split() for t in [text, *others]]
            grams = [[tuple(t[i:i + order]) for i in range(len(t) - order + 1)] for t in split]
            total += len(grams[0])
            right += sum(min(grams[0].count(g), max(other.count(g) for other in grams[1:])) for g in set(grams[0]))
        if not right:
            return 0.0
        logs += math.log(Fraction(right, total)) / n
    for text, others in zip(candidates, references, strict=True):
        c += len(text.split())
        lengths = sorted(len(o.split()) for o in others)
        r += min(lengths, key=lambda length: abs(length - len(text.split())))
    return math.exp(logs) * (1 if c >= r else math.exp(1 - r / c))


@pytest.mark.parametrize("seed", range(6))
def test_bleu_agrees_with_its_definition_on_random_sentences(seed):
    candidates = drawn(8, seed, low=2)
    references = [drawn(3, (seed + 1) * 100 + i, low=1) for i in range(8)]
    for n in (1, 2, 3, 4):
        assert bleu(candidates, references, n) == pytest.approx(reference_bleu(candidates, references, n), abs=1e-12)


def test_cider_of_perfect_sentences_is_ten_and_of_strangers_zero():
    references = [["walk to the bed and stop", "go to the big bed"], ["turn left at the red door", "left at the red door now"]]
    assert cider(["x y z w v", "q r s t u"], references) == 0
    alone = [[texts[0]] for texts in references]
    assert cider([texts[0] for texts in references], alone) == pytest.approx(10)
    assert cider(["walk to the bed and stop"], [["walk to the bed and stop"]]) == 0  # one document weighs nothing


def test_cider_by_hand():
    # two documents; 'the' is in both (weight 0), other words in one (weight log 2); only unigrams and bigrams can match here
    references = [["the bed"], ["the door"]]
    # 'the bed lamp' against 'the bed': words (0, L, L) and (0, L): cosine 1 / sqrt 2; pairs (L, L) and (L): 1 / sqrt 2
    first = (1 / math.sqrt(2) + 1 / math.sqrt(2)) * math.exp(-1 / 72) / 4
    # 'door door' against 'the door': counts (2) clipped to (1): 1 * 1 / (2 * 1) = 1 / 2; no pair in common
    second = 0.5 / 4
    assert cider(["the bed lamp", "door door"], references) == pytest.approx(10 * (first + second) / 2)


def test_cider_agrees_with_a_dense_writing_on_random_sentences():
    candidates = drawn(6, 1, low=1)
    references = [drawn(2, 50 + i, low=1) for i in range(6)]
    total = 0.0
    for n in range(1, 5):
        grams = sorted({tuple(t.split()[i:i + n]) for refs in [*references, candidates] for t in refs for i in range(20)
                        if len(t.split()[i:i + n]) == n})

        def counts(text, n=n, grams=grams):
            tokens = text.split()
            return np.array([sum(tuple(tokens[i:i + n]) == g for i in range(len(tokens) - n + 1)) for g in grams], float)

        held = sum(np.sign(sum(counts(t) for t in refs)) for refs in references) if grams else 0
        weight = np.log(6 / np.maximum(held, 1))
        for text, refs in zip(candidates, references, strict=True):
            a = counts(text) * weight
            for ref in refs:
                b = counts(ref) * weight
                norm = np.linalg.norm(a) * np.linalg.norm(b)
                gap = len(text.split()) - len(ref.split())
                total += (np.minimum(a, b) @ b / norm if norm else 0) * math.exp(-gap**2 / 72) / (6 * 2 * 4)
    assert cider(candidates, references) == pytest.approx(10 * total, abs=1e-9)


def test_diversity_by_hand():
    assert distinct_ngrams(["a b a b", "a b"], 2) == 2 / 4 and distinct_ngrams(["a b a b", "a b"], 1) == 2 / 6
    assert math.isnan(distinct_ngrams(["a"], 2))
    assert self_bleu(["walk to the bed"] * 3) == pytest.approx(1)
    assert self_bleu(["a b c d", "e f g h", "i j k l"]) == 0
    some = drawn(40, 3)
    each = [bleu([text], [some[:i] + some[i + 1:]], smooth=True) for i, text in enumerate(some)]
    assert self_bleu(some) == pytest.approx(np.mean(each), abs=1e-12)


def test_lists_of_tokens_and_strings_are_alike():
    assert bleu([["a", "b"]], [[["a", "b", "c"]]], n=2) == bleu(["a b"], [["a b c"]], n=2) > 0


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="found 2 and 1"):
        bleu(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="candidate 1 should have a list of one or more references, found 'a b'"):
        cider(["a", "b"], [["a"], "a b"])
    with pytest.raises(ValueError, match="found 1"):
        self_bleu(["a"])
