"""Training of BigGAN and TAC-GAN, with or without feature quantization (Zhao et al. 2020, section 3), from any pictures.

`train(run, TrainConfig(data="digits"))` trains, resumes where the folder has state, and leaves model/ and results.json:
`dgmlab.fqgan.sample` draws from that. Without Jupyter: `python -m dgmlab.fqgan --help`.

With several processes each has its share of the batch, and the BatchNorms of G see that share alone. Micro-batches
(`accumulate`) give D the gradient of the whole batch; the BatchNorms of G see one micro-batch in G's step.
"""

import contextlib
import copy
from dataclasses import dataclass

import torch
from accelerate.utils import broadcast_object_list

from dgmlab import training
from dgmlab.config import unknown_name
from dgmlab.fqgan import biggan
from dgmlab.fqgan.attach import add_fq, collect
from dgmlab.fqgan.losses import class_terms_d, class_terms_g, hinge_d, hinge_g, orthogonal_penalty
from dgmlab.fqgan.sample import Trained
from dgmlab.fqgan.source import ImageStream, micro_slices, open_images
from dgmlab.fqgan.spectral import held_spectral_norm
from dgmlab.fqgan.tacgan import DISCRIMINATORS
from dgmlab.fqgan.watch import MAX_ROLLBACKS, CollapseAlarm, finish, open_watch, roll_back
from dgmlab.quantize import MODES, frozen, update_dictionaries


@dataclass(frozen=True)
class TrainConfig:
    """What a training run of BigGAN or TAC-GAN is made of. In brackets the values of FQ-GAN's CIFAR-10 script."""

    data: str = "digits"  # pictures: a name of `load_images` (digits, mnist, cifar10_jpeg ...), a folder, a .parquet
    size: str = "tiny"  # preset: micro | tiny | small | cifar10 | cifar100 | imagenet64 | imagenet128
    resolution: int = 0  # side of the pictures: 32 | 64 | 128; 0 takes the preset's
    width: int = 0  # channel multiplier; 0 takes the preset's [64]
    limit: int = 0  # training pictures; 0 takes all
    mirror: bool = False  # mirror pictures at random [false]
    head: str = "projection"  # how D learns of classes: projection (BigGAN) | ac (AC-GAN) | tac (TAC-GAN)
    class_weight: float = 1.0  # of the class terms of ac and tac [1.0]
    fq: str = "off"  # off | quantize (the paper) | regularize (the released code) | warmup (from this to that)
    fq_layers: str = "all"  # blocks of D whose outputs have a dictionary: all, or numbers as in 0,1,2 [0,1,2,3]
    n_codes: int = 64  # K of each dictionary [1024]
    fq_decay: float = 0.9  # lambda of its averages [0.8]
    commit_weight: float = 1.0  # alpha of the commitment term [1.0]
    fq_warmup: int = 1000  # updates that `warmup` takes
    fq_from_g: bool = True  # the pictures of G's step move the dictionaries too [true]
    n_steps: int = 2000  # steps of G [97,500]
    n_d_steps: int = 1  # steps of D for each of G, each with a batch of its own [4]
    batch_size: int = 64  # pictures per step over all ranks [64]
    accumulate: int = 1  # micro-batches a step is split into [1]
    lr_g: float = 2e-4  # Adam's learning rate of G [2e-4]
    lr_d: float = 2e-4  # and of D [2e-4]
    beta1: float = 0.0  # Adam's first decay [0.0]
    beta2: float = 0.999  # Adam's second decay [0.999]
    adam_eps: float = 1e-8  # Adam's epsilon [1e-8; ImageNet 1e-6]
    ortho: float = 0.0  # weight of the orthogonal penalty, on both players [0; BigGAN's paper 1e-4]
    ema_decay: float = 0.999  # decay of the averaged generator [0.9999]
    ema_start: int = 0  # step from which it averages; before, it copies [1000]
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    seed: int = 0  # of everything
    eval_every: int = 250  # steps between looks at the averaged generator
    save_every: int = 500  # steps between checkpoints
    extractor: str = "auto"  # auto | trained | fid | fd_digits | fd_resnet20 | fd_resnet56; see `open_reference`
    extractor_path: str = ""  # file of the weights, for fid
    n_reference: int = 10_000  # real pictures compared with; 0 takes all [all]
    n_watch: int = 2000  # pictures in those looks
    n_eval: int = 5000  # pictures in the final evaluation [50,000]
    on_collapse: str = "rollback"  # what an alarm does: rollback (to the best checkpoint, thrice at most) | stop | warn


