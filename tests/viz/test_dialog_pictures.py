"""Pictures of dialog: what is collected, that all of it is drawn, and what is refused."""

import numpy as np
import pytest

from dgmlab.viz import dialog

XY = np.array([[1.0, 0], [0, 0], [0, 1], [-1, 0]])


def setting(method, value, f1, inter_2):
    return {"method": method, "value": value, "f1": f1, "f1_low": f1 - 0.02, "f1_high": f1 + 0.02, "inter_2": inter_2}


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_responses_are_numbered_from_the_middle_outwards():
    info = dialog.collect_region(("hi",), XY, ["b", "a", "b", "c"])
    assert info.responses == ("a", "b", "c") and info.kind.tolist() == [1, 0, 1, 2]
    with pytest.raises(ValueError, match=r"found \(4, 2\) for 1 responses"):
        dialog.collect_region(("hi",), XY, ["b"])


def test_a_region_is_drawn_with_its_context_and_responses():
    figure = dialog.plot_region(("hello", "how are you ?"), XY, ["b", "a", "$b$", "c"], current=1, n_listed=2)
    assert figure.numbers["responses"] == ["a", "b", "$b$", "c"] and figure.numbers["context"] == ["hello", "how are you ?"]
    shown = texts(figure)
    assert {"hello", "how are you ?", "a", "b", "and 2 more"} <= set(shown) and "c" not in shown
    assert figure.png()[:4] == b"\x89PNG"


def test_the_trade_off_has_one_line_a_method_and_the_values_beside_the_points():
    rows = [setting("ball", 1.0, 0.3, 0.5), setting("ball", 0.5, 0.4, 0.2), setting("beam", 10, 0.35, 0.3)]
    figure = dialog.plot_trade_off(rows)
    ax = figure.axes[0]
    first = ax.containers[0].lines[0]
    np.testing.assert_allclose(first.get_xydata(), [[0.4, 0.2], [0.3, 0.5]])  # in the order of the values
    assert texts(figure) == ["0.5", "1", "10"]
    assert [row["f1"] for row in figure.numbers] == [0.3, 0.4, 0.35]
    assert len(ax.containers) == 2
    with pytest.raises(ValueError, match="at least one setting"):
        dialog.plot_trade_off([])


def test_the_slider_draws_scores_and_an_example():
    figure = dialog.plot_slider([0, 0.5, 1], {"style": [0, 0.4, 1]}, ["a", "b", "c"], ("hi",))
    assert figure.numbers["scores"] == {"style": [0, 0.4, 1]} and {"a", "b", "c", "hi"} <= set(texts(figure))
    assert len(dialog.plot_slider([0, 1], {"style": [0, 1]}).axes) == 1
    with pytest.raises(ValueError, match="each of 2 places .* another number for style"):
        dialog.plot_slider([0, 1], {"style": [0]})
    with pytest.raises(ValueError, match="another number for the example"):
        dialog.plot_slider([0, 1], {"style": [0, 1]}, ["a"])


def test_ways_to_respond_stand_side_by_side():
    figure = dialog.plot_ways(("hi",), {"ball": ["one two", ""], "beam": ["three"]}, ["four"])
    assert {"sphere around the context", "beam search", "what people said", "one", "four", "(nothing)"} <= set(texts(figure))
    assert figure.numbers["ways"] == {"ball": ["one two", ""], "beam": ["three"], "what people said": ["four"]}
