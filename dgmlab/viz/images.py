"""Pictures of pictures: grids, training histories, walks, heat maps, translations.

Pictures come as (N, 3, S, S) uint8, numpy or torch on the CPU. They are shown pixel by pixel: enlarged by whole factors, each
pixel a sharp square; only those larger than their place are made smaller, averaged. What a figure carries in `numbers` is how
they lie and their mean brightness in 0..255, not the pixels.

Letters: N pictures, S side in pixels, R rows and C columns of a board.
"""

import io
import math
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from PIL import Image

from dgmlab.viz import style

DPI = 120  # of the figures: one pixel of a board is one of the PNG
GAP, CAPTION = 4, 17  # pixels between two pictures; above a picture that has a caption
WIDTH = 860  # of a board, about, in pixels
HEAT = "inferno"
FRAME = style.ORANGE


class Board(NamedTuple):
    """Pictures in rows: cells (R, C, S, S, 3) uint8, shown (R, C) bool, and what is written beside, above and on top."""

    cells: np.ndarray
    shown: np.ndarray
    row_names: tuple = ()
    column_names: tuple = ()
    captions: tuple = ()

    def summary(self):
        """What the figure carries: counts, names, and the mean brightness of every picture, row by row."""
        brightness = [list(row[on]) for row, on in zip(self.cells.mean((2, 3, 4)), self.shown, strict=True)]
        return {"n": int(self.shown.sum()), "size": self.cells.shape[2], "row_names": self.row_names,
                "column_names": self.column_names, "captions": self.captions, "brightness": brightness}


def as_pictures(pictures):
    """Checked pictures, channels last: (N, 3, S, S) uint8, numpy or torch -> (N, S, S, 3) uint8 array."""
    x = np.asarray(pictures)
    if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3] or x.dtype != np.uint8 or not len(x):
        raise ValueError(f"pictures (N, 3, S, S) uint8 were expected, at least one, found {x.shape} {x.dtype}. "
                         "dgmlab.data.pixels.to_uint8 makes them of [-1, 1].")
    return x.transpose(0, 2, 3, 1)


def collect_grid(pictures, columns=8, titles=None):
    """Pictures (N, 3, S, S) in rows -> Board. titles: one for each row, or one for each picture, or None."""
    x = as_pictures(pictures)
    if columns < 1:
        raise ValueError(f"at least one column was expected, found columns={columns}.")
    columns = min(columns, len(x))
    rows = math.ceil(len(x) / columns)
    titles = tuple(map(str, titles or ()))
    if len(titles) not in (0, rows, len(x)):
        raise ValueError(f"{len(titles)} titles were given for {len(x)} pictures in {rows} rows. Give one a row, or one "
                         "a picture.")
    cells = np.full((rows * columns, *x.shape[1:]), 255, np.uint8)
    cells[:len(x)] = x
    by_row = len(titles) == rows
    return Board(cells.reshape(rows, columns, *x.shape[1:]), (np.arange(rows * columns) < len(x)).reshape(rows, columns),
                 row_names=titles if by_row else (), captions=() if by_row else titles)


@style.styled
def plot_grid(pictures, columns=8, titles=None, title="", framed=(), cell=None):
    """Pictures (N, 3, S, S) uint8 in rows.

    titles  names of the rows (classes, say), or of every picture
    framed  indices of pictures with a frame around them
    cell    side of a drawn picture, about, in pixels; default: as large as the columns allow, up to 128
    -> Figure
    """
    board = collect_grid(pictures, columns, titles)
    figure, frame = _draw(board, title, cell)
    for i in framed:
        frame(*divmod(i, board.cells.shape[1]))
    return style.finish(figure, board.summary())


