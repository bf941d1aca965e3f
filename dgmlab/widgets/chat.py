"""A talk with a latent space: type a turn, walk around the region of its responses, choose one, go on.

The region is a plane through the context's latent: its middle is the plain response, the ring at 1 lies a radius away. Each
cell of the board is one decoded place; equal responses have one colour and number.
"""

import html

import ipywidgets as ipw
import numpy as np

from dgmlab.viz import style
from dgmlab.viz.dialog import collect_region, plot_region
from dgmlab.widgets.parts import Codec, StatusLine, answer_html, sentence_box, title

CELL = 38  # pixels


class Chat:
    """Responses around a context, and a slider to a style.

    encode    list of N contexts, each a tuple of turns -> (N, Z) array
    decode    (z (N, Z), method) -> list of N sentences
    radius    length of the way from the middle to the ring, in the latent space
    opening   what is said first
    axes      (K, Z) orthonormal directions, the most telling first: each view takes two; None: directions at random
    restyle   (z (N, Z), tau in [0, 1]) -> (N, Z), from plain to styled; None: no slider
    n         cells on a side of the board, odd, so that one is the middle; reach: radii from the middle to the edge
    view      the widget; `ask`, `choose`, `reply`, `turn`, `static` work without a browser
    """

    def __init__(self, encode, decode, radius, opening, axes=None, restyle=None, n=7, reach=1.5, seed=0):
        if n < 3 or n % 2 == 0:
            raise ValueError(f"a board has an odd number of cells on a side, 3 or more, found n={n}. Use n=7.")
        self.codec, self.radius, self.axes, self.restyle, self.n = Codec(encode, decode), float(radius), axes, restyle, n
        self.turns, self.responses, self.place, self.info = [], [], n * n // 2, None
        steps = np.linspace(-reach, reach, n)
        self.xy = np.array([(x, y) for y in steps[::-1] for x in steps])  # (n n, 2), row by row from the top
        self.seed = seed
        self.status = StatusLine("chat")
        self.box = sentence_box("you", opening)
        self.box.observe(lambda change: self.ask(), names="value")
        self.slider = ipw.FloatSlider(value=0, min=0, max=1, step=0.1, description="style", continuous_update=False,
                                      readout_format=".1f", layout=ipw.Layout(width="380px"))
        self.slider.observe(lambda change: self.ask(), names="value")
        turn, reply, again = (ipw.Button(description=text, layout=ipw.Layout(width="150px"))
                              for text in ("other directions", "say this", "start again"))
        turn.on_click(lambda _: self.turn())
        reply.on_click(lambda _: self.reply())
        again.on_click(lambda _: self.restart())
        self.talk, self.answer, self.listing = ipw.HTML(), ipw.HTML(), ipw.HTML()
        self.cells = [self._cell(i) for i in range(n * n)]
        board = ipw.GridBox(self.cells, layout=ipw.Layout(grid_template_columns=f"repeat({n}, {CELL}px)", grid_gap="3px"))
        controls = [turn, reply, again] + ([self.slider] if restyle is not None else [])
        self.view = ipw.VBox([title("A talk: type a turn, then click around its region"), self.talk, self.box,
                              ipw.HBox([board, self.listing], layout=ipw.Layout(flex_flow="row wrap")), self.answer,
                              ipw.HBox(controls, layout=ipw.Layout(flex_flow="row wrap")), self.status.view],
                             layout=ipw.Layout(max_width="960px"))
        self.view.add_class("dgmlab-chat")
        self.ask()

    # places and what is said there

    @property
    def context(self):
        """The turns so far and what is in the box, as a tuple."""
        return (*self.turns, self.box.value.strip())

    @property
    def current(self):
        """The response at the chosen place."""
        return self.responses[self.place]

    def plane(self, size):
        """Two orthonormal directions of this view -> (2, Z); in one dimension both lie on it."""
        if self.axes is not None:
            pair = 2 * (self.seed % (len(self.axes) // 2))
            return np.asarray(self.axes[pair:pair + 2])
        directions = np.random.default_rng(self.seed).standard_normal((2, size))
        return np.linalg.qr(directions.T)[0].T if size > 1 else np.sign(directions)

    def latents(self):
        """z of every cell -> (n n, Z); raises what encode raises."""
        if not self.context[-1]:
            raise ValueError("the context is empty: expected a turn. Type something and press Enter.")
        z = self.codec.encode([self.context])
        z = z + self.radius * self.xy @ self.plane(z.shape[1])
        return np.asarray(self.restyle(z, self.slider.value)) if self.restyle is not None else z

    # events

    def ask(self, text=None, tau=None):
        """Show the region of what is in the box (or of `text`); -> the chosen response. An error becomes a line."""
        for control, value in ((self.slider, tau), (self.box, text)):
            if value is not None and control.value != value:
                control.value = value
        try:
            responses = self.codec.decode(self.latents(), "greedy")
        except Exception as error:  # whatever the model raises must end up in the widget, not in a lost log of the kernel
            self.status.fail(error)
            return None
        self.responses = responses
        self._draw()
        return self.current

    def choose(self, row, column):
        """What a click on a cell does; row 0 is at the top. -> the response there"""
        self.place = row * self.n + column
        self._draw()
        return self.current

    def turn(self):
        """Look at another plane through the same middle; -> the chosen response."""
        self.seed += 1
        return self.ask()

    def reply(self):
        """Say the chosen response: it and what was typed become part of the talk, and the box waits for the next turn."""
        if not self.responses or self.status.failed:
            return self.turns
        self.turns += [self.box.value.strip(), self.current]
        self.place = self.n * self.n // 2
        with self.box.hold_trait_notifications():
            self.box.unobserve_all("value")
            self.box.value = ""
            self.box.observe(lambda change: self.ask(), names="value")
        self._say_turns()
        self.status.say("your turn: type and press Enter")
        return self.turns

    def restart(self):
        """Forget the talk; -> the chosen response to what is in the box."""
        self.turns = []
        self._say_turns()
        return self.ask()

    def static(self):
        """The region as a figure, for headless runs. -> Figure"""
        if self.status.failed:
            self.latents()  # a figure of something else would hide the error
        return plot_region(self.context, self.xy, self.responses, self.place)

    # drawing

    def _cell(self, i):
        button = ipw.Button(layout=ipw.Layout(width=f"{CELL}px", height=f"{CELL}px", padding="0"))
        button.on_click(lambda _: self.choose(*divmod(i, self.n)))
        return button

    def _draw(self):
        self.info = collect_region(self.context, self.xy, self.responses)
        for i, (button, number) in enumerate(zip(self.cells, self.info.kind, strict=True)):
            button.description, button.tooltip = str(number + 1), self.responses[i]
            button.style.button_color = style.colour(number)
            button.style.text_color = "white"
            button.layout.border = f"3px solid {style.INK}" if i == self.place else "3px solid transparent"
        chosen = self.info.kind[self.place]
        rows = "".join(f'<tr><td style="color:{style.colour(i)};font-weight:600;padding:1px 8px">{i + 1}</td>'
                       f'<td style="{"font-weight:600" if i == chosen else ""}">{html.escape(text)}</td></tr>'
                       for i, text in enumerate(self.info.responses[:14]))
        self.listing.value = f'<table style="font-size:13px;line-height:1.4;color:{style.HTML_INK}">{rows}</table>'
        self.answer.value = answer_html("response", html.escape(self.current))
        x, y = self.xy[self.place]
        self.status.say(f"{len(self.info.responses)} responses; at x = {x:.2f}, y = {y:.2f}: {self.current}")

    def _say_turns(self):
        lines = [f'<div style="color:{style.HTML_FAINT if i % 2 else style.HTML_INK}">{html.escape(turn)}</div>'
                 for i, turn in enumerate(self.turns)]
        self.talk.value = f'<div style="font-size:13px;line-height:1.6">{"".join(lines)}</div>'
