"""An episode as something to keep: a GIF, and a page that plays without a kernel, without a server and without a network.

Both take pictures of one size, such as `plot_episode` draws for the steps of a trajectory, or the images that `render` made of
them, so that both files cost one drawing.
"""

import base64
import contextlib
import html
import io
import os
from pathlib import Path

from PIL import Image

from dgmlab.run import write_error
from dgmlab.viz import style

COLOURS = 128  # of a frame: flat colours and text need no more, and the files are a third of what they would be
DPI = 96
SECONDS, LAST = 1.6, 3.5  # that a step is shown, and the last one

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.5 "DejaVu Sans", Verdana, sans-serif; color: {ink}; background: white; margin: 24px auto;
        max-width: {width}px; padding: 0 12px }}
img {{ width: 100%; height: auto; display: block }}
nav {{ display: flex; gap: 8px; align-items: center; margin: 10px 0 }}
input {{ flex: 1 }}
button {{ font: inherit; color: {ink}; background: {tint}; border: 1px solid {faint}; border-radius: 5px; min-width: 44px;
          padding: 3px 10px }}
</style></head><body>
<h1 style="font-size: 19px">{title}</h1>
<nav><button id="back" aria-label="step back">&#9664;&#xFE0E;</button><button id="play">Play</button>
<button id="next" aria-label="step on">&#9654;&#xFE0E;</button>
<input id="slider" type="range" min="0" max="{last}" value="0" aria-label="step"><output id="count"></output></nav>
<img id="frame" alt="the episode, step by step">
<p style="color: {faint}">Arrow keys step, the space bar plays.</p>
<script>
const frames = [{frames}];
const at = name => document.getElementById(name), slider = at("slider");
let timer = null;
function show(step) {{
  slider.value = Math.max(0, Math.min(frames.length - 1, step));
  at("frame").src = "data:image/png;base64," + frames[slider.value];
  at("count").textContent = (+slider.value + 1) + " / " + frames.length;
}}
function stop() {{ clearInterval(timer); timer = null; at("play").textContent = "Play"; }}
function play() {{
  if (timer) return stop();
  if (+slider.value === frames.length - 1) show(0);
  at("play").textContent = "Pause";
  timer = setInterval(() => +slider.value < frames.length - 1 ? show(+slider.value + 1) : stop(), {pause});
}}
slider.oninput = () => {{ stop(); show(+slider.value); }};
at("play").onclick = play;
at("back").onclick = () => {{ stop(); show(+slider.value - 1); }};
at("next").onclick = () => {{ stop(); show(+slider.value + 1); }};
document.onkeydown = event => {{
  const keys = {{ArrowLeft: at("back").onclick, ArrowRight: at("next").onclick, " ": play}};
  if (keys[event.key]) {{ event.preventDefault(); keys[event.key](); }}
}};
show(0);
</script></body></html>
"""


def render(pictures):
    """Pictures of one size as images of few colours -> list of PIL images; those that already are images stay as they are"""
    pictures = list(pictures)
    if pictures and all(isinstance(picture, Image.Image) for picture in pictures):
        return pictures
    images = [Image.open(io.BytesIO(picture.png(DPI, tight=False))).convert("RGB") for picture in pictures]
    if not images:
        raise ValueError("a film of at least one picture was expected, found none.")
    if len({image.size for image in images}) > 1:
        sizes = ", ".join(sorted({f"{wide} x {high}" for wide, high in (image.size for image in images)}))
        raise ValueError(f"pictures of one size were expected, found {sizes} pixels. Draw them all for one episode.")
    return [image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for image in images]


def save_gif(pictures, path, seconds=SECONDS):
    """The pictures one after the other, forever, as a GIF -> Path. seconds: that each is shown; the last one stays longer."""
    images = render(pictures)
    buffer = io.BytesIO()
    times = [round(1000 * seconds)] * (len(images) - 1) + [round(1000 * max(seconds, LAST))]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0, disposal=1)
    return _write(path, buffer.getvalue())


def save_page(pictures, path, title="an episode", seconds=SECONDS):
    """The pictures as one HTML file with play, pause, a slider and arrow keys; everything it needs is inside -> Path"""
    images, encoded = render(pictures), []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        encoded.append(f'"{base64.b64encode(buffer.getvalue()).decode()}"')
    page = PAGE.format(title=html.escape(title), frames=",\n".join(encoded), last=len(images) - 1, width=images[0].width,
                       pause=round(1000 * seconds), ink=style.INK, faint=style.FAINT, tint=style.TINT)
    return _write(path, page.encode())


def _write(path, content):
    """Put a file in its place as a whole or not at all -> Path"""
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(content)
        os.replace(scratch, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise write_error(path, error) from error
    return path
