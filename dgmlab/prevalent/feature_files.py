"""Picture features that others have computed, converted once into a float16 .npy that is read at random without loading it.

The TSV of Matterport3DSimulator (Anderson et al. 2018): one panorama a line, without a header: scan, viewpoint, width, height,
vertical field of view, and base64 of float32 (36, F), F = 2048 for ResNet-152. The HDF5 files of HAMT and DUET (Chen et al.
2021, 2022): one data set a panorama, named scan_viewpoint, (36, F) of floats; in theirs the scores of 1,000 classes follow the
features, so F is cut. Views are in the order 0..35 in both.

The cache lies in `home()/cache/features` and is named after the file's path, size and time. It appears only when it is whole:
a conversion that fails or is killed leaves nothing behind that a later one would take for the result.
"""

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.run import home, read_json, write_json

VIEWS = 36


class FeatureTable(NamedTuple):
    """views (N, 36, F) float16 memory map in the order of the file; ids: list of N 'scan_viewpoint'."""

    views: np.ndarray
    ids: list


def rows_of(table, houses, path):
    """Where the panoramas of `houses` stand in a FeatureTable; every included one must be there. -> (P,) int64"""
    place = {key: i for i, key in enumerate(table.ids)}
    where = np.zeros(len(houses), np.int64)
    missing = []
    for row in np.flatnonzero(houses.included):
        key = "_".join(houses.name(row))
        if key in place:
            where[row] = place[key]
        else:
            missing.append(key)
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing):,} of {int(houses.included.sum()):,} panoramas, first {missing[0]}. "
            "Open the features that belong to these houses, or leave the houses out."
        )
    return where


def convert_tsv(path):
    """The features of a TSV file; converted on the first call. -> FeatureTable"""
    path = _existing(path)
    return _cached(path, "", lambda: _count_lines(path), lambda: _tsv_rows(path))


def convert_hdf5(path, size=None):
    """The features of an HDF5 file, of each row the first `size` numbers; converted on the first call. -> FeatureTable"""
    path = _existing(path)
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{path} needs the package h5py, found none. Run `pip install dgmlab[navigation]`.") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is not a whole HDF5 file ({error}). Copy or download it again.") from None
    with file:
        return _cached(path, f"-{size}" if size else "", lambda: len(file), lambda: _hdf5_rows(path, file, size))


def _existing(path):
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise FileNotFoundError(f"picture features were expected at {path}, found no file. Give a .tsv or .hdf5 file.")
    return path


def _cached(path, suffix, count, rows):
    """The table of a file, from the cache, or from rows() -> (name of the place, id, (36, F) floats), count() of them."""
    stat = path.stat()
    key = hashlib.sha256(f"{path} {stat.st_size} {stat.st_mtime_ns}{suffix}".encode()).hexdigest()[:16]
    target = home() / "cache" / "features" / f"{path.stem}-{key}.npy"
    ids = target.with_suffix(".json")
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            write_json(ids, _fill(part, path, count(), rows()))
            os.replace(part, target)  # last: where the array is, the ids are
        finally:
            part.unlink(missing_ok=True)
    # copy-on-write, as torch refuses read-only arrays; nothing writes to it
    return FeatureTable(np.load(target, mmap_mode="c"), read_json(ids))


def _fill(part, path, n, rows):
    """Write rows of equal shape into an .npy. -> ids"""
    table, ids = None, {}
    for i, (place, key, values) in enumerate(rows):
        if table is None:
            table = np.lib.format.open_memmap(part, "w+", np.float16, (n, *values.shape))
        if values.shape != table.shape[1:]:
            raise ValueError(f"{place} has the shape {values.shape}, expected {table.shape[1:]} as before. Restore the file.")
        if key in ids:
            raise ValueError(f"{place} repeats {key}, expected each panorama once. Remove one of the two.")
        with np.errstate(over="ignore"):
            table[i] = values
        if not np.isfinite(table[i]).all():
            raise ValueError(f"{place} holds numbers that are not finite in half precision. Restore the file.")
        ids[key] = i
    if len(ids) < max(n, 1):
        raise ValueError(f"{path} holds {len(ids)} panoramas, expected {max(n, 1)}. Restore the file.")
    table.flush()
    return list(ids)


def _count_lines(path):
    """Lines of a file, a last one without its end included."""
    n, last = 0, b"\n"
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            n, last = n + block.count(b"\n"), block[-1:]
    return n + (last != b"\n")


def _tsv_rows(path):
    size = None
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}, line {number}"
            cells = line.rstrip(b"\r\n").split(b"\t")
            if len(cells) != 6:
                raise ValueError(f"{place}: expected 6 tab-separated cells, found {len(cells)}. Restore the file.")
            try:
                raw = base64.b64decode(cells[5], validate=True)
            except binascii.Error as error:
                raise ValueError(f"{place}: the features are not whole base64 ({error}). Restore the file.") from None
            size = size or len(raw)
            if len(raw) != size or len(raw) % (4 * VIEWS) or not raw:
                wanted = f"{size:,} bytes as on line 1" if len(raw) != size else f"a multiple of {4 * VIEWS} bytes"
                raise ValueError(f"{place}: expected features of {wanted}, found {len(raw):,}. Restore the file.")
            yield place, f"{cells[0].decode()}_{cells[1].decode()}", np.frombuffer(raw, "<f4").reshape(VIEWS, -1)


def _hdf5_rows(path, file, size):
    for key, data in file.items():
        place = f"{path}, {key}"
        if getattr(data, "ndim", 0) != 2 or data.shape[0] != VIEWS or data.shape[1] < (size or 1):
            found = getattr(data, "shape", "a group")
            raise ValueError(f"{place}: expected a data set ({VIEWS}, {f'{size} or more' if size else 'F'}), found {found}.")
        yield place, key, data[:, :size]
