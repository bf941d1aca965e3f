"""The toy lab: mixtures against their own draws, scores by hand, a run that is repeatable, and what heads do to classes."""

import math

import numpy as np
import pytest
import torch

from dgmlab.fqgan import toy
from dgmlab.fqgan.losses import ClassTerms
from dgmlab.fqgan.mixtures import MIXTURES, Mixture, Points, ring, score_points
from dgmlab.fqgan.toy import Discriminator, Generator, ToyConfig, build, follow, load_points, train_toy
from dgmlab.quantize import VectorQuantizer
from dgmlab.run import Run

FAST = {"n_steps": 20, "batch_size": 32, "width": 16, "eval_every": 10, "n_eval": 200, "n_codes": 8}


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", MIXTURES)
def test_draws_have_the_moments_that_are_computed(name):
    mixture = MIXTURES[name]()
    points = mixture.draw(40_000, draws())
    assert points.x.shape == (40_000, 2) and points.x.dtype == torch.float32
    torch.testing.assert_close(mixture.shares.sum(1), torch.ones(len(mixture.shares)))
    for y, own in ((None, points.x), *((c, points.x[points.y == c]) for c in range(len(mixture.shares)))):
        mean, covariance = mixture.moments(y)
        torch.testing.assert_close(own.double().mean(0), mean, atol=0.06, rtol=0)
        torch.testing.assert_close(own.double().T.cov(), covariance, atol=0.08, rtol=0)
    again = mixture.draw(40_000, draws())
    assert torch.equal(again.x, points.x) and not torch.equal(mixture.draw(40_000, draws(1)).x, points.x)


def test_moments_by_hand():
    mixture = Mixture(torch.tensor([[0.0, 0], [4, 0]]), torch.tensor([1.0, 2.0]), torch.tensor([[0.5, 0.5], [1.0, 0]]))
    mean, covariance = mixture.moments(0)
    assert mean.tolist() == [2, 0]
    assert covariance.tolist() == [[4 + 2.5, 0], [0, 2.5]]  # between the modes, and the mean of 1 and 4 within
    assert mixture.moments(1).covariance.tolist() == [[1, 0], [0, 1]]
    assert mixture.moments().mean.tolist() == [1, 0]  # shares 3/4 and 1/4


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_modes_are_equally_frequent_and_half_of_them_shared(name):
    mixture = MIXTURES[name]()
    n_modes = len(mixture.means)
    torch.testing.assert_close(mixture.shares.mean(0), torch.full((n_modes,), 1 / n_modes))
    assert ((mixture.shares > 0).sum(0) == 2).sum() == n_modes / 2
    assert ((mixture.shares > 0).sum(0) == 1).sum() == n_modes / 2


def test_true_points_score_as_true():
    mixture = ring()
    score = score_points(mixture.draw(20_000, draws()), mixture)
    assert score.modes == 8
    assert score.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.004)  # within 3 sigma in the plane
    assert score.fd < 0.002 and score.fd_class < 0.004 and score.spread == pytest.approx(1, abs=0.01)


def test_scores_by_hand():
    # two modes of sigma 1, a class each; ten points on a circle of radius 1/2 for each, around the mode and ten beside it
    mixture = Mixture(torch.tensor([[0.0, 0], [100, 0]]), torch.ones(2), torch.eye(2))
    angle = torch.arange(10) * 2 * math.pi / 10
    circle = torch.stack([angle.cos(), angle.sin()], dim=1) / 2
    points = Points(torch.cat([circle, circle + torch.tensor([110.0, 0])]), torch.arange(2).repeat_interleave(10))
    score = score_points(points, mixture)
    assert score.modes == 1 and score.high_quality == 0.5
    # variance of the circle: r^2 / 2 * 10 / 9 a side, against 1
    spread = math.sqrt(0.125 * 10 / 9)
    assert score.spread == pytest.approx(spread)
    within = 2 * (1 - spread) ** 2
    assert score.fd_class == pytest.approx((within + 100 + within) / 2)


