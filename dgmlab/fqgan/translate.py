"""Translation between two sets of pictures that do not belong together: U-GAT-IT, trained and used (Kim et al. 2020).

    train(run, TranslateConfig("cat2dog", "", image_size=64))       resumes where the folder has state; leaves model/
    translate("runs/cat2dog", pictures, direction="ba")             (N, 3, S, S) uint8 of domain b -> of domain a
    python -m dgmlab.fqgan.translate runs/cat2dog my/dogs --direction ba --out cats/

Style transfer is the same thing: photos are one domain, paintings the other. With `fq` the global discriminators have
dictionaries at the layers where FQ-GAN put them (Zhao et al. 2020, section 4.3).
"""

import contextlib
import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from dgmlab import training
from dgmlab.data import pixels
from dgmlab.data.images import load_pair
from dgmlab.data.registry import data_home
from dgmlab.fqgan.cycle import Discriminators, Generators, cycle_terms, least_squares, n_layers
from dgmlab.fqgan.source import ImageStream, micro_slices
from dgmlab.fqgan.spectral import held_spectral_norm
from dgmlab.fqgan.translator import Translator, load_translator, main, save_trained, translate
from dgmlab.fqgan.ugatit import clip_rho
from dgmlab.fqgan.watch import code_signals
from dgmlab.metrics.extractors import Extractor, extract, load_extractor, trained_extractor
from dgmlab.metrics.scores import Features, kernel_score
from dgmlab.quantize import frozen, update_dictionaries
from dgmlab.run import write_json

__all__ = ["TranslateConfig", "load_translator", "train", "translate"]

LEARNT_FROM = 300  # pictures a domain that an extractor trained in place sees, at most EXTRACTOR_SIDE pixels wide
EXTRACTOR_SIDE = 32
SUBSET = 1000  # pictures in a subset of the kernel distance, where there are as many


@dataclass(frozen=True)
class TranslateConfig:
    """What a training run of U-GAT-IT is made of. In brackets the values of the paper or its code, and of FQ-GAN's."""

    data: str = "digits"  # a pair of `load_pair`, a folder with trainA and trainB, or the first domain, with `other`
    other: str = "chalk"  # the second domain: a set or folder; '' where `data` is both
    image_size: int = 32  # side of the pictures, a multiple of 4 [256]
    light: bool = True  # gamma and beta from the mean of the features: far fewer parameters [false]
    channels: int = 8  # width of all networks at full size [64]
    n_blocks: int = 2  # residual blocks before and after the attention [4]
    n_global: int = 0  # layers of the global discriminators; 0: by the size [7 at 256 pixels]
    n_local: int = 0  # layers of the local ones; 0: by the size [5 at 256 pixels]
    limit: int = 0  # training pictures of each domain; 0 takes all
    zoom: float = 286 / 256  # pictures are loaded so much larger, and crops are cut out [286 / 256]
    mirror: bool = False  # mirror pictures at random; wrong for digits and letters [true]
    fq: str = "off"  # off | quantize (the paper) | regularize (the released code) | warmup (from this to that)
    fq_layers: str = "blocks.1,blocks.2"  # layers of the global discriminators with a dictionary [blocks.1 to blocks.3]
    n_codes: str = "64,128"  # K of each, or one for all [64,128,128]
    fq_decay: float = 0.85  # lambda of its averages [0.85]
    commit_weight: float = 2.0  # alpha of the commitment term [2.0]
    fq_warmup: int = 1000  # updates that `warmup` takes
    fq_from_g: bool = True  # the pictures of the generators' step move the dictionaries too [true]
    adversarial: float = 1.0  # weight of the least squares [1]
    cycle: float = 10.0  # weight of there and back again [10]
    identity: float = 2.0  # weight of leaving the target domain alone [10]
    cam: float = 10.0  # weight of the attention's classifier; 1000 over few steps is all that is learnt [1000]
    n_steps: int = 120  # steps of both players [1,000,000]
    batch_size: int = 4  # pictures of each domain per step over all ranks [1]
    accumulate: int = 1  # micro-batches a step is split into [1]
    lr: float = 2e-3  # Adam's, constant for the first half of the run, then linearly down to 0 [1e-4]
    beta1: float = 0.5  # Adam's first decay [0.5]
    beta2: float = 0.999  # Adam's second decay [0.999]
    weight_decay: float = 1e-4  # added to the gradient, in the way of Adam [1e-4]
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    seed: int = 0  # of everything
    eval_every: int = 40  # steps between looks at the test pictures
    save_every: int = 120  # steps between checkpoints
    extractor: str = "auto"  # auto: fd_resnet20 where the data folder has it, else domains; or a name of `load_extractor`
    extractor_path: str = ""  # file of the weights, for fid
    n_eval: int = 500  # test pictures of each domain in those looks; 0 takes all
    n_sheet: int = 6  # of them, on the sample sheets


