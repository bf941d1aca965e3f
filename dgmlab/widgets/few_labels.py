"""What a handful of labels gets wrong: choose the features, the labels a class and the draw, and read the mistakes."""

import html

import ipywidgets as ipw
import numpy as np

from dgmlab.viz import style
from dgmlab.viz.few_labels import collect_errors, plot_errors
from dgmlab.widgets.parts import StatusLine, title

SHOWN = 8  # sentences of a class, and mistakes


class FewLabels:
    """The labelled sentences of one draw, and the surest mistakes of the probe that knows no others.

    predict      (features, n, draw) -> (rows (n K,) of `known`, probabilities (M, K) of `unseen`)
    features     names to choose from; n_labels: numbers to choose from; n_draws
    known        sentences that labels are drawn from, known_labels (N,) ints
    unseen       M sentences, labels (M,) ints, names of the classes
    maps         {features: xy (M, 2)} for `static`
    view         the widget; `show(...)`, `errors` and `drawn` work without a browser
    """

    def __init__(self, predict, n_labels, n_draws, known, known_labels, unseen, labels, names, maps):
        self._predict, self._seen, self.maps = predict, {}, maps
        self.known, self.known_labels = list(known), np.asarray(known_labels)
        self.unseen, self.labels, self.names = list(unseen), np.asarray(labels), tuple(names)
        if len(self.unseen) != len(self.labels) or len(self.known) != len(self.known_labels):
            raise ValueError(f"one label a sentence was expected, found {len(self.known)} and {len(self.unseen)} sentences "
                             f"with {len(self.known_labels)} and {len(self.labels)} labels. Make them agree.")
        self.errors, self.drawn = None, None
        self.status = StatusLine("few-labels")
        self.features = ipw.Dropdown(options=list(maps), description="features", layout=ipw.Layout(width="280px"))
        self.n = ipw.SelectionSlider(options=list(n_labels), description="labels a class", continuous_update=False,
                                     style={"description_width": "initial"}, layout=ipw.Layout(width="320px"))
        self.draw = ipw.IntSlider(0, 0, n_draws - 1, description="draw", continuous_update=False)
        self.table = ipw.HTML()
        self.view = ipw.VBox([title("What a few labels get wrong"),
                              ipw.HBox([self.features, self.n, self.draw], layout=ipw.Layout(flex_flow="row wrap")),
                              self.status.view, self.table], layout=ipw.Layout(max_width="960px"))
        self.view.add_class("dgmlab-few-labels")
        for control in (self.features, self.n, self.draw):
            control.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    def predict(self):
        """(rows, probabilities) for what the controls say now, remembered; raises what the callable raises."""
        key = self.features.value, self.n.value, self.draw.value
        if key not in self._seen:
            self._seen[key] = self._predict(*key)
        return self._seen[key]

    def show(self, features=None, n=None, draw=None):
        """Set controls from code; -> the accuracy."""
        for control, value in ((self.features, features), (self.n, n), (self.draw, draw)):
            if value is not None:
                control.value = value
        return self.errors.accuracy

    def refresh(self):
        """Redraw from the controls; an error becomes a line in the widget and the table stays as it was."""
        try:
            rows, probabilities = self.predict()
            self.errors, self.drawn = collect_errors(probabilities, self.labels), np.asarray(rows)
        except Exception as error:  # whatever the callable raises must end up in the widget, not in a lost log of the kernel
            self.status.fail(error)
            return
        self.table.value = self._columns()
        self.status.say(f"{self.features.value}, {self.n.value} labels a class: accuracy {self.errors.accuracy:.1%}, "
                        f"{len(self.errors.rows)} of {len(self.unseen)} wrong")

    def static(self):
        """The mistakes on the map of these features, as a figure for headless runs. -> Figure"""
        _, probabilities = self.predict()
        return plot_errors(self.maps[self.features.value], self.labels, self.names, probabilities,
                           f"{self.features.value}, {self.n.value} labels a class, draw {self.draw.value}")

    def _columns(self):
        """HTML: the drawn sentences by class on the left, the surest mistakes on the right."""
        left = []
        for label, name in enumerate(self.names):
            mine = self.drawn[self.known_labels[self.drawn] == label]
            more = f" and {len(mine) - SHOWN} more" if len(mine) > SHOWN else ""
            left.append(self._list(f"{name}{more}", style.colour(label), [self.known[i] for i in mine[:SHOWN]]))
        surest = list(zip(self.errors.rows, self.errors.said, self.errors.sure, strict=True))[:SHOWN]
        wrong = [f"{self.unseen[i]}  [{self.names[self.labels[i]]}, said {self.names[said]}, {sure:.0%} sure]"
                 for i, said, sure in surest]
        right = self._list("surest mistakes", style.MARK, wrong or ["none"])
        cell = f'style="vertical-align:top;padding:0 18px 0 0;max-width:30em;color:{style.HTML_INK}"'
        return f"<table><tr><td {cell}>{''.join(left)}</td><td {cell}>{right}</td></tr></table>"

    def _list(self, heading, tint, sentences):
        items = "".join(f"<li>{html.escape(text)}</li>" for text in sentences)
        return (f'<div style="font-weight:600;border-left:3px solid {tint};padding-left:8px">{html.escape(heading)}</div>'
                f'<ul style="margin:2px 0 10px;font-size:13px;line-height:1.5">{items}</ul>')
