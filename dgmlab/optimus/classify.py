"""Optimus and BERT as readers of sentences: frozen features, and a classifier to be tuned (Li et al. 2020, section 5.4).

    pooled   what the encoder pools of its states (B, H): the article's feature, whose classifier never sees z
    mu       mean of the posterior (B, Z)                                                        Optimus only
    z        one draw of the posterior (B, Z): what a decoder gets to see                        Optimus only

A frozen encoder is judged by a linear classifier on its features (`dgmlab.metrics.probe`), a tuned one by `train` of
`dgmlab.optimus.finetune`. Letters: N sentences, B batch, T time, H width, Z latent, K classes.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

from dgmlab.config import unknown_name
from dgmlab.data.batching import pad, sorted_batches
from dgmlab.optimus.data import load_trained, model_folder
from dgmlab.optimus.masked import load_twin
from dgmlab.optimus.model import longest_ids, pool_states
from dgmlab.run import locate, read_json

FEATURES = ("pooled", "mu", "z")


class Encoder(NamedTuple):
    """body: a BERT-like model, ids -> states; its tokenizer; pooling: pooler | cls | mean; room: the most ids it takes; label
    for titles; to_posterior: Optimus's linear map to mu and logvar, else None."""

    body: Any
    tokenizer: Any
    pooling: str
    room: int
    label: str
    to_posterior: Any = None


class Batch(NamedTuple):
    """ids, mask and types (B, T) long: tokens, 1 where there is one, 1 where it is of a second sentence."""

    ids: torch.Tensor
    mask: torch.Tensor
    types: torch.Tensor

    def to(self, device):
        return Batch(*(part.to(device) for part in self))


def open_encoder(name):
    """The encoder of a trained Optimus or of its BERT twin (a run folder or its model/), or any BERT (a folder or a hub name).

    A twin pools as its Optimus does, any other BERT by its own pooler. -> Encoder, in evaluation mode
    """
    path = locate(name)
    if not path.is_dir() and (str(name)[:1] in "~/" or str(name).count("/") > 1):  # a hub name is NAME or OWNER/NAME
        raise FileNotFoundError(f"an encoder was expected in the folder {name}, which is not there. "
                                "Train one with 11_optimus_train, or name a BERT.")
    about = read_json(model_folder(path) / "config.json") if path.is_dir() else {}
    if about.get("model_type") == "optimus":
        model, tokenizers = load_trained(path)
        body, tokenizer, label = model.encoder, tokenizers.encoder, "Optimus"
        return Encoder(body, tokenizer, model.config.pooling, longest_ids(body.config), label, model.to_posterior)
    if "sentence_pooling" in about:
        model, tokenizers = load_twin(path)
        return Encoder(model.base_model, tokenizers.encoder, about["sentence_pooling"], longest_ids(model.config), "BERT twin")
    source = model_folder(path) if path.is_dir() else name
    body = AutoModel.from_pretrained(source).eval()
    pooling = "pooler" if getattr(body, "pooler", None) is not None else "cls"
    return Encoder(body, AutoTokenizer.from_pretrained(source), pooling, longest_ids(body.config), "BERT")


