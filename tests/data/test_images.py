"""Folders of every layout and every mistake, domains without pairs, the card; real sets where DGMLAB_DATA has them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dgmlab.data import registry
from dgmlab.data.batching import equal_batches
from dgmlab.data.images import CATS, DOGS, EMBEDDED, KNOWN, PAIRS, LazyImages, describe, load_images, load_pair
from dgmlab.training import endless

REAL = Path(os.environ.get("DGMLAB_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_real = pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason=f"no pictures at {REAL}; set DGMLAB_DATA to run this")


def pixels(seed, width=32, height=None, channels=3):
    shape = (height or width, width, channels)[: 2 if channels == 1 else 3]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def draw(path, seed=0, width=32, height=None, channels=3, cut=False):
    """Put a picture of noise at `path`; cut: only the first half of its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, width, height, channels)).save(path)
    if cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fill(folder, n, first=0, **options):
    for i in range(n):
        draw(folder / f"{first + i:05}.png", first + i, **options)


@pytest.fixture
def animals(tmp_path):
    """Class folders in train and test: 3 cats, 5 dogs; 2 dogs."""
    fill(tmp_path / "animals/train/cat", 3)
    fill(tmp_path / "animals/train/dog", 5, 10)
    fill(tmp_path / "animals/test/dog", 2, 20)
    return tmp_path / "animals"


# layouts


def test_class_folders_in_split_folders(animals):
    train, test = load_images(animals), load_images(str(animals), "test")
    assert train.x.shape == (8, 3, 32, 32) and train.x.dtype == torch.uint8 and train.y.dtype == torch.int64
    wanted = np.stack([pixels(seed) for seed in (0, 1, 2, 10, 11, 12, 13, 14)]).transpose(0, 3, 1, 2)
    assert (train.x.numpy() == wanted).all() and train.y.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert train.class_names == test.class_names == ("cat", "dog") and test.y.tolist() == [1, 1]  # dog is 1 in both parts
    assert train.card.counts == {"cat": 3, "dog": 5} and not train.card.corrections and not train.card.warnings
    assert test.card.warnings == ("1 of 2 classes have no picture: cat",)
    assert np.array_equal(load_images(animals, "valid").x, test.x)
    assert load_images(animals, "all").y.tolist() == train.y.tolist() + test.y.tolist()
    assert np.array_equal(load_images(animals / "train", "all").y, train.y)


def test_numbered_classes_are_in_the_order_of_numbers(tmp_path):
    for name in ("10", "9", "0"):
        draw(tmp_path / name / "a.JPEG")
    assert load_images(tmp_path, "all").class_names == ("0", "9", "10")


def test_a_flat_folder_is_one_class_and_cut_for_good(tmp_path):
    fill(tmp_path / "shells", 200, width=4)
    parts = {split: load_images(tmp_path / "shells", split) for split in ("train", "test", "all")}
    assert parts["all"].class_names == parts["test"].class_names == ("shells",)
    train, test = ({tuple(x.flatten().tolist()) for x in parts[split].x} for split in ("train", "test"))
    assert len(train) + len(test) == 200 and not train & test and 8 <= len(test) <= 35
    assert np.array_equal(load_images(tmp_path / "shells", "valid").x, parts["test"].x)
    assert "nine tenths of it are train, split='all' gives all of it" in parts["train"].card.corrections[0]
    assert parts["all"].card.warnings == (
        "one class only (shells): enough for unconditional models, else a wrong level",)
    fill(tmp_path / "flat/train", 2)
    fill(tmp_path / "flat/val", 1)
    assert load_images(tmp_path / "flat", "all").class_names == load_images(tmp_path / "flat", "dev").class_names == ("flat",)


def test_ffhq_folders_of_thousands_are_one_class(tmp_path):
    for number in (0, 1, 999, 1000, 59_999, 60_000, 69_999):
        draw(tmp_path / f"ffhq/thumbnails128x128/{number // 1000 * 1000:05}/{number:05}.png", number)
    train, test = load_images(tmp_path / "ffhq"), load_images(tmp_path / "ffhq", "test")
    assert (len(train.x), len(test.x), train.class_names) == (5, 2, ("ffhq",))
    assert (test.x[0].numpy() == pixels(60_000).transpose(2, 0, 1)).all()
    assert train.card.corrections[0].endswith("thumbnails128x128, the only folder there")
    assert "folders of thousands read as one class (FFHQ)" in train.card.corrections


