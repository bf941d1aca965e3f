"""Curves of a run that is still training, read from its folder: the training itself may be anywhere."""

import threading
import time

import ipywidgets as ipw

from dgmlab.viz.curves import PANELS, plot_training
from dgmlab.widgets.parts import StatusLine, title

SHARE = 15  # drawing may take a sixteenth of the time: the training may well be in this very process


class LiveCurves:
    """The training curves of a run, redrawn by a button or every few seconds while it runs.

    run       a Run: `name`, `column(key)` and `status` are used
    keys      metrics to draw, one panel each
    view      the widget; `refresh`, `start`, `stop` and `static` work without a browser
    """

    def __init__(self, run, keys=PANELS, smooth=0.8):
        self.run, self.keys, self.smooth = run, tuple(keys), smooth
        self.status = StatusLine("live")
        self.image = ipw.Image(format="png", layout=ipw.Layout(max_width="100%", width="980px"))
        self.button = ipw.Button(description="Refresh", icon="refresh")
        self.button.on_click(lambda _: self.refresh())
        self.auto = ipw.ToggleButton(value=False, description="Follow", icon="play", tooltip="redraw every few seconds")
        self.auto.observe(lambda change: self.start() if change["new"] else self.stop(), names="value")
        controls = ipw.HBox([self.button, self.auto])
        self.view = ipw.VBox([title(f"Training: {run.name}"), controls, self.image, self.status.view])
        self.view.add_class("dgmlab-live")
        self._halt, self._thread = threading.Event(), None
        self.refresh()

    def refresh(self):
        """Read metrics.jsonl and status.json again and redraw; an error becomes a line in the widget."""
        try:
            self.image.value = self.static().png()
            status = self.run.status
        except Exception as error:  # a file half written, a folder gone: the next refresh may work
            self.status.fail(error)
            return
        steps = f", step {status['step']} of {status['n_steps']}" if "step" in status and "n_steps" in status else ""
        self.status.say(f"{status.get('state', 'not started')}{steps}  {status.get('line', '')}".rstrip())

    def start(self, seconds=3.0):
        """Redraw every few seconds (more rarely where drawing is slow) in the background, until the run or `stop` ends it."""
        self.stop()
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(self._halt, seconds), daemon=True)
        self._thread.start()

    def stop(self):
        """End the background redrawing."""
        self._halt.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)
        self._thread = None

    @property
    def following(self):
        return self._thread is not None and self._thread.is_alive()

    def static(self):
        """The curves as they are now. -> Figure"""
        return plot_training(self.run, self.keys, self.smooth)

    def _follow(self, halt, seconds):
        while not halt.is_set():
            running = self.run.status.get("state") == "running"  # asked first, so that the last values are still drawn
            began = time.monotonic()
            self.refresh()
            if not running:
                return
            halt.wait(max(seconds, SHARE * (time.monotonic() - began)))
