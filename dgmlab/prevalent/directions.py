"""A grammar of directions: what can be said of each move through a house, and instructions made of it.

    Take the stairs up, then turn left and head for the red lamp. Go into the kitchen and stop by the stove.

A move is told by a fact that holds for it and for no other candidate of its panorama, so that whoever sees the candidates can
follow: it is on the stairs (up, down), it enters a room (enter), an object is in its view (toward), it is a turn (left, right,
straight, back). Where no fact is its own alone, a turn and another fact together may be. All is read from positions,
`House.rooms` and `House.objects`; where rooms and objects are unknown, stairs and turns remain. There is one clause for each
move and one for the end, so clauses and steps of a path are aligned.
"""

from typing import NamedTuple

import numpy as np

from dgmlab.prevalent.candidates import N_HEADINGS, STEP

RISE = 0.5  # metres up or down that make a move one on the stairs
TURNS = {"straight": 0.0, "right": np.pi / 2, "back": np.pi, "left": -np.pi / 2}
CLEAR, DOUBTFUL = np.deg2rad(35), np.deg2rad(55)  # a turn is told within the first; another within the second could be meant
TURN_TOO = 0.3  # how often a move that is clear without it is told its turn too

PHRASES = {
    "up": ("take the stairs up", "go up the stairs", "climb the stairs", "walk upstairs"),
    "down": ("take the stairs down", "go down the stairs", "walk downstairs"),
    "up again": ("keep going up", "continue up the stairs"),
    "down again": ("keep going down", "continue down the stairs"),
    "enter": ("go into the {}", "enter the {}", "walk into the {}", "step into the {}"),
    "through": ("go through the {}", "walk through the {}", "take the {}"),
    "toward": ("walk toward the {}", "head for the {}", "go to the {}", "move toward the {}"),
    "left": ("turn left", "take a left", "go left"),
    "right": ("turn right", "take a right", "go right"),
    "straight again": ("keep going straight", "continue forward"),
    "straight": ("go straight", "walk straight ahead", "walk forward"),
    "back": ("turn around", "go back"),
    "on": ("walk on", "keep walking"),
    "stop by": ("stop by the {}", "stop next to the {}", "wait near the {}", "wait by the {}"),
    "stop in": ("stop in the {}", "wait in the {}"),
    "stop": ("stop there", "wait there"),
}
TURN_PHRASES = {phrase for kind in (*TURNS, "straight again") for phrase in PHRASES[kind]}
JOINTS = (", ", ", then ", " and ", ". ")


class Fact(NamedTuple):
    """Something that is true of a move: a kind (up, down, enter, toward or one of TURNS) and the room or object it names."""

    kind: str
    name: str = ""


class Directions(NamedTuple):
    """clauses: one str for each move and one for the end; clear: whether each move was told apart from all other candidates"""

    clauses: tuple
    clear: bool


class Guide:
    """What can be told of the moves through one house of N panoramas.

    rooms   N str, '' where unknown
    seen    N tuples of names: what is seen from a panorama
    beside  N tuples of names: what stands right beside it, as it is in the lowest views only
    """

    def __init__(self, house):
        self.house, self.candidates = house, house.candidates
        self.rooms = house.rooms or ("",) * len(house)
        self._sightings = house.objects or ((),) * len(house)
        self.seen = [tuple(name for name, views in found if views) for found in self._sightings]
        self.beside = [tuple(name for name, views in found if views and max(views) < N_HEADINGS) for found in self._sightings]
        self._views = {}  # panorama -> for each of its 36 views the names in it

    def names_in_view(self, here, view):
        """Objects in one of the views 0..35 of a panorama -> set of str"""
        if here not in self._views:
            self._views[here] = views = [set() for _ in range(36)]
            for name, seen_in in self._sightings[here]:
                for index in seen_in:
                    views[index].add(name)
        return self._views[here][view]

    def slot(self, here, there):
        """Which candidate of panorama `here` leads to `there` -> int; None where it is straight above or below, in no view"""
        found = np.flatnonzero(self.candidates.index[here] == there)
        return int(found[0]) if len(found) else None

    def heading_after(self, here, slot):
        """Where a walker looks who took a candidate: along the candidate's view -> float radians"""
        return STEP * (int(self.candidates.view[here, slot]) % N_HEADINGS)

    def heading_along(self, path, heading):
        """Where a walker looks at the end of a path of viewpoint ids that was begun in direction `heading` -> float radians"""
        if len(path) < 2:
            return heading
        here, there = (self.house.index(viewpoint) for viewpoint in path[-2:])
        slot = self.slot(here, there)
        return self.heading_along(path[:-1], heading) if slot is None else self.heading_after(here, slot)

    def facts(self, here, slot, heading, clear=CLEAR):
        """Facts of one candidate for a walker who looks along `heading`, turns within `clear` radians of it. -> set of Fact"""
        there = int(self.candidates.index[here, slot])
        facts = {Fact("toward", name) for name in self.names_in_view(here, self.candidates.view[here, slot])}
        rise = self.house.position[there, 2] - self.house.position[here, 2]
        if abs(rise) > RISE:
            facts.add(Fact("up" if rise > 0 else "down"))
        elif self.rooms[there] not in ("", self.rooms[here]):
            facts.add(Fact("enter", self.rooms[there]))
        turn = self.candidates.heading[here, slot] - heading
        return facts | {Fact(kind) for kind, middle in TURNS.items()
                        if abs((turn - middle + np.pi) % (2 * np.pi) - np.pi) <= clear}

    def telling(self, here, slot, heading):
        """What tells one candidate from the others: facts that are its own alone, or else pairs of a turn and another fact.

        -> list of tuples of Fact, sorted; empty where nothing does
        """
        own = sorted(self.facts(here, slot, heading))
        others = [self.facts(here, i, heading, DOUBTFUL) for i in range(self.candidates.count[here]) if i != slot]
        alone = [(fact,) for fact in own if not any(fact in facts for facts in others)]
        if alone:
            return alone
        pairs = [(turn, fact) for turn in own if turn.kind in TURNS for fact in own if fact.kind not in TURNS]
        return [pair for pair in pairs if not any(facts.issuperset(pair) for facts in others)]


