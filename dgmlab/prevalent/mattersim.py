"""The Python module of Matterport3DSimulator without a compiler: `import dgmlab.prevalent.mattersim as MatterSim`.

    sim = MatterSim.Simulator()                     v0.2: batched            v0.1: one agent
    sim.setNavGraphPath("connectivity")
    sim.setRenderingEnabled(False)
    sim.setDiscretizedViewingAngles(True)
    sim.setCameraResolution(640, 480); sim.setCameraVFOV(math.radians(60))
    sim.setBatchSize(2); sim.initialize()           initialize()             init()
    sim.newEpisode([scan, scan], [a, b], [0, 0], [0, 0])                     newEpisode(scan, a, 0, 0)
    sim.makeAction([1, 0], [0, 1], [0, 0])                                   makeAction(1, 0, 0)
    sim.getState()[0].navigableLocations                                     getState().navigableLocations

Both generations of the original (Anderson et al. 2018; v0.2 at commit 589d091, and the tag v0.1 that EnvDrop, PREVALENT and
Recurrent-VLN-BERT use) give the same numbers, and so does this. Agents are stepped one by one in plain Python, which for a
single one is faster than any array; for hundreds of agents use `dgmlab.prevalent.simulator`.

What the original does, and what happens here:
- its graphs, their path and the seed are one for the whole process: each Simulator has its own (files are read once, though);
- newRandomEpisode draws the same heading at every call: drawn from the simulator's own generator, seeded by setSeed, as is
  the viewpoint; the draws themselves are Python's, not those of the C++ library;
- states are live, and a move sets the angles of what was navigable to 0: a state is a snapshot that never changes;
- a bad index leaves earlier agents of the batch already moved: nobody moves;
- setters after initialize are ignored without a word: ignored with a warning, until close;
- a second initialize doubles the batch: it does nothing. makeAction and getState before newEpisode: always RuntimeError;
- an exception is of the type that the original throws, with its words first;
- pictures are black as with rendering switched off; rendering is on by default, and then initialize says that there is none.
  `cbf`, a filter of depth images, is not here;
- where "./connectivity" does not exist, the default path is matterport/connectivity of the data folder.
"""

import math
import operator
import random
import time
import warnings
from functools import lru_cache
from pathlib import Path

from dgmlab.data.registry import data_home
from dgmlab.prevalent.house import House
from dgmlab.prevalent.mattersim_state import TURN, Continuous, Discretized, SimState, ViewPoint
from dgmlab.prevalent.simulator import ELEVATION_LIMITS
from dgmlab.prevalent.visibility import Camera

__all__ = ["SimState", "Simulator", "ViewPoint"]

@lru_cache(maxsize=512)
def _house(folder, scan, _modified):
    return House.load(scan, folder)


@lru_cache(maxsize=512)
def _building(folder, scan, modified, camera, restricted, discretized, limits):
    """What simulators with the same settings share; made again when the file changes."""
    house = _house(folder, scan, modified)
    return Discretized(house, camera, restricted) if discretized else Continuous(house, camera, restricted, limits)


