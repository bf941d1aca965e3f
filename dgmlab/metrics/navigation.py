"""Navigation: how far a path ended from its goal, how long it was, and how well it kept to the reference.

Everything here is a function of a table of distances and of paths through it, for one episode:

    distance   (N, N) float   metres of the shortest path between two panoramas of a house, inf where there is none
    path       (T,) ints      panoramas in the order of the visit, the start first; standing still repeats one, at no cost
    reference  (R,) ints      the annotated path
    goals      int or (G,)    where the episode should end; of several, the nearest counts

Names and definitions (R2R: Anderson et al. 2018; SPL: Anderson et al. 2018, arXiv:1807.06757; CLS: Jain et al. 2019; nDTW,
sDTW: Ilharco et al. 2019; goal progress: Thomason et al. 2019). Two conventions of SPL are in use and differ wherever the
reference is not a shortest path (R4R, and 8 paths of R2R's val_unseen), so they have two names:

    spl            l = the shortest path from the start to the goal (R2R, EnvDrop, NDH)
    spl_reference  l = the length of the reference path             (HAMT, DUET)

Success is an error strictly below 3 m in R2R; HANNA's is an error of 2 m or less (`within(error, 2.0, inclusive=True)`).
"""

from typing import NamedTuple

import numpy as np

SHORTEST = 0.01  # metres: the least denominator of SPL, as in R2R's evaluation


class PathScores(NamedTuple):
    """The scores of one path; metres, or shares from 0 to 1."""

    nav_error: float  # metres from the last panorama to the goal
    oracle_error: float  # metres from the goal at the path's nearest point
    trajectory_length: float  # metres
    success_rate: float  # 0 or 1
    oracle_success_rate: float  # 0 or 1: whether some panorama of the path would have been a success
    spl: float  # success weighted by path length, shortest path
    spl_reference: float  # the same with the length of the reference
    dtw: float  # metres
    ndtw: float
    sdtw: float
    coverage: float
    cls: float  # coverage weighted by length score
    goal_progress: float  # metres nearer to the goal than the start


class Interval(NamedTuple):
    """A mean and the bounds of its interval: floats, or (M,) arrays for M columns."""

    mean: float
    low: float
    high: float


def path_length(distance, path):
    """Metres of a path -> float"""
    path = np.asarray(path)
    return float(distance[path[:-1], path[1:]].sum())


def goal_distances(distance, path, goals):
    """Metres from each panorama of a path to its nearest goal -> (T,) float"""
    return distance[np.asarray(path)][:, np.atleast_1d(goals)].min(1)


def nav_error(distance, path, goals):
    """Metres from the end of a path to the nearest goal -> float"""
    return float(goal_distances(distance, path, goals)[-1])


def oracle_error(distance, path, goals):
    """Metres between a path and the nearest goal where they are closest -> float"""
    return float(goal_distances(distance, path, goals).min())


def goal_progress(distance, path, goals):
    """Metres that the path has come nearer to its nearest goal, negative where it went away -> float"""
    metres = goal_distances(distance, path, goals)
    return float(metres[0] - metres[-1])


def within(error, threshold=3.0, inclusive=False):
    """Whether errors in metres count as arrived: strictly below the threshold, or with `inclusive` also just there.

    error  float or array; R2R and REVERIE's paths: 3 m, strict; HANNA: 2 m, inclusive
    -> bool or array of bool
    """
    return error <= threshold if inclusive else error < threshold


def success_by_length(success, length, needed, standing=0.0):
    """Success weighted by path length (SPL): success * needed / max(length, needed, 0.01).

    success   bool or 0..1
    length    metres of the path
    needed    metres of the path one could have taken: `spl` takes the shortest, `spl_reference` the reference
    standing  what is earned where nothing had to be walked and nothing was: 0 in R2R's evaluation, 1 in that of NDH
    -> float 0..1
    """
    if needed == 0 and length == 0:
        return float(success) * standing
    return float(success) * needed / max(length, needed, SHORTEST)


def dtw(distance, path, reference):
    """Dynamic time warping: the least sum of distances over all monotone alignments of path and reference -> float metres"""
    costs = distance[np.asarray(path)][:, np.asarray(reference)].tolist()  # (T, R); lists, as the recursion goes cell by cell
    above = [0.0] + [np.inf] * len(reference)
    for row in costs:
        best = [np.inf]
        for j, cost in enumerate(row):
            best.append(cost + min(above[j], above[j + 1], best[j]))
        above = best
    return float(above[-1])


