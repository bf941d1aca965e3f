"""The panoramic action space: B walkers that choose among the candidates of their panorama, or stop.

    walk = Walk(houses, rows, headings)
    while not walk.ended.all():
        walk.move(choice)                        (B,) int: 0 stops, i goes to candidate i - 1 of the row
    walk.trails                                  rows that were visited, the start first

Candidates are those of R2R-EnvDrop (Tan et al. 2019, see `candidates`): a move turns the camera to the view that the candidate
is best seen in, goes there, and keeps that view's heading and elevation. Nothing is drawn and nothing is simulated: a
move is a look-up in two tables. For the camera's own turns see `simulator`.
"""

import copy

import numpy as np

from dgmlab.prevalent.simulator import check_starts, nearest_view, with_values
from dgmlab.prevalent.visibility import VIEW_ELEVATION, VIEW_HEADING

STOP = 0  # action 0 is STOP everywhere


class Walk:
    """B walkers in the houses of one table.

    houses      Houses; a panorama is a row of it
    rows        (B,) int where they start
    headings    (B,) or one: radians, snapped to a view as the simulator does; elevations so too, level by default

    row         (B,) int64 panorama; like all arrays here replaced by a move, never written
    view        (B,) int64 view index 0..35
    ended       (B,) bool has stopped
    """

    def __init__(self, houses, rows, headings=0.0, elevations=None):
        self.houses = houses
        n = len(rows)
        self.row, self.view, self.ended = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool)
        self._ends = np.full(n, None)  # last link of each trail: (link before, row); copies share what they have in common
        self.reset(np.arange(n), rows, headings, elevations)

    def __len__(self):
        return len(self.row)

    def reset(self, walkers, rows, headings=0.0, elevations=None):
        """Some walkers, (A,) int, start anew; nobody does where anything is wrong."""
        elevations = 0.0 if elevations is None else elevations
        rows, headings, elevations = (np.broadcast_to(x, len(walkers)) for x in (rows, headings, elevations))
        check_starts(self.houses, rows, headings, elevations)
        self.row, self.view = with_values(self.row, walkers, rows), with_values(
            self.view, walkers, nearest_view(headings, elevations))
        self.ended = with_values(self.ended, walkers, False)
        self._ends = self._ends.copy()
        for walker, row in zip(walkers, rows.tolist(), strict=True):
            self._ends[walker] = (None, row)

    @property
    def heading(self):
        """(B,) float64 radians."""
        return VIEW_HEADING[self.view]

    @property
    def elevation(self):
        """(B,) float64 radians."""
        return VIEW_ELEVATION[self.view]

    @property
    def mask(self):
        """(B, K + 1) bool: True where the action exists; STOP always does."""
        candidates = self.houses.candidates
        return np.arange(candidates.index.shape[1] + 1) <= candidates.count[self.row, None]

    def move(self, choice, walkers=None):
        """One action of every walker that has not ended; nobody moves where one is wrong.

        choice   (B,) int: 0 stops, i goes to candidate i - 1; ignored where the walker has ended
        walkers  (A,) int: these alone act, and `choice` is (A,); all by default
        IndexError where a walker that has not ended chooses what does not exist
        """
        walkers = np.arange(len(self)) if walkers is None else np.asarray(walkers)
        choice = np.asarray(choice)
        if choice.dtype.kind not in "iu" or choice.shape != walkers.shape:
            raise TypeError(f"choice was expected as {len(walkers)} whole numbers, found {choice.dtype} of the shape "
                            f"{choice.shape}; nobody moved.")
        active = ~self.ended[walkers]
        walkers, choice = walkers[active], choice[active]
        candidates, row = self.houses.candidates, self.row[walkers]
        wrong = (choice < 0) | (choice > candidates.count[row])
        if wrong.any():
            first = wrong.argmax()
            scan, viewpoint = self.houses.name(row[first])
            raise IndexError(f"walker {walkers[first]} of {len(self)} chose action {choice[first]}, but viewpoint {viewpoint} "
                             f"of house {scan} has 0..{candidates.count[row[first]]} (0 is to stop); nobody moved.")
        self.ended = with_values(self.ended, walkers, choice == STOP)
        going = choice != STOP
        walkers, row, slot = walkers[going], row[going], choice[going] - 1
        there = candidates.index[row, slot]
        self.row, self.view = with_values(self.row, walkers, there), with_values(
            self.view, walkers, candidates.view[row, slot])
        self._ends = self._ends.copy()
        for walker, place in zip(walkers.tolist(), there.tolist(), strict=True):
            self._ends[walker] = (self._ends[walker], place)

    @property
    def trails(self):
        """Of each walker the list of rows it has been at, the start first."""
        return [_unrolled(end) for end in self._ends]

    def copy(self):
        """A walk in the same place that goes its own way from here."""
        return copy.copy(self)

    def take(self, indices):
        """The walk of some walkers, in any order and any number of times, as beams need it."""
        taken = copy.copy(self)
        for name in ("row", "view", "ended", "_ends"):
            setattr(taken, name, getattr(self, name)[indices])
        return taken


def _unrolled(link):
    trail = []
    while link is not None:
        link, row = link
        trail.append(row)
    return trail[::-1]
