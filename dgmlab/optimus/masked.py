"""The BERT twin: Optimus's encoder trained by masked language modelling on the same sentences for the same steps.

Whether a latent space helps when labels are few can only be seen beside an encoder of the same size, text, tokenizer and
batches that never had one. The task is BERT's (Devlin et al. 2019, section 3.1): 15 % of the tokens are chosen; of these 80 %
become the mask, 10 % a random token, 10 % stay; the model names what stood there. Letters: B batch, T time, V vocabulary.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForMaskedLM, RobertaPreLayerNormForMaskedLM

from dgmlab import training
from dgmlab.config import from_namespace
from dgmlab.data.batching import sorted_batches
from dgmlab.optimus.data import Tokenizers, model_folder, save_trained
from dgmlab.optimus.presets import encoder_config, preset
from dgmlab.optimus.source import open_data
from dgmlab.optimus.train import TrainConfig
from dgmlab.run import locate, read_json

SHARE, MASKED, RANDOM = 0.15, 0.8, 0.1  # tokens chosen; of these: masked, replaced by a random token


class Masked(NamedTuple):
    """ids (B, T) with some tokens hidden; targets (B, T), the hidden ones, -100 elsewhere."""

    ids: torch.Tensor
    targets: torch.Tensor


class Gap(NamedTuple):
    """loss () in nats per chosen token; right () share of the chosen tokens that are named; both over one batch."""

    loss: torch.Tensor
    right: torch.Tensor


def hide_tokens(ids, mask, mask_id, n_words, generator=None):
    """BERT's corruption of a batch, drawn anew at each call.

    ids      (B, T) long   `<bos> x <eos>`, right-padded; the two marks and the padding are never chosen
    mask     (B, T)        1 where a token is
    mask_id  id of the mask
    n_words  random tokens are drawn from ids 0 to n_words - 1
    -> Masked
    """
    place = torch.arange(ids.shape[1], device=ids.device)
    inside = (place > 0) & (place < mask.sum(1, keepdim=True) - 1)
    draw = torch.rand(2, *ids.shape, generator=generator, device=ids.device)
    words = torch.randint(n_words, ids.shape, generator=generator, device=ids.device)
    chosen = inside & (draw[0] < SHARE)
    hidden = torch.where(chosen & (draw[1] < MASKED), mask_id, ids)
    hidden = torch.where(chosen & (draw[1] >= 1 - RANDOM), words, hidden)
    return Masked(hidden, torch.where(chosen, ids, -100))


class Cloze(nn.Module):
    """Fill the gaps, as one forward: what DistributedDataParallel needs to see."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask, targets):
        """ids, mask, targets (B, T) -> Gap. Only the chosen positions reach the vocabulary: the others cost nothing there."""
        hidden = self.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        chosen = targets != -100
        head = self.model.lm_head if hasattr(self.model, "lm_head") else self.model.cls
        logits, wanted = head(hidden[chosen]).float(), targets[chosen]  # (chosen, V)
        count = max(1, len(wanted))  # a batch of short sentences may have no gap at all
        loss = functional.cross_entropy(logits, wanted, reduction="sum") / count
        return Gap(loss, (logits.argmax(-1) == wanted).sum() / count)


def build_twin(config, tokenizers):
    """The masked language model that a TrainConfig asks for: the preset's encoder and one more word, the mask.

    Its configuration says how sentences are pooled (`sentence_pooling`, as in Optimus) and which id hides a token
    (`mask_token_id`).
    """
    if config.init:
        folder = model_folder(config.init)
        if "sentence_pooling" not in read_json(folder / "config.json"):
            raise ValueError(f"a twin goes on from a twin, which {config.init} is not. Train one from init='' first.")
        return AutoModelForMaskedLM.from_pretrained(folder)
    row, tokenizer = preset(config.size), tokenizers.encoder
    if config.size == "paper":
        model = AutoModelForMaskedLM.from_pretrained(config.encoder)
        model.config.mask_token_id = tokenizer.mask_token_id
    else:
        sizes = encoder_config(row, tokenizer, config.dropout, config.max_length + 3)
        sizes.vocab_size += 1
        model = RobertaPreLayerNormForMaskedLM(sizes)
        model.config.mask_token_id = len(tokenizer)
    pooling = config.pooling or row["pooling"]
    model.config.sentence_pooling = "cls" if pooling == "pooler" else pooling  # this task trains no pooler
    return model


