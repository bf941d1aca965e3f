"""Labelled pictures by name: embedded digits and photos, known sets, folders, parquet; pairs of domains; a sanity card.

    load_images("digits"), load_images("photos")    nothing to download: scikit-learn's digits, crops of its two photos
    load_images("chalk"), load_images("ink")        the digits in colours: light on dark like the digits, and dark on light
    load_images("cifar10_jpeg", "test")             a known set under `data_home()`, see `dgmlab data list`
    load_images("my/pictures", size=64)             a folder, a .parquet or a .tar.gz; layouts: `dgmlab.data.image_folders`
    load_pair("cat2dog"), load_pair("photos/", "paintings/")     two domains without pairs, for image translation
    print(describe("my/pictures"))                  classes, sizes, modes, and what will be corrected, before training

Where a set has no valid part its test part serves, and the other way round. Where it has only one part, a tenth of it, chosen
for good by a hash of file names (or of contents), is both valid and test; split="all" gives everything there is.
"""

import difflib
import hashlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.data import pixels, registry
from dgmlab.data.image_files import Part, coloured_digits, digits, photos
from dgmlab.data.image_folders import open_domains, open_path
from dgmlab.data.reading import ALIASES, canonical_split, check_limit, cut, draw_rows

EAGER = 2 * 1024**3  # bytes of decoded pictures that are kept in memory; more are decoded when they are used


class Known(NamedTuple):
    """A set whose pictures are known: side they are used at, black border added first, what to beware of."""

    size: int | None = None
    border: int = 0
    warning: str = ""


LOSSY = "lossy JPEG copies: compare only with statistics of the same copy, never with published FIDs"
INK, PAPER, CHALK, BOARD = (28, 44, 116), (248, 236, 208), (250, 240, 215), (30, 90, 70)  # RGB
EMBEDDED = {
    "digits": (digits, Known(32)),
    "photos": (photos, Known(32)),
    "chalk": (partial(coloured_digits, CHALK, BOARD), Known(32)),
    "ink": (partial(coloured_digits, INK, PAPER), Known(32)),
}
KNOWN = {
    "cifar10": Known(32),
    "cifar10_jpeg": Known(32, warning=LOSSY),
    "cifar10_lossless_100": Known(32),
    "cifar100": Known(32),
    "mnist": Known(32, border=2),
    "tiny_imagenet": Known(64),
    "tiny_imagenet20": Known(64),
    "noto_emoji": Known(64),
    "ffhq": Known(),
}
CATS = ("tabby", "Persian_cat", "Egyptian_cat")
DOGS = ("golden_retriever", "Labrador_retriever", "German_shepherd", "Yorkshire_terrier", "Chihuahua", "standard_poodle")
PAIRS = {  # name -> (set, classes of A, classes of B): stand-ins for cat2dog, horse2zebra and photo2portrait at 64 x 64
    "cat2dog": ("tiny_imagenet20", CATS, DOGS),
    "lemon2orange": ("tiny_imagenet20", ("lemon",), ("orange",)),
    "alp2seashore": ("tiny_imagenet20", ("alp",), ("seashore",)),
    "lion2cougar": ("tiny_imagenet20", ("lion",), ("cougar",)),
    "china2flower": ("photos", ("china",), ("flower",)),  # embedded
}


class Card(NamedTuple):
    """What a set holds and what was done to it; `print` shows it.

    size         side S of the pictures as they are used
    counts       class name -> number of pictures
    sizes        'WIDTHxHEIGHT' as stored -> number
    modes        Pillow's mode as stored ('RGB', 'L' grey, 'P' palette, 'RGBA', ...) -> number
    corrections  what was changed or left out, and how often
    warnings     what a reader should look at before training
    """

    name: str
    split: str
    size: int
    counts: dict
    sizes: dict
    modes: dict
    corrections: tuple
    warnings: tuple

    def __str__(self):
        n = sum(self.counts.values())
        lines = [f"{self.name}, split '{self.split}': {n:,} pictures used at {self.size} x {self.size}, "
                 f"{len(self.counts)} class{'es' if len(self.counts) > 1 else ''}"]
        stored = f"{_counted(self.sizes)}; mode {_counted(self.modes)}"
        lines += [f"  classes    {_counted(self.counts, 20)}", f"  stored     {stored}"]
        lines += [f"  corrected  {correction}" for correction in self.corrections]
        return "\n".join(lines + [f"  warning    {warning}" for warning in self.warnings])


