"""Training of a conditional Optimus: reconstruct with the own label, hide the label from z, and learn from own transfers.

    train(run, ConditionalConfig(data="yelp_short", size="small"))

trains, resumes where the folder has state, and leaves model/ and results.json. A step has these terms, each with a weight:

    rec, kl        the ELBO with the decoder reading z + e(label)
    bag            the words of the sentence, in no order, from z + e(label) alone by one linear map (Zhao et al. 2017):
                   a short way from words to z, without which a decoder that starts at random is slow to listen to z
    confusion      the encoder against the reader of z; the reader learns beside it
    style          from `transfer_from` on: the sentence is rewritten greedily with another label, and a reader of text,
                   trained beside on real sentences, says how to make the label plainer
    cycle          the rewriting is encoded and decoded with the true label, and must give the sentence back (back-translation;
                   Lample et al. 2019, "Multiple-attribute text rewriting")

CARA, as described by Li et al. 2020, has the first two lines and a style term; the cycle keeps the content where models are
small.
The judge that scores transfers is none of these readers: see `dgmlab.metrics.style`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dgmlab import training
from dgmlab.data.batching import pad, share
from dgmlab.data.references import align, load_references
from dgmlab.data.text import Labelled, load_labelled
from dgmlab.metrics.style import StyleJudge, TrigramModel, check_labels
from dgmlab.optimus.adversary import (
    LatentClassifier,
    TextClassifier,
    adversary_loss,
    classifier_loss,
    confusion,
    style_loss,
)
from dgmlab.optimus.conditional import ConditionalOptimus
from dgmlab.optimus.data import Corpus, Pair, Tokenizers, encoder_batch, model_folder, save_trained, to_text
from dgmlab.optimus.evaluate import encode_corpus
from dgmlab.optimus.model import Optimus
from dgmlab.optimus.objective import cyclical_beta, elbo, sentence_nll
from dgmlab.optimus.source import open_tokenizers
from dgmlab.optimus.transfer import evaluate_transfer, watch_transfer


@dataclass(frozen=True)
class ConditionalConfig:
    """What a training run of a conditional model is made of. The released CARA's values in brackets."""

    data: str = "grammar:sentiment"  # labelled corpus: a name of `load_labelled`, or a .tsv or .jsonl file with labels [yelp]
    references: bool = False  # score against the human rewritings that lie beside the corpus, too
    judge: str = ""  # labelled corpus the judge is trained on; '' takes `judge_share` of the training sentences
    judge_share: float = 0.25  # share of the training sentences that only the judge sees
    size: str = "tiny"  # preset: tiny | small | paper
    init: str = ""  # folder of a trained Optimus to start from; '' starts from the preset
    encoder: str = "bert-base-cased"  # paper preset: hub name or folder of the encoder
    decoder: str = "gpt2"  # paper preset: hub name or folder of the decoder
    latent_size: int = 64  # Z; with init, 0 keeps its own latent maps and a number starts new ones [768]
    injection: str = "memory"  # memory | embedding | both; with init, that of init counts [both]
    vocab_size: int = 0  # BPE vocabulary trained on the corpus; 0 takes whole words (the grammar)
    max_length: int = 24  # longest sentence in tokens; longer ones are dropped
    limit: int = 0  # sentences taken from the training split; 0 takes all
    n_steps: int = 600  # optimiser steps
    batch_size: int = 64  # sentences per step over all ranks
    lr: float = 1e-3  # peak learning rate of AdamW [5e-6]
    warmup: int = 100  # steps of linear warm-up
    clip: float = 1.0  # gradient norm of the model; the readers are not clipped
    dropout: float = 0.0  # of the random-start presets
    beta: float = 0.02  # weight of the KL at the plateau: little, for content [0: CARA's z is deterministic]
    ratio_zero: float = 0.0  # share of the run at beta = 0; there z grows without bounds and drowns the label
    ratio_increase: float = 0.1  # share of the run on the ramp
    free_bits: float = 0.0  # threshold of the KL per sample and dimension, nats
    bag: float = 1.0  # weight of the bag of words [absent]
    confusion: float = 2.0  # weight of hiding the label from z [0.0: inert]
    style: float = 1.0  # weight of the wanted label in own rewritings [0.0: inert]
    cycle: float = 0.5  # weight of giving the sentence back from its rewriting
    transfer_from: float = 0.4  # share of the run before style and cycle begin: rewriting needs a model that can write
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    seed: int = 0  # of everything
    eval_every: int = 200  # steps between looks at the validation set
    save_every: int = 500  # steps between checkpoints
    n_watch: int = 400  # validation sentences in those looks
    n_eval: int = 1000  # test sentences in the final evaluation; 0 takes all


