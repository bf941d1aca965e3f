"""One floor of a house drawn on axes: rooms, graph, goals, paths, and an agent with its candidates.

What is drawn comes as a `Scene`; `house_map` collects it and lays out the floors. A house is known by its looks: viewpoints
(N ids), position (N, 3) metres with z up, included (N,) bool, edges (E, 2), floor (N,) ints from 0, distance (N, N) metres,
and where it has them rooms (N names, '' unknown), candidates (a table whose `index` (N, K) says where one can go) and
floor_plan (boxes with name, floor, x0, y0, x1, y1). Headings are radians, 0 = +y, clockwise, as in Matterport3DSimulator.
"""

import math
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle, Wedge
from matplotlib.patheffects import withStroke

from dgmlab.viz import style
from dgmlab.viz.words import text_width

REACH = 1.4  # metres around the graph that count as floor, where no plan is known
SUCCESS = 3.0  # metres from the goal that count as arrived in R2R
VIEW = 60  # degrees that one view is wide
STUB, DOOR = 1.0, 0.9  # metres drawn of an edge to another floor; width of a door
REFERENCE, RIBBON = "reference", {"color": style.SKY, "linewidth": 6.5, "alpha": 0.6}  # the path drawn as a ribbon
ARROWS = ({"color": style.ORANGE, "linewidth": 1.7}, {"color": style.PURPLE, "linewidth": 1.7, "linestyle": (0, (4, 2))},
          {"color": style.BROWN, "linewidth": 1.7, "linestyle": (0, (1, 1.2))})
AGENT, UNKNOWN = style.ORANGE, "#EDF0F3"
QUIET, WALL = "#9AA5B1", "#7B8794"


class Option(NamedTuple):
    """One action: number 0 is to stop, number i the i-th candidate. Angles in radians, absolute; distance in metres."""

    number: int
    viewpoint: str
    index: int
    room: str
    heading: float
    elevation: float
    distance: float
    score: float | None


class Scene(NamedTuple):
    """What goes on in a house, viewpoints by index.

    paths    name -> list of indices; 'reference' is drawn as a ribbon, the others as arrows
    options  tuple of Option of where the agent stands, () to draw none; chosen: number of the one it takes
    ended    whether the paths but the reference have come to their end
    success  metres from a goal that count as arrived
    """

    paths: dict
    here: int | None = None
    heading: float | None = None
    options: tuple = ()
    chosen: int | None = None
    goals: tuple = ()
    ended: bool = False
    success: float = SUCCESS


def room_of(house, index):
    """Name of the room a panorama is in, '' where it is not known."""
    return house.rooms[index] if house.rooms else ""


