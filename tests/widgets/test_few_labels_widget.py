"""The widget of few labels, worked without a browser: a function of three arguments stands in for the probes."""

import numpy as np
import pytest

from dgmlab.widgets import FewLabels

KNOWN, UNSEEN = ["good food", "bad food", "good <b> wine", "bad wine"], ["good tea", "bad tea", "not bad tea"]


@pytest.fixture
def calls():
    return []


@pytest.fixture
def few(calls):
    def predict(features, n, draw):
        calls.append((features, n, draw))
        if n == 3:
            raise ValueError("3 labels a class were asked for, but class 0 has 2 rows.")
        right = np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]])
        wrong = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.3]])
        return np.array([1, 0, 3, 2])[:2 * n], right if features == "mu" else wrong

    maps = {name: np.eye(3)[:, :2] for name in ("pooled", "mu")}
    return FewLabels(predict, (1, 2, 3), 2, KNOWN, [1, 0, 1, 0], UNSEEN, [1, 0, 1], ("negative", "positive"), maps)


def test_it_shows_the_drawn_labels_and_the_mistakes(few):
    assert few.show() == pytest.approx(2 / 3) and few.errors.rows.tolist() == [2] and few.drawn.tolist() == [1, 0]
    assert "bad food" in few.table.value and "wine" not in few.table.value
    assert "not bad tea  [positive, said negative, 70% sure]" in few.table.value
    assert few.status.text == "pooled, 1 labels a class: accuracy 66.7%, 1 of 3 wrong"
    assert few.show(n=2) and "good &lt;b&gt; wine" in few.table.value


def test_controls_recompute_what_is_new_and_remember_the_rest(few, calls):
    assert few.show(features="mu") == 1.0 and "none" in few.table.value
    few.show(features="pooled")
    few.show(features="mu", draw=1)
    assert calls == [("pooled", 1, 0), ("mu", 1, 0), ("mu", 1, 1)]
    assert few.n.continuous_update is False and few.draw.continuous_update is False


def test_an_error_is_one_line_and_the_table_stays(few):
    before = few.table.value
    few.show(n=3)
    assert few.status.failed and few.status.text.startswith("ValueError: 3 labels a class") and few.table.value == before
    few.show(n=1)
    assert not few.status.failed


def test_its_static_twin_shows_the_same(few):
    figure = few.static()
    assert figure.numbers["errors"]["rows"] == [2] and figure.numbers["title"] == "pooled, 1 labels a class, draw 0"


def test_sentences_without_a_label_are_named():
    with pytest.raises(ValueError, match="found 1 and 2 sentences with 1 and 1 labels"):
        FewLabels(None, (1,), 1, ["a"], [0], ["b", "c"], [0], ("x",), {})
