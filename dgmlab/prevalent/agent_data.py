"""What agents are trained and judged on: houses, features, episodes by split, batches, and pseudo-labelled paths.

    toy   procedural houses: val_seen are other paths of the training houses, val_unseen those of other houses
    r2r   Room-to-Room
    ndh   made-up episodes in the training houses (CVDN's training split cannot be had); CVDN's real val_seen and val_unseen

A third split, `dev`, is some of the training houses, put aside: the best checkpoint is chosen there, so that no other number
has been selected for. Without it val_unseen chooses, as is usual and flatters. All splits share one table of houses and one of
features.
"""

from typing import NamedTuple

import numpy as np
import torch

from dgmlab import training
from dgmlab.config import unknown_name
from dgmlab.data.batching import batches
from dgmlab.prevalent import speaking
from dgmlab.prevalent.features import Features, open_features
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.ndh import load_ndh, make_ndh_like, read_targets
from dgmlab.prevalent.paths import augmentation_paths
from dgmlab.prevalent.policies import goal_rows
from dgmlab.prevalent.rollout import encode, start_walk
from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.walk import Walk

DATA = ("toy", "r2r", "ndh")
UNSEEN_SEED, DEV_SEED = 10_000, 20_000  # first toy houses of the two splits; training takes 0, 1, ...
UNSEEN_HOUSES = 10  # toy houses of val_unseen
NDH_EPISODES = 5000  # about as many as CVDN's training split has (4,742)
DEV_EPISODES = 500


class AgentData(NamedTuple):
    """What a run trains on and is judged on.

    houses, features  of all splits;  known: the training houses alone, without those of dev
    train             list of Episode;  splits: dict name -> list of Episode, the one that chooses the checkpoint first
    """

    houses: Houses
    features: Features
    train: list
    splits: dict
    known: Houses


class Batch(NamedTuple):
    """B episodes about to begin: ids (B, T) long, mask (B, T) bool, walk, goals (B, G) rows padded with -1."""

    ids: torch.Tensor
    mask: torch.Tensor
    walk: Walk
    goals: np.ndarray


def open_data(config):
    """The data of a FinetuneConfig -> AgentData"""
    if config.data not in DATA:
        raise KeyError(unknown_name(config.data, DATA, "data of an agent"))
    return (open_toy if config.data == "toy" else open_real)(config)


def open_toy(config):
    """Procedural houses: `n_houses` to train in, others to choose the checkpoint in, and others to be judged in."""
    n, n_train = config.n_eval or 500, config.n_episodes
    seeds = {"train": range(config.n_houses), "dev": range(DEV_SEED, DEV_SEED + config.dev_houses),
             "val_unseen": range(UNSEEN_SEED, UNSEEN_SEED + UNSEEN_HOUSES)}
    tables = {name: Houses.toy(some) for name, some in seeds.items() if some}
    houses = Houses([house for table in tables.values() for house in table.houses.values()])
    episodes = toy_episodes(tables["train"], n_train + n, config.seed)
    splits = {name: toy_episodes(tables[name], n, config.seed + 1) for name in ("dev", "val_unseen") if name in tables}
    features = open_features(features_of(config), houses, config.features_path)
    return AgentData(houses, features, episodes[:n_train], {**splits, "val_seen": episodes[n_train:]}, tables["train"])


def open_real(config):
    """Matterport3D: R2R, or CVDN with made-up training episodes. The houses of dev are drawn by the seed."""
    ndh, told = config.data == "ndh", load_r2r("train")
    scans = sorted({episode.scan for episode in told})
    if not 0 <= config.dev_houses < len(scans):
        raise ValueError(f"dev_houses is {config.dev_houses}; expected 0 to {len(scans) - 1}, as one of the {len(scans)} "
                         "houses at least must be left to train in.")
    aside = np.random.default_rng(config.seed).choice(scans, config.dev_houses, replace=False).tolist()
    splits = {split: load_ndh(split, config.supervision) if ndh else load_r2r(split) for split in ("val_unseen", "val_seen")}
    splits = {name: episodes[: config.n_eval or None] for name, episodes in splits.items()}
    others = {episode.scan for episodes in splits.values() for episode in episodes} - set(scans)
    houses = Houses.load([*scans, *sorted(others)])
    known = Houses([houses.houses[scan] for scan in scans if scan not in aside])

    def episodes_of(some, n, seed):
        """R2R's own in these houses, or made-up dialogs."""
        return make_ndh_like(some, n, seed, read_targets()) if ndh else [e for e in told if e.scan in some.houses]

    dev = {"dev": episodes_of(Houses([houses.houses[scan] for scan in aside]), DEV_EPISODES, config.seed + 1)} if aside else {}
    features = open_features(features_of(config), houses, config.features_path)
    return AgentData(houses, features, episodes_of(known, NDH_EPISODES, config.seed), {**dev, **splits}, known)


def features_of(config):
    """The kind of features: the one asked for, or 'toy' in toy houses and 'semantic' in real ones."""
    return config.features or ("toy" if config.data == "toy" else "semantic")


def make_batch(data, words, episodes, config, device=None):
    """Episodes as what one step trains on -> Batch"""
    ids, mask = encode(words, episodes, config.max_length, config.cut or None, device)
    return Batch(ids, mask, start_walk(data.houses, episodes), goal_rows(data.houses, episodes))


def endless_batches(data, words, config, first, device=None):
    """Batches of training episodes for ever, as if `first` steps had been taken; instructions of similar length together."""
    lengths = [len(words.encode(episode.instruction, config.max_length, config.cut or None)) for episode in data.train]
    order = training.endless(lambda epoch: batches(lengths, config.batch_size, config.seed, epoch), first)
    return (make_batch(data, words, [data.train[i] for i in rows], config, device) for _, rows in order)


class PseudoLabels:
    """Back-translation (Tan et al. 2019, section 3.4): paths without instructions, and a speaker to write them.

    The paths are all that R2R could have been sampled from in the training houses, dev left out.
    """

    def __init__(self, folder, data, words, config, device=None):
        self.speaker, self.speaker_words = speaking.load_speaker(folder)
        self.speaker.to(device)
        self.data, self.words, self.config, self.device = data, words, config, device
        self.paths = augmentation_paths(data.known)

    def batch(self, step, environment):
        """The unlabelled batch of a step, told by the speaker in an environment (F,) with dropout. -> Batch"""
        rng = np.random.default_rng([self.config.seed, step])
        chosen = rng.integers(self.paths.n, size=self.config.batch_size)
        known, houses = self.data.known, self.data.houses
        paths = [[houses.row(*known.name(row)) for row in self.paths.path(i)] for i in chosen]
        headings = rng.uniform(0, 2 * np.pi, len(paths))
        ids, _ = speaking.back_translate(self.speaker, self.speaker_words, self.data.features, houses, paths, headings,
                                         environment, max_length=self.config.max_length - 2)
        texts = speaking.decode_texts(self.speaker_words, ids)
        ids, mask = self.words.batch(texts, self.config.max_length, "end")
        walk = Walk(houses, np.array([path[0] for path in paths]), headings)
        return Batch(ids.to(self.device), mask.to(self.device), walk, np.array([path[-1:] for path in paths]))
