"""Pictures of a dictionary: which codes are used, when they lived, what they stand for, and where they lie.

Runs give the first four; training logs at each evaluation, for each quantised layer,

    usage/LAYER, usage_fake/LAYER    lists of K counts: codes taken on real and on generated pictures
    js/LAYER                         Jensen-Shannon divergence of the two, in bits

Colours throughout: real blue, generated orange, the dictionary dark.
Letters: N points, K codes, T evaluations, P side of a patch.
"""

from typing import NamedTuple

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter

from dgmlab.config import unknown_name
from dgmlab.viz import style
from dgmlab.viz.curves import Curve, collect_metric

REAL, FAKE = style.BLUE, style.ORANGE
HEAT = LinearSegmentedColormap.from_list("usage", ["#CFE3F1", style.SKY, style.BLUE, "#062B45"])
GAP = 2  # pixels between patches


class LayerUsage(NamedTuple):
    """One layer: order (K,), the codes by falling use on real pictures; real, fake (K,) shares in that order.

    least       the smallest share that can be seen, that of one vector
    dead        share of codes that neither took        perplexity    of the real counts        js    in bits
    """

    layer: str
    order: np.ndarray
    real: np.ndarray
    fake: np.ndarray
    least: float
    dead: float
    perplexity: float
    js: float


class UsageInfo(NamedTuple):
    """The evaluation at `step`; panels: one LayerUsage a layer."""

    step: int
    panels: tuple


class LayerLife(NamedTuple):
    """One layer: steps (T,); order (K,) codes by birth; usage (T, K) counts, real and fake, in that order; their sums.

    living      codes used at the last evaluation       never    codes used at none
    deaths, revivals    added over the codes
    """

    layer: str
    steps: np.ndarray
    order: np.ndarray
    usage: np.ndarray
    living: int
    never: int
    deaths: int
    revivals: int


class DivergenceInfo(NamedTuple):
    """panels: (title, curves); one of all layers for a single run, one a layer with a curve for each of several runs."""

    panels: tuple


class PatchInfo(NamedTuple):
    """codes and counts (k,); sheet (H, W, 3) uint8, a row of patches for each code; side of a patch in pixels."""

    codes: tuple
    counts: tuple
    sheet: np.ndarray
    side: int


class PlaneInfo(NamedTuple):
    """Points and a dictionary in the plane; counts (K,) of all points; dead: how many are 0; outside: codes out of sight.

    real, fake, dictionary    (N, 2), (M, 2), (K, 2)
    x, y                      limits of what is shown
    """

    real: np.ndarray
    fake: np.ndarray
    dictionary: np.ndarray
    counts: np.ndarray
    dead: int
    outside: int
    x: tuple
    y: tuple


class CentroidInfo(NamedTuple):
    """real (N, 2), fake (M, 2), centroids (K, 2); n_real, n_fake (K,) points whose nearest centroid it is, on this map.

    shared    how many centroids have points of both kinds
    """

    real: np.ndarray
    fake: np.ndarray
    centroids: np.ndarray
    n_real: np.ndarray
    n_fake: np.ndarray
    shared: int


# from runs


def logged_layers(run):
    """Names of the quantised layers that a run logged, in the order of their first mention."""
    return list(dict.fromkeys(key.split("/", 1)[1] for row in run.metrics() for key in row if key.startswith("usage/")))


def _layers(run, layer=None):
    """The layer asked for, or all of them; an error where the run logged none."""
    layers = logged_layers(run)
    if not layers:
        raise ValueError(f"{run.name} logged no usage/LAYER. Train with a quantised discriminator (add_fq), and wait for its "
                         "first evaluation.")
    if layer is not None and layer not in layers:
        raise KeyError(unknown_name(layer, layers, "quantised layer"))
    return layers if layer is None else [layer]


def collect_usage(run):
    """Usage of every layer at the run's last evaluation -> UsageInfo"""
    from dgmlab.metrics.dictionary import dead_share, dictionary_perplexity, js_divergence  # it needs torch, pictures do not

    panels, step, rows = [], 0, run.metrics()
    for layer in _layers(run):
        row = [row for row in rows if f"usage/{layer}" in row][-1]
        step, real, fake = row["step"], np.array(row[f"usage/{layer}"]), np.array(row[f"usage_fake/{layer}"])
        order = np.argsort(-real, kind="stable")
        panels.append(LayerUsage(
            layer, order, real[order] / real.sum(), fake[order] / fake.sum(), float(1 / max(real.sum(), fake.sum())),
            dead_share(real + fake), dictionary_perplexity(real), js_divergence(real, fake)))
    return UsageInfo(step, tuple(panels))


