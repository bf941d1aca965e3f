"""One look for every picture: colour-blind-safe colours, a light grid, quiet axes.

A plot of this package is two steps: collect the numbers into a NamedTuple, then draw them on axes. It returns a `Picture`,
a matplotlib Figure made without pyplot: it shows itself as the last line of a notebook cell, is never shown twice, leaves no
global state behind, and carries the numbers it draws in `numbers`, so that they can be saved beside the PNG.

Colours: M. Okabe and K. Ito, "Color Universal Design" (2008), a little darker where text is set in them.
"""

import functools
import io
import math
import re
import threading
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dgmlab.run import home, write_error, write_json

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#B5578C"
SKY, AMBER, BROWN, SLATE = "#56B4E9", "#E69F00", "#8C5A3C", "#5B6770"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, BROWN, SLATE)
MARKERS = ("o", "s", "^", "D", "v", "P")  # a second palette's worth of labels gets another marker, not another colour

INK, FAINT, PALE, TINT = "#1F2933", "#7B8794", "#E4E7EB", "#F5F7FA"
MARK, MARK_PALE = "#B4430A", "#FCE8DC"  # what changed, and the paper behind it
# in a page the colours of Lab's own theme, so that text stays readable in the dark one
HTML_INK, HTML_FAINT = f"var(--jp-content-font-color1, {INK})", f"var(--jp-content-font-color2, {FAINT})"
HTML_TINT, HTML_LINE = f"var(--jp-layout-color2, {TINT})", f"var(--jp-border-color2, {PALE})"

RC = {
    "figure.facecolor": "white", "figure.dpi": 120, "savefig.dpi": 120,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 9.5, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 9,
    "axes.labelsize": 9.5, "axes.labelcolor": INK, "text.color": INK, "axes.titlecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9AA5B1", "axes.linewidth": 0.8,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": PALE, "grid.linewidth": 0.8,
    "axes.prop_cycle": mpl.cycler(color=PALETTE), "lines.linewidth": 1.8, "lines.solid_capstyle": "round",
    "xtick.color": "#9AA5B1", "ytick.color": "#9AA5B1", "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "xtick.major.size": 3, "ytick.major.size": 3,
    "legend.frameon": False, "legend.fontsize": 8.5, "legend.handlelength": 1.6,
}
_drawing = threading.RLock()  # matplotlib's settings are global, and live curves draw from a thread


class Picture(Figure):
    """A Figure that knows the numbers it draws and shows itself in a notebook.

    numbers    what is drawn, as plain dicts, lists, strings and floats
    """

    numbers = None

    def png(self, dpi=120, tight=True):
        """The picture as PNG bytes; the same picture gives the same bytes. tight: cut to what is drawn."""
        buffer = io.BytesIO()
        crop = {"bbox_inches": "tight", "pad_inches": 0.12} if tight else {}
        FigureCanvasAgg(self).print_figure(buffer, dpi=dpi, metadata={"Software": None}, **crop)
        return buffer.getvalue()

    def _repr_png_(self):
        return self.png()


def apply():
    """Give matplotlib this look for the rest of the session, for pictures a notebook draws itself."""
    mpl.rcParams.update(RC)


def styled(draw):
    """Decorator: `draw` runs with this look and leaves matplotlib's settings as they were."""
    @functools.wraps(draw)
    def inside(*args, **kwargs):
        with _drawing, mpl.rc_context(RC):
            return draw(*args, **kwargs)
    return inside


def canvas(width=7.2, height=3.6, rows=1, columns=1, **options):
    """A new Picture and its axes: (picture, ax), or (picture, array of axes) when there is more than one."""
    picture = Picture(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(picture)
    return picture, picture.subplots(rows, columns, **options)


def on(ax, width=7.2, height=3.6):
    """(picture, ax) to draw on: the axes that were given, or new ones of this size in inches."""
    return (ax.figure, ax) if ax is not None else canvas(width, height)


def colour(index):
    """Colour of the label with this number; after the last one they start again (and `marker` changes)."""
    return PALETTE[int(index) % len(PALETTE)]


def marker(index):
    """Marker of the label with this number."""
    return MARKERS[int(index) // len(PALETTE) % len(MARKERS)]


def blank(ax):
    """Axes without frame, ticks and grid, for text and maps."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def shorten(text, limit):
    """The text where it has up to `limit` characters, else what of it fits before an ellipsis."""
    return text if len(text) <= limit else text[:limit - 1].rstrip() + "…"


def plain(value):
    """NamedTuples, arrays and paths as dicts, lists and strings; floats to 6 digits, since a picture shows no more."""
    if hasattr(value, "_asdict"):
        return {key: plain(item) for key, item in value._asdict().items()}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def finish(figure, info):
    """Attach the numbers to the figure and hand it back: the last line of every plot."""
    figure.numbers = plain(info)
    return figure


def save_figure(fig, stem, folder=None, data=None):
    """Save a picture for keeps as FOLDER/STEM.png, and the numbers behind it as FOLDER/STEM.json.

    stem      starts with the notebook's number, e.g. "12_latent_map": figures of one notebook lie together
    folder    default: figures/ of the checkout
    data      default: the numbers the picture carries
    -> Path of the PNG; the same picture gives the same bytes
    """
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", stem):
        raise ValueError(f"a kept figure is named by its notebook's number, e.g. '12_latent_map'; found '{stem}'. Rename it.")
    path = Path(folder if folder is not None else home() / "figures") / f"{stem}.png"
    data = data if data is not None else getattr(fig, "numbers", None)
    if data is None:
        raise ValueError(f"figure '{stem}' carries no numbers. Pass them as data=..., so that it can be checked and redrawn.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(path, dpi=120, bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})
    except OSError as error:
        raise write_error(path, error) from error
    write_json(path.with_suffix(".json"), plain(data))
    return path
