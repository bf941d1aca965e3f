"""The gallery: every run as a card, and the paper's numbers beside ours, in one HTML file that needs no server.

    path = build()          writes runs/index.html and returns its path

The page links to what lies beside it by relative paths, so that the runs folder can be copied or served as it is.
Styles are in the page; there is no script, no font and no picture from elsewhere.
"""

import math
import os
import re
import socket
from datetime import datetime
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from dgmlab.run import Run, home, list_runs, write_error

STATES = ("done", "running", "interrupted", "failed")
MAX_METRICS = 4


class Card(NamedTuple):
    """What the gallery and `dgmlab runs` say of a run."""

    name: str
    state: str  # one of STATES
    line: str  # the error of a failed run, the last progress line of a running one
    step: int | None
    seconds: float | None
    started: str  # local time, "2026-11-21 05:15"
    device: str
    metrics: dict  # name -> number, at most MAX_METRICS
    compare: list  # rows of results.json
    picture: Path | None
    curve: list  # first metric over the steps, where there is no picture
    links: list  # (label, Path)
    children: list  # Cards of the runs inside


def collect(folder=None):
    """Cards of every run below FOLDER/runs (default: home()), newest first. Folders moved aside are left out."""
    return [card(run) for run in list_runs(folder)]


def card(run, parent_state=None):
    """Read one run folder into a Card; `parent_state` is given for a run inside another one."""
    status = _read(lambda: run.status, {})
    state = _state(status, parent_state)
    results = _read(lambda: run.results, {})
    rows = _read(run.metrics, [])
    inside = sorted(path.parent for path in run.dir.glob("*/status.json"))
    children = [card(Run(path), state) for path in inside]
    files = {"notebook": "notebook.html", "ipynb": "notebook.ipynb", "metrics": "metrics.jsonl", "results": "results.json"}
    pictures = _read(run.figures, [])
    compare = [row for row in results.get("compare", []) if isinstance(row, dict) and "metric" in row]
    return Card(
        name=run.name if parent_state is None else run.dir.name,
        state=state,
        line=str(status.get("error") or (status.get("line") if state != "done" else "") or ""),
        step=status.get("step") if status.get("step") is not None else _last_step(rows),
        seconds=status.get("seconds"),
        started=_local_time(status.get("started")),
        device=str(_read(lambda: run.env, {}).get("device") or ""),
        metrics=key_metrics(results, rows),
        compare=[{**row, "run": run.name} for row in compare] + [row for child in children for row in child.compare],
        picture=_cover(pictures),
        curve=_curve(rows) or next((child.curve for child in children if child.curve), []),
        links=[(label, run.dir / name) for label, name in files.items() if (run.dir / name).exists()],
        children=children,
    )


def key_metrics(results, rows):
    """The first numbers of results.json, else of the last row of metrics.jsonl: name -> number."""
    final = _numbers(results.get("metrics", {}))
    if not final and rows:
        final = {key: value for key, value in _numbers(rows[-1]).items() if key != "step"}
    return dict(list(final.items())[:MAX_METRICS])


def _numbers(values):
    return {key: value for key, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)}


def _read(get, default):
    """A file that a dying disk or an editor broke must not take the whole gallery with it."""
    try:
        found = get()
    except (ValueError, OSError):
        return default
    return found if isinstance(found, type(default)) else default


def _state(status, parent_state):
    """The stored state, but `interrupted` for a running one whose process is gone."""
    state = status.get("state", "interrupted")
    if state != "running":
        return state if state in STATES else "interrupted"
    if parent_state is not None:
        return state if parent_state == "running" else "interrupted"
    if status.get("pid") and status.get("host") == socket.gethostname():
        try:
            os.kill(status["pid"], 0)
        except ProcessLookupError:
            return "interrupted"
        except OSError:
            pass
    return state


def _last_step(rows):
    return rows[-1].get("step") if rows else None


def _local_time(stamp):
    try:
        return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"
    except (TypeError, ValueError):
        return ""


def _curve(rows):
    """(step, value) pairs of the first metric that has at least three finite values."""
    for key in dict.fromkeys(key for row in rows for key in row if key != "step"):
        points = [(row["step"], row[key]) for row in rows if key in _numbers(row) and math.isfinite(row[key])]
        if len(points) >= 3:
            return points
    return []


def number(value):
    """A number as the tables print it: four significant digits, no exponent where it can be avoided."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def duration(seconds):
    """`41 s`, `12 min 05 s`, `3 h 20 min`, or nothing where it is not known."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


# the page