def untrained(encoder, seed=0):
    """The same encoder at a random start: what its size and the words give for nothing. The global random state is kept."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = AutoModel.from_config(encoder.body.config)
    if encoder.pooling != "pooler" and hasattr(body, "pooler"):
        body.pooler = None
    return encoder._replace(body=body.to(encoder.body.device).eval(), label="untrained", to_posterior=None)


class Reader:
    """Sentences, or pairs of them, as ids of one encoder, and their batches.

    A pair is read as `<bos> first <eos> second <eos>`. What does not fit the encoder is cut from the longer side, token by
    token; `n_cut` says of how many items.
    """

    def __init__(self, encoder, first, second=None):
        if not len(first) or second is not None and len(second) != len(first):
            raise ValueError(f"sentences, or pairs of them, were expected, found {len(first)} first"
                             + ("." if second is None else f" and {len(second)} second ones.") + " Check the data.")
        self.tokenizer, self.n_cut = encoder.tokenizer, 0
        sides = [self.tokenizer(list(side), add_special_tokens=False)["input_ids"] for side in (first, second) if side]
        self.rows = [self._fit(parts, encoder.room) for parts in zip(*sides, strict=True)]
        self.lengths = np.array([sum(len(part) + 1 for part in parts) + 1 for parts in self.rows])

    def _fit(self, parts, room):
        """Id lists cut to what the encoder takes beside the marks."""
        over = sum(map(len, parts)) - (room - len(parts) - 1)
        self.n_cut += over > 0
        parts = [list(part) for part in parts]
        for _ in range(max(0, over)):
            max(parts, key=len).pop()
        return parts

    def __len__(self):
        return len(self.rows)

    def batch(self, index):
        """The Batch of the items at `index` (B,)."""
        token = self.tokenizer
        first = token.bos_token_id if token.cls_token_id is None else token.cls_token_id
        last = token.eos_token_id if token.sep_token_id is None else token.sep_token_id
        ids, types = [], []
        for parts in (self.rows[i] for i in index):
            ids.append([first, *(i for part in parts for i in (*part, last))])
            types.append([0] * (len(parts[0]) + 2) + [1] * (len(ids[-1]) - len(parts[0]) - 2))
        padded = pad(ids, -1)
        mask = (padded != -1).long()
        return Batch(padded.masked_fill(mask == 0, token.pad_token_id), mask, pad(types, 0))


def pool(body, pooling, batch):
    """Pooled features (B, H) of a Batch; an encoder that knows one type of sentence only gets no types."""
    types = {"token_type_ids": batch.types} if getattr(body.config, "type_vocab_size", 1) > 1 else {}
    return pool_states(body(input_ids=batch.ids, attention_mask=batch.mask, **types), batch.mask, pooling)


@torch.no_grad()
def sentence_features(encoder, sentences, kind="pooled", seed=0, batch_size=256):
    """Frozen features of sentences, whatever company they come in.

    kind  pooled | mu | z, see the top of this file
    seed  of the draw of z
    -> (N, H) or (N, Z) float32 numpy
    """
    if kind not in FEATURES:
        raise KeyError(unknown_name(kind, FEATURES, "kind of features"))
    if kind != "pooled" and encoder.to_posterior is None:
        raise ValueError(f"{kind} is of a posterior, which {encoder.label} has not. Use kind='pooled', or an Optimus.")
    reader, features = Reader(encoder, sentences), None
    encoder.body.eval()
    for rows in sorted_batches(reader.lengths, batch_size):
        found = pool(encoder.body, encoder.pooling, reader.batch(rows).to(encoder.body.device))
        found = (found if kind == "pooled" else encoder.to_posterior(found)).float().cpu().numpy()
        features = np.empty((len(reader), found.shape[1]), np.float32) if features is None else features
        features[rows] = found
    if kind == "pooled":
        return features
    mu, logvar = np.split(features, 2, axis=1)
    if kind == "mu":
        return mu
    eps = np.random.default_rng(seed).standard_normal(mu.shape).astype(np.float32)
    return mu + np.exp(0.5 * logvar.clip(-20, 20)) * eps


def pair_features(encoder, first, second=None, kind="pooled"):
    """Frozen features of pairs, each sentence read alone: u, v, |u - v| and u v (Conneau et al. 2017). -> (N, 4 F) float32

    An encoder trained on single sentences has never seen a pair. Without `second`: the `sentence_features` of `first`.
    """
    u = sentence_features(encoder, first, kind)
    if second is None:
        return u
    v = sentence_features(encoder, second, kind)
    return np.concatenate([u, v, np.abs(u - v), u * v], axis=1)


class Classifier(nn.Module):
    """Dropout and a linear layer on what an encoder pools; the encoder itself learns along."""

    def __init__(self, body, pooling, n_outputs, dropout=0.1):
        super().__init__()
        self.body, self.pooling = body, pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(body.config.hidden_size, n_outputs)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch):
        """A Batch of (B, T) ids -> logits (B, K), or (B, 1) numbers"""
        return self.head(self.dropout(pool(self.body, self.pooling, batch)))