def give_directions(guide, path, heading, rng):
    """Directions for one path, in words drawn at random.

    guide    Guide of the house
    path     viewpoint ids, the start first; each step along an edge
    heading  radians at the start; afterwards the walker looks along the views of the candidates taken
    rng      numpy Generator
    -> Directions
    """
    places = [guide.house.index(viewpoint) for viewpoint in path]
    clauses, clear, before = [], True, ""
    for here, there in zip(places, places[1:], strict=False):
        slot = guide.slot(here, there)
        own = sorted(guide.facts(here, slot, heading)) if slot is not None else []
        telling = guide.telling(here, slot, heading) if slot is not None else []
        clear = clear and bool(telling)
        facts = _chosen(guide, there, telling or [(fact,) for fact in own], rng)
        turn = [fact for fact in own if fact.kind in TURNS]
        if len(facts) == 1 and turn and facts[0].kind not in TURNS and rng.random() < TURN_TOO:
            facts = (turn[0], *facts)
        door = f"{guide.rooms[there]} door" if guide.rooms[there] != guide.rooms[here] else ""
        clauses.append(_clause(facts, before, door, rng))
        before = facts[-1].kind if facts else ""
        heading = guide.heading_after(here, slot) if slot is not None else heading
    return Directions((*clauses, _end(guide, places, rng)), clear)


def instruction(clauses, rng):
    """Clauses joined to sentences by commas, 'then', 'and' and full stops -> str

    After a turn 'and' tells of the same move ("turn left and go to the lamp"), so the next move is joined by other means.
    """
    text = _capital(clauses[0])
    for before, clause in zip(clauses, clauses[1:], strict=False):
        together = before in TURN_PHRASES or " and " in clause + text.rpartition(". ")[2]
        joints = [joint for joint in JOINTS if not (together and joint == " and ")]
        joint = joints[rng.integers(len(joints))]
        text += joint + (_capital(clause) if joint == ". " else clause)
    return text + "."


def _capital(text):
    return text[:1].upper() + text[1:]


def _chosen(guide, there, options, rng):
    """One of several tuples of facts, the more telling the likelier; () where there is none."""
    if not options:
        return ()
    weights = np.array([_weight(guide, there, facts[-1]) for facts in options])
    return options[rng.choice(len(options), p=weights / weights.sum())]


def _weight(guide, there, fact):
    """How gladly a fact is told: an object that the move leads to more than one far behind, a turn only now and then."""
    if fact.kind == "toward":
        return 4.0 if fact.name in guide.beside[there] else 1.0 if fact.name in guide.seen[there] else 0.2
    return {"up": 12.0, "down": 12.0, "enter": 4.0}.get(fact.kind, 1.0)


def _clause(facts, before, door, rng):
    """Words for one move; `before` is the kind of fact that told the move before, `door` the name of the door gone through."""
    words = []
    for kind, name in facts:
        if kind == before and f"{kind} again" in PHRASES:
            kind = f"{kind} again"
        elif name and name == door:
            kind = "through"
        elif name == "stairs":  # a room that nobody goes into
            kind = "toward"
        words.append(_phrase(kind, name, rng))
    return " and ".join(words) or _phrase("on", "", rng)


def _end(guide, places, rng):
    """Where to stop: by something beside the last panorama, best not beside the one before; else in its room; else there."""
    *_, before, goal = (None, *places)
    for table in (guide.beside, guide.seen):
        names = [name for name in table[goal] if not name.endswith("door") and not name.startswith("stair")]
        new = [name for name in names if before is None or name not in table[before]]
        if new or names:
            return _phrase("stop by", (new or names)[rng.integers(len(new or names))], rng)
    room = guide.rooms[goal]
    return _phrase("stop in", room, rng) if room else _phrase("stop", "", rng)


def _phrase(key, name, rng):
    return PHRASES[key][rng.integers(len(PHRASES[key]))].format(name)
