"""Named sizes of Optimus and of the GPT-2 baseline that shares its decoder.

tiny   for tests and the grammar; small  for two CPU cores or a quick GPU run; paper  bert-base-cased + gpt2 (Li et al. 2020).
"""

from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    RobertaPreLayerNormConfig,
    RobertaPreLayerNormModel,
)

from dgmlab.config import unknown_name

# layers and widths of encoder and decoder alike; latent and injection are what from_preset takes where nothing is said
PRESETS = {
    # a pooler that starts at random learns to copy words slowly, and a faint latent is ignored before it means anything:
    # models that start at random take the mean of the states and larger weights around z
    "tiny": {"layers": 2, "width": 128, "heads": 4, "latent_size": 32, "injection": "both", "pooling": "mean",
             "latent_std": 0.04},
    # added to the embeddings, z is louder than the words, and 4 layers learn the language from words: memory only
    "small": {"layers": 4, "width": 256, "heads": 4, "latent_size": 32, "injection": "memory", "pooling": "mean",
              "latent_std": 0.04},
    "paper": {"encoder": "bert-base-cased", "decoder": "gpt2", "latent_size": 32, "injection": "both", "pooling": "pooler"},
}


def preset(name):
    """The row of PRESETS called `name`; KeyError lists the valid ones."""
    if name not in PRESETS:
        raise KeyError(unknown_name(name, PRESETS, "preset of Optimus"))
    return PRESETS[name]


def build(cls, name, tokenizers, latent_size=None, injection=None, overrides=()):
    """`Optimus.from_preset`: backbones by `name`, joined with the tokenizers' special ids."""
    row, overrides = preset(name), dict(overrides)
    pooling = overrides.pop("pooling", None) or row["pooling"]
    if name == "paper":
        encoder = AutoModel.from_pretrained(overrides.pop("encoder", row["encoder"]))
        decoder = build_decoder(name, tokenizers, decoder=overrides.pop("decoder", row["decoder"]))
    else:
        dropout, n_positions = overrides.pop("dropout", 0.1), overrides.pop("n_positions", 128)
        encoder = RobertaPreLayerNormModel(encoder_config(row, tokenizers.encoder, dropout, n_positions))
        decoder = build_decoder(name, tokenizers, dropout, n_positions)
    if overrides:
        raise TypeError(f"preset '{name}' does not take {', '.join(overrides)}.")
    return cls.from_backbones(encoder, decoder, latent_size=row["latent_size"] if latent_size is None else latent_size,
                              injection=injection or row["injection"], pooling=pooling,
                              latent_std=row.get("latent_std", 0.02), **special_ids(tokenizers.decoder))


def build_decoder(name, tokenizers, dropout=0.1, n_positions=128, decoder=None):
    """The preset's causal model alone: Optimus's decoder, and the GPT-2 baseline of the same size."""
    row, tokenizer = preset(name), tokenizers.decoder
    if name == "paper":
        model = AutoModelForCausalLM.from_pretrained(decoder or row["decoder"])
        # new rows are drawn from N(0, initializer_range), not from the mean of the old ones: as in the paper's code
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    else:
        model = GPT2LMHeadModel(decoder_config(row, tokenizer, dropout, n_positions))
    for key, value in special_ids(tokenizer).items():
        setattr(model.config, key, value)
        setattr(model.generation_config, key, value)
    return model


def special_ids(tokenizer):
    """bos, eos and pad ids of a decoder's tokenizer; they must differ, else no model learns where to stop."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if None in ids.values() or ids["pad_token_id"] == ids["eos_token_id"]:
        raise ValueError(f"the decoder's tokenizer needs distinct bos, eos and pad tokens, found {ids}.")
    return ids


def encoder_config(row, tokenizer, dropout, n_positions):
    """A BERT of this preset's size with the layer norms in front.

    BERT's own order (norms behind) does not survive a random start at the learning rates that a short run needs: on Penn
    Treebank and captions, 4 layers at 1e-3, it gave every sentence the same posterior (KL 80 nats, MI 0).
    """
    return RobertaPreLayerNormConfig(
        vocab_size=len(tokenizer), hidden_size=row["width"], num_hidden_layers=row["layers"],
        num_attention_heads=row["heads"], intermediate_size=4 * row["width"], max_position_embeddings=n_positions + 1,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0, pad_token_id=tokenizer.pad_token_id, type_vocab_size=1,
    )


def decoder_config(row, tokenizer, dropout, n_positions):
    """GPT-2 of this preset's size. Attention weights are not dropped: it would forbid the fused kernels on a CPU.

    The activation is GPT-2's own (GELU by tanh), under the name that has a fused kernel: one pass instead of eight.
    """
    return GPT2Config(
        vocab_size=len(tokenizer), n_embd=row["width"], n_layer=row["layers"], n_head=row["heads"], n_positions=n_positions,
        embd_pdrop=dropout, resid_pdrop=dropout, attn_pdrop=0.0, activation_function="gelu_pytorch_tanh",
        **special_ids(tokenizer),
    )
