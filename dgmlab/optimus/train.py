"""Training of Optimus (Li et al. 2020, section 3.3): one loop for pre-training and fine-tuning, from any corpus.

`train(run, TrainConfig(data="ptb", size="small"))` trains, resumes where the folder has state, and leaves model/ and
results.json. On a GPU server without Jupyter: `python -m dgmlab.optimus --help`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from dgmlab import training
from dgmlab.optimus.data import model_folder, save_trained
from dgmlab.optimus.evaluate import collapse_warning, importance_weighted_nll, save_sentences, summarise, watch
from dgmlab.optimus.model import Optimus, Posterior
from dgmlab.optimus.objective import cyclical_beta, elbo
from dgmlab.optimus.source import open_data


@dataclass(frozen=True)
class TrainConfig:
    """What a training run of Optimus, or of its GPT-2 twin, is made of. Paper's fine-tuning values in brackets."""

    data: str = "grammar"  # corpus: a name of `load_text`, a file, hub:OWNER/NAME, or shards:GLOB for streamed text
    size: str = "tiny"  # preset: tiny | small | paper
    init: str = ""  # folder of a trained model to start from (fine-tuning); '' starts from the preset
    encoder: str = "bert-base-cased"  # paper preset: hub name or folder of the encoder
    decoder: str = "gpt2"  # paper preset: hub name or folder of the decoder
    latent_size: int = 32  # Z [32; 768 for latent manipulation]
    injection: str = "both"  # memory | embedding | both [both]
    pooling: str = ""  # sentence features: pooler | cls | mean; '' takes the preset's [pooler]
    vocab_size: int = 8000  # BPE vocabulary trained on the corpus; 0 takes whole words (the grammar)
    max_length: int = 64  # longest sentence in tokens; longer ones are dropped
    limit: int = 0  # sentences taken from the training split; 0 takes all
    n_steps: int = 1000  # optimiser steps
    batch_size: int = 64  # sentences per step over all ranks [5 to 32]
    accumulate: int = 1  # micro-batches a step is split into
    lr: float = 5e-4  # peak learning rate of AdamW [5e-5 from pre-trained backbones]
    warmup: int = 100  # steps of linear warm-up [0]
    clip: float = 1.0  # gradient norm [1.0]
    dropout: float = 0.1  # of the random-start presets
    beta: float = 1.0  # weight of the KL at the plateau [1.0]
    n_cycles: int = 1  # cycles of the schedule [1; 10 in pre-training]
    ratio_zero: float = 0.5  # share of a cycle at beta = 0 [0.5]
    ratio_increase: float = 0.25  # share of a cycle on the ramp [0.25]
    free_bits: float = 0.5  # threshold per sample and dimension, nats [0.05 to 1.0]
    length_weighted: bool = False  # divide the reconstruction by T + 2 [true in the released recipe]
    ema_decay: float = 0.0  # decay of the parameter average used for evaluation; 0 is off [off]
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    gradient_checkpointing: bool = False  # less memory, one more forward
    seed: int = 0  # of everything [42]
    eval_every: int = 200  # steps between looks at the validation set
    save_every: int = 500  # steps between checkpoints
    n_watch: int = 512  # validation sentences in those looks
    n_eval: int = 1000  # test sentences in the final evaluation; 0 takes all
    iw_samples: int = 100  # importance samples of the final evaluation [100]


class Autoencoded(NamedTuple):
    """logits (B, T, V) and the posterior they were decoded from."""

    logits: torch.Tensor
    posterior: Posterior


