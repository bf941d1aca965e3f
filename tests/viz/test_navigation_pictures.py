"""Steps of episodes in pictures: what is collected, checked by hand, and where it is drawn, checked in the pixels."""

import io
import math
import re
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from dgmlab.prevalent.house import House
from dgmlab.viz import (
    collect_moment,
    plot_actions,
    plot_attention,
    plot_episode,
    plot_instruction,
    plot_routes,
    save_gif,
    save_page,
    style,
)
from dgmlab.viz.instruction import _broken, instruction_height
from dgmlab.viz.navigation import headline, n_moments, option_name, outcome


class Trajectory(NamedTuple):
    instr_id: str
    scan: str
    path: list
    views: list
    actions: list
    scores: list
    candidates: list
    words: list
    word_attention: list
    view_attention: list


class Episode(NamedTuple):
    instr_id: str
    scan: str
    heading: float
    elevation: float
    path: tuple
    instruction: str
    goals: tuple
    about: dict


# a - b - c - d in a row to the north, 4 m apart, and e 4 m east of b
POSITION = np.array([[0, 0, 1.5], [0, 4, 1.5], [0, 8, 1.5], [0, 12, 1.5], [4, 4, 1.5]])


@pytest.fixture
def house():
    unobstructed = np.zeros((5, 5), bool)
    for a, b in ((0, 1), (1, 2), (2, 3), (1, 4)):
        unobstructed[a, b] = unobstructed[b, a] = True
    rooms = ("hall",) * 4 + ("kitchen",)
    return House("row", tuple("abcde"), POSITION, np.ones(5, bool), unobstructed, np.zeros(5, int), rooms)


@pytest.fixture
def episode():
    return Episode("7_0", "row", 0.0, 0.0, tuple("abcd"), "Walk straight on.", ("d",), {})


@pytest.fixture
def trajectory():
    """Goes from a to b, east to e, back to b, and stops there."""
    scores = [np.array(shares) for shares in ([0.1, 0.9], [0.1, 0.1, 0.3, 0.5], [0.4, 0.6], [0.7, 0.1, 0.1, 0.1])]
    candidates = [["b"], ["a", "c", "e"], ["b"], ["a", "c", "e"]]
    return Trajectory("7_0", "row", list("abeb"), [12, 12, 15, 21], [1, 3, 1, 0], scores, candidates,
                      ["<CLS>", "walk", "on", "<SEP>"], list(np.eye(4)), list(np.eye(36)[:4]))


def test_a_moment_holds_where_the_agent_is_and_what_it_does(trajectory, house, episode):
    moment = collect_moment(trajectory, house, 1, episode)
    assert (moment.step, moment.n_steps, moment.here, moment.chosen, moment.room) == (1, 4, 1, 3, "hall")
    assert moment.heading == 0.0 and moment.to_goal == 8.0 and [option.viewpoint for option in moment.options] == list("bace")
    assert moment.best == 2, "the way to d leads over c"
    assert moment.options[3].score == 0.5 and moment.word_attention.tolist() == [0, 1, 0, 0] and moment.view_attention[1] == 1
    assert collect_moment(trajectory, house, 2, episode).heading == pytest.approx(math.pi / 2), "view 15 looks east"
    last = collect_moment(trajectory, house, -1, episode)
    assert (last.step, last.here, last.chosen) == (3, 1, 0)
    for step in (4, -5):
        with pytest.raises(IndexError, match=rf"has 4 steps, found step {step}"):
            collect_moment(trajectory, house, step)


def test_at_the_goal_the_best_is_to_stop(trajectory, house, episode):
    there = trajectory._replace(path=list("abcd"), actions=[1, 2, 2, 0], scores=[],
                                candidates=[["b"], ["a", "c", "e"], ["b", "d"], ["c"]])
    assert [collect_moment(there, house, step, episode).best for step in range(4)] == [1, 2, 2, 0]
    assert collect_moment(there, house, 3, episode).options[0].score is None


