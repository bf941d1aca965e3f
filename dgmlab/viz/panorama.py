"""What an agent sees and where it may go: the 36 views of a panorama as one strip around its heading.

Views are 12 headings, 30 degrees apart, on 3 levels: index = level * 12 + heading, level 0 looks down, 2 up, heading 0 is +y,
1 is 30 degrees to the right of it (Matterport3DSimulator; the views of R2R's feature files). A view is 60 degrees wide, so
what stands in one is mostly in its neighbours as well.
"""

import math
import zlib
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from dgmlab.viz import style
from dgmlab.viz.floor import AGENT, blend, draw_badge, room_of
from dgmlab.viz.house_map import collect_options, index_of
from dgmlab.viz.words import text_sheet, text_width

HEADINGS, LEVELS = 12, ("down", "level", "up")
LEFT, RAIL, FOOT = 40, 36, 15  # points beside the strip, above it for the candidates, below it for the directions
LANE, FEWEST, MOST = 10.5, 2, 6  # height in points of an object's band; lanes of a level at least and at most
NAME = 6.6  # size of an object's name
SHADE = "Blues"


class Band(NamedTuple):
    """An object over neighbouring views of one level: columns first..last of the strip, and the lane it lies in."""

    name: str
    level: int
    first: int
    last: int
    lane: int


class Strip(NamedTuple):
    """A panorama around a heading.

    middle     heading index 0..11 of the view in the middle: column 5 of 12
    heading    radians
    bands      tuple of Band; hidden: per level the number of objects for which there is no lane
    lanes      per level, from down to up
    attention  (36,) or None; options, chosen as in `collect_options`
    """

    middle: int
    heading: float
    bands: tuple
    hidden: tuple
    lanes: tuple
    attention: np.ndarray | None
    options: tuple
    chosen: int | None


