"""Scores of several responses: BLEU as nltk has it (values recorded from nltk 3.10.4), similarities and shares by hand."""

import math

import numpy as np
import pytest

from dgmlab.metrics import dialog
from dgmlab.metrics.dialog import (
    answer_scores,
    bow_similarity,
    distinct,
    learn_vectors,
    read_vectors,
    response_bleu,
    sentence_bleu,
    style_judge,
    words,
)

# nltk.translate.bleu_score.sentence_bleu([reference], candidate, weights=[1/3] * 3, SmoothingFunction().method7)
RECORDED = [
    ("i would love some tea .", "i would love some coffee .", 0.6879861535605687),
    ("yes .", "no , thank you .", 0.058696447734952376),
    ("a", "a", 0.33333333333333337),
    ("the cat sat on the mat", "the cat sat on the mat", 1.1538875781891342),
    ("the the the", "the cat", 0.23102745084946305),
    ("where is it ?", "it is over there , sir .", 0.12075959127931493),
    ("i do not know", "i know", 0.2556480567444495),
    ("x y z", "a b c", 0.0),
    ("yes of course i can", "of course", 0.30607681150428473),
]


@pytest.mark.parametrize(("candidate", "reference", "score"), RECORDED)
def test_sentence_bleu_is_nltks_method_7(candidate, reference, score):
    assert sentence_bleu(candidate.split(), reference.split()) == pytest.approx(score, abs=1e-12)


def test_sentence_bleu_by_hand():
    # 'i do not know' / 'i know': 2 of 4 words; no pair of 3, no triple of 2: ln 4 / 10 / 3 and ln 4 / 20 / 2; no 5-gram
    p = [2 / 4, math.log(4) / 10 / 3, math.log(4) / 20 / 2]
    first = (1.5 + p[0] + p[1]) / 3
    second = (first + p[1] + p[2]) / 3
    third = (second + p[2] + 0) / 3
    assert sentence_bleu("i do not know".split(), ["i", "know"]) == pytest.approx((first * second * third) ** (1 / 3))
    # a candidate half as long as the reference pays exp(1 - 2)
    assert sentence_bleu(["a"], ["a", "b"]) == pytest.approx(math.exp(-1) / 3)


def test_recall_is_the_best_precision_the_mean_and_f1_of_the_averages():
    scores = {"a": 0.8, "b": 0.2, "c": 0.5, "d": 0.1}
    replaced = dialog.sentence_bleu
    dialog.sentence_bleu = lambda candidate, reference: scores[candidate[0]] / (2 if reference == ["half"] else 1)
    try:
        found = response_bleu([["a", "b"], ["c", "d"]], [["whole"], ["whole", "half"]])
    finally:
        dialog.sentence_bleu = replaced
    recall, precision = (0.8 + 0.75 * 0.5) / 2, (0.5 + 0.75 * 0.3) / 2
    assert found.recall == pytest.approx(recall) and found.precision == pytest.approx(precision)
    assert found.f1 == pytest.approx(2 * recall * precision / (recall + precision))
    assert found.f1_low <= found.f1 <= found.f1_high


def test_the_interval_covers_and_narrows_with_more_contexts():
    rng = np.random.default_rng(0)
    some = [[" ".join(rng.choice(list("abcdef"), 6)) for _ in range(3)] for _ in range(200)]
    references = [[" ".join(rng.choice(list("abcdef"), 6))] for _ in range(200)]
    few, many = response_bleu(some[:10], references[:10]), response_bleu(some, references)
    assert few.f1_high - few.f1_low > 2 * (many.f1_high - many.f1_low) > 0


