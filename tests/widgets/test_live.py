"""Live curves follow a run from outside."""

import time

import pytest

from dgmlab.run import Run
from dgmlab.widgets import LiveCurves


@pytest.fixture
def run(tmp_path):
    run = Run.start(tmp_path / "runs" / "11_optimus_train" / "tiny", {})
    run.log(1, loss=3.0)
    run.set_status("running", step=1, n_steps=2, line="rec 3.0")
    yield run
    run.close()


def test_refresh_reads_the_folder_again(run):
    live = LiveCurves(run)
    first = bytes(live.image.value)
    assert first.startswith(b"\x89PNG") and live.status.text == "running, step 1 of 2  rec 3.0"
    run.log(2, loss=1.0)
    run.set_status("done", step=2)
    live.button.click()
    assert bytes(live.image.value) != first and live.status.text.startswith("done, step 2 of 2")
    assert live.static().numbers["panels"][0]["curves"][0]["values"] == [3, 1]


def test_following_ends_with_the_run_and_shows_its_last_values(run):
    live = LiveCurves(run)
    live.start(seconds=0.02)
    assert live.following
    run.log(2, loss=1.0)
    run.set_status("done", step=2)
    deadline = time.monotonic() + 10
    while live.following and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not live.following and live.status.text.startswith("done, step 2")


def test_stop_ends_following(run):
    live = LiveCurves(run)
    live.auto.value = True
    assert live.following
    live.auto.value = False
    assert not live.following


def test_a_broken_status_is_a_line_not_a_crash(run):
    live = LiveCurves(run)
    (run.dir / "status.json").write_text("{half")
    live.refresh()
    assert live.status.failed and "status.json is not readable JSON" in live.status.text
