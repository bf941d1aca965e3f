"""Pictures of pictures: every pixel arrives as it was, at its place, and what is written says what is shown."""

import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dgmlab.data.pixels import tile, write_png
from dgmlab.run import Run
from dgmlab.viz import images


def noise(n, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (n, 3, side, side), dtype=np.uint8)


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(figure.png())).convert("RGB"))


def find(picture, sheet):
    """(top, left) at which a picture (h, w, 3) lies in a sheet, pixel for pixel, or None."""
    height, width = picture.shape[:2]
    for top, left in np.argwhere((sheet == picture[0, 0]).all(-1)):
        if np.array_equal(sheet[top:top + height, left:left + width], picture):
            return int(top), int(left)
    return None


@pytest.mark.parametrize("titles", [None, ["first", "second"], [f"n{i}" for i in range(7)]])
def test_every_picture_of_a_grid_is_drawn_pixel_by_pixel_at_its_place(titles):
    x = noise(7)
    figure = images.plot_grid(torch.from_numpy(x), 4, titles, "Seven")
    sheet = pixels(figure)
    side = 8 * 16  # 128 pixels a picture, 16 a pixel
    places = [find(one.transpose(1, 2, 0).repeat(16, 0).repeat(16, 1), sheet) for one in x]
    assert None not in places
    caption = images.CAPTION if titles is not None and len(titles) == 7 else 0
    (top, left), step = places[0], side + images.GAP
    assert places == [(top + (i // 4) * (step + caption), left + (i % 4) * step) for i in range(7)]
    assert "Seven" in texts(figure) and set(titles or ()) <= set(texts(figure))
    assert (sheet[places[6][0]:places[6][0] + side, places[3][1]:places[3][1] + side] == 255).all()  # no eighth picture


def test_pixels_stay_sharp_at_any_resolution():
    x = noise(1, 8)
    drawn = np.asarray(Image.open(io.BytesIO(images.plot_grid(x).png(dpi=171))).convert("RGB"))
    colours = {tuple(map(int, colour)) for colour in x[0].reshape(3, -1).T}
    assert {tuple(map(int, colour)) for colour in drawn[40:-40, 40:-40].reshape(-1, 3)} <= colours


def test_the_numbers_of_a_grid_are_names_and_brightness_not_pixels():
    x = np.stack([np.full((3, 8, 8), value, np.uint8) for value in (10, 20, 30)])
    numbers = images.plot_grid(x, 2, ["a", "b"]).numbers
    assert numbers == {"n": 3, "size": 8, "row_names": ["a", "b"], "column_names": [], "captions": [],
                       "brightness": [[10, 20], [30]]}
    assert images.plot_grid(x, 3, ["a", "b", "c"]).numbers["captions"] == ["a", "b", "c"]


@pytest.mark.parametrize("side, drawn", [(32, 96), (64, 128), (128, 128), (256, 103)])
def test_pictures_grow_by_whole_factors_and_only_large_ones_shrink(side, drawn):
    figure = images.plot_grid(np.full((8, 3, side, side), 200, np.uint8), 8)
    width, height = figure.get_size_inches() * images.DPI
    assert (round(width), round(height)) == (8 * (drawn + images.GAP) - images.GAP, drawn)
    assert images._resized(np.full((side, side, 3), 200, np.uint8), drawn).shape == (drawn, drawn, 3)


def test_shrinking_averages():
    checks = np.indices((256, 256)).sum(0) % 2 * np.uint8(255)
    small = images._resized(np.repeat(checks[..., None], 3, 2).astype(np.uint8), 64)
    assert small.min() >= 127 and small.max() <= 128


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 8, 8)), np.zeros((3, 8, 8), np.uint8), np.zeros((2, 3, 8, 9), np.uint8),
                                   np.zeros((0, 3, 8, 8), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)])
def test_what_is_no_stack_of_pictures_is_refused(wrong):
    with pytest.raises(ValueError, match=r"pictures \(N, 3, S, S\) uint8 were expected, at least one, found"):
        images.collect_grid(wrong)


def test_wrong_titles_and_columns_say_what_fits():
    with pytest.raises(ValueError, match="3 titles were given for 8 pictures in 2 rows. Give one a row, or one a picture"):
        images.collect_grid(noise(8), 4, ["a", "b", "c"])
    with pytest.raises(ValueError, match="at least one column was expected, found columns=0"):
        images.collect_grid(noise(8), 0)


@given(n=st.integers(1, 12), columns=st.integers(1, 5), side=st.sampled_from([8, 11, 16, 20, 32]))
@settings(max_examples=25, deadline=None)
def test_untile_takes_apart_what_tile_put_together(tmp_path_factory, n, columns, side):
    x = noise(n, side, seed=n)
    path = write_png(tmp_path_factory.mktemp("grid") / "grid.png", tile(x, columns))
    assert np.array_equal(images.untile(path), x.transpose(0, 2, 3, 1))


