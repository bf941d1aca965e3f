"""Pictures of a latent space: t-SNE panels, an annotated map, interpolation paths, analogies, a plane of sentences.

Each takes arrays and sentences; where they come from is the notebook's business.
"""

from typing import NamedTuple

import numpy as np

from dgmlab.viz import style
from dgmlab.viz.words import break_lines, break_plain, changed_words, draw_words, text_sheet

NEIGHBOURS = 10
SERIAL_BELOW = 5000  # points; larger maps use every core


class TsnePanel(NamedTuple):
    """One map. xy (N, 2); knn = share of points whose nearest neighbours vote for their label; silhouette in [-1, 1]."""

    title: str
    xy: np.ndarray
    knn: float
    silhouette: float


class TsneInfo(NamedTuple):
    """panels of TsnePanel; labels (N,); their names; chance = share of the largest label."""

    panels: tuple
    labels: np.ndarray
    names: tuple
    chance: float


class PathRow(NamedTuple):
    """tau, the words of the sentence, and which of them are new against the row above."""

    tau: float
    words: tuple
    changed: tuple


class MapInfo(NamedTuple):
    """xy (N, 2), labels (N,), their names; notes: indices of the sentences written at the margin, and these sentences."""

    xy: np.ndarray
    labels: np.ndarray
    names: tuple
    notes: tuple
    sentences: tuple


class AnalogyRow(NamedTuple):
    """A : B :: C : D; `words` of D and which differ from C; ok is None where nobody judged."""

    a: str
    b: str
    c: str
    words: tuple
    changed: tuple
    ok: bool | None


class GridInfo(NamedTuple):
    """cells: rows of sentences; kind: the same shape, equal numbers for equal sentences; distinct: how many there are."""

    cells: tuple
    kind: np.ndarray
    distinct: int


