"""Prevalent: text and panorama in one encoder (Hao et al. 2020, "Towards Learning a Generic Agent for VLN via Pre-training").

    text     BERT embeddings and `text_layers` BERT layers over the instruction
    views    one linear map, LayerNorm, dropout over the 36 views: no vision tower
    cross    `cross_layers` layers as in LXMERT (Tan and Bansal 2019), but with ONE cross attention used in both directions
    pooled   linear and tanh on the first text token after the last cross layer

9 text and 4 cross layers are those of the released code, and of everyone who used it since; the paper's text has other counts.
The text stage is computed once an episode, the cross stage once a step, so both can be called alone.

Letters: B batch, T tokens, H width, V vocabulary, A actions, M asked words, N the 36 views.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from dgmlab.config import unknown_name
from dgmlab.prevalent.angles import ANGLE_SIZE

STAGES = ("text", "cross")  # what can be frozen
ACTIONS = {"candidate_rank": 36, "view_stop": 37}  # label spaces (see dgmlab.prevalent.triplets) and their sizes


class CrossOut(NamedTuple):
    """What the cross stage knows.

    text       (B, T, H)  a vector a token, informed by the views
    pooled     (B, H)     in (-1, 1), of the first token
    views      (B, N, H)  a vector a view, informed by the text; None without views, or where it was not asked for
    attention  (L, B, heads, T, N) weights from word to view in every cross layer, each row sums to 1; None unless asked for
    """

    text: torch.Tensor
    pooled: torch.Tensor
    views: torch.Tensor | None
    attention: torch.Tensor | None = None


class PretrainOut(NamedTuple):
    """mlm_logits (M, V) of the asked words, row by row, or (B, T, V) of all; action_logits (B, A)."""

    mlm_logits: torch.Tensor
    action_logits: torch.Tensor


class PrevalentConfig(PreTrainedConfig):
    """Everything that rebuilds a Prevalent; defaults are the paper's, of BERT-base geometry."""

    model_type = "prevalent"
    vocab_size: int = 30522
    feature_size: int = 2176  # of a view: 2048 of ResNet-152 and 128 of the angles
    hidden_size: int = 768
    heads: int = 12
    intermediate_size: int = 3072
    text_layers: int = 9
    cross_layers: int = 4
    dropout: float = 0.1
    attention_dropout: float = 0.1  # 0 lets the fused attention kernel of a CPU run
    max_positions: int = 512  # longest instruction in tokens, [CLS] and [SEP] included
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    action_space: str = "candidate_rank"  # label space of the action head: candidate_rank | view_stop
    tie_word_embeddings: bool = False  # nothing for the library to tie: the head of the masked words reads the embeddings


PRESETS = {
    # start weights grow as the width shrinks: at BERT's 0.02 narrow attention begins flat, and learns to look very late
    "tiny": {"hidden_size": 64, "heads": 4, "intermediate_size": 128, "text_layers": 1, "cross_layers": 1,
             "attention_dropout": 0.0, "initializer_range": 0.12},
    "small": {"hidden_size": 256, "heads": 4, "intermediate_size": 1024, "text_layers": 3, "cross_layers": 2,
              "attention_dropout": 0.0},
    "paper": {},
}


