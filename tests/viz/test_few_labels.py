"""Curves over labels: the numbers that are drawn, dashes for tuned ones, differences draw by draw, GLUE's table."""

import numpy as np
import pytest

from dgmlab import viz
from dgmlab.metrics.agreement import Score
from dgmlab.metrics.probe import Curve, interval
from dgmlab.viz.few_labels import collect_curves, collect_errors

A = Curve((1, 10, 100), np.array([[0.5, 0.7], [0.7, 0.8], [0.9, 0.92]]), 0, 300)
B = Curve((1, 10, 100), np.array([[0.4, 0.6], [0.65, 0.75], [0.9, 0.92]]), 0, 300)


def test_what_is_drawn_is_the_mean_and_its_interval():
    figure = viz.plot_few_labels({"Optimus frozen": A, "Optimus tuned": B, "BERT frozen": B}, chance=0.5)
    ax = figure.axes[0]
    solid, dashed, other, chance = ax.lines
    assert solid.get_xdata().tolist() == [1, 10, 100] and np.allclose(solid.get_ydata(), [0.6, 0.75, 0.91])
    assert solid.get_linestyle() == "-" and dashed.get_linestyle() == "--"
    assert solid.get_color() == dashed.get_color() != other.get_color() and chance.get_ydata()[0] == 0.5
    assert ax.get_xscale() == "log" and [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "10", "100"]
    drawn, = (curve for curve in figure.numbers["curves"] if curve["label"] == "BERT frozen")
    assert np.allclose(drawn["low"], interval(B.scores).low, atol=1e-5) and figure.numbers["chance"] == 0.5
    low, high = ax.get_ylim()
    assert 0.3 < low < 0.5 and 0.91 < high < 1.1, "a wide band does not squeeze the curves"


def test_differences_are_taken_draw_by_draw():
    figure = viz.plot_difference({"Optimus": A, "BERT": B}, "BERT")
    assert np.allclose(figure.axes[0].lines[1].get_ydata(), [0.1, 0.05, 0]) and len(figure.axes[0].lines) == 2
    above = figure.numbers["above"]["Optimus"]
    assert np.allclose(above["low"], above["mean"]) and figure.numbers["reference"] == "BERT"
    with pytest.raises(KeyError, match="'GPT' is not among the curves: Optimus, BERT"):
        viz.plot_difference({"Optimus": A, "BERT": B}, "GPT")


def test_figure_four_has_two_maps_and_the_curves():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=40)
    maps = {name: rng.standard_normal((40, 2)) + 5 * labels[:, None] for name in ("Optimus", "BERT")}
    figure = viz.plot_low_resource(maps, labels, ("negative", "positive"), {"Optimus": A, "BERT": B}, chance=0.5)
    titles = [ax.get_title(loc="left").strip() for ax in figure.axes]
    assert titles == ["(a) Optimus", "(b) BERT", "(c) test accuracy with few labels"]
    assert figure.numbers["maps"]["panels"][0]["knn"] == 1.0 and len(figure.numbers["curves"]) == 2
    assert figure.png()[:4] == b"\x89PNG"


def test_curves_that_no_axis_can_show_are_named():
    with pytest.raises(ValueError, match="curve 'all' has 0 labels a class"):
        collect_curves({"all": A._replace(n_labels=(0, 1, 2))})
    with pytest.raises(ValueError, match="one curve or more was expected, found none"):
        collect_curves({})


def test_errors_are_sorted_by_how_sure_they_were():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    errors = collect_errors(probabilities, [0, 0, 0, 1])
    assert errors.rows.tolist() == [2, 1] and errors.said.tolist() == [1, 1] and errors.sure.tolist() == [0.8, 0.6]
    assert errors.accuracy == 0.5
    figure = viz.plot_errors(np.eye(4)[:, :2], [0, 0, 0, 1], ("a", "b"), probabilities, "Optimus, 3 labels a class")
    rings = figure.axes[0].collections[-1]
    assert rings.get_offsets().tolist() == [[0, 0], [0, 1]] and rings.get_sizes()[0] > rings.get_sizes()[1]
    assert figure.axes[0].get_title(loc="left").endswith("accuracy 50.0%")
    with pytest.raises(ValueError, match=r"of 4 sentences were expected, found \(3, 2\)"):
        collect_errors(probabilities[:3], [0, 0, 0, 1])


def test_table_of_curves_leaves_a_cell_empty_where_nothing_was_measured():
    short = Curve((10,), np.array([[0.5, 0.6]]), 0, 300)
    found = viz.label_table({"A": A, "tuned": short}, "by hand")
    assert found.columns == ("features", "1", "10", "100") and found.caption == "by hand"
    half = 12.7062 * np.sqrt(2) / 20 / np.sqrt(2)  # t of 1 degree of freedom; deviation of 0.5 and 0.6
    assert found.rows[1] == ("tuned", "", f"0.550 [{0.55 - half:.3f}, {0.55 + half:.3f}]", "")


def test_table_of_tasks():
    rows = [{"task": "mrpc", "metric": "f1", "n": 408, "largest": 0.812, "Optimus": Score(0.8, 0.75, 0.85), "BERT": None}]
    found = viz.glue_table(rows, "dev parts")
    assert found.columns == ("task", "metric", "n", "largest", "Optimus", "BERT") and found.caption == "dev parts"
    assert found.rows[0] == ("mrpc", "f1", "408", "0.812", "0.800 [0.750, 0.850]", "")
