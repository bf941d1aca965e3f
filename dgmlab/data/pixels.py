"""From an encoded picture to numbers and back: decode, fit to a square, scale to [-1, 1], mirror, crop, tile, write.

Letters: B batch, N pictures, C channels, H and W height and width, S side of a square. Stored pictures are uint8 RGB in
0..255; networks see float32 in [-1, 1]. Decoding is Pillow's alone.
"""

import contextlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from dgmlab.run import write_error

# antialiased when shrinking, unlike the resizing of most frameworks (Parmar et al. 2022, On Aliased Resizing)
FILTER = Image.Resampling.BICUBIC
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # the last bytes of a whole file


class Picture(NamedTuple):
    """One picture not yet decoded.

    content  path of a file (str), an encoded file (bytes), pixels (H, W) or (H, W, 3) uint8, or None where it is missing
    name     where it came from, for messages
    """

    content: object
    name: str


class Header(NamedTuple):
    """What is known of a picture without its pixels: stored width and height, Pillow's mode; or the problem of reading it."""

    width: int
    height: int
    mode: str
    problem: str | None = None


def to_float(x):
    """Pixels as networks see them: (...) uint8 in 0..255 -> (...) float32 in [-1, 1], x / 127.5 - 1."""
    if x.dtype != torch.uint8:
        raise TypeError(f"to_float takes uint8 pixels in 0..255, found {x.dtype}. Is it in [-1, 1] already?")
    return x.float().div_(127.5).sub_(1)


def to_uint8(x):
    """The inverse of `to_float`: (...) float in [-1, 1], values outside cut off -> (...) uint8 in 0..255, rounded."""
    return x.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def random_flip(x, generator):
    """Mirror each picture left to right with probability 1/2: (B, C, H, W) of any type -> the same, a new tensor.

    Equal in distribution to the `mirror` option of StyleGAN2, which doubles the data set. Wrong for digits and letters.
    generator  torch.Generator
    """
    mirrored = torch.rand(len(x), generator=generator, device=generator.device) < 0.5
    return torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(-1), x)


def random_crop(x, size, generator):
    """Cut a square out of each picture, each at its own place: (B, C, H, W) of any type -> (B, C, size, size).

    U-GAT-IT loads at 286 and crops 256 (Kim et al. 2020); that is size=S*256/286 here.
    generator  torch.Generator
    """
    n, _, height, width = x.shape
    if not 1 <= size <= min(height, width):
        raise ValueError(f"crops of {width} x {height} pictures must be 1 to {min(height, width)} pixels wide, found {size}.")
    draw = {"generator": generator, "device": generator.device}
    top = torch.randint(height - size + 1, (n, 1), **draw).to(x.device)
    left = torch.randint(width - size + 1, (n, 1), **draw).to(x.device)
    side = torch.arange(size, device=x.device)
    which = torch.arange(n, device=x.device)[:, None, None]
    crops = x[which, :, (top + side)[:, :, None], (left + side)[:, None, :]]  # (B, size, size, C): indices come first
    return crops.permute(0, 3, 1, 2).contiguous()


def tile(pictures, columns, gap=2):
    """Lay pictures out in rows, from left to right, in white: (N, 3, S, S) uint8 -> (3, H, W) uint8.

    columns  pictures in a row; the last row is filled up with white
    gap      white pixels between two pictures, none around them: H = rows * (S + gap) - gap, W alike
    """
    x = torch.as_tensor(pictures)
    if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] != 3 or not len(x):
        raise ValueError(f"pictures (N, 3, S, S) uint8 were expected, at least one, found {tuple(x.shape)} {x.dtype}.")
    if columns < 1 or gap < 0:
        raise ValueError(f"columns >= 1 and gap >= 0 were expected, found columns={columns}, gap={gap}.")
    rows = -(-len(x) // columns)
    height, width = x.shape[2] + gap, x.shape[3] + gap
    cells = x.new_full((rows * columns, 3, height, width), 255)
    cells[:len(x), :, :x.shape[2], :x.shape[3]] = x
    grid = cells.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4)  # (3, rows, height, columns, width)
    return grid.reshape(3, rows * height, columns * width)[:, :rows * height - gap, :columns * width - gap].contiguous()


def write_png(path, x):
    """Write the picture x (3, H, W) uint8 as a PNG, the old file or the new one but never half of it -> Path."""
    path, x = Path(path), torch.as_tensor(x)
    if x.dtype != torch.uint8 or x.ndim != 3 or x.shape[0] != 3:
        raise ValueError(f"a picture (3, H, W) uint8 was expected, found {tuple(x.shape)} {x.dtype}.")
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.permute(1, 2, 0).contiguous().cpu().numpy()).save(scratch, "PNG")
        os.replace(scratch, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise write_error(path, error) from error
    return path


def to_rgb(image):
    """An 8-bit RGB Image of any Image: grey is repeated, 16 bits are scaled, what is transparent shows white."""
    if image.mode.startswith("I;16"):  # convert would cut every value above 255 off
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"expected 8 or 16 bits a channel, found mode {image.mode}")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def fit(image, size, border=0):
    """The middle square of an Image, upright (EXIF), resized to `size`, RGB. -> (3, size, size) uint8 array

    border  black pixels put around it first: MNIST's 28 become 32 with 2
    """
    image = to_rgb(ImageOps.exif_transpose(image))
    if border:
        image = ImageOps.expand(image, border)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size != (size, size):
        image = image.resize((size, size), FILTER, box=(left, top, left + side, top + side))
    return np.asarray(image).transpose(2, 0, 1)


def look(picture):
    """The Header of a picture, decoding it only where its file does not end as a whole one does."""
    try:
        with _opened(picture) as image:
            if _cut_short(picture.content, image.format):
                image.load()  # raises if it is truncated; some whole files have bytes after their end
            return _header(image)
    except Exception as error:  # Pillow raises half a dozen kinds on broken files
        return Header(0, 0, "", _reason(error))


def decode(pictures, size, border=0):
    """Decode and fit pictures, on as many threads as torch uses (Pillow lets go of the interpreter's lock).

    pictures  list of N Picture
    -> (list of N Header, (N, 3, size, size) uint8 tensor); a picture with a problem is black
    """
    x, headers = np.zeros((len(pictures), 3, size, size), dtype=np.uint8), [None] * len(pictures)

    def work(rows):
        for i in rows:
            try:
                with _opened(pictures[i]) as image:
                    headers[i] = _header(image)
                    x[i] = fit(image, size, border)
            except Exception as error:  # as in look
                headers[i] = Header(0, 0, "", _reason(error))

    n_threads = torch.get_num_threads()
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, np.array_split(np.arange(len(pictures)), n_threads)))
    return headers, torch.from_numpy(x)


def _opened(picture):
    content = picture.content
    if content is None:
        raise ValueError("it holds no bytes")
    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)


def _header(image):
    hidden = image.has_transparency_data and image.mode not in ("RGBA", "LA", "PA")  # said outside the mode, in GIF and PNG
    return Header(*image.size, image.mode + (", transparent" if hidden else ""))


def _cut_short(content, form):
    if form not in ENDS or isinstance(content, np.ndarray):
        return False
    if isinstance(content, bytes):
        return not content.endswith(ENDS[form])
    with open(content, "rb") as file:
        file.seek(-len(ENDS[form]), io.SEEK_END)
        return file.read() != ENDS[form]


def _reason(error):
    """One line on why a picture cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that Pillow can read"
    reason = str(getattr(error, "strerror", None) or error).strip().splitlines() or [type(error).__name__]
    return reason[0].rstrip(".")
