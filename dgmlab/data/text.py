"""Sentences by name: the embedded grammar, known corpora, files, folders, and data sets of the Hugging Face hub.

    load_text("grammar")                        nothing to download; 20,000 / 2,000 / 2,000 sentences
    load_text("ptb", "valid")                   a known corpus under `data_home()`, see `dgmlab data list`
    load_text("notes.txt"), load_text("my/")    a file (.txt, .tsv, .jsonl, also .gz), or a folder of train, valid, test files
    load_text("hub:OWNER/NAME:config:field", limit=100_000)     needs `pip install dgmlab[hub]`; streamed when limit is given
    load_text("ptb+yelp_short+multi30k")        several corpora, one after the other
    load_labelled("yelp_short", "test")         sentences, labels (N,) and the names of the classes

Where a corpus has no valid or test part, it is cut from its train part by a hash of each sentence, so the parts are the same
on every machine and share no sentence: 5 % each for files and hub sets, 10 % each for SNLI's dev + test and labelled sets.
"""

import difflib
import itertools
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.data import grammar, registry
from dgmlab.data.reading import (
    ALIASES,
    Row,
    canonical_split,
    check_limit,
    cut,
    draw,
    lines,
    numbered_lines,
    paired_rows,
    rows,
    spaced_rows,
)

GRAMMAR_SIZES = {"train": 20_000, "valid": 2_000, "test": 2_000}
NOT_TEXT = (".labels", ".md", ".json", ".csv", ".zip", ".parquet", ".py")
LARGE = 2 * 1024**3  # bytes of a hub data set that is only read with a limit


class Labelled(NamedTuple):
    """sentences: list of N str; labels: (N,) int64 index into label_names; label_names: tuple of str"""

    sentences: list
    labels: np.ndarray
    label_names: tuple


class Known(NamedTuple):
    """A corpus whose layout is known: folder below data_home(), function folder -> {split: function () -> Rows}."""

    folder: str
    open: callable
    percent: int = 5
    label_names: tuple = ()


def load_text(name, split="train", limit=None, seed=0):
    """The sentences of one split (see the top of this file).

    name   'grammar', a known corpus, the path of a file or folder, or 'hub:OWNER/NAME[:config][:field]'; several joined by '+'
    split  'train', 'valid' (also 'dev', 'val', 'validation') or 'test'
    limit  at most so many sentences, drawn with `seed`, in the order of the corpus; for the grammar the number to draw
    -> list of str, stripped, none blank
    """
    return [row.sentence for row in _load(name, split, limit, seed)]


def load_labelled(name, split="train", limit=None, seed=0):
    """Sentences and their classes. Like `load_text`; of the grammar, 'grammar:topic' has the topics as classes. -> Labelled"""
    base, _, factor = name.partition(":")
    if base == "grammar":
        sentences = load_text("grammar", split, limit, seed)
        return Labelled(sentences, grammar.labels(sentences, factor or "topic"), grammar.FACTORS[factor or "topic"])
    found = _load(name, split, limit, seed)
    if any(row.label is None for row in found):
        labelled = ", ".join(["grammar:FACTOR", *(key for key, known in KNOWN.items() if known.label_names), "yelp15"])
        raise ValueError(f"'{name}' has no labels; labelled corpora are: {labelled}, or a .tsv or .jsonl file with labels.")
    names = KNOWN[name].label_names if name in KNOWN else ()
    values = [str(i) for i in range(len(names))]
    if not names:  # the train part fixes the classes, so that their numbers are the same in all parts
        labels = {row.label for row in (found if canonical_split(split) == "train" else _load(name, "train", limit, seed))}
        names = values = tuple(sorted(labels, key=lambda label: (len(label) if label.isdigit() else 99, label)))
    if name == "ag_news":
        values = names
    numbers = {value: i for i, value in enumerate(values)}
    unknown = sorted({row.label for row in found} - set(numbers))
    if unknown:
        raise ValueError(f"'{name}' has the classes {', '.join(values)}, but found {', '.join(unknown)} in split '{split}'.")
    labels = np.array([numbers[row.label] for row in found], dtype=np.int64)
    return Labelled([row.sentence for row in found], labels, tuple(names))


