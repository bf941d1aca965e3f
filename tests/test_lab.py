"""JupyterLab in a real headless Chromium: open a notebook, run it all, move the widgets, see what they show change.

The server's and the browser's own folders are temporary, so nothing of the user's Jupyter is read or written. Where no
Chromium is installed the tests are skipped, but they fail when CI=true.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
MARKER = "notebook finished"
KERNEL_IDLE = re.compile(r"Python 3 \(ipykernel\) \| Idle")
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync"]

TOY_CELLS = [
    "import numpy as np\n"
    "from dgmlab.widgets import Analogy, Interpolator, LatentMap\n"
    "numbers = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine']\n"
    "encode = lambda sentences: np.array([[numbers.index(s.split()[0]), 1.0] for s in sentences])\n"
    "word = lambda n, method: numbers[int(round(n)) % 10] + (' loud' if method == 'top_k' else '') + ' dogs'\n"
    "decode = lambda z, method: [word(n, method) for n in z[:, 0]]",
    "walk = Interpolator(encode, decode, 'one dogs', 'five dogs', n=5)\nwalk.view",
    "box = Analogy(encode, decode, 'one dogs', 'two dogs', 'six dogs')\nbox.view",
    "angle = np.arange(200) * 2.4\n"
    "xy = np.sqrt(np.arange(200))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)\n"
    "z = np.stack([np.arange(200) // 20, np.ones(200)], 1)\n"
    "names = ['inner', 'outer']\n"
    "board = LatentMap(xy, z, decode(z, 'greedy'), decode, np.arange(200) // 100, names)\nboard.view",
    f"print('{MARKER}')",
]
PICTURE_CELLS = [
    "import numpy as np\n"
    "from dgmlab.widgets import Gallery, Translator\n"
    "flat = lambda *values: np.stack([np.full((3, 16, 16), value, np.uint8) for value in values])\n"
    "sample = lambda n, classes, truncation, seed: flat(*[20 * seed + 100 * sum(classes or [0]) + i for i in range(n)])\n"
    "walk = lambda seeds, classes, truncation: flat(*np.linspace(20 * seeds[0], 20 * seeds[1], 6))",
    "gallery = Gallery(sample, ('cat', 'dog'), n=4, columns=4, walk=walk)\ngallery.view",
    "invert = lambda x, direction: (255 - x, np.full((1, 2, 2), 0.5), x)\n"
    "Translator(invert, {'cat to dog': flat(0, 50, 100), 'dog to cat': flat(150, 200)}).view",
    f"print('{MARKER}')",
]

NAVIGATION_CELLS = [
    "from dgmlab.prevalent.houses import Houses\n"
    "from dgmlab.prevalent.toy_tasks import toy_episodes\n"
    "from dgmlab.prevalent.walk import Walk\n"
    "from dgmlab.widgets import EpisodeReplay, WalkByHand\n"
    "houses = Houses.toy([0])\n"
    "house, task = houses.houses['toy0'], toy_episodes(houses, 1, 0)[0]\n"
    "begin = lambda: Walk(houses, [houses.row('toy0', task.path[0])], [task.heading])",
    "hand = WalkByHand(house, begin, task)\nhand.view",
    "guide = WalkByHand(house, begin, task)\nguide.follow(task.path)\nguide.move(0)\n"
    "EpisodeReplay(guide.trail, house, task).view",
    f"print('{MARKER}')",
]


@pytest.fixture(scope="module")
def chromium():
    """Path of a Chromium; without one the test is skipped, and on a CI machine it fails."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = (f"a Chromium was expected on PATH ({', '.join(names)}), none was found. "
                  "Install one, or set CHROMIUM to its path.")
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def write_notebook(path, cells):
    """A notebook of code cells with the kernelspec of this project."""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    code = [{"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
            for i, source in enumerate(cells)]
    path.write_text(json.dumps({"cells": code, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}))


def jupyter_environment(folder):
    """The environment of a server that keeps everything of its own below `folder`; DGMLAB_ variables are handed on."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
             "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
    own = {name: str(folder / name.lower()) for name in names}
    for path in own.values():
        Path(path).mkdir(parents=True)
    overrides = Path(own["JUPYTER_CONFIG_DIR"]) / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir()
    # the question whether to fetch news would lie over the notebook
    news = {"fetchNews": "false", "checkForUpdates": False}
    overrides.write_text(json.dumps({"@jupyterlab/apputils-extension:notification": news}))
    return {**os.environ, "DGMLAB_HOME": str(folder / "home"), **own}


@pytest.fixture(scope="module")
def server(tmp_path_factory, chromium):
    """A JupyterLab server on a copy of notebooks/ plus the toy notebook -> (base address, token)."""
    folder = tmp_path_factory.mktemp("lab")
    root = folder / "notebooks"
    shutil.copytree(NOTEBOOKS, root, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (folder / "home").mkdir()
    write_notebook(root / "toy.ipynb", TOY_CELLS)
    write_notebook(root / "pictures.ipynb", PICTURE_CELLS)
    write_notebook(root / "navigation.ipynb", NAVIGATION_CELLS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token, log = secrets.token_hex(16), folder / "server.log"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", "--allow-root",
               f"--ServerApp.root_dir={root}"]
    with open(log, "w") as output:
        process = subprocess.Popen(command, env=jupyter_environment(folder), cwd=root, stdout=output, stderr=output)
    try:
        base = f"http://127.0.0.1:{port}"
        wait_until_up(f"{base}/api/status?token={token}", process, log)
        yield base, token
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_up(address, process, log, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not answer within {seconds} s. The end of its log:\n{log.read_text()[-3000:]}")


@pytest.fixture
def page(tmp_path, chromium):
    """A page of a fresh Chromium; a JavaScript error on it fails the test."""
    from playwright.sync_api import sync_playwright

    errors = []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=chromium, headless=True, args=CHROMIUM_FLAGS,
            viewport={"width": 1400, "height": 1000})
        try:
            page = context.pages[0] if context.pages else context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            yield page
        finally:
            context.close()
    assert not errors, errors


def run_notebook(page, server, name, seconds):
    """Open NAME, wait for its kernel, run all cells, and wait for the marker that the last one prints."""
    from playwright.sync_api import expect

    base, token = server
    page.goto(f"{base}/lab/tree/{name}?reset&token={token}")
    page.wait_for_selector(".jp-Notebook", timeout=60_000)
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
    # the notebook's own indicator says idle before any kernel exists; the status bar does not
    expect(page.locator("#jp-main-statusbar")).to_contain_text(KERNEL_IDLE, timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    deadline = time.monotonic() + seconds
    marker = page.locator(".jp-OutputArea-output", has_text=MARKER)
    while marker.count() == 0:  # cells outside the window are not in the page, so look from the end of the notebook
        error = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
        assert error.count() == 0, error.first.inner_text()
        assert time.monotonic() < deadline, f"{name} did not print '{MARKER}' within {seconds} s"
        page.locator(".jp-WindowedPanel-outer").first.evaluate("panel => panel.scrollTo(0, panel.scrollHeight)")
        page.wait_for_timeout(200)


def find(page, selector):
    """The first element of a widget, scrolled into view: Lab takes cells far from the window out of the page."""
    panel = page.locator(".jp-WindowedPanel-outer").first
    panel.evaluate("panel => panel.scrollTo(0, 0)")
    for _ in range(60):
        target = page.locator(selector).first
        if target.count() and target.is_visible():
            target.scroll_into_view_if_needed()
            return target
        panel.evaluate("panel => panel.scrollBy(0, panel.clientHeight / 2)")
        page.wait_for_timeout(150)
    pytest.fail(f"no {selector} was found in the notebook")


def current_sentence(widget, other_than=""):
    """tau and sentence of the row under the slider, once there is one and it is another than `other_than`."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # the list is rendered anew at each change, so for a moment there may be no row
        row = " ".join(widget.locator(".dgmlab-current td").all_text_contents())
        if row not in ("", other_than):
            return row
        widget.page.wait_for_timeout(100)
    pytest.fail(f"no row of the list became the current one (other than '{other_than}') within 30 s")


def move_slider_one_step(page, widget):
    """Press the right arrow on the tau slider and wait until another row of the list is the current one."""
    before = current_sentence(widget)
    handle = widget.locator(".widget-slider .noUi-handle").first
    handle.focus()
    page.keyboard.press("ArrowRight")
    return before, current_sentence(widget, other_than=before)


def test_toy_notebook_walks_adds_and_decodes_where_it_is_clicked(page, server):
    from playwright.sync_api import expect

    run_notebook(page, server, "toy.ipynb", 60)

    walk = find(page, ".dgmlab-interpolator")
    assert current_sentence(walk).split() == ["0.00", "one", "dogs"]
    _, after = move_slider_one_step(page, walk)
    assert after.split() == ["0.25", "two", "dogs"]
    expect(walk.locator(".dgmlab-interpolator-status")).to_have_text("tau = 0.25: two dogs")
    walk.get_by_label("decoding").select_option("top_k")
    expect(walk.locator(".dgmlab-path")).to_contain_text("five loud dogs", timeout=30_000)
    target = walk.get_by_label("B", exact=True)
    target.fill("nine dogs")
    target.press("Enter")
    expect(walk.locator(".dgmlab-path")).to_contain_text("nine loud dogs", timeout=30_000)
    target.fill("no dogs")
    target.press("Enter")
    expect(walk.locator(".dgmlab-interpolator-status")).to_contain_text("ValueError: 'no' is not in list", timeout=30_000)

    box = find(page, ".dgmlab-analogy")
    expect(box.locator(".dgmlab-answer")).to_have_text("seven dogs")
    box.locator(".widget-slider .noUi-handle").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(box.locator(".dgmlab-answer")).to_have_text("eight dogs", timeout=30_000)

    board = find(page, ".dgmlab-map")
    status = board.locator(".dgmlab-map-status")
    expect(status).to_have_text("nothing decoded yet: click on the map")
    cells = board.locator("button")
    background = board.locator("[class*=dgmlab-board-]").first.evaluate("board => getComputedStyle(board).backgroundImage")
    assert background.startswith('url("data:image/png;base64,')
    cells.nth(8 * 24 + 12).click()  # the middle
    expect(status).to_contain_text("zero dogs", timeout=30_000)
    cells.nth(0).click()  # a corner
    expect(status).not_to_contain_text("zero dogs", timeout=30_000)
    expect(board.locator(".dgmlab-answer")).to_have_text(status.inner_text().split(": ")[1])


def test_picture_notebook_samples_walks_and_translates(page, server):
    from playwright.sync_api import expect

    run_notebook(page, server, "pictures.ipynb", 60)

    gallery = find(page, ".dgmlab-gallery")
    status, images = gallery.locator(".dgmlab-gallery-status"), gallery.locator("img")
    expect(status).to_have_text("4 samples, seed 0, all classes, truncation 1.00")
    expect(images.nth(0)).to_be_visible()
    sizes = images.nth(0).evaluate("image => [image.naturalWidth, image.clientWidth]")
    assert sizes[0] > 4 * 128 and sizes[0] == sizes[1], f"pixels should be shown as they are, found {sizes}"
    assert not images.nth(1).is_visible()
    before = images.nth(0).get_attribute("src")
    gallery.locator("button").nth(1).click()  # the next seed
    expect(status).to_have_text("4 samples, seed 1, all classes, truncation 1.00", timeout=30_000)
    assert images.nth(0).get_attribute("src") != before
    gallery.get_by_label("class").select_option("dog")
    gallery.get_by_role("button", name="Walk to the next seed").click()
    expect(status).to_contain_text("6 pictures from seed 1 to 2, and 4 samples, seed 2, dog", timeout=30_000)
    for i in (1, 2):
        expect(images.nth(i)).to_be_visible()

    translator = find(page, ".dgmlab-translator")
    status = translator.locator(".dgmlab-translator-status")
    expect(status).to_have_text("cat to dog, picture 0 of 0 to 2")
    translator.locator(".widget-slider .noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    expect(status).to_have_text("cat to dog, picture 1 of 0 to 2", timeout=30_000)
    translator.get_by_label("direction").select_option("dog to cat")
    expect(status).to_have_text("dog to cat, picture 0 of 0 to 1", timeout=30_000)


def test_navigation_notebook_walks_by_hand_and_replays(page, server):
    from playwright.sync_api import expect

    run_notebook(page, server, "navigation.ipynb", 60)

    hand = find(page, ".dgmlab-walk")
    status, picture = hand.locator(".dgmlab-walk-status"), hand.locator("img")
    expect(status).to_have_text("0 moves")
    spots = hand.locator("[class*=dgmlab-hand-] button:visible")
    shown = spots.count()
    assert shown >= 2 and shown % 2 == 0, f"two numbers for each candidate, on the map and above the strip; found {shown}"
    frame = picture.bounding_box()
    for i in range(shown):  # each lies on the picture, at its place and of its size
        box = spots.nth(i).bounding_box()
        assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] and box["width"] == 30
        assert frame["y"] <= box["y"] and box["y"] + box["height"] <= frame["y"] + frame["height"] and box["height"] == 30
    assert len({(spots.nth(i).bounding_box()["x"], spots.nth(i).bounding_box()["y"]) for i in range(shown)}) == shown
    before = picture.get_attribute("src")
    spots.first.click()
    expect(status).to_have_text("1 move", timeout=30_000)
    assert picture.get_attribute("src") != before
    hand.get_by_label("show goal and reference").check()
    expect(status).to_contain_text("m to the goal", timeout=30_000)
    hand.get_by_role("button", name="STOP").click()
    expect(status).to_contain_text("after 1 move", timeout=30_000)
    expect(spots).to_have_count(0)
    hand.get_by_role("button", name="Start again").click()
    expect(status).to_contain_text("0 moves", timeout=30_000)

    replay = find(page, ".dgmlab-replay")
    status, picture = replay.locator(".dgmlab-replay-status"), replay.locator("img")
    expect(status).to_contain_text("step 1 of")
    before = picture.get_attribute("src")
    replay.get_by_title("one step on").click()
    expect(status).to_contain_text("step 2 of", timeout=30_000)
    assert picture.get_attribute("src") != before
    replay.locator(".widget-slider .noUi-handle").first.focus()
    page.keyboard.press("End")
    expect(status).to_contain_text("success, SPL 1.00", timeout=30_000)
    replay.get_by_title("one step back").click()
    replay.locator(".widget-play button").first.click()  # plays on to the end
    expect(status).to_contain_text("success, SPL 1.00", timeout=30_000)


def test_latent_space_notebook_moves_through_sentences(page, server):
    from playwright.sync_api import expect

    name = "12_latent_space_explore.ipynb"
    assert (NOTEBOOKS / name).exists(), f"{name} was expected in {NOTEBOOKS.name}/, it is not there. Restore it."
    run_notebook(page, server, name, 300)
    walk = find(page, ".dgmlab-interpolator")
    current_sentence(walk)  # waits for the list
    rows = walk.locator(".dgmlab-path td")
    first_list = rows.all_text_contents()
    before, after = move_slider_one_step(page, walk)
    assert before != after and after.split()[0] > before.split()[0]
    expect(walk.locator(".dgmlab-interpolator-status")).to_contain_text(f"tau = {after.split()[0]}: ", timeout=30_000)
    assert rows.all_text_contents() == first_list and len(first_list) == 18  # the slider only moves along the path
