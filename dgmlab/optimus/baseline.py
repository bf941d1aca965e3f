"""The GPT-2 twin: Optimus's decoder without a latent, trained on the same sentences for the same steps.

A language VAE is worth its latent only beside a language model of the same size, data and steps; this is that model. Its
likelihood is exact, while Optimus's is a bound, so the comparison never favours the VAE.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from dgmlab import training
from dgmlab.data.batching import sorted_batches
from dgmlab.optimus.data import Tokenizers, model_folder, save_trained
from dgmlab.optimus.evaluate import likelihood, rows_at_once, save_sentences
from dgmlab.optimus.objective import sentence_nll
from dgmlab.optimus.presets import build_decoder
from dgmlab.optimus.source import open_data
from dgmlab.run import read_json

BESIDE = "gpt2"  # the twin's run beside that of its Optimus, as notebook 11 lays them


def train(run, config):
    """Train the twin of `TrainConfig` in the folder `run`; fields that speak of the latent are not used.

    With `init` it starts from a trained twin: the one that `init` names, or the one beside the Optimus that `init` names;
    where that has none, it starts from the preset with Optimus's vocabulary, and says so.
    -> dict: nll, ppl (per predicted token) with its interval, ppl_word, ppl_optimus, bits_per_byte on the test split
    """
    accelerator = training.start(config.seed, config.precision)
    main = accelerator.is_main_process
    with training.reported(run, main):
        data = open_data(run, config, accelerator)
        model = build_twin(config, data.tokenizers)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, eps=1e-8, weight_decay=0.0, fused=True)
        wrapped, optimizer = accelerator.prepare(model, optimizer)
        parts = {"model": wrapped, "optimizer": optimizer.optimizer, **data.state_parts}

        first = training.load_state(run, accelerator, parts)
        progress = training.Progress(run, config.n_steps, first, run.dir.name, show=main)
        batches = data.batches(first)
        model.train()
        for step in range(first, config.n_steps):
            training.set_lr(optimizer, config.lr * training.warmup_linear(step, config.n_steps, config.warmup))
            optimizer.zero_grad(set_to_none=True)
            total = 0.0
            for micro, weight, last in data.micro_batches(next(batches), config.accumulate):
                with training.syncing(accelerator, wrapped, last):
                    with training.autocast(accelerator):
                        logits = wrapped(micro.decoder_ids, attention_mask=whole(micro.decoder_ids), use_cache=False).logits
                    loss = sentence_nll(logits, micro.target_ids).mean()
                    accelerator.backward(loss * weight)
                total += loss.detach() * weight / accelerator.num_processes
            rec = float(accelerator.reduce(total, "sum"))
            training.check_finite(step + 1, loss=rec)
            norm = training.clip(accelerator, wrapped, config.clip, step + 1)
            optimizer.step()

            done = step + 1
            if main and (training.every(done, 10, config.n_steps) or done == 1):
                run.log(done, loss=rec, rec=rec, gradient_norm=norm, lr=optimizer.param_groups[0]["lr"])
            progress.update(done, rec=rec)
            if main and training.every(done, config.eval_every, config.n_steps):
                run.log(done, val_rec=float(exact_nll(model, data.valid, accelerator.autocast).mean()))
            if training.every(done, config.save_every, config.n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()
        if not main:
            return {}
        if numbers := run.finished():
            return numbers
        model.eval()
        save_trained(run.dir / "model", model, data.tokenizers)
        data.tokenizers.decoder.save_pretrained(run.dir / "model")  # where AutoTokenizer looks for it
        nll = exact_nll(model, data.test, accelerator.autocast)
        save_sentences(run, data.test, nll=nll)
        numbers = likelihood(nll, data.test)
        run.save_results(numbers)
        return numbers


def build_twin(config, tokenizers):
    """The twin a TrainConfig asks for: a trained one taken up (init), or the preset."""
    folder = find_twin(config.init) if config.init else None
    if folder is None:
        if config.init:
            print(f"there is no twin beside {config.init}: this one starts from the preset, not pre-trained", flush=True)
        return build_decoder(config.size, tokenizers, config.dropout, config.max_length + 3, config.decoder)
    check_vocabulary(folder, tokenizers)
    model = AutoModelForCausalLM.from_pretrained(folder)
    longest = model.config.max_position_embeddings - 1  # beside <bos>
    if config.max_length > longest:
        raise ValueError(f"max_length is {config.max_length} but the twin in {folder} holds sentences of {longest} tokens. "
                         f"Use max_length={longest}.")
    return model


def find_twin(init):
    """Folder of the trained twin that `init` means: its own, or the one beside an Optimus; None where there is none."""
    folder = model_folder(init)
    if not is_optimus(folder):
        return folder
    run = folder.parent if folder.name == "model" else folder
    beside = run.parent / BESIDE / "model"
    return beside if (beside / "config.json").exists() else None


def is_optimus(folder):
    """Whether a folder with config.json holds an Optimus, and not a twin."""
    return read_json(Path(folder) / "config.json").get("model_type") == "optimus"


def check_vocabulary(folder, tokenizers):
    """ValueError unless the twin in `folder` has the vocabulary of `tokenizers`: perplexities could not be compared."""
    found, wanted = Tokenizers.load(folder).decoder.get_vocab(), tokenizers.decoder.get_vocab()
    if found != wanted:
        n_other = len(found.keys() - wanted.keys())
        raise ValueError(f"the twin in {folder} has another vocabulary: expected the {len(wanted):,} tokens of Optimus, found "
                         f"{len(found):,}, {n_other:,} of them unknown there. Pre-train both on the same text.")


def whole(ids):
    """The mask that hides nothing: right padding needs none under a causal mask, and its targets are ignored."""
    return torch.ones_like(ids)


@torch.no_grad()
def exact_nll(model, corpus, autocast):
    """-log p(x) of every sentence in nats (N,), in the corpus's order; the model is left in the mode it was in."""
    was_training = model.training
    model.eval()
    nll = np.empty(len(corpus))
    rows_per_batch = rows_at_once(int(corpus.lengths.max()) + 1, model.config.vocab_size, model.device)
    for rows in sorted_batches(corpus.lengths, rows_per_batch):
        batch = corpus.pair(rows).to(model.device)
        with autocast():
            logits = model(batch.decoder_ids, attention_mask=whole(batch.decoder_ids), use_cache=False).logits
        nll[rows] = sentence_nll(logits, batch.target_ids).cpu().numpy()
    model.train(was_training)
    return nll
