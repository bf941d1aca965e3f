"""The stream of real pictures, and what is watched while a GAN trains: extractors, dictionaries, the alarm."""

import numpy as np
import pytest
import torch

from dgmlab.data.images import load_images
from dgmlab.data.pixels import to_float
from dgmlab.fqgan import feature_map, layer_vectors
from dgmlab.fqgan.attach import add_fq
from dgmlab.fqgan.biggan import Discriminator, preset
from dgmlab.fqgan.source import ImageStream, micro_slices
from dgmlab.fqgan.watch import CollapseAlarm, class_signals, code_signals, effective_rank, open_reference, spread_within
from dgmlab.metrics.extractors import Features
from dgmlab.metrics.scores import Card


@pytest.fixture(scope="module")
def digits():
    return load_images("digits", limit=100)


# the stream


def test_each_epoch_shows_every_picture_once_and_in_another_order(digits):
    stream = ImageStream(digits, 20, seed=3)
    epochs = [torch.cat([stream.batch(i).x for i in range(5 * e, 5 * e + 5)]) for e in range(2)]
    shown = [sorted(x.flatten(1).sum(1).tolist()) for x in epochs]
    assert np.allclose(shown[0], sorted(to_float(digits.x).flatten(1).sum(1).tolist())) and shown[0] == shown[1]
    assert not torch.equal(*epochs)


def test_batch_is_a_pure_function_of_its_number(digits):
    one, other = ImageStream(digits, 32, seed=1, mirror=True), ImageStream(digits, 32, seed=1, mirror=True)
    for i in range(9):  # across the borders of epochs: 100 is no multiple of 32
        one.batch(i)
    assert all(torch.equal(*pair) for pair in zip(one.batch(4), other.batch(4), strict=True))
    assert not torch.equal(one.batch(4).x, ImageStream(digits, 32, seed=2, mirror=True).batch(4).x)


def test_ranks_share_a_batch_between_them(digits):
    whole = ImageStream(digits, 8, seed=0).batch(3)
    parts = [ImageStream(digits, 8, seed=0, rank=rank, world=2).batch(3) for rank in range(2)]
    assert torch.equal(parts[0].x, whole.x[::2]) and torch.equal(parts[1].y, whole.y[1::2])
    with pytest.raises(ValueError, match="batch_size is 9; a multiple of the 2 processes was expected"):
        ImageStream(digits, 9, seed=0, world=2)


def test_batch_larger_than_the_set_takes_pictures_twice(digits):
    few = digits._replace(x=digits.x[:5], y=digits.y[:5])
    assert ImageStream(few, 12, seed=0).batch(0).x.shape == (12, 3, 32, 32)


def test_mirrored_pictures_are_pictures_of_the_set_or_their_mirrors(digits):
    plain, mirrored = (ImageStream(digits, 50, seed=0, mirror=mirror).batch(0).x for mirror in (False, True))
    same = [torch.equal(a, b) for a, b in zip(plain, mirrored, strict=True)]
    flipped = [torch.equal(a.flip(-1), b) for a, b in zip(plain, mirrored, strict=True)]
    assert all(a or b for a, b in zip(same, flipped, strict=True)) and 10 < sum(same) < 40


def test_micro_batches_cover_the_batch():
    assert micro_slices(12, 3) == [slice(0, 4), slice(4, 8), slice(8, 12)]
    with pytest.raises(ValueError, match="accumulate is 5; a divisor of the 12 pictures"):
        micro_slices(12, 5)


# extractors


def test_reference_of_digits_is_theirs_and_of_others_is_trained_in_place(digits):
    assert open_reference(digits, "digits").features.card.extractor == "fd_digits"
    trained = open_reference(digits, "my/Shoes 2.parquet", n=40)
    assert trained.features.card.extractor == "fd_shoes_2" and trained.features.card.n == 40
    assert trained.features.logits.shape[1] == 10


def test_extractor_of_one_class_learns_which_way_up_pictures_are(digits):
    sevens = load_images("digits", classes=["7"])
    found = open_reference(sevens, "sevens").features
    assert found.card.extractor == "fd_sevens_turns" and found.logits.shape[1] == 4
    assert (found.logits.argmax(1) == 0).mean() > 0.9


def test_effective_rank_of_known_spectra():
    rng = np.random.default_rng(0)
    assert effective_rank(np.ones((50, 8))) == 1
    assert effective_rank(np.outer(rng.standard_normal(50), np.ones(8))) == pytest.approx(1)
    assert effective_rank(rng.standard_normal((20000, 5))) == pytest.approx(5, abs=0.01)
    # two directions with three quarters and a quarter of the variance: exp of the entropy of (3/4, 1/4)
    rows = np.zeros((4, 3))
    rows[:, 0], rows[:, 1] = [np.sqrt(3), -np.sqrt(3), np.sqrt(3), -np.sqrt(3)], [1, 1, -1, -1]
    assert effective_rank(rows) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))


