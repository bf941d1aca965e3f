"""Walks in a latent space: interpolation between two typed sentences, and sentence arithmetic."""

import ipywidgets as ipw
import numpy as np

from dgmlab.viz import style
from dgmlab.viz.latent import collect_path, plot_analogy, plot_path
from dgmlab.viz.words import changed_words, marked_html
from dgmlab.widgets.parts import METHODS, Codec, StatusLine, method_choice, sentence_box, title


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
        look = f"border-collapse:collapse;font-size:14px;line-height:1.5;color:{style.INK}"
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
        look = f"font-size:15px;padding:6px 10px;color:{style.INK};background:{style.TINT};border-left:3px solid {style.BLUE}"
        self.result.value = (f'<div style="{look}"><span style="color:{style.FAINT}">is to D&nbsp;</span> '
                             f'<span class="dgmlab-answer">{marked}</span></div>')
        self.status.say(f"degree = {self.degree.value:.2f}: {self.answer}")

    def static(self):
        """Everything tried so far as a figure, for headless runs. -> Figure"""
        self.solve()  # a figure of nothing would hide the error
        return plot_analogy(self.tries)
