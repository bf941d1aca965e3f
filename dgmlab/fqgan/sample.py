"""A trained GAN as a folder: save it, load it, draw pictures from it, walk through its latents. No data set is needed.

    python -m dgmlab.fqgan.sample runs/21_biggan_train/cifar10 --n 64 --classes cat,dog --truncation 0.7 --out grid.png

    about.json       kind, head, class names, image size, dictionaries, and what the training loop says besides
    generator/       config.json, model.safetensors; `from_pretrained` of its class reads it too
    discriminator/   the same; its dictionaries come back by `load_trained` only

Letters: N pictures, S side in pixels, Z latent.
"""

import argparse
import contextlib
import math
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dgmlab.command import MISTAKES, guarded
from dgmlab.config import from_params, unknown_name
from dgmlab.data.pixels import tile, to_uint8, write_png
from dgmlab.fqgan.attach import FeatureQuantizer, add_fq
from dgmlab.fqgan.biggan import BigGANConfig, Generator
from dgmlab.fqgan.stylegan import StyleGANGenerator
from dgmlab.fqgan.stylegan_discriminator import StyleGANDiscriminator
from dgmlab.fqgan.tacgan import DISCRIMINATORS
from dgmlab.run import read_json, write_error, write_json

KINDS = ("biggan", "stylegan")


class Trained(NamedTuple):
    """A GAN in evaluation mode.

    kind         'biggan' | 'stylegan'
    G            Generator | StyleGANGenerator
    D            its discriminator with the dictionaries, or None where none was saved
    class_names  tuple of str, the numbers where no names were saved; () of an unconditional model
    about        what about.json says: the above and head, fq, image_size, step, data ...
    """

    kind: str
    G: nn.Module
    D: nn.Module | None
    class_names: tuple
    about: dict