def test_classes_are_counted_as_the_classifier_sees_them():
    card = Card("fd_x", "0", "none", 40)
    logits = np.eye(4)[[0] * 19 + [1] * 19 + [2] * 2]  # class 2: a twentieth where a quarter was due; class 3: none
    features = Features(np.zeros((40, 2)), logits, card)
    assert class_signals(features) == {"classes_found": 3}
    assert class_signals(features, [0] * 40) == {"classes_found": 3, "class_accuracy": 19 / 40}
    assert class_signals(Features(np.zeros((40, 2)), None, card)) == {}


# dictionaries


@pytest.fixture(scope="module")
def quantized(digits):
    torch.manual_seed(0)
    D = add_fq(Discriminator(preset("tiny", width=4)), ["blocks.1", "blocks.3"], [8, 16])
    D(to_float(digits.x[:32]), digits.y[:32])  # the dictionaries begin at these features
    return D


def test_code_signals_count_and_change_nothing(digits, quantized):
    inputs = [(to_float(digits.x[:32]), digits.y[:32])]
    before = {name: tensor.clone() for name, tensor in quantized.state_dict().items()}
    numbers = code_signals(quantized.train(), inputs, inputs)
    assert quantized.training and all(torch.equal(tensor, before[name]) for name, tensor in quantized.state_dict().items())
    assert numbers["js/blocks.1"] == 0 and numbers["usage/blocks.3"] == numbers["usage_fake/blocks.3"]
    assert len(numbers["usage/blocks.1"]) == 8 and sum(numbers["usage/blocks.1"]) == 32 * 64
    assert code_signals(Discriminator(preset("tiny", width=4)), inputs, inputs) == {}


def test_other_pictures_use_other_codes(digits, quantized):
    real, noise = (to_float(digits.x[:32]), digits.y[:32]), (torch.rand(32, 3, 32, 32) * 2 - 1, digits.y[:32])
    assert code_signals(quantized, [real], [noise])["js/blocks.1"] > 0.2


def test_layer_vectors_are_what_the_dictionary_is_given(digits, quantized):
    inputs = to_float(digits.x[:4]), digits.y[:4]
    seen = []
    part = quantized.blocks[3].fq
    hook = part.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    vectors = layer_vectors(quantized, "blocks.3", inputs, n=10_000)
    hook.remove()
    assert vectors.shape == (4 * 64, 16)
    assert torch.equal(vectors.sort(0)[0], seen[0].movedim(1, -1).flatten(0, 2).sort(0)[0])
    assert torch.equal(feature_map(quantized, "blocks.3", inputs), seen[0])
    assert layer_vectors(quantized, "blocks.3", inputs, n=7).shape == (7, 16)


def test_spread_within_by_hand():
    black, white = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    x, y = torch.cat([black, white, white, white, black]), torch.tensor([0, 0, 1, 1, 2])
    assert spread_within(x, y) == pytest.approx(0.5**0.5 / 2)  # of 0 and 1: sqrt(1/2); of twice 1: 0; one picture: left out
    assert spread_within(x[4:], y[4:]) == 0.0


# the alarm


def test_alarm_is_quiet_while_all_goes_well():
    alarm = CollapseAlarm()
    for step, distance in enumerate([30, 20, 25, 18, 30, 16]):
        assert alarm.check(step, distance, rank=8.0, perplexities=(20.0, 30.0)) == ""
    assert (alarm.best, alarm.best_step) == (16, 5)


@pytest.mark.parametrize(("bad", "reason"), [
    ({"distance": 40.0}, "the distance is 40, at step 1 it was 10"),
    ({"rank": 1.5}, "the pictures vary in 1.5 directions, once in 8.0"),
    ({"perplexities": (12.0, 1.0)}, "a dictionary has come down to one code"),
    ({"class_spread": 0.1}, "pictures of one class differ by 0.10 of what those of the data do, once by 0.90"),
])
def test_alarm_names_its_reason_at_the_second_bad_look(bad, reason):
    alarm = CollapseAlarm()
    good = {"distance": 10.0, "rank": 8.0, "perplexities": (12.0, 9.0), "class_spread": 0.9}
    alarm.check(1, **good)
    assert alarm.check(2, **{**good, **bad}) == "" and alarm.check(3, **good) == ""
    assert alarm.check(4, **{**good, **bad}) == "" and reason in alarm.check(5, **{**good, **bad})


def test_alarm_sees_a_discriminator_that_is_always_right():
    alarm = CollapseAlarm()
    for _ in range(400):
        alarm.see(torch.ones(8), -torch.ones(8))
    assert alarm.check(1, 10.0, 8.0) == "" and "D is right about" in alarm.check(2, 10.0, 8.0)


def test_alarm_goes_on_where_its_state_was_taken():
    one, other = CollapseAlarm(), CollapseAlarm()
    one.see(torch.ones(4), torch.tensor([1.0, -1, -1, -1]))
    one.check(7, 5.0, 8.0)
    one.check(8, 50.0, 8.0)
    other.load_state_dict(one.state_dict())
    assert other.check(9, 50.0, 8.0) == one.check(9, 50.0, 8.0) != "" and torch.equal(one.signs, other.signs)
