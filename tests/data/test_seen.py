"""Sentences of one corpus in the training text of another."""

import os
from pathlib import Path

import numpy as np
import pytest

from dgmlab.data.seen import seen_in, words
from dgmlab.data.text import load_text

REAL = Path(os.environ.get("DGMLAB_DATA") or Path(__file__).parents[3] / "shared" / "data")


def test_exact_and_alike_over_several_corpora(tmp_path):
    for name, lines in (("a", ["Good food .", "the cat sat"]), ("b", ["never again"])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text("\n".join(lines))
        (tmp_path / name / "test.txt").write_text("only a test")
    sentences = ["the cat sat", "good food!", "Never  again", "only a test", "good"]
    found = seen_in(sentences, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert found.exact.tolist() == [True, False, False, False, False]
    assert found.alike.tolist() == [True, True, True, False, False]
    assert words("Don ’ t  stop!") == words("don't STOP") == "don t stop"


def test_the_grammar_has_no_sentence_twice():
    assert not seen_in(load_text("grammar", "test", 500), ["grammar"]).alike.any()


@pytest.mark.skipif(not (REAL / "dailydialog").is_dir(), reason=f"no corpora at {REAL}; set DGMLAB_DATA to run this")
def test_a_quarter_of_dailydialogs_test_turns_stand_in_its_train_part(monkeypatch):
    monkeypatch.setenv("DGMLAB_DATA", str(REAL))
    found = seen_in(load_text("dailydialog", "test"), ["dailydialog"])
    assert found.exact.sum() == 2054 and len(found.exact) == 7740 and np.all(found.alike >= found.exact)
    captions = seen_in(load_text("multi30k", "test"), ["multi30k"])
    assert captions.exact.mean() < 0.005