def collect_history(run, columns=8, n_rows=8):
    """How the same latents looked over training -> Board, one row a step.

    run      a Run with samples/grid-STEP.png as the training loops write them, or {step: (N, 3, S, S) uint8}
    columns  pictures of each grid, the first ones
    n_rows   steps shown, evenly spread from the first to the last
    """
    grids = dict(run) if isinstance(run, dict) else {int(path.stem.split("-")[1]): path
                                                     for path in run.samples.glob("grid-*.png")}
    if not grids:
        raise FileNotFoundError(f"{run.samples if hasattr(run, 'samples') else 'the history'} has no grid of samples, "
                                "samples/grid-STEP.png was expected. Train with samples switched on.")
    steps = sorted(grids)
    steps = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, min(n_rows, len(steps))).round().astype(int))]
    rows = [as_pictures(grids[step])[:columns] if isinstance(run, dict) else untile(grids[step])[:columns] for step in steps]
    if len({row.shape for row in rows}) > 1:
        raise ValueError(f"grids of equal shape were expected, found {', '.join(sorted({str(row.shape) for row in rows}))}.")
    cells = np.stack(rows)
    return Board(cells, np.ones(cells.shape[:2], bool), row_names=tuple(f"step {step:,}" for step in steps))


@style.styled
def plot_history(run, columns=8, n_rows=8, title=""):
    """Rows of samples of the same latents over training, from a Run or {step: pictures}. -> Figure"""
    board = collect_history(run, columns, n_rows)
    figure, _ = _draw(board, title)
    return style.finish(figure, board.summary())


def untile(path, gap=2):
    """The pictures of a grid that `dgmlab.data.pixels.tile` laid out: path of a PNG -> (N, S, S, 3) uint8.

    S is the smallest number from 8 on that fits the size of the PNG and the white between the pictures; white pictures at
    the end are what filled the last row, and left out.
    """
    with Image.open(path) as image:
        grid = np.asarray(image.convert("RGB"))
    height, width = grid.shape[0] + gap, grid.shape[1] + gap
    for side in range(8, min(height, width)):
        if height % (side + gap) == 0 and width % (side + gap) == 0:
            padded = np.pad(grid, ((0, gap), (0, gap), (0, 0)), constant_values=255)
            cells = padded.reshape(height // (side + gap), side + gap, width // (side + gap), side + gap, 3).swapaxes(1, 2)
            if (cells[:, :, side:] == 255).all() and (cells[:, :, :, side:] == 255).all():
                pictures = cells[:, :, :side, :side].reshape(-1, side, side, 3)
                filled = np.flatnonzero((pictures != 255).any((1, 2, 3)))
                return pictures[:filled[-1] + 1] if len(filled) else pictures
    raise ValueError(f"{path} is not a grid of square pictures with {gap} white pixels between them ({grid.shape[1]} x "
                     f"{grid.shape[0]} pixels). dgmlab.data.pixels.tile makes one.")


def collect_walk(frames, n_between=8, seeds=None):
    """frames (N, 3, S, S) of a walk, n_between pictures from one seed to the next -> Board, a row from seed to seed."""
    x, step = as_pictures(frames), n_between + 1
    n_rows = (len(x) - 1) // step
    if n_between < 0 or len(x) != n_rows * step + 1 or n_rows < 1:
        raise ValueError(f"a walk with n_between={n_between} has {step} k + 1 pictures, found {len(x)}. "
                         "Give the n_between of the walk.")
    if seeds is not None and len(seeds) != n_rows + 1:
        raise ValueError(f"this walk passes {n_rows + 1} seeds, found {len(seeds)}. Give the seeds of the walk.")
    cells = np.stack([x[i * step:(i + 1) * step + 1] for i in range(n_rows)])
    names = () if seeds is None else tuple(f"{a} to {b}" for a, b in zip(seeds, seeds[1:], strict=False))
    return Board(cells, np.ones(cells.shape[:2], bool), row_names=names)


@style.styled
def plot_walk(frames, n_between=8, seeds=None, title=""):
    """A latent walk: each row goes from one seed to the next, the pictures of the seeds are framed. -> Figure"""
    board = collect_walk(frames, n_between, seeds)
    figure, frame = _draw(board, title)
    for row in range(len(board.cells)):
        frame(row, 0)
        frame(row, board.cells.shape[1] - 1)
    return style.finish(figure, board.summary())


def overlay(pictures, heat_maps):
    """Heat maps on their pictures: the picture in grey, tinted by the heat.

    pictures  (N, 3, S, S) uint8;  heat_maps  (N, h, w) float in [0, 1], enlarged bilinearly to S
    -> (N, 3, S, S) uint8
    """
    x, heat = as_pictures(pictures), np.asarray(heat_maps, dtype=np.float32)
    if heat.ndim != 3 or len(heat) != len(x) or not ((heat >= 0) & (heat <= 1)).all():
        found = f"{heat.shape} from {heat.min():.3g} to {heat.max():.3g}" if heat.size else f"{heat.shape}"
        raise ValueError(f"heat maps ({len(x)}, h, w) in [0, 1] were expected, one a picture, found {found}.")
    side = x.shape[1]
    large = np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)) for one in heat])
    grey = (x @ np.array([0.299, 0.587, 0.114]))[..., None]  # luma of ITU-R BT.601
    tint = mpl.colormaps[HEAT](large.clip(0, 1))[..., :3] * 255
    return (0.45 * grey + 0.55 * tint).round().astype(np.uint8).transpose(0, 3, 1, 2)


