"""Training the speaker: it learns, resumes exactly, shares a batch among ranks, and counts what it was told to."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dgmlab.metrics.overlap import bleu
from dgmlab.prevalent import train_speaker
from dgmlab.prevalent.episodes import n_steps
from dgmlab.prevalent.speaking import load_speaker, log_likelihood, path_inputs
from dgmlab.prevalent.train_speaker import (
    SpeakerTrainConfig,
    by_path,
    examine,
    make_lessons,
    open_corpus,
    row_paths,
    train,
    training_houses,
)
from dgmlab.run import Run, read_json

ROOT = Path(__file__).parents[2]
TINY = {"n_houses": 3, "n_paths": 60, "max_moves": 2, "min_count": 1, "batch_size": 24, "precision": "fp32", "lr": 5e-3,
        "image_dropout": 0.2, "dropout": 0.1, "eval_every": 2, "save_every": 3}


def start(folder, **settings):
    config = SpeakerTrainConfig(**{**TINY, **settings})
    return Run.start(folder, vars(config)), config


def weights(run):
    return torch.cat([tensor.flatten() for tensor in load_speaker(run.dir).speaker.state_dict().values()])


def test_six_steps_equal_three_a_stop_and_three_more(tmp_path, monkeypatch):
    run, config = start(tmp_path / "whole", n_steps=6)
    numbers = train(run, config)

    other, _ = start(tmp_path / "stopped", n_steps=6)

    def stop(step, **values):
        if step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_speaker.training, "check_finite", stop)
    with pytest.raises(KeyboardInterrupt):
        train(other, config)
    monkeypatch.undo()
    assert other.status["state"] == "interrupted" and not (other.dir / "model").exists()
    assert train(other, config) == numbers
    assert other.metrics() == run.metrics() and torch.equal(weights(other), weights(run))
    assert train(other, config) == numbers, "a finished run is read back"


def test_it_learns_to_speak_and_keeps_the_best(tmp_path):
    run, config = start(tmp_path / "run", n_steps=40, eval_every=10, choose="val_seen")
    numbers = train(run, config)
    steps, nll = run.column("nll")
    assert nll[-1] < 0.6 * nll[0] and run.status["state"] == "done"
    watched = dict(zip(*run.column("bleu/val_seen"), strict=True))
    assert list(watched) == [10, 20, 30, 40]
    assert numbers["val_seen_bleu"] == pytest.approx(max(watched.values()))
    assert run.results["metrics"] == numbers
    names = {f"{split}_{name}" for split in ("val_seen", "val_unseen") for name in ("bleu", "cider", "ppl", "n_words")}
    assert set(numbers) == names


def test_what_is_kept_is_what_scored_best(tmp_path, monkeypatch):
    bleus = iter([0.1, 0.5, 0.4, 0.3])

    def scripted(speaker, corpus, limit, accelerator):
        return dict.fromkeys(("val_seen", "val_unseen"), {"bleu": next(bleus, 0.5)})

    monkeypatch.setattr(train_speaker, "watch", scripted)
    run, config = start(tmp_path / "run", n_steps=8)
    train(run, config)
    best, last = run.checkpoints / "best", run.checkpoints / "step-00000008"
    assert read_json(best / "manifest.json")["step"] == 4
    kept, final = (load_file(folder / "model.safetensors") for folder in (best, last))
    model = load_file(run.dir / "model" / "model.safetensors")
    sums = sorted(tensor.sum().item() for tensor in model.values())
    assert sums == sorted(tensor.sum().item() for tensor in kept.values())
    assert sums != sorted(tensor.sum().item() for tensor in final.values())


def test_scores_are_those_of_the_texts():
    corpus = open_corpus(SpeakerTrainConfig(**TINY))
    speaker = train_speaker.build_speaker(SpeakerTrainConfig(**TINY), corpus).eval()
    episodes = corpus.splits["val_unseen"]
    report = examine(speaker, corpus, episodes)
    assert len(report.texts) == len({(episode.scan, episode.path) for episode in episodes}) == len(episodes) // 3
    assert all(len(references) == 3 for references in report.references)
    assert report.scores["bleu"] == bleu(report.texts, report.references)
    headings = np.array([episode.heading for episode in episodes])
    log_p = log_likelihood(speaker, corpus.words, corpus.features, corpus.houses, row_paths(corpus.houses, episodes),
                           [episode.instruction for episode in episodes], headings)
    n_words = sum(len(corpus.words.encode(episode.instruction, 200)) - 1 for episode in episodes)
    assert report.scores["ppl"] == pytest.approx(math.exp(-float(log_p.double().sum()) / n_words), rel=1e-4)
    assert report.scores["n_words"] == np.mean([len(text.split()) for text in report.texts])
    assert len(examine(speaker, corpus, episodes, limit=2).texts) == 2
    assert [len(group) for group in by_path(episodes, 2)] == [3, 3]


def test_toy_splits_share_no_path_and_no_unseen_house():
    config = SpeakerTrainConfig(**{**TINY, "seed": int(np.random.default_rng().integers(1000))})
    corpus = open_corpus(config)
    splits = corpus.splits
    paths = {split: {(episode.scan, episode.path) for episode in episodes} for split, episodes in splits.items()}
    assert not paths["train"] & paths["val_seen"] and n_steps(splits["train"]) > len(splits["train"])
    scans = {split: {scan for scan, _ in found} for split, found in paths.items()}
    assert scans["val_seen"] <= scans["train"] <= set(training_houses(config).scans)
    assert not scans["val_unseen"] & scans["train"]
    lessons = make_lessons(corpus, config)
    inputs, ids = lessons.batch(np.array([5, 9]), corpus, "cpu")
    expected = path_inputs(corpus.features, corpus.houses, [lessons.paths[5], lessons.paths[9]], lessons.headings[[5, 9]])
    assert all(torch.equal(a, b) for a, b in zip(inputs, expected, strict=True))
    assert corpus.words.decode(ids[1].tolist()).replace(" ", "") == splits["train"][9].instruction.lower().replace(" ", "")


def test_wrong_settings_are_named(tmp_path):
    for settings, message in (({"data": "r3r"}, "no data of the speaker is called 'r3r'.*toy, r2r"),
                              ({"choose": "train"}, "no split to choose by is called 'train'.*val_seen, val_unseen"),
                              ({"size": "big"}, "no preset of Speaker is called 'big'")):
        run, config = start(tmp_path / next(iter(settings)), **settings)
        with pytest.raises(KeyError, match=message):
            train(run, config)
    with pytest.raises(ValueError, match="1 toy houses have at most n_paths=400 paths of 1 to 1 moves"):
        open_corpus(SpeakerTrainConfig(n_houses=1, n_paths=400, phrasings=1, max_moves=1))


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    """torchrun with 2 gloo processes: same global batch and no dropout, so the losses of one process."""
    code = ("import sys\nfrom dgmlab.run import Run\nfrom dgmlab.prevalent.train_speaker import SpeakerTrainConfig, train\n"
            f"settings = {({**TINY, 'dropout': 0.0, 'image_dropout': 0.0, 'n_steps': 10, 'eval_every': 5})!r}\n"
            "train(Run(sys.argv[1]), SpeakerTrainConfig(**settings))\n")
    script = tmp_path / "train.py"
    script.write_text(code)
    losses = []
    for world in (1, 2):
        run, _ = start(tmp_path / f"world{world}", n_steps=10)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world), str(script)]
        done = subprocess.run([*command, str(run.dir)], capture_output=True, text=True, cwd=ROOT, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        losses.append(run.column("nll")[1])
    assert np.allclose(*losses, rtol=1e-4)
