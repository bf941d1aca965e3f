"""One picture: every mode to RGB, the middle square, [-1, 1] and back, mirrors, crops, tiles; broken files are told apart."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dgmlab.data.pixels import (
    Picture,
    decode,
    fit,
    look,
    random_crop,
    random_flip,
    tile,
    to_float,
    to_rgb,
    to_uint8,
    write_png,
)


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_pixels_to_floats_and_back():
    x = torch.arange(256, dtype=torch.uint8)
    floats = to_float(x)
    assert floats.dtype == torch.float32 and floats[[0, 255]].tolist() == [-1.0, 1.0]
    torch.testing.assert_close(floats.double(), x.double() / 127.5 - 1, atol=1e-7, rtol=0)
    assert torch.equal(to_uint8(floats), x)
    assert torch.equal(to_uint8(floats.bfloat16().float() * 0 + 3), torch.full((256,), 255, dtype=torch.uint8))
    assert to_uint8(torch.tensor([-7.0, 0.0, 1 / 127.5, 0.4 / 127.5])).tolist() == [0, 128, 128, 128]
    with pytest.raises(TypeError, match=r"to_float takes uint8 pixels in 0..255, found torch.float32. Is it in \[-1, 1\] alr"):
        to_float(floats)


def test_flip_mirrors_about_half_and_leaves_the_others():
    x = torch.from_numpy(noise(400, 3, 4, 5))
    before = x.clone()
    flipped = random_flip(x, torch.Generator().manual_seed(0))
    mirrored = torch.tensor([torch.equal(new, old.flip(-1)) for new, old in zip(flipped, x, strict=True)])
    same = torch.tensor([torch.equal(new, old) for new, old in zip(flipped, x, strict=True)])
    assert (mirrored ^ same).all() and 150 < mirrored.sum() < 250
    assert torch.equal(flipped, random_flip(x, torch.Generator().manual_seed(0))) and torch.equal(x, before)
    assert not torch.equal(flipped, random_flip(x, torch.Generator().manual_seed(1)))


@given(height=st.integers(3, 9), width=st.integers(3, 9), size=st.integers(1, 3), seed=st.integers(0, 99))
def test_crops_are_pieces_of_their_own_picture(height, width, size, seed):
    x = torch.arange(5 * 3 * height * width).view(5, 3, height, width)  # every number once, so a crop tells where it was
    crops = random_crop(x, size, torch.Generator().manual_seed(seed))
    assert crops.shape == (5, 3, size, size)
    for i in range(5):
        place = int(crops[i, 0, 0, 0]) - i * 3 * height * width
        top, left = divmod(place, width)
        assert torch.equal(crops[i], x[i, :, top : top + size, left : left + size])


def test_crops_reach_every_place_and_refuse_larger_ones():
    x = torch.arange(9).view(1, 1, 3, 3).expand(300, 1, 3, 3)
    assert set(random_crop(x, 2, torch.Generator().manual_seed(0))[:, 0, 0, 0].tolist()) == {0, 1, 3, 4}
    assert torch.equal(random_crop(x, 3, torch.Generator()), x)
    with pytest.raises(ValueError, match="crops of 3 x 3 pictures must be 1 to 3 pixels wide, found 4"):
        random_crop(x, 4, torch.Generator())


@given(n=st.integers(1, 9), columns=st.integers(1, 5), gap=st.integers(0, 3), side=st.integers(1, 4))
def test_tiles_are_the_pictures_in_rows_on_white(n, columns, gap, side):
    x = torch.from_numpy(noise(n, 3, side, side, seed=n))
    grid, rows = tile(x, columns, gap), -(-n // columns)
    assert grid.dtype == torch.uint8 and grid.shape == (3, rows * (side + gap) - gap, columns * (side + gap) - gap)
    left = torch.ones(grid.shape[1:], dtype=torch.bool)
    for i in range(n):
        top, start = (i // columns) * (side + gap), (i % columns) * (side + gap)
        place = (slice(top, top + side), slice(start, start + side))
        assert torch.equal(grid[:, *place], x[i])
        left[place] = False
    assert (grid[:, left] == 255).all()
    assert torch.equal(tile(x.numpy(), columns, gap), grid)


def test_tile_refuses_what_is_no_stack_of_pictures():
    for wrong in (torch.zeros(2, 3, 4, 4), torch.zeros(3, 4, 4).byte(), torch.zeros(0, 3, 4, 4).byte()):
        with pytest.raises(ValueError, match=r"pictures \(N, 3, S, S\) uint8 were expected, at least one, found"):
            tile(wrong, 2)
    with pytest.raises(ValueError, match="columns >= 1 and gap >= 0 were expected, found columns=0, gap=2"):
        tile(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 0)


def test_png_holds_the_pixels_and_replaces_the_old_file_whole(tmp_path, monkeypatch):
    x = torch.from_numpy(noise(3, 5, 7))
    path = write_png(tmp_path / "new" / "a.png", x)
    assert path.name == "a.png" and list(path.parent.iterdir()) == [path]
    assert (np.asarray(Image.open(path)).transpose(2, 0, 1) == x.numpy()).all()

    def half(image, file, form):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match=r"cannot write .*a\.png: No space left on device"):
        write_png(path, x)
    assert list(path.parent.iterdir()) == [path] and look(Picture(str(path), "a")).problem is None
    with pytest.raises(ValueError, match=r"a picture \(3, H, W\) uint8 was expected, found \(5, 7\) torch.uint8"):
        write_png(path, x[0])


def test_every_mode_becomes_the_rgb_one_sees():
    grey = noise(6, 7)
    assert (np.asarray(to_rgb(Image.fromarray(grey))) == grey[..., None]).all()
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode == "I;16" and (np.asarray(to_rgb(deep)) == grey[..., None]).all()
    rgba = noise(6, 7, 4)
    rgba[0, 0] = (200, 100, 50, 0)
    rgba[0, 1] = (200, 100, 50, 255)
    rgba[0, 2] = (0, 0, 0, 102)  # 40 % black on white
    found = np.asarray(to_rgb(Image.fromarray(rgba)))
    assert found[0, :3].tolist() == [[255, 255, 255], [200, 100, 50], [153, 153, 153]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    assert np.asarray(to_rgb(palette)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    clear = Image.open(io.BytesIO(encoded(palette, transparency=0)))
    assert np.asarray(to_rgb(clear)).tolist() == [[[255, 255, 255], [40, 50, 60]]]
    with pytest.raises(ValueError, match="expected 8 or 16 bits a channel, found mode F"):
        to_rgb(Image.new("F", (2, 2)))


def test_fit_takes_the_middle_square_upright():
    wide = noise(4, 9, 3)
    assert (fit(Image.fromarray(wide), 4) == wide[:, 2:6].transpose(2, 0, 1)).all()
    tall = noise(8, 4, 3)
    assert (fit(Image.fromarray(tall), 4) == tall[2:6].transpose(2, 0, 1)).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    turned = Image.open(io.BytesIO(encoded(Image.fromarray(tall), exif=exif)))
    assert (fit(turned, 4) == np.rot90(tall, -1)[:, 2:6].transpose(2, 0, 1)).all()
    bordered = fit(Image.fromarray(noise(28, 28)), 32, border=2)
    assert (bordered[:, 2:30, 2:30] == noise(28, 28)).all()
    assert bordered.sum(dtype=int) == 3 * noise(28, 28).sum(dtype=int)


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    found = fit(Image.fromarray(stripes), 16)
    assert found.shape == (3, 16, 16) and abs(found.astype(int) - 127.5).max() < 16  # a resize that skips gives 0 or 255


def test_decode_gives_all_in_order_whatever_the_threads(tmp_path):
    pixels = [noise(8, 8, 3, seed=i) for i in range(7)]
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    pictures = [Picture(str(tmp_path / "a.png"), "a.png"), *(Picture(encoded(Image.fromarray(p)), "b") for p in pixels[1:6])]
    pictures.append(Picture(pixels[6], "c"))
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        headers, x = decode(pictures, 8)
    finally:
        torch.set_num_threads(n_threads)
    assert x.dtype == torch.uint8 and (x.numpy() == np.stack(pixels).transpose(0, 3, 1, 2)).all()
    assert headers == [(8, 8, "RGB", None)] * 7 == [look(picture) for picture in pictures]
    assert decode([], 8)[1].shape == (0, 3, 8, 8)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_truncated_pictures_are_found_without_decoding_the_whole_ones(form, tmp_path, monkeypatch):
    whole = encoded(Image.fromarray(noise(64, 64, 3)), form)
    path = tmp_path / "cut"
    path.write_bytes(whole[: len(whole) // 2])
    for content in (whole[: len(whole) // 2], str(path)):
        assert "trunca" in look(Picture(content, "cut")).problem
        headers, x = decode([Picture(content, "cut"), Picture(whole, "whole")], 16)
        assert "trunca" in headers[0].problem and headers[1].problem is None
        assert x[0].sum() == 0 < x[1].sum()
    assert look(Picture(whole + b"trailing bytes of a camera", "x")) == (64, 64, "RGB", None)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded a whole picture for its header"))
    assert look(Picture(whole, "whole")) == (64, 64, "RGB", None)


@pytest.mark.parametrize(
    "content, problem",
    [(b"", "not a picture that Pillow can read"), (b"GIF89a nonsense", "not a picture that Pillow can read"),
     (None, "it holds no bytes"), ("gone.png", "No such file or directory")],
)
def test_the_problem_of_a_picture_is_one_line(content, problem):
    for header in (look(Picture(content, "x")), decode([Picture(content, "x")], 4)[0][0]):
        assert header.problem == problem
