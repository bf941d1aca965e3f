"""Accuracy against the number of labels, with bands over draws (Li et al. 2020, figure 4), and the table of GLUE's tasks.

Curves are those of `dgmlab.metrics.probe`: anything with `n_labels` (S,) and `scores` (S, D).
"""

from typing import NamedTuple

import numpy as np

from dgmlab.metrics.probe import interval, paired_difference
from dgmlab.viz import style
from dgmlab.viz.latent import collect_tsne, draw_points
from dgmlab.viz.table import table


class LabelCurve(NamedTuple):
    """Mean score (S,) for n_labels (S,) labels a class, its 95 % interval over n_draws draws, and the draws (S, D)."""

    label: str
    n_labels: tuple
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    draws: np.ndarray


def collect_curves(curves):
    """{label: Curve} -> tuple of LabelCurve; intervals by Student's t over the draws."""
    if not curves:
        raise ValueError("one curve or more was expected, found none. Pass {label: probe_curve(...)}.")
    found = []
    for label, curve in curves.items():
        if min(curve.n_labels) < 1:
            raise ValueError(f"curve '{label}' has {min(curve.n_labels)} labels a class, which no logarithmic axis can show. "
                             "Give numbers of 1 and more, or a table.")
        found.append(LabelCurve(label, tuple(curve.n_labels), *interval(curve.scores), curve.scores))
    return tuple(found)


@style.styled
def plot_few_labels(curves, chance=None, title="", score="test accuracy", ax=None):
    """Score against labels a class on a logarithmic axis; bands are 95 % intervals of the mean over draws. -> Figure

    curves  {label: Curve}; a label that contains 'tuned' is dashed, so that frozen and tuned of one model go together
    chance  score of the largest class, as a line
    """
    figure, ax = style.on(ax, 6.4, 4.2)
    found = collect_curves(curves)
    _draw_curves(ax, found, chance, score)
    ax.set_title(title or f"{score} with few labels")
    return style.finish(figure, {"curves": found, "chance": chance, "score": score})


@style.styled
def plot_low_resource(maps, labels, names, curves, chance=None, score="test accuracy"):
    """The article's figure 4: (a, b) two t-SNE maps coloured by class, (c) score against labels a class. -> Figure

    maps    {title: xy (N, 2)} of two encoders; labels (N,) ints; names of the classes
    curves  {label: Curve}
    """
    info, found = collect_tsne(maps, labels, names), collect_curves(curves)
    n = len(info.panels)
    figure, axes = style.canvas(3.3 * n + 5.6, 4.0, 1, n + 1, width_ratios=[1] * n + [1.5], squeeze=False)
    for letter, ax, panel in zip("abcdefgh", axes.flat, info.panels, strict=False):
        draw_points(style.blank(ax), panel.xy, info.labels, info.names)
        ax.set_box_aspect(1)
        ax.set_title(f"({letter}) {panel.title}\n", pad=4)
        ax.text(0, 1.02, f"10 neighbours agree {panel.knn:.0%} (chance {info.chance:.0%})", transform=ax.transAxes,
                fontsize=8.5, color=style.FAINT)
    axes.flat[0].legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=min(len(info.names), 3), markerscale=1.6)
    _draw_curves(axes.flat[-1], found, chance, score)
    axes.flat[-1].set_title(f"({'abcdefgh'[n]}) {score} with few labels")
    return style.finish(figure, {"maps": info, "curves": found, "chance": chance, "score": score})


@style.styled
def plot_difference(curves, reference, title="", ax=None):
    """By how much each curve is above another, draw by draw: a band that stays clear of 0 is a difference. -> Figure

    curves     {label: Curve}; reference, the label of one of them
    """
    if reference not in curves:
        raise KeyError(f"the reference '{reference}' is not among the curves: {', '.join(curves)}. Name one of them.")
    figure, ax = style.on(ax, 6.4, 3.4)
    found = {label: paired_difference(curve, curves[reference]) for label, curve in curves.items() if label != reference}
    ax.axhline(0, color=style.FAINT, linewidth=1)
    for label, above in found.items():
        n_labels, tint = curves[label].n_labels, style.colour(list(curves).index(label))  # the colours of `plot_few_labels`
        ax.fill_between(n_labels, above.low, above.high, color=tint, alpha=0.15, linewidth=0)
        ax.plot(n_labels, above.mean, color=tint, marker="o", markersize=4, label=label)
    _label_axis(ax, next(iter(curves.values())).n_labels)
    ax.set(ylabel=f"above {reference}")
    ax.set_title(title or f"difference to {reference} on the same draws")
    ax.legend()
    return style.finish(figure, {"reference": reference, "n_labels": curves[reference].n_labels, "above": found})