class Images(NamedTuple):
    """x: (N, 3, S, S) uint8 tensor in 0..255, or LazyImages; y: (N,) int64 tensor, index into class_names; card: Card

    x[rows] gives (B, 3, S, S) uint8 either way; `pixels.to_float` makes it the [-1, 1] that networks see.
    """

    x: object
    y: torch.Tensor
    class_names: tuple
    card: Card


class Pair(NamedTuple):
    """Two domains without pairs, at the same size. a, b: Images"""

    a: Images
    b: Images


class LazyImages:
    """Pictures decoded when they are indexed; stands in for an (N, 3, S, S) uint8 tensor where that would fill the memory.

    x[i] -> (3, S, S); x[slice], x[list, array or tensor of B rows] -> (B, 3, S, S). A picture that turns out to be unreadable
    is an error that names it.
    """

    dtype = torch.uint8

    def __init__(self, pictures, size, border=0):
        self.pictures, self.size, self.border = pictures, size, border

    @property
    def shape(self):
        return torch.Size((len(self.pictures), 3, self.size, self.size))

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, rows):
        rows = torch.arange(len(self))[rows]
        wanted = [self.pictures[i] for i in rows.reshape(-1).tolist()]
        headers, x = pixels.decode(wanted, self.size, self.border)
        _refuse_broken(wanted, headers)
        return x if rows.ndim else x[0]


class Opened(NamedTuple):
    """A set whose layout is known and whose pictures are not yet listed; parts: split -> function () -> Part."""

    name: str
    parts: dict
    known: Known
    classes: tuple | None = None


def load_images(name, split="train", size=None, limit=None, classes=None, min_classes=1, lazy=None, skip_broken=False, seed=0):
    """The pictures of one split, RGB, square, of one size (see the top of this file).

    name         'digits', 'photos', 'chalk', 'ink', a known set, or the path of a folder, a .parquet or a .tar.gz
    split        'train', 'valid' (also 'dev', 'val', 'validation'), 'test' or 'all'
    size         side in pixels; None: that of the set, or the largest power of two that nine tenths of the pictures reach
    limit        at most so many pictures, drawn with `seed`, in the order of the set
    classes      keep these classes only, numbered in this order
    min_classes  fewer classes are an error: 2 for a class-conditional model
    lazy         decode pictures when they are used; None: where more than 2 GiB would be kept
    skip_broken  leave unreadable pictures out, and say so in the card; else they are an error
    -> Images(x, y, class_names, card)
    """
    opened = _open(name, classes)
    part = _chosen(opened, split, limit, seed)
    if len(part.class_names) < min_classes:
        notes = "; ".join(["Class folders must lie right below the folder given", *part.notes])
        raise ValueError(f"expected {min_classes} classes or more in '{name}', found {len(part.class_names)} "
                         f"({', '.join(part.class_names)}). {notes}.")
    return _load(opened, part, split, size, lazy, skip_broken)


def load_pair(name, other=None, split="train", size=None, limit=None, lazy=None, skip_broken=False, seed=0):
    """Two sets of pictures for image translation, at the same size: nothing in one belongs to anything in the other.

    name   a pair of classes (china2flower, embedded; cat2dog, lemon2orange, alp2seashore, lion2cougar), or a folder with
           trainA, trainB, testA, testB
    other  where given, `name` and `other` are two sets or folders as `load_images` takes them
    size   side in pixels; None: that of the smaller of the two
    limit, lazy, skip_broken, seed  as in `load_images`, for each of the two
    -> Pair(a, b)
    """
    if other is not None:
        both = [_open(each) for each in (name, other)]
    elif name in PAIRS:
        base, *wanted = PAIRS[name]
        both = [_open(base, classes)._replace(name=f"{name} {side}") for side, classes in zip("AB", wanted, strict=True)]
    elif Path(name).expanduser().is_dir():
        both = [Opened(f"{name} {side}", parts, Known()) for side, parts in zip("AB", open_domains(name), strict=True)]
    else:
        choices = f"{', '.join(PAIRS)}; or a folder with trainA and trainB, or two folders"
        raise KeyError(f"no pair '{name}'; choose one of: {choices}.")
    parts = [_chosen(opened, split, limit, seed) for opened in both]
    if size is None:
        size = min(opened.known.size or _size(_look(part)) for opened, part in zip(both, parts, strict=True))
    return Pair(*(_load(opened, part, split, size, lazy, skip_broken) for opened, part in zip(both, parts, strict=True)))


