"""From files to pictures: each layout is recognised by what lies in the folder.

    cats/a.png, dogs/b.jpg                     class folders
    a.png, b.png                               flat: one class, named after the folder
    train/, valid/ (or val, dev), test/        each of them class folders or flat
    00000/00000.png, 01000/01000.png           FFHQ: thousands, not classes; from 60,000 on it is the test part
    wnids.txt, words.txt, train/, val/         Tiny-ImageNet as it is unpacked
    data/train-00000-of-00001.parquet          the Hugging Face hub's: a column of encoded pictures, a column of class numbers
    data_batch_1, batches.meta; train, meta    CIFAR-10 and CIFAR-100, python version, unpacked or as .tar.gz
    trainA/, trainB/, testA/, testB/           two domains without pairs, through `open_domains`

A folder that holds nothing but one folder is entered. Opening lists no pictures; that is done when a part is asked for.
"""

import contextlib
import os
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.data.image_files import Part, open_cifar, open_parquet
from dgmlab.data.pixels import Picture
from dgmlab.data.reading import ALIASES

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
FFHQ_TEST = 60_000  # first number of FFHQ's validation part, by its authors


def open_path(path):
    """The parts of an image set on disk, by its layout. -> dict 'train', 'valid', 'test' -> function () -> Part"""
    path = Path(path).expanduser()
    if path.is_file():
        return open_cifar(path, ()) if path.name.endswith((".tar.gz", ".tgz")) else open_parquet([path], path.parent)
    folder = _enter(path)
    parts = _open_folder(folder)
    if folder != path:
        parts = {split: partial(_noted, part, f"read {folder}, the only folder there") for split, part in parts.items()}
    return parts


def _open_folder(folder):
    files = {child.name for child in folder.iterdir() if child.is_file()}
    archives = sorted(name for name in files if re.fullmatch(r"cifar-100?-python\.tar\.gz", name))
    if archives:
        return open_cifar(folder / archives[0], ())
    if {"batches.meta", "data_batch_1"} <= files or {"meta", "train"} <= files:
        return open_cifar(folder, files)
    if "wnids.txt" in files:
        return {"train": partial(_tiny_imagenet, folder, "train"), "valid": partial(_tiny_imagenet, folder, "val")}
    if tables := sorted(folder.rglob("*.parquet")):
        return open_parquet(tables, folder)
    if domains := _domains(folder):
        held = ", ".join(child.name for child in domains.values())
        raise ValueError(f"{folder} holds two domains ({held}). Use load_pair for both, or give one of these folders.")
    if splits := _splits(folder):
        class_names = _class_names(splits.values())
        return {split: partial(_folder_part, child, class_names, folder) for split, child in splits.items()}
    folders = _listing(folder).folders
    if folders and all(re.fullmatch(r"\d\d000", child.name) for child in folders) and _is_ffhq(folders[0]):
        sides = {"train": [child for child in folders if int(child.name) < FFHQ_TEST],
                 "test": [child for child in folders if int(child.name) >= FFHQ_TEST]}
        return {split: partial(_ffhq, children) for split, children in sides.items() if children}
    return {"train": partial(_folder_part, folder, _class_names([folder]), folder)}


def open_domains(path):
    """The parts of trainA, trainB, testA, testB (valA, valB) in a folder. -> (parts of A, parts of B), as of `open_path`"""
    folder = _enter(Path(path).expanduser())
    found = _domains(folder)
    for domain in "AB":
        if ("train", domain) not in found:
            held = ", ".join(sorted(child.name for child in _listing(folder).folders)) or "no folders"
            raise FileNotFoundError(f"expected trainA and trainB in {folder}, found {held}. Or name two folders.")
    return tuple({split: partial(_folder_part, child, _class_names([child]), folder / domain)
                  for (split, of), child in found.items() if of == domain} for domain in "AB")


def _enter(folder):
    """Go down while a folder holds one folder and nothing else, and that one holds no pictures of its own."""
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder of pictures at {folder.absolute()}, found nothing. Check the path.")
    while True:
        listing = _listing(folder)
        if len(listing.folders) != 1 or listing.pictures or listing.n_others or _has_picture(listing.folders[0]):
            return folder
        folder = listing.folders[0]


def _splits(folder):
    """{split: folder} of children such as train, val; folders of pictures beside them would be lost, and are an error."""
    folders = _listing(folder).folders
    named = {child: split for child in folders for split, aliases in ALIASES.items() if child.name.lower() in aliases}
    splits = {split: child for child, split in named.items()}
    beside = [child.name for child in folders if child not in splits.values() and (child in named or _has_picture(child))]
    if splits and beside:
        held = ", ".join(child.name for child in splits.values())
        raise ValueError(f"expected nothing but split folders beside {held} in {folder}, found {', '.join(beside[:5])}. "
                         "Move these away, or give one folder.")
    return splits


def _noted(part, note):
    made = part()
    return made._replace(notes=(note, *made.notes))


def _domains(folder):
    """{(split, 'A' or 'B'): folder} of children such as trainA, test_B."""
    found = {}
    for child in _listing(folder).folders:
        match = re.fullmatch(r"(train|val|valid|test)_?([AB])", child.name)
        if match:
            found[next(split for split, aliases in ALIASES.items() if match[1] in aliases), match[2]] = child
    return found


# folders


class Listing(NamedTuple):
    """What lies in a folder, hidden things left out: folders (Path) and pictures (str), sorted; number of other files."""

    folders: list
    pictures: list
    n_others: int


