"""Houses from above and panoramas as strips: geometry worked out by hand on a house of six panoramas."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.patches import Circle, Wedge
from matplotlib.text import Text

from dgmlab.prevalent.house import House, RoomBox, Sighting
from dgmlab.viz import plot_house, plot_panorama, style
from dgmlab.viz.floor import Labels, _doors, badge_places, room_colours
from dgmlab.viz.house_map import collect_options, collect_scene, fitted, floors_of, pack, window
from dgmlab.viz.panorama import HEADINGS, badge_columns, bearing, collect_strip, lanes_needed, spread

#      d          e is above and north of d, f is not part of the graph
#      |
#      b   f
#      |
#      a---c
POSITION = np.array([[0, 0, 1.5], [0, 2, 1.5], [2, 0, 1.5], [0, 4, 1.5], [0, 7, 4.5], [2, 2, 1.5]])
EDGES = ((0, 1), (0, 2), (1, 3), (3, 4))


@pytest.fixture
def house():
    unobstructed = np.zeros((6, 6), bool)
    for a, b in EDGES:
        unobstructed[a, b] = unobstructed[b, a] = True
    lamp, rug = Sighting("lamp", (12, 13, 24)), Sighting("rug", (0, 11, 6))
    return House("small", tuple("abcdef"), POSITION, np.arange(6) < 5, unobstructed, np.array([0, 0, 0, 0, 1, 0]),
                 ("hall", "hall", "kitchen", "stairs", "attic", ""), ((lamp, rug), (), (), (), (lamp,), ()))


def artists(figure, kind):
    return [artist for ax in figure.axes for artist in ax.get_children() if isinstance(artist, kind)]


def test_options_have_the_angles_and_metres_of_the_geometry(house):
    stop, north, east = collect_options(house, "a", ["b", "c"], [0.5, 0.25, 0.25])
    assert (stop.number, stop.viewpoint, stop.score) == (0, "a", 0.5)
    assert (north.heading, north.distance, north.room) == (0.0, 2.0, "hall")
    assert east.heading == pytest.approx(math.pi / 2) and east.room == "kitchen" and east.index == 2
    up = collect_options(house, "d", ["b", "e"])[2]
    assert up.elevation == pytest.approx(math.pi / 4) and up.distance == pytest.approx(math.sqrt(18)) and up.score is None
    south = collect_options(house, "d", ["b"])[1]
    assert south.heading == pytest.approx(math.pi)


def test_options_follow_the_order_of_the_houses_own_candidates(house):
    for here in range(5):
        order = [int(i) for i in house.candidates.index[here] if i >= 0]
        assert [option.index for option in collect_options(house, here)[1:]] == order
    with pytest.raises(ValueError, match="3 scores were expected, of stop and 2 candidates, found 2"):
        collect_options(house, "a", ["b", "c"], [0.5, 0.5])


def test_map_has_a_panel_a_floor_and_carries_what_it_shows(house):
    figure = plot_house(house, {"reference": "abd", "agent": "ab"}, here="b", heading=0.0, candidates=True, chosen=1)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["floor 0", "floor 1"]
    numbers = figure.numbers
    assert numbers["metres"] == {"reference": 4.0, "agent": 2.0} and numbers["goals"] == ["d"] and numbers["floors"] == [0, 1]
    assert numbers["panoramas"] == 5 and numbers["edges"] == 4 and len(numbers["options"]) == 3
    assert len(plot_house(house, floors=[1]).axes) == 1
    assert floors_of(house) == [0, 1] and floors_of(house, [0, 1]) == [0]


def test_rings_mark_what_is_near_on_foot_not_as_the_crow_flies(house):
    assert np.linalg.norm(POSITION[2] - POSITION[1]) < 3 < house.distance[2, 1]
    figure = plot_house(house, goals=["b"], floors=[0])
    rings = [marks.get_offsets() for marks in figure.axes[0].collections if marks.get_facecolor().size == 0]
    ringed = {tuple(map(float, spot)) for offsets in rings for spot in offsets}
    assert ringed == {(0.0, 0.0), (0.0, 2.0), (0.0, 4.0)}
    circle, = (patch for patch in artists(figure, Circle) if patch.get_radius() == 3.0)
    assert circle.center == (0.0, 2.0)


@pytest.mark.parametrize(("heading", "angle"), [(0.0, 90), (math.pi / 2, 0), (math.pi, -90), (3 * math.pi / 2, -180)])
def test_wedge_points_where_the_agent_looks(house, heading, angle):
    wedge, = artists(plot_house(house, here="a", heading=heading, floors=[0]), Wedge)
    assert ((wedge.theta1 + wedge.theta2) / 2 - angle) % 360 == pytest.approx(0)


def test_every_mark_of_the_legend_is_on_the_map(house):
    figure = plot_house(house, {"reference": "abd", "agent": "abac"}, goals=["d"])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["reference", "agent", "under 3 m to walk to the goal"]
    written = {text.get_text() for text in artists(figure, Text)}
    assert {"start", "goal", "end", "hall", "kitchen", "stairs", "attic"} <= written
    assert "end" not in {text.get_text() for text in artists(plot_house(house, {"reference": "abd"}), Text)}


def test_there_and_back_are_two_lines(house):
    figure = plot_house(house, {"agent": "aba"}, floors=[0])
    figure.png()
    bends = [patch.get_connectionstyle().rad for patch in figure.axes[0].patches if hasattr(patch, "get_connectionstyle")]
    assert len(bends) == 2 and min(bends) > 0  # both bend to their own right, so they lie on two sides


@pytest.mark.parametrize("seed", range(4))
def test_texts_of_a_map_do_not_cover_each_other(seed):
    toy = House.toy(seed)
    rng = np.random.default_rng(seed)
    a, b = rng.choice(np.flatnonzero(toy.included), 2, replace=False)
    path = toy.shortest_path(toy.viewpoints[a], toy.viewpoints[b])
    figure = plot_house(toy, {"reference": path, "agent": path[:2]}, here=path[1 if len(path) > 1 else 0], heading=1.0,
                        candidates=True)
    figure.png()
    for ax in figure.axes:
        boxes = [(text.get_text(), text.get_window_extent()) for text in ax.texts if text.get_text()]
        meets = [(one, other) for i, (one, first) in enumerate(boxes) for other, second in boxes[i + 1:]
                 if first.overlaps(second)]
        assert meets == []


def test_a_label_goes_where_there_is_room_or_nowhere():
    _, ax = style.canvas()
    ax.set(xlim=(0, 10), ylim=(0, 10))
    labels = Labels(ax, 20.0)
    labels.block(5, 5, 6)
    assert not labels.place("hall", [(5, 5, 0, 0)], 7) and not labels.place("hall", [(0, 5, 0, 0), (5, 10.1, 0, 0)], 7)
    assert labels.place("hall", [(5, 5, 0, 0), (5, 5, 0, 15)], 7) and not labels.place("hall", [(5, 5, 0, 15)], 7)
    assert not labels.place("hall", [(2, 2, 0, 0)], 7, avoid=[(2.1, 2.0)]) and labels.place("hall", [(2, 2, 0, 0)], 7)
    assert [text.get_position()[1] for text in ax.texts] == pytest.approx([5.75, 2.0])


def test_windows_hold_what_must_be_seen_and_keep_their_shape(house):
    box = window(house, [0], collect_scene(house, goals=["d"]))
    for x, y in [(-3, 4), (3, 7), (0, 0), (2, 0)]:  # the circle around d, and the corners
        assert box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]
    wide = fitted(box, 300, 100, 10.0)
    assert wide[2:] == (30.0, 10.0) and wide[0] + wide[2] / 2 == pytest.approx(box[0] + box[2] / 2)


@pytest.mark.parametrize("seed", range(5))
def test_packed_panels_stay_inside_and_apart(seed):
    sizes = np.random.default_rng(seed).uniform(5, 40, (seed + 1, 2))
    scale, places, width, height = pack(sizes, 700, 18)
    boxes = [(x, y - 18, x + w * scale, y + h * scale) for (x, y), (w, h) in zip(places, sizes, strict=True)]
    assert all(b[0] >= 0 and b[1] >= 0 and b[2] <= width + 1e-6 <= 700 + 1e-3 and b[3] <= height + 1e-6 for b in boxes)
    assert not any(p[0] < q[2] and q[0] < p[2] and p[1] < q[3] and q[1] < p[3] for i, p in enumerate(boxes) for q in boxes[:i])


@pytest.mark.parametrize("seed", range(5))
def test_badges_keep_apart_and_stay_near_their_panoramas(seed):
    rng = np.random.default_rng(seed)
    n = 7
    position = np.c_[rng.uniform(0, 1.5, (n, 2)), np.full(n, 1.5)]
    unobstructed = ~np.eye(n, dtype=bool)
    crowded = House("crowd", tuple(map(str, range(n))), position, np.ones(n, bool), unobstructed, np.zeros(n, int))
    scene = collect_scene(crowded, here=0, candidates=True, goals=[3])
    places = badge_places(crowded, crowded.included, scene, 20.0)
    spots = 20.0 * np.array([places[i] for i in range(1, n)])
    gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1)[np.triu_indices(n - 1, 1)]
    assert gaps.min() > 10 and np.linalg.norm(spots - 20 * position[1:, :2], axis=1).max() < 60
    assert badge_places(crowded, crowded.included & False, scene, 20.0) == {}


def test_doors_are_where_edges_pass_walls():
    walls = [((0, 0), (0, 4)), ((0, 0), (6, 0))]
    ways = np.array([[[-1.0, 1.0], [1.0, 3.0]], [[2.0, 1.0], [2.0, 3.0]], [[-1.0, 5.0], [1.0, 5.0]], [[0.1, 1], [0.1, -1]]])
    first, second = _doors(walls, ways)
    np.testing.assert_allclose(first, [(0, 1.55), (0, 2.45)])  # 0.9 m around (0, 2)
    np.testing.assert_allclose(second, [(0, 0), (0.55, 0)])  # no wider than the wall


def test_rooms_of_a_plan_are_drawn_and_kinds_have_colours_of_their_own(house):
    boxes = (RoomBox("hall", 0, -1, -1, 1, 5), RoomBox("kitchen", 0, 1, -1, 4, 1), RoomBox("attic", 1, -2, 5, 2, 9))
    planned = House("plan", house.viewpoints, POSITION, house.included, house.unobstructed, house.floor, house.rooms,
                    floor_plan=boxes)
    figure = plot_house(planned)
    assert len(artists(figure, Text)) and "attic" in {text.get_text() for text in figure.axes[1].texts}
    colours = room_colours(planned)
    assert sorted(colours) == ["attic", "hall", "kitchen", "stairs"] and len(set(colours.values())) == 4


def test_maps_are_the_same_bytes_twice_and_rude_arguments_are_named(house):
    assert plot_house(house, {"reference": "ab"}).png() == plot_house(house, {"reference": "ab"}).png()
    with pytest.raises(ValueError, match="give here="):
        plot_house(house, candidates=["b"])
    with pytest.raises(KeyError, match="no viewpoint 'x'"):
        plot_house(house, {"reference": "ax"})


# panoramas


class Thing(NamedTuple):
    name: str
    views: tuple


def test_objects_become_bands_around_the_heading(house):
    strip = collect_strip(house.objects[0], 0.0)
    found = {(band.name, band.level, band.first, band.last) for band in strip.bands}
    assert found == {("lamp", 1, 5, 6), ("lamp", 2, 5, 5), ("rug", 0, 4, 5), ("rug", 0, 11, 11)}
    turned = collect_strip(house.objects[0], math.pi)  # behind is now ahead: the lamp is cut in two
    found = {(band.name, band.first, band.last) for band in turned.bands if band.level == 1}
    assert found == {("lamp", 0, 0), ("lamp", 11, 11)}


@pytest.mark.parametrize("seed", range(4))
def test_bands_of_a_lane_never_meet_and_none_is_lost_silently(seed):
    rng = np.random.default_rng(seed)
    things = [Thing(f"thing {i}", tuple(int(v) for v in rng.choice(36, rng.integers(1, 9), replace=False))) for i in range(25)]
    strip = collect_strip(things, rng.uniform(0, 2 * math.pi))
    taken = [(band.level, band.lane, column) for band in strip.bands for column in range(band.first, band.last + 1)]
    assert len(taken) == len(set(taken)) and all(band.lane < strip.lanes[band.level] for band in strip.bands)
    for level in range(3):
        there = {thing.name for thing in things if any(view // 12 == level for view in thing.views)}
        whole = {(band.name, column) for band in strip.bands if band.level == level
                 for column in range(band.first, band.last + 1)}
        wanted = {(thing.name, (view % 12 - strip.middle + 5) % 12) for thing in things for view in thing.views
                  if view // 12 == level}
        assert whole <= wanted and len({name for name, _ in wanted - whole}) == strip.hidden[level] <= len(there)


def test_strips_of_an_episode_can_have_one_height(house):
    assert lanes_needed(house, [0, 1]) == (2, 2, 2)
    many = tuple(Sighting(f"thing {i}", (12, 13)) for i in range(4))
    crowded = House("many", ("a",), POSITION[:1], np.ones(1, bool), np.zeros((1, 1), bool), np.zeros(1, int), ("",), (many,))
    assert lanes_needed(crowded, [0]) == (2, 4, 2)
    strip = collect_strip(many, 0.0, lanes=(2, 3, 2))
    assert len(strip.bands) == 3 and strip.hidden == (0, 1, 0)


def test_spread_moves_as_little_as_it_can():
    np.testing.assert_allclose(spread([50.0, 50.0, 50.0], 10, 0, 100), [40, 50, 60])
    np.testing.assert_allclose(spread([3.0, 90.0, 4.0], 10, 0, 100), [0, 90, 10])
    np.testing.assert_allclose(spread([100.0, 99.0], 10, 0, 100), [100, 90])
    assert spread([], 10, 0, 1).shape == (0,)


@pytest.mark.parametrize("seed", range(5))
def test_spread_keeps_gaps_and_order(seed):
    wanted = np.random.default_rng(seed).uniform(0, 400, 9)
    placed = spread(wanted, 30, 0, 400)
    assert np.diff(np.sort(placed)).min() > 30 - 1e-9 and placed.min() >= -1e-9 and placed.max() <= 400 + 1e-9
    assert (np.argsort(placed) == np.argsort(wanted)).all()


def test_a_candidate_ahead_stands_over_the_middle_of_the_strip(house):
    options = collect_options(house, "a", ["b", "c"])
    strip = collect_strip((), 0.0, options=options)
    x = (badge_columns(strip, 0, 42 + 120 * HEADINGS) - 40) / 120  # in columns of 120 points
    np.testing.assert_allclose(x, [5.5, 8.5])  # ahead; 90 degrees to the right


def test_directions_in_words():
    assert [bearing(math.radians(angle)) for angle in (0, 9, -30, 90, 181, 355, 170.4, -390)] == \
        ["ahead", "ahead", "left 30°", "right 90°", "behind", "ahead", "behind", "left 30°"]


def test_panorama_carries_its_strip_and_names_wrong_attention(house):
    figure = plot_panorama(house, "a", 0.0, scores=[0.1, 0.2, 0.7], chosen=2, attention=np.full(36, 1 / 36))
    assert figure.numbers["room"] == "hall" and figure.numbers["strip"]["chosen"] == 2
    written = {text.get_text() for text in figure.axes[0].texts}
    assert {"lamp", "rug", "kitchen", "70%", "stop", "ahead", "behind", "left 90°"} <= written
    assert len(figure.png()) > 5000
    with pytest.raises(ValueError, match=r"\(36,\), found \(12,\)"):
        plot_panorama(house, "a", attention=np.zeros(12))


def test_a_house_of_which_nothing_is_known_can_be_drawn(house):
    bare = House("bare", house.viewpoints, POSITION, house.included, house.unobstructed, house.floor)
    assert plot_house(bare, here="a", candidates=True).numbers["rooms"] == []
    assert plot_panorama(bare, "a").numbers["strip"]["bands"] == []


def test_success_is_as_far_as_the_task_says(house):
    figure = plot_house(house, goals=["b"], floors=[0], success=1.5)
    rings = [marks.get_offsets() for marks in artists(figure, PathCollection) if marks.get_facecolor().size == 0]
    assert [tuple(map(float, spot)) for offsets in rings for spot in offsets] == [(0.0, 2.0)]
    assert [patch.get_radius() for patch in artists(figure, Circle)] == [1.5]
    assert figure.legends[0].get_texts()[0].get_text() == "under 1.5 m to walk to the goal"
    small, large = (window(house, [1], collect_scene(house, goals=["e"])._replace(success=success)) for success in (2.0, 9.0))
    assert small[3] < large[3] == pytest.approx(18.2)
