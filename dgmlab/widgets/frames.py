"""A slider over pictures of one thing at several moments, with a button that plays them."""

import ipywidgets as ipw

from dgmlab.widgets.parts import StatusLine


class Frames:
    """Pictures drawn when they are first looked at, and kept.

    draw      callable: moment -> Picture (its `png()` is shown)
    moments   the moments, in their order
    name      what a moment is called: "update", "step"
    view      the widget; `show` and `static` work without a browser
    """

    def __init__(self, draw, moments, name="step"):
        self.draw, self.moments, self.name = draw, list(moments), name
        if not self.moments:
            raise ValueError("Frames needs at least one moment to draw, found none.")
        self._pngs = {}
        self.status = StatusLine("frames")
        self.image = ipw.Image(format="png", layout=ipw.Layout(max_width="100%", width="420px"))
        last = len(self.moments) - 1
        self.slider = ipw.IntSlider(value=0, min=0, max=last, description="frame", layout=ipw.Layout(width="360px"))
        self.play = ipw.Play(value=0, min=0, max=last, interval=400)
        ipw.jslink((self.play, "value"), (self.slider, "value"))
        self.slider.observe(lambda change: self.show(change["new"]), names="value")
        self.view = ipw.VBox([ipw.HBox([self.play, self.slider]), self.image, self.status.view])
        self.view.add_class("dgmlab-frames")
        self.show(0)

    def show(self, index):
        """Show the frame with this number, 0 for the first; an error becomes a line in the widget."""
        try:
            if index not in self._pngs:
                self._pngs[index] = self.static(index).png()
        except Exception as error:  # one bad frame must not stop the others
            self.status.fail(error)
            return
        self.image.value = self._pngs[index]
        self.status.say(f"{self.name} {self.moments[index]}")

    def static(self, index=-1):
        """The picture of one frame, by default the last -> Figure"""
        return self.draw(self.moments[index])