def train(run, config, reference=None):
    """Train G and D in the folder `run`; take up the latest checkpoint if there is one.

    run        `dgmlab.run.Run`; gets metrics.jsonl, checkpoints/, samples/, model/, results.json
    config     TrainConfig
    reference  of `open_reference`, where several runs share one; else it is made
    -> dict of the final numbers; their names carry extractor and number of pictures
    """
    accelerator = training.start(config.seed, config.precision)
    main, device, world = accelerator.is_main_process, accelerator.device, accelerator.num_processes
    with training.reported(run, main):
        images = open_images(run, config, preset_of(config, 2).resolution, min_classes=2, show=main)
        G, D = build(config, len(images.class_names))
        G_ema = copy.deepcopy(G).eval().requires_grad_(False).to(device)
        ema, alarm = training.EMA(G_ema, config.ema_decay), CollapseAlarm()
        betas = config.beta1, config.beta2
        opt_g = torch.optim.Adam(G.parameters(), config.lr_g, betas, config.adam_eps, fused=True)
        opt_d = torch.optim.Adam(D.parameters(), config.lr_d, betas, config.adam_eps, fused=True)
        G_ranks, D_ranks, opt_g, opt_d = accelerator.prepare(G, D, opt_g, opt_d)
        parts = {"G": G, "D": D, "opt_g": opt_g.optimizer, "opt_d": opt_d.optimizer, "ema": ema, "alarm": alarm}
        stream = ImageStream(images, config.batch_size, config.seed, config.mirror, device, accelerator.process_index, world)
        about = Trained("biggan", G_ema, D, images.class_names, {"head": config.head, "fq": fq_of(config)})
        watch = open_watch(run, config, about, images, alarm, reference) if main else None
        micro = micro_slices(config.batch_size // world, config.accumulate)

        step = training.load_state(run, accelerator, parts)
        progress, watched = training.Progress(run, config.n_steps, step, run.dir.name, show=main), {}
        while step < config.n_steps:
            for k in range(config.n_d_steps):
                training.set_lr(opt_d, config.lr_d * 0.5**alarm.n_rollbacks)
                opt_d.zero_grad(set_to_none=True)
                real = stream.batch(step * config.n_d_steps + k)
                z, y = noise(G, len(real.y), device)
                with torch.no_grad(), training.autocast(accelerator):
                    fake = G_ranks(z, y)
                d_loss = commit = 0.0
                for i, part in enumerate(micro):
                    x, classes = torch.cat([fake[part], real.x[part]]), torch.cat([y[part], real.y[part]])
                    with one_step(i, D), training.syncing(accelerator, D_ranks, i == len(micro) - 1):
                        with training.autocast(accelerator):
                            on_fake, on_real = D_ranks(x, classes).halves()
                        terms = hinge_d(on_real.logits, on_fake.logits)
                        of_classes = class_terms_d(on_real, real.y[part], on_fake, y[part])
                        committed = 2 * commitment(D, config)  # the mean over fakes plus the mean over reals
                        loss = terms.loss + config.class_weight * of_classes.loss + committed
                        if config.ortho and i == 0:
                            loss = loss + config.ortho * len(micro) * orthogonal_penalty(D)
                        accelerator.backward(loss / len(micro))
                    d_loss, commit = d_loss + terms.loss.detach() / len(micro), commit + committed.detach() / len(micro)
                    alarm.see(on_real.logits, on_fake.logits)
                training.check_finite(step + 1, d_loss=d_loss)
                opt_d.step()
                update_dictionaries(D)

            training.set_lr(opt_g, config.lr_g * 0.5**alarm.n_rollbacks)
            opt_g.zero_grad(set_to_none=True)
            z, y = noise(G, len(real.y), device)
            g_loss = 0.0
            D.requires_grad_(False)
            with contextlib.nullcontext() if config.fq_from_g else frozen(D):
                for i, part in enumerate(micro):
                    with one_step(i, G, D), training.syncing(accelerator, G_ranks, i == len(micro) - 1):
                        with training.autocast(accelerator):
                            on_fake = D(G_ranks(z[part], y[part]), y[part])
                        loss = hinge_g(on_fake.logits)
                        g_loss = g_loss + loss.detach() / len(micro)
                        loss = loss + config.class_weight * class_terms_g(on_fake, y[part]).loss + commitment(D, config)
                        if config.ortho and i == 0:
                            loss = loss + config.ortho * len(micro) * orthogonal_penalty(G)
                        accelerator.backward(loss / len(micro))
            training.check_finite(step + 1, g_loss=g_loss)
            opt_g.step()
            D.requires_grad_(True)
            update_dictionaries(D)
            ema.update(G, ema_decay(config, step))

            step += 1
            signs = alarm.signs.tolist()
            if main and (training.every(step, 10, config.n_steps) or step == 1):
                run.log(step, d_loss=d_loss, g_loss=g_loss, d_real=signs[0], d_fake=signs[1],
                        **optional(config, commit, of_classes))
            progress.update(step, d_loss=d_loss, g_loss=g_loss, **watched)
            verdict = ["", False]
            if training.every(step, config.eval_every, config.n_steps) or step == 1:
                ema.copy_to(G_ema)
                if main:
                    look = watch.look(step)
                    run.log(step, **look.numbers)
                    run.set_status(warning=look.reason)
                    watched, verdict = {look.score.name: look.score.value}, [look.reason, alarm.best_step == step]
                broadcast_object_list(verdict)
            reason, is_best = verdict
            if is_best:
                training.save_state(run, step, accelerator, parts, name="best")
            if reason and config.on_collapse != "warn":
                step = roll_back(run, accelerator, parts, alarm, step, reason)
                if config.on_collapse == "stop" or alarm.n_rollbacks > MAX_ROLLBACKS:
                    break
            elif training.every(step, config.save_every, config.n_steps):
                training.save_state(run, step, accelerator, parts)
        progress.close()
        ema.copy_to(G_ema)
        return finish(run, config, watch, step) if main else {}


def preset_of(config, n_classes):
    """The BigGANConfig that a TrainConfig asks for."""
    own = {name: value for name in ("resolution", "width") if (value := getattr(config, name))}
    return biggan.preset(config.size, n_classes=n_classes, **own)


def fq_of(config):
    """The dictionaries of a TrainConfig as `save_trained` keeps them: arguments of `add_fq`; None for fq="off"."""
    if config.fq == "off":
        return None
    if config.fq not in MODES:
        raise KeyError(unknown_name(config.fq, ("off", *MODES), "setting of fq"))
    n_blocks = len(biggan.TOWERS[preset_of(config, 2).resolution].d_widths)
    numbers = range(n_blocks) if config.fq_layers == "all" else config.fq_layers.split(",")
    return {"layers": [f"blocks.{int(number)}" for number in numbers], "n_codes": config.n_codes, "decay": config.fq_decay,
            "commit_weight": config.commit_weight, "mode": config.fq, "n_warmup": config.fq_warmup}


def build(config, n_classes):
    """The two players, new -> (G, D), channels_last"""
    if config.head not in DISCRIMINATORS:
        raise KeyError(unknown_name(config.head, DISCRIMINATORS, "head of a discriminator"))
    networks = preset_of(config, n_classes)
    G, D = biggan.Generator(networks), DISCRIMINATORS[config.head](networks)
    if config.fq != "off":
        add_fq(D, **fq_of(config))
    return G.to(memory_format=torch.channels_last), D.to(memory_format=torch.channels_last)


def noise(G, n, device):
    """Latents and classes of n pictures -> (z (n, Z) float, y (n,) long)"""
    return torch.randn(n, G.config.latent_size, device=device), torch.randint(G.config.n_classes, (n,), device=device)


def ema_decay(config, step):
    """Decay of the averaged generator at a step: 0 (a copy) until `ema_start`, then rising to `ema_decay`.

    It rises as (1 + t) / (10 + t), so that a short run is not weighed down by its first pictures.
    """
    t = step - config.ema_start
    return min(config.ema_decay, (1 + t) / (10 + t)) if t >= 0 else 0.0


def optional(config, commit, of_classes):
    """Log entries that only some settings have: commitment; cross-entropy of the classifier on reals, of the twin on fakes."""
    entries = {"commit": commit} if config.fq != "off" else {}
    if config.head != "projection":
        entries["classifier"] = of_classes.classifier
    return {**entries, "twin": of_classes.twin} if config.head == "tac" else entries


@contextlib.contextmanager
def one_step(i, *nets):
    """Context of micro-batch i of a step: the later ones see the spectrally normalised weights of the first."""
    with contextlib.ExitStack() as stack:
        for net in nets if i else ():
            stack.enter_context(held_spectral_norm(net))
        yield


def commitment(D, config):
    """Mean commitment term () of the last pass through D, 0 without dictionaries."""
    return collect(D).commit.mean() if config.fq != "off" else torch.zeros((), device=D.linear.bias.device)
