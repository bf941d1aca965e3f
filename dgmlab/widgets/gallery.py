"""Pictures on demand: samples of a generator by seed, class and truncation, and translations of chosen pictures.

Pictures are (N, 3, S, S) uint8, numpy or torch on the CPU.
"""

import ipywidgets as ipw
import numpy as np

from dgmlab.config import unknown_name
from dgmlab.viz.images import animation, as_pictures, plot_grid, plot_translation, plot_walk
from dgmlab.widgets.parts import StatusLine, title

ALL = -1  # in the list of classes
FILM, THUMB = 192, 64  # side of the moving picture of a walk, and of a source to choose, about, in pixels
CLOSE = {"description_width": "auto"}
ROW = ipw.Layout(flex_flow="row wrap", align_items="center")


class Gallery:
    """Samples of a generator: a seed, a class, how much to truncate; and walks from seed to seed.

    sample       (n, classes, truncation, seed) -> (n, 3, S, S) uint8; classes: None, all in turn, or a list of one number
    class_names  of an unconditional generator ()
    walk         (seeds, classes, truncation) -> (N, 3, S, S) uint8, pictures from the first seed to the second; or None
    view         the widget; `pictures`, `show(...)`, `step(...)` and `walk_on()` work without a browser
    """

    def __init__(self, sample, class_names=(), n=16, columns=8, walk=None, seed=0, truncation=1.0):
        self._sample, self._walk = sample, walk
        self.class_names, self.n, self.columns = tuple(class_names), n, columns
        self.pictures, self.frames = None, None
        self._known, self._held = {}, False
        self.status = StatusLine("gallery")
        self.seed = ipw.BoundedIntText(value=seed, min=0, max=2**31 - 1, description="seed", style=CLOSE,
                                       layout=ipw.Layout(width="130px"))
        self.back = ipw.Button(icon="arrow-left", tooltip="previous seed", layout=ipw.Layout(width="42px"))
        self.next = ipw.Button(icon="arrow-right", tooltip="next seed", layout=ipw.Layout(width="42px"))
        self.classes = ipw.Dropdown(options=[("all", ALL), *((name, i) for i, name in enumerate(self.class_names))], value=ALL,
                                    description="class", style=CLOSE, layout=ipw.Layout(width="190px"))
        self.truncation = ipw.FloatSlider(value=truncation, min=0.05, max=1, step=0.05, description="truncation",
                                          readout_format=".2f", continuous_update=False, style=CLOSE,
                                          layout=ipw.Layout(width="280px"))
        self.walker = ipw.Button(description="Walk to the next seed", icon="film", layout=ipw.Layout(width="190px"))
        self.grid, self.film, self.movie = _image(), _image(), _image()
        controls = [self.back, self.next, self.seed, *([self.classes] if self.class_names else []), self.truncation,
                    *([self.walker] if walk else [])]
        films = ipw.HBox([self.movie, self.film], layout=ipw.Layout(align_items="center"))
        self.view = ipw.VBox([title("Samples"), ipw.HBox(controls, layout=ROW), self.grid, films, self.status.view])
        self.view.add_class("dgmlab-gallery")
        self.back.on_click(lambda _: self.step(-1))
        self.next.on_click(lambda _: self.step(1))
        self.walker.on_click(lambda _: self.walk_on())
        for control in (self.seed, self.classes, self.truncation):
            control.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    @property
    def wanted(self):
        """What is sampled now, as `sample` is told: None for all classes, or [number]."""
        return None if self.classes.value == ALL else [self.classes.value]

    def draw(self):
        """The pictures for what the controls say now, computed once; raises what `sample` raises."""
        asked = (self.classes.value, self.truncation.value, self.seed.value)
        if asked not in self._known:
            found = self._sample(self.n, self.wanted, self.truncation.value, self.seed.value)
            if len(as_pictures(found)) != self.n:
                raise ValueError(f"sample must return {self.n} pictures, found {len(found)}. Check the callable.")
            self._known[asked] = found
        return self._known[asked]

    def show(self, seed=None, class_name=None, truncation=None):
        """Set controls from code, class_name 'all' or one of the names -> (n, 3, S, S) uint8."""
        if class_name is not None and class_name not in ("all", *self.class_names):
            raise KeyError(unknown_name(class_name, ("all", *self.class_names), "class"))
        wanted = {self.seed: seed, self.truncation: truncation, self.classes: class_name and (
            ALL if class_name == "all" else self.class_names.index(class_name))}
        self._held = True  # sample once, not once for each control
        try:
            for control, value in wanted.items():
                if value is not None:
                    control.value = value
        finally:
            self._held = False
        self.refresh()
        return self.pictures

    def step(self, by):
        """Go to the seed that is `by` further on."""
        self.seed.value = max(0, self.seed.value + by)

    def refresh(self):
        """Redraw from the controls; an error becomes a line in the widget and the pictures stay as they were."""
        if self._held:
            return
        try:
            pictures = self.draw()
            self.grid.value = self._figure(pictures).png()
        except Exception as error:  # whatever the model raises must end up in the widget, not in a lost log of the kernel
            self.status.fail(error)
            return
        self.pictures, self.frames = pictures, None
        _reveal(self.grid)
        _hide(self.film, self.movie)
        self.status.say(f"{self.n} samples, {self._what()}")

    def walk_on(self):
        """Walk from the first picture of this seed to that of the next, and go there -> the frames, None where it failed."""
        start = self.seed.value
        try:
            frames = self._frames(start)
        except Exception as error:  # as in refresh
            self.status.fail(error)
            return None
        self.seed.value = start + 1  # shows its samples
        self.frames = frames
        self.film.value = plot_walk(frames, len(frames) - 2).png()
        self.movie.value = animation(frames, max(1, FILM // np.shape(frames)[2]))
        _reveal(self.film, self.movie)
        if not self.status.failed:
            self.status.say(f"{len(frames)} pictures from seed {start} to {start + 1}, and {self.n} samples, {self._what()}")
        return frames

    def static(self):
        """The samples as a figure, for headless runs. -> Figure"""
        return self._figure(self.draw())

    def static_walk(self):
        """The walk from this seed to the next as a figure, for headless runs. -> Figure"""
        frames = self._frames(self.seed.value)
        return plot_walk(frames, len(frames) - 2, (self.seed.value, self.seed.value + 1))

    def _frames(self, seed):
        """A walk of the chosen class, of the first where all are shown: its first picture is the gallery's."""
        classes = (self.wanted or [0]) if self.class_names else None
        frames = self._walk((seed, seed + 1), classes, self.truncation.value)
        if len(as_pictures(frames)) < 2:
            raise ValueError(f"walk must return at least its 2 ends, found {len(frames)} pictures. Check the callable.")
        return frames

    def _figure(self, pictures):
        names = self.class_names if self.wanted is None else ()
        captions = [names[i % len(names)] for i in range(self.n)] if names else None
        return plot_grid(pictures, self.columns, captions, self._what())

    def _what(self):
        """The controls in words."""
        name = "all classes" if self.wanted is None else self.class_names[self.wanted[0]]
        words = [f"seed {self.seed.value}", *([name] if self.class_names else []), f"truncation {self.truncation.value:.2f}"]
        return ", ".join(words)


class Translator:
    """Before and after: choose a picture and a direction, see where the translator looks, what it makes, and the way back.

    translate  (pictures (1, 3, S, S) uint8, direction) -> (translated, heat_maps (1, h, w) in [0, 1] or None, back or None),
               pictures (1, 3, S, S) uint8
    pictures   {direction: its sources (N, 3, S, S) uint8}, e.g. {"cat to dog": cats, "dog to cat": dogs}
    view       the widget; `result` and `show(...)` work without a browser
    """

    def __init__(self, translate, pictures, columns=12):
        if not pictures:
            raise ValueError("pictures of at least one direction were expected, {direction: (N, 3, S, S) uint8}; found none.")
        for sources in pictures.values():
            as_pictures(sources)
        self._translate, self.sources, self.columns = translate, dict(pictures), columns
        self.result, self._known, self._held = None, {}, False
        self.status = StatusLine("translator")
        self.direction = ipw.Dropdown(options=list(self.sources), description="direction", style=CLOSE,
                                      layout=ipw.Layout(width="260px"))
        self.picture = ipw.IntSlider(value=0, min=0, max=self._last(), description="picture", continuous_update=False,
                                     style=CLOSE, layout=ipw.Layout(width="420px"))
        self.strip, self.board = _image(), _image()
        self.view = ipw.VBox([title("Translation"), ipw.HBox([self.direction, self.picture], layout=ROW), self.strip,
                              self.board, self.status.view])
        self.view.add_class("dgmlab-translator")
        self.direction.observe(lambda change: self._set(change["new"], 0), names="value")
        self.picture.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    def translated(self):
        """(source, translated, heat_maps, back) for what the controls say now, computed once; raises as `translate` does."""
        asked = (self.direction.value, self.picture.value)
        if asked not in self._known:
            source = self.sources[asked[0]][asked[1]:asked[1] + 1]
            found = tuple(self._translate(source, asked[0]))
            if len(found) != 3:
                raise ValueError(f"translate must return (translated, heat_maps, back), found {len(found)} things. "
                                 "Check the callable.")
            self._known[asked] = (source, *found)
        return self._known[asked]

    def show(self, direction=None, picture=None):
        """Set controls from code -> (source, translated, heat_maps, back)."""
        direction = self.direction.value if direction is None else direction
        if direction not in self.sources:
            raise KeyError(unknown_name(direction, self.sources, "direction"))
        last = len(self.sources[direction]) - 1
        if picture is not None and not 0 <= picture <= last:
            raise IndexError(f"'{direction}' has no picture {picture}; choose one from 0 to {last}.")
        self._set(direction, self.picture.value if picture is None and direction == self.direction.value else picture or 0)
        return self.result

    def refresh(self):
        """Redraw from the controls; an error becomes a line in the widget and the pictures stay as they were."""
        if self._held:
            return
        chosen = self.picture.value
        self.strip.value = plot_grid(self.sources[self.direction.value], self.columns, framed=(chosen,), cell=THUMB).png()
        _reveal(self.strip)
        try:
            self.result = self.translated()
            self.board.value = self.static().png()
        except Exception as error:  # as in Gallery.refresh
            self.status.fail(error)
            return
        _reveal(self.board)
        self.status.say(f"{self.direction.value}, picture {chosen} of 0 to {self._last()}")

    def static(self):
        """Source, heat map, translation and back again as a figure, for headless runs. -> Figure"""
        source, translated, heat_maps, back = self.translated()
        return plot_translation(source, translated, back, heat_maps, title=self.direction.value)

    def _last(self):
        return len(self.sources[self.direction.value]) - 1

    def _set(self, direction, picture):
        """Show this picture of this direction; drawn once, though more than one control moves."""
        if self._held:
            return
        self._held = True
        try:
            self.direction.value = direction
            self.picture.value = 0
            self.picture.max = self._last()
            self.picture.value = picture
        finally:
            self._held = False
        self.refresh()


def _image():
    """A place for a picture at its own size, smaller only where the page is narrow; not shown until there is one."""
    return ipw.Image(format="png", layout=ipw.Layout(max_width="100%", min_width="0", height="auto", align_self="flex-start",
                                                     display="none"))


def _reveal(*images):
    for image in images:
        image.layout.display = None


def _hide(*images):
    for image in images:
        image.layout.display = "none"
