"""Speed of the navigation simulator, against what others measured of the original: `dgmlab bench simulator houses`.

The peer is not run here: it needs a compiler, OpenGL and OpenCV. Its figures are agent-steps a second of a real build of
Matterport3DSimulator at commit 589d091 (rendering off, one process, discretised angles, 30 degree turns and moves), published
by others on other hardware, 2 cores of an unnamed CPU. Read the ratio with that in mind; targets are steps a second. Seconds
here are processor time of one thread, so that other work on the machine counts little.
"""

import math
import statistics
import time

import numpy as np

from dgmlab.bench import Result

ORIGINAL = "Matterport3DSimulator in C++, published by others on other hardware"
ONE, ONE_READ, SMALL_READ, LARGE_READ = 259e3, 178e3, 133e3, 92e3  # batch 1; batch 1, 64 and 256 with all neighbours read
LOADING = 0.65  # seconds in which it reads its 90 graphs
N_STEPS, N_ALONE, ROUNDS = 50, 5000, 11


def _scans():
    """Names of the real houses; none where their graphs are not at hand."""
    from dgmlab.data.registry import data_home

    listed = data_home() / "matterport" / "connectivity" / "scans.txt"
    return listed.read_text().split() if listed.is_file() else []


def _rated(name, ours, steps, seconds, published, at_least, check):
    """Result of some rounds, each of so many agent-steps; its seconds are those of a million."""
    rates = [steps / second for second in seconds]
    rate = statistics.median(rates)
    return Result(name, ours, ORIGINAL, 1e6 / rate, 1e6 / published, rate / published, min(rates) / published,
                  max(rates) / published, f">= {at_least:,.0f} steps/s", rate >= at_least,
                  f"{rate:,.0f} agent-steps/s here, {published:,.0f} there; {check}")


def _drawn(rng, batch_size):
    """Turns and tilts of one step, half of them none."""
    return rng.choice([-1.0, 0.0, 0.0, 1.0], (2, batch_size))


def _timed(begin, act, actions):
    """Processor seconds of each round of the same actions from the same start; the first round is not counted."""
    seconds = []
    for _ in range(ROUNDS + 1):
        begin()
        began = time.process_time()
        for action in actions:
            act(*action)
        seconds.append(time.process_time() - began)
    return seconds[1:]


def _batched(houses, batch_size, rng):
    """Seconds of each round of N_STEPS steps of the batch, neighbours and all."""
    from dgmlab.prevalent.simulator import Simulator

    sim = Simulator(houses, batch_size)
    rows = rng.choice(np.flatnonzero(houses.included), batch_size)
    sim.reset(rows)
    actions = []
    for _ in range(N_STEPS):
        actions.append((rng.integers(sim.neighbours.count), *_drawn(rng, batch_size)))
        sim.step(*actions[-1])
    return _timed(lambda: sim.reset(rows), sim.step, actions)


def _module():
    """The module's Simulator for one agent, with the camera of R2R and the graphs of the data folder."""
    from dgmlab.data.registry import data_home
    from dgmlab.prevalent import mattersim

    sim = mattersim.Simulator()
    sim.setNavGraphPath(str(data_home() / "matterport" / "connectivity"))
    sim.setRenderingEnabled(False)
    sim.setDiscretizedViewingAngles(True)
    sim.setCameraResolution(640, 480)
    sim.setCameraVFOV(math.radians(60))
    sim.initialize()
    return sim


def _alone(sim, scan, rng, read, n_steps):
    """Seconds of each round of one agent's steps and getState, its neighbours read or not."""
    sim.newRandomEpisode([scan])
    start = [scan], [sim.getState()[0].location.viewpointId], [0.0], [0.0]
    sim.newEpisode(*start)
    actions = []
    for _ in range(n_steps):
        index = int(rng.integers(len(sim.getState()[0].navigableLocations)))
        actions.append(([index], *_drawn(rng, 1).tolist()))
        sim.makeAction(*actions[-1])

    def act(*action):
        sim.makeAction(*action)
        state, = sim.getState()
        return state.navigableLocations if read else state

    return _timed(lambda: sim.newEpisode(*start), act, actions)


def _agreement(houses, sim, scan, rng, n_steps=500):
    """In words, how many states of one walk are the same in the arrays and in the module."""
    from dgmlab.prevalent.simulator import Simulator

    arrays = Simulator(houses)
    sim.newRandomEpisode([scan])
    state, = sim.getState()
    arrays.reset(houses.row(scan, state.location.viewpointId), state.heading, state.elevation)
    same = 0
    for _ in range(n_steps):
        index, (turn, tilt) = rng.integers(arrays.neighbours.count), _drawn(rng, 1)
        arrays.step(index, turn, tilt)
        sim.makeAction(index.tolist(), turn.tolist(), tilt.tolist())
        state, = sim.getState()
        rows = [houses.offset[scan] + place.ix for place in state.navigableLocations]
        same += arrays.view[0] == state.viewIndex and arrays.neighbours.row[0, : len(rows)].tolist() == rows
    return f"{same} of {n_steps} states equal in arrays and module"


def simulator():
    """Agent-steps a second at batch 1 by the original's own interface, and at 64 and 16,384 by arrays; neighbours are read.

    On all real houses (the single agent in the first of them); without their files on toy houses, and by arrays alone.
    """
    from dgmlab.prevalent.houses import Houses

    scans, rng, results = _scans(), np.random.default_rng(0), []
    houses = Houses.load(scans) if scans else Houses.toy(range(20))
    check = f"{len(houses.scans)} houses"
    if scans:
        module = _module()
        check = f"{check}, {_agreement(houses, module, scans[0], rng)}"
        for read, published in ((False, ONE), (True, ONE_READ)):
            name = f"simulator, batch of 1 by mattersim, neighbours {'read' if read else 'not read'}"
            seconds = _alone(module, scans[0], rng, read, N_ALONE)
            results.append(_rated(name, "makeAction, getState", N_ALONE, seconds, published, 50e3, check))
    for batch_size, published, at_least, note in ((64, SMALL_READ, 1.8e6, ""), (16_384, LARGE_READ, 8e6, "; there 256")):
        name, seconds = f"simulator, batch of {batch_size:,}, neighbours read", _batched(houses, batch_size, rng)
        results.append(_rated(name, "Simulator.step", N_STEPS * batch_size, seconds, published, at_least, check + note))
    return results


def houses():
    """Loading the 90 houses with edges, candidates and shortest paths: from the cache, and from their files."""
    from dgmlab.prevalent.house import House
    from dgmlab.prevalent.houses import Houses

    scans = _scans()
    if not scans:
        print("houses: not run; it needs matterport/connectivity in the data folder.")
        return []
    results = []
    Houses.load(scans)  # writes the cache
    for name, load, limit in (("from the cache", lambda: Houses.load(scans), 1.0),
                              ("from their files", lambda: Houses([House.load(scan) for scan in scans]), 3.0)):
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            table = load()
            seconds.append(time.perf_counter() - began)
        median = statistics.median(seconds)
        results.append(Result(f"loading 90 houses {name}", "Houses", f"{ORIGINAL}: graphs alone", median, LOADING,
                              LOADING / median, LOADING / max(seconds), LOADING / min(seconds), f"<= {limit:g} s",
                              median <= limit, f"{table.included.sum():,} panoramas"))
    return results
