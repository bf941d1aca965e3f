"""Scores of style transfer: against hand-worked answers, and against the two systems that learn nothing."""

import math

import numpy as np
import pytest

from dgmlab.data import grammar
from dgmlab.metrics.overlap import bleu
from dgmlab.metrics.style import Retriever, StyleJudge, TrigramModel, score_transfer


class Judge:
    """Finds label 1 where the word good is."""

    def predict(self, sentences):
        return np.array([int("good" in sentence.split()) for sentence in sentences])


SOURCES = ["the food was bad today .", "the staff is bad here .", "a bad place to be in .", "the soup was good today ."]
OUTPUTS = ["the food was good today .", "the staff is good here .", "a bad place to be in .", "the soup was bad today ."]
WANTED = [1, 1, 1, 0]


def test_scores_of_four_sentences_by_hand():
    numbers = score_transfer(SOURCES, OUTPUTS, WANTED, Judge())
    # three sentences of 6 words with the fourth changed, one of 7 as it was: n-grams found and written, n = 1 to 4
    by_hand = ((3 * 5 + 7) / 25 * (3 * 3 + 6) / 21 * (3 * 1 + 5) / 17 * (0 + 4) / 13) ** 0.25
    assert numbers["accuracy"] == 0.75 and numbers["copied"] == 0.25 and numbers["n_sentences"] == 4
    assert numbers["bleu_source"] == pytest.approx(by_hand)
    assert numbers["g_source"] == pytest.approx(math.sqrt(0.75 * by_hand))
    assert "bleu_reference" not in numbers
    assert numbers["accuracy_low"] <= 0.75 <= numbers["accuracy_high"] <= 1


def test_copying_keeps_all_content_and_no_style_and_the_references_count_too():
    references = [["the food was good today .", "the food was great today ."], ["nice staff here ."], ["a good place ."],
                  ["the soup was awful today ."]]
    numbers = score_transfer(SOURCES, SOURCES, WANTED, Judge(), references)
    assert (numbers["accuracy"], numbers["bleu_source"], numbers["g_source"], numbers["copied"]) == (0, 1, 0, 1)
    assert numbers["bleu_reference"] == pytest.approx(bleu(SOURCES, references)) and numbers["g_reference"] == 0


def test_intervals_hold_the_value_and_narrow_with_more_sentences():
    small = score_transfer(SOURCES * 5, OUTPUTS * 5, WANTED * 5, Judge())
    large = score_transfer(SOURCES * 50, OUTPUTS * 50, WANTED * 50, Judge())
    for name in ("accuracy", "bleu_source", "g_source"):
        assert small[f"{name}_low"] < small[name] < small[f"{name}_high"]
        assert large[f"{name}_high"] - large[f"{name}_low"] < 0.5 * (small[f"{name}_high"] - small[f"{name}_low"])


def test_the_judge_reads_the_grammars_sentiment():
    train, held_out = grammar.split(400, 200)
    judge = StyleJudge(train, grammar.labels(train, "sentiment"))
    assert judge.accuracy(held_out, grammar.labels(held_out, "sentiment")) == 1.0
    chances = judge(held_out[:5])
    assert chances.shape == (5, 2) and np.allclose(chances.sum(1), 1)


def test_a_judge_of_more_than_two_labels():
    train, held_out = grammar.split(600, 200)
    judge = StyleJudge(train, grammar.labels(train, "topic"))
    assert judge.labels.tolist() == [0, 1, 2, 3] and judge.accuracy(held_out, grammar.labels(held_out, "topic")) > 0.95


def test_the_retriever_answers_with_the_nearest_sentence_of_the_wanted_label():
    sentences = ["good soup today .", "good staff .", "bad soup today .", "bad staff .", "so so ."]
    find = Retriever(sentences, [1, 1, 0, 0, 2])
    assert find(["the soup is bad", "awful staff", "great soup", "so so"], [1, 1, 0, 2]) == [
        "good soup today .", "good staff .", "bad soup today .", "so so ."]
    with pytest.raises(ValueError, match="label 7 was wanted, but the training sentences have only 0, 1, 2"):
        find(["a"], [7])


def test_trigrams_by_hand():
    """"a b" twice, "a c" and "a c": after a, two different words in four; after (<s>, a) the same."""
    model = TrigramModel(["a b", "a b", "a c", "a c"])
    assert model.size == 5  # a, b, c, <unk>, the end
    single = {"b": (2 + 4 * (1 / 5)) / (12 + 4)}  # 12 steps, 4 kinds of words
    pair = (2 + 2 * single["b"]) / (4 + 2)
    assert model.probability("b", ("<s>", "a")) == pytest.approx((2 + 2 * pair) / (4 + 2))


def test_trigrams_are_a_distribution_and_prefer_real_sentences():
    train, held_out = grammar.split(600, 100)
    model = TrigramModel(train)
    vocabulary = [*model.known, "<unk>", "</s>"]
    for context in (("<s>", "<s>"), ("this", "kind"), ("never", "seen")):
        assert sum(model.probability(word, context) for word in vocabulary) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    shuffled = [" ".join(rng.permutation(sentence.split())) for sentence in held_out]
    assert model.perplexity(held_out) < 5 < 20 < model.perplexity(shuffled)
    with pytest.raises(ValueError, match="at least one word, found none"):
        TrigramModel(["", " "])


@pytest.mark.parametrize("make", (StyleJudge, Retriever))
def test_labels_that_are_missing_or_all_alike_are_named(make):
    with pytest.raises(ValueError, match="two labels or more, found 1"):
        make(["a b", "c d"], [1, 1])
    with pytest.raises(ValueError, match=r"found 2 sentences and labels \(3,\)"):
        make(["a b", "c d"], [1, 0, 1])


def test_outputs_that_do_not_align_are_named():
    with pytest.raises(ValueError, match="found 4 sources, 3 outputs and 4 labels"):
        score_transfer(SOURCES, OUTPUTS[:3], WANTED, Judge())
