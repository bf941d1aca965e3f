"""Extractors: the real classifiers reach their accuracy, Inception-v3 is the one of FID, and names cannot lie."""

import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from dgmlab.data.registry import data_home
from dgmlab.metrics import inception
from dgmlab.metrics.extractors import (
    CifarResNet,
    Extractor,
    digits_extractor,
    extract,
    load_classifier,
    load_extractor,
    trained_extractor,
)
from dgmlab.metrics.inception import InceptionV3, load_inception

needs_classifiers = pytest.mark.skipif(not (data_home() / "classifiers").is_dir(), reason="needs classifiers/ in DGMLAB_DATA")


class Flat(nn.Module):
    """A network whose features are the pixels it was given."""

    def forward(self, x):
        return x.flatten(1)


def cifar(name, n):
    """(images (n, 3, 32, 32) uint8, labels (n,)) of a parquet file in the data folder."""
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(data_home() / name).slice(0, n).to_pydict()
    images = [np.asarray(Image.open(io.BytesIO(picture["bytes"])).convert("RGB")) for picture in table["img"]]
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()), torch.tensor(table["label"])


# preprocessing


def test_floats_and_saved_pictures_score_alike():
    extractor = Extractor(Flat(), "fd_flat", mean=0, std=1)
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    as_float = levels.float() / 127.5 - 1
    features = extractor(levels.expand(1, 3, 16, 16)).features
    assert features[0, :256].tolist() == pytest.approx([level / 255 for level in range(256)])
    for float_pictures in (as_float, as_float + 0.003, as_float.double(), as_float - 0.003):  # half a level is 0.0039
        assert torch.allclose(extractor(float_pictures.clamp(-1, 1)).features, features)


def test_normalisation_and_channels_by_hand():
    grey = torch.full((2, 1, 2, 2), 255, dtype=torch.uint8)
    found = Extractor(Flat(), "fd_flat", mean=(0.5, 0.0, 1.0), std=(0.25, 0.5, 1.0))(grey).features
    assert found.view(2, 3, 4)[0].tolist() == [[2] * 4, [2] * 4, [0] * 4]
    coloured = torch.tensor([0, 51, 102], dtype=torch.uint8).view(1, 3, 1, 1)
    assert Extractor(Flat(), "fd_flat", mean=0, std=1, channels=1)(coloured).features.item() == pytest.approx(0.2)


@pytest.mark.parametrize("before, after", [(64, 32), (20, 48), (32, 32)])
def test_bicubic_resize_is_pillows(before, after):
    pixels = np.random.default_rng().integers(0, 256, (before, before)).astype(np.float32)
    expected = np.asarray(Image.fromarray(pixels).resize((after, after), Image.BICUBIC))  # one float channel
    image = torch.from_numpy(pixels).byte().view(1, 1, before, before)
    extractor = Extractor(Flat(), "fd_flat", size=after, mean=0, std=1, channels=1)
    assert np.abs(extractor(image).features.view(after, after).numpy() * 255 - expected).max() < 0.01
    assert extractor.resize == f"bicubic to {after}"


def test_pictures_of_another_range_or_shape_and_names_that_lie_are_refused():
    extractor = Extractor(Flat(), "fd_flat")
    with pytest.raises(ValueError, match=r"floats in \[-1, 1\], found torch.float32 from 0 to 255"):
        extractor(torch.tensor([0.0, 255.0]).view(1, 1, 1, 2))
    with pytest.raises(ValueError, match="from nan to nan"):
        extractor(torch.full((1, 3, 2, 2), torch.nan))
    with pytest.raises(ValueError, match=r"with 1 or 3 channels, found \(2, 8, 8, 3\)"):
        extractor(torch.zeros(2, 8, 8, 3))
    for name in ("fid", "resnet"):
        with pytest.raises(ValueError, match="'fid' is said of Inception-v3 only. Call it 'fd_...'"):
            Extractor(Flat(), name)
    with pytest.raises(ValueError, match=r"must give features \(2, D\), found \(2, 3, 4, 4\). Pool"):
        Extractor(nn.Identity(), "fd_map")(torch.zeros(2, 3, 4, 4))
    with pytest.raises(KeyError, match="Choose one of: bilinear, bicubic"):
        Extractor(Flat(), "fd_flat", resize="nearest")
    with pytest.raises(KeyError, match="Choose one of: fid, fd_digits, fd_resnet20, fd_resnet56"):
        load_extractor("fd_resnet18")


