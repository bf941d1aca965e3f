"""Instructions with what an agent attends to in them: one step as shaded text, all steps as a heat map."""

import matplotlib as mpl
import numpy as np
from matplotlib.patches import FancyBboxPatch

from dgmlab.viz import style
from dgmlab.viz.words import text_sheet, text_width

SHADE = "Blues"
SPECIAL = ("<CLS>", "<SEP>", "[CLS]", "[SEP]")  # tokens that are not words: of R2R's vocabulary, of WordPiece


def _broken(words, size, width):
    """Words as lines of (index, text, x in points): a piece that begins with ## joins the word before it."""
    lines, x, space = [[]], 0.0, 0.36 * size
    for index, word in enumerate(words):
        joined, text = word.startswith("##") and index > 0, word.removeprefix("##")
        advance = text_width(text, size)
        if joined:
            x -= space
        elif x + advance > width and lines[-1]:
            lines.append([])
            x = 0.0
        lines[-1].append((index, text, x))
        x += advance + space
    return lines


def draw_instruction(ax, words, attention, left, top, width, size=10.5):
    """Words in lines on axes in points, each on a shade of its weight against the largest -> height in points"""
    leading = 1.75 * size
    most = max(float(np.max(attention)), 1e-9) if attention is not None else 1.0
    for row, line in enumerate(_broken(words, size, width)):
        y = top + (row + 0.5) * leading
        for index, text, x in line:
            share = 0.0 if attention is None else float(attention[index]) / most
            if share > 0.02:
                shade = mpl.colormaps[SHADE](0.66 * share)
                ax.add_patch(FancyBboxPatch((left + x, y - 0.52 * size), text_width(text, size), 1.04 * size, linewidth=0,
                                            boxstyle="round,pad=1.6,rounding_size=2.5", facecolor=shade))
            dark = "white" if share > 0.85 else style.FAINT if text in SPECIAL else style.INK
            ax.text(left + x, y, text, fontsize=size, va="center_baseline", color=dark, parse_math=False)
    return instruction_height(words, width, size)


def instruction_height(words, width, size=10.5):
    """Points that `draw_instruction` takes."""
    return 1.75 * size * len(_broken(words, size, width))


@style.styled
def plot_instruction(words, attention=None, title="", width=9.0):
    """An instruction, each word on a shade of the attention it gets.

    words      T strings; pieces that begin with ## join the word before
    attention  (T,) weights, or None
    -> Figure
    """
    words = tuple(words)
    if attention is not None and np.shape(attention) != (len(words),):
        raise ValueError(f"{len(words)} words have one weight each, found weights of shape {np.shape(attention)}. "
                         "Give those of one step.")
    if not words:
        raise ValueError("an instruction of at least one word was expected, found none.")
    inner, top = 72 * width - 20, 26 if title else 6
    note = "" if attention is None else f"the darkest word has {np.max(attention):.0%} of the attention"
    figure, ax = text_sheet(72 * width, top + instruction_height(words, inner) + (16 if note else 4))
    if title:
        ax.text(8, 13, title, fontsize=11, fontweight="bold", va="center", parse_math=False)
    height = draw_instruction(ax, words, attention, 10, top, inner)
    if note:
        ax.text(10, top + height + 7, note, fontsize=7.5, color=style.FAINT, va="center")
    return style.finish(figure, {"words": words, "attention": attention})


@style.styled
def plot_attention(words, attention, title="", width=9.6):
    """Attention over the words at each step as a heat map.

    words      T strings
    attention  (steps, T) weights, each row sums to 1
    -> Figure
    """
    weights = np.asarray(attention, dtype=float)
    if weights.ndim != 2 or weights.shape[1] != len(words) or not len(weights):
        raise ValueError(f"attention of at least one step over {len(words)} words was expected, (steps, {len(words)}), found "
                         f"{weights.shape}. Stack trajectory.word_attention.")
    figure, ax = style.canvas(width, 1.35 + 0.2 * len(weights))
    drawn = ax.imshow(weights, cmap=SHADE, aspect="auto", vmin=0)
    size = float(np.clip(72 * (width - 1.4) / len(words) * 0.8, 4, 8.5))
    ax.set_xticks(range(len(words)), list(words), rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    ax.set_yticks(range(len(weights)), [str(step) for step in range(1, len(weights) + 1)])
    ax.set_ylabel("step")
    ax.grid(False)
    ax.tick_params(length=0)
    bar = figure.colorbar(drawn, ax=ax, pad=0.01, fraction=0.04)
    bar.outline.set_visible(False)
    bar.set_label("share", fontsize=8)
    ax.set_title(title or "attention to the words, step by step")
    return style.finish(figure, {"words": list(words), "attention": weights})
