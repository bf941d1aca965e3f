"""Image-text-action triplets: what Prevalent is pre-trained on (Hao et al. 2020, section 3.1), in files of any size.

A triplet is one step of an instruction's path: the instruction, the panorama at that step, and what is done next, STOP
included; each step stands alone, without history. On disk it is six numbers a step and the words once an instruction; the
views are looked up in the table of features, which has each panorama once.

    triplets = pack(folder, houses, words, load_r2r("train"), synthetic=read_synthetic(shards))
    batch = triplets.batch(Order(triplets, batch_size=64).indices(step), "candidate_rank")     see dgmlab.prevalent.order

The action has two label spaces. `candidate_rank`, of the released code: 0 is STOP, then the neighbours by how far one has to
turn to them, the nearest heading first (36 classes of which houses use 0 to 13). `view_stop`, of the paper's text: the view
that the next panorama is best seen in, and 36 for STOP. Views are counted relative to the agent (0 to 11 below, 12 straight
ahead, 15 to the right): nothing in the input says where north is, so absolute views could not be told.

An agent starts at the heading of its episode, snapped to a view, and after a move looks where it went.
"""

import hashlib
import itertools
import os
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.prevalent.angles import HEADINGS, STEP
from dgmlab.prevalent.house import check_path
from dgmlab.run import read_json, write_error, write_json

FORMAT = 1  # raised when the layout of the files changes
STOP_VIEW = 36  # of the label space view_stop
CHUNK = 2000  # episodes labelled together; all that is in memory while packing
COLUMNS = {  # one .npy file each
    "tokens": np.uint16, "offsets": np.int64,  # words of all instructions on end, and where each begins
    "text_key": np.uint64, "path_key": np.uint64,  # of each instruction, for the leak check
    "instruction": np.int32, "row": np.int32, "view": np.int8, "candidate_rank": np.int8, "view_stop": np.int8,  # of each step
}


class Steps(NamedTuple):
    """S steps of some episodes; the last of each episode is STOP.

    instruction     (S,) int64  number of the episode
    row, view       (S,) int64  panorama, and view index 0..35 of the agent there
    candidate_rank  (S,) int64  0 STOP, k the neighbour with the k-th smallest |relative heading|
    view_stop       (S,) int64  0..35 relative view of the next panorama, 36 STOP
    """

    instruction: np.ndarray
    row: np.ndarray
    view: np.ndarray
    candidate_rank: np.ndarray
    view_stop: np.ndarray


class Batch(NamedTuple):
    """ids (B, T) long and mask (B, T) bool of the instructions; row, view, action, and instruction (its number), (B,) long."""

    ids: torch.Tensor
    mask: torch.Tensor
    row: torch.Tensor
    view: torch.Tensor
    action: torch.Tensor
    instruction: torch.Tensor

    def rows(self, which):
        """The triplets at `which` (slice or index), as wide as before."""
        return Batch(*(tensor[which] for tensor in self))

    def to(self, device):
        return Batch(*(tensor.to(device) for tensor in self))


class Counts(NamedTuple):
    """Instructions and steps, real and synthetic."""

    real_instructions: int
    synthetic_instructions: int
    real_steps: int
    synthetic_steps: int


def start_view(heading, elevation):
    """View index of a direction, snapped to the nearest 30 degrees as by the simulator. (...) radians -> (...) int64"""
    turn = np.floor(np.mod(heading, 2 * np.pi) / STEP + 0.5).astype(np.int64) % HEADINGS
    level = 1 + (np.asarray(elevation) > STEP / 2).astype(np.int64) - (np.asarray(elevation) < -STEP / 2)
    return level * HEADINGS + turn


