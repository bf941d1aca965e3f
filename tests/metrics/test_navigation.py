"""Navigation scores: the golden cases of a real evaluation, answers worked out by hand, properties of random paths."""

import gzip
import json
import math

import numpy as np
import pytest
from scipy.sparse.csgraph import shortest_path

from dgmlab.data.registry import data_home
from dgmlab.metrics.navigation import (
    Interval,
    cls,
    cluster_interval,
    coverage,
    dtw,
    goal_progress,
    help_requests,
    length_score,
    nav_error,
    ndtw,
    oracle_error,
    path_length,
    path_scores,
    success_by_length,
    within,
)
from dgmlab.metrics.text import bootstrap_interval

GOLDEN = data_home().parent / "golden" / "matterport" / "metrics_cases.json.gz"
CONNECTIVITY = data_home() / "matterport" / "connectivity"
NAMES = {"nav_error": "nav_error", "oracle_error": "oracle_error", "trajectory_length": "trajectory_length",
         "success_rate": "success", "oracle_success_rate": "oracle_success", "spl": "spl_r2r_shortest",
         "spl_reference": "spl_hamt_gtpath", "dtw": "dtw",
         "ndtw": "ndtw", "sdtw": "sdtw", "coverage": "coverage", "cls": "cls"}


def line(*positions):
    """Distances between panoramas on a straight line, given their metres."""
    at = np.array(positions, dtype=float)
    return abs(at[:, None] - at[None])


def graph(rng, n=12):
    """Shortest distances of a random connected graph of n panoramas, and its edges as a list of neighbours."""
    at = rng.uniform(0, 10, (n, 3))
    weights = np.full((n, n), np.inf)
    for i in range(1, n):
        for j in {int(rng.integers(i)), int(rng.integers(i))}:
            weights[i, j] = weights[j, i] = np.linalg.norm(at[i] - at[j])
    return shortest_path(np.where(np.isinf(weights), 0, weights), directed=False), np.isfinite(weights)


def walk(rng, edges, length):
    path = [int(rng.integers(len(edges)))]
    for _ in range(length):
        path.append(int(rng.choice(np.flatnonzero(edges[path[-1]]))))
    return path


def real_distance(scan):
    """Shortest distances of a house straight from its connectivity file, by scipy, and the positions of its viewpoints."""
    nodes = json.loads((CONNECTIVITY / f"{scan}_connectivity.json").read_text())
    at = np.array([[node["pose"][k] for k in (3, 7, 11)] for node in nodes])
    included = np.array([node["included"] for node in nodes])
    edges = np.array([node["unobstructed"] for node in nodes]) & included & included[:, None]
    metres = np.linalg.norm(at[:, None] - at[None], axis=-1)
    return shortest_path(np.where(edges, metres, 0)), {node["image_id"]: i for i, node in enumerate(nodes)}


@pytest.mark.skipif(not (GOLDEN.is_file() and CONNECTIVITY.is_dir()), reason="needs golden/matterport and connectivity/")
def test_golden_cases_agree_to_a_billionth():
    cases = json.loads(gzip.decompress(GOLDEN.read_bytes()))["cases"]
    assert len(cases) == 60 and {case["kind"] for case in cases} >= {"exact", "stop", "detour", "stuttered"}
    houses = {scan: real_distance(scan) for scan in {case["scan"] for case in cases}}
    for case in cases:
        distance, index = houses[case["scan"]]
        reference, path = ([index[viewpoint] for viewpoint in case[key]] for key in ("reference", "prediction"))
        scores = path_scores(distance, path, reference)
        for ours, theirs in NAMES.items():
            right = pytest.approx(case["expected"][theirs], abs=1e-9)
            assert getattr(scores, ours) == right, (case["path_id"], case["kind"], ours)
        assert nav_error(distance, path, reference[-1]) == scores.nav_error
        assert oracle_error(distance, path, reference[-1]) == scores.oracle_error
        assert ndtw(distance, path, reference) == scores.ndtw and cls(distance, path, reference) == scores.cls


