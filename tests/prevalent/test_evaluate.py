"""Evaluation of trajectories and the leaderboard's file: by hand on a street, on toy houses, and on the real splits."""

import json
import math
from typing import NamedTuple

import numpy as np
import pytest

from dgmlab.data.registry import data_home
from dgmlab.metrics.navigation import Interval, PathScores, path_scores
from dgmlab.prevalent.episodes import Episode
from dgmlab.prevalent.evaluate import COLUMNS, PROTOCOLS, check_submission, difference, evaluate, table_row, write_submission
from dgmlab.prevalent.house import House
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.viz.table import table

real = pytest.mark.skipif(not (data_home() / "matterport" / "R2R").is_dir(), reason="needs matterport/ in the data folder")


class Walked(NamedTuple):
    instr_id: str
    path: list
    views: list = ()


class Asking(NamedTuple):
    instr_id: str
    path: list
    asked: list


def street():
    """Six panoramas in a row, two metres apart, and one that nothing leads to."""
    position = np.column_stack([2.0 * np.arange(7), np.zeros(7), np.ones(7)])
    joined = np.abs(np.subtract.outer(range(7), range(7))) == 1
    joined[6] = joined[:, 6] = False
    return House("street", tuple("abcdefz"), position, np.ones(7, bool), joined)


HOUSES = Houses([street()])


def episode(path, name="1_0", **change):
    about = {"path_id": name.split("_")[0]}
    return Episode(name, "street", 0.0, 0.0, tuple(path), "go", tuple(path)[-1:], about)._replace(**change)


EPISODES = [episode("abcdef", "1_0"), episode("abcdef", "1_1"), episode("cba", "2_0")]


def test_rows_are_in_the_order_of_the_episodes_and_by_hand():
    walks = [Walked("2_0", list("cbab")), Walked("1_1", list("a")), Walked("1_0", list("abcde"))]
    found = evaluate(walks, EPISODES, HOUSES)
    assert found.instr_ids == ("1_0", "1_1", "2_0") and tuple(found.rows) == PathScores._fields
    assert found.rows["nav_error"].tolist() == [2, 10, 2] and found.rows["success_rate"].tolist() == [1, 0, 1]
    assert found.rows["trajectory_length"].tolist() == [8, 0, 6] and found.rows["goal_progress"].tolist() == [8, 0, 2]
    assert found.rows["spl"] == pytest.approx([1, 0, 4 / 6]) and found.rows["oracle_error"].tolist() == [2, 10, 0]
    summary = found.summary["success_rate"]
    assert isinstance(summary, Interval) and summary.mean == pytest.approx(2 / 3) and summary.low < 2 / 3 < summary.high
    assert found.rows["ndtw"][0] == pytest.approx(math.exp(-2 / 18)), "the end is two metres short"


def test_every_row_is_what_the_metrics_say():
    houses = Houses.toy(range(3))
    episodes = toy_episodes(houses, 60, 0)
    rng = np.random.default_rng(0)
    walks = []
    for one in episodes:
        house = houses.houses[one.scan]
        path = [house.index(one.path[0])]
        for _ in range(int(rng.integers(0, 7))):
            path.append(int(rng.choice(house.candidates.index[path[-1], :house.candidates.count[path[-1]]])))
        walks.append(Walked(one.instr_id, [house.viewpoints[here] for here in path]))
    found = evaluate(walks, episodes, houses)
    for i, (walk, one) in enumerate(zip(walks, episodes, strict=True)):
        house = houses.houses[one.scan]
        scores = path_scores(house.distance, [house.index(v) for v in walk.path], [house.index(v) for v in one.path])
        assert scores == pytest.approx([found.rows[name][i] for name in PathScores._fields])
    assert (found.rows["spl"] <= found.rows["success_rate"]).all()


def test_the_shortest_path_succeeds_always_and_standing_still_never():
    houses = Houses.toy(range(3))
    episodes = toy_episodes(houses, 60, 1)
    best = evaluate([Walked(one.instr_id, one.path) for one in episodes], episodes, houses).summary
    assert all(best[name] == (1, 1, 1) for name in ("success_rate", "spl", "spl_reference", "ndtw", "sdtw", "cls"))
    still = evaluate([Walked(one.instr_id, one.path[:1]) for one in episodes], episodes, houses)
    assert (still.rows["trajectory_length"] == 0).all() and still.summary["goal_progress"] == (0, 0, 0)


def test_protocols_differ_where_the_tasks_do():
    episodes = [episode("abc", "1_0"), episode("a", "2_0", goals=("a",))]
    walks = [Walked("1_0", list("ab")), Walked("2_0", list("a"))]
    success = {name: evaluate(walks, episodes, HOUSES, **settings).rows for name, settings in PROTOCOLS.items()}
    assert success["r2r"]["success_rate"].tolist() == [1, 1] and success["r2r"]["spl"].tolist() == [1, 0]
    assert success["ndh"]["spl"].tolist() == [1, 1], "who stands at the goal is right"
    assert success["hanna"]["success_rate"].tolist() == [1, 1], "two metres, inclusive"
    assert evaluate(walks, episodes, HOUSES, threshold=2.0).rows["success_rate"].tolist() == [0, 1]
    assert success["reverie"]["success_rate"].tolist() == [0, 1], "the object must be in sight"


