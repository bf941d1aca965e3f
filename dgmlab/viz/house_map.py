"""A house from above, one panel a floor: its graph and rooms, paths through it, and where an agent stands, looks and may go.

What counts as a house is said in `floor`, which draws.
"""

import math

import numpy as np
from matplotlib.lines import Line2D

from dgmlab.viz import style
from dgmlab.viz.floor import AGENT, REFERENCE, SUCCESS, Option, Scene, blend, draw_floor, path_look, room_of

MARGIN, LEAST = 1.8, 8.0  # metres around what a window must show, and its least side
TALLEST, CLOSEST = 520, 34  # of a map, in points; points a metre that are never exceeded
GAP, HEAD = 14, 18  # points between two panels, and above one that has a heading


def index_of(house, viewpoint):
    """Index of a viewpoint, given by its id or as that index itself."""
    return int(viewpoint) if isinstance(viewpoint, int | np.integer) else house.index(viewpoint)


def collect_options(house, here, candidates=None, scores=None):
    """What can be done at a viewpoint -> tuple of Option, number 0 (stop) first.

    candidates  viewpoints in the order of the actions; None: those of house.candidates
    scores      (K + 1,) probabilities of stop and the K candidates, or None
    """
    here = index_of(house, here)
    table = house.candidates.index[here] if candidates is None else []
    ways = [int(i) for i in table if i >= 0] if candidates is None else [index_of(house, one) for one in candidates]
    if scores is not None and len(scores) != len(ways) + 1:
        raise ValueError(f"{len(ways) + 1} scores were expected, of stop and {len(ways)} candidates, found {len(scores)}. "
                         "Give one an action.")
    values = [None] * (len(ways) + 1) if scores is None else [float(score) for score in scores]
    options = [Option(0, house.viewpoints[here], here, room_of(house, here), 0.0, 0.0, 0.0, values[0])]
    for number, way in enumerate(ways, 1):
        east, north, up = (house.position[way] - house.position[here]).tolist()
        flat = math.hypot(east, north)
        options.append(Option(number, house.viewpoints[way], way, room_of(house, way), math.atan2(east, north) % math.tau,
                              math.atan2(up, flat), math.hypot(flat, up), values[number]))
    return tuple(options)


def collect_scene(house, paths=None, here=None, heading=None, candidates=None, scores=None, chosen=None, goals=None):
    """The arguments of `plot_house`, with indices in place of ids -> Scene"""
    paths = {name: [index_of(house, viewpoint) for viewpoint in path] for name, path in (paths or {}).items()}
    if goals is None:
        goals = paths.get(REFERENCE, [])[-1:]
    options = ()
    if candidates is not None and candidates is not False:
        if here is None:
            raise ValueError("candidates are those of a place: give here=, the viewpoint the agent stands at.")
        options = collect_options(house, here, None if candidates is True else candidates, scores)
    here = None if here is None else index_of(house, here)
    return Scene(paths, here, heading, options, chosen, tuple(index_of(house, goal) for goal in goals), ended=here is None)


def floors_of(house, indices=None):
    """Numbers of the floors, lowest first, of these panoramas; None: of all that are included."""
    floors = house.floor[house.included] if indices is None else house.floor[list(indices)]
    return sorted({int(floor) for floor in floors})


@style.styled
def plot_house(house, paths=None, here=None, heading=None, candidates=None, scores=None, chosen=None, goals=None,
               floors=None, title="", width=10.5, success=SUCCESS):
    """The map of a house, one panel a floor, with paths and an agent where they are given.

    paths       {name: viewpoints}; the one called 'reference' is drawn as a broad ribbon, the others as arrows
    here        viewpoint the agent stands at; heading: where it looks, radians
    candidates  viewpoints it may go to; True: those of house.candidates; scores (K + 1,): probabilities of stop and these
    chosen      number of the action it takes, 0 stop
    goals       viewpoints where to end; None: the end of the reference
    floors      numbers of the floors to draw; None: all
    width       of the picture in inches, at most
    success     metres from a goal that count as arrived
    A viewpoint is an id or an index.
    -> Figure
    """
    scene = collect_scene(house, paths, here, heading, candidates, scores, chosen, goals)._replace(success=success)
    floors = floors_of(house) if floors is None else list(floors)
    boxes = [window(house, [floor], scene) for floor in floors]
    items = legend_items(scene)
    head = HEAD if len(floors) > 1 else 0
    top, foot = (26 if title else 4), (24 if items else 2)
    scale, places, wide, high = pack([box[2:] for box in boxes], 72 * width, head)
    wide, high = max(wide, 330), high + top + foot
    figure, first = style.canvas(wide / 72, high / 72)
    first.remove()
    figure.set_layout_engine("none")
    for floor, box, (x, y) in zip(floors, boxes, places, strict=True):
        size = box[2] * scale / wide, box[3] * scale / high
        ax = figure.add_axes((x / wide, 1 - (top + y) / high - size[1], *size))
        draw_floor(ax, house, floor, scene, box, scale)
        if head:
            ax.set_title(f"floor {floor}", fontsize=9.5, pad=3)
    if title:
        figure.text(4 / wide, 1 - 12 / high, title, fontsize=11.5, fontweight="bold", va="center", parse_math=False)
    if items:
        figure.legend(handles=items, loc="lower center", ncols=len(items), bbox_to_anchor=(0.5, 0), borderaxespad=0)
    return style.finish(figure, summary(house, scene) | {"floors": floors})


