"""Episodes and their files: what is read, what is refused and how it is named, on small hand-made files and the real ones."""

import gzip
import json

import numpy as np
import pytest

from dgmlab.data.registry import data_home
from dgmlab.prevalent.episodes import Episode, check_episodes, groups, n_steps, read_json, read_records
from dgmlab.prevalent.house import House
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.tasks import SPLITS, load_r2r, load_reverie, make_r4r

real = pytest.mark.skipif(not (data_home() / "matterport" / "R2R").is_dir(), reason="needs matterport/ in the data folder")

COUNTS = {"train": (14_039, 4_675, 61), "val_seen": (1_021, 340, 56), "val_unseen": (2_349, 783, 11),
          "test": (4_173, 1_391, 18)}


def street(n=8, scan="street", metres=2.0):
    """A house of n panoramas in a row, `metres` apart; the last one is excluded."""
    position = np.column_stack([metres * np.arange(n), np.zeros(n), np.ones(n)])
    joined = abs(np.subtract.outer(np.arange(n), np.arange(n))) == 1
    return House(scan, tuple("abcdefghij"[:n]), position, np.arange(n) < n - 1, joined)


def episode(path, name="1_0", scan="street", **change):
    path, about = tuple(path), {"path_id": name.split("_")[0]}
    return Episode(name, scan, 0.0, 0.0, path, f"go {name}", path[-1:], about)._replace(**change)


def r2r_record(**change):
    return {"scan": "street", "path_id": 7, "path": ["a", "b", "c"], "heading": 1.5, "distance": 4.0,
            "instructions": ["Go on. ", "Walk.", "Stop there.", "A fourth."], **change}


def write(folder, name, records):
    (folder / name).write_text(records if isinstance(records, str) else json.dumps(records))
    return folder


# files


def test_r2r_gives_an_episode_for_each_instruction(tmp_path):
    write(tmp_path, "R2R_train.json", [r2r_record()])
    episodes = load_r2r("train", tmp_path)
    assert [one.instr_id for one in episodes] == ["7_0", "7_1", "7_2", "7_3"]
    first = episodes[0]
    assert first == Episode("7_0", "street", 1.5, 0.0, ("a", "b", "c"), "Go on.", ("c",), {"path_id": 7, "distance": 4.0})
    assert n_steps(episodes) == 4 * 3, "two moves and STOP, four times"
    assert groups(episodes) == ["7"] * 4


def test_where_only_the_start_is_known_the_goal_is_hidden(tmp_path):
    record = r2r_record(path=["a"])
    del record["distance"]
    write(tmp_path, "R2R_test.json", [record])
    assert load_r2r("test", tmp_path)[0] == Episode("7_0", "street", 1.5, 0.0, ("a",), "Go on.", (), {"path_id": 7})


def test_a_missing_split_and_a_wrong_one_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"R2R split 'val_seen' was expected at .*R2R_val_seen.json, found"):
        load_r2r("val_seen", tmp_path)
    with pytest.raises(ValueError, match="R2R has no split 'val'; choose one of: train, val_seen, val_unseen, test"):
        load_r2r("val", tmp_path)


@pytest.mark.parametrize("records, words", [
    ("[{", "R2R_train.json is not a complete JSON file"),
    ('{"a": 1}', "expected a list of records, found dict"),
    ([r2r_record(), 3], "record 1: expected an object, found int"),
    ([r2r_record(), r2r_record(), {"scan": "x"}], "record 2: the field 'path_id' is missing, found scan"),
    ([r2r_record(heading="north")], "record 0: the field 'heading' cannot be a str"),
    ([r2r_record(path=[])], "record 0: the field 'path' should be a list of one or more strings"),
    ([r2r_record(path="abc")], "record 0: the field 'path' should be a list"),
    ([r2r_record(instructions=["fine", None])], "record 0: the field 'instructions' should be a list"),
])
def test_a_damaged_file_is_named_with_its_record(tmp_path, records, words):
    write(tmp_path, "R2R_train.json", records)
    with pytest.raises(ValueError, match=words) as caught:
        load_r2r("train", tmp_path)
    assert "\n" not in str(caught.value) and "Restore the file" in str(caught.value)


def test_a_gzip_file_that_breaks_off_is_named(tmp_path):
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b"[1, 2]"))
    assert read_json(path) == [1, 2]
    path.write_bytes(gzip.compress(b"[1, 2]" * 1000)[:-9])
    with pytest.raises(ValueError, match="a.json.gz is not a complete JSON file"):
        read_json(path)
    assert read_records(write(tmp_path, "b.json", [{"x": 1}]) / "b.json", {"x": (int, str)}) == [{"x": 1}]


def test_reverie_ends_where_the_object_is_seen(tmp_path):
    record = {"id": "5_12", "scan": "street", "path": ["a", "b", "c"], "heading": 0.5, "objId": 12, "path_id": 5,
              "instructions": ["Find the lamp.", "Bring me the lamp."]}
    write(tmp_path, "REVERIE_val_seen.json", [record, {**record, "id": "5_13", "objId": 13}])
    boxes = {"street_c": {"12": ["lamp", [3], [[0, 0, 1, 1]]]}, "street_d": {"12": ["lamp", [4], [[0, 0, 1, 1]]]},
             "street_e": {"12": ["lamp", [], []]}}
    with pytest.raises(FileNotFoundError, match="objects of REVERIE were expected at"):
        load_reverie("val_seen", tmp_path)
    (tmp_path / "objects_by_viewpoint.json.gz").write_bytes(gzip.compress(json.dumps({"data": boxes}).encode()))
    lamp, again, other, _ = load_reverie("val_seen", tmp_path)
    assert lamp.instr_id == "5_12_0" and again.instr_id == "5_12_1" and lamp.goals == ("c", "d")
    assert lamp.about == {"path_id": "5_12", "object_id": 12} and other.goals == ("c",), "no box: the end of the path"
    del record["objId"]
    write(tmp_path, "REVERIE_test.json", [{**record, "path": ["a"]}])
    assert load_reverie("test", tmp_path)[0].goals == () and "object_id" not in load_reverie("test", tmp_path)[0].about


