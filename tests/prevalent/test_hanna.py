"""HANNA's files made by hand, episodes and routes made up, and the assistant against a plain search."""

import json

import numpy as np
import pytest

from dgmlab.data.registry import data_home
from dgmlab.prevalent.episodes import check_episodes
from dgmlab.prevalent.hanna import NEAR, Anna, Route, load_hanna, load_routes, make_routes, object_episodes
from dgmlab.prevalent.house import House, check_path
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.ndh import read_targets
from dgmlab.prevalent.policies import goal_rows
from dgmlab.prevalent.semantic import describe

needs_real = pytest.mark.skipif(not (data_home() / "matterport").is_dir(), reason="needs matterport/ in DGMLAB_DATA")


@pytest.fixture(scope="module")
def houses():
    return Houses.toy([1, 2])


@pytest.fixture(scope="module")
def routes(houses):
    return make_routes(houses, seed=0)


RECORD = {"path_id": 140786, "scan": "toy1", "heading": 3.14, "paths": [["a", "b", "c"], ["a", "d"], ["a", "b", "c"]],
          "instructions": ["find a curtain", "find the curtain"]}


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))
    return folder


def test_reader_takes_the_documented_format(tmp_path):
    first, second = load_hanna("val_unseen", write(tmp_path, "hanna_val_unseen.json", [RECORD]))
    assert first.instr_id == "140786_0" and second.instr_id == "140786_1" and second.instruction == "find the curtain"
    assert first.path == ("a", "b", "c") and first.goals == ("c", "d") and first.heading == 3.14 and first.elevation == 0
    assert first.about["paths"] == (("a", "b", "c"), ("a", "d"), ("a", "b", "c"))


@pytest.mark.parametrize(("change", "message"), [
    ({"paths": [["a", "b"], ["c", "d"]]}, "record 1: expected 'paths' as one path or more from the same start"),
    ({"paths": []}, "record 1: expected 'paths'"),
    ({"heading": "north"}, "record 1: the field 'heading' cannot be a str"),
    ({"instructions": []}, "record 1: the field 'instructions' should be a list of one or more strings"),
])
def test_damaged_records_are_named(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_hanna("train", write(tmp_path, "hanna_train.json", [RECORD, {**RECORD, **change}]))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="HANNA split 'train' was expected at .*hanna_train.json"):
        load_hanna("train", tmp_path)
    with pytest.raises(ValueError, match="no split 'val'; choose one of: train, val_seen"):
        load_hanna("val", tmp_path)
    with pytest.raises(FileNotFoundError, match="routes.json, found nothing there. make_routes needs no file"):
        load_routes(tmp_path)


def test_routes_are_read(tmp_path):
    row = {"path_id": 7, "path": ["a", "b"], "instruction": "go on", "view_id": 15, "split": "train"}
    found = load_routes(write(tmp_path, "routes.json", {"toy1": [row]}))
    assert found == [Route("7", "toy1", ("a", "b"), "go on", 15, "train")]
    del row["view_id"]
    with pytest.raises(ValueError, match=r"routes.json: expected an object scan -> list .*KeyError\('view_id'\)"):
        load_routes(write(tmp_path, "routes.json", {"toy1": [row]}))


def test_made_up_episodes_can_be_played_and_start_away_from_their_goals(houses):
    episodes = object_episodes(houses, 60, seed=3)
    check_episodes(episodes, houses)
    assert len(episodes) == 60 and episodes == object_episodes(houses, 60, seed=3) != object_episodes(houses, 60, seed=4)
    for episode in episodes:
        house, target = houses.houses[episode.scan], episode.about["target"]
        start, goals = house.index(episode.path[0]), [house.index(goal) for goal in episode.goals]
        assert target in episode.instruction and episode.path[-1] in episode.goals
        assert house.distance[start, goals].min() >= NEAR
        assert house.distance[start, house.index(episode.path[-1])] == house.distance[start, goals].min()
        assert all(target in [name for name, _ in house.objects[goal]] for goal in goals)
        if " in the " in episode.instruction:
            assert house.rooms[house.index(episode.path[-1])] in episode.instruction
    assert 10 < sum(" in the " in episode.instruction for episode in episodes) < 50


def test_made_up_routes_follow_edges_and_are_told(houses, routes):
    starts = {(route.scan, route.path[0]) for route in routes}
    assert 0.3 < len(starts) / houses.included.sum() <= 0.9
    for route in routes:
        check_path(houses.houses[route.scan], route.path)
        assert 2 <= len(route.path) - 1 <= 5 and 12 <= route.view < 24 and len(route.instruction) > 20
    assert max(sum((route.scan, route.path[0]) == start for route in routes) for start in starts) == 3


def test_anna_answers_with_the_route_that_passes_nearest(houses, routes):
    anna = Anna(houses, routes)
    rng = np.random.default_rng()
    for row in rng.choice(np.flatnonzero(anna.can_request), 12):
        scan = houses.name(row)[0]
        house, first = houses.houses[scan], houses.offset[scan]
        goals = first + rng.choice(len(house), 2)
        there, metres = houses.candidates.index[row], houses.candidates.distance[row]
        near = [row, *there[(there >= 0) & (metres <= 2.0)]]
        ways = [[houses.row(route.scan, v) for v in route.path] for route in routes if route.scan == scan
                and houses.row(scan, route.path[0]) in near]
        best = min(houses.distance(place, goal) for way in ways for place in way for goal in goals)
        answer = anna.answer(row, np.array([*goals, -1]))
        path = [houses.row(scan, v) for v in answer.route.path]
        assert path[0] == answer.start and answer.start in near and answer.depart in path and answer.goal in goals
        assert houses.distance(answer.depart, answer.goal) == pytest.approx(best)
    assert {anna.answer(row, goals, rng).route for _ in range(40)} >= {anna.answer(row, goals).route}


def test_help_is_only_where_routes_start_near(houses, routes):
    anna = Anna(houses, routes[:1])
    row = houses.row(routes[0].scan, routes[0].path[0])
    close = houses.candidates.index[row][(houses.candidates.index[row] >= 0) & (houses.candidates.distance[row] <= 2.0)]
    assert set(np.flatnonzero(anna.can_request)) == {row, *close}
    nobody = int(np.flatnonzero(~anna.can_request)[0])
    with pytest.raises(ValueError, match="no route starts near .* ask where can_request is True"):
        anna.answer(nobody, [row])


def test_routes_of_other_splits_are_not_told(houses, routes):
    marked = [route._replace(split="train" if i % 2 else "test_seen") for i, route in enumerate(routes)]
    assert {route.split for route in Anna(houses, marked, "train").routes} == {"train"}
    assert len(Anna(houses, marked).routes) == len(Anna(houses, routes, "val_seen").routes) == len(routes)
    with pytest.raises(ValueError, match="for split 'val_seen'. Give routes of these houses"):
        Anna(houses, marked, "val_seen")


@needs_real
def test_real_houses_hide_objects_and_tell_routes():
    houses = Houses([describe(House.load("2t7WUuJeko7")), describe(House.load("8194nk5LbLH"))])  # the first has no label
    routes = make_routes(houses, seed=0)
    for targets in (None, read_targets()):
        episodes = check_episodes(object_episodes(houses, 20, 0, targets), houses)
        anna = Anna(houses, routes)
        for row, goals in zip(np.flatnonzero(anna.can_request), goal_rows(houses, episodes), strict=False):
            if (houses.candidates.count[row]) and houses.name(row)[0] == houses.name(goals[0])[0]:
                assert anna.answer(row, goals).goal in goals
    assert len(routes) > 10