class Attention(nn.Module):
    """Multi-head attention of one stream to another (or itself), with the residual and the LayerNorm behind it, as in BERT."""

    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x, context, keep=None):
        """x (B, T, H) asks context (B, S, H); keep (B, 1, 1, S) bool, True where context may be looked at -> (B, T, H)"""
        query, key, value = self.split(self.query(x)), self.split(self.key(context)), self.split(self.value(context))
        mixed = functional.scaled_dot_product_attention(query, key, value, keep, self.dropout if self.training else 0.0)
        return self.norm(x + self.drop(self.output(mixed.transpose(1, 2).flatten(2))))  # (B, heads, T, d) -> (B, T, H)

    def split(self, x):
        """(B, T, H) -> (B, heads, T, d)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def weights(self, x, context):
        """The attention weights that `forward` does not keep. -> (B, heads, T, S), rows sum to 1"""
        query, key = self.split(self.query(x)), self.split(self.key(context))
        return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)


class FeedForward(nn.Module):
    """Two linear maps with GELU between, residual and LayerNorm behind."""

    def __init__(self, config):
        super().__init__()
        self.inner = nn.Linear(config.hidden_size, config.intermediate_size)
        self.outer = nn.Linear(config.intermediate_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x):
        """(B, T, H) -> (B, T, H)"""
        return self.norm(x + self.drop(self.outer(functional.gelu(self.inner(x)))))


class TextEmbeddings(nn.Module):
    """Word + position + token type, LayerNorm, dropout, as in BERT; instructions are all of type 0."""

    def __init__(self, config):
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=0)
        self.positions = nn.Embedding(config.max_positions, config.hidden_size)
        self.types = nn.Embedding(2, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, ids):
        """ids (B, T) long -> (B, T, H)"""
        x = self.words(ids) + self.positions.weight[:ids.shape[1]] + self.types.weight[0]
        return self.drop(self.norm(x))


class TextLayer(nn.Module):
    """A BERT layer."""

    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config)
        self.feed = FeedForward(config)

    def forward(self, x, keep):
        """x (B, T, H), keep (B, 1, 1, T) bool -> (B, T, H)"""
        return self.feed(self.attention(x, x, keep))


class ViewEmbeddings(nn.Module):
    """One linear map of image and angle feature, LayerNorm, dropout."""

    def __init__(self, config):
        super().__init__()
        self.map = nn.Linear(config.feature_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, views):
        """(B, N, F) float -> (B, N, H)"""
        return self.drop(self.norm(self.map(views)))


class CrossLayer(nn.Module):
    """Cross attention both ways with one set of weights, then self attention and feed-forward of each stream alone."""

    def __init__(self, config):
        super().__init__()
        self.cross = Attention(config)
        self.text_attention, self.view_attention = Attention(config), Attention(config)
        self.text_feed, self.view_feed = FeedForward(config), FeedForward(config)

    def forward(self, text, views, keep, with_views=True):
        """text (B, T, H), views (B, N, H), keep (B, 1, 1, T) bool -> the same two; None for views that are not wanted.

        Both directions start from the streams as they came in: the views see the text before it saw them.
        """
        seen, read = self.cross(text, views), self.cross(views, text, keep) if with_views else None
        text = self.text_feed(self.text_attention(seen, seen, keep))
        return text, self.view_feed(self.view_attention(read, read)) if with_views else None


class PrevalentBase(PreTrainedModel):
    """What the encoder alone and the encoder with its heads have in common: configuration, start values, presets."""

    config_class = PrevalentConfig
    base_model_prefix = "prevalent"
    main_input_name = "ids"

    @classmethod
    def from_preset(cls, name, vocab_size, feature_size, bert="", image_gain=1.0, **overrides):
        """A new model of a named size: 'tiny', 'small', or 'paper' (9 text and 4 cross layers of BERT-base geometry).

        feature_size  of a view, the 128 of the angles included
        bert          hub name or folder of a BERT whose embeddings and first layers are taken over; '' starts at random,
                      as the released code does
        image_gain    start weights of a view's picture part, against those of its direction. The 128 numbers of the direction
                      are made to be as loud as a picture's 2048; the few ones of a list of objects they drown, at gain 1
        overrides     other fields of PrevalentConfig
        """
        if name not in PRESETS:
            raise KeyError(unknown_name(name, PRESETS, "preset of Prevalent"))
        model = cls(PrevalentConfig(**{**PRESETS[name], "vocab_size": vocab_size, "feature_size": feature_size, **overrides}))
        encoder = getattr(model, cls.base_model_prefix, model)
        with torch.no_grad():
            encoder.view_embeddings.map.weight[:, :-ANGLE_SIZE] *= image_gain
        if bert:
            encoder.load_bert(bert)
        return model

    def _init_weights(self, module):
        """N(0, initializer_range) for weights, 0 for biases, as in BERT."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)


