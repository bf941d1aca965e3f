"""Training of agents that ask for help, by imitation (Nguyen and Daume 2019, Help, Anna!).

`train(run, HannaConfig())` learns in toy houses; `data="matterport"` looks for the objects of CVDN's table in R2R's training
houses, with routes made by the grammar of directions; `data="hanna"` takes the task files where you have them. It leaves
model/ and results.json, and resumes where the folder has state. PREVALENT_HANNA's setting is `agent="prevalent"` with
`pretrained`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from dgmlab import training
from dgmlab.config import unknown_name
from dgmlab.data.batching import batches
from dgmlab.prevalent.agent import build_agent
from dgmlab.prevalent.angles import ANGLE_SIZE
from dgmlab.prevalent.evaluate import PROTOCOLS, evaluate
from dgmlab.prevalent.features import Features, open_features
from dgmlab.prevalent.hanna import Absent, Anna, load_hanna, load_routes, make_routes, object_episodes
from dgmlab.prevalent.hanna_agent import HannaAgent, save_hanna
from dgmlab.prevalent.hanna_play import play, run_hanna
from dgmlab.prevalent.hanna_teacher import hanna_loss
from dgmlab.prevalent.house import House
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.ndh import read_targets
from dgmlab.prevalent.pretrain import build_encoder, load_trained
from dgmlab.prevalent.rollout import save_trajectories
from dgmlab.prevalent.semantic import describe
from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.words import Words

DATA = ("toy", "matterport", "hanna")
UNSEEN_SEED, UNSEEN_HOUSES = 10_000, 12  # first toy house of val_unseen, and how many
WATCHED = ("success_rate", "spl", "nav_error", "help_requests")


@dataclass(frozen=True)
class HannaConfig:
    """What training an agent that asks is made of. PREVALENT_HANNA's in brackets."""

    data: str = "toy"  # toy | matterport | hanna
    agent: str = "follower"  # the navigator: seq2seq | follower | prevalent [prevalent]
    size: str = "tiny"  # preset of the navigator: tiny | small | paper
    pretrained: str = ""  # prevalent: run folder of its pre-training; '' starts the encoder at random
    tune: str = "none"  # prevalent: what learns of the encoder, none | cross | all [none]
    features: str = ""  # toy | semantic | tsv | hdf5 | none; '' takes toy or semantic [tsv: ResNet-152]
    features_path: str = ""  # file of tsv or hdf5
    n_houses: int = 40  # toy: houses to train in
    n_floors: int = 1  # toy: floors of each
    n_rooms: int = 6  # toy: rooms of each floor
    assistant: bool = True  # whether Anna is there to be asked; without her an agent learns to search by itself [true]
    n_episodes: int = 2000  # toy, matterport: episodes to train on
    n_eval: int = 200  # episodes of each split to judge on; 0 takes all of hanna's
    max_length: int = 50  # longest text in tokens; the end of a longer one is not read [50]
    n_steps: int = 200  # optimiser steps [30000]
    batch_size: int = 16  # episodes a step [32]
    train_steps: int = 10  # of an episode in training [20]
    eval_steps: int = 20  # of an episode in evaluation [50]
    lr: float = 3e-3  # Adam's [1e-4]
    weight_decay: float = 5e-4  # Adam's [5e-4]
    clip: float = 5.0  # gradient norm
    alpha: float = 1.0  # weight of not repeating mistakes [1]
    uncertain: float = 0.1  # entropy from which doubt is a reason to ask, a share of that of 36 views and STOP [0.25]
    image_dropout: float = 0.0  # of picture features; names of objects need none [0.3]
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    seed: int = 0  # of everything
    eval_every: int = 100  # steps between looks at the splits
    save_every: int = 100  # steps between checkpoints


class HannaData(NamedTuple):
    """houses and features of all splits; Anna of each split; episodes to train on, and those of each split to judge on."""

    houses: Houses
    features: Features
    anna: dict  # split -> Anna, 'train' too; Absent where there is no assistant
    train: list  # Episode
    splits: dict  # name -> list of Episode
    texts: list  # str that the vocabulary is made of: tasks and routes of the training houses


