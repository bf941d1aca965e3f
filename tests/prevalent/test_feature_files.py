"""Feature files made by hand: read back, converted once, and every way of being broken named with nothing left behind."""

import base64

import h5py
import numpy as np
import pytest

from dgmlab.prevalent.feature_files import convert_hdf5, convert_tsv
from dgmlab.prevalent.features import observe_at, open_features
from dgmlab.prevalent.houses import Houses

SIZE = 8


@pytest.fixture
def houses(monkeypatch, tmp_path):
    monkeypatch.setenv("DGMLAB_HOME", str(tmp_path / "home"))
    return Houses.toy([0, 1])


@pytest.fixture
def values(houses):
    """Panorama -> (36, SIZE), in an order that is not that of the houses."""
    rng = np.random.default_rng()
    keys = ["_".join(houses.name(row)) for row in rng.permutation(len(houses))]
    return {key: rng.uniform(0, 3, (36, SIZE)).astype(np.float32) for key in keys}


def line(key, value):
    return "\t".join([*key.split("_", 1), "640", "480", "60", base64.b64encode(value.tobytes()).decode()]) + "\n"


def write_tsv(path, values):
    path.write_text("".join(line(key, value) for key, value in values.items()))
    return path


def write_hdf5(path, values):
    with h5py.File(path, "w") as file:
        for key, value in values.items():
            file[key] = value
    return path


def cached(tmp_path):
    folder = tmp_path / "home" / "cache" / "features"
    return sorted(path.suffix for path in folder.iterdir()) if folder.exists() else []


def wanted(houses, values):
    return np.array([values["_".join(houses.name(row))] for row in range(len(houses))], np.float16)


def test_tsv_is_converted_once_and_read_in_the_order_of_the_houses(houses, values, tmp_path, monkeypatch):
    path = write_tsv(tmp_path / "ResNet.tsv", values)
    features = open_features("tsv", houses, path)
    assert features.size == SIZE and features.views.shape == (len(houses), 36, SIZE)
    np.testing.assert_array_equal(features.views[np.arange(len(houses))], wanted(houses, values))
    assert features.views.table.dtype == np.float16 and isinstance(features.views.table, np.memmap)
    assert cached(tmp_path) == [".json", ".npy"]
    monkeypatch.setattr("dgmlab.prevalent.feature_files._tsv_rows", None)  # a second reading would fail
    fewer = Houses([houses.houses[houses.scans[1]]])
    again = open_features("tsv", fewer, str(path))
    np.testing.assert_array_equal(again.views[np.arange(len(fewer))], wanted(fewer, values))


def test_observations_come_from_the_memory_map(houses, values, tmp_path):
    import torch

    features = open_features("tsv", houses, write_tsv(tmp_path / "a.tsv", values))
    seen = observe_at(features, torch.tensor([5, 2]), torch.tensor([0, 0]))
    np.testing.assert_array_equal(seen.views[..., :SIZE], wanted(houses, values)[[5, 2]])


def test_hdf5_keeps_the_first_numbers(houses, values, tmp_path):
    path = write_hdf5(tmp_path / "vit.hdf5", values)
    for size, found in ((None, SIZE), (3, 3)):
        features = open_features("hdf5", houses, path, size)
        assert features.size == found
        np.testing.assert_array_equal(features.views[np.arange(len(houses))], wanted(houses, values)[..., :found])


def test_a_changed_file_is_converted_again(houses, values, tmp_path):
    path = write_tsv(tmp_path / "a.tsv", values)
    convert_tsv(path)
    more = {key: value + 1 for key, value in values.items()} | {"other_house": np.zeros((36, SIZE), np.float32)}
    features = open_features("tsv", houses, write_tsv(path, more))
    np.testing.assert_array_equal(features.views[[0]], wanted(houses, more)[[0]])


def test_missing_panorama_is_named(houses, values, tmp_path):
    key = "_".join(houses.name(4))
    del values[key]
    with pytest.raises(ValueError, match=rf"lacks 1 of {len(houses)} panoramas, first {key}\. Open the features"):
        open_features("tsv", houses, write_tsv(tmp_path / "a.tsv", values))


BROKEN = {
    "truncated in the middle of a line": (lambda lines: [*lines[:3], lines[3][:801]], "line 4: "),
    "a line of another size": (lambda lines: [*lines[:2], line("toy0_x", np.zeros((36, SIZE - 1), np.float32))],
                               "line 3: expected features of 1,152 bytes as on line 1, found 1,008"),
    "a cell missing": (lambda lines: [lines[0], lines[1].replace("\t640", "")],
                       "line 2: expected 6 tab-separated cells, found 5"),
    "not 36 views": (lambda lines: [line("toy0_x", np.zeros((35, SIZE), np.float32))],
                     "line 1: expected features of a multiple of 144 bytes, found 1,120"),
    "not base64": (lambda lines: [lines[0][:-9] + "????????\n"], "line 1: the features are not whole base64"),
    "a panorama twice": (lambda lines: [lines[0], lines[1], lines[0]], "line 3 repeats "),
    "not finite": (lambda lines: [line("toy0_x", np.full((36, SIZE), 1e6, np.float32))], "not finite in half precision"),
    "empty": (lambda lines: [], "holds 0 panoramas, expected 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tsv_is_named_and_nothing_half_done_stays(name, houses, values, tmp_path):
    change, message = BROKEN[name]
    path = tmp_path / "a.tsv"
    path.write_text("".join(change([line(key, value) for key, value in values.items()])))
    with pytest.raises(ValueError, match=message):
        convert_tsv(path)
    assert cached(tmp_path) == []
    write_tsv(path, values)  # and mended, it is read
    assert len(convert_tsv(path).ids) == len(houses)


def test_broken_hdf5_is_named(houses, values, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected at .*none.hdf5, found no file"):
        convert_hdf5(tmp_path / "none.hdf5")
    (tmp_path / "cut.hdf5").write_bytes(write_hdf5(tmp_path / "a.hdf5", values).read_bytes()[:2000])
    with pytest.raises(ValueError, match="cut.hdf5 is not a whole HDF5 file"):
        convert_hdf5(tmp_path / "cut.hdf5")
    with pytest.raises(ValueError, match=rf"expected a data set \(36, 9 or more\), found \(36, {SIZE}\)"):
        convert_hdf5(tmp_path / "a.hdf5", 9)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file.create_group("toy9_a/b")
    with pytest.raises(ValueError, match=r"toy9_a: expected a data set \(36, F\), found a group"):
        convert_hdf5(tmp_path / "a.hdf5")
    assert cached(tmp_path) == []
