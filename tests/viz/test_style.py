"""Pictures carry their numbers and are saved reproducibly."""

import json
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from dgmlab.viz import style


class Info(NamedTuple):
    xs: np.ndarray
    inner: tuple


def picture():
    figure, ax = style.canvas(3, 2)
    ax.plot([0, 1], [0, 1])
    return style.finish(figure, Info(np.array([1.0, float("nan")]), (Info(np.array([1 / 3]), ()),)))


def test_numbers_become_plain_json():
    assert picture().numbers == {"xs": [1.0, None], "inner": [{"xs": [0.333333], "inner": []}]}


def test_the_same_picture_gives_the_same_bytes():
    assert picture().png() == picture().png()
    assert picture()._repr_png_().startswith(b"\x89PNG")


def test_a_kept_figure_is_a_png_and_its_numbers(tmp_path):
    first = style.save_figure(picture(), "12_latent_map", folder=tmp_path / "figures")
    assert first == tmp_path / "figures" / "12_latent_map.png"
    assert json.loads(first.with_suffix(".json").read_text())["xs"] == [1.0, None]
    before = first.read_bytes()
    style.save_figure(picture(), "12_latent_map", folder=tmp_path / "figures", data={"n": np.int64(3)})
    assert first.read_bytes() == before and b"Software" not in before
    assert json.loads(first.with_suffix(".json").read_text()) == {"n": 3}


def test_figures_go_to_the_checkout_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("DGMLAB_HOME", str(tmp_path))
    assert style.save_figure(picture(), "00_timeline").parent == tmp_path.resolve() / "figures"


def test_a_kept_figure_needs_a_number_in_its_name_and_numbers_behind_it(tmp_path):
    with pytest.raises(ValueError, match="named by its notebook's number.*found 'map'"):
        style.save_figure(picture(), "map", folder=tmp_path)
    bare, _ = style.canvas(3, 2)
    with pytest.raises(ValueError, match="'12_map' carries no numbers"):
        style.save_figure(bare, "12_map", folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_labels_beyond_the_palette_get_another_marker():
    n = len(style.PALETTE)
    assert style.colour(n) == style.colour(0) and style.marker(n) != style.marker(0)


def test_viz_needs_neither_torch_nor_pyplot():
    code = "import sys, dgmlab.viz; print([m for m in ('torch', 'matplotlib.pyplot', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
