"""Training of StyleGAN2 (Karras et al. 2020), with FQ-GAN's dictionaries in D or without them (Zhao et al. 2020).

`train(run, StyleGANConfig(data="photos"))` trains, resumes where the folder has state, and leaves model/ and results.json:
`dgmlab.fqgan.sample` draws from that. The order of a step is D, its R1 penalty, G, its path lengths. Either regulariser is
a step of its own every so often ("lazy regularisation", appendix B), for which `lazy_adam` corrects the optimizer.

Letters: B images of a step on this rank, Z latent z, R side of the images.
"""

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from accelerate.utils import broadcast, broadcast_object_list

from dgmlab import training
from dgmlab.config import unknown_name
from dgmlab.fqgan.attach import add_fq, collect
from dgmlab.fqgan.augment import AdaptiveProbability, augment
from dgmlab.fqgan.losses import logistic_d, logistic_g, r1_penalty
from dgmlab.fqgan.sample import Trained
from dgmlab.fqgan.source import ImageStream, open_images
from dgmlab.fqgan.stylegan import PathLength, StyleGANGenerator
from dgmlab.fqgan.stylegan_discriminator import StyleGANDiscriminator
from dgmlab.fqgan.watch import MAX_ROLLBACKS, CollapseAlarm, finish, open_watch, roll_back
from dgmlab.quantize import MODES, VectorQuantizer, frozen, update_dictionaries


@dataclass(frozen=True)
class StyleGANConfig:
    """What a training run of StyleGAN2 is made of. In brackets the values of FQ-GAN's runs on FFHQ (configuration e)."""

    data: str = "photos"  # pictures: a name of `load_images` (photos, digits, cifar10 ...), a folder, a .parquet [FFHQ]
    resolution: int = 32  # side of the images in pixels, a power of two from 8 on [32, 64, 128, 1024]
    limit: int = 0  # training pictures; 0 takes all
    mirror: bool = False  # mirror pictures at random; wrong for digits and letters [true]
    channel_base: int = 1024  # channels at a side s are channel_base / s [16384; configuration f: 32768]
    channel_max: int = 64  # and at most so many [512]
    z_size: int = 64  # numbers in a latent z [512]
    w_size: int = 64  # numbers in a style w [512]
    n_mapping: int = 4  # layers of the mapping network [8]
    group_size: int = 4  # images over which D's end sees a standard deviation [4]
    fq: str = "off"  # off | quantize (the paper) | regularize (the released code) | warmup (from this to that)
    fq_layers: str = "blocks.32,blocks.16"  # blocks of D, by the side of their input, that have a dictionary [these, "45"]
    n_codes: int = 64  # K of each dictionary [128 up to blocks.64, 64 above]
    fq_decay: float = 0.8  # lambda of its averages [0.8]
    commit_weight: float = 0.25  # alpha of the commitment term [0.25]
    fq_warmup: int = 1000  # updates that `warmup` takes; there are two a step
    n_steps: int = 2000  # steps of D and G; times batch_size: real images shown [781,250: 25,000 kimg]
    batch_size: int = 16  # pictures per step over all ranks [32]
    accumulate: int = 1  # micro-batches a step is split into, see `train` [1]
    lr: float = 0.002  # Adam's learning rate, of both players [0.002]
    beta1: float = 0.0  # Adam's first decay [0.0]
    beta2: float = 0.99  # Adam's second decay [0.99]
    gamma: float = 1.0  # weight of the R1 penalty; 0 leaves it out [100]
    r1_every: int = 16  # steps between R1 penalties [16]
    path_weight: float = 2.0  # weight of the path length regulariser; 0 leaves it out [2]
    path_every: int = 4  # steps between those [4]
    mixing: float = 0.9  # probability that an image has styles of two latents [0.9]
    ema_images: int = 10_000  # half-life of the averaged generator, in real images shown [10,000]
    ema_rampup: float = 0.05  # and at most this share of the images shown so far; 0 sets no limit [0; StyleGAN2-ADA 0.05]
    ada_target: float = 0.0  # adaptive augmentation: aimed-at mean sign of D on real images; 0 is off [0; StyleGAN2-ADA 0.6]
    ada_images: int = 500_000  # real images in which the augmentation could go from never to always [500,000]
    ada_kinds: str = "blit,geometry,colour"  # what it does, see `augment`
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it [fp32]
    seed: int = 0  # of everything
    eval_every: int = 250  # steps between looks at the averaged generator
    save_every: int = 500  # steps between checkpoints
    extractor: str = "auto"  # auto | trained | fid | fd_digits | fd_resnet20 | fd_resnet56; see `open_reference` [fid]
    extractor_path: str = ""  # file of the weights, for fid
    n_reference: int = 10_000  # real pictures compared with; 0 takes all [all]
    n_watch: int = 1000  # pictures in those looks
    n_eval: int = 5000  # pictures in the final evaluation [50,000]
    on_collapse: str = "rollback"  # what an alarm does: rollback (to the best checkpoint, thrice at most) | stop | warn


