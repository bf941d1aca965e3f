"""Optimus: a BERT-like encoder and a GPT-2-like decoder joined by one latent vector (Li et al. 2020, section 3).

The latent z enters the decoder as *memory* (one extra key/value slot in front of every layer's self-attention), as an
*embedding* (added to every input embedding), or as *both* (the released checkpoints). The slot is handled inside the
attention function and never stored in the cache, so prompts, left padding, beams, static caches, no cache and gradient
checkpointing all see the same model.

Letters: B batch, T time, V vocabulary, Z latent, H width, L layers.
"""

from typing import NamedTuple

import torch
from torch import nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import create_masks_for_generate, sdpa_mask
from transformers.modeling_outputs import CausalLMOutputWithPast

ATTENTION = "latent_memory"
INJECTIONS = ("memory", "embedding", "both")
POOLINGS = ("pooler", "cls", "mean")
LATENT_MAPS = ("to_posterior", "to_memory", "to_embedding")  # what a model has of them depends on its injection


class Posterior(NamedTuple):
    """q(z|x) = N(mu, diag(exp(logvar))); both (B, Z) float32."""

    mu: torch.Tensor
    logvar: torch.Tensor

    def sample(self, generator=None):
        """One reparameterised draw z (B, Z): mu + exp(logvar / 2) * eps."""
        eps = torch.randn(self.mu.shape, generator=generator, device=self.mu.device, dtype=self.mu.dtype)
        return self.mu + torch.exp(0.5 * self.logvar) * eps


def memory_attention(module, query, key, value, attention_mask, memory=None, **kwargs):
    """Scaled dot-product attention with one extra slot in front, that every position may attend to.

    query (B, heads, T, d); key, value (B, kv_heads, S, d); memory (L, B, kv_heads, 1, d), the same vector as key and value;
    attention_mask (B, 1, T, S + 1) bool, made by `memory_mask`
    """
    if memory is not None:
        slot = memory[module.layer_idx].to(key.dtype)
        key, value = torch.cat([slot, key], dim=2), torch.cat([slot, value], dim=2)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def memory_mask(*args, allow_is_causal_skip=True, **kwargs):
    """The library's mask with a column of True in front, for the slot. (B, 1, T, S + 1) bool; never skipped."""
    mask = sdpa_mask(*args, allow_is_causal_skip=False, **kwargs)
    return nn.functional.pad(mask, (1, 0), value=True)


AttentionInterface.register(ATTENTION, memory_attention)
AttentionMaskInterface.register(ATTENTION, memory_mask)


class OptimusConfig(PreTrainedConfig):
    """Everything that rebuilds an Optimus: two backbone configurations and how the latent joins them."""

    model_type = "optimus"
    encoder: dict | None = None  # configuration of the encoder, as its to_dict()
    decoder: dict | None = None  # configuration of the decoder
    latent_size: int = 32  # Z; the paper: 32 for language modelling, 768 for latent manipulation
    injection: str = "both"  # memory | embedding | both (the released checkpoints)
    pooling: str = "pooler"  # pooler (the paper) | cls | mean
    latent_std: float = 0.02  # initial weights of the latent maps; 0.02 as in BERT and the paper
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = False  # the decoder ties its own

    def joint(self):
        """What of an Optimus a model made of it takes over, as keywords for its configuration."""
        names = ("encoder", "decoder", "latent_size", "injection", "pooling", "latent_std", "bos_token_id", "eos_token_id",
                 "pad_token_id")
        return {name: getattr(self, name) for name in names}

    def get_text_config(self, decoder=None, encoder=None):
        """The decoder's configuration: generation asks it for the vocabulary and the cache."""
        return build_config(self.encoder if encoder else self.decoder)


def build_config(fields):
    """A backbone's configuration object from its dict."""
    fields = dict(fields)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def longest_ids(config):
    """The most ids of a sequence for the backbone of this configuration, None where it has no bound.

    RoBERTa counts its positions from behind the padding's id.
    """
    size = getattr(config, "max_position_embeddings", None)
    return size - config.pad_token_id - 1 if size and getattr(config, "model_type", "").startswith("roberta") else size