# R4R


def test_r4r_joins_paths_whose_ends_are_within_three_metres():
    houses = Houses([street()])
    paths = {"1_0": "abc", "1_1": "abc", "2_0": "de", "3_0": "fg", "4_0": "cba"}
    episodes = [episode(path, name) for name, path in paths.items()]
    joined = {one.instr_id: one for one in make_r4r(episodes, houses)}
    followed = {"1-2_0", "1-2_1", "1-4_0", "1-4_1", "2-3_0", "4-1_0", "4-1_1"}
    assert set(joined) == followed | {"2-2_0", "3-3_0"}, "d is 2 m after c, f 6 m; paths of 2 m may follow themselves"
    assert joined["1-2_0"].path == tuple("abcde") and joined["1-2_0"].goals == ("e",), "the way from c to d goes between"
    assert joined["1-2_1"].instruction == "go 1_1 go 2_0" and joined["1-4_0"].path == tuple("abcba")
    assert joined["1-2_1"].about == {"path_id": "1-2", "first_path_id": "1", "second_path_id": "2"}
    assert groups([joined["1-2_0"], joined["1-2_1"]]) == ["1-2", "1-2"]
    assert len(make_r4r(episodes, houses, gap=0.5)) == 4, "only where one ends just where the other starts"


def test_r4r_refuses_hidden_goals_and_unknown_houses():
    with pytest.raises(ValueError, match="episode '1_0' has no goal"):
        make_r4r([episode("a", goals=())], Houses([street()]))
    with pytest.raises(ValueError, match="house 'lane' is not among the 1 given"):
        make_r4r([episode("ab", scan="lane")], Houses([street()]))


# held against houses


@pytest.mark.parametrize("wrong, words", [
    (episode("abd"), "step 1 of a path in house street goes from b to d"),
    (episode("abz"), "house street has no viewpoint 'z'"),
    (episode("ab", goals=("y",)), "house street has no viewpoint 'y'"),
    (episode("ab", scan="lane"), "house 'lane' is not among the 1 given. Load it"),
    (episode("h"), "viewpoint 'h' is excluded from the graph"),
    (episode(""), "the path is empty"),
])
def test_an_episode_that_cannot_be_played_is_named(wrong, words):
    with pytest.raises(ValueError, match="^episode '1_0': ") as caught:
        check_episodes([episode("abc", "0_0"), wrong], Houses([street()]))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_episodes_pass_that_stand_still_or_go_round():
    fine = [episode("abc", "1_0"), episode("abc", "1_1"), episode("abbc", "2_0"), episode("abab", "3_0")]
    assert check_episodes(fine, Houses([street()])) is fine
    with pytest.raises(ValueError, match="instr_id '1_0' stands for two episodes"):
        check_episodes([*fine, fine[0]], Houses([street()]))


# the real files


@real
@pytest.mark.parametrize("split", SPLITS)
def test_r2r_has_its_published_counts(split):
    episodes = load_r2r(split)
    n_paths, scans = len({one.about["path_id"] for one in episodes}), {one.scan for one in episodes}
    assert (len(episodes), n_paths, len(scans)) == COUNTS[split]
    assert all(one.goals == () and len(one.path) == 1 for one in episodes) == (split == "test")
    assert len({one.instr_id for one in episodes}) == len(episodes)


@real
def test_steps_of_r2r_are_those_of_the_pretraining_set():
    steps = [n_steps(load_r2r(split)) for split in ("train", "val_seen", "val_unseen")]
    assert steps == [84_280, 6_201, 14_013] and sum(steps) == 104_494


@real
def test_real_episodes_can_be_played_though_eight_paths_are_not_the_shortest():
    episodes = [one for split in SPLITS for one in load_r2r(split)]
    houses = Houses.load(sorted({one.scan for one in episodes}))
    assert len(check_episodes(episodes, houses)) == 14_039 + 1_021 + 2_349 + 4_173
    longer = set()
    for one in episodes:
        house = houses.houses[one.scan]
        at = [house.index(viewpoint) for viewpoint in one.path]
        if sum(house.distance[a, b] for a, b in zip(at, at[1:], strict=False)) > house.distance[at[0], at[-1]] + 1e-6:
            longer.add(one.about["path_id"])
    unseen = {one.about["path_id"] for one in load_r2r("val_unseen")}
    assert len(longer) == 8 and longer <= unseen
    reverie = load_reverie("val_unseen")
    assert len(check_episodes(reverie, houses)) == 3_433 and len({one.scan for one in reverie}) == 10
    joined = make_r4r(load_r2r("val_seen"), houses)
    assert len(joined) == 1_035, "as published for R4R (Jain et al. 2019; unverified)"
    check_episodes(joined, houses)