def tsne(features, seed=0, perplexity=30.0):
    """Two-dimensional t-SNE map (van der Maaten and Hinton 2008).

    features     (N, D) float; more than 50 columns are first reduced to 50 by PCA
    perplexity   about how many neighbours a point looks at; lowered to (N - 1) / 3 for few points
    -> (N, 2) float64, the same for the same seed
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 4:
        raise ValueError(f"t-SNE needs features (N, D) of at least 4 points, found an array {features.shape}. "
                         "Encode more sentences.")
    if not np.isfinite(features).all():
        broken = int((~np.isfinite(features)).any(axis=1).sum())
        raise ValueError(f"t-SNE needs finite numbers, found NaN or inf in {broken} of {len(features)} points. "
                         "Look at the model's training curve.")
    if features.shape[1] > 50:
        features = PCA(min(50, *features.shape), svd_solver="full").fit_transform(features)
    # a PCA start keeps far things far apart, but divides by the spread: none is left when the posterior has collapsed
    start = "pca" if features.shape[1] >= 2 and features.std(axis=0).max() > 1e-9 else "random"
    perplexity = min(float(perplexity), (len(features) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init=start, random_state=seed, learning_rate="auto")
    # on a busy machine, threads that wait for each other at every small step cost ten times what they save
    with threadpool_limits(1 if len(features) < SERIAL_BELOW else None):
        return model.fit_transform(features).astype(float)


def knn_accuracy(features, labels, k=NEIGHBOURS):
    """Share of points whose k nearest others vote for their own label. features (N, D), labels (N,) ints -> float."""
    from sklearn.neighbors import NearestNeighbors

    labels = np.asarray(labels)
    k = min(k, len(labels) - 1)
    near = NearestNeighbors(n_neighbors=k).fit(features).kneighbors(return_distance=False)  # (N, k), without the point itself
    kinds = np.unique(labels)
    votes = np.stack([(labels[near] == kind).sum(axis=1) for kind in kinds], axis=1)
    return float((kinds[votes.argmax(axis=1)] == labels).mean())


def collect_tsne(maps, labels, names=None):
    """maps {title: xy (N, 2)}, labels (N,) -> TsneInfo; the numbers are measured on the map that is drawn."""
    from sklearn.metrics import silhouette_score

    labels, names = _names(labels, names)
    counts = np.bincount(labels, minlength=len(names))
    panels = []
    for title, xy in maps.items():
        xy = _points(xy, len(labels), title)
        several = 1 < (counts > 0).sum() < len(labels)
        score = float(silhouette_score(xy, labels)) if several else 0.0
        panels.append(TsnePanel(title, xy, knn_accuracy(xy, labels), score))
    return TsneInfo(tuple(panels), labels, names, float(counts.max() / len(labels)))


@style.styled
def plot_tsne(maps, labels, names=None):
    """Maps side by side, coloured by label. maps {title: xy (N, 2)}, labels (N,) ints, names of the labels. -> Figure"""
    info = collect_tsne(maps, labels, names)
    figure, axes = style.canvas(3.9 * len(info.panels), 4.3, 1, len(info.panels), squeeze=False)
    for ax, panel in zip(axes.flat, info.panels, strict=True):
        draw_points(style.blank(ax), panel.xy, info.labels, info.names)
        ax.set_box_aspect(1)
        ax.set_title(f"{panel.title}\n", pad=4)
        score = f"{NEIGHBOURS} neighbours agree {panel.knn:.0%} (chance {info.chance:.0%}), silhouette {panel.silhouette:.2f}"
        ax.text(0, 1.02, score, transform=ax.transAxes, fontsize=8.5, color=style.FAINT)
        _frame(ax)
    columns = min(len(info.names), 3 * len(info.panels))
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, markerscale=1.6)
    return style.finish(figure, info)


def collect_path(sentences, taus=None):
    """Sentences along a path, with the words that changed against the row above -> tuple of PathRow."""
    sentences = list(sentences)
    taus = np.linspace(0, 1, len(sentences)) if taus is None else np.asarray(taus, dtype=float)
    if not sentences or len(taus) != len(sentences):
        raise ValueError(f"one tau a sentence was expected, found {len(taus)} taus and {len(sentences)} sentences. "
                         "Make them agree.")
    rows = []
    for i, (tau, sentence) in enumerate(zip(taus, sentences, strict=True)):
        words, flags = changed_words(sentences[i - 1] if i else sentence, sentence)
        rows.append(PathRow(float(tau), words, flags))
    return tuple(rows)


@style.styled
def plot_path(sentences, taus=None, title="", current=None):
    """The interpolation list of a paper's figure: tau, sentence, changed words marked. current: row to stress. -> Figure"""
    rows = collect_path(sentences, taus)
    width, size, leading, left = 560, 10.5, 17, 64
    broken = [break_lines(row.words, row.changed, width - left - 16, size) for row in rows]
    heights = [10 + leading * len(lines) for lines in broken]
    top = 50 if title else 28
    figure, ax = text_sheet(width, top + sum(heights) + 6)
    if title:
        ax.text(12, 20, title, fontsize=11.5, fontweight="bold", parse_math=False)
    ax.text(12, top - 9, "tau", fontsize=8.5, color=style.FAINT)
    ax.text(left, top - 9, "sentence  (marked: new against the row above)", fontsize=8.5, color=style.FAINT)
    ax.plot([12, width - 12], [top - 3, top - 3], color="#9AA5B1", linewidth=0.8)
    y = top
    for i, (row, lines, height) in enumerate(zip(rows, broken, heights, strict=True)):
        if i == current:
            ax.fill_between([6, width - 6], y, y + height, color=style.SKY, alpha=0.18, linewidth=0)
        elif i % 2:
            ax.fill_between([6, width - 6], y, y + height, color=style.TINT, linewidth=0)
        weight = "bold" if i in (0, len(rows) - 1, current) else "normal"
        ax.text(12, y + 17, f"{row.tau:.2f}", fontsize=9.5, color=style.BLUE, fontweight=weight)
        draw_words(ax, left, y + 17, lines, size, leading)
        y += height
    return style.finish(figure, {"title": title, "rows": rows})


def spread_out(xy, n):
    """Indices of n points far from each other: the most central one, then always the farthest. xy (N, 2) -> (n,) ints."""
    chosen = [int(np.square(xy - xy.mean(axis=0)).sum(axis=1).argmin())]
    gap = np.full(len(xy), np.inf)
    for _ in range(min(n, len(xy)) - 1):
        gap = np.minimum(gap, np.square(xy - xy[chosen[-1]]).sum(axis=1))
        chosen.append(int(gap.argmax()))
    return np.array(chosen)


def collect_map(xy, labels, sentences, names=None, n_notes=10, notes=None):
    """A map with some sentences written out -> MapInfo. notes: their indices; default: n_notes points spread over the map."""
    labels, names = _names(np.zeros(len(xy)) if labels is None else labels, names)
    xy = _points(xy, len(labels), "xy")
    if len(sentences) != len(xy):
        raise ValueError(f"one sentence a point was expected, found {len(sentences)} sentences and {len(xy)} points. "
                         "Make them agree.")
    notes = spread_out(xy, n_notes) if notes is None else np.asarray(notes, dtype=int)
    return MapInfo(xy, labels, names, tuple(int(i) for i in notes), tuple(sentences[i] for i in notes))