def _load(name, split, limit, seed):
    """Rows of a split, at most `limit`; an empty corpus is an error."""
    split = canonical_split(split)
    check_limit(limit, "sentences")
    if name == "grammar":
        return [Row(sentence) for sentence in grammar.sample(limit or GRAMMAR_SIZES[split], seed, (split,))]
    if "+" in name and not Path(name).expanduser().exists():
        found = [row for part in name.split("+") for row in _load(part.strip(), split, None, seed)]
    elif name.startswith("hub:"):
        found = _hub(name, split, limit, seed)
    elif name in KNOWN:
        known = KNOWN[name]
        found = _part(known.open(registry.find(known.folder)), split, known.percent, name)
    else:
        found = _part(_open_path(name), split, 5, name)
    if not found:
        raise ValueError(f"split '{split}' of '{name}' is empty: expected a sentence or more. Check its file, or add text.")
    return draw(found, limit, seed)


def _part(parts, split, percent, name, limit=None):
    """The first `limit` rows of a split (None: all); where valid or test is missing, it is cut from train.

    parts  dict split -> function () -> Rows
    """
    if split not in parts and "train" not in parts:
        raise FileNotFoundError(f"'{name}' has no split '{split}', nor a train part to cut it from; found {', '.join(parts)}.")
    keep = {split}
    if split in parts:
        keep = set(ALIASES) - ({"valid", "test"} - set(parts) if split == "train" else set())
    found = parts[split if split in parts else "train"]()
    if keep != set(ALIASES):
        found = (row for row in found if cut(row.sentence, percent) in keep)
    return list(itertools.islice(found, limit))


def _open_path(name):
    path = Path(name).expanduser()
    if path.is_dir():
        return _by_split(path)
    if path.is_file():
        return {"train": partial(rows, path)}
    if "/" in name or path.suffix in (".txt", ".tsv", ".jsonl", ".gz"):
        raise FileNotFoundError(f"corpus '{name}' was expected as a file or folder at {path.absolute()}. Check the path.")
    known = ["grammar", *KNOWN]
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean '{close[0]}'?" if close else ""
    raise KeyError(f"no corpus '{name}'.{meant} Choose one of: {', '.join(known)}; or a file, a folder, or hub:OWNER/NAME.")


# Layouts: each takes the folder of a corpus and tells how to read its splits.


def _by_split(folder):
    """Files that name their split: train.txt, ptb.valid.txt, train.1.en to train.5.en, sentiment.test.0 (class 0), ..."""
    parts = {}
    for path in sorted(folder.iterdir()):
        words = re.split(r"[._-]", path.name.lower())
        if not path.is_file() or path.suffix in NOT_TEXT or words[0] in ("", "reference"):
            continue
        for split, aliases in ALIASES.items():
            if set(words) & set(aliases):
                parts.setdefault(split, []).append(path)
    if not parts:
        raise FileNotFoundError(f"expected files that name their split, like train.txt and test.txt, found none in {folder}.")
    return {split: partial(_chain, paths) for split, paths in parts.items()}


def _chain(paths):
    return [row for path in paths for row in _file_rows(path)]


def _file_rows(path):
    if re.fullmatch(r"\.\d", path.suffix):
        return (Row(sentence, path.suffix[1:]) for sentence in lines(path))
    labels = path.with_suffix(".labels")
    return paired_rows(path, labels) if labels.is_file() else rows(path)


def _caption_style(folder):
    """The test part holds the same factual captions under both classes: kept once, and without a class."""
    parts = _by_split(folder)
    test = parts["test"]
    return {**parts, "test": lambda: [Row(sentence) for sentence in dict.fromkeys(row.sentence for row in test())]}


def _snli(folder):
    """Distinct premises (s1.*) and hypotheses (s2.*); without train files, dev and test together are cut in three."""
    if not (folder / "s1.dev").is_file():
        return _by_split(folder)

    def distinct(*splits):
        sides = [lines(folder / f"{side}.{split}") for split in splits for side in ("s1", "s2")]
        return [Row(sentence) for sentence in dict.fromkeys(sentence for side in sides for sentence in side)]

    if not (folder / "s1.train").is_file():
        return {"train": partial(distinct, "dev", "test")}
    return {"train": partial(distinct, "train"), "valid": partial(distinct, "dev"), "test": partial(distinct, "test")}


def _dialog_turns(folder):
    def turns(split):
        for dialogue in lines(folder / split / f"dialogues_{split}.txt"):
            yield from (Row(turn.strip()) for turn in dialogue.split("__eou__") if turn.strip())

    return {"train": partial(turns, "train"), "valid": partial(turns, "validation"), "test": partial(turns, "test")}


def _files(reader, **names):
    """A layout of one file per split, all read by `reader`."""
    return lambda folder: {split: partial(reader, folder / name) for split, name in names.items()}