def test_bag_similarities_by_hand():
    vectors = {"x": [1.0, 0], "y": [0, 1.0], "n": [-2.0, 0]}
    # means (.5, .5) and (1, 0); extremes (1, 1) and (1, 0); x matches x (1), y matches nothing (0), back: 1
    found = bow_similarity([["x y"]], [["x"]], vectors)
    assert found == pytest.approx((math.sqrt(0.5), math.sqrt(0.5), (0.5 + 1) / 2))
    # the extreme value is that with the largest size, and keeps its sign
    assert bow_similarity([["x n"]], [["x"]], vectors).extrema == pytest.approx(-1)
    # the best of the responses counts, for each kind on its own; unknown words alone give 0
    assert bow_similarity([["n", "x y", "unknown"]], [["x"]], vectors) == pytest.approx(found)
    assert bow_similarity([["unknown"]], [["x"]], vectors) == (0, 0, 0)


def test_distinct_within_a_response_and_between_them():
    found = distinct([["a a b", "a b"], ["c c c c"]])
    # 1-grams: (2/3 + 1 + 1/4) / 3 within; {a, b} of 5 and {c} of 4 between; 2-grams: aa ab | ab | cc cc cc
    assert found.intra_1 == pytest.approx((2 / 3 + 1 + 1 / 4) / 3) and found.inter_1 == pytest.approx((2 / 5 + 1 / 4) / 2)
    assert found.intra_2 == pytest.approx((1 + 1 + 1 / 3) / 3) and found.inter_2 == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert distinct([["one", "two words"]]).intra_2 == 1  # 'one' has no 2-gram


def test_known_answers_give_precision_and_coverage():
    found = answer_scores([["a", "a", "x"], ["b", "c", "y"]], [["a", "b"], ["b", "c", "d", "e"]])
    assert found == pytest.approx(((2 / 3 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2))


def test_misaligned_input_is_named():
    with pytest.raises(ValueError, match="found 2 contexts with responses and 1 with references. Make them align"):
        response_bleu([["a"], ["b"]], [["a"]])
    with pytest.raises(ValueError, match="context 0 should have a list of one or more references, found 'a'"):
        response_bleu([["a"]], ["a"])
    with pytest.raises(ValueError, match=r"context 1 should have a list of one or more responses, found \[\]"):
        answer_scores([["a"], []], [["a"], ["b"]])


def test_words_are_lower_case_and_punctuation_stands_alone():
    assert words("I'm fine.Thanks !") == ["i", "'", "m", "fine", ".", "thanks", "!"]


def test_learnt_vectors_bring_together_words_used_alike():
    rng = np.random.default_rng(1)
    texts = [f"{rng.choice(['i', 'we'])} drink {rng.choice(['tea', 'milk'])} at home" for _ in range(100)]
    texts += [f"{rng.choice(['they', 'you'])} play {rng.choice(['chess', 'golf'])} in town" for _ in range(100)]
    vectors = learn_vectors(texts, size=6)

    def like(a, b):
        return vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])

    assert like("tea", "milk") > 0.9 > 0.5 > like("tea", "chess") and len(vectors["tea"]) == 6
    again = learn_vectors(texts, size=6)
    assert all((again[word] == vectors[word]).all() for word in vectors), "to the bit: extrema hang on the signs"
    with pytest.raises(ValueError, match="at least 3 words used 3 times or more, found 2"):
        learn_vectors(["a b", "a b", "a b"])


def test_vectors_are_read_from_a_file(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("tea 0.5 -1\nmilk 1 2\n")
    np.testing.assert_array_equal(read_vectors(path)["tea"], [0.5, -1])
    path.write_text("tea 0.5 -1\nmilk 1\n")
    with pytest.raises(ValueError, match="line 2: expected a word and 2 numbers, found 1"):
        read_vectors(path)


def test_the_judge_of_style_learns_from_both_kinds():
    judge = style_judge(["i like tea .", "we like milk ."], ["arr , tea !", "arr , milk , matey !"])
    plain, styled = judge(["we like tea .", "arr , milk !"])
    assert plain < 0.5 < styled
    with pytest.raises(ValueError, match="2 sentences or more of each kind, found 1 plain and 2 styled"):
        style_judge(["a"], ["b", "c"])
