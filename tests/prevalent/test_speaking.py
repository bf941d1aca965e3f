"""What a speaker sees of a path against the walker's own observations; decoding, scoring, back-translation."""

import math

import numpy as np
import pytest
import torch

from dgmlab.data.registry import data_home
from dgmlab.prevalent.features import environment_mask, observe, open_features
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.speaker import DECODERS, Speaker
from dgmlab.prevalent.speaking import (
    back_translate,
    decode_texts,
    draw,
    load_speaker,
    log_likelihood,
    path_inputs,
    save_speaker,
    speak,
)
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.walk import Walk
from dgmlab.prevalent.words import Words


@pytest.fixture(scope="module")
def houses():
    return Houses.toy(range(3))


@pytest.fixture(scope="module")
def features(houses):
    return open_features("toy", houses)


@pytest.fixture(scope="module")
def episodes(houses):
    return toy_episodes(houses, 12, seed=int(np.random.default_rng().integers(10**6)))


@pytest.fixture(scope="module")
def words(episodes):
    return Words.build([episode.instruction for episode in episodes], min_count=1)


def rows_of(houses, episodes):
    return [[houses.row(episode.scan, viewpoint) for viewpoint in episode.path] for episode in episodes]


def make_speaker(words, features, decoder="lstm", seed=0, spread=0.3):
    """A speaker at random, loud enough that what it says depends on the path."""
    torch.manual_seed(seed)
    speaker = Speaker.from_preset("tiny", len(words), features.size, hidden_size=32, embedding_size=16, decoder=decoder).eval()
    with torch.no_grad():
        for parameter in speaker.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=spread)
    return speaker


def check_against_walk(houses, features, paths, headings, environment=None):
    """Each path alone, one observation a step, as an agent sees it on its way."""
    inputs = path_inputs(features, houses, paths, headings, environment=environment)
    for b, path in enumerate(paths):
        walk = Walk(houses, np.array(path[:1]), np.array([headings[b]]))
        for s, row in enumerate(path):
            seen = observe(features, walk, environment=environment)
            assert torch.equal(inputs.views[b, s], seen.views[0])
            action = 0
            if s + 1 < len(path):
                action = 1 + int(np.flatnonzero(houses.candidates.index[row] == path[s + 1])[0])
            assert torch.equal(inputs.actions[b, s], seen.candidates[0, action])
            walk.move(np.array([action]))
        assert not inputs.actions[b, len(path) - 1].any(), "STOP is zeros"
    longest = max(map(len, paths))
    assert inputs.mask.tolist() == [[True] * len(path) + [False] * (longest - len(path)) for path in paths]


def test_a_path_is_seen_as_a_walker_sees_it(houses, features, episodes):
    headings = np.random.default_rng().uniform(-7, 7, len(episodes))
    check_against_walk(houses, features, rows_of(houses, episodes), headings)
    check_against_walk(houses, features, [[3], [5, *houses.candidates.index[5, :1]]], np.array([0.0, math.pi / 12]))
    check_against_walk(houses, features, rows_of(houses, episodes[:3]), headings[:3], environment_mask(features.size, 0.5))


def test_a_real_path_is_seen_as_a_walker_sees_it(random_scan):
    if not (data_home() / "matterport" / "REVERIE").is_dir():
        pytest.skip("needs matterport/REVERIE in DGMLAB_DATA")
    houses = Houses.load([random_scan])
    features, rng = open_features("semantic", houses), np.random.default_rng()
    paths = []
    while len(paths) < 5:
        path = [int(rng.choice(np.flatnonzero(houses.candidates.count)))]
        for _ in range(rng.integers(0, 6)):  # a random walk, which may come back
            path.append(int(rng.choice(houses.candidates.index[path[-1], :houses.candidates.count[path[-1]]])))
        paths.append(path)
    check_against_walk(houses, features, paths, rng.uniform(0, 2 * np.pi, 5))


def test_dropout_of_features_leaves_directions_alone(houses, features, episodes):
    paths, headings = rows_of(houses, episodes), np.zeros(len(episodes))
    whole = path_inputs(features, houses, paths, headings)
    generator = torch.Generator().manual_seed(0)
    holes = path_inputs(features, houses, paths, headings, image_dropout=0.25, generator=generator)
    size = features.size
    for full, part in ((whole.views, holes.views), (whole.actions, holes.actions)):
        assert torch.equal(full[..., size:], part[..., size:])
        there = full[..., :size] > 0
        kept = part[..., :size][there]
        ratio = kept / full[..., :size][there]
        assert torch.allclose(ratio[kept > 0], torch.tensor(4 / 3))
        assert 0.15 < float((kept == 0).float().mean()) < 0.35


def test_paths_that_cannot_be_are_named(houses, features):
    row = 4
    far = int(np.setdiff1d(np.arange(houses.offset[houses.scans[1]]), [row, *houses.candidates.index[row]])[0])
    (scan, here), (_, there) = houses.name(row), houses.name(far)
    with pytest.raises(ValueError, match=f"path of house {scan} goes from {here} to {there}.*no such edge"):
        path_inputs(features, houses, [[row, int(houses.candidates.index[row, 0])], [row, far]], [0.0, 0.0])
    with pytest.raises(ValueError, match="path 1 is empty"):
        path_inputs(features, houses, [[row], []], [0.0, 0.0])


