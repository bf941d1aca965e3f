"""Replay and walk by hand without a browser; the walker is a few lines over the table of candidates."""

import io
import re
import types

import numpy as np
import pytest
from PIL import Image

from dgmlab.prevalent.house import House
from dgmlab.widgets import EpisodeReplay, WalkByHand

FIRST = 100  # row of the house's first panorama in the walker's table


class Walker:
    """One walker in the manner of Walk: a bad number raises and nobody moves."""

    def __init__(self, house, start):
        self.table, self.row, self.view = house.candidates, np.array([start + FIRST]), np.array([12])
        self.ended = np.array([False])

    def move(self, numbers):
        here, number = int(self.row[0]) - FIRST, numbers[0]
        if not 0 <= number <= self.table.count[here]:
            raise IndexError(f"action {number} does not exist\nhere")
        if number == 0:
            self.ended[0] = True
            return
        self.row[0], self.view[0] = self.table.index[here, number - 1] + FIRST, self.table.view[here, number - 1]


@pytest.fixture(scope="module")
def house():
    return House.toy(1)


@pytest.fixture(scope="module")
def episode(house):
    on = np.flatnonzero(house.floor == 0)
    goal = house.viewpoints[on[house.distance[on[0], on].argmax()]]
    path = tuple(house.shortest_path(house.viewpoints[on[0]], goal)[:5])
    return types.SimpleNamespace(instr_id="toy_0", path=path, goals=path[-1:], instruction="Walk to the far end.")


@pytest.fixture
def hand(house, episode):
    return WalkByHand(house, lambda: Walker(house, house.index(episode.path[0])), episode, FIRST)




def shown(hand):
    return [button.description for button in hand.choices if button.layout.display != "none"]


def test_walking_the_reference_and_stopping_is_a_success(hand, house, episode):
    assert hand.status.text == "0 moves" and shown(hand)[0] == "STOP" and hand.score is None
    hand.follow(episode.path)
    assert hand.trail.path == list(episode.path) and len(hand.trail.views) == len(episode.path) and not hand.ended
    assert hand.move(0) == episode.goals[0] and hand.ended
    assert hand.score.success_rate == 1 and hand.score.spl == pytest.approx(1) and hand.trail.actions[-1] == 0
    metres = hand.score.trajectory_length
    assert hand.status.text == (f"success: stopped 0.0 m from the goal after {len(episode.path) - 1} moves, {metres:.1f} m; "
                                "SPL 1.00 against the shortest path; 1.00 against the reference")
    assert shown(hand) == [] and hand.static().numbers["ended"]


def test_a_detour_costs_spl_and_stopping_at_once_fails(hand, house, episode):
    a, b = episode.path[:2]
    hand.follow([a, b, a, *episode.path[1:]])
    hand.move(0)
    assert hand.score.success_rate == 1 and 0 < hand.score.spl < 1
    hand.again.click()
    assert hand.trail.path == [a] and hand.score is None and not hand.ended and shown(hand)[0] == "STOP"
    hand.choices[0].click()
    assert hand.score.success_rate == 0 and hand.status.text.startswith("failure: stopped")


def test_goal_and_distance_are_shown_only_when_asked_or_over(hand):
    def written():
        return {text.get_text() for ax in hand.static().axes for text in ax.texts}

    assert "goal" not in written() and "to the goal" not in hand.status.text
    hand.reveal.value = True
    assert "goal" in written() and hand.status.text.endswith("m to the goal")
    hand.reveal.value = False
    hand.move(0)
    assert "goal" in written()


def test_transparent_buttons_lie_on_the_numbers_and_move(hand, house, episode):
    spots = hand.static().numbers["spots"]
    sheet = hand._places.value
    active = [i for i, button in enumerate(hand._spots) if button.layout.display != "none"]
    assert len(active) == sum(map(len, spots.values()))
    for number, places in spots.items():
        for which, (x, y) in enumerate(places):
            assert f".spot-{2 * (int(number) - 1) + which} {{left:{x:.2%};top:{y:.2%}}}" in sheet
    assert sheet.startswith("<style>") and len(re.findall(r"dgmlab-hand-\w{8}", sheet)) > 3
    before = hand.image.value
    hand._spots[active[0]].click()
    assert len(hand.trail.path) == 2 and hand.image.value != before
    assert hand._name != WalkByHand(house, lambda: Walker(house, 0), episode, FIRST)._name


def test_only_ways_of_the_house_can_be_followed(hand, episode):
    for path in (episode.path[::-1], [episode.path[0], episode.path[2]]):
        with pytest.raises(ValueError, match=f"a way from '{episode.path[0]}' was expected"):
            hand.follow(path)
    assert hand.trail.path == [episode.path[0]]


def test_errors_are_one_line_and_nobody_moves(hand, house):
    before = (hand.image.value, hand.trail)
    assert hand.move(99) is None and hand.status.failed and hand.status.text == "IndexError: action 99 does not exist"
    assert (hand.image.value, hand.trail) == before
    hand.move(0)
    assert hand.move(1) is None and hand.status.text.startswith("ValueError: the episode is over")


def test_without_an_episode_there_is_nothing_to_reach(house):
    free = WalkByHand(house, lambda: Walker(house, 3), first_row=FIRST, reveal=True)
    free.move(1)
    free.move(0)
    assert free.score is None and free.status.text == "1 move; stopped" and free.trail.words == []


# replay


def test_a_trail_by_hand_can_be_replayed(hand, house, episode):
    hand.follow(episode.path)
    hand.move(0)
    replay = EpisodeReplay(hand.trail, house, episode)
    n = len(episode.path)
    assert replay.n_steps == n and replay.slider.max == replay.play.max == n - 1
    assert replay.status.text.startswith(f"step 1 of {n}; goes to ") and replay.status.text.endswith("m to the goal")
    first = replay.image.value
    replay.next.click()
    assert replay.slider.value == 1 and replay.image.value != first and replay.status.text.startswith("step 2 of")
    replay.back.click()
    replay.back.click()
    assert replay.slider.value == 0 and replay.image.value == first
    replay.advance(99)
    assert replay.status.text == f"step {n} of {n}; stops; 0.0 m to the goal; success, SPL 1.00"
    assert Image.open(io.BytesIO(replay.image.value)).width == 1260
    assert replay.static().numbers["ended"] and not replay.static(0).numbers["ended"]


def test_steps_are_drawn_when_looked_at_and_kept(hand, house, episode, monkeypatch):
    hand.follow(episode.path)
    drawn = []
    original = EpisodeReplay.static
    monkeypatch.setattr(EpisodeReplay, "static", lambda self, step=-1: drawn.append(step) or original(self, step))
    replay = EpisodeReplay(hand.trail, house, episode)
    replay.show(2)
    replay.show(0)
    replay.show(2)
    assert drawn == [0, 2] and replay.slider.value == 2
    replay.show(77)
    assert replay.status.failed and "found step 77" in replay.status.text and replay.slider.value == 2


def test_films_of_a_replay(hand, house, episode, tmp_path):
    hand.follow(episode.path[:2])
    hand.move(0)
    replay = EpisodeReplay(hand.trail, house, episode)
    with Image.open(replay.save_gif(tmp_path / "walk.gif")) as image:
        assert image.n_frames == replay.n_steps == 2
    assert "toy_0: Walk to the far end." in replay.save_page(tmp_path / "walk.html").read_text()