def ndtw(distance, path, reference, scale=3.0):
    """DTW on a scale from 0 to 1: exp(-dtw / (scale * R)), R the number of panoramas of the reference -> float"""
    return _similarity(dtw(distance, path, reference), len(reference), scale)


def _similarity(metres, n, scale):
    return float(np.exp(-metres / (scale * n)))


def coverage(distance, path, reference, scale=3.0):
    """How near the path came to each panorama of the reference: mean of exp(-metres / scale) -> float 0..1"""
    nearest = distance[np.asarray(reference)][:, np.asarray(path)].min(1)  # (R,)
    return float(np.exp(-nearest / scale).mean())


def length_score(length, expected):
    """How near a length comes to the expected one: expected / (expected + |expected - length|) -> float 0..1

    Where nothing is expected, 1 for a path of no length and 0 for any other.
    """
    if expected == 0:
        return float(length == 0)
    return float(expected / (expected + abs(expected - length)))


def cls(distance, path, reference, scale=3.0):
    """Coverage weighted by length score: CLS = PC * LS, where the expected length is PC * length of the reference -> float"""
    covered = coverage(distance, path, reference, scale)
    return covered * length_score(path_length(distance, path), covered * path_length(distance, reference))


def help_requests(asked):
    """How often an episode asked for help: asked (T,) bool, one a step -> int"""
    return int(np.count_nonzero(asked))


def path_scores(distance, path, reference, goals=None, threshold=3.0, inclusive=False, standing=0.0, scale=3.0):
    """Every score of one path (see the top of this file).

    goals                 None: the end of the reference
    threshold, inclusive  metres that count as arrived, see `within`
    scale                 metres after which nDTW and CLS fall off
    standing              SPL of who has nothing to walk and stands, see `success_by_length`
    -> PathScores
    """
    path, reference = np.asarray(path), np.asarray(reference)
    goals = reference[-1:] if goals is None else np.atleast_1d(goals)
    metres = goal_distances(distance, path, goals)
    length = path_length(distance, path)
    success = float(within(metres[-1], threshold, inclusive))
    warped = dtw(distance, path, reference)
    normalised = _similarity(warped, len(reference), scale)
    covered = coverage(distance, path, reference, scale)
    expected = path_length(distance, reference)
    return PathScores(
        nav_error=float(metres[-1]),
        oracle_error=float(metres.min()),
        trajectory_length=length,
        success_rate=success,
        oracle_success_rate=float(within(metres.min(), threshold, inclusive)),
        spl=success_by_length(success, length, float(metres[0]), standing),
        spl_reference=success_by_length(success, length, expected, standing),
        dtw=warped,
        ndtw=normalised,
        sdtw=success * normalised,
        coverage=covered,
        cls=covered * length_score(length, covered * expected),
        goal_progress=float(metres[0] - metres[-1]),
    )


def cluster_interval(values, clusters, n_draws=1000, level=0.95, seed=0):
    """Means with percentile intervals over resampled clusters of episodes.

    Three instructions of one path succeed and fail together: an interval over instructions as if they were independent is too
    narrow. So whole clusters are drawn, with replacement, as many as there are; each brings all of its episodes.

    values    (N,) or (N, M) float   M scores of N episodes, finite
    clusters  N hashable values      the same for episodes that belong together, e.g. path ids
    -> Interval of floats, or of (M,) arrays
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0 or len(values) != len(clusters):
        raise ValueError(f"an interval needs one cluster an episode and at least one, found {len(values)} episodes and "
                         f"{len(clusters)} clusters.")
    if not np.isfinite(values).all():
        n = np.count_nonzero(~np.isfinite(values))
        raise ValueError(f"an interval needs finite scores, found {n} that are infinite or NaN. "
                         "An infinite distance means a goal that cannot be reached.")
    names = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    member = np.array([names[name] for name in clusters])
    sizes = np.bincount(member).astype(np.float64)  # (G,)
    sums = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(sums, member, values)
    n = len(sizes)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_draws).astype(np.float64)  # (draws, G)
    totals = drawn @ sums  # (draws,) or (draws, M)
    means = totals / (drawn @ sizes).reshape(-1, *(1,) * (values.ndim - 1))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    if values.ndim == 1:
        return Interval(float(values.mean()), float(low), float(high))
    return Interval(values.mean(0), low, high)
