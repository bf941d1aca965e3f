"""Shares of real and synthetic triplets: the article's numbers, and what is drawn."""

import pytest

from dgmlab import viz
from dgmlab.viz.speaking import collect_triplets, in_words


def test_shares_of_the_article():
    share, = collect_triplets({"the article": (104_000, 6_482_000)})
    assert (share.label, share.real, share.synthetic) == ("the article", 104_000, 6_482_000)
    assert round(100 * share.share, 1) == 98.4
    assert [in_words(n) for n in (104_494, 6_482_268, 9_999, 0)] == ["104 K", "6,482 K", "9,999", "0"]


def test_bars_are_as_long_as_the_shares_and_say_the_counts():
    figure = viz.plot_triplets({"all": (25, 75), "none": (40_000, 0)})
    ax, = figure.axes
    assert [bar.get_width() for bar in ax.patches] == [25, 75, 100, 0]
    assert [bar.get_x() for bar in ax.patches] == [0, 25, 0, 100]
    texts = " ".join(text.get_text() for text in ax.texts)
    for words in ("25 real, 25.0 %", "75 synthetic, 75.0 %", "40 K real, 100.0 %", "0 synthetic, 0.0 %"):
        assert words in texts
    assert figure.numbers["shares"][0] == {"label": "all", "real": 25, "synthetic": 75, "share": 0.75}


def test_counts_that_are_none_are_named():
    with pytest.raises(ValueError, match="'run' has 0 real and 0 synthetic triplets; expected at least one"):
        viz.plot_triplets({"run": (0, 0)})
    with pytest.raises(ValueError, match="at least one source"):
        viz.plot_triplets({})
