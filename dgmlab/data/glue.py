"""Six small tasks of GLUE (Wang et al. 2019): one sentence or two, a class or a number for each, and the task's own score.

    sst2  positive or negative        accuracy     mrpc  do two sentences say the same       F1
    cola  is it grammatical           Matthews     rte   does the second follow              accuracy
    stsb  how alike are two, 0 to 5   Spearman     wnli  does the second follow (a trap)     accuracy

The labels of GLUE's test parts are hidden, so numbers are those of the dev parts, and nothing may be chosen there. WNLI's dev
part shares its sentences with train under opposite labels: what has learnt them by heart falls below the largest class.
"""

from typing import NamedTuple

import numpy as np

from dgmlab.config import unknown_name
from dgmlab.data.reading import canonical_split, check_limit, draw, numbered_lines
from dgmlab.data.registry import find

ENTAILMENT = ("not_entailment", "entailment")


class Layout(NamedTuple):
    """Folder; columns of the sentences and of the label, from 0; classes as written; the score; whether there is a header."""

    folder: str
    sentences: tuple
    label: int
    classes: tuple  # () where the label is a number
    metric: str
    header: bool = True


class Task(NamedTuple):
    """first, and second for tasks of pairs, lists of N str; labels (N,) int64 classes or float64 numbers; label_names;
    metric of `dgmlab.metrics.agreement`."""

    first: list
    second: list | None
    labels: np.ndarray
    label_names: tuple
    metric: str


TASKS = {
    "sst2": Layout("SST-2", (0,), 1, ("0", "1"), "accuracy"),
    "cola": Layout("CoLA", (3,), 1, ("0", "1"), "matthews", header=False),
    "mrpc": Layout("MRPC", (3, 4), 0, ("0", "1"), "f1"),
    "rte": Layout("RTE", (1, 2), 3, ENTAILMENT, "accuracy"),
    "stsb": Layout("STS-B", (7, 8), 9, (), "spearman"),
    "wnli": Layout("WNLI", (1, 2), 3, ("0", "1"), "accuracy"),
}
NAMES = {"sst2": ("negative", "positive"), "cola": ("unacceptable", "acceptable"), "mrpc": ("different", "same"),
         "wnli": ENTAILMENT}


def load_glue(name, split="train", limit=None, seed=0):
    """A part of a task.

    name   sst2 | cola | mrpc | rte | stsb | wnli
    split  'train', or 'valid' (also 'dev'), the part that scores are taken on
    limit  at most so many items, drawn with `seed`, in the order of the file
    -> Task
    """
    if name not in TASKS:
        raise KeyError(unknown_name(name, TASKS, "task of GLUE"))
    split = canonical_split(split)
    check_limit(limit, "items")
    if split == "test":
        raise ValueError(f"the labels of {name}'s test part are hidden by GLUE. Score on split 'valid', and say so.")
    layout = TASKS[name]
    path = find("glue") / layout.folder / f"{'dev' if split == 'valid' else split}.tsv"
    rows = draw(list(_rows(path, layout)), limit, seed)
    columns = list(zip(*rows, strict=True))
    second = list(columns[1]) if len(layout.sentences) == 2 else None
    kind = np.int64 if layout.classes else np.float64
    return Task(list(columns[0]), second, np.array(columns[-1], dtype=kind), NAMES.get(name, layout.classes), layout.metric)


def _rows(path, layout):
    """Yield (sentence, ..., label) of each line; quotes are letters like any other, as in GLUE's own readers."""
    needed = 1 + max(*layout.sentences, layout.label)
    for number, text in numbered_lines(path):
        if (number == 1 and layout.header) or not text.strip():
            continue
        cells = text.split("\t")
        if len(cells) < needed:
            raise ValueError(f"{path}, line {number}: expected {needed} tab-separated cells, found {len(cells)}.")
        yield *(cells[i].strip() for i in layout.sentences), _label(cells[layout.label].strip(), layout, path, number)


def _label(text, layout, path, number):
    """The class's number, or the number itself."""
    if layout.classes:
        if text not in layout.classes:
            raise ValueError(f"{path}, line {number}: expected a label among {', '.join(layout.classes)}, found {text!r}.")
        return layout.classes.index(text)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{path}, line {number}: expected a number as label, found {text!r}.") from None