def build(folder=None):
    """Write FOLDER/runs/index.html (default: home()). -> its Path"""
    root = Path(folder or home()) / "runs"
    path = root / "index.html"
    scratch = root / ".index.html.tmp"
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch.write_text(page(collect(folder), root), encoding="utf-8")
        os.replace(scratch, path)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def page(cards, root):
    """The gallery as HTML text; links are relative to `root`."""
    rows = [row for card in cards for row in card.compare]
    counts = [(state, sum(card.state == state for card in cards)) for state in STATES]
    tally = "".join(f'<span class="badge {state}">{n} {state}</span>' for state, n in counts if n)
    body = f'<main class="cards">{"".join(_card(card, root) for card in cards)}</main>' if cards else EMPTY
    anchor = ' · <a href="#paper">paper beside ours</a>' if rows else ""
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>dgmlab: runs</title><style>{style}</style></head><body>
<header><h1>dgmlab <span>runs</span></h1><p class="tally">{tally}</p>
<p class="when">Written {datetime.now():%Y-%m-%d %H:%M}{anchor}</p></header>
{body}{_comparison(rows)}
<footer>Made by <code>dgmlab report</code>. Each card is a folder beside this page.</footer></body></html>
"""


EMPTY = """<section class="empty"><h2>No runs yet</h2>
<p>A notebook run from the command line leaves its numbers, pictures and pages here.</p>
<pre>dgmlab list
dgmlab run 11_optimus_train
dgmlab report</pre></section>"""


def _card(card, root):
    name = card.name.rsplit("/", 1)
    above = f'<p class="group">{escape(name[0])}</p>' if len(name) > 1 else ""
    metrics = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(number(v))}</dd></div>" for k, v in card.metrics.items())
    facts = " · ".join(f"<span>{escape(fact)}</span>" for fact in (duration(card.seconds), card.device, card.started) if fact)
    links = "".join(f'<a href="{_href(path, root)}">{escape(label)}</a>' for label, path in card.links)
    line = f'<p class="line">{escape(card.line)}</p>' if card.line else ""
    children = "".join(_child(child, root) for child in card.children)
    return f"""<article class="card">{_picture(card, root)}<div class="body">
<div class="head"><div>{above}<h2>{escape(name[-1])}</h2></div><span class="badge {card.state}">{card.state}</span></div>
{f'<dl class="metrics">{metrics}</dl>' if metrics else ""}{line}
{f'<ul class="children">{children}</ul>' if children else ""}
<p class="facts">{facts}</p><p class="links">{links}</p></div></article>"""


def _child(child, root):
    numbers = "  ".join(f"{key} {number(value)}" for key, value in list(child.metrics.items())[:2])
    links = "".join(f' <a href="{_href(path, root)}">{escape(label)}</a>' for label, path in child.links)
    return (
        f'<li><span class="dot {child.state}" title="{child.state}"></span><b>{escape(child.name)}</b> '
        f"<span>{escape(numbers)}</span>{links}</li>"
    )


def _cover(pictures):
    """The newest of a series NAME-STEP.png, whose first ones show noise; else the picture drawn first; None without any."""
    series = [path for path in pictures if re.search(r"-\d{8}$", path.stem)]
    return series[-1] if series else next(iter(pictures), None)


def _picture(card, root):
    page = next((path for label, path in card.links if label == "notebook"), None)
    if card.picture is not None:
        inner = f'<img src="{_href(card.picture, root)}" alt="{escape(card.picture.stem)}" loading="lazy">'
    elif card.curve:
        inner = _sparkline(card.curve)
    else:
        inner = f'<span class="blank">{escape(card.name.rsplit("/", 1)[0][:2])}</span>'
    return f'<a class="picture" href="{_href(page, root)}">{inner}</a>' if page else f'<div class="picture">{inner}</div>'


def _sparkline(points, width=320, height=120):
    """An inline SVG line through (step, value) points."""
    xs, ys = zip(*points, strict=True)
    left, low = min(xs), min(ys)
    across, up = max(xs) - left or 1, max(ys) - low or 1
    path = " ".join(f"{(x - left) / across * width:.1f},{height - (y - low) / up * height:.1f}" for x, y in points)
    return (
        f'<svg viewBox="-8 -8 {width + 16} {height + 16}" role="img" aria-label="training curve">'
        f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linejoin="round"/></svg>'
    )


def _comparison(rows):
    """The table of published values beside ours; a row of another protocol says so."""
    if not rows:
        return ""
    body = ""
    for row in rows:
        same = bool(row.get("same_protocol"))
        label = "same" if same else "different"
        note, source, run = (escape(str(row.get(key) or "")) for key in ("note", "source", "run"))
        body += (
            f'<tr><td>{escape(str(row["metric"]))}</td><td class="n">{escape(number(row.get("paper", "")))}</td>'
            f'<td class="n ours">{escape(number(row.get("ours", "")))}</td>'
            f'<td><span class="protocol {label}">{label} protocol</span></td>'
            f'<td>{note}</td><td>{source}</td><td class="run">{run}</td></tr>'
        )
    return f"""<section class="paper" id="paper"><h2>The paper's numbers beside ours</h2>
<p>Two numbers can be compared only where the protocol is the same; the others are for orientation.</p>
<div class="scroll"><table><thead><tr><th>metric</th><th class="n">paper</th><th class="n">ours</th><th>protocol</th>
<th>note</th><th>source</th><th>run</th></tr></thead><tbody>{body}</tbody></table></div></section>"""


def _href(path, root):
    """`path` relative to the page, ready for an attribute."""
    return escape(quote(Path(os.path.relpath(path, Path(root).resolve())).as_posix()))
