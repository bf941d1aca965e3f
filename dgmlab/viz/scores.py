"""Scores over training steps with their 95 % intervals: of one run, and of several seeds of one setting."""

import math
from typing import NamedTuple

import numpy as np

from dgmlab.config import unknown_name
from dgmlab.viz import style


class ScoreCurve(NamedTuple):
    """A score over steps: value, low, high (n,), NaN where no interval is known; runs: the (steps, values) of each seed."""

    label: str
    steps: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: tuple


def collect_scores(runs, key, labels=None):
    """A score over steps for each setting -> tuple of ScoreCurve.

    runs    a Run; a list of Runs, or of lists of Runs (seeds of one setting); or {label: Run or list of Runs}
    labels  one for each entry of the list; entries of one label are seeds of one setting. Default: the names of the runs

    One run: the interval is the logged one, KEY_low to KEY_high. Several: value is their mean at the steps that all of them
    have, and the interval the 95 % one of that mean, mean +- t(n - 1) std / sqrt(n): wide for two or three seeds, as it must.
    """
    if isinstance(runs, dict):
        runs, labels = list(runs.values()), list(runs)
    runs = list(runs) if isinstance(runs, list | tuple) else [runs]
    labels = [labels] if isinstance(labels, str) else labels
    if labels is None:
        labels = [(entry[0] if isinstance(entry, list | tuple) else entry).name.split("/")[-1] for entry in runs]
    if len(labels) != len(runs):
        raise ValueError(f"{len(runs)} runs or groups were given but {len(labels)} labels. Give one label each.")
    groups = {}
    for label, entry in zip(labels, runs, strict=True):
        groups.setdefault(str(label), []).extend(entry if isinstance(entry, list | tuple) else [entry])
    curves = tuple(_score_curve(label, group, key) for label, group in groups.items())
    if not any(len(steps) for curve in curves for steps, _ in curve.runs):
        known = {name for group in groups.values() for run in group for row in run.metrics() for name in row}
        raise KeyError(unknown_name(key, sorted(known - {"step"}), "logged score"))
    return curves


def _score_curve(label, group, key):
    """The ScoreCurve of the seeds of one setting."""
    lines = tuple(run.column(key) for run in group)
    if len(group) == 1:
        steps, value = lines[0]
        ends = []
        for end in ("low", "high"):
            logged = dict(zip(*group[0].column(f"{key}_{end}"), strict=True))
            ends.append(np.array([logged.get(step, np.nan) for step in steps]))
        return ScoreCurve(label, steps, value, *ends, lines)
    from scipy import stats

    tables = [dict(zip(*line, strict=True)) for line in lines]
    steps = np.array(sorted(set.intersection(*map(set, tables))))
    values = np.array([[table[step] for step in steps] for table in tables]).reshape(len(tables), len(steps))
    half = stats.t.ppf(0.975, len(group) - 1) * values.std(0, ddof=1) / math.sqrt(len(group))
    return ScoreCurve(label, steps, values.mean(0), values.mean(0) - half, values.mean(0) + half, lines)


@style.styled
def plot_scores(runs, key, labels=None, title="", ax=None):
    """A score over steps with its 95 % interval; seeds of one setting are thin lines of one colour under their mean.

    runs, key, labels  as in `collect_scores`
    The legend has the last value and its interval. An interval far wider than the curves is cut off at the frame. -> Figure
    """
    curves = collect_scores(runs, key, labels)
    figure, ax = style.on(ax)
    for i, curve in enumerate(curves):
        tint, several = style.colour(i), len(curve.runs) > 1
        if several:
            for steps, values in curve.runs:
                ax.plot(steps, values, color=tint, linewidth=0.9, alpha=0.45)
        ax.fill_between(curve.steps, curve.low, curve.high, color=tint, alpha=0.13, linewidth=0)
        ax.plot(curve.steps, curve.value, color=tint, linewidth=2.4 if several else 1.8, marker="o", markersize=3.5,
                label=_score_label(curve))
    drawn = np.concatenate([values for curve in curves for _, values in curve.runs])
    room = max(np.ptp(drawn), 1e-9 + 0.05 * abs(drawn).max())
    low, high = ax.get_ylim()
    floor = 0.0 if drawn.min() >= 0 else low  # no band below what a distance can be
    ax.set_ylim(max(low, floor, drawn.min() - room), min(high, drawn.max() + room))
    ax.set_title(title or key)
    ax.set(xlabel="step", ylabel=key if title else "")
    ax.margins(x=0.02)
    ax.legend()
    return style.finish(figure, {"key": key, "curves": curves})


def _score_label(curve):
    """Label, number of seeds, and the last value with its interval."""
    seeds = f", {len(curve.runs)} seeds" if len(curve.runs) > 1 else ""
    if not len(curve.steps):
        return f"{curve.label}{seeds} (no step that all have)" if seeds else f"{curve.label} (not logged)"
    interval = "" if np.isnan(curve.low[-1]) else f" [{curve.low[-1]:.4g}, {curve.high[-1]:.4g}]"
    return f"{curve.label}{seeds}: {curve.value[-1]:.4g}{interval}"
