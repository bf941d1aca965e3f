"""The paths that are worth an instruction: every shortest path of 4 to 6 edges and at least 5 m.

This is the rule by which R2R was sampled (Anderson et al. 2018). Taken of all ordered pairs of panoramas in the 61 training
houses of R2R it gives the 178,300 paths that Speaker-Follower (Fried et al. 2018) published as `data_augmentation_paths` and
that Prevalent (Hao et al. 2020) was pre-trained on: 53,486 of 4 edges, 60,750 of 5 and 64,064 of 6, with 1,080,378 panoramas.
"""

from typing import NamedTuple

import numpy as np


class RowPaths(NamedTuple):
    """Paths of rows of a `Houses` table, one after the other.

    rows     (S,) int32 rows of all paths
    offsets  (n + 1,) int64; path i is rows[offsets[i]:offsets[i + 1]]
    """

    rows: np.ndarray
    offsets: np.ndarray

    @property
    def n(self):
        return len(self.offsets) - 1

    @property
    def edges(self):
        """(n,) int64 edges of each path."""
        return np.diff(self.offsets) - 1

    def path(self, i):
        """(edges + 1,) int32 rows of path i; a negative i counts from the end."""
        i = range(self.n)[i]
        return self.rows[self.offsets[i]:self.offsets[i + 1]]

    def block(self, start, stop):
        """Paths start..stop-1 as RowPaths of their own, on the same memory."""
        offsets = self.offsets[start:stop + 1]
        return RowPaths(self.rows[offsets[0]:offsets[-1]], offsets - offsets[0])

    def blocks(self, size):
        """Iterate over all paths, `size` at a time (the last may be shorter). -> iterator of RowPaths"""
        return (self.block(start, min(start + size, self.n)) for start in range(0, self.n, size))


def augmentation_paths(houses, min_edges=4, max_edges=6, min_length=5.0):
    """All shortest paths between two panoramas of a house that are long enough, in both directions.

    houses      Houses, for instance of the scans in R2R's train split
    min_edges, max_edges  edges of the path, both inclusive
    min_length  metres along the path, at least
    -> RowPaths, ordered by house, start, end
    """
    if not 1 <= min_edges <= max_edges:
        raise ValueError(f"expected 1 <= min_edges <= max_edges, found {min_edges} and {max_edges}. Exchange or raise them.")
    found = [_paths_of(house, houses.offset[scan], min_edges, max_edges, min_length) for scan, house in houses.houses.items()]
    edges = np.concatenate([edges for _, edges in found])
    return RowPaths(np.concatenate([rows for rows, _ in found]), np.concatenate([[0], np.cumsum(edges + 1)]))


def _paths_of(house, first_row, min_edges, max_edges, min_length):
    """Rows (S,) int32 of the eligible paths of one house, and their edges (n,)."""
    far = np.isfinite(house.distance) & (house.distance >= min_length)
    start, goal = np.nonzero(far)
    walk = np.empty((len(start), max_edges + 1), dtype=np.int32)  # panorama after 0, 1, ... edges; it stays at the goal
    walk[:, 0] = start
    for step in range(max_edges):
        walk[:, step + 1] = house.next_hop[walk[:, step], goal]
    edges = (walk != goal[:, None]).sum(1)
    chosen = (edges >= min_edges) & (edges <= max_edges)
    walk, edges = walk[chosen], edges[chosen]
    return walk[np.arange(max_edges + 1) <= edges[:, None]] + np.int32(first_row), edges