def test_scores_of_an_overshooting_path_by_hand():
    distance = line(0, 4, 8, 10)  # reference 0-4-8, the path goes two metres too far
    scores = path_scores(distance, [0, 1, 2, 3], [0, 1, 2])
    assert scores.nav_error == 2 and scores.oracle_error == 0 and scores.trajectory_length == 10
    assert scores.success_rate == 1 and scores.oracle_success_rate == 1
    assert scores.spl == pytest.approx(8 / 10) and scores.spl_reference == pytest.approx(8 / 10)
    assert scores.dtw == 2 and scores.ndtw == pytest.approx(math.exp(-2 / 9)) and scores.sdtw == scores.ndtw
    assert scores.coverage == 1 and scores.cls == pytest.approx(8 / (8 + 2)) and scores.goal_progress == 8 - 2


def test_a_path_that_stops_short_by_hand():
    distance = line(0, 4, 8)
    scores = path_scores(distance, [0, 1], [0, 1, 2])
    assert scores.nav_error == 4 and scores.success_rate == scores.spl == scores.sdtw == 0
    assert scores.dtw == 4 and scores.ndtw == pytest.approx(math.exp(-4 / 9)) and scores.goal_progress == 4
    covered = (1 + 1 + math.exp(-4 / 3)) / 3
    expected = covered * 8
    assert scores.coverage == pytest.approx(covered)
    assert scores.cls == pytest.approx(covered * expected / (expected + abs(expected - 4)))


def test_the_two_conventions_of_spl_differ_on_a_reference_with_a_detour():
    distance = line(0, 5, 9)
    scores = path_scores(distance, [0, 1], [0, 2, 1])  # the reference goes on to 9 and comes back: 13 m for 5
    assert scores.success_rate == 1 and scores.spl == 1 and scores.spl_reference == 1
    long_way = path_scores(distance, [0, 2, 1], [0, 2, 1])
    assert long_way.spl == pytest.approx(5 / 13) and long_way.spl_reference == 1


def test_success_is_strict_at_three_metres_and_may_include_two():
    assert not within(3.0) and within(np.nextafter(3.0, 0)) and within(2.0, 2.0, inclusive=True) and not within(2.0, 2.0)
    assert within(np.array([2.9, 3.0, 3.1])).tolist() == [True, False, False]
    distance = line(0, 3, 6)
    assert path_scores(distance, [0, 1], [0, 1, 2]).success_rate == 0
    assert path_scores(distance, [0, 1], [0, 1, 2], inclusive=True).success_rate == 1


def test_guards_where_nothing_has_to_be_walked():
    assert success_by_length(True, 0.0, 0.0) == 0.0, "R2R: l / max(l, p, 0.01)"
    assert success_by_length(True, 0.0, 0.0, standing=1.0) == 1.0, "NDH: standing is right"
    assert success_by_length(True, 5.0, 0.0, standing=1.0) == 0.0
    assert success_by_length(True, 0.004, 0.005) == pytest.approx(0.5), "no denominator below a centimetre"
    assert length_score(0.0, 0.0) == 1.0 and length_score(1.0, 0.0) == 0.0
    assert path_scores(line(0, 1), [0], [0]).cls == 1.0


def test_of_several_goals_the_nearest_counts():
    distance = line(0, 10, 14, -3)
    assert goal_progress(distance, [0, 1], [2]) == 14 - 4
    assert goal_progress(distance, [0, 1], [2, 3]) == 3 - 4, "the goal near the start was left behind"
    assert nav_error(distance, [0, 1], [2, 3]) == 4 and oracle_error(distance, [0, 1], [2, 3]) == 3


def test_standing_still_costs_no_length_but_warps_nothing():
    distance = line(0, 4, 8)
    still = [0, 0, 1, 1, 1, 2]
    assert path_length(distance, still) == 8 and dtw(distance, still, [0, 1, 2]) == 0
    assert path_scores(distance, still, [0, 1, 2]) == path_scores(distance, [0, 1, 2], [0, 1, 2])


