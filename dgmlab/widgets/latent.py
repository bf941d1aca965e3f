"""Walks in a latent space: interpolation between two typed sentences, sentence arithmetic, and a map that decodes.

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
from dgmlab.viz.latent import (
    collect_map,
    collect_path,
    draw_points,
    plot_analogy,
    plot_map,
    plot_path,
    spread_out,
)
from dgmlab.viz.words import changed_words, marked_html
from dgmlab.widgets.parts import METHODS, Codec, StatusLine, answer_html, method_choice, sentence_box, title

WIDTH, HEIGHT = 720, 480  # of the map, in pixels


def linear(z_a, z_b, taus):
    """Points on the straight line: z_a (Z,), z_b (Z,), taus (n,) -> (n, Z)."""
    taus = np.asarray(taus)[:, None]
    return (1 - taus) * z_a + taus * z_b


def spherical(z_a, z_b, taus):
    """Points on the arc, whose lengths go from |z_a| to |z_b|: what a Gaussian prior expects on the way. -> (n, Z)"""
    norm_a, norm_b = np.linalg.norm(z_a), np.linalg.norm(z_b)
    if norm_a == 0 or norm_b == 0:
        return linear(z_a, z_b, taus)
    angle = np.arccos(np.clip(z_a @ z_b / (norm_a * norm_b), -1, 1))
    if np.sin(angle) < 1e-6:  # parallel or opposite: the arc is the line, or is not defined
        return linear(z_a, z_b, taus)
    taus = np.asarray(taus)[:, None]
    arc = (np.sin((1 - taus) * angle) * z_a / norm_a + np.sin(taus * angle) * z_b / norm_b) / np.sin(angle)
    return arc * ((1 - taus) * norm_a + taus * norm_b)


KINDS = {"linear": linear, "spherical": spherical}


class Interpolator:
    """Two sentences, a slider tau between them, and the list of sentences on the way (Li et al. 2020, Table 3).

    encode        list of N sentences -> (N, Z) array
    decode        (z (N, Z), method) -> list of N sentences
    n             sentences on the path, both ends included
    view          the widget; `sentences`, `current` and `show(...)` work without a browser
    """

    def __init__(self, encode, decode, sentence_a, sentence_b, n=9, methods=METHODS, kind="linear"):
        if n < 2:
            raise ValueError(f"a path has at least its 2 ends, found n={n}. Use n=9 or so.")
        self.codec = Codec(encode, decode)
        self.taus = np.linspace(0, 1, n)
        self.sentences = []
        self.status = StatusLine("interpolator")
        self.box_a, self.box_b = sentence_box("A", sentence_a), sentence_box("B", sentence_b)
        self.slider = ipw.FloatSlider(value=0, min=0, max=1, step=1 / (n - 1), description="tau", readout_format=".2f",
                                      continuous_update=False, layout=ipw.Layout(width="420px"))
        self.method = method_choice(methods)
        self.kind = ipw.Dropdown(options=list(KINDS), value=kind, description="path", layout=ipw.Layout(width="210px"))
        self.list = ipw.HTML()
        self.view = ipw.VBox([title("Interpolation: from A to B"), self.box_a, self.box_b,
                              ipw.HBox([self.slider, self.method, self.kind], layout=ipw.Layout(flex_flow="row wrap")),
                              self.list, self.status.view], layout=ipw.Layout(max_width="960px"))
        self.view.add_class("dgmlab-interpolator")
        for control in (self.box_a, self.box_b, self.method, self.kind, self.slider):
            control.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    @property
    def position(self):
        """Index of the sentence under the slider."""
        return int(np.abs(self.taus - self.slider.value).argmin())

    @property
    def current(self):
        """The sentence under the slider."""
        return self.sentences[self.position]

    def path(self):
        """The sentences for what the controls say now; raises what encode or decode raise."""
        a, b = self.box_a.value.strip(), self.box_b.value.strip()
        if not a or not b:
            raise ValueError(f"two sentences were expected, {'A' if not a else 'B'} is empty. Type one and press Enter.")
        z_a, z_b = self.codec.encode([a, b])
        return self.codec.decode(KINDS[self.kind.value](z_a, z_b, self.taus), self.method.value)

    def show(self, sentence_a=None, sentence_b=None, tau=None, method=None, kind=None):
        """Set controls from code; -> the sentence under the slider."""
        wanted = ((self.box_a, sentence_a), (self.box_b, sentence_b), (self.method, method), (self.kind, kind),
                  (self.slider, tau))
        for control, value in wanted:
            if value is not None:
                control.value = value
        return self.current

    def refresh(self):
        """Redraw from the controls; an error becomes a line in the widget and the list stays as it was."""
        try:
            self.sentences = self.path()
        except Exception as error:  # whatever the model raises must end up in the widget, not in a lost log of the kernel
            self.status.fail(error)
            return
        self.list.value = self._rows()
        self.status.say(f"tau = {self.taus[self.position]:.2f}: {self.current}")

    def static(self):
        """The same list as a figure, for headless runs. -> Figure"""
        return plot_path(self.path(), self.taus, f"Interpolation, {self.kind.value}, {self.method.value}", self.position)

    def _rows(self):
        rows = []
        for i, row in enumerate(collect_path(self.sentences, self.taus)):
            here = i == self.position
            edge, paper = (style.BLUE, f"{style.SKY}33") if here else ("transparent", "transparent")
            look = f"background:{paper};border-left:3px solid {edge}"
            mark = ' class="dgmlab-current" aria-current="true"' if here else ""
            rows.append(f'<tr{mark} style="{look}"><td style="padding:3px 14px 3px 10px;color:{style.BLUE}">{row.tau:.2f}</td>'
                        f'<td style="padding:3px 10px">{marked_html(row.words, row.changed)}</td></tr>')
        look = f"border-collapse:collapse;font-size:14px;line-height:1.5;color:{style.HTML_INK}"
        return f'<table class="dgmlab-path" style="{look}">{"".join(rows)}</table>'


class Analogy:
    """Sentence arithmetic: A is to B as C is to D, with z_D = z_C + degree (z_B - z_A) (Li et al. 2020, Table 4).

    encode, decode    as for Interpolator
    answer            D, the decoded sentence
    tries             every (A, B, C, D) shown so far, for `static`
    """

    def __init__(self, encode, decode, sentence_a, sentence_b, sentence_c, degree=1.0, methods=METHODS):
        self.codec = Codec(encode, decode)
        self.answer = ""
        self.tries = []
        self.status = StatusLine("analogy")
        self.box_a, self.box_b = sentence_box("A", sentence_a), sentence_box("is to B", sentence_b)
        self.box_c = sentence_box("as C", sentence_c)
        self.degree = ipw.FloatSlider(value=degree, min=-2, max=2, step=0.25, description="degree", readout_format=".2f",
                                      continuous_update=False, layout=ipw.Layout(width="420px"))
        self.method = method_choice(methods)
        self.result = ipw.HTML()
        self.view = ipw.VBox([title("Sentence arithmetic: A is to B as C is to ?"), self.box_a, self.box_b, self.box_c,
                              ipw.HBox([self.degree, self.method], layout=ipw.Layout(flex_flow="row wrap")),
                              self.result, self.status.view], layout=ipw.Layout(max_width="960px"))
        self.view.add_class("dgmlab-analogy")
        for control in (self.box_a, self.box_b, self.box_c, self.degree, self.method):
            control.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    def solve(self):
        """D for what the controls say now; raises what encode or decode raise."""
        sentences = [box.value.strip() for box in (self.box_a, self.box_b, self.box_c)]
        if not all(sentences):
            missing = "ABC"[[not sentence for sentence in sentences].index(True)]
            raise ValueError(f"three sentences were expected, {missing} is empty. Type one and press Enter.")
        z_a, z_b, z_c = self.codec.encode(sentences)
        return self.codec.decode((z_c + self.degree.value * (z_b - z_a))[None], self.method.value)[0]

    def show(self, sentence_a=None, sentence_b=None, sentence_c=None, degree=None, method=None):
        """Set controls from code; -> D."""
        wanted = ((self.box_a, sentence_a), (self.box_b, sentence_b), (self.box_c, sentence_c),
                  (self.degree, degree), (self.method, method))
        for control, value in wanted:
            if value is not None:
                control.value = value
        return self.answer

    def refresh(self):
        """Redraw from the controls; an error becomes a line in the widget."""
        try:
            self.answer = self.solve()
        except Exception as error:  # as in Interpolator.refresh
            self.status.fail(error)
            return
        asked = (self.box_a.value, self.box_b.value, self.box_c.value, self.answer)
        if asked not in self.tries:
            self.tries.append(asked)
        marked = marked_html(*changed_words(self.box_c.value, self.answer))
        self.result.value = answer_html("is to D", marked)
        self.status.say(f"degree = {self.degree.value:.2f}: {self.answer}")

    def static(self):
        """Everything tried so far as a figure, for headless runs. -> Figure"""
        self.solve()  # a figure of nothing would hide the error
        return plot_analogy(self.tries)


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
        return f'<div style="font-size:13px;color:{style.HTML_INK}">{"&emsp;".join(dots)}</div>'

    def _neighbours(self):
        rows = "".join(f'<tr><td style="padding:1px 12px 1px 0;color:{style.BLUE};text-align:right">{weight:.0%}</td>'
                       f"<td>{html.escape(self.sentences[i])}</td></tr>"
                       for i, weight in zip(self.place.near, self.place.weights, strict=True))
        return (answer_html("here", html.escape(self.place.sentence)) +
                f'<div style="font-size:13px;color:{style.HTML_FAINT};padding-top:6px">mixed from the nearest sentences</div>'
                f'<table style="font-size:13px;line-height:1.5;color:{style.HTML_INK}">{rows}</table>')
