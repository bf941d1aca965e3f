"""What is seen: features of the 36 views of every panorama, and observations made of them for a batch of agents.

    features = open_features("toy", houses)                     objects and rooms of procedural houses
    features = open_features("semantic", houses)                objects and rooms of Matterport3D, from public tables
    features = open_features("tsv", houses, "ResNet-152-imagenet.tsv")       or "hdf5", see feature_files
    observation = observe(features, walk)                       what policies take

A candidate looks like the view it stands in (`pointId`), with its own direction relative to the agent's heading; the heading
counts in steps of 30 degrees, `view % 12` (R2R-EnvDrop, r2r_src/env.py, Tan et al. 2019). Dropout of features never touches
the 128 numbers of the direction.
"""

from typing import NamedTuple

import numpy as np
import torch

from dgmlab.prevalent.angles import ANGLE_SIZE, HEADINGS, STEP, VIEWS, angle_feature, view_angles, view_direction
from dgmlab.prevalent.feature_files import convert_hdf5, convert_tsv, rows_of
from dgmlab.prevalent.semantic import real_vocabulary, semantic_views, toy_vocabulary

KINDS = ("toy", "semantic", "tsv", "hdf5", "none")


class Selected(NamedTuple):
    """Rows of a table that stays on disk: `selected[rows]` reads what is asked for, in the order of `houses`."""

    table: np.ndarray  # (N, 36, F)
    where: np.ndarray  # (P,) int64 place in the table, 0 for excluded panoramas

    def __getitem__(self, rows):
        return self.table[self.where[rows]]

    @property
    def shape(self):
        return (len(self.where), *self.table.shape[1:])


class Features:
    """Features of the P panoramas of `houses`; `size` is F, without the direction.

    views  (P, 36, F) uint8, float16 or float32, or a memory map: row = panorama, view = level * 12 + heading
    where  (P,) int64 place of each panorama in `views` if the table has another order; `self.views` then selects
    """

    def __init__(self, houses, views, name, where=None):
        if views.shape[1:2] != (VIEWS,) or (where is None and len(views) != len(houses)):
            raise ValueError(
                f"features '{name}' should have the shape ({len(houses)}, {VIEWS}, F), found {tuple(views.shape)}. "
                "Give one row a panorama, in the order of the houses."
            )
        self.houses, self.name, self.size = houses, name, views.shape[-1]
        self.views = views if where is None else Selected(views, where)
        self._table, self._where = views, where
        self._on = {}

    def __repr__(self):
        return f"Features({self.name}: {len(self.houses)} panoramas, {VIEWS} views, {self.size} numbers)"

    def tensors(self, device=None):
        """The tables that `observe` gathers from, on a device; copied there once and kept. -> Tables"""
        device = torch.device(device or "cpu")
        if device not in self._on:
            self._on[device] = self._tables(device)
        return self._on[device]

    def _tables(self, device):
        candidates = self.houses.candidates
        where = np.arange(len(self.houses)) if self._where is None else self._where
        there = candidates.index >= 0
        base = np.arange(HEADINGS)[:, None, None] * STEP
        toward = angle_feature(candidates.heading - base, candidates.elevation, 4) * there[..., None]  # (12, P, K, 4)
        agent = angle_feature(*view_direction(np.arange(VIEWS)))
        parts = (self._table, where, there, candidates.view.clip(0).astype(np.int64), toward, view_angles().copy(), agent)
        return Tables(*(torch.from_numpy(part).to(device) for part in parts))


class Tables(NamedTuple):
    """What `observe` gathers from; four numbers of a direction are what the 128 repeat."""

    views: torch.Tensor  # (N, 36, F)
    where: torch.Tensor  # (P,) long place of each panorama in views
    there: torch.Tensor  # (P, K) bool candidate exists
    view: torch.Tensor  # (P, K) long the view that a candidate stands in
    toward: torch.Tensor  # (12, P, K, 4) its direction, relative to each heading of an agent; zeros where there is none
    around: torch.Tensor  # (12, 36, 128) directions of the views, relative to each heading of an agent
    agent: torch.Tensor  # (36, 128) absolute direction of each view


class Observation(NamedTuple):
    """What B agents see.

    views       (B, 36, F + 128) float  all views, absolute order 0..35, headings relative to the agent's
    candidates  (B, K + 1, F + 128) float  row 0 is STOP, zeros; row i is candidate i - 1; zeros where there is none
    mask        (B, K + 1) bool  True where the action exists
    view        (B,) long  view index 0..35 of the agent
    row         (B,) long  its panorama
    angle       (B, 128) float  its own direction, absolute
    """

    views: torch.Tensor
    candidates: torch.Tensor
    mask: torch.Tensor
    view: torch.Tensor
    row: torch.Tensor
    angle: torch.Tensor


