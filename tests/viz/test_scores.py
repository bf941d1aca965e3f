"""Scores over steps: logged intervals of one run, the interval of the mean over several seeds."""

import math

import numpy as np
import pytest

from dgmlab.run import Run
from dgmlab.viz import scores


@pytest.fixture
def make(tmp_path):
    """A function (name, {step: value or (value, low, high)}) -> Run."""
    def run(name, rows):
        made = Run.start(tmp_path / "runs" / "21_biggan_train" / name, {})
        for step, row in rows.items():
            value, *ends = row if isinstance(row, tuple) else (row,)
            made.log(step, fd=value, **dict(zip(("fd_low", "fd_high"), ends, strict=False)))
        made.close()
        return made
    return run


def test_one_run_has_its_logged_interval(make):
    run = make("plain", {10: (5.0, 4.0, 7.0), 20: 3.0, 30: (2.0, 1.5, 2.5)})
    curve, = scores.collect_scores(run, "fd")
    assert curve.label == "plain" and curve.steps.tolist() == [10, 20, 30] and curve.value.tolist() == [5, 3, 2]
    np.testing.assert_array_equal(curve.low, [4, np.nan, 1.5])
    np.testing.assert_array_equal(curve.high, [7, np.nan, 2.5])
    legend = scores.plot_scores(run, "fd").axes[0].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["plain: 2 [1.5, 2.5]"]


def test_seeds_of_one_setting_have_the_interval_of_their_mean(make):
    seeds = [make(f"s{i}", {10: value, 20: value + 1, **extra})
             for i, (value, extra) in enumerate([(1.0, {30: 9.0}), (2.0, {}), (6.0, {30: 8.0})])]
    curve, = scores.collect_scores({"plain": seeds}, "fd")
    assert curve.steps.tolist() == [10, 20] and curve.value.tolist() == [3, 4]  # step 30 is not in all of them
    half = 4.302653 * math.sqrt(7) / math.sqrt(3)  # t of 2 degrees of freedom; variance (4 + 1 + 9) / 2
    np.testing.assert_allclose(curve.high, [3 + half, 4 + half], rtol=1e-6)
    np.testing.assert_allclose(curve.low, [3 - half, 4 - half], rtol=1e-6)
    assert [len(steps) for steps, _ in curve.runs] == [3, 2, 3]


def test_groups_can_be_a_dict_lists_or_equal_labels(make):
    a, b, c = (make(f"s{i}", {10: float(i), 20: float(i)}) for i in range(3))
    as_dict = scores.collect_scores({"plain": [a, b], "fq": c}, "fd")
    as_lists = scores.collect_scores([[a, b], c], "fd", ["plain", "fq"])
    as_labels = scores.collect_scores([a, c, b], "fd", ["plain", "fq", "plain"])
    for found in (as_dict, as_lists, as_labels):
        assert [(curve.label, curve.value.tolist()) for curve in found] == [("plain", [0.5, 0.5]), ("fq", [2, 2])]
    assert [curve.label for curve in scores.collect_scores([a, b], "fd")] == ["s0", "s1"]


def test_seeds_are_thin_lines_of_one_colour_under_a_thick_mean(make):
    groups = {name: [make(f"{name}{i}", {10: at + i, 20: at + i - 1.0}) for i in range(3)]
              for name, at in (("a", 4), ("b", 8))}
    figure = scores.plot_scores(groups, "fd", title="Distance")
    lines = figure.axes[0].lines
    colours = [line.get_color() for line in lines]
    assert len(lines) == 8 and colours == 4 * [colours[0]] + 4 * [colours[4]] and colours[0] != colours[4]
    assert lines[3].get_linewidth() > 2 * lines[0].get_linewidth()
    low, high = figure.axes[0].get_ylim()
    assert low < 3 and high > 10 and len(figure.numbers["curves"]) == 2


def test_a_band_of_two_seeds_does_not_squash_the_curves(make):
    figure = scores.plot_scores({"a": [make("x", {10: 4.0, 20: 2.0}), make("y", {10: 5.0, 20: 3.0})]}, "fd")
    low, high = figure.axes[0].get_ylim()
    assert low >= 2 - 3.01 and high <= 5 + 3.01


def test_what_is_missing_is_said(make):
    a, b = make("a", {10: 1.0}), make("b", {20: 1.0})
    legend = scores.plot_scores({"both": [a, b], "none": Run(a.dir.parent / "empty"), "a": a}, "fd").axes[0].get_legend()
    lines = [text.get_text() for text in legend.get_texts()]
    assert lines == ["both, 2 seeds (no step that all have)", "none (not logged)", "a: 1"]
    with pytest.raises(KeyError, match="no logged score is called 'fq'. Choose one of: fd"):
        scores.plot_scores(a, "fq")
    with pytest.raises(ValueError, match="2 runs or groups were given but 1 labels"):
        scores.plot_scores([a, b], "fd", ["x"])
