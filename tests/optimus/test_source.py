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


def test_one_shard_is_not_enough(config, tmp_path):
    alone = TrainConfig(**{**vars(config), "data": f"shards:{tmp_path}/shard-0.txt"})
    with pytest.raises(FileNotFoundError, match="needs at least two shards .the last is held out., found 1"):
        train(Run.start(tmp_path / "run", {}), alone)
