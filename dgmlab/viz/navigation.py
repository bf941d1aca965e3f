"""Navigation episodes in pictures: the scores of a step, all of a step in one picture, the routes of many episodes.

A trajectory is known by its looks: path (viewpoint ids, the start first), words (of the instruction), and, with one entry a
step, views (where the agent looks, 0..35), actions (0 stops, i goes to the i-th candidate), scores ((K + 1,) probabilities),
candidates (the ids that scores[1:] belong to), word_attention (T,) and view_attention (36,); the last four may be []. An
episode has path (the reference, ids), goals (ids, () where hidden), instruction and instr_id. A house: see `floor`.
"""

import math
from typing import NamedTuple

import numpy as np

from dgmlab.metrics.navigation import path_scores
from dgmlab.viz import style
from dgmlab.viz.floor import AGENT, REFERENCE, SUCCESS, Scene, badge_places, draw_floor, room_of
from dgmlab.viz.house_map import CLOSEST, collect_options, fitted, floors_of, frame, legend_items, window
from dgmlab.viz.instruction import draw_instruction, instruction_height
from dgmlab.viz.panorama import badge_columns, bearing, collect_strip, draw_strip, fitting, lanes_needed, strip_height
from dgmlab.viz.words import text_sheet

STEEP = math.radians(15)  # a way that is steeper leads up or down: by a view of another level
WIDTH, MAP, SIDE, MARGIN, BETWEEN = 756, 292, 236, 8, 12  # points: a picture, the height of its map, the width of its scores


class Moment(NamedTuple):
    """One step of an episode.

    step, n_steps  from 0; here, heading (radians), room: where the agent is and looks before it acts
    options        tuple of Option; chosen: number of the action, None after the last one
    best           number of the action on the shortest path to the nearest goal, None where no goal is known
    to_goal        metres to walk to the nearest goal, None where none is known
    words, word_attention (T,) or None, view_attention (36,) or None
    """

    step: int
    n_steps: int
    here: int
    heading: float
    room: str
    options: tuple
    chosen: int | None
    best: int | None
    to_goal: float | None
    words: tuple
    word_attention: np.ndarray | None
    view_attention: np.ndarray | None


def n_moments(trajectory):
    """Steps of a trajectory that can be drawn: its actions, and where it was left if it did not stop."""
    return max(len(trajectory.path), len(trajectory.actions))


def collect_moment(trajectory, house, step, episode=None):
    """What is known of one step -> Moment. step: 0 the first; negative ones count from the end."""
    n = n_moments(trajectory)
    if not -n <= step < n:
        raise IndexError(f"the episode has {n} steps, found step {step}. Choose one from 0 to {n - 1}.")
    step %= n
    acted = step < len(trajectory.actions)
    here = house.index(trajectory.path[min(step, len(trajectory.path) - 1)])
    scores = _entry(trajectory.scores, step)
    options = collect_options(house, here, _entry(trajectory.candidates, step), scores)
    goals = [house.index(goal) for goal in episode.goals] if episode is not None else []
    to_goal = [min(house.distance[option.index, goal] for goal in goals) for option in options] if goals else []
    best = None
    if goals:  # the length of the step counts: of two ways the shorter
        costs = [0.0 if to_goal[0] == 0 else np.inf, *(option.distance + far for option, far in
                                                      zip(options[1:], to_goal[1:], strict=True))]
        best = int(np.argmin(costs))
    words = tuple(trajectory.words) or (tuple(episode.instruction.split()) if episode is not None else ())
    attention = _entry(trajectory.word_attention, step)
    return Moment(step, n, here, heading_at(trajectory, step), room_of(house, here), options,
                  int(trajectory.actions[step]) if acted else None, best, float(to_goal[0]) if goals else None, words,
                  attention if attention is not None and len(attention) == len(words) else None,
                  _entry(trajectory.view_attention, step))


