"""Checkpoints by themselves: what they hold, the one called best, and kills at every moment of writing it."""

import os
import random
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from dgmlab import checkpoint
from dgmlab.run import Run


class Killed(Exception):
    pass


def test_checkpoint_tree_round_trips_types_and_tied_tensors(tmp_path):
    weight = torch.randn(3, 2)
    state = {"tied": [weight, weight], 3: (1, 2.5, None, "x"), "empty": torch.zeros(0), "flag": True}
    state["half"] = weight.bfloat16()
    checkpoint._write_part(tmp_path, "part", state)
    back = checkpoint._read_part(tmp_path, "part")
    assert back[3] == (1, 2.5, None, "x") and back["flag"] is True and back["empty"].shape == (0,)
    assert torch.equal(back["tied"][0], weight) and torch.equal(back["half"], weight.bfloat16())
    assert (tmp_path / "part.safetensors").stat().st_size < 500  # the tied tensor is stored once
    with pytest.raises(TypeError, match="a checkpoint holds tensors, numbers"):
        checkpoint._write_part(tmp_path, "bad", {"x": object()})


def test_random_states_of_all_generators_are_restored():
    state = checkpoint._random_state()
    first = random.random(), np.random.rand(), torch.rand(1).item()
    checkpoint._set_random_state(state)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


@pytest.fixture
def best(tmp_path):
    """(run, accelerator, parts) after 'best' at step 2 and two more checkpoints, with three lines of metrics."""
    run, accelerator, model = Run.start(tmp_path / "run", {}), Accelerator(cpu=True), torch.nn.Linear(2, 1)
    for step in (1, 2, 3, 4):
        model.weight.data.fill_(step)
        run.log(step, loss=1.0)
        checkpoint.save_state(run, step, accelerator, {"model": model}, keep=2)
        if step <= 2:  # the first is replaced
            checkpoint.save_state(run, step, accelerator, {"model": model}, name="best")
    return run, accelerator, {"model": model}


def folders(run):
    return sorted(path.name for path in run.checkpoints.iterdir())


def test_best_checkpoint_is_not_counted_and_loads_only_by_name(best):
    run, accelerator, parts = best
    assert folders(run) == ["best", "step-00000003", "step-00000004"]
    parts["model"].weight.data.zero_()
    assert checkpoint.load_state(run, accelerator, parts, name="best") == 2 and (parts["model"].weight == 2).all()
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4], "the record of what followed the best state is kept"
    assert checkpoint.load_state(run, accelerator, parts) == 4 and (parts["model"].weight == 4).all()
    assert checkpoint.load_state(run, accelerator, parts, name="best", rewind=True) == 2
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert checkpoint.load_state(run, accelerator, parts, rewind=False) == 4


def test_best_checkpoint_survives_a_kill_before_each_of_the_writes_that_replace_it(best, monkeypatch):
    run, accelerator, parts = best
    parts["model"].weight.data.fill_(5)
    twin, n_survived, n_writes = {"model": torch.nn.Linear(2, 1)}, 0, 0

    def write(real, *args, **kwargs):
        nonlocal n_writes
        n_writes += 1
        if n_writes > n_survived:
            raise Killed
        return real(*args, **kwargs)

    while True:
        with monkeypatch.context() as patch:
            n_writes = 0
            for owner, name in ((checkpoint, "_write_part"), (checkpoint, "write_json"), (os, "replace"),
                                (shutil, "rmtree")):
                patch.setattr(owner, name, partial(write, getattr(owner, name)))
            try:
                checkpoint.save_state(run, 5, accelerator, parts, name="best")
                break
            except Killed:
                n_survived += 1
        step = checkpoint.load_state(run, accelerator, twin, name="best")
        assert step in (2, 5) and (twin["model"].weight == step).all()
        assert checkpoint.load_state(run, accelerator, twin) == 4
    assert n_survived >= 6 and folders(run) == ["best", "step-00000003", "step-00000004"]
    assert checkpoint.load_state(run, accelerator, twin, name="best") == 5


def test_a_missing_or_damaged_best_checkpoint_is_refused(best):
    run, accelerator, parts = best
    with pytest.raises(FileNotFoundError, match=r"a whole checkpoint was expected at .*/last. Save one with .*name='last'"):
        checkpoint.load_state(run, accelerator, parts, name="last")
    (run.checkpoints / "best" / "model.safetensors").unlink()
    with pytest.warns(UserWarning, match="best cannot be used .model.safetensors is missing"), \
            pytest.raises(FileNotFoundError):
        checkpoint.load_state(run, accelerator, parts, name="best")
