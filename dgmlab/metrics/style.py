"""Is a text in the wanted style, and does it still say the same? Accuracy by a judge, BLEU, and two systems for scale.

    judge     a linear classifier of word n-grams that no model was trained with
    accuracy  share of rewritten sentences to which the judge gives the wanted label
    BLEU      of the corpus, with the sources (was the content kept?) and with human rewritings, in [0, 1]
    fluency   perplexity of a trigram model of words: no neural model, so no favour to the kind that wrote the sentences
    G         the geometric mean of accuracy and BLEU (Li et al. 2020): copying and forgetting both score low

Two systems that learn nothing set the scale: `copy` keeps everything and changes no label, `Retriever` answers with the most
similar training sentence of the wanted label (Li et al. 2018, "Delete, retrieve, generate").

Letters: N sentences, L labels.
"""

import math
from collections import Counter

import numpy as np

from dgmlab.metrics.interval import percentile_interval
from dgmlab.metrics.overlap import bleu_counts, score_counts, self_bleu


def _vectorizer(n_grams, min_count):
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, n_grams), min_df=min_count, sublinear_tf=True)


class StyleJudge:
    """Logistic regression on TF-IDF of word 1- to 3-grams: no shared parameter, text or architecture with a neural model.

    sentences, labels  N strings, (N,) ints; at least two labels
    min_count          sentences an n-gram must be in; 2 for corpora, 1 for a handful of sentences
    vectorizer         sentences -> features (N, D) in scikit-learn's way, in place of those n-grams
    """

    def __init__(self, sentences, labels, min_count=2, vectorizer=None):
        from sklearn.linear_model import LogisticRegression

        labels = check_labels(sentences, labels)
        self.vectorizer = vectorizer or _vectorizer(3, min_count)
        self.model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=300)
        self.model.fit(self.vectorizer.fit_transform(sentences), labels)
        self.labels = self.model.classes_

    def __call__(self, sentences):
        """Probability of each label -> (N, L) float64, columns in the order of `labels`."""
        return self.model.predict_proba(self.vectorizer.transform(sentences))

    def predict(self, sentences):
        """The likeliest label -> (N,) int64"""
        return self.labels[self(sentences).argmax(1)]

    def accuracy(self, sentences, labels):
        """Share of sentences that get their label -> float in [0, 1]"""
        return float((self.predict(sentences) == np.asarray(labels)).mean())


class TrigramModel:
    """Words given the two before them, by interpolation with ever shorter contexts (Witten and Bell 1991).

    p(w | context) = (c(context w) + n(context) p(w | shorter context)) / (c(context) + n(context)), with c the count and n the
    number of different words that followed; below single words all words of the vocabulary are alike. Words seen once are
    `<unk>`, as are those never seen.
    """

    def __init__(self, sentences):
        words = Counter(word for sentence in sentences for word in sentence.split())
        if not words:
            raise ValueError("a trigram model needs at least one word, found none.")
        self.known = {word for word, count in words.items() if count > 1}
        self.size = len(self.known) + 2  # <unk> and the end
        self.counts, self.totals, self.kinds = Counter(), Counter(), Counter()
        for sentence in sentences:
            for context, word in self._steps(sentence):
                for start in range(3):
                    history = context[start:]
                    self.kinds[history] += (*history, word) not in self.counts
                    self.counts[*history, word] += 1
                    self.totals[history] += 1

    def _steps(self, sentence):
        """(two words before, word) of each place, the end included."""
        tokens = ["<s>", "<s>", *(word if word in self.known else "<unk>" for word in sentence.split()), "</s>"]
        return [((a, b), c) for a, b, c in zip(tokens, tokens[1:], tokens[2:], strict=False)]

    def probability(self, word, context):
        """p(word | context) of a word of the vocabulary; context: a tuple of two words, `<s>` before the first"""
        value = 1 / self.size
        for start in (2, 1, 0):
            history = context[start:]
            total, kinds = self.totals[history], self.kinds[history]
            if total:
                value = (self.counts[(*history, word)] + kinds * value) / (total + kinds)
        return value

    def perplexity(self, sentences):
        """exp of the mean nats per word, each sentence's end counted as one -> float"""
        steps = [step for sentence in sentences for step in self._steps(sentence)]
        return math.exp(-sum(math.log(self.probability(word, context)) for context, word in steps) / len(steps))