@style.styled
def plot_map(xy, labels, sentences, names=None, n_notes=10, notes=None, title="", places=()):
    """The latent map with sample sentences in its margins. -> Figure

    xy (N, 2), labels (N,) ints or None, sentences (N,) strings
    places     extra marked spots: (x, y, sentence), e.g. decoded where no data point lies
    """
    info = collect_map(xy, labels, sentences, names, n_notes, notes)
    figure, ax = style.canvas(10.5, 5.0)
    figure.set_layout_engine("none")
    ax.set_position((0.30, 0.09, 0.40, 0.82))
    draw_points(style.blank(ax), info.xy, info.labels, info.names)
    _frame(ax)
    spots = [(*info.xy[i], text, style.INK, "o") for i, text in zip(info.notes, info.sentences, strict=True)]
    spots += [(x, y, text, style.MARK, "X") for x, y, text in places]
    _margin_notes(ax, spots)
    figure.text(0.30, 0.94, title or "latent map", fontsize=11, fontweight="bold")
    if len(info.names) > 1:
        figure.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=min(len(info.names), 6), markerscale=1.6)
    return style.finish(figure, info._asdict() | {"places": list(places)})


def _margin_notes(ax, spots):
    """Sentences left and right of the axes, joined to their spots by thin lines; sorted by height, so these rarely cross."""
    order = sorted(range(len(spots)), key=lambda i: spots[i][0])
    for side, members in ((-1, order[:len(order) // 2]), (1, order[len(order) // 2:])):
        members = sorted(members, key=lambda i: -spots[i][1])
        heights = np.linspace(0.96, 0.04, len(members)) if len(members) > 1 else [0.5]
        for i, height in zip(members, heights, strict=True):
            x, y, text, tint, mark = spots[i]
            fill, place, align = "white" if mark == "o" else tint, 0.5 + side * 0.56, "left" if side > 0 else "right"
            ax.scatter([x], [y], s=44, marker=mark, facecolor=fill, edgecolor=tint, linewidth=1.3, zorder=4)
            ax.annotate(_short(text, 76), (x, y), xytext=(place, height), textcoords="axes fraction", ha=align, va="center",
                        fontsize=8, color=tint, annotation_clip=False, parse_math=False,
                        arrowprops={"arrowstyle": "-", "color": "#9AA5B1", "linewidth": 0.7, "shrinkA": 2, "shrinkB": 3})


def _short(text, limit):
    """Text cut to `limit` characters and broken over two lines, for a margin."""
    text = style.shorten(text, limit)
    if len(text) <= limit // 2:
        return text
    middle = min((i for i, letter in enumerate(text) if letter == " "), key=lambda i: abs(i - len(text) // 2), default=None)
    return text if middle is None else text[:middle] + "\n" + text[middle + 1:]


def collect_analogies(tries):
    """tries: (a, b, c, d) or (a, b, c, d, ok) -> tuple of AnalogyRow."""
    rows = []
    for attempt in tries:
        a, b, c, d, *rest = attempt
        words, flags = changed_words(c, d)
        rows.append(AnalogyRow(a, b, c, words, flags, None if not rest or rest[0] is None else bool(rest[0])))
    return tuple(rows)


@style.styled
def plot_analogy(tries, title=""):
    """Sentence arithmetic as a table, A : B :: C : D; in D the words that differ from C are marked. -> Figure

    tries    (a, b, c, d) or (a, b, c, d, ok), ok whether the intended factor and nothing else changed
    """
    rows = collect_analogies(tries)
    judged = [row.ok for row in rows if row.ok is not None]
    column, size, leading = 178, 9.5, 14.5
    width = 12 + 4 * column + 34
    broken = [[*(break_plain(text, column - 18, size) for text in (row.a, row.b, row.c)),
               break_lines(row.words, row.changed, column - 18, size)] for row in rows]
    heights = [12 + leading * max(map(len, cells)) for cells in broken]
    figure, ax = text_sheet(width, 54 + sum(heights))
    score = f"   {sum(judged)} of {len(judged)} as intended" if judged else ""
    ax.text(12, 20, (title or "A is to B as C is to D") + score, fontsize=11.5, fontweight="bold", parse_math=False)
    for i, head in enumerate(("A", "is to  B", "as  C", "is to  D  (marked: differs from C)")):
        ax.text(12 + i * column, 42, head, fontsize=8.5, color=style.FAINT)
    ax.plot([12, width - 12], [48, 48], color="#9AA5B1", linewidth=0.8)
    y = 48
    for number, (row, cells, height) in enumerate(zip(rows, broken, heights, strict=True)):
        if number % 2:
            ax.fill_between([6, width - 6], y, y + height, color=style.TINT, linewidth=0)
        for i, lines in enumerate(cells):
            draw_words(ax, 12 + i * column, y + 16, lines, size, leading, style.INK if i > 1 else style.FAINT)
        if row.ok is not None:
            ax.text(width - 26, y + 17, "✓" if row.ok else "✗", fontsize=12, color=style.GREEN if row.ok else style.MARK)
        y += height
    return style.finish(figure, {"title": title, "rows": rows})


def collect_grid(cells):
    """cells: rows of sentences -> GridInfo."""
    kinds = {}
    kind = np.array([[kinds.setdefault(text, len(kinds)) for text in row] for row in cells])
    return GridInfo(tuple(tuple(row) for row in cells), kind, len(kinds))


@style.styled
def plot_latent_grid(cells, row_values=None, column_values=None, row_label="", column_label="", title=""):
    """A plane through the latent space: one decoded sentence a cell, equal sentences in one tint. cells: rows. -> Figure"""
    info = collect_grid(cells)
    n_rows, n_columns = info.kind.shape
    column, size, leading = min(170, 760 // n_columns), 8.5, 12.5
    broken = [[break_plain(text, column - 14, size) for text in row] for row in info.cells]
    height = 14 + leading * max(len(lines) for row in broken for lines in row)
    figure, ax = text_sheet(70 + n_columns * column, 64 + n_rows * height)
    ax.text(12, 20, title or f"{info.distinct} distinct sentences", fontsize=11.5, fontweight="bold", parse_math=False)
    ax.text(62, 40, column_label, fontsize=8.5, color=style.FAINT)
    ax.text(10, 40, row_label, fontsize=8.5, color=style.FAINT)
    for r in range(n_rows):
        for c in range(n_columns):
            x, y, kind = 62 + c * column, 58 + r * height, info.kind[r, c]
            ax.fill_between([x + 1, x + column - 1], y + 1, y + height - 1, color=style.colour(kind), alpha=0.13, linewidth=0)
            draw_words(ax, x + 7, y + 15, broken[r][c], size, leading)
    for c, value in enumerate(column_values if column_values is not None else ()):
        ax.text(62 + (c + 0.5) * column, 54, _number(value), fontsize=8.5, color=style.BLUE, ha="center")
    for r, value in enumerate(row_values if row_values is not None else ()):
        ax.text(50, 58 + (r + 0.5) * height, _number(value), fontsize=8.5, color=style.BLUE, ha="right", va="center")
    return style.finish(figure, info)


def _number(value):
    return value if isinstance(value, str) else f"{value:.2g}"


def _names(labels, names):
    """(labels (N,) ints, names of all labels); names default to the numbers themselves."""
    labels = np.asarray(labels).astype(int)
    names = tuple(map(str, names)) if names is not None else tuple(map(str, range(labels.max() + 1)))
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(f"labels must be numbers 0 to {len(names) - 1} for {len(names)} names, "
                         f"found {labels.min()} to {labels.max()}. Give one name a label.")
    return labels, names


def _points(xy, n, title):
    xy = np.asarray(xy, dtype=float)
    if xy.shape != (n, 2):
        raise ValueError(f"'{title}' must be ({n}, 2), one point a label; found {xy.shape}. "
                         "Run tsne(features) on the same sentences.")
    return xy


def draw_points(ax, xy, labels, names):
    """The points of a map, coloured by label. xy (N, 2), labels (N,) ints."""
    size = float(np.clip(6000 / max(len(xy), 1), 7, 34))
    for number, name in enumerate(names):
        mine = labels == number
        ax.scatter(xy[mine, 0], xy[mine, 1], s=size, color=style.colour(number), marker=style.marker(number), alpha=0.72,
                   linewidth=0.3, edgecolor="white", label=name)
    ax.margins(0.05)


def _frame(ax):
    """A thin frame around a map whose axes have no meaning of their own."""
    for spine in ax.spines.values():
        spine.set(visible=True, color=style.PALE)