def _cola_rows(path):
    """source<TAB>label<TAB>mark<TAB>sentence, without a header."""
    for number, text in numbered_lines(path):
        cells = text.split("\t")
        if text.strip() and len(cells) != 4:
            raise ValueError(f"{path}, line {number}: expected 4 tab-separated cells, found {len(cells)}.")
        if text.strip():
            yield Row(cells[3].strip(), cells[1])


NEGATIVE_POSITIVE = ("negative", "positive")
TREC_CLASSES = ("description", "entity", "abbreviation", "human", "location", "number")
SST_CLASSES = ("very negative", "negative", "neutral", "positive", "very positive")
KNOWN = {
    "ptb": Known("ptb", _by_split),
    "snli": Known("snli", _snli, 10),
    "yelp_short": Known("yelp_short", _by_split, label_names=NEGATIVE_POSITIVE),
    "yelp15": Known("yelp15", _by_split),
    "yahoo": Known("yahoo", _by_split),
    "multi30k": Known("multi30k", _by_split),
    "caption_style": Known("caption_style", _caption_style, label_names=("humorous", "romantic")),
    "dailydialog": Known("dailydialog", _dialog_turns),
    "tinyshakespeare": Known("tinyshakespeare", _files(rows, train="input.txt")),
    "ag_news": Known(  # the only labelled parts at hand are a tenth of the official train part (here: train) and the test part
        "ag_news", _files(rows, train="dev.tsv", test="test.tsv"), 10, ("World", "Sports", "Business", "Sci/Tech")
    ),
    "sst": Known(
        "sentence_classification",
        _files(spaced_rows, train="stsa.fine.train", valid="stsa.fine.dev", test="stsa.fine.test"),
        label_names=SST_CLASSES,
    ),
    "trec": Known(
        "sentence_classification", _files(spaced_rows, train="TREC.train.all", test="TREC.test.all"), 10, TREC_CLASSES
    ),
    "subj": Known("sentence_classification", _files(spaced_rows, train="subj.all"), 10, ("subjective", "objective")),
    "mr": Known("sentence_classification", _files(spaced_rows, train="rt-polarity.all"), 10, NEGATIVE_POSITIVE),
    "cr": Known("sentence_classification", _files(spaced_rows, train="custrev.all"), 10, NEGATIVE_POSITIVE),
    # GLUE hides the labels of its test parts, so test is cut from train
    "sst2": Known("glue", _files(rows, train="SST-2/train.tsv", valid="SST-2/dev.tsv"), 5, NEGATIVE_POSITIVE),
    "cola": Known("glue", _files(_cola_rows, train="CoLA/train.tsv", valid="CoLA/dev.tsv"), 5, ("unacceptable", "acceptable")),
}


def _hub(name, split, limit, seed):
    """Rows of a data set of the Hugging Face hub (or a local folder in its layout); a text of several lines gives several."""
    try:
        import datasets
    except ImportError:
        raise ImportError(f"'{name}' needs the package datasets, found none. Run `pip install dgmlab[hub]`.") from None
    repo, config, field = (name.removeprefix("hub:").split(":") + ["", ""])[:3]
    try:
        builder = datasets.load_dataset_builder(repo, config or None)
        if limit is None and (builder.info.download_size or 0) > LARGE:
            size = builder.info.download_size / 1024**3
            raise ValueError(f"it has {size:.0f} GiB, too large to read whole. Give a limit, and it is streamed")
        have = {canonical_split(key): key for key in datasets.get_dataset_split_names(repo, config or None) if _is_split(key)}
        parts = {key: partial(_hub_rows, datasets, repo, config, own, field, limit, seed) for key, own in have.items()}
        return _part(parts, split, 5, name, limit)
    except Exception as error:  # the library raises a dozen kinds, some with a page of text
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"cannot read '{name}' (split '{split}'): {reason[0].rstrip('.')}.") from error


def _is_split(key):
    return any(key in aliases for aliases in ALIASES.values())


def _hub_rows(datasets, repo, config, split, field, limit, seed):
    table = datasets.load_dataset(repo, config or None, split=split, streaming=limit is not None)
    if limit is not None:
        table = table.shuffle(seed=seed, buffer_size=10_000)
    for item in table:
        key = field or next((key for key in ("text", "sentence") if key in item), None)
        if key not in item:
            wanted = f"'{key}'" if key else "'text' or 'sentence'"
            raise ValueError(f"expected a column {wanted}, found: {', '.join(item)}. Name one as hub:OWNER/NAME:config:field")
        label = item.get("label")
        for line in str(item[key]).splitlines():
            if line.strip():
                yield Row(line.strip(), None if label is None else str(label))
