"""Optimus for dialog: context and response in one latent space (Li et al. 2020, section 5.3; Gao et al. 2019, SpaceFusion).

The AE path encodes a response, as Optimus encodes any sentence; the S2S path encodes the context by the same encoder, further
layers of its own, and the same latent head. The decoder writes the response from a point of either path, or between them.

    words of the response -> encoder ------------------> head -> z_ae  --\
                                                                           decoder -> response
    words of the context  -> encoder -> context layers -> head -> z_s2s --/

The layers on top start as the identity, so a pre-trained encoder reads contexts as it reads sentences. Both paths are
deterministic: what differs between responses to one context is the place in its neighbourhood (`dgmlab.optimus.respond`).

Letters: N exchanges, B batch, T time, Z latent, H width.
"""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dgmlab.data.batching import batches, pad
from dgmlab.data.dialog import last_turns
from dgmlab.optimus.data import Corpus, Pair, Tokenizers, encoder_batch, model_folder
from dgmlab.optimus.model import LATENT_MAPS, Optimus, OptimusConfig


class DialogConfig(OptimusConfig):
    """An Optimus, and how many layers the context path has of its own."""

    model_type = "optimus_dialog"
    context_layers: int = 2  # the original: 2, copies of BERT's last ones
    radius: float = 0.0  # how far a context lies from its response, RMS per dimension; measured at the end of training


class DialogOptimus(Optimus):
    """Optimus with a second way in. `encode_context` is new; `encode`, `forward` and `generate` are Optimus's own."""

    config_class = DialogConfig

    def __init__(self, config, encoder=None, decoder=None):
        super().__init__(config, encoder, decoder)
        sizes = self.encoder.config
        layer = nn.TransformerEncoderLayer(sizes.hidden_size, sizes.num_attention_heads, sizes.intermediate_size,
                                           sizes.hidden_dropout_prob, "gelu", batch_first=True, norm_first=True)
        self.context_layers = nn.TransformerEncoder(layer, config.context_layers, enable_nested_tensor=False)
        for own in self.context_layers.layers:  # the residual branches begin at 0
            for last in (own.self_attn.out_proj, own.linear2):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    @classmethod
    def from_optimus(cls, optimus, context_layers=2):
        """A dialog model around a (pre-trained) Optimus; its weights are taken over, not copied."""
        if context_layers < 1:
            raise ValueError(f"the context path needs at least 1 layer of its own, found context_layers={context_layers}.")
        config = DialogConfig(context_layers=context_layers, **optimus.config.joint())
        model = cls(config, optimus.encoder, optimus.decoder)
        for name in LATENT_MAPS:
            if hasattr(optimus, name):
                setattr(model, name, getattr(optimus, name))
        return model

    def encode_response(self, input_ids, attention_mask=None):
        """z of sentences on the AE path: (B, T) long, (B, T) mask -> (B, Z) float32"""
        return self.encode(input_ids, attention_mask).mu

    def encode_context(self, input_ids, attention_mask, speakers=None):
        """z of contexts on the S2S path.

        input_ids       (B, T) long  turns with the tokenizer's last mark after each
        attention_mask  (B, T)       1 where a token is
        speakers        (B, T) long  0 for the turns of who speaks next, 1 for the other's; used by encoders with token types
        -> (B, Z) float32
        """
        types = {}
        if speakers is not None and getattr(self.encoder.config, "type_vocab_size", 0) > 1:
            types = {"token_type_ids": speakers}
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        hidden = self.context_layers(hidden, src_key_padding_mask=attention_mask == 0)  # (B, T, H)
        pooler = getattr(self.encoder, "pooler", None)
        outputs = SimpleNamespace(last_hidden_state=hidden, pooler_output=pooler(hidden) if pooler is not None else None)
        features = self.pool(outputs, attention_mask)
        with torch.autocast(features.device.type, enabled=False):
            return self.to_posterior(features.to(self.to_posterior.weight.dtype)).float().chunk(2, dim=-1)[0]


# data


class DialogBatch(NamedTuple):
    """Exchanges: context_ids, context_mask, speakers (B, Tx) long; response, a Pair; context_keys, response_keys (B,) long,
    equal for equal texts: two exchanges of one context are no neighbours to push apart."""

    context_ids: torch.Tensor
    context_mask: torch.Tensor
    speakers: torch.Tensor
    response: Pair
    context_keys: torch.Tensor
    response_keys: torch.Tensor

    def to(self, device):
        return DialogBatch(*(part.to(device) for part in self))


class DialogCorpus:
    """Exchanges as ids, and their batches.

    exchanges     list of `dgmlab.data.dialog.Exchange`; those whose response is longer than max_response tokens are left out
                  and counted in `n_dropped`
    max_context   tokens of a context, the marks between turns included; earlier turns are left out
    """

    def __init__(self, exchanges, tokenizers, max_context, max_response, what="the dialogs"):
        responses = [pair.response for pair in exchanges]
        self.replies = Corpus(responses, tokenizers, max_response, f"{what}: the responses")
        self.exchanges = [exchanges[i] for i in self.replies.kept]
        self.n_dropped = self.replies.n_dropped
        self.tokenizers, self.lengths = tokenizers, self.replies.lengths
        self.context_rows = context_ids([pair.context for pair in self.exchanges], tokenizers.encoder, max_context)
        self.context_keys = _keys([pair.context for pair in self.exchanges])
        self.response_keys = _keys(self.replies.sentences)

    def __len__(self):
        return len(self.exchanges)

    def epoch_batches(self, batch_size, seed):
        """A function epoch -> list of index arrays, as `Corpus.epoch_batches`; bucketed by the responses' lengths."""
        return lambda epoch: batches(self.lengths, batch_size, seed, epoch)

    def batch(self, index):
        """The DialogBatch of the exchanges at `index` (B,)."""
        contexts = context_batch([self.context_rows[i] for i in index], self.tokenizers.encoder)
        keys = (torch.from_numpy(keys[np.asarray(index)]) for keys in (self.context_keys, self.response_keys))
        return DialogBatch(*contexts, self.replies.pair(index), *keys)


def _keys(texts):
    """(N,) int64, equal numbers for equal texts."""
    numbers = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)


def context_ids(contexts, tokenizer, max_length):
    """Token ids of the last turns of each context: N lists of lists, as `last_turns` keeps them."""
    flat = tokenizer([turn for turns in contexts for turn in turns], add_special_tokens=False)["input_ids"]
    rows, at = [], 0
    for turns in contexts:
        rows.append(last_turns(flat[at:at + len(turns)], max_length))
        at += len(turns)
    return rows


def context_batch(rows, tokenizer):
    """Turns between the tokenizer's two marks, the last one after each turn -> ids, mask and speakers, all (B, T) long."""
    mark = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    joined = [[token for turn in row[:-1] for token in (*turn, mark)] + row[-1] for row in rows]
    ids, mask = encoder_batch(tokenizer, joined)
    who = [[(len(row) - i) % 2 for i, turn in enumerate(row) for _ in (*turn, mark)] for row in rows]
    return ids, mask, pad([[of[0], *of] for of in who], 0)


def load_dialog_model(folder):
    """(DialogOptimus in evaluation mode, tokenizers) of a run folder or of its model/ folder."""
    folder = model_folder(folder)
    if DialogConfig.get_config_dict(folder)[0].get("model_type") != DialogConfig.model_type:
        raise ValueError(f"{folder} holds no dialog model. Train one with 15_dialog_train, which can start from it by init.")
    return DialogOptimus.from_pretrained(folder).eval(), Tokenizers.load(folder)