def test_intervals_resample_paths_or_what_is_asked_for():
    episodes = [episode("abcdef", f"{path}_{k}") for path in range(30) for k in range(3)]
    walks = [Walked(one.instr_id, list("abcdef" if int(one.about["path_id"]) % 2 else "a")) for one in episodes]
    by_path = evaluate(walks, episodes, HOUSES).summary["success_rate"]
    alone = evaluate(walks, episodes, HOUSES, clusters=range(90)).summary["success_rate"]
    assert by_path.mean == alone.mean == 0.5
    assert (by_path.high - by_path.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(3), rel=0.2)
    by_house = evaluate(walks, episodes, HOUSES, clusters=[one.scan for one in episodes]).summary["success_rate"]
    assert by_house == (0.5, 0.5, 0.5), "one house cannot vary"


def test_requests_for_help_are_counted_where_they_are_known():
    asked = {"1_0": [True, False], "1_1": [True, True, True], "2_0": [False]}
    walks = [Asking(one.instr_id, list(one.path[:1]), asked[one.instr_id]) for one in EPISODES]
    found = evaluate(walks, EPISODES, HOUSES)
    assert found.rows["help_requests"].tolist() == [1, 3, 0] and found.summary["help_requests"].mean == pytest.approx(4 / 3)


@pytest.mark.parametrize("walks, words", [
    ([("1_0", "ab"), ("1_1", "ab")], "each of the 3 episodes, but 1 instr_id missing, such as '2_0'"),
    ([("1_0", "ab"), ("1_1", "ab"), ("2_0", "c"), ("2_0", "c")], "1 instr_id there more than once, such as '2_0'"),
    ([("1_0", "ab"), ("1_1", "ab"), ("2_0", "c"), ("8_0", "c")], "1 instr_id of no episode, such as '8_0'"),
    ([("1_0", "ba"), ("1_1", "ab"), ("2_0", "c")], "trajectory '1_0': expected a path from the start a, found b"),
    ([("1_0", ""), ("1_1", "ab"), ("2_0", "c")], "trajectory '1_0': expected a path from the start a, found nothing"),
    ([("1_0", "ab"), ("1_1", "ac"), ("2_0", "c")], "trajectory '1_1': step 0 of a path in house street goes from a to c"),
    ([("1_0", "ab"), ("1_1", "aq"), ("2_0", "c")], "trajectory '1_1': house street has no viewpoint 'q'"),
])
def test_trajectories_that_cannot_be_are_named(walks, words):
    with pytest.raises(ValueError, match=words):
        evaluate([Walked(name, list(path)) for name, path in walks], EPISODES, HOUSES)


def test_episodes_that_cannot_be_scored_are_named():
    with pytest.raises(ValueError, match="episode '1_0' has no goal: its split hides it. Use write_submission"):
        evaluate([Walked("1_0", ["a"])], [episode("a", goals=())], HOUSES)
    with pytest.raises(ValueError, match="episode '1_0': no path leads from a to a goal"):
        evaluate([Walked("1_0", ["a"])], [episode("a", goals=("z",))], HOUSES)
    with pytest.raises(ValueError, match="nothing to evaluate: found 0 episodes"):
        evaluate([], [], HOUSES)
    with pytest.raises(ValueError, match="house 'lane' is not among the 1 given"):
        evaluate([Walked("1_0", ["a"])], [episode("a", scan="lane")], HOUSES)


def test_a_row_of_the_table_shows_intervals_shares_in_per_cent():
    walks = [Walked("1_0", list("abcde")), Walked("1_1", list("abcde")), Walked("2_0", list("cb"))]
    found = evaluate(walks, EPISODES, HOUSES)
    row = table_row("mine", found)
    assert tuple(row) == ("agent", *COLUMNS) and row["agent"] == "mine"
    assert row["success_rate"] == "100.0 [100.0, 100.0]" and row["nav_error"] == "2.00 [2.00, 2.00]"
    assert "100.0 [100.0, 100.0]" in table([row]).markdown()
    assert tuple(table_row("mine", found, ("cls", "goal_progress"))) == ("agent", "cls", "goal_progress")


# the leaderboard's file


def test_a_submission_holds_poses_and_passes_its_check(tmp_path):
    walks = [Walked("1_0", list("abb"), [12, 15, 2]), Walked("1_1", list("abc"), [3, 30]), Walked("2_0", ["c"])]
    path = write_submission(walks, tmp_path / "deep" / "submission.json")
    first, second, third = json.loads(path.read_text())
    assert first["instr_id"] == "1_0" and first["trajectory"][0] == ["a", 0.0, 0.0]
    assert first["trajectory"][1] == ["b", pytest.approx(math.pi / 2), 0.0]
    assert first["trajectory"][2] == ["b", pytest.approx(math.pi / 3), pytest.approx(-math.pi / 6)]
    assert second["trajectory"][1][1:] == second["trajectory"][2][1:] == [pytest.approx(math.pi), pytest.approx(math.pi / 6)]
    assert third["trajectory"] == [["c", 0.0, 0.0]], "no views: level and north"
    assert check_submission(path, EPISODES, HOUSES) == []


