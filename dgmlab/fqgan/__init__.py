"""FQ-GAN and its backbones (Zhao et al. 2020): `from dgmlab.fqgan.biggan import Discriminator, Generator, preset`."""
