"""Curves over training steps, and summaries of one or several runs.

Each picture is a `collect_...` that gathers the numbers into a NamedTuple and a `plot_...` that draws them; tests look at the
first. Runs are `dgmlab.run.Run` objects: only `name`, `metrics()` and `column(key)` are used.
"""

from typing import NamedTuple

import numpy as np

from dgmlab.config import unknown_name
from dgmlab.viz import style

PANELS = ("loss", "rec", "kl", "beta", "kl_per_dim", "mi", "au", "gap")
GAN_PANELS = ("d_loss", "g_loss", "d_real", "d_fake", "fd_*", "class_accuracy", "class_spread", "twin", "commit", "js/*")
NAMES = {
    "loss": "loss (nats / sentence)", "rec": "reconstruction (nats / sentence)", "kl": "KL (nats / sentence)",
    "beta": "beta, the weight of the KL", "kl_per_dim": "KL of each dimension (nats)",
    "mi": "mutual information (nats)", "au": "active units",
    "d_loss": "loss of D", "g_loss": "loss of G", "d_real": "D says real, of real pictures",
    "d_fake": "D says real, of generated ones", "class_accuracy": "pictures of the class asked for",
    "class_spread": "spread within a class (data: 1)",
    "ml": "imitation (nats / episode)", "reward": "reward (sum over an episode)", "entropy": "entropy of the policy (nats)",
    "success_rate/*": "success rate", "spl/*": "SPL", "help_requests/*": "requests for help (an episode)",
    "nll": "cross-entropy (nats / word)", "bleu/*": "BLEU", "cider/*": "CIDEr-D", "ppl/*": "perplexity",
    "navigation": "the way (nats / step)", "ask": "whether to ask (nats / step)",
    "commit": "commitment", "js/*": "JS of real and fake codes (bits)", "twin": "twin classifier (nats)",
    "gap": "reconstruction gap (nats)", "ppl": "perplexity", "lr": "learning rate", "gradient_norm": "gradient norm",
}
# one batch a value: smoothing helps; a schedule is drawn as it is
NOISY = ("loss", "rec", "kl", "gradient_norm", "d_loss", "g_loss", "commit", "twin", "ml", "reward", "nll", "navigation",
         "ask")
COLLAPSE_MI = 0.1  # nats; below it, or without an active unit, z says nothing about the sentence


class Curve(NamedTuple):
    """One line: steps (n,), values (n,) as logged, smoothed (n,) as drawn on top."""

    label: str
    steps: np.ndarray
    values: np.ndarray
    smoothed: np.ndarray


class MetricInfo(NamedTuple):
    key: str
    curves: tuple


class BetaInfo(NamedTuple):
    """beta (n,); stage (n,) 0 zero, 1 ramp, 2 plateau; cycle starts (steps); share of the steps in each stage."""

    beta: np.ndarray
    stage: np.ndarray
    starts: np.ndarray
    shares: tuple


class TrainingInfo(NamedTuple):
    """One MetricInfo a panel (training and, where logged, `val_` values), and the collapse watch in words."""

    name: str
    panels: tuple
    verdict: str


class KlInfo(NamedTuple):
    """kl (Z,) nats, largest first; order (Z,) the dimension each bar is; active = how many lie above the threshold."""

    kl: np.ndarray
    order: np.ndarray
    threshold: float
    active: int
    total: float


class ComparisonRow(NamedTuple):
    label: str
    value: float
    low: float
    high: float


def smoothed(values, weight):
    """Exponential moving average with bias correction. values (n,), weight in [0, 1) of the past -> (n,)."""
    if not 0 <= weight < 1:
        raise ValueError(f"smooth is the weight of the past and must lie in [0, 1), found {weight}. Try 0.9.")
    out, mean = np.empty(len(values)), 0.0
    for i, value in enumerate(values):
        mean = weight * mean + (1 - weight) * value
        out[i] = mean / (1 - weight ** (i + 1))
    return out


