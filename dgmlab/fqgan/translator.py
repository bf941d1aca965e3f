"""A trained U-GAT-IT in use: from the folder of a run to translated pictures, in one line or from the command line.

    translate("runs/cat2dog", pictures, direction="ba")             (N, 3, S, S) uint8 of domain b -> of domain a
    python -m dgmlab.fqgan.translate runs/cat2dog my/dogs --direction ba --out cats/
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import torch

from dgmlab.command import guarded
from dgmlab.data import pixels
from dgmlab.data.image_folders import SUFFIXES
from dgmlab.fqgan.ugatit import UGATITGenerator
from dgmlab.run import locate, read_json, write_json


class Translator(NamedTuple):
    """The two generators, a to b and b to a, and what is known of their training."""

    ab: UGATITGenerator
    ba: UGATITGenerator
    about: dict


class Translated(NamedTuple):
    """pictures (N, 3, S, S) uint8; heat_maps (N, S/4, S/4) float in [0, 1], what the generator looked at; back (N, 3, S, S)
    uint8, the pictures translated back."""

    pictures: torch.Tensor
    heat_maps: torch.Tensor
    back: torch.Tensor


def save_trained(folder, G, D, **about):
    """model/ with generator_ab/, generator_ba/, discriminators/ (config.json and safetensors each) and about.json."""
    for name, net in (("generator_ab", G.ab), ("generator_ba", G.ba), ("discriminators", D)):
        net.save_pretrained(Path(folder) / name)
    write_json(Path(folder) / "about.json", about)


def load_translator(folder):
    """The generators of a run folder, or of its model/ folder, in evaluation mode -> Translator

    The discriminators are there too: `Discriminators.from_pretrained(folder / "discriminators")`.
    """
    folder = locate(folder)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    about = read_json(folder / "about.json")
    if about is None or not (folder / "generator_ab").is_dir():
        raise FileNotFoundError(f"a trained translator was expected in {folder} (about.json, generator_ab/, generator_ba/). "
                                "Train one with 24_ugatit_train.")
    return Translator(*(UGATITGenerator.from_pretrained(folder / f"generator_{side}").eval() for side in ("ab", "ba")), about)


@torch.no_grad()
def translate(translator, pictures, direction="ab", batch_size=32):
    """Pictures of one domain as ones of the other.

    translator  Translator, or the folder of a run
    pictures    (N, 3, S, S) uint8; S is the size of training, or with light generators any multiple of 4
    direction   ab | ba
    -> Translated, on the CPU
    """
    if not isinstance(translator, Translator):
        translator = load_translator(translator)
    if direction not in ("ab", "ba"):
        raise ValueError(f"direction is '{direction}'; choose one of: ab, ba.")
    there, back = (translator.ab, translator.ba) if direction == "ab" else (translator.ba, translator.ab)
    device, found = next(there.parameters()).device, []
    for x in pictures.split(batch_size):
        made = there(pixels.to_float(x).to(device))
        found.append((pixels.to_uint8(made.images), made.heat_map, pixels.to_uint8(back(made.images).images)))
    return Translated(*(torch.cat(each).cpu() for each in zip(*found, strict=True)))


# the command


def main(arguments=None):
    """Parse, translate, write; a user's mistake is one line and exit code 2."""
    parser = argparse.ArgumentParser("python -m dgmlab.fqgan.translate",
                                     description="Translate pictures from one domain to the other with a trained U-GAT-IT.")
    parser.add_argument("folder", help="run folder, or its model/")
    parser.add_argument("pictures", help="a picture, or a folder of them, read with all its subfolders")
    parser.add_argument("--direction", default="ab", help="ab: from the first domain to the second (default) | ba: back")
    parser.add_argument("--out", required=True, help="folder for the translations, NAME.png each; made where it is missing")
    parser.add_argument("--size", type=int, help="side in pixels, for light generators; default: that of training")
    parser.add_argument("--back", action="store_true", help="also write NAME-back.png, the picture translated there and back")
    asked = parser.parse_args(arguments)

    def write():
        n = translate_files(asked.folder, asked.pictures, asked.direction, asked.out, asked.size, asked.back)
        print(f"{n} pictures translated into {asked.out}")

    return guarded(write)


def translate_files(folder, source, direction, out, size=None, back=False, batch_size=32):
    """Translate a picture, or a folder of them, into PNGs of the same names in `out` -> number of pictures

    Each is made square (its middle) and brought to the size of training, or to `size`.
    """
    translator, source, out = load_translator(folder), Path(source).expanduser(), Path(out).expanduser()
    paths = list_pictures(source)
    root = source if source.is_dir() else source.parent
    names = [path.relative_to(root).with_suffix("") for path in paths]
    if twice := {str(name) for name in names if names.count(name) > 1}:
        raise ValueError(f"{source} has several pictures called {min(twice)}; one of each name was expected. Rename them.")
    size = size or translator.about["image_size"]
    for start in range(0, len(paths), batch_size):
        part = slice(start, start + batch_size)
        headers, x = pixels.decode([pixels.Picture(str(path), str(path)) for path in paths[part]], size)
        if broken := [(path, header.problem) for path, header in zip(paths[part], headers, strict=True) if header.problem]:
            raise ValueError(f"{broken[0][0]} cannot be read ({broken[0][1]}). Repair or remove it.")
        made = translate(translator, x, direction)
        for name, picture, returned in zip(names[part], made.pictures, made.back, strict=True):
            pixels.write_png(out / f"{name}.png", picture)
            if back:
                pixels.write_png(out / f"{name}-back.png", returned)
    return len(paths)


def list_pictures(source):
    """The file `source`, or every picture below the folder `source` -> list of Path"""
    if source.is_file():
        return [source]
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise FileNotFoundError(f"a picture, or a folder with pictures, was expected at {source}, found none. Check the path.")
    return found
