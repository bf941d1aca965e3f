"""The grammar's promises: one derivation a sentence, exact probabilities, minimal pairs that change one thing."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgmlab.data import grammar

CHOICES = {name: list(values) for name, values in grammar.FACTORS.items()}
CHOICES.update({slot: list(range(n)) for slot, n in grammar.SLOTS.items()})
derivations = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()})


def test_every_derivation_gives_its_own_sentence():
    sentences = grammar.sentences()
    assert len(sentences) == math.prod(len(values) for values in CHOICES.values()) == 31104
    assert len(set(sentences)) == 31104


def test_vocabulary_and_lengths_are_as_documented():
    assert len(grammar.vocabulary()) == 81
    assert {len(sentence.split()) for sentence in grammar.sentences()} == {9, 10, 11}


def test_probabilities_sum_to_one_and_give_the_stated_entropy():
    log_probs = np.array([grammar.log_prob(sentence) for sentence in grammar.sentences()])
    lengths = np.array([len(sentence.split()) for sentence in grammar.sentences()])
    assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-10)
    assert -(np.exp(log_probs) * log_probs).sum() == pytest.approx(grammar.entropy(), abs=1e-10)
    assert (np.exp(log_probs) * lengths).sum() == pytest.approx(grammar.mean_length(), abs=1e-10)
    assert 8 < grammar.entropy() < 11


def test_log_prob_of_one_sentence_worked_out_by_hand():
    # factors 1/2 * 1/3 * 1/4 * 1/2 * 1/2 = 1/96; cat .5, chased .4, bird .3, clever 1/3, calmly .25
    expected = math.log(1 / 96 * 0.5 * 0.4 * 0.3 / 3 * 0.25)
    assert grammar.log_prob("this clever cat chased the bird calmly yesterday .") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "sentence",
    [
        "these clever cat chased the bird calmly yesterday .",
        "this clever cat chased the bird sadly yesterday .",
        "this clever cat chased the soup calmly yesterday .",
        "",
    ],
)
def test_other_sentences_are_outside_the_grammar(sentence):
    assert grammar.parse(sentence) is None and grammar.factors(sentence) is None
    assert grammar.log_prob(sentence) == -math.inf
    assert grammar.labels([sentence], "tense").tolist() == [-1]


def test_agreement_in_sentences_written_by_hand():
    plural = {"number": "plural", "tense": "future", "topic": "food", "sentiment": "positive", "mood": "question"}
    assert grammar.render(plural) == "so these kind chefs will cook the soup happily tomorrow ?"
    base = dict(plural, number="singular", topic="sport", sentiment="negative")
    slots = {"subject": 1, "verb": 1, "object": 3, "adjective": 2, "adverb": 1}
    assert grammar.render(base, slots) == "so this lazy captain will lose the cup nervously tomorrow ?"
    assert grammar.render(dict(base, tense="past"), slots) == "so this lazy captain lost the cup nervously yesterday ?"
    conditional = "so this lazy captain would lose the cup nervously someday ?"
    assert grammar.render(dict(base, tense="conditional"), slots) == conditional
    statement = dict(base, mood="statement")
    assert grammar.render(dict(statement, tense="past"), slots) == "this lazy captain lost the cup nervously yesterday ."
    conditional = "this lazy captain would lose the cup nervously someday ."
    assert grammar.render(dict(statement, tense="conditional"), slots) == conditional
    plural = dict(statement, tense="past", number="plural")
    assert grammar.render(plural, slots) == "these lazy captains lost the cup nervously yesterday ."


@given(derivations)
@settings(deadline=None)
def test_parse_undoes_render(derivation):
    assert grammar.parse(grammar.render(derivation)) == derivation


@given(derivations, st.sampled_from(list(CHOICES)), st.data())
@settings(deadline=None)
def test_change_touches_one_choice_only(derivation, name, data):
    value = data.draw(st.sampled_from(CHOICES[name]))
    changed = grammar.change(grammar.render(derivation), name, value)
    assert grammar.parse(changed) == {**derivation, name: value}


def test_change_keeps_word_indices_across_topics():
    changed = grammar.change("this clever dog chased the duck proudly yesterday .", "topic", "city")
    assert changed == "this clever driver visited the market proudly yesterday ."


def test_sample_is_a_function_of_its_seed_and_follows_the_probabilities():
    drawn = grammar.sample(20000, seed=3)
    assert drawn == grammar.sample(20000, seed=3) != grammar.sample(20000, seed=4)
    topics = Counter(grammar.parse(sentence)["topic"] for sentence in drawn)
    objects = Counter(grammar.parse(sentence)["object"] for sentence in drawn)
    assert all(abs(count / 20000 - 0.25) < 0.015 for count in topics.values())
    assert all(abs(objects[i] / 20000 - p) < 0.015 for i, p in enumerate(grammar.CHOICE_PROBS["object"]))
    nats = -np.mean([grammar.log_prob(sentence) for sentence in drawn])
    assert nats == pytest.approx(grammar.entropy(), abs=0.03)


def test_heldout_sentences_are_disjoint_and_typical():
    train, heldout = grammar.split(20000, 3000, seed=0)
    assert (len(train), len(heldout)) == (20000, 3000)
    assert not set(train) & set(heldout)
    assert {grammar.part(sentence) for sentence in train} == {"train"}
    assert {grammar.part(sentence) for sentence in heldout} == {"valid", "test"}
    assert grammar.perplexity(heldout) == pytest.approx(grammar.perplexity(), rel=0.01)


def test_parts_hold_the_documented_share_of_probability():
    mass = Counter()
    for sentence in grammar.sentences():
        mass[grammar.part(sentence)] += math.exp(grammar.log_prob(sentence))
    assert mass["train"] == pytest.approx(0.9, abs=0.005)
    assert mass["valid"] == pytest.approx(0.05, abs=0.003) and mass["test"] == pytest.approx(0.05, abs=0.003)


def test_perplexity_counts_words_and_one_end_of_sentence():
    sentence = "this kind cat watched the mouse happily yesterday ."
    assert grammar.perplexity([sentence]) == pytest.approx(math.exp(-grammar.log_prob(sentence) / 10))
    assert grammar.perplexity() == pytest.approx(math.exp(grammar.entropy() / (61 / 6 + 1)))


def test_analogy_tries_have_one_right_answer():
    tries = grammar.analogy_tries(50, seed=1)
    assert len(tries) == 50 and tries == grammar.analogy_tries(50, seed=1)
    assert Counter(t.factor for t in tries) == dict.fromkeys(grammar.FACTORS, 10)
    for a, b, c, d, factor in tries:
        a, b, c, d = map(grammar.parse, (a, b, c, d))
        assert {k for k in a if a[k] != b[k]} == {k for k in c if c[k] != d[k]} == {factor}
        assert a[factor] == c[factor] and b[factor] == d[factor]
        assert any(a[k] != c[k] for k in grammar.FACTORS) and any(a[k] != c[k] for k in grammar.SLOTS)
    assert all(grammar.part(t.a) != "train" and grammar.part(t.c) != "train" for t in tries)


def test_labels_index_the_values_of_a_factor():
    sentences = ["this kind cat chased the mouse happily yesterday .",
                 "so these cruel cats will chase the mouse sadly tomorrow ?"]
    assert grammar.labels(sentences, "tense").tolist() == [0, 1]
    assert grammar.labels(sentences, "number").tolist() == [0, 1]
    assert grammar.labels(sentences, "tense").dtype == np.int64


def test_mistakes_name_the_valid_choices():
    with pytest.raises(KeyError, match="no factor or slot 'colour'.*number, tense, topic"):
        grammar.labels([], "colour")
    with pytest.raises(ValueError, match="tense cannot be 'soon'; choose one of: past, future, conditional"):
        grammar.change("this kind cat chased the mouse happily yesterday .", "tense", "soon")
    with pytest.raises(ValueError, match="the grammar does not make 'hello'"):
        grammar.change("hello", "tense", "past")
    with pytest.raises(KeyError, match="missing: tense, topic, sentiment, mood"):
        grammar.render({"number": "plural"})
    with pytest.raises(ValueError, match="parts of the grammar are train, valid, test; found dev"):
        grammar.sample(3, parts=("dev",))
