"""Synthetic instructions: shards that are whole, the same for any number of processes, and counts that the code finds."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dgmlab.data.registry import data_home
from dgmlab.prevalent import synthesis
from dgmlab.prevalent.episodes import check_episodes
from dgmlab.prevalent.features import open_features
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.paths import augmentation_paths
from dgmlab.prevalent.speaker import Speaker
from dgmlab.prevalent.speaking import save_speaker
from dgmlab.prevalent.synthesis import (
    Counts,
    Teller,
    count_possible,
    count_real,
    count_synthetic,
    main,
    open_teller,
    read_synthetic,
    write_synthetic,
)
from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.train_speaker import SpeakerTrainConfig
from dgmlab.prevalent.words import Words
from dgmlab.run import Run

ROOT = Path(__file__).parents[2]
FEW = {"n_instructions": 2, "limit": 21, "shard_size": 5}
FLAGS = ("--instructions", "2", "--limit", "21", "--shard-size", "5")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a speaker at random, as a training run in two toy houses would leave it."""
    config = SpeakerTrainConfig(n_houses=2)
    run = Run.start(tmp_path_factory.mktemp("speaker") / "run", vars(config))
    houses = Houses.toy(range(2))
    words = Words.build([episode.instruction for episode in toy_episodes(houses, 20, 0)], 1)
    torch.manual_seed(0)
    speaker = Speaker.from_preset("tiny", len(words), open_features("toy", houses).size, hidden_size=32, max_length=12)
    save_speaker(run.dir / "model", speaker, words)
    return run


@pytest.fixture(scope="module")
def teller(run):
    return open_teller(run.dir)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_path_is_told_and_read_back(teller, tmp_path):
    assert write_synthetic(teller, tmp_path, n_instructions=3, shard_size=64) == 3 * augmentation_paths(teller.houses).n
    episodes = check_episodes(list(read_synthetic(tmp_path)), teller.houses)
    paths = augmentation_paths(teller.houses)
    told = {(episode.scan, episode.path) for episode in episodes}
    assert len(told) == paths.n and count_possible(teller.houses, 3) == count_synthetic(tmp_path) == count_real(episodes)
    assert count_synthetic(tmp_path) == Counts(paths.n, 3 * paths.n, 3 * len(paths.rows))
    first = [teller.houses.name(row) for row in paths.path(0)]
    assert (episodes[0].scan, episodes[0].path) == (first[0][0], tuple(viewpoint for _, viewpoint in first))
    assert episodes[0].goals == episodes[0].path[-1:] and len({episode.instr_id for episode in episodes}) == len(episodes)
    assert episodes[0].heading == episodes[2].heading and episodes[0].about == episodes[2].about != episodes[3].about
    headings = np.array([episode.heading for episode in episodes[::3]])
    assert 0 <= headings.min() and headings.max() < 6.3 and abs(np.exp(1j * headings).mean()) < 0.15, "in all directions"
    assert all(0 < len(episode.instruction.split()) <= 12 for episode in episodes)


