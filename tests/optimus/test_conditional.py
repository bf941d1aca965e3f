"""The label-conditional model: what the label does to z, and the Gaussian that new sentences are drawn from."""

import numpy as np
import pytest
import torch

from dgmlab.optimus.conditional import ConditionalOptimus, load_conditional
from dgmlab.optimus.data import Tokenizers, save_trained, word_tokenizer
from dgmlab.optimus.model import Optimus

NAMES = ("bad", "fair", "good")
SENTENCES = ["the food was cold .", "we liked the soup a lot .", "it is open on monday ."]
WORDS = word_tokenizer(SENTENCES)
TOKENIZERS = Tokenizers(WORDS, WORDS)


def make_model(latent_size=6, injection="both", names=NAMES):
    torch.manual_seed(0)
    plain = Optimus.from_preset("tiny", TOKENIZERS, latent_size, injection, n_positions=16, dropout=0.0)
    return ConditionalOptimus.from_optimus(plain, names).eval()


def test_the_label_embedding_is_added_to_z():
    model, z = make_model(), torch.randn(3, 6)
    labels = torch.tensor([0, 2, 1])
    expected = z + torch.stack([model.label_embedding.weight[i] for i in (0, 2, 1)])
    assert torch.equal(model.condition(z, labels), expected)


def test_every_label_has_a_vector_that_learns():
    """The released code froze label 0 at zero, as if it were padding."""
    model, ids = make_model(), torch.tensor([[1, 5], [1, 6], [1, 7]])
    logits = model(ids, latent=model.condition(torch.zeros(3, 6), torch.arange(3))).logits
    logits.logsumexp(-1).sum().backward()
    gradient = model.label_embedding.weight.grad
    assert (model.label_embedding.weight.norm(dim=1) > 0.1).all() and (gradient.norm(dim=1) > 0).all()


@pytest.mark.parametrize("injection", ("memory", "embedding", "both"))
def test_another_label_gives_other_logits(injection):
    model, z, ids = make_model(injection=injection), torch.randn(2, 6), torch.tensor([[1, 5, 6], [1, 7, 8]])
    first, second = (model(ids, latent=model.condition(z, torch.full((2,), label))).logits for label in (0, 1))
    assert (first - second).abs().max() > 1e-4


def test_a_saved_model_is_read_back_with_its_labels_and_prior(tmp_path):
    model = make_model()
    model.fit_prior(torch.randn(50, 6) * 3 + 1)
    save_trained(tmp_path / "model", model, TOKENIZERS)
    again, tokenizers = load_conditional(tmp_path)
    assert again.label_names == NAMES and not again.training
    assert tokenizers.decoder("the")["input_ids"] == WORDS("the")["input_ids"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    one, other = (one.sample_prior(5, torch.Generator().manual_seed(1)) for one in (model, again))
    assert torch.equal(one, other)


def test_the_latent_maps_of_the_given_model_stay_unless_a_size_is_asked_for():
    torch.manual_seed(0)
    plain = Optimus.from_preset("tiny", TOKENIZERS, 6, "both", n_positions=16)
    same, other = ConditionalOptimus.from_optimus(plain, NAMES), ConditionalOptimus.from_optimus(plain, NAMES, 9)
    ids = torch.tensor([[1, 5, 2], [1, 6, 2]])
    assert torch.equal(same.to_memory.weight, plain.to_memory.weight)
    assert all(map(torch.equal, same.eval().encode(ids), plain.eval().encode(ids)))
    assert other.to_posterior.weight.shape[0] == 18 and other.config.latent_size == 9
    assert other.eval().encode(ids).logvar.mean() < -3, "new maps begin with little noise"
    assert other.encoder is plain.encoder and other.decoder is plain.decoder


@pytest.mark.parametrize("names", ((), ("only",)))
def test_fewer_than_two_labels_are_refused(names):
    with pytest.raises(ValueError, match="two labels or more, found"):
        make_model(names=names)


def test_the_prior_is_the_standard_one_until_it_is_fitted_and_then_has_mean_and_covariance_of_z():
    model, rng = make_model(), np.random.default_rng(0)
    draws = model.sample_prior(20_000, torch.Generator().manual_seed(0)).numpy()
    assert np.abs(np.cov(draws.T) - np.eye(6)).max() < 0.05 and np.abs(draws.mean(0)).max() < 0.05
    z = rng.standard_normal((4000, 6)) @ rng.standard_normal((6, 6)) + 5
    z[:, 2] = 1.5  # a silent dimension
    model.fit_prior(z)
    draws = model.sample_prior(50_000, torch.Generator().manual_seed(0)).numpy()
    assert np.abs(draws.mean(0) - z.mean(0)).max() < 0.1
    assert np.abs(np.cov(draws.T) - np.cov(z.T)).max() < 0.05 * np.abs(np.cov(z.T)).max()
