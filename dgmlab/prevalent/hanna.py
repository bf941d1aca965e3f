"""HANNA: find an object, and ask for help on the way (Nguyen and Daume 2019, Help, Anna!).

    episodes = load_hanna("val_unseen", folder)            the real tasks, where you have them
    episodes = object_episodes(houses, 1000, seed=0)       made from toy houses, or from tables of Matterport3D
    anna = Anna(houses, make_routes(houses, seed=0))       or load_routes(folder)
    anna.answer(row, goals)                                a route for whoever asks there

An episode says what to find ('Find the stove in the kitchen.') and ends well within 2 m of a panorama that shows it. Near the
start of a route an agent may ask. The assistant, Anna, puts it on the route whose way passes the goal most closely, tells it
the route in words, and shows it the panorama where to leave it; from there it shows the goal itself.

The task files were only ever offered as a download that is no longer sure to work, so nothing here needs them; the format is
that of the released code (khanhptnk/hanna, code/tasks/HANNA: env.py, oracle.py), tested on files made by hand.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.data.registry import data_home
from dgmlab.prevalent.angles import HEADINGS, STEP
from dgmlab.prevalent.directions import Guide, give_directions, instruction
from dgmlab.prevalent.episodes import RESTORE, Episode, read_json, read_records, task_file
from dgmlab.prevalent.house import check_path
from dgmlab.prevalent.ndh import targets_of

SPLITS = ("train", "val_seen", "val_unseen", "test_seen", "test_unseen")
RADIUS = 2.0  # metres between who asks and the start of a route
NEAR = 4.0  # metres that a made-up episode starts from its goals, at least
IN_ROOM = 0.5  # share of made-up episodes that name the room


class Route(NamedTuple):
    """A way that Anna knows: viewpoint ids and what it says; `view` is the view index 0..35 in which the way begins."""

    route_id: str
    scan: str
    path: tuple
    instruction: str
    view: int
    split: str = ""  # of the episodes that it may be told in; '' all


class Answer(NamedTuple):
    """What Anna says: the route, and rows: where it starts, where to depart from it, and the goal nearest to that."""

    route: Route
    start: int
    depart: int
    goal: int


def load_hanna(split, folder=None):
    """The episodes of HANNA from hanna_SPLIT.json.

    split   'train', 'val_seen', 'val_unseen', 'test_seen' or 'test_unseen'
    folder  of the files; by default matterport/HANNA below `data_home()`
    -> list of Episode; the goals are the ends of the task's paths, the path is the first of them; about: path_id, paths
    """
    path = task_file("HANNA", split, {name: f"hanna_{name}.json" for name in SPLITS}, folder)
    fields = {"path_id": (int, str), "scan": str, "heading": (int, float), "paths": list, "instructions": [str]}
    episodes = []
    for number, record in enumerate(read_records(path, fields)):
        paths = record["paths"]
        if not paths or not all(isinstance(way, list) and way and way[0] == paths[0][0] for way in paths):
            raise ValueError(f"{path}, record {number}: expected 'paths' as one path or more from the same start. {RESTORE}")
        ways = tuple(map(tuple, paths))
        episodes += [Episode(f"{record['path_id']}_{k}", record["scan"], float(record["heading"]), 0.0, ways[0], text,
                             tuple(dict.fromkeys(way[-1] for way in ways)), {"path_id": record["path_id"], "paths": ways})
                     for k, text in enumerate(record["instructions"])]
    return episodes


def load_routes(folder=None):
    """Anna's routes from routes.json, scan -> list of {path_id, path, instruction, view_id, split}. -> list of Route"""
    path = (Path(folder) if folder else data_home() / "matterport" / "HANNA") / "routes.json"
    if not path.is_file():
        raise FileNotFoundError(f"Anna's routes were expected at {path}, found nothing there. make_routes needs no file.")
    table = read_json(path)
    try:
        return [Route(str(row["path_id"]), scan, tuple(row["path"]), row["instruction"], int(row["view_id"]), row["split"])
                for scan, rows in table.items() for row in rows]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected an object scan -> list of path_id, path, instruction, view_id and split, found "
                         f"otherwise ({error!r}). {RESTORE}") from None


