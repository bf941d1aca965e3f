"""How well agents navigate: scores of every episode, means with intervals, a row of a table; R2R's file for the leaderboard.

    evaluation = evaluate(trajectories, episodes, houses)
    evaluation.rows["spl"]                  (N,) one an episode
    evaluation.summary["success_rate"]      Interval(mean, low, high)
    table([table_row("follower", evaluation)])

Defaults are those of R2R; other tasks ask for other settings, collected in PROTOCOLS: `evaluate(..., **PROTOCOLS["hanna"])`.
A trajectory needs `instr_id` and `path` (viewpoint ids, the start first; standing still may repeat one).
"""

import json
import math
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.metrics.navigation import Interval, PathScores, cluster_interval, help_requests, path_scores
from dgmlab.prevalent.candidates import LEVELS, N_HEADINGS, STEP
from dgmlab.prevalent.episodes import groups, read_json
from dgmlab.prevalent.house import check_path
from dgmlab.run import write_json

PROTOCOLS = {
    "r2r": {"threshold": 3.0, "inclusive": False, "standing": 0.0},
    "ndh": {"threshold": 3.0, "inclusive": False, "standing": 1.0},  # standing at the goal earns SPL
    "hanna": {"threshold": 2.0, "inclusive": True, "standing": 1.0},
    "reverie": {"threshold": 0.0, "inclusive": True, "standing": 0.0},  # the goals are the panoramas that see the object
}
COLUMNS = ("trajectory_length", "nav_error", "oracle_success_rate", "success_rate", "spl")  # as published for R2R
SHARES = ("success_rate", "oracle_success_rate", "spl", "spl_reference", "ndtw", "sdtw", "coverage", "cls")


class Evaluation(NamedTuple):
    """Scores of N episodes.

    rows       dict name -> (N,) float64, in the order of the episodes: the fields of `metrics.navigation.PathScores`, and
               help_requests where the trajectories say when they asked
    summary    dict name -> Interval(mean, low, high)
    instr_ids  N str
    """

    rows: dict
    summary: dict
    instr_ids: tuple


def evaluate(trajectories, episodes, houses, threshold=3.0, inclusive=False, standing=0.0, clusters=None, n_draws=1000,
             level=0.95, seed=0):
    """Scores of one trajectory for each episode.

    trajectories                   objects with `instr_id` and `path`, in any order; and `asked` (T,) bool where help was asked
    episodes                       list of Episode, whose goals are known
    houses                         Houses with their scans
    threshold, inclusive, standing what counts as arrived, see `metrics.navigation` and PROTOCOLS
    clusters                       N values, the same for episodes that succeed or fail together, resampled as one; None: the
                                   instructions of one path, the questions of one dialog. For other houses than these, cluster
                                   by house: [episode.scan for episode in episodes]
    n_draws, level, seed           of the bootstrap
    -> Evaluation
    """
    found = _by_instr_id(trajectories, episodes)
    scored = [_scores(found[episode.instr_id], episode, houses, threshold, inclusive, standing) for episode in episodes]
    names, table = list(PathScores._fields), np.array(scored, dtype=np.float64)  # (N, M)
    if all(hasattr(trajectory, "asked") for trajectory in found.values()):
        names.append("help_requests")
        table = np.column_stack([table, [help_requests(found[episode.instr_id].asked) for episode in episodes]])
    interval = cluster_interval(table, groups(episodes) if clusters is None else clusters, n_draws, level, seed)
    summary = {name: Interval(*(float(bound[i]) for bound in interval)) for i, name in enumerate(names)}
    return Evaluation(dict(zip(names, table.T, strict=True)), summary, tuple(episode.instr_id for episode in episodes))


def difference(ours, theirs, episodes, name="success_rate", clusters=None, n_draws=1000, level=0.95, seed=0):
    """How much better one agent is than another on the same episodes, in pairs: what is easy or hard for both cancels out.

    ours, theirs  Evaluation of the two, of `episodes`
    name          a score, see Evaluation.rows
    clusters, n_draws, level, seed  as in `evaluate`
    -> Interval of the mean difference; one that holds 0 shows none
    """
    instr_ids = tuple(episode.instr_id for episode in episodes)
    for found in (ours, theirs):
        if found.instr_ids != instr_ids:
            raise ValueError(f"a difference in pairs needs two evaluations of the same {len(instr_ids)} episodes, found one "
                             f"of {len(found.instr_ids)} others or in another order. Evaluate both on these.")
    return cluster_interval(ours.rows[name] - theirs.rows[name], groups(episodes) if clusters is None else clusters, n_draws,
                            level, seed)


def _by_instr_id(trajectories, episodes):
    """instr_id -> trajectory, once for each episode and for nothing else."""
    problems = _id_problems([trajectory.instr_id for trajectory in trajectories], episodes)
    if problems:
        raise ValueError(f"one trajectory is needed for each of the {len(episodes)} episodes, but {problems[0]}")
    if not episodes:
        raise ValueError("there is nothing to evaluate: found 0 episodes. Check the split.")
    return {trajectory.instr_id: trajectory for trajectory in trajectories}


def _id_problems(found, episodes):
    """What is wrong with the ids of trajectories -> list of str"""
    count, wanted = Counter(found), {episode.instr_id for episode in episodes}
    kinds = {"missing": [name for name in wanted if name not in count],
             "there more than once": [name for name, times in count.items() if times > 1],
             "of no episode": [name for name in count if name not in wanted]}
    return [f"{len(names)} instr_id {kind}, such as '{min(names, key=str)}'." for kind, names in kinds.items() if names]


