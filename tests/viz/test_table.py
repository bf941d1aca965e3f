"""The small table: text, markdown, HTML."""

import numpy as np
import pytest

from dgmlab.viz import table


def test_numbers_are_set_right_and_shortened():
    shown = table([{"model": "ours", "ppl": 23.45678, "steps": 12000}, {"model": "a|b", "ppl": None, "steps": np.int64(5)}])
    assert shown.text().splitlines() == [
        "model    ppl   steps",
        "-----  -----  ------",
        "ours   23.46  12,000",
        "a|b                5",
    ]
    assert shown.numeric == (False, True, True)
    assert shown.markdown().splitlines()[1:3] == ["|---|---:|---:|", "| ours | 23.46 | 12,000 |"]
    assert "a\\|b" in shown.markdown()


def test_html_is_escaped_and_str_is_text():
    shown = table([("<script>", True)], ("x", "y"), caption="a & b")
    assert "&lt;script&gt;" in shown._repr_html_() and "<script>" not in shown._repr_html_()
    assert "a &amp; b" in shown._repr_html_()
    assert str(shown).startswith("a & b\n") and "yes" in str(shown)


def test_rows_and_columns_must_agree():
    with pytest.raises(ValueError, match="row 1 has 1 cells where 2 columns were named"):
        table([(1, 2), (1,)], ("a", "b"))
    with pytest.raises(ValueError, match="columns were expected"):
        table([])
    assert table([], ("a",)).text() == "a\n-"
