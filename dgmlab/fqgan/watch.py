"""What a GAN's losses do not say: distances of its pictures while it trains, the use of its dictionaries, an alarm.

The loops of this folder share it. Nothing here learns, and nothing here draws: pictures of these numbers are in `dgmlab.viz`.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.checkpoint import load_state, save_state
from dgmlab.data import pixels
from dgmlab.data.reading import draw_rows
from dgmlab.data.registry import data_home
from dgmlab.fqgan.attach import collect
from dgmlab.fqgan.sample import sample, save_trained
from dgmlab.metrics import dictionary
from dgmlab.metrics.extractors import Extractor, extract, load_extractor, trained_extractor
from dgmlab.metrics.scores import Features, all_scores, frechet_score
from dgmlab.quantize import VectorQuantizer, frozen
from dgmlab.run import read_json, write_json

MAX_ROLLBACKS = 3  # ways back after an alarm; at the next one the training ends
CLASSIFIED = 5000  # pictures that an extractor is trained on in place: some seconds


class Reference(NamedTuple):
    """Real pictures as a metric sees them: the extractor, and their Features."""

    extractor: Extractor
    features: Features


def open_reference(images, data, extractor="auto", path="", n=10_000):
    """The extractor for a set of pictures, and what it makes of the real ones -> Reference

    images     Images: the pictures that the generated ones are compared with
    data       name or path of the set, which chooses the extractor and names its numbers
    extractor  auto: digits -> fd_digits; CIFAR-10 -> fd_resnet20, where its weights are in the data folder; else `trained`.
               trained: a small classifier trained in place on the classes of the set or, where it has one class only, on
               which way up a picture is. Or a name of `load_extractor`: fid (with path) | fd_digits | fd_resnet20 | ...
    n          pictures of the reference, drawn once and for all; 0 takes every one
    """
    rows = torch.from_numpy(draw_rows(len(images.y), n))
    if extractor == "auto":
        weights = data_home() / "classifiers" / "resnet20_cifar10.safetensors"
        cifar = data in ("cifar10", "cifar10_jpeg") and weights.exists()
        extractor = "fd_digits" if data == "digits" else "fd_resnet20" if cifar else "trained"
    chosen = _train_extractor(images, data) if extractor == "trained" else load_extractor(extractor, path or None)
    return Reference(chosen, extract(chosen, (images.x[part] for part in rows.split(500))))


def _train_extractor(images, data):
    """A classifier of the set's own classes, or of quarter turns -> Extractor 'fd_NAME'"""
    name = re.sub(r"[^a-z0-9]+", "_", Path(data).stem.lower()).strip("_")
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(images.y))[:CLASSIFIED])
    x, y = images.x[rows], images.y[rows]
    if len(images.class_names) < 2:
        x = torch.cat([x.rot90(turns, (2, 3)) for turns in range(4)])
        y, name = torch.arange(4).repeat_interleave(len(rows)), f"{name}_turns"
    return trained_extractor(x, y, name)


def effective_rank(features):
    """How many directions features (N, D) spread over: exp of the entropy of the covariance's eigenvalues, 1 to D.

    Roy and Vetterli, "The effective rank", EUSIPCO 2007. 1 where all pictures are alike.
    """
    values = np.linalg.eigvalsh(np.cov(np.asarray(features, dtype=np.float64), rowvar=False)).clip(min=0)
    total = values.sum()
    share = values[values > 0] / total if total > 0 else np.ones(1)
    return float(np.exp(-(share * np.log(share)).sum()))


def class_signals(features, asked=None):
    """What a classifier sees in generated pictures -> dict of log entries, {} where the extractor gives no class scores

    asked           (N,) the classes that the generator was asked for, where the classifier knows the same ones
    classes_found   classes that at least a tenth of their even share of pictures looks like
    class_accuracy  share of pictures that look like what was asked for
    """
    if features.logits is None:
        return {}
    seen = features.logits.argmax(1)
    counts = np.bincount(seen, minlength=features.logits.shape[1])
    found = {"classes_found": int((counts >= 0.1 * len(seen) / len(counts)).sum())}
    return found if asked is None else {**found, "class_accuracy": float((seen == np.asarray(asked)).mean())}


