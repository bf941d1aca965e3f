"""The gallery, read back with html.parser: every relative link exists, everything is escaped."""

import json
import os
import socket
from html.parser import HTMLParser
from urllib.parse import unquote

import matplotlib
import pytest

from dgmlab import report
from dgmlab.run import Run

matplotlib.use("Agg")


class Page(HTMLParser):
    """Tags, links and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.texts, self.classes = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.classes += (attrs.get("class") or "").split()
        self.links += [attrs[key] for key in ("href", "src") if key in attrs]

    def handle_data(self, data):
        self.texts.append(data.strip())


def make_run(home, name, state="done", metrics=None, compare=(), figure=False, rows=()):
    import matplotlib.pyplot as plt

    run = Run.start(home / "runs" / name, {"seed": 0})
    for step, value in enumerate(rows):
        run.log(step, loss=value)
    if metrics is not None:
        run.save_results(metrics, compare)
    if figure:
        fig, axes = plt.subplots(figsize=(2, 1))
        axes.plot([1, 2])
        run.save_figure(fig, "1 latent space")
        plt.close(fig)
    run.set_status(state)
    run.close()
    return run


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DGMLAB_HOME", str(tmp_path))
    return tmp_path


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_no_runs_says_how_to_make_one(home):
    page = read(report.build())
    assert "No runs yet" in page.texts and "card" not in page.classes


def test_every_link_is_relative_and_exists(home):
    run = make_run(home, "11_optimus_train/ptb small & more", metrics={"ppl": 81.25}, figure=True, rows=[3, 2, 1])
    (run.dir / "notebook.html").write_text("x")
    (run.dir / "notebook.ipynb").write_text("{}")
    run.child("gpt2", {"a": 1}).save_results({"ppl": 70})
    path = report.build()
    page = read(path)
    links = [unquote(link) for link in page.links if not link.startswith("#")]
    assert len(links) >= 6
    for link in links:
        assert "://" not in link and not link.startswith("/")
        assert (path.parent / link).is_file(), link
    assert {"style", "img"} <= set(page.tags) and not {"script", "link"} & set(page.tags)
    assert "url(" not in path.read_text() and "@import" not in path.read_text()


def test_card_shows_state_metrics_duration_and_the_runs_inside(home):
    run = make_run(home, "11_optimus_train/small", metrics={"ppl": 81.2549, "mi": 3.1, "note": "words", "ok": True})
    child = run.child("gpt2", {"x": 1})
    child.save_results({"ppl": 70.1})
    child.set_status("done")
    (card,) = report.collect()
    assert card.metrics == {"ppl": 81.2549, "mi": 3.1}
    assert [(c.name, c.state, c.metrics) for c in card.children] == [("gpt2", "done", {"ppl": 70.1})]
    page = read(report.build())
    for text in ("small", "11_optimus_train", "done", "ppl", "81.25", "gpt2", "ppl 70.1"):
        assert text in page.texts, text


def test_paper_is_put_beside_ours_and_another_protocol_is_labelled(home):
    rows = [
        {"metric": "ppl", "ours": 101.5, "paper": 86.4, "source": "Li et al. 2020", "same_protocol": False, "note": "small"},
        {"metric": "au", "ours": 32, "paper": 32, "source": "table 2", "same_protocol": True, "note": ""},
    ]
    make_run(home, "11_optimus_train/ptb", metrics={"ppl": 101.5}, compare=rows)
    page = read(report.build())
    for text in ("101.5", "86.4", "Li et al. 2020", "different protocol", "same protocol"):
        assert text in page.texts
    assert page.tags.count("tr") == 3


def test_everything_from_a_run_is_escaped(home):
    evil = "<script>alert('x')</script>"
    run = make_run(home, "11_x/a", metrics={evil: 1.0}, compare=[{"metric": evil, "ours": evil, "paper": evil, "source": evil,
                                                                "note": evil, "same_protocol": False}])
    run.set_status("failed", error=evil)
    (run.dir / "env.json").write_text(json.dumps({"device": evil}))
    Run.start(home / "runs" / "12_y" / "<b>", {})
    text = report.build().read_text()
    assert "<script" not in text and "<b>" not in text
    assert text.count("&lt;script&gt;") >= 7


def test_run_without_picture_shows_its_curve(home):
    make_run(home, "11_x/a", rows=[3.0, float("nan"), 2.0, 1.0])
    assert "polyline" in read(report.build()).tags
    (card,) = report.collect()
    assert card.curve == [(0, 3.0), (2, 2.0), (3, 1.0)] and card.metrics == {"loss": 1.0}


def test_cover_is_the_newest_of_a_series_else_the_first_picture(home):
    run = make_run(home, "21_x/a")
    run.samples.mkdir()
    for age, name in enumerate(["training.png", "grid-00000001.png", "grid-00000250.png", "walk.png"]):
        (run.samples / name).write_bytes(b"")
        os.utime(run.samples / name, (age, age))
    assert report.collect()[0].picture.name == "grid-00000250.png"
    for path in run.samples.glob("grid-*"):
        path.unlink()
    assert report.collect()[0].picture.name == "training.png"


def test_killed_run_is_not_shown_as_running(home):
    run = make_run(home, "11_x/killed", state="running")
    gone = 2**22 + 1  # above the largest pid Linux gives
    run.set_status(pid=gone, host=socket.gethostname())
    run.child("inner", {})
    make_run(home, "11_x/elsewhere", state="running").set_status(pid=gone, host="another machine")
    states = {card.name: (card.state, [child.state for child in card.children]) for card in report.collect()}
    assert states == {"11_x/killed": ("interrupted", ["interrupted"]), "11_x/elsewhere": ("running", [])}


def test_broken_files_and_folders_moved_aside_do_not_break_the_gallery(home):
    run = make_run(home, "11_x/a", metrics={"ppl": 1.0})
    (run.dir / "results.json").write_text("{")
    (run.dir / "env.json").write_text("[")
    make_run(home, "11_x/a.old-20261121-101010")
    other = make_run(home, "11_x/b")
    for broken in ("{", "[1, 2]"):
        (other.dir / "status.json").write_text(broken)
        assert [card.name for card in report.collect()] == ["11_x/a", "11_x/b"]
    report.build()


@pytest.mark.parametrize(
    "value, text", [(81.2549, "81.25"), (3, "3"), (12345.678, "12,346"), (1234567, "1,234,567"), (0.00012, "0.00012"),
                    (float("nan"), "nan"), ("86.4", "86.4"), (1e-12, "1e-12")])
def test_numbers_are_short(value, text):
    assert report.number(value) == text


@pytest.mark.parametrize("seconds, text", [(None, ""), (41.4, "41 s"), (725, "12 min 05 s"), (12000, "3 h 20 min")])
def test_durations_are_words(seconds, text):
    assert report.duration(seconds) == text
