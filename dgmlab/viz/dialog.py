"""Pictures of dialog: the responses around a context, quality against diversity, and a slider from plain to styled.

Each takes arrays and sentences; where they come from is the notebook's business.
"""

from typing import NamedTuple

import numpy as np

from dgmlab.viz import style
from dgmlab.viz.words import break_plain, draw_words, text_sheet

LABELS = {"ball": "sphere around the context", "offset": "offsets of other responses", "sample": "sampling words",
          "beam": "beam search"}
VALUES = {"ball": "scale", "offset": "scale", "sample": "temperature", "beam": "beams"}


class RegionInfo(NamedTuple):
    """Places around a context's latent: xy (N, 2) in units of the radius; responses, the distinct ones, in the order of how
    close to the middle they first appear; kind (N,) which of them each place gives; context, its turns."""

    context: tuple
    xy: np.ndarray
    responses: tuple
    kind: np.ndarray


def collect_region(context, xy, sentences):
    """context: turns; xy (N, 2); sentences: N strings -> RegionInfo"""
    xy = np.asarray(xy, dtype=float)
    if xy.shape != (len(sentences), 2) or not len(xy):
        raise ValueError(f"one place (x, y) a response was expected, found {xy.shape} for {len(sentences)} responses. "
                         "Make them agree.")
    order = np.argsort(np.square(xy).sum(1), kind="stable")
    responses = tuple(dict.fromkeys(sentences[i] for i in order))
    numbers = {text: i for i, text in enumerate(responses)}
    return RegionInfo(tuple(context), xy, responses, np.array([numbers[text] for text in sentences]))


@style.styled
def plot_region(context, xy, sentences, current=None, n_listed=12):
    """The map of responses around a context, one colour and number a response, and what they say. -> Figure

    context    turns, oldest first
    xy         (N, 2) places in units of the radius; sentences: what is said there
    current    index of the place to stress; n_listed: responses written out, from the middle outwards
    """
    info = collect_region(context, xy, sentences)
    figure, (ax, text) = style.canvas(10.5, 4.6, 1, 2, width_ratios=(1, 1.35))
    for ring in (0.5, 1.0):
        ax.add_artist(_circle(ring))
    for number in np.unique(info.kind):
        rows = info.kind == number
        ax.scatter(*info.xy[rows].T, s=70, color=style.colour(number), marker=style.marker(number), zorder=2)
    for (x, y), number in zip(info.xy, info.kind, strict=True):
        ax.annotate(str(number + 1), (x, y), ha="center", va="center", fontsize=6.5, color="white", zorder=3)
    if current is not None:
        ax.scatter(*info.xy[current], s=170, facecolor="none", edgecolor=style.INK, linewidth=1.4, zorder=4)
    reach = 1.12 * max(1.0, np.abs(info.xy).max())
    style.blank(ax).set(xlim=(-reach, reach), ylim=(-reach, reach))
    ax.set_box_aspect(1)
    ax.set_title(f"{len(info.responses)} responses in {len(info.xy)} places")
    _written(style.blank(text), info, n_listed, None if current is None else int(info.kind[current]))
    return style.finish(figure, info)


def _circle(radius):
    from matplotlib.patches import Circle

    return Circle((0, 0), radius, fill=False, edgecolor=style.PALE, linewidth=1.0, zorder=1)


def _written(ax, info, n_listed, current):
    """The turns of the context, then the responses with their numbers, on axes of their own."""
    ax.set(xlim=(0, 1), ylim=(1, 0))
    turns = info.context[-3:]
    step = 1 / (len(turns) + min(len(info.responses), n_listed) + 2)
    y = step
    for turn in turns:
        ax.text(0, y, style.shorten(turn, 74), fontsize=9, color=style.FAINT, va="center", parse_math=False)
        y += step
    y += 0.4 * step
    for number, response in enumerate(info.responses[:n_listed]):
        weight = "bold" if number == current else "normal"
        ax.text(0.0, y, f"{number + 1}", fontsize=8.5, color=style.colour(number), fontweight="bold", va="center")
        ax.text(0.05, y, style.shorten(response, 68), fontsize=9, va="center", fontweight=weight, parse_math=False)
        y += step
    if len(info.responses) > n_listed:
        ax.text(0.05, y, f"and {len(info.responses) - n_listed} more", fontsize=8.5, color=style.FAINT, va="center")