def collect_metric(runs, key, labels=None, smooth=0.0):
    """The curve of `key` in each run -> MetricInfo.

    runs      one Run or several; a run that did not log the key gives an empty curve
    labels    default: the last part of the run's name, or the whole name where that is not enough
    """
    runs = list(runs) if isinstance(runs, list | tuple) else [runs]
    if labels is None:
        short = [run.name.split("/")[-1] for run in runs]
        labels = short if len(set(short)) == len(runs) else [run.name for run in runs]
    labels = [labels] if isinstance(labels, str) else list(labels)
    if len(labels) != len(runs):
        raise ValueError(f"{len(runs)} runs were given but {len(labels)} labels. Give one label a run.")
    curves = []
    for run, label in zip(runs, labels, strict=True):
        steps, values = run.column(key)
        curves.append(Curve(label, steps, values, smoothed(values, smooth)))
    if not any(len(curve.steps) for curve in curves):
        known = sorted({name for run in runs for row in run.metrics() for name in row if name != "step"})
        raise KeyError(unknown_name(key, known, "logged metric"))
    return MetricInfo(key, tuple(curves))


@style.styled
def plot_metric(runs, key, labels=None, smooth=0.0, ax=None):
    """One metric over steps, one line a run; the raw values stay visible behind a smoothed line. -> Figure"""
    info = collect_metric(runs, key, labels, smooth)
    figure, ax = style.on(ax)
    _draw_metric(ax, info)
    ax.set_title(NAMES.get(key, key))
    ax.set_xlabel("step")
    if len(info.curves) > 1:
        ax.legend()
    return style.finish(figure, info)


def _draw_metric(ax, info, colours=style.PALETTE):
    for i, curve in enumerate(info.curves):
        line = colours[i % len(colours)]
        label = curve.label if len(curve.steps) else f"{curve.label} (not logged)"
        if not np.array_equal(curve.values, curve.smoothed):
            ax.plot(curve.steps, curve.values, color=line, alpha=0.22, linewidth=1)
        dots = "o" if len(curve.steps) < 12 else None
        ax.plot(curve.steps, curve.smoothed, color=line, label=label, marker=dots, markersize=3.5)
    ax.margins(x=0.02)


def collect_beta(beta):
    """Stages and cycles of a schedule. beta (n,) weights of the KL -> BetaInfo."""
    beta = np.asarray(beta, dtype=float).reshape(-1)
    if not len(beta):
        raise ValueError("a beta schedule of at least one step was expected, found an empty array. Use n_steps >= 1.")
    low, high = beta.min(), beta.max()
    stage = np.where(beta >= high, 2, np.where(beta <= low, 0, 1)) if high > low else np.full(len(beta), 2)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(beta) < 0) + 1])
    return BetaInfo(beta, stage, starts, tuple(float((stage == s).mean()) for s in range(3)))


@style.styled
def plot_beta_schedule(beta, cycles=None, ax=None):
    """The weight of the KL over the steps, its stages tinted. cycles: how many were asked for (title). -> Figure"""
    info = collect_beta(beta)
    figure, ax = style.on(ax, 7.2, 2.7)
    steps = np.arange(len(info.beta))
    top = max(info.beta.max(), 1e-9) * 1.12
    names = (("zero: the model learns to reconstruct", style.GREEN), ("ramp", style.AMBER), ("plateau", style.BLUE))
    edges = np.flatnonzero(np.diff(info.stage, prepend=-1, append=-1))  # where a stage begins, and the end
    seen = set()
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        name, tint = names[info.stage[start]]
        ax.axvspan(start - 0.5, stop - 0.5, color=tint, alpha=0.10, linewidth=0, label=None if name in seen else name)
        seen.add(name)
    ax.plot(steps, info.beta, color=style.INK, linewidth=1.8)
    for start in info.starts[1:]:
        ax.axvline(start, color=style.FAINT, linewidth=0.8, linestyle=(0, (2, 3)))
    ax.set(xlabel="step", ylabel="beta", ylim=(0, top), xlim=(0, max(len(steps) - 1, 1)))
    n_cycles = cycles or len(info.starts)
    ax.set_title(f"beta over {n_cycles} cycle{'s' if n_cycles > 1 else ''}")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=3)
    return style.finish(figure, info)


