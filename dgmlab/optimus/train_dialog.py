"""Training of the dialog model: responses rebuilt from both paths and from between them, the two spaces pulled together and
each pushed apart (Li et al. 2020, section 5.3; Gao et al. 2019), and a style fused into the same space.

    train(run, DialogTrainConfig(data="dailydialog", size="small"))

trains, resumes where the folder has state, and leaves model/ and results.json.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dgmlab import training
from dgmlab.data.batching import share
from dgmlab.data.dialog import load_dialog, load_style
from dgmlab.optimus.data import Corpus, Tokenizers, save_trained
from dgmlab.optimus.dialog import DialogCorpus, DialogOptimus
from dgmlab.optimus.fusion import FusionTerms, between, crowding, distances, fusion, rms, style_fusion
from dgmlab.optimus.objective import sentence_nll
from dgmlab.optimus.respond import evaluate
from dgmlab.optimus.source import open_tokenizers
from dgmlab.optimus.train import TrainConfig, build_model


@dataclass(frozen=True)
class DialogTrainConfig:
    """What a training run of the dialog model is made of. Values of Optimus's dialog script in brackets."""

    data: str = "toy"  # dialogs: toy | dailydialog | a file of `context TAB response`, or a folder of them [dailydialog]
    style: str = ""  # text of a style fused into the space, a name of `load_style`; '' fuses none
    size: str = "tiny"  # preset: tiny | small | paper
    init: str = ""  # folder of a trained Optimus to start from [a pre-trained one]; '' starts from the preset
    encoder: str = "bert-base-cased"  # paper preset: hub name or folder of the encoder
    decoder: str = "gpt2"  # paper preset: hub name or folder of the decoder
    context_layers: int = 2  # layers of the context path's own [2]
    latent_size: int = 32  # Z [768]
    injection: str = "both"  # memory | embedding | both [both]
    pooling: str = ""  # sentence features: pooler | cls | mean; '' takes the preset's [pooler]
    vocab_size: int = 0  # BPE vocabulary trained on the dialogs and the style; 0 takes whole words (the toy)
    max_context: int = 60  # tokens of a context; earlier turns are left out [512]
    max_length: int = 30  # tokens of a response; longer ones are left out
    limit: int = 0  # training exchanges taken; 0 takes all
    n_steps: int = 600  # optimiser steps
    batch_size: int = 64  # exchanges per step over all ranks
    style_batch: int = 16  # style sentences per step, where there is a style
    lr: float = 1e-3  # peak learning rate of AdamW [5e-5 from pre-trained backbones]
    warmup: int = 50  # steps of linear warm-up [0]
    clip: float = 1.0  # gradient norm [1.0]
    dropout: float = 0.1  # of the random-start presets
    pull: float = 0.5  # weight of the distance between the two spaces, against nats per token [2]
    push: float = 1.0  # weight of the distance between neighbours within a space [twice that of the pull]
    margin: float = 0.5  # RMS distance at which a neighbour is far enough [no bound]
    noise: float = 0.1  # standard deviation of the noise on points between the two [0.1]
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    seed: int = 0  # of everything
    eval_every: int = 200  # steps between looks at the validation set
    save_every: int = 500  # steps between checkpoints
    n_watch: int = 256  # validation exchanges in those looks
    n_eval: int = 300  # test contexts in the final evaluation; 0 takes all
    n_samples: int = 10  # responses a context in it [10]


SHARED = ("size", "init", "encoder", "decoder", "latent_size", "injection", "pooling", "dropout")  # with TrainConfig


class Fused(NamedTuple):
    """One pass over a batch: nats per token of each kind of reconstruction (), and the terms that shape the space.

    ae, s2s, mix   response from its own latent, from its context's, from between the two
    style          style sentences from their own latents and on the way to responses; 0 without a style
    terms          FusionTerms of the dialogs; style_terms: those of the style, or None
    """

    ae: torch.Tensor
    s2s: torch.Tensor
    mix: torch.Tensor
    style: torch.Tensor
    terms: FusionTerms
    style_terms: FusionTerms | None

    def loss(self, pull, push):
        """What is minimised: mean reconstruction + the style's + pull * distance - push * spread, of each of the spaces."""
        total = (self.ae + self.s2s + self.mix) / 3 + self.style
        for terms in (self.terms, self.style_terms):
            if terms is not None:
                total = total + pull * terms.pull - push * terms.push
        return total