def slow_dtw(costs, i, j):
    """The recursion as it is written in the paper."""
    if i < 0 and j < 0:
        return 0.0
    if i < 0 or j < 0:
        return math.inf
    return costs[i, j] + min(slow_dtw(costs, i - 1, j), slow_dtw(costs, i, j - 1), slow_dtw(costs, i - 1, j - 1))


@pytest.mark.parametrize("seed", range(5))
def test_random_paths_keep_the_order_of_scores(seed):
    rng = np.random.default_rng(seed)
    distance, edges = graph(rng)
    for _ in range(20):
        path, reference = walk(rng, edges, int(rng.integers(0, 5))), walk(rng, edges, int(rng.integers(1, 5)))
        path[0] = reference[0]
        scores = path_scores(distance, path, reference)
        assert 0 <= scores.spl <= scores.success_rate <= scores.oracle_success_rate <= 1
        assert scores.spl_reference <= scores.success_rate and scores.sdtw <= scores.ndtw <= 1
        assert scores.cls <= scores.coverage <= 1 and scores.oracle_error <= scores.nav_error
        assert scores.goal_progress <= scores.trajectory_length + 1e-9
        assert dtw(distance, path, reference) == pytest.approx(dtw(distance, reference, path))
        costs = distance[np.ix_(path, reference)]
        assert scores.dtw == pytest.approx(slow_dtw(costs, len(path) - 1, len(reference) - 1))
        same = path_scores(distance, reference, reference)
        assert same.ndtw == same.coverage == 1 and same.spl_reference == same.success_rate * (same.trajectory_length > 0)
        assert coverage(distance, path, reference) == scores.coverage


def test_help_requests_are_counted():
    assert help_requests([False, True, True, False]) == 2 and help_requests([]) == 0


def test_intervals_over_clusters_are_as_wide_as_the_clusters_are_few():
    rng = np.random.default_rng(0)
    paths = rng.random(200) < 0.4
    values = np.repeat(paths, 3).astype(float)  # three instructions of a path succeed together
    alone = bootstrap_interval(values)
    together = cluster_interval(values, np.repeat(np.arange(200), 3))
    assert together.mean == pytest.approx(values.mean()) and together.low < together.mean < together.high
    ratio = (together.high - together.low) / (alone[1] - alone[0])
    assert ratio == pytest.approx(math.sqrt(3), rel=0.15)
    single = cluster_interval(values, range(600))
    assert single.high - single.low == pytest.approx(alone[1] - alone[0], rel=0.15)


def test_intervals_weigh_clusters_by_their_episodes_and_take_columns():
    values = np.array([[1.0, 10.0], [1.0, 10.0], [1.0, 10.0], [0.0, 20.0]])
    found = cluster_interval(values, ["a", "a", "a", "b"], n_draws=4000)
    assert found.mean.tolist() == [0.75, 12.5]
    assert found.low.tolist() == [0.0, 10.0] and found.high.tolist() == [1.0, 20.0]
    constant = cluster_interval(np.ones(5), range(5))
    assert constant == Interval(1.0, 1.0, 1.0)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        success = (rng.random(60) < 0.3).repeat(3).astype(float)
        found = cluster_interval(success, np.repeat(np.arange(60), 3), n_draws=300, seed=trial)
        hits += found.low <= 0.3 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_an_interval_refuses_what_it_cannot_average():
    with pytest.raises(ValueError, match="one cluster an episode and at least one, found 0 episodes"):
        cluster_interval([], [])
    with pytest.raises(ValueError, match="found 2 episodes and 3 clusters"):
        cluster_interval([1.0, 2.0], [0, 1, 2])
    with pytest.raises(ValueError, match="found 1 that are infinite or NaN"):
        cluster_interval([1.0, math.inf], [0, 1])
