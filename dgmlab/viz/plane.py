"""Points in the plane, side by side: what a generator of the toy lab draws, beside the truth."""

from typing import NamedTuple

import numpy as np

from dgmlab.viz import style


class PointsPanel(NamedTuple):
    """xy (N, 2), labels (N,); counts (L,) points of each label."""

    title: str
    xy: np.ndarray
    labels: np.ndarray
    counts: np.ndarray


class PointsInfo(NamedTuple):
    """panels of PointsPanel; low, high (2,): the limits that all of them share, those of the first."""

    panels: tuple
    low: np.ndarray
    high: np.ndarray


def collect_points(panels, limit=1500):
    """{title: (xy (N, 2), labels (N,))} -> PointsInfo, of the first `limit` points of each"""
    found = []
    for title, (xy, labels) in panels.items():
        xy, labels = np.asarray(xy, dtype=float)[:limit], np.asarray(labels)[:limit]
        if xy.shape != (len(labels), 2) or not len(labels):
            raise ValueError(f"'{title}' must be points (N, 2) and N labels, found {xy.shape} and {labels.shape}. "
                             "Give (points, labels) for each title.")
        found.append(PointsPanel(title, xy, labels, np.bincount(labels)))
    low, high = found[0].xy.min(axis=0), found[0].xy.max(axis=0)
    margin = 0.06 * (high - low).max()
    return PointsInfo(tuple(found), low - margin, high + margin)


@style.styled
def plot_points(panels, columns=3, limit=1500):
    """Sets of points in the plane, coloured by class, on one scale. panels {title: (xy (N, 2), labels (N,))} -> Figure

    The first one sets the scale, so let it be the real one; points beyond it are not seen.
    """
    info = collect_points(panels, limit)
    columns = min(columns, len(info.panels))
    rows = -(-len(info.panels) // columns)
    shape = np.divide(*(info.high - info.low)[::-1])
    figure, axes = style.canvas(2.9 * columns, (2.9 * shape + 0.3) * rows, rows, columns, squeeze=False)
    for number, ax in enumerate(axes.flat):
        if number >= len(info.panels):
            ax.remove()
            continue
        panel = info.panels[number]
        tints = [style.colour(label) for label in panel.labels]
        style.blank(ax).scatter(*panel.xy.T, s=5, c=tints, alpha=0.5, linewidth=0)
        ax.set(xlim=(info.low[0], info.high[0]), ylim=(info.low[1], info.high[1]), aspect="equal")
        ax.set_title(panel.title, fontsize=9.5, pad=3)
        for spine in ax.spines.values():
            spine.set(visible=True, color=style.PALE)
    return style.finish(figure, {"panels": [(panel.title, panel.counts) for panel in info.panels]})
