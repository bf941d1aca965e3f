"""Sentences with the words that changed marked: as HTML for widgets, as drawn text for figures."""

import difflib
import functools
import html

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

from dgmlab.viz import style

_renderer = RendererAgg(1, 1, 120)  # to measure with


def changed_words(before, after):
    """Words of `after` and whether each is new against `before`: (words, flags) tuples of equal length."""
    old, new = before.split(), after.split()
    flags = [False] * len(new)
    for kind, _, _, start, stop in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind in ("replace", "insert"):
            flags[start:stop] = [True] * (stop - start)
    return tuple(new), tuple(flags)


def marked_html(words, flags):
    """The sentence as HTML, the flagged words marked. Everything is escaped."""
    mark = f'<mark style="background:{style.MARK_PALE};color:{style.MARK};padding:0 2px;border-radius:3px">'
    return " ".join(f"{mark}{html.escape(word)}</mark>" if flag else html.escape(word)
                    for word, flag in zip(words, flags, strict=True))


@functools.lru_cache(maxsize=4096)
def text_width(text, size, weight="normal"):
    """How far a word moves the pen, in points."""
    font = FontProperties(family=style.RC["font.family"], size=size, weight=weight)

    def inked(string):
        return _renderer.get_text_width_height_descent(string, font, False)[0] * 72 / 120

    return inked(f"|{text}|") - inked("||")  # the ink alone would leave out the white on both sides of a letter


def break_lines(words, flags, width, size):
    """Lines of (word, flag, x in points) so that none is wider than `width` points."""
    space, x, lines = 0.33 * size, 0.0, [[]]
    for word, flag in zip(words, flags, strict=True):
        advance = text_width(word, size)
        if x + advance > width and lines[-1]:
            lines.append([])
            x = 0.0
        lines[-1].append((word, flag, x))
        x += advance + space
    return lines


def break_plain(text, width, size):
    """`break_lines` of a sentence without marks."""
    words = text.split()
    return break_lines(words, [False] * len(words), width, size)


def draw_words(ax, x, y, lines, size, leading, colour=style.INK):
    """Draw broken lines on axes measured in points, the first baseline at (x, y), y downwards."""
    for number, line in enumerate(lines):
        for word, flag, offset in line:
            box = {"facecolor": style.MARK_PALE, "edgecolor": "none", "boxstyle": "round,pad=0.16"} if flag else None
            ax.text(x + offset, y + number * leading, word, fontsize=size, color=style.MARK if flag else colour,
                    va="baseline", bbox=box, parse_math=False)


def text_sheet(width, height):
    """A Picture and axes whose units are points (72 an inch), the origin at the top left, for text laid out by hand."""
    picture, ax = style.canvas(width / 72, height / 72)
    picture.set_layout_engine("none")
    ax.set_position((0, 0, 1, 1))
    style.blank(ax).set(xlim=(0, width), ylim=(height, 0))
    return picture, ax