def _listing(folder):
    folders, pictures, n_others = [], [], 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.is_dir():
                folders.append(Path(entry.path))
            elif _is_picture(entry.name):
                pictures.append(entry.path)
            else:
                n_others += 1
    return Listing(sorted(folders, key=lambda child: _order(child.name)), sorted(pictures), n_others)


def _is_picture(name):
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _has_picture(folder):
    with os.scandir(folder) as entries:
        return any(_is_picture(entry.name) for entry in entries)


def _order(name):
    """Numbers in their order, before names."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _class_names(folders):
    """Names of the class folders of all splits together, so that a class has one number in all of them."""
    names = {child.name for folder in folders for child in _listing(folder).folders if _has_picture(child)}
    return tuple(sorted(names, key=_order))


def _folder_part(folder, class_names, named):
    """Class folders, or a flat folder as one class, named like the path `named`; a wrong level is an error with advice."""
    own = _listing(folder)
    below = {child: _listing(child) for child in own.folders}
    held = {child: listing.pictures for child, listing in below.items() if listing.pictures}
    if own.pictures and held:
        raise ValueError(f"expected pictures either right in {folder} or in class folders below it, found both: "
                         f"{len(own.pictures):,} in it, {sum(map(len, held.values())):,} below. Move one of them away.")
    for child in own.folders:
        deeper = None if child in held else _first_below(child)
        if deeper:
            advice = f"Move them up into {child}." if held else f"Give {deeper.parents[1]}, whose folders are the classes."
            raise ValueError(f"wrong folder level: expected pictures in {folder} or in class folders right below it, "
                             f"found them deeper, as {deeper}. {advice}")
    if not own.pictures and not held:
        raise ValueError(f"expected pictures ({' '.join(SUFFIXES)}) in {folder} or in class folders right below it, "
                         f"found none among {len(below)} folders and {own.n_others} files.")
    notes = []
    empty = [child.name for child in below if child not in held]
    if empty:
        notes.append(f"folders without pictures left out: {len(empty)} ({', '.join(empty[:5])})")
    if inner := sum(len(listing.folders) for child, listing in below.items() if child in held):
        notes.append(f"folders inside class folders not read: {inner}")
    if n_others := own.n_others + sum(listing.n_others for listing in below.values()):
        notes.append(f"files that are no pictures left out: {n_others}")
    if own.pictures:
        return _part(own.pictures, np.zeros(len(own.pictures)), (named.absolute().name,), notes + _hint(folder))
    labels = np.repeat([class_names.index(child.name) for child in held], [len(paths) for paths in held.values()])
    return _part([path for paths in held.values() for path in paths], labels, class_names, notes)


def _hint(folder):
    """Whether a flat folder looks like one class of several, the most frequent wrong level."""
    with contextlib.suppress(PermissionError):  # the folders around may be anybody's
        parent = folder.absolute().parent
        n_siblings = sum(map(_has_picture, _listing(parent).folders))
        if n_siblings > 1 and not any(folder.name.lower() in aliases for aliases in ALIASES.values()):
            return [f"{parent} has {n_siblings} folders of pictures: give that one to have them as classes"]
    return []


def _part(paths, labels, class_names, notes=()):
    return Part([Picture(path, path) for path in paths], np.asarray(labels, dtype=np.int64), class_names, tuple(notes))


def _first_below(folder):
    return next((path for path in sorted(folder.rglob("*")) if _is_picture(path.name) and path.is_file()), None)


def _is_ffhq(folder):
    stems = [Path(path).stem for path in _listing(folder).pictures]
    return bool(stems) and all(stem.isdecimal() and int(stem) // 1000 == int(folder.name) // 1000 for stem in stems)


def _ffhq(folders):
    paths = [path for folder in folders for path in _listing(folder).pictures]
    return _part(paths, np.zeros(len(paths)), ("ffhq",), ["folders of thousands read as one class (FFHQ)"])


def _tiny_imagenet(folder, split):
    """train/WNID/images/*.JPEG; val/images/*.JPEG with val_annotations.txt, or val sorted into class folders."""
    wnids = (folder / "wnids.txt").read_text().split()
    words = folder / "words.txt"
    known = dict(line.split("\t", 1) for line in words.read_text().splitlines() if "\t" in line) if words.is_file() else {}
    class_names = tuple(known.get(wnid, wnid).split(",")[0].strip() for wnid in wnids)
    if len(set(class_names)) < len(wnids):
        class_names = tuple(wnids)
    table = folder / split / f"{split}_annotations.txt"
    if table.is_file() and (folder / split / "images").is_dir():
        pairs = [line.split("\t")[:2] for line in table.read_text().splitlines()]
        paths = [str(folder / split / "images" / name) for name, _ in pairs]
        return _part(paths, [wnids.index(wnid) for _, wnid in pairs], class_names)
    folders = [folder / split / wnid for wnid in wnids]
    missing = [str(child) for child in folders if not child.is_dir()]
    if missing:
        raise FileNotFoundError(f"expected {len(wnids)} class folders, {len(missing)} are missing, first {missing[0]}.")
    held = [_listing(child / "images" if (child / "images").is_dir() else child).pictures for child in folders]
    labels = np.repeat(np.arange(len(wnids)), [len(paths) for paths in held])
    return _part([path for paths in held for path in paths], labels, class_names)
