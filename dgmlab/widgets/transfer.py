"""A sentence, another label, and a slider between: rewriting by a conditional model, word by word marked."""

import ipywidgets as ipw
import numpy as np

from dgmlab.viz.transfer import plot_rewritings
from dgmlab.viz.words import changed_words, marked_html
from dgmlab.widgets.parts import METHODS, StatusLine, answer_html, method_choice, sentence_box, title


class StyleTransfer:
    """Type a sentence, choose the label it should have, slide how far to go.

    rewrite   (sentence, own label, wanted label, degree, method) -> sentence; labels are numbers
    classify  sentence -> probability of each label, (L,): guesses the own label and judges the output
    labels    names of the L labels
    view      the widget; `answer`, `tries` and `show(...)` work without a browser

    degree 0 decodes with the own label, 1 with the wanted one, more goes beyond.
    """

    def __init__(self, rewrite, classify, labels, sentence, wanted=None, methods=METHODS):
        if len(labels) < 2:
            raise ValueError(f"a transfer needs two labels or more, found {list(labels)}.")
        self.rewrite, self.classify, self.labels = rewrite, classify, tuple(labels)
        self.answer, self.tries, self._known = "", [], {}
        self.status = StatusLine("transfer")
        self.box = sentence_box("sentence", sentence)
        self.wanted = ipw.ToggleButtons(options=[(name, i) for i, name in enumerate(self.labels)], description="wanted",
                                        value=len(labels) - 1 if wanted is None else self.labels.index(wanted))
        self.degree = ipw.FloatSlider(value=1, min=0, max=2, step=0.25, description="degree", readout_format=".2f",
                                      continuous_update=False, layout=ipw.Layout(width="420px"))
        self.method = method_choice(methods)
        self.result = ipw.HTML()
        self.view = ipw.VBox([title("Rewrite a sentence with another label"), self.box, self.wanted,
                              ipw.HBox([self.degree, self.method], layout=ipw.Layout(flex_flow="row wrap")),
                              self.result, self.status.view], layout=ipw.Layout(max_width="960px"))
        self.view.add_class("dgmlab-transfer")
        for control in (self.box, self.wanted, self.degree, self.method):
            control.observe(lambda change: self.refresh(), names="value")
        self.refresh()

    def solve(self):
        """(output, own label, probabilities of the output (L,)) for what the controls say; raises what the callables raise."""
        sentence = self.box.value.strip()
        if not sentence:
            raise ValueError("a sentence was expected, the box is empty. Type one and press Enter.")
        asked = (sentence, self.wanted.value, self.degree.value, self.method.value)
        if asked not in self._known:
            own = int(np.argmax(self.classify(sentence)))
            output = self.rewrite(sentence, own, *asked[1:])
            self._known[asked] = (output, own, np.asarray(self.classify(output), dtype=float))
        return self._known[asked]

    def show(self, sentence=None, wanted=None, degree=None, method=None):
        """Set controls from code, the label by name; -> the rewritten sentence."""
        number = None if wanted is None else self.labels.index(wanted)
        for control, value in ((self.box, sentence), (self.wanted, number), (self.degree, degree), (self.method, method)):
            if value is not None:
                control.value = value
        return self.answer

    def refresh(self):
        """Redraw from the controls; an error becomes a line in the widget and the answer stays as it was."""
        try:
            output, own, chances = self.solve()
        except Exception as error:  # whatever the model raises must end up in the widget, not in a lost log of the kernel
            self.status.fail(error)
            return
        self.answer, wanted = output, self.wanted.value
        row = (self.box.value.strip(), output, self.labels[wanted], bool(chances.argmax() == wanted))
        if row not in self.tries:
            self.tries.append(row)
        self.result.value = answer_html(self.labels[wanted], marked_html(*changed_words(row[0], output)))
        self.status.say(f"read as {self.labels[own]}; degree {self.degree.value:.2f}; the judge finds {self.labels[wanted]} "
                        f"in the output with {chances[wanted]:.0%}")

    def static(self):
        """Everything tried so far as a figure, for headless runs. -> Figure"""
        self.solve()  # a figure of nothing would hide the error
        return plot_rewritings(*zip(*self.tries, strict=True), title="rewritten")