def _entry(entries, step):
    """What a list has for a step, None where it has nothing."""
    return entries[step] if step < len(entries) else None


def heading_at(trajectory, step):
    """Heading of the agent before it acts, radians; after the last action that of the view it has gone on with."""
    return trajectory.views[min(step, len(trajectory.views) - 1)] % 12 * math.pi / 6


# scores


def option_name(option, heading=None):
    """An option in words: 'stop', or number, room, distance and direction from a heading."""
    if option.number == 0:
        return "stop"
    parts = [option.room, f"{option.distance:.1f} m", *([] if heading is None else [bearing(option.heading - heading)])]
    if abs(option.elevation) > STEEP:
        parts.append("up" if option.elevation > 0 else "down")
    return f"{option.number}  " + ", ".join(part for part in parts if part)


def draw_options(ax, moment, rows):
    """The actions of a step in words, with their probabilities as bars where there are any, on axes with so many rows."""
    scored = moment.options[0].score is not None
    for y, option in enumerate(moment.options):
        taken, share = option.number == moment.chosen, option.score or 0.0
        colour = AGENT if taken else style.INK
        ax.barh(y, share, height=0.36, color=AGENT if taken else style.SKY, zorder=2)
        ax.text(0.012, y - 0.32, option_name(option, moment.heading), fontsize=8, va="bottom", parse_math=False, color=colour,
                fontweight="bold" if taken else "normal")
        if scored:
            ax.text(share + 0.015, y, f"{share:.0%}", fontsize=8, va="center", color=AGENT if taken else style.FAINT)
        notes = [*(["taken"] if taken else []), *(["shortest way"] if option.number == moment.best else [])]
        ax.text(1.16, y - 0.32, " · ".join(notes), fontsize=7.5, va="bottom", ha="right",
                color=style.GREEN if option.number == moment.best else AGENT)
    style.blank(ax).set(xlim=(0, 1.16), ylim=(max(len(moment.options), rows) - 0.45, -0.85))
    if scored:
        ax.axvline(0, color="#9AA5B1", linewidth=0.8)


@style.styled
def plot_actions(moment, title="", width=4.6):
    """Probabilities of the actions of one step, the one taken and the one of the shortest way marked. -> Figure

    moment  of `collect_moment`
    """
    figure, ax = style.canvas(width, 0.45 + 0.38 * len(moment.options))
    draw_options(ax, moment, 1)
    ax.set_title(title or f"step {moment.step + 1} of {moment.n_steps}: what to do")
    return style.finish(figure, moment)


# everything of a step


def reference_of(house, episode):
    """The reference path as indices, [] where it is not known (a test split gives the start only)."""
    path = [house.index(viewpoint) for viewpoint in episode.path] if episode is not None else []
    return path if len(path) > 1 else []


def outcome(trajectory, house, episode):
    """What became of an episode -> PathScores, or None where the goal is not known."""
    if episode is None or not episode.goals:
        return None
    indices = [house.index(viewpoint) for viewpoint in trajectory.path]
    reference = [house.index(viewpoint) for viewpoint in episode.path]
    return path_scores(house.distance, indices, reference, [house.index(goal) for goal in episode.goals], SUCCESS)


