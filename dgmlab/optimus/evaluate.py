"""Evaluation of a language VAE: importance-weighted likelihood, ELBO, mutual information, active units, collapse watch.

Each sentence is encoded once; its K samples are decoded in batches of sentences of like length. Letters: N sentences,
K samples, Z latent, B rows of a batch, T time, V vocabulary. Nats throughout.
"""

import math
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.data.batching import sorted_batches
from dgmlab.metrics.latent import active_units, mutual_information
from dgmlab.metrics.text import bootstrap_interval, perplexity
from dgmlab.optimus.objective import kl_divergence, sentence_nll
from dgmlab.run import write_json

PER_SENTENCE = "per_sentence.json"  # of a run folder

# one batch on a CPU: what the caches hold; memory beyond 32 MB is mapped afresh at every use, which is slow
CPU_TOKENS = 4_000
CPU_LOGITS = 12_000_000  # numbers (B, T, V)
GPU_LOGITS = 200_000_000  # a GPU wants large batches; each number takes 2 to 6 bytes of its memory


class Weighted(NamedTuple):
    """Per sentence, in nats: nll (N,) the importance-weighted bound on -log p(x); elbo (N,) the negative ELBO; rec (N,) the
    reconstruction averaged over the samples; kl (N,) in closed form; mu, logvar (N, Z) the posterior."""

    nll: np.ndarray
    elbo: np.ndarray
    rec: np.ndarray
    kl: np.ndarray
    mu: np.ndarray
    logvar: np.ndarray


@torch.no_grad()
def encode_corpus(model, corpus, batch_size=256):
    """Posterior of every sentence, in the corpus's order -> (mu (N, Z), logvar (N, Z)) float32 numpy."""
    n, size = len(corpus), model.config.latent_size
    mu, logvar = np.empty((n, size), np.float32), np.empty((n, size), np.float32)
    for rows in sorted_batches(corpus.lengths, batch_size):
        batch = corpus.pair(rows).to(model.device)
        posterior = model.encode(batch.encoder_ids, batch.encoder_mask)
        mu[rows], logvar[rows] = posterior.mu.cpu().numpy(), posterior.logvar.cpu().numpy()
    return mu, logvar


