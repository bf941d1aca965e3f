"""Curves: the numbers collected, worked out by hand, and that every picture draws without pyplot."""

import sys

import numpy as np
import pytest

from dgmlab.run import Run
from dgmlab.viz import curves, style


@pytest.fixture
def run(tmp_path):
    run = Run.start(tmp_path / "runs" / "11_optimus_train" / "tiny", {"seed": 0})
    for step, loss in ((1, 4.0), (2, 2.0), (3, 3.0)):
        run.log(step, loss=loss, beta=0.5)
    run.log(3, mi=1.5, au=4, val_loss=2.5)
    yield run
    run.close()


def test_smoothing_is_a_bias_corrected_average():
    # weight 1/2: (4/2) / (1/2) = 4;  (2/2 + 2/2) / (3/4) = 8/3;  (3/2 + 2/2) / (7/8) = 20/7
    np.testing.assert_allclose(curves.smoothed(np.array([4.0, 2.0, 3.0]), 0.5), [4, 8 / 3, 20 / 7])
    np.testing.assert_array_equal(curves.smoothed(np.array([4.0, 2.0]), 0.0), [4, 2])
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), found 1"):
        curves.smoothed(np.ones(2), 1)


def test_a_metric_is_collected_with_the_shortest_telling_label(run, tmp_path):
    other = Run.start(tmp_path / "runs" / "11_optimus_train" / "other", {})
    info = curves.collect_metric([run, other], "loss")
    assert [curve.label for curve in info.curves] == ["tiny", "other"]
    np.testing.assert_array_equal(info.curves[0].steps, [1, 2, 3])
    np.testing.assert_array_equal(info.curves[0].values, [4, 2, 3])
    assert len(info.curves[1].steps) == 0
    twin = Run.start(tmp_path / "runs" / "10_optimus_tour" / "tiny", {})
    assert [curve.label for curve in curves.collect_metric([run, twin], "loss").curves] == [run.name, twin.name]
    figure = curves.plot_metric([run, other], "loss", smooth=0.5)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["tiny", "other (not logged)"]


def test_an_unknown_metric_names_the_logged_ones(run):
    with pytest.raises(KeyError, match=r"'los'.*Did you mean 'loss'.*au, beta, loss, mi, val_loss"):
        curves.collect_metric(run, "los")
    with pytest.raises(ValueError, match="1 runs were given but 2 labels"):
        curves.collect_metric(run, "loss", labels=["a", "b"])


def test_beta_stages_and_cycles_are_counted():
    beta = np.array([0, 0, 0.5, 1, 1, 0, 0, 0.5, 1, 1])
    info = curves.collect_beta(beta)
    np.testing.assert_array_equal(info.stage, [0, 0, 1, 2, 2, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(info.starts, [0, 5])
    assert info.shares == pytest.approx((0.4, 0.2, 0.4))
    assert curves.plot_beta_schedule(beta).axes[0].get_title(loc="left") == "beta over 2 cycles"
    assert curves.collect_beta(np.ones(4)).shares == (0, 0, 1)
    with pytest.raises(ValueError, match="at least one step"):
        curves.collect_beta([])


def test_a_logged_list_is_one_line_for_each_number(tmp_path):
    run = Run.start(tmp_path / "run", {})
    for step in (1, 2, 3):
        run.log(step, kl=1.0, kl_per_dim=[0.5 * step, 0.1])
    run.close()
    panel = next(panel for panel in curves.collect_training(run).panels if panel.key == "kl_per_dim")
    assert [curve.values.tolist() for curve in panel.curves] == [[0.5, 1.0, 1.5], [0.1, 0.1, 0.1]]
    assert curves.plot_training(run).axes[1].get_legend() is None


def test_training_panels_hold_validation_and_the_collapse_watch(run):
    info = curves.collect_training(run, smooth=0.5)
    assert [panel.key for panel in info.panels] == ["loss", "beta", "mi", "au"]
    assert [curve.label for curve in info.panels[0].curves] == ["training", "validation"]
    np.testing.assert_array_equal(info.panels[1].curves[0].smoothed, [0.5, 0.5, 0.5])  # a schedule is not smoothed
    assert info.verdict == "alive (MI 1.50 nats, 4 active units)"
    run.log(4, mi=0.01, au=0)
    assert curves.collect_training(run).verdict.startswith("collapsed: z is ignored")
    figure = curves.plot_training(run)
    assert len(figure.axes) == 4 and figure.numbers["verdict"].startswith("collapsed")


def test_a_run_without_metrics_still_draws(tmp_path):
    figure = curves.plot_training(Run.start(tmp_path / "empty", {}))
    assert "nothing logged yet" in figure.axes[0].texts[0].get_text()


def test_kl_per_dimension_is_sorted_and_counted():
    info = curves.collect_kl([0.001, 0.5, 0.02], threshold=0.01)
    np.testing.assert_array_equal(info.order, [1, 2, 0])
    assert (info.active, info.total) == (2, pytest.approx(0.521))
    title = curves.plot_kl_per_dim([0.001, 0.5, 0.02]).axes[0].get_title(loc="left")
    assert title == "2 of 3 dimensions above the threshold, 0.52 nats in all"


def test_comparison_marks_the_best_and_refuses_a_wrong_interval():
    rows = curves.collect_comparison({"ours": (3.0, 2.5, 3.5), "theirs": 4})
    assert rows == (curves.ComparisonRow("ours", 3, 2.5, 3.5), curves.ComparisonRow("theirs", 4, 4, 4))

    def bold(better):
        texts = curves.plot_comparison({"ours": (3.0, 2.5, 3.5), "theirs": 4}, better=better).axes[0].texts
        return [text.get_text() for text in texts if text.get_fontweight() == "bold"]

    assert bold("lower") == ["3"] and bold("higher") == ["4"]
    with pytest.raises(ValueError, match=r"'ours' has the value 3 outside its interval \[4, 5\]"):
        curves.collect_comparison({"ours": (3, 4, 5)})
    with pytest.raises(ValueError, match="lower or higher, found 'less'"):
        curves.plot_comparison({"a": 1}, better="less")


def test_plots_can_share_given_axes_and_leave_settings_alone(run):
    before = dict(style.mpl.rcParams)
    figure, axes = style.canvas(8, 3, 1, 2)
    assert curves.plot_metric(run, "loss", ax=axes[0]) is figure
    assert curves.plot_kl_per_dim([0.1, 0.2], ax=axes[1]) is figure
    assert dict(style.mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