@style.styled
def plot_usage(run):
    """How often each code is taken at the last evaluation: real pictures upwards, generated ones downwards. -> Figure

    Codes stand by their use on real pictures. The scale is logarithmic down to one vector; a dead code has no bar.
    """
    info = collect_usage(run)
    figure, axes = style.canvas(7.6, 0.5 + 1.9 * len(info.panels), len(info.panels), 1, squeeze=False)
    for ax, panel in zip(axes.flat, info.panels, strict=True):
        _draw_usage(ax, panel)
    axes.flat[0].legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2)
    axes.flat[-1].set_xlabel("code, by use on real pictures")
    figure.suptitle(f"usage of the dictionary at step {info.step:,}", x=0.01, ha="left", fontsize=10.5)
    return style.finish(figure, info)


def _draw_usage(ax, panel):
    edges = np.arange(len(panel.order) + 1) - 0.5
    for sign, shares, tint, label in ((1, panel.real, REAL, "real"), (-1, panel.fake, FAKE, "generated")):
        ax.stairs(sign * shares, edges, fill=True, color=tint, linewidth=0, label=label)
    ax.axhline(0, color=style.INK, linewidth=0.6)
    top = 1.3 * max(panel.real.max(), panel.fake.max())
    ax.set_yscale("symlog", linthresh=panel.least, linscale=0.6)
    ax.set(xlim=(edges[0], edges[-1]), ylim=(-top, top))
    tens = 10.0 ** np.arange(np.ceil(np.log10(panel.least)), np.log10(top))[::-1][::2]
    ax.set_yticks([*-tens, 0, *tens])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):.4g}" if value else "0"))
    ax.set_ylabel("share of vectors")
    ax.grid(axis="x", visible=False)
    ax.set_title(f"{panel.layer}: {panel.dead:.0%} dead, perplexity {panel.perplexity:.0f} of {len(panel.order)}, "
                 f"JS {panel.js:.3f} bits", fontsize=9.5)


def collect_code_life(run, layer=None):
    """Usage of each code over the evaluations -> tuple of LayerLife, one a layer (or of the one asked for)."""
    from dgmlab.metrics.dictionary import lifetimes

    lives = []
    for name in _layers(run, layer):
        rows = [row for row in run.metrics() if f"usage/{name}" in row]
        usage = np.array([row[f"usage/{name}"] for row in rows]) + np.array([row[f"usage_fake/{name}"] for row in rows])
        life = lifetimes(usage)
        birth = np.where(life.first < 0, len(rows), life.first)
        order = np.lexsort((-usage.sum(axis=0), birth))  # by birth, then by use
        lives.append(LayerLife(name, np.array([row["step"] for row in rows]), order, usage[:, order],
                               int((usage[-1] > 0).sum()), int((life.first < 0).sum()), int(life.deaths.sum()),
                               int(life.revivals.sum())))
    return tuple(lives)