class Terms(NamedTuple):
    """loss () to minimise, and its parts, each a mean over sentences in nats; zeros where a term is off."""

    loss: torch.Tensor
    rec: torch.Tensor
    kl: torch.Tensor
    bag: torch.Tensor
    adversary: torch.Tensor
    confusion: torch.Tensor
    classifier: torch.Tensor
    style: torch.Tensor
    cycle: torch.Tensor


class Objective(nn.Module):
    """The model, its readers and the bag of words, and all terms as one forward: what DistributedDataParallel needs to see."""

    def __init__(self, model, tokenizers, config):
        super().__init__()
        n_labels = len(model.label_names)
        self.model, self.tokenizers, self.config = model, tokenizers, config
        self.adversary = LatentClassifier(model.config.latent_size, n_labels)
        self.classifier = TextClassifier(len(tokenizers.decoder), n_labels)
        self.bag = nn.Linear(model.config.latent_size, len(tokenizers.decoder))

    def forward(self, batch, labels, wanted, beta, rewriting):
        """Pair of (B, T) ids; labels, wanted (B,) long; beta: weight of the KL; rewriting: style and cycle on -> Terms"""
        model, config = self.model, self.config
        posterior = model.encode(batch.encoder_ids, batch.encoder_mask)
        z = posterior.sample()
        latent = model.condition(z, labels)
        logits = model(batch.decoder_ids, latent=latent).logits
        bag = bag_of_words(self.bag(latent), batch.target_ids, self.tokenizers.decoder.eos_token_id)
        terms = elbo(logits, batch.target_ids, posterior.mu, posterior.logvar, beta, config.free_bits)
        # of draws, not of means: what is fainter than the noise is not heard by the decoder either, and cleaning it would
        # take gradients without bounds
        adversary, confused = adversary_loss(self.adversary, z, labels), confusion(self.adversary, z)
        classifier = classifier_loss(self.classifier, batch.target_ids, labels)
        loss = terms.loss + config.bag * bag + config.confusion * confused + adversary + classifier
        style = cycle = torch.zeros_like(loss)
        if rewriting:
            swapped = model.condition(posterior.mu.detach(), wanted)  # z is free of the label by other terms
            written = self.rewrite(swapped, batch.decoder_ids.shape[1] + 2)
            if config.style:
                logits = model(written.decoder_ids, latent=swapped).logits
                style = style_loss(self.classifier, logits, written.target_ids, wanted)
            if config.cycle:
                back = model.encode(written.encoder_ids, written.encoder_mask).sample()
                logits = model(batch.decoder_ids, latent=model.condition(back, labels)).logits
                cycle = sentence_nll(logits, batch.target_ids).mean()
            loss = loss + config.style * style + config.cycle * cycle
        return Terms(loss, terms.rec.mean(), terms.kl.mean(), bag, adversary, confused, classifier, style, cycle)

    @torch.no_grad()
    def rewrite(self, latent, max_new_tokens):
        """What the model writes greedily of latent (B, Z), as a Pair; through text: the sides may cut words differently."""
        model, (encoder, decoder) = self.model, self.tokenizers
        start = torch.full((len(latent), 1), decoder.bos_token_id, device=latent.device)
        ids = model.generate(start, attention_mask=torch.ones_like(start), latent=latent, do_sample=False,
                             max_new_tokens=min(max_new_tokens, model.max_length - 1))
        texts = to_text(decoder, ids)
        encoder_rows, rows = ([row[:model.longest] for row in side(texts, add_special_tokens=False)["input_ids"]]
                              for side in (encoder, decoder))
        return Pair(*encoder_batch(encoder, encoder_rows),
                    pad([[decoder.bos_token_id, *row] for row in rows], decoder.pad_token_id),
                    pad([[*row, decoder.eos_token_id] for row in rows], -100)).to(latent.device)


