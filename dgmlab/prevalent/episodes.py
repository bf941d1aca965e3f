"""Episodes: what a navigator is asked to do. Every task of this folder comes down to a list of them.

    tasks.py      R2R, REVERIE, R4R from files      ndh.py   CVDN's navigation from dialog history
    toy_tasks.py  a grammar over procedural houses

An Episode knows panoramas by their ids only; `check_episodes` holds a list against the houses it plays in.
"""

from typing import NamedTuple

from dgmlab.prevalent.house import check_path


class Episode(NamedTuple):
    """One instruction and the path it belongs to."""

    instr_id: str  # unique in its list; R2R: path id, '_', number of the instruction
    scan: str
    heading: float  # radians at the start, 0 = +y, clockwise
    elevation: float  # radians at the start, up positive
    path: tuple  # reference, viewpoint ids, the start first; only the start where a split hides the rest
    instruction: str
    goals: tuple  # viewpoint ids where to end, any of them; () where hidden
    about: dict  # what else is known, e.g. path_id, distance, target


def n_steps(episodes):
    """State-action steps of the reference paths, STOP included: one for each panorama of each episode -> int"""
    return sum(len(episode.path) for episode in episodes)


def path_ids(episodes):
    """What groups the instructions of one path: `about['path_id']`, or the instr_id where there is none -> list of str"""
    return [str(episode.about.get("path_id", episode.instr_id)) for episode in episodes]


def check_episodes(episodes, houses):
    """The episodes themselves, once each is known to fit the `houses` it plays in.

    ValueError that names the episode where its instr_id is used twice, its house is not given, a viewpoint is unknown or
    excluded, or its path is empty or uses an edge that does not exist. A path need not be a shortest one.
    """
    seen, sound = set(), set()  # instructions share paths, which are looked at once
    for episode in episodes:
        if episode.instr_id in seen:
            raise ValueError(f"instr_id '{episode.instr_id}' stands for two episodes; each needs its own.")
        seen.add(episode.instr_id)
        walk = (episode.scan, tuple(episode.path), tuple(episode.goals))
        if walk not in sound:
            problem = _problem(episode, houses)
            if problem:
                raise ValueError(f"episode '{episode.instr_id}': {problem}")
            sound.add(walk)
    return episodes


def _problem(episode, houses):
    """Why an episode cannot be played, or None."""
    if episode.scan not in houses.houses:
        return f"house '{episode.scan}' is not among the {len(houses.scans)} given. Load it with the others."
    if not episode.path:
        return "the path is empty; expected at least the panorama of the start."
    house = houses.houses[episode.scan]
    try:
        check_path(house, episode.path)
        places = [house.index(viewpoint) for viewpoint in (*episode.path, *episode.goals)]
    except (KeyError, ValueError) as error:
        return error.args[0]
    excluded = [house.viewpoints[place] for place in places if not house.included[place]]
    if excluded:
        return f"viewpoint '{excluded[0]}' is excluded from the graph of house {house.scan}; nobody can stand there."
    return None
