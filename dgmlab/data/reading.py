"""From files to rows: plain lines, tab-separated, JSON lines; each also gzipped. Every mistake names its file and line.

    .jsonl   one object a line, with a key `text` or `sentence` (and `label`)
    .tsv     a header that names a column `text` or `sentence` (and `label`); or without one label<TAB>text or text<TAB>label
    others   one sentence a line
Lines are stripped, blank ones dropped. Text is UTF-8, with or without a byte-order mark.
"""

import gzip
import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

ALIASES = {"train": ("train",), "valid": ("valid", "validation", "dev", "val"), "test": ("test",)}
TEXT_KEYS = ("text", "sentence")


class Row(NamedTuple):
    """One item of a corpus; `label` is the text that stands in the file, or None."""

    sentence: str
    label: str | None = None


def suffix(path):
    """The suffix that tells the format: .jsonl for corpus.jsonl and for corpus.jsonl.gz."""
    path = Path(path)
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def numbered_lines(path):
    """Yield (line number from 1, text without the end of line) of every line, blank ones too."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"text file {path} does not exist. Check the path, or the folder that DGMLAB_DATA names.")
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                yield number, _decode(raw, path, number).rstrip("\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a complete gzip file ({error}). Fetch or write it again.") from None


def _decode(raw, path, number):
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}: expected UTF-8, found byte 0x{raw[error.start]:02X}. "
            "Convert the file, e.g. `iconv -f latin1 -t utf8`."
        ) from None


def lines(path):
    """Yield the lines of a text file, stripped, without the blank ones."""
    return (text.strip() for _, text in numbered_lines(path) if text.strip())


def rows(path):
    """Yield the Rows of a file in the format its suffix tells."""
    reader = {".jsonl": _json_rows, ".tsv": _tab_rows}.get(suffix(path))
    if reader is None:
        return (Row(text) for text in lines(path))
    return (row for row in reader(path) if row.sentence)


def _json_rows(path):
    for number, text in numbered_lines(path):
        if not text.strip():
            continue
        try:
            item = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: expected one JSON object, found broken JSON ({error.msg}).") from None
        if not isinstance(item, dict):
            raise ValueError(f"{path}, line {number}: expected one JSON object, found {type(item).__name__}.")
        key = next((key for key in TEXT_KEYS if key in item), None)
        if key is None:
            raise ValueError(f"{path}, line {number}: expected a key 'text' or 'sentence', found keys: {', '.join(item)}.")
        label = item.get("label")
        yield Row(" ".join(str(item[key]).split()), None if label is None else str(label))


def _tab_rows(path):
    columns = None
    for number, text in numbered_lines(path):
        cells = [cell.strip() for cell in text.split("\t")]
        if columns is None:
            columns, is_header = _columns(path, cells)
            if is_header:
                continue
        if not text.strip():
            continue
        at_text, at_label = columns
        needed = 1 + max(at_text, -1 if at_label is None else at_label)
        if len(cells) < needed:
            raise ValueError(f"{path}, line {number}: expected {needed} tab-separated cells, found {len(cells)}.")
        yield Row(cells[at_text], None if at_label is None else cells[at_label])


def _columns(path, cells):
    """((index of the text, index of the label or None), whether the cells are a header) from the first line."""
    names = [cell.lower() for cell in cells]
    named = next((names.index(key) for key in TEXT_KEYS if key in names), None)
    if named is not None:
        return (named, names.index("label") if "label" in names else None), True
    if len(cells) > 2:
        raise ValueError(
            f"{path}: expected label<TAB>text, text<TAB>label or a header that names a column 'text' or 'sentence', "
            f"found {len(cells)} columns without such a header."
        )
    if len(cells) == 1:
        return (0, None), False
    return ((1, 0) if re.fullmatch(r"-?\d+", cells[0]) else (0, 1)), False


def spaced_rows(path):
    """Yield the Rows of a file with `label sentence` lines, as the sentence classification sets have."""
    for number, text in numbered_lines(path):
        label, _, sentence = text.strip().partition(" ")
        if not re.fullmatch(r"\d*", label):
            raise ValueError(f"{path}, line {number}: expected a number, a space and a sentence, found {text[:40]!r}.")
        if sentence:  # one line of the CR set holds a label and nothing else
            yield Row(sentence.strip(), label)


def paired_rows(path, labels_path):
    """Yield the Rows of a file of sentences and a file with as many labels, one a line."""
    sentences = [text.strip() for _, text in numbered_lines(path)]
    labels = [text.strip() for _, text in numbered_lines(labels_path)]
    if len(sentences) != len(labels):
        raise ValueError(f"{labels_path}: expected {len(sentences)} labels, one a line of {path.name}, found {len(labels)}.")
    return (Row(*pair) for pair in zip(sentences, labels, strict=True) if pair[0])


def canonical_split(split):
    """'train', 'valid' or 'test' of any of their names."""
    for canonical, aliases in ALIASES.items():
        if split in aliases:
            return canonical
    raise ValueError(f"no split '{split}'; choose one of: train, valid (or dev, val, validation), test.")


def check_limit(limit, what):
    """ValueError where a loader is asked for fewer than one of its items; None asks for all."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, found {limit}. Use limit=None for all {what}.")


def draw_rows(n, limit=None, seed=0):
    """Which of n items to take where at most `limit` are wanted, drawn with `seed` (below 1: all). -> (rows,) ascending"""
    if limit is None or not 0 < limit < n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def draw(items, limit=None, seed=0):
    """The items of those rows, in their order; the list itself where all are wanted."""
    rows = draw_rows(len(items), limit, seed)
    return items if len(rows) == len(items) else [items[i] for i in rows]


def cut(sentence, percent):
    """The part of a corpus without splits a sentence belongs to for good, by a hash of its letters (equal ones stay together).

    percent  size of valid, and of test, in per cent; the rest is train
    -> "train" | "valid" | "test"
    """
    number = int.from_bytes(hashlib.blake2b(sentence.encode(), digest_size=4).digest(), "big") % 100
    return "valid" if number < percent else "test" if number < 2 * percent else "train"