def train(run, config):
    """Train an agent that asks in the folder `run`; take up the latest checkpoint if there is one.

    run     `dgmlab.run.Run`; gets metrics.jsonl, checkpoints/, model/, results.json, samples/trajectories-SPLIT.json.gz
    config  HannaConfig
    -> dict of the final numbers, SPLIT_METRIC with _low and _high
    """
    accelerator = training.start(config.seed, config.precision)
    with training.reported(run):
        data = open_hanna(config)
        agent, words = build(config, data)
        agent.to(accelerator.device)
        optimizer = torch.optim.Adam([p for p in agent.parameters() if p.requires_grad], lr=config.lr,
                                     weight_decay=config.weight_decay)
        parts = {"model": agent, "optimizer": optimizer}

        first = training.load_state(run, accelerator, parts)
        progress = training.Progress(run, config.n_steps, first, run.dir.name)
        lengths = [len(episode.instruction) for episode in data.train]
        order = training.endless(lambda epoch: batches(lengths, config.batch_size, config.seed, epoch), first)
        agent.train()
        for step in range(first, config.n_steps):
            episodes = [data.train[i] for i in next(order)[1]]
            with training.autocast(accelerator):
                played = play(agent, data.anna["train"], data.features, words, episodes, config.train_steps, "sample",
                              draws=np.random.default_rng([config.seed, step]), image_dropout=config.image_dropout,
                              max_length=config.max_length)
                terms = hanna_loss(played, config.alpha, config.uncertain)
                numbers = {name: float(value.detach()) for name, value in terms._asdict().items()}
                training.check_finite(step + 1, **numbers)
                optimizer.zero_grad(set_to_none=True)
                terms.loss.backward()
            numbers["gradient_norm"] = training.clip(accelerator, agent, config.clip, step + 1)
            optimizer.step()

            done = step + 1
            if training.every(done, 10, config.n_steps) or done == 1:
                run.log(done, **numbers)
            if training.every(done, config.eval_every, config.n_steps):
                looks = {split: score(agent, words, data, split, config)[0].summary for split in data.splits}
                run.log(done, **{f"{name}/{split}": look[name].mean for split, look in looks.items() for name in WATCHED})
            progress.update(done, loss=numbers["loss"])
            if training.every(done, config.save_every, config.n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()

        save_hanna(run.dir / "model", agent, words, data=config.data, features=data.features.name)
        final = {}
        for split in data.splits:
            evaluation, trajectories = score(agent, words, data, split, config)
            save_trajectories(run.dir / "samples" / f"trajectories-{split}.json.gz", trajectories)
            for name, interval in evaluation.summary.items():
                final |= {f"{split}_{name}": interval.mean, f"{split}_{name}_low": interval.low,
                          f"{split}_{name}_high": interval.high}
        run.save_results(final)
        return final


def score(agent, words, data, split, config):
    """Play a split greedily. -> Evaluation by HANNA's protocol, and the trajectories"""
    episodes = data.splits[split]
    trajectories = run_hanna(agent, data.anna[split], data.features, words, episodes, config.eval_steps,
                             max_length=config.max_length)
    return evaluate(trajectories, episodes, data.houses, **PROTOCOLS["hanna"]), trajectories


def build(config, data):
    """The agent of a HannaConfig at random, but for a pre-trained encoder, and its words."""
    size = data.features.size + ANGLE_SIZE
    if config.pretrained and config.agent != "prevalent":
        raise ValueError(f"pretrained is '{config.pretrained}' but {config.agent} has no encoder to take it. "
                         "Use agent='prevalent', or leave it out.")
    encoder, words = load_trained(config.pretrained) if config.pretrained else (None, Words.build(data.texts))
    if config.agent == "prevalent" and encoder is None:
        encoder = build_encoder(config.size, words, data.features)
    navigator = build_agent(config.agent, config.size, len(words), size, encoder, max_length=config.max_length)
    return HannaAgent(navigator.tune(config.tune) if config.agent == "prevalent" else navigator), words


def open_hanna(config):
    """The data of a HannaConfig -> HannaData"""
    if config.data not in DATA:
        raise KeyError(unknown_name(config.data, DATA, "data of an agent that asks"))
    seen, unseen, splits, routes = {"toy": _toy, "matterport": _matterport, "hanna": _files}[config.data](config)
    houses = Houses([*seen.houses.values(), *unseen.houses.values()])
    features = open_features(config.features or ("toy" if config.data == "toy" else "semantic"), houses, config.features_path)
    anna = {split: Anna(houses, routes, split) if config.assistant else Absent(houses) for split in splits}
    train = splits.pop("train")
    texts = [episode.instruction for episode in train] + [route.instruction for route in routes if route.scan in seen.houses]
    return HannaData(houses, features, anna, train, splits, texts)


def _toy(config):
    """Procedural houses to train in, and others."""
    plan = {"n_floors": config.n_floors, "n_rooms": config.n_rooms}
    seen = Houses.toy(range(config.n_houses), **plan)
    unseen = Houses.toy(range(UNSEEN_SEED, UNSEEN_SEED + UNSEEN_HOUSES), **plan)
    return seen, unseen, *_made_up(seen, unseen, config)


def _matterport(config):
    """The training houses of R2R and those of its val_unseen, with the objects that CVDN hides there."""
    seen, unseen = (_described({episode.scan for episode in load_r2r(split)}) for split in ("train", "val_unseen"))
    return seen, unseen, *_made_up(seen, unseen, config, read_targets())


def _made_up(seen, unseen, config, targets=None):
    """Episodes of the three splits, and routes in all houses."""
    n = config.n_eval or config.n_episodes
    train = object_episodes(seen, config.n_episodes + n, config.seed, targets)
    splits = {"train": train[n:], "val_seen": train[:n], "val_unseen": object_episodes(unseen, n, config.seed + 1, targets)}
    return splits, make_routes(seen, config.seed) + make_routes(unseen, config.seed + 1)


def _files(config):
    """HANNA's own files."""
    splits = {split: load_hanna(split) for split in ("train", "val_seen", "val_unseen")}
    seen = {episode.scan for episode in splits["train"]}
    others = {episode.scan for split in ("val_seen", "val_unseen") for episode in splits[split]} - seen
    for split in ("val_seen", "val_unseen"):
        splits[split] = splits[split][: config.n_eval or None]
    return _described(seen), _described(others), splits, load_routes()


def _described(scans):
    return Houses([describe(House.load(scan)) for scan in sorted(scans)])
