"""Saving a trained GAN, loading it to the bit, and drawing from it: seeds, classes, truncation, walks, the command."""

import json
import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dgmlab.fqgan import add_fq
from dgmlab.fqgan.biggan import Generator, preset
from dgmlab.fqgan.sample import Trained, _arc, _latents, load_trained, main, sample, save_trained, walk
from dgmlab.fqgan.stylegan import StyleGANGenerator
from dgmlab.fqgan.stylegan_discriminator import StyleGANDiscriminator
from dgmlab.fqgan.tacgan import DISCRIMINATORS
from dgmlab.quantize import update_dictionaries

NAMES = ("cat", "dog", "eel")
FQ = {"layers": ["blocks.0", "blocks.2"], "n_codes": [8, 5], "decay": 0.7, "mode": "warmup"}


def biggan(seed=0, size="tiny", **overrides):
    torch.manual_seed(seed)
    G = Generator(preset(size, n_classes=3, **overrides))
    with torch.no_grad():
        for name, parameter in G.named_parameters():  # a fresh G shows grey; make it loud, and its classes different
            parameter.mul_(3 if "shared" in name or "gain" in name else 1.5)
    G(torch.randn(32, 32), torch.arange(32) % 3)  # BatchNorm sees something
    return Trained("biggan", G.eval(), None, NAMES, {})


def stylegan():
    torch.manual_seed(0)
    G = StyleGANGenerator(16, z_dim=8, w_dim=8, n_mapping=2, channel_base=256)
    with torch.no_grad():
        for layer in G.modules():
            if hasattr(layer, "noise_strength"):
                layer.noise_strength.fill_(0.5)
        G(torch.randn(64, 8))
    return Trained("stylegan", G.eval(), None, (), {})


every_kind = pytest.mark.parametrize("trained", [biggan(), biggan(size="micro", shared_size=0), stylegan()],
                                     ids=["shared", "tables", "stylegan"])