class Autoencoder(nn.Module):
    """Encode, draw z, decode, as one forward: what DistributedDataParallel needs to see."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        """A Pair of (B, T) ids -> Autoencoded: logits (B, T, V), and the posterior that one draw of z came from."""
        posterior = self.model.encode(batch.encoder_ids, batch.encoder_mask)
        return Autoencoded(self.model(batch.decoder_ids, latent=posterior.sample()).logits, posterior)


def train(run, config):
    """Train Optimus in the folder `run`; take up the latest checkpoint if there is one.

    run     `dgmlab.run.Run`; gets metrics.jsonl, checkpoints/, model/, results.json, per_sentence.json
    config  TrainConfig
    -> dict of the final numbers, as `evaluate.evaluate` names them, on the test split
    """
    accelerator = training.start(config.seed, config.precision)
    main = accelerator.is_main_process
    with training.reported(run, main):
        data = open_data(run, config, accelerator)
        model = build_model(config, data.tokenizers)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, eps=1e-8, weight_decay=0.0, fused=True)
        wrapped, optimizer = accelerator.prepare(Autoencoder(model), optimizer)
        ema = training.EMA(model, config.ema_decay) if config.ema_decay else None
        parts = {"model": wrapped, "optimizer": optimizer.optimizer, **({"ema": ema} if ema else {}), **data.state_parts}
        betas = cyclical_beta(config.n_steps, 0.0, config.beta, config.n_cycles, config.ratio_increase, config.ratio_zero)

        first = training.load_state(run, accelerator, parts)
        progress = training.Progress(run, config.n_steps, first, run.dir.name, show=main)
        batches, watched = data.batches(first), {}
        model.train()
        for step in range(first, config.n_steps):
            training.set_lr(optimizer, config.lr * training.warmup_linear(step, config.n_steps, config.warmup))
            beta = float(betas[step])
            optimizer.zero_grad(set_to_none=True)
            loss_sum = rec_sum = kl_sum = 0.0
            for micro, weight, last in data.micro_batches(next(batches), config.accumulate):
                with training.syncing(accelerator, wrapped, last):
                    with training.autocast(accelerator):
                        logits, posterior = wrapped(micro)
                    terms = elbo(logits, micro.target_ids, posterior.mu, posterior.logvar, beta,
                                 config.free_bits if beta > 0 else 0.0, config.length_weighted)
                    accelerator.backward(terms.loss * weight)
                share = weight / accelerator.num_processes
                loss_sum += terms.loss.detach() * share
                rec_sum += terms.rec.detach().mean() * share
                kl_sum += terms.kl.detach().mean() * share
            loss, rec, kl = accelerator.reduce(torch.stack([loss_sum, rec_sum, kl_sum]), "sum").tolist()
            training.check_finite(step + 1, loss=loss)
            norm = training.clip(accelerator, wrapped, config.clip, step + 1)
            optimizer.step()
            if ema:
                ema.update(model)

            done = step + 1
            if main and (training.every(done, 10, config.n_steps) or done == 1):
                run.log(done, loss=loss, rec=rec, kl=kl, beta=beta, gradient_norm=norm, lr=optimizer.param_groups[0]["lr"])
            progress.update(done, rec=rec, kl=kl, beta=beta, **watched)
            if main and training.every(done, config.eval_every, config.n_steps):
                numbers = watch(model, data.valid, autocast=accelerator.autocast)
                run.log(done, **numbers)
                watched = {"mi": numbers["mi"], "au": numbers["au"]}
                warning = collapse_warning(numbers, beta)
                if warning:
                    print(f"step {done}: {warning}", flush=True)
                run.set_status(warning=warning)
            if training.every(done, config.save_every, config.n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()
        if not main:
            return {}
        return finish(run, config, model, data, ema, accelerator)


def build_model(config, tokenizers):
    """The model a TrainConfig asks for: a trained one taken up (init), or a preset."""
    if config.init:
        model = Optimus.from_pretrained(model_folder(config.init))
        for name in ("latent_size", "injection", "pooling"):
            found, asked = getattr(model.config, name), getattr(config, name)
            if asked not in ("", found):
                raise ValueError(f"{name} is {found} in this checkpoint but {asked} was asked for. "
                                 f"Load with {name}={found}, or train a new run.")
    else:
        own = ({"encoder": config.encoder, "decoder": config.decoder} if config.size == "paper"
               else {"dropout": config.dropout, "n_positions": config.max_length + 3})  # slot, <bos> or both ends
        model = Optimus.from_preset(config.size, tokenizers, config.latent_size, config.injection,
                                    pooling=config.pooling, **own)
    if config.max_length > model.longest:
        raise ValueError(f"max_length is {config.max_length} but the model holds sentences of {model.longest} tokens. "
                         f"Use max_length={model.longest}, or backbones with more positions.")
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})  # the reentrant kind would lose the slot
    return model


def finish(run, config, model, data, ema, accelerator):
    """Save the model and evaluate it on the test split; what was evaluated before is read back."""
    if done := run.finished():
        return done
    if ema:
        ema.copy_to(model)
    model.eval()
    save_trained(run.dir / "model", model, data.tokenizers)
    result = importance_weighted_nll(model, data.test, config.iw_samples, config.seed, accelerator.autocast)
    save_sentences(run, data.test, nll=result.nll, elbo=result.elbo, rec=result.rec, kl=result.kl)
    numbers = summarise(result, data.test, config.iw_samples, config.seed)
    run.save_results(numbers)
    return numbers
