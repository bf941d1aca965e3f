"""The article's first figure, redrawn: generative models over time by their number of parameters, in three families.

After Figure 1 of C. Li and J. Gao, "A deep generative model trifecta: Three advances that work towards harnessing large-scale
power", Microsoft Research Blog, 2020. The figure there names the models but prints no counts: each row below says where its
count is from. `derived` is arithmetic over the published layer sizes; `unverified` is recalled and was not looked up again.
"""

import datetime
from typing import NamedTuple

import numpy as np

from dgmlab.viz import style
from dgmlab.viz.table import table


class Model(NamedTuple):
    """name; family (a key of FAMILY_COLOURS); date of the first publication, year-month; parameters; source of the count."""

    name: str
    family: str
    date: str
    parameters: float
    source: str


class Family(NamedTuple):
    family: str
    learns: str
    strengths: str
    weaknesses: str
    scaled_up_by: str
    here: str


MODELS = (
    Model("NLM", "autoregressive", "2003-02", 4.1e6,
          "Bengio et al. 2003, JMLR; derived for the Brown corpus network (16,383 words, n 5, m 30, h 100); unverified"),
    Model("VAE", "VAE", "2013-12", 8.1e5,
          "Kingma and Welling 2013, arXiv 1312.6114; derived: MNIST, 500 hidden units, 20 latent; unverified"),
    Model("GAN", "GAN", "2014-06", 2.5e6,
          "Goodfellow et al. 2014, arXiv 1406.2661; derived: MNIST generator 100-1200-1200-784; unverified"),
    Model("Transformer", "reference", "2017-06", 2.13e8, "Vaswani et al. 2017, arXiv 1706.03762, Table 3, big model"),
    Model("GPT", "autoregressive", "2018-06", 1.17e8,
          "Radford et al. 2018; count as given in Radford et al. 2019, Table 2; unverified"),
    Model("BigGAN", "GAN", "2018-09", 1.58e8,
          "Brock et al. 2018, arXiv 1809.11096, Table 1: G and D together at 128 px; unverified"),
    Model("BERT", "reference", "2018-10", 3.4e8, "Devlin et al. 2018, arXiv 1810.04805, section 3: BERT-large"),
    Model("StyleGAN", "GAN", "2018-12", 2.62e7, "Karras et al. 2018, arXiv 1812.04948: generator of 26.2 M"),
    Model("GPT-2", "autoregressive", "2019-02", 1.5e9, "Radford et al. 2019, abstract: 1.5 billion"),
    Model("Megatron-LM", "autoregressive", "2019-09", 8.3e9, "Shoeybi et al. 2019, arXiv 1909.08053, abstract: 8.3 billion"),
    Model("StyleGAN2", "GAN", "2019-12", 3.0e7, "Karras et al. 2019, arXiv 1912.04958: generator; unverified"),
    Model("T-NLG", "autoregressive", "2020-02", 1.7e10, "Microsoft Research Blog, 10 February 2020: 17 billion"),
    Model("Prevalent", "autoregressive", "2020-02", 1.56e8,
          "Hao et al. 2020, arXiv 2002.10638; derived: BERT embeddings, 9 text and 4 cross-modal layers, vision input, heads"),
    Model("Optimus", "VAE", "2020-04", 2.33e8,
          "Li et al. 2020, arXiv 2004.04092; derived: BERT-base-cased 108.3 M + GPT-2 124.4 M + latent projections (32)"),
    Model("FQ-GAN", "GAN", "2020-04", 1.58e8,
          "Zhao et al. 2020, arXiv 2004.02088; the BigGAN network plus dictionaries; unverified"),
    Model("iGPT-XL", "autoregressive", "2020-06", 6.8e9, "Chen et al. 2020, Generative Pretraining from Pixels: 6.8 billion"),
)
OURS = ("Optimus", "FQ-GAN", "Prevalent", "iGPT-XL")

FAMILY_COLOURS = {"autoregressive": style.BLUE, "VAE": style.GREEN, "GAN": style.ORANGE, "reference": style.SLATE}

FAMILIES = (
    Family("VAE", "an encoder q(z|x) and a decoder p(x|z) together, by a lower bound of the likelihood (ELBO)",
           "a smooth latent space to encode into, interpolate and do arithmetic in; a bound on the likelihood",
           "samples less sharp; with a strong decoder the posterior collapses and z is ignored",
           "Optimus: encoder and decoder start from BERT and GPT-2, pre-trained latent space for sentences",
           "the tens, from 10_optimus_tour"),
    Family("GAN", "a generator that a discriminator cannot tell from the data, as a game of two players",
           "sharp samples in one pass; no likelihood has to be written down",
           "unstable training, dropped modes, no encoder and no likelihood to measure by",
           "FQ-GAN: discriminator features snapped to a learned dictionary, steadier matching with small batches",
           "the twenties, planned"),
    Family("autoregressive and self-supervised", "each token given those before it (or masked tokens given the others)",
           "exact likelihood, simple objective, grows with data and parameters",
           "samples one token at a time; no single vector to steer the whole by",
           "Prevalent: pre-trained on image, text and action triples for navigation",
           "the thirties (Prevalent) and forties (iGPT), planned"),
)


class TimelineInfo(NamedTuple):
    """models by date; years (n,) decimal years; parameters (n,)."""

    models: tuple
    years: np.ndarray
    parameters: np.ndarray