class Fuser(nn.Module):
    """Both encodings, all decodings and the terms as one forward: what DistributedDataParallel needs to see."""

    def __init__(self, model, margin, noise):
        super().__init__()
        self.model, self.margin, self.noise = model, margin, noise

    def forward(self, batch, style=None):
        """A DialogBatch of (B, T) ids, and a Pair of style sentences (M, T) or None -> Fused"""
        z_ae = self.model.encode_response(batch.response.encoder_ids, batch.response.encoder_mask)
        z_s2s = self.model.encode_context(batch.context_ids, batch.context_mask, batch.speakers)
        mixed, _ = between(z_ae, z_s2s, self.noise)
        terms = fusion(z_ae, z_s2s, batch.response_keys, batch.context_keys, self.margin)
        nll = self.nll(batch.response, torch.cat([z_ae, z_s2s, mixed]))  # (3 B,)
        ae, s2s, mix = nll.view(3, -1).sum(1) / n_tokens(batch.response)
        if style is None:
            return Fused(ae, s2s, mix, ae.new_zeros(()), terms, None)
        z_style = self.model.encode_response(style.encoder_ids, style.encoder_mask)
        nearest = distances(z_style.detach(), z_ae.detach()).argmin(1)  # the response most like each style sentence
        mixed, u = between(z_style, z_ae[nearest], self.noise)
        own, styled = self.nll(style, torch.cat([z_style, mixed])).view(2, -1)
        plain = self.nll(type(style)(*(part[nearest] for part in batch.response)), mixed)
        # on the way from a response (u = 0) to the style (u = 1) the decoder goes over from one text to the other
        smooth = (u * styled).sum() / n_tokens(style) + ((1 - u) * plain).sum() / n_tokens(batch.response, nearest)
        return Fused(ae, s2s, mix, (own.sum() / n_tokens(style) + smooth) / 2, terms,
                     style_fusion(z_style, z_ae, self.margin))

    def nll(self, pair, latents):
        """-log p(text | z) in nats of a Pair of B texts, repeated to the number of latents (K B, Z) -> (K B,)"""
        k = len(latents) // len(pair.decoder_ids)
        return sentence_nll(self.model(pair.decoder_ids.repeat(k, 1), latent=latents).logits, pair.target_ids.repeat(k, 1))


def n_tokens(pair, rows=slice(None)):
    """Predicted tokens of a Pair, or of some of its rows."""
    return (pair.target_ids[rows] != -100).sum()


class DialogData(NamedTuple):
    """Tokenizers; train, valid and test, each a DialogCorpus; style and style_valid, each a Corpus, or None; toy: whether all
    right answers are known."""

    tokenizers: Tokenizers
    train: DialogCorpus
    valid: DialogCorpus
    test: DialogCorpus
    style: Corpus | None
    style_valid: Corpus | None
    toy: bool


