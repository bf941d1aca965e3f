"""Guided generation (Li et al. 2020, section 5.2): sentences to latents, arithmetic on latents, latents to sentences.

Letters: N sentences, Z latent. Latents are float32 numpy arrays, so widgets and plots need no torch.
"""

import numpy as np
import torch

from dgmlab.config import unknown_name
from dgmlab.optimus.data import Corpus, check_length, to_text
from dgmlab.optimus.evaluate import encode_corpus
from dgmlab.optimus.objective import kl_divergence

# `generate` arguments of each way to choose words; sampling is the original's default, greedy is ours
DECODING = {
    "greedy": {"do_sample": False},
    "beam": {"do_sample": False, "num_beams": 5},
    "top_k": {"do_sample": True, "top_k": 10},
    "top_p": {"do_sample": True, "top_k": 0, "top_p": 0.9},
    "sample": {"do_sample": True, "top_k": 0},
}


@torch.no_grad()
def encode_sentences(model, tokenizers, sentences, batch_size=256):
    """Posterior means of `sentences` -> (N, Z) float32. ValueError names a sentence the model cannot hold."""
    sentences = [sentence.strip() for sentence in sentences]
    check_length(sentences, tokenizers, model.longest)
    corpus = Corpus(sentences, tokenizers, model.longest)
    parts = []
    for i in range(0, len(corpus), batch_size):
        batch = corpus.pair(range(i, min(i + batch_size, len(corpus)))).to(model.device)
        parts.append(model.encode(batch.encoder_ids, batch.encoder_mask).mu.float().cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def decode_latents(model, tokenizers, z, method="greedy", max_new_tokens=64, prompt="", seed=0, batch_size=128,
                   **options):
    """Sentences of the latents z (N, Z).

    method   greedy | beam | top_k | top_p | sample
    prompt   first words that every sentence starts with
    seed     of the sampling methods; the global random state is left as it was
    options  for `generate` beside those of the method, e.g. temperature; num_return_sequences=n gives n sentences a latent
    -> list of N strings, or of N n, those of the first latent first
    """
    if method not in DECODING:
        raise KeyError(unknown_name(method, DECODING, "decoding method"))
    tokenizer = tokenizers.decoder
    start = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    limit = min(max_new_tokens, model.max_length - len(start))
    texts = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for latent in torch.as_tensor(np.asarray(z, dtype=np.float32)).split(batch_size):
            ids = torch.tensor([start] * len(latent), device=model.device)
            out = model.generate(ids, attention_mask=torch.ones_like(ids), latent=latent.to(model.device),
                                 max_new_tokens=limit, **{**DECODING[method], **options})
            texts += to_text(tokenizer, out)
    return texts


def interpolate(z_a, z_b, n, kind="linear"):
    """n points from z_a to z_b, both ends included: (Z,), (Z,) -> (n, Z).

    linear     z_a (1 - tau) + z_b tau (the paper)
    spherical  along the great arc, with the lengths interpolated: keeps the norm that samples of a Gaussian have
    """
    z_a, z_b = np.asarray(z_a, dtype=np.float32), np.asarray(z_b, dtype=np.float32)
    if n < 2:
        raise ValueError(f"interpolation needs at least its two ends, found n={n}.")
    tau = np.linspace(0, 1, n, dtype=np.float32)[:, None]
    straight = z_a * (1 - tau) + z_b * tau
    if kind == "linear":
        return straight
    if kind != "spherical":
        raise KeyError(unknown_name(kind, ("linear", "spherical"), "interpolation"))
    norms = np.linalg.norm(z_a), np.linalg.norm(z_b)
    if min(norms) < 1e-8:
        return straight
    angle = np.arccos(np.clip(z_a @ z_b / (norms[0] * norms[1]), -1, 1))
    if np.sin(angle) < 1e-4:
        return straight
    arc = (np.sin((1 - tau) * angle) * z_a / norms[0] + np.sin(tau * angle) * z_b / norms[1]) / np.sin(angle)
    return arc * (norms[0] * (1 - tau) + norms[1] * tau)


def analogy(z_a, z_b, z_c, degree=1.0):
    """The latent D with A : B :: C : D: z_c + degree * (z_b - z_a). Broadcasts over leading axes; (.., Z) -> (.., Z)."""
    return np.asarray(z_c) + degree * (np.asarray(z_b) - np.asarray(z_a))


def attribute_vector(z, labels, source, target):
    """Mean latent of label `target` minus that of `source`: add it to move a sentence. z (N, Z), labels (N,) -> (Z,)"""
    z, labels = np.asarray(z), np.asarray(labels)
    for label in (source, target):
        if not (labels == label).any():
            raise ValueError(f"no sentence has label {label!r}; found {', '.join(map(repr, np.unique(labels)))}.")
    return z[labels == target].mean(0) - z[labels == source].mean(0)


def sample_prior(n, latent_size, seed=0):
    """n draws of the prior N(0, I) -> (n, Z) float32."""
    return np.random.default_rng(seed).standard_normal((n, latent_size)).astype(np.float32)


def random_walk(z, n, step=0.5, seed=0):
    """n points of a walk from z (Z,), in random steps that never leave the prior's typical norm -> (n, Z)"""
    rng = np.random.default_rng(seed)
    points = [np.asarray(z, dtype=np.float32)]
    radius = max(np.linalg.norm(points[0]), np.sqrt(len(points[0])))
    for _ in range(n - 1):
        direction = rng.standard_normal(len(points[0])).astype(np.float32)
        moved = points[-1] + step * direction / np.linalg.norm(direction)
        norm = np.linalg.norm(moved)
        points.append(moved * min(1.0, radius / norm) if norm > 0 else moved)
    return np.stack(points)


def kl_per_dim(model, tokenizers, sentences):
    """KL of each latent dimension in nats, averaged over `sentences` -> (Z,) float32."""
    with torch.no_grad():
        mu, logvar = encode_corpus(model, Corpus(sentences, tokenizers, model.max_length - 1))
    return kl_divergence(torch.from_numpy(mu), torch.from_numpy(logvar)).mean(0).numpy()
