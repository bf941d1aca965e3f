"""The contract every model of the house keeps: builds, runs, trains all its parameters, overfits a batch, saves and loads."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from dgmlab.data import grammar
from dgmlab.fqgan import add_fq, collect, update_dictionaries
from dgmlab.fqgan.biggan import Generator, preset
from dgmlab.fqgan.stylegan import StyleGANGenerator
from dgmlab.fqgan.stylegan_discriminator import StyleGANDiscriminator
from dgmlab.fqgan.tacgan import DISCRIMINATORS
from dgmlab.fqgan.ugatit import UGATITDiscriminator, UGATITGenerator
from dgmlab.optimus.data import Corpus, Tokenizers, paper_tokenizers, word_tokenizer
from dgmlab.optimus.model import Optimus
from dgmlab.optimus.objective import elbo

SENTENCES = grammar.sample(12, seed=11)


@pytest.fixture(scope="module", params=["tiny", "small", "paper"])
def optimus(request, backbones):
    """(model, corpus) of each preset; 'paper' from local folders, as a server without a network has them."""
    torch.manual_seed(0)
    if request.param == "paper":
        encoder, decoder = backbones
        tokenizers = paper_tokenizers(encoder, decoder)
        model = Optimus.from_preset("paper", tokenizers, latent_size=8, encoder=encoder, decoder=decoder)
    else:
        tokenizer = word_tokenizer(grammar.sentences())
        tokenizers = Tokenizers(tokenizer, tokenizer)
        model = Optimus.from_preset(request.param, tokenizers, latent_size=8, dropout=0.0, n_positions=24)
    return model, Corpus(SENTENCES, tokenizers, 40)


def terms_of(model, batch, beta=0.1):
    posterior = model.encode(batch.encoder_ids, batch.encoder_mask)
    logits = model(batch.decoder_ids, latent=posterior.sample()).logits
    return elbo(logits, batch.target_ids, posterior.mu, posterior.logvar, beta, free_bits=0.0), logits


def test_model_builds_runs_and_trains_all_its_parameters(optimus):
    model, corpus = optimus
    batch = corpus.pair(range(len(corpus)))
    terms, logits = terms_of(model.train(), batch)
    assert logits.shape == (*batch.decoder_ids.shape, len(corpus.tokenizers.decoder)) and logits.isfinite().all()
    terms.loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model.zero_grad(set_to_none=True)


def test_special_tokens_are_distinct_and_the_end_is_a_target(optimus):
    model, corpus = optimus
    ids = [model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id]
    assert len(set(ids)) == 3
    batch = corpus.pair(range(3))
    assert all((row == model.config.eos_token_id).sum() == 1 for row in batch.target_ids)
    assert (batch.decoder_ids[:, 0] == model.config.bos_token_id).all()


def test_saved_model_generates_the_same(optimus, tmp_path):
    model, corpus = optimus
    model.eval().save_pretrained(tmp_path)
    loaded = Optimus.from_pretrained(tmp_path).eval()
    latent = torch.randn(3, 8)
    options = {"max_new_tokens": 10, "do_sample": False}
    assert torch.equal(model.generate(latent=latent, **options), loaded.generate(latent=latent, **options))


def test_model_overfits_one_batch(optimus):
    model, corpus = optimus
    batch = corpus.pair(range(4))
    lr = 2e-3 if model.decoder.config.hidden_size < 200 else 7e-4
    optimizer = torch.optim.AdamW(model.eval().parameters(), lr=lr)  # eval: no dropout
    first = None
    for _ in range(120):
        terms, _ = terms_of(model, batch, beta=0.0)
        first = first or terms.rec.mean().item()
        optimizer.zero_grad()
        terms.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert terms.rec.mean().item() < 0.2 * first


# the networks of GANs: name -> (its constructor, its inputs), small enough for a batch in some milliseconds

TINY, CIFAR10 = preset("tiny", n_classes=3), preset("cifar10", width=4, n_classes=3)
LABELS = torch.arange(4) % 3
STYLE = {"resolution": 16, "channel_base": 128, "channel_max": 8}


def pictures(side):
    return torch.rand(4, 3, side, side) * 2 - 1


def with_fq(build, inputs, layers):
    return lambda: add_fq(build(), layers, n_codes=8, example=inputs())


GENERATORS = {
    "BigGAN": (lambda: Generator(TINY), lambda: (torch.randn(4, TINY.latent_size), LABELS)),
    "BigGAN of CIFAR-10": (lambda: Generator(CIFAR10), lambda: (torch.randn(4, 128), LABELS)),
    "StyleGAN2": (lambda: StyleGANGenerator(z_dim=8, w_dim=8, n_mapping=2, **STYLE), lambda: (torch.randn(4, 8),)),
    "U-GAT-IT": (lambda: UGATITGenerator(16, channels=4, n_blocks=1), lambda: (pictures(16),)),
    "U-GAT-IT, light": (lambda: UGATITGenerator(16, light=True, channels=4, n_blocks=1), lambda: (pictures(16),)),
}
JUDGES = {
    **{f"{head} head": (lambda D=D: D(TINY), lambda: (pictures(32), LABELS), ["blocks.0", "blocks.3"])
       for head, D in DISCRIMINATORS.items()},
    "D of CIFAR-10": (lambda: DISCRIMINATORS["projection"](CIFAR10), lambda: (pictures(32), LABELS), ["blocks.1"]),
    "D of StyleGAN2": (lambda: StyleGANDiscriminator(**STYLE), lambda: (pictures(16),), ["blocks.16", "blocks.8"]),
    "D of U-GAT-IT": (lambda: UGATITDiscriminator(4, channels=4), lambda: (pictures(16),), ["blocks.0", "blocks.1"]),
}
NETWORKS = {
    **GENERATORS,
    **{name: (build, inputs) for name, (build, inputs, _) in JUDGES.items()},
    **{f"{name} with FQ": (with_fq(build, inputs, layers), inputs) for name, (build, inputs, layers) in JUDGES.items()},
}


@pytest.fixture(params=NETWORKS)
def network(request):
    """(constructor, inputs, network) with the randomness of the test's own seed."""
    torch.manual_seed(0)
    build, inputs = NETWORKS[request.param]
    return build, inputs(), build()


