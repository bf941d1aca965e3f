"""Ways to respond: places around a context, beams, samples; the style slider; what is asked and what is refused."""

import numpy as np
import pytest
import torch

from dgmlab.data.dialog import Exchange, load_dialog
from dgmlab.optimus import respond as module
from dgmlab.optimus.data import build_tokenizers
from dgmlab.optimus.dialog import DialogOptimus
from dgmlab.optimus.latent import decode_latents
from dgmlab.optimus.model import Optimus
from dgmlab.optimus.respond import (
    around,
    encode_contexts,
    encode_style,
    fitting,
    principal_axes,
    questions,
    respond,
    response_offsets,
    slide,
    slide_scores,
    towards_style,
    trade_off,
)

CONTEXTS = [("hello !", "shall we meet today ?", "what shall we eat ?"), ("what shall we play today ?",)]


@pytest.fixture(scope="module")
def made():
    """A loud random model: every place says something else."""
    torch.manual_seed(0)
    texts = [text for pair in load_dialog("toy") for text in (*pair.context, pair.response)]
    tokenizers = build_tokenizers("tiny", texts, 0)
    optimus = Optimus.from_preset("tiny", tokenizers, latent_size=5, n_positions=30, dropout=0.0)
    with torch.no_grad():
        for parameter in optimus.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.25)
    model = DialogOptimus.from_optimus(optimus).eval()
    model.config.radius = 0.5
    return model, tokenizers


def test_places_around_a_point_lie_at_the_radius_in_every_direction():
    z = np.array([[1.0, 2, 3], [0, 0, 0]])
    places = around(z, 500, 0.7, np.random.default_rng(0))
    assert places.shape == (2, 500, 3) and places.dtype == np.float32
    away = places - z[:, None]
    np.testing.assert_allclose(np.sqrt(np.square(away).mean(-1)), 0.7, rtol=1e-5)
    np.testing.assert_allclose(away.mean(1), 0, atol=0.1)
    np.testing.assert_array_equal(around(z, 3, 0.0, np.random.default_rng(0)), np.repeat(z[:, None], 3, 1))


def test_the_ball_decodes_greedily_at_places_around_the_context(made):
    z = encode_contexts(*made, CONTEXTS)
    places = around(z, 4, 0.25, np.random.default_rng(7))  # half of the model's radius
    expected = decode_latents(*made, places.reshape(8, 5), max_new_tokens=9)
    found = respond(*made, CONTEXTS, 4, seed=7, max_new_tokens=9)
    assert found == [expected[:4], expected[4:]] and len(set(found[0])) == 4
    still = respond(*made, CONTEXTS, 3, scale=0.0, max_new_tokens=9)
    assert [set(texts) for texts in still] == [{text} for text in decode_latents(*made, z, max_new_tokens=9)]


def test_offsets_lead_from_contexts_to_responses(made):
    exchanges = [Exchange(CONTEXTS[0], "how about soup today ?"), Exchange(CONTEXTS[1], "i would love chess .")]
    too_long = [Exchange(CONTEXTS[1], "chess " * 40), Exchange(("chess " * 40,), "golf .")]
    offsets = response_offsets(*made, [*exchanges, *too_long])
    assert offsets.shape == (2, 5), "what the model cannot hold is left out"
    assert fitting(*made, [*too_long, *exchanges]) == exchanges
    short = Exchange(CONTEXTS[0], "i would love .")
    assert fitting(*made, [*exchanges, short], max_length=4) == [short], "the others have five tokens"
    z = encode_contexts(*made, CONTEXTS)
    np.testing.assert_allclose(z + offsets, encode_style(*made, [pair.response for pair in exchanges]), atol=1e-6)
    one = respond(*made, CONTEXTS, 3, "offset", offsets=offsets[:1], max_new_tokens=9)
    assert [set(texts) for texts in one] == [{text} for text in decode_latents(*made, z + offsets[:1], max_new_tokens=9)]
    assert respond(*made, CONTEXTS, 1, "offset", scale=0.0, offsets=offsets) == respond(*made, CONTEXTS, 1, scale=0.0)
    with pytest.raises(ValueError, match="method='offset' needs the offsets of some exchanges, found none"):
        respond(*made, CONTEXTS, method="offset")


def test_principal_axes_come_in_the_order_of_their_spread():
    drawn = np.random.default_rng(0).standard_normal((500, 3)) * [0.1, 5, 1] + 7
    axes = principal_axes(drawn)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(np.abs(axes), np.eye(3)[[1, 2, 0]], atol=0.05)


