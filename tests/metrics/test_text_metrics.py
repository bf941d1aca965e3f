"""Perplexities under every denominator, worked out by hand."""

import math

import numpy as np
import pytest

from dgmlab.metrics.text import bootstrap_interval, perplexity


def test_each_denominator_by_hand():
    # two sentences of 3 and 1 tokens, 2 and 1 words, 5 and 2 bytes; 12 nats in all
    ppl = perplexity([8.0, 4.0], [3, 1], ["ab cd", "é"])
    assert ppl.nll == 6.0
    assert ppl.ppl_token == pytest.approx(math.exp(12 / 6))  # 4 tokens and 2 ends
    assert ppl.ppl_word == pytest.approx(math.exp(12 / 5))  # 3 words and 2 ends
    assert ppl.ppl_optimus == pytest.approx(math.exp(12 / 8))  # T + 2 each
    assert ppl.bits_per_byte == pytest.approx(12 / math.log(2) / 9)  # 7 bytes and 2 ends


def test_mismatched_or_empty_input_is_refused():
    with pytest.raises(ValueError, match="at least one, found 0"):
        perplexity([], [], [])
    with pytest.raises(ValueError, match="found 2, 1 and 1"):
        perplexity([1.0, 2.0], [1], ["a"])


def test_interval_holds_the_value_and_narrows_with_more_data():
    rng = np.random.default_rng(0)
    few, many = rng.normal(10, 2, 50), rng.normal(10, 2, 5000)
    wide, narrow = bootstrap_interval(few), bootstrap_interval(many)
    assert wide[0] < few.mean() < wide[1] and narrow[0] < many.mean() < narrow[1]
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 3
    # a normal's interval is about +- 1.96 standard errors
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * 2 / math.sqrt(5000), rel=0.15)
