"""Human rewritings of test sentences: files that hold a source and its rewriting on each line, one file per label.

    load_references("yelp_short")     500 + 500 negative and positive sentences, each rewritten by a person
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.data.reading import numbered_lines
from dgmlab.data.registry import find
from dgmlab.data.text import KNOWN

# n't, 's, 're ... are tokens of their own, and so is every mark; the corpora write quotation marks as `` and ''
TOKEN = re.compile(r"\w+(?=n't)|n't|'(?:s|re|ve|ll|d|m)\b|\.\.\.|--|``|''|\w+(?:-\w+)*|[^\w\s]")


class References(NamedTuple):
    """sources, rewritings: lists of N str; labels (N,) int64 of the sources, the number in the file's name."""

    sources: list
    rewritings: list
    labels: np.ndarray


def tokenize(text):
    """A sentence as the style corpora write it: lower case, tokens between spaces, "n't" and "'s" apart. -> str"""
    return " ".join(TOKEN.findall(text.lower().replace("’", "'")))


def load_references(name):
    """Aligned rewritings of a known corpus, or of a folder with files reference.0, reference.1, ... (source TAB rewriting).

    Both sides are tokenised alike, by `tokenize`: people write "can't.", the corpora "ca n't ."
    """
    folder = find(KNOWN[name].folder) if name in KNOWN else Path(name).expanduser()
    paths = sorted(folder.glob("reference.[0-9]"))
    if not paths:
        raise FileNotFoundError(f"human rewritings were expected at {folder}/reference.0, reference.1, found none. "
                                "Evaluate without them: references=False.")
    sources, rewritings, labels = [], [], []
    for path in paths:
        for number, text in numbered_lines(path):
            if not text.strip():
                continue
            cells = text.split("\t")
            if len(cells) != 2 or not all(map(str.strip, cells)):
                raise ValueError(f"{path}, line {number}: expected a source, a tab and its rewriting, "
                                 f"found {len(cells)} cells: {text.strip()[:60]!r}.")
            sources.append(tokenize(cells[0]))
            rewritings.append(tokenize(cells[1]))
            labels.append(int(path.suffix[1:]))
    return References(sources, rewritings, np.array(labels, dtype=np.int64))


def align(references, sentences):
    """For each sentence the list of its rewritings; ValueError where one has none. -> list of N lists"""
    found = {}
    for source, rewriting in zip(references.sources, references.rewritings, strict=True):
        found.setdefault(source, []).append(rewriting)
    keys = [tokenize(sentence) for sentence in sentences]
    missing = [sentence for sentence, key in zip(sentences, keys, strict=True) if key not in found]
    if missing:
        raise ValueError(f"{len(missing)} of {len(sentences)} sentences have no human rewriting, the first: "
                         f"'{missing[0][:60]}'. References and test split must be of the same sentences.")
    return [found[key] for key in keys]