class Prevalent(PrevalentBase):
    """The encoder: `text` once an instruction, `cross` once a panorama, or both at once by calling it.

    >>> text = model.text(ids, mask)
    >>> out = model.cross(text, mask, views)      # out.text (B, T, H), out.pooled (B, H), out.views (B, 36, H)
    """

    def __init__(self, config):
        super().__init__(config)
        _check(config)
        self.frozen = ()
        self.embeddings = TextEmbeddings(config)
        self.text_layers = nn.ModuleList(TextLayer(config) for _ in range(config.text_layers))
        self.view_embeddings = ViewEmbeddings(config)
        self.cross_layers = nn.ModuleList(CrossLayer(config) for _ in range(config.cross_layers))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def text(self, ids, mask):
        """The text stage. ids (B, T) long, mask (B, T) True (or 1) where a token is -> (B, T, H)"""
        if ids.shape[1] > self.config.max_positions:
            raise ValueError(f"an instruction of {ids.shape[1]} tokens does not fit the model, which holds "
                             f"{self.config.max_positions}. Cut it, or train with a larger max_positions.")
        x, keep = self.embeddings(ids), mask.bool()[:, None, None, :]
        for layer in self.text_layers:
            x = layer(x, keep)
        return x

    def cross(self, text, mask, views, with_views=True, with_attention=False):
        """The cross stage, on what `text` gave.

        text            (B, T, H) float
        mask            (B, T) True where a token is
        views           (B, N, F) float  image and angle feature of each view; every view is always visible
        with_views      also give the views back; without, the last layer leaves out their half
        with_attention  also give the weights from word to view back
        -> CrossOut
        """
        if views.shape[-1] != self.config.feature_size:
            raise ValueError(f"feature_size is {self.config.feature_size} in this model but the views have "
                             f"{views.shape[-1]} numbers each. Use the features it was trained with.")
        keep, seen, weights = mask.bool()[:, None, None, :], self.view_embeddings(views), []
        for i, layer in enumerate(self.cross_layers):
            if with_attention:
                weights.append(layer.cross.weights(text, seen))
            text, seen = layer(text, seen, keep, with_views or i + 1 < len(self.cross_layers))
        return CrossOut(text, self.pool(text), seen, torch.stack(weights) if with_attention else None)

    def pool(self, text):
        """text (B, T, H) -> (B, H), of the first token"""
        return torch.tanh(self.pooler(text[:, 0]))

    def forward(self, ids, mask, views=None, **wanted):
        """Both stages: ids (B, T) long, mask (B, T), views (B, N, F) or None, `wanted` as for `cross` -> CrossOut

        Without views the cross layers are skipped, and `text` is the text stage's.
        """
        text = self.text(ids, mask)
        if views is None:
            return CrossOut(text, self.pool(text), None)
        return self.cross(text, mask, views, **wanted)

    def freeze(self, *stages):
        """Freeze these of 'text' and 'cross', and thaw the other: no gradient, no dropout, until the next call.

        A gradient still passes *through* a frozen cross stage to a text stage that learns (the released code cuts it there),
        and a frozen text stage builds no graph. Frozen parameters have requires_grad False: leave them out of the optimizer.
        """
        for stage in stages:
            if stage not in STAGES:
                raise KeyError(unknown_name(stage, STAGES, "stage of Prevalent"))
        self.frozen = stages
        for stage in STAGES:
            for part in self._parts(stage):
                part.requires_grad_(stage not in stages)
        return self.train(self.training)

    def train(self, mode=True):
        """Training mode for all but the frozen stages."""
        super().train(mode)
        for stage in self.frozen:
            for part in self._parts(stage):
                part.eval()
        return self

    def _parts(self, stage):
        return ((self.embeddings, self.text_layers) if stage == "text" else
                (self.view_embeddings, self.cross_layers, self.pooler))

    @torch.no_grad()
    def load_bert(self, name):
        """Take over the embeddings and the first `text_layers` layers of a BERT, given by hub name or folder."""
        bert, own = AutoModel.from_pretrained(name, add_pooling_layer=False), self.config
        pairs = (("vocab_size", "vocab_size"), ("hidden_size", "hidden_size"), ("num_attention_heads", "heads"),
                 ("intermediate_size", "intermediate_size"), ("max_position_embeddings", "max_positions"))
        for theirs, ours in pairs:
            found, wanted = getattr(bert.config, theirs, None), getattr(own, ours)
            if found != wanted:
                raise ValueError(f"{theirs} is {found} in '{name}' but {ours} is {wanted} here. Use {ours}={found}, or "
                                 "another BERT.")
        if len(bert.encoder.layer) < own.text_layers:
            raise ValueError(f"'{name}' has {len(bert.encoder.layer)} layers but text_layers is {own.text_layers}. "
                             "Use a deeper BERT, or fewer text_layers.")
        source = bert.embeddings
        for mine, other in ((self.embeddings.words, source.word_embeddings), (self.embeddings.norm, source.LayerNorm),
                            (self.embeddings.positions, source.position_embeddings),
                            (self.embeddings.types, source.token_type_embeddings)):
            mine.load_state_dict(other.state_dict())
        for mine, other in zip(self.text_layers, bert.encoder.layer, strict=False):
            attention, inner = other.attention, other.attention.self
            for part, taken in ((mine.attention.query, inner.query), (mine.attention.key, inner.key),
                                (mine.attention.value, inner.value), (mine.attention.output, attention.output.dense),
                                (mine.attention.norm, attention.output.LayerNorm), (mine.feed.inner, other.intermediate.dense),
                                (mine.feed.outer, other.output.dense), (mine.feed.norm, other.output.LayerNorm)):
                part.load_state_dict(taken.state_dict())

    def get_input_embeddings(self):
        return self.embeddings.words

    def set_input_embeddings(self, value):
        self.embeddings.words = value


