"""What a discriminator returns, and the losses of the two players: adversarial, class terms, regularisers.

Letters: B batch, N classes. All losses are averaged over the batch and are to be minimised.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize


class DOut(NamedTuple):
    """What a class-conditional discriminator says about a batch; of codes and commitment, `attach.collect` tells."""

    logits: torch.Tensor  # (B,) high for real, unbounded
    class_logits: torch.Tensor | None = None  # (B, N) of the classifier, where there is one
    twin_logits: torch.Tensor | None = None  # (B, N) of the twin classifier, where there is one

    def halves(self):
        """What it said of the first and of the second half of the batch -> pair of DOut"""
        pairs = [(None, None) if each is None else each.chunk(2) for each in self]
        return tuple(DOut(*half) for half in zip(*pairs, strict=True))


class DTerms(NamedTuple):
    """Adversarial loss of D: loss () = real () + fake ()."""

    loss: torch.Tensor
    real: torch.Tensor
    fake: torch.Tensor


class ClassTerms(NamedTuple):
    """Class terms of one player: loss () to minimise; classifier () and twin () cross-entropies in nats."""

    loss: torch.Tensor
    classifier: torch.Tensor
    twin: torch.Tensor


class Adversarial(NamedTuple):
    """The pair of losses of one game: d(real_logits, fake_logits) -> DTerms, g(fake_logits) -> ()."""

    d: callable
    g: callable


# adversarial losses


def hinge_d(real_logits, fake_logits):
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim and Ye 2017; Miyato et al. 2018, eq. 16).

    real_logits, fake_logits  (B,) float; the two batches may differ in size -> DTerms
    """
    real, fake = functional.relu(1 - real_logits).mean(), functional.relu(1 + fake_logits).mean()
    return DTerms(real + fake, real, fake)


def hinge_g(fake_logits):
    """-D(G(z)), G's side of the hinge game (Miyato et al. 2018, eq. 17): fake_logits (B,) -> ()"""
    return -fake_logits.mean()


def logistic_d(real_logits, fake_logits):
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))), in nats (Goodfellow et al. 2014, eq. 1).

    real_logits, fake_logits  (B,) float; the two batches may differ in size -> DTerms
    """
    real, fake = functional.softplus(-real_logits).mean(), functional.softplus(fake_logits).mean()
    return DTerms(real + fake, real, fake)


def logistic_g(fake_logits):
    """-log sigmoid(D(G(z))), the non-saturating side of G (Goodfellow et al. 2014, section 3): fake_logits (B,) -> ()"""
    return functional.softplus(-fake_logits).mean()


ADVERSARIAL = {"hinge": Adversarial(hinge_d, hinge_g), "logistic": Adversarial(logistic_d, logistic_g)}


# class terms: one call for every head, because a head that lacks a classifier adds nothing


def class_terms_d(real, real_labels, fake, fake_labels):
    """D's class terms: the classifier learns from reals, the twin from fakes (Gong et al. 2019, TAC-GAN).

    real, fake                DOut of the real and of the generated batch
    real_labels, fake_labels  (B,) long
    -> ClassTerms with loss = classifier + twin, as the authors' code; AC-GAN (no twin) trains the classifier on reals
       alone there too, where Odena et al. 2017 add the fakes
    """
    classifier = _cross_entropy(real.class_logits, real_labels, real.logits)
    twin = _cross_entropy(fake.twin_logits, fake_labels, fake.logits)
    return ClassTerms(classifier + twin, classifier, twin)


def class_terms_g(fake, fake_labels):
    """G's class terms: please the classifier, and hide the class from the twin (Gong et al. 2019, TAC-GAN).

    The twin's cross-entropy enters with a minus: it cancels the conditional entropy H(Y|X) that AC-GAN pushes down, which
    is what narrows AC-GAN's classes.

    fake         DOut of the generated batch
    fake_labels  (B,) long
    -> ClassTerms with loss = classifier - twin
    """
    classifier = _cross_entropy(fake.class_logits, fake_labels, fake.logits)
    twin = _cross_entropy(fake.twin_logits, fake_labels, fake.logits)
    return ClassTerms(classifier - twin, classifier, twin)


def _cross_entropy(class_logits, labels, like):
    """Mean cross-entropy () in nats, or a zero where the head has no such classifier."""
    return like.new_zeros(()) if class_logits is None else functional.cross_entropy(class_logits, labels)


# regularisers


def orthogonal_penalty(model):
    """Sum over weights of |W W^T * (1 - I)|^2 / 2: rows at right angles, of any length (Brock et al. 2019, section 3.1).

    W is (rows, rest) of every convolution and linear map before its spectral norm; embeddings are left out. The half makes
    the gradient 2 (W W^T * (1 - I)) W, that of the released code, so that its strength 1e-4 means the same here.
    -> ()
    """
    total = 0.0
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            w = raw_weight(layer).flatten(1)
            # |W W^T| = |W^T W|, so the smaller of the two Gram matrices will do: 16,384 rows would be a gigabyte
            gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
            total = total + (gram.square().sum() - w.square().sum(1).square().sum()) / 2
    return total


def raw_weight(layer):
    """The trained tensor behind `layer.weight`: before spectral norm, where the layer has it."""
    return layer.parametrizations.weight.original if parametrize.is_parametrized(layer, "weight") else layer.weight


def r1_penalty(logits, images, gamma):
    """gamma / 2 * |d D(x) / d x|^2 on real images (Mescheder et al. 2018, eq. 9).

    logits  (B,) D's answer, each for its own image only (no BatchNorm in D)
    images  (B, ...) what D was given; it must have had `requires_grad_()` before that call
    gamma   strength; too low and D's slope grows without bound, too high and D cannot tell fakes from reals
    -> () that can be differentiated again
    """
    if not images.requires_grad:
        raise ValueError("r1_penalty needs the gradient in the images: call images.requires_grad_() before D(images, y).")
    (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gamma / 2 * slope.flatten(1).square().sum(1).mean()