class Tests(NamedTuple):
    """Test pictures (N, 3, S, S) uint8 of both domains, the extractor of the metric, and the Features of the pictures."""

    a: torch.Tensor
    b: torch.Tensor
    extractor: Extractor
    features_a: Features
    features_b: Features


def train(run, config):
    """Train two generators and four discriminators in the folder `run`; take up the latest checkpoint if there is one.

    run     `dgmlab.run.Run`; gets metrics.jsonl, checkpoints/, samples/, model/, results.json
    config  TranslateConfig
    -> dict of the final numbers, see `evaluate`

    Logged, both directions together: d_loss, g_loss (least squares), cycle, identity, cam (unweighted), d_real, d_fake (share
    of patches that the discriminators take for real, on real and on translated pictures), commit (real plus fake, D's step).
    """
    accelerator = training.start(config.seed, config.precision)
    main, device, world = accelerator.is_main_process, accelerator.device, accelerator.num_processes
    with training.reported(run, main):
        pair = open_pair(run, config, main)
        G, D = build(config)
        opt_g, opt_d = (torch.optim.Adam(net.parameters(), config.lr, (config.beta1, config.beta2),
                                         weight_decay=config.weight_decay, fused=True) for net in (G, D))
        G_ranks, D_ranks, opt_g, opt_d = accelerator.prepare(G, D, opt_g, opt_d)
        parts = {"G": G, "D": D, "opt_g": opt_g.optimizer, "opt_d": opt_d.optimizer}
        streams = [ImageStream(images, config.batch_size, 2 * config.seed + i, config.mirror, device,
                               accelerator.process_index, world) for i, images in enumerate(pair)]
        tests = open_tests(config, pair, device) if main else None
        micro = micro_slices(config.batch_size // world, config.accumulate)

        first = training.load_state(run, accelerator, parts)
        progress, numbers = training.Progress(run, config.n_steps, first, run.dir.name, show=main), {}
        for step in range(first, config.n_steps):
            a, b = (crops(stream, step, config.image_size) for stream in streams)
            for optimizer in (opt_d, opt_g):
                training.set_lr(optimizer, config.lr * min(1.0, 2 * (1 - step / config.n_steps)))
                optimizer.zero_grad(set_to_none=True)

            d_sums = torch.zeros(4, device=device)
            for i, part in enumerate(micro):
                with held(D, i), training.syncing(accelerator, D_ranks, i == len(micro) - 1):
                    with training.autocast(accelerator):
                        with torch.no_grad():
                            fake_a, fake_b = G.ba(b[part]).images, G.ab(a[part]).images
                        real, fake = D_ranks(torch.cat([a[part], fake_a]), torch.cat([b[part], fake_b])).halves()
                    d_loss = least_squares(real, 1) + least_squares(fake, 0)
                    commit = real.commit.mean() + fake.commit.mean()
                    accelerator.backward((config.adversarial * d_loss + commit) / len(micro))
                d_sums += torch.stack([d_loss, commit, real.share_real(), fake.share_real()]).detach() / len(micro)
            d_loss, commit, d_real, d_fake = accelerator.reduce(d_sums, "mean").tolist()
            training.check_finite(step + 1, d_loss=d_loss, commit=commit)
            opt_d.step()
            update_dictionaries(D)

            g_sums = torch.zeros(4, device=device)
            D.requires_grad_(False)
            with contextlib.nullcontext() if config.fq_from_g else frozen(D):
                for i, part in enumerate(micro):
                    with held(D, i), training.syncing(accelerator, G_ranks, i == len(micro) - 1):
                        with training.autocast(accelerator):
                            made = G_ranks(a[part], b[part])
                            verdict = D(made.fake_a, made.fake_b)
                        g_loss, terms = least_squares(verdict, 1), cycle_terms(made, a[part], b[part])
                        loss = (config.adversarial * g_loss + config.cycle * terms.cycle + config.identity * terms.identity
                                + config.cam * terms.cam + verdict.commit.mean())
                        accelerator.backward(loss / len(micro))
                    g_sums += torch.stack([g_loss, *terms]).detach() / len(micro)
            g_loss, cycle, identity, cam = accelerator.reduce(g_sums, "mean").tolist()
            training.check_finite(step + 1, g_loss=g_loss, cycle=cycle, identity=identity, cam=cam)
            opt_g.step()
            clip_rho(G)
            D.requires_grad_(True)
            update_dictionaries(D)

            done = step + 1
            if main and (training.every(done, 10, config.n_steps) or done == 1):
                run.log(done, d_loss=d_loss, g_loss=g_loss, cycle=cycle, identity=identity, cam=cam, d_real=d_real,
                        d_fake=d_fake, lr=opt_g.param_groups[0]["lr"], **({} if config.fq == "off" else {"commit": commit}))
            progress.update(done, d_loss=d_loss, g_loss=g_loss, cycle=cycle)
            if main and training.every(done, config.eval_every, config.n_steps):
                made = translate_tests(G, tests)
                numbers = evaluate(made, tests, config)
                run.log(done, **numbers, **code_use(D, made, tests))
                save_sheet(run, done, made, tests, config.n_sheet)
            if training.every(done, config.save_every, config.n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()
        return finish(run, config, G, D, tests, numbers) if main else {}


def held(D, i):
    """Context of micro-batch i of a step: the later ones see the spectrally normalised weights of the first."""
    return held_spectral_norm(D) if i else contextlib.nullcontext()


# before the first step


def open_pair(run, config, show=True):
    """The training pictures of both domains, larger than needed by `zoom`; their cards are shown and kept. -> Pair"""
    if config.zoom < 1:
        raise ValueError(f"zoom is {config.zoom}; at least 1 was expected, as crops are cut out of the larger pictures.")
    size = round(config.image_size * config.zoom)
    pair = load_pair(config.data, config.other or None, "train", size, config.limit or None)
    if show:
        print(pair.a.card, pair.b.card, sep="\n", flush=True)
        write_json(run.dir / "data.json", {"a": pair.a.card._asdict(), "b": pair.b.card._asdict()})
    return pair


def build(config):
    """The two players, new -> (Generators, Discriminators), channels_last"""
    G = Generators(image_size=config.image_size, light=config.light, channels=config.channels, n_blocks=config.n_blocks)
    by_size = n_layers(config.image_size)
    D = Discriminators(config.n_global or by_size[0], config.n_local or by_size[1], config.channels, fq_of(config))
    return G.to(memory_format=torch.channels_last), D.to(memory_format=torch.channels_last)


def fq_of(config):
    """The dictionaries of a TranslateConfig as arguments of `add_fq`; None for fq="off"."""
    if config.fq == "off":
        return None
    layers, n_codes = ([each.strip() for each in words.split(",")] for words in (config.fq_layers, config.n_codes))
    if len(n_codes) not in (1, len(layers)) or not all(each.isdecimal() for each in n_codes):
        raise ValueError(f"n_codes is '{config.n_codes}'; one number, or one for each of {config.fq_layers}, was expected.")
    return {"layers": layers, "n_codes": [int(each) for each in n_codes * (len(layers) // len(n_codes))],
            "decay": config.fq_decay, "commit_weight": config.commit_weight, "mode": config.fq, "n_warmup": config.fq_warmup}


def crops(stream, index, size):
    """Batch number `index` of an ImageStream, each picture cut to `size` at a place of its own: a pure function of the index.

    -> (B, 3, size, size) float in [-1, 1], channels_last
    """
    state = np.random.SeedSequence([stream.seed, index, stream.rank, 1]).generate_state(1)  # 1: not the draws of the mirror
    x = pixels.random_crop(stream.batch(index).x, size, torch.Generator().manual_seed(int(state[0])))
    return x.contiguous(memory_format=torch.channels_last)


# looking


def open_tests(config, pair, device):
    """The test pictures of a config, and the extractor they are compared by; `pair` are the training pictures -> Tests"""
    a, b = (images.x[:] for images in load_pair(config.data, config.other or None, "test", config.image_size,
                                                config.n_eval or None))
    name = config.extractor
    if name == "auto":
        name = "fd_resnet20" if (data_home() / "classifiers" / "resnet20_cifar10.safetensors").exists() else "domains"
    extractor = domain_extractor(pair) if name == "domains" else load_extractor(name, config.extractor_path or None)
    extractor = extractor.to(device)
    return Tests(a, b, extractor, extract(extractor, a), extract(extractor, b))


def domain_extractor(pair):
    """A small classifier trained in place on the pictures of a Pair -> Extractor 'fd_domains'

    It tells the two domains and four quarter turns apart, 8 classes: the domains alone it would tell by a colour or two, and
    then take any smear of that colour for a good translation.
    """
    turned = []
    for images in pair:
        rows = np.random.default_rng(0).permutation(len(images.y))[:LEARNT_FROM]
        x = images.x[torch.from_numpy(rows)]
        side = min(x.shape[-1], EXTRACTOR_SIDE)
        x = functional.interpolate(x, (side, side), mode="bicubic", antialias=True)
        turned += [x.rot90(turns, (2, 3)) for turns in range(4)]
    labels = torch.arange(8).repeat_interleave(torch.tensor([len(x) for x in turned]))
    return trained_extractor(torch.cat(turned), labels, "domains")


def translate_tests(G, tests):
    """All test pictures, translated -> dict 'ab', 'ba' -> Translated"""
    translator = Translator(G.ab, G.ba, {})
    return {"ab": translate(translator, tests.a, "ab"), "ba": translate(translator, tests.b, "ba")}


def evaluate(made, tests, config):
    """Kernel distances to the target domain of translated test pictures and, beside them, of untouched ones -> dict

    ab/kd_NAME_SIZE, ab/..._low, ab/..._high (95 %), ab/kd_NAME_SIZE_untouched: what doing nothing would score; and ba/...
    """
    numbers, size = {}, min(len(tests.a), len(tests.b), SUBSET)
    for direction, source, target in (("ab", tests.features_a, tests.features_b), ("ba", tests.features_b, tests.features_a)):
        features = extract(tests.extractor, made[direction].pictures, ema=False, mode="eval", seed=config.seed)
        score, untouched = (kernel_score(target, each, subset_size=size) for each in (features, source))
        numbers |= {f"{direction}/{name}": value for name, value in score.flat().items()}
        numbers[f"{direction}/{score.name}_untouched"] = untouched.value
    return numbers


def code_use(D, made, tests):
    """`code_signals` of the dictionaries of both domains, {} without any; layers are called a.blocks.1, b.blocks.1, ..."""
    numbers, device = {}, next(D.parameters()).device
    for domain, net, pictures, fake in (("a", D.global_a, tests.a, made["ba"]), ("b", D.global_b, tests.b, made["ab"])):
        real, fake = ([(pixels.to_float(x).to(device),) for x in each.split(32)] for each in (pictures, fake.pictures))
        numbers |= {name.replace("/", f"/{domain}."): value for name, value in code_signals(net, real, fake).items()}
    return numbers


def save_sheet(run, step, made, tests, n):
    """samples/sheet-STEP.png: in each row a test picture of a, its heat map, its translation, and that translated back; then
    the same of a picture of b. -> Path"""
    n = min(n, len(tests.a), len(tests.b))
    columns = []
    for pictures, translated in ((tests.a, made["ab"]), (tests.b, made["ba"])):
        columns += [pictures, overlay(pictures[:n], translated.heat_maps[:n]), translated.pictures, translated.back]
    rows = torch.stack([each[:n] for each in columns], dim=1).flatten(0, 1)  # (8 n, 3, S, S)
    return pixels.write_png(run.samples / f"sheet-{step:08d}.png", pixels.tile(rows, len(columns)))


def overlay(pictures, heat_maps):
    """Heat maps (N, h, w) in [0, 1], black over red and yellow to white, laid over the grey of pictures (N, 3, S, S) uint8 ->
    (N, 3, S, S) uint8"""
    heat = functional.interpolate(heat_maps[:, None], pictures.shape[2:], mode="bilinear", align_corners=False)
    colours = (3 * heat - torch.arange(3, device=heat.device).view(1, 3, 1, 1)).clamp(0, 1)
    grey = pictures.float().mean(1, keepdim=True) / 255
    return ((0.6 * colours + 0.4 * grey) * 255).round().to(torch.uint8)


# after the last step


def finish(run, config, G, D, tests, numbers):
    """Save the model and the final numbers; what was finished before is read back. -> dict"""
    if done := run.finished("model/about.json"):
        return done
    numbers = numbers or evaluate(translate_tests(G, tests), tests, config)
    save_trained(run.dir / "model", G, D, data=config.data, other=config.other, image_size=config.image_size,
                 n_steps=config.n_steps)
    run.save_results(numbers)
    return numbers


if __name__ == "__main__":
    sys.exit(main())