def spread_within(x, y):
    """How much pictures of one class differ: x (N, C, S, S) uint8, y (N,) long -> standard deviation of a pixel, 0 to 1

    The mean over classes with at least two pictures; 0 where each class has but one kind.
    """
    groups = [x[y == label].flatten(1).float() / 255 for label in y.unique()]
    spreads = [group.std(0).mean() for group in groups if len(group) > 1]
    return float(torch.stack(spreads).mean()) if spreads else 0.0


@torch.no_grad()
def code_signals(D, real, fake):
    """How the dictionaries inside D are used on real and on generated pictures -> dict of log entries, {} without any

    real, fake  iterables of tuples of inputs, so that D(*inputs) runs; of about as many pictures

    usage/LAYER, usage_fake/LAYER (K ints), dead/LAYER (share that neither takes), js/LAYER (bits), dictionary_perplexity/LAYER
    """
    sizes = {part.layer: part.n_codes for part in D.modules() if isinstance(part, VectorQuantizer) and hasattr(part, "layer")}
    if not sizes:
        return {}
    was_training, numbers = D.training, {}
    with frozen(D.eval()):
        counts = [_count(D, batches, sizes) for batches in (real, fake)]
    D.train(was_training)
    for layer in sizes:
        on_real, on_fake = (each[layer] for each in counts)
        numbers |= {
            f"usage/{layer}": on_real.tolist(), f"usage_fake/{layer}": on_fake.tolist(),
            f"dead/{layer}": dictionary.dead_share(on_real + on_fake),
            f"js/{layer}": dictionary.js_divergence(on_real, on_fake),
            f"dictionary_perplexity/{layer}": dictionary.dictionary_perplexity(on_real),
        }
    return numbers


def _count(D, batches, sizes):
    """Codes taken in each layer: {layer: (K,)}"""
    counts = dict.fromkeys(sizes, 0)
    for inputs in batches:
        D(*inputs)
        for layer, codes in collect(D).codes.items():
            counts[layer] = counts[layer] + dictionary.code_counts(codes, sizes[layer])
    return counts


class CollapseAlarm:
    """Tells a training that has gone wrong from one that is only noisy, and says why.

    factor    alarm where the distance is this many times its best, in `patience` evaluations in a row
    narrow    or where the pictures' features spread over less than this share of the directions they once had, or pictures of
              one class over less than this share of what they once did or the data does, whichever is less
    sure      or where D tells real from generated pictures in this share of cases: G learns nothing from it any more

    `best` and `best_step` are those of the distance; `signs` (2,) are the shares of positive logits on real and on generated
    pictures over the last hundred steps or so. Saved with `state_dict`, as part of a checkpoint.
    """

    STATE = ("best", "best_step", "widest", "widest_class", "strikes", "n_rollbacks", "signs")

    def __init__(self, factor=3.0, patience=2, narrow=0.25, sure=0.995):
        self.factor, self.patience, self.narrow, self.sure = factor, patience, narrow, sure
        self.best, self.best_step, self.widest, self.widest_class = float("inf"), 0, 0.0, 0.0
        self.strikes, self.n_rollbacks = 0, 0
        self.signs = torch.full((2,), 0.5)

    def see(self, real_logits, fake_logits):
        """Take note of D's logits in one step; without a wait for the device."""
        now = torch.stack([(logits.detach() > 0).float().mean() for logits in (real_logits, fake_logits)])
        self.signs = torch.lerp(self.signs.to(now.device), now, 0.02)

    def check(self, step, distance, rank, perplexities=(), class_spread=1.0):
        """The state at an evaluation -> the reason for an alarm, '' for none

        distance, rank  Frechet distance of the pictures, and their `effective_rank`
        perplexities    of the dictionaries, on real pictures
        class_spread    `spread_within` the classes of the pictures, over that of the data
        """
        if distance < self.best:
            self.best, self.best_step = distance, step
        self.widest = max(self.widest, rank)
        self.widest_class = max(self.widest_class, min(1.0, class_spread))
        on_real, on_fake = self.signs.tolist()
        reasons = []
        if distance > self.factor * self.best:
            reasons.append(f"the distance is {distance:.3g}, at step {self.best_step} it was {self.best:.3g}")
        if rank < self.narrow * self.widest:
            reasons.append(f"the pictures vary in {rank:.1f} directions, once in {self.widest:.1f}: they are all alike")
        if class_spread < self.narrow * self.widest_class:
            reasons.append(f"pictures of one class differ by {class_spread:.2f} of what those of the data do, once by "
                           f"{self.widest_class:.2f}: latents do nothing")
        if min(on_real, 1 - on_fake) > self.sure:
            reasons.append(f"D is right about {min(on_real, 1 - on_fake):.1%} of the pictures: it gives G no direction")
        if perplexities and min(perplexities) < 1.01 and step > self.best_step:
            reasons.append("a dictionary has come down to one code: all features are alike to it")
        self.strikes = self.strikes + 1 if reasons else 0
        return "; ".join(reasons) if self.strikes >= self.patience else ""

    def state_dict(self):
        return {key: getattr(self, key) for key in self.STATE}

    def load_state_dict(self, state):
        for key in self.STATE:
            setattr(self, key, state[key])


