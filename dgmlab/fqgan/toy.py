"""GANs of points in the plane: projection, AC and TAC heads, with or without feature quantization, in seconds.

Here the truth is known: which modes there are, how wide a class is, and so what a head does to it. AC-GAN narrows its classes
where they overlap (Shu et al. 2017; Gong et al. 2019, section 3), since a point that could be of two classes displeases its
classifier; TAC-GAN's twin cancels that; the projection never asks.

    numbers = train_toy(run, ToyConfig(head="tac", fq="quantize"))

Letters: B batch, N points, L classes, Z latent, K codes, D numbers in a code, T looks or updates.
"""

import copy
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dgmlab import training
from dgmlab.config import unknown_name
from dgmlab.fqgan.attach import add_fq, collect, remove_fq
from dgmlab.fqgan.losses import ADVERSARIAL, DOut, class_terms_d, class_terms_g, r1_penalty
from dgmlab.fqgan.mixtures import MIXTURES, Mixture, Points, score_points
from dgmlab.fqgan.watch import code_signals
from dgmlab.metrics.dictionary import code_counts
from dgmlab.quantize import VectorQuantizer, update_dictionaries

HEADS = ("projection", "ac", "tac")
LAYER = "hidden.1"  # the layer of D that is quantised: its last, where the heads begin
N_FEATURES = 500  # points whose features are kept, for a map of them


@dataclass(frozen=True)
class ToyConfig:
    """What a run of the toy lab is made of."""

    data: str = "ring"  # ring | line | grid, see MIXTURES
    head: str = "projection"  # how D learns of classes: projection | ac | tac
    class_weight: float = 1.0  # of the class terms of ac and tac
    fq: str = "off"  # off | quantize (the paper) | regularize (the released code) | warmup (from this to that)
    n_codes: int = 64  # K of the dictionary behind D's last hidden layer
    fq_decay: float = 0.9  # of its averages
    commit_weight: float = 1.0  # alpha of the commitment term
    fq_warmup: int = 1000  # updates that `warmup` takes
    adversarial: str = "logistic"  # logistic | hinge
    r1: float = 0.05  # gamma of the gradient penalty on real points; 0 is off
    n_steps: int = 1500  # steps of D, and of G
    batch_size: int = 256  # points a step
    width: int = 64  # of the two hidden layers of each player
    latent_size: int = 8  # Z
    lr: float = 2e-3  # Adam's, of both players; falls linearly to 0 over the second half
    ema_decay: float = 0.995  # of the averaged generator, which is the one that is measured
    seed: int = 0  # of everything
    eval_every: int = 250  # steps between looks at the averaged generator
    n_eval: int = 10_000  # points in a look


# networks


def layers(*sizes):
    """Linear maps with a leaky ReLU behind each -> list of Sequential, one a layer"""
    return [nn.Sequential(nn.Linear(before, after), nn.LeakyReLU(0.2)) for before, after in itertools.pairwise(sizes)]


class Generator(nn.Module):
    """Noise and a class to a point."""

    def __init__(self, n_classes, latent_size, width):
        super().__init__()
        self.n_classes, self.latent_size = n_classes, latent_size
        self.net = nn.Sequential(*layers(latent_size + n_classes, width, width), nn.Linear(width, 2))

    def forward(self, z, y):
        """z (B, Z) float N(0, 1), y (B,) long -> (B, 2) float"""
        return self.net(torch.cat([z, functional.one_hot(y, self.n_classes).to(z.dtype)], dim=1))

    def draw(self, y, generator):
        """A point for each class of y (N,), from a torch.Generator -> (N, 2)"""
        return self(torch.randn(len(y), self.latent_size, generator=generator), y)


class Discriminator(nn.Module):
    """Two hidden layers, and one of three heads; all as in `tacgan`, without spectral norm."""

    def __init__(self, n_classes, head, width):
        super().__init__()
        if head not in HEADS:
            raise KeyError(unknown_name(head, HEADS, "head of a discriminator"))
        self.hidden = nn.Sequential(*layers(2, width, width))
        self.linear = nn.Linear(width, 1)
        self.embed = nn.Embedding(n_classes, width) if head == "projection" else None
        self.classifier = nn.Linear(width, n_classes) if head in ("ac", "tac") else None
        self.twin = nn.Linear(width, n_classes) if head == "tac" else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, x, y):
        """x (B, 2) float, y (B,) long, which only the projection looks at -> DOut"""
        h = self.hidden(x)
        logits = self.linear(h).squeeze(1)
        if self.embed is not None:
            logits = logits + (self.embed(y) * h).sum(1)
        return DOut(logits, *(None if head is None else head(h) for head in (self.classifier, self.twin)))


