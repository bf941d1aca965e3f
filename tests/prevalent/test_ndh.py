"""Navigation from dialog history: the real validation dialogs and their upper bounds, made-up dialogs, damaged files."""

import json
import math
import re

import numpy as np
import pytest

from dgmlab.data.registry import data_home
from dgmlab.prevalent.episodes import check_episodes, groups
from dgmlab.prevalent.evaluate import PROTOCOLS, evaluate
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.ndh import Target, dialog_text, load_ndh, make_ndh_like, read_targets, targets_of
from dgmlab.prevalent.semantic import describe

real = pytest.mark.skipif(not (data_home() / "matterport" / "NDH").is_dir(), reason="needs matterport/ in the data folder")

PROGRESS = {"val_seen": (8.29, 7.63, 9.52), "val_unseen": (8.36, 7.99, 9.58)}  # metres, where the reference ends
DIALOG = [("navigator", "Left or  right?"), ("oracle", "Left."), ("navigator", "And now?"), ("oracle", "Up\nthe stairs.")]


class Walked:
    """A trajectory."""

    def __init__(self, instr_id, path):
        self.instr_id, self.path = instr_id, list(path)


def record(**change):
    turns = [{"nav_idx": 0, "role": role, "message": message} for role, message in DIALOG]
    return {"inst_idx": 4, "scan": "house", "target": "lamp", "start_pano": {"heading": 1.5, "elevation": 30.0, "pano": "a"},
            "dialog_history": turns, "nav_history": [], "end_panos": ["d", "e"], "planner_path": ["a", "b", "c"],
            "player_path": ["a", "x", "c", "d"], "game_idx": 9, **change}


def saved(folder, *records):
    (folder / "val_seen.json").write_text(json.dumps(records))
    return folder


def test_the_four_histories_by_hand():
    assert dialog_text(DIALOG, "lamp", "none") == ""
    assert dialog_text(DIALOG, "lamp", "target") == "<TAR> lamp"
    assert dialog_text([], "lamp", "all") == dialog_text([], "lamp", "last") == "<TAR> lamp"
    assert dialog_text(DIALOG, "lamp", "last") == "<NAV> And now? <ORA> Up the stairs. <TAR> lamp"
    whole = "<NAV> Left or right? <ORA> Left. <NAV> And now? <ORA> Up the stairs. <TAR> lamp"
    assert dialog_text(DIALOG, "lamp", "all") == dialog_text(DIALOG, "lamp") == whole


def test_elevation_in_degrees_comes_out_in_radians_and_the_rest_as_it_is(tmp_path):
    found, = load_ndh("val_seen", folder=saved(tmp_path, record()))
    assert found.elevation == pytest.approx(math.pi / 6) and found.heading == 1.5 and found.instr_id == "4"
    assert found.goals == ("d", "e") and found.about == {"target": "lamp", "game_idx": 9} and groups([found]) == ["9"]
    assert found.instruction == dialog_text(DIALOG, "lamp")


@pytest.mark.parametrize("player, trusted", [("axcd", True), ("axd", False), ("cab", False)])
def test_mixed_supervision_trusts_a_player_who_comes_past_the_planned_goal(tmp_path, player, trusted):
    folder = saved(tmp_path, record(player_path=list(player)))
    by = {kind: load_ndh("val_seen", kind, folder=folder)[0].path for kind in ("oracle", "navigator", "mixed")}
    assert by["oracle"] == tuple("abc") and by["navigator"] == tuple(player)
    assert by["mixed"] == by["navigator" if trusted else "oracle"], "its first panorama does not count"