def _scores(trajectory, episode, houses, threshold, inclusive, standing):
    if not episode.goals:
        raise ValueError(f"episode '{episode.instr_id}' has no goal: its split hides it. Use write_submission.")
    problem = _path_problem(trajectory.path, episode, houses)
    if problem:
        raise ValueError(f"trajectory '{episode.instr_id}': {problem}")
    house = houses.houses[episode.scan]
    path, reference, goals = ([house.index(viewpoint) for viewpoint in ids]
                              for ids in (trajectory.path, episode.path, episode.goals))
    if not np.isfinite(house.distance[path[0], goals]).any():
        raise ValueError(f"episode '{episode.instr_id}': no path leads from {episode.path[0]} to a goal. Leave it out.")
    return path_scores(house.distance, path, reference, goals, threshold, inclusive, standing)


def _path_problem(path, episode, houses):
    """Why a path cannot have been walked in an episode, or None."""
    if episode.scan not in houses.houses:
        return f"house '{episode.scan}' is not among the {len(houses.scans)} given. Load it with the others."
    if not len(path) or path[0] != episode.path[0]:
        found = f"found {path[0]}" if len(path) else "found nothing"
        return f"expected a path from the start {episode.path[0]}, {found}."
    try:
        check_path(houses.houses[episode.scan], path)
    except (KeyError, ValueError) as error:
        return error.args[0]
    return None


def table_row(name, evaluation, columns=COLUMNS):
    """One row of a results table: shares in per cent, metres to two digits, each with its interval.

    -> dict: 'agent', then a str a column, '58.1 [56.2, 60.0]'
    """
    return {"agent": name, **{column: _cell(column, evaluation.summary[column]) for column in columns}}


def _cell(column, interval):
    scale, digits = (100, 1) if column in SHARES else (1, 2)
    mean, low, high = (f"{scale * value:.{digits}f}" for value in interval)
    return f"{mean} [{low}, {high}]"


# R2R's leaderboard


def write_submission(trajectories, path):
    """Write the file that R2R's leaderboard takes: one line of path for each panorama visited.

    trajectories  objects with `instr_id`, `path` and, for headings, `views` (view index 0..35 at each step; may be missing)
    -> Path of the file: a list of {"instr_id", "trajectory": [[viewpoint, heading, elevation], ...]}, angles in radians
    """
    entries = [{"instr_id": trajectory.instr_id, "trajectory": _poses(trajectory)} for trajectory in trajectories]
    write_json(path, entries)
    return Path(path)


def _poses(trajectory):
    """[viewpoint, heading, elevation] of each panorama; the last view holds on where a walk was cut off before the next."""
    views = list(getattr(trajectory, "views", ()))[:len(trajectory.path)] or [N_HEADINGS]
    return [[viewpoint, float(STEP * (view % N_HEADINGS)), float(LEVELS[view // N_HEADINGS])]
            for viewpoint, view in zip_longest(trajectory.path, views, fillvalue=views[-1])]


def check_submission(path, episodes, houses):
    """What is wrong with a submission: ids missing, twice or unknown, wrong starts, steps along no edge, poses that are none.

    Turning in place, which repeats a viewpoint, is allowed.
    -> list of str, empty when all is well
    """
    try:
        entries = read_json(path)
    except FileNotFoundError:
        return [f"{path} does not exist. Write it with write_submission."]
    except ValueError as error:
        return [str(error)]
    if not isinstance(entries, list):
        return [f"{path}: expected a list of objects, found {type(entries).__name__}."]
    problems, sound = [], []
    for number, entry in enumerate(entries):
        problem = _entry_problem(entry)
        if problem:
            problems.append(f"{path}, entry {number}: {problem}")
        else:
            sound.append(entry)
    problems += [f"{path}: {problem}" for problem in _id_problems([entry["instr_id"] for entry in sound], episodes)]
    known = {episode.instr_id: episode for episode in episodes}
    for entry in sound:
        if entry["instr_id"] in known:
            walked = [pose[0] for pose in entry["trajectory"]]
            problem = _path_problem(walked, known[entry["instr_id"]], houses)
            if problem:
                problems.append(f"{path}, trajectory '{entry['instr_id']}': {problem}")
    return problems


def _entry_problem(entry):
    """Why an entry is not {"instr_id", "trajectory": [[viewpoint, heading, elevation], ...]}, or None."""
    if not isinstance(entry, dict) or not isinstance(entry.get("instr_id"), str):
        return f"expected an object with 'instr_id' and 'trajectory', found {json.dumps(entry)[:60]}."
    trajectory = entry.get("trajectory")
    if not isinstance(trajectory, list) or not trajectory:
        return f"'{entry['instr_id']}' has no trajectory; expected a list of [viewpoint, heading, elevation]."
    for pose in trajectory:
        named = isinstance(pose, list) and len(pose) == 3 and isinstance(pose[0], str)
        if not named or not all(isinstance(angle, int | float) and math.isfinite(angle) for angle in pose[1:]):
            return f"'{entry['instr_id']}' has the pose {json.dumps(pose)[:60]}; expected [viewpoint, heading, elevation]."
    return None