class Players(NamedTuple):
    """The game of a ToyConfig: its mixture, G and D."""

    mixture: Mixture
    G: Generator
    D: Discriminator


def build(config):
    """Mixture and new networks, D with its dictionary where the config asks for one -> Players"""
    if config.data not in MIXTURES:
        raise KeyError(unknown_name(config.data, MIXTURES, "mixture"))
    mixture = MIXTURES[config.data]()
    n_classes = len(mixture.shares)
    G = Generator(n_classes, config.latent_size, config.width)
    D = Discriminator(n_classes, config.head, config.width)
    if config.fq != "off":
        add_fq(D, [LAYER], config.n_codes, decay=config.fq_decay, commit_weight=config.commit_weight, mode=config.fq,
               n_warmup=config.fq_warmup, example=(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)))
    return Players(mixture, G, D)


def commitment(D, config):
    """Mean commitment term () of the last pass through D, 0 without a dictionary."""
    return collect(D).commit.mean() if config.fq != "off" else torch.zeros(())


# training


def train_toy(run, config):
    """Train a toy GAN in the folder `run` -> dict of the final numbers, their names with the number of points in thousands

    The run gets metrics.jsonl, results.json and points.npz (`load_points`). Short enough to have no checkpoints: started
    again, it starts over.
    """
    accelerator = training.start(config.seed, "fp32")
    with training.reported(run, accelerator.is_main_process):
        run.rewind(0)
        mixture, G, D = build(config)
        n_classes, draws = len(mixture.shares), torch.Generator().manual_seed(config.seed)
        G_ema, ema = copy.deepcopy(G).requires_grad_(False), training.EMA(G, config.ema_decay)
        opt_g, opt_d = (torch.optim.Adam(net.parameters(), config.lr, (0.0, 0.99), fused=True) for net in (G, D))
        adversarial, frames = ADVERSARIAL[config.adversarial], []
        progress = training.Progress(run, config.n_steps, title=run.dir.name)
        for step in range(1, config.n_steps + 1):
            for optimizer in (opt_g, opt_d):
                training.set_lr(optimizer, config.lr * min(1.0, 2 - 2 * (step - 1) / config.n_steps))
                optimizer.zero_grad(set_to_none=True)
            real, y = mixture.draw(config.batch_size, draws), torch.randint(n_classes, (config.batch_size,), generator=draws)
            with torch.no_grad():
                fake = G.draw(y, draws)
            x = torch.cat([fake, real.x]).requires_grad_(config.r1 > 0)
            on_fake, on_real = D(x, torch.cat([y, real.y])).halves()
            terms = adversarial.d(on_real.logits, on_fake.logits)
            committed = commitment(D, config)
            loss = terms.loss + config.class_weight * class_terms_d(on_real, real.y, on_fake, y).loss + 2 * committed
            if config.r1:  # the mean runs over both halves, and the fakes' gradient is 0: hence twice
                loss = loss + r1_penalty(on_real.logits, x, 2 * config.r1)
            training.check_finite(step, d_loss=loss.detach())
            loss.backward()
            opt_d.step()
            update_dictionaries(D)

            D.requires_grad_(False)
            on_fake = D(G.draw(y, draws), y)
            g_loss = adversarial.g(on_fake.logits)
            (g_loss + config.class_weight * class_terms_g(on_fake, y).loss + commitment(D, config)).backward()
            opt_g.step()
            D.requires_grad_(True)
            update_dictionaries(D)
            ema.update(G)

            if training.every(step, 10, config.n_steps):
                run.log(step, d_loss=terms.loss.detach(), g_loss=g_loss.detach(), commit=2 * committed)
                progress.update(step, d_loss=terms.loss.detach(), g_loss=g_loss.detach())
            if training.every(step, config.eval_every, config.n_steps):
                ema.copy_to(G_ema)
                latest = look(config, mixture, G_ema, D)
                run.log(step, **latest.numbers)
                frames.append(latest.fake.x)
        progress.close()
        return finish(run, config, latest, frames, D)


