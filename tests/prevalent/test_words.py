"""Words: splitting by hand and against the published rule, the published word list, word pieces, and what is refused."""

import json
import random
import re
import string

import pytest
import torch

from dgmlab.data.registry import data_home
from dgmlab.prevalent.words import SPECIAL, Words, tokenize

HERE = data_home() / "matterport"
PIECES = data_home() / "tokenizers" / "bert-base-uncased"
needs_r2r = pytest.mark.skipif(not (HERE / "R2R").is_dir(), reason="needs matterport/ in DGMLAB_DATA")
needs_pieces = pytest.mark.skipif(not PIECES.is_dir(), reason="needs tokenizers/ in DGMLAB_DATA")
SENTENCES = ["Walk to the bed.", "Walk to the door... and stop!!", "Don't stop; walk to the bed"]


def published_rule(text):
    """The split of the R2R code, written from its description: pieces of (\\W+), marks apart unless they are all dots."""
    found = []
    for piece in [p.strip().lower() for p in re.compile(r"(\W+)").split(text.strip()) if len(p.strip()) > 0]:
        if all(c in string.punctuation for c in piece) and not all(c in "." for c in piece):
            found.extend(piece)
        else:
            found.append(piece)
    return found


def test_tokenize_by_hand():
    assert tokenize(" Walk to the Bed... stop!? It's 2nd. ") == [
        "walk", "to", "the", "bed", "...", "stop", "!", "?", "it", "'", "s", "2nd", "."
    ]
    assert tokenize("a .,b") == ["a", ".", ",", "b"]
    assert tokenize("") == []


def test_tokenize_agrees_with_the_published_rule_on_random_strings():
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choice("abC9 _.,;'!?-\n\té/") for _ in range(draw.randrange(30)))
        assert tokenize(text) == published_rule(text), text


def test_build_keeps_frequent_words_in_order():
    words = Words.build(SENTENCES, min_count=2)
    assert words.vocabulary == (*SPECIAL, "walk", "to", "the", "bed", "stop", "!")
    assert (words.pad, words.unk, words.cls, words.sep, words.mask) == (0, 1, 2, 3, 4) and len(words) == 11
    assert words.encode("Walk to the kitchen") == [2, 5, 6, 7, 1, 3]
    assert words.decode([2, 5, 6, 7, 1, 3, 0, 0]) == "walk to the <UNK>"
    assert words.tokens([2, 8, 3]) == ["<CLS>", "bed", "<SEP>"]


def test_save_and_load_give_the_same_ids(tmp_path):
    words = Words.build(SENTENCES, min_count=1)
    words.save(tmp_path / "new")
    again = Words.load(tmp_path / "new")
    assert again.vocabulary == words.vocabulary and again.encode(SENTENCES[1]) == words.encode(SENTENCES[1])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["words.txt"]


def test_batch_pads_and_masks():
    words = Words.build(SENTENCES, min_count=1)
    ids, mask = words.batch(["walk", "walk to the bed"])
    assert ids.dtype == torch.long and mask.dtype == torch.bool
    assert ids.shape == mask.shape == (2, 6)
    assert mask.sum(1).tolist() == [3, 6] and (ids[~mask] == words.pad).all()
    assert ids[0, :3].tolist() == words.encode("walk")


def test_long_sentences_are_refused_or_cut_on_the_named_side():
    words = Words.build([" ".join("abcdefgh")], min_count=1)
    with pytest.raises(ValueError, match="has 10 tokens with CLS and SEP, but the model reads 6. Raise max_length, or"):
        words.encode("a b c d e f g h", max_length=6)
    assert words.decode(words.encode("a b c d e f g h", 6, cut="end")) == "a b c d"
    assert words.decode(words.encode("a b c d e f g h", 6, cut="start")) == "e f g h"
    assert words.decode(words.encode("a b c d", 6, cut="start")) == "a b c d"
    with pytest.raises(ValueError, match="found 'left'"):
        words.encode("a", cut="left")


def test_bad_vocabularies_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="words.txt, found none"):
        Words.load(tmp_path)
    (tmp_path / "words.txt").write_text("walk\nto\nwalk\n")
    with pytest.raises(ValueError, match="found 'walk' twice"):
        Words.load(tmp_path)
    with pytest.raises(ValueError, match="found no <UNK>"):
        Words(["<PAD>", "<CLS>", "<SEP>", "<MASK>"])


@needs_r2r
def test_words_of_r2r_train_agree_with_the_published_list():
    items = json.loads((HERE / "R2R" / "R2R_train.json").read_text())
    built = Words.build(text for item in items for text in item["instructions"])
    published = Words.load(HERE / "vocab" / "train_vocab.txt")
    ours, theirs = set(built.vocabulary), set(published.vocabulary)
    assert len(ours) == 993 and ours == theirs, sorted(ours ^ theirs)[:20]
    assert built.vocabulary[5:25] == published.vocabulary[5:25]  # further down, words of equal counts are ordered otherwise


@needs_pieces
def test_word_pieces_share_the_interface(tmp_path):
    words = Words.wordpiece(PIECES)
    assert len(words) == 30522 and (words.pad, words.unk, words.cls, words.sep, words.mask) == (0, 100, 101, 102, 103)
    assert words.encode("walk to the bed") == [101, 3328, 2000, 1996, 2793, 102]
    assert words.decode(words.encode("Walk past the ottomans.")) == "walk past the ottomans."
    ids, mask = words.batch(["walk", "turn left"])
    assert ids.tolist() == [[101, 3328, 102, 0], [101, 2735, 2187, 102]] and mask.sum() == 7
    words.save(tmp_path)
    assert Words.load(tmp_path).vocabulary == words.vocabulary
    with pytest.raises(FileNotFoundError, match="vocab.txt, found none"):
        Words.wordpiece(tmp_path.parent)
