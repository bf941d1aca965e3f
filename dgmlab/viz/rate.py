"""Rate and distortion of language VAEs, on one or several corpora, and what a threshold of the KL does to them.

The rate is the KL, the distortion the reconstruction, both in nats a sentence; their sum is the negative ELBO (Alemi et al.
2018, "Fixing a broken ELBO").
"""

from typing import NamedTuple

import numpy as np

from dgmlab.viz import style


class RatePoint(NamedTuple):
    label: str
    rate: float
    distortion: float


class ThresholdPoint(NamedTuple):
    """At one threshold (nats a dimension): Optimus minus its twin in nats a sentence with the interval, MI (nats), AU."""

    threshold: float
    gap: float
    low: float
    high: float
    mi: float
    au: int


def collect_rate_distortion(points):
    """points: (label, rate, distortion) in nats a sentence -> tuple of RatePoint, sorted by rate."""
    found = [RatePoint(str(label), float(rate), float(distortion)) for label, rate, distortion in points]
    return tuple(sorted(found, key=lambda point: point.rate))


@style.styled
def plot_rate_distortion(points, exact=None, ax=None):
    """Where models sit between using z (rate = KL) and not needing it (distortion = reconstruction). -> Figure

    points  list of (label, rate, distortion); or {title: such a list}, a panel each
    exact   nats a sentence of a model without a latent, or {title: nats}: the solid line that a better model lies below

    Along a grey line the ELBO is the same; nearer the corner is better. At rate 0 the posterior has collapsed.
    """
    panels = points if isinstance(points, dict) else {"rate and distortion (dashed: equal ELBO)": points}
    exact = exact if isinstance(exact, dict) else dict.fromkeys(panels, exact)
    info = {title: collect_rate_distortion(own) for title, own in panels.items()}
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    if len(panels) == 1:
        figure, first = style.on(ax, 6.0, 4.2)
        axes = [first]
    else:
        figure, grid = style.canvas(4.4 * columns, 3.3 * rows, rows, columns, squeeze=False)
        axes = list(grid.flat)
    for ax, (title, own) in zip(axes, info.items(), strict=False):
        _draw_plane(ax, own, exact.get(title))
        ax.set_title(title)
    for ax in axes[len(panels):]:
        ax.remove()
    for i, ax in enumerate(axes[:len(panels)]):
        ax.set_xlabel("rate: KL (nats / sentence)" if i >= len(panels) - columns else "")
        ax.set_ylabel("distortion: reconstruction (nats / sentence)" if i % columns == 0 else "")
    numbers = {"panels": info} if isinstance(points, dict) else {"points": next(iter(info.values()))}
    return style.finish(figure, {**numbers, "exact": exact})


def _draw_plane(ax, points, exact):
    """Points of one corpus, lines of equal ELBO, and the line of a model without a latent."""
    rates, distortions = np.array([p.rate for p in points]), np.array([p.distortion for p in points])
    ax.plot(rates, distortions, color=style.PALE, linewidth=2, zorder=1)
    for i, point in enumerate(points):
        ax.scatter(point.rate, point.distortion, s=58, color=style.colour(i), zorder=3, edgecolor="white", linewidth=1.2)
        ax.annotate(point.label, (point.rate, point.distortion), xytext=(7, 6), textcoords="offset points", fontsize=8.5)
    right = max(rates.max() * 1.2, 1.0)
    seen = distortions if exact is None else np.append(distortions, exact - rates)
    gap = max(np.ptp(seen), right) * 0.2
    low, high = max(0.0, seen.min() - gap), seen.max() + gap  # no reconstruction costs less than nothing
    ax.set(xlim=(-0.03 * right, right), ylim=(low, high))
    for total in np.linspace(low, high + right, 9)[1:-1]:
        ax.plot([0, right], [total, total - right], color=style.PALE, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
    if exact is not None:
        ax.plot([0, right], [exact, exact - right], color=style.INK, linewidth=1.4, zorder=2)
        ax.annotate(f"without a latent: {exact:.4g} nats", (0, exact), xytext=(4, 4), textcoords="offset points", fontsize=8)
    ax.grid(False)


def collect_thresholds(corpora):
    """{corpus: (threshold, gap, low, high, mi, au) of each model} -> {corpus: tuple of ThresholdPoint by threshold}"""
    found = {}
    for corpus, points in corpora.items():
        own = sorted(ThresholdPoint(*point) for point in points)
        if not own:
            raise ValueError(f"'{corpus}' has no threshold to draw. Give one (threshold, gap, low, high, mi, au) or more.")
        found[str(corpus)] = tuple(own)
    return found


@style.styled
def plot_thresholds(corpora, n_sentences=0, latent_size=0):
    """What a threshold of the KL costs and brings, a line a corpus. -> Figure

    corpora      {corpus: list of (threshold, gap, low, high, mi, au)}: gap is Optimus minus its twin in nats a sentence with
                 its interval; below 0 Optimus wins
    n_sentences  behind MI, which can not exceed its logarithm; 0 draws no such line
    latent_size  Z, the most that AU can be; 0 draws no such line
    """
    info = collect_thresholds(corpora)
    figure, (gap, mi, au) = style.canvas(10.5, 3.3, 1, 3)
    places = sorted({point.threshold for own in info.values() for point in own})
    for i, (corpus, own) in enumerate(info.items()):
        line = {"color": style.colour(i), "marker": style.marker(i) if len(info) > 1 else "o", "markersize": 5}
        at = np.array([places.index(point.threshold) for point in own])
        shifted = at + 0.06 * (i - (len(info) - 1) / 2)  # intervals of several corpora side by side
        gap.vlines(shifted, [p.low for p in own], [p.high for p in own], color=line["color"], linewidth=3, alpha=0.35)
        gap.plot(shifted, [p.gap for p in own], **line)
        mi.plot(at, [p.mi for p in own], label=corpus, **line)
        au.plot(at, [p.au for p in own], **line)
    gap.axhline(0, color=style.INK, linewidth=1)
    _limit(mi, np.log(n_sentences) if n_sentences else None, f"log {n_sentences:,}")
    _limit(au, latent_size or None, f"all {latent_size}")
    for ax, title, unit in ((gap, "Optimus minus its twin (below 0: better)", "nats / sentence"),
                            (mi, "mutual information", "nats"), (au, "active units", "")):
        ax.set_title(title, fontsize=9.5)
        ax.set(xlabel="threshold (nats a dimension)", ylabel=unit)
        ax.set_xticks(range(len(places)), [f"{value:g}" for value in places])
        ax.margins(x=0.12)
    for ax in (mi, au):
        ax.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=max(len(info), 1))
    return style.finish(figure, {"corpora": info, "n_sentences": n_sentences, "latent_size": latent_size})


def _limit(ax, value, text):
    """A dashed line at the most that can be reached."""
    if value is not None:
        ax.axhline(value, color=style.FAINT, linewidth=1, linestyle=(0, (4, 3)))
        ax.annotate(text, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", xytext=(0, 2),
                    textcoords="offset points", fontsize=8, color=style.FAINT)