def test_extractor_stays_frozen_in_evaluation_mode_and_in_float32():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4))
    extractor = Extractor(net, "fd_net").train()
    images = torch.rand(8, 3, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        features = extractor(images.requires_grad_()).features
    assert features.dtype == torch.float32 and not features.requires_grad
    assert net[2].num_batches_tracked == 0 and not net[1].weight.requires_grad


# collecting


def test_extract_keeps_the_order_and_writes_the_card():
    images = torch.randint(0, 256, (23, 3, 2, 2), dtype=torch.uint8)
    extractor = Extractor(Flat(), "fd_flat")
    whole = extract(extractor, images, batch_size=5, ema=True, mode="eval", seed=7)
    streamed = extract(extractor, (batch.numpy() for batch in images.split(4)))
    assert whole.features.shape == (23, 12) and whole.features.dtype == np.float32 and whole.logits is None
    assert np.array_equal(whole.features, streamed.features)
    assert np.array_equal(whole.features, extractor(images).features.numpy())
    assert whole.card == ("fd_flat", extractor.weights, "none", 23, True, "eval", 7, 0)
    assert streamed.card[4:] == (None, None, None, 0)
    with pytest.raises(ValueError, match="no pictures"):
        extract(extractor, [])


def test_cards_tell_one_set_of_weights_from_another():
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(12, 4, bias=False)) for _ in range(2)]
    first, second = (Extractor(net, "fd_net").weights for net in nets)
    nets[1].load_state_dict(nets[0].state_dict())
    assert len(first) == 8 and first != second and Extractor(nets[1], "fd_net").weights == first


# classifiers


@needs_classifiers
def test_resnets_reach_their_accuracy_on_real_pictures():
    """81.0 and 83.0 % on 5,000 of the JPEG copies, 100 % on 100 lossless training pictures: reference document on metrics."""
    images, labels = cifar("cifar10_jpeg/test.parquet", 500)
    lossless, lossless_labels = cifar("cifar10_lossless_100/train.parquet", 100)
    extractor = load_extractor("fd_resnet20")
    found = extract(extractor, images)
    assert found.features.shape == (500, 64) and (found.features >= 0).all()
    assert 0.77 < (found.logits.argmax(1) == labels.numpy()).mean() < 0.86
    assert (extractor(lossless).logits.argmax(1) == lossless_labels).all()
    deep = load_extractor("fd_resnet56")
    assert (deep(lossless).logits.argmax(1) == lossless_labels).all()
    counts = [sum(p.numel() for p in each.net.parameters()) for each in (extractor, deep)]
    assert counts == [269_722, 853_018]


@needs_classifiers
def test_other_weights_are_not_taken_for_the_classifier(tmp_path, monkeypatch):
    state = load_file(data_home() / "classifiers" / "resnet20_cifar10.safetensors")
    state["linear.bias"] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights of resnet20: expected sha256 02926273, found "):
        load_classifier("resnet20", tmp_path / "other.safetensors")
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="resnet56_cifar10.safetensors, found nothing there. Set DGMLAB_DATA"):
        load_extractor("fd_resnet56")


def test_resnet_shortcut_takes_every_second_pixel_and_pads_the_channels():
    net = CifarResNet(1).eval()
    block = net.layer2[0]
    nn.init.zeros_(block.bn2.weight)  # what remains is the shortcut
    x = torch.rand(2, 16, 8, 8)
    y = block(x)
    assert y.shape == (2, 32, 4, 4) and torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()


def test_classifier_trained_in_place_knows_digits_it_has_not_seen_and_is_the_same_each_time():
    digits = load_digits()
    images, labels = torch.from_numpy(digits.images / 8 - 1).unsqueeze(1), digits.target
    state = torch.get_rng_state()
    extractor = trained_extractor(images[:1200], labels[:1200], "digits", n_epochs=6)
    assert torch.equal(torch.get_rng_state(), state)
    found = extract(extractor, images[1200:])
    assert (found.logits.argmax(1) == labels[1200:]).mean() > 0.9 and found.features.shape == (597, 64)
    seen = extract(extractor, images[:1200]).features
    assert np.square(seen).mean() == pytest.approx(1, rel=1e-4)
    few = [trained_extractor(images[:200], labels[:200], "digits", n_epochs=1, seed=seed).weights for seed in (3, 3, 4)]
    assert few[0] == few[1] != few[2]


def test_digits_extractor_takes_pictures_of_any_size_and_colour():
    extractor, digits = digits_extractor(), load_digits()
    large = functional.interpolate(torch.from_numpy(digits.images[:300] / 8 - 1).float().unsqueeze(1), scale_factor=4)
    found = extractor(large.expand(-1, 3, -1, -1))
    assert extractor.name == "fd_digits" and (found.logits.argmax(1).numpy() == digits.target[:300]).mean() > 0.97


# Inception-v3


@pytest.fixture(scope="module")
def random_inception():
    """The network with random weights and BatchNorm statistics that matter."""
    generator = torch.Generator().manual_seed(0)
    net = InceptionV3().eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5),
                                      (module.weight.data, 0.5, 1.5), (module.bias.data, -0.2, 0.2)):
                values.uniform_(low, high, generator=generator)
    return net


