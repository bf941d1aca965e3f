"""What the widgets share: a readable line of status, errors in one line, and memory for what was computed."""

import html

import ipywidgets as ipw
import numpy as np

from dgmlab.viz import style

METHODS = ("greedy", "beam", "top_k", "top_p")


class StatusLine:
    """One line under a widget: what it shows now, or the error that kept it from showing it.

    view    the HTML widget        text    the line without markup
    """

    def __init__(self, name):
        self.text = ""
        self.failed = False
        self.view = ipw.HTML()
        self.view.add_class(f"dgmlab-{name}-status")

    def say(self, text):
        """Show one line; an empty text clears it."""
        self._show(text, False, style.HTML_FAINT)

    def fail(self, error):
        """Type and first line of an exception; the widget keeps what it showed before."""
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        self._show(f"{type(error).__name__}: {message.strip().splitlines()[0] if message.strip() else ''}", True, style.MARK)

    def _show(self, text, failed, tint):
        self.text, self.failed = text, failed
        self.view.value = f'<div role="status" style="color:{tint};font-size:13px;line-height:1.5">{html.escape(text)}</div>'


class Codec:
    """encode and decode with memory, so that moving a slider back costs nothing.

    encode    list of N sentences -> (N, Z) array
    decode    (z (N, Z), method) -> list of N sentences
    """

    def __init__(self, encode, decode):
        self._encode, self._decode = encode, decode
        self._latents, self._sentences = {}, {}

    def encode(self, sentences):
        """(N, Z) float array; only sentences not seen before are encoded, in one call."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._latents]
        if new:
            z = np.asarray(self._encode(new), dtype=float)
            if z.ndim != 2 or len(z) != len(new):
                raise ValueError(f"encode must return ({len(new)}, Z) for {len(new)} sentences, found {z.shape}. "
                                 "Check the callable.")
            self._latents.update(zip(new, z, strict=True))
        return np.stack([self._latents[sentence] for sentence in sentences])

    def decode(self, z, method):
        """List of N sentences for z (N, Z)."""
        key = (method, z.shape, z.tobytes())
        if key not in self._sentences:
            sentences = list(self._decode(z, method))
            if len(sentences) != len(z):
                raise ValueError(f"decode must return {len(z)} sentences, found {len(sentences)}. Check the callable.")
            self._sentences[key] = sentences
        return self._sentences[key]


def method_choice(methods=METHODS):
    """A drop-down for the decoding."""
    return ipw.Dropdown(options=list(methods), value=methods[0], description="decoding", layout=ipw.Layout(width="210px"))


def sentence_box(description, value):
    """A text box that reports when the user is done (Enter, or leaving it), not at each key."""
    return ipw.Text(value=value, description=description, continuous_update=False, layout=ipw.Layout(width="98%"))


def answer_html(label, marked):
    """A decoded sentence set apart from the rest. marked: HTML, already escaped."""
    look = (f"font-size:15px;line-height:1.6;padding:6px 10px;color:{style.HTML_INK};background:{style.HTML_TINT};"
            f"border-left:3px solid {style.BLUE}")
    return (f'<div style="{look}"><span style="color:{style.HTML_FAINT}">{label}&ensp;</span>'
            f'<span class="dgmlab-answer">{marked}</span></div>')


def title(text):
    """A heading above a widget, as HTML."""
    return ipw.HTML(f'<div style="font-weight:600;font-size:14px;color:{style.HTML_INK}">{html.escape(text)}</div>')
