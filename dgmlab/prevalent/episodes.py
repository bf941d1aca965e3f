"""Episodes: what a navigator is asked to do. Every task of this folder comes down to a list of them.

    tasks.py      R2R, REVERIE, R4R from files      ndh.py   CVDN's navigation from dialog history
    toy_tasks.py  a grammar over procedural houses

An Episode knows panoramas by their ids only; `check_episodes` holds a list against the houses it plays in.
"""

import gzip
import json
import zlib
from pathlib import Path
from typing import NamedTuple

from dgmlab.data.registry import data_home
from dgmlab.prevalent.house import check_path

RESTORE = "Restore the file from where it came."



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


def task_file(task, split, files, folder=None):
    """Path of the file of a split, which must exist.

    task    'R2R', 'NDH' or 'REVERIE'; its files are in matterport/TASK below `data_home()`, unless `folder` says where
    files   dict split -> name of its file
    """
    if split not in files:
        raise ValueError(f"{task} has no split '{split}'; choose one of: {', '.join(files)}.")
    path = (Path(folder) if folder else data_home() / "matterport" / task) / files[split]
    if not path.is_file():
        raise FileNotFoundError(f"{task} split '{split}' was expected at {path}, found nothing there. Set DGMLAB_DATA to the "
                                "folder that holds matterport/, or use toy_episodes, which need no data.")
    return path


def read_json(path):
    """What a JSON file holds, gzipped or not; ValueError that names the file where it is damaged."""
    try:
        raw = Path(path).read_bytes()
        return json.loads(gzip.decompress(raw) if str(path).endswith(".gz") else raw)
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a complete JSON file ({error}). {RESTORE}") from None


def read_records(path, fields):
    """The records of a JSON file, each with the named fields.

    fields  dict name -> type, or tuple of types, that every record must have; [str] stands for one or more str
    -> list of dict; ValueError that names file and record where one is damaged
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise ValueError(f"{path}: expected a list of records, found {type(records).__name__}. {RESTORE}")
    for number, record in enumerate(records):
        where = f"{path}, record {number}"
        if not isinstance(record, dict):
            raise ValueError(f"{where}: expected an object, found {type(record).__name__}. {RESTORE}")
        for name, kind in fields.items():
            if name not in record:
                raise ValueError(f"{where}: the field '{name}' is missing, found {', '.join(record) or 'none'}. {RESTORE}")
            value = record[name]
            if kind == [str]:
                if not (isinstance(value, list) and value and all(isinstance(text, str) for text in value)):
                    raise ValueError(f"{where}: the field '{name}' should be a list of one or more strings. {RESTORE}")
            elif not isinstance(value, kind):
                raise ValueError(f"{where}: the field '{name}' cannot be a {type(value).__name__}. {RESTORE}")
    return records


def n_steps(episodes):
    """State-action steps of the reference paths, STOP included: one for each panorama of each episode -> int"""
    return sum(len(episode.path) for episode in episodes)


def groups(episodes):
    """What each episode shares with others of the list: its path (path_id), or its dialog (game_idx), else nothing. -> list

    Episodes of one group are not independent; intervals resample them together.
    """
    return [str(episode.about.get("path_id", episode.about.get("game_idx", episode.instr_id))) for episode in episodes]


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