def open_features(kind, houses, path="", size=None):
    """Features of a kind for `houses`.

    kind  'toy' or 'semantic' (names of objects and rooms), 'tsv' or 'hdf5' (a file of picture features at `path`), or 'none'
          (directions only)
    size  first numbers of each row of an HDF5 file to keep; in files of HAMT and DUET scores of classes follow the features
    """
    if kind not in KINDS:
        raise KeyError(f"no features '{kind}'; choose one of: {', '.join(KINDS)}.")
    if kind == "none":
        return Features(houses, np.zeros((len(houses), VIEWS, 0), np.uint8), kind)
    if kind in ("toy", "semantic"):
        vocabulary = toy_vocabulary() if kind == "toy" else real_vocabulary()
        return Features(houses, semantic_views(houses, vocabulary), kind)
    table = convert_tsv(path) if kind == "tsv" else convert_hdf5(path, size)
    return Features(houses, table.views, kind, rows_of(table, houses, path))


def observe(features, walk, device=None, image_dropout=0.0, environment=None, generator=None):
    """What the agents of a Walk see now.

    image_dropout  share of the picture numbers set to 0 (the rest scaled up), drawn anew for views and candidates
    environment    (F,) mask of `environment_mask`, multiplied into every picture feature
    generator      torch.Generator of the dropout
    -> Observation; the mask is the walk's
    """
    row, view = torch.from_numpy(np.asarray(walk.row, np.int64)), torch.from_numpy(np.asarray(walk.view, np.int64))
    seen = observe_at(features, row, view, device, image_dropout, environment, generator)
    return seen._replace(mask=torch.from_numpy(np.asarray(walk.mask)).to(seen.mask.device))


def observe_at(features, row, view, device=None, image_dropout=0.0, environment=None, generator=None):
    """What is seen at panoramas row (B,) long with the agent looking along view (B,) long; as `observe`, with no walk.

    For paths known in advance: all steps of all paths in one call.
    """
    tables, size = features.tensors(device), features.size
    row, view = row.to(tables.views.device), view.to(tables.views.device)
    base, there = view % HEADINGS, tables.there[row]
    n, k = there.shape
    pictures = tables.views[tables.where[row]]  # (B, 36, F)
    ahead = pictures[torch.arange(n, device=row.device)[:, None], tables.view[row]]  # (B, K, F)

    views = torch.empty((n, VIEWS, size + ANGLE_SIZE), device=row.device)
    views[..., :size] = _dropped(pictures, image_dropout, environment, generator)
    views[..., size:] = tables.around[base]
    candidates = torch.zeros((n, k + 1, size + ANGLE_SIZE), device=row.device)
    candidates[:, 1:, :size] = _dropped(ahead, image_dropout, environment, generator) * there[..., None]
    candidates[:, 1:, size:] = tables.toward[base, row].repeat(1, 1, ANGLE_SIZE // 4)
    mask = torch.cat([there.new_ones(n, 1), there], 1)
    return Observation(views, candidates, mask, view, row, tables.agent[view])


def environment_mask(size, p, generator=None):
    """One mask for all views of a house: each picture number is 0 with probability p, else 1 / (1 - p) (Tan et al. 2019).

    -> (size,) float32
    """
    return _dropped(torch.ones(size), p, None, generator)


def _dropped(pictures, p, environment, generator):
    """Picture features as float32, times the mask of an environment, each number then 0 with probability p, else scaled up."""
    if not 0 <= p < 1:
        raise ValueError(f"a share of features to drop lies in [0, 1), found {p}.")
    pictures = pictures.to(torch.float32)
    if environment is not None:
        pictures = pictures * environment.to(pictures.device)
    if not p:
        return pictures
    # 16 random bits a number, four numbers a draw: a third of the time of bernoulli_; p is exact to 1 / 65536
    device = generator.device if generator is not None else pictures.device
    draws = torch.empty(-(-pictures.numel() // 4), dtype=torch.int64, device=device)
    draws.random_(-(2**63), None, generator=generator)
    bits = draws.view(torch.int16)[: pictures.numel()].view(pictures.shape).to(pictures.device)
    return pictures * (bits >= round(p * 2**16) - 2**15) / (1 - p)