class Watch:
    """The looks at an averaged generator while it trains: score, grid, dictionaries, alarm.

    trained    `sample.Trained` of the averaged generator and of D as it learns
    reference  of `open_reference`
    images     Images that D learns from; some of them show how its dictionaries are used
    """

    N_CODED = 512  # pictures that the dictionaries are shown

    def __init__(self, run, trained, reference, images, alarm, n_pictures, n_draws=50):
        self.run, self.trained, self.reference, self.alarm = run, trained, reference, alarm
        self.n_pictures, self.n_draws, self.n_classes = n_pictures, n_draws, len(images.class_names)
        rows = torch.from_numpy(np.random.default_rng(1).permutation(len(images.y))[:self.N_CODED])
        self.real = images.x[rows], images.y[rows]
        self.real_spread = spread_within(*self.real) if trained.kind == "biggan" else 0.0

    def look(self, step):
        """Measure and keep a grid -> Look; nothing here touches the random state that training draws from."""
        pictures = sample(self.trained, self.n_pictures, seed=0)
        features = extract(self.reference.extractor, pictures, ema=True, mode="eval", seed=0)
        score = frechet_score(self.reference.features, features, self.n_draws)
        rank = effective_rank(features.features)
        codes = code_signals(self.trained.D, self._inputs(*self.real), self._inputs(pictures[:self.N_CODED]))
        perplexities = [value for key, value in codes.items() if key.startswith("dictionary_perplexity/")]
        spread = {}
        if self.real_spread:
            within = spread_within(pictures, torch.arange(len(pictures)) % self.n_classes)
            spread = {"class_spread": within / self.real_spread}
        reason = self.alarm.check(step, score.value, rank, perplexities, **spread)
        self.save_grid(step, pictures)
        numbers = {**score.flat(), "effective_rank": rank, **spread, **self.class_signals(features), **codes}
        return Look(score, numbers, reason)

    def class_signals(self, features):
        """`class_signals` of pictures drawn class after class, where extractor and generator know the same classes."""
        conditional = self.trained.kind == "biggan" and features.logits is not None
        same = conditional and features.logits.shape[1] == self.n_classes
        return class_signals(features, np.arange(len(features.features)) % self.n_classes if same else None)

    def save_grid(self, step, pictures, n_rows=8):
        """Keep the first pictures as samples/grid-STEP.png, a column for each class; fixed z from step to step."""
        columns = self.n_classes if 1 < self.n_classes <= 12 else 8
        self.run.samples.mkdir(parents=True, exist_ok=True)
        pixels.write_png(self.run.samples / f"grid-{step:08d}.png", pixels.tile(pictures[:n_rows * columns], columns))

    def _inputs(self, x, y=None, batch_size=64):
        """Batches of what D takes: (x,), or (x, y) where it is told the class."""
        device = next(self.trained.D.parameters()).device
        y = torch.arange(len(x)) % self.n_classes if y is None else y
        for part in torch.arange(len(x)).split(batch_size):
            shown = pixels.to_float(x[part].to(device)).contiguous(memory_format=torch.channels_last)
            yield (shown, y[part].to(device)) if self.trained.kind == "biggan" else (shown,)


