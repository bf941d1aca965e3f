"""Several responses to one context: places around the context's latent, beside beam search and sampling of the same model.

    ball      greedy at places on a sphere around z_s2s, in directions drawn at random (Gao et al. 2019)
    offset    greedy at z_s2s plus the way from another exchange's context to its response: how far and in which directions
              responses lie is learnt with the space, while most directions of a sphere lead to no response
    beam      the n best of n beams at z_s2s
    sample    words drawn one by one at z_s2s

A radius is an RMS per dimension, as all distances here: |r| = radius * sqrt(Z). The model's own is the mean distance of a
validation context to its response. Letters: N contexts, M exchanges, Z latent.
"""

from typing import NamedTuple

import numpy as np
import torch

from dgmlab.config import unknown_name
from dgmlab.data.dialog import by_context, toy_answers, toy_styled
from dgmlab.data.reading import draw
from dgmlab.metrics.dialog import (
    answer_scores,
    bow_similarity,
    distinct,
    learn_vectors,
    response_bleu,
    style_judge,
)
from dgmlab.optimus.dialog import context_batch, context_ids
from dgmlab.optimus.latent import decode_latents, encode_sentences

METHODS = ("ball", "offset", "beam", "sample")
BALL = 0.5  # radius of the sphere in radii of the model: responses lie further off, but in few of the directions
TAUS = (0.0, 0.5, 1.0)
MOST = 5000  # sentences of each kind that a judge of style learns from
NEAREST = 5  # style sentences whose mean a slider moves to


class Setting(NamedTuple):
    """One point of a trade-off: how 10 responses were made and what they score."""

    method: str
    value: float  # scale, temperature, or number of beams
    f1: float
    f1_low: float
    f1_high: float
    recall: float
    precision: float
    inter_2: float  # different 2-grams among the responses to a context


@torch.no_grad()
def encode_contexts(model, tokenizers, contexts, batch_size=128):
    """z on the S2S path of N contexts, each a sequence of turns -> (N, Z) float32 numpy.

    ValueError  a context is empty, or its last turn is longer than the model; earlier turns are left out as needed
    """
    for turns in contexts:
        if isinstance(turns, str) or not turns or not turns[-1].strip():
            raise ValueError(f"a context is a sequence of turns whose last is not empty, found {turns!r}. Type something.")
    rows = context_ids([[turn for turn in turns if turn.strip()] for turns in contexts], tokenizers.encoder, 10**9)
    for row, turns in zip(rows, contexts, strict=True):
        if len(row[-1]) > model.longest:
            raise ValueError(f"the last turn has {len(row[-1])} tokens but the model holds {model.longest}: "
                             f"'{turns[-1][:60]}...'. Shorten it, or train with a larger max_context.")
    rows = context_ids(contexts, tokenizers.encoder, model.longest)
    parts = []
    for i in range(0, len(rows), batch_size):
        batch = (part.to(model.device) for part in context_batch(rows[i:i + batch_size], tokenizers.encoder))
        parts.append(model.encode_context(*batch).float().cpu().numpy())
    return np.concatenate(parts)


def fitting(model, tokenizers, exchanges, max_length=None):
    """Those exchanges whose last turn and response the model can hold; with `max_length`, whose response is no longer."""
    sides = ([pair.context[-1] for pair in exchanges], [pair.response for pair in exchanges])
    asked, said = (tokenizers.encoder(texts, add_special_tokens=False)["input_ids"] for texts in sides)
    limits = model.longest, min(max_length or model.longest, model.longest)
    return [pair for pair, *ids in zip(exchanges, asked, said, strict=True)
            if all(0 < len(row) <= limit for row, limit in zip(ids, limits, strict=True))]


def response_offsets(model, tokenizers, exchanges):
    """z_ae of the response minus z_s2s of the context, of exchanges that the model can hold -> (M, Z) float32"""
    kept = fitting(model, tokenizers, exchanges)
    return (encode_sentences(model, tokenizers, [pair.response for pair in kept])
            - encode_contexts(model, tokenizers, [pair.context for pair in kept]))


def principal_axes(offsets):
    """Directions in which offsets (M, Z) vary most -> (Z, Z), orthonormal rows, the first most"""
    offsets = np.asarray(offsets, dtype=np.float64)
    return np.linalg.svd(offsets - offsets.mean(0), full_matrices=True)[2]


