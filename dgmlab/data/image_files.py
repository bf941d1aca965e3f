"""Pictures out of files that hold many: parquet in the hub's layout, CIFAR's python batches, scikit-learn's samples.

Parquet has a column of encoded pictures (bytes, or a struct with `bytes`) and a column of class numbers, whose names stand in
the metadata. CIFAR's batches are pickles; they are read by an unpickler that knows arrays, lists and text and nothing else.
"""

import io
import json
import pickle
import re
import tarfile
import zlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.data.pixels import Picture
from dgmlab.data.reading import ALIASES

PHOTO_CROPS = {"train": 2_000, "test": 500}  # of each photo
PHOTO_SIDE = 128  # pixels of a crop: enough to hold a roof or a flower


class Part(NamedTuple):
    """pictures: list of N Picture; labels: (N,) int64 index into class_names; notes: what was corrected or left out"""

    pictures: list
    labels: np.ndarray
    class_names: tuple
    notes: tuple = ()


# parquet


def open_parquet(tables, folder):
    """Parquet files below `folder`, by the split in their name or in that of a folder; without one, all are train. -> parts"""
    found = {}
    for path in tables:
        words = set(re.split(r"[./\\_-]", str(path.relative_to(folder)).lower()))
        split = next((split for split, aliases in ALIASES.items() if words & set(aliases)), "train")
        found.setdefault(split, []).append(path)
    return {split: partial(_parquet, paths, folder.name) for split, paths in found.items()}


def _parquet(paths, name):
    """The rows of parquet files in the hub's layout; without a column of labels they are one class."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError(f"{paths[0]} needs the package pyarrow, found none. Run `pip install dgmlab[hub]`.") from None
    pictures, labels, class_names = [], [], None
    for path in paths:
        try:
            schema = pq.read_schema(path)
            image = next((field.name for field in schema if pa.types.is_binary(field.type) or
                          (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)), None)
            label = next((key for key in ("label", "fine_label", "labels") if key in schema.names), None)
            if image is None or (label and not pa.types.is_integer(schema.field(label).type)):
                wanted = "a column of encoded pictures and one of class numbers"
                raise ValueError(f"expected {wanted}, found {', '.join(f'{field.name}: {field.type}' for field in schema)}")
            columns = pq.read_table(path, columns=[key for key in (image, label) if key])
        except (pa.ArrowException, OSError, ValueError) as error:  # pyarrow's errors run over several lines
            reason = str(error).splitlines()[0].rstrip(".")
            raise ValueError(f"cannot read {path} as a parquet file of pictures: {reason}.") from None
        cells = (cell for chunk in columns.column(image).chunks for cell in chunk.to_pylist())
        contents = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
        pictures += [Picture(content, f"{path}, row {row}") for row, content in enumerate(contents)]
        labels.append(columns.column(label).to_numpy() if label else np.zeros(len(contents)))
        class_names = class_names or ((name,) if not label else _label_names(schema, label))
    labels = np.concatenate(labels).astype(np.int64)
    class_names = class_names or tuple(map(str, range(labels.max(initial=0) + 1)))
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError(f"expected class numbers 0..{len(class_names) - 1} in {paths[0]}, found {labels.min()} to "
                         f"{labels.max()}. Hidden labels are often -1: use another split.")
    return Part(pictures, labels, class_names)


def _label_names(schema, label):
    """Class names in the metadata that the hub's library writes, or None."""
    stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    return tuple(stored.get("info", {}).get("features", {}).get(label, {}).get("names") or ()) or None


# CIFAR's python batches


