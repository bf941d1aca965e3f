"""Two small classifiers that train a conditional model, and the terms they give: one reads z, the other reads text.

    z must not tell the label       adversary_loss trains the reader of z, confusion trains the encoder against it;
    a transfer must show its label  classifier_loss trains the reader of text on real sentences, style_loss the decoder by it

Each term moves one side only: the reader's loss sees detached inputs, and the loss of what is read sees a frozen reader.
CARA's released code weighs its adversarial terms with 0.0 and has no such division; the terms here are those it describes
(Li et al. 2020; the classifier of generated text after Hu et al. 2017, "Toward controlled generation of text").

Letters: B batch, T time, V vocabulary, Z latent, H width, L labels.
"""

import torch
from torch import nn
from torch.nn import functional


class LatentClassifier(nn.Module):
    """Which label does z come from?

    z is standardised over the batch: the reader hears faint dimensions as well as loud ones, and moving or scaling all z
    alike, which hides nothing, gets no gradient. (With the mean held constant, z drifts off without bounds.)
    """

    def __init__(self, latent_size, n_labels, width=256):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(latent_size, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                                    nn.Linear(width, n_labels))

    def forward(self, z):
        """z (B, Z) float, B > 1 -> logits (B, L)"""
        return self.layers((z - z.mean(0)) / (z.std(0, correction=0) + 1e-6))


class TextClassifier(nn.Module):
    """Which label does a text have? Token embeddings, a convolution over three tokens, the largest response of each channel.

    Embeddings and not ids go into `forward`, so that a mixture of words, which has a gradient, can be read like a word.
    """

    def __init__(self, vocab_size, n_labels, width=128):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.convolution = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.output = nn.Linear(width, n_labels)

    def forward(self, embeds, mask):
        """embeds (B, T, H), mask (B, T) True where a token is -> logits (B, L)"""
        inside = mask.unsqueeze(1)  # (B, 1, T)
        found = functional.gelu(self.convolution((embeds * mask.unsqueeze(-1)).transpose(1, 2)))  # (B, H, T)
        return self.output(found.masked_fill(~inside, -1e4).amax(2))


def frozen(module, *inputs):
    """The module's output with a gradient to the inputs and none to its parameters."""
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return torch.func.functional_call(module, constants, inputs)


def adversary_loss(adversary, z, labels):
    """Cross entropy of the reader of z, in nats; the encoder gets no gradient. z (B, Z), labels (B,) long -> ()"""
    return functional.cross_entropy(adversary(z.detach()), labels)


def confusion(adversary, z):
    """Cross entropy of what the reader says of z to all labels alike, in nats; the reader gets no gradient. z (B, Z) -> ()

    At least log L, and log L only where z tells it nothing; unlike minus the reader's loss it cannot be driven to infinity.
    """
    return -functional.log_softmax(frozen(adversary, z), dim=-1).mean()


def classifier_loss(classifier, target_ids, labels):
    """Cross entropy of the reader of text on real sentences, in nats. target_ids (B, T), -100 where padded -> ()"""
    mask = target_ids != -100
    return functional.cross_entropy(classifier(classifier.embedding(target_ids.clamp(min=0)), mask), labels)


def style_loss(classifier, logits, target_ids, labels):
    """Cross entropy of the label that a generated text should have, in nats; only the generator gets a gradient.

    logits      (B, T, V) float  of the decoder reading its own text: logits[:, t] gave target_ids[:, t]
    target_ids  (B, T) long      the generated text, -100 where padded
    The reader sees the words that were written; backward, each stands for the mixture it was chosen from (straight-through).
    """
    mask = target_ids != -100
    table = classifier.embedding.weight.detach()
    mixed = logits.float().softmax(-1) @ table  # (B, T, H)
    embeds = table[target_ids.clamp(min=0)] + mixed - mixed.detach()
    return functional.cross_entropy(frozen(classifier, embeds, mask), labels)
