"""The contract every model of the house keeps: builds, runs, trains all its parameters, overfits a batch, saves and loads."""

import pytest
import torch

from dgmlab.data import grammar
from dgmlab.optimus.data import Corpus, Tokenizers, paper_tokenizers, word_tokenizer
from dgmlab.optimus.model import Optimus
from dgmlab.optimus.objective import elbo

SENTENCES = grammar.sample(12, seed=11)


@pytest.fixture(scope="module", params=["tiny", "small", "paper"])
def preset(request, backbones):
    """(model, corpus) of each preset; 'paper' from local folders, as a server without a network has them."""
    torch.manual_seed(0)
    if request.param == "paper":
        encoder, decoder = backbones
        tokenizers = paper_tokenizers(encoder, decoder)
        model = Optimus.from_preset("paper", tokenizers, latent_size=8, encoder=encoder, decoder=decoder)
    else:
        tokenizer = word_tokenizer(grammar.sentences())
        tokenizers = Tokenizers(tokenizer, tokenizer)
        model = Optimus.from_preset(request.param, tokenizers, latent_size=8, dropout=0.0, n_positions=24)
    return model, Corpus(SENTENCES, tokenizers, 40)


def terms_of(model, batch, beta=0.1):
    posterior = model.encode(batch.encoder_ids, batch.encoder_mask)
    logits = model(batch.decoder_ids, latent=posterior.sample()).logits
    return elbo(logits, batch.target_ids, posterior.mu, posterior.logvar, beta, free_bits=0.0), logits


def test_model_builds_runs_and_trains_all_its_parameters(preset):
    model, corpus = preset
    batch = corpus.pair(range(len(corpus)))
    terms, logits = terms_of(model.train(), batch)
    assert logits.shape == (*batch.decoder_ids.shape, len(corpus.tokenizers.decoder)) and logits.isfinite().all()
    terms.loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model.zero_grad(set_to_none=True)


def test_special_tokens_are_distinct_and_the_end_is_a_target(preset):
    model, corpus = preset
    ids = [model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id]
    assert len(set(ids)) == 3
    batch = corpus.pair(range(3))
    assert all((row == model.config.eos_token_id).sum() == 1 for row in batch.target_ids)
    assert (batch.decoder_ids[:, 0] == model.config.bos_token_id).all()


def test_saved_model_generates_the_same(preset, tmp_path):
    model, corpus = preset
    model.eval().save_pretrained(tmp_path)
    loaded = Optimus.from_pretrained(tmp_path).eval()
    latent = torch.randn(3, 8)
    options = {"max_new_tokens": 10, "do_sample": False}
    assert torch.equal(model.generate(latent=latent, **options), loaded.generate(latent=latent, **options))


def test_model_overfits_one_batch(preset):
    model, corpus = preset
    batch = corpus.pair(range(4))
    lr = 2e-3 if model.decoder.config.hidden_size < 200 else 7e-4
    optimizer = torch.optim.AdamW(model.eval().parameters(), lr=lr)  # eval: no dropout
    first = None
    for _ in range(120):
        terms, _ = terms_of(model, batch, beta=0.0)
        first = first or terms.rec.mean().item()
        optimizer.zero_grad()
        terms.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert terms.rec.mean().item() < 0.2 * first
