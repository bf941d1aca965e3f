"""TAC-GAN's discriminator: three heads on one trunk, and class terms that teach each player what the paper says."""

import pytest
import torch

from dgmlab.fqgan.biggan import BigGANConfig, Discriminator, Trunk
from dgmlab.fqgan.losses import class_terms_d, class_terms_g, logistic_d
from dgmlab.fqgan.tacgan import DISCRIMINATORS, ACDiscriminator, TACDiscriminator

CONFIG = BigGANConfig(width=2, n_classes=3, init="orthogonal")
HEADS = pytest.mark.parametrize("head", list(DISCRIMINATORS))


def make(head, n=6):
    """(D, reals, fakes, labels)"""
    torch.manual_seed(0)
    return DISCRIMINATORS[head](CONFIG), torch.rand(n, 3, 32, 32) * 2 - 1, torch.rand(n, 3, 32, 32) - 1, torch.arange(n) % 3


@HEADS
def test_heads_answer_alike(head):
    D, x, _, y = make(head)
    out = D(x, y)
    assert out.logits.shape == (6,)
    assert (out.class_logits is not None, out.twin_logits is not None) == {
        "projection": (False, False), "ac": (True, False), "tac": (True, True)}[head]
    for logits in out[3:]:
        assert logits is None or logits.shape == (6, 3)


def test_heads_share_one_trunk():
    trunk = {name: p.shape for name, p in Trunk(CONFIG).named_parameters()}
    for head, own in (("projection", {"embed"}), ("ac", {"classifier"}), ("tac", {"classifier", "twin"})):
        shapes = {name: p.shape for name, p in make(head)[0].named_parameters()}
        assert {name: shapes.pop(name) for name in trunk} == trunk
        assert {name.split(".")[0] for name in shapes} == own


def test_counts_at_the_setting_of_cifar100(monkeypatch):
    monkeypatch.setattr("dgmlab.fqgan.biggan.spectral_norm", lambda layer, eps: layer)
    with torch.device("meta"):
        n = {head: sum(p.numel() for p in D(BigGANConfig(n_classes=100)).parameters()) for head, D in DISCRIMINATORS.items()}
    assert n == {"projection": 4_230_401, "ac": 4_230_401 + 100, "tac": 4_230_401 + 100 + 25_700}  # a bias; 256 x 100 + 100


def test_only_the_projection_is_told_the_class():
    for head in DISCRIMINATORS:
        D, x, _, y = make(head)
        D.eval()
        same = torch.equal(D(x, y).logits, D(x, (y + 1) % 3).logits)
        assert same == (head != "projection")


def test_twin_and_classifier_are_two_maps_of_the_same_features():
    D, x, _, y = make("tac")
    D.eval()
    h, out = D.features(x), D(x, y)
    assert torch.equal(out.class_logits, D.classifier(h)) and torch.equal(out.twin_logits, D.twin(h))
    assert not torch.allclose(out.class_logits, out.twin_logits, atol=1e-3)


@HEADS
def test_one_training_step_serves_all_heads_and_reaches_every_parameter(head):
    D, x, fake, y = make(head)
    real_out, fake_out = D(x, y), D(fake, y)
    loss = logistic_d(real_out.logits, fake_out.logits).loss + class_terms_d(real_out, y, fake_out, y).loss
    loss.backward()
    assert [name for name, p in D.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_classifier_learns_from_reals_alone_and_twin_from_fakes_alone():
    D, x, fake, y = make("tac")
    real_out, fake_out = D(x, y), D(fake, y)
    weights = [D.classifier.parametrizations.weight.original, D.twin.parametrizations.weight.original]
    terms = class_terms_d(real_out, y, fake_out, y)
    of_classifier = torch.autograd.grad(terms.classifier, weights, retain_graph=True, allow_unused=True)
    of_twin = torch.autograd.grad(terms.twin, weights, allow_unused=True)
    assert of_classifier[0].any() and of_classifier[1] is None and of_twin[0] is None and of_twin[1].any()


def test_generator_pleases_the_classifier_and_hides_from_the_twin():
    D, _, fake, y = make("tac")
    fake.requires_grad_()
    before = class_terms_g(D.eval()(fake, y), y)
    (slope,) = torch.autograd.grad(before.loss, fake)
    after = class_terms_g(D(fake - 0.1 * slope / slope.norm(), y), y)
    assert after.loss < before.loss
    for name, sign in (("classifier", 1), ("twin", -1)):
        (part,) = torch.autograd.grad(sign * getattr(class_terms_g(D(fake, y), y), name), fake)
        ahead = class_terms_g(D(fake - 0.1 * part / part.norm(), y), y)
        assert sign * getattr(ahead, name) < sign * getattr(before, name)


def test_classifiers_overfit_a_batch():
    D, x, fake, y = make("tac")
    for images in (x, fake):  # a class is a channel that is lit
        images[torch.arange(6), y] += 1
    steps = torch.optim.Adam(D.parameters(), lr=5e-3, betas=(0.0, 0.999))
    for _ in range(150):
        steps.zero_grad()
        terms = class_terms_d(D(x, y), y, D(fake, y), y)
        terms.loss.backward()
        steps.step()
    D.eval()
    assert torch.equal(D(x, y).class_logits.argmax(1), y) and torch.equal(D(fake, y).twin_logits.argmax(1), y)


@pytest.mark.parametrize("cls", [Discriminator, ACDiscriminator, TACDiscriminator])
def test_saved_and_loaded_heads_are_the_same(cls, tmp_path):
    torch.manual_seed(0)
    D, x, y = cls(CONFIG).eval(), torch.rand(2, 3, 32, 32), torch.tensor([0, 2])
    D.save_pretrained(tmp_path)
    mine, theirs = D(x, y), cls.from_pretrained(tmp_path)(x, y)
    for a, b in zip(mine, theirs, strict=True):
        assert a == b if a is None or isinstance(a, dict) else torch.equal(a, b)


def test_class_logits_stay_float32_under_autocast():
    D, x, _, y = make("tac")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = D(x, y)
    assert {out.logits.dtype, out.class_logits.dtype, out.twin_logits.dtype} == {torch.float32}