class Optimus(PreTrainedModel, GenerationMixin):
    """The VAE as one `PreTrainedModel`: `encode`, `forward` (decode) and `generate(latent=...)`.

    >>> posterior = model.encode(input_ids, attention_mask)
    >>> ids = model.generate(latent=posterior.mu, num_beams=4, max_new_tokens=40)
    """

    config_class = OptimusConfig
    base_model_prefix = "optimus"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _can_compile_fullgraph = False

    def __init__(self, config, encoder=None, decoder=None):
        super().__init__(config)
        _check_choices(config)
        self.encoder = encoder if encoder is not None else AutoModel.from_config(build_config(config.encoder))
        self.decoder = decoder if decoder is not None else AutoModelForCausalLM.from_config(build_config(config.decoder))
        if config.pooling != "pooler" and getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # it would be trained by nothing, which DistributedDataParallel refuses
        sizes = self.decoder.config
        heads = sizes.num_attention_heads
        self.kv_heads = getattr(sizes, "num_key_value_heads", None) or heads
        self.head_dim = getattr(sizes, "head_dim", None) or sizes.hidden_size // heads
        self.n_layers = sizes.num_hidden_layers
        width = self.encoder.config.hidden_size
        # no biases, as in the paper's code; only what the injection uses is registered, so no gradient is ever missing
        self.to_posterior = nn.Linear(width, 2 * config.latent_size, bias=False)
        if config.injection in ("memory", "both"):
            _check_memory_support(self.decoder)
            self.to_memory = nn.Linear(config.latent_size, self.n_layers * self.kv_heads * self.head_dim, bias=False)
            self.decoder.config._attn_implementation = ATTENTION
        if config.injection in ("embedding", "both"):
            self.to_embedding = nn.Linear(config.latent_size, sizes.hidden_size, bias=False)
        self.post_init()

    def _init_weights(self, module):
        """N(0, latent_std) for the latent maps; the backbones bring their own."""
        if module in {getattr(self, name, None) for name in LATENT_MAPS}:
            nn.init.normal_(module.weight, std=self.config.latent_std)

    # construction

    @classmethod
    def from_backbones(cls, encoder, decoder, latent_size=32, injection="both", pooling="pooler", latent_std=0.02,
                      **tokens):
        """Join an encoder and a causal decoder, given as models, hub names or folders.

        tokens  bos_token_id, eos_token_id, pad_token_id of the decoder's tokenizer (defaults: the decoder's own)
        """
        if isinstance(encoder, str):
            encoder = AutoModel.from_pretrained(encoder)
        if isinstance(decoder, str):
            decoder = AutoModelForCausalLM.from_pretrained(decoder)
        ids = {name: tokens.pop(name, getattr(decoder.config, name, None))
               for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        if tokens:
            raise TypeError(f"unknown arguments {', '.join(tokens)}; expected bos_token_id, eos_token_id or pad_token_id.")
        config = OptimusConfig(encoder=encoder.config.to_dict(), decoder=decoder.config.to_dict(), latent_size=latent_size,
                               injection=injection, pooling=pooling, latent_std=latent_std, **ids)
        return cls(config, encoder, decoder)

    @classmethod
    def from_preset(cls, name, tokenizers, latent_size=None, injection=None, **overrides):
        """A new model of a named size: 'tiny' and 'small' start at random, 'paper' from bert-base-cased and gpt2.

        tokenizers  `dgmlab.optimus.data.Tokenizers`; they give the vocabulary sizes and the special ids
        overrides   dropout, n_positions, or (paper) encoder and decoder: hub names or folders
        """
        from dgmlab.optimus.presets import build

        return build(cls, name, tokenizers, latent_size, injection, overrides)

    # encoder

    def encode(self, input_ids, attention_mask=None):
        """q(z|x) of a batch. input_ids (B, T) long, attention_mask (B, T) 1 where a token is -> Posterior, each (B, Z)."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        features = self.pool(outputs, attention_mask)
        with torch.autocast(features.device.type, enabled=False):  # exp(logvar) and the KL want fp32
            mu, logvar = self.to_posterior(features.to(self.to_posterior.weight.dtype)).float().chunk(2, dim=-1)
        return Posterior(mu, logvar.clamp(-20, 20))

    def pool(self, outputs, attention_mask):
        """Sentence features (B, H) of the encoder's outputs, by `config.pooling`."""
        return pool_states(outputs, attention_mask, self.config.pooling)

    # decoder

    def memory(self, latent):
        """The slot of every layer: latent (B, Z) -> (L, B, kv_heads, 1, head_dim), or None with embedding injection."""
        if not hasattr(self, "to_memory"):
            return None
        slots = self.to_memory(latent.to(self.to_memory.weight.dtype))
        return slots.view(-1, self.n_layers, self.kv_heads, 1, self.head_dim).transpose(0, 1)

    def forward(self, decoder_ids=None, latent=None, attention_mask=None, position_ids=None, past_key_values=None,
                use_cache=None, input_ids=None, logits_to_keep=0, **kwargs):
        """Logits of the next token at every position, given the latent.

        decoder_ids     (B, T) long     `<bos> x`, right-padded in training (no mask needed), left-padded in generation
        latent          (B, Z) float
        attention_mask  (B, S) 1 where a token is, only needed with left padding
        position_ids    (B, T) long     counted from 0 at `<bos>`; the slot's place is added here
        -> CausalLMOutputWithPast with logits (B, T, V)
        """
        ids = decoder_ids if decoder_ids is not None else input_ids
        if latent is None:
            raise ValueError("Optimus decodes a latent vector: pass latent (B, Z), e.g. model.encode(...).mu.")
        if latent.shape[-1] != self.config.latent_size:
            raise ValueError(f"latent_size is {self.config.latent_size} in this model but the latent has "
                             f"{latent.shape[-1]} dimensions. Encode with the same model.")
        if position_ids is None:
            seen = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = (torch.arange(ids.shape[1], device=ids.device) + seen).unsqueeze(0)
        memory = self.memory(latent)
        if memory is not None:
            if self.decoder.config._attn_implementation != ATTENTION:
                raise ValueError(f"the decoder's attention is '{self.decoder.config._attn_implementation}', which would drop "
                                 f"the latent. Leave it at '{ATTENTION}', which runs the fused kernels too.")
            position_ids = position_ids + 1  # position 0 belongs to the slot, `<bos>` starts at 1
            kwargs["memory"] = memory
        embeds = self.decoder.get_input_embeddings()(ids)
        if hasattr(self, "to_embedding"):
            embeds = embeds + self.to_embedding(latent.to(self.to_embedding.weight.dtype)).unsqueeze(1)
        outputs = self.decoder(inputs_embeds=embeds, attention_mask=attention_mask, position_ids=position_ids,
                               past_key_values=past_key_values, use_cache=bool(use_cache),
                               logits_to_keep=logits_to_keep, **kwargs)
        return CausalLMOutputWithPast(logits=outputs.logits, past_key_values=outputs.past_key_values)

    @property
    def max_length(self):
        """Longest `<bos> x` the decoder can hold, in tokens."""
        size = getattr(self.decoder.config, "max_position_embeddings", None)
        return size - 1 if hasattr(self, "to_memory") else size

    @property
    def longest(self):
        """Longest sentence that both sides can hold, in tokens: `<bos>` and the encoder's two marks come on top."""
        encoder = longest_ids(self.encoder.config)
        sizes = [size for size in (self.max_length and self.max_length - 1, encoder and encoder - 2) if size]
        return min(sizes, default=10**9)

    def prepare_inputs_for_generation(self, input_ids, latent=None, **kwargs):
        """What one step of `generate` passes to `forward`."""
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)
        inputs["latent"] = latent
        return inputs

    def create_masks_for_generate(self, config, **kwargs):
        """Masks of compilable caches are made from the decoder's configuration, so that they have the slot's column."""
        return create_masks_for_generate(config=self.decoder.config, **kwargs)

    def get_input_embeddings(self):
        return self.decoder.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.decoder.set_input_embeddings(value)

    def get_output_embeddings(self):
        return self.decoder.get_output_embeddings()


