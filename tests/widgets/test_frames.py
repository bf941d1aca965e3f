"""Frames are drawn when they are looked at, once, and a bad one does not stop the others."""

import pytest

from dgmlab.viz import style
from dgmlab.widgets import Frames


def test_frames_are_drawn_once_and_shown_by_the_slider():
    drawn = []

    def draw(moment):
        drawn.append(moment)
        if moment == 20:
            raise ValueError("no such moment\nand more")
        figure, ax = style.canvas(2, 2)
        ax.plot([0, moment])
        return figure

    frames = Frames(draw, range(0, 40, 10), "update")
    first = bytes(frames.image.value)
    assert drawn == [0] and first.startswith(b"\x89PNG") and frames.status.text == "update 0"
    frames.slider.value = 3
    assert drawn == [0, 30] and bytes(frames.image.value) != first and frames.status.text == "update 30"
    frames.slider.value = 2
    assert frames.status.failed and frames.status.text == "ValueError: no such moment"
    frames.slider.value = 0
    assert drawn == [0, 30, 20] and bytes(frames.image.value) == first and not frames.status.failed
    assert (frames.play.min, frames.play.max, frames.slider.max) == (0, 3, 3)
    assert frames.static().axes[0].lines[0].get_ydata()[1] == 30
    with pytest.raises(ValueError, match="at least one moment"):
        Frames(draw, [])