def around(z, n, radius, rng):
    """n places at `radius` (RMS per dimension) around each z, in directions drawn from `rng`: (N, Z) -> (N, n, Z)"""
    z = np.asarray(z, dtype=np.float32)
    direction = rng.standard_normal((len(z), n, z.shape[1]))
    direction /= np.sqrt(np.square(direction).mean(-1, keepdims=True))
    return (z[:, None] + radius * direction).astype(np.float32)


def respond(model, tokenizers, contexts, n=10, method="ball", scale=None, offsets=None, temperature=1.0, seed=0,
            max_new_tokens=40):
    """n responses to each of N contexts.

    contexts     sequences of turns
    method       ball | offset | beam | sample, see above
    scale        ball: radius in radii of the model, by default half of it; offset: factor on the offsets, by default 1
    offsets      (M, Z) of `response_offsets`, for method='offset'
    temperature  of sampling
    -> list of N lists of n strings
    """
    z, rng = encode_contexts(model, tokenizers, contexts), np.random.default_rng(seed)
    if method == "ball":
        places = around(z, n, (BALL if scale is None else scale) * model.config.radius, rng)
    elif method == "offset":
        if offsets is None or not len(offsets):
            raise ValueError("method='offset' needs the offsets of some exchanges, found none. Pass response_offsets(...).")
        places = z[:, None] + (1.0 if scale is None else scale) * offsets[rng.integers(len(offsets), size=(len(z), n))]
    together = {"num_return_sequences": n, "seed": seed, "batch_size": 16}  # n sequences each are decoded at once
    if method in ("ball", "offset"):
        texts = decode_latents(model, tokenizers, places.reshape(-1, z.shape[1]), max_new_tokens=max_new_tokens)
    elif method == "beam":
        texts = decode_latents(model, tokenizers, z, "beam", max_new_tokens, **together, num_beams=n)
    elif method == "sample":
        texts = decode_latents(model, tokenizers, z, "sample", max_new_tokens, **together, temperature=temperature)
    else:
        raise KeyError(unknown_name(method, METHODS, "way to respond"))
    return [texts[i:i + n] for i in range(0, len(texts), n)]


# how good, how different