def bag_of_words(logits, target_ids, eos_token_id):
    """-log p of a sentence's words, in nats, if each were drawn from logits (B, V) alone; `<eos>` is no word -> ()"""
    words = (target_ids != -100) & (target_ids != eos_token_id)
    log_probs = logits.float().log_softmax(-1).gather(1, target_ids.clamp(min=0))  # (B, T)
    return -(log_probs * words).sum(1).mean()


def train(run, config):
    """Train a conditional Optimus in the folder `run`; take up the latest checkpoint if there is one.

    run     `dgmlab.run.Run`; gets metrics.jsonl, checkpoints/, model/, results.json
    config  ConditionalConfig
    -> dict of the final numbers, as `evaluate_transfer` names them, on the test split
    """
    accelerator = training.start(config.seed, config.precision)
    main, rank, world = accelerator.is_main_process, accelerator.process_index, accelerator.num_processes
    with training.reported(run, main):
        data = open_labelled(run, config, accelerator)
        model = build_conditional(config, data)
        objective = Objective(model, data.tokenizers, config)
        optimizer = torch.optim.AdamW(objective.parameters(), lr=config.lr, eps=1e-8, weight_decay=0.0, fused=True)
        wrapped, optimizer = accelerator.prepare(objective, optimizer)
        parts = {"model": wrapped, "optimizer": optimizer.optimizer}
        betas = cyclical_beta(config.n_steps, 0.0, config.beta, 1, config.ratio_increase, config.ratio_zero)

        first = training.load_state(run, accelerator, parts)
        progress = training.Progress(run, config.n_steps, first, run.dir.name, show=main)
        batches, watched = training.endless(data.corpus.epoch_batches(config.batch_size, config.seed), first), {}
        wrapped.train()
        for step in range(first, config.n_steps):
            training.set_lr(optimizer, config.lr * training.warmup_linear(step, config.n_steps, config.warmup))
            _, index = next(batches)
            rows = share(index, rank, world)
            labels = torch.from_numpy(data.labels[rows]).to(accelerator.device)
            wanted = (labels + torch.randint(1, len(data.label_names), labels.shape).to(labels)) % len(data.label_names)
            rewriting = step >= config.transfer_from * config.n_steps and (config.style > 0 or config.cycle > 0)
            optimizer.zero_grad(set_to_none=True)
            batch = data.corpus.pair(rows).to(accelerator.device)
            with training.autocast(accelerator):
                terms = wrapped(batch, labels, wanted, float(betas[step]), rewriting)
                weight = len(rows) * world / len(index) * (rank < len(index))  # a lent row takes part with weight 0
                accelerator.backward(terms.loss * weight)
            values = accelerator.reduce(torch.stack(terms).detach() * weight, "mean").tolist()
            training.check_finite(step + 1, loss=values[0])
            norm = training.clip(accelerator, model, config.clip, step + 1)
            optimizer.step()

            done, named = step + 1, dict(zip(Terms._fields, values, strict=True))
            if main and (training.every(done, 10, config.n_steps) or done == 1):
                run.log(done, **named, beta=float(betas[step]), gradient_norm=norm, lr=optimizer.param_groups[0]["lr"])
            progress.update(done, **{name: named[name] for name in ("rec", "kl", "adversary", "cycle")}, **watched)
            if main and training.every(done, config.eval_every, config.n_steps):
                model.eval()
                watched = watch_transfer(model, data.tokenizers, data.valid.sentences, data.valid.labels, data.judge)
                model.train()
                run.log(done, **watched)
            if training.every(done, config.save_every, config.n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()
        return finish(run, config, model, data) if main else {}


class Data(NamedTuple):
    """Training sentences with their labels, the splits to look at, and the judge."""

    tokenizers: Tokenizers
    corpus: Corpus
    labels: np.ndarray  # (len(corpus),) int64
    label_names: tuple
    valid: Labelled
    test: Labelled
    judge: StyleJudge
    fluency: TrigramModel  # of the judge's sentences


def open_labelled(run, config, accelerator):
    """The corpora, tokenizers and judge of a ConditionalConfig. -> Data"""
    everything = load_labelled(config.data, "train", config.limit or None)
    check_labels(everything.sentences, everything.labels, f"'{config.data}'")
    mine, judged = split_for_judge(everything, config)
    tokenizers = open_tokenizers(run, config, mine.sentences, accelerator)
    corpus = Corpus(mine.sentences, tokenizers, config.max_length, f"the training split of '{config.data}'")
    splits = [_fitting(load_labelled(config.data, split, limit or None), tokenizers, config.max_length)
              for split, limit in (("valid", config.n_watch), ("test", config.n_eval))]
    return Data(tokenizers, corpus, mine.labels[corpus.kept], everything.label_names, *splits,
                StyleJudge(judged.sentences, judged.labels), TrigramModel(judged.sentences))


def split_for_judge(everything, config):
    """(sentences to train on, sentences for the judge): apart, unless the judge has a corpus of its own."""
    if config.judge:
        judged = load_labelled(config.judge, "train")
        if judged.label_names != everything.label_names:
            raise ValueError(f"the judge's corpus '{config.judge}' has the labels {', '.join(judged.label_names)}, but "
                             f"'{config.data}' has {', '.join(everything.label_names)}. They must be the same, in this order.")
        return everything, judged
    if not 0 < config.judge_share < 1:
        raise ValueError(f"judge_share is {config.judge_share}; expected a share between 0 and 1, or a corpus as judge.")
    order = np.random.default_rng(config.seed).permutation(len(everything.sentences))
    n_judged = max(2, round(config.judge_share * len(order)))
    return [Labelled([everything.sentences[i] for i in rows], everything.labels[rows], everything.label_names)
            for rows in (np.sort(order[n_judged:]), np.sort(order[:n_judged]))]


def _fitting(split, tokenizers, max_length):
    """The sentences of a split that the model can hold."""
    kept = Corpus(split.sentences, tokenizers, max_length).kept
    return Labelled([split.sentences[i] for i in kept], split.labels[kept], split.label_names)


def build_conditional(config, data):
    """The model a ConditionalConfig asks for: on a trained Optimus (init), or on a preset. -> ConditionalOptimus"""
    if config.init:
        model = Optimus.from_pretrained(model_folder(config.init))
    else:
        own = ({"encoder": config.encoder, "decoder": config.decoder} if config.size == "paper"
               else {"dropout": config.dropout, "n_positions": config.max_length + 8})
        model = Optimus.from_preset(config.size, data.tokenizers, config.latent_size, config.injection, **own)
    if config.max_length > model.longest:
        raise ValueError(f"max_length is {config.max_length} but the model holds sentences of {model.longest} tokens. "
                         f"Use max_length={model.longest}, or backbones with more positions.")
    return ConditionalOptimus.from_optimus(model, data.label_names, config.latent_size)


def human_references(config, split):
    """The human rewritings of each sentence of a split. -> list of N lists of str"""
    return align(load_references(config.data), split.sentences)


def finish(run, config, model, data):
    """Fit the prior, save the model and evaluate it on the test split; what was evaluated before is read back."""
    if done := run.finished():
        return done
    model.eval()
    model.fit_prior(encode_corpus(model, data.corpus)[0])
    save_trained(run.dir / "model", model, data.tokenizers)
    references = human_references(config, data.test) if config.references else None
    numbers, _ = evaluate_transfer(model, data.tokenizers, data.test, data.judge, references, data.fluency, seed=config.seed)
    run.save_results(numbers)
    return numbers
