"""Training from streamed shards: the position in the middle of a shard survives a stop."""

import json

import pytest

from dgmlab import training
from dgmlab.data import grammar
from dgmlab.optimus.train import TrainConfig, train
from dgmlab.run import Run


class Stopped(Exception):
    pass


@pytest.fixture
def config(tmp_path):
    sentences = grammar.sample(700, seed=4)
    for i in range(7):
        (tmp_path / f"shard-{i}.txt").write_text("\n".join(sentences[100 * i:100 * i + 100]))
    return TrainConfig(data=f"shards:{tmp_path}/shard-*.txt", vocab_size=0, max_length=16, n_steps=24, batch_size=16,
                       save_every=5, eval_every=12, n_watch=8, n_eval=8, iw_samples=2, latent_size=4, precision="fp32")


def test_streamed_training_resumes_in_the_middle_of_a_shard(config, tmp_path, monkeypatch):
    whole = train(Run.start(tmp_path / "whole", {}), config)
    with monkeypatch.context() as patch:
        real = training.Progress.update

        def update(self, done, **numbers):
            if done == 13:
                raise Stopped
            real(self, done, **numbers)

        patch.setattr(training.Progress, "update", update)
        with pytest.raises(Stopped):
            train(Run.start(tmp_path / "stopped", {}), config)
    assert train(Run.start(tmp_path / "stopped", {}), config) == whole
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "stopped")]
    assert [json.loads(line) for line in lines[0]] == [json.loads(line) for line in lines[1]]


def test_streamed_batches_whose_sentences_are_all_too_long_are_passed_over(config, tmp_path, capsys):
    lines = (tmp_path / "shard-0.txt").read_text().split("\n")
    (tmp_path / "shard-0.txt").write_text("\n".join([*lines[:40], *["the cat " * 7] * 60]))  # 14 words, but 14 tokens > 12
    numbers = train(Run.start(tmp_path / "run", {}), TrainConfig(**{**vars(config), "max_length": 12, "n_steps": 40}))
    assert numbers["n_sentences"] == 8
    hopeless = TrainConfig(**{**vars(config), "max_length": 2})
    with pytest.raises(ValueError, match="has no sentence of 1 to 2 tokens"):
        train(Run.start(tmp_path / "none", {}), hopeless)


def test_too_long_sentences_are_counted_aloud(tmp_path, capsys):
    lines = [f"{'word' if i % 4 else 'a longer line'} {i}" for i in range(600)]
    (tmp_path / "my.txt").write_text("\n".join(lines))
    train(Run.start(tmp_path / "run", {}), TrainConfig(
        data=str(tmp_path / "my.txt"), size="tiny", vocab_size=0, max_length=3, n_steps=1, batch_size=8, n_watch=4, n_eval=4,
        iw_samples=2, latent_size=4, precision="fp32"))
    assert "sentences are longer than 3 tokens and left out" in capsys.readouterr().out


def test_one_shard_is_not_enough(config, tmp_path):
    alone = TrainConfig(**{**vars(config), "data": f"shards:{tmp_path}/shard-0.txt"})
    with pytest.raises(FileNotFoundError, match="needs at least two shards .the last is held out., found 1"):
        train(Run.start(tmp_path / "run", {}), alone)