@style.styled
def plot_episode(trajectory, house, episode=None, step=-1, reveal=True, around=0.0, running=False):
    """One step of an episode: instruction, map, action scores and panorama in one picture, of one size for all of its steps.

    step     0 the first; -1 the last, with what became of it
    reveal   whether the reference, the goal and the distance to it are shown
    around   metres around the paths that the map shows besides the panoramas next to them
    running  whether the episode goes on after its last step
    -> Figure; `numbers` holds the step, and `spots`: {number of a candidate: [(x, y) of its badges]}, shares of the picture's
       width and height from the top left
    """
    moment = collect_moment(trajectory, house, step, episode if reveal else None)
    walked = [house.index(viewpoint) for viewpoint in trajectory.path]
    reference = reference_of(house, episode) if reveal else []
    goals = tuple(house.index(goal) for goal in episode.goals) if reveal and episode is not None else ()
    ended = not running and moment.step == moment.n_steps - 1 and not moment.chosen  # stopped, or left when the steps ran out
    paths = ({REFERENCE: reference} if reference else {}) | {"agent": walked[:moment.step + 1]}
    scene = Scene(paths, moment.here, moment.heading, moment.options, moment.chosen, goals, ended)
    words = moment.words or tuple(episode.instruction.split() if episode is not None else ())
    size, inner = 10.5 if len(words) <= 60 else 8.5, WIDTH - 2 * MARGIN
    map_top = 30 + instruction_height(words, inner, size) + 8
    strip_top, lanes = map_top + MAP + 12, lanes_needed(house, set(walked))
    height = strip_top + strip_height(lanes) + 2
    figure, ax = text_sheet(WIDTH, height)
    ax.text(MARGIN, 14, headline(moment, ended, running), fontsize=11.5, fontweight="bold", va="center", parse_math=False)
    note, colour = verdict(outcome(trajectory, house, episode)) if ended and reveal else ("", style.FAINT)
    ax.text(WIDTH - MARGIN, 14, note or f"{trajectory.instr_id}  ·  {house.scan}", fontsize=9.5, ha="right", va="center",
            parse_math=False, color=colour, fontweight="bold" if note else "normal")
    draw_instruction(ax, words, moment.word_attention, MARGIN + 2, 30, inner, size)
    place = (MARGIN, map_top, inner - SIDE - BETWEEN, MAP)
    spots = draw_floors(figure, house, scene, [*walked, *reference], place, around)
    _draw_side(figure, moment, scene, map_top, height)
    seen = house.objects[moment.here] if house.objects else ()
    strip = collect_strip(seen, moment.heading, moment.view_attention, moment.options, moment.chosen, lanes)
    draw_strip(ax, strip, MARGIN, strip_top, inner)
    for option, x in zip(strip.options[1:], badge_columns(strip, MARGIN, inner), strict=True):
        spots.setdefault(option.number, []).append((x / WIDTH, (strip_top + 8) / height))
    return style.finish(figure, {"moment": moment, "ended": ended, "spots": spots})


def headline(moment, ended, running=False):
    """Where the agent is, in words."""
    parts = [f"step {moment.step + 1}" + ("" if running else f" of {moment.n_steps}"), moment.room]
    if moment.to_goal is not None:
        parts.append(f"{moment.to_goal:.1f} m to the goal")
    if ended:
        parts.append("stopped" if moment.chosen == 0 else "out of steps")
    return "  ·  ".join(part for part in parts if part)


def verdict(scores):
    """What became of an episode, and the colour to say it in; scores: PathScores, or None where no goal is known."""
    if scores is None:
        return "", style.FAINT
    if scores.success_rate:
        return f"success, SPL {scores.spl:.2f}", style.GREEN
    return f"failure, {scores.nav_error:.1f} m from the goal", style.MARK


def draw_floors(figure, house, scene, on, place, around=0.0):
    """The floors of some panoramas beside each other at one scale.

    on      panoramas that must be seen, with those next to them and those less than `around` metres away
    place   (left, top, width, height) in points from the figure's top left
    -> {number: [(x, y)]} of the candidates' badges, shares of the figure's width and height from its top left
    """
    (left, top, width, tall), (wide, high) = place, 72 * figure.get_size_inches()
    floors = floors_of(house, on)
    boxes = [_map_window(house, floor, scene, on, around) for floor in floors]
    head, space = (14 if len(floors) > 1 else 0), width - BETWEEN * (len(floors) - 1)
    across = sum(box[2] for box in boxes)
    scale = min(space / across, (tall - head) / max(box[3] for box in boxes), CLOSEST)
    spots = {}
    for floor, box in zip(floors, boxes, strict=True):
        panel = box[2] * scale + (space - scale * across) / len(boxes)
        box = fitted(box, panel, tall - head, scale)
        ax = figure.add_axes((left / wide, 1 - (top + tall) / high, panel / wide, (tall - head) / high))
        draw_floor(ax, house, floor, scene, box, scale)
        frame(ax)
        if head:
            ax.set_title(f"floor {floor}", fontsize=8.5, pad=3)
        for number, (x, y) in badge_places(house, house.included & (house.floor == floor), scene, scale).items():
            if box[0] < x < box[0] + box[2] and box[1] < y < box[1] + box[3]:
                spot = left + (x - box[0]) * scale, top + tall - (y - box[1]) * scale
                spots.setdefault(number, []).append((spot[0] / wide, spot[1] / high))
        left += panel + BETWEEN
    return spots