def label_steps(houses, episodes):
    """The steps of a list of episodes along their own paths. -> Steps

    ValueError  a path uses an edge that does not exist (named), or one that no view shows
    """
    lengths = np.array([len(episode.path) for episode in episodes])
    row = np.array([houses.row(episode.scan, viewpoint) for episode in episodes for viewpoint in episode.path])
    last = np.cumsum(lengths) - 1
    first = last - lengths + 1
    chosen = np.append(row[1:], -1)
    chosen[last] = -1  # STOP
    table = houses.candidates
    match = table.index[row] == chosen[:, None]  # (S, K); -1 is also how the table is padded
    match[last] = False
    place = match.argmax(1)
    missing = ~match.any(1)
    missing[last] = False
    if missing.any():
        _name_edge(houses, episodes[np.searchsorted(last, missing.argmax())])

    view = np.empty(len(row), np.int64)
    view[1:] = table.view[row[:-1], place[:-1]]  # after a move the agent looks where it went
    view[first] = start_view(*np.array([(episode.heading, episode.elevation) for episode in episodes]).T)
    every, ahead = np.arange(len(row)), view % HEADINGS
    turn = np.abs(np.mod(table.heading[row] - (ahead * STEP)[:, None] + np.pi, 2 * np.pi) - np.pi)  # (S, K) in [0, pi]
    turn[table.index[row] < 0] = np.inf
    rank = 1 + np.argsort(np.argsort(turn, axis=1, kind="stable"), axis=1)[every, place]
    seen = table.view[row, place].astype(np.int64)
    relative = seen // HEADINGS * HEADINGS + (seen - ahead) % HEADINGS
    rank[last], relative[last] = 0, STOP_VIEW
    return Steps(np.repeat(np.arange(len(episodes)), lengths), row, view, rank, relative)


def _name_edge(houses, episode):
    """ValueError for an episode whose path leaves the candidates."""
    try:
        check_path(houses.houses[episode.scan], episode.path)
    except ValueError as error:
        raise ValueError(f"episode '{episode.instr_id}': {error}") from None
    raise ValueError(f"episode '{episode.instr_id}' takes an edge of house {episode.scan} that stands in no view, so that no "
                     "action leads along it. Leave the episode out.")


# writing


def text_key(scan, text):
    """A number for an instruction in a house; case, spacing and punctuation do not matter. -> int, 64 bits"""
    return _digest(scan, *re.findall(r"\w+", text.lower()))


def path_key(scan, path):
    """A number for a path. -> int, 64 bits"""
    return _digest(scan, *path)


def _digest(*words):
    return int.from_bytes(hashlib.blake2b("\n".join(words).encode(), digest_size=8).digest(), "little")


def pack(folder, houses, words, episodes, synthetic=(), max_length=80):
    """Write the triplets of episodes into a folder that appears only when it is whole; what it holds is replaced.

    houses      Houses that all of them play in; words: Words
    episodes    iterable of Episode, of people
    synthetic   iterable of Episode, of a speaker; read once, so a generator over millions will do
    max_length  tokens of an instruction with both ends; the end of a longer one is cut off, and counted
    -> Triplets
    """
    if len(words) > np.iinfo(COLUMNS["tokens"]).max:
        raise ValueError(f"a vocabulary of at most 65,535 words was expected, found {len(words):,}. Raise min_count.")
    folder = Path(folder)
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        columns = {name: _Column(scratch / f"{name}.npy", dtype) for name, dtype in COLUMNS.items()}
        columns["offsets"].append([0])
        real, synthetic = (_pack_part(columns, houses, words, part, max_length) for part in (episodes, synthetic))
        for column in columns.values():
            column.close()
        write_json(scratch / "about.json", {
            "format": FORMAT, "real": real, "synthetic": synthetic, "scans": houses.scans, "panoramas": len(houses),
            "vocabulary": vocabulary_key(words), "max_length": max_length})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Triplets(folder)


def _pack_part(columns, houses, words, episodes, max_length):
    """Append one source's episodes. -> dict of what it holds"""
    counts = {"instructions": 0, "steps": 0, "cut": 0}
    used, episodes = set(), iter(episodes)
    while chunk := list(itertools.islice(episodes, CHUNK)):
        steps = label_steps(houses, chunk)
        ids = [words.encode(episode.instruction, sys.maxsize) for episode in chunk]
        counts["cut"] += sum(len(row) > max_length for row in ids)
        ids = [row if len(row) <= max_length else [*row[:max_length - 1], words.sep] for row in ids]
        known = columns["offsets"].length - 1
        ends = columns["tokens"].length + np.cumsum([len(row) for row in ids])
        columns["tokens"].append(np.concatenate(ids))
        columns["offsets"].append(ends)
        columns["text_key"].append([text_key(episode.scan, episode.instruction) for episode in chunk])
        columns["path_key"].append([path_key(episode.scan, episode.path) for episode in chunk])
        for name, values in steps._replace(instruction=steps.instruction + known)._asdict().items():
            columns[name].append(values)
        counts["instructions"] += len(chunk)
        counts["steps"] += len(steps.row)
        used |= {episode.scan for episode in chunk}
    return {**counts, "scans": sorted(used)}