def test_tiny_imagenet_as_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))
    root = tmp_path / "tiny_imagenet/tiny-imagenet-200"
    for seed, wnid in enumerate(("n02", "n01")):
        fill(root / f"train/{wnid}/images", 2, 10 * seed, width=64)
        (root / f"train/{wnid}/{wnid}_boxes.txt").write_text("0 0 1 1")
    fill(root / "val/images", 3, 30, width=64)
    fill(root / "test/images", 1, 40)
    (root / "val/val_annotations.txt").write_text("".join(f"{30 + i:05}.png\tn0{2 - i % 2}\t0\t0\t62\t62\n" for i in range(3)))
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\ttabby, tabby cat\nn03\tunused\n")
    train, valid = load_images("tiny_imagenet"), load_images("tiny_imagenet", "valid")
    assert train.class_names == valid.class_names == ("tabby", "goldfish")
    assert train.y.tolist() == [0, 0, 1, 1] and valid.y.tolist() == [0, 1, 0] and valid.x.shape == (3, 3, 64, 64)
    assert (valid.x[1].numpy() == pixels(31, 64).transpose(2, 0, 1)).all()
    for wnid in ("n01", "n02"):  # many sort the valid part into class folders
        fill(root / f"val/{wnid}", 1, width=64)
    for path in (root / "val/images").iterdir():
        path.unlink()
    (root / "val/images").rmdir()
    assert load_images("tiny_imagenet", "valid").y.tolist() == [0, 1]
    (root / "train/n01").rename(root / "train/n09")
    with pytest.raises(FileNotFoundError, match="expected 2 class folders, 1 are missing, first .*train/n01"):
        load_images("tiny_imagenet")


# mistakes


def test_wrong_folder_level_names_the_right_one(tmp_path):
    fill(tmp_path / "a/b/cat", 1)
    fill(tmp_path / "a/b/dog", 1)
    (tmp_path / "a/readme.txt").write_text("x")
    with pytest.raises(ValueError, match=r"wrong folder level: expected pictures in .*a or in class folders right below it, "
                                         r"found them deeper, as .*a/b/cat/00000.png. Give .*a/b, whose folders are"):
        load_images(tmp_path / "a")
    (tmp_path / "a/readme.txt").unlink()
    found = load_images(tmp_path / "a", "all")  # b is the only thing there: entered, and said
    assert found.class_names == ("cat", "dog") and found.card.corrections[0].endswith("a/b, the only folder there")
    fill(tmp_path / "a/b/fox/hires", 1)
    with pytest.raises(ValueError, match=r"found them deeper, as .*fox/hires/00000.png. Move them up into .*a/b/fox\.$"):
        load_images(tmp_path / "a/b")


def test_one_class_where_classes_are_needed(animals):
    with pytest.raises(ValueError, match=r"expected 2 classes or more in '.*train/cat', found 1 \(cat\). Class folders must "
                                         r"lie right below the folder given; .*/train has 2 folders of pictures: give that"):
        load_images(animals / "train/cat", min_classes=2)
    assert "train has 2 folders of pictures: give that one to" in str(describe(animals / "train/cat", "all"))
    assert load_images(animals, min_classes=2).class_names == ("cat", "dog")


def test_nothing_is_read_by_halves(animals, tmp_path):
    draw(animals / "train/stray.png")
    with pytest.raises(ValueError, match="expected pictures either right in .*train or in class folders below it, found both"):
        load_images(animals)
    (animals / "train/stray.png").unlink()
    fill(animals / "extra", 1)
    with pytest.raises(ValueError, match="expected nothing but split folders beside test, train in .*animals, found extra"):
        load_images(animals)
    fill(tmp_path / "c/cat/inner", 1)
    fill(tmp_path / "c/cat", 30)
    (tmp_path / "c/dog").mkdir()
    (tmp_path / "c/cat/Thumbs.db").write_text("x")
    (tmp_path / "c/.hidden.png").write_text("x")
    corrections = load_images(tmp_path / "c", "all").card.corrections
    assert corrections == ("folders without pictures left out: 1 (dog)", "folders inside class folders not read: 1",
                           "files that are no pictures left out: 1")