def test_a_mode_counts_from_a_fifth_of_its_due_on():
    mixture = Mixture(torch.tensor([[0.0, 0], [100, 0]]), torch.ones(2), torch.tensor([[0.5, 0.5]]))
    for n_second, modes in ((10, 2), (9, 1)):
        x = torch.zeros(100, 2)
        x[:n_second, 0] = 100
        x += 0.1 * torch.randn(100, 2, generator=draws())
        assert score_points(Points(x, torch.zeros(100, dtype=torch.long)), mixture).modes == modes


@pytest.mark.parametrize(("head", "n_logits"), [("projection", 1), ("ac", 2), ("tac", 3)])
def test_heads_answer_like_those_of_pictures(head, n_logits):
    torch.manual_seed(0)
    D, x, y = Discriminator(4, head, 16), torch.randn(6, 2), torch.arange(6) % 4
    out = D(x, y)
    assert out.logits.shape == (6,) and sum(part is not None for part in out) == n_logits
    assert all(part is None or part.shape == (6, 4) for part in out[1:])
    assert torch.equal(out.logits, D(x, (y + 1) % 4).logits) == (head != "projection")
    with pytest.raises(KeyError, match="'tax'.*Did you mean 'tac'"):
        Discriminator(4, "tax", 16)


def test_generator_listens_to_noise_and_class():
    torch.manual_seed(0)
    G, y = Generator(4, 8, 16), torch.zeros(5, dtype=torch.long)
    points = G.draw(y, draws())
    assert points.shape == (5, 2) and torch.equal(points, G.draw(y, draws()))
    assert not torch.equal(points, G.draw(y + 1, draws())) and not torch.equal(points[0], points[1])


def run_once(folder, **options):
    config = ToyConfig(**{**FAST, **options})
    run = Run.start(folder, vars(config))
    return run, train_toy(run, config)


@pytest.mark.parametrize("fq", ["off", "quantize", "regularize", "warmup"])
def test_a_run_logs_saves_and_is_repeatable(tmp_path, fq):
    run, numbers = run_once(tmp_path / "a", fq=fq, head="tac")
    expected = {"fd_points_200", "fd_points_class_200", "spread", "modes", "high_quality"}
    coded = {f"{key}/hidden.1" for key in ("dead", "js", "dictionary_perplexity")} if fq != "off" else set()
    assert set(numbers) == expected | coded == set(run.results["metrics"])
    assert run.status["state"] == "done"
    rows = run.metrics()
    assert [row["step"] for row in rows] == [10, 10, 20, 20]
    assert (rows[-2]["commit"] > 0) == (fq != "off") == ("usage_fake/hidden.1" in rows[-1])
    points = load_points(run)
    assert points.frames.shape == (2, 200, 2) and np.array_equal(points.frames[-1], points.fake)
    n_coded = 8 if fq != "off" else 0
    assert points.dictionary.shape == (n_coded, 16) and np.isfinite(points.dictionary).all()
    assert points.real_features.shape == points.fake_features.shape == (200 if n_coded else 0, 16)
    score = score_points(Points(torch.as_tensor(points.fake), torch.as_tensor(points.fake_y)), ring())
    assert score.fd == pytest.approx(numbers["fd_points_200"]) and score.spread == pytest.approx(numbers["spread"])
    log = (run.dir / "metrics.jsonl").read_bytes()
    assert (run_once(tmp_path / "b", fq=fq, head="tac")[0].dir / "metrics.jsonl").read_bytes() == log
    assert run_once(tmp_path / "a", fq=fq, head="tac")[1] == numbers  # again in the same folder: from the start
    assert (run.dir / "metrics.jsonl").read_bytes() == log


