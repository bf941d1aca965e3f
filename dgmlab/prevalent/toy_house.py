"""Procedural houses: a hallway with rooms on both sides, on every floor, joined by stairs with a landing; no data needed.

Everything follows from one drawn plan: two panoramas are joined when they see each other (no wall between them) within 4 m,
and an object is in a view when it stands in the view's field and no wall hides it. Every panorama has one landmark beside it
(`red lamp`, no two alike in a house), every room its furniture (`stove`), every door and stair says where it leads
(`kitchen door`, `stairs up`), so that an instruction made of such words can be followed by who reads it.
"""

from itertools import cycle, product
from typing import NamedTuple

import numpy as np

from dgmlab.prevalent.candidates import LEVELS, N_HEADINGS, STEP
from dgmlab.prevalent.house import House, RoomBox, Sighting

FURNITURE = {"kitchen": "stove", "living room": "sofa", "dining room": "dining table", "bedroom": "bed", "bathroom": "bathtub",
             "office": "desk", "library": "bookcase", "nursery": "cradle", "gym": "treadmill", "music room": "piano",
             "laundry room": "washing machine", "playroom": "toy chest"}
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")
NOUNS = ("lamp", "vase", "chair", "rug", "clock", "mirror", "plant", "painting", "statue", "cushion")

# metres
CAMERA, STOREY = 1.5, 2.8  # height of the camera above its floor, of a floor above the one below
HALL, SPACING = 1.1, 2.6  # half the width of a hallway; between two of its panoramas
DOOR = 0.55  # half the width of a door
STAIRS = 3.0  # length of a stairwell, at an end of the hallway
APART, REACH = 1.6, 4.0  # between two panoramas at the back of a room, at least; between two that are joined, at most
SIGHT = 8.0  # farthest object that is seen
FIELD = np.deg2rad(29)  # an object is in the views whose middle is so near to it in heading and elevation: at most four


class Spot(NamedTuple):
    """A panorama: room, level (the landing between floors 0 and 1 is at 0.5), and place on the plan in metres."""

    room: str
    level: float
    x: float
    y: float


class Thing(NamedTuple):
    """Something to see: name, floor, place on the plan, height above the floor, and the side it is seen from (0, 0: any)."""

    name: str
    level: int
    x: float
    y: float
    height: float
    facing: tuple = (0, 0)


