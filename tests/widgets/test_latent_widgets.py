"""Widgets of the latent space, worked without a browser: a lambda stands in for the model."""

import numpy as np
import pytest

from dgmlab.widgets import Analogy, Interpolator, LatentMap
from dgmlab.widgets.latent import linear, spherical

COUNTS = {"one": 1.0, "two": 2.0, "four": 4.0, "five": 5.0, "nine": 9.0}


class Toy:
    """Sentences '<n> dogs' with a latent (n, 1); counts the calls. Decoding with top_k shouts."""

    def __init__(self):
        self.encoded, self.decoded = [], 0

    def encode(self, sentences):
        self.encoded.append(list(sentences))
        return np.array([[COUNTS[sentence.split()[0]], 1.0] for sentence in sentences])

    def decode(self, z, method):
        self.decoded += 1
        texts = [f"{n:g} dogs" for n in np.round(z[:, 0], 2)]
        return [text.upper() for text in texts] if method == "top_k" else texts


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def walk(toy):
    return Interpolator(toy.encode, toy.decode, "one dogs", "five dogs", n=5)


def test_interpolation_walks_from_a_to_b(walk):
    assert walk.sentences == ["1 dogs", "2 dogs", "3 dogs", "4 dogs", "5 dogs"]
    assert walk.current == "1 dogs" and walk.status.text == "tau = 0.00: 1 dogs"


def test_slider_moves_the_highlight_without_decoding_again(walk, toy):
    before = toy.decoded
    assert walk.show(tau=0.5) == "3 dogs"
    assert toy.decoded == before and len(toy.encoded) == 1
    assert walk.list.value.count("dgmlab-current") == 1
    current = walk.list.value.split('class="dgmlab-current"')[1].split("</tr>")[0]
    assert "0.50" in current and "<mark" in current and "3</mark> dogs" in current
    assert walk.slider.continuous_update is False and not walk.box_a.continuous_update


def test_new_sentences_and_decodings_are_computed_once_and_kept(walk, toy):
    walk.show(sentence_b="nine dogs")
    assert walk.sentences[-1] == "9 dogs" and toy.encoded == [["one dogs", "five dogs"], ["nine dogs"]]
    walk.show(method="top_k")
    assert walk.sentences[0] == "1 DOGS"
    before = toy.decoded
    walk.show(method="greedy")
    walk.show(sentence_b="five dogs")
    assert walk.sentences[-1] == "5 dogs" and toy.decoded == before


def test_an_error_is_one_line_in_the_widget_and_the_list_stays(walk):
    shown = list(walk.sentences)
    walk.show(sentence_b="seven dogs")
    assert walk.status.failed and walk.status.text == "KeyError: seven" and walk.sentences == shown
    walk.show(sentence_b="  ")
    assert walk.status.text == "ValueError: two sentences were expected, B is empty. Type one and press Enter."
    with pytest.raises(ValueError, match="B is empty"):
        walk.static()
    walk.show(sentence_b="five dogs")
    assert not walk.status.failed


def test_callables_of_the_wrong_shape_are_named():
    walk = Interpolator(lambda sentences: np.zeros(3), lambda z, method: [], "a", "b")
    assert walk.status.text == "ValueError: encode must return (2, Z) for 2 sentences, found (3,). Check the callable."
    walk = Interpolator(lambda sentences: np.zeros((2, 3)), lambda z, method: ["x"], "a", "b", n=4)
    assert walk.status.text == "ValueError: decode must return 4 sentences, found 1. Check the callable."
    with pytest.raises(ValueError, match="n=1"):
        Interpolator(None, None, "a", "b", n=1)


def test_sentences_are_escaped_in_html(toy):
    walk = Interpolator(toy.encode, lambda z, method: ["<script>"] * len(z), "one dogs", "two dogs")
    assert "<script>" not in walk.list.value + walk.status.view.value and "&lt;script&gt;" in walk.list.value


def test_static_twin_shows_what_the_widget_shows(walk):
    walk.show(tau=1.0)
    figure = walk.static()
    assert [row["words"] for row in figure.numbers["rows"]] == [[f"{n}", "dogs"] for n in range(1, 6)]


