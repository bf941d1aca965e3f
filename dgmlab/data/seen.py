"""Which sentences of one corpus stand in the training text of others: what a likelihood on them is worth.

Splits share more than their names say. Of the corpora at hand, a quarter of DailyDialog's test turns (2,054 of 7,740) stand
letter for letter in its own train part, long ones too, as whole dialogues are there twice; of Penn Treebank 64 of 3,761, of
Multi30k 13 of 5,000, of Yelp none. And one corpus may hold another's: SNLI's premises are Flickr30k captions, as Multi30k's
are, so that a quarter of SNLI's sentences at hand are Multi30k's but for a full stop.
"""

import re
from typing import NamedTuple

import numpy as np

from dgmlab.data.text import load_text


class Seen(NamedTuple):
    """exact (N,) and alike (N,) bool: a sentence stands in the text letter for letter, or but for case, spaces and marks."""

    exact: np.ndarray
    alike: np.ndarray


def words(sentence):
    """What is left of a sentence without case, spaces and punctuation marks: its words, joined by single spaces."""
    return " ".join(re.findall(r"\w+", sentence.lower()))


def seen_in(sentences, corpora, split="train"):
    """Which of N `sentences` occur in that split of one of the `corpora` (names of `load_text`) -> Seen"""
    exact, alike = set(), set()
    for name in corpora:
        text = load_text(name, split)
        exact.update(text)
        alike.update(map(words, text))
    return Seen(np.array([sentence in exact for sentence in sentences], dtype=bool),
                np.array([words(sentence) in alike for sentence in sentences], dtype=bool))