class _Column:
    """A one-dimensional .npy file that grows: its header, which numpy pads for this, is written again at the end."""

    def __init__(self, path, dtype):
        self.path, self.dtype, self.length = path, np.dtype(dtype), 0
        self.file = open(path, "wb")
        self._header()

    def _header(self):
        self.file.seek(0)
        np.lib.format.write_array_header_1_0(
            self.file, {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)})

    def append(self, values):
        values = np.asarray(values, self.dtype)  # at once: a list of keys would become floats on the way
        try:
            self.file.write(values.tobytes())
        except OSError as error:
            raise write_error(self.path, error) from error
        self.length += len(values)

    def close(self):
        self._header()
        self.file.close()


def vocabulary_key(words):
    """A number that two equal vocabularies share."""
    return _digest(*words.vocabulary)


# reading


class Triplets:
    """Triplets of a folder that `pack` wrote, memory-mapped: only what a batch asks for is read.

    counts  Counts; the real ones come first
    scans   sorted names of the houses that occur
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.about = read_json(self.folder / "about.json")
        if self.about is None or self.about.get("format") != FORMAT:
            raise FileNotFoundError(f"triplets of format {FORMAT} were expected at {self.folder}, found none. "
                                    "Write them with dgmlab.prevalent.triplets.pack.")
        real, synthetic = self.about["real"], self.about["synthetic"]
        self.counts = Counts(real["instructions"], synthetic["instructions"], real["steps"], synthetic["steps"])
        self.scans = sorted({*real["scans"], *synthetic["scans"]})
        for name in COLUMNS:
            setattr(self, name, np.load(self.folder / f"{name}.npy", mmap_mode="r"))

    def __len__(self):
        return len(self.row)

    def __repr__(self):
        return f"Triplets({self.counts.real_steps:,} real, {self.counts.synthetic_steps:,} synthetic)"

    def check(self, houses, words):
        """Itself, once it is known to speak of these houses and words; ValueError otherwise."""
        if self.about["scans"] != houses.scans or self.about["panoramas"] != len(houses):
            raise ValueError(f"the triplets at {self.folder} were packed for {len(self.about['scans'])} houses "
                             f"({self.about['panoramas']} panoramas), found {len(houses.scans)} ({len(houses)}), or in "
                             "another order. Pack them again.")
        if self.about["vocabulary"] != vocabulary_key(words):
            raise ValueError(f"the triplets at {self.folder} were packed with another vocabulary. Pack them again.")
        return self

    def lengths(self, indices):
        """Tokens of the instructions of triplets (N,). -> (N,) int64"""
        instruction = self.instruction[indices]
        return self.offsets[instruction + 1] - self.offsets[instruction]

    def batch(self, indices, action_space="candidate_rank", pad=0):
        """The triplets at `indices` (B,) int64, labels of the given space. -> Batch, padded to the longest"""
        instruction = self.instruction[indices]
        first, stop = self.offsets[instruction][:, None], self.offsets[instruction + 1][:, None]
        where = first + np.arange((stop - first).max())
        mask = where < stop
        ids = np.where(mask, self.tokens[np.minimum(where, stop - 1)], pad)
        numbers = (ids, mask, self.row[indices], self.view[indices], getattr(self, action_space)[indices], instruction)
        ids, mask, *rest = map(torch.from_numpy, numbers)
        return Batch(ids.long(), mask, *(values.long() for values in rest))


def panoramas(features, row, view, device=None):
    """The views of panoramas row (B,) long for agents that look along view (B,) long, from a Features.

    -> (B, 36, F + 128) float32, views in absolute order, headings in the last 128 numbers relative to the agent's
    """
    tables = features.tensors(device)
    row, view = row.to(tables.views.device), view.to(tables.views.device)
    return torch.cat([tables.views[tables.where[row]].float(), tables.around[view % HEADINGS]], -1)
