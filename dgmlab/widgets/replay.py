"""An episode of navigation played back step by step: instruction, map, scores and panorama of each."""

import ipywidgets as ipw

from dgmlab.viz.film import render, save_gif, save_page
from dgmlab.viz.navigation import collect_moment, n_moments, option_name, outcome, plot_episode, verdict
from dgmlab.widgets.parts import StatusLine, title

MILLISECONDS = 1400  # that a step is shown while it plays


class EpisodeReplay:
    """Play, pause and step through what an agent did; a step is drawn when it is first looked at, and kept.

    trajectory  path, views, actions, scores, candidates, words and attention of an episode; see `dgmlab.viz.navigation`
    house       the house it happened in
    episode     with path, goals and instruction; without, there is no reference and no goal
    view        the widget; `show`, `advance`, `moment`, `static`, `save_gif` and `save_page` work without a browser
    """

    def __init__(self, trajectory, house, episode=None):
        self.trajectory, self.house, self.episode = trajectory, house, episode
        self.n_steps = n_moments(trajectory)
        self._pngs, self._images = {}, []
        self.status = StatusLine("replay")
        last, small = self.n_steps - 1, ipw.Layout(width="42px")
        self.play = ipw.Play(value=0, min=0, max=last, interval=MILLISECONDS)
        self.slider = ipw.IntSlider(value=0, min=0, max=last, description="step", readout=False,
                                    layout=ipw.Layout(width="420px"))
        self.back = ipw.Button(icon="step-backward", tooltip="one step back", layout=small)
        self.next = ipw.Button(icon="step-forward", tooltip="one step on", layout=small)
        self.image = ipw.Image(format="png", layout=ipw.Layout(max_width="100%", min_width="0", height="auto",
                                                               align_self="flex-start"))
        ipw.jslink((self.play, "value"), (self.slider, "value"))
        self.slider.observe(lambda change: self.show(change["new"]), names="value")
        self.back.on_click(lambda _: self.advance(-1))
        self.next.on_click(lambda _: self.advance(1))
        controls = ipw.HBox([self.play, self.back, self.next, self.slider], layout=ipw.Layout(align_items="center"))
        self.view = ipw.VBox([title("Replay of an episode"), controls, self.image, self.status.view])
        self.view.add_class("dgmlab-replay")
        self.show(0)

    def moment(self, step):
        """What is known of a step, 0 the first -> Moment"""
        return collect_moment(self.trajectory, self.house, step, self.episode)

    def show(self, step):
        """Show a step, 0 the first; an error becomes a line in the widget, and the picture stays."""
        try:
            moment = self.moment(step)
            if moment.step not in self._pngs:
                self._pngs[moment.step] = self.static(moment.step).png(tight=False)
        except Exception as error:  # one bad step must not stop the others
            self.status.fail(error)
            return
        self.image.value = self._pngs[moment.step]
        self.slider.value = moment.step
        self.status.say(self._line(moment))

    def advance(self, by):
        """Go some steps on, or back; stays within the episode."""
        self.slider.value = min(max(self.slider.value + by, 0), self.n_steps - 1)

    def static(self, step=-1):
        """One step as a figure, by default the last, for headless runs. -> Figure"""
        return plot_episode(self.trajectory, self.house, self.episode, step)

    def save_gif(self, path):
        """The whole episode as a GIF -> Path"""
        return save_gif(self._film(), path)

    def save_page(self, path):
        """The whole episode as an HTML file that plays by itself -> Path"""
        name = self.trajectory.instr_id + (f": {self.episode.instruction}" if self.episode is not None else "")
        return save_page(self._film(), path, name)

    def _film(self):
        """All steps as images, drawn once."""
        if not self._images:
            self._images = render(self.static(step) for step in range(self.n_steps))
        return self._images

    def _line(self, moment):
        """A step in a line of text."""
        parts = [f"step {moment.step + 1} of {self.n_steps}"]
        if moment.chosen is None:
            parts.append("out of steps")
        else:
            option = moment.options[moment.chosen]
            score = "" if option.score is None else f" ({option.score:.0%})"
            parts.append(("stops" if option.number == 0 else f"goes to {option_name(option, moment.heading)}") + score)
        if moment.to_goal is not None:
            parts.append(f"{moment.to_goal:.1f} m to the goal")
        if not moment.chosen and moment.step == self.n_steps - 1:
            parts.append(verdict(outcome(self.trajectory, self.house, self.episode))[0])
        return "; ".join(part for part in parts if part)
