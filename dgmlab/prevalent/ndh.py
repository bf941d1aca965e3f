"""CVDN's Navigation from Dialog History: find an object in a house, told by the dialog so far (Thomason et al. 2019).

    load_ndh("val_unseen", supervision="mixed")             the real validation dialogs
    make_ndh_like(houses, 5000, 0, targets=read_targets())  episodes to train on, made from tables; toy houses need no tables

An instruction is the dialog as text, `<NAV> question <ORA> answer ... <TAR> object`. The goals are the panoramas of the room
that holds the object, and the score is goal progress: metres that a path comes nearer to the nearest of them. A reference is

    oracle     the planner's path: up to five moves of the shortest path, as shown to the one who answers
    navigator  the player's path: what people did next
    mixed      the player's where it comes past the end of the planner's, which makes it trusted; else the planner's

An agent that ends where the reference ends makes a goal progress of 8.29 / 7.63 / 9.52 m (oracle / navigator / mixed) on
val_seen and of 8.36 / 7.99 / 9.58 m on val_unseen: computed from the files, and tested.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.data.registry import data_home
from dgmlab.prevalent.candidates import N_HEADINGS, STEP
from dgmlab.prevalent.directions import Guide, give_directions, instruction
from dgmlab.prevalent.episodes import Episode, read_json, read_records, task_file

SUPERVISION = ("oracle", "navigator", "mixed")
HISTORY = ("none", "target", "last", "all")
QUESTIONS = ("Which way should I go?", "Where do I go now?", "Where should I go from here?", "Should I go on?",
             "Am I on the right way?", "What is next?")
ROUND = 5  # moves that an answer tells at most, as the planner's paths of CVDN show


class Target(NamedTuple):
    """An object to find: its name, and the viewpoint ids of where it counts as found."""

    name: str
    goals: tuple


def load_ndh(split, supervision="mixed", history="all", folder=None):
    """The episodes of CVDN's navigation task; validation only, as its training split cannot be had (see `make_ndh_like`).

    split        'val_seen' (382) or 'val_unseen' (907)
    supervision  what `path` is: 'oracle', 'navigator' or 'mixed', see the top of this file
    history      what the instruction holds: 'none' (nothing), 'target', 'last' (last question and answer, target) or 'all'
                 (the whole dialog, target); before the first question the target alone
    folder       of the files; by default matterport/NDH below `data_home()`
    -> list of Episode; instr_id is inst_idx; elevation in radians though the files have degrees; about: target, game_idx
    """
    _check(supervision=(supervision, SUPERVISION), history=(history, HISTORY))
    path = task_file("NDH", split, {name: f"{name}.json" for name in ("val_seen", "val_unseen")}, folder)
    fields = {"inst_idx": (int, str), "scan": str, "target": str, "start_pano": dict, "dialog_history": list,
              "planner_path": [str], "player_path": [str], "end_panos": [str]}
    episodes = []
    for number, record in enumerate(read_records(path, fields)):
        try:
            heading, elevation = float(record["start_pano"]["heading"]), math.radians(record["start_pano"]["elevation"])
            dialog = [(turn["role"], turn["message"]) for turn in record["dialog_history"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, record {number}: expected heading and elevation in 'start_pano', role and message in "
                             f"'dialog_history', found otherwise ({error!r}). Restore the file from where it came.") from None
        reference = _supervised(tuple(record["planner_path"]), tuple(record["player_path"]), supervision)
        about = {"target": record["target"], "game_idx": record.get("game_idx", record["inst_idx"])}
        episodes.append(Episode(str(record["inst_idx"]), record["scan"], heading, elevation, reference,
                                dialog_text(dialog, record["target"], history), tuple(record["end_panos"]), about))
    return episodes


def _check(**choices):
    for name, (value, valid) in choices.items():
        if value not in valid:
            raise ValueError(f"no {name} '{value}'; choose one of: {', '.join(valid)}.")


def _supervised(planner, player, supervision):
    """The reference path of one kind of supervision."""
    if supervision == "mixed":
        supervision = "navigator" if planner[-1] in player[1:] else "oracle"
    return player if supervision == "navigator" else planner


def dialog_text(dialog, target, history="all"):
    """A dialog as one instruction: `<NAV> question <ORA> answer ... <TAR> target`.

    dialog   list of (role, message), oldest first; role 'navigator' or 'oracle'
    history  'none', 'target', 'last' or 'all', see `load_ndh`
    """
    if history == "none":
        return ""
    turns = {"target": (), "last": dialog[-2:], "all": dialog}[history]
    words = [f"{'<NAV>' if role == 'navigator' else '<ORA>'} {' '.join(message.split())}" for role, message in turns]
    return " ".join([*words, f"<TAR> {target}"])


def read_targets(path=None):
    """The objects that CVDN hides in its houses, from the table of its collection (web/mturk, house_target_tuple.json).

    path  of the table; by default matterport/regions/house_target_tuple.json below `data_home()`
    -> dict scan -> list of Target (1,629 in 83 houses); the goals are the panoramas of the object's region
    """
    path = Path(path or data_home() / "matterport" / "regions" / "house_target_tuple.json")
    if not path.is_file():
        raise FileNotFoundError(f"the table of targets was expected at {path}, found nothing there. Set DGMLAB_DATA to the "
                                "folder that holds matterport/, or leave `targets` out: objects then come from the houses.")
    table = read_json(path)
    return {scan: [Target(name, goals) for name, goals in dict.fromkeys((row[0], tuple(row[3])) for row in rows)]
            for scan, rows in table.items()}


def targets_of(house):
    """Objects of a house whose rooms and objects are known: each that is seen in one room only, without doors and stairs.

    -> list of Target; the goals are the panoramas of that room that see the object
    """
    places, rooms = {}, house.rooms or ("",) * len(house)
    for here, sightings in enumerate(house.objects):
        for name, _ in sightings:
            places.setdefault(name, []).append(here)
    targets = []
    for name, seen_from in places.items():
        inside = [here for here in seen_from if rooms[here] not in ("", "hallway", "stairs") and house.included[here]]
        if inside and len({rooms[here] for here in inside}) == 1 and not name.endswith("door"):
            targets.append(Target(name, tuple(house.viewpoints[here] for here in inside)))
    return targets


def make_ndh_like(houses, n, seed, targets=None, moves=ROUND, history="all"):
    """Episodes in the manner of CVDN, to train on where its training split cannot be had: made up, not collected from people.

    An object is hidden, and a made-up navigator walks the shortest path to it, asking after every `moves` moves; the answer
    tells the next ones by the grammar of `directions`. An episode begins at one of these questions, or at the start without
    a dialog; its reference is what the last answer told (as supervision 'oracle' of the real task), and the goals are those
    of the object. Give the houses of the training split: with `read_targets()` their objects are those that CVDN's own dialogs
    are about, those of val_seen among them, for it plays in training houses; no dialog and no path of CVDN is used.

    houses   Houses; answers name rooms and objects where the houses know them (`semantic.describe`), else stairs and turns
    targets  dict scan -> list of Target; None: the objects of the houses themselves (`targets_of`), as for toy houses
    history  as in `load_ndh`
    -> list of n Episode; about: target, and rounds, the number of questions so far
    """
    _check(history=(history, HISTORY))
    rng = np.random.default_rng(seed)
    hidden = [(scan, target) for scan, house in houses.houses.items()
              for target in (targets_of(house) if targets is None else targets.get(scan, []))]
    if not hidden:
        raise ValueError(f"nothing to find in {houses}. Give `targets`, or houses with rooms and objects.")
    guides = {scan: Guide(house) for scan, house in houses.houses.items()}
    episodes = []
    while len(episodes) < n:
        scan, target = hidden[rng.integers(len(hidden))]
        route = _route(houses.houses[scan], target.goals, rng)
        if len(route) > 1:
            episodes.append(_hunt(f"{scan}-{len(episodes)}", guides[scan], route, target, moves, history, rng))
    return episodes


def _route(house, goals, rng):
    """Viewpoint ids of the shortest path from anywhere to the nearest goal; one id where that is there, or out of reach."""
    start = rng.choice(np.flatnonzero(house.included))
    goal = min(goals, key=lambda viewpoint: house.distance[start, house.index(viewpoint)])
    start = house.viewpoints[start]
    reachable = np.isfinite(house.distance[house.index(start), house.index(goal)])
    return house.shortest_path(start, goal) if reachable else [start]


def _hunt(name, guide, route, target, moves, history, rng):
    """The episode of one question on a route."""
    heading = float(STEP * rng.integers(N_HEADINGS))
    asked = range(0, len(route) - 1, moves)  # where on the route
    rounds = int(rng.integers(len(asked) + 1))
    dialog, here = [], 0
    for here in asked[:rounds]:
        part = route[here:here + moves + 1]
        heading_here = guide.heading_along(route[:here + 1], heading)
        clauses = give_directions(guide, part, heading_here, rng).clauses[:-1]
        found = f" You will find the {target.name} there." if part[-1] == route[-1] else ""
        dialog += [("navigator", QUESTIONS[rng.integers(len(QUESTIONS))]), ("oracle", instruction(clauses, rng) + found)]
    return Episode(name, guide.house.scan, guide.heading_along(route[:here + 1], heading), 0.0,
                   tuple(route[here:here + moves + 1]), dialog_text(dialog, target.name, history), target.goals,
                   {"target": target.name, "rounds": rounds})