def submission(folder, *entries, text=None):
    path = folder / "submission.json"
    path.write_text(text if text is not None else json.dumps(entries))
    return path


def entry(name, viewpoints):
    return {"instr_id": name, "trajectory": [[viewpoint, 0.0, 0.0] for viewpoint in viewpoints]}


def test_a_submission_is_told_all_that_is_wrong_with_it(tmp_path):
    bad = [entry("1_0", "abd"), entry("2_0", "bc"), entry("2_0", "cb"), entry("9_0", "a"), entry("1_1", "ab")]
    problems = check_submission(submission(tmp_path, *bad), [*EPISODES, episode("ab", "3_0")], HOUSES)
    assert len(problems) == 5
    for words in ("1 instr_id missing, such as '3_0'", "there more than once, such as '2_0'", "of no episode, such as '9_0'",
                  "'1_0': step 1 of a path in house street goes from b to d", "'2_0': expected a path from the start c"):
        assert sum(words in problem for problem in problems) == 1, words
    assert all("\n" not in problem and "submission.json" in problem for problem in problems)


@pytest.mark.parametrize("wrong, words", [
    ({"instr_id": 1, "trajectory": []}, "entry 0: expected an object with 'instr_id' and 'trajectory'"),
    ({"instr_id": "1_0", "trajectory": []}, "entry 0: '1_0' has no trajectory"),
    ({"instr_id": "1_0", "trajectory": [["a", 0.0]]}, "entry 0: '1_0' has the pose"),
    ({"instr_id": "1_0", "trajectory": [["a", 0.0, "up"]]}, "entry 0: '1_0' has the pose"),
    ({"instr_id": "1_0", "trajectory": [["a", 0.0, float("nan")]]}, "entry 0: '1_0' has the pose"),
    ({"instr_id": "1_0", "trajectory": ["a"]}, "entry 0: '1_0' has the pose"),
    ("1_0", "entry 0: expected an object"),
])
def test_entries_of_another_form_are_named(tmp_path, wrong, words):
    problems = check_submission(submission(tmp_path, wrong), [episode("ab")], HOUSES)
    assert any(words in problem for problem in problems) and any("1 instr_id missing" in problem for problem in problems)


def test_files_that_are_no_submission_are_named(tmp_path):
    assert "does not exist" in check_submission(tmp_path / "none.json", EPISODES, HOUSES)[0]
    assert "is not a complete JSON file" in check_submission(submission(tmp_path, text="[{"), EPISODES, HOUSES)[0]
    assert "expected a list of objects, found dict" in check_submission(submission(tmp_path, text="{}"), EPISODES, HOUSES)[0]


def test_a_difference_is_taken_in_pairs():
    ours, theirs = (evaluate([Walked(one.instr_id, one.path[:n]) for one in EPISODES], EPISODES, HOUSES) for n in (None, 1))
    for name in ("success_rate", "nav_error"):
        gain = difference(ours, theirs, EPISODES, name)
        assert gain.mean == pytest.approx(ours.summary[name].mean - theirs.summary[name].mean)
        assert difference(theirs, ours, EPISODES, name).mean == -gain.mean
        assert difference(ours, ours, EPISODES, name) == (0, 0, 0)
    with pytest.raises(ValueError, match="two evaluations of the same 2 episodes"):
        difference(ours, theirs, EPISODES[:2])


# the real splits


@real
@pytest.mark.parametrize("split, stop_error", [("val_seen", 10.19), ("val_unseen", 9.48)])
def test_real_splits_have_their_known_numbers(split, stop_error):
    episodes = load_r2r(split)
    houses = Houses.load(sorted({one.scan for one in episodes}))
    shortest = [Walked(one.instr_id, houses.houses[one.scan].shortest_path(one.path[0], one.path[-1])) for one in episodes]
    found = evaluate(shortest, episodes, houses)
    assert found.summary["success_rate"] == found.summary["spl"] == (1, 1, 1)
    annotated = evaluate([Walked(one.instr_id, one.path) for one in episodes], episodes, houses)
    spl = dict(zip(annotated.instr_ids, annotated.rows["spl"], strict=True))
    detours = {name.split("_")[0] for name in spl if spl[name] < 1 - 1e-9}
    assert len(detours) == (8 if split == "val_unseen" else 0) and annotated.summary["spl_reference"].mean == 1
    still = evaluate([Walked(one.instr_id, one.path[:1]) for one in episodes], episodes, houses)
    assert round(still.summary["nav_error"].mean, 2) == stop_error and still.summary["success_rate"].mean == 0
