"""Parquet as on the hub, CIFAR's batches as Python 2 wrote them, hostile pickles, scikit-learn's samples."""

import io
import json
import os
import pickle
import struct
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from dgmlab.data.image_files import coloured_digits, digits, photos, read_batch
from dgmlab.data.images import describe, load_images


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# CIFAR


class Python2(pickle._Pickler):
    """Writes what Python 2 wrote: its text is bytes, told by other codes than Python 3's."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        short = pickle.SHORT_BINSTRING + bytes([len(value) % 256])
        self.write((short if len(value) < 256 else pickle.BINSTRING + struct.pack("<i", len(value))) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def python2(value):
    file = io.BytesIO()
    Python2(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar10(n=4):
    """Files of CIFAR-10's python version, n pictures a batch, and their pixels (n, 32, 32, 3) by name."""
    names = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
    files, pixels = {"batches.meta": python2({b"label_names": names, b"num_vis": 3072})}, {}
    for seed, name in enumerate(["test_batch", *(f"data_batch_{i}" for i in range(1, 6))]):
        pixels[name] = noise(n, 32, 32, 3, seed=seed)
        data = pixels[name].transpose(0, 3, 1, 2).reshape(n, 3072)
        files[name] = python2({b"batch_label": b"a batch", b"labels": [(seed + i) % 10 for i in range(n)], b"data": data})
    return files, pixels


def packed(path, folder, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))
    return tmp_path