def collect_strip(objects, heading, attention=None, options=(), chosen=None, lanes=None):
    """Lay the objects of a panorama out as bands -> Strip

    objects    sightings with `name` and `views` (indices 0..35)
    heading    radians; the view nearest to it comes into the middle
    attention  (36,) weights, or None
    lanes      lanes of each level (3,); None: as many as there are objects, 2 to 6
    """
    if attention is not None and np.shape(attention) != (HEADINGS * 3,):
        raise ValueError(f"one weight a view was expected, (36,), found {np.shape(attention)}. Give those of one step.")
    middle = round(heading / (math.tau / HEADINGS)) % HEADINGS
    runs = [[], [], []]
    for thing in sorted(objects, key=lambda thing: (-len(thing.views), thing.name)):
        for level in range(3):
            columns = sorted({(view % HEADINGS - middle + 5) % HEADINGS for view in thing.views if view // HEADINGS == level})
            starts = [c for c in columns if c - 1 not in columns]
            runs[level] += [(thing.name, first, next(c for c in range(first, 13) if c + 1 not in columns)) for first in starts]
    most = [MOST] * 3 if lanes is None else lanes
    bands, hidden, used = [], [], []
    for level, found in enumerate(runs):
        ends, lost = [], set()
        for name, first, last in dict.fromkeys(found):  # two chairs side by side are one band
            lane = next((i for i, taken in enumerate(ends) if not taken & set(range(first, last + 1))), len(ends))
            if lane >= most[level]:
                lost.add(name)
                continue
            if lane == len(ends):
                ends.append(set())
            ends[lane] |= set(range(first, last + 1))
            bands.append(Band(name, level, first, last, lane))
        hidden.append(len(lost))
        used.append(max(FEWEST, len(ends)))
    return Strip(middle, float(heading), tuple(bands), tuple(hidden), tuple(used if lanes is None else lanes),
                 None if attention is None else np.asarray(attention, dtype=float), tuple(options), chosen)


def lanes_needed(house, indices, most=MOST):
    """Lanes of each level that hold what is seen from all these panoramas, so that strips of an episode have one height."""
    strips = [collect_strip(house.objects[i] if house.objects else (), 0.0) for i in indices]
    return tuple(min(most, max(strip.lanes[level] for strip in strips)) for level in range(3))


def strip_height(lanes):
    """Points a strip with these lanes is high."""
    return RAIL + LANE * sum(lanes) + FOOT


@style.styled
def plot_panorama(house, here, heading=0.0, candidates=True, scores=None, chosen=None, attention=None, title="", width=10.5):
    """What is seen from a viewpoint, centred on a heading: objects, rooms behind the candidates, directions, attention.

    heading     radians
    candidates  viewpoints one can go to; True: those of house.candidates; None: none are drawn
    scores      (K + 1,) probabilities of stop and these; chosen: number of the action taken
    attention   (36,) weights of the views, drawn as shading
    -> Figure
    """
    here = index_of(house, here)
    options = () if candidates is None else collect_options(house, here, None if candidates is True else candidates, scores)
    strip = collect_strip(house.objects[here] if house.objects else (), heading, attention, options, chosen)
    top = 24
    figure, ax = text_sheet(72 * width, top + strip_height(strip.lanes))
    room = room_of(house, here)
    title = title or "what is seen" + (f" from the {room}" if room else "")
    ax.text(4, 12, title, fontsize=11, fontweight="bold", va="center", parse_math=False)
    draw_strip(ax, strip, 0, top, 72 * width)
    return style.finish(figure, {"scan": house.scan, "viewpoint": house.viewpoints[here], "room": room, "strip": strip})


def badge_columns(strip, left, width):
    """x in points where the numbers of the candidates stand above a strip: at their direction, pushed apart -> (K,) float"""
    x0, inner = left + LEFT, width - LEFT - 2
    wanted = np.array([x0 + _column(strip, option.heading) * inner / HEADINGS for option in strip.options[1:]])
    gap = _room(len(wanted), inner)
    return spread(wanted, gap, x0 + 10, x0 + inner - gap + 8)


def _room(n, inner):
    """Points that one of n candidates has for its number and its room's name."""
    return min(64.0, (inner - 12) / max(n, 1))


def spread(wanted, gap, low, high):
    """Numbers as near as can be (in squares) to the wanted ones, at least `gap` apart, within low..high, in their order.

    That is an isotonic regression of what is left when the gaps are taken off.
    """
    from scipy.optimize import isotonic_regression

    wanted = np.asarray(wanted, dtype=float)
    if not len(wanted):
        return wanted
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    placed = np.empty(len(wanted))
    placed[order] = np.clip(isotonic_regression(wanted[order] - steps).x, low, max(low, high - steps[-1])) + steps
    return placed


def _column(strip, heading):
    """Where a heading lies on the strip, in columns from its left edge: [0, 12)."""
    return (heading / (math.tau / HEADINGS) - strip.middle + 5.5) % HEADINGS


def draw_strip(ax, strip, left, top, width):
    """Draw on axes measured in points, y downwards, within `width` points from (left, top)."""
    x0, cell = left + LEFT, (width - LEFT - 2) / HEADINGS
    tops, y = {}, top + RAIL
    for level in (2, 1, 0):
        tops[level] = y
        y += LANE * strip.lanes[level]
    _draw_cells(ax, strip, x0, cell, tops)
    _draw_ways(ax, strip, left, top, width, tops)
    for band in strip.bands:
        _draw_band(ax, band, x0, cell, tops)
    for level, name in enumerate(LEVELS):
        height = LANE * strip.lanes[level]
        look, middle = {"ha": "right", "va": "center", "color": style.FAINT}, tops[level] + height / 2
        ax.text(x0 - 5, middle - (4 if strip.hidden[level] else 0), name, fontsize=7.5, **look)
        if strip.hidden[level]:
            ax.text(x0 - 5, middle + 6, f"+{strip.hidden[level]} more", fontsize=6, **look)
    for column in range(HEADINGS):
        name = bearing(math.radians(30 * (column - 5)))
        ax.text(x0 + (column + 0.5) * cell, y + FOOT / 2 + 1, name, fontsize=7.5, ha="center", va="center",
                color=style.INK if column == 5 else style.FAINT, fontweight="bold" if column == 5 else "normal")


def bearing(angle):
    """A direction relative to the agent in words: 'ahead', 'right 30°', 'left 90°', 'behind'. angle in radians"""
    degrees = (math.degrees(angle) + 180) % 360 - 180
    if abs(degrees) < 10:
        return "ahead"
    if abs(degrees) > 170:
        return "behind"
    return f"{'right' if degrees > 0 else 'left'} {abs(degrees):.0f}°"


def _draw_cells(ax, strip, x0, cell, tops):
    """The views as boxes, shaded by attention, the middle one framed."""
    weights = np.zeros(36) if strip.attention is None else strip.attention
    most = max(float(weights.max()), 1e-9)
    for level, y in tops.items():
        for column in range(HEADINGS):
            weight = weights[level * HEADINGS + (strip.middle + column - 5) % HEADINGS]
            shade = mpl.colormaps[SHADE](0.75 * weight / most) if weight > 0 else "white"
            height = LANE * strip.lanes[level]
            ax.add_patch(Rectangle((x0 + column * cell, y), cell, height, facecolor=shade, edgecolor=style.PALE, linewidth=0.7,
                                   zorder=0))
            if weight >= 0.08:
                ax.text(x0 + (column + 1) * cell - 2, y + height - 2, f"{weight:.0%}", fontsize=5.8, ha="right", va="bottom",
                        color="white" if weight > 0.5 * most else style.BLUE, zorder=6)
    for level in (1, 0):
        ax.plot([x0, x0 + HEADINGS * cell], [tops[level]] * 2, color="#CBD2D9", linewidth=1.1, zorder=1)
    height = sum(strip.lanes) * LANE
    ax.add_patch(Rectangle((x0 + 5 * cell, tops[2]), cell, height, fill=False, edgecolor=AGENT, linewidth=1.3, zorder=5))


def _draw_band(ax, band, x0, cell, tops):
    """One object: a rounded band over its views with its name in the middle."""
    x, y = x0 + band.first * cell + 1.5, tops[band.level] + band.lane * LANE + 1.2
    width = (band.last - band.first + 1) * cell - 3
    colour = style.colour(zlib.crc32(band.name.encode()) % len(style.PALETTE))
    ax.add_patch(FancyBboxPatch((x + 1.5, y + 1.5), width - 3, LANE - 5.4, boxstyle="round,pad=1.5,rounding_size=2.4",
                                facecolor=blend(0.22, colour), edgecolor=blend(0.55, colour), linewidth=0.5, zorder=3))
    name = fitting(band.name.replace("#", " "), width - 4, NAME)  # REVERIE writes coffee#table
    ax.text(x + width / 2, y + LANE / 2 - 1.2, name, fontsize=NAME, ha="center", va="center_baseline", zorder=4.7,
            parse_math=False)


def fitting(text, width, size):
    """The text, cut with an ellipsis where it is wider than `width` points."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _draw_ways(ax, strip, left, top, width, tops):
    """Candidates: a numbered badge, its room and probability above the strip, a line down to where it lies in the panorama."""
    if not strip.options:
        return
    x0, cell = left + LEFT, (width - LEFT - 2) / HEADINGS
    places = badge_columns(strip, left, width)
    room = _room(len(places), width - LEFT - 2)
    for option, x in zip(strip.options[1:], places, strict=True):
        colour = AGENT if option.number == strip.chosen else style.BLUE
        true = x0 + _column(strip, option.heading) * cell
        level, part = divmod(min(max(math.degrees(option.elevation) + 45, 0.0), 89.99), 30)
        y = tops[int(level)] + (1 - part / 30) * LANE * strip.lanes[int(level)]
        ax.plot([x, x, true, true], [top + 9, top + RAIL - 8, top + RAIL, y], color=colour, linewidth=1.0, zorder=2,
                linestyle=(0, (1, 1.5)))
        ax.scatter(true, y, s=17, color=colour, edgecolor="white", linewidth=0.6, zorder=4.5)
        draw_badge(ax, x, top + 8, option.number, colour, option.score)
        if option.score is not None:
            ax.text(x + 9, top + 8, f"{option.score:.0%}", fontsize=7.5, va="center_baseline", color=colour, fontweight="bold")
        ax.text(x + 3, top + 22, fitting(option.room, room - 6, 7), fontsize=7, va="center", zorder=6, color=style.INK,
                parse_math=False)
    stop = strip.options[0].score
    if stop is not None:
        colour = AGENT if strip.chosen == 0 else style.BLUE
        ax.text(left + 2, top + 8, "stop", fontsize=7.5, fontweight="bold", color=colour, va="center_baseline")
        ax.text(left + 2, top + 20, f"{stop:.0%}", fontsize=7.5, fontweight="bold", color=colour, va="center_baseline")
