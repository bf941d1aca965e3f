"""Speed as a ratio against a named peer, both measured in one run, in turns; never as a timed unit test.

    dgmlab bench                 all of them
    dgmlab bench generation iw   some

Each benchmark first checks that both sides compute the same thing. Times are medians; the ratio is taken pair by pair, so
that a drift of the machine's speed cancels, and printed with its range.
"""

import statistics
import time
from functools import partial
from importlib import import_module
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.config import unknown_name
from dgmlab.run import environment, home, write_json


class Result(NamedTuple):
    """One comparison. ratio = peer seconds / our seconds (or ours / peer where `target` is an upper bound)."""

    name: str
    ours: str
    peer: str
    ours_s: float
    peer_s: float
    ratio: float
    low: float
    high: float
    target: str
    met: bool
    check: str  # what was verified to be equal, with the numbers


def alternate(ours, peer, rounds, warmup=1):
    """Seconds of both callables, called in turns -> (list, list) of `rounds` each."""
    for _ in range(warmup):
        ours()
        peer()
    seconds = ([], [])
    for _ in range(rounds):
        for call, times in zip((ours, peer), seconds, strict=True):
            began = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
    return seconds


def faster(name, ours, peer, labels, target, check, rounds=3, warmup=1, scale=1.0):
    """A Result that wants peer / ours >= target. scale: how many times the peer's call stands for the full work."""
    a, b = alternate(ours, peer, rounds, warmup)
    ratios = [scale * y / x for x, y in zip(a, b, strict=True)]
    ratio = statistics.median(ratios)
    return Result(name, *labels, statistics.median(a), scale * statistics.median(b), ratio, min(ratios), max(ratios),
                  f">= {target:g}", ratio >= target, check)


def at_most(name, seconds, labels, target, check):
    """A Result that wants ours / peer <= target, of the two lists of `alternate`; the range is that of 80 % of the pairs."""
    ratios = [x / y for x, y in zip(*seconds, strict=True)]
    ratio = statistics.median(ratios)
    low, high = np.quantile(ratios, [0.1, 0.9])
    return Result(name, *labels, *map(statistics.median, seconds), ratio, float(low), float(high), f"<= {target:g}",
                  ratio <= target, check)


def small_model(n_sentences=1000, seed=0):
    """A `small` Optimus with random weights in fp32, and grammar sentences repeated to some 25 words: (model, corpus)."""
    from dgmlab.data import grammar
    from dgmlab.optimus.data import bpe_tokenizer

    pieces = grammar.sample(4 * n_sentences, seed)
    rng = np.random.default_rng(seed)
    sentences = [" ".join(rng.choice(pieces, size=rng.integers(1, 5))) for _ in range(n_sentences)]
    # a vocabulary of the real size: the output layer is most of a small decoder's work
    tokenizer = bpe_tokenizer(sentences)
    tokenizer.add_tokens([f"<filler{i}>" for i in range(8000 - len(tokenizer))])
    return _fresh_model("small", tokenizer, sentences, seed)


def grammar_model(n_sentences=1000, seed=0):
    """A `tiny` Optimus as the notebooks train it, at its random start, and sentences of the grammar: (model, corpus)."""
    from dgmlab.data import grammar
    from dgmlab.optimus.data import word_tokenizer

    sentences = grammar.sample(n_sentences, seed)
    return _fresh_model("tiny", word_tokenizer(sentences), sentences, seed, latent_size=16)


def _fresh_model(size, tokenizer, sentences, seed, **options):
    """(model in evaluation mode at its random start, corpus), on the GPU where there is one."""
    from dgmlab.optimus.data import Corpus, Tokenizers
    from dgmlab.optimus.model import Optimus

    tokenizers = Tokenizers(tokenizer, tokenizer)
    torch.manual_seed(seed)
    model = Optimus.from_preset(size, tokenizers, **options)
    model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return model, Corpus(sentences, tokenizers, 60)


@torch.no_grad()
def generation():
    """32 sentences of 40 tokens, greedy: one cached batch against the original's loop, and against a batch without cache."""
    model, _ = small_model(64)
    latent = torch.randn(32, model.config.latent_size, device=model.device)
    bos = model.config.bos_token_id

    def cached(use_cache=True):
        return model.generate(latent=latent, max_new_tokens=40, min_new_tokens=40, do_sample=False, use_cache=use_cache)

    def prefix_of_one(rows=4):
        """The original's decoding: one sentence at a time, the whole prefix again for every token."""
        texts = []
        for row in latent[:rows]:
            ids = torch.full((1, 1), bos, device=model.device)
            for _ in range(40):
                logits = model(ids, latent=row[None]).logits[:, -1].clone()
                logits[:, model.config.eos_token_id] = -torch.inf
                ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
            texts.append(ids)
        return torch.cat(texts)

    same = bool(torch.equal(cached()[:4], prefix_of_one()) and torch.equal(cached(), cached(use_cache=False)))
    check = f"token for token equal: {same}"
    return [
        faster("generation, 32 x 40 tokens", cached, prefix_of_one, ("generate, cached batch", "prefix re-run, one by one"),
               10 if same else float("inf"), check, scale=8),
        faster("generation, 32 x 40 tokens", cached, lambda: cached(use_cache=False),
               ("generate, cached batch", "prefix re-run, batched"), 10 if same else float("inf"), check),
    ]


def iw():
    """Importance-weighted likelihood of 1,000 sentences with K = 100: encode once and batch, against batch-1 re-encoding.

    Twice: the default model on the grammar (10 tokens a sentence, 85 in the vocabulary), and `small` with a real vocabulary
    (26 tokens, 8,000 pieces), where arithmetic outweighs the calls that batching saves.
    """
    return [_iw("tiny, the grammar", *grammar_model()), _iw("small, 26 tokens of 8,000", *small_model(1000))]


