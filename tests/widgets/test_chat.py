"""The chat, worked without a browser: a lambda stands in for the model."""

import numpy as np
import pytest

from dgmlab.widgets import Chat


class Toy:
    """z of a context is (number of turns, letters of the last); a place says how far it is from there."""

    def __init__(self):
        self.asked, self.decoded = [], []

    def encode(self, contexts):
        self.asked += contexts
        return np.array([[len(turns), float(len(turns[-1])), 0.0] for turns in contexts])

    def decode(self, z, method):
        self.decoded.append(z)
        middle = z[len(z) // 2]
        return [f"{np.linalg.norm(place - middle):.1f} away <b>" for place in z]


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def chat(toy):
    return Chat(toy.encode, toy.decode, radius=2.0, opening="hello", n=5, reach=1.0)


def test_the_middle_is_the_context_and_the_edge_a_radius_away(chat, toy):
    assert chat.current == "0.0 away <b>" and len(chat.responses) == 25
    np.testing.assert_allclose(toy.decoded[0][12], [1, 5, 0])
    assert chat.choose(2, 4) == "2.0 away <b>", "the ring at 1 is a radius of 2 away"
    assert chat.choose(0, 0) == "2.8 away <b>" and chat.choose(2, 3) == "1.0 away <b>"
    assert chat.status.text.endswith("at x = 0.50, y = 0.00: 1.0 away <b>")


def test_equal_responses_have_one_number_and_colour(chat):
    numbers = [button.description for button in chat.cells]
    assert numbers[12] == "1" and numbers[11] == numbers[13] == numbers[7] == numbers[17] == "2"
    assert chat.cells[11].style.button_color == chat.cells[13].style.button_color != chat.cells[12].style.button_color


def test_a_click_decodes_nothing_again_and_marks_the_cell(chat, toy):
    chat.cells[3].click()
    assert chat.place == 3 and len(toy.decoded) == 1
    assert [i for i, cell in enumerate(chat.cells) if "transparent" not in cell.layout.border] == [3]


def test_other_directions_keep_the_middle(chat, toy):
    before = toy.decoded[-1]
    chat.turn()
    np.testing.assert_allclose(toy.decoded[-1][12], before[12])
    assert np.abs(toy.decoded[-1][0] - before[0]).max() > 0.1
    directions = chat.plane(3)
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)


def test_axes_are_taken_in_pairs_the_most_telling_first(toy):
    chat = Chat(toy.encode, toy.decode, 1.0, "hello", axes=np.eye(3)[[2, 0, 1]], n=3, reach=1.0)
    np.testing.assert_allclose(toy.decoded[-1][5] - toy.decoded[-1][4], [0, 0, 1])  # to the right
    np.testing.assert_allclose(toy.decoded[-1][1] - toy.decoded[-1][4], [1, 0, 0])
    before = len(toy.decoded)
    chat.turn()
    assert len(toy.decoded) == before, "of three axes there is one pair"


def test_a_chosen_response_becomes_a_turn(chat, toy):
    chat.choose(2, 4)
    assert chat.reply() == ["hello", "2.0 away <b>"] and chat.box.value == ""
    assert chat.ask("and you ?") == "0.0 away <b>"
    assert toy.asked[-1] == ("hello", "2.0 away <b>", "and you ?")
    assert "&lt;b&gt;" in chat.talk.value and "<b>" not in chat.talk.value + chat.listing.value + chat.answer.value
    chat.restart()
    assert chat.turns == [] and chat.context == ("and you ?",)


def test_the_slider_restyles_every_place(toy):
    chat = Chat(toy.encode, toy.decode, 1.0, "hello", restyle=lambda z, tau: z + [0, 0, 10 * tau], n=3)
    assert toy.decoded[-1][4, 2] == 0
    chat.ask(tau=0.5)
    assert toy.decoded[-1][4, 2] == 5.0 and chat.slider in chat.view.children[5].children


def test_errors_are_one_line_and_the_board_stays(chat, toy):
    shown = list(chat.responses)
    assert chat.ask("   ") is None
    assert chat.status.text == "ValueError: the context is empty: expected a turn. Type something and press Enter."
    assert chat.responses == shown and chat.reply() == []
    with pytest.raises(ValueError, match="context is empty"):
        chat.static()
    with pytest.raises(ValueError, match="odd number of cells on a side, 3 or more, found n=4"):
        Chat(toy.encode, toy.decode, 1.0, "hello", n=4)


def test_static_twin_shows_the_region(chat):
    chat.choose(2, 4)
    figure = chat.static()
    assert figure.numbers["context"] == ["hello"] and figure.numbers["responses"][0] == "0.0 away <b>"
    assert len(figure.numbers["xy"]) == 25