class Errors(NamedTuple):
    """rows (E,) of the wrong sentences, the surest mistake first; sure (E,) probability of the wrong class; said (E,) classes;
    accuracy over all."""

    rows: np.ndarray
    said: np.ndarray
    sure: np.ndarray
    accuracy: float


def collect_errors(probabilities, labels):
    """What a classifier got wrong. probabilities (M, K), labels (M,) ints -> Errors"""
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise ValueError(f"probabilities (M, K) of {len(labels)} sentences were expected, found {probabilities.shape}. "
                         "Predict the sentences that the labels are of.")
    said = probabilities.argmax(1)
    rows = np.flatnonzero(said != labels)
    rows = rows[np.argsort(-probabilities[rows, said[rows]], kind="stable")]
    return Errors(rows, said[rows], probabilities[rows, said[rows]], float((said == labels).mean()))


@style.styled
def plot_errors(xy, labels, names, probabilities, title="", ax=None):
    """A map of the test sentences, coloured by class, in which the wrong ones are ringed: the surer, the wider. -> Figure

    xy (M, 2), labels (M,) ints, names of the classes, probabilities (M, K)
    """
    errors = collect_errors(probabilities, labels)
    figure, ax = style.on(ax, 5.2, 5.2)
    draw_points(style.blank(ax), np.asarray(xy, dtype=float), np.asarray(labels), names)
    wrong = np.asarray(xy, dtype=float)[errors.rows]
    ax.scatter(wrong[:, 0], wrong[:, 1], s=20 + 90 * errors.sure**2, facecolor="none", edgecolor=style.MARK, linewidth=1.1,
               label=f"wrong: {len(wrong)} of {len(xy)}")
    ax.set_box_aspect(1)
    ax.set_title(f"{title}\naccuracy {errors.accuracy:.1%}")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3)
    return style.finish(figure, {"title": title, "errors": errors})


def _draw_curves(ax, curves, chance, score):
    """Curves with their bands and single draws; two curves of one model share a colour."""
    tints = {}
    for curve in curves:
        tint = style.colour(tints.setdefault(curve.label.replace(" tuned", " frozen"), len(tints)))
        dashed = "tuned" in curve.label
        ax.fill_between(curve.n_labels, curve.low, curve.high, color=tint, alpha=0.07 if dashed else 0.14, linewidth=0)
        ax.plot(curve.n_labels, curve.mean, color=tint, linestyle="--" if dashed else "-", marker="s" if dashed else "o",
                markersize=4, label=curve.label)
    if chance is not None:
        ax.axhline(chance, color=style.FAINT, linewidth=1, linestyle=":", label=f"largest class {chance:.0%}")
    means = np.concatenate([curve.mean for curve in curves])
    floor, room = min(means.min(), means.min() if chance is None else chance), 0.12 * max(np.ptp(means), 0.02)
    ax.set_ylim(floor - room, means.max() + room)  # the band of two or three draws may be wider than any score
    _label_axis(ax, sorted({n for curve in curves for n in curve.n_labels}))
    ax.set(ylabel=score)
    ax.legend(loc="best")


def _label_axis(ax, n_labels):
    """A logarithmic axis that is marked where there are points."""
    ax.set_xscale("log")
    ax.set_xticks(n_labels, [f"{n:,}" for n in n_labels])
    ax.minorticks_off()
    ax.set(xlabel="labels a class")


def label_table(curves, caption=""):
    """Curves by rows, labels a class by columns, each mean with its 95 % t interval over the draws. {label: Curve} -> Table"""
    columns = sorted({n for curve in curves.values() for n in curve.n_labels})
    rows = []
    for curve in collect_curves(curves):
        cells = zip(curve.n_labels, curve.mean, curve.low, curve.high, strict=True)
        rows.append({"features": curve.label, **{f"{n:,}": f"{mean:.3f} [{low:.3f}, {up:.3f}]" for n, mean, low, up in cells}})
    return table(rows, ("features", *(f"{n:,}" for n in columns)), caption)


def glue_table(rows, caption=""):
    """Tasks by rows, encoders by columns, each score with its 95 % interval over the items.

    rows  dicts: task, metric, n (test items), largest (score of saying the most frequent class), and for every encoder a
          `dgmlab.metrics.agreement.Score`
    -> Table
    """
    def cell(value):
        return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]" if hasattr(value, "low") else value

    return table([{name: cell(value) for name, value in row.items()} for row in rows], caption=caption)
