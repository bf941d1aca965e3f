"""Optimus's model: the memory slot against hand-written attention, and every way of decoding against every other."""

import math

import pytest
import torch
from torch.nn import functional
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from dgmlab.optimus.model import INJECTIONS, POOLINGS, Optimus

V, Z, BOS, EOS, PAD = 40, 6, 1, 2, 0
TOKENS = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}


def make_model(injection="both", pooling="pooler", decoder=None, seed=0):
    torch.manual_seed(seed)
    encoder = BertModel(BertConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                   intermediate_size=64, max_position_embeddings=40))
    decoder = decoder or GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=32, n_layer=3, n_head=4, n_positions=48,
                                                    embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0, **TOKENS))
    model = Optimus.from_backbones(encoder, decoder, latent_size=Z, injection=injection, pooling=pooling, **TOKENS)
    with torch.no_grad():  # a random start this small would hide errors below the tolerance
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.25)
    return model.eval()


def reference_logits(model, ids, latent):
    """GPT-2 with one extra key/value slot, written out by hand in float64: no library attention, no cache."""
    gpt = model.decoder.transformer
    w = {name: p.detach().double() for name, p in model.decoder.named_parameters()}
    latent = latent.double()
    batch, length = ids.shape
    memory = model.config.injection in ("memory", "both")
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][torch.arange(length) + (1 if memory else 0)]
    if model.config.injection in ("embedding", "both"):
        x = x + (latent @ model.to_embedding.weight.double().T)[:, None]
    width, heads = x.shape[-1], gpt.config.n_head
    for layer in range(gpt.config.n_layer):
        def p(name, layer=layer):
            return w[f"transformer.h.{layer}.{name}"]

        h = functional.layer_norm(x, (width,), p("ln_1.weight"), p("ln_1.bias"), 1e-5)
        q, k, v = (h @ p("attn.c_attn.weight") + p("attn.c_attn.bias")).split(width, -1)
        if memory:
            slot = (latent @ model.to_memory.weight.double().T)[:, layer * width:(layer + 1) * width][:, None]
            k, v = torch.cat([slot, k], 1), torch.cat([slot, v], 1)
        out = torch.zeros_like(h)
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(width // heads)
            for t in range(length):
                scores[:, t, t + 1 + (1 if memory else 0):] = -math.inf
            out[..., part] = scores.softmax(-1) @ v[..., part]
        x = x + out @ p("attn.c_proj.weight") + p("attn.c_proj.bias")
        h = functional.layer_norm(x, (width,), p("ln_2.weight"), p("ln_2.bias"), 1e-5)
        h = functional.gelu(h @ p("mlp.c_fc.weight") + p("mlp.c_fc.bias"), approximate="tanh")
        x = x + h @ p("mlp.c_proj.weight") + p("mlp.c_proj.bias")
    x = functional.layer_norm(x, (width,), w["transformer.ln_f.weight"], w["transformer.ln_f.bias"], 1e-5)
    return x @ w["transformer.wte.weight"].T


@pytest.mark.parametrize("injection", INJECTIONS)
def test_logits_equal_attention_written_by_hand(injection):
    model = make_model(injection)
    ids, latent = torch.randint(3, V, (5, 9)), torch.randn(5, Z)
    ours = model(ids, latent=latent).logits
    assert torch.allclose(ours.double(), reference_logits(model, ids, latent), atol=1e-5, rtol=1e-4)
    assert torch.allclose(model.double()(ids, latent=latent.double()).logits, reference_logits(model, ids, latent), atol=1e-10)


def decode(model, latent, prompt=None, **kwargs):
    kwargs = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": -1, **kwargs}
    if prompt is None:
        return model.generate(latent=latent, **kwargs)
    return model.generate(prompt, attention_mask=(prompt != PAD).long(), latent=latent, **kwargs)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_cached_uncached_batched_static_and_beam_one_decode_alike(injection):
    model = make_model(injection)
    latent = torch.randn(6, Z)
    cached = decode(model, latent)
    assert len({tuple(row.tolist()) for row in cached}) > 1, "every latent decodes alike: the test would show nothing"
    assert torch.equal(cached, decode(model, latent, use_cache=False))
    assert torch.equal(cached, torch.cat([decode(model, latent[i:i + 1]) for i in range(6)]))
    assert torch.equal(cached, decode(model, latent, num_beams=1, num_return_sequences=1))
    assert torch.equal(cached, decode(model, latent, cache_implementation="static", disable_compile=True))
    stepwise = torch.full((6, 1), BOS)
    for _ in range(12):
        stepwise = torch.cat([stepwise, reference_logits(model, stepwise, latent)[:, -1:].argmax(-1)], 1)
    assert torch.equal(cached, stepwise)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_left_padded_prompts_decode_as_they_do_alone(injection, static):
    model, latent = make_model(injection), torch.randn(3, Z)
    prompts = torch.tensor([[PAD, PAD, BOS, 7], [PAD, BOS, 8, 9], [BOS, 5, 6, 7]])
    options = {"cache_implementation": "static", "disable_compile": True} if static else {}
    together = decode(model, latent, prompts, **options)
    for row in range(3):
        start = int((prompts[row] == PAD).sum())
        alone = decode(model, latent[row:row + 1], prompts[row:row + 1, start:])
        assert torch.equal(together[row, start:], alone[0])


@pytest.mark.parametrize("injection", INJECTIONS)
def test_beams_and_return_sequences_are_those_of_single_sentences(injection):
    model, latent = make_model(injection), torch.randn(3, Z)
    options = {"num_beams": 4, "num_return_sequences": 2, "eos_token_id": EOS}
    together = decode(model, latent, **options)
    assert together.shape[0] == 6
    for row in range(3):
        alone = decode(model, latent[row:row + 1], **options)
        width = min(alone.shape[1], together.shape[1])
        assert torch.equal(together[2 * row:2 * row + 2, :width], alone[:, :width])
    assert torch.equal(together, decode(model, latent, use_cache=False, **options))


def test_gradients_with_and_without_checkpointing_are_equal():
    ids, results = torch.randint(3, V, (4, 8)), []
    for checkpointing in (False, True):
        model = make_model("both").train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            assert model.decoder.transformer.gradient_checkpointing
        latent = torch.randn(4, Z, generator=torch.Generator().manual_seed(3)).requires_grad_()
        model(ids, latent=latent).logits.float().square().mean().backward()
        results.append([latent.grad, *(p.grad for p in model.decoder.parameters()), model.to_memory.weight.grad])
    for plain, checkpointed in zip(*results, strict=True):
        assert plain.abs().sum() > 0
        assert torch.allclose(plain, checkpointed, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_does_not_change_the_posterior(pooling):
    model = make_model(pooling=pooling)
    ids = torch.randint(3, V, (2, 7))
    padded = torch.cat([ids, torch.zeros(2, 5, dtype=torch.long)], 1)
    alone, masked = model.encode(ids), model.encode(padded, (padded != 0).long())
    assert torch.allclose(alone.mu, masked.mu, atol=1e-5) and torch.allclose(alone.logvar, masked.logvar, atol=1e-5)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_saved_and_loaded_model_is_the_same(injection, tmp_path):
    model, latent = make_model(injection), torch.randn(2, Z)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"config.json", "model.safetensors"}
    loaded = Optimus.from_pretrained(tmp_path).eval()
    ids = torch.randint(3, V, (2, 6))
    assert torch.equal(model(ids, latent=latent).logits, loaded(ids, latent=latent).logits)
    assert torch.equal(model.encode(ids).mu, loaded.encode(ids).mu)
    assert loaded.decoder.lm_head.weight is loaded.decoder.transformer.wte.weight
    assert torch.equal(decode(model, latent), decode(loaded, latent))


@pytest.mark.parametrize("injection", INJECTIONS)
def test_every_parameter_gets_a_gradient(injection):
    model = make_model(injection).train()
    ids = torch.randint(3, V, (4, 8))
    posterior = model.encode(ids)
    model(ids, latent=posterior.sample()).logits.float().square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert silent == []


def test_grouped_query_decoder_with_rotary_positions_decodes_alike():
    torch.manual_seed(1)
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=V, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=48, **TOKENS))
    model, latent = make_model("memory", decoder=llama), torch.randn(3, Z)
    assert torch.equal(decode(model, latent), decode(model, latent, use_cache=False))


def test_memory_in_bfloat16_follows_the_weights():
    model, ids = make_model("both").to(torch.bfloat16), torch.randint(3, V, (2, 5))
    logits = model(ids, latent=model.encode(ids).mu).logits
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()


def test_wrong_choices_and_missing_latents_are_one_line_errors():
    with pytest.raises(ValueError, match="injection is 'memmory'; choose one of: memory, embedding, both"):
        make_model("memmory")
    with pytest.raises(ValueError, match="GPTNeoForCausalLM has its own. Use injection='embedding'"):
        make_model(decoder=GPTNeoForCausalLM(GPTNeoConfig(vocab_size=40, hidden_size=16, num_layers=1, num_heads=2,
                                                          attention_types=[[["global"], 1]])))
    model = make_model()
    with pytest.raises(ValueError, match="pass latent"):
        model(torch.ones(1, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=f"latent_size is {Z} in this model but the latent has 3 dimensions"):
        model(torch.ones(1, 2, dtype=torch.long), latent=torch.zeros(1, 3))
    model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="attention is 'eager', which would drop the latent"):
        model(torch.ones(1, 2, dtype=torch.long), latent=torch.zeros(1, Z))
