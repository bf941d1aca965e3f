"""Rate and distortion on several corpora, and what thresholds do."""

import numpy as np
import pytest

from dgmlab.viz import rate


def test_rate_distortion_points_are_sorted_by_rate():
    info = rate.collect_rate_distortion([("b", 3, 5), ("a", 0, 9)])
    assert info == (rate.RatePoint("a", 0, 9), rate.RatePoint("b", 3, 5))
    assert rate.plot_rate_distortion([("b", 3, 5), ("a", 0, 9)]).numbers["points"][0]["label"] == "a"


def lines_of(ax):
    """(rate, distortion) ends of the straight lines of a plane, the curve through the points left out."""
    return [line.get_xydata() for line in ax.lines[1:]]


def test_lines_have_one_elbo_from_end_to_end():
    ax, = rate.plot_rate_distortion([("a", 1, 9), ("b", 4, 5), ("c", 6, 4.5)], exact=9.25).axes
    totals = [line.sum(1) for line in lines_of(ax)]
    assert len(totals) == 8
    for total in totals:
        assert total[0] == pytest.approx(total[1])
    assert totals[-1] == pytest.approx([9.25, 9.25]), "the last is that of the model without a latent"
    assert "without a latent: 9.25 nats" in [text.get_text() for text in ax.texts]


def test_a_panel_a_corpus_with_its_own_line():
    points = {"ptb": [("0.1", 3, 100)], "yelp": [("0.1", 2, 40), ("1", 9, 36)], "short": [("1", 1, 8)]}
    figure = rate.plot_rate_distortion(points, exact={"ptb": 104.0, "yelp": 41.0})
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["ptb", "yelp", "short"]
    assert [len(ax.collections) for ax in figure.axes] == [1, 2, 1]
    assert lines_of(figure.axes[0])[-1].sum(1) == pytest.approx([104, 104])
    assert not any("without a latent" in text.get_text() for text in figure.axes[2].texts)
    low, high = figure.axes[1].get_ylim()
    assert low < 36 and high > 40
    assert figure.numbers["panels"]["yelp"][1] == {"label": "1", "rate": 9, "distortion": 36}
    assert figure.numbers["exact"] == {"ptb": 104, "yelp": 41}


POINTS = {"ptb": [(1.0, 2.0, 1.0, 3.0, 8.0, 32), (0.05, -1.0, -2.0, -0.5, 3.0, 30)], "yelp": [(0.05, 0.5, -1.0, 2.0, 2.0, 12)]}


def test_thresholds_are_sorted_and_share_their_places():
    info = rate.collect_thresholds(POINTS)
    assert [point.threshold for point in info["ptb"]] == [0.05, 1.0] and info["yelp"][0].au == 12
    gap, mi, au = rate.plot_thresholds(POINTS, n_sentences=1000, latent_size=32).axes
    assert [tick.get_text() for tick in gap.get_xticklabels()] == ["0.05", "1"]
    np.testing.assert_allclose([line.get_ydata()[0] for line in mi.lines], [3, 2, np.log(1000)])
    assert [text.get_text() for text in (*mi.texts, *au.texts)] == ["log 1,000", "all 32"]
    ends = [path.vertices[:, 1].tolist() for path in gap.collections[0].get_paths()]
    assert ends == [[-2, -0.5], [1, 3]]
    with pytest.raises(ValueError, match="'snli' has no threshold to draw"):
        rate.collect_thresholds({"snli": []})
