"""Where the triplets of a pre-training run come from: toy houses, or R2R with its training instructions alone.

    data="toy"    procedural houses; val_seen are other paths of the same houses, val_unseen those of other houses
    data="r2r"    Matterport3D houses; checked for leaks each time

The triplets are packed once into the run's folder and memory-mapped from then on; ranks share the files.
"""

from typing import NamedTuple

import numpy as np
import torch

from dgmlab.config import unknown_name
from dgmlab.data.batching import share
from dgmlab.prevalent.features import open_features
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.leak import check_leak, of_training_houses
from dgmlab.prevalent.objective import hide_words
from dgmlab.prevalent.order import Order
from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.triplets import Batch, Triplets, pack, panoramas
from dgmlab.prevalent.words import Words

HELD_OUT = ("val_seen", "val_unseen")
FEATURES = {"toy": "toy", "r2r": "semantic"}  # of each kind of data, where nothing else is asked for
FIRST_UNSEEN = 10_000  # seed of the first toy house that is held out
UNSEEN_SHARE = 4  # there is one held-out toy house for so many training houses


class Micro(NamedTuple):
    """A part of a batch: its b triplets; ids (b, T) long, words hidden; asked (b, T) bool; targets (M,) long; last or not."""

    batch: Batch
    ids: torch.Tensor
    asked: torch.Tensor
    targets: torch.Tensor
    n_asked: int  # words asked in the whole batch, over all parts and ranks
    last: bool


class PretrainData:
    """Words, features and triplets of a run.

    words     Words;  features: Features of all houses
    train     Triplets;  held_out: dict 'val_seen' | 'val_unseen' -> Triplets
    """

    def __init__(self, config, words, features, train, held_out, accelerator):
        self.config, self.words, self.features, self.train, self.held_out = config, words, features, train, held_out
        self.accelerator = accelerator
        self.order = Order(train, config.batch_size, config.seed, config.synthetic_share)

    @property
    def feature_size(self):
        """F + 128, of a view as the model takes it."""
        return panoramas(self.features, torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long)).shape[-1]

    def views(self, batch):
        """(B, 36, F + 128) on the run's device; zeros for a model that is to be blind."""
        views = panoramas(self.features, batch.row, batch.view, self.accelerator.device)
        return torch.zeros_like(views) if self.config.blind else views

    def micro_batches(self, step):
        """Yield this rank's share of a step in `accumulate` parts, words hidden; the whole is a function of the step alone."""
        accelerator, config = self.accelerator, self.config
        batch = self.train.batch(self.order.indices(step), config.action_space, self.words.pad)
        hidden = hide_words(batch.ids, self.words, np.random.default_rng([config.seed, step]))
        mine = share(np.arange(config.batch_size), accelerator.process_index, accelerator.num_processes)
        parts = [torch.from_numpy(rows) for rows in np.array_split(mine, config.accumulate) if len(rows)]
        for i, rows in enumerate(parts):
            asked = hidden.asked[rows]
            tensors = (hidden.ids[rows], asked, batch.ids[rows][asked])
            yield Micro(batch.rows(rows).to(accelerator.device), *(tensor.to(accelerator.device) for tensor in tensors),
                        max(1, int(hidden.asked.sum())), i == len(parts) - 1)


def open_data(run, config, accelerator):
    """The data of a PretrainConfig; packed by the main process where the run's folder has none yet. -> PretrainData"""
    if config.data not in FEATURES:
        raise KeyError(unknown_name(config.data, FEATURES, "data of pre-training"))
    if config.batch_size < accelerator.num_processes:
        raise ValueError(f"batch_size is {config.batch_size} for {accelerator.num_processes} processes. Give each a triplet.")
    houses, episodes = (_toy if config.data == "toy" else _r2r)(config)
    training_scans = {episode.scan for episode in episodes["train"]}
    with accelerator.main_process_first():
        words = _words(run.dir / "words", config, episodes["train"])
        sets = {}
        for split, own in episodes.items():
            folder = run.dir / "triplets" / split
            if not (folder / "about.json").exists():
                spoken = of_training_houses(_synthetic(config), training_scans) if split == "train" else ()
                pack(folder, houses, words, own, spoken, config.max_length)
            sets[split] = Triplets(folder).check(houses, words)
    if config.data == "r2r":
        check_leak(sets["train"])
    features = open_features(config.features or FEATURES[config.data], houses, config.features_path)
    data = PretrainData(config, words, features, sets.pop("train"), sets, accelerator)
    if accelerator.is_main_process:
        _report(data.train)
    return data


def _report(train):
    cut = train.about["real"]["cut"] + train.about["synthetic"]["cut"]
    print(f"{train}" + (f"; {cut:,} instructions are longer than {train.about['max_length']} tokens and cut" if cut else ""),
          flush=True)


def _synthetic(config):
    """Episodes that a speaker wrote, from the shards in `config.synthetic`; none where there is no such folder asked for."""
    if not config.synthetic:
        return ()
    from dgmlab.prevalent.synthesis import read_synthetic

    return read_synthetic(config.synthetic)


def _words(folder, config, training):
    """The vocabulary of a run: made once, then read by all ranks and on every resume."""
    if not folder.exists():
        if config.words:
            words = Words.load(config.words)
        else:
            words = Words.build([episode.instruction for episode in training], config.min_count)
        words.save(folder)
    return Words.load(folder)


def _r2r(config):
    """(Houses, dict split -> episodes) of R2R: its training split and both validation splits."""
    episodes = {split: load_r2r(split) for split in ("train", *HELD_OUT)}
    if config.limit:
        episodes["train"] = episodes["train"][:config.limit]
    scans = dict.fromkeys(episode.scan for split in ("train", *HELD_OUT) for episode in load_r2r(split))
    return Houses.load(list(scans)), episodes


def _toy(config):
    """(Houses, dict split -> episodes) of procedural houses."""
    seen = Houses.toy(range(config.n_houses))
    unseen = Houses.toy(range(FIRST_UNSEEN, FIRST_UNSEEN + max(2, config.n_houses // UNSEEN_SHARE)))
    n, moves = max(50, config.n_episodes // 10), (1, config.max_moves)
    train = toy_episodes(seen, config.n_episodes, config.seed, moves)
    known = {(episode.scan, episode.path) for episode in train}
    other = toy_episodes(seen, n, config.seed + 1, moves)
    held = {"val_seen": [episode for episode in other if (episode.scan, episode.path) not in known],
            "val_unseen": toy_episodes(unseen, n, config.seed + 2, moves)}
    return Houses([*seen.houses.values(), *unseen.houses.values()]), {"train": train, **held}