class Judged(NamedTuple):
    """logits (B,) of D, high for real; commit (), the mean commitment term over the images, 0 without dictionaries."""

    logits: torch.Tensor
    commit: torch.Tensor


def train(run, config, reference=None):
    """Train G and D in the folder `run`; take up the latest checkpoint if there is one.

    run        `dgmlab.run.Run`; gets metrics.jsonl, checkpoints/, samples/, model/, results.json
    config     StyleGANConfig
    reference  of `open_reference`, where several runs share one; else it is made
    -> dict of the final numbers; their names carry extractor and number of pictures

    `accumulate` splits a step into micro-batches of every n-th image: they see the images and latents of the whole batch, in
    the same groups for the standard deviation. Where a micro-batch is a multiple of group_size, the gradients of both players
    and of R1, and the sums for the dictionaries, are thus those of the whole batch, up to rounding. What is drawn on the way
    differs: noise, mixing, augmentation, path lengths, the vectors that codes begin from or are revived by; w_avg moves once
    a micro-batch.
    """
    accelerator = training.start(config.seed, config.precision)
    main, device, world = accelerator.is_main_process, accelerator.device, accelerator.num_processes
    with training.reported(run, main):
        images = open_images(run, config, config.resolution, show=main)
        G, D = (network.to(device, memory_format=torch.channels_last) for network in build(config))
        for network in (G, D):
            network.load_state_dict(broadcast(network.state_dict()))
        opt_g = lazy_adam(G, config, config.path_every if config.path_weight else 0)
        opt_d = lazy_adam(D, config, config.r1_every if config.gamma else 0)
        G_ema = copy.deepcopy(G).eval().requires_grad_(False)
        ema, alarm, path = training.EMA(G, 0.0), CollapseAlarm(), PathLength().to(device)
        ada = AdaptiveProbability(target=config.ada_target, n_images=config.ada_images)
        parts = {"G": G, "D": D, "opt_g": opt_g, "opt_d": opt_d, "ema": ema, "path": path, "ada": ada, "alarm": alarm}
        stream = ImageStream(images, config.batch_size, config.seed, config.mirror, device, accelerator.process_index, world)
        about = Trained("stylegan", G_ema, D, (), {"fq": fq_of(config)})
        watch = open_watch(run, config, about, images, alarm, reference) if main else None
        n, kinds = config.batch_size // world, tuple(config.ada_kinds.split(","))
        micro = interleaved(n, config.accumulate)

        step = training.load_state(run, accelerator, parts)
        progress, watched = training.Progress(run, config.n_steps, step, run.dir.name, show=main), {}
        while step < config.n_steps:
            for optimizer in (opt_g, opt_d):
                training.set_lr(optimizer, optimizer.defaults["lr"] * 0.5**alarm.n_rollbacks)
            p, real, z, row = ada.p, stream.batch(step).x, latents(n, config, device), {}
            d_loss, g_loss, commit, on_real, on_fake = 0.0, 0.0, 0.0, [], []
            for part in micro:
                with training.autocast(accelerator):
                    with torch.no_grad():
                        fake = G(*z[:, part], config.mixing)
                    of_real = judge(D, augment(real[part], p, kinds))  # first: dictionaries begin with features of real images
                    of_fake = judge(D, augment(fake, p, kinds))
                loss, committed = logistic_d(of_real.logits, of_fake.logits).loss, of_real.commit + of_fake.commit
                accelerator.backward((loss + committed) / len(micro))
                d_loss, commit = d_loss + loss.detach() / len(micro), commit + committed.detach() / len(micro)
                on_real.append(of_real.logits.detach())
                on_fake.append(of_fake.logits.detach())
            take_step(accelerator, D, opt_d, step + 1)
            update_dictionaries(D)
            alarm.see(torch.cat(on_real), torch.cat(on_fake))
            if config.ada_target:
                ada.update(torch.cat(on_real))

            if config.gamma and step % config.r1_every == 0:
                for part in micro:
                    seen = real[part].detach().clone().requires_grad_()
                    with training.autocast(accelerator), frozen(D):
                        penalty = r1_penalty(D(augment(seen, p, kinds)), seen, config.gamma)
                    accelerator.backward(penalty * config.r1_every / len(micro))
                    row["r1"] = row.get("r1", 0.0) + penalty.detach() / len(micro)
                take_step(accelerator, D, opt_d, step + 1)

            z = latents(n, config, device)
            D.requires_grad_(False)  # its dictionaries follow these images too, as in the authors' code
            for part in micro:
                with training.autocast(accelerator):
                    of_fake = judge(D, augment(G(*z[:, part], config.mixing), p, kinds))
                loss = logistic_g(of_fake.logits)
                accelerator.backward((loss + of_fake.commit) / len(micro))
                g_loss = g_loss + loss.detach() / len(micro)
            D.requires_grad_(True)
            take_step(accelerator, G, opt_g, step + 1)
            update_dictionaries(D)

            if config.path_weight and step % config.path_every == 0:
                z = latents(max(n // 2, len(micro)), config, device)  # half of the batch will do, as in the paper
                for part in micro:
                    with training.autocast(accelerator):
                        terms = path(*G(*z[:, part], config.mixing, return_ws=True))
                    accelerator.backward(terms.loss * config.path_weight * config.path_every / len(micro))
                take_step(accelerator, G, opt_g, step + 1)
                path.mean.copy_(accelerator.reduce(path.mean, "mean"))
                row["path_length"] = path.mean
            ema.update(G, ema_decay(config, step))

            step += 1
            if training.every(step, 10, config.n_steps) or step == 1 or "r1" in row:
                d_loss, g_loss, commit = accelerator.reduce(torch.stack([d_loss, g_loss, commit]), "mean").tolist()
                if main:
                    d_real, d_fake = alarm.signs.tolist()
                    row |= {"ada_p": ada.p} if config.ada_target else {}
                    run.log(step, d_loss=d_loss, g_loss=g_loss, commit=commit, d_real=d_real, d_fake=d_fake, **row)
            progress.update(step, d_loss=d_loss, g_loss=g_loss, **watched)
            verdict = ["", False]
            if training.every(step, config.eval_every, config.n_steps):
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


def fq_of(config):
    """The dictionaries of a StyleGANConfig as `save_trained` keeps them: arguments of `add_fq`; None for fq="off"."""
    if config.fq == "off":
        return None
    if config.fq not in MODES:
        raise KeyError(unknown_name(config.fq, ("off", *MODES), "setting of fq"))
    return {"layers": config.fq_layers.split(","), "n_codes": config.n_codes, "decay": config.fq_decay,
            "commit_weight": config.commit_weight, "mode": config.fq, "n_warmup": config.fq_warmup}


def build(config):
    """The two players, new -> (G, D)"""
    widths = config.channel_base, config.channel_max
    G = StyleGANGenerator(config.resolution, config.z_size, config.w_size, config.n_mapping, *widths)
    D = StyleGANDiscriminator(config.resolution, *widths, group_size=config.group_size)
    if config.fq != "off":
        add_fq(D, **fq_of(config), example=(torch.zeros(1, 3, config.resolution, config.resolution),))
    return G, D


def lazy_adam(network, config, every):
    """Adam for a network that takes one more step every `every` steps, for its regulariser; 0: none (appendix B).

    The learning rate is multiplied by c = every / (every + 1) and the decays are raised to its power, so that a step of the
    game moves the network and the averages as far as without the split. The regulariser is multiplied by `every`.
    """
    c = every / (every + 1) if every else 1.0
    return torch.optim.Adam(network.parameters(), config.lr * c, (config.beta1**c, config.beta2**c), eps=1e-8, fused=True)


def interleaved(n, n_parts):
    """The micro-batches of a step -> list of slices: every n_parts-th image, from another one on.

    `minibatch_stddev` groups images that lie n / group_size apart, so these slices cut no group of the whole batch.
    """
    if n_parts < 1 or n % n_parts:
        raise ValueError(f"accumulate is {n_parts}; a divisor of the {n} pictures that each process has was expected.")
    return [slice(first, None, n_parts) for first in range(n_parts)]


def latents(n, config, device):
    """z and those to mix in, (2, n, Z) ~ N(0, 1)"""
    return torch.randn(2, n, config.z_size, device=device)


def judge(D, images):
    """D on images (B, 3, R, R) -> Judged, with the commitment of its dictionaries, if it has any"""
    logits = D(images)
    quantized = any(isinstance(part, VectorQuantizer) for part in D.modules())
    return Judged(logits, collect(D).commit.mean() if quantized else logits.new_zeros(()))


def take_step(accelerator, network, optimizer, step):
    """Step with the gradients averaged over the ranks, and forget them.

    In place of DistributedDataParallel: it wants one forward pass for each backward one, and a gradient for every parameter.
    FloatingPointError  a gradient is NaN or infinite; no parameter has been touched
    """
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    if accelerator.num_processes > 1:
        message = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        for gradient, part in zip(gradients, message.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
    training.check_finite(step, gradient_norm=torch.nn.utils.get_total_norm(gradients))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def ema_decay(config, step):
    """Decay of the averaged generator at a step, by its half-life in images (`ema_images`, `ema_rampup`)."""
    half_life = config.ema_images
    if config.ema_rampup:
        half_life = min(half_life, step * config.batch_size * config.ema_rampup)
    return 0.5 ** (config.batch_size / half_life) if half_life else 0.0