def toy_house(seed, n_floors=2, n_rooms=5):
    """A procedural house, the same for the same arguments; by default with about 30 panoramas.

    seed      int
    n_floors  1 or more
    n_rooms   rooms of each floor besides the hallway, 2 or more; up to 12 in the whole house have different names
    -> House called 'toy<seed>', with rooms, objects and floor_plan
    """
    if n_floors < 1 or n_rooms < 2:
        raise ValueError("a toy house has at least 1 floor and 2 rooms a floor, found "
                         f"n_floors={n_floors}, n_rooms={n_rooms}. Ask for more.")
    rng = np.random.default_rng((seed, n_floors, n_rooms))
    names = cycle(rng.permutation(list(FURNITURE)).tolist())
    length = 3.9 * ((n_rooms + 1) // 2) * rng.uniform(0.95, 1.1)
    spots, boxes, things, walls = [], [], [], []
    for level in range(n_floors):
        floor = _Floor(rng, level, length, [next(names) for _ in range(n_rooms)], stairs_up=level < n_floors - 1)
        spots += floor.spots
        boxes += floor.boxes
        things += floor.things
        walls.append(np.array(floor.walls))
    things += _landmarks(rng, spots, boxes)
    return _built(f"toy{seed}", rng, spots, boxes, things, walls)


class _Floor:
    """One floor in the making: spots, boxes, things, and walls (x0, y0, x1, y1) with gaps where the doors are.

    The hallway runs along x from 0 to `length`, its middle at y = 0. Stairs go up at its right end from even floors, at its
    left end from odd ones.
    """

    def __init__(self, rng, level, length, names, stairs_up):
        self.rng, self.level, self.length = rng, level, length
        self.spots, self.boxes, self.things, self.walls = [], [], [], []
        left, right = 0.0, length
        if stairs_up:
            self._landing(level, "stairs up")
        if level:
            self._landing(level - 1, "stairs down")
        self.boxes.append(RoomBox("hallway", level, left, -HALL, right, HALL))
        n_spots = round((length - HALL * 2) / SPACING) + 1
        self.hall = np.linspace(HALL, length - HALL, n_spots)
        self.spots += [Spot("hallway", level, x, rng.uniform(-0.1, 0.1)) for x in self.hall]
        turn = rng.integers(2)
        self._side(names[: (len(names) + turn) // 2], 1)
        self._side(names[(len(names) + turn) // 2:], -1)

    def _landing(self, below, name):
        """Half of a stairwell, as this floor sees it; its panorama belongs to the floor below."""
        x = self.length + STAIRS / 2 if below % 2 == 0 else -STAIRS / 2
        self.boxes.append(RoomBox("stairs", self.level, x - STAIRS / 2, -HALL, x + STAIRS / 2, HALL))
        self.things.append(Thing(name, self.level, x, 0.0, CAMERA + STOREY / 2 * (1 if below == self.level else -1)))
        if below == self.level:
            self.spots.append(Spot("stairs", below + 0.5, x, 0.0))

    def _side(self, names, sign):
        """The rooms on one side of the hallway (sign: that of their y), with doors to it and here and there between them."""
        rng = self.rng
        depth = rng.uniform(4.2, 5.2)
        cuts = np.cumsum([0, *rng.uniform(0.85, 1.15, len(names))])
        cuts *= self.length / cuts[-1]
        doors, before = [], None
        for name, x0, x1 in zip(names, cuts, cuts[1:], strict=False):
            nearest = self.hall[np.abs(self.hall - (x0 + x1) / 2).argmin()]
            door = np.clip(nearest, x0 + 0.8, x1 - 0.8)
            inside = [Spot(name, self.level, door, sign * (HALL + 1.4))]
            inside += [Spot(name, self.level, x, sign * (HALL + depth - rng.uniform(1.0, 1.3)))
                       for x in self._far(x0, x1, door)]
            y0, y1 = sorted((sign * HALL, sign * (HALL + depth)))
            self.boxes.append(RoomBox(name, self.level, x0, y0, x1, y1))
            self.spots += inside
            self.things.append(Thing(FURNITURE[name], self.level, rng.uniform(x0 + 0.5, x1 - 0.5),
                                     sign * (HALL + depth - 0.4), 0.6))
            self._signs(door, sign * HALL, (0, sign), name, "hallway")
            doors.append(door)
            if before:
                self._wall_between(before, inside, x0, sign, depth)
            before = inside
        ends = [-STAIRS, *np.add.outer(doors, (-DOOR, DOOR)).ravel(), self.length + STAIRS]
        self.walls += [(a, sign * HALL, b, sign * HALL) for a, b in zip(ends[::2], ends[1::2], strict=True)]

    def _far(self, x0, x1, door):
        """x of the one or two panoramas deep in a room from x0 to x1, within reach of that at its door."""
        low, high = max(x0 + 0.9, door - 2.3), min(x1 - 0.9, door + 2.3)
        spare = high - low - APART
        if spare < 0 or self.rng.random() < 0.5:
            return [self.rng.uniform(low, high)]
        return [self.rng.uniform(low, low + spare / 2), self.rng.uniform(high - spare / 2, high)]

    def _wall_between(self, left, right, x, sign, depth):
        """The wall between two rooms; every second one has a door, on the shortest way between their panoramas."""
        near, far = sign * HALL, sign * (HALL + depth)
        a, b = min(product(left, right), key=lambda pair: (pair[0].x - pair[1].x) ** 2 + (pair[0].y - pair[1].y) ** 2)
        if self.rng.random() < 0.5 and np.hypot(a.x - b.x, a.y - b.y) < REACH:
            y = a.y + (b.y - a.y) * (x - a.x) / (b.x - a.x)
            self.walls += [(x, near, x, y - sign * DOOR), (x, y + sign * DOOR, x, far)]
            self._signs(x, y, (1, 0), right[0].room, left[0].room)
        else:
            self.walls.append((x, near, x, far))

    def _signs(self, x, y, way, there, here):
        """A door says where it leads: `way` points from the room `here` to the room `there`."""
        back = (-way[0], -way[1])
        self.things += [Thing(f"{there} door", self.level, x, y, 1.2, back), Thing(f"{here} door", self.level, x, y, 1.2, way)]


def _landmarks(rng, spots, boxes):
    """One landmark half a metre beside each panorama, no two alike as long as there are colours and nouns enough."""
    names = cycle(rng.permutation([f"{colour} {noun}" for colour, noun in product(COLOURS, NOUNS)]).tolist())
    things = []
    for spot in spots:
        if spot.room != "stairs":
            turn = rng.uniform(0, 2 * np.pi)
            things.append(Thing(next(names), int(spot.level), spot.x + 0.5 * np.cos(turn), spot.y + 0.5 * np.sin(turn),
                                rng.uniform(0.5, 1.1)))
    return things


def _built(scan, rng, spots, boxes, things, walls):
    """The House of a plan, turned and mirrored at random."""
    plan = np.array([(spot.x, spot.y) for spot in spots])
    levels = np.array([spot.level for spot in spots])
    there = np.array([(thing.x, thing.y) for thing in things])
    their_levels = np.array([thing.level for thing in things])
    facing = np.array([thing.facing for thing in things])

    joined = np.zeros((len(spots), len(spots)), dtype=bool)
    seen = np.zeros((len(spots), len(things)), dtype=bool)
    for level, floor_walls in enumerate(walls):
        near, here = np.abs(levels - level) <= 0.5, their_levels == level
        joined[np.ix_(near, near)] |= _in_sight(plan[near], plan[near], floor_walls)
        seen[np.ix_(near, here)] = _in_sight(plan[near], there[here], floor_walls)
    behind = ((plan[:, None] - there) * facing).sum(2) < 0
    seen &= ~behind & (np.linalg.norm(plan[:, None] - there, axis=2) < SIGHT)

    turn = rng.choice([-1, 1], 2) * np.eye(2)[rng.permutation(2)]  # (2, 2), quarter turns and mirrors
    position = np.column_stack([plan @ turn, CAMERA + STOREY * levels])
    place = np.column_stack([there @ turn, [STOREY * thing.level + thing.height for thing in things]])
    step = np.linalg.norm(position[:, None] - position, axis=2)
    objects = tuple(_sightings(place[row] - here, [things[i].name for i in np.flatnonzero(row)])
                    for here, row in zip(position, seen, strict=True))
    corners = np.array([box[2:] for box in boxes]).reshape(-1, 2, 2) @ turn
    floor_plan = tuple(RoomBox(box.name, box.floor, *corner.min(0).tolist(), *corner.max(0).tolist())
                       for box, corner in zip(boxes, corners, strict=True))
    return House(scan, _viewpoints(spots), position, np.ones(len(spots), dtype=bool), joined & (step > 0) & (step <= REACH),
                 np.floor(levels).astype(np.int64), tuple(spot.room for spot in spots), objects, floor_plan)


def _viewpoints(spots):
    """Readable ids: floor, room, number in the room."""
    seen, names = {}, []
    for spot in spots:
        stem = f"{int(spot.level)}_{spot.room.replace(' ', '_')}"
        seen[stem] = seen.get(stem, 0) + 1
        names.append(f"{stem}_{seen[stem]}")
    return tuple(names)


def _in_sight(a, b, walls):
    """(A, B) bool: no wall (W, 4) crosses the straight line between points a (A, 2) and b (B, 2)."""
    def side(p, q, r):
        return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])

    a, b = a[:, None, None], b[None, :, None]
    start, end = walls[:, :2], walls[:, 2:]
    crossed = (side(a, b, start) * side(a, b, end) < 0) & (side(start, end, a) * side(start, end, b) < 0)
    return ~crossed.any(2)


def _sightings(way, names):
    """Sighting of each thing that lies `way` (S, 3) metres from the camera, in the views whose field it is in."""
    heading, elevation = np.arctan2(way[:, 0], way[:, 1]), np.arctan2(way[:, 2], np.hypot(way[:, 0], way[:, 1]))
    off = heading[:, None] - STEP * np.arange(N_HEADINGS)
    off = np.abs((off + np.pi) % (2 * np.pi) - np.pi)
    inside = (off[:, None] <= FIELD) & (np.abs(elevation[:, None] - LEVELS) <= FIELD)[:, :, None]  # (S, 3, 12)
    return tuple(Sighting(name, tuple(np.flatnonzero(views).tolist()))
                 for name, views in zip(names, inside.reshape(-1, 36), strict=True) if views.any())
