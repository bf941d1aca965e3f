"""What the views do for the words: accuracies with the panorama, without it, and with that of another place.

That is the point of *attended* masked language modelling (Hao et al. 2020): a hidden word should be told from what is seen.
Zeroed views are nothing a model was trained on, so the panorama of another place is the fairer question; fairest, and dearest,
is a twin that is trained blind.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from dgmlab.config import unknown_name
from dgmlab.prevalent.objective import hide_words
from dgmlab.prevalent.order import shuffled

VIEWS = ("seen", "zeroed", "elsewhere")  # the triplet's own panorama; none; the panorama of another triplet
ROWS = 64  # triplets of an evaluation batch


class Predictions(NamedTuple):
    """What a model made of n triplets: M hidden words and n actions.

    word           (M,) int64   the words themselves;  word_right (M,) bool;  word_loss (M,) float64 nats
    action         (n,) int64   labels;  action_right (n,) bool;  action_loss (n,) float64 nats
    """

    word: np.ndarray
    word_right: np.ndarray
    word_loss: np.ndarray
    action: np.ndarray
    action_right: np.ndarray
    action_loss: np.ndarray


class Profit(NamedTuple):
    """A word, how often it was asked for, and the share told right with and without the panorama."""

    word: str
    n: int
    seen: float
    unseen: float


def predict(model, data, triplets, n=0, views="seen", seed=0):
    """The hidden words and the actions of n triplets drawn with `seed`; 0 takes all.

    model  PrevalentForPretraining;  data: PretrainData;  triplets: one of its Triplets
    views  one of VIEWS. The same triplets and the same words are asked for whatever is shown
    -> Predictions
    """
    if views not in VIEWS:
        raise KeyError(unknown_name(views, VIEWS, "way to show the views"))
    size = min(n or len(triplets), len(triplets))
    chosen = shuffled(np.arange(size), len(triplets), (seed,))
    chosen = chosen[np.argsort(triplets.lengths(chosen), kind="stable")]
    device, found = next(model.parameters()).device, []
    training = model.training
    model.eval()
    for i, start in enumerate(range(0, size, ROWS)):
        indices = chosen[start:start + ROWS]
        batch = triplets.batch(indices, model.config.action_space, data.words.pad)
        hidden = hide_words(batch.ids, data.words, np.random.default_rng([seed, i]))
        shown = batch if views != "elsewhere" else triplets.batch(chosen[(start + size // 2 + np.arange(len(indices))) % size])
        seen = data.views(shown).to(device) * (views != "zeroed")
        with torch.no_grad(), data.accelerator.autocast():
            out = model(hidden.ids.to(device), batch.mask.to(device), seen, hidden.asked.to(device))
        for logits, target in ((out.mlm_logits, batch.ids[hidden.asked]), (out.action_logits, batch.action)):
            logits = logits.float().cpu()
            loss = functional.cross_entropy(logits, target, reduction="none")
            found += [target, logits.argmax(-1) == target, loss.double()]
    model.train(training)
    return Predictions(*(torch.cat(found[k::6]).numpy() for k in range(6)))


def evaluate(model, data, triplets, n=0, views=VIEWS, seed=0):
    """Losses and accuracies on n triplets (0: all), with the views as asked for.

    -> dict: mlm_loss, mlm_accuracy, action_loss, action_accuracy as seen, and of the other `views` mlm_accuracy_zeroed ...
    """
    numbers = {}
    for kind in views:
        found = predict(model, data, triplets, n, kind, seed)
        tail = "" if kind == "seen" else f"_{kind}"
        numbers |= {f"mlm_loss{tail}": found.word_loss.mean(), f"mlm_accuracy{tail}": found.word_right.mean(),
                    f"action_loss{tail}": found.action_loss.mean(), f"action_accuracy{tail}": found.action_right.mean()}
    return {name: float(value) for name, value in numbers.items()}


def word_profit(seen, unseen, words, min_count=20):
    """Which words are told better by who sees: two Predictions of the same words -> list of Profit, greatest gain first."""
    if not np.array_equal(seen.word, unseen.word):
        raise ValueError("the two predictions are of different words; expected the same triplets, words and seed in both.")
    rows = []
    for word in np.unique(seen.word):
        there = seen.word == word
        if there.sum() >= min_count:
            rows.append(Profit(words.vocabulary[word], int(there.sum()), float(seen.word_right[there].mean()),
                               float(unseen.word_right[there].mean())))
    return sorted(rows, key=lambda row: row.unseen - row.seen)


def word_attention(model, ids, mask, views):
    """How much each word looks at each view, in every cross layer, averaged over heads.

    ids (B, T) long, mask (B, T), views (B, N, F) -> (L, B, T, N) float, rows sum to 1
    """
    with torch.no_grad():
        return model.prevalent(ids, mask, views, with_attention=True).attention.mean(2)
