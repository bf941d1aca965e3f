"""Triplets: labels worked out by hand, files that come back as they went in, and an order that is one without being stored."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from dgmlab.data.registry import data_home
from dgmlab.prevalent.episodes import Episode
from dgmlab.prevalent.features import open_features
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.order import Order, shuffled
from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.triplets import COLUMNS, STOP_VIEW, Triplets, label_steps, pack, panoramas, start_view
from dgmlab.prevalent.words import Words

STEP = np.pi / 6
real = pytest.mark.skipif(not (data_home() / "matterport" / "R2R").is_dir(), reason=f"no R2R files below {data_home()}")


@pytest.fixture(scope="module")
def houses():
    return Houses.toy(range(4))


@pytest.fixture(scope="module")
def episodes(houses):
    return toy_episodes(houses, 120, seed=0)


@pytest.fixture(scope="module")
def packed(houses, episodes, tmp_path_factory):
    """60 real and 60 synthetic episodes, and the words they were packed with."""
    words = Words.build([episode.instruction for episode in episodes], 1)
    return pack(tmp_path_factory.mktemp("packed") / "train", houses, words, episodes[:60], iter(episodes[60:])), words


# labels


def test_agents_start_at_the_nearest_view():
    headings = np.array([0.0, 0.26, 0.27, 11.6 * STEP, 2 * np.pi, 1.5 * STEP])
    assert start_view(headings, np.zeros(6)).tolist() == [12, 12, 13, 12, 12, 14]
    assert start_view(np.full(3, STEP), np.array([-0.5, 0.2, 0.5])).tolist() == [1, 13, 25]


def test_labels_of_every_step_follow_from_the_candidates_one_by_one(houses, episodes):
    steps = label_steps(houses, episodes)
    at = 0
    for number, episode in enumerate(episodes):
        view = 12 + round(episode.heading / STEP) % 12
        for viewpoint, following in zip(episode.path, (*episode.path[1:], None), strict=True):
            row = houses.row(episode.scan, viewpoint)
            assert (steps.instruction[at], steps.row[at], steps.view[at]) == (number, row, view)
            table = houses.candidates
            turns = {}
            for k in range(table.count[row]):
                turn = (table.heading[row, k] - view % 12 * STEP) % (2 * np.pi)
                turns[int(table.index[row, k])] = min(turn, 2 * np.pi - turn)
            if following is None:
                assert steps.candidate_rank[at] == 0 and steps.view_stop[at] == STOP_VIEW
            else:
                there = houses.row(episode.scan, following)
                k = table.index[row].tolist().index(there)
                assert sorted(turns, key=turns.get)[steps.candidate_rank[at] - 1] == there
                seen = int(table.view[row, k])
                assert steps.view_stop[at] == seen // 12 * 12 + (seen - view) % 12
                view = seen
            at += 1
    assert at == len(steps.row) and steps.candidate_rank.max() > 2


def test_straight_ahead_is_rank_one_and_view_twelve(houses):
    table, row = houses.candidates, 0
    scan, viewpoint = houses.name(row)
    for k in range(table.count[row]):
        path = (viewpoint, houses.name(table.index[row, k])[1])
        steps = label_steps(houses, [Episode("0", scan, table.heading[row, k], 0.0, path, "go", path[-1:], {})])
        assert steps.view_stop[0] % 12 in (0, 1, 11)  # at most the rounding of the start away
        if table.view[row, k] // 12 == 1 and steps.view[0] == table.view[row, k]:
            assert steps.view_stop[0] == 12
            turns = np.abs((table.heading[row, :table.count[row]] - steps.view[0] % 12 * STEP + np.pi) % (2 * np.pi) - np.pi)
            assert steps.candidate_rank[0] == 1 + (turns < turns[k]).sum()


def test_a_path_along_no_edge_is_named(houses, episodes):
    scan = houses.scans[0]
    house = houses.houses[scan]
    far = int(house.distance[0].argmax())
    jump = episodes[0]._replace(scan=scan, path=(house.viewpoints[0], house.viewpoints[far]), instr_id="jump_0")
    with pytest.raises(ValueError, match=f"episode 'jump_0'.*{house.viewpoints[far]}"):
        label_steps(houses, [*episodes[:3], jump, episodes[4]])
    with pytest.raises(KeyError, match="no house 'elsewhere'"):
        label_steps(houses, [jump._replace(scan="elsewhere")])


# files


def test_what_is_packed_comes_back(packed, houses, episodes):
    triplets, words = packed
    steps = label_steps(houses, episodes)
    counts = triplets.counts
    assert counts == (60, 60, sum(len(e.path) for e in episodes[:60]), sum(len(e.path) for e in episodes[60:]))
    assert len(triplets) == len(steps.row) and triplets.scans == sorted({e.scan for e in episodes})
    chosen = np.random.default_rng(0).permutation(len(triplets))[:50]
    for space in ("candidate_rank", "view_stop"):
        batch = triplets.batch(chosen, space, words.pad)
        assert torch.equal(batch.action, torch.from_numpy(getattr(steps, space)[chosen]))
    assert torch.equal(batch.row, torch.from_numpy(steps.row[chosen]))
    assert torch.equal(batch.view, torch.from_numpy(steps.view[chosen]))
    ids, mask = words.batch([episodes[steps.instruction[i]].instruction for i in chosen])
    assert torch.equal(batch.ids, ids) and torch.equal(batch.mask, mask)
    assert np.array_equal(triplets.lengths(chosen), mask.sum(1).numpy())
    assert all(isinstance(getattr(triplets, name), np.memmap) for name in COLUMNS)


def test_long_instructions_are_cut_and_counted(houses, episodes, tmp_path):
    words = Words.build([episode.instruction for episode in episodes], 1)
    lengths = [len(words.encode(episode.instruction)) for episode in episodes]
    limit = int(np.median(lengths))
    triplets = pack(tmp_path / "cut", houses, words, episodes, max_length=limit)
    assert triplets.about["real"]["cut"] == sum(length > limit for length in lengths) > 0
    batch = triplets.batch(np.arange(len(triplets)))
    assert batch.mask.sum(1).max() == limit
    assert set(batch.ids[torch.arange(len(triplets)), batch.mask.sum(1) - 1].tolist()) == {words.sep}


def test_other_houses_or_words_are_refused_and_nothing_half_done_stays(packed, houses, episodes, tmp_path):
    triplets, words = packed
    assert triplets.check(houses, words) is triplets
    with pytest.raises(ValueError, match="packed for 4 houses .* found 3"):
        triplets.check(Houses.toy(range(3)), words)
    with pytest.raises(ValueError, match="another vocabulary"):
        triplets.check(houses, Words.build(["go"], 1))
    with pytest.raises(FileNotFoundError, match="triplets of format 1 were expected"):
        Triplets(tmp_path)

    def breaks_off():
        yield from episodes[:5]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        pack(tmp_path / "whole", houses, words, breaks_off())
    assert list(tmp_path.iterdir()) == []


def test_views_are_those_of_the_panorama_turned_to_the_agent(packed, houses):
    features = open_features("toy", houses)
    row, view = torch.tensor([3, 3, 40]), torch.tensor([12, 15, 25])
    views = panoramas(features, row, view)
    assert views.shape == (3, 36, features.size + 128) and views.dtype == torch.float32
    assert torch.equal(views[..., :-128].double(), torch.from_numpy(np.asarray(features.views[row.numpy()])).double())
    ahead = torch.tensor([0.0, 1.0, 0.0, 1.0])  # sin and cos of heading and elevation 0
    for i, straight in enumerate((12, 15, 13)):  # the level view at the agent's heading
        assert torch.allclose(views[i, straight, -4:], ahead, atol=1e-6)


@real
def test_the_training_split_of_r2r_has_84280_steps(tmp_path):
    episodes = load_r2r("train")
    houses = Houses.load(sorted({episode.scan for episode in episodes}))
    words = Words.build([episode.instruction for episode in episodes])
    triplets = pack(tmp_path / "train", houses, words, episodes)
    assert triplets.counts == (14_039, 0, 84_280, 0)
    assert np.count_nonzero(triplets.candidate_rank == 0) == 14_039 and triplets.candidate_rank.max() <= 13
    held = {split: sum(len(episode.path) for episode in load_r2r(split)) for split in ("val_seen", "val_unseen")}
    assert held == {"val_seen": 6_201, "val_unseen": 14_013} and 84_280 + sum(held.values()) == 104_494  # the published 104 K


# order


@pytest.mark.parametrize("size", [1, 2, 5, 64, 65, 1000, 4097])
def test_shuffling_is_a_permutation_and_looks_random(size):
    order = shuffled(np.arange(size), size, (3, 1))
    assert sorted(order.tolist()) == list(range(size))
    assert np.array_equal(order[5:9], shuffled(np.arange(5, 9)[:max(0, size - 5)], size, (3, 1)))
    if size >= 1000:
        other = shuffled(np.arange(size), size, (3, 2))
        assert (order == other).mean() < 0.02
        for a, b in ((order, np.arange(size)), (order, other), (order[1:], order[:-1])):
            assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(size)


def test_every_triplet_comes_once_a_pass_and_a_step_decides_its_batch(packed):
    triplets, _ = packed
    order, again = Order(triplets, 8, seed=1), Order(triplets, 8, seed=1)
    seen = np.concatenate([order.indices(step) for step in range(150)])
    assert np.array_equal(again.indices(149), order.indices(149)) and np.array_equal(again.indices(3), order.indices(3))
    counts = np.bincount(seen, minlength=len(triplets))  # 1200 draws
    passes = 1200 // len(triplets)
    assert set(counts.tolist()) <= {passes, passes + 1}
    assert not np.array_equal(order.indices(3), Order(triplets, 8, seed=2).indices(3))


def test_batches_hold_instructions_of_like_length(packed):
    triplets, words = packed
    order = Order(triplets, 8)
    padded = [1 - triplets.batch(order.indices(step)).mask.double().mean() for step in range(50)]
    rng = np.random.default_rng(0)
    mixed = [1 - triplets.batch(rng.choice(len(triplets), 8)).mask.double().mean() for _ in range(50)]
    assert np.mean(padded) < 0.06 < np.mean(mixed)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_synthetic_triplets_is_what_was_asked_for(packed, share):
    triplets, _ = packed
    order = Order(triplets, 8, synthetic_share=share)
    drawn = np.concatenate([order.indices(step) for step in range(Order.POOL)])
    assert (drawn >= triplets.counts.real_steps).mean() == share


def test_a_share_of_nothing_is_refused(houses, episodes, packed, tmp_path):
    triplets = pack(tmp_path / "real", houses, packed[1], episodes[:9])
    with pytest.raises(ValueError, match="synthetic_share is 0.5, but there are .* real and 0 synthetic triplets"):
        Order(triplets, 8, synthetic_share=0.5)
    natural = Order(triplets, 8, synthetic_share=-1)
    assert natural.indices(0).max() < len(triplets)


MEMORY = """
import re, sys
import numpy as np
from dgmlab.prevalent.order import Order
from dgmlab.prevalent.triplets import Triplets, pack
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.words import Words

def own():  # bytes that are this process's alone; the pages of mapped files can be dropped at any time
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1])

houses = Houses.toy(range(4))
episodes = toy_episodes(houses, 200, 0)
words = Words.build([e.instruction for e in episodes], 1)
pack(sys.argv[1] + "/warm", houses, words, episodes)
before = own()
n = 300_000 // sum(len(e.path) for e in episodes) + 1
triplets = pack(sys.argv[1] + "/large", houses, words, (), (e for _ in range(n) for e in episodes))
packed = own()
order = Order(triplets, 64)
for step in range(0, 40_000, 100):
    triplets.batch(order.indices(step))
print(len(triplets), packed - before, own() - packed)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc to know the memory of a process")
def test_memory_does_not_grow_with_the_number_of_triplets(tmp_path):
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    n, packing, reading = map(int, done.stdout.split())
    assert n >= 300_000
    assert packing < 12e6 and reading < 6e6, f"{packing:,} bytes while packing, {reading:,} while reading"
