"""Human rewritings: how they are cut into words, and files that do not align."""

import pytest

from dgmlab.data.references import References, align, load_references, tokenize
from dgmlab.data.registry import is_here
from dgmlab.data.text import load_labelled


@pytest.mark.parametrize("text, tokens", [
    ("It didn't taste good.", "it did n't taste good ."),
    ("I can't believe it's so-so, isn’t it?", "i ca n't believe it 's so-so , is n't it ?"),
    ("i 'm sure we 'll be back ... `` yes '' -- no !", "i 'm sure we 'll be back ... `` yes '' -- no !"),
    ("the $ _num_ minimum charge", "the $ _num_ minimum charge"),
])
def test_people_and_corpora_are_cut_alike(text, tokens):
    assert tokenize(text) == tokens and tokenize(tokens) == tokens


def write(folder, number, lines):
    (folder / f"reference.{number}").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_folder_of_references_is_read_and_aligned(tmp_path):
    write(tmp_path, 0, ["it is bad .\tIt's good.", "", "no .\tyes ."])
    write(tmp_path, 1, ["fine .\tawful ."])
    found = load_references(tmp_path)
    assert found.sources == ["it is bad .", "no .", "fine ."] and found.labels.tolist() == [0, 0, 1]
    assert align(found, ["fine .", "It is bad."]) == [["awful ."], ["it 's good ."]]


def test_several_people_may_rewrite_one_sentence():
    found = References(["a b", "c", "a b"], ["x", "y", "z"], None)
    assert align(found, ["a b", "c"]) == [["x", "z"], ["y"]]


def test_sentences_without_a_rewriting_are_counted_and_the_first_is_named():
    found = References(["a b"], ["x"], None)
    with pytest.raises(ValueError, match="2 of 3 sentences have no human rewriting, the first: 'c d'"):
        align(found, ["a b", "c d", "e f"])


def test_a_line_without_a_tab_is_named(tmp_path):
    write(tmp_path, 0, ["one .\ttwo .", "only a source ."])
    with pytest.raises(ValueError, match=r"reference\.0, line 2: expected a source, a tab and its rewriting, found 1 cells"):
        load_references(tmp_path)


def test_a_folder_without_references_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="human rewritings were expected at"):
        load_references(tmp_path)


@pytest.mark.skipif(not is_here("yelp_short"), reason="needs the corpus yelp_short")
def test_every_test_sentence_of_yelp_has_its_rewriting():
    test = load_labelled("yelp_short", "test")
    found = load_references("yelp_short")
    assert len(found.sources) == 1000 and found.labels.tolist() == test.labels.tolist()
    assert all(len(rewritings) >= 1 for rewritings in align(found, test.sentences))
