"""Speed of what GANs are made of, as ratios against a named peer: `dgmlab bench frechet quantizer discriminator`."""

import copy
import time

import numpy as np
import torch

from dgmlab.bench import alternate, at_most, faster


def frechet(size=2048, n=4096):
    """Frechet distance at Inception's 2,048 features, the reference's factor cached, against scipy's matrix square root."""
    from scipy.linalg import sqrtm

    from dgmlab.metrics.image import FeatureStatistics, frechet_distance

    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((size, size)) / np.sqrt(size * np.arange(1, size + 1))[:, None]  # a spectrum that falls
    real, fake = (FeatureStatistics().update(rng.standard_normal((n, size)) @ mixing + shift) for shift in (0.0, 0.02))

    def by_sqrtm():
        s1, s2 = real.covariance.numpy(), fake.covariance.numpy()
        difference = (real.mean - fake.mean).square().sum().item()
        return difference + np.trace(s1) + np.trace(s2) - 2 * np.trace(sqrtm(s1 @ s2).real)

    began = time.perf_counter()
    real.factor()
    first = time.perf_counter() - began
    values = {}
    ours = lambda: values.update(ours=frechet_distance(real, fake))  # noqa: E731
    result = faster(f"Frechet distance, {size} features", ours, lambda: values.update(peer=by_sqrtm()),
                    ("cached factor, eigvalsh", "scipy sqrtm"), 6, "", rounds=3, warmup=0)
    error = abs(values["ours"] / values["peer"] - 1)
    check = (f"{values['ours']:.8g} ours, {values['peer']:.8g} peer, relative difference {error:.1e} (allowed 1e-6); "
             f"the factor, once: {first:.3g} s")
    return [result._replace(check=check, met=result.met and error <= 1e-6)]


def quantizer(n_rows=16_384, dim=256, n_codes=1024):
    """FQ-GAN's layer: forward, backward and update of the dictionary, against the EMA layer of vector-quantize-pytorch."""
    from dgmlab.quantize import VectorQuantizer

    try:
        from vector_quantize_pytorch import VectorQuantize
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"the benchmark 'quantizer' needs its peer, but {error.name} is not installed. "
                                  "Run `pip install 'dgmlab[bench]'`.") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    layer = VectorQuantizer(n_codes, dim, decay=0.8, init="normal", revive_below=0).to(device)
    peer = VectorQuantize(dim, n_codes, decay=0.8, rotation_trick=False, threshold_ema_dead_code=0).to(device).train()
    peer.codebook = layer.dictionary
    peer._codebook.embed_avg.copy_(layer.dictionary)
    x, above, one = torch.randn(n_rows, dim, device=device, requires_grad=True), torch.randn(n_rows, dim).to(device) / (
        n_rows * dim), torch.ones((), device=device)

    def ours():
        x.grad = None
        result = layer(x)
        torch.autograd.backward([result.output, result.commit.mean()], [above, one])
        layer.update()
        return x.grad, layer.dictionary

    def theirs():
        x.grad = None
        output, _, commit = peer(x[None])
        torch.autograd.backward([output[0], commit.sum()], [above, one])
        return x.grad, peer.codebook

    twice = [max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours(), theirs(), strict=True)) for _ in range(2)]
    same = max(twice) < 1e-3
    check = f"gradients and dictionaries of two steps differ by {max(twice):.1e} of their largest"
    return [faster(f"vector quantizer, T = {n_rows:,}, D = {dim}, K = {n_codes:,}", ours, theirs,
                   ("VectorQuantizer and update", "vector-quantize-pytorch"), 4 if same else float("inf"), check, rounds=9)]


LIMITS = {64: 1.03, 256: 1.05, 1024: 1.10}  # codes -> what a D with dictionaries may cost, in plain ones


def discriminator(rounds=15):
    """FQ-GAN's cost: a pass of CIFAR-10's D with a dictionary after each of its four blocks, against the plain D.

    A pass is forward, backward and, with dictionaries, their update; no optimizer. In float32 as the authors', and in bf16
    where the hardware has it: there D itself becomes several times faster, and the look-up, which stays in float32, does not.
    """
    from dgmlab.training import native_bf16

    cases = [("fp32", 16), *([("bf16", 64)] if native_bf16() else [])]
    return [_discriminator(precision, batch_size, n_codes, mode, rounds) for precision, batch_size in cases
            for n_codes in LIMITS for mode in ("regularize", "quantize")]


def _discriminator(precision, batch_size, n_codes, mode, rounds):
    from dgmlab import training
    from dgmlab.fqgan import add_fq, collect, frozen, update_dictionaries
    from dgmlab.fqgan.biggan import Discriminator, preset

    accelerator = training.start(0, precision)
    plain = Discriminator(preset("cifar10")).to(accelerator.device, memory_format=torch.channels_last)
    quantized = add_fq(copy.deepcopy(plain), [f"blocks.{i}" for i in range(4)], n_codes, mode=mode)
    x = torch.randn(batch_size, 3, 32, 32, device=accelerator.device).contiguous(memory_format=torch.channels_last)
    y = torch.arange(batch_size, device=accelerator.device) % 10

    def scores(D):
        with training.autocast(accelerator):
            return D(x, y).logits

    def ours():
        quantized.zero_grad(set_to_none=True)
        (scores(quantized).mean() + collect(quantized).commit.mean()).backward()
        update_dictionaries(quantized)

    def peer():
        plain.zero_grad(set_to_none=True)
        scores(plain).mean().backward()

    seconds = alternate(ours, peer, rounds, warmup=2)
    with torch.no_grad(), frozen(quantized):
        difference = float((scores(quantized) - scores(plain)).abs().max())
        used = [len(codes.unique()) for codes in collect(quantized).codes.values()]
    same = mode == "quantize" or difference == 0  # the commitment term alone must leave the scores as they are
    check = f"{', '.join(map(str, used))} codes in use; logits differ from the plain ones by {difference:.2g}"
    result = at_most(f"D of CIFAR-10, batch of {batch_size}, K = {n_codes:,}, {mode}, {precision}", seconds,
                     ("with four dictionaries", "plain"), LIMITS[n_codes], check)
    return result._replace(met=result.met and same)