def summary(house, scene):
    """What a map carries: counts, paths by id, their metres, and the options."""
    name = house.viewpoints.__getitem__
    return {"scan": house.scan, "panoramas": int(house.included.sum()), "edges": len(house.edges),
            "rooms": sorted({room for room in house.rooms if room}),
            "paths": {key: [name(i) for i in path] for key, path in scene.paths.items()},
            "metres": {key: float(sum(house.distance[a, b] for a, b in zip(path, path[1:], strict=False)))
                       for key, path in scene.paths.items()},
            "here": None if scene.here is None else name(scene.here), "heading": scene.heading, "options": scene.options,
            "chosen": scene.chosen, "goals": [name(i) for i in scene.goals]}


def window(house, floors, scene=None, indices=None):
    """(left, bottom, width, height) in metres around what must be seen: floors as a whole, or some panoramas of them.

    indices  panoramas that must be seen; None: all of the floors
    """
    on = house.included & np.isin(house.floor, floors)
    points = house.position[on if indices is None else list(indices), :2]
    low, high = points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN
    if indices is None:
        boxes = [room for room in house.floor_plan if room.floor in floors]
        for room in boxes:
            low, high = np.minimum(low, (room.x0 - 0.3, room.y0 - 0.9)), np.maximum(high, (room.x1 + 0.3, room.y1 + 0.3))
    for goal in scene.goals if scene else ():
        if on[goal]:
            low = np.minimum(low, house.position[goal, :2] - scene.success - 0.1)
            high = np.maximum(high, house.position[goal, :2] + scene.success + 0.1)
    size = np.maximum(high - low, LEAST)
    return (*map(float, (low + high - size) / 2), *map(float, size))


def fitted(box, width, height, scale):
    """A window with the same middle that fills axes of width x height points -> (left, bottom, width, height) in metres"""
    left, bottom, wide, high = box
    return left - (width / scale - wide) / 2, bottom - (height / scale - high) / 2, width / scale, height / scale


def frame(ax):
    """A thin frame around a map."""
    for spine in ax.spines.values():
        spine.set(visible=True, color=style.PALE)


def pack(sizes, width, head, tallest=TALLEST):
    """Panels (width, height in metres) in rows, as large as fits -> (points a metre, [(x, y) points], width, height)"""
    for scale in np.geomspace(CLOSEST, 0.5, 120):
        places, x, y, row, widest = [], 0.0, 0.0, 0.0, 0.0
        for wide, high in sizes:
            if places and x + wide * scale > width:
                x, y, row = 0.0, y + row + GAP, 0.0
            places.append((x, y + head))
            x += wide * scale + GAP
            row, widest = max(row, high * scale + head), max(widest, x - GAP)
        if widest <= width and y + row <= tallest:
            break
    return float(scale), places, widest, y + row


def legend_items(scene):
    """Legend handles for what a scene holds."""
    items = [Line2D([], [], label=name, solid_capstyle="round", **path_look(scene, name)) for name in scene.paths]
    mark = {"marker": "o", "linestyle": "none"}
    if scene.goals:
        items.append(Line2D([], [], markerfacecolor="none", markeredgecolor=style.GREEN, markeredgewidth=1.5, markersize=5,
                            label=f"under {scene.success:g} m to walk to the goal", **mark))
    if scene.here is not None:
        items.append(Line2D([], [], color=AGENT, markersize=7, label="where it stands", **mark))
    if len(scene.options) > 1:
        darker = "" if scene.options[0].score is None else ", darker: more probable"
        items.append(Line2D([], [], markerfacecolor=blend(0.35), markeredgecolor=style.BLUE, markersize=8,
                            label=f"candidates{darker}", **mark))
    return items