def written(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_cifar10_unpacked_and_packed(data):
    files, pixels = cifar10()
    written(data / "cifar10" / "cifar-10-batches-py", files)
    train, test = load_images("cifar10"), load_images("cifar10", "test")
    wanted = np.concatenate([pixels[f"data_batch_{i}"] for i in range(1, 6)])
    assert (train.x.numpy() == wanted.transpose(0, 3, 1, 2)).all()
    assert train.y.tolist() == [(seed + i) % 10 for seed in range(1, 6) for i in range(4)]
    assert train.class_names[3] == "cat" and len(train.class_names) == 10
    assert (test.x.numpy() == pixels["test_batch"].transpose(0, 3, 1, 2)).all()
    archive = packed(data / "cifar-10-python.tar.gz", "cifar-10-batches-py", files)
    for name in (archive, str(archive)):
        assert np.array_equal(load_images(name).x, train.x)
    written(data / "again", {archive.name: archive.read_bytes()})
    assert np.array_equal(load_images(data / "again", "all").y, [*train.y, *test.y])


def test_cifar100_gives_the_fine_classes(data):
    rows = noise(6, 3072)
    labels = {b"fine_labels": [0, 2, 1, 1, 0, 2], b"coarse_labels": [0] * 6}
    files = {"meta": python2({b"fine_label_names": [b"apple", b"bear", b"cup"], b"coarse_label_names": [b"thing"]}),
             "train": python2({b"data": rows, **labels}), "test": python2({b"data": rows[:2], b"fine_labels": [1, 2]})}
    written(data / "cifar100", files)
    found = load_images("cifar100")
    assert found.class_names == ("apple", "bear", "cup") and found.y.tolist() == [0, 2, 1, 1, 0, 2]
    assert (found.x.numpy().reshape(6, 3072) == rows).all()
    assert load_images("cifar100", "test").y.tolist() == [1, 2]
    packed(data / "cifar-100-python.tar.gz", "cifar-100-python", files)
    assert load_images(data / "cifar-100-python.tar.gz", "test").class_names == ("apple", "bear", "cup")


class Attack:
    def __reduce__(self):
        return os.system, ("echo harmed > harmed",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    raw = pickle.dumps({"data": Attack()}, protocol)
    with pytest.raises(ValueError, match=r"evil is no CIFAR batch \(it asks for (posix|nt).system\): expected arrays, lists"):
        read_batch(raw, "evil")
    assert list(tmp_path.iterdir()) == []
    pickle.loads(raw)  # the attack is real: the unpickler of the standard library runs it
    assert (tmp_path / "harmed").is_file()


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.getattr", "numpy.load", "numpy.core.multiarray.fromfile"])
def test_nothing_but_arrays_can_be_asked_for(name):
    module, function = name.rsplit(".", 1)
    with pytest.raises(ValueError, match=f"it asks for {name}"):
        read_batch(f"c{module}\n{function}\n.".encode(), "x")


def test_broken_batches_name_the_file(data):
    files, _ = cifar10()
    folder = written(data / "cifar10", files | {"data_batch_2": files["data_batch_2"][:-20]})
    with pytest.raises(ValueError, match="data_batch_2 is no CIFAR batch .*: expected arrays, lists and text. Do not open it"):
        load_images("cifar10")
    (folder / "data_batch_2").write_bytes(python2({b"data": noise(4, 3071), b"labels": [0] * 4}))
    with pytest.raises(ValueError, match=r"data_batch_2: expected data \(n, 3072\) uint8 and n labels, found keys data"):
        load_images("cifar10")
    (folder / "data_batch_2").unlink()
    with pytest.raises(FileNotFoundError, match="expected data_batch_2 in .*cifar10, found batches.meta, data_batch_1, d"):
        load_images("cifar10")
    whole = packed(data / "cifar-10-python.tar.gz", "x", files).read_bytes()
    (data / "cifar-10-python.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cifar-10-python.tar.gz is not a whole .tar.gz file .*Fetch it again"):
        load_images(data / "cifar-10-python.tar.gz")


# parquet


def parquet(path, images, labels=None, names=None, key="label", image="image"):
    pa = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed (pip install dgmlab[hub])")
    import pyarrow.parquet

    cells = [{"bytes": each, "path": None} for each in images]
    columns = {image: pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    if labels is not None:
        columns[key] = pa.array(labels)
    table = pa.table(columns)
    if names:
        features = {image: {"_type": "Image"}, key: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=3)
    return path


def test_parquet_of_the_hub_in_shards_and_splits(tmp_path):
    pixels = noise(9, 8, 8, 3)
    images = [png(each) for each in pixels]
    for shard in range(2):
        rows = slice(4 * shard, 4 * shard + 4)
        parquet(tmp_path / f"data/train-0000{shard}-of-00002.parquet", images[rows], [0, 1, 1, 2], ["ape", "bee", "cow"])
    parquet(tmp_path / "data/validation-00000-of-00001.parquet", images[8:], [2], ["ape", "bee", "cow"])
    train, valid = load_images(tmp_path), load_images(tmp_path, "valid")
    assert (train.x.numpy() == pixels[:8].transpose(0, 3, 1, 2)).all() and train.y.tolist() == [0, 1, 1, 2] * 2
    assert train.class_names == valid.class_names == ("ape", "bee", "cow")
    assert (valid.x.numpy()[0] == pixels[8].transpose(2, 0, 1)).all() and valid.y.tolist() == [2]
    assert np.array_equal(load_images(tmp_path, "test").x, valid.x)
    assert "no test part: the valid part serves" in str(describe(tmp_path, "test"))


def test_parquet_with_other_columns(tmp_path):
    images = [png(each) for each in noise(40, 8, 8)]
    parquet(tmp_path / "fine.parquet", images, [i % 4 for i in range(40)], [*"abcd"], key="fine_label", image="img")
    assert load_images(tmp_path / "fine.parquet", "all").card.counts == {"a": 10, "b": 10, "c": 10, "d": 10}
    parquet(tmp_path / "numbers/x.parquet", images, [i % 3 for i in range(40)])
    assert load_images(tmp_path / "numbers", "all").class_names == ("0", "1", "2")
    parquet(tmp_path / "plain/x.parquet", images)
    assert load_images(tmp_path / "plain", "all").class_names == ("plain",)


def test_parquet_that_does_not_serve(tmp_path, monkeypatch):
    image = png(noise(8, 8))
    path = parquet(tmp_path / "a" / "hidden.parquet", [image] * 2, [-1, -1], ["a", "b"])
    with pytest.raises(ValueError, match="expected class numbers 0..1 in .*hidden.parquet, found -1 to -1. Hidden labels"):
        load_images(path)
    path = parquet(tmp_path / "b" / "text.parquet", [image], ["cat"])
    with pytest.raises(ValueError, match="text.parquet as a parquet file of pictures: expected a column of encoded pictures "
                                         "and one of class numbers, found image: struct.*, label: string"):
        load_images(path)
    path = parquet(tmp_path / "c" / "null.parquet", [image, None, b"nonsense"], [0, 0, 1])
    with pytest.raises(ValueError, match=r"2 of 3 pictures cannot be read, first .*null.parquet, row 1 \(it holds no bytes\)"):
        load_images(path, "all")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"cannot read .*broken.parquet as a parquet file of pictures: [^\n]*$"):
        load_images(tmp_path / "broken.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"parquet needs the package pyarrow, found none. Run `pip install dgmlab\[hub\]`"):
        load_images(path)


# what scikit-learn brings


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    raw = load_digits()
    found = load_images("digits", "all", size=8)
    assert found.x.shape == (1797, 3, 8, 8) and (found.y.numpy() == raw.target).all()
    assert abs(found.x[:, 1].numpy() / 255 - raw.images / 16).max() < 0.5 / 255 + 1e-9
    assert len(digits()["train"]().pictures) == 1797
    train, test = load_images("digits"), load_images("digits", "test")
    assert train.x.shape == (1600, 3, 32, 32) and len(test.x) == 197  # frozen: runs are compared across machines
    assert test.card.counts["0"] == 18 and set(test.card.counts.values()) <= set(range(10, 30))
    assert np.array_equal(load_images("digits", "valid").x, test.x)


def test_coloured_digits_are_the_same_between_two_colours():
    stroke, ground = (28, 44, 116), (248, 236, 208)
    grey, inked = digits()["train"](), coloured_digits(stroke, ground)["train"]()
    assert (inked.labels == grey.labels).all() and len(inked.pictures) == 1797
    for white, blue in zip(grey.pictures[::300], inked.pictures[::300], strict=True):
        share = white.content[..., None] / 255
        assert blue.content.shape == (8, 8, 3) and blue.content.dtype == np.uint8
        assert abs(blue.content - (np.array(ground) + share * (np.array(stroke) - ground))).max() <= 0.5
        assert (blue.content[white.content == 0] == ground).all() and (blue.content[white.content == 255] == stroke).all()
    chalk, ink = (load_images(name, "all", size=8) for name in ("chalk", "ink"))
    assert torch.equal(chalk.y, ink.y) and chalk.x[..., 0, 0].float().mean() < 80 < 200 < ink.x[..., 0, 0].float().mean()


def test_photo_crops_of_train_and_test_never_overlap():
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    for split, n in (("train", 2000), ("test", 500)):
        part = photos()[split]()
        assert part.class_names == ("china", "flower") and np.bincount(part.labels).tolist() == [n, n]
        lefts = [int(picture.name.split(" at ")[1].split(",")[0]) for picture in part.pictures]
        assert (max(lefts) + 128 <= 480) if split == "train" else (480 <= min(lefts) and max(lefts) + 128 <= 640)
        for picture in part.pictures[:: n // 10]:
            name, left, top = picture.name.replace(" at", "").replace(",", "").split()
            source = china if name == "china" else flower
            assert (picture.content == source[int(top) : int(top) + 128, int(left) : int(left) + 128]).all()
    found = load_images("photos", "test")
    assert found.x.shape == (1000, 3, 32, 32) and np.array_equal(found.x, load_images("photos", "test").x)