@pytest.mark.parametrize("head", ["projection", "ac", "tac"])
def test_biggan_comes_back_to_the_bit_with_its_dictionaries(tmp_path, head):
    G = biggan().G
    D = add_fq(DISCRIMINATORS[head](preset("tiny", n_classes=3)), **FQ)
    x, y = torch.rand(6, 3, 32, 32) * 2 - 1, torch.arange(6) % 3
    D(x, y)
    update_dictionaries(D)
    before = D.eval()(x, y)
    folder = save_trained(tmp_path / "run" / "model", "biggan", G, D, FQ, head, NAMES, step=7, data="cifar10")
    loaded = load_trained(tmp_path / "run")
    assert loaded.kind == "biggan" and loaded.class_names == NAMES and not loaded.G.training and not loaded.D.training
    assert {"step": 7, "data": "cifar10", "image_size": 32, "head": head, "fq": FQ}.items() <= loaded.about.items()
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.D(x, y), strict=True) if isinstance(a, torch.Tensor))
    mine, theirs = D.state_dict(), loaded.D.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert any("fq.ema_counts" in key for key in mine) and loaded.D.blocks[2].fq.decay == 0.7
    assert torch.equal(sample(loaded, 5), sample(Trained("biggan", G, None, NAMES, {}), 5))
    assert sorted(path.name for path in folder.iterdir()) == ["about.json", "discriminator", "generator"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    again = Generator.from_pretrained(folder / "generator").eval()  # the ecosystem's way
    assert again.config == G.config and torch.equal(again(torch.ones(1, 32), y[:1]), G(torch.ones(1, 32), y[:1]))


def test_stylegan_comes_back_to_the_bit(tmp_path):
    G, D = stylegan().G, StyleGANDiscriminator(16, channel_base=256).eval()
    fq = {"layers": ["blocks.16"], "n_codes": 4}
    D = add_fq(D, example=(torch.zeros(1, 3, 16, 16),), **fq)
    save_trained(tmp_path / "model", "stylegan", G, D, fq)
    loaded = load_trained(tmp_path / "model")
    x = torch.rand(2, 3, 16, 16)
    assert loaded.about["image_size"] == 16 and loaded.class_names == () and torch.equal(loaded.D(x), D(x))
    assert torch.equal(sample(loaded, 3, truncation=0.5), sample(Trained("stylegan", G, None, (), {}), 3, truncation=0.5))
    save_trained(tmp_path / "model", "stylegan", G)
    assert load_trained(tmp_path / "model").D is None and [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_write_leaves_the_old_model(tmp_path, monkeypatch):
    G = biggan().G
    save_trained(tmp_path / "model", "biggan", G, step=1)
    (tmp_path / ".model.new").mkdir()  # left by a killed process
    (tmp_path / ".model.old" / "generator").mkdir(parents=True)

    def full(*where):
        raise OSError(28, "No space left on device")

    replace = os.replace
    breaks = {"write_json": full, "os.replace": lambda a, b: full() if a.name == ".model.new" else replace(a, b)}
    for name, broken in breaks.items():
        with monkeypatch.context() as patch:
            patch.setattr(f"dgmlab.fqgan.sample.{name}", broken)
            with pytest.raises(OSError, match=r"cannot write .*model: No space left on device"):
                save_trained(tmp_path / "model", "biggan", G, step=2)
        assert load_trained(tmp_path).about["step"] == 1
        assert not (tmp_path / ".model.new").exists()
    save_trained(tmp_path / "model", "biggan", G, step=2)
    assert load_trained(tmp_path).about["step"] == 2 and [path.name for path in tmp_path.iterdir()] == ["model"]


@every_kind
@pytest.mark.parametrize("truncation", [1.0, 0.6])
def test_a_picture_of_a_seed_depends_on_neither_n_nor_batch_size(trained, truncation):
    many = sample(trained, 7, truncation=truncation, seed=3)
    assert many.shape[:2] == (7, 3) and many.dtype == torch.uint8
    few = sample(trained, 4, truncation=truncation, seed=3, batch_size=3)
    assert (many[:4].int() - few.int()).abs().max() <= 1  # another batch may round another way
    for n in (1, 4):
        assert torch.equal(_latents(trained, n, truncation, 3), _latents(trained, 7, truncation, 3)[:n])
    other = sample(trained, 4, truncation=truncation, seed=4)
    assert (other.int() - few.int()).abs().float().mean() > 2


def test_classes_take_turns_by_number_or_name_and_a_class_of_a_picture_is_its_own():
    trained = biggan()
    z = _latents(trained, 6, 1.0, 0)
    with torch.inference_mode():
        expected = trained.G(z, torch.tensor([2, 0, 2, 0, 2, 0])).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    for classes in ([2, 0], ("eel", "cat"), ["eel", 0], np.array([2, 0]), ["2", "0"]):
        assert (sample(trained, 6, classes).int() - expected.int()).abs().max() <= 1
    assert torch.equal(sample(trained, 4), sample(trained, 4, [0, 1, 2]))
    assert torch.equal(sample(trained, 4, "dog"), sample(trained, 4, [1]))
    assert (sample(trained, 4, 0).int() - sample(trained, 4, 1).int()).abs().float().mean() > 1


def test_a_name_that_is_a_number_means_the_name_and_a_number_the_number():
    trained = biggan()._replace(class_names=("7", "0", "1"))
    assert torch.equal(sample(trained, 2, "0"), sample(trained, 2, 1))
    assert torch.equal(sample(trained, 2, "2"), sample(trained, 2, 2))


@pytest.mark.parametrize("truncation", [0.2, 0.5, 0.99])
def test_truncated_latents_are_those_of_a_normal_cut_off_at_twice_the_truncation(truncation):
    trained = biggan()
    z = _latents(trained, 2000, truncation, 0).double().flatten()
    limit = 2 * truncation
    assert z.abs().max() <= limit and z.abs().max() > 0.99 * limit
    density, inside = math.exp(-limit**2 / 2) / math.sqrt(2 * math.pi), math.erf(limit / math.sqrt(2))
    assert abs(z.std().item() - math.sqrt(1 - 2 * limit * density / inside)) < 0.01  # variance of a truncated normal
    untouched = _latents(trained, 2000, 1.0, 0).double().flatten()
    assert (z[untouched.argsort()].diff() >= 0).all() and abs(untouched.std().item() - 1) < 0.02  # they only move
    assert torch.equal(_latents(stylegan(), 9, truncation, 0), _latents(stylegan(), 9, 1.0, 0))


def test_truncation_of_a_stylegan_goes_to_the_mean_picture():
    trained = stylegan()
    spread = [sample(trained, 8, truncation=t).float().std(0).mean().item() for t in (1.0, 0.5, 0.01)]
    assert spread[0] > 1.2 * spread[1] and spread[1] > 5 * spread[2]


@given(seed=st.integers(0, 999), size=st.integers(2, 40))
@settings(max_examples=20)
def test_the_arc_keeps_its_ends_its_lengths_and_its_plane(seed, size):
    a, b = np.random.default_rng(seed).standard_normal((2, 1, size))
    share = np.linspace(0, 1, 5)[:, None]
    points = _arc(*(torch.from_numpy(np.repeat(end, 5, 0)) for end in (a, b)), torch.from_numpy(share)).numpy()
    assert np.allclose(points[0], a[0]) and np.allclose(points[-1], b[0])
    norms = np.linalg.norm(points, axis=1)
    assert np.allclose(norms, norms[0] + share[:, 0] * (norms[-1] - norms[0]))
    unit = points / norms[:, None]
    angles = np.arccos(np.clip((unit[1:] * unit[:-1]).sum(1), -1, 1))
    assert np.allclose(angles, angles[0], atol=1e-6)  # even steps


@every_kind
def test_a_walk_passes_through_the_first_picture_of_each_seed(trained):
    classes = None if trained.kind == "stylegan" else [0, 2]
    frames = walk(trained, (4, 9, 5), classes, n_between=3, truncation=0.8, batch_size=5)
    assert len(frames) == 9 and frames.dtype == torch.uint8
    for i, seed in enumerate((4, 9, 5)):
        alone = sample(trained, 1, classes and classes[i % 2], truncation=0.8, seed=seed)[0]
        assert (frames[4 * i].int() - alone.int()).abs().max() <= 1
    steps = (frames[1:].float() - frames[:-1].float()).abs().mean((1, 2, 3))
    whole = (frames[0].float() - frames[4].float()).abs().mean()
    assert steps.min() > 0.1
    if trained.kind == "biggan" and not trained.G.config.shared_size:  # the class jumps half-way
        alone = [walk(trained, (4, 9, 5), one, n_between=3, truncation=0.8, batch_size=5) for one in (0, 2)]
        assert torch.equal(frames, torch.stack([alone[i][frame] for frame, i in enumerate((0, 0, 1, 1, 1, 1, 0, 0, 0))]))
    else:
        assert steps[:4].max() < whole
    assert trained.G.training is False and len(walk(trained, (0, 1), n_between=0)) == 2


def test_sampling_leaves_the_generator_as_it_was():
    for trained in (biggan(), stylegan()):
        trained.G.train()
        before = {name: tensor.clone() for name, tensor in trained.G.state_dict().items()}
        pictures = sample(trained, 3), walk(trained, (0, 1), n_between=1)
        assert trained.G.training and all(torch.equal(tensor, before[name]) for name, tensor in trained.G.state_dict().items())
        trained.G.eval()
        assert torch.equal(pictures[0], sample(trained, 3)) and torch.equal(pictures[1], walk(trained, (0, 1), n_between=1))


def test_mistakes_say_what_to_do(tmp_path):
    trained = biggan()
    with pytest.raises(ValueError, match=r"truncation is 0; above 0 and up to 1 was expected \(1 leaves the latents"):
        sample(trained, truncation=0)
    with pytest.raises(KeyError, match=r"from 0 to 2\) is called 'cot'. Did you mean 'cat'\? Choose one of: cat, dog, eel"):
        sample(trained, classes=["cot"])
    for wrong in (3, -1, [0, 3], "3"):
        with pytest.raises(KeyError, match="Choose one of: cat, dog, eel"):
            sample(trained, classes=wrong)
    with pytest.raises(ValueError, match="this StyleGAN is unconditional, it has no class 1. Leave classes out"):
        sample(stylegan(), classes=1)
    with pytest.raises(ValueError, match="at least one class was expected"):
        sample(trained, classes=[])
    with pytest.raises(ValueError, match="at least 1 were expected, found n=0"):
        sample(trained, 0)
    with pytest.raises(ValueError, match=r"at least two seeds and n_between >= 0 were expected, found seeds=\(1,\)"):
        walk(trained, (1,))
    with pytest.raises(FileNotFoundError, match=r"no trained GAN, model/about.json was expected. Train one \(`dgmlab run 21`"):
        load_trained(tmp_path)
    with pytest.raises(ValueError, match="kind is 'vae'; choose one of: biggan, stylegan"):
        save_trained(tmp_path / "model", "vae", trained.G)
    with pytest.raises(ValueError, match="3 class names were expected, one for each class of the model, found 2"):
        save_trained(tmp_path / "model", "biggan", trained.G, class_names=("a", "b"))
    D = add_fq(DISCRIMINATORS["tac"](preset("tiny", n_classes=3)), "blocks.0", 4)
    with pytest.raises(ValueError, match=r"has dictionaries at \['blocks.0'\], but fq says None"):
        save_trained(tmp_path / "model", "biggan", trained.G, D, head="tac")


def test_a_damaged_model_is_named(tmp_path):
    model = save_trained(tmp_path / "fq" / "model", "biggan", biggan().G, DISCRIMINATORS["tac"](preset("tiny", n_classes=3)),
                         head="tac")
    assert load_trained(model).class_names == ("0", "1", "2")
    with pytest.raises(FileNotFoundError, match="Name one of those inside: fq"):
        load_trained(tmp_path)
    about = json.loads((model / "about.json").read_text())
    for change, error, message in (({"kind": "vae"}, ValueError, "kind is 'vae'"),
                                   ({"head": "tic"}, KeyError, "Did you mean 'tac'"),
                                   ({"head": "ac"}, ValueError, "discriminator cannot be loaded .*twin")):
        (model / "about.json").write_text(json.dumps({**about, **change}))
        with pytest.raises(error, match=message):
            load_trained(model)
    (model / "about.json").write_text(json.dumps(about))
    weights = model / "generator" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="generator cannot be loaded"):
        load_trained(model)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="generator is incomplete"):
        load_trained(model)
    (model / "about.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no JSON object"):
        load_trained(model)


