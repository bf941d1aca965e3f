"""The speaker: reads a path through a house and writes the instruction (Fried et al. 2018; as in EnvDrop, Tan et al. 2019).

For each panorama of the path it sees the feature of the candidate that was chosen there and all 36 views. A bi-LSTM runs over
the choices, each of its states attends to the views of its panorama, and a second bi-LSTM runs over what was attended to. The
decoder writes words with attention over the path; an LSTM as in R2R-EnvDrop (r2r_src/model.py), or a small transformer.

`path_inputs` makes the tensors, `dgmlab.prevalent.speaking` decodes and scores.

Letters: B paths, S panoramas of a path, T words, V vocabulary, H width, F picture numbers of a view, D = F + 128.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dgmlab.config import unknown_name
from dgmlab.prevalent.angles import ANGLE_SIZE
from dgmlab.prevalent.words import PAD


@dataclass(frozen=True)
class SpeakerConfig:
    """Everything that rebuilds a speaker; EnvDrop's values in brackets."""

    vocab_size: int  # V [991 words of R2R, and its own begin mark]
    feature_size: int  # F, numbers of a view without the 128 of its angle [2048]
    hidden_size: int = 512  # H, both directions together [512]
    embedding_size: int = 256  # of a word, LSTM decoder [256]
    dropout: float = 0.6  # between all layers [0.6]
    decoder: str = "lstm"  # lstm | transformer [lstm]
    n_layers: int = 2  # of the transformer decoder
    n_heads: int = 4  # of the transformer decoder
    max_length: int = 120  # most words of an instruction [120]
    input_gain: float = 1.0  # what the numbers of views and choices are multiplied by [1]

    def __post_init__(self):
        if self.decoder not in DECODERS:
            raise ValueError(f"decoder is '{self.decoder}'; choose one of: {', '.join(DECODERS)}.")
        if self.hidden_size % 2 or self.decoder == "transformer" and self.hidden_size % self.n_heads:
            raise ValueError(f"hidden_size is {self.hidden_size}; it must be even, and a multiple of the transformer's "
                             f"{self.n_heads} heads. Try {max(1, self.hidden_size // self.n_heads) * self.n_heads}.")


# A direction comes in 32 copies, so that a step of Adam turns what is made of it 32 times. At the learning rates of short runs
# this saturates the tanh behind the views before the first object has a name; divided by sqrt(32) the copies count as one.
PRESETS = {
    "tiny": {"hidden_size": 128, "embedding_size": 64, "dropout": 0.0, "input_gain": 0.18},
    "small": {"hidden_size": 256, "embedding_size": 128, "dropout": 0.3, "input_gain": 0.18},
    "paper": {},
}


class PathInputs(NamedTuple):
    """What a speaker sees of B paths.

    actions  (B, S, D) float  feature of the candidate chosen at each panorama; zeros at the last one, where the agent stops
    views    (B, S, 36, D) float  all views of each panorama, headings relative to the agent's
    mask     (B, S) bool  True where the path has a panorama; the first is always there
    """

    actions: torch.Tensor
    views: torch.Tensor
    mask: torch.Tensor

    def to(self, device):
        """The same on another device."""
        return PathInputs(*(part.to(device) for part in self))


class Attended(NamedTuple):
    """output (B, T, H) and the weights (B, T, S) it was made with, each row summing to 1."""

    output: torch.Tensor
    weights: torch.Tensor


class Decoded(NamedTuple):
    """logits (B, T, V) of the next word, attention (B, T, S) over the path, state: tuple of tensors (B, ...) to go on from."""

    logits: torch.Tensor
    attention: torch.Tensor
    state: tuple


class SoftDotAttention(nn.Module):
    """Bilinear attention with a tanh layer behind it (Luong et al. 2015, "general"; EnvDrop's SoftDotAttention)."""

    def __init__(self, query_size, context_size):
        super().__init__()
        self.to_context = nn.Linear(query_size, context_size, bias=False)
        self.to_output = nn.Linear(context_size + query_size, query_size, bias=False)

    def forward(self, query, context, mask=None, gain=1.0):
        """Weights softmax(c W q), output tanh(W' [attended; q]).

        query    (B, T, H) float, or with more dimensions in front
        context  (B, S, C) float, with the same in front
        mask     (B, S) bool, True where there is something to attend to
        gain     what the context is multiplied by
        -> Attended(output (B, T, H), weights (B, T, S))
        """
        scores = (self.to_context(query) * gain) @ context.transpose(-1, -2)  # (..., T, S)
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(-2), -torch.inf)
        weights = scores.softmax(-1).to(context.dtype)
        attended = (weights @ context) * gain
        return Attended(torch.tanh(self.to_output(torch.cat([attended, query.to(attended.dtype)], -1))), weights)


