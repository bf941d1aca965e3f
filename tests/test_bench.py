"""What benchmarks are made of, with callables that take a known time; the benchmarks themselves are run by hand."""

import time
from importlib import import_module

import pytest

from dgmlab import bench, bench_gan, bench_navigation


def test_sides_are_called_in_turns_and_warmed_up():
    calls = []
    seconds = bench.alternate(lambda: calls.append("a"), lambda: calls.append("b"), rounds=3, warmup=2)
    assert calls == ["a", "b"] * 5 and [len(times) for times in seconds] == [3, 3]


def test_lower_and_upper_bounds_by_hand():
    slow, quick = (lambda: time.sleep(0.02)), (lambda: time.sleep(0.001))
    result = bench.faster("x", quick, slow, ("quick", "slow"), 4, "", scale=2)
    assert result.met and 8 < result.ratio < 80 and result.target == ">= 4" and result.peer_s > 0.04 > result.ours_s
    assert not bench.faster("x", slow, quick, ("slow", "quick"), 1, "").met
    result = bench.at_most("x", ([1.0, 3.0, 1.1, 1.2, 1.0], [1.0] * 5), ("ours", "peer"), 1.15, "same")
    assert result.ratio == pytest.approx(1.1) and result.met and result.low == pytest.approx(1.0) and result.high < 3
    assert result[:5] == ("x", "ours", "peer", 1.1, 1.0) and result.target == "<= 1.15" and result.check == "same"
    assert not bench.at_most("x", ([1.2, 1.3], [1.0, 1.0]), ("ours", "peer"), 1.15, "").met


def test_every_benchmark_is_where_the_registry_says():
    for name, module in bench.BENCHMARKS.items():
        assert callable(getattr(import_module(f"dgmlab.{module}"), name))
    with pytest.raises(KeyError, match="no benchmark is called 'discriminater'. Did you mean 'discriminator'"):
        bench.main(["discriminater"])


def test_dictionaries_that_only_regularise_leave_the_scores_alone(monkeypatch):
    from dgmlab.fqgan import biggan

    monkeypatch.setitem(biggan.PRESETS, "cifar10", biggan.preset("tiny"))
    plain, quantized = (bench_gan._discriminator("fp32", 2, 64, mode, rounds=1) for mode in ("regularize", "quantize"))
    assert plain.check.endswith("plain ones by 0") and not quantized.check.endswith("plain ones by 0")
    assert "regularize" in plain.name and plain.target == "<= 1.03"


def test_published_speed_stays_published_and_the_target_is_ours():
    result = bench_navigation._rated("x", "step", 1000, [0.001, 0.002, 0.004], 250e3, 400e3, "same")
    assert result.ours_s == pytest.approx(2.0) and result.peer_s == pytest.approx(4.0)  # of a million steps
    assert (result.ratio, result.low, result.high) == pytest.approx((2.0, 1.0, 4.0)) and result.met
    assert "published by others on other hardware" in result.peer and result.target == ">= 400,000 steps/s"
    assert result.check == "500,000 agent-steps/s here, 250,000 there; same"
    assert not bench_navigation._rated("x", "step", 1000, [0.001] * 3, 250e3, 1.1e6, "").met


def test_without_data_the_simulator_is_measured_on_toy_houses(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))
    monkeypatch.setattr(bench_navigation, "N_STEPS", 2)
    monkeypatch.setattr(bench_navigation, "ROUNDS", 1)
    assert [result.name.split(",")[1] for result in bench_navigation.simulator()] == [" batch of 64", " batch of 16"]
    assert bench_navigation.houses() == [] and "not run" in capsys.readouterr().out