def evaluate(model, data, n_contexts=300, n=10, seed=0):
    """Every number of the dialog table for each way to respond, as a flat dict.

    data        `train_dialog.DialogData`; its test part is asked, on its train part word vectors are learnt
    n_contexts  distinct contexts drawn; 0 takes all
    -> METHOD_recall, METHOD_precision, METHOD_f1 (with f1_low, f1_high), METHOD_average, _extrema, _greedy (vectors learnt),
       METHOD_intra_1 ... METHOD_inter_2; of the toy METHOD_right and METHOD_coverage; with a style those of `slide_scores`
       at the ends and the middle of the slider, as styled_0.0, kept_0.5 and so on; n_contexts, n_samples
    """
    contexts, references = questions(fitting(model, data.tokenizers, data.test.exchanges), n_contexts, seed)
    vectors = learn_vectors(data.train.replies.sentences)
    offsets = response_offsets(model, data.tokenizers, data.train.exchanges[::max(1, len(data.train) // MOST)])
    numbers = {}
    for method in METHODS:
        responses = respond(model, data.tokenizers, contexts, n, method, offsets=offsets, seed=seed)
        scores = {**response_bleu(responses, references)._asdict(), **distinct(responses)._asdict(),
                  **bow_similarity(responses, references, vectors)._asdict()}
        if data.toy:
            right = answer_scores(responses, [toy_answers(context) for context in contexts])
            scores |= {"right": right.precision, "coverage": right.coverage}
        numbers |= {f"{method}_{name}": value for name, value in scores.items()}
    if data.style is not None:
        z_style = encode_style(model, data.tokenizers, data.style.sentences)
        slides = slide(model, data.tokenizers, contexts, z_style, TAUS)
        judge = style_judge(data.train.replies.sentences[::max(1, len(data.train) // MOST)], data.style.sentences[:MOST])
        for name, values in slide_scores(slides, judge, vectors, data.toy and contexts).items():
            numbers |= {f"{name}_{tau}": value for tau, value in zip(TAUS, values, strict=True)}
    return {**numbers, "n_contexts": len(contexts), "n_samples": n}


def questions(exchanges, n_contexts=0, seed=0):
    """(contexts, references): n_contexts distinct contexts drawn with `seed` (0: all), and all their responses."""
    together = by_context(exchanges)
    contexts = draw(list(together), n_contexts, seed)
    return contexts, [together[context] for context in contexts]


def trade_off(model, tokenizers, contexts, references, offsets, n=10, scales=(), temperatures=(), seed=0):
    """BLEU-F1 and diversity of n responses a context: over scales of ball and offsets, temperatures of sampling, and by beams.

    -> list of Setting
    """
    asked = [(method, {"scale": scale}, scale) for method in ("ball", "offset") for scale in scales]
    asked += [("sample", {"temperature": temperature}, temperature) for temperature in temperatures] + [("beam", {}, n)]
    rows = []
    for method, options, value in asked:
        responses = respond(model, tokenizers, contexts, n, method, offsets=offsets, seed=seed, **options)
        bleu = response_bleu(responses, references)
        rows.append(Setting(method, float(value), bleu.f1, bleu.f1_low, bleu.f1_high, bleu.recall, bleu.precision,
                            distinct(responses).inter_2))
    return rows


# style


def encode_style(model, tokenizers, sentences):
    """z of the style sentences that the model can hold, on the AE path -> (N, Z) float32"""
    ids = tokenizers.encoder(list(sentences), add_special_tokens=False)["input_ids"]
    return encode_sentences(model, tokenizers, [text for text, row in zip(sentences, ids, strict=True)
                                                if 0 < len(row) <= model.longest])


def towards_style(z, z_style, taus, k=NEAREST):
    """Places on the lines from each z to the mean of its k nearest style latents.

    z (N, Z), z_style (M, Z), taus (n,) 0 is z itself, 1 is among the style -> (N, n, Z) float32
    """
    z, z_style = np.asarray(z, dtype=np.float32), np.asarray(z_style, dtype=np.float32)
    if len(z_style) < 1 or z_style.shape[-1] != z.shape[-1]:
        raise ValueError(f"style latents (M, {z.shape[-1]}) of one sentence or more were expected, found {z_style.shape}.")
    square = np.square(z).sum(1)[:, None] - 2 * z @ z_style.T + np.square(z_style).sum(1)
    goal = z_style[np.argsort(square, axis=1)[:, :k]].mean(1)
    taus = np.asarray(taus, dtype=np.float32)[:, None]
    return z[:, None] + taus * (goal - z)[:, None]


def slide(model, tokenizers, contexts, z_style, taus, k=NEAREST):
    """The response to each context at every place of the slider, greedily -> list of N lists of n strings"""
    places = towards_style(encode_contexts(model, tokenizers, contexts), z_style, taus, k)
    texts = decode_latents(model, tokenizers, places.reshape(-1, places.shape[-1]))
    return [texts[i:i + len(taus)] for i in range(0, len(texts), len(taus))]


def slide_scores(slides, judge, vectors, contexts=None):
    """What a slider does to N responses, at each of its n places.

    slides    N lists of n strings, as `slide` gives them
    judge     sentences -> probability of being styled, e.g. of `dgmlab.metrics.dialog.style_judge`
    vectors   dict word -> (D,), as for `bow_similarity`
    contexts  N contexts of the toy, where it is the toy
    -> dict: styled (n,), share of responses that the judge finds styled; kept (n,), cosine to the response at place 0; of the
       toy also right (n,), share that is a right answer, plain or styled
    """
    columns = [list(column) for column in zip(*slides, strict=True)]
    first = [[text] for text in columns[0]]
    scores = {"styled": [float((judge(texts) > 0.5).mean()) for texts in columns],
              "kept": [bow_similarity([[text] for text in texts], first, vectors).average for texts in columns]}
    if contexts:
        known = [{form for answer in toy_answers(context) for form in (answer, toy_styled(answer))} for context in contexts]
        scores["right"] = [float(np.mean([text in answers for text, answers in zip(texts, known, strict=True)]))
                           for texts in columns]
    return scores