class _NumbersOnly(pickle.Unpickler):
    """Reads arrays of numbers, lists and text; a pickle that asks for anything else is refused before it can run.

    The three names of numpy are what an array is written with; the rest of pickle's power is code from a stranger.
    """

    SAFE = {
        **dict.fromkeys((("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")),
                        np.empty(0).__reduce__()[0]),
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        if (module, name) not in self.SAFE:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.SAFE[module, name]


def read_batch(raw, name):
    """One file of CIFAR's python version, read without running anything that is in it.

    raw  bytes of the file;  name  for messages
    -> dict with str keys
    """
    try:
        batch = _NumbersOnly(io.BytesIO(raw), encoding="bytes").load()
        return {_text(key): value for key, value in batch.items()}
    except Exception as error:  # a broken pickle can raise anything
        advice = "Do not open it with pickle; fetch it again."
        raise ValueError(f"{name} is no CIFAR batch ({error}): expected arrays, lists and text. {advice}") from None


def open_cifar(path, names):
    """CIFAR-10 or CIFAR-100 in an unpacked folder (`names` lists its files) or a .tar.gz (`names` is empty). -> parts"""
    hundred = "cifar-100" in path.name or {"meta", "train"} <= set(names)
    members = partial(_folder_members if names else _tar_members, path)
    files = (("train",), ("test",)) if hundred else (tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",))
    return {split: partial(_cifar_part, path, members, wanted) for split, wanted in zip(("train", "test"), files, strict=True)}


def _cifar_part(path, members, wanted):
    """The pictures of some batches, (n, 3072) bytes each, red plane first, and the class names of the meta file."""
    files = members()
    about = "batches.meta" if "batches.meta" in files else "meta"
    missing = [name for name in (*wanted, about) if name not in files]
    if missing:
        raise FileNotFoundError(f"expected {', '.join(missing)} in {path}, found {', '.join(sorted(files))}. Fetch it again.")
    meta = read_batch(files[about], f"{path}/{about}")
    names = meta.get("label_names") or meta.get("fine_label_names") or ()
    class_names = tuple(_text(name) for name in names)
    pictures, labels = [], []
    for name in wanted:
        batch = read_batch(files[name], f"{path}/{name}")
        data, found = batch.get("data"), batch.get("labels", batch.get("fine_labels", ()))
        if getattr(data, "dtype", None) != np.uint8 or data.shape != (len(found), 3072):
            held = ", ".join(map(str, batch))
            raise ValueError(f"{path}/{name}: expected data (n, 3072) uint8 and n labels, found keys {held}. Fetch it again.")
        pixels = np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # (n, 32, 32, 3)
        pictures += [Picture(picture, f"{path}/{name}, row {row}") for row, picture in enumerate(pixels)]
        labels += found
    return Part(pictures, np.array(labels, dtype=np.int64), class_names)


def _text(word):
    return word.decode() if isinstance(word, bytes) else word


def _folder_members(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _tar_members(path):
    """Contents of the files in an archive, by their names without folders; nothing is unpacked to disk."""
    try:
        with tarfile.open(path) as archive:
            return {Path(member.name).name: archive.extractfile(member).read() for member in archive if member.isfile()}
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole .tar.gz file ({error}). Fetch it again.") from None


# what scikit-learn brings


def digits():
    """1,797 handwritten digits of 8 x 8 grey values 0..16 (Alpaydin and Kaynak 1998), white on black. -> parts"""
    from sklearn.datasets import load_digits

    def part():
        found = load_digits()
        pixels = (found.images * (255 / 16)).round().astype(np.uint8)
        pictures = [Picture(picture, f"digits, row {row}") for row, picture in enumerate(pixels)]
        return Part(pictures, found.target.astype(np.int64), tuple(map(str, range(10))))

    return {"train": part}


def coloured_digits(stroke, ground):
    """The same digits in two RGB colours, (8, 8, 3): with `digits` a pair of styles whose right translation is known."""
    def part():
        grey = digits()["train"]()
        shares = [picture.content[:, :, None] / 255 for picture in grey.pictures]
        coloured = [(share * stroke + (1 - share) * ground).round().astype(np.uint8) for share in shares]
        return grey._replace(pictures=[Picture(x, f"coloured digits, row {row}") for row, x in enumerate(coloured)])

    return {"train": part}


def photos():
    """Crops of 128 x 128 out of scikit-learn's two photos, each a class: train from their left 3/4, test from the rest."""
    from sklearn.datasets import load_sample_images

    def part(split):
        found, rng = load_sample_images(), np.random.default_rng(0)  # the same crops everywhere
        pictures, n = [], PHOTO_CROPS[split]
        for photo, path in zip(found.images, found.filenames, strict=True):
            height, width, _ = photo.shape
            first, last = (0, width * 3 // 4) if split == "train" else (width * 3 // 4, width)
            tops = rng.integers(height - PHOTO_SIDE + 1, size=n)
            lefts = rng.integers(first, last - PHOTO_SIDE + 1, size=n)
            pictures += [Picture(photo[top:top + PHOTO_SIDE, left:left + PHOTO_SIDE], f"{Path(path).stem} at {left}, {top}")
                         for top, left in zip(tops, lefts, strict=True)]
        names = tuple(Path(path).stem for path in found.filenames)
        return Part(pictures, np.repeat(np.arange(len(names)), n), names)

    return {split: partial(part, split) for split in PHOTO_CROPS}
