"""A navigation episode by hand: read the instruction, look around, click where to go, stop, and see how it went.

The numbers in the picture are buttons: transparent ones lie on the map and above the panorama, so that a click is an ordinary
widget event and no extra front-end package is needed.
"""

import uuid
from typing import NamedTuple

import ipywidgets as ipw

from dgmlab.viz import style
from dgmlab.viz.navigation import WIDTH, collect_moment, heading_at, option_name, outcome, plot_episode
from dgmlab.widgets.parts import StatusLine, title

AROUND = 7.0  # metres around the walk that the map shows
SPOT = 30  # pixels that a clickable spot is wide
SPOTS_EACH = 2  # of a candidate: on the map and above the panorama


class Trail(NamedTuple):
    """What was done by hand, with the fields of an agent's trajectory, so that it can be replayed and evaluated like one."""

    instr_id: str
    scan: str
    path: list
    views: list
    actions: list
    scores: list
    candidates: list
    words: list
    word_attention: list
    view_attention: list


class WalkByHand:
    """Walk through a house by clicking on candidates.

    house      the house; its `candidates` number the actions
    begin      callable without arguments -> a walker at the start: .row (1,), .view (1,) 0..35, .ended (1,), .move([number])
               where 0 stops and i goes to the i-th candidate
    episode    with path, goals and instruction; without, there is nothing to reach and no score
    first_row  what to take off the walker's row to get the index in the house
    reveal     whether goal, reference and the distance are shown from the beginning; they always are after the stop
    view       the widget; `move`, `follow`, `restart`, `trail`, `score` and `static` work without a browser
    """

    def __init__(self, house, begin, episode=None, first_row=0, reveal=False):
        self.house, self.episode, self._begin, self._first = house, episode, begin, first_row
        self.score = None
        self.status = StatusLine("walk")
        n_most = max(1, int((house.candidates.index >= 0).sum(axis=1).max()))
        self.image = ipw.Image(format="png", layout=ipw.Layout(width="100%", height="auto"))
        self._places = ipw.HTML()  # the style sheet that puts the spots where the numbers are
        self._name = f"dgmlab-hand-{uuid.uuid4().hex[:8]}"  # which must not move the spots of another widget of the page
        self._spots = [self._button(1 + i // SPOTS_EACH, f"spot-{i}") for i in range(n_most * SPOTS_EACH)]
        wide = ipw.Layout(width="100%", max_width=f"{round(WIDTH / 0.6)}px", overflow="hidden")  # the picture's own size
        self.board = ipw.Box([self.image, *self._spots], layout=wide)
        self.board.add_class(self._name)
        self.choices = [self._button(number) for number in range(n_most + 1)]
        self.choices[0].button_style = "warning"
        self.reveal = ipw.Checkbox(value=reveal, description="show goal and reference", indent=False,
                                   layout=ipw.Layout(width="200px"))
        self.again = ipw.Button(description="Start again", icon="undo", layout=ipw.Layout(width="120px"))
        self.again.on_click(lambda _: self.restart())
        self.reveal.observe(lambda change: self.refresh(), names="value")
        row = ipw.Layout(flex_flow="row wrap", align_items="center")
        rows = [ipw.HBox(self.choices, layout=row), ipw.HBox([self.again, self.reveal], layout=row)]
        self.view = ipw.VBox([title("Walk by hand: click on a number to go there"), self._places, self.board, *rows,
                              self.status.view])
        self.view.add_class("dgmlab-walk")
        self.restart()

    def _button(self, number, place=None):
        """A button of an action; with a place, a transparent one on the picture."""
        layout = ipw.Layout(width="auto") if place is None else ipw.Layout()
        button = ipw.Button(layout=layout)
        if place is not None:
            button.add_class(place)
        button.on_click(lambda _: self.move(number))
        return button

    # the walk

    @property
    def trail(self):
        """What was done so far -> Trail"""
        words = self.episode.instruction.split() if self.episode is not None else []
        name = self.episode.instr_id if self.episode is not None else "by hand"
        return Trail(name, self.house.scan, list(self._path), list(self._views), list(self._actions), [], [], words, [], [])

    @property
    def ended(self):
        return bool(self._walk.ended[0])

    def restart(self):
        """Back to the start."""
        self._walk = self._begin()
        self._path, self._views, self._actions, self.score = [self._here()], [int(self._walk.view[0])], [], None
        self.refresh()

    def move(self, number):
        """Go to a candidate, or stop (0) -> viewpoint where one now is, or None when it failed (the widget says why)."""
        try:
            self._act(number)
        except Exception as error:  # whatever the walk raises must end up in the widget, not in a lost log of the kernel
            self.status.fail(error)
            return None
        self.refresh()
        return self._path[-1]

    def follow(self, path):
        """Go along viewpoints that begin where one is; ValueError where there is no such way."""
        for here, there in zip(path, path[1:], strict=False):
            ways = self.house.candidates.index[self.house.index(here)].tolist()
            if here != self._path[-1] or self.house.index(there) not in ways:
                raise ValueError(f"a way from '{self._path[-1]}' was expected, found a step from '{here}' to '{there}'. "
                                 "Give a path of the house that begins where the walker is.")
            self._act(ways.index(self.house.index(there)) + 1)
        self.refresh()

    def _act(self, number):
        """One action of the walker, noted but not drawn; raises what the walker raises."""
        if self.ended:
            raise ValueError("the episode is over. Start again, or replay the trail.")
        self._walk.move([number])
        self._actions.append(int(number))
        if number:
            self._path.append(self._here())
            self._views.append(int(self._walk.view[0]))
        else:
            self.score = outcome(self.trail, self.house, self.episode)

    def refresh(self):
        """Draw where one is; an error becomes a line in the widget, and the picture stays."""
        try:
            figure = self.static()
            self.image.value = figure.png(tight=False)
        except Exception as error:  # as in move
            self.status.fail(error)
            return
        self._lay(collect_moment(self.trail, self.house, -1).options, figure.numbers["spots"])
        self.status.say(self._line(figure.numbers["moment"]))

    def static(self):
        """Where one is now as a figure, for headless runs. -> Figure"""
        return plot_episode(self.trail, self.house, self.episode, -1, reveal=self.reveal.value or self.ended,
                            around=AROUND, running=not self.ended)

    def _here(self):
        return self.house.viewpoints[int(self._walk.row[0]) - self._first]

    # looks

    def _lay(self, options, spots):
        """Name the buttons after what they do, and put the transparent ones on the numbers of the picture."""
        heading = heading_at(self.trail, -1)
        for number, button in enumerate(self.choices):
            there = number < len(options) and not self.ended
            button.layout.display = None if there else "none"
            if there:
                button.description = option_name(options[number], heading) if number else "STOP"
        rules = [self._sheet()]
        for i, button in enumerate(self._spots):
            number, which = i // SPOTS_EACH + 1, i % SPOTS_EACH
            places = spots.get(str(number), []) if not self.ended else []
            button.layout.display = None if which < len(places) else "none"
            if which < len(places):
                x, y = places[which]
                button.tooltip = option_name(options[number])
                rules.append(f".{self._name} .spot-{i} {{left:{x:.2%};top:{y:.2%}}}")
        self._places.value = f"<style>{''.join(rules)}</style>"

    def _sheet(self):
        return (f".{self._name} {{position:relative}}"
                f".{self._name} button {{position:absolute;width:{SPOT}px;height:{SPOT}px;margin:-{SPOT // 2}px;padding:0;"
                "min-width:0;border-radius:50%;background:transparent;box-shadow:none;cursor:pointer}"
                f".{self._name} button:hover {{background:{style.SKY}66 !important;box-shadow:none}}")

    def _line(self, moment):
        """What is shown, in a line of text."""
        moves = sum(action > 0 for action in self._actions)
        line = [f"{moves} moves" if moves != 1 else "1 move"]
        if moment["to_goal"] is not None:
            line.append(f"{moment['to_goal']:.1f} m to the goal")
        if self.score is not None:
            word = "success" if self.score.success_rate else "failure"
            line = [f"{word}: stopped {self.score.nav_error:.1f} m from the goal after {line[0]}, "
                    f"{self.score.trajectory_length:.1f} m", f"SPL {self.score.spl:.2f} against the shortest path",
                    f"{self.score.spl_reference:.2f} against the reference"]
        elif self.ended:
            line.append("stopped")
        return "; ".join(line)