def test_empty_and_missing_folders(tmp_path, monkeypatch):
    (tmp_path / "empty/cat").mkdir(parents=True)
    (tmp_path / "empty/notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"expected pictures \(.png .jpg .*\) in .*empty or in class folders right below it, "
                                         r"found none among 1 folders and 1 files"):
        load_images(tmp_path / "empty")
    fill(tmp_path / "one", 1)
    with pytest.raises(ValueError, match="split 'test' of '.*one' is empty: expected a picture or more. Try split='all'"):
        load_images(tmp_path / "one", "test")
    with pytest.raises(FileNotFoundError, match="image set 'gone/pictures' was expected as a folder at .*gone/pictures"):
        load_images("gone/pictures")
    with pytest.raises(KeyError, match="no image set 'cifar01'. Did you mean 'cifar10'. Choose one of: digits, photos, chalk"):
        load_images("cifar01")
    with pytest.raises(ValueError, match="no split 'tset'; choose one of: train, valid"):
        load_images("digits", "tset")
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path / "no_data"))
    with pytest.raises(FileNotFoundError, match="data set 'cifar10' was expected at .*Run `dgmlab data get cifar10`"):
        load_images("cifar10")
    fill(tmp_path / "only/test", 2)
    fill(tmp_path / "only/val", 2)
    with pytest.raises(FileNotFoundError, match="'.*only' has no train part, found test, valid. Use split='all'"):
        load_images(tmp_path / "only")


def test_unreadable_pictures_are_named_before_training_or_left_out(animals):
    draw(animals / "train/cat/00001.png", cut=True)
    (animals / "train/dog/00012.png").write_text("not a picture")
    for lazy in (False, True):
        with pytest.raises(ValueError, match=r"2 of 8 pictures cannot be read, first .*cat/00001.png \(.*trunca.*\). Repair "
                                             r"or remove them, or leave them out with skip_broken=True"):
            load_images(animals, lazy=lazy)
        found = load_images(animals, lazy=lazy, skip_broken=True)
        assert found.y.tolist() == [0, 0, 1, 1, 1, 1] and found.card.counts == {"cat": 2, "dog": 4}
        wanted = np.stack([pixels(seed) for seed in (0, 2, 10, 11, 13, 14)]).transpose(0, 3, 1, 2)
        assert (found.x[:].numpy() == wanted).all()
    card = describe(animals)  # a card lists them all instead
    assert card.warnings[0].startswith("2 unreadable, left out by skip_broken=True: ")
    assert "00012.png (not a picture that Pillow can read)" in str(card)
    fill(animals / "test/dog", 2, 20, cut=True)
    with pytest.raises(ValueError, match="2 of 2 pictures cannot be read"):
        load_images(animals, "test", skip_broken=True)


def test_grey_transparent_and_odd_sizes_are_corrected_and_said(tmp_path):
    for i in range(8):
        draw(tmp_path / f"a/{i}.png", i, width=48, height=40)
    draw(tmp_path / "a/8.png", channels=1, width=100)
    draw(tmp_path / "a/9.png", channels=4, width=33)
    Image.fromarray(pixels(0, 40)).quantize(16).save(tmp_path / "a/a.gif")
    found = load_images(tmp_path / "a", "all")
    assert found.x.shape == (11, 3, 32, 32) and found.card.size == 32
    assert found.card.sizes == {"48x40": 8, "100x100": 1, "33x33": 1, "40x40": 1}
    assert found.card.modes == {"RGB": 8, "L": 1, "RGBA": 1, "P": 1}
    assert found.card.corrections == (
        "1 of mode L turned into RGB", "1 of mode RGBA turned into RGB, laid on white", "1 of mode P turned into RGB",
        "8 not square: cut to their middle square", "11 resized to 32 x 32 (bicubic, antialiased)")
    assert describe(tmp_path / "a", "all") == found.card
    grey = found.x[8]
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])
    for n_small, size in ((2, 64), (3, 16)):  # of 20 pictures, the rest 127 wide: 64 is reached by nine tenths, or by fewer
        fill(tmp_path / str(n_small), n_small, width=16)
        fill(tmp_path / str(n_small), 20 - n_small, n_small, width=127)
        assert describe(tmp_path / str(n_small), "all").size == size
    odd = load_images(tmp_path / "a", "all", size=48).card.warnings
    assert odd[0] == "10 are smaller than 48 pixels and were enlarged"
    assert odd[1] == "size 48 is not a power of two, which BigGAN and StyleGAN2 need: use 32 or 64 for these"
    with pytest.raises(ValueError, match="size must be at least 1 pixel, found 0. Use size=None"):
        load_images(tmp_path / "a", size=0)