@torch.no_grad()
def importance_weighted_nll(model, corpus, n_samples=100, seed=0, autocast=None, progress=None):
    """-log p(x) of every sentence by importance sampling from the posterior (Burda et al. 2016), an upper bound.

    log p(x) ~ logsumexp_k [log p(x|z_k) + log p(z_k) - log q(z_k|x)] - log K, with z_k ~ q(z|x).

    model      Optimus, put into evaluation mode here and back after
    corpus     `dgmlab.optimus.data.Corpus`
    n_samples  K; the paper: 100
    seed       of the samples; the result does not depend on how the batches fall but for rounding
    autocast   context for the decoder's matrix products (e.g. bf16); the log weights are fp32 sums either way
    progress   called with the number of sentences done
    -> Weighted
    """
    was_training = model.training
    model.eval()
    mu, logvar = encode_corpus(model, corpus)
    generator = torch.Generator().manual_seed(seed)
    eps = torch.randn(len(corpus), n_samples, model.config.latent_size, generator=generator)
    nll, rec = np.empty(len(corpus)), np.empty(len(corpus))
    order = np.argsort(corpus.lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(corpus.lengths[order[min(start + 63, len(order) - 1)]]) + 1
        n_rows = rows_at_once(longest, model.decoder.config.vocab_size, model.device)
        rows = order[start:start + max(1, min(64, n_rows // n_samples))]
        log_weights, losses = _log_weights(model, corpus, rows, mu, logvar, eps, n_rows, autocast)
        nll[rows] = (math.log(n_samples) - torch.logsumexp(log_weights, dim=1)).numpy()
        rec[rows] = losses.mean(1).numpy()
        start += len(rows)
        if progress is not None:
            progress(start)
    model.train(was_training)
    kl = kl_divergence(torch.from_numpy(mu).double(), torch.from_numpy(logvar).double()).sum(1).numpy()
    return Weighted(nll, rec + kl, rec, kl, mu, logvar)


def rows_at_once(length, vocab_size, device):
    """How many sentences of `length` predicted tokens to decode in one batch."""
    if torch.device(device).type == "cpu":
        return max(1, min(CPU_LOGITS // vocab_size, CPU_TOKENS) // length)
    return max(1, GPU_LOGITS // (length * vocab_size))


def _log_weights(model, corpus, rows, mu, logvar, eps, n_rows, autocast):
    """(log weights (B, K), reconstruction (B, K)) of the sentences `rows` (B,), at most `n_rows` decoded at once; float64."""
    batch = corpus.pair(rows).to(model.device)
    deviation = torch.from_numpy(np.exp(0.5 * logvar[rows].astype(np.float64))).unsqueeze(1)  # (B, 1, Z)
    noise = eps[rows].double()  # (B, K, Z)
    z = torch.from_numpy(mu[rows].astype(np.float64)).unsqueeze(1) + deviation * noise
    # log p(z) - log q(z|x), where the 2 pi cancel
    log_ratio = -0.5 * z.square().sum(-1) + 0.5 * noise.square().sum(-1) + deviation.log().sum(-1)  # (B, K)
    n_samples = z.shape[1]
    flat = z.float().flatten(0, 1).to(model.device)  # (B * K, Z)
    which = torch.arange(len(rows), device=model.device).repeat_interleave(n_samples)
    losses = []
    for i in range(0, len(flat), n_rows):
        pick = which[i:i + n_rows]
        with autocast() if autocast is not None else nullcontext():
            logits = model(batch.decoder_ids[pick], latent=flat[i:i + n_rows]).logits
        losses.append(sentence_nll(logits, batch.target_ids[pick]))
    losses = torch.cat(losses).double().cpu().view(len(rows), n_samples)
    return log_ratio - losses, losses


def evaluate(model, corpus, n_samples=100, seed=0, autocast=None, progress=None):
    """Every number of the results table, as a flat dict whose names carry the protocol.

    nll_iwK, elbo, rec, kl in nats per sentence; ppl_iwK per predicted token (T + 1) with its 95 % bootstrap interval over
    sentences; ppl_word_iwK, ppl_optimus_iwK (T + 2), bits_per_byte_iwK; mi over the whole set, au at 0.01; n_sentences
    """
    return summarise(importance_weighted_nll(model, corpus, n_samples, seed, autocast, progress), corpus, n_samples, seed)


def summarise(result, corpus, n_samples=100, seed=0):
    """The dict that `evaluate` returns, of a Weighted that is at hand."""
    return {
        **likelihood(result.nll, corpus, f"_iw{n_samples}"),
        "elbo": float(result.elbo.mean()), "rec": float(result.rec.mean()), "kl": float(result.kl.mean()),
        "mi": mutual_information(result.mu, result.logvar, seed=seed), "au": active_units(result.mu),
    }


def likelihood(nll, corpus, suffix=""):
    """Perplexities of per-sentence `nll` (N,) under every denominator, named with `suffix`, and the interval of `ppl`."""
    ppl = perplexity(nll, corpus.lengths, corpus.sentences)
    low, high = bootstrap_interval(nll, corpus.lengths + 1, transform=math.exp)
    return {
        f"nll{suffix}": ppl.nll, f"ppl{suffix}": ppl.ppl_token, f"ppl{suffix}_low": low, f"ppl{suffix}_high": high,
        f"ppl_word{suffix}": ppl.ppl_word, f"ppl_optimus{suffix}": ppl.ppl_optimus,
        f"bits_per_byte{suffix}": ppl.bits_per_byte, "n_sentences": len(corpus),
    }


def save_sentences(run, corpus, **columns):
    """Keep the numbers of every test sentence in the run folder, so that models can be compared sentence by sentence.

    columns  name -> (N,) nats, in the corpus's order: nll, elbo, rec, kl
    """
    write_json(run.dir / PER_SENTENCE, {"sentences": corpus.sentences, "n_tokens": corpus.lengths,
                                        **{name: np.round(values, 6) for name, values in columns.items()}})


@torch.no_grad()
def watch(model, corpus, batch_size=128, autocast=None):
    """The state of the latent space on a (small) corpus, for the curves of a training run.

    -> dict: val_rec, val_kl, val_elbo in nats per sentence (one sample); mi, au; gap: reconstruction with z from the prior
    minus with z from the posterior, in nats: what the latent tells the decoder; kl_per_dim: list of Z nats.
    Draws come from a fixed generator, so that looking does not change the training that follows.
    """
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(0)
    mu, logvar = encode_corpus(model, corpus)
    rec, from_prior = [], []
    for rows in sorted_batches(corpus.lengths, batch_size):
        batch = corpus.pair(rows).to(model.device)
        eps = torch.randn(2, len(rows), mu.shape[1], generator=generator)
        z = torch.from_numpy(mu[rows]) + torch.from_numpy(np.exp(0.5 * logvar[rows])) * eps[0]
        for latent, losses in ((z, rec), (eps[1], from_prior)):
            with autocast() if autocast is not None else nullcontext():
                logits = model(batch.decoder_ids, latent=latent.to(model.device)).logits
            losses.append(sentence_nll(logits, batch.target_ids).sum().item())
    model.train(was_training)
    kl = kl_divergence(torch.from_numpy(mu), torch.from_numpy(logvar)).mean(0)
    n = len(corpus)
    return {
        "val_rec": sum(rec) / n, "val_kl": float(kl.sum()), "val_elbo": sum(rec) / n + float(kl.sum()),
        "mi": mutual_information(mu, logvar), "au": active_units(mu), "gap": (sum(from_prior) - sum(rec)) / n,
        "kl_per_dim": [round(float(value), 4) for value in kl],
    }


def collapse_warning(numbers, beta):
    """A sentence when the posterior has collapsed, else None. numbers: the dict of `watch`; beta: the current KL weight."""
    if numbers["au"] == 0 or numbers["mi"] < 0.1:
        cure = ("Give the latent a start: a zero stage of beta (ratio_zero=0.5), free_bits of 0.25 to 1, or a smaller beta."
                if beta > 0 else "Beta is still 0: the decoder has not begun to use z yet.")
        return (f"posterior collapse: {numbers['au']} active units, MI {numbers['mi']:.2f} nats, and z is worth "
                f"{numbers['gap']:.2f} nats of reconstruction. {cure}")
    return None