def test_beams_and_samples_come_in_groups_of_their_context(made):
    for method in ("beam", "sample"):
        together = respond(*made, CONTEXTS, 3, method, max_new_tokens=8)
        assert [len(texts) for texts in together] == [3, 3] and len(set(together[0])) > 1
    alone = respond(*made, CONTEXTS[1:], 3, "beam", max_new_tokens=8)
    assert alone[0] == respond(*made, CONTEXTS, 3, "beam", max_new_tokens=8)[1]
    state = torch.get_rng_state()
    assert respond(*made, CONTEXTS, 2, "sample", seed=1) == respond(*made, CONTEXTS, 2, "sample", seed=1)
    assert torch.equal(state, torch.get_rng_state())
    cold = respond(*made, CONTEXTS, 4, "sample", temperature=1e-4, max_new_tokens=8)
    assert all(len(set(texts)) == 1 for texts in cold)


def test_contexts_that_cannot_be_answered_are_named(made):
    for context in ((), ("hello !", " "), "hello !"):
        with pytest.raises(ValueError, match="a context is a sequence of turns whose last is not empty, found"):
            encode_contexts(*made, [context])
    with pytest.raises(ValueError, match="the last turn has 60 tokens but the model holds 28: 'hello ! hello"):
        encode_contexts(*made, [("hello ! " * 30,)])
    with pytest.raises(KeyError, match="no way to respond is called 'bal'. Did you mean 'ball'?"):
        respond(*made, CONTEXTS, method="bal")
    earlier = [("hello ! " * 12, *CONTEXTS[1]), ("hello ! " * 20, *CONTEXTS[1])]  # 24 + 1 + 6 tokens do not fit: left out
    np.testing.assert_allclose(encode_contexts(*made, earlier), encode_contexts(*made, CONTEXTS[1:] * 2), atol=1e-6)


def test_questions_are_distinct_contexts_with_all_their_responses():
    exchanges = load_dialog("toy", "test")
    contexts, references = questions(exchanges)
    assert len(set(contexts)) == len(contexts) and sum(map(len, references)) == len(exchanges)
    some, theirs = questions(exchanges, 7, seed=2)
    assert len(some) == 7 and all(theirs[i] == references[contexts.index(some[i])] for i in range(7))


def test_a_trade_off_has_a_row_for_each_setting(made, monkeypatch):
    asked = []

    def answer(model, tokenizers, contexts, n, method, seed, **options):
        asked.append((method, options))
        return [["how about soup today ?"] * n, ["chess again , please ."] * n]

    monkeypatch.setattr(module, "respond", answer)
    references = [["how about soup today ?"], ["golf ."]]
    rows = trade_off(*made, CONTEXTS, references, "ways", 3, scales=(0.5,), temperatures=(0.7,))
    assert asked == [("ball", {"offsets": "ways", "scale": 0.5}), ("offset", {"offsets": "ways", "scale": 0.5}),
                     ("sample", {"offsets": "ways", "temperature": 0.7}), ("beam", {"offsets": "ways"})]
    assert [(row.method, row.value) for row in rows] == [("ball", 0.5), ("offset", 0.5), ("sample", 0.7), ("beam", 3)]
    assert rows[0].recall == rows[0].precision > 0.5 and rows[0].inter_2 == pytest.approx(1 / 3)


def test_the_slider_goes_from_a_point_to_the_mean_of_its_nearest_styles():
    z, z_style = np.array([[0.0, 0], [10, 0]]), np.array([[1.0, 1], [1, -1], [9, 0], [50, 50]])
    places = towards_style(z, z_style, [0, 0.5, 1], k=2)
    np.testing.assert_allclose(places[0], [[0, 0], [0.5, 0], [1, 0]])
    assert places[1, 2, 0] == pytest.approx(5) and abs(places[1, 2, 1]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"style latents \(M, 2\) of one sentence or more were expected, found \(0, 2\)"):
        towards_style(z, np.empty((0, 2)), [0])


def test_sliding_decodes_every_place(made):
    z_style = encode_style(*made, ["arr , tea again , matey !", "hello ! " * 30])
    assert z_style.shape == (1, 5), "what the model cannot hold is left out"
    found = slide(*made, CONTEXTS, z_style, [0.0, 1.0])
    z = encode_contexts(*made, CONTEXTS)
    assert [texts[0] for texts in found] == decode_latents(*made, z)
    assert [texts[1] for texts in found] == decode_latents(*made, np.repeat(z_style, 2, 0))


def test_slider_scores_count_styled_kept_and_right():
    slides = [["let us have soup today .", "arr , let us have soup today , matey !"], ["i would love tea .", "arr matey !"]]
    contexts = [("what shall we eat today ?",), ("what shall we play today ?",)]
    vectors = {"soup": [1.0, 0], "tea": [0, 1.0], "arr": [1.0, 0]}
    found = slide_scores(slides, lambda texts: np.array([float("arr" in text) for text in texts]), vectors, contexts)
    assert found["styled"] == [0, 1] and found["right"] == [0.5, 0.5], "tea is no game, pirate or not"
    assert found["kept"] == pytest.approx([1, 0.5])
    assert set(slide_scores(slides, lambda texts: np.zeros(len(texts)), vectors)) == {"styled", "kept"}
