"""Both simulators against traces of the original, and against its rules written out for one agent."""

import gzip
import json
import math

import numpy as np
import pytest

import dgmlab.prevalent.mattersim as MatterSim
from dgmlab.data.registry import data_home
from dgmlab.prevalent.house import House
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.simulator import Simulator
from dgmlab.prevalent.visibility import R2R_CAMERA, Camera

GOLDEN = data_home().parent / "golden" / "matterport"
CONNECTIVITY = data_home() / "matterport" / "connectivity"
real = pytest.mark.skipif(not CONNECTIVITY.is_dir(), reason="needs matterport/connectivity in DGMLAB_DATA")
golden = pytest.mark.skipif(not (GOLDEN.is_dir() and CONNECTIVITY.is_dir()), reason="needs golden/matterport and its graphs")
f32 = np.float32


def write_connectivity(house, folder):
    """The house as a file of the published format, and its entries."""
    entries = [dict(image_id=name, pose=[1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1], included=bool(included), height=1.5,
                    visible=row.tolist(), unobstructed=row.tolist())
               for name, (x, y, z), included, row in zip(house.viewpoints, house.position.tolist(), house.included,
                                                         house.unobstructed, strict=True)]
    (folder / f"{house.scan}_connectivity.json").write_text(json.dumps(entries))
    return entries


class Plain:
    """One agent, rule by rule as the reference states them, with no table and no array."""

    def __init__(self, entries, camera, discretized, restricted, limits):
        self.entries, self.discretized, self.restricted, self.limits = entries, discretized, restricted, limits
        width, height, vfov = camera
        self.cos_half = math.cos(vfov * width / height / 2.0)

    def start(self, ix, heading, elevation):
        self.ix, self.step, self.view = ix, 0, 0
        self.point(heading, elevation)

    def point(self, heading, elevation):
        heading = math.fmod(heading, math.pi * 2.0)
        while heading < 0.0:
            heading += math.pi * 2.0
        if self.discretized:
            step = math.floor(heading / (math.pi * 2.0 / 12) + 0.5)
            step = 0 if step == 12 else step
            heading = step * (math.pi * 2.0 / 12)
            level = 0 if elevation < -math.pi / 12 else 2 if elevation > math.pi / 12 else 1
            elevation, self.view = (level - 1) * math.pi / 6, level * 12 + step
        else:
            elevation = max(min(elevation, self.limits[1]), self.limits[0])
        self.heading, self.elevation = heading, elevation

    def act(self, index, heading, elevation):
        self.ix = self.nav()[index][0]
        self.step += 1
        if self.discretized:
            heading = math.copysign(math.pi * 2.0 / 12, heading) if heading else 0.0
            elevation = math.copysign(math.pi / 6, elevation) if elevation else 0.0
        self.point(self.heading + heading, self.elevation + elevation)

    def nav(self):
        """Rows (panorama, relative heading, relative elevation, distance) in order."""
        here = self.entries[self.ix]
        cx, cy = f32(math.cos(math.pi / 2 - self.heading)), f32(math.sin(math.pi / 2 - self.heading))
        found = [(self.ix, 0.0, 0.0, 0.0)]
        for j, there in enumerate(self.entries):
            if j == self.ix or not here["unobstructed"][j] or not there["included"]:
                continue
            x, y, z = (f32(there["pose"][k]) - f32(here["pose"][k]) for k in (3, 7, 11))
            flat = np.sqrt(x * x + y * y)
            with np.errstate(divide="ignore", invalid="ignore"):
                scale = f32(1) / flat
                cosine = float(x * scale * cx + y * scale * cy)
            if self.restricted and not cosine >= self.cos_half:
                continue
            turn = float(np.arctan2(x * cy - y * cx, x * cx + y * cy))
            found.append((j, turn, math.atan2(float(z), float(flat)) - self.elevation, float(np.sqrt(x * x + y * y + z * z))))
        return sorted(found, key=lambda place: math.sqrt(place[1] ** 2 + place[2] ** 2))


def adapter(folder, camera, discretized, restricted, limits, batch_size=1):
    sim = MatterSim.Simulator()
    sim.setNavGraphPath(str(folder))
    sim.setRenderingEnabled(False)
    sim.setCameraResolution(*camera[:2])
    sim.setCameraVFOV(camera[2])
    sim.setDiscretizedViewingAngles(discretized)
    sim.setRestrictedNavigation(restricted)
    assert sim.setElevationLimits(*limits)
    sim.setBatchSize(batch_size)
    sim.initialize()
    return sim


def agrees(sim, states, offset):
    """Asserts that the adapter's states and the simulator's arrays say the same."""
    near = sim.neighbours
    for agent, state in enumerate(states):
        n, first = near.count[agent], offset[state.scanId]
        assert state.location.ix + first == sim.row[agent] and state.viewIndex == sim.view[agent]
        assert state.step == sim.steps[agent]
        assert [place.ix + first for place in state.navigableLocations] == near.row[agent, :n].tolist()
        ours = np.array([place[-3:] for place in state.navigableLocations])
        theirs = np.stack([near.heading[agent, :n], near.elevation[agent, :n], near.distance[agent, :n]], 1)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
        assert (near.row[agent, n:] == -1).all() and not near.heading[agent, n:].any()