def decimal_year(date):
    """'2020-04' -> 2020.29, the middle of the month."""
    moment = datetime.date.fromisoformat(f"{date}-15")
    return moment.year + (moment.timetuple().tm_yday - 1) / 365.25


def collect_timeline(models=MODELS):
    """Models in order of their date -> TimelineInfo; a family without a colour is refused."""
    for model in models:
        if model.family not in FAMILY_COLOURS:
            raise ValueError(f"'{model.name}' is of the family '{model.family}'; choose one of: {', '.join(FAMILY_COLOURS)}.")
    models = tuple(sorted(models, key=lambda model: (model.date, model.name)))
    years, parameters = zip(*((decimal_year(model.date), float(model.parameters)) for model in models), strict=True)
    return TimelineInfo(models, np.array(years), np.array(parameters))


# where a name stands beside its dot, in points; the default is right of it
NUDGES = {
    "Transformer": (0, 9), "BERT": (0, 9), "GPT": (-9, -4), "GPT-2": (-9, 6), "Megatron-LM": (-9, 6), "StyleGAN": (0, -16),
    "StyleGAN2": (0, 9), "Prevalent": (0, -20), "FQ-GAN": (11, -5), "Optimus": (11, 3), "iGPT-XL": (11, -4),
}


@style.styled
def plot_timeline(models=MODELS, ours=OURS, ax=None):
    """Models over time by parameters (log scale), coloured by family; those of the workbench are ringed. -> Figure

    A star after a name: its count is marked `unverified` in the table (`models_table`).
    """
    info = collect_timeline(models)
    figure, ax = style.on(ax, 8.6, 4.8)
    # between the first neural language model and the VAE nothing happens for ten years: that stretch is squeezed
    places = _squeeze(info.years)
    for family, tint in FAMILY_COLOURS.items():
        mine = [i for i, model in enumerate(info.models) if model.family == family]
        if mine:
            fill, label = ("white", "shown for reference") if family == "reference" else (tint, family)
            ax.scatter(places[mine], info.parameters[mine], s=64, color=fill, edgecolor=tint, linewidth=1.4, zorder=3,
                       label=label)
    for model, x, y in zip(info.models, places, info.parameters, strict=True):
        tint, new = FAMILY_COLOURS[model.family], model.name in ours
        if new:
            ax.scatter([x], [y], s=190, facecolor="none", edgecolor=tint, linewidth=1.2, zorder=2)
        dx, dy = NUDGES.get(model.name, (9, 0))
        name = model.name + ("*" if "unverified" in model.source else "")
        ax.annotate(name, (x, y), xytext=(dx, dy), textcoords="offset points", fontsize=9, color=tint,
                    ha="center" if dx == 0 else "left" if dx > 0 else "right", va="center" if dy == 0 else "baseline",
                    fontweight="bold" if new else "normal")
    ax.set_yscale("log")
    ax.set_ylim(info.parameters.min() / 2.5, info.parameters.max() * 3)
    _year_axis(ax, info.years, places)
    ax.set_ylabel("parameters")
    ticks = [t for t in (1e6, 1e7, 1e8, 1e9, 1e10, 1e11) if info.parameters.min() / 2.5 <= t <= info.parameters.max() * 3]
    ax.set_yticks(ticks, [{1e6: "1 M", 1e7: "10 M", 1e8: "100 M", 1e9: "1 B", 1e10: "10 B", 1e11: "100 B"}[t] for t in ticks])
    ax.minorticks_off()
    ax.set_title("Deep generative models over time (ringed: what this workbench is about)")
    ax.legend(loc="upper left", labelspacing=0.6)
    if any("unverified" in model.source for model in info.models):
        ax.text(0.995, 0.02, "* count not verified", transform=ax.transAxes, ha="right", fontsize=8, color=style.FAINT)
    return style.finish(figure, info)


def _squeeze(years, knee=2013.0, factor=0.12):
    """Decimal years -> places on the axis: time before the knee runs slower by `factor`."""
    years = np.asarray(years, dtype=float)
    return np.where(years < knee, knee + (years - knee) * factor, years)


def _year_axis(ax, years, places):
    """Year ticks, and a break mark where early time is squeezed."""
    first = int(years.min())
    ticks = sorted({first, *range(max(2013, first), int(years.max()) + 2)})
    ax.set_xticks(_squeeze([t + 0.0 for t in ticks]), [str(t) for t in ticks])
    ax.set_xlim(places.min() - 0.5, places.max() + 1.0)
    if first < 2012:
        middle = (_squeeze(first) + 2013) / 2
        ax.plot([middle, middle + 0.12], [0, 0], linestyle="none", marker=[(-1, -1), (1, 1)], markersize=9, color=style.FAINT,
                transform=ax.get_xaxis_transform(), clip_on=False)


def families_table(families=FAMILIES):
    """The three families as a Table."""
    names = ("family", "what it learns", "strengths", "weaknesses", "scaled up by", "notebooks")
    return table([tuple(family) for family in families], names)


def models_table(models=MODELS):
    """The models of the figure as a Table, each with the source of its count."""
    info = collect_timeline(models)
    rows = [(m.name, m.family, m.date, int(m.parameters), m.source) for m in info.models]
    return table(rows, ("model", "family", "date", "parameters", "source of the count"))