# choosing, laziness, pairs, order


def test_limit_and_classes(animals):
    whole = load_images(animals)
    some = load_images(animals, limit=5, seed=3)
    assert len(some.x) == 5 and np.array_equal(some.x, load_images(animals, limit=5, seed=3).x)
    places = [next(i for i, x in enumerate(whole.x) if torch.equal(x, one)) for one in some.x]
    assert places == sorted(set(places)) and some.y.tolist() == whole.y[places].tolist()
    assert any(not np.array_equal(some.x, load_images(animals, limit=5, seed=seed).x) for seed in range(9))
    assert len(load_images(animals, limit=99).x) == 8
    turned = load_images(animals, classes=("dog", "cat"))
    assert turned.class_names == ("dog", "cat") and turned.y.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    dogs = load_images(animals, classes=["dog"])
    assert dogs.y.tolist() == [0] * 5 and np.array_equal(dogs.x, whole.x[3:])
    with pytest.raises(ValueError, match="has no class cow, ant; choose from: cat, dog"):
        load_images(animals, classes=("cat", "cow", "ant"))
    with pytest.raises(ValueError, match="limit must be at least 1, found 0"):
        load_images(animals, limit=0)


def test_lazy_pictures_index_like_the_tensor(animals, monkeypatch):
    eager, lazy = load_images(animals, size=16), load_images(animals, size=16, lazy=True)
    assert isinstance(lazy.x, LazyImages) and isinstance(eager.x, torch.Tensor) and lazy.card == eager.card
    assert lazy.x.shape == eager.x.shape and lazy.x.dtype == eager.x.dtype and len(lazy.x) == 8
    for rows in (0, -1, [3, 0, 3], np.array([7, 1]), torch.tensor([2, 2]), slice(1, None, 3), []):
        assert torch.equal(lazy.x[rows], eager.x[rows]), rows
    with pytest.raises(IndexError):
        lazy.x[8]
    monkeypatch.setattr("dgmlab.data.images.EAGER", 8 * 3 * 16 * 16 - 1)
    assert isinstance(load_images(animals, size=16).x, LazyImages)
    assert isinstance(load_images(animals, size=16, lazy=False).x, torch.Tensor)
    (animals / "train/dog/00013.png").write_bytes(b"overwritten while training")
    assert lazy.x[:3].shape == (3, 3, 16, 16)
    with pytest.raises(ValueError, match=r"1 of 2 pictures cannot be read, first .*00013.png \(not a picture that Pill"):
        lazy.x[[0, 6]]


def test_unpaired_domains_of_one_folder_and_of_two(tmp_path):
    fill(tmp_path / "p/trainA", 4, width=64)
    fill(tmp_path / "p/trainB", 3, 10, width=40)
    fill(tmp_path / "p/testA", 2, 20)
    fill(tmp_path / "p/testB", 1, 30)
    pair = load_pair(tmp_path / "p")
    assert pair.a.x.shape == (4, 3, 32, 32) and pair.b.x.shape == (3, 3, 32, 32)  # the smaller size of the two
    assert pair.a.class_names == ("A",) and pair.b.card.name.endswith("p B")
    assert load_pair(tmp_path / "p", split="test", size=64).b.x.shape == (1, 3, 64, 64)
    assert (pair.b.x.numpy() == load_images(tmp_path / "p/trainB", "all").x.numpy()).all()
    two = load_pair(tmp_path / "p/trainB", tmp_path / "p/trainA", split="all")
    assert (len(two.a.x), len(two.b.x)) == (3, 4) and two.a.class_names == ("trainB",)
    with pytest.raises(ValueError, match=r"holds two domains \(testA, testB, trainA, trainB\). Use load_pair for both"):
        load_images(tmp_path / "p")
    (tmp_path / "p/trainB").rename(tmp_path / "p/trainC")
    with pytest.raises(FileNotFoundError, match="expected trainA and trainB in .*p, found testA, testB, trainA, trainC. Or"):
        load_pair(tmp_path / "p")
    with pytest.raises(KeyError, match="no pair 'horse2zebra'; choose one of: cat2dog, lemon2orange, alp2seashore, lion2c"):
        load_pair("horse2zebra")