def describe(name, split="train", size=None, limit=None, classes=None, seed=0):
    """The card of what `load_images` would give, from the headers of the files alone; unreadable ones are listed. -> Card"""
    opened = _open(name, classes)
    part = _chosen(opened, split, limit, seed)
    headers = _look(part)
    return _card(opened, part, headers, split, _checked(size) or opened.known.size or _size(headers))


def _open(name, classes=None):
    """The Opened of a name or path."""
    if name in EMBEDDED:
        parts, known = EMBEDDED[name]
        return Opened(name, parts(), known, classes)
    if name in KNOWN:
        return Opened(name, open_path(registry.find(name)), KNOWN[name], classes)
    if Path(name).expanduser().exists():
        return Opened(str(name), open_path(name), Known(), classes)
    if "/" in str(name):
        raise FileNotFoundError(f"image set '{name}' was expected as a folder at {Path(name).absolute()}. Check the path.")
    known = [*EMBEDDED, *KNOWN]
    close = difflib.get_close_matches(str(name), known, n=1)
    meant = f" Did you mean '{close[0]}'?" if close else ""
    raise KeyError(f"no image set '{name}'.{meant} Choose one of: {', '.join(known)}; or a folder.")


def _load(opened, part, split, size, lazy, skip_broken):
    """The Images of a Part."""
    headers, border, size = None, opened.known.border, _checked(size) or opened.known.size
    if size is None:
        headers = _look(part)
        size = _size(headers)
    if lazy or (lazy is None and len(part.pictures) * 3 * size**2 > EAGER):
        headers = headers or _look(part)
        x = LazyImages(part.pictures, size, border)
    else:
        headers, x = pixels.decode(part.pictures, size, border)
    kept = [i for i, header in enumerate(headers) if header.problem is None]
    if not (skip_broken and kept):
        _refuse_broken(part.pictures, headers)
    card = _card(opened, part, headers, split, size)
    if len(kept) < len(headers):
        part = _take(part, kept)
        x = LazyImages(part.pictures, size, border) if isinstance(x, LazyImages) else x[kept]
    return Images(x, torch.from_numpy(part.labels), part.class_names, card)


def _look(part):
    return [pixels.look(picture) for picture in part.pictures]


def _checked(size):
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 pixel, found {size}. Use size=None for that of the set.")
    return size


# parts


def _chosen(opened, split, limit, seed):
    """The Part of a split, of the classes wanted, of limited length; an empty one is an error."""
    check_limit(limit, "pictures")
    part, classes = _split(opened, split), opened.classes
    if classes is not None:
        unknown = [each for each in classes if each not in part.class_names]
        if unknown:
            raise ValueError(f"'{opened.name}' has no class {', '.join(unknown)}; choose from: {', '.join(part.class_names)}.")
        number = np.full(len(part.class_names), -1)
        number[[part.class_names.index(each) for each in classes]] = np.arange(len(classes))
        part = part._replace(labels=number[part.labels], class_names=tuple(classes))
        part = _take(part, np.flatnonzero(part.labels >= 0))
    if not part.pictures:
        raise ValueError(f"split '{split}' of '{opened.name}' is empty: expected a picture or more. Try split='all'.")
    return _take(part, draw_rows(len(part.pictures), limit, seed))


def _split(opened, split):
    name, parts = opened.name, opened.parts
    if split == "all":
        made = [parts[key]() for key in ALIASES if key in parts]
        if len({part.class_names for part in made}) > 1:
            raise ValueError(f"the parts of '{name}' have different classes, expected the same. Load them one by one.")
        return Part([picture for part in made for picture in part.pictures], np.concatenate([part.labels for part in made]),
                    made[0].class_names, tuple(dict.fromkeys(note for part in made for note in part.notes)))
    split = canonical_split(split)
    if split == "train" and "train" not in parts:
        raise FileNotFoundError(f"'{name}' has no train part, found {', '.join(parts)}. Use split='all' for what there is.")
    if split in parts and len(parts) > 1:
        return parts[split]()
    if len(parts) > 1:  # valid and test stand in for each other
        stand_in = "test" if split == "valid" else "valid"
        part = parts[stand_in]()
        return part._replace(notes=(*part.notes, f"no {split} part: the {stand_in} part serves"))
    part = next(iter(parts.values()))()
    kept = [i for i, picture in enumerate(part.pictures) if (cut(_key(picture), 5) == "train") == (split == "train")]
    share = "nine tenths of it are train" if split == "train" else "a tenth of it is valid and test"
    return _take(part, kept)._replace(notes=(*part.notes, f"the set has one part: {share}, split='all' gives all of it"))