def object_episodes(houses, n, seed, targets=None):
    """Made-up episodes in the manner of HANNA: an object, sometimes its room, and a start at least 4 m from it.

    houses   Houses, toy or described
    targets  dict scan -> list of ndh.Target, such as `ndh.read_targets()`; None: the objects of the houses themselves
    -> list of n Episode; path is a shortest one to the nearest goal; about: target, path_id
    """
    rng = np.random.default_rng(seed)
    hidden = [(scan, target) for scan, house in houses.houses.items()
              for target in (targets_of(house) if targets is None else targets.get(scan, []))]
    if not hidden:
        raise ValueError(f"nothing to find in {houses}. Give `targets`, or houses with rooms and objects.")
    episodes = []
    for _ in range(100 * n):
        if len(episodes) == n:
            return episodes
        scan, target = hidden[rng.integers(len(hidden))]
        house = houses.houses[scan]
        goals = [house.index(goal) for goal in target.goals]
        distance = house.distance[:, goals].min(1)
        starts = np.flatnonzero(house.included & np.isfinite(distance) & (distance >= NEAR))
        if len(starts):
            start = rng.choice(starts)
            goal = goals[house.distance[start, goals].argmin()]
            room = house.rooms[goal] if house.rooms and rng.random() < IN_ROOM else ""
            text = f"Find the {target.name} in the {room}." if room else f"Find the {target.name}."
            path = tuple(house.shortest_path(house.viewpoints[start], house.viewpoints[goal]))
            name, heading = f"{scan}-{len(episodes)}", float(STEP * rng.integers(HEADINGS))
            episodes.append(Episode(f"{name}_0", scan, heading, 0.0, path, text, target.goals,
                                    {"target": target.name, "path_id": name}))
    raise ValueError(f"the objects in {houses} leave no start {NEAR:g} m away, found {len(episodes)}. Give larger houses.")


def make_routes(houses, seed, share=0.6, per_start=3, moves=(2, 5)):
    """Routes for Anna, told by the grammar of `directions`.

    share      of the panoramas from which routes start
    per_start  routes from each of these, at most: those told so that each move is clear
    moves      least and greatest number of moves, along a shortest path
    -> list of Route
    """
    rng, routes = np.random.default_rng(seed), []
    for scan, house in houses.houses.items():
        guide = Guide(house)
        for start in np.flatnonzero(house.included & (rng.random(len(house)) < share)):
            goals = rng.permutation(np.flatnonzero(house.included & np.isfinite(house.distance[start])))
            found = 0
            for goal in goals[: 6 * per_start]:
                path = house.shortest_path(house.viewpoints[start], house.viewpoints[goal])
                heading = int(rng.integers(HEADINGS))
                if found < per_start and moves[0] < len(path) <= moves[1] + 1:
                    told = give_directions(guide, path, STEP * heading, rng)
                    if told.clear:
                        found += 1
                        text = instruction(told.clauses, rng)
                        routes.append(Route(f"{scan}-{len(routes)}", scan, tuple(path), text, HEADINGS + heading))
    return routes


class Anna:
    """The assistant. It knows the houses, its routes, and the goals of whoever asks.

    houses       Houses; routes in other houses are left aside
    split        of the episodes: routes of other splits are not told; '' tells all
    can_request  (P,) bool: some route starts at the panorama, or at a candidate of it within `radius` metres
    """

    def __init__(self, houses, routes, split="", radius=RADIUS):
        self.houses = houses
        self.routes = [route for route in routes if route.scan in houses.houses and route.split in ("", split or route.split)]
        if not self.routes:
            raise ValueError(f"none of {len(routes)} routes is in {houses} for split '{split}'. Give routes of these houses.")
        for route in self.routes:
            check_path(houses.houses[route.scan], route.path)
        rows = [[houses.row(route.scan, viewpoint) for viewpoint in route.path] for route in self.routes]
        longest = max(map(len, rows))
        self._rows = np.array([row + row[-1:] * (longest - len(row)) for row in rows])  # (R, L) padded with the last panorama
        starting = [[] for _ in range(len(houses))]
        for number, row in enumerate(self._rows[:, 0]):
            starting[row].append(number)
        candidates = houses.candidates
        close = (candidates.index >= 0) & (candidates.distance <= radius)
        self._here = [starting[row] + [number for there in candidates.index[row][close[row]] for number in starting[there]]
                      for row in range(len(houses))]
        self.can_request = np.array([bool(numbers) for numbers in self._here])

    def answer(self, row, goals, generator=None):
        """The route that passes nearest to a goal, for who asks at a panorama.

        row        int, where `can_request`
        goals      (G,) rows, -1 padded
        generator  numpy Generator that draws among equally good routes; None takes the first
        -> Answer
        """
        numbers = np.array(self._here[row])
        if not len(numbers):
            raise ValueError(f"no route starts near {self.houses.name(row)}; ask where can_request is True.")
        goals = np.asarray(goals)[np.asarray(goals) >= 0]
        distance = self.houses.distance(self._rows[numbers][:, :, None], goals)  # (R, L, G)
        nearest = distance.min((1, 2))
        best = np.flatnonzero(nearest <= nearest.min() + 1e-6)
        chosen = best[0 if generator is None else generator.integers(len(best))]
        place, goal = np.unravel_index(distance[chosen].argmin(), distance[chosen].shape)
        number = numbers[chosen]
        return Answer(self.routes[number], int(self._rows[number, 0]), int(self._rows[number, place]), int(goals[goal]))


class Absent:
    """Anna is away: `can_request` (P,) is False everywhere. What an agent finds by itself is judged with her."""

    def __init__(self, houses):
        self.houses, self.can_request = houses, np.zeros(len(houses), bool)