def test_every_option_reaches_the_training(tmp_path):
    short = {"head": "ac", "fq": "quantize", "n_steps": 5, "eval_every": 5}
    plain = run_once(tmp_path / "plain", **short)[1]
    for name, value in {"seed": 1, "head": "tac", "class_weight": 0.5, "adversarial": "hinge", "r1": 0.0, "lr": 4e-3,
                        "ema_decay": 0.9, "latent_size": 4, "n_codes": 4, "fq_decay": 0.5, "commit_weight": 5.0,
                        "fq": "regularize"}.items():
        assert run_once(tmp_path / name, **{**short, name: value})[1] != plain, name
    with pytest.raises(KeyError, match="'circle'.*Choose one of: ring, grid, line"):
        build(ToyConfig(data="circle"))


def test_a_short_training_comes_nearer_to_the_data(tmp_path):
    run, _ = run_once(tmp_path / "run", n_steps=200, eval_every=50, n_eval=2000, lr=5e-3, ema_decay=0.9)
    distances = run.column("fd_points_2k")[1]
    assert distances[-1] < 0.3 * distances[0]


def test_the_dictionary_moves_after_the_step_of_either_player(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(toy, "update_dictionaries", lambda D: seen.append(D.linear.weight.requires_grad))
    run_once(tmp_path / "run", fq="quantize", n_steps=3, eval_every=3)
    assert seen == [True] * 6


@pytest.mark.parametrize("player", ["class_terms_d", "class_terms_g"])
def test_either_player_weighs_its_class_terms(tmp_path, monkeypatch, player):
    other = {"class_terms_d": "class_terms_g", "class_terms_g": "class_terms_d"}[player]
    monkeypatch.setattr(toy, other, lambda *args: ClassTerms(*torch.zeros(3)))
    short = {"head": "tac", "n_steps": 5, "eval_every": 5}
    assert run_once(tmp_path / "a", **short)[1] != run_once(tmp_path / "b", class_weight=0.0, **short)[1]


def test_kept_features_are_those_before_the_dictionary(tmp_path):
    run, numbers = run_once(tmp_path / "run", fq="quantize")
    points = load_points(run)
    gaps = np.linalg.norm(points.real_features[:, None] - points.dictionary, axis=2)
    counts = np.bincount(gaps.argmin(axis=1), minlength=8)
    assert counts.tolist() == run.metrics()[-1]["usage/hidden.1"] and gaps.min() > 1e-6


def test_a_dictionary_follows_points_and_tells_how(tmp_path):
    torch.manual_seed(0)
    vq = VectorQuantizer(2, 1, decay=0.5, init="normal", revive_below=0.0)
    vq.dictionary.copy_(torch.tensor([[0.0], [10.0]]))
    vq.ema_sums.copy_(vq.dictionary)
    track = follow(vq, [torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[11.0]])])
    # code 0: n = (1 + 3) / 2 = 2, m = (0 + 6) / 2 = 3; code 1 stays, then n = (1/2 + 1) / 2, m = (5 + 11) / 2
    np.testing.assert_allclose(track.dictionary[:, :, 0], [[1.5, 10], [1.5, 8 / 0.75]], rtol=1e-4)
    assert track.counts.tolist() == [[3, 0], [0, 1]] and track.perplexity.tolist() == [1, 1]
    np.testing.assert_allclose(track.error, [14 / 3, 1], rtol=1e-3)
    assert not track.revived.any()
    vq = VectorQuantizer(4, 1, decay=0.5, init="normal", revive_below=0.5)
    assert follow(vq, [torch.full((5, 1), 50.0)] * 5).revived.any()


def test_points_of_a_run_that_did_not_train_are_asked_for_in_words(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"points.npz\. Run train_toy"):
        load_points(Run(tmp_path))


@pytest.mark.slow
def test_ac_narrows_the_classes_and_tac_does_not(tmp_path):
    found = {}
    for head in ("ac", "tac", "projection"):
        numbers = train_toy(Run.start(tmp_path / head, {}), ToyConfig(head=head, n_steps=1000, eval_every=1000))
        found[head] = numbers["spread"]
    assert found["ac"] < 0.85 < 0.9 < min(found["tac"], found["projection"])
