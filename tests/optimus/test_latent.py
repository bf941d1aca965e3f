"""Latent arithmetic by hand, and sentences in and out of a random model."""

import numpy as np
import pytest
import torch

from dgmlab.data import grammar
from dgmlab.optimus.data import Tokenizers, bpe_tokenizer, load_trained, save_trained, to_text, word_tokenizer
from dgmlab.optimus.latent import (
    DECODING,
    analogy,
    attribute_vector,
    decode_latents,
    encode_sentences,
    interpolate,
    random_walk,
    sample_prior,
)
from dgmlab.optimus.model import Optimus


@pytest.fixture(scope="module")
def codec():
    tokenizer = word_tokenizer(grammar.sentences())
    tokenizers = Tokenizers(tokenizer, tokenizer)
    torch.manual_seed(0)
    return Optimus.from_preset("tiny", tokenizers, latent_size=4, n_positions=20).eval(), tokenizers


def test_interpolation_goes_through_both_ends_in_equal_steps():
    assert interpolate([0.0, 4.0], [2.0, 0.0], 3).tolist() == [[0, 4], [1, 2], [2, 0]]
    with pytest.raises(ValueError, match="at least its two ends, found n=1"):
        interpolate([0.0], [1.0], 1)


def test_spherical_interpolation_keeps_the_norm():
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    arc = interpolate(a, b, 5, kind="spherical")
    assert np.allclose(np.linalg.norm(arc, axis=1), 1.0, atol=1e-6)
    assert np.allclose(arc[2], [np.sqrt(0.5)] * 2, atol=1e-6) and np.allclose(arc[[0, -1]], [a, b], atol=1e-6)
    assert np.allclose(interpolate(a, a, 3, kind="spherical"), [a, a, a])
    with pytest.raises(KeyError, match="linear, spherical"):
        interpolate(a, b, 3, kind="cubic")


def test_analogy_adds_the_difference_times_the_degree():
    assert analogy(np.array([1.0, 0]), np.array([3.0, 1]), np.array([0.0, 5])).tolist() == [2, 6]
    assert analogy(np.array([1.0]), np.array([3.0]), np.array([0.0]), degree=0.5).tolist() == [1]


def test_attribute_vector_is_a_difference_of_means():
    z = np.array([[0.0, 0], [2, 0], [5, 5]])
    assert attribute_vector(z, ["a", "a", "b"], "a", "b").tolist() == [4, 5]
    with pytest.raises(ValueError, match="no sentence has label 'c'"):
        attribute_vector(z, ["a", "a", "b"], "a", "c")


def test_random_walk_takes_steps_of_its_length_and_stays_where_the_prior_lives():
    walk = random_walk(np.zeros(16), 40, step=0.5, seed=1)
    steps = np.linalg.norm(np.diff(walk, axis=0), axis=1)
    assert walk.shape == (40, 16) and steps[:5] == pytest.approx(0.5, abs=1e-5)
    assert np.linalg.norm(walk, axis=1).max() <= 4.0 + 1e-5
    assert sample_prior(3, 5, seed=2).shape == (3, 5)


@pytest.mark.parametrize("method", DECODING)
def test_every_decoding_method_gives_sentences_and_leaves_the_random_state(codec, method):
    model, tokenizers = codec
    state = torch.get_rng_state()
    first = decode_latents(model, tokenizers, sample_prior(3, 4), method, seed=1)
    assert first == decode_latents(model, tokenizers, sample_prior(3, 4), method, seed=1)
    assert len(first) == 3 and torch.equal(state, torch.get_rng_state())
    assert not any(token in text for text in first for token in ("<bos>", "<eos>", "<pad>"))


def test_a_prompt_begins_every_sentence(codec):
    model, tokenizers = codec
    texts = decode_latents(model, tokenizers, sample_prior(2, 4), prompt="this cat")
    assert all(text.startswith("this cat") for text in texts)
    with pytest.raises(KeyError, match="no decoding method is called 'gready'. Did you mean 'greedy'"):
        decode_latents(model, tokenizers, sample_prior(1, 4), "gready")


def test_encoding_does_not_depend_on_the_company(codec):
    model, tokenizers = codec
    sentences = grammar.sample(5, seed=3)
    together = encode_sentences(model, tokenizers, sentences)
    alone = np.concatenate([encode_sentences(model, tokenizers, [sentence]) for sentence in sentences])
    assert together.shape == (5, 4) and np.allclose(together, alone, atol=1e-5)


def test_sentences_the_model_cannot_hold_are_named(codec):
    model, tokenizers = codec
    with pytest.raises(ValueError, match=r"a sentence has 40 tokens but the model holds 18: 'cat cat"):
        encode_sentences(model, tokenizers, ["cat " * 40])
    with pytest.raises(ValueError, match="a sentence is empty"):
        encode_sentences(model, tokenizers, [" "])


def test_trained_model_comes_back_from_its_folder(codec, tmp_path):
    model, tokenizers = codec
    save_trained(tmp_path / "model", model, tokenizers)
    loaded, theirs = load_trained(tmp_path)
    sentences = grammar.sample(4, seed=9)
    z = encode_sentences(model, tokenizers, sentences)
    assert np.array_equal(z, encode_sentences(loaded, theirs, sentences))
    assert decode_latents(model, tokenizers, z) == decode_latents(loaded, theirs, z)
    with pytest.raises(FileNotFoundError, match="a trained model was expected at"):
        load_trained(tmp_path / "nothing")


def test_byte_level_bpe_round_trips_any_text():
    tokenizer = bpe_tokenizer(["the cat <unk> sat N times ."] * 20, vocab_size=400)
    for text in ("the cat <unk> sat", "Ünïcode 123 — !", "N"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert to_text(tokenizer, [[tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, tokenizer.pad_token_id]]) == [text]
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3