def _map_window(house, floor, scene, on, around):
    """What a map must show of a floor, as `window` gives it."""
    touched = np.isin(house.edges, on).any(axis=1)
    gaps = np.linalg.norm(house.position[:, None] - house.position[None, on], axis=-1).min(axis=1)  # (N,)
    near = {*on, *house.edges[touched].ravel().tolist(), *np.flatnonzero(house.included & (gaps < around)).tolist()}
    return window(house, [floor], scene, [i for i in near if house.floor[i] == floor])


def _draw_side(figure, moment, scene, top, height):
    """Scores to the right of the map, the legend of the map below them."""
    items = legend_items(scene)
    legend = 13.5 * len(items)
    left = WIDTH - MARGIN - SIDE
    ax = figure.add_axes((left / WIDTH, 1 - (top + MAP - legend - 6) / height, SIDE / WIDTH, (MAP - legend - 6) / height))
    draw_options(ax, moment, 6 if moment.options[0].score is not None else 11)
    figure.legend(handles=items, loc="lower left", bbox_to_anchor=(left / WIDTH, 1 - (top + MAP) / height), borderaxespad=0,
                  fontsize=7.5, labelspacing=0.45)


@style.styled
def plot_routes(cases, columns=3, width=10.5, title=""):
    """Many episodes at a glance, the agent's path against the reference: a gallery of failures, say.

    cases  list of (trajectory, house, episode, caption); each map shows the floors of its two paths
    -> Figure
    """
    if not cases:
        raise ValueError("at least one episode was expected, found none.")
    rows, wide = math.ceil(len(cases) / columns), 72 * width
    cell, head, top = (wide - BETWEEN * (columns - 1)) / columns, 28, 26 if title else 4
    tall = 0.72 * cell
    figure, ax = text_sheet(wide, top + rows * (tall + head + 4) + 22)
    ax.text(2, 12, title, fontsize=11.5, fontweight="bold", va="center", parse_math=False)
    numbers = []
    for i, (trajectory, house, episode, caption) in enumerate(cases):
        walked, reference = [house.index(viewpoint) for viewpoint in trajectory.path], reference_of(house, episode)
        goals = tuple(house.index(goal) for goal in episode.goals)
        scene = Scene({REFERENCE: reference, "agent": walked}, goals=goals, ended=True)
        left, y = i % columns * (cell + BETWEEN), top + i // columns * (tall + head + 4)
        note, colour = verdict(outcome(trajectory, house, episode))
        ax.text(left + 1, y + 7, fitting(caption, cell - 4, 8), fontsize=8, va="center", parse_math=False)
        ax.text(left + 1, y + 19, note, fontsize=8, va="center", color=colour, fontweight="bold")
        draw_floors(figure, house, scene, [*walked, *reference], (left, y + head, cell, tall))
        numbers.append({"instr_id": trajectory.instr_id, "scan": house.scan, "verdict": note, "path": list(trajectory.path)})
    figure.legend(handles=legend_items(scene), loc="lower center", ncols=3, borderaxespad=0.2)
    return style.finish(figure, {"episodes": numbers})
