"""Evaluation against independent ways to the same number."""

import math

import numpy as np
import pytest
import torch

from dgmlab.data import grammar
from dgmlab.optimus.data import Corpus, Tokenizers, word_tokenizer
from dgmlab.optimus.evaluate import collapse_warning, evaluate, importance_weighted_nll, watch
from dgmlab.optimus.model import Optimus
from dgmlab.optimus.objective import sentence_nll


@pytest.fixture(scope="module")
def trained():
    """A tiny random model whose latent matters, and 40 sentences."""
    sentences = grammar.sample(40, seed=5)
    tokenizer = word_tokenizer(grammar.sentences())
    corpus = Corpus(sentences, Tokenizers(tokenizer, tokenizer), 16)
    torch.manual_seed(0)
    model = Optimus.from_preset("tiny", corpus.tokenizers, latent_size=2)
    with torch.no_grad():
        model.to_posterior.weight.normal_(std=0.03)  # near the prior, so that the importance weights are mild
        for name in ("to_memory", "to_embedding"):
            getattr(model, name).weight.normal_(std=0.2)
    return model.eval(), corpus


@torch.no_grad()
def by_quadrature(model, corpus, row):
    """log p(x) of one sentence as the integral over z in two dimensions, on a grid, in float64."""
    line = torch.linspace(-4.5, 4.5, 37)
    z = torch.cartesian_prod(line, line)
    batch = corpus.pair([row])
    losses = torch.cat([sentence_nll(model(batch.decoder_ids.expand(len(part), -1), latent=part).logits,
                                     batch.target_ids.expand(len(part), -1)) for part in z.split(2000)]).double()
    log_prior = -0.5 * z.double().square().sum(1) - math.log(2 * math.pi)
    return float(torch.logsumexp(log_prior - losses, 0) + 2 * math.log(float(line[1] - line[0])))


def test_bound_approaches_the_integral(trained):
    model, corpus = trained
    corpus = Corpus(corpus.sentences[:2], corpus.tokenizers, 16)
    result = importance_weighted_nll(model, corpus, n_samples=1000)
    for row in range(2):
        assert result.nll[row] == pytest.approx(-by_quadrature(model, corpus, row), abs=0.05)


def test_bound_tightens_with_samples_and_starts_at_the_elbo(trained):
    model, corpus = trained
    loose = np.mean([importance_weighted_nll(model, corpus, n_samples=2, seed=seed).nll.mean() for seed in range(8)])
    tight = importance_weighted_nll(model, corpus, n_samples=64)
    assert tight.elbo.mean() > loose > tight.nll.mean()
    assert np.allclose(tight.elbo, tight.rec + tight.kl)


def test_batched_evaluation_equals_one_sentence_at_a_time(trained, monkeypatch):
    model, corpus = trained
    whole = importance_weighted_nll(model, corpus, n_samples=7)
    monkeypatch.setattr("dgmlab.optimus.evaluate.CPU_LOGITS", 3 * 17 * model.decoder.config.vocab_size)
    pieces = importance_weighted_nll(model, corpus, n_samples=7)
    assert np.allclose(whole.nll, pieces.nll, atol=1e-4) and np.allclose(whole.rec, pieces.rec, atol=1e-4)


def test_evaluate_names_the_protocol_and_leaves_mode_and_randomness_alone(trained):
    model, corpus = trained
    model.train()
    state = torch.get_rng_state()
    numbers = evaluate(model, corpus, n_samples=5)
    watch(model, corpus)
    assert model.training and torch.equal(state, torch.get_rng_state())
    model.eval()
    assert {"nll_iw5", "ppl_iw5", "ppl_iw5_low", "ppl_word_iw5", "ppl_optimus_iw5", "bits_per_byte_iw5"} <= set(numbers)
    assert numbers["ppl_iw5"] == pytest.approx(math.exp(numbers["nll_iw5"] * 40 / (corpus.lengths.sum() + 40)))
    assert numbers["ppl_iw5_low"] < numbers["ppl_iw5"] < numbers["ppl_iw5_high"]


def test_warning_speaks_when_the_posterior_collapsed_and_only_then():
    dead = {"au": 0, "mi": 0.001, "gap": 0.0}
    assert "posterior collapse: 0 active units" in collapse_warning(dead, beta=1.0)
    assert "free_bits" in collapse_warning(dead, beta=1.0) and "Beta is still 0" in collapse_warning(dead, beta=0.0)
    assert collapse_warning({"au": 16, "mi": 3.0, "gap": 5.0}, beta=1.0) is None