def room_colours(house):
    """{room: a pale colour}, as many as the house has kinds of rooms; a ninth kind gets a stronger tint of the first hue."""
    rooms = sorted({room for room in house.rooms if room})
    return {room: blend((0.2, 0.34)[i // len(style.PALETTE) % 2], style.colour(i)) for i, room in enumerate(rooms)}


def blend(share, colour=style.BLUE):
    """Between white (share 0) and a colour (share 1) -> (red, green, blue)"""
    return tuple(1 - (1 - np.array(mpl.colors.to_rgb(colour))) * min(max(share, 0.0), 1.0))


def path_look(scene, name):
    """How the path with this name is drawn: the reference as a ribbon, the others in turn."""
    if name == REFERENCE:
        return RIBBON
    return ARROWS[[other for other in scene.paths if other != REFERENCE].index(name) % len(ARROWS)]


def draw_floor(ax, house, floor, scene, box, scale):
    """One floor on its axes: box (left, bottom, width, height) in metres, scale in points a metre."""
    style.blank(ax).set(xlim=(box[0], box[0] + box[2]), ylim=(box[1], box[1] + box[3]))
    on = house.included & (house.floor == floor)
    taken = Labels(ax, scale)
    rooms = [room for room in house.floor_plan if room.floor == floor]
    if rooms:
        _draw_plan(ax, house, on, rooms)
    else:
        _draw_ground(ax, house, on)
    _draw_graph(ax, house, on, scale)
    _draw_goals(ax, house, on, scene, taken)
    _draw_paths(ax, house, on, scene, taken, scale)
    _draw_agent(ax, house, on, scene, taken, scale)
    taken.write()
    _name_rooms(house, on, rooms, taken)
    _draw_scale(ax, box, scale)


class Labels:
    """Texts that keep off the marks and each other; boxes in points."""

    def __init__(self, ax, scale):
        self.ax, self.scale, self.boxes, self.waiting = ax, scale, [], []
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        self.frame = tuple(edge * scale for edge in (left, bottom, right, top))

    def block(self, x, y, radius):
        """Keep texts off a square around (x, y) metres, `radius` in points."""
        x, y = x * self.scale, y * self.scale
        self.boxes.append((x - radius, y - radius, x + radius, y + radius))

    def beside(self, text, x, y, colour=style.INK):
        """Ask for a bold text beside a mark at (x, y) metres; it is written when all marks are known."""
        self.waiting.append((text, x, y, colour))

    def write(self):
        """Write what was asked for, on the free side of each mark."""
        for text, x, y, colour in self.waiting:
            half = text_width(text, 7.5, "bold") / 2 + 9
            corners = [(dx, dy) for dy in (9, -9) for dx in (half, -half)]
            sides = ((0, 12), (0, -12), (half, 0), (-half, 0), *corners, (0, 20), (0, -20))
            self.place(text, [(x, y, dx, dy) for dx, dy in sides], 7.5, color=colour, weight="bold")

    def place(self, text, places, size, avoid=(), **look):
        """Write a text at the first of places (x, y in metres, dx, dy in points) where there is room -> whether there was.

        avoid   (M, 2) metres, points that a text should not cover
        """
        half, high = text_width(text, size) / 2 + 2, size * 0.62
        points = np.reshape(avoid, (-1, 2)) * self.scale
        for x, y, dx, dy in places:
            px, py = x * self.scale + dx, y * self.scale + dy
            box = (px - half, py - high, px + half, py + high)
            covers = ((points > box[:2]) & (points < box[2:])).all(axis=1).any()
            inside = box[0] > self.frame[0] and box[1] > self.frame[1] and box[2] < self.frame[2] and box[3] < self.frame[3]
            meets = any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in self.boxes)
            if inside and not meets and not covers:
                self.boxes.append(box)
                halo = withStroke(linewidth=2.2, foreground="white", alpha=0.85)
                self.ax.text(px / self.scale, py / self.scale, text, fontsize=size, ha="center", va="center", zorder=9,
                             parse_math=False, path_effects=[halo], **look)
                return True
        return False


# rooms


def _draw_plan(ax, house, on, rooms):
    """The rooms of a plan as boxes with walls; a door is where an edge of the graph passes a wall."""
    colours = room_colours(house)
    walls = []
    for room in rooms:
        ax.add_patch(Rectangle((room.x0, room.y0), room.x1 - room.x0, room.y1 - room.y0, linewidth=0, zorder=0,
                               facecolor=colours.get(room.name, UNKNOWN)))
        walls += [((x, room.y0), (x, room.y1)) for x in (room.x0, room.x1)]
        walls += [((room.x0, y), (room.x1, y)) for y in (room.y0, room.y1)]
    ax.add_collection(LineCollection(walls, colors=WALL, linewidths=1.6, zorder=1, capstyle="projecting"))
    ways = house.position[house.edges[on[house.edges].any(axis=1)], :2]  # (E, 2, 2), those to other floors as well
    ax.add_collection(LineCollection(list(_doors(walls, ways)), colors="white", linewidths=3.0, zorder=1.1, capstyle="butt"))


def _doors(walls, ways):
    """Openings in the walls, pairs of points, where the edges (E, 2, 2) cross them."""
    for (x0, y0), (x1, y1) in walls:
        along = 1 if x0 == x1 else 0  # the axis the wall runs along
        across, level, low, high = 1 - along, (x0, y0)[1 - along], (x0, y0)[along], (x1, y1)[along]
        for a, b in ways:
            if (a[across] - level) * (b[across] - level) < 0:
                at = a[along] + (b[along] - a[along]) * (level - a[across]) / (b[across] - a[across])
                if low < at < high:
                    ends = [np.zeros(2), np.zeros(2)]
                    for end, shift in zip(ends, (-DOOR / 2, DOOR / 2), strict=True):
                        end[along], end[across] = min(max(at + shift, low), high), level
                    yield ends


def _draw_ground(ax, house, on):
    """What is near the graph, in the colour of the nearest panorama's room."""
    from scipy.spatial import cKDTree

    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    a, b = house.edges[on[house.edges].all(axis=1)].T
    shares = np.linspace(0, 1, 13)[:, None, None]
    along = (1 - shares) * house.position[a, :2] + shares * house.position[b, :2]  # (13, E, 2): corridors, not single discs
    points = np.concatenate([house.position[on, :2], along.reshape(-1, 2)])
    owner = np.concatenate([np.flatnonzero(on), np.where(shares[..., 0] < 0.5, a, b).ravel()])
    step = max(0.045, (right - left) / 560)
    x, y = np.arange(left, right, step), np.arange(bottom, top, step)
    gap, nearest = cKDTree(points).query(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2), distance_upper_bound=REACH)
    found, colours = np.isfinite(gap), room_colours(house)
    tints = np.array([mpl.colors.to_rgb(colours.get(room_of(house, i), UNKNOWN)) for i in range(len(house.viewpoints))])
    sheet = np.ones((len(gap), 4))
    sheet[found, :3] = tints[owner[nearest[found]]]
    sheet[:, 3] = np.where(found, np.clip((REACH - gap) / step / 2, 0, 1), 0)  # a soft edge
    extent = (left, left + len(x) * step, bottom, bottom + len(y) * step)
    ax.imshow(sheet.reshape(len(y), len(x), 4), origin="lower", extent=extent, interpolation="bilinear", aspect="auto",
              zorder=0)
    ax.set(xlim=(left, right), ylim=(bottom, top))


def _name_rooms(house, on, rooms, taken):
    """The name of each room where there is space: along a wall of its box, or near the middle of each connected part of it."""
    looks = {"size": 7, "color": "#52606D", "style": "italic"}
    for room in rooms:
        thirds = [room.x0 + share * (room.x1 - room.x0) for share in (0.5, 0.3, 0.7)]
        taken.place(room.name, [(x, y, 0, dy) for y, dy in ((room.y1, -8), (room.y0, 8)) for x in thirds], **looks)
    for part in [] if rooms else sorted(_parts(house, on), key=len, reverse=True):
        spots = house.position[sorted(part), :2]
        middle = spots.mean(axis=0)
        near = spots[np.argsort(np.linalg.norm(spots - middle, axis=1))][:8]
        places = [(*middle, 0, 0), *((*spot, 0, dy) for spot in near for dy in (9, -9, 15, -15))]
        name = house.rooms[min(part)]
        taken.place(name, places, avoid=house.position[on, :2], **looks) or taken.place(name, places, **looks)


def _parts(house, on):
    """Sets of panoramas of a floor that belong together: one known room, connected."""
    left = {int(i) for i in np.flatnonzero(on) if room_of(house, i)}
    ways = {i: [] for i in left}
    for a, b in house.edges[on[house.edges].all(axis=1)].tolist():
        if a in left and b in left and house.rooms[a] == house.rooms[b]:
            ways[a].append(b)
            ways[b].append(a)
    parts = []
    while left:
        part, edge = set(), [min(left)]
        while edge:
            i = edge.pop()
            if i not in part:
                part.add(i)
                edge += ways[i]
        parts.append(part)
        left -= part
    return parts


# graph and marks


def _draw_graph(ax, house, on, scale):
    """Edges and panoramas of a floor; the ways to other floors as dotted stubs with a triangle up or down."""
    flat, both = house.position[:, :2], on[house.edges]
    ax.add_collection(LineCollection(flat[house.edges[both.all(axis=1)]], colors=QUIET, linewidths=0.7, alpha=0.8, zorder=2))
    ax.scatter(*flat[on].T, s=min(12, 0.5 * scale), color=style.FAINT, linewidth=0, zorder=3)
    for a, b in house.edges[both[:, 0] ^ both[:, 1]]:
        a, b = (a, b) if on[a] else (b, a)
        way = flat[b] - flat[a]
        end = flat[a] + way * min(1, STUB / max(np.linalg.norm(way), 1e-6))
        ax.plot(*np.stack([flat[a], end]).T, color=style.FAINT, linewidth=1.0, linestyle=(0, (1, 1.4)), zorder=2)
        mark = "^" if house.position[b, 2] > house.position[a, 2] else "v"
        ax.scatter(*flat[a], s=26, marker=mark, color="#52606D", zorder=3.5, linewidth=0)


def _draw_goals(ax, house, on, scene, taken):
    """The circle of success around each goal, and a ring on the panoramas from where less than its radius is to be walked."""
    for goal in scene.goals:
        near = on & (house.distance[goal] < scene.success)
        ax.scatter(*house.position[near, :2].T, s=26, facecolor="none", edgecolor=style.GREEN, linewidth=1.3, zorder=4)
        if on[goal]:
            x, y = house.position[goal, :2]
            ax.add_patch(Circle((x, y), scene.success, fill=False, edgecolor=style.GREEN, linewidth=1.0, linestyle=(0, (4, 3)),
                                zorder=2))
            ax.scatter(x, y, s=150, marker="*", color=style.GREEN, edgecolor="white", linewidth=0.9, zorder=7)
            taken.block(x, y, 7)
            taken.beside("goal", x, y, style.GREEN)


def _draw_paths(ax, house, on, scene, taken, scale):
    """The reference as a ribbon, the others as bent arrows, so that there and back are two lines; start and end marks."""
    flat = house.position[:, :2]
    for name, path in scene.paths.items():
        steps = [(a, b) for a, b in zip(path, path[1:], strict=False) if a != b and (on[a] or on[b])]
        look = path_look(scene, name)
        if name == REFERENCE:
            ax.add_collection(LineCollection([flat[[a, b]] for a, b in steps], capstyle="round", zorder=3.2,
                                             colors=look["color"], linewidths=look["linewidth"], alpha=look["alpha"]))
        else:
            for a, b in steps:
                bend = min(0.14, 4 / max(scale * np.linalg.norm(flat[b] - flat[a]), 1e-6))
                ax.add_patch(FancyArrowPatch(flat[a], flat[b], arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=2.5,
                                             zorder=5, connectionstyle=f"arc3,rad={bend:.4f}", clip_on=True, **look))
            ax.scatter(*flat[[i for i in path if on[i]]].T, s=15, color=look["color"], zorder=5, linewidth=0)
            if scene.ended and on[path[-1]]:
                ax.scatter(*flat[path[-1]], s=76, marker="X", color=look["color"], edgecolor="white", linewidth=1.0, zorder=8)
                taken.beside("end", *flat[path[-1]], look["color"])
        for i in path:
            taken.block(*flat[i], 4)
    start = next((path[0] for path in scene.paths.values() if path), None)
    if start is not None and on[start]:
        ax.scatter(*flat[start], s=48, marker="s", color="white", edgecolor=style.INK, linewidth=1.5, zorder=6)
        taken.beside("start", *flat[start])


def badge_places(house, on, scene, scale, least=15.0):
    """Where the numbers of the candidates go: on the panoramas, pushed off each other, the agent and the goals.

    on (N,) bool: panoramas of the floor; scale in points a metre; least: points between two badges
    -> {number: (x, y) metres}
    """
    options = [option for option in scene.options[1:] if on[option.index]]
    if not options:
        return {}
    spots = house.position[[option.index for option in options], :2] * scale
    fixed = house.position[[scene.here, *scene.goals], :2] * scale
    spots = spots + np.linspace(0, 0.01, len(spots))[:, None] * (1, -1) + (0.02, -0.02)  # none lies exactly on another mark
    for _ in range(80):
        gaps = spots[:, None] - np.concatenate([spots, fixed])[None]  # (K, K + fixed, 2)
        distance = np.linalg.norm(gaps, axis=-1)
        np.fill_diagonal(distance, np.inf)
        push = 0.5 * np.clip(least - distance, 0, None) / distance
        if not push.any():
            break
        spots = spots + (push[..., None] * gaps).sum(axis=1)
    return {option.number: tuple(map(float, spot / scale)) for option, spot in zip(options, spots, strict=True)}


def _draw_agent(ax, house, on, scene, taken, scale):
    """The agent, its view as a wedge, and the candidates as numbered badges, darker where more probable."""
    if scene.here is None:
        return
    x, y = house.position[scene.here, :2]
    for number, (bx, by) in badge_places(house, on, scene, scale).items():
        share, edge = scene.options[number].score, AGENT if number == scene.chosen else style.BLUE
        if on[scene.here]:
            ax.plot([x, bx], [y, by], color=edge, linewidth=1.2, zorder=4, linestyle=(0, (1, 1.5)))
        draw_badge(ax, bx, by, number, edge, share)
        taken.block(bx, by, 6.5)
    if on[scene.here]:
        if scene.heading is not None:
            middle = 90 - math.degrees(scene.heading)  # matplotlib's angles begin at x and run the other way
            ax.add_patch(Wedge((x, y), min(30 / scale, 1.7), middle - VIEW / 2, middle + VIEW / 2, color=AGENT, alpha=0.3,
                               linewidth=0, zorder=4))
        if not scene.ended:  # then the mark of the end is there
            ax.scatter(x, y, s=74, color=AGENT, edgecolor="white", linewidth=1.4, zorder=7)
        taken.block(x, y, 6)


def draw_badge(ax, x, y, text, edge, share=None):
    """A number in a disc, filled by a share of 0..1, in data coordinates."""
    fill = "white" if share is None else blend(0.06 + 0.85 * share, edge)
    ax.scatter(x, y, s=122, facecolor=fill, edgecolor=edge, linewidth=1.9 if edge == AGENT else 1.2, zorder=7.5)
    ax.text(x, y, str(text), fontsize=7.5, fontweight="bold", ha="center", va="center_baseline", zorder=7.6,
            color="white" if share is not None and share > 0.55 else style.INK)


def _draw_scale(ax, box, scale):
    """A bar of some whole metres at the lower left."""
    metres = next((m for m in (1, 2, 5, 10) if m * scale > 40), 20)
    x, y = box[0] + 6 / scale, box[1] + 6 / scale
    ax.plot([x, x + metres], [y, y], color=style.INK, linewidth=1.6, solid_capstyle="butt", zorder=8)
    ax.text(x + metres / 2, y + 3 / scale, f"{metres} m", fontsize=7, ha="center", va="bottom", zorder=8,
            path_effects=[withStroke(linewidth=2.2, foreground="white", alpha=0.85)])