@pytest.mark.parametrize("decoder", DECODERS)
def test_greedy_decoding_equals_the_argmax_of_the_whole_prefix(houses, features, episodes, words, decoder):
    speaker = make_speaker(words, features, decoder)
    inputs = path_inputs(features, houses, rows_of(houses, episodes), np.zeros(len(episodes)))
    ids = speak(speaker, words, inputs, max_length=15)
    prefix = torch.full((len(episodes), 1), words.cls)
    done = torch.zeros(len(episodes), dtype=torch.bool)
    for t in range(1, ids.shape[1]):
        with torch.no_grad():
            logits = speaker(inputs, prefix).logits[:, -1]
        logits[:, [words.pad, words.unk, words.cls, words.mask] + [words.sep] * (t == 1)] = -torch.inf
        word = logits.argmax(-1) if t <= 15 else torch.full_like(done, words.sep, dtype=torch.long)
        prefix = torch.cat([prefix, word.masked_fill(done, words.pad)[:, None]], 1)
        done |= word == words.sep
    assert torch.equal(ids, prefix)
    assert len({tuple(row) for row in ids.tolist()}) > 1, "every path is told alike: the test would show nothing"


def test_what_is_written_is_whole_and_without_unknown_words(houses, features, episodes, words):
    speaker = make_speaker(words, features)
    with torch.no_grad():
        speaker.decoder.projection.bias[[words.unk, words.sep, words.pad]] += 3.0  # it would love to
    inputs = path_inputs(features, houses, rows_of(houses, episodes), np.zeros(len(episodes)))
    for temperature in (0.0, 1.0, 5.0):
        ids = speak(speaker, words, inputs, temperature, n=4, max_length=12, generator=torch.Generator().manual_seed(1))
        assert ids.shape[0] == 4 * len(episodes) and ids.shape[1] <= 14
        for row in ids.tolist():
            end = row.index(words.sep)
            assert row[0] == words.cls and end > 1 and set(row[end + 1:]) <= {words.pad}
            assert not set(row[1:end]) & {words.pad, words.unk, words.cls, words.mask}
        assert "<" not in " ".join(decode_texts(words, ids))


def test_n_instructions_stand_path_after_path(houses, features, episodes, words):
    speaker = make_speaker(words, features)
    inputs = path_inputs(features, houses, rows_of(houses, episodes), np.zeros(len(episodes)))
    once, thrice = speak(speaker, words, inputs), speak(speaker, words, inputs, n=3)
    assert torch.equal(once.repeat_interleave(3, 0), thrice)
    drawn = speak(speaker, words, inputs, 1.0, 3, generator=torch.Generator().manual_seed(2))
    assert torch.equal(drawn, speak(speaker, words, inputs, 1.0, 3, generator=torch.Generator().manual_seed(2)))
    assert len(set(decode_texts(words, drawn))) > len(episodes)


def test_words_are_drawn_with_their_probabilities():
    logits = torch.tensor([[math.log(0.5), -torch.inf, math.log(0.3), math.log(0.2)]])
    generator = torch.Generator().manual_seed(3)
    for temperature, expected in ((1.0, np.array([0.5, 0, 0.3, 0.2])), (0.5, np.array([25, 0, 9, 4]) / 38)):
        counts = np.bincount(draw(logits.expand(20_000, -1), temperature, generator), minlength=4) / 20_000
        assert np.abs(counts - expected).max() < 0.015 and counts[1] == 0
    assert draw(logits, 0.0).tolist() == [0]


def test_log_likelihood_is_the_sum_over_words_and_the_end(houses, features, episodes, words):
    speaker = make_speaker(words, features)
    paths, headings = rows_of(houses, episodes), np.array([episode.heading for episode in episodes])
    texts = [episode.instruction for episode in episodes]
    scores = log_likelihood(speaker, words, features, houses, paths, texts, headings, batch_size=5)
    for i in (0, 7, 11):
        inputs = path_inputs(features, houses, [paths[i]], headings[i:i + 1])
        ids = words.encode(texts[i], 200)
        with torch.no_grad():
            log_p = speaker(inputs, torch.tensor([ids])).logits[0].double().log_softmax(-1)
        assert float(scores[i]) == pytest.approx(sum(float(log_p[t, word]) for t, word in enumerate(ids[1:])), rel=1e-4)
    assert not torch.allclose(scores, log_likelihood(speaker, words, features, houses, paths[::-1], texts, headings[::-1]))
    assert log_likelihood(speaker, words, features, houses, [], []).shape == (0,)


def test_back_translation_sees_through_the_environment(houses, features, episodes, words):
    speaker = make_speaker(words, features, spread=0.5)
    paths, headings = rows_of(houses, episodes), np.zeros(len(episodes))
    environment = environment_mask(features.size, 0.5, torch.Generator().manual_seed(4))
    speaker.train()
    ids, mask = back_translate(speaker, words, features, houses, paths, headings, environment, max_length=20)
    assert speaker.training and torch.equal(mask, ids != words.pad)
    speaker.eval()
    inputs = path_inputs(features, houses, paths, headings, environment=environment)
    assert torch.equal(ids, speak(speaker, words, inputs, max_length=20))
    plain, _ = back_translate(speaker, words, features, houses, paths, headings, max_length=20)
    assert ids.shape != plain.shape or not torch.equal(ids, plain)


def test_saved_with_its_words_and_loaded(features, words, tmp_path):
    speaker = make_speaker(words, features)
    save_speaker(tmp_path / "model", speaker, words)
    save_speaker(tmp_path / "notebook" / "speaker" / "model", speaker, words)
    for folder in (tmp_path, tmp_path / "model", tmp_path / "notebook"):
        again, theirs = load_speaker(folder)
        assert theirs.vocabulary == words.vocabulary and not again.training
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), speaker.parameters(), strict=True))
    with pytest.raises(FileNotFoundError, match="a speaker was expected at .*config.json. Train one with 31_speaker_train"):
        load_speaker(tmp_path / "nowhere")