def train(run, config):
    """Train a dialog model in the folder `run`; take up the latest checkpoint if there is one.

    run     `dgmlab.run.Run`; gets metrics.jsonl, checkpoints/, model/, results.json
    config  DialogTrainConfig
    -> dict of the final numbers, as `respond.evaluate` names them, on the test split
    """
    accelerator = training.start(config.seed, config.precision)
    main, device = accelerator.is_main_process, accelerator.device
    with training.reported(run, main):
        data = open_dialogs(run, config, accelerator)
        model = build_dialog_model(config, data.tokenizers)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, eps=1e-8, weight_decay=0.0, fused=True)
        wrapped, optimizer = accelerator.prepare(Fuser(model, config.margin, config.noise), optimizer)
        parts = {"model": wrapped, "optimizer": optimizer.optimizer}

        first = training.load_state(run, accelerator, parts)
        progress = training.Progress(run, config.n_steps, first, run.dir.name, show=main)
        epochs = training.endless(data.train.epoch_batches(config.batch_size, config.seed), first)
        styles = data.style and training.endless(data.style.epoch_batches(config.style_batch, config.seed + 1), first)
        watched, rank, world = {}, accelerator.process_index, accelerator.num_processes
        wrapped.train()
        for step in range(first, config.n_steps):
            training.set_lr(optimizer, config.lr * training.warmup_linear(step, config.n_steps, config.warmup))
            batch = data.train.batch(share(next(epochs)[1], rank, world)).to(device)
            style = data.style.pair(share(next(styles)[1], rank, world)).to(device) if styles else None
            optimizer.zero_grad(set_to_none=True)
            with training.autocast(accelerator):
                fused = wrapped(batch, style)
                loss = fused.loss(config.pull, config.push)
                accelerator.backward(loss)
            shown = torch.stack([loss, fused.ae, fused.s2s, fused.mix, fused.style, *fused.terms]).detach()
            total, ae, s2s, mix, styled, pull, push = accelerator.reduce(shown, "mean").tolist()
            training.check_finite(step + 1, loss=total)
            norm = training.clip(accelerator, wrapped, config.clip, step + 1)
            optimizer.step()

            done = step + 1
            if main and (training.every(done, 10, config.n_steps) or done == 1):
                run.log(done, loss=total, nll_ae=ae, nll_s2s=s2s, nll_mix=mix, nll_style=styled, pull=pull, push=push,
                        gradient_norm=norm, lr=optimizer.param_groups[0]["lr"])
            progress.update(done, ae=ae, s2s=s2s, pull=pull, push=push, **watched)
            if main and training.every(done, config.eval_every, config.n_steps):
                numbers = watch(model, data, autocast=accelerator.autocast)
                run.log(done, **numbers)
                watched = {"gap": numbers["gap"]}
            if training.every(done, config.save_every, config.n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()
        return finish(run, config, model, data, accelerator) if main else {}


def build_dialog_model(config, tokenizers):
    """The model a DialogTrainConfig asks for, around a trained Optimus (init) or a preset."""
    shared = {name: getattr(config, name) for name in SHARED}
    # its encoder must hold contexts, its decoder responses
    optimus = build_model(TrainConfig(max_length=max(config.max_context, config.max_length), **shared), tokenizers)
    return DialogOptimus.from_optimus(optimus, config.context_layers)


def open_dialogs(run, config, accelerator):
    """What a DialogTrainConfig trains on, and the tokenizers: those of `init`, of the run folder, or new. -> DialogData"""
    exchanges = {split: load_dialog(config.data, split, limit or None)
                 for split, limit in (("train", config.limit), ("valid", config.n_watch), ("test", 0))}
    styles = {split: load_style(config.style, split) for split in ("train", "valid")} if config.style else {}
    texts = [text for context, response in exchanges["train"] for text in (context[-1], response)] + styles.get("train", [])
    tokenizers = open_tokenizers(run, config, texts, accelerator)
    sides = {split: DialogCorpus(pairs, tokenizers, config.max_context, config.max_length, f"split {split} of '{config.data}'")
             for split, pairs in exchanges.items()}
    style, style_valid = (Corpus(styles[split], tokenizers, config.max_length, f"split {split} of '{config.style}'")
                          if styles else None for split in ("train", "valid"))
    if sides["train"].n_dropped and accelerator.is_main_process:
        print(f"train: {sides['train'].n_dropped:,} of {len(exchanges['train']):,} responses are longer than "
              f"{config.max_length} tokens and left out", flush=True)
    return DialogData(tokenizers, *sides.values(), style, style_valid, config.data == "toy")


@torch.no_grad()
def watch(model, data, batch_size=128, autocast=None):
    """The state of the two spaces on the validation exchanges.

    -> dict, without dropout and noise: val_ae, val_s2s in nats per token; gap: the latter with the contexts exchanged minus
    with the right ones, what the context tells the decoder; distance: RMS of context to response; spread_ae, spread_s2s: RMS
    of a point to its nearest other, without a bound; with a style also val_style and style_distance, to the nearest response
    """
    was_training = model.training
    model.eval()
    fuser, corpus = Fuser(model, torch.inf, 0.0), data.valid
    latents, totals = [], []
    with autocast():
        for i in range(0, len(corpus), batch_size):
            batch = corpus.batch(range(i, min(i + batch_size, len(corpus)))).to(model.device)
            z_ae = model.encode_response(batch.response.encoder_ids, batch.response.encoder_mask)
            z_s2s = model.encode_context(batch.context_ids, batch.context_mask, batch.speakers)
            nll = fuser.nll(batch.response, torch.cat([z_ae, z_s2s, z_s2s.roll(len(z_s2s) // 2, 0)]))
            totals.append([*nll.view(3, -1).sum(1).tolist(), n_tokens(batch.response).item()])
            latents.append((z_ae, z_s2s))
        z_ae, z_s2s = (torch.cat(parts) for parts in zip(*latents, strict=True))
        ae, s2s, other = (np.sum(totals, 0)[:3] / np.sum(totals, 0)[3]).tolist()
        keys = [torch.from_numpy(keys).to(model.device) for keys in (corpus.response_keys, corpus.context_keys)]
        numbers = {"val_ae": ae, "val_s2s": s2s, "gap": other - s2s, "distance": float(rms(z_ae - z_s2s).mean()),
                   "spread_ae": float(crowding(z_ae, keys[0], torch.inf)),
                   "spread_s2s": float(crowding(z_s2s, keys[1], torch.inf))}
        if data.style_valid is not None:
            style = data.style_valid.pair(range(min(len(data.style_valid), batch_size))).to(model.device)
            z_style = model.encode_response(style.encoder_ids, style.encoder_mask)
            numbers |= {"val_style": float(fuser.nll(style, z_style).sum() / n_tokens(style)),
                        "style_distance": float(distances(z_style, z_ae).amin(1).mean())}
    model.train(was_training)
    return numbers


def finish(run, config, model, data, accelerator):
    """Save the model and evaluate it on the test split; what was evaluated before is read back."""
    if done := run.finished():
        return done
    model.eval()
    state = watch(model, data, autocast=accelerator.autocast)
    model.config.radius = state["distance"]
    save_trained(run.dir / "model", model, data.tokenizers)
    numbers = {**state, **evaluate(model, data, config.n_eval, config.n_samples, config.seed)}
    run.save_results(numbers)
    return numbers