def _key(picture):
    """What decides for good which part a picture belongs to: class folder and file name, or what it holds."""
    content = picture.content
    if isinstance(content, str):
        return "/".join(Path(content).parts[-2:])
    return hashlib.blake2b(content if isinstance(content, bytes) else np.ascontiguousarray(content)).hexdigest()


def _take(part, rows):
    return part._replace(pictures=[part.pictures[i] for i in rows], labels=part.labels[rows])


# the card


def _size(headers):
    """The largest power of two that nine tenths of the pictures reach with their shorter side."""
    sides = sorted(min(header.width, header.height) for header in headers if header.problem is None)
    return 1 << sides[len(sides) // 10].bit_length() - 1 if sides else 1


def _refuse_broken(pictures, headers):
    broken = [(picture.name, header.problem) for picture, header in zip(pictures, headers, strict=True) if header.problem]
    if broken:
        name, problem = broken[0]
        raise ValueError(f"{len(broken):,} of {len(headers):,} pictures cannot be read, first {name} ({problem}). "
                         "Repair or remove them, or leave them out with skip_broken=True.")


def _card(opened, part, headers, split, size):
    known = opened.known
    whole = [i for i, header in enumerate(headers) if header.problem is None]
    shapes = np.array([headers[i][:2] for i in whole]).reshape(-1, 2) + 2 * known.border  # (N, 2) width, height
    modes = Counter(headers[i].mode for i in whole)
    per_class = np.bincount(part.labels[whole], minlength=len(part.class_names))
    counts = {each: int(n) for each, n in zip(part.class_names, per_class, strict=True)}
    sizes = Counter(f"{headers[i].width}x{headers[i].height}" for i in whole)

    corrections, warnings = list(part.notes), [known.warning] if known.warning else []
    for mode, n in modes.items():
        if mode != "RGB":
            white = mode in ("RGBA", "LA", "PA") or "transparent" in mode
            corrections.append(f"{n:,} of mode {mode} turned into RGB" + (", laid on white" if white else ""))
    if known.border:
        corrections.append(f"a black border of {known.border} pixels put around")
    if n := int((shapes[:, 0] != shapes[:, 1]).sum()):
        corrections.append(f"{n:,} not square: cut to their middle square")
    if n := int((shapes.min(1) != size).sum()):
        corrections.append(f"{n:,} resized to {size} x {size} (bicubic, antialiased)")
    if n := 0 if known.size else int((shapes.min(1) < size).sum()):
        warnings.append(f"{n:,} are smaller than {size} pixels and were enlarged")
    if size & (size - 1):
        warnings.append(f"size {size} is not a power of two, which BigGAN and StyleGAN2 need: "
                        f"use {1 << size.bit_length() - 1} or {1 << size.bit_length()} for these")
    if len(counts) == 1:
        warnings.append(f"one class only ({part.class_names[0]}): enough for unconditional models, else a wrong level")
    elif empty := [each for each, n in counts.items() if not n]:
        warnings.append(f"{len(empty)} of {len(counts)} classes have no picture: {', '.join(empty[:5])}")
    if broken := [i for i, header in enumerate(headers) if header.problem]:
        first = ", ".join(f"{part.pictures[i].name} ({headers[i].problem})" for i in broken[:5])
        warnings.append(f"{len(broken):,} unreadable, left out by skip_broken=True: {first}")
    return Card(opened.name, split, size, counts, dict(sizes.most_common()), dict(modes.most_common()), tuple(corrections),
                tuple(warnings))


def _counted(numbers, most=5):
    """'a 5, b 4, and 3 more' of a dict of counts; 'a, b (7 each)' where they are equal."""
    alike = len(numbers) > 1 and len(set(numbers.values())) == 1
    shown = ", ".join(key if alike else f"{key} {n:,}" for key, n in list(numbers.items())[:most])
    more = f", and {len(numbers) - most} more" if len(numbers) > most else ""
    return shown + more + (f" ({next(iter(numbers.values())):,} each)" if alike else "")
