"""The leak check: what it must find, what it must let pass, and that the training split of R2R is clean."""

import json

import pytest

from dgmlab.data.registry import data_home
from dgmlab.prevalent.episodes import Episode
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.leak import Checked, check_leak, of_training_houses
from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.triplets import pack
from dgmlab.prevalent.words import Words

real = pytest.mark.skipif(not (data_home() / "matterport" / "R2R").is_dir(), reason=f"no R2R files below {data_home()}")


@pytest.fixture(scope="module")
def splits():
    """Toy splits of R2R's kind: val_seen in the training houses, val_unseen and test in others; 2 houses each."""
    seen, unseen, hidden = Houses.toy(range(2)), Houses.toy((5, 6)), Houses.toy((7, 8))
    episodes = toy_episodes(seen, 60, 0)
    test = [episode._replace(path=episode.path[:1], goals=()) for episode in toy_episodes(hidden, 10, 2)]
    held = {"val_seen": episodes[40:], "val_unseen": toy_episodes(unseen, 20, 1), "test": test}
    return episodes[:40], held, Houses.toy((0, 1, 5, 6, 7, 8))


def packed(splits, folder, episodes, synthetic=()):
    return pack(folder, splits[2], Words.build([e.instruction for e in splits[0]], 1), episodes, synthetic)


def test_a_clean_training_set_passes(splits, tmp_path):
    train, held, _ = splits
    assert check_leak(train, held) == Checked(40, 0)
    triplets = packed(splits, tmp_path / "train", train, train)
    assert check_leak(triplets, held) == check_leak(tmp_path / "train", held) == Checked(80, 0)


@pytest.mark.parametrize("split", ["val_unseen", "test"])
@pytest.mark.parametrize("synthetic", [False, True])
def test_a_house_of_an_unseen_split_is_a_leak(splits, tmp_path, split, synthetic):
    train, held, _ = splits
    intruder = held[split][3]._replace(instruction="go somewhere else entirely")
    intruder = intruder._replace(path=intruder.path[:1])
    parts = (train, [intruder]) if synthetic else ([*train, intruder], ())
    with pytest.raises(ValueError, match=f"leak: house '{intruder.scan}' of {split} is among the training triplets") as error:
        check_leak(packed(splits, tmp_path / "train", *parts), held)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=f"house '{intruder.scan}' of {split}"):
        check_leak([*train, intruder], held)


@pytest.mark.parametrize("synthetic", [False, True])
def test_an_instruction_of_val_seen_is_a_leak_however_it_is_spelled(splits, tmp_path, synthetic):
    train, held, _ = splits
    stolen = held["val_seen"][7]
    intruder = stolen._replace(instr_id="mine_0", instruction=stolen.instruction.upper().replace(" ", "  ").replace(".", " ."))
    parts = (train, [intruder]) if synthetic else ([*train, intruder], ())
    with pytest.raises(ValueError, match=rf"\(val_seen, instr_id {stolen.instr_id}\) is among .* as instruction 40 of "):
        check_leak(packed(splits, tmp_path / "train", *parts), held)
    with pytest.raises(ValueError, match="as 'mine_0'"):
        check_leak([*train, intruder], held)


def test_the_same_words_in_another_house_are_none_and_a_speaker_may_hit_on_them(splits, tmp_path):
    train, held, _ = splits
    stolen = held["val_seen"][7]
    elsewhere = next(e for e in train if e.scan != stolen.scan)._replace(instruction=stolen.instruction)
    assert check_leak([*train, elsewhere], held).instructions == 41
    same_house = next(e for e in train if e.scan == stolen.scan and e.path != stolen.path)
    same_house = same_house._replace(instruction=stolen.instruction)
    assert check_leak(packed(splits, tmp_path / "train", train, [same_house]), held).instructions == 41
    with pytest.raises(ValueError, match="leak"):  # written by a person it is one
        check_leak([*train, same_house], held)


def test_paths_of_val_seen_in_other_words_are_counted_and_no_leak(splits, tmp_path):
    train, held, _ = splits
    again = [episode._replace(instruction="a speaker's words") for episode in held["val_seen"][:3]]
    assert check_leak(packed(splits, tmp_path / "train", train, again), held) == Checked(43, 3)


def test_what_a_speaker_wrote_must_be_about_training_houses(splits):
    train, held, _ = splits
    scans, other = {episode.scan for episode in train}, held["val_unseen"][0]
    assert list(of_training_houses(train, scans)) == train
    with pytest.raises(ValueError, match=f"leak: a synthetic .* house '{other.scan}', .* one of the 2 training"):
        list(of_training_houses([*train, other], scans))


@real
def test_the_training_split_of_r2r_is_clean_and_the_published_mixture_is_not():
    train = load_r2r("train")
    assert check_leak(train) == Checked(14_039, 0)
    with pytest.raises(ValueError, match="leak: .*val_seen, instr_id"):
        check_leak([*train, *load_r2r("val_seen")])
    with pytest.raises(ValueError, match="leak: house '.*' of val_unseen"):
        check_leak([*train, *load_r2r("val_unseen")])
    shared = {json.dumps(e.path) for e in train} & {json.dumps(e.path) for e in load_r2r("val_seen")}
    assert not shared and isinstance(train[0], Episode)
