"""Widgets: they take callables and arrays, never a model, so that a lambda can stand in for one.

Each is a class whose `view` is the widget and whose methods work without a browser; each has a static twin, `static()`, for
headless runs. A callback runs when a control is released, says what it shows in a line of text, and shows an error as one line.

    latent      Interpolator, Analogy
    map         LatentMap
    live        LiveCurves
    parts       the pieces they share: the status line, one-line errors
"""

from dgmlab.widgets.latent import Analogy, Interpolator
from dgmlab.widgets.live import LiveCurves
from dgmlab.widgets.map import LatentMap

__all__ = ["Analogy", "Interpolator", "LatentMap", "LiveCurves"]