def test_untile_says_what_it_cannot_take_apart(tmp_path):
    path = write_png(tmp_path / "x.png", noise(1, 9)[0])
    assert images.untile(path).shape == (1, 9, 9, 3)
    Image.fromarray(np.zeros((20, 33, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"x.png is not a grid of square pictures with 2 white pixels between them \(33 x 20"):
        images.untile(path)


def test_history_reads_the_grids_of_a_run_in_order(tmp_path):
    run = Run.start(tmp_path / "runs" / "21" / "x", {})
    grids = {step: noise(10, 16, seed=step) for step in (1000, 20000, 500, 3000)}
    for step, x in grids.items():
        write_png(run.samples / f"grid-{step:08d}.png", tile(x, 5))
    board = images.collect_history(run, columns=6)
    assert board.row_names == ("step 500", "step 1,000", "step 3,000", "step 20,000")
    for cells, step in zip(board.cells, sorted(grids), strict=True):
        assert np.array_equal(cells, grids[step][:6].transpose(0, 2, 3, 1))
    assert images.plot_history(run, 6).numbers == images.plot_history(grids, 6).numbers
    assert images.collect_history(run, 6, n_rows=2).row_names == ("step 500", "step 20,000")
    with pytest.raises(FileNotFoundError, match="has no grid of samples, samples/grid-STEP.png was expected"):
        images.collect_history(Run(tmp_path / "none"))
    with pytest.raises(ValueError, match="grids of equal shape were expected"):
        images.collect_history({1: noise(4), 2: noise(5)})


def test_a_walk_is_a_row_from_seed_to_seed():
    x = noise(9)
    board = images.collect_walk(x, n_between=3, seeds=(4, 9, 5))
    assert board.cells.shape == (2, 5, 8, 8, 3) and board.row_names == ("4 to 9", "9 to 5")
    assert np.array_equal(board.cells[0, 4], board.cells[1, 0]) and np.array_equal(board.cells[1, 4], x[8].transpose(1, 2, 0))
    figure = images.plot_walk(x, 3)
    assert len(figure.axes[0].patches) == 4
    with pytest.raises(ValueError, match=r"a walk with n_between=8 has 9 k \+ 1 pictures, found 9"):
        images.collect_walk(x)
    with pytest.raises(ValueError, match="this walk passes 3 seeds, found 2"):
        images.collect_walk(x, 3, (0, 1))


def test_heat_tints_the_grey_picture():
    x = np.zeros((2, 3, 8, 8), np.uint8)
    x[1] = 200
    hot = images.overlay(x, np.stack([np.zeros((2, 2)), np.ones((2, 2))]))
    dark, bright = (np.array(images.mpl.colormaps[images.HEAT](end)[:3]) * 255 for end in (0.0, 1.0))
    assert np.allclose(hot[0, :, 0, 0], 0.55 * dark, atol=0.6)
    assert np.allclose(hot[1, :, 5, 5], 0.45 * 200 + 0.55 * bright, atol=0.6)
    ramp = images.overlay(x[:1], np.array([[[0.0, 1.0]]]))[0].astype(int).sum(0)
    assert (np.diff(ramp[0]) >= 0).all() and len(np.unique(ramp[0])) > 4  # bilinear, not two blocks
    for wrong in (np.ones((1, 2, 2)), np.ones((2, 2)), 2 * np.ones((2, 2, 2)), np.full((2, 2, 2), np.nan)):
        with pytest.raises(ValueError, match=r"heat maps \(2, h, w\) in \[0, 1\] were expected, one a picture, found"):
            images.overlay(x, wrong)


def test_heat_maps_lie_under_their_pictures():
    x, heat = noise(5), np.random.default_rng(1).random((5, 4, 4))
    board = images.collect_heat_maps(x, heat, columns=3, titles="abcde")
    assert board.cells.shape[:2] == (4, 3) and board.row_names == ("picture", "heat map") * 2
    assert board.captions == ("a", "b", "c", "", "", "", "d", "e", "", "", "", "")
    assert np.array_equal(board.cells[2, 1], x[4].transpose(1, 2, 0))
    assert np.array_equal(board.cells[3, 1], images.overlay(x, heat)[4].transpose(1, 2, 0))
    assert board.shown.tolist() == [[True] * 3] * 2 + [[True, True, False]] * 2
    figure = images.plot_heat_maps(x, heat, 3)
    assert len(figure.axes) == 2 and figure.axes[1].get_ylim() == (0, 1)
    np.testing.assert_allclose(figure.numbers["heat"], heat.mean((1, 2)), rtol=1e-5)
    with pytest.raises(ValueError, match="5 titles were expected, one a picture, found 2"):
        images.collect_heat_maps(x, heat, titles=["a", "b"])


def test_a_translation_is_a_row_a_picture():
    a, b, c, heat = noise(3), noise(3, seed=1), noise(3, seed=2), np.full((3, 2, 2), 0.5)
    board = images.collect_translation(a, b, c, heat, names=("cat", "dog", "cat again"))
    assert board.column_names == ("cat", "heat map", "dog", "cat again")
    for row, (column, part) in itertools.product(range(3), enumerate((a, images.overlay(a, heat), b, c))):
        assert np.array_equal(board.cells[row, column], part[row].transpose(1, 2, 0))
    assert images.collect_translation(a, b).column_names == ("source", "translated")
    assert {"cat", "dog", "heat map"} <= set(texts(images.plot_translation(a, b, None, heat, ("cat", "dog", "again"))))
    with pytest.raises(ValueError, match="all of one size, found 3 of 8 pixels in 'source', 2 of 8 pixels in 'translated'"):
        images.collect_translation(a, b[:2])


def test_the_animation_goes_there_and_back():
    x = noise(4)
    film = Image.open(io.BytesIO(images.animation(x, scale=2)))
    assert film.n_frames == 6 and film.info["loop"] == 0
    for i, expected in enumerate([0, 1, 2, 3, 2, 1]):
        film.seek(i)
        assert np.array_equal(np.asarray(film.convert("RGB"))[::2, ::2], x[expected].transpose(1, 2, 0))


def test_drawing_needs_no_torch():
    code = ("import sys, numpy as np\nfrom dgmlab.viz import plot_grid\nplot_grid(np.zeros((2, 3, 8, 8), np.uint8)).png()\n"
            "print([m for m in ('torch', 'matplotlib.pyplot', 'scipy') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