def collect_heat_maps(pictures, heat_maps, columns=8, titles=None):
    """Pictures (N, 3, S, S), each with its heat map (h, w) below -> Board of 2 ceil(N / columns) rows. titles: N or None."""
    above, below = collect_grid(pictures, columns), collect_grid(overlay(pictures, heat_maps), columns)
    cells, shown = (np.stack(pair, 1).reshape(-1, *pair[0].shape[1:]) for pair in
                    ((above.cells, below.cells), (above.shown, below.shown)))
    names = ("picture", "heat map") * len(above.cells)
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"{len(pictures)} titles were expected, one a picture, found {len(titles)}.")
    captions = []
    for start in range(0, len(titles or ()), above.cells.shape[1]):
        row = list(map(str, titles[start:start + above.cells.shape[1]]))
        captions += row + [""] * (2 * above.cells.shape[1] - len(row))
    return Board(cells, shown, row_names=names, captions=tuple(captions))


@style.styled
def plot_heat_maps(pictures, heat_maps, columns=8, titles=None, title=""):
    """Where a network looked: under each picture the same in grey, tinted by its heat map (N, h, w) in [0, 1]. -> Figure"""
    board = collect_heat_maps(pictures, heat_maps, columns, titles)
    figure, _ = _draw(board, title)
    _heat_bar(figure)
    return style.finish(figure, {**board.summary(), "heat": np.asarray(heat_maps).mean((1, 2))})


def collect_translation(sources, translated, back=None, heat_maps=None, names=("source", "translated", "back")):
    """Each row one picture: source, heat map (where given), translation, and back again (where given) -> Board"""
    parts = {names[0]: sources}
    if heat_maps is not None:
        parts["heat map"] = overlay(sources, heat_maps)
    parts[names[1]] = translated
    if back is not None:
        parts[names[2]] = back
    pictures = {name: as_pictures(part) for name, part in parts.items()}
    if len({part.shape for part in pictures.values()}) > 1:
        found = ", ".join(f"{len(part)} of {part.shape[1]} pixels in '{name}'" for name, part in pictures.items())
        raise ValueError(f"as many pictures in every column were expected, all of one size, found {found}.")
    cells = np.stack(list(pictures.values()), 1)
    return Board(cells, np.ones(cells.shape[:2], bool), column_names=tuple(pictures))


