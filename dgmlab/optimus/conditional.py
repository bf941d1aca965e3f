"""Optimus conditioned on a label: the decoder reads z + e(label), and z itself should not know the label.

The design of CARA, the label-conditional model of Optimus (Li et al. 2020), after ARAE (Zhao et al. 2018): a
label embedding is added to z in latent space, and the sum goes the ways of any latent, so that `generate`, `decode_latents`
and every tool for latents serve a conditional model unchanged. An adversary frees z of the label (`dgmlab.optimus.adversary`).

Where the released code learns a generator of z by a second adversary, here a Gaussian is fitted to the z of the training set
once the model is trained (Ghosh et al. 2020): with a small KL weight the prior N(0, 1) is not where z lies.

Letters: B batch, N sentences, Z latent, L labels.
"""

import torch
from torch import nn

from dgmlab.optimus.data import Tokenizers, model_folder
from dgmlab.optimus.model import LATENT_MAPS, Optimus, OptimusConfig, Posterior

QUIET = -4.0  # shift of logvar where latent maps start at random: noise of 0.14 and not 1, which would drown a young z
LABEL_STD = 1.0  # initial label embeddings: about as loud as z, so that the decoder hears them from the start


class ConditionalOptimusConfig(OptimusConfig):
    """An `OptimusConfig`, the names of the labels, two or more, and what is added to every logvar of the posterior."""

    model_type = "conditional_optimus"
    label_names: list | None = None
    logvar_shift: float = 0.0


class ConditionalOptimus(Optimus):
    """Optimus with a label embedding; `condition` makes the latent that the decoder reads.

    >>> z = model.encode(input_ids, attention_mask).mu
    >>> ids = model.generate(latent=model.condition(z, torch.tensor([1])), max_new_tokens=20)

    prior_mean (Z,), prior_factor (Z, Z)  z = prior_mean + prior_factor @ eps; N(0, 1) until `fit_prior`
    """

    config_class = ConditionalOptimusConfig

    def __init__(self, config, encoder=None, decoder=None):
        if len(config.label_names or ()) < 2:
            raise ValueError(f"a conditional model needs two labels or more, found {config.label_names or 'none'}.")
        super().__init__(config, encoder, decoder)
        # no padding_idx: it would hold the first label's vector at zero for ever
        self.label_embedding = nn.Embedding(len(config.label_names), config.latent_size)
        self.register_buffer("prior_mean", torch.zeros(config.latent_size))
        self.register_buffer("prior_factor", torch.eye(config.latent_size))
        self.post_init()

    def _init_weights(self, module):
        """As Optimus's, and N(0, LABEL_STD) for the label embeddings."""
        super()._init_weights(module)
        if module is getattr(self, "label_embedding", None):
            nn.init.normal_(module.weight, std=LABEL_STD)

    @classmethod
    def from_optimus(cls, model, label_names, latent_size=None):
        """A conditional model on the backbones of `model`, which it takes over, and on its latent maps where Z stays.

        label_names  two or more names; their order numbers the labels
        latent_size  Z; None keeps the model's own and its latent maps, a number starts new maps, whose noise is quiet
        """
        fields = {**model.config.joint(), "label_names": list(label_names), "logvar_shift": QUIET if latent_size else 0.0}
        if latent_size:
            fields["latent_size"] = latent_size
        made = cls(ConditionalOptimusConfig(**fields), model.encoder, model.decoder)
        if not latent_size:
            for name in LATENT_MAPS:
                if hasattr(model, name):
                    getattr(made, name).load_state_dict(getattr(model, name).state_dict())
        return made

    def encode(self, input_ids, attention_mask=None):
        """As `Optimus.encode`, with the shift of logvar. -> Posterior, each (B, Z)"""
        mu, logvar = super().encode(input_ids, attention_mask)
        return Posterior(mu, logvar + self.config.logvar_shift)

    @property
    def label_names(self):
        return tuple(self.config.label_names)

    def condition(self, z, labels):
        """z (B, Z) and labels (B,) long -> the latent that is decoded, (B, Z)."""
        return z + self.label_embedding(labels)

    @torch.no_grad()
    def fit_prior(self, z):
        """Take mean and covariance of z (N, Z), N > 1, for the Gaussian that `sample_prior` draws from."""
        z = torch.as_tensor(z, dtype=torch.float64)
        variance, directions = torch.linalg.eigh(torch.cov(z.T).reshape(z.shape[1], -1))
        self.prior_mean.copy_(z.mean(0))
        self.prior_factor.copy_(directions * variance.clamp(min=0).sqrt())  # defined where a dimension is silent, too

    @torch.no_grad()
    def sample_prior(self, n, generator=None):
        """n draws of z, without a label -> (n, Z); generator: on the CPU."""
        eps = torch.randn(n, self.config.latent_size, generator=generator).to(self.prior_mean)
        return self.prior_mean + eps @ self.prior_factor.T


def load_conditional(folder):
    """(model in evaluation mode, tokenizers) of a run folder of conditional training, or of its model/ folder."""
    folder = model_folder(folder)
    return ConditionalOptimus.from_pretrained(folder).eval(), Tokenizers.load(folder)
