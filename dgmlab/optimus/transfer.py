"""What a conditional model is for: rewrite sentences with another label, and write sentences of a label from nothing.

    transfer(model, tokenizers, sentences, wanted)          z of each sentence, decoded with the wanted label
    generate_label(model, tokenizers, label, n)             z from the fitted prior
    evaluate_transfer(model, tokenizers, split, judge)      the table: transfer, reconstruction, generation, what z still tells

Letters: N sentences, Z latent, L labels.
"""

import numpy as np
import torch

from dgmlab.metrics.overlap import bleu, self_bleu
from dgmlab.metrics.style import check_labels, score_transfer
from dgmlab.optimus.data import Corpus
from dgmlab.optimus.evaluate import encode_corpus
from dgmlab.optimus.latent import decode_latents, encode_sentences


def label_numbers(model, labels, n):
    """Labels of n sentences as numbers: one for all or one each, given by number or by name. -> (n,) int64"""
    given = [labels] * n if isinstance(labels, str | int | np.integer) else list(labels)
    if len(given) != n:
        raise ValueError(f"expected one label, or one for each of {n} sentences; found {len(given)}.")
    names = model.label_names
    for label in given:
        if not (label in names if isinstance(label, str) else 0 <= label < len(names)):
            raise ValueError(f"no label {label!r}; choose one of: {', '.join(names)}, or 0 to {len(names) - 1}.")
    return np.array([names.index(label) if isinstance(label, str) else label for label in given], dtype=np.int64)


@torch.no_grad()
def conditioned(model, z, labels, other=None, degree=1.0):
    """Latents to decode: z (N, Z) with the embedding of `labels`, or on the way from there to that of `other`.

    degree  0 is `labels`, 1 is `other`, beyond 1 goes on; not used without `other`
    -> (N, Z) float32 numpy
    """
    table = model.label_embedding.weight.float().cpu().numpy()
    shift = table[labels] if other is None else (1 - degree) * table[labels] + degree * table[other]
    return np.asarray(z, dtype=np.float32) + shift


def transfer(model, tokenizers, sentences, wanted, own=None, degree=1.0, method="greedy", seed=0):
    """Rewrite `sentences` with other labels.

    wanted  the label of all or of each, by name or number
    own     the labels they have; only needed with a degree other than 1
    degree  0 keeps the own label, 1 is the wanted one, between and beyond are mixtures
    -> list of N str
    """
    wanted = label_numbers(model, wanted, len(sentences))
    if own is None and degree != 1.0:
        raise ValueError(f"degree={degree} mixes the sentences' own labels with the wanted ones: give own.")
    z = encode_sentences(model, tokenizers, sentences)
    if own is None:
        latents = conditioned(model, z, wanted)
    else:
        latents = conditioned(model, z, label_numbers(model, own, len(sentences)), wanted, degree)
    return decode_latents(model, tokenizers, latents, method, seed=seed)


def generate_label(model, tokenizers, label, n, method="greedy", seed=0):
    """n new sentences of a label (a name or number), z drawn from the fitted prior. -> list of n str"""
    z = model.sample_prior(n, torch.Generator().manual_seed(seed)).cpu().numpy()
    return decode_latents(model, tokenizers, conditioned(model, z, label_numbers(model, label, n)), method, seed=seed)


def other_labels(labels, n_labels, seed=0):
    """For each label another one, drawn evenly: with two labels, the other. labels (N,) -> (N,) int64"""
    labels = np.asarray(labels)
    return (labels + np.random.default_rng(seed).integers(1, n_labels, size=len(labels))) % n_labels


def label_in_latent(z, labels, seed=0):
    """Accuracy of a fresh logistic regression that reads the label from z, on the half it was not fitted to.

    z (N, Z), labels (N,); 1 / L (with even classes) where z does not tell the label -> float in [0, 1]
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    labels = check_labels(range(len(z)), labels, "reading labels from z")
    order = np.random.default_rng(seed).permutation(len(z))
    fit, held_out = order[::2], order[1::2]
    scaler = StandardScaler().fit(z[fit])
    reader = LogisticRegression(max_iter=300).fit(scaler.transform(z[fit]), labels[fit])
    return float(reader.score(scaler.transform(z[held_out]), labels[held_out]))


@torch.no_grad()
def draw_latents(model, tokenizers, sentences, seed=0):
    """One draw of q(z|x) for each sentence: what the decoder was trained to listen to -> (N, Z) float32"""
    mu, logvar = encode_corpus(model, Corpus(list(sentences), tokenizers, model.longest))
    return mu + np.exp(0.5 * logvar) * np.random.default_rng(seed).standard_normal(mu.shape, dtype=np.float32)


def watch_transfer(model, tokenizers, sentences, labels, judge):
    """The few numbers of a training curve, by greedy decoding of each sentence with another label and with its own.

    -> dict: accuracy and bleu_source of the transfers, bleu_copy of the reconstructions, z_accuracy of draws
    """
    wanted = other_labels(labels, len(model.label_names))
    z = encode_sentences(model, tokenizers, sentences)
    outputs = decode_latents(model, tokenizers, conditioned(model, z, wanted))
    copies = decode_latents(model, tokenizers, conditioned(model, z, labels))
    sources = [[sentence] for sentence in sentences]
    return {"accuracy": judge.accuracy(outputs, wanted), "bleu_source": bleu(outputs, sources),
            "bleu_copy": bleu(copies, sources),
            "z_accuracy": label_in_latent(draw_latents(model, tokenizers, sentences), labels)}


def evaluate_transfer(model, tokenizers, split, judge, references=None, fluency=None, n_generate=500, seed=0):
    """Every number of the results table for a labelled split.

    split       `Labelled`; judge: `StyleJudge`; references: N lists of rewritings, or None
    fluency     `TrigramModel` or anything with perplexity(sentences), or None
    -> (numbers, outputs): a flat dict and the N rewritten sentences. Names: those of `score_transfer`; bleu_copy and
       accuracy_copy of the reconstructions with the own label; accuracy_generated and self_bleu_generated of new sentences,
       labels in turn; ppl_trigram, ppl_trigram_generated and, to compare with, ppl_trigram_source; z_accuracy of draws;
       judge_accuracy on the sources themselves
    """
    n_labels = len(model.label_names)
    labels = check_labels(split.sentences, split.labels)
    wanted = other_labels(labels, n_labels)
    outputs = transfer(model, tokenizers, split.sentences, wanted)
    copies = transfer(model, tokenizers, split.sentences, labels)
    asked = np.repeat(np.arange(n_labels), -(-n_generate // n_labels))
    new = [text for label in range(n_labels)
           for text in generate_label(model, tokenizers, label, int((asked == label).sum()), "top_p", seed + label)]
    written = {"ppl_trigram": outputs, "ppl_trigram_generated": new, "ppl_trigram_source": split.sentences}
    return {
        **score_transfer(split.sentences, outputs, wanted, judge, references, seed),
        "bleu_copy": bleu(copies, [[source] for source in split.sentences]), "accuracy_copy": judge.accuracy(copies, labels),
        "accuracy_generated": judge.accuracy(new, asked), "self_bleu_generated": self_bleu(new),
        "z_accuracy": label_in_latent(draw_latents(model, tokenizers, split.sentences, seed), labels, seed),
        "judge_accuracy": judge.accuracy(split.sentences, labels),
        **({name: fluency.perplexity(texts) for name, texts in written.items()} if fluency else {}),
    }, outputs
