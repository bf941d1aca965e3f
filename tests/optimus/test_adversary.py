"""The readers of z and of text: each term moves the side it is for, in the intended direction, and only that side."""

import math

import pytest
import torch
from torch.nn import functional

from dgmlab.optimus.adversary import (
    LatentClassifier,
    TextClassifier,
    adversary_loss,
    classifier_loss,
    confusion,
    style_loss,
)

B, Z, L, V, T = 64, 5, 3, 12, 6


@pytest.fixture
def readable():
    """z (B, Z) whose first L numbers tell the label, the labels, and a reader that has learnt to read them."""
    torch.manual_seed(0)
    labels = torch.arange(B) % L
    z = torch.randn(B, Z)
    z[:, :L] += 2.0 * functional.one_hot(labels, L)
    adversary = LatentClassifier(Z, L, width=32)
    optimizer = torch.optim.Adam(adversary.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = adversary_loss(adversary, z, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], "the reader should learn to read"
    adversary.zero_grad()
    return z, labels, adversary


def test_the_readers_loss_gives_the_encoder_no_gradient(readable):
    z, labels, adversary = readable
    z = z.clone().requires_grad_()
    adversary_loss(adversary, z, labels).backward()
    assert z.grad is None and all(parameter.grad.abs().sum() > 0 for parameter in adversary.parameters())


def test_confusion_moves_z_and_not_the_reader_and_hides_the_label(readable):
    z, labels, adversary = readable
    z = z.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    before = functional.cross_entropy(adversary(z), labels).item(), confusion(adversary, z).item()
    for step in range(40):
        optimizer.zero_grad()
        confusion(adversary, z).backward()
        assert step or z.grad.abs().sum() > 0
        optimizer.step()
    assert all(parameter.grad is None for parameter in adversary.parameters())
    after = functional.cross_entropy(adversary(z), labels).item(), confusion(adversary, z).item()
    assert after[0] > before[0] + 0.3 and after[1] < before[1]


def test_moving_or_scaling_all_z_alike_hides_nothing_and_gets_no_gradient(readable):
    z, labels, adversary = readable
    shift, scale = torch.zeros(Z, requires_grad=True), torch.ones(Z, requires_grad=True)
    confusion(adversary, scale * z + shift).backward()
    assert shift.grad.abs().max() < 1e-5 and scale.grad.abs().max() < 1e-4


def test_confusion_is_least_and_log_l_where_the_reader_knows_nothing():
    torch.manual_seed(0)
    adversary, z = LatentClassifier(Z, L), torch.randn(B, Z)
    assert confusion(adversary, z) > math.log(L)
    for parameter in adversary.parameters():
        torch.nn.init.zeros_(parameter)
    assert confusion(adversary, z).item() == pytest.approx(math.log(L))


@pytest.fixture
def critic():
    """A reader of text that has learnt that words 2, 3, 4 mean labels 0, 1, 2; other words mean nothing."""
    torch.manual_seed(0)
    classifier = TextClassifier(V, L, width=16)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    for _ in range(80):
        ids, labels = torch.randint(5, V, (B, T)), torch.randint(L, (B,))
        ids[torch.arange(B), torch.randint(T, (B,))] = labels + 2
        optimizer.zero_grad()
        loss = classifier_loss(classifier, ids, labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.3, "the reader should learn to read"
    classifier.zero_grad()
    return classifier


def test_the_reader_of_text_does_not_see_padding(critic):
    ids = torch.randint(5, V, (4, T))
    padded = functional.pad(ids, (0, 3), value=-100)
    labels = torch.tensor([0, 1, 2, 0])
    short, long = (classifier_loss(critic, each, labels).item() for each in (ids, padded))
    assert short == pytest.approx(long, abs=1e-6)


def test_style_moves_the_words_and_not_the_reader_towards_the_wanted_label(critic):
    """The generator's logits go to the word of the wanted label, though another word was written."""
    torch.manual_seed(1)
    logits = torch.zeros(3, T, V, requires_grad=True)
    written, wanted = torch.randint(5, V, (3, T)), torch.tensor([0, 1, 2])
    optimizer = torch.optim.SGD([logits], lr=20.0)
    first = style_loss(critic, logits, written, wanted)
    for step in range(30):
        optimizer.zero_grad()
        style_loss(critic, logits, written, wanted).backward()
        assert step or logits.grad.abs().sum() > 0
        optimizer.step()
    assert all(parameter.grad is None for parameter in critic.parameters())
    share = logits.softmax(-1).amax(1).detach()  # (3, V) the most a word got at any place
    assert [int(share[i, 2:5].argmax()) for i in range(3)] == [0, 1, 2]
    rewritten = logits.argmax(-1)
    assert style_loss(critic, logits, rewritten, wanted) < 0.5 * first


def test_style_is_read_from_the_words_that_were_written(critic):
    logits = torch.zeros(1, T, V)
    plain = torch.full((1, T), 6)
    marked = plain.clone()
    marked[0, 2] = 3
    wanted = torch.tensor([1])
    assert style_loss(critic, logits, marked, wanted) < 0.3 < style_loss(critic, logits, plain, wanted)