@style.styled
def plot_trade_off(settings, title=""):
    """How good against how different: BLEU-F1 with its interval, and distinct 2-grams among the responses. -> Figure

    settings  rows with method, value, f1, f1_low, f1_high, inter_2, as `dgmlab.optimus.respond.trade_off` gives them
    """
    rows = [row._asdict() if hasattr(row, "_asdict") else dict(row) for row in settings]
    if not rows:
        raise ValueError("a trade-off needs at least one setting, found none.")
    figure, ax = style.canvas(7.2, 4.6)
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        mine = sorted((row for row in rows if row["method"] == method), key=lambda row: row["value"])
        x, y = [row["f1"] for row in mine], [row["inter_2"] for row in mine]
        error = [[row["f1"] - row["f1_low"] for row in mine], [row["f1_high"] - row["f1"] for row in mine]]
        ax.errorbar(x, y, xerr=error, color=style.colour(number), marker=style.MARKERS[number % len(style.MARKERS)],
                    linewidth=1.4, elinewidth=0.7, capsize=2, label=f"{LABELS.get(method, method)} ({VALUES.get(method, '')})")
        for row in mine:
            ax.annotate(f"{row['value']:g}", (row["f1"], row["inter_2"]), xytext=(5, 5), textcoords="offset points",
                        fontsize=7.5, color=style.colour(number))
    ax.set(xlabel="BLEU-F1 of the responses to a context", ylabel="distinct 2-grams among them")
    ax.set_title(title or "good against different")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return style.finish(figure, rows)


class SliderInfo(NamedTuple):
    """taus (n,); scores: name -> (n,) in [0, 1]; example: n sentences, or () without one; context of the example."""

    taus: np.ndarray
    scores: dict
    example: tuple
    context: tuple


def collect_slider(taus, scores, example=(), context=()):
    """taus (n,), scores {name: (n,)}, example: n sentences -> SliderInfo"""
    taus = np.asarray(taus, dtype=float)
    scores = {name: np.asarray(values, dtype=float) for name, values in scores.items()}
    wrong = [name for name, values in scores.items() if values.shape != taus.shape]
    if wrong or len(example) not in (0, len(taus)):
        raise ValueError(f"one value and sentence for each of {len(taus)} places of the slider were expected, found another "
                         f"number for {', '.join(wrong) or 'the example'}. Make them agree.")
    return SliderInfo(taus, scores, tuple(example), tuple(context))


@style.styled
def plot_slider(taus, scores, example=(), context=(), title="from plain to styled"):
    """What a style slider does: scores over its places, and one response as it moves. -> Figure"""
    info = collect_slider(taus, scores, example, context)
    figure, axes = style.canvas(10.5 if example else 5.6, 3.8, 1, 2 if example else 1, squeeze=False)
    for number, (name, values) in enumerate(info.scores.items()):
        axes[0, 0].plot(info.taus, values, color=style.colour(number), marker=style.MARKERS[number], label=name)
    axes[0, 0].set(xlabel="slider", ylim=(-0.03, 1.03))
    axes[0, 0].set_title(title)
    axes[0, 0].legend()
    if example:
        ax = style.blank(axes[0, 1])
        ax.set(xlim=(0, 1), ylim=(1, 0))
        asked = style.shorten(" / ".join(info.context), 76)
        ax.text(0, 0.03, asked, fontsize=9, color=style.FAINT, va="center", parse_math=False)
        for tau, text, y in zip(info.taus, info.example, np.linspace(0.13, 0.97, len(info.taus)), strict=True):
            ax.text(0, y, f"{tau:.2f}", fontsize=8.5, color=style.BLUE, va="center")
            ax.text(0.08, y, style.shorten(text, 66), fontsize=9, va="center", parse_math=False)
    return style.finish(figure, info)


@style.styled
def plot_ways(context, ways, references=()):
    """The responses of several ways to respond, side by side. ways {name: sentences}; references: written below. -> Figure"""
    width, size, leading = 210, 9, 13.5
    columns = {**ways, **({"what people said": list(references)} if len(references) else {})}
    broken = [[break_plain(text or "(nothing)", width - 24, size) for text in texts] for texts in columns.values()]
    height = 66 + max(sum(leading * len(lines) + 5 for lines in cells) for cells in broken)
    figure, ax = text_sheet(12 + width * len(columns), height)
    ax.text(12, 20, style.shorten(" / ".join(context), 110), fontsize=11, fontweight="bold", parse_math=False)
    for number, (name, cells) in enumerate(zip(columns, broken, strict=True)):
        ax.text(12 + number * width, 44, LABELS.get(name, name), fontsize=9, color=style.colour(number), fontweight="bold")
        y = 62
        for lines in cells:
            draw_words(ax, 12 + number * width, y, lines, size, leading)
            y += leading * len(lines) + 5
    return style.finish(figure, {"context": list(context), "ways": {name: list(texts) for name, texts in columns.items()}})