def save_trained(folder, kind, generator, discriminator=None, fq=None, head="projection", class_names=(), **about):
    """Write a trained GAN so that `load_trained` rebuilds it; the folder (RUN/model) is replaced as a whole.

    kind         'biggan' | 'stylegan'
    generator    usually the averaged one; unwrapped, as is the discriminator
    fq           the dictionaries of the discriminator: None, or {"layers": [...], "n_codes": int or [...], and the options
                 that `add_fq` was given}
    head         of BigGAN's discriminator: projection | ac | tac
    class_names  one for each class, or ()
    about        what else is worth knowing, e.g. step and data: numbers, strings, lists
    -> Path of the folder
    """
    folder = Path(folder)
    _check_kind(kind)
    n_classes = generator.config.n_classes if kind == "biggan" else 0
    if class_names and kind == "biggan" and len(class_names) != n_classes:
        raise ValueError(f"{n_classes} class names were expected, one for each class of the model, found {len(class_names)}.")
    found = [part.layer for part in discriminator.modules() if isinstance(part, FeatureQuantizer)] if discriminator else []
    if sorted(found) != sorted(fq["layers"] if fq else []):
        raise ValueError(f"the discriminator has dictionaries at {found}, but fq says {fq and fq['layers']}. Pass what "
                         "add_fq was given: fq={'layers': [...], 'n_codes': ...}.")
    about = {**about, "kind": kind, "head": head, "image_size": _image_size(generator), "fq": fq,
             "class_names": list(class_names)}
    scratch = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # what a killed process left
        generator.save_pretrained(scratch / "generator")
        if discriminator is not None:
            discriminator.save_pretrained(scratch / "discriminator")
        write_json(scratch / "about.json", about)
        _put_in_place(scratch, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise write_error(folder, error if isinstance(error, OSError) else OSError(28, "No space left on device")) from error
    return folder


def _put_in_place(scratch, folder):
    """Two renames: a folder that holds files cannot be replaced in one. If the second fails, what was there comes back."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(scratch, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def load_trained(folder):
    """The GAN of a folder written by `save_trained`, or of a run folder with such a folder `model/` inside -> Trained.

    Parameters, averages and dictionaries are those that were saved, to the bit; on the CPU, in evaluation mode.
    FileNotFoundError  there is no model
    ValueError         it is of an unknown kind, or its files are damaged or do not fit each other
    """
    folder = _find_model(Path(folder))
    about = read_json(folder / "about.json")
    if not isinstance(about, dict):
        raise ValueError(f"{folder / 'about.json'} holds no JSON object. Restore it, or train again.")
    kind, head = about.get("kind"), about.get("head", "projection")
    _check_kind(kind)
    if head not in DISCRIMINATORS:
        raise KeyError(unknown_name(head, DISCRIMINATORS, "head of a discriminator"))
    classes = (Generator, DISCRIMINATORS[head]) if kind == "biggan" else (StyleGANGenerator, StyleGANDiscriminator)
    G = _rebuild(classes[0], kind, folder / "generator")
    D = _rebuild(classes[1], kind, folder / "discriminator", about.get("fq")) if (folder / "discriminator").exists() else None
    names = (about.get("class_names") or map(str, range(G.config.n_classes))) if kind == "biggan" else ()
    return Trained(kind, G, D, tuple(names), about)


@torch.inference_mode()
def sample(folder_or_trained, n=16, classes=None, truncation=1.0, seed=0, batch_size=64):
    """Pictures of a trained GAN -> (n, 3, S, S) uint8. Picture i of a seed does not depend on n or batch_size.

    folder_or_trained  a folder for `load_trained`, or a Trained, e.g. Trained("biggan", G_ema, None, names, {})
    classes            the classes of the pictures, in turn: numbers, names, or one of them; None takes all classes in turn
    truncation         in (0, 1]: 1 leaves the latents as they are; less gives better but more similar pictures. StyleGAN: psi
                       of `StyleGANGenerator.forward`. BigGAN: the values of z are those of a normal cut off at +-2 truncation
                       (Brock et al. 2019, section 3.1, with thresholds 2 to 0.04; its samples in public have that factor 2);
                       they are moved within the limits instead of drawn again, which has the same distribution and lets a
                       picture change smoothly with the truncation
    seed               of the latents; they are drawn on the CPU, so a GPU shows the same pictures
    ValueError         a truncation outside (0, 1], no picture at all, or a class asked of an unconditional model
    KeyError           a class that does not exist
    """
    trained = _taken(folder_or_trained)
    if n < 1 or batch_size < 1:
        raise ValueError(f"n and batch_size of at least 1 were expected, found n={n}, batch_size={batch_size}.")
    z = _latents(trained, n, truncation, seed)
    wanted = _classes(trained, classes)
    if not wanted:
        return _pictures(trained.G, batch_size, lambda z: trained.G(z, psi=truncation, noise="fixed"), z)
    return _pictures(trained.G, batch_size, trained.G, z, _in_turn(wanted, n))


@torch.inference_mode()
def walk(folder_or_trained, seeds=(0, 1, 2, 3), classes=None, n_between=8, truncation=1.0, batch_size=64):
    """A walk from the first picture of one seed to that of the next -> (N, 3, S, S) uint8.

    n_between  pictures between two seeds: N = (number of seeds - 1) (n_between + 1) + 1
    classes    of the seeds, in turn, as in `sample`
    BigGAN's z goes along the great arc with the lengths interpolated, which keeps the norm that samples have; its classes are
    mixed in the shared embedding, and change half-way in a model that has none. StyleGAN's w goes straight.
    """
    trained = _taken(folder_or_trained)
    if len(seeds) < 2 or n_between < 0:
        raise ValueError(f"at least two seeds and n_between >= 0 were expected, found seeds={seeds}, n_between={n_between}.")
    G, where = trained.G, _device(trained.G)
    ends = torch.cat([_latents(trained, 1, truncation, seed) for seed in seeds])  # (E, Z)
    place = torch.arange((len(seeds) - 1) * (n_between + 1) + 1) / (n_between + 1)
    start = place.long().clamp(max=len(seeds) - 2)  # (N,) the seed that a picture comes from
    share = (place - start)[:, None]  # (N, 1) of the way to the next
    wanted = _classes(trained, classes)
    if not wanted:
        with _evaluation(G):  # in training, the mapping would follow the mean of these few
            ws = G.mapping.w_avg.lerp(G.mapping(ends.to(where)), truncation).cpu()  # (E, S)
        return _pictures(G, batch_size, lambda w: G.synthesize(w[:, None].expand(-1, G.n_styles, -1), noise="fixed"),
                         ws[start].lerp(ws[start + 1], share))
    z, y = _arc(ends[start], ends[start + 1], share), _in_turn(wanted, len(seeds))
    if G.config.shared_size:
        embedded = G.shared(y.to(where)).cpu()  # (E, S)
        y = embedded[start].lerp(embedded[start + 1], share)
    else:
        y = y[(place + 0.5).long().clamp(max=len(seeds) - 1)]
    return _pictures(G, batch_size, G, z, y)


def _arc(a, b, share):
    """Spherical interpolation with the lengths interpolated linearly: a, b (N, Z), share (N, 1) in [0, 1] -> (N, Z)"""
    lengths = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    cosine = (a * b).sum(1, keepdim=True) / (lengths[0] * lengths[1])
    angle = cosine.clamp(-1, 1).acos()
    arc = (torch.sin((1 - share) * angle) * a / lengths[0] + torch.sin(share * angle) * b / lengths[1]) / angle.sin()
    return torch.where(angle.sin() < 1e-4, a.lerp(b, share), arc * torch.lerp(*lengths, share))


def _latents(trained, n, truncation, seed):
    """z (n, Z) float32, a row at a time: torch draws a large tensor in another order than a small one."""
    if not 0 < truncation <= 1:
        raise ValueError(f"truncation is {truncation}; above 0 and up to 1 was expected (1 leaves the latents as they are).")
    size = trained.G.config.latent_size if trained.kind == "biggan" else trained.G.z_dim
    generator = torch.Generator().manual_seed(seed)
    z = torch.stack([torch.randn(size, generator=generator) for _ in range(n)])
    if trained.kind == "stylegan" or truncation == 1:
        return z
    outside = torch.special.ndtr(torch.tensor(-2.0 * truncation, dtype=torch.float64))  # share of a normal below the limits
    return torch.special.ndtri(outside + torch.special.ndtr(z.double()) * (1 - 2 * outside)).float()


def _pictures(G, batch_size, draw, *inputs):
    """(N, 3, S, S) uint8 that `draw` makes of its inputs (N, ...), a batch at a time, in evaluation mode of G."""
    with _evaluation(G):
        return torch.cat([to_uint8(draw(*(part.to(_device(G)) for part in batch))).cpu()
                          for batch in zip(*(part.split(batch_size) for part in inputs), strict=True)])


@contextlib.contextmanager
def _evaluation(G):
    """Within the block G does not learn: BatchNorm would mix the pictures of a batch."""
    was_training = G.training
    try:
        yield G.eval()
    finally:
        G.train(was_training)


def _in_turn(classes, n):
    """(n,) long, the classes over and over."""
    return torch.tensor([classes[i % len(classes)] for i in range(n)])


def _classes(trained, classes):
    """The numbers of the classes asked for, all where None; [] of an unconditional model."""
    if trained.kind == "stylegan":
        if classes is not None:
            raise ValueError(f"this StyleGAN is unconditional, it has no class {classes!r}. Leave classes out.")
        return []
    n, names = trained.G.config.n_classes, trained.class_names
    if classes is None:
        return list(range(n))
    numbers = {**{str(i): i for i in range(n)}, **{name: i for i, name in enumerate(names)}}
    asked = [classes] if isinstance(classes, str | int) else list(classes)
    if not asked:
        raise ValueError("at least one class was expected, found none. None takes all.")
    for one in asked:
        if (one not in numbers) if isinstance(one, str) else not 0 <= one < n:
            what = f"class of this model (a name, or a number from 0 to {n - 1})"
            raise KeyError(unknown_name(one, names or range(n), what))
    return [numbers[one] if isinstance(one, str) else int(one) for one in asked]


def _taken(folder_or_trained):
    return folder_or_trained if isinstance(folder_or_trained, Trained) else load_trained(folder_or_trained)


def _device(module):
    return next(module.parameters()).device


def _image_size(G):
    return G.config.resolution if isinstance(G, Generator) else 4 * 2 ** len(G.blocks)


def _check_kind(kind):
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; choose one of: {', '.join(KINDS)}.")


def _find_model(folder):
    """The folder of the model: the given one, or model/ inside it."""
    for found in (folder, folder / "model"):
        if (found / "about.json").exists():
            return found
    inside = sorted(str(path.parent.parent.relative_to(folder)) for path in folder.glob("*/model/about.json"))
    advice = f"Name one of those inside: {', '.join(inside)}." if inside else (
        "Train one (`dgmlab run 21`, or 23 for StyleGAN), and name its run folder.")
    raise FileNotFoundError(f"{folder} has no trained GAN, model/about.json was expected. {advice}")


def _rebuild(cls, kind, folder, fq=None):
    """The network of a folder, with its dictionaries, in evaluation mode; `from_pretrained` passes over what is missing."""
    config = read_json(folder / "config.json")
    if config is None or not (folder / "model.safetensors").exists():
        raise FileNotFoundError(f"{folder} is incomplete: config.json and model.safetensors were expected. Train it again.")
    model = cls(from_params(BigGANConfig, config)) if kind == "biggan" else cls(**config)
    if fq:
        x = torch.zeros(1, 3, config["resolution"], config["resolution"])
        add_fq(model, example=(x, torch.zeros(1, dtype=torch.long)) if kind == "biggan" else (x,), **fq)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (RuntimeError, SafetensorError) as error:
        first = " ".join(str(error).split())[:300]
        raise ValueError(f"{folder} cannot be loaded ({first}). Restore it, or train it again.") from None
    return model.eval()


def main(arguments=None):
    """Draw a grid of pictures into a PNG; a user's mistake is one line and exit code 2."""
    parser = argparse.ArgumentParser("python -m dgmlab.fqgan.sample", description="Draw pictures from a trained GAN.")
    parser.add_argument("folder", help="run folder, or its folder model/")
    parser.add_argument("--n", type=int, default=64, help="number of pictures [64]")
    parser.add_argument("--classes", help="numbers or names with commas between, e.g. 3,7; they take turns [all]")
    parser.add_argument("--truncation", type=float, default=1.0, help="above 0 and up to 1; 1 is none [1.0]")
    parser.add_argument("--seed", type=int, default=0, help="of the latents [0]")
    parser.add_argument("--columns", type=int, help="pictures in a row [one for each of up to 16 classes, else a square]")
    parser.add_argument("--device", default="cpu", help="e.g. cuda [cpu]")
    parser.add_argument("--out", default="grid.png", help="the picture to write [grid.png]")
    asked = parser.parse_args(arguments)

    def draw():
        trained = load_trained(asked.folder)
        trained.G.to(asked.device)
        wanted = [word.strip() for word in asked.classes.split(",")] if asked.classes is not None else None
        pictures = sample(trained, asked.n, wanted, asked.truncation, asked.seed)
        n_classes = len(_classes(trained, wanted))
        square = math.ceil(math.sqrt(asked.n))
        columns = asked.columns if asked.columns is not None else n_classes if 1 < n_classes <= 16 else square
        path = write_png(asked.out, tile(pictures, columns))
        print(f"{len(pictures)} pictures of {pictures.shape[3]} x {pictures.shape[2]} pixels: {path}")

    return guarded(draw, (*MISTAKES, RuntimeError))  # torch's word for a device that is not there


if __name__ == "__main__":
    sys.exit(main())