def test_the_command_writes_a_column_a_class(tmp_path, capsys, monkeypatch):
    trained = biggan()
    save_trained(tmp_path / "run" / "model", "biggan", trained.G, class_names=NAMES)
    out = tmp_path / "pictures" / "grid.png"
    assert main([str(tmp_path / "run"), "--n", "5", "--classes", "dog, 2", "--truncation", "0.7", "--seed", "3",
                 "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"5 pictures of 32 x 32 pixels: {out}\n"
    pixels = np.asarray(Image.open(out)).transpose(2, 0, 1)
    expected = sample(trained, 5, [1, 2], truncation=0.7, seed=3).numpy()
    assert pixels.shape == (3, 3 * 34 - 2, 2 * 34 - 2)
    for i in range(5):
        top, left = 34 * (i // 2), 34 * (i % 2)
        assert (pixels[:, top:top + 32, left:left + 32] == expected[i]).all()
    monkeypatch.chdir(tmp_path)
    for wrong, line in ((["--classes", "cow"], "KeyError: no class of this model"),
                        (["--truncation", "2"], "ValueError: truncation is 2"), (["--columns", "0"], "ValueError: columns")):
        assert main([str(tmp_path / "run"), *wrong]) == 2
        written = capsys.readouterr()
        assert written.err.startswith(line) and written.err.count("\n") == 1 and written.out == ""
    assert main([str(tmp_path / "nothing")]) == 2 and "has no trained GAN" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--truncation" in capsys.readouterr().out
