"""Widgets: they take callables and arrays, never a model, so that a lambda can stand in for one.

Each is a class whose `view` is the widget and whose methods work without a browser; each has a static twin, `static()`, for
headless runs. A callback runs when a control is released, says in a line of text what it shows, and shows errors as one line.

    latent      Interpolator, Analogy, LatentMap
    chat        Chat
    gallery     Gallery, Translator
    frames      Frames
    few_labels  FewLabels
    replay      EpisodeReplay
    walk        WalkByHand
    transfer    StyleTransfer
    live        LiveCurves
    parts       the pieces they share: the status line, one-line errors
"""
from dgmlab.widgets.chat import Chat
from dgmlab.widgets.few_labels import FewLabels
from dgmlab.widgets.frames import Frames
from dgmlab.widgets.gallery import Gallery, Translator
from dgmlab.widgets.latent import Analogy, Interpolator, LatentMap
from dgmlab.widgets.live import LiveCurves
from dgmlab.widgets.replay import EpisodeReplay
from dgmlab.widgets.transfer import StyleTransfer
from dgmlab.widgets.walk import WalkByHand

__all__ = ["Analogy", "Chat", "EpisodeReplay", "FewLabels", "Frames", "Gallery", "Interpolator", "LatentMap", "LiveCurves",
           "StyleTransfer", "Translator", "WalkByHand"]