class PrevalentForPretraining(PrevalentBase):
    """The encoder with the two heads of pre-training: masked words after the cross stage, and the next action."""

    def __init__(self, config):
        super().__init__(config)
        width = config.hidden_size
        self.prevalent = Prevalent(config)
        self.word_map = nn.Linear(width, width)
        self.word_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.word_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.action = nn.Linear(width, ACTIONS[config.action_space])
        self.post_init()

    def forward(self, ids, mask, views=None, asked=None):
        """Logits of words and action.

        ids, mask  (B, T) long with [MASK] where words are hidden, and True where a token is
        views      (B, N, F) float, or None for the text stage alone
        asked      (B, T) bool, the words to be predicted (a seventh of the work of all); None predicts every one
        -> PretrainOut
        """
        out = self.prevalent(ids, mask, views, with_views=False)
        return PretrainOut(self.words(out.text if asked is None else out.text[asked]), self.action(out.pooled))

    def words(self, text):
        """Logits over the vocabulary, by the word embeddings themselves: (..., H) -> (..., V)"""
        x = self.word_norm(functional.gelu(self.word_map(text)))
        return functional.linear(x, self.prevalent.embeddings.words.weight, self.word_bias)

    def idle_parameters(self):
        """The parameters that no head depends on: the views' half of the last cross layer."""
        last = self.prevalent.cross_layers[-1]
        return [*last.view_attention.parameters(), *last.view_feed.parameters()]


def _check(config):
    """ValueError where the fields do not make a model."""
    if config.action_space not in ACTIONS:
        raise ValueError(f"action_space is '{config.action_space}'; choose one of: {', '.join(ACTIONS)}.")
    if config.hidden_size % config.heads:
        raise ValueError(f"hidden_size {config.hidden_size} is not a multiple of heads {config.heads}. Use another pair.")
    if config.cross_layers < 1:
        raise ValueError(f"cross_layers is {config.cross_layers}; expected at least 1. Without views they are skipped anyway.")