class Retriever:
    """The training sentence of a wanted label that is most like a given one, by the cosine of TF-IDF of single words."""

    def __init__(self, sentences, labels):
        labels = check_labels(sentences, labels)
        self.vectorizer = _vectorizer(1, 1)
        vectors = self.vectorizer.fit_transform(sentences)
        rows = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
        self.vectors = {label: vectors[index] for label, index in rows.items()}
        self.sentences = {label: [sentences[i] for i in index] for label, index in rows.items()}

    def __call__(self, sentences, wanted):
        """sentences, wanted (N,) labels -> list of N training sentences, each of its wanted label"""
        vectors, found = self.vectorizer.transform(sentences), [""] * len(sentences)
        wanted = np.asarray(wanted)
        for label in np.unique(wanted):
            if label not in self.vectors:
                raise ValueError(f"label {label} was wanted, but the training sentences have only "
                                 f"{', '.join(map(str, self.vectors))}.")
            rows = np.flatnonzero(wanted == label)
            for part in np.array_split(rows, math.ceil(len(rows) / 100)):  # a whole corpus of similarities would not fit
                nearest = np.asarray((vectors[part] @ self.vectors[label].T).todense()).argmax(1)
                for i, j in zip(part, nearest, strict=True):
                    found[i] = self.sentences[label][j]
        return found


def check_labels(sentences, labels, what="style transfer"):
    """The labels as an array (N,), or a ValueError: as many as sentences, and of two kinds or more."""
    labels = np.asarray(labels)
    if labels.shape != (len(sentences),):
        raise ValueError(f"expected one label a sentence, found {len(sentences)} sentences and labels {labels.shape}.")
    kinds = np.unique(labels)
    if len(kinds) < 2:
        raise ValueError(f"{what} needs sentences of two labels or more, found {len(kinds)} "
                         f"({', '.join(map(str, kinds)) or 'no sentence'}). Add sentences of another label.")
    return labels


def score_transfer(sources, outputs, wanted, judge, references=None, seed=0):
    """Every number of a transfer table, with 95 % bootstrap intervals over sentences.

    sources     N sentences that were rewritten; outputs: N sentences that came out; wanted (N,) labels they should have
    judge       `StyleJudge` or anything with predict(sentences) -> (N,)
    references  for each sentence a list of human rewritings, tokenised as the outputs are; None where there are none
    -> dict, each X of accuracy, bleu_source, g_source, bleu_reference, g_reference with X_low and X_high; self_bleu of the
       outputs; copied, share of outputs that are their source; n_sentences. All in [0, 1] but the last
    """
    if not len(sources) == len(outputs) == len(wanted):
        raise ValueError(f"expected as many outputs and labels as sources, found {len(sources)} sources, "
                         f"{len(outputs)} outputs and {len(wanted)} labels.")
    right = (judge.predict(outputs) == np.asarray(wanted)).astype(float)
    counts = {"source": bleu_counts(outputs, [[source] for source in sources])}
    if references is not None:
        counts["reference"] = bleu_counts(outputs, references)

    def scores(rows):
        accuracy = right[rows].mean()
        found = {"accuracy": float(accuracy)}
        for name, count in counts.items():
            found[f"bleu_{name}"] = score_counts(count, rows=rows)
            found[f"g_{name}"] = math.sqrt(accuracy * found[f"bleu_{name}"])
        return found

    lows, highs = percentile_interval(lambda rows: list(scores(rows).values()), len(right), seed=seed)
    numbers = {}
    for (name, value), low, high in zip(scores(np.arange(len(right))).items(), lows, highs, strict=True):
        numbers |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
    copied = np.mean([source.split() == output.split() for source, output in zip(sources, outputs, strict=True)])
    return {**numbers, "self_bleu": self_bleu(outputs), "copied": float(copied), "n_sentences": len(outputs)}