def is_as(state, ix, step, view, heading, elevation, nav):
    """Asserts that a state of the adapter is what was expected; nav as rows of `Plain.nav`."""
    assert (state.location.ix, state.step, state.viewIndex) == (ix, step, view)
    np.testing.assert_allclose([state.heading, state.elevation], [heading, elevation], rtol=0, atol=1e-9)
    assert [place.ix for place in state.navigableLocations] == [place[0] for place in nav]
    angles = [place[-3:] for place in state.navigableLocations]
    np.testing.assert_allclose(angles, [place[1:] for place in nav], rtol=0, atol=1e-6)


# the original


@golden
@pytest.mark.parametrize("name", ["disc", "cont"])
def test_every_state_of_the_original_comes_out(name):
    trace = json.loads(gzip.decompress((GOLDEN / f"{name}_restricted_640x480_60deg.json.gz").read_bytes()))
    config, walks = trace["config"], trace["walks"]
    houses = Houses([House.load(scan, CONNECTIVITY) for scan in trace["viewpoint_ids"]])
    camera = Camera(config["width"], config["height"], config["vfov"])
    settings = (camera, config["disc"], config["restr"], config["elevation_limits"])
    sim, module = Simulator(houses, len(walks), *settings), adapter(CONNECTIVITY, *settings, len(walks))
    fields = ("scan", "start", "heading", "elevation")
    scans, starts, headings, elevations = ([walk[field] for walk in walks] for field in fields)
    assert len(walks) == 120
    sim.reset([houses.row(*place) for place in zip(scans, starts, strict=True)], headings, elevations)
    module.newEpisode(scans, starts, headings, elevations)
    for t in range(13):
        states = module.getState()
        agrees(sim, states, houses.offset)
        for agent, (walk, state) in enumerate(zip(walks, states, strict=True)):
            expected = walk["states"][t]
            is_as(state, expected["ix"], expected["step"], expected["viewIndex"], expected["heading"], expected["elevation"],
                  expected["nav"])
            assert state.location.viewpointId == trace["viewpoint_ids"][walk["scan"]][expected["ix"]]
            np.testing.assert_allclose(state.location[2:5], expected["xyz"], rtol=0, atol=1e-6)
            assert abs(sim.heading[agent] - expected["heading"]) < 1e-9 > abs(sim.elevation[agent] - expected["elevation"])
        if t < 12:
            action = [list(column) for column in zip(*[walk["actions"][t] for walk in walks], strict=True)]
            sim.step(*action)
            module.makeAction(*action)


# its rules, with cameras, scans and modes drawn afresh


def compare_with_the_rules(scans, folder, rng, discretized, restricted, n_steps=12, n_agents=10):
    entries = {scan: json.loads((folder / f"{scan}_connectivity.json").read_text()) for scan in scans}
    houses = Houses([House.load(scan, folder) for scan in scans])
    camera = [Camera(), R2R_CAMERA, Camera(int(rng.integers(100, 900)), int(rng.integers(100, 900)), rng.uniform(0.3, 1.5))][
        rng.integers(3)]
    limits = [(-0.94, 0.94), (-rng.uniform(0.1, 1.5), rng.uniform(0.1, 1.5))][rng.integers(2)]
    sim = Simulator(houses, n_agents, camera, discretized, restricted, limits)
    module = adapter(folder, camera, discretized, restricted, limits, n_agents)
    rows = rng.choice(np.flatnonzero(houses.included), n_agents)
    headings = rng.choice([rng.uniform(-9, 9, n_agents), np.pi / 12 * rng.integers(-30, 30, n_agents)])
    elevations = rng.uniform(-1.6, 1.6, n_agents)
    names = [houses.name(row) for row in rows]
    plain = [Plain(entries[scan], camera, discretized, restricted, limits) for scan, _ in names]
    for agent, row, (scan, _), heading, elevation in zip(plain, rows, names, headings, elevations, strict=True):
        agent.start(row - houses.offset[scan], heading, elevation)
    sim.reset(rows, headings, elevations)
    module.newEpisode(*zip(*names, strict=True), headings, elevations)
    for _ in range(n_steps):
        agrees(sim, module.getState(), houses.offset)
        for number, (agent, state) in enumerate(zip(plain, module.getState(), strict=True)):
            is_as(state, agent.ix, agent.step, agent.view, agent.heading, agent.elevation, agent.nav())
            assert abs(sim.heading[number] - agent.heading) < 1e-9 > abs(sim.elevation[number] - agent.elevation)
        index = [int(rng.integers(len(agent.nav()))) for agent in plain]
        heading, elevation = rng.normal(0, 1, (2, n_agents)) * rng.integers(0, 2, (2, n_agents))
        for agent, *action in zip(plain, index, heading.tolist(), elevation.tolist(), strict=True):
            agent.act(*action)
        sim.step(index, heading, elevation)
        module.makeAction(index, heading, elevation)
    return sim.steps


@pytest.mark.parametrize("restricted", [True, False])
@pytest.mark.parametrize("discretized", [True, False])
def test_walks_on_toy_houses_follow_the_rules(tmp_path, discretized, restricted):
    for seed in (0, 1):
        write_connectivity(House.toy(seed), tmp_path)
    rng = np.random.default_rng()
    for _ in range(2):
        assert (compare_with_the_rules(["toy0", "toy1"], tmp_path, rng, discretized, restricted) == 12).all()


@real
@pytest.mark.parametrize("restricted", [True, False])
@pytest.mark.parametrize("discretized", [True, False])
def test_walks_on_real_houses_drawn_afresh_follow_the_rules(discretized, restricted):
    rng = np.random.default_rng()
    scans = rng.choice((CONNECTIVITY / "scans.txt").read_text().split(), 3, replace=False).tolist()
    compare_with_the_rules(scans, CONNECTIVITY, rng, discretized, restricted)
