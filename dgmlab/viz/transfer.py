"""Style transfer: rewritten sentences with the new words marked, and accuracy against BLEU beside that of simple systems."""

from typing import NamedTuple

from dgmlab.viz import style
from dgmlab.viz.words import break_lines, break_plain, changed_words, draw_words, text_sheet

LEVELS = (0.2, 0.4, 0.6, 0.8)  # of the lines of equal G


class Rewriting(NamedTuple):
    """words of the output and whether each is new; label it should have; ok: whether a judge agrees, None where none said."""

    source: str
    label: str
    words: tuple
    changed: tuple
    ok: bool | None


def collect_rewritings(sources, outputs, labels, verdicts=None):
    """N sources, N outputs, N names of the wanted labels, and N bools or None. -> tuple of Rewriting"""
    verdicts = [None] * len(sources) if verdicts is None else [bool(verdict) for verdict in verdicts]
    lengths = {"sources": len(sources), "outputs": len(outputs), "labels": len(labels), "verdicts": len(verdicts)}
    if len(set(lengths.values())) != 1 or not len(sources):
        raise ValueError(f"expected as many of each and at least one, found {lengths}.")
    return tuple(Rewriting(source, str(label), *changed_words(source, output), verdict)
                 for source, output, label, verdict in zip(sources, outputs, labels, verdicts, strict=True))


@style.styled
def plot_rewritings(sources, outputs, labels, verdicts=None, title=""):
    """Each source, the label that was wanted, and what came out, its new words marked. -> Figure

    labels    names of the wanted labels; verdicts: whether a judge finds each in the output
    """
    rows = collect_rewritings(sources, outputs, labels, verdicts)
    size, leading, edges, columns = 9.5, 14.5, (12, 304, 396), (284, 84, 284)
    width = edges[2] + columns[2] + 34
    broken = [(break_plain(row.source, columns[0] - 8, size), break_plain(row.label, columns[1], size),
               break_lines(row.words, row.changed, columns[2] - 8, size)) for row in rows]
    heights = [12 + leading * max(map(len, cells)) for cells in broken]
    figure, ax = text_sheet(width, 54 + sum(heights))
    judged = [row.ok for row in rows if row.ok is not None]
    score = f"   {sum(judged)} of {len(judged)} as wanted" if judged else ""
    ax.text(12, 20, (title or "rewritten with another label") + score, fontsize=11.5, fontweight="bold", parse_math=False)
    for x, head in zip(edges, ("source", "wanted", "output  (marked: not in the source)"), strict=True):
        ax.text(x, 42, head, fontsize=8.5, color=style.FAINT)
    ax.plot([12, width - 12], [48, 48], color="#9AA5B1", linewidth=0.8)
    y = 48
    for number, (row, cells, height) in enumerate(zip(rows, broken, heights, strict=True)):
        if number % 2:
            ax.fill_between([6, width - 6], y, y + height, color=style.TINT, linewidth=0)
        for x, lines, colour in zip(edges, cells, (style.FAINT, style.BLUE, style.INK), strict=True):
            draw_words(ax, x, y + 16, lines, size, leading, colour)
        if row.ok is not None:
            ax.text(width - 26, y + 17, "✓" if row.ok else "✗", fontsize=12, color=style.GREEN if row.ok else style.MARK)
        y += height
    return style.finish(figure, {"title": title, "rows": rows})


class System(NamedTuple):
    """One point of accuracy against BLEU, with intervals (low, high) or None; published: of another protocol."""

    label: str
    accuracy: float
    bleu: float
    accuracy_interval: tuple | None = None
    bleu_interval: tuple | None = None
    published: bool = False


def collect_systems(numbers, published=None, against="source"):
    """Points of a plane.

    numbers    name of a system -> dict with accuracy, bleu_AGAINST, and their _low and _high where measured
    published  name -> (accuracy, BLEU), both in [0, 1]
    """
    if not numbers:
        raise ValueError("expected the numbers of at least one system, found none.")
    found = []
    for label, row in numbers.items():
        pairs = [(row[name], (row[f"{name}_low"], row[f"{name}_high"]) if f"{name}_low" in row else None)
                 for name in ("accuracy", f"bleu_{against}")]
        (accuracy, accuracy_interval), (bleu, bleu_interval) = pairs
        found.append(System(label, accuracy, bleu, accuracy_interval, bleu_interval))
    return (*found, *(System(label, *pair, published=True) for label, pair in (published or {}).items()))


@style.styled
def plot_systems(numbers, published=None, against="source", title="", ax=None):
    """Accuracy of the wanted label against BLEU, both better to the upper right, with lines of equal G. -> Figure

    Arguments as for `collect_systems`; published systems are drawn hollow: another judge, other data.
    """
    systems = collect_systems(numbers, published, against)
    figure, ax = style.on(ax, 6.4, 4.4)
    for level in LEVELS:
        x = [level**2 + (1.02 - level**2) * i / 60 for i in range(61)]
        ax.plot(x, [level**2 / value for value in x], color=style.PALE, linewidth=1.0, zorder=1)
        ax.annotate(f"G = {level:g}", (1.02, level**2 / 1.02), fontsize=7.5, color=style.FAINT, va="bottom", ha="right")
    for number, system in enumerate(systems):
        tint = style.SLATE if system.published else style.colour(number)
        ax.plot(system.accuracy, system.bleu, linestyle="none", marker="o", markersize=7, color=tint, zorder=3,
                markerfacecolor="none" if system.published else tint)
        for interval, along in ((system.accuracy_interval, "x"), (system.bleu_interval, "y")):
            if interval is not None:
                line = (interval, (system.bleu,) * 2) if along == "x" else ((system.accuracy,) * 2, interval)
                ax.plot(*line, color=tint, linewidth=1.4, zorder=2)
        right = system.accuracy > 0.75
        ax.annotate(system.label, (system.accuracy, system.bleu), xytext=(-9 if right else 9, 7), textcoords="offset points",
                    ha="right" if right else "left", fontsize=8.5, color=tint, parse_math=False)
    ax.set(xlim=(0, 1.04), ylim=(0, 1.04), xlabel="accuracy of the wanted label", ylabel=f"BLEU against the {against}",
           title=title or "style against content")
    return style.finish(figure, {"title": title, "against": against, "systems": systems})