def test_order_is_a_function_of_seed_and_epoch_and_resumes_anywhere():
    first = equal_batches(23, 5, seed=7, epoch=0)
    assert [len(batch) for batch in first] == [5, 5, 5, 5] and len(set(np.concatenate(first))) == 20
    assert all(np.array_equal(a, b) for a, b in zip(first, equal_batches(23, 5, 7, 0), strict=True))
    for other in (equal_batches(23, 5, 7, 1), equal_batches(23, 5, 8, 0)):
        assert not np.array_equal(first, other)
    left_out = [set(range(23)) - set(np.concatenate(equal_batches(23, 5, 7, epoch))) for epoch in range(60)]
    assert set.union(*left_out) == set(range(23)) and not set.intersection(*left_out)

    def batches(start, n):
        stream = endless(lambda epoch: equal_batches(23, 5, 7, epoch), start)
        return [next(stream)[1] for _ in range(n)]

    assert np.array_equal(batches(0, 12)[5:], batches(5, 7))
    for size in (0, 24):
        with pytest.raises(ValueError, match=f"batch_size must lie in 1..23 for 23 rows, found {size}. Lower it"):
            equal_batches(23, size, 0, 0)


def test_names_agree_with_the_catalogue():
    assert set(KNOWN) <= set(registry.DATASETS) and not set(EMBEDDED) & set(registry.DATASETS)
    assert {base for base, _, _ in PAIRS.values()} <= {*KNOWN, *EMBEDDED} and len(CATS + DOGS) == 9


# the real ones


@pytest.fixture
def real(monkeypatch):
    monkeypatch.setenv("DGMLAB_DATA", str(REAL))
    pytest.importorskip("pyarrow", reason="the package pyarrow is not installed (pip install dgmlab[hub])")


@needs_real
@pytest.mark.parametrize("name", ["cifar10_jpeg", "cifar10_lossless_100", "mnist", "tiny_imagenet20", "noto_emoji"])
def test_real_sets_are_those_of_the_catalogue(name, real):
    assert registry.check(name) == []


@needs_real
def test_real_mnist_is_padded_to_32(real):
    test = load_images("mnist", "test")
    assert test.x.shape == (10_000, 3, 32, 32) and np.bincount(test.y).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # the original's histogram
    inner = test.x[:, 0, 2:30, 2:30].double() / 255
    assert float(inner.sum()) * 3 == pytest.approx(float(test.x.sum()) / 255)  # nothing but black around
    assert float(inner.mean()) == pytest.approx(0.1325, abs=1e-4)
    assert describe("mnist", limit=10).modes == {"L": 10}


@needs_real
def test_real_cifar10_copies_agree_and_the_lossy_one_says_so(real):
    lossy = load_images("cifar10_jpeg", "test", limit=3000)
    exact = load_images("cifar10_lossless_100", "all")
    assert lossy.class_names == exact.class_names and exact.card.counts == dict.fromkeys(exact.class_names, 10)
    assert lossy.x.double().mean((0, 2, 3)).div(255).tolist() == pytest.approx([0.4913, 0.4821, 0.4465], abs=0.01)
    assert lossy.card.warnings[0].startswith("lossy JPEG copies: compare only with") and not exact.card.warnings


@needs_real
@pytest.mark.parametrize("name, n_a, n_b", [("cat2dog", 150, 300), ("lemon2orange", 50, 50)])
def test_real_pairs(name, n_a, n_b, real):
    pair = load_pair(name, split="test")
    assert pair.a.x.shape == (n_a, 3, 64, 64) and pair.b.x.shape == (n_b, 3, 64, 64)
    assert not set(pair.a.class_names) & set(pair.b.class_names)
    if name == "lemon2orange":  # oranges are redder: the domains are not mixed up
        green = [side.x[:, 1].double().mean() / side.x[:, 0].double().mean() for side in pair]
        assert green[0] > green[1]


@needs_real
def test_real_emoji_are_laid_on_white(real):
    card = load_images("noto_emoji", "all").card
    assert sum(card.counts.values()) == 1433 and "1,433 of mode RGBA turned into RGB, laid on white" in card.corrections
    assert (load_images("noto_emoji", "test").x[:, :, 0, 0] == 255).float().mean() > 0.9