def test_the_arc_keeps_length_and_the_line_does_not():
    a, b, taus = np.array([1.0, 0, 0]), np.array([0, 3.0, 0]), np.linspace(0, 1, 5)
    np.testing.assert_allclose(np.linalg.norm(spherical(a, b, taus), axis=1), [1, 1.5, 2, 2.5, 3])
    np.testing.assert_allclose(spherical(a, b, [0.5])[0], np.array([1, 1, 0]) * 2 / np.sqrt(2))
    for path in (linear, spherical):
        np.testing.assert_allclose(path(a, b, [0, 1]), [a, b], atol=1e-12)
    np.testing.assert_allclose(spherical(a, 2 * a, [0.5]), [1.5 * a])
    np.testing.assert_allclose(spherical(a, 0 * a, [0.5]), [0.5 * a])


def test_the_path_can_be_an_arc(walk):
    straight = walk.sentences
    walk.show(kind="spherical")
    assert walk.sentences[0] == straight[0] and walk.sentences[-1] == straight[-1] and walk.sentences != straight


def test_analogy_adds_the_difference_by_degree(toy):
    box = Analogy(toy.encode, toy.decode, "one dogs", "two dogs", "four dogs")
    assert box.answer == "5 dogs" and box.status.text == "degree = 1.00: 5 dogs"
    assert "5</mark> dogs" in box.result.value
    assert box.show(degree=-1.0) == "3 dogs"
    assert box.show(sentence_b="one dogs") == "4 dogs"
    figure = box.static()
    assert [row["words"][0] for row in figure.numbers["rows"]] == ["5", "3", "4"]
    box.show(sentence_c="")
    assert box.status.text.startswith("ValueError: three sentences were expected, C is empty")
    with pytest.raises(ValueError, match="C is empty"):
        box.static()


XY = np.array([[0, 0], [4, 0], [0, 4], [4, 4.0]])
Z = np.array([[1, 0], [2, 0], [4, 0], [5, 0.0]])
SENTENCES = ["one dogs", "two dogs", "four dogs", "five dogs"]


@pytest.fixture
def board(toy):
    return LatentMap(XY, Z, SENTENCES, toy.decode, [0, 0, 1, 1], ["few", "many"], k=4, grid=(4, 6))


def test_on_a_point_the_map_decodes_that_point(board):
    for (x, y), z, sentence in zip(XY, Z, ["1 dogs", "2 dogs", "4 dogs", "5 dogs"], strict=True):
        place = board.at(x, y)
        np.testing.assert_allclose(place.z, z, atol=1e-9)
        assert place.sentence == sentence
    place = board.at(2, 2)  # the same distance to all four
    np.testing.assert_allclose(place.weights, [0.25] * 4)
    assert place.sentence == "3 dogs"


def test_far_from_a_point_weights_fall_with_the_square_of_distance(toy):
    board = LatentMap(np.array([[0, 0], [3.0, 0]]), np.array([[1.0], [2.0]]), ["one dogs", "two dogs"], toy.decode, k=2)
    place = board.at(1, 0)  # distances 1 and 2: weights 4/5 and 1/5
    np.testing.assert_allclose(place.weights, [0.8, 0.2])
    np.testing.assert_allclose(place.z, [1.2])


def test_a_click_decodes_at_the_cell_and_marks_it(board):
    assert board.centre(0, 0)[1] > board.centre(3, 0)[1] and board.centre(0, 0)[0] < board.centre(0, 5)[0]
    board._buttons[3 * 6 + 0].click()  # bottom left, next to the first point
    x, y, sentence = board.place.x, board.place.y, board.place.sentence
    assert board.place.near[0] == 0 and board.status.text == f"x = {x:.2f}, y = {y:.2f}: {sentence}"
    assert [i for i, button in enumerate(board._buttons) if button.style is board._chosen] == [18]
    assert "one dogs" in board.detail.value
    board._buttons[0].click()
    assert board.place.near[0] == 2
    assert [i for i, button in enumerate(board._buttons) if button.style is board._chosen] == [0]
    board.method.value = "top_k"
    assert board.place.sentence.endswith("DOGS") and len(board.places) == 3


def test_map_static_twin_decodes_even_unclicked(board):
    assert len(board.static(n=3).numbers["places"]) == 3
    board.click(0, 0)
    (x, y, sentence), = board.static(n=3).numbers["places"]
    assert (x, y) == pytest.approx((board.place.x, board.place.y), rel=1e-5) and sentence == board.place.sentence


def test_map_errors_are_shown_and_shapes_checked(toy):
    def broken(z, method):
        raise RuntimeError("no memory\nlong story")

    board = LatentMap(XY, Z, SENTENCES, broken)
    assert board.click(0, 0) is None and board.status.text == "RuntimeError: no memory"
    with pytest.raises(ValueError, match=r"z must be \(4, Z\).*found \(3, 2\)"):
        LatentMap(XY, Z[:3], SENTENCES, toy.decode)