def answers(net, inputs):
    """All real-valued tensors of a network's answer, the commitment term of its dictionaries besides."""
    fixed = {"noise": "fixed"} if isinstance(net, StyleGANGenerator) else {}
    out = net(*inputs, **fixed)
    found = [t for t in (out if isinstance(out, tuple) else (out,)) if isinstance(t, torch.Tensor)]
    return found + ([collect(net).commit] if any(hasattr(part, "fq") for part in net.modules()) else [])


def same(some, others):
    return len(some) == len(others) and all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_network_trains_all_its_parameters(network):
    _, inputs, net = network
    found = answers(net, inputs)
    assert all(t.isfinite().all() and t.dtype == torch.float32 for t in found)
    sum(t.square().sum() for t in found if t.requires_grad).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert silent == []


def test_steps_bring_the_answer_nearer_to_another(network):
    _, inputs, net = network
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=1e-3), []
    start = answers(net, inputs)[0].detach()
    wanted = start + start.abs().mean().clamp(min=0.1) * (1 + 0.1 * torch.randn_like(start))  # scores may be some tens
    for _ in range(12):
        losses.append((answers(net, inputs)[0] - wanted).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
        update_dictionaries(net)
    assert min(losses) < 0.8 * losses[0], [round(loss.item(), 4) for loss in losses]


def test_network_is_the_same_after_saving(network, tmp_path):
    build, inputs, net = network
    answers(net, inputs)  # statistics, vectors and dictionaries leave their start
    update_dictionaries(net)
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, tmp_path / "state.safetensors")
    loaded = build()
    loaded.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert same(answers(net.eval(), inputs), answers(loaded.eval(), inputs))
    if not any(hasattr(part, "fq") for part in net.modules()):
        net.save_pretrained(tmp_path / "hub")
        assert same(answers(type(net).from_pretrained(tmp_path / "hub").eval(), inputs), answers(net, inputs))


def test_copy_of_a_network_is_equal_and_its_own(network):
    _, inputs, net = network
    answers(net, inputs)
    twin = copy.deepcopy(net).eval()
    before = answers(net.eval(), inputs)
    assert same(answers(twin, inputs), before)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *(b for b in twin.buffers() if b.is_floating_point())):
            tensor.normal_()
    assert same(answers(net, inputs), before) and not same(answers(twin, inputs), before)


def test_network_trains_under_bf16_and_in_channels_last(network):
    _, inputs, net = network
    wanted = answers(net.eval(), inputs)[0]
    net.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = answers(net.train(), inputs)
        assert found[0].shape == wanted.shape and all(t.isfinite().all() for t in found)
        sum(t.float().square().mean() for t in found if t.requires_grad).backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in net.parameters())