@torch.no_grad()
def _iw(label, model, corpus, n_samples=100, n_peer=4):
    from dgmlab.optimus.data import Corpus
    from dgmlab.optimus.evaluate import importance_weighted_nll
    from dgmlab.optimus.objective import sentence_nll
    from dgmlab.training import native_bf16

    def reencoding(rows=range(n_peer), generator=None):
        """Each of the K samples of a sentence encodes the sentence again and decodes it alone, in batches of one."""
        nll = []
        for row in rows:
            batch, weights = corpus.pair([row]).to(model.device), []
            for _ in range(n_samples):
                posterior = model.encode(batch.encoder_ids, batch.encoder_mask)
                eps = torch.randn(posterior.mu.shape, generator=generator).to(model.device)
                z = posterior.mu + torch.exp(0.5 * posterior.logvar) * eps
                loss = sentence_nll(model(batch.decoder_ids, latent=z).logits, batch.target_ids)
                ratio = (-0.5 * z.square() + 0.5 * eps.square() + 0.5 * posterior.logvar).sum(1)
                weights.append((ratio - loss).double())
            nll.append(float(np.log(n_samples) - torch.logsumexp(torch.cat(weights), 0)))
        return np.array(nll)

    kind, wide = torch.device(model.device).type, model.decoder.config.vocab_size > 1000
    half = (lambda: torch.autocast(kind, torch.bfloat16)) if wide and native_bf16() else None  # what training would choose
    few = Corpus(corpus.sentences[:n_peer], corpus.tokenizers, 60)
    ours = importance_weighted_nll(model, few, n_samples).nll
    again = importance_weighted_nll(model, few, n_samples, seed=1, autocast=half).nll
    theirs = reencoding(generator=torch.Generator().manual_seed(2))
    check = (f"nats of {n_peer} sentences: {ours.round(3).tolist()} ours in fp32, {again.round(3).tolist()} ours with other "
             f"samples{' in bf16' if half else ''}, {theirs.round(3).tolist()} peer")
    return faster(f"importance-weighted NLL, 1,000 x K = 100, {label}, {'bf16' if half else 'fp32'}",
                  partial(importance_weighted_nll, model, corpus, n_samples, autocast=half), reencoding,
                  ("encode once, batched", "re-encode, batches of one"), 20, check, rounds=1, warmup=0,
                  scale=len(corpus) / n_peer)


def step():
    """One training step of Optimus against its encoder and its decoder stepped alone on the same batch."""
    from dgmlab import training
    from dgmlab.optimus.objective import elbo, sentence_nll
    from dgmlab.optimus.presets import build_decoder
    from dgmlab.optimus.train import Autoencoder

    model, corpus = small_model(256)
    model.train()
    batch = corpus.pair(corpus.epoch_batches(64, 0)(0)[0]).to(model.device)
    alone = build_decoder("small", corpus.tokenizers).to(model.device).train()
    whole = Autoencoder(model)
    accelerator = training.start(0)
    optimizers = [torch.optim.AdamW(part.parameters(), lr=1e-4, fused=True) for part in (model, model.encoder, alone)]

    def finish(loss, optimizer, module):
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def optimus():
        with training.autocast(accelerator):
            logits, posterior = whole(batch)
        finish(elbo(logits, batch.target_ids, posterior.mu, posterior.logvar, 1.0).loss, optimizers[0], model)

    def parts():
        with training.autocast(accelerator):
            hidden = model.encoder(input_ids=batch.encoder_ids, attention_mask=batch.encoder_mask).last_hidden_state
        finish(hidden.float().square().mean(), optimizers[1], model.encoder)
        with training.autocast(accelerator):
            logits = alone(batch.decoder_ids, use_cache=False).logits
        finish(sentence_nll(logits, batch.target_ids).mean(), optimizers[2], alone)

    return [at_most("training step, batch of 64", alternate(optimus, parts, rounds=15, warmup=3),
                    ("Optimus", "encoder step + GPT-2 step"), 1.1, f"mixed precision: {accelerator.mixed_precision}")]


BENCHMARKS = {"generation": "bench", "iw": "bench", "step": "bench", "frechet": "bench_gan", "quantizer": "bench_gan",
              "discriminator": "bench_gan", "simulator": "bench_navigation",
              "houses": "bench_navigation"}  # function -> module


def main(names=()):
    """Run the named benchmarks (all by default), print a line each, keep them in runs/bench.json -> list of Result."""
    for name in names:
        if name not in BENCHMARKS:
            raise KeyError(unknown_name(name, BENCHMARKS, "benchmark"))
    results = []
    print(f"{environment()['device']}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in names or BENCHMARKS:
        try:
            found = getattr(import_module(f"dgmlab.{BENCHMARKS[name]}"), name)()
        except ModuleNotFoundError as error:
            if names:
                raise
            print(f"{name}: not run; {error}", flush=True)
            continue
        for result in found:
            results.append(result)
            print(f"{result.name}: {result.ours} {result.ours_s:.3g} s, {result.peer} {result.peer_s:.3g} s, "
                  f"ratio {result.ratio:.2f} [{result.low:.2f}, {result.high:.2f}] (target {result.target}: "
                  f"{'met' if result.met else 'MISSED'}); {result.check}", flush=True)
    write_json(home() / "runs" / "bench.json", {"env": environment(), "results": [result._asdict() for result in results]})
    return results