class Simulator:
    """The original's class. Arguments are lists, one entry an agent, after `initialize`; single values after `init`.

    TypeError   single values for lists and the other way round; a negative index of a batch; a list for init's simulator
    IndexError  a scan that is not there (v0.1: ValueError); lists shorter than the batch
    ValueError  a viewpoint that is unknown or excluded; an index that is not navigable; no graphs at the path
    RuntimeError  makeAction or getState before newEpisode; rendering
    """

    def __init__(self):
        self._width, self._height, self._vfov = Camera()
        self._limits = ELEVATION_LIMITS
        self._folder, self._batch_size, self._seed = None, 1, 1
        self._rendering, self._discretized, self._restricted = True, False, True
        self._single = None  # True after init, False after initialize, None before either
        self._states = None

    def _set(self, **settings):
        """Keep settings; after initialize they are ignored."""
        if self._single is not None:
            warnings.warn("a setting was made after initialize and is ignored; make it before, or call close first",
                          stacklevel=3)
            return False
        for name, value in settings.items():
            setattr(self, f"_{name}", value)
        return True

    def setNavGraphPath(self, path):
        """Folder of the connectivity files."""
        self._set(folder=Path(path))

    def setDatasetPath(self, path):
        """Folder of the pictures, which are not used here."""
        self._set()

    def setRenderingEnabled(self, value):
        """On by default as in the original; must be switched off here."""
        self._set(rendering=bool(value))

    def setCameraResolution(self, width, height):
        """Pixels; 320 x 240 by default."""
        self._set(width=operator.index(width), height=operator.index(height))

    def setCameraVFOV(self, vfov):
        """Vertical field of view in radians; 0.8 by default."""
        self._set(vfov=float(vfov))

    def setElevationLimits(self, min, max):
        """Radians, of continuous angles -> whether they were accepted: -pi/2 < min < 0 < max < pi/2."""
        return -math.pi / 2 < min < 0 < max < math.pi / 2 and self._set(limits=(float(min), float(max)))

    def setDiscretizedViewingAngles(self, value):
        """Steps of 30 degrees; off by default."""
        self._set(discretized=bool(value))

    def setRestrictedNavigation(self, value):
        """Only what is in the picture is navigable; on by default."""
        self._set(restricted=bool(value))

    def setPreloadingEnabled(self, value):
        """Of pictures, which are not used here."""
        self._set()

    def setDepthEnabled(self, value):
        """Of pictures, which are not used here."""
        self._set()

    def setBatchSize(self, size):
        """Number of agents; 1 by default."""
        if operator.index(size) < 1:
            raise ValueError(f"a batch has 1 agent or more, found {size}.")
        self._set(batch_size=operator.index(size))

    def setCacheSize(self, size):
        """Of pictures, which are not used here."""
        self._set()

    def setSeed(self, seed):
        """Of random episodes; 1 by default."""
        self._set(seed=operator.index(seed))

    def initialize(self):
        """Begin, with lists from here on."""
        self._begin(single=False)

    def init(self):
        """Begin as v0.1: one agent, single values from here on."""
        if self._batch_size != 1:
            raise ValueError(f"init is for one agent, but the batch size is {self._batch_size}. Call initialize.")
        self._begin(single=True)

    def _begin(self, single):
        if self._rendering:
            raise RuntimeError("MatterSim: there are no pictures here; rendering is on, as it is by default. "
                               "Call setRenderingEnabled(False) before initialize.")
        if self._single is None:
            self._camera = Camera(self._width, self._height, self._vfov).checked()
            if self._folder is None:
                here = Path("connectivity")
                self._folder = here if here.is_dir() else data_home() / "matterport" / "connectivity"
            self._buildings, self._random, self._single = {}, random.Random(self._seed), single
            self.resetTimers()

    def newEpisode(self, scanId, viewpointId="", heading=0.0, elevation=0.0):
        """Start episodes: scans, viewpoints, radians, radians; nobody starts where anything is wrong.

        v0.1 alone: a viewpoint of "" is drawn at random, and is the default.
        """
        if self._single is None and not isinstance(scanId, str):
            self.initialize()
        scans, viewpoints, headings, elevations = self._lists(scanId, viewpointId, heading, elevation)
        states = []
        for scan, viewpoint, h, e in zip(scans, viewpoints, headings, elevations, strict=True):
            if not (math.isfinite(h) and math.isfinite(e)):
                raise ValueError(f"heading and elevation were expected in radians, found {h} and {e}.")
            building = self._building(scan)
            at_random = self._single and not viewpoint
            ix = self._random.choice(building.included()) if at_random else building.index(viewpoint)
            states.append(building.start(ix, h, e))
        self._states = states

    def newRandomEpisode(self, scanId):
        """Start episodes at included viewpoints and headings that are drawn anew; elevation 0."""
        if self._single is None and not isinstance(scanId, str):
            self.initialize()
        buildings = [self._building(scan) for scan in self._lists(scanId)[0]]
        self._states = [building.start(self._random.choice(building.included()), self._random.uniform(0.0, TURN), 0.0)
                        for building in buildings]

    def makeAction(self, index, heading, elevation):
        """Move to navigableLocations[index] (0: stay), then turn right and tilt up; nobody moves where anything is wrong.

        With discretised angles the signs of heading and elevation make one step of 30 degrees; else radians are added.
        """
        if self._states is None:
            raise RuntimeError("MatterSim: newEpisode must be called before makeAction")
        if self._single:
            index, heading, elevation = (index,), (heading,), (elevation,)
        else:
            try:
                complete = min(len(index), len(heading), len(elevation)) >= self._batch_size
            except TypeError:
                complete = False
            if not complete:
                self._lists(index, heading, elevation)  # says what is wrong
        states = []
        for agent, state in enumerate(self._states):
            choice = operator.index(index[agent])
            after = state.building.after(state, choice, heading[agent], elevation[agent])
            if after is None:
                raise self._invalid(choice, agent)
            states.append(after)
        self._states = states
        self._actions += 1

    def _invalid(self, choice, agent):
        if choice < 0 and not self._single:
            return TypeError(f"index {choice} of environment {agent} is negative, expected 0 or more; nobody moved.")
        batch = "" if self._single else f" in environment {agent} of {self._batch_size}"
        n = len(self._states[agent].navigableLocations)
        return ValueError(f"MatterSim: Invalid action index: {choice}{batch} (navigable: 0..{n - 1}); nobody moved.")

    def getState(self):
        """List of SimState; after init, one SimState."""
        if self._states is None:
            raise RuntimeError("MatterSim: newEpisode must be called before getState")
        return self._states[0] if self._single else list(self._states)

    def close(self):
        """End; settings can be made again."""
        self._single = self._states = None

    def resetTimers(self):
        """Begin to count anew, for timingInfo."""
        self._actions, self._since = 0, time.perf_counter()

    def timingInfo(self):
        """What was done since initialize or resetTimers, in words."""
        if self._single is None:
            return "Not initialized"
        seconds, steps = time.perf_counter() - self._since, self._actions * self._batch_size
        return f"Rendered 0 frames\nWall time: {1000 * seconds:g} ms, {steps} agent-steps ({steps / seconds:g} a second)"

    def _lists(self, *arguments):
        """Arguments as lists of the batch's length, whichever the generation."""
        if self._single:
            return [[argument] for argument in arguments]
        if self._single is None or any(isinstance(x, str) or not hasattr(x, "__len__") for x in arguments):
            raise TypeError(f"lists were expected, one entry for each of {self._batch_size} agents. Give lists, or call init "
                            "instead of initialize for the interface of v0.1 with single values.")
        for argument in arguments:
            if len(argument) < self._batch_size:
                raise IndexError(f"vector::_M_range_check: a list has {len(argument)} entries, expected one for each of "
                                 f"{self._batch_size} agents.")
        return [list(argument)[: self._batch_size] for argument in arguments]

    def _building(self, scan):
        """What one scan looks like through this camera."""
        if not isinstance(scan, str):
            raise TypeError(f"a scan was expected as a name, found {scan!r}.")
        if scan not in self._buildings:
            file = self._folder / f"{scan}_connectivity.json"
            if not any(self._folder.glob("*_connectivity.json")):
                raise ValueError(f"MatterSim: Could not open list of scans at: {self._folder}, is path valid? Expected "
                                 f"{file.name} and its like there.")
            if not file.is_file():
                error = ValueError if self._single else IndexError
                raise error(f"map::at: no scan '{scan}' in {self._folder}, expected {file.name}. Check the name and the path.")
            self._buildings[scan] = _building(str(self._folder.resolve()), scan, file.stat().st_mtime_ns, self._camera,
                                              self._restricted, self._discretized, self._limits)
        return self._buildings[scan]
