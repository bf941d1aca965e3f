"""The original's Python interface, both generations, and where it does better; test_traces.py holds its numbers."""

import json
import math

import numpy as np
import pytest

import dgmlab.prevalent.mattersim as MatterSim
from dgmlab.prevalent.house import House


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Connectivity files of two toy houses; panorama 3 of the first is excluded."""
    folder = tmp_path_factory.mktemp("connectivity")
    for seed in (0, 1):
        write(folder, House.toy(seed), excluded=3 if seed == 0 else None)
    return folder


def write(folder, house, excluded=None):
    entries = [dict(image_id=name, pose=[1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1], included=ix != excluded, height=1.5,
                    visible=row, unobstructed=row)
               for ix, (name, (x, y, z), row) in enumerate(zip(house.viewpoints, house.position.tolist(),
                                                               house.unobstructed.tolist(), strict=True))]
    (folder / f"{house.scan}_connectivity.json").write_text(json.dumps(entries))


HOUSE = House.toy(0)
A, B = (HOUSE.viewpoints[i] for i in HOUSE.edges[-1])


def module(folder, batch_size=1, discretized=True):
    sim = MatterSim.Simulator()
    sim.setDatasetPath("nowhere")
    sim.setNavGraphPath(str(folder))
    sim.setRenderingEnabled(False)
    sim.setDepthEnabled(False)
    sim.setPreloadingEnabled(False)
    sim.setCacheSize(10)
    sim.setDiscretizedViewingAngles(discretized)
    sim.setRestrictedNavigation(False)
    sim.setCameraResolution(640, 480)
    sim.setCameraVFOV(math.radians(60))
    sim.setBatchSize(batch_size)
    return sim


def pose(state):
    return (state.scanId, state.location.viewpointId, state.step, state.viewIndex, state.heading, state.elevation,
            tuple(state.navigableLocations))


@pytest.mark.parametrize("discretized", [True, False])
def test_both_generations_walk_the_same_way(folder, discretized):
    one, many = module(folder, discretized=discretized), module(folder, 2, discretized)
    one.init()
    many.initialize()
    one.newEpisode("toy0", A, 1.0, 0.6)
    many.newEpisode(["toy0", "toy1"], [A, House.toy(1).viewpoints[0]], [1.0, 0.0], (0.6, 0.0))
    for action in [(0, 0.4, 0), (1, -0.5, -0.5), (0, 0, -1), (1, 0, 0)]:
        assert pose(one.getState()) == pose(many.getState()[0])
        one.makeAction(*action)
        many.makeAction(np.array([action[0], 0]), [action[1], 0.0], [action[2], 0])
    assert pose(one.getState()) == pose(many.getState()[0]) and one.getState().step == 4
    assert many.getState()[1].location.viewpointId == House.toy(1).viewpoints[0]


def test_states_have_the_fields_of_the_original(folder):
    sim = module(folder)
    sim.initialize()
    sim.newEpisode(["toy0"], [A], [0], [0])
    state, = sim.getState()
    ix = HOUSE.index(A)
    assert (state.scanId, state.step, state.viewIndex, state.heading, state.elevation) == ("toy0", 0, 12, 0.0, 0.0)
    assert state.location == state.navigableLocations[0] and state.location.ix == ix and state.location.viewpointId == A
    where = HOUSE.position[ix].astype(np.float32)
    assert (state.location.x, state.location.y, state.location.z) == tuple(where) and state.location.point == where.tolist()
    assert state.location[-3:] == (0, 0, 0)
    beside = state.navigableLocations[1]
    assert beside.rel_distance > 0 and -math.pi < beside.rel_heading <= math.pi and beside.rel_elevation == beside[6]
    assert (state.rgb.shape, state.rgb.dtype, state.depth.shape, state.depth.dtype) == (
        (480, 640, 3), np.uint8, (480, 640, 1), np.uint16)
    assert not state.rgb.any() and not state.depth.any() and "toy0" in repr(state)
    with pytest.raises(AttributeError):
        beside.rel_heading = 0.0


def test_the_sweep_of_research_code_finds_the_candidates(folder):
    """`make_candidate` as in R2R-EnvDrop, in the words of v0.1."""
    sim = module(folder)
    sim.setRestrictedNavigation(True)
    sim.init()
    table = House.load("toy0", folder).candidates
    for ix in np.random.default_rng().choice(len(HOUSE), 8, replace=False):
        found = {}
        for view in range(36 if ix != 3 else 0):  # nobody can stand at panorama 3
            if view == 0:
                sim.newEpisode("toy0", HOUSE.viewpoints[ix], 0, math.radians(-30))
            else:
                sim.makeAction(0, 1.0, 1.0 if view % 12 == 0 else 0)
            state = sim.getState()
            assert state.viewIndex == view
            for slot, place in enumerate(state.navigableLocations[1:], 1):
                angle = math.sqrt(place.rel_heading**2 + place.rel_elevation**2)
                if place.ix not in found or angle < found[place.ix][0]:
                    heading, elevation = state.heading + place.rel_heading, state.elevation + place.rel_elevation
                    found[place.ix] = angle, view, slot, heading, elevation
        n = table.count[ix]
        assert list(found) == table.index[ix, :n].tolist()
        expected = np.stack([table.angle, table.view, table.slot, table.heading, table.elevation], 2)[ix, :n]
        np.testing.assert_allclose(np.array(list(found.values())).reshape(-1, 5), expected, rtol=0, atol=1e-6)


def test_states_are_snapshots(folder):
    sim = module(folder)
    sim.initialize()
    sim.newEpisode(["toy0"], [A], [0], [0])
    state, = sim.getState()
    kept = pose(state)
    state.navigableLocations.clear()
    sim.getState().clear()
    sim.makeAction([1], [1], [0])
    assert pose(state) == kept and sim.getState()[0].location.viewpointId == kept[-1][1].viewpointId
    assert kept[-1][1].rel_distance > 0  # the original would have set it to 0


@pytest.mark.parametrize("discretized", [True, False])
def test_a_bad_index_moves_nobody(folder, discretized):
    sim = module(folder, 3, discretized)
    sim.initialize()
    sim.newEpisode(["toy0"] * 3, [A, A, B], [0.0] * 3, [0.0] * 3)
    before = [pose(state) for state in sim.getState()]
    with pytest.raises(ValueError, match="MatterSim: Invalid action index: 99 in environment 1 of 3"):
        sim.makeAction([1, 99, 0], [1.0] * 3, [0.0] * 3)
    with pytest.raises(TypeError, match="index -1 of environment 2 is negative"):
        sim.makeAction([1, 0, -1], [1.0] * 3, [0.0] * 3)
    with pytest.raises(TypeError):
        sim.makeAction([1, 0.0, 0], [1.0] * 3, [0.0] * 3)
    with pytest.raises(TypeError):
        sim.makeAction([1, 0, 0], [1.0, "1", 0], [0.0] * 3)
    for short in range(3):
        with pytest.raises(IndexError, match="a list has 2 entries, expected one for each of 3"):
            sim.makeAction(*([0] * (2 if argument == short else 3) for argument in range(3)))
    with pytest.raises(TypeError, match="call init instead"):
        sim.makeAction(0, 0, 0)
    if not discretized:
        with pytest.raises(ValueError, match="nobody moved"):
            sim.makeAction([1, 1, 1], [0, math.nan, 0], [0, 0, 0])
    assert [pose(state) for state in sim.getState()] == before
    sim.makeAction([0] * 4, [1.0] * 4, [0.0] * 4)  # what is too much is left alone, as in the original
    assert [state.step for state in sim.getState()] == [1, 1, 1]


def test_bad_episodes_are_named_and_the_old_ones_go_on(folder):
    sim, single = module(folder, 2), module(folder)
    sim.initialize()
    single.init()
    for early in (lambda: sim.makeAction([0] * 2, [0] * 2, [0] * 2), sim.getState, lambda: single.makeAction(0, 0, 0)):
        with pytest.raises(RuntimeError, match="newEpisode must be called before"):
            early()
    sim.newEpisode(["toy0", "toy1"], [A, House.toy(1).viewpoints[1]], [0, 0], [0, 0])
    single.newEpisode("toy0", A)
    before = [pose(state) for state in sim.getState()]
    cases = [(ValueError, "Could not find viewpointId: nowhere, is viewpoint id valid", ["toy0"] * 2, [A, "nowhere"], [0, 0]),
             (ValueError, "Could not find viewpointId: , ", ["toy0"] * 2, [A, ""], [0, 0]),
             (ValueError, "is excluded from the connectivity graph", ["toy0"] * 2, [A, HOUSE.viewpoints[3]], [0, 0]),
             (IndexError, "map::at: no scan 'toy7'", ["toy0", "toy7"], [A, A], [0, 0]),
             (IndexError, "expected one for each of 2", ["toy0"] * 2, [A, B], [0]),
             (ValueError, "found inf and 0", ["toy0"] * 2, [A, B], [0, math.inf]),
             (TypeError, "lists were expected", "toy0", A, 0)]
    for kind, message, scan, viewpoint, heading in cases:
        with pytest.raises(kind, match=message):
            sim.newEpisode(scan, viewpoint, heading, [0, 0])
    with pytest.raises(ValueError, match="no scan 'toy7'"):
        single.newEpisode("toy7", A, 0, 0)
    with pytest.raises(ValueError, match="Invalid action index: -1"):
        single.makeAction(-1, 0, 0)
    for lists in (lambda: single.newEpisode(["toy0"], [A], [0], [0]), lambda: single.makeAction([0], [0], [0])):
        with pytest.raises(TypeError):
            lists()
    assert [pose(state) for state in sim.getState()] == before and single.getState().step == 0


def test_simulators_share_neither_path_nor_seed(folder, tmp_path):
    other = House.toy(0, n_floors=1)
    write(tmp_path, other)
    first, second = module(folder), module(tmp_path)
    first.initialize()
    second.initialize()
    for sim, house in ((first, HOUSE), (second, other)):
        sim.newEpisode(["toy0"], [house.viewpoints[0]], [0], [0])
        assert sim.getState()[0].location[2:5] == tuple(house.position[0].astype(np.float32))

    def draws(seed):
        sim = module(folder)
        sim.setSeed(seed)
        sim.init()
        found = []
        for _ in range(30):
            sim.newEpisode("toy0", "", 0, 0)
            viewpoint = sim.getState().location.ix
            sim.newRandomEpisode("toy0")
            found.append((viewpoint, sim.getState().location.ix, sim.getState().viewIndex))
        return found

    assert draws(1) == draws(1) != draws(2)
    viewpoints, again, views = map(set, zip(*draws(3), strict=True))
    assert 3 not in viewpoints | again and len(viewpoints) > 5 < len(again) and len(views) > 5 and views <= set(range(12, 24))


def test_settings_after_initialize_are_ignored_with_a_warning_until_close(folder):
    sim = module(folder)
    assert not sim.setElevationLimits(0.1, 0.5) and not sim.setElevationLimits(-0.5, 2.0) and sim.setElevationLimits(-0.5, 0.2)
    sim.initialize()
    with pytest.warns(UserWarning, match="after initialize and is ignored"):
        sim.setDiscretizedViewingAngles(False)
    with pytest.warns(UserWarning, match="ignored"):
        assert not sim.setElevationLimits(-0.9, 0.9)
    sim.initialize()
    sim.newEpisode(["toy0"], [A], [0.3], [0.3])
    assert len(sim.getState()) == 1 and sim.getState()[0].viewIndex == 25
    assert "1 agent-steps" not in sim.timingInfo()
    sim.makeAction([0], [0], [0])
    assert "1 agent-steps" in sim.timingInfo()
    sim.resetTimers()
    assert "0 agent-steps" in sim.timingInfo()
    sim.close()
    sim.setDiscretizedViewingAngles(False)
    sim.newEpisode(["toy0"], [A], [0.3], [0.3])  # begins by itself, as in the original
    assert sim.getState()[0].heading == 0.3 and sim.getState()[0].elevation == 0.2


def test_pictures_paths_and_sizes_that_cannot_be_are_named(folder, tmp_path):
    sim = MatterSim.Simulator()
    with pytest.raises(RuntimeError, match=r"Call setRenderingEnabled\(False\)"):
        sim.initialize()
    sim = module(tmp_path / "none")
    sim.initialize()
    with pytest.raises(ValueError, match="Could not open list of scans at: .*none, is path valid"):
        sim.newEpisode(["toy0"], [A], [0], [0])
    with pytest.raises(ValueError, match="init is for one agent"):
        module(folder, 2).init()
    with pytest.raises(ValueError, match="1 agent or more"):
        module(folder, 0)
    sim = module(folder)
    sim.setCameraResolution(0, 480)
    with pytest.raises(ValueError, match="a camera has a width"):
        sim.initialize()
    with pytest.raises(TypeError, match="call init instead"):
        module(folder).newEpisode("toy0", A, 0, 0)
    (tmp_path / "toy0_connectivity.json").write_text("[{")
    sim = module(tmp_path)
    sim.initialize()
    with pytest.raises(ValueError, match="toy0_connectivity.json"):
        sim.newEpisode(["toy0"], [A], [0], [0])
