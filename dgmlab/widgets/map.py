"""A map of z that decodes where it is clicked.

The map is a picture of the points; a transparent grid of buttons lies on it, so that a click is an ordinary widget event and
no extra front-end package is needed.
"""

import base64
import html
import uuid
from typing import NamedTuple

import ipywidgets as ipw
import numpy as np

from dgmlab.viz import style
from dgmlab.viz.latent import collect_map, draw_points, plot_map, spread_out
from dgmlab.widgets.parts import METHODS, Codec, StatusLine, method_choice, title

WIDTH, HEIGHT = 720, 480  # of the map, in pixels


class Place(NamedTuple):
    """What was decoded at (x, y): z (Z,), the sentence, and the indices and weights of the points that were mixed."""

    x: float
    y: float
    z: np.ndarray
    sentence: str
    near: tuple
    weights: tuple


class LatentMap:
    """A map of z with click-to-decode.

    xy          (N, 2) map coordinates, e.g. of t-SNE
    z           (N, Z) the latent vectors of the same points
    sentences   N sentences
    decode      (z (M, Z), method) -> list of M sentences
    labels      (N,) ints, or None; names of the labels

    t-SNE has no inverse: z at a place is the mean of its k nearest points, weighted by 1 / distance squared, so that on a
    point it is that point's own z.
    """

    def __init__(self, xy, z, sentences, decode, labels=None, names=None, k=5, grid=(16, 24), methods=METHODS):
        self.info = collect_map(xy, labels, sentences, names, n_notes=1)
        self.z = np.asarray(z, dtype=float)
        if self.z.ndim != 2 or len(self.z) != len(self.info.xy):
            raise ValueError(f"z must be ({len(self.info.xy)}, Z), one vector a point of the map; found {self.z.shape}. "
                             "Encode the same sentences that were mapped.")
        self.sentences, self.k, self.grid = list(sentences), min(k, len(self.z)), grid
        self.codec = Codec(None, decode)
        low, high = self.info.xy.min(axis=0), self.info.xy.max(axis=0)
        margin = np.maximum(0.06 * (high - low), 1e-6)
        self.low, self.high = low - margin, high + margin
        self.place, self.places = None, []
        self.status = StatusLine("map")
        self.method = method_choice(methods)
        self.method.observe(lambda change: self._again(), names="value")
        self.detail = ipw.HTML()
        self._buttons = self._make_buttons()
        board = ipw.GridBox(self._buttons, layout=ipw.Layout(
            grid_template_columns=f"repeat({grid[1]}, 1fr)", grid_template_rows=f"repeat({grid[0]}, 1fr)", grid_gap="0",
            width=f"{WIDTH}px", height=f"{HEIGHT}px", border=f"1px solid {style.PALE}", overflow="hidden"))
        name = f"dgmlab-board-{uuid.uuid4().hex[:8]}"  # its own style sheet must not touch another map of the page
        board.add_class(name)
        self.view = ipw.VBox([title("Map of z: click anywhere to decode there"), ipw.HTML(self._sheet(name)),
                              self.method, board, ipw.HTML(self._legend()), self.status.view, self.detail])
        self.view.add_class("dgmlab-map")
        self.status.say("nothing decoded yet: click on the map")

    # positions

    def centre(self, row, column):
        """(x, y) of the middle of a cell; row 0 is at the top."""
        rows, columns = self.grid
        share = np.array([(column + 0.5) / columns, 1 - (row + 0.5) / rows])
        return tuple(float(v) for v in self.low + share * (self.high - self.low))

    def latent(self, x, y):
        """(z (Z,), indices of the k nearest points, their weights) at a place."""
        distance = np.square(self.info.xy - (x, y)).sum(axis=1)
        near = np.argsort(distance, kind="stable")[:self.k]
        weight = 1 / np.maximum(distance[near], 1e-12 * max(1.0, float(np.square(self.high - self.low).sum())))
        weight /= weight.sum()
        return weight @ self.z[near], near, weight

    def at(self, x, y):
        """Decode at map coordinates -> Place; raises what decode raises."""
        z, near, weight = self.latent(x, y)
        sentence = self.codec.decode(z[None], self.method.value)[0]
        return Place(float(x), float(y), z, sentence, tuple(map(int, near)), tuple(map(float, weight)))

    # events

    def click(self, row, column):
        """What a click on a cell does; -> Place, or None when it failed (the widget says why)."""
        try:
            self.place = self.at(*self.centre(row, column))
        except Exception as error:  # as in Interpolator.refresh
            self.status.fail(error)
            return None
        self.places.append(self.place)
        for i, button in enumerate(self._buttons):
            chosen = i == row * self.grid[1] + column
            if (button.style is self._chosen) != chosen:
                button.style = self._chosen if chosen else self._clear
        self._cell = (row, column)
        self.status.say(f"x = {self.place.x:.2f}, y = {self.place.y:.2f}: {self.place.sentence}")
        self.detail.value = self._neighbours()
        return self.place

    def static(self, n=6):
        """The map with sentences decoded at n places: those clicked, else n spread over the empty parts. -> Figure"""
        places = self.places[-n:] or [self.at(x, y) for x, y in self._gaps(n)]
        return plot_map(self.info.xy, self.info.labels, self.sentences, self.info.names, n_notes=6,
                        title="Map of z; crosses: decoded where no sentence lies",
                        places=[(place.x, place.y, place.sentence) for place in places])

    def _again(self):
        if self.place is not None:
            self.click(*self._cell)

    def _gaps(self, n):
        """n cells apart from each other and from the points, but within the cloud. -> list of (x, y)"""
        cells = np.array([self.centre(r, c) for r in range(self.grid[0]) for c in range(self.grid[1])])
        gap = np.sqrt(np.square(cells[:, None] - self.info.xy[None]).sum(axis=-1).min(axis=1))
        order = np.argsort(gap)[len(gap) // 3: 2 * len(gap) // 3]  # neither on a point nor far out
        return [tuple(map(float, cells[order][i])) for i in spread_out(cells[order], n)]

    # looks

    def _make_buttons(self):
        cell = ipw.Layout(width="auto", height="auto", margin="0", padding="0", border="none")
        self._clear = ipw.ButtonStyle(button_color="transparent")
        self._chosen = ipw.ButtonStyle(button_color=f"{style.MARK}99")
        buttons = []
        for row in range(self.grid[0]):
            for column in range(self.grid[1]):
                x, y = self.centre(row, column)
                button = ipw.Button(layout=cell, style=self._clear, tooltip=f"x {x:.2f}, y {y:.2f}")
                button.on_click(lambda _, row=row, column=column: self.click(row, column))
                buttons.append(button)
        return buttons

    @style.styled
    def _picture(self):
        """The points alone, edge to edge, as PNG bytes."""
        figure, ax = style.canvas(WIDTH / 100, HEIGHT / 100)
        figure.set_layout_engine("none")
        ax.set_position((0, 0, 1, 1))
        draw_points(style.blank(ax), self.info.xy, self.info.labels, self.info.names)
        ax.set(xlim=(self.low[0], self.high[0]), ylim=(self.low[1], self.high[1]))
        return figure.png(dpi=200, tight=False)

    def _sheet(self, name):
        picture = base64.b64encode(self._picture()).decode()
        return (f"<style>.{name} {{background:#fff url(data:image/png;base64,{picture}) 0 0/100% 100% no-repeat}}"
                f".{name} button {{box-shadow:none;border-radius:4px;min-width:0;line-height:0;cursor:crosshair}}"
                f".{name} button:hover {{background:{style.SKY}66 !important;box-shadow:none}}</style>")

    def _legend(self):
        if len(self.info.names) < 2:
            return ""
        dots = [f'<span style="color:{style.colour(i)};font-size:16px">&#9679;</span> {html.escape(name)}'
                for i, name in enumerate(self.info.names)]
        return f'<div style="font-size:13px;color:{style.INK}">{"&emsp;".join(dots)}</div>'

    def _neighbours(self):
        rows = "".join(f'<tr><td style="padding:1px 12px 1px 0;color:{style.BLUE};text-align:right">{weight:.0%}</td>'
                       f"<td>{html.escape(self.sentences[i])}</td></tr>"
                       for i, weight in zip(self.place.near, self.place.weights, strict=True))
        return (f'<div style="font-size:13px;color:{style.FAINT}">mixed from the nearest sentences</div>'
                f'<table style="font-size:13px;line-height:1.5;color:{style.INK}">{rows}</table>')