def collect_training(run, keys=PANELS, smooth=0.0):
    """The panels of a run that have data, and what the collapse watch says of its last values -> TrainingInfo.

    A key that ends with * is all that begins like it, one curve each, without the ends of intervals (_low, _high).
    """
    panels = []
    for key in keys:
        curves = _curves_per_dim(run, key) if key.endswith("_per_dim") else _curves_like(run, key)
        for name, label in ((key, "training"), (f"val_{key}", "validation")):
            steps, values = run.column(name)
            noisy = label == "training" and key in NOISY
            if len(steps):
                curves.append(Curve(label, steps, values, smoothed(values, smooth if noisy else 0.0)))
        if curves:
            panels.append(MetricInfo(key, tuple(curves)))
    last = {panel.key: float(panel.curves[-1].values[-1]) for panel in panels}
    verdict = ""
    if "mi" in last and "au" in last:
        gone = last["au"] < 1 or last["mi"] < COLLAPSE_MI
        verdict = f"{'collapsed: z is ignored' if gone else 'alive'} (MI {last['mi']:.2f} nats, {last['au']:.0f} active units)"
    return TrainingInfo(run.name, tuple(panels), verdict)


def _curves_per_dim(run, key):
    """One Curve for each number of a logged list."""
    rows = [(row["step"], row[key]) for row in run.metrics() if isinstance(row.get(key), list)]
    steps = np.array([step for step, _ in rows], dtype=float)
    return [Curve(str(i), steps, np.array(values, dtype=float), np.array(values, dtype=float))
            for i, values in enumerate(zip(*(values for _, values in rows), strict=True))]


def _curves_like(run, key):
    """One Curve for each logged number that begins like a key ending with *; none for other keys."""
    if not key.endswith("*"):
        return []
    names = dict.fromkeys(name for row in run.metrics() for name in row if name.startswith(key[:-1]))
    curves = [(name, *run.column(name)) for name in names if not name.endswith(("_low", "_high"))]
    return [Curve(name.removeprefix(key[:-1]) if key.endswith("/*") else name, steps, values, values)
            for name, steps, values in curves if len(steps)]