def train(run, config):
    """Train the BERT twin of a `TrainConfig` in the folder `run`; fields that speak of the decoder or the latent are not used.

    run  gets metrics.jsonl, checkpoints/, model/ (with the tokenizers) and results.json; the latest checkpoint is taken up
    -> dict on the test split: masked_nll in nats per hidden token, masked_accuracy, n_sentences
    """
    accelerator = training.start(config.seed, config.precision)
    main = accelerator.is_main_process
    with training.reported(run, main):
        data = open_data(run, config, accelerator)
        model = build_twin(config, data.tokenizers)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, eps=1e-8, weight_decay=0.0, fused=True)
        wrapped, optimizer = accelerator.prepare(Cloze(model), optimizer)
        parts = {"model": wrapped, "optimizer": optimizer.optimizer, **data.state_parts}
        mask_id, n_words = model.config.mask_token_id, len(data.tokenizers.encoder)

        first = training.load_state(run, accelerator, parts)
        progress = training.Progress(run, config.n_steps, first, run.dir.name, show=main)
        batches = data.batches(first)
        model.train()
        for step in range(first, config.n_steps):
            training.set_lr(optimizer, config.lr * training.warmup_linear(step, config.n_steps, config.warmup))
            optimizer.zero_grad(set_to_none=True)
            total = right = 0.0
            for micro, weight, last in data.micro_batches(next(batches), config.accumulate):
                hidden = hide_tokens(micro.encoder_ids, micro.encoder_mask, mask_id, n_words)
                with training.syncing(accelerator, wrapped, last):
                    with training.autocast(accelerator):
                        gap = wrapped(hidden.ids, micro.encoder_mask, hidden.targets)
                    accelerator.backward(gap.loss * weight)
                total += gap.loss.detach() * weight / accelerator.num_processes
                right += gap.right * weight / accelerator.num_processes
            loss, accuracy = accelerator.reduce(torch.stack([total, right]), "sum").tolist()
            training.check_finite(step + 1, loss=loss)
            norm = training.clip(accelerator, wrapped, config.clip, step + 1)
            optimizer.step()

            done = step + 1
            if main and (training.every(done, 10, config.n_steps) or done == 1):
                run.log(done, loss=loss, accuracy=accuracy, gradient_norm=norm, lr=optimizer.param_groups[0]["lr"])
            progress.update(done, loss=loss, accuracy=accuracy)
            if main and training.every(done, config.eval_every, config.n_steps):
                looked = fill_gaps(model, data.valid, accelerator.autocast)
                run.log(done, val_loss=looked["masked_nll"], val_accuracy=looked["masked_accuracy"])
            if training.every(done, config.save_every, config.n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()
        if not main:
            return {}
        if numbers := run.finished():
            return numbers
        model.eval()
        save_trained(run.dir / "model", model, data.tokenizers)
        numbers = fill_gaps(model, data.test, accelerator.autocast)
        run.save_results(numbers)
        return numbers


@torch.no_grad()
def fill_gaps(model, corpus, autocast, batch_size=128, seed=0):
    """How well a masked language model fills gaps that are the same at every look; the model's mode is left as it was.

    -> dict: masked_nll in nats per hidden token, masked_accuracy, n_sentences
    """
    was_training = model.training
    cloze, generator = Cloze(model.eval()), torch.Generator().manual_seed(seed)
    nll, right, count = 0.0, 0.0, 0
    for rows in sorted_batches(corpus.lengths, batch_size):
        batch = corpus.pair(rows)
        hidden = hide_tokens(batch.encoder_ids, batch.encoder_mask, model.config.mask_token_id,
                             len(corpus.tokenizers.encoder), generator)
        n = int((hidden.targets != -100).sum())
        with autocast():
            gap = cloze(*(part.to(model.device) for part in (hidden.ids, batch.encoder_mask, hidden.targets)))
        nll, right, count = nll + float(gap.loss) * n, right + float(gap.right) * n, count + n
    model.train(was_training)
    return {"masked_nll": nll / max(1, count), "masked_accuracy": right / max(1, count), "n_sentences": len(corpus)}


def twin_config(folder, n_steps=0):
    """The TrainConfig that makes the twin of a trained Optimus: its own, as its run folder has noted it.

    n_steps  of the twin; 0 takes as many as Optimus had. A step asks for 15 % of the words here and for all of them there, so
             a twin of as many steps has had fewer questions
    """
    params = read_json(locate(folder) / "params.json")
    if params is None:
        raise FileNotFoundError(f"the run folder of an Optimus was expected, with params.json, found none in {folder}. "
                                "Name the folder that holds model/ and checkpoints/, or the twin itself.")
    if params.get("init"):
        raise ValueError(f"the Optimus in {folder} goes on from another ({params['init']}), and so must its twin. "
                         "Train both from their starts, or name a trained twin.")
    config = from_namespace(TrainConfig, params)
    return replace(config, n_steps=n_steps) if n_steps else config


def load_twin(folder):
    """(masked language model in evaluation mode, tokenizers) of a run folder or of its model/ folder."""
    folder = model_folder(folder)
    return AutoModelForMaskedLM.from_pretrained(folder).eval(), Tokenizers.load(folder)