class PathEncoder(nn.Module):
    """Choices -> bi-LSTM -> attention over the views of each panorama -> bi-LSTM (EnvDrop's SpeakerEncoder).

    Padding is packed away: a path is encoded the same whatever it is batched with, which upstream's is not.
    """

    def __init__(self, config):
        super().__init__()
        width, size = config.feature_size + ANGLE_SIZE, config.hidden_size
        self.actions = nn.LSTM(width, size // 2, batch_first=True, bidirectional=True)
        self.attention = SoftDotAttention(size, width)
        self.path = nn.LSTM(size, size // 2, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(config.dropout)
        self.gain = config.input_gain

    def look(self, inputs):
        """What the choices make of the views. PathInputs -> Attended(output (B, S, H), weights (B, S, 36))"""
        states = self.drop(run_packed(self.actions, inputs.actions * self.gain, inputs.mask.sum(1).cpu()))
        attended = self.attention(states.unsqueeze(2), inputs.views, gain=self.gain)
        return Attended(*(part.squeeze(2) for part in attended))  # (B, S, 1, H) -> (B, S, H), (B, S, 1, 36) -> (B, S, 36)

    def forward(self, inputs):
        """PathInputs of actions (B, S, D), views (B, S, 36, D) and mask (B, S) -> (B, S, H) float, zeros where padded"""
        return self.drop(run_packed(self.path, self.drop(self.look(inputs).output), inputs.mask.sum(1).cpu()))


def run_packed(lstm, x, lengths):
    """A bi-LSTM over x (B, S, C) whose rows have `lengths` (B,) on the CPU -> (B, S, H), zeros behind each length"""
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class LSTMDecoder(nn.Module):
    """Words -> LSTM -> attention over the path -> words (EnvDrop's SpeakerDecoder); it starts from zeros."""

    def __init__(self, config):
        super().__init__()
        size = config.hidden_size
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        self.lstm = nn.LSTM(config.embedding_size, size, batch_first=True)
        self.attention = SoftDotAttention(size, size)
        self.projection = nn.Linear(size, config.vocab_size)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, words, path, mask, state=None):
        """words (B, T) long, path (B, S, H), mask (B, S) bool, state (h (B, H), c (B, H)) or None -> Decoded"""
        state = state and tuple(part.unsqueeze(0) for part in state)
        hidden, state = self.lstm(self.drop(self.embedding(words)), state)
        attended = self.attention(self.drop(hidden), path, mask)
        return Decoded(self.projection(self.drop(attended.output)), attended.weights, tuple(part[0] for part in state))


class TransformerDecoder(nn.Module):
    """A causal transformer with cross-attention over the path, layer norms in front; an option that EnvDrop has not."""

    def __init__(self, config):
        super().__init__()
        size = config.hidden_size
        self.embedding = nn.Embedding(config.vocab_size, size)
        self.positions = nn.Embedding(config.max_length + 2, size)  # the begin and end marks on top
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(size)
        self.projection = nn.Linear(size, config.vocab_size)
        self.drop = nn.Dropout(config.dropout)
        for table in (self.embedding, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, words, path, mask, state=None):
        """words (B, T) long, path (B, S, H), mask (B, S) bool, state (keys, values), each (B, L, heads, T', d), or None
        -> Decoded; its attention is that of the last layer, averaged over heads
        """
        seen = 0 if state is None else state[0].shape[3]
        x = self.embedding(words) + self.positions.weight[seen:seen + words.shape[1]]
        x, keys, values = self.drop(x), [], []
        for number, layer in enumerate(self.layers):
            past = None if state is None else (state[0][:, number], state[1][:, number])
            x, weights, (key, value) = layer(x, path, mask, past)
            keys.append(key)
            values.append(value)
        state = (torch.stack(keys, 1), torch.stack(values, 1))
        return Decoded(self.projection(self.norm(x)), weights.mean(1), state)


class TransformerLayer(nn.Module):
    """Self-attention over the words so far, attention over the path, feed-forward."""

    def __init__(self, config):
        super().__init__()
        size, self.n_heads = config.hidden_size, config.n_heads
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(3))
        self.to_self, self.from_self = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.to_query, self.to_path, self.from_path = nn.Linear(size, size), nn.Linear(size, 2 * size), nn.Linear(size, size)
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU("tanh"), nn.Linear(4 * size, size))
        self.drop = nn.Dropout(config.dropout)

    def heads(self, x, parts):
        """(B, T, parts * H) -> `parts` tensors (B, heads, T, d)"""
        return x.unflatten(-1, (parts, self.n_heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(self, x, path, mask, past=None):
        """x (B, T, H), path (B, S, H), mask (B, S) bool, past (keys, values) of the words before, each (B, heads, T', d)
        -> (x (B, T, H), weights over the path (B, heads, T, S), keys and values with the new words)
        """
        query, key, value = self.heads(self.to_self(self.norms[0](x)), 3)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        n_new, n_all = query.shape[2], key.shape[2]
        causal = torch.ones(n_new, n_all, dtype=torch.bool, device=x.device).tril(n_all - n_new)
        mixed = functional.scaled_dot_product_attention(query, key, value, causal)
        x = x + self.drop(self.from_self(mixed.transpose(1, 2).flatten(2)))
        asked, = self.heads(self.to_query(self.norms[1](x)), 1)
        shown, told = self.heads(self.to_path(path), 2)
        scores = asked @ shown.transpose(-1, -2) / asked.shape[-1] ** 0.5  # (B, heads, T, S)
        weights = scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1).to(told.dtype)
        x = x + self.drop(self.from_path((weights @ told).transpose(1, 2).flatten(2)))
        return x + self.drop(self.mlp(self.norms[2](x))), weights, (key, value)


DECODERS = {"lstm": LSTMDecoder, "transformer": TransformerDecoder}


class Speaker(nn.Module, PyTorchModelHubMixin):
    """Path to instruction.

    >>> speaker = Speaker.from_preset("small", vocab_size=len(words), feature_size=features.size)
    >>> logits = speaker(inputs, ids).logits  # (B, T, V); logits[:, t] predicts ids[:, t + 1]
    """

    def __init__(self, config: SpeakerConfig):
        super().__init__()
        self.config = config
        self.encoder = PathEncoder(config)
        self.decoder = DECODERS[config.decoder](config)

    @classmethod
    def from_preset(cls, name, vocab_size, feature_size, **overrides):
        """A new speaker of a named size: tiny, small or paper, with some fields of SpeakerConfig replaced."""
        if name not in PRESETS:
            raise KeyError(unknown_name(name, PRESETS, "preset of Speaker"))
        return cls(dataclasses.replace(SpeakerConfig(vocab_size, feature_size), **{**PRESETS[name], **overrides}))

    def encode(self, inputs):
        """PathInputs -> (B, S, H); ValueError where the features are not of the speaker's width"""
        width = self.config.feature_size + ANGLE_SIZE
        if inputs.views.shape[-1] != width:
            raise ValueError(f"this speaker sees {width} numbers a view ({self.config.feature_size} and {ANGLE_SIZE} of the "
                             f"angle), found {inputs.views.shape[-1]}. Open the kind of features that it was trained on.")
        return self.encoder(inputs)

    def decode(self, words, path, mask, state=None):
        """Go on writing: words (B, T) long, path (B, S, H) of `encode`, mask (B, S), state of the words before -> Decoded"""
        return self.decoder(words, path, mask, state)

    def forward(self, inputs, words):
        """PathInputs of B paths and words (B, T) long, `<begin> ... <end>` -> Decoded, logits (B, T, V)"""
        return self.decode(words, self.encode(inputs), inputs.mask)


def word_nll(logits, words):
    """Nats of each word given those before it.

    logits (B, T, V) float as `Speaker.forward` gives them for words (B, T) long, padded with PAD
    -> (B, T - 1) float32, that of words[:, 1:]; 0 where padded
    """
    nll = functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), words[:, 1:].flatten(), ignore_index=PAD,
                                   reduction="none")
    return nll.view(len(words), -1)