@style.styled
def plot_translation(sources, translated, back=None, heat_maps=None, names=("source", "translated", "back"), title=""):
    """Unpaired translation, a row a picture.

    sources, translated, back  (N, 3, S, S) uint8; back: the translation translated back
    heat_maps                  (N, h, w) in [0, 1], where the translator looked in the sources
    names                      of the three columns, e.g. ("cat", "dog", "cat again")
    -> Figure
    """
    board = collect_translation(sources, translated, back, heat_maps, names)
    figure, _ = _draw(board, title, cell=min(128, 1100 // board.cells.shape[1]))
    if heat_maps is not None:
        _heat_bar(figure)
    return style.finish(figure, board.summary())


def animation(frames, scale=3, milliseconds=80):
    """The frames (N, 3, S, S) uint8 there and back again, forever, as an animated PNG (lossless) -> bytes"""
    x = as_pictures(frames)
    images = [Image.fromarray(one).resize((x.shape[2] * scale,) * 2, Image.Resampling.NEAREST) for one in (*x, *x[-2:0:-1])]
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    return buffer.getvalue()


# drawing


def _draw(board, title="", cell=None):
    """Draw a board -> (Picture, frame), where frame(row, column) draws a frame around a picture."""
    rows, columns, side = board.cells.shape[:3]
    cell = cell or min(128, max(40, WIDTH // columns - GAP))
    drawn = side * round(cell / side) or cell
    captions = [board.captions[i:i + columns] for i in range(0, rows * columns, columns)]
    above = np.array([CAPTION if any(row) else 0 for row in captions])
    tops = np.arange(rows) * (drawn + GAP) + above.cumsum()
    lefts = np.arange(columns) * (drawn + GAP)
    sheet = np.full((tops[-1] + drawn, lefts[-1] + drawn, 3), 255, np.uint8)
    for row, column in np.argwhere(board.shown):
        place = slice(tops[row], tops[row] + drawn), slice(lefts[column], lefts[column] + drawn)
        sheet[place] = _resized(board.cells[row, column], drawn)
    figure, ax = style.canvas(sheet.shape[1] / DPI, sheet.shape[0] / DPI)
    figure.set_layout_engine("none")
    style.blank(ax).set_position((0, 0, 1, 1))  # what is written lies outside, where `png` and `savefig` still see it
    ax.imshow(sheet, interpolation="nearest", aspect="auto", extent=(0, sheet.shape[1], sheet.shape[0], 0))
    small = 8.5 if drawn >= 48 else 7
    for top, name in zip(tops, board.row_names, strict=False):
        ax.text(-7, top + drawn / 2, name, ha="right", va="center", fontsize=small)
    for left, name in zip(lefts, board.column_names, strict=False):
        ax.text(left + drawn / 2, -5, name, ha="center", va="bottom", fontsize=8.5)
    for top, row in zip(tops, captions, strict=True):
        for left, caption in zip(lefts, row, strict=False):
            ax.text(left + drawn / 2, top - 3, _shortened(caption, drawn), ha="center", va="bottom", fontsize=7.5)
    if title:
        ax.text(0, -26 if board.column_names else -9, title, ha="left", va="bottom", fontsize=11, fontweight="bold")
    ax.set(xlim=(0, sheet.shape[1]), ylim=(sheet.shape[0], 0))

    def frame(row, column):
        ax.add_patch(mpl.patches.Rectangle((lefts[column], tops[row]), drawn, drawn, fill=False, edgecolor=FRAME,
                                           linewidth=1.6, clip_on=False))
    return figure, frame


def _resized(picture, side):
    """One picture (S, S, 3) at another side: repeated pixels when larger, averaged ones when smaller."""
    if side >= len(picture):
        return picture.repeat(side // len(picture), 0).repeat(side // len(picture), 1)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def _shortened(text, width):
    """A caption that fits over a picture of this many pixels, with an ellipsis where it was cut."""
    return style.shorten(text, max(3, int(width / 8)))


def _heat_bar(figure):
    """The colours of the heat, beside the board."""
    width, height = figure.get_size_inches() * DPI
    share = min(1, 190 / height)
    ax = figure.add_axes((1 + 12 / width, 1 - share, 9 / width, share))
    bar = figure.colorbar(mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), HEAT), cax=ax, ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.set_label("heat in each picture", fontsize=8)
    ax.tick_params(labelsize=8, length=0)