class Look(NamedTuple):
    """score: the Score; numbers: flat, for the log; reason: of an alarm, '' for none."""

    score: object
    numbers: dict
    reason: str


def roll_back(run, accelerator, parts, alarm, step, reason):
    """Go back to checkpoints/best, note the alarm in alarms.json, and draw other noise from there on -> the step of it

    What was logged since is taken out of metrics.jsonl and kept in alarms.json, beside the reason.
    """
    n_rollbacks = alarm.n_rollbacks + 1
    lost = [row for row in run.metrics() if row["step"] > alarm.best_step]
    accelerator.wait_for_everyone()
    best = load_state(run, accelerator, parts, name="best")
    if accelerator.is_main_process:
        run.rewind(best)
        alarms = read_json(run.dir / "alarms.json", [])
        write_json(run.dir / "alarms.json", [*alarms, {"step": step, "reason": reason, "back_to": best, "lost": lost}])
    alarm.n_rollbacks, alarm.strikes = n_rollbacks, 0
    torch.manual_seed(torch.initial_seed() + 1_000_003 * n_rollbacks)
    save_state(run, best, accelerator, parts)  # so that a run killed now takes up the way back, not the collapse
    return best


def open_watch(run, config, trained, images, alarm, reference=None):
    """The Watch of a config: extractor, extractor_path, n_watch -> Watch"""
    reference = reference or open_reference(images, config.data, config.extractor, config.extractor_path, config.n_reference)
    return Watch(run, trained, reference, images, alarm, config.n_watch)


def finish(run, config, watch, step):
    """Save the averaged generator and D, and measure the generator with `n_eval` pictures; done before, it is read back.

    -> dict: each score of `all_scores` with its interval, what the classifier sees, the best distance while training (over all
       looks: lower than a single look would be), the step; results.json has the card of the numbers besides
    """
    if done := run.finished("model/about.json"):
        return done
    trained, reference = watch.trained, watch.reference
    save_trained(run.dir / "model", trained.kind, trained.G, trained.D, trained.about["fq"], class_names=trained.class_names,
                 data=config.data, step=step, **{key: value for key, value in trained.about.items() if key != "fq"})
    features = extract(reference.extractor, sample(trained, config.n_eval, seed=1), ema=True, mode="eval", seed=1)
    smallest = min(features.card.n, reference.features.card.n, 1000)
    scores = all_scores(reference.features, features, subset_size=smallest)
    numbers = {key: value for score in scores for key, value in score.flat().items()}
    numbers |= {**watch.class_signals(features), "best_while_training": watch.alarm.best, "step": step,
                "n_rollbacks": watch.alarm.n_rollbacks}
    run.save_results(numbers)
    write_json(run.dir / "card.json", scores[0].card._asdict())
    return numbers


@torch.no_grad()
def feature_map(D, layer, inputs):
    """What the dictionary of a layer is given for some pictures -> (N, C, H, W) float32 on the CPU

    D       a discriminator; put into evaluation mode for the pass
    layer   its name as in `named_modules()`, such as 'blocks.3'
    inputs  tuple, so that D(*inputs) runs
    """
    seen, was_training = {}, D.training
    # before the dictionary's own hook, which replaces the output by codes
    hook = D.get_submodule(layer).register_forward_hook(lambda module, x, output: seen.update(map=output), prepend=True)
    try:
        with frozen(D.eval()):
            D(*inputs)
    finally:
        hook.remove()
        D.train(was_training)
    return seen["map"].float().cpu()


def layer_vectors(D, layer, inputs, n, seed=0):
    """`n` of the vectors of a `feature_map`, drawn from all positions of all pictures -> (n, C), all where there are fewer"""
    rows = feature_map(D, layer, inputs).movedim(1, -1).flatten(0, -2)
    return rows[torch.from_numpy(np.random.default_rng(seed).permutation(len(rows))[:n])]