@style.styled
def plot_code_life(run, layer=None):
    """When codes were born, died and were revived: evaluations to the right, codes by birth downwards. -> Figure

    Dark is much used (logarithmic, real and generated together), white not at all. layer: one of them; default all
    """
    info = collect_code_life(run, layer)
    figure, axes = style.canvas(7.6, 0.4 + 2.3 * len(info), len(info), 1, squeeze=False)
    for ax, life in zip(axes.flat, info, strict=True):
        heat = np.ma.masked_equal(life.usage.T, 0)  # (K, T)
        drawn = ax.imshow(heat, aspect="auto", interpolation="nearest", cmap=HEAT, norm="log", vmin=1)
        figure.colorbar(drawn, ax=ax, pad=0.01, label="vectors")
        shown = np.arange(len(life.steps))[::max(1, -(-len(life.steps) // 8))]
        ax.set_xticks(shown, [f"{life.steps[i]:,}" for i in shown])
        ax.set_ylabel("code, by birth")
        ax.grid(False)
        ax.set_title(f"{life.layer}: {life.living} of {len(life.order)} codes live, {life.never} never did; "
                     f"{life.deaths} deaths, {life.revivals} revivals", fontsize=9.5)
    axes.flat[-1].set_xlabel("step of the evaluation")
    return style.finish(figure, {"layers": info})


def collect_divergence(runs):
    """Jensen-Shannon divergence of real and generated codes over the steps, of a run or several -> DivergenceInfo"""
    runs = list(runs) if isinstance(runs, list | tuple) else [runs]
    layers = list(dict.fromkeys(layer for run in runs for layer in logged_layers(run)))
    if not layers:
        raise ValueError(f"{', '.join(run.name for run in runs)}: no js/LAYER was logged. Train with a quantised "
                         "discriminator (add_fq), and wait for its first evaluation.")
    found = {layer: collect_metric(runs, f"js/{layer}").curves for layer in layers}
    if len(runs) == 1:
        return DivergenceInfo((("", tuple(Curve(layer, *curves[0][1:]) for layer, curves in found.items())),))
    return DivergenceInfo(tuple(found.items()))


@style.styled
def plot_divergence(runs):
    """Do real and generated pictures take the same codes? JS in bits over the steps; 0 alike, 1 none in common. -> Figure

    runs    one Run, one line a layer; or several, one panel a layer and one line a run
    """
    info = collect_divergence(runs)
    n = len(info.panels)
    figure, axes = style.canvas(7.2 if n == 1 else 3.4 * n, 3.0, 1, n, squeeze=False, sharey=True)
    for ax, (title, curves) in zip(axes.flat, info.panels, strict=True):
        for i, curve in enumerate(curves):
            label = curve.label if len(curve.steps) else f"{curve.label} (not logged)"
            ax.plot(curve.steps, curve.values, color=style.colour(i), label=label, marker="o", markersize=3)
        ax.set_title(title or "real against generated codes", fontsize=9.5 if title else None)
        ax.set_xlabel("step")
        ax.set_ylim(bottom=0)
        ax.margins(x=0.02)
    axes.flat[0].set_ylabel("JS divergence (bits)")
    axes.flat[0].legend()
    return style.finish(figure, info)


# from pictures


def collect_patches(patches, codes, counts):
    """patches (k, n, 3, P, P) uint8, codes and counts (k,) -> PatchInfo; the sheet has a white line between patches"""
    patches = np.asarray(patches)
    if patches.ndim != 5 or patches.dtype != np.uint8 or len(patches) != len(codes) or len(codes) != len(counts):
        raise ValueError(f"patches (k, n, 3, P, P) uint8 and k codes and counts were expected, found {patches.shape} "
                         f"{patches.dtype}, {len(codes)} codes and {len(counts)} counts.")
    k, n, _, side, _ = patches.shape
    framed = np.pad(patches, ((0, 0), (0, 0), (0, 0), (0, GAP), (0, GAP)), constant_values=255)
    sheet = framed.transpose(0, 3, 1, 4, 2).reshape(k * (side + GAP), n * (side + GAP), 3)
    return PatchInfo(tuple(map(int, codes)), tuple(map(int, counts)), sheet, side)


@style.styled
def plot_patches(patches, codes, counts):
    """What codes stand for: a row of nearest patches for each. patches (k, n, 3, P, P) uint8, codes, counts (k,) -> Figure"""
    info = collect_patches(patches, codes, counts)
    height, width, _ = info.sheet.shape
    scale = min(7.0 / width, 0.75 * len(info.codes) / height)
    figure, ax = style.canvas(1.4 + width * scale, 0.4 + height * scale)
    style.blank(ax).imshow(info.sheet, interpolation="nearest")
    rows = np.arange(len(info.codes)) * (info.side + GAP) + info.side / 2
    ax.set_yticks(rows, [f"code {code}\n{count:,} times" for code, count in zip(info.codes, info.counts, strict=True)])
    ax.tick_params(length=0)
    ax.set_title("nearest patches of each code")
    return style.finish(figure, info._replace(sheet=info.sheet.shape))


# in the plane


def _plane(points, what):
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        raise ValueError(f"{what} must be finite points (N, 2), found shape {points.shape}. Embed wider features by tsne "
                         "first.")
    return points


def collect_dictionary_2d(real, fake, dictionary, counts):
    """real (N, 2), fake (M, 2) or None, dictionary (K, 2), counts (K,) -> PlaneInfo; limits leave far codes out"""
    real, dictionary = _plane(real, "real"), _plane(dictionary, "dictionary")
    fake = np.empty((0, 2)) if fake is None else _plane(fake, "fake")
    counts = np.asarray(counts)
    if counts.shape != (len(dictionary),):
        raise ValueError(f"one count a code was expected, found shape {counts.shape} for {len(dictionary)} codes.")
    low, high = real.min(axis=0), real.max(axis=0)
    margin = 0.08 * (high - low).max() + 1e-9
    low, high = low - margin, high + margin
    outside = int(((dictionary < low) | (dictionary > high)).any(axis=1).sum())
    return PlaneInfo(real, fake, dictionary, counts, int((counts == 0).sum()), outside, (low[0], high[0]), (low[1], high[1]))


@style.styled
def plot_dictionary_2d(real, fake, dictionary, counts, ax=None, title=None):
    """A dictionary among the points it stands for, and the cells of its codes. -> Figure

    real (N, 2), fake (M, 2) or None, dictionary (K, 2)
    counts    (K,) points each code was taken for: the area of its disc; hollow where it is dead
    title     default: what was counted
    """
    info = collect_dictionary_2d(real, fake, dictionary, counts)
    own = ax is None
    figure, ax = style.on(ax, 4.6, 5.0)
    for points, tint, label in ((info.real, REAL, "real"), (info.fake, FAKE, "generated")):
        if len(points):
            size = float(np.clip(4000 / len(points), 2, 16))
            ax.scatter(*points.T, s=size, color=tint, alpha=0.35, linewidth=0, label=label)
    ax.add_collection(LineCollection(cells(info.dictionary), colors=style.FAINT, linewidths=0.6, alpha=0.8), autolim=False)
    live = info.counts > 0
    area = 18 + 150 * info.counts / max(info.counts.max(), 1)
    ax.scatter(*info.dictionary[live].T, s=area[live], color=style.INK, edgecolor="white", linewidth=0.9, zorder=4,
               label="code, by use")
    if info.dead:
        ax.scatter(*info.dictionary[~live].T, s=34, facecolor="white", edgecolor=style.MARK, linewidth=1.3, zorder=3,
                   label="dead code")
    ax.set(xlim=info.x, ylim=info.y, aspect="equal")
    style.blank(ax)
    if own:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4)
    out = f", {info.outside} out of sight" if info.outside else ""
    ax.set_title(title if title is not None else f"{info.dead} of {len(info.counts)} codes dead{out}", fontsize=9.5)
    return style.finish(figure, info)


def cells(dictionary):
    """Borders between the regions of nearest codes in the plane: dictionary (K, 2) -> (E, 2, 2) line segments"""
    from scipy.spatial import Voronoi

    sites = np.unique(dictionary, axis=0)
    middle, reach = sites.mean(axis=0), 1 + np.ptp(sites, axis=0).max()
    # far corners close every cell, so that no border runs to infinity
    corners = middle + 1e3 * reach * np.array([[-1.0, -1.1], [1.2, -1.0], [1.0, 1.3], [-1.1, 1.0]])
    diagram = Voronoi(np.concatenate([sites, corners]))
    inner = [ends for pair, ends in zip(diagram.ridge_points, diagram.ridge_vertices, strict=True)
             if max(pair) < len(sites) and min(ends) >= 0]
    return diagram.vertices[np.array(inner, dtype=int).reshape(-1, 2)]


def collect_centroids(real, fake, centroids):
    """real (N, 2), fake (M, 2), centroids (K, 2), all on one map -> CentroidInfo"""
    real, fake, centroids = _plane(real, "real"), _plane(fake, "fake"), _plane(centroids, "centroids")
    counts = [np.bincount(np.square(points[:, None] - centroids).sum(axis=2).argmin(axis=1), minlength=len(centroids))
              for points in (real, fake)]
    return CentroidInfo(real, fake, centroids, *counts, int(((counts[0] > 0) & (counts[1] > 0)).sum()))


@style.styled
def plot_centroids(real, fake, centroids, ax=None, title=None):
    """FQ-GAN's picture: features of real and of generated pictures on one map, and the centroids that serve both. -> Figure

    real (N, 2), fake (M, 2), centroids (K, 2): put through `tsne` together, as one array, and parted again
    The title counts the centroids nearest to points of both kinds *on this map*: distances on a t-SNE are not those of the
    features, so the codes that the quantizer gave may be shared by more or by fewer.
    """
    info = collect_centroids(real, fake, centroids)
    figure, ax = style.on(ax, 5.4, 5.0)
    for points, tint, mark, label in ((info.real, REAL, "o", "real"), (info.fake, FAKE, "^", "generated")):
        ax.scatter(*points.T, s=float(np.clip(6000 / len(points), 6, 24)), color=tint, marker=mark, alpha=0.5, linewidth=0,
                   label=label)
    ax.scatter(*info.centroids.T, s=46, color=style.INK, marker="X", edgecolor="white", linewidth=0.9, zorder=4,
               label="centroid")
    style.blank(ax)
    ax.margins(0.04)
    both = f"{info.shared} of {len(info.centroids)} centroids serve both"
    ax.set_title(both if title is None else f"{title}: {both}", fontsize=10)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, markerscale=1.2)
    return style.finish(figure, info)