class Look(NamedTuple):
    """Real and generated Points, n_eval of each, and the numbers of them."""

    real: Points
    fake: Points
    numbers: dict


@torch.no_grad()
def look(config, mixture, G, D):
    """Measure G with the same noise at every look, whatever the config's seed -> Look"""
    draws = torch.Generator().manual_seed(0)
    real = mixture.draw(config.n_eval, draws)
    y = torch.arange(config.n_eval) % len(mixture.shares)
    fake = Points(G.draw(y, draws), y)
    score = score_points(fake, mixture)
    size = f"{config.n_eval // 1000}k" if config.n_eval % 1000 == 0 else str(config.n_eval)
    numbers = {f"fd_points_{size}": score.fd, f"fd_points_class_{size}": score.fd_class, "spread": score.spread,
               "modes": score.modes, "high_quality": score.high_quality}
    return Look(real, fake, numbers | code_signals(D, [real], [fake]))


@torch.no_grad()
def finish(run, config, last, frames, D):
    """Keep the last look, the generated points of all of them and some of D's features -> dict of the final numbers"""
    kept = 0 if config.fq == "off" else N_FEATURES
    unquantised = remove_fq(copy.deepcopy(D)).hidden
    points = ToyPoints(last.real.x, last.real.y, last.fake.x, last.fake.y, torch.stack(frames),
                       dictionary_of(D, config), unquantised(last.real.x[:kept]), unquantised(last.fake.x[:kept]))
    np.savez_compressed(run.dir / "points.npz", **points._asdict())
    numbers = {key: value for key, value in last.numbers.items() if not key.startswith("usage")}
    run.save_results(numbers)
    return numbers


def dictionary_of(D, config):
    """The codes behind D's last hidden layer (K, width); (0, width) without a dictionary."""
    found = [part.dictionary for part in D.modules() if isinstance(part, VectorQuantizer)]
    return found[0] if found else torch.empty(0, config.width)


class ToyPoints(NamedTuple):
    """What `train_toy` leaves for pictures: float32 and, for classes, int64.

    real (N, 2), real_y (N,), fake (N, 2), fake_y (N,)    the last look
    frames (T, N, 2)                    the generated points of each look
    dictionary (K, width)               of D at the end; K = 0 without feature quantization, and no features then
    real_features, fake_features (500, width)    what the codes stand for: D's last hidden layer before the dictionary
    """

    real: np.ndarray
    real_y: np.ndarray
    fake: np.ndarray
    fake_y: np.ndarray
    frames: np.ndarray
    dictionary: np.ndarray
    real_features: np.ndarray
    fake_features: np.ndarray


def load_points(run):
    """The points that `train_toy` left in a run's folder -> ToyPoints"""
    path = run.dir / "points.npz"
    if not path.exists():
        raise FileNotFoundError(f"the points of a toy run were expected at {path}. Run train_toy(run, config) first.")
    with np.load(path) as stored:
        return ToyPoints(**stored)


# a dictionary alone


class Track(NamedTuple):
    """A dictionary after each of T updates.

    dictionary (T, K, D)    counts (T, K) vectors of the batch that each code took    revived (T, K) bool
    perplexity (T,) of the batch, 1 to K    error (T,) mean squared distance of the batch to its codes, before the update
    """

    dictionary: np.ndarray
    counts: np.ndarray
    revived: np.ndarray
    perplexity: np.ndarray
    error: np.ndarray


@torch.no_grad()
def follow(quantizer, batches):
    """Show a VectorQuantizer one batch of vectors (N, D) after the other, with an update after each -> Track"""
    rows = []
    for x in batches:
        found = quantizer(x)
        error = (x - quantizer.dictionary[found.codes]).square().sum(1).mean()
        revived = quantizer.update()
        rows.append((quantizer.dictionary.numpy().copy(), code_counts(found.codes, quantizer.n_codes), revived.numpy(),
                     float(found.perplexity), float(error)))
    return Track(*map(np.array, zip(*rows, strict=True)))