def test_shards_are_the_same_whoever_writes_them(teller, tmp_path):
    write_synthetic(teller, tmp_path / "one", **FEW)
    for rank in (2, 0, 1):
        write_synthetic(teller, tmp_path / "three", **FEW, rank=rank, world=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert len(contents(tmp_path / "one")) == 6  # five shards of 5 or fewer, and the plan
    write_synthetic(teller, tmp_path / "seed", **FEW, seed=1)
    assert contents(tmp_path / "one") != contents(tmp_path / "seed")


def test_what_is_finished_is_kept_and_the_rest_written(teller, tmp_path, monkeypatch):
    write_synthetic(teller, tmp_path / "whole", **FEW)
    calls, tell, write = [], synthesis.tell, synthesis._write_shard
    monkeypatch.setattr(synthesis, "tell", lambda *args: (calls.append(args[-1]), tell(*args))[1])

    def full(path, told):
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(path, told)

    monkeypatch.setattr(synthesis, "_write_shard", full)
    with pytest.raises(OSError, match="No space left"):
        write_synthetic(teller, tmp_path / "stopped", **FEW)
    with pytest.raises(ValueError, match="lacks 3 of 5 shards, the first of them 2. Start the same command again"):
        next(read_synthetic(tmp_path / "stopped"))
    calls.clear()
    monkeypatch.setattr(synthesis, "_write_shard", write)
    assert write_synthetic(teller, tmp_path / "stopped", **FEW) == 2 * (21 - 10)
    assert calls == [[0, 2], [0, 3], [0, 4]], "the seed of a shard is its number"
    assert contents(tmp_path / "whole") == contents(tmp_path / "stopped")
    assert write_synthetic(teller, tmp_path / "stopped", **FEW) == 0


def test_a_full_disk_leaves_no_half_written_shard(teller, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthesis.os, "replace", fail)
    with pytest.raises(OSError, match="cannot write .*shard-00000.jsonl.gz: No space.*Free some space"):
        synthesis._write_shard(tmp_path / "shard-00000.jsonl.gz", [{"scan": "a"}])
    assert not list(tmp_path.iterdir())


def test_bad_folders_and_settings_are_named(run, teller, tmp_path):
    write_synthetic(teller, tmp_path, **FEW)
    with pytest.raises(ValueError, match="another plan .*temperature: 0.5 -> 1.0.*Use another folder"):
        write_synthetic(teller, tmp_path, **FEW, temperature=1.0)
    other = Teller(Speaker(teller.speaker.config), *teller[1:])
    with pytest.raises(ValueError, match="another plan .*speaker: "):
        write_synthetic(other, tmp_path, **FEW)
    with pytest.raises(ValueError, match="rank is below world; found 6, 256, 0.5, and rank 2 of 2"):
        write_synthetic(teller, tmp_path, rank=2, world=2)
    shard = tmp_path / "shard-00003.jsonl.gz"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ValueError, match="shard-00003.jsonl.gz is damaged"):
        list(read_synthetic(tmp_path))
    with pytest.raises(FileNotFoundError, match="synthetic instructions were expected at .*plan.json"):
        next(read_synthetic(tmp_path / "nowhere"))
    save_speaker(tmp_path / "alone" / "model", teller.speaker, teller.words)
    with pytest.raises(FileNotFoundError, match="settings of the speaker.*alone/params.json. Leave the model in the run"):
        open_teller(tmp_path / "alone")


def test_the_command_writes_and_names_mistakes(run, teller, tmp_path, capsys):
    words = ["--speaker", str(run.dir), "--out", str(tmp_path / "out"), *FLAGS]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "shard 4 (5/5)" in said and "process 0 of 1 has written 42 instructions" in said
    write_synthetic(teller, tmp_path / "same", **FEW)
    assert contents(tmp_path / "out") == contents(tmp_path / "same")
    lines = gzip.decompress((tmp_path / "out" / "shard-00004.jsonl.gz").read_bytes()).decode().splitlines()
    assert len(lines) == 1 and set(json.loads(lines[0])) == {"scan", "path", "heading", "instructions"}
    assert main([*words, "--temperature", "1"]) == 2
    assert "another plan (temperature: 0.5 -> 1.0)" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_of_torchrun_write_what_one_writes(run, teller, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
               "dgmlab.prevalent.synthesis", "--speaker", str(run.dir), "--out", str(tmp_path / "two"), *FLAGS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    write_synthetic(teller, tmp_path / "one", **FEW)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_published_counts_come_out_of_the_real_houses():
    if not (data_home() / "matterport" / "R2R").is_dir():
        pytest.skip("needs matterport/R2R in DGMLAB_DATA")
    episodes = load_r2r("train")
    houses = Houses.load(sorted({episode.scan for episode in episodes}))
    assert count_possible(houses) == Counts(178_300, 1_069_800, 6_482_268)
    assert count_real(episodes).instructions == 14_039 and count_real(episodes).steps == 84_280
    assert count_real([*episodes, *load_r2r("val_seen"), *load_r2r("val_unseen")]).steps == 104_494
