"""The transfer widget without a browser: lambdas stand in for the model and the judge."""

import numpy as np
import pytest

from dgmlab.widgets import StyleTransfer

LABELS = ("negative", "positive")
WORDS = {0: "bad", 1: "good"}


class Toy:
    """Writes the word of the label that is nearer on the way; counts its calls."""

    def __init__(self):
        self.calls = 0

    def rewrite(self, sentence, own, wanted, degree, method):
        self.calls += 1
        if "boom" in sentence:
            raise ValueError("a sentence has 90 tokens but the model holds 30.")
        word = WORDS[wanted if degree >= 0.5 else own]
        return " ".join(word if token in WORDS.values() else token for token in sentence.split())

    def classify(self, sentence):
        return np.array([0.9, 0.1]) if "bad" in sentence.split() else np.array([0.2, 0.8])


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def widget(toy):
    return StyleTransfer(toy.rewrite, toy.classify, LABELS, "it was bad .")


def test_the_sentence_is_rewritten_and_the_new_word_marked(widget):
    assert widget.answer == "it was good ."
    assert "good</mark>" in widget.result.value
    assert widget.status.text == "read as negative; degree 1.00; the judge finds positive in the output with 80%"


def test_the_degree_goes_from_the_own_label_to_the_wanted_one(widget):
    assert widget.show(degree=0) == "it was bad ."
    assert "finds positive in the output with 10%" in widget.status.text
    assert widget.show(degree=0.75) == "it was good ."


def test_another_label_and_sentence(widget):
    assert widget.show(sentence="a good one", wanted="negative") == "a bad one"
    assert widget.wanted.value == 0 and "read as positive" in widget.status.text


def test_what_was_asked_before_is_not_asked_again(widget, toy):
    widget.show(degree=0)
    before = toy.calls
    widget.show(degree=1)
    widget.show(degree=0)
    assert toy.calls == before and len(widget.tries) == 2


def test_errors_become_a_line_and_the_answer_stays(widget):
    widget.show(sentence="")
    assert widget.status.failed and "the box is empty" in widget.status.text and widget.answer == "it was good ."
    widget.show(sentence="boom")
    assert widget.status.text.startswith("ValueError: a sentence has 90 tokens")
    widget.show(sentence="it was bad .")
    assert not widget.status.failed


def test_markup_in_sentences_is_escaped(widget):
    widget.show(sentence="<b>bad</b> bad")
    assert "<b>" not in widget.result.value and "&lt;b&gt;" in widget.result.value


def test_the_static_twin_draws_all_that_was_tried(widget):
    widget.show(degree=0)
    figure = widget.static()
    assert [row["label"] for row in figure.numbers["rows"]] == ["positive", "positive"]
    assert [row["ok"] for row in figure.numbers["rows"]] == [True, False]
    widget.show(sentence="")
    with pytest.raises(ValueError, match="a sentence was expected"):
        widget.static()


def test_one_label_is_refused(toy):
    with pytest.raises(ValueError, match=r"two labels or more, found \['only'\]"):
        StyleTransfer(toy.rewrite, toy.classify, ["only"], "x")