def test_layout_is_that_of_the_well_known_file(random_inception):
    """Names and shapes were read from the head of a truncated copy of the file itself; this is the sha256 of the list."""
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in random_inception.state_dict().items())
    assert len(lines) == 566 and sum(p.numel() for p in random_inception.parameters()) == 23_850_960
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == (
        "8cdd2faeb41211e17f0fb47e66168d0cb1f981aa773b5f44e5b9cc93857fe492")


def inception_by_name(state, x):
    """Pooled features by the names in the file, convolution by convolution, as mseitzer/pytorch-fid computes them."""
    def c(name, x, stride=1, padding=None):
        weight = state[f"{name}.conv.weight"]
        padding = [side // 2 for side in weight.shape[2:]] if padding is None else padding
        bn = [state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.relu(functional.batch_norm(functional.conv2d(x, weight, None, stride, padding), *bn, eps=1e-3))

    def pool(x):
        ones = torch.ones_like(x)
        return functional.avg_pool2d(x, 3, 1, 1) / functional.avg_pool2d(ones, 3, 1, 1)  # the padding is not counted

    x = c("Conv2d_2b_3x3", c("Conv2d_2a_3x3", c("Conv2d_1a_3x3", x, 2, 0), padding=0))
    x = c("Conv2d_4a_3x3", c("Conv2d_3b_1x1", functional.max_pool2d(x, 3, 2)), padding=0)
    x = functional.max_pool2d(x, 3, 2)
    for b in ("Mixed_5b.branch", "Mixed_5c.branch", "Mixed_5d.branch"):
        x = torch.cat([c(b + "1x1", x), c(b + "5x5_2", c(b + "5x5_1", x)),
                       c(b + "3x3dbl_3", c(b + "3x3dbl_2", c(b + "3x3dbl_1", x))), c(b + "_pool", pool(x))], 1)
    b = "Mixed_6a.branch3x3"
    x = torch.cat([c(b, x, 2, 0), c(b + "dbl_3", c(b + "dbl_2", c(b + "dbl_1", x)), 2, 0), functional.max_pool2d(x, 3, 2)], 1)
    for b in ("Mixed_6b.branch", "Mixed_6c.branch", "Mixed_6d.branch", "Mixed_6e.branch"):
        y, z = x, x
        for i in (1, 2, 3):
            y = c(f"{b}7x7_{i}", y)
        for i in (1, 2, 3, 4, 5):
            z = c(f"{b}7x7dbl_{i}", z)
        x = torch.cat([c(b + "1x1", x), y, z, c(b + "_pool", pool(x))], 1)
    b, y = "Mixed_7a.branch", x
    for i in (1, 2, 3):
        y = c(f"{b}7x7x3_{i}", y)
    x = torch.cat([c(b + "3x3_2", c(b + "3x3_1", x), 2, 0), c(b + "7x7x3_4", y, 2, 0), functional.max_pool2d(x, 3, 2)], 1)
    for b, last in (("Mixed_7b.branch", pool), ("Mixed_7c.branch", lambda x: functional.max_pool2d(x, 3, 1, 1))):
        y, z = c(b + "3x3_1", x), c(b + "3x3dbl_2", c(b + "3x3dbl_1", x))
        x = torch.cat([c(b + "1x1", x), c(b + "3x3_2a", y), c(b + "3x3_2b", y), c(b + "3x3dbl_3a", z), c(b + "3x3dbl_3b", z),
                       c(b + "_pool", last(x))], 1)
    return x.mean((2, 3))


@torch.no_grad()
def test_inception_equals_a_second_writing_of_it(random_inception):
    x = torch.rand(2, 3, 107, 107) * 2 - 1
    found = random_inception(x)
    expected = inception_by_name({name: t.double() for name, t in random_inception.state_dict().items()}, x.double())
    assert found.features.shape == (2, 2048) and torch.allclose(found.features.double(), expected, rtol=1e-3, atol=1e-4)
    assert torch.allclose(found.logits, found.features @ random_inception.fc.weight.T)  # no bias
    assert found.logits.shape == (2, 1008)


def test_fid_is_made_of_the_well_known_file_only(random_inception, tmp_path, monkeypatch):
    path = tmp_path / inception.FILE
    with pytest.raises(FileNotFoundError, match="found nothing there. Download https://github.com/mseitzer/pytorch-fid"):
        load_extractor("fid", path)
    with pytest.raises(ValueError, match="'fid' needs the path of its weights"):
        load_extractor("fid")
    # in the format of 2019, a plain dict
    torch.save(dict(random_inception.state_dict()), path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="expected a sha256 that begins with 6726825d, found "):
        load_inception(path)
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    extractor = load_extractor("fid", path)
    assert (extractor.name, extractor.resize) == ("fid", "bilinear to 299")
    assert extractor.weights == Extractor(random_inception, "fid").weights
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    resized = functional.interpolate(image / 255, size=(299, 299), mode="bilinear", align_corners=False)
    assert torch.allclose(extractor(image).features, random_inception(2 * resized - 1).features, rtol=1e-3, atol=1e-4)
