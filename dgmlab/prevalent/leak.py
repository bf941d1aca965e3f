"""No validation instruction in pre-training: the check that the published data set would not have passed.

Its 104 K real triplets are the steps of the training *and* both validation splits of R2R (84,280 + 6,201 + 14,013), which is
known from counting them. Here a training set is looked at before every run on R2R, synthetic instructions included:

    check_leak(triplets)                 folder, Triplets, or list of Episode; ValueError names the first leak

A leak is a house of val_unseen or test, or an instruction of val_seen or val_unseen in its own house (case, spacing and
punctuation aside; a handful of short sentences, "Go up the stairs then stop.", occur in several houses and are none). What a
speaker has written counts only on the very path of the instruction: short sentences come up by chance.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.triplets import Triplets, path_key, text_key

UNSEEN = ("val_unseen", "test")  # splits whose houses may not occur at all
ADVICE = "Train on the training split alone."


class Checked(NamedTuple):
    """instructions: that were compared; shared_paths: those of them on the path of a validation instruction, in other words"""

    instructions: int
    shared_paths: int


class _Training(NamedTuple):
    """Instructions to be checked: their houses; keys of text and path, and a name, of each. The first n_real are people's."""

    scans: set
    text: np.ndarray
    path: np.ndarray
    n_real: int
    name: callable


def check_leak(training, validation=None):
    """Make sure that a training set holds nothing of the validation and test splits.

    training    list of Episode, a Triplets, or the folder of one
    validation  dict split -> list of Episode; by default val_seen, val_unseen and test of R2R
    -> Checked. Paths of val_seen are no leak: speakers write for every path of the training houses, those included.
    ValueError  in one line: the house, or the instruction and where it was found
    """
    if validation is None:
        validation = {split: load_r2r(split) for split in ("val_seen", *UNSEEN)}
    mine, shared = _training(training), False
    for split, episodes in validation.items():
        if split in UNSEEN:
            common = sorted(mine.scans & {episode.scan for episode in episodes})
            if common:
                raise ValueError(f"leak: house '{common[0]}' of {split} is among the training triplets. {ADVICE}")
        text = np.array([text_key(episode.scan, episode.instruction) for episode in episodes], dtype=np.uint64)
        path = np.array([path_key(episode.scan, episode.path) for episode in episodes], dtype=np.uint64)
        said = np.isin(mine.text, text)
        for number in np.flatnonzero(said):
            which = np.flatnonzero(text == mine.text[number])
            if number < mine.n_real or mine.path[number] in path[which]:
                episode = episodes[which[0]]
                raise ValueError(f"leak: '{episode.instruction[:60]}' ({split}, instr_id {episode.instr_id}) is among the "
                                 f"training triplets as {mine.name(number)}. {ADVICE}")
        shared = shared | np.isin(mine.path, path)
    return Checked(len(mine.text), int(np.sum(shared)))


def _training(training):
    if isinstance(training, str | Path):
        training = Triplets(training)
    if isinstance(training, Triplets):
        return _Training(set(training.scans), training.text_key, training.path_key, training.counts.real_instructions,
                         lambda number: f"instruction {number} of {training.folder}")
    training = list(training)
    return _Training({episode.scan for episode in training},
                     np.array([text_key(episode.scan, episode.instruction) for episode in training], dtype=np.uint64),
                     np.array([path_key(episode.scan, episode.path) for episode in training], dtype=np.uint64),
                     len(training), lambda number: f"'{training[number].instr_id}'")


def of_training_houses(episodes: Iterable, scans):
    """Hand on the episodes of a speaker; ValueError at the first whose house is not one of the training houses `scans`."""
    allowed = set(scans)
    for episode in episodes:
        if episode.scan not in allowed:
            raise ValueError(f"leak: a synthetic instruction is about house '{episode.scan}', which is not one of the "
                             f"{len(allowed)} training houses. {ADVICE}")
        yield episode
