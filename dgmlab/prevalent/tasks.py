"""Instruction following in real houses: R2R, REVERIE, and R4R joined from R2R. Files are described in their own READMEs.

    load_r2r("val_unseen")            Room-to-Room (Anderson et al. 2018), list of Episode
    load_reverie("val_unseen")        REVERIE, version 2 (Qi et al. 2020): find an object that is far away
    make_r4r(episodes, houses)        Room-for-Room (Jain et al. 2019): two paths of R2R, one after the other

    R2R         train 14,039 instructions of 4,675 paths in 61 houses; val_seen 1,021 / 340 / 56; val_unseen 2,349 / 783 / 11;
                test 4,173 / 1,391 / 18, of which only the start is known

The data is Matterport3D's and comes under its terms of use (non-commercial, academic).
"""

from collections import defaultdict

from dgmlab.prevalent.episodes import Episode, check_episodes, read_json, read_records, task_file

SPLITS = ("train", "val_seen", "val_unseen", "test")
NUMBER = (int, float)


def load_r2r(split, folder=None):
    """The episodes of R2R, one an instruction (a few paths have 4), in the order of the file.

    split   'train', 'val_seen', 'val_unseen' or 'test' (only the start in `path`, no goals)
    folder  of the files; by default matterport/R2R below `data_home()`
    -> list of Episode; instr_id is path id, '_', number of the instruction; about: path_id, and distance in metres where known
    """
    path = task_file("R2R", split, {name: f"R2R_{name}.json" for name in SPLITS}, folder)
    records = read_records(path, {"scan": str, "path_id": (int, str), "path": [str], "heading": NUMBER, "instructions": [str]})
    episodes = []
    for record in records:
        about = {"path_id": record["path_id"], "distance": record.get("distance")}
        episodes += _episodes(record, record["path_id"], about)
    return episodes


def load_reverie(split, folder=None):
    """The episodes of REVERIE, version 2, one an instruction.

    The goals are the panoramas that the object is seen from, which is what its evaluation asks for (tasks/REVERIE/
    eval_release.py): score it with evaluate(..., threshold=0.0, inclusive=True). Its SPL weighs by the distance to the end of
    the reference, which is `spl_reference`. 36 of the 5,864 known paths end where the object is in no view of the files,
    so who follows them does not arrive. The test split hides object and path.

    folder  of the files; by default matterport/REVERIE below `data_home()`
    -> list of Episode; about: path_id (of REVERIE, not of R2R) and object_id where known
    """
    path = task_file("REVERIE", split, {name: f"REVERIE_{name}.json" for name in SPLITS}, folder)
    records = read_records(path, {"id": str, "scan": str, "path": [str], "heading": NUMBER, "instructions": [str]})
    sights = _sights(path.with_name("objects_by_viewpoint.json.gz")) if split != "test" else {}
    episodes = []
    for record in records:
        about = {"path_id": record["id"], "object_id": record.get("objId")}
        for episode in _episodes(record, record["id"], about):
            seen_from = sights.get((episode.scan, str(record.get("objId"))))
            episodes.append(episode._replace(goals=tuple(seen_from)) if seen_from else episode)
    return episodes


def _episodes(record, name, about):
    """One Episode for each instruction of a record; `about` without what is None."""
    path, about = tuple(record["path"]), {key: value for key, value in about.items() if value is not None}
    for number, instruction in enumerate(record["instructions"]):
        yield Episode(f"{name}_{number}", record["scan"], float(record["heading"]), 0.0, path, instruction.strip(),
                      path[-1:] if len(path) > 1 else (), about)


def _sights(path):
    """(scan, object id) -> the viewpoints that have the object in some view, from REVERIE's boxes."""
    if not path.is_file():
        raise FileNotFoundError(f"objects of REVERIE were expected at {path}, found nothing there. Put them there.")
    sights = defaultdict(list)
    for place, objects in read_json(path)["data"].items():
        scan, viewpoint = place.split("_")
        for number, (_, views, _) in objects.items():
            if views:
                sights[scan, number].append(viewpoint)
    return sights


def make_r4r(episodes, houses, gap=3.0):
    """Room-for-Room: one path of R2R, the shortest path to the start of another, and that other path.

    Two paths of a scan are joined when the second starts at most `gap` metres (along the graph) from the end of the first, and
    each instruction of the first is followed by each of the second: the rule of google-research's r4r/r4r_generate_data.py
    with its threshold on distance and none on heading. References are therefore often no shortest paths.

    episodes  of R2R, train or validation; houses: Houses with their scans
    -> list of Episode; about: path_id ('first-second'), first_path_id, second_path_id
    """
    scans = defaultdict(lambda: defaultdict(list))  # scan -> path id -> its episodes
    for episode in check_episodes(episodes, houses):
        if not episode.goals:
            raise ValueError(f"episode '{episode.instr_id}' has no goal, so nothing can follow it. Use train or validation.")
        scans[episode.scan][episode.about["path_id"]].append(episode)
    joined = []
    for scan, paths in scans.items():
        house = houses.houses[scan]
        for first_id, firsts in paths.items():
            end = firsts[0].path[-1]
            for second_id, seconds in paths.items():
                start = seconds[0].path[0]
                if house.distance[house.index(end), house.index(start)] > gap:
                    continue
                path = (*firsts[0].path[:-1], *house.shortest_path(end, start), *seconds[0].path[1:])
                about = {"path_id": f"{first_id}-{second_id}", "first_path_id": first_id, "second_path_id": second_id}
                pairs = ((first, second) for first in firsts for second in seconds)
                joined += [Episode(f"{first_id}-{second_id}_{number}", scan, first.heading, first.elevation, path,
                                   f"{first.instruction} {second.instruction}", path[-1:], about)
                           for number, (first, second) in enumerate(pairs)]
    return joined
