"""TAC-GAN's discriminator (Gong et al. 2019) on BigGAN's trunk, with AC-GAN and projection as alternatives.

    projection  the class enters the logit (`biggan.Discriminator`)
    ac          an auxiliary classifier; G pleases it, and narrows its classes in doing so (Odena et al. 2017)
    tac         a second, twin classifier, trained on fakes alone; G hides the class from it, which undoes the narrowing

The class terms of the losses are `losses.class_terms_d` and `losses.class_terms_g`; they are 0 for the projection head, so
one training step serves all three. The convolution that joins four images ("packing") in the authors' network is left out:
their scripts never use it.
"""

from torch import nn

from dgmlab.fqgan.biggan import BigGANConfig, Discriminator, Trunk, normalised
from dgmlab.fqgan.losses import DOut


class ACDiscriminator(Trunk):
    """Real or fake, and which class, from the same features; it is not told the class."""

    def __init__(self, config: BigGANConfig):
        super().__init__(config)
        self.classifier = normalised(nn.Linear(self.n_features, config.n_classes), config)

    def head(self, h, y):
        """h (B, C) features; y is taken so that all heads are called alike, and not looked at -> DOut"""
        return DOut(self.linear(h).squeeze(1), self.classifier(h))


class TACDiscriminator(ACDiscriminator):
    """AC-GAN's, with the twin classifier beside the first."""

    def __init__(self, config: BigGANConfig):
        super().__init__(config)
        self.twin = normalised(nn.Linear(self.n_features, config.n_classes), config)

    def head(self, h, y):
        """h (B, C) features; y is not looked at -> DOut with both class logits"""
        return super().head(h, y)._replace(twin_logits=self.twin(h))


DISCRIMINATORS = {"projection": Discriminator, "ac": ACDiscriminator, "tac": TACDiscriminator}
