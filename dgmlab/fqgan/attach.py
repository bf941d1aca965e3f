"""Feature quantization for any discriminator: a dictionary behind each of some layers (Zhao et al. 2020, section 3).

    D = add_fq(D, ["blocks.0", "blocks.1"], n_codes=1024)
    loss = hinge(D(x)) + collect(D).commit.mean()
    loss.backward()
    optimizer.step()
    update_dictionaries(D)          # of dgmlab.quantize

`torch.compile` and DistributedDataParallel go around the result, in any order; the other functions find the dictionaries
through such wrappers.
"""

from typing import NamedTuple

import torch
from torch import nn

from dgmlab.config import unknown_name
from dgmlab.quantize import VectorQuantizer

SIZES = ("out_channels", "out_features", "num_features")  # how layers call the channels that they give


class Collected(NamedTuple):
    """What the last forward pass left behind.

    commit      (N,) float               commitment terms, summed over the layers; add the mean to the losses of D and of G
    codes       {layer: (N, H, W) long}  the codes of every position
    perplexity  {layer: () float}        exp(entropy) of the codes, 1 to K
    """

    commit: torch.Tensor
    codes: dict
    perplexity: dict


class FeatureQuantizer(VectorQuantizer):
    """The dictionary behind one layer. `last` is its latest result, until `collect` takes it."""

    def __init__(self, layer, n_codes, dim, **options):
        super().__init__(n_codes, dim, **options)
        self.layer, self.last = layer, None

    def __getstate__(self):
        return {**self.__dict__, "last": None}  # it hangs on the graph of a backward pass, which cannot be copied


def add_fq(discriminator, layers, n_codes, example=None, **options):
    """Quantize the outputs of some layers of `discriminator`, in place.

    discriminator  any nn.Module; the names of its parameters stay as they are, so that its checkpoints still fit
    layers         names as in `named_modules()`; their outputs are (N, C, H, W) or (N, C)
    n_codes        K of each layer, or one for all
    example        a tuple of inputs that fit: one pass in evaluation mode tells the channels of each layer. Without it they
                   are those that the layer names itself, or its last convolution, linear or normalising layer does
    options        of VectorQuantizer: decay, commit_weight, mode, init, revive_below, n_warmup, eps
    -> the discriminator. Its state_dict has the dictionaries besides (LAYER.fq.dictionary, ...): to load a checkpoint with
       them, add them first. A model that does so in its constructor is whole again by `from_pretrained`.

    KeyError    no layer has this name
    ValueError  a layer has a dictionary already, gives no tensor, or does not tell its channels
    """
    layers = [layers] if isinstance(layers, str) else list(layers)
    sizes = [n_codes] * len(layers) if isinstance(n_codes, int) else list(n_codes)
    if not layers or len(sizes) != len(layers):
        raise ValueError(f"one n_codes, or one for each layer, was expected; found {len(sizes)} for {len(layers)} layers.")
    found = [_find(discriminator, name) for name in layers]
    if len(set(found)) < len(found):
        raise ValueError(f"each layer takes one dictionary, but some of these are the same: {', '.join(layers)}.")
    dims = ([_own_size(name, layer) for name, layer in zip(layers, found, strict=True)] if example is None
            else _measure(discriminator, layers, found, example))
    where = next((tensor.device for tensor in discriminator.parameters()), None)
    quantizers = [FeatureQuantizer(name, k, dim, **options).to(where)
                  for name, k, dim in zip(layers, sizes, dims, strict=True)]
    for layer, quantizer in zip(found, quantizers, strict=True):
        layer.register_module("fq", quantizer.train(layer.training))
        layer.register_forward_hook(_quantize_output)
    return discriminator


def remove_fq(module):
    """Take every dictionary of `add_fq` out of `module` again -> the module, as it was before."""
    for layer in list(module.modules()):
        for key, hook in list(layer._forward_hooks.items()):
            if hook is _quantize_output:
                del layer._forward_hooks[key], layer.fq
    return module


def collect(module):
    """Take what the dictionaries inside `module` computed in the last forward pass -> Collected.

    Call it after each pass, before the next: real and fake images that go through one by one are collected one by one.
    RuntimeError  there has been no pass since the last call
    """
    quantizers = [part for part in module.modules() if isinstance(part, FeatureQuantizer) and part.last is not None]
    if not quantizers:
        raise RuntimeError("nothing to collect: call a discriminator that has dictionaries (add_fq) first, then collect once.")
    results = {part.layer: part.last for part in quantizers}
    for part in quantizers:
        part.last = None
    return Collected(sum(result.commit for result in results.values()),
                     {name: result.codes for name, result in results.items()},
                     {name: result.perplexity for name, result in results.items()})


def _quantize_output(layer, inputs, output):
    """Forward hook; a function of the module, so that copies of a model quantize by their own dictionaries."""
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"layer '{layer.fq.layer}' gives a {type(output).__name__}; a tensor (N, C, H, W) was expected. "
                         "Choose a layer inside it.")
    if output.ndim < 2 or output.shape[1] != layer.fq.dim:
        raise ValueError(f"layer '{layer.fq.layer}' gives {tuple(output.shape)}, its dictionary was made for {layer.fq.dim} "
                         "channels. Use add_fq(..., example=(x,)), with inputs that fit.")
    layer.fq.last = layer.fq(output)
    return layer.fq.last.output


def _find(discriminator, name):
    """The module whose output is quantized: the named one, or the last inside where that is a plain Sequential.

    (A Sequential would call a dictionary that is registered in it as one more layer of its chain.)
    """
    modules = dict(discriminator.named_modules())
    if name not in modules or not name:
        raise KeyError(unknown_name(name, [key for key in modules if key], f"layer of {type(discriminator).__name__}"))
    layer = modules[name]
    while type(layer).forward is nn.Sequential.forward and len(layer):
        layer = layer[-1]
    if isinstance(layer, nn.ModuleList | nn.ModuleDict):
        raise ValueError(f"layer '{name}' is a {type(layer).__name__}, which is never called; name one of its entries.")
    if hasattr(layer, "fq"):
        raise ValueError(f"layer '{name}' has a dictionary already; call remove_fq(discriminator) first.")
    return layer


def _own_size(name, layer):
    """Channels of a layer's output by its own word, or by that of the last module inside which has one."""
    for part in (layer, *reversed(list(layer.modules()))):
        for attribute in SIZES:
            if isinstance(getattr(part, attribute, None), int):
                return getattr(part, attribute)
    raise ValueError(f"layer '{name}' does not tell the channels of its output; pass example=(x,), inputs that fit.")


@torch.no_grad()
def _measure(discriminator, names, layers, example):
    """Channels of each layer's output for the inputs `example`, by one pass in evaluation mode."""
    sizes, were_training = {}, [part for part in discriminator.modules() if part.training]
    handles = [layer.register_forward_hook(lambda _, inputs, output, name=name: sizes.update({name: output.shape[1]}))
               for name, layer in zip(names, layers, strict=True)]
    try:
        discriminator.eval()(*example)
    finally:
        for part in were_training:
            part.training = True
        for handle in handles:
            handle.remove()
    missing = [name for name in names if name not in sizes]
    if missing:
        raise ValueError(f"layer '{missing[0]}' is not called for these inputs; name one that is.")
    return [sizes[name] for name in names]
