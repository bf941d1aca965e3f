"""Pictures of style transfer: what is marked, and where systems stand."""

import pytest

from dgmlab import viz
from dgmlab.viz.transfer import collect_rewritings, collect_systems

OURS = {"accuracy": 0.8, "accuracy_low": 0.75, "accuracy_high": 0.85, "bleu_source": 0.3, "bleu_source_low": 0.25,
        "bleu_source_high": 0.35, "bleu_reference": 0.1}


def test_the_words_that_are_new_are_marked():
    row, other = collect_rewritings(["it was bad .", "fine ."], ["it was good .", "fine ."], ["positive", "negative"],
                                    [True, False])
    assert row.words == ("it", "was", "good", ".") and row.changed == (False, False, True, False) and row.ok is True
    assert other.changed == (False, False) and other.ok is False


def test_the_table_shows_label_words_and_verdict():
    figure = viz.plot_rewritings(["it was bad ."], ["it was good ."], ["positive"], [True])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"positive", "good", "bad", "✓"} <= set(texts) and "1 of 1 as wanted" in texts[0]
    assert figure.numbers["rows"][0]["label"] == "positive"
    plain = viz.plot_rewritings(["a"], ["b"], ["c"])
    assert not {"✓", "✗"} & {text.get_text() for text in plain.axes[0].texts}


def test_systems_stand_at_their_accuracy_and_bleu_with_intervals_where_measured():
    figure = viz.plot_systems({"ours": OURS, "copy": {"accuracy": 0.05, "bleu_source": 1.0}}, {"published": (0.9, 0.4)})
    ax, = figure.axes
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert points == [(0.8, 0.3), (0.05, 1.0), (0.9, 0.4)]
    spans = [tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert (0.75, 0.85) in spans and len(spans) == 2
    assert figure.numbers["systems"][2]["published"] is True
    assert collect_systems({"ours": OURS}, against="reference")[0].bleu == 0.1


def test_pictures_of_nothing_are_refused():
    with pytest.raises(ValueError, match="expected as many of each and at least one"):
        viz.plot_rewritings(["a"], [], ["b"])
    with pytest.raises(ValueError, match="at least one system"):
        viz.plot_systems({})