@style.styled
def plot_training(run, keys=PANELS, smooth=0.0):
    """The curves of a run, a panel each. -> Figure

    The default is a VAE's: loss, reconstruction, KL, beta, and the collapse watch (KL by dimension, MI, active units, gap).
    keys=GAN_PANELS is a GAN's.
    """
    info = collect_training(run, keys, smooth)
    if not info.panels:
        figure, ax = style.canvas(7.2, 1.4)
        style.blank(ax).text(0.5, 0.5, f"{info.name}: nothing logged yet", ha="center", va="center", color=style.FAINT)
        return style.finish(figure, info)
    columns = min(len(info.panels), 4 if len(info.panels) > 6 else 3)
    rows = -(-len(info.panels) // columns)
    figure, axes = style.canvas(3.1 * columns, 2.35 * rows + 0.4, rows, columns, squeeze=False)
    for number, ax in enumerate(axes.flat):
        if number >= len(info.panels):
            ax.remove()
            continue
        panel = info.panels[number]
        watch = panel.key in ("mi", "au")
        per_dim = panel.key.endswith("_per_dim")  # one line each, all alike: orange would say validation
        two = (style.GREEN if watch else style.BLUE, style.ORANGE)  # training and validation
        _draw_metric(ax, panel, (style.BLUE,) if per_dim else style.PALETTE if panel.key.endswith("*") else two)
        ax.set_title(NAMES.get(panel.key, panel.curves[0].label if panel.key.endswith("*") else panel.key), fontsize=9)
        if watch:
            ax.set_ylim(bottom=0, top=max(1.0, 1.1 * max(curve.values.max() for curve in panel.curves)))
        if len(panel.curves) > 1 and not per_dim:
            ax.legend()
        if number >= len(info.panels) - columns:
            ax.set_xlabel("step")
    tone = style.MARK if info.verdict.startswith("collapsed") else style.INK
    figure.suptitle(f"{info.name}   {info.verdict}".rstrip(), x=0.01, ha="left", fontsize=10.5, color=tone)
    return style.finish(figure, info)


def collect_kl(kl, threshold=0.01):
    """kl (Z,) mean KL of each latent dimension in nats -> KlInfo, largest first."""
    kl = np.asarray(kl, dtype=float).reshape(-1)
    order = np.argsort(-kl, kind="stable")
    return KlInfo(kl[order], order, float(threshold), int((kl > threshold).sum()), float(kl.sum()))


@style.styled
def plot_kl_per_dim(kl, threshold=0.01, ax=None):
    """Mean KL of each latent dimension, largest first; bars below the threshold are grey. kl (Z,) nats. -> Figure"""
    info = collect_kl(kl, threshold)
    figure, ax = style.on(ax, 7.2, 2.8)
    tints = [style.BLUE if value > threshold else "#C3CBD4" for value in info.kl]
    ax.bar(np.arange(len(info.kl)), info.kl, color=tints, width=0.8)
    ax.axhline(threshold, color=style.MARK, linewidth=1, linestyle=(0, (4, 3)))
    ax.annotate(f"threshold {threshold:g}", (1, threshold), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                xytext=(0, 2), textcoords="offset points", color=style.MARK, fontsize=8)
    ax.set_title(f"{info.active} of {len(info.kl)} dimensions above the threshold, {info.total:.2f} nats in all")
    ax.set(xlabel="latent dimension, largest first", ylabel="KL (nats)")
    if len(info.kl) <= 40:
        ax.set_xticks(np.arange(len(info.kl)), [str(i) for i in info.order], fontsize=7)
    ax.grid(axis="x", visible=False)
    ax.margins(x=0.01)
    return style.finish(figure, info)


def collect_comparison(table):
    """{label: value or (value, low, high)} -> tuple of ComparisonRow, in the given order."""
    rows = []
    for label, entry in table.items():
        value, low, high = entry if isinstance(entry, list | tuple) and len(entry) == 3 else (np.ravel(entry)[0],) * 3
        if not low <= value <= high:
            raise ValueError(f"'{label}' has the value {value:g} outside its interval [{low:g}, {high:g}]. "
                             "Give (value, low, high).")
        rows.append(ComparisonRow(str(label), float(value), float(low), float(high)))
    return tuple(rows)


@style.styled
def plot_comparison(table, title="", better="lower", ax=None):
    """Models side by side with their intervals. table: {label: value or (value, low, high)}; the best is blue. -> Figure"""
    if better not in ("lower", "higher"):
        raise ValueError(f"better says which way is good and must be lower or higher, found '{better}'. Choose one.")
    info = collect_comparison(table)
    figure, ax = style.on(ax, 7.2, 0.9 + 0.42 * len(info))
    best = (min if better == "lower" else max)(info, key=lambda row: row.value)
    for y, row in enumerate(info):
        tint = style.BLUE if row is best else style.SLATE
        ax.plot([row.low, row.high], [y, y], color=tint, linewidth=3.5, alpha=0.35)
        ax.plot(row.value, y, "o", color=tint, markersize=8, markeredgecolor="white")
        ax.annotate(f"{row.value:.4g}", (row.high, y), xytext=(9, 0), textcoords="offset points", va="center", fontsize=8.5,
                    color=tint, fontweight="bold" if row is best else "normal")
    ax.set_yticks(range(len(info)), [row.label for row in info])
    ax.set_ylim(len(info) - 0.4, -0.6)
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(f"{better} is better")
    ax.set_title(title)
    return style.finish(figure, {"better": better, "rows": info})