@pytest.mark.parametrize("change, words", [
    ({"start_pano": {"heading": 1.0}}, "record 1: expected heading and elevation in 'start_pano'"),
    ({"start_pano": {"heading": 1.0, "elevation": "high"}}, "record 1: expected heading and elevation"),
    ({"dialog_history": [{"role": "oracle"}]}, "record 1: expected .*role and message in 'dialog_history'"),
    ({"end_panos": []}, "record 1: the field 'end_panos' should be a list of one or more strings"),
    ({"target": None}, "record 1: the field 'target' cannot be a NoneType"),
])
def test_a_damaged_record_is_named(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        load_ndh("val_seen", folder=saved(tmp_path, record(), record(**change)))


def test_wrong_choices_are_told_which_exist(tmp_path):
    with pytest.raises(ValueError, match="NDH has no split 'train'; choose one of: val_seen, val_unseen"):
        load_ndh("train")
    with pytest.raises(ValueError, match="no supervision 'planner'; choose one of: oracle, navigator, mixed"):
        load_ndh("val_seen", "planner")
    with pytest.raises(ValueError, match="no history 'some'; choose one of: none, target, last, all"):
        load_ndh("val_seen", history="some")
    with pytest.raises(FileNotFoundError, match="NDH split 'val_unseen' was expected at"):
        load_ndh("val_unseen", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="table of targets was expected at .*t.json"):
        read_targets(tmp_path / "t.json")


@real
@pytest.mark.parametrize("split, n, scans", [("val_seen", 382, 45), ("val_unseen", 907, 10)])
def test_who_ends_where_the_reference_ends_reaches_the_published_upper_bounds(split, n, scans):
    found = {kind: load_ndh(split, kind) for kind in ("oracle", "navigator", "mixed")}
    houses = Houses.load(sorted({one.scan for one in found["mixed"]}))
    assert len(houses.scans) == scans
    for (kind, episodes), metres in zip(found.items(), PROGRESS[split], strict=True):
        assert len(check_episodes(episodes, houses)) == n
        walked = [Walked(one.instr_id, houses.houses[one.scan].shortest_path(one.path[0], one.path[-1])) for one in episodes]
        scores = evaluate(walked, episodes, houses, n_draws=10, **PROTOCOLS["ndh"])
        assert round(scores.summary["goal_progress"].mean, 2) == metres, kind
    assert 0.09 < np.mean([one.elevation for one in episodes]) < 0.6, "5 to 32 degrees, in radians"


# episodes made up


def test_made_up_dialogs_on_toy_houses_lead_to_the_object():
    houses = Houses.toy(range(4))
    episodes = check_episodes(make_ndh_like(houses, 300, 0), houses)
    assert {one.about["rounds"] for one in episodes} >= {0, 1, 2}
    for one in episodes:
        house, target = houses.houses[one.scan], one.about["target"]
        assert all(target in [name for name, _ in house.objects[house.index(goal)]] for goal in one.goals)
        assert one.instruction.endswith(f"<TAR> {target}")
        assert one.instruction.count("<NAV>") == one.instruction.count("<ORA>") == one.about["rounds"]
        nearest = min(house.distance[house.index(one.path[0]), house.index(goal)] for goal in one.goals)
        onward = min(house.distance[house.index(one.path[-1]), house.index(goal)] for goal in one.goals)
        walked = sum(house.distance[house.index(a), house.index(b)] for a, b in zip(one.path, one.path[1:], strict=False))
        assert nearest - onward == pytest.approx(walked), "each step leads nearer by its length"
        assert len(one.path) == 6 or one.path[-1] in one.goals, "five moves, or fewer where the object is reached"
        assert one.path[0] not in one.goals
    found = [one for one in episodes if one.about["rounds"] and one.path[-1] in one.goals]
    assert found and all(f"You will find the {one.about['target']} there." in one.instruction for one in found)
    assert len({one.instr_id for one in episodes}) == 300
    assert episodes == make_ndh_like(Houses.toy(range(4)), 300, 0) != make_ndh_like(houses, 300, 1)


def test_the_last_answer_tells_as_many_moves_as_the_reference_has():
    houses = Houses.toy(range(4))
    for one in make_ndh_like(houses, 150, 0, moves=2, history="last"):
        if one.about["rounds"]:
            answer = one.instruction.split("<ORA> ")[1].split(" <TAR>")[0]
            answer = re.sub(r" You will find the .*", "", answer)
            together = len(re.findall(r"(?:left|right|straight|ahead|forward|back|around) and ", answer, re.IGNORECASE))
            clauses = len(re.split(r"\. |, then |, | and ", answer)) - together
            assert clauses == len(one.path) - 1 <= 2, one.instruction


def test_only_the_targets_given_are_hidden():
    houses = Houses.toy([0, 1])
    mine = {"toy0": [Target("spoon", ("0_hallway_1",))]}
    assert {(one.scan, one.about["target"]) for one in make_ndh_like(houses, 20, 0, mine)} == {("toy0", "spoon")}
    assert all(one.instruction == "" for one in make_ndh_like(houses, 20, 0, mine, history="none"))
    with pytest.raises(ValueError, match="nothing to find in Houses.*. Give `targets`, or houses with rooms and objects"):
        make_ndh_like(houses, 20, 0, {"lane": []})


def test_targets_of_a_house_are_in_one_room():
    house = Houses.toy([0]).houses["toy0"]
    targets = targets_of(house)
    assert len({target.name for target in targets}) == len(targets) > 10
    for target in targets:
        assert len({house.rooms[house.index(goal)] for goal in target.goals}) == 1
        assert not target.name.endswith("door") and not target.name.startswith("stairs")


@real
def test_real_targets_are_those_of_the_dialogs():
    targets = read_targets()
    assert sum(map(len, targets.values())) == 1_629 and len(targets) == 83
    for one in load_ndh("val_unseen"):
        assert any(target.name == one.about["target"] and set(target.goals) == set(one.goals) for target in targets[one.scan])
    scans = ["17DRP5sb8fy", "1pXnuDYAj8r"]
    houses = Houses([describe(house) for house in Houses.load(scans).houses.values()])
    episodes = check_episodes(make_ndh_like(houses, 60, 0, targets), houses)
    assert {one.scan for one in episodes} <= set(scans) and any("the hallway" in one.instruction for one in episodes)
