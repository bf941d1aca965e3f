"""Toy tasks: instructions by a grammar for paths through procedural houses, with nothing to download.

    houses = Houses.toy(range(20))
    episodes = toy_episodes(houses, 500, seed=0)        as R2R: an instruction tells every move of a shortest path
    unseen = toy_episodes(Houses.toy(range(100, 105)), 100, seed=1)

The grammar is that of `directions`, so it works for any house whose rooms and objects are known. Unseen houses are other
seeds: the same words, other plans. For episodes in the manner of CVDN see `ndh.make_ndh_like`.
"""

import itertools

import numpy as np

from dgmlab.prevalent.candidates import N_HEADINGS, STEP
from dgmlab.prevalent.directions import Guide, give_directions, instruction
from dgmlab.prevalent.episodes import Episode


def toy_episodes(houses, n, seed, moves=(3, 7), phrasings=1):
    """Episodes whose instruction tells every move, drawn at random: start and goal, heading, words.

    houses     Houses, toy or described (with rooms and objects)
    n          episodes; `phrasings` of them share a path, and no other path comes twice before each has come once
    moves      least and greatest number of moves of a path, which is always a shortest one
    -> list of n Episode; about: path_id, and clauses: a tuple of str, one for each move and one for the end
    """
    rng = np.random.default_rng(seed)
    guides = [Guide(house) for house in houses.houses.values()]
    pairs = np.concatenate([_pairs(guide.house, number, moves) for number, guide in enumerate(guides)])
    episodes, looked_at = [], 0
    for number, start, goal in itertools.cycle(rng.permutation(pairs)):
        if len(episodes) >= n:
            break
        looked_at += 1
        house = guides[number].house
        path = tuple(house.shortest_path(house.viewpoints[start], house.viewpoints[goal]))
        heading = float(STEP * rng.integers(N_HEADINGS))
        told = [give_directions(guides[number], path, heading, rng) for _ in range(phrasings)]
        if all(directions.clear for directions in told):
            path_id = f"{house.scan}-{len(episodes) // phrasings}"
            for k, (clauses, _) in enumerate(told):
                about = {"path_id": path_id, "clauses": clauses}
                episodes.append(Episode(f"{path_id}_{k}", house.scan, heading, 0.0, path, instruction(clauses, rng), path[-1:],
                                        about))
        elif looked_at >= len(pairs) and not episodes:
            break
    if len(episodes) < n:
        raise ValueError(f"no path of {moves[0]} to {moves[1]} moves in {houses} can be told move by move. Give houses with "
                         "rooms and objects, such as Houses.toy(range(20)), or other `moves`.")
    return episodes[:n]


def _pairs(house, number, moves):
    """Rows (number, start, goal) of all pairs of panoramas whose shortest path has so many moves. -> (A, 3) int"""
    here, goal = np.indices(house.distance.shape)
    hops, reachable = np.zeros_like(here), np.isfinite(house.distance)
    for _ in range(moves[1] + 1):
        going = reachable & (here != goal)
        hops += going
        here = np.where(going, house.next_hop[here, goal], here)
    found = np.argwhere(reachable & (moves[0] <= hops) & (hops <= moves[1]))
    return np.column_stack([np.full(len(found), number), found])