def test_an_agent_that_ran_out_of_steps_has_a_last_moment_without_action(trajectory, house, episode):
    cut = trajectory._replace(actions=[1, 3, 1], views=trajectory.views[:3], scores=trajectory.scores[:3],
                              candidates=trajectory.candidates[:3], word_attention=[], view_attention=[])
    assert n_moments(cut) == 4
    last = collect_moment(cut, house, 3, episode)
    assert last.chosen is None and last.here == 1 and last.word_attention is None and last.options[0].score is None
    figure = plot_episode(cut, house, episode)
    assert figure.numbers["ended"] and headline(last, True).endswith("out of steps")
    assert not plot_episode(cut, house, episode, running=True).numbers["ended"]


def test_hidden_goals_leave_distance_best_and_outcome_open(trajectory, house, episode):
    hidden = episode._replace(path=("a",), goals=())
    moment = collect_moment(trajectory, house, 0, hidden)
    assert moment.to_goal is None and moment.best is None and outcome(trajectory, house, hidden) is None
    assert plot_episode(trajectory, house, hidden).numbers["moment"]["to_goal"] is None
    unseen = plot_episode(trajectory, house, episode, 0, reveal=False)
    assert unseen.numbers["moment"]["best"] is None and "goal" not in {t.get_text() for ax in unseen.axes for t in ax.texts}
    scores = outcome(trajectory, house, episode)
    assert scores.nav_error == 8.0 and scores.success_rate == 0 and scores.trajectory_length == 12.0


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(figure.png(tight=False))).convert("RGB")).astype(int)


def test_all_steps_make_pictures_of_one_size(trajectory, house, episode):
    sizes = {pixels(plot_episode(trajectory, house, episode, step)).shape for step in range(4)}
    assert len(sizes) == 1 and sizes.pop()[1] == 1260


def test_spots_of_the_candidates_are_where_their_badges_are_drawn(trajectory, house, episode):
    figure = plot_episode(trajectory, house, episode, 1)
    spots, image = figure.numbers["spots"], pixels(figure)
    assert set(spots) == {"1", "2", "3"} and all(len(places) == 2 for places in spots.values())
    for number, places in spots.items():
        colour = 255 * np.array(to_rgb(style.ORANGE if number == "3" else style.BLUE))
        for x, y in places:
            column, row = round(x * image.shape[1]), round(y * image.shape[0])
            near = image[row - 13:row + 14, column - 13:column + 14]
            rim = (np.abs(near - colour).max(axis=-1) < 40).sum(axis=(0, 1))
            assert rim > 30, f"no badge {number} around ({column}, {row})"


def test_maps_show_what_lies_around_the_paths(house, episode, trajectory):
    stay = trajectory._replace(path=["a"], actions=[0], scores=[], candidates=[["b"]])
    assert "1" in plot_episode(stay, house, None, 0).numbers["spots"]
    tops = [plot_episode(stay, house, None, 0, around=around).axes[1].get_ylim()[1] for around in (0.0, 6.0, 9.0)]
    assert tops[0] == tops[1] < 8 < tops[2] < 12, "b is next to a, c is 8 m away, d 12 m"


def test_actions_in_words_and_bars(trajectory, house, episode):
    moment = collect_moment(trajectory, house, 1, episode)
    assert option_name(moment.options[0]) == "stop" and option_name(moment.options[3]) == "3  kitchen, 4.0 m"
    assert option_name(moment.options[3], moment.heading) == "3  kitchen, 4.0 m, right 90°"
    assert option_name(moment.options[2]._replace(elevation=0.5)).endswith(", up")
    figure = plot_actions(moment)
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([0.1, 0.1, 0.3, 0.5])
    written = [text.get_text() for text in figure.axes[0].texts]
    assert "taken" in written and "shortest way" in written and "50%" in written


