"""Directions by a grammar: whoever reads them and sees the candidates arrives; their words, and houses that say less."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dgmlab.prevalent.directions import Fact, Guide, give_directions, instruction
from dgmlab.prevalent.episodes import check_episodes
from dgmlab.prevalent.house import House, Sighting
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.toy_tasks import toy_episodes

HOUSES = Houses.toy(range(6))
ANGLES = {"straight": 0, "right": 90, "back": 180, "left": -90}
READINGS = {  # an independent reading of the phrases
    "up": "take the stairs up|go up the stairs|climb the stairs|walk upstairs|keep going up|continue up the stairs",
    "down": "take the stairs down|go down the stairs|walk downstairs|keep going down|continue down the stairs",
    "left": "turn left|take a left|go left",
    "right": "turn right|take a right|go right",
    "back": "turn around|go back",
    "straight": "go straight|walk straight ahead|walk forward|keep going straight|continue forward",
    "enter": "(?:go into|enter|walk into|step into) the (.+)",
    "see": "(?:go through|walk through|take|walk toward|head for|go to|move toward) the (.+)",
    "stop": "(?:stop|wait) .+",
}


def read(phrase):
    """(kind, name) of a phrase."""
    for kind, pattern in READINGS.items():
        found = re.fullmatch(pattern, phrase.lower())
        if found:
            return kind, found[1] if found.groups() else ""
    raise AssertionError(f"no reading of {phrase!r}")


def moves(text):
    """What an instruction asks for, move by move: lists of (kind, name), the last [('stop', '')]."""
    asked = []
    for piece in re.split(r"\. |, then |, ", text.removesuffix(".")):
        parts = [read(part) for part in piece.split(" and ")]
        if len(parts) == 2 and parts[0][0] in ANGLES and parts[1][0] not in ("stop", *ANGLES):
            asked.append(parts)
        else:
            asked += [[part] for part in parts]
    return asked


def fits(house, here, there, view, heading, ask):
    """Whether a candidate fits what is asked; for turns, degrees off."""
    kind, name = ask
    if kind in ("up", "down"):
        rise = house.position[there, 2] - house.position[here, 2]
        return rise > 0.5 if kind == "up" else rise < -0.5
    if kind == "enter":
        return house.rooms[there] == name != house.rooms[here]
    return any(name == seen and view in views for seen, views in house.objects[here])


def follow(house, start, heading, text):
    """Walk by the text alone, seeing candidates only. -> viewpoint id where it ends"""
    here, table = house.index(start), house.candidates
    *steps, end = moves(text)
    assert end[0][0] == "stop"
    for asked in steps:
        options = list(range(table.count[here]))
        for ask in [ask for ask in asked if ask[0] not in ANGLES]:
            options = [i for i in options if fits(house, here, table.index[here, i], table.view[here, i], heading, ask)]
        turns = [ask[0] for ask in asked if ask[0] in ANGLES]
        if turns:
            off = [abs((np.degrees(table.heading[here, i] - heading) - ANGLES[turns[0]] + 180) % 360 - 180) for i in options]
            options = [options[int(np.argmin(off))]]
        assert len(options) == 1, f"{len(options)} candidates fit {asked} in {text!r}"
        heading = np.pi / 6 * (table.view[here, options[0]] % 12)
        here = table.index[here, options[0]]
    return house.viewpoints[here]


@pytest.mark.parametrize("seed", range(3))
def test_whoever_follows_the_words_arrives(seed):
    houses = Houses.toy(range(100 * seed, 100 * seed + 5))
    episodes = toy_episodes(houses, 150, seed)
    for one in episodes:
        assert follow(houses.houses[one.scan], one.path[0], one.heading, one.instruction) == one.path[-1], one.instruction


def test_episodes_can_be_played_along_shortest_paths_of_three_to_seven_moves():
    episodes = check_episodes(toy_episodes(HOUSES, 400, 0), HOUSES)
    assert {len(one.path) - 1 for one in episodes} == {3, 4, 5, 6, 7}
    for one in episodes:
        shortest = HOUSES.houses[one.scan].shortest_path(one.path[0], one.path[-1])
        assert list(one.path) == shortest and one.goals == one.path[-1:]
        assert len(one.about["clauses"]) == len(one.path), "a clause for each move and one for the end"
        assert one.elevation == 0 and (one.heading / (np.pi / 6)).is_integer()
    assert len({(one.scan, one.path) for one in episodes}) == 400 and len({one.scan for one in episodes}) == 6
    assert {len(one.path) for one in toy_episodes(HOUSES, 50, 0, moves=(2, 2))} == {3}


def test_the_same_seed_gives_the_same_episodes_and_another_one_others():
    assert toy_episodes(HOUSES, 30, 5) == toy_episodes(Houses.toy(range(6)), 30, 5)
    assert toy_episodes(HOUSES, 30, 5) != toy_episodes(HOUSES, 30, 6)


def test_phrasings_share_a_path_but_not_their_words():
    episodes = toy_episodes(HOUSES, 31, 0, phrasings=3)
    assert len(episodes) == 31 and [one.instr_id[-1] for one in episodes[:4]] == ["0", "1", "2", "0"]
    triples = [episodes[i:i + 3] for i in range(0, 30, 3)]
    assert all(len({one.path for one in triple}) == len({one.about["path_id"] for one in triple}) == 1 for triple in triples)
    assert all(len({one.instruction for one in triple}) == 3 for triple in triples)
    assert len({one.instr_id for one in episodes}) == 31


def test_paths_come_again_only_after_all_have_come():
    house = Houses.toy([0], n_floors=1, n_rooms=2)
    all_of_them = {(one.scan, one.path) for one in toy_episodes(house, 400, 0)}
    few = toy_episodes(house, len(all_of_them), 1)
    assert len(all_of_them) < 400 and {(one.scan, one.path) for one in few} == all_of_them


def test_the_words_are_few_and_all_are_used_often():
    texts = [one.instruction for one in toy_episodes(Houses.toy(range(20)), 1500, 0)]
    words = Counter(word for text in texts for word in re.findall(r"\w+|[.,]", text.lower()))
    assert 60 <= len(words) <= 100 and min(words.values()) >= 5
    assert 15 < np.mean([len(text.split()) for text in texts]) < 45
    assert all(re.fullmatch(r"[A-Z][\w ,.]+\.", text) for text in texts)
    assert len({text.split(",")[0].split(".")[0] for text in texts}) > 300, "hardly two begin alike"


def test_a_house_that_tells_nothing_is_refused():
    bare = [replace(house, rooms=(), objects=()) for house in HOUSES.houses.values()]
    ring = House("ring", tuple("abcd"), np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [2.0, 1, 0]]), np.ones(4, bool),
                 ~np.eye(4, dtype=bool))
    with pytest.raises(ValueError, match="no path of 9 to 9 moves in Houses.*can be told move by move. Give houses"):
        toy_episodes(Houses([ring]), 5, 0, moves=(9, 9))
    for one in toy_episodes(Houses(bare), 50, 0):  # turns and stairs are enough for some paths
        assert {kind for asked in moves(one.instruction) for kind, _ in asked} <= {*ANGLES, "up", "down", "stop"}


# one crossing, worked out by hand


def crossing():
    """Panorama a in the middle; b north, c east, d south, e north too but upstairs. Rooms and objects as said below."""
    position = np.array([[0, 0, 0], [0, 2, 0], [2, 0, 0], [0, -2, 0], [0.2, 2, 1.5]], dtype=float)
    joined = np.zeros((5, 5), bool)
    joined[0, 1:] = joined[1:, 0] = True
    lamp, stove = Sighting("red lamp", (0, 12)), Sighting("stove", (15,))
    objects = ((lamp, stove), (lamp,), (Sighting("stove", (3,)), Sighting("kitchen door", (15,))), (), ())
    return House("crossing", tuple("abcde"), position, np.ones(5, bool), joined, np.array([0, 0, 0, 0, 1]),
                 ("hallway", "hallway", "kitchen", "", "hallway"), objects)


def slots(guide):
    return {guide.house.viewpoints[there]: guide.slot(0, there) for there in range(1, 5)}


def test_facts_of_a_crossing_by_hand():
    guide = Guide(crossing())
    slot = slots(guide)
    assert guide.facts(0, slot["b"], 0.0) == {Fact("toward", "red lamp"), Fact("straight")}
    assert guide.facts(0, slot["c"], 0.0) == {Fact("toward", "stove"), Fact("enter", "kitchen"), Fact("right")}
    assert guide.facts(0, slot["d"], 0.0) == {Fact("back")}, "its room is unknown"
    assert guide.facts(0, slot["d"], np.pi / 2) == {Fact("right")} and guide.facts(0, slot["d"], np.pi) == {Fact("straight")}
    assert {Fact("up"), Fact("straight")} <= guide.facts(0, slot["e"], 0.0)
    assert guide.facts(0, slot["b"], np.radians(45)) == {Fact("toward", "red lamp")}, "45 degrees are no clear turn"


def test_what_tells_a_candidate_from_the_others_by_hand():
    guide = Guide(crossing())
    slot = slots(guide)
    assert guide.telling(0, slot["b"], 0.0) == [(Fact("toward", "red lamp"),)], "straight would be e as well"
    assert guide.telling(0, slot["c"], 0.0) == [(Fact("enter", "kitchen"),), (Fact("right"),), (Fact("toward", "stove"),)]
    assert guide.telling(0, slot["e"], 0.0) == [(Fact("up"),)]
    two_lamps = replace(guide.house, objects=((Sighting("lamp", (12, 15)),), (), (), (), ()), rooms=())
    assert Guide(two_lamps).telling(0, slot["b"], 0.0) == [(Fact("straight"), Fact("toward", "lamp"))], "two facts together"


def test_stairs_go_on_and_the_end_is_by_what_stands_beside():
    guide, rng = Guide(crossing()), np.random.default_rng(0)
    endings = {give_directions(guide, ["a", "c"], 0.0, rng).clauses[-1] for _ in range(40)}
    assert all("stove" in ending for ending in endings) and len(endings) == 4
    up_and_down = give_directions(guide, ["a", "e", "a", "b"], 0.0, rng)
    assert [read(clause.split(" and ")[-1])[0] for clause in up_and_down.clauses[:-1]] == ["up", "down", "see"]
    assert {give_directions(guide, ["a", "d"], 0.0, rng).clauses[-1] for _ in range(30)} == {"stop there", "wait there"}
    position = np.array([[0, 0, 0], [0, 2, 1], [0, 4, 2.0]])
    stairs = House("stairs", tuple("abc"), position, np.ones(3, bool), np.abs(np.subtract.outer(range(3), range(3))) == 1)
    first, second, _ = give_directions(Guide(stairs), ["a", "b", "c"], np.pi / 2 + 0.8, rng).clauses
    assert "stairs" in first and second in ("keep going up", "continue up the stairs")


def test_a_panorama_straight_above_is_told_without_a_promise():
    position = np.array([[0, 0, 0], [0, 0, 3], [0, 2.0, 3]])
    shaft = House("shaft", tuple("abc"), position, np.ones(3, bool), np.abs(np.subtract.outer(range(3), range(3))) == 1)
    told = give_directions(Guide(shaft), ["a", "b", "c"], 0.0, np.random.default_rng(0))
    assert not told.clear and told.clauses[0] in ("walk on", "keep walking") and len(told.clauses) == 3


def test_sentences_have_at_most_one_and_and_none_after_a_turn():
    rng = np.random.default_rng(0)
    clauses = ("turn left", "go left and enter the kitchen", "take the stairs up", "climb the stairs", "stop there")
    for _ in range(200):
        text = instruction(clauses, rng)
        assert text.startswith("Turn left") and text.endswith("top there.") and "Turn left and" not in text
        assert all(sentence.count(" and ") <= 1 for sentence in text.split(". "))
        assert len(moves(text)) == 5
