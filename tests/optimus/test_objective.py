"""The objective: the schedule against the original's algorithm, the loss against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgmlab.optimus.objective import cyclical_beta, elbo, kl_divergence, sentence_nll


def schedule_step_by_step(n_steps, start, stop, n_cycles, ratio_increase, ratio_zero):
    """The published procedure: walk every cycle, hold `start`, then add the increment until `stop` is passed."""
    values, period = [stop] * n_steps, n_steps / n_cycles
    increment = (stop - start) / (period * ratio_increase)
    for cycle in range(n_cycles):
        value, i = start, 0
        while value <= stop and int(i + cycle * period) < n_steps:
            if i < period * ratio_zero:
                values[int(i + cycle * period)] = start
            else:
                values[int(i + cycle * period)] = value
                value += increment
            i += 1
    return values


@given(n_steps=st.integers(1, 400), start=st.floats(0, 1), rise=st.floats(0, 3), n_cycles=st.integers(1, 12),
       ratio_increase=st.floats(0.01, 1), ratio_zero=st.floats(0, 1))
def test_cyclical_beta_is_the_published_procedure(n_steps, start, rise, n_cycles, ratio_increase, ratio_zero):
    arguments = (n_steps, start, start + rise, n_cycles, ratio_increase, ratio_zero)
    assert np.allclose(cyclical_beta(*arguments), schedule_step_by_step(*arguments), atol=1e-9, rtol=0)


def test_cyclical_beta_by_hand():
    # 8 steps, one cycle: 4 at zero, the ramp of 2 begins at its start, then the plateau
    assert cyclical_beta(8, 0.0, 1.0, 1, 0.25, 0.5).tolist() == [0, 0, 0, 0, 0, 0.5, 1, 1]
    # two cycles without a zero stage
    assert cyclical_beta(8, 0.0, 1.0, 2, 0.5, 0.0).tolist() == [0, 0.5, 1, 1, 0, 0.5, 1, 1]
    assert cyclical_beta(4, 0.0, 2.0, 1, 0.0, 0.5).tolist() == [0, 0, 0, 2]
    assert cyclical_beta(3, 1.0, 1.0, 1, 0.5, 0.5).tolist() == [1, 1, 1]


@pytest.mark.parametrize("wrong", [{"n_steps": 0}, {"n_cycles": 0}, {"ratio_zero": -0.1}])
def test_impossible_schedules_are_refused(wrong):
    with pytest.raises(ValueError, match="a schedule needs n_steps >= 1"):
        cyclical_beta(**{"n_steps": 10, **wrong})


def test_kl_by_hand_and_by_torch():
    assert kl_divergence(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)).tolist() == [[0.5, 0.0]]
    mu, logvar = torch.randn(20, 5, dtype=torch.float64), torch.randn(20, 5, dtype=torch.float64)
    theirs = torch.distributions.kl_divergence(torch.distributions.Normal(mu, torch.exp(logvar / 2)),
                                               torch.distributions.Normal(torch.zeros_like(mu), 1.0))
    assert torch.allclose(kl_divergence(mu, logvar), theirs, atol=1e-12)


def test_sentence_nll_sums_over_the_sentence_and_skips_padding():
    logits = torch.zeros(2, 3, 4)  # uniform: every token costs log 4
    targets = torch.tensor([[1, 2, 3], [0, -100, -100]])
    assert torch.allclose(sentence_nll(logits, targets), torch.tensor([3 * math.log(4), math.log(4)]))


def test_sentence_nll_in_pieces_equals_one_softmax_in_value_and_gradient():
    logits = torch.randn(50, 7, 3000, requires_grad=True)  # 42 rows a piece, the last one shorter
    targets = torch.randint(0, 3000, (50, 7)).masked_fill(torch.rand(50, 7) < 0.2, -100)
    whole = -logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    whole = whole.masked_fill(targets == -100, 0).sum(1)
    weights = torch.rand(50)
    expected, = torch.autograd.grad((whole * weights).sum(), logits, retain_graph=True)
    found = sentence_nll(logits, targets)
    gradient, = torch.autograd.grad((found * weights).sum(), logits)
    assert torch.allclose(found, whole, atol=1e-4) and torch.allclose(gradient, expected, atol=1e-7)


def test_elbo_by_hand():
    logits, targets = torch.zeros(2, 3, 4), torch.tensor([[1, 2, 3], [0, 1, -100]])
    mu, logvar = torch.tensor([[2.0, 0.5], [1.0, 0.0]]), torch.zeros(2, 2)  # KL per dimension: [2, .125], [.5, 0]
    terms = elbo(logits, targets, mu, logvar, beta=0.5, free_bits=0.3)
    rec = [3 * math.log(4), 2 * math.log(4)]
    assert terms.rec.tolist() == pytest.approx(rec)
    assert terms.kl.tolist() == pytest.approx([2.125, 0.5])
    assert terms.kl_per_dim.tolist() == pytest.approx([1.25, 0.0625])
    assert float(terms.loss) == pytest.approx((rec[0] + 0.5 * 2.0 + rec[1] + 0.5 * 0.5) / 2)  # below 0.3 counts nothing
    weighted = elbo(logits, targets, mu, logvar, beta=1.0, free_bits=0.0, length_weighted=True)
    # T + 2 tokens: 2 + 2 and 1 + 2, since the targets hold T tokens and the end
    assert float(weighted.loss) == pytest.approx((rec[0] / 4 + 2.125 + rec[1] / 3 + 0.5) / 2)


def test_dimensions_below_the_threshold_get_no_kl_gradient():
    mu = torch.tensor([[2.0, 0.5]], requires_grad=True)
    logvar = torch.zeros(1, 2, requires_grad=True)
    elbo(torch.zeros(1, 1, 4), torch.tensor([[1]]), mu, logvar, beta=1.0, free_bits=0.3).loss.backward()
    assert mu.grad.tolist() == [[2.0, 0.0]]  # d KL / d mu = mu where it counts