def test_routes_say_what_became_of_each_episode(trajectory, house, episode):
    good = trajectory._replace(instr_id="8_0", path=list("abcd"))
    figure = plot_routes([(trajectory, house, episode, "first"), (good, house, episode, "second " * 40)], title="two")
    assert [row["verdict"] for row in figure.numbers["episodes"]] == ["failure, 8.0 m from the goal", "success, SPL 1.00"]
    assert len(figure.axes) == 3 and any(text.get_text().endswith("…") for text in figure.axes[0].texts)
    with pytest.raises(ValueError, match="at least one episode"):
        plot_routes([])


# instructions


def test_pieces_join_the_word_before_and_lines_break():
    line, = _broken(["side", "##board", "here"], 10, 1000)
    assert [text for _, text, _ in line] == ["side", "board", "here"]
    joined, apart = line[1][2], _broken(["side", "board"], 10, 1000)[0][1][2]
    assert joined == pytest.approx(apart - 3.6)
    words = ["word"] * 60
    lines = _broken(words, 10, 200)
    assert len(lines) > 3 and [index for row in lines for index, _, _ in row] == list(range(60))
    assert instruction_height(words, 200, 10) == 17.5 * len(lines)


def test_attention_must_fit_the_words():
    assert plot_instruction(["go", "on"], [0.25, 0.75]).numbers["attention"] == [0.25, 0.75]
    for call, message in ((lambda: plot_instruction(["go"], [0.5, 0.5]), "1 words have one weight each"),
                          (lambda: plot_instruction([]), "at least one word"),
                          (lambda: plot_attention(["go"], [[0.5, 0.5]]), r"\(steps, 1\), found \(1, 2\)"),
                          (lambda: plot_attention(["go"], np.zeros((0, 1))), "at least one step")):
        with pytest.raises(ValueError, match=message):
            call()
    figure = plot_attention(["go", "on"], [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    assert np.shape(figure.axes[0].images[0].get_array()) == (3, 2)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["1", "2", "3"]


def test_more_attended_words_are_darker():
    weights = [0.2, 0.4, 0.1, 0.001, 0.299]
    shades = plot_instruction(["mm"] * 5, weights).axes[0].patches
    assert len(shades) == 4, "a word without attention has no shade"
    light = [sum(shade.get_facecolor()[:3]) for shade in shades]
    assert np.argsort(light).tolist() == [1, 3, 0, 2]
    image = pixels(plot_instruction(["mm"], [1.0]))
    assert (image[..., 2] - image[..., 0] > 60).sum() > 300


# films


@pytest.fixture
def film(trajectory, house, episode):
    return [plot_episode(trajectory, house, episode, step) for step in range(4)]


def test_gif_shows_every_step_and_the_last_one_longer(film, tmp_path):
    path = save_gif(film, tmp_path / "episode.gif", seconds=1.0)
    with Image.open(path) as image:
        times = []
        for frame in range(image.n_frames):
            image.seek(frame)
            times.append(image.info["duration"])
    assert times == [1000, 1000, 1000, 3500] and path.stat().st_size < 300_000


def test_page_needs_nothing_but_itself(film, tmp_path):
    path = save_page(film, tmp_path / "deep" / "episode.html", "7_0: <walk> on")
    page = path.read_text()
    assert len(re.findall(r'^"?.*"[A-Za-z0-9+/=]{1000,}"', page, re.M)) == 4 and len(page) < 600_000
    assert "7_0: &lt;walk&gt; on" in page and "<walk>" not in page
    assert not re.search(r"https?:|src=[\"'](?!\")|@import|url\(", page.replace('"data:image/png;base64,"', ""))
    assert [file.name for file in path.parent.iterdir()] == ["episode.html"], "no scratch file is left"


def test_films_name_what_is_wrong(film, tmp_path):
    with pytest.raises(ValueError, match="at least one picture"):
        save_gif([], tmp_path / "no.gif")
    with pytest.raises(ValueError, match="pictures of one size were expected, found 1008 x"):
        save_page([film[0], plot_instruction(["go"])], tmp_path / "no.html")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="cannot write"):
        save_gif(film[:1], tmp_path / "file" / "no.gif")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file"]
