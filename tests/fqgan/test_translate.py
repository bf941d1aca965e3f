"""U-GAT-IT trained and used: exact resume, micro-batches, order of the data, the metric, the dictionaries, the command."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from dgmlab import training
from dgmlab.data.images import load_pair
from dgmlab.fqgan import translate as module
from dgmlab.fqgan.cycle import Discriminators
from dgmlab.fqgan.source import ImageStream
from dgmlab.fqgan.translate import (
    TranslateConfig,
    build,
    code_use,
    crops,
    domain_extractor,
    evaluate,
    fq_of,
    open_pair,
    open_tests,
    overlay,
    save_sheet,
    train,
    translate_tests,
)
from dgmlab.fqgan.translator import Translated, Translator, list_pictures, load_translator, main, translate
from dgmlab.quantize import VectorQuantizer
from dgmlab.run import Run

TINY = {"image_size": 16, "channels": 4, "n_blocks": 1, "limit": 24, "n_eval": 12, "n_steps": 6, "batch_size": 2,
        "eval_every": 3, "save_every": 3, "extractor": "domains", "precision": "fp32", "n_sheet": 3}
FQ = {"fq": "quantize", "fq_layers": "blocks.0,blocks.1", "n_codes": "8"}


def tiny(**options):
    return TranslateConfig(**{**TINY, **options})


def lines(run):
    return [json.loads(line) for line in (run.dir / "metrics.jsonl").read_text().splitlines()]


def tensors(run):
    """Every weight and buffer of a run's saved model."""
    found = load_translator(run.dir)
    nets = {"ab": found.ab, "ba": found.ba, "D": Discriminators.from_pretrained(run.dir / "model" / "discriminators")}
    return {f"{name}.{key}": value for name, net in nets.items() for key, value in net.state_dict().items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of six steps with dictionaries."""
    run = Run.start(tmp_path_factory.mktemp("trained"), {})
    train(run, tiny(**FQ))
    return run


@pytest.fixture
def plain_steps(monkeypatch):
    """Gradient descent in place of Adam, which would blow a rounding error of a gradient near 0 up to a full step."""
    monkeypatch.setattr(torch.optim, "Adam", lambda parameters, lr, *args, **options: torch.optim.SGD(parameters, lr))


# training


def test_killed_and_resumed_is_uninterrupted_to_the_bit(trained, tmp_path, monkeypatch):
    run, update = Run.start(tmp_path / "run", {}), training.Progress.update

    def killed(self, step, **numbers):
        if step == 5:
            raise KeyboardInterrupt
        update(self, step, **numbers)

    monkeypatch.setattr(training.Progress, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        train(run, tiny(**FQ))
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000003"]
    monkeypatch.undo()
    torch.manual_seed(12345)
    numbers = train(run, tiny(**FQ))
    assert (run.dir / "metrics.jsonl").read_bytes() == (trained.dir / "metrics.jsonl").read_bytes()
    ours, theirs = tensors(run), tensors(trained)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert train(run, tiny(**FQ)) == numbers == trained.results["metrics"], "what is finished is read back"


def test_micro_batches_make_the_step_of_the_whole_batch(tmp_path, plain_steps):
    options = {"batch_size": 4, "n_steps": 2, "lr": 1e-3}
    runs = [Run.start(tmp_path / name, {}) for name in ("whole", "parts")]
    train(runs[0], tiny(**options))
    train(runs[1], tiny(**options, accumulate=2))
    whole, parts = map(tensors, runs)
    assert max((whole[name] - parts[name]).abs().max() for name in whole) < 1e-5
    for rows in zip(*map(lines, runs), strict=True):
        for name in ("d_loss", "g_loss", "cycle", "identity", "cam", "d_real", "d_fake"):
            assert np.isclose(*(row.get(name, 0.0) for row in rows), rtol=1e-4), name


def test_learning_rate_is_constant_then_falls_to_zero(tmp_path):
    run = Run.start(tmp_path, {})
    rates, set_lr = [], training.set_lr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "set_lr", lambda optimizer, lr: (rates.append(lr), set_lr(optimizer, lr)))
        train(run, tiny(n_steps=8, lr=1e-3, eval_every=0))
    assert np.allclose(rates[::2], [1e-3] * 5 + [7.5e-4, 5e-4, 2.5e-4]) and rates[::2] == rates[1::2]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path, monkeypatch):
    run, real = Run.start(tmp_path, {}), module.cycle_terms
    calls = []

    def broken(*args):
        calls.append(1)
        terms = real(*args)
        return terms._replace(cycle=terms.cycle * float("nan")) if len(calls) == 5 else terms

    monkeypatch.setattr(module, "cycle_terms", broken)
    with pytest.raises(FloatingPointError, match="cycle is nan at step 5; a finite number was expected. The last"):
        train(run, tiny())
    assert run.status["state"] == "failed" and (run.checkpoints / "step-00000003").exists()


def test_step_of_d_keeps_no_graph_of_the_generators_and_rho_stays_in_range(tmp_path, monkeypatch):
    seen, built = [], build(tiny())

    def record(net, inputs, output):
        seen.append(torch.is_grad_enabled())

    built[0].ab.register_forward_hook(record)
    monkeypatch.setattr(module, "build", lambda config: built)
    train(Run.start(tmp_path, {}), tiny(n_steps=1, lr=5.0, eval_every=0))
    assert seen[:3] == [False, True, True], "translations for D without a graph; then G's step: both domains, and the way back"
    rhos = torch.cat([p.detach() for name, p in built[0].named_parameters() if name.endswith("rho")])
    assert rhos.min() == 0 and rhos.max() == 1, "a step of 5 throws every rho to an end of [0, 1]"
    assert all(p.requires_grad for net in built for p in net.parameters())


@pytest.mark.parametrize(("from_g", "updates"), [(True, 12), (False, 6)])
def test_dictionaries_move_after_each_step_of_d_and_where_asked_of_g(tmp_path, from_g, updates):
    run = Run.start(tmp_path, {})
    train(run, tiny(**FQ, fq_from_g=from_g, eval_every=0, save_every=0))
    D = Discriminators.from_pretrained(run.dir / "model" / "discriminators")
    found = [part.n_updates.item() for part in D.modules() if isinstance(part, VectorQuantizer)]
    assert found == [updates] * 4, "two layers in the global discriminator of each domain"


def test_commitment_alone_moves_both_players(tmp_path, plain_steps):
    """With all other weights at 0 a player moves only if the commitment term is part of its loss."""
    none = dict.fromkeys(("adversarial", "cycle", "identity", "cam"), 0.0)
    config = tiny(**none, **{**FQ, "fq": "regularize"}, n_steps=1, lr=0.1, eval_every=0)
    run, moved = Run.start(tmp_path, {}), {}
    train(run, config)
    training.start(config.seed, config.precision)
    before = build(config)
    after = tensors(run)
    for prefix, net in (("ab", before[0].ab), ("ba", before[0].ba), ("D", before[1])):
        moved |= {f"{prefix}.{name}": not torch.equal(p, after[f"{prefix}.{name}"]) for name, p in net.named_parameters()}
    assert any(moved[name] for name in moved if name.startswith("ab.")) and any(moved[n] for n in moved if n.startswith("ba."))
    assert moved["D.global_a.blocks.0.0.parametrizations.weight.original"]
    assert not any(moved[name] for name in moved if ".local_" in name or ".to_logits" in name), "behind no dictionary"


def test_log_has_what_the_contract_names(trained):
    rows = lines(trained)
    assert {"d_loss", "g_loss", "cycle", "identity", "cam", "d_real", "d_fake", "commit", "lr"} <= set(rows[0])
    look = next(row for row in rows if "ab/kd_domains_12" in row)
    assert look["ab/kd_domains_12_low"] < look["ab/kd_domains_12"] < look["ab/kd_domains_12_high"]
    assert {"ba/kd_domains_12", "ab/kd_domains_12_untouched", "ba/kd_domains_12_untouched"} <= set(look)
    assert len(look["usage/a.blocks.0"]) == len(look["usage_fake/b.blocks.1"]) == 8
    assert 0 <= look["js/a.blocks.1"] <= 1 and 0 <= look["dead/b.blocks.0"] <= 1
    assert set(trained.results["metrics"]) == {name for name in look if name.startswith(("ab/", "ba/"))}
    assert sorted(path.name for path in trained.samples.iterdir()) == ["sheet-00000003.png", "sheet-00000006.png"]


# before the first step


def test_crops_are_a_function_of_the_index_and_cut_out_of_the_pictures(tmp_path):
    pair = open_pair(Run.start(tmp_path, {}), tiny(), show=False)
    assert pair.a.x.shape == (24, 3, 18, 18), "16 * 286 / 256"
    stream, again = (ImageStream(pair.a, 1, 0) for _ in "12")
    found = [crops(stream, i, 16) for i in range(30)]
    assert all(torch.equal(crops(again, i, 16), found[i]) for i in (25, 0, 3))
    assert not all(torch.equal(crops(ImageStream(pair.a, 1, 1), i, 16), found[i]) for i in range(3))
    windows = (pair.a.x / 127.5 - 1).unfold(2, 16, 1).unfold(3, 16, 1)  # (24, 3, 3, 3, 16, 16)
    places = set()
    for x in torch.cat(found):
        hits = (windows - x[:, None, None]).abs().amax((1, 4, 5)) < 1e-6
        assert hits.any()
        places.add(tuple(hits.nonzero()[0, 1:].tolist()))
    assert len(places) > 4, "crops are cut out of different places"


def test_options_of_the_dictionaries():
    assert fq_of(tiny()) is None
    found = fq_of(tiny(fq="warmup", fq_layers="blocks.1, blocks.2,blocks.3", n_codes="64,128, 128"))
    assert found["layers"] == ["blocks.1", "blocks.2", "blocks.3"] and found["n_codes"] == [64, 128, 128]
    assert found["decay"] == 0.85 and found["commit_weight"] == 2.0 and found["mode"] == "warmup"
    assert fq_of(tiny(fq="quantize", n_codes="32"))["n_codes"] == [32, 32]
    for wrong in ("64,128,128", "many"):
        with pytest.raises(ValueError, match=f"n_codes is '{wrong}'; one number, or one for each of blocks.1,blocks.2"):
            fq_of(tiny(fq="quantize", n_codes=wrong))
    with pytest.raises(KeyError, match="is called 'blocks.3'"):
        build(tiny(fq="quantize", fq_layers="blocks.3", n_codes="8"))


def test_mistakes_are_found_before_the_first_step(tmp_path):
    for wrong, message in (({"zoom": 0.9}, "zoom is 0.9; at least 1"),
                           ({"accumulate": 3}, "accumulate is 3; a divisor of the 2"),
                           ({"image_size": 18}, "image_size is 18; expected a multiple of 4"),
                           ({"n_global": 6}, "expects sides of at least 48")):
        with pytest.raises(ValueError, match=message):
            train(Run.start(tmp_path / "-".join(wrong), {}), tiny(**wrong))


# looking


def test_kernel_distances_name_the_direction_and_doing_nothing(tmp_path):
    config = tiny()
    tests = open_tests(config, load_pair("digits", "chalk", size=18, limit=100), "cpu")
    assert tests.a.shape == (12, 3, 16, 16) and tests.extractor.name == "fd_domains"
    nothing = {"ab": Translated(tests.a, None, None), "ba": Translated(tests.b, None, None)}
    perfect = {"ab": Translated(tests.b, None, None), "ba": Translated(tests.a, None, None)}
    lazy, right = evaluate(nothing, tests, config), evaluate(perfect, tests, config)
    for way in ("ab", "ba"):
        name = f"{way}/kd_domains_12"
        assert np.isclose(lazy[name], lazy[f"{name}_untouched"]) and lazy[name] > 1
        assert right[f"{name}_untouched"] == lazy[f"{name}_untouched"] and right[name] < 0.02 * lazy[name]
    mixed = evaluate({**nothing, "ba": perfect["ba"]}, tests, config)
    assert mixed["ab/kd_domains_12"] == lazy["ab/kd_domains_12"] and mixed["ba/kd_domains_12"] == right["ba/kd_domains_12"]


def test_extractor_is_the_classifier_of_the_data_folder_or_trained_in_place(tmp_path, monkeypatch):
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))
    pair = load_pair("digits", "chalk", size=16, limit=20)
    assert open_tests(tiny(extractor="auto"), pair, "cpu").extractor.name == "fd_domains"
    (tmp_path / "classifiers").mkdir()
    (tmp_path / "classifiers" / "resnet20_cifar10.safetensors").touch()
    monkeypatch.setattr(module, "load_extractor", lambda name, path: pytest.fail(f"asked for {name}, {path}"))
    with pytest.raises(pytest.fail.Exception, match="asked for fd_resnet20, None"):
        open_tests(tiny(extractor="auto"), pair, "cpu")
    with pytest.raises(pytest.fail.Exception, match="asked for fid, weights.pth"):
        open_tests(tiny(extractor="fid", extractor_path="weights.pth"), pair, "cpu")


def test_extractor_of_the_domains_knows_which_way_up_pictures_are():
    pair = load_pair("digits", "chalk", size=16, limit=60)
    extractor = domain_extractor(pair)
    share = [(extractor(images.x.rot90(turns, (2, 3))).logits.argmax(1) == 4 * side + turns).float().mean()
             for side, images in enumerate(pair) for turns in range(4)]
    assert min(share) > 0.5, "of 8 classes, on what it was trained with"


def test_use_of_the_dictionaries_is_of_each_domain_and_of_what_is_translated_into_it():
    _, D = build(tiny(**FQ))
    tests = open_tests(tiny(), load_pair("digits", "chalk", size=16, limit=20), "cpu")
    D(*(x.float() / 127.5 - 1 for x in (tests.a, tests.b)))
    perfect = {"ab": Translated(tests.b, None, None), "ba": Translated(tests.a.flip(0), None, None)}
    numbers = code_use(D, perfect, tests)
    for layer in ("a.blocks.0", "a.blocks.1", "b.blocks.0", "b.blocks.1"):
        assert numbers[f"usage/{layer}"] == numbers[f"usage_fake/{layer}"] and numbers[f"js/{layer}"] < 1e-9
    assert numbers["usage/a.blocks.0"] != numbers["usage/b.blocks.0"]
    assert sum(numbers["usage/a.blocks.0"]) == 12 * 8 * 8
    assert code_use(build(tiny())[1], perfect, tests) == {}


def test_sheet_has_both_directions_side_by_side(tmp_path):
    G, _ = build(tiny())
    tests = open_tests(tiny(), load_pair("digits", "chalk", size=16, limit=20), "cpu")
    made = translate_tests(G, tests)
    x = np.asarray(Image.open(save_sheet(Run(tmp_path), 7, made, tests, 3)))
    assert x.shape == (3 * 18 - 2, 8 * 18 - 2, 3)
    shown = {0: tests.a, 2: made["ab"].pictures, 3: made["ab"].back, 4: tests.b, 6: made["ba"].pictures, 7: made["ba"].back}
    for column, pictures in shown.items():
        for row in range(3):
            cell = x[18 * row:18 * row + 16, 18 * column:18 * column + 16]
            assert np.array_equal(cell.transpose(2, 0, 1), pictures[row])


def test_overlay_by_hand():
    pictures = torch.tensor([30, 60, 90], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)  # grey: 60
    cold, hot, red = (overlay(pictures, torch.full((1, 2, 2), value))[0, :, 0, 0].tolist() for value in (0.0, 1.0, 1 / 3))
    assert cold == [24] * 3 and hot == [24 + 153] * 3 and red == [177, 24, 24]


# using it


def test_translating_is_what_the_generators_do(trained):
    translator, x = load_translator(trained.dir), torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
    assert translator.about["data"] == "digits" and not translator.ab.training
    for direction, there, back in (("ab", translator.ab, translator.ba), ("ba", translator.ba, translator.ab)):
        found = translate(translator, x, direction, batch_size=2)
        with torch.no_grad():
            expected = there(x / 127.5 - 1)
            returned = back(expected.images)
        levels = [(each.images + 1) * 127.5 for each in (expected, returned)]
        assert found.pictures.dtype == torch.uint8 and (found.pictures - levels[0]).abs().max() < 0.51
        assert (found.back - levels[1]).abs().max() < 0.51 and torch.allclose(found.heat_maps, expected.heat_map, atol=1e-4)
    assert torch.equal(translate(str(trained.dir), x).pictures, translate(trained.dir / "model", x, "ab").pictures)
    assert translate(translator, x.repeat(1, 1, 2, 2)).pictures.shape == (5, 3, 32, 32), "light generators take other sizes"


def test_mistakes_in_using_it(trained, tmp_path):
    with pytest.raises(ValueError, match="direction is 'a2b'; choose one of: ab, ba."):
        translate(Translator(None, None, {}), torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "a2b")
    with pytest.raises(FileNotFoundError, match="a trained translator was expected in .*generator_ab/.*Train one with 24"):
        load_translator(tmp_path)
    with pytest.raises(TypeError, match="takes uint8 pixels"):
        translate(trained.dir, torch.zeros(1, 3, 16, 16))


def test_command_translates_a_picture_and_a_folder(trained, tmp_path, capsys):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    x = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    for name, picture in zip(("in/one.png", "in/deep/two.bmp"), x, strict=True):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    words = [str(trained.dir), str(tmp_path / "in"), "--direction", "ba", "--out", str(tmp_path / "out"), "--back"]
    assert main(words) == 0 and "2 pictures translated into" in capsys.readouterr().out
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in list_pictures(tmp_path / "out")) == [
        "deep/two-back.png", "deep/two.png", "one-back.png", "one.png"]
    made = translate(trained.dir, x, "ba")
    for name, expected in (("one", made.pictures[0]), ("deep/two", made.pictures[1]), ("deep/two-back", made.back[1])):
        written = np.asarray(Image.open(tmp_path / "out" / f"{name}.png")).transpose(2, 0, 1)
        assert abs(written.astype(int) - expected.numpy()).max() <= 1
    assert main([str(trained.dir), str(tmp_path / "in" / "one.png"), "--out", str(tmp_path / "single"), "--size", "32"]) == 0
    assert Image.open(tmp_path / "single" / "one.png").size == (32, 32)


def test_command_tells_mistakes_in_one_line(trained, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    asked = [str(trained.dir), str(folder), "--out", str(tmp_path / "out")]
    Image.new("RGB", (16, 16)).save(folder / "a.png")
    cases = {
        "direction is 'up'": [*asked, "--direction", "up"],
        "a trained translator was expected": [str(tmp_path), *asked[1:]],
        "a picture, or a folder with pictures, was expected at": [asked[0], str(tmp_path / "none"), *asked[2:]],
        "images are 18 x 18": [*asked, "--size", "18"],
    }
    for message, words in cases.items():
        assert main(words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    Image.new("RGB", (16, 16)).save(folder / "a.jpg")
    assert main(asked) == 2 and "several pictures called a; one of each" in capsys.readouterr().err
    (folder / "a.jpg").unlink()
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:40])
    assert main(asked) == 2 and "b.png cannot be read (" in capsys.readouterr().err