def pool_states(outputs, attention_mask, pooling):
    """One vector a sentence (B, H) of an encoder's outputs. attention_mask (B, T); pooling: pooler | cls | mean"""
    if pooling == "pooler":
        if getattr(outputs, "pooler_output", None) is None:
            raise ValueError("pooling='pooler' needs an encoder that has a pooling layer; use 'cls' or 'mean' here.")
        return outputs.pooler_output
    hidden = outputs.last_hidden_state
    if pooling == "cls":
        return hidden[:, 0]
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def _check_choices(config):
    for field, choices in (("injection", INJECTIONS), ("pooling", POOLINGS)):
        if getattr(config, field) not in choices:
            raise ValueError(f"{field} is '{getattr(config, field)}'; choose one of: {', '.join(choices)}.")
    if not config.latent_size > 0:
        raise ValueError(f"latent_size is {config.latent_size}; expected a positive number of dimensions.")


def _check_memory_support(decoder):
    """Memory needs plain causal attention through the library's attention interface; a sliding window would drop the slot."""
    kinds = set(getattr(decoder.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(decoder.config, "sliding_window", None):
        window = getattr(decoder.config, "sliding_window", None)
        found = f"a sliding window of {window}" if window else ", ".join(sorted(kinds))
        raise ValueError(f"memory injection needs full attention in every layer; {type(decoder).__name__} has {found}. "
                         "Use injection='embedding'.")
    if not decoder._supports_attention_backend and not decoder._supports_sdpa:
        raise ValueError("memory injection needs a decoder that takes its attention from the library; "
                         f"{type(decoder).__name__} has its own. Use injection='embedding'.")
