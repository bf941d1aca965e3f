"""The bookkeeping of a training loop, a thin layer on accelerate: start, schedules, clipping, checkpoints, progress.

What a step computes is written out in each system's `train`; what surrounds it lives here. A checkpoint holds everything
that makes the next step: the parts handed over (model, optimizer, EMA, sampler ...) and the random states of every rank.
It is written beside its place and renamed, so it is either whole or absent, and each file's sha256 is checked on loading.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from dgmlab.run import read_json, write_error, write_json

FORMAT = 1  # raised when the layout of a checkpoint changes


def start(seed, precision="auto", deterministic=False):
    """Seed python, numpy and torch, and open an Accelerator for CPU, one GPU or the ranks of torchrun.

    precision  'fp32', 'bf16', or 'auto': bf16 where the hardware multiplies it natively, else fp32
    """
    choices = ("auto", "fp32", "bf16")
    if precision not in choices:
        raise ValueError(f"precision is '{precision}'; choose one of: {', '.join(choices)}.")
    if precision == "auto":
        precision = "bf16" if native_bf16() else "fp32"
    accelerator = Accelerator(mixed_precision="bf16" if precision == "bf16" else "no", cpu=not torch.cuda.is_available())
    set_seed(seed + accelerator.process_index)
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    return accelerator


def native_bf16():
    """Whether bf16 products run in hardware here: a recent GPU, or a CPU with AMX or AVX512-BF16 units."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(check and check())


def warmup_linear(step, n_steps, n_warmup=0):
    """Factor in [0, 1] on the learning rate: up over `n_warmup` steps, then linearly down to 0 at `n_steps`."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    return max(0.0, (n_steps - step) / max(1, n_steps - n_warmup))


def set_lr(optimizer, lr):
    """Give every parameter group the learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def every(step, n, last=None):
    """True each `n` steps (counted from 1) and at step `last`; n = 0 means only at the last."""
    return (n > 0 and step % n == 0) or step == last


def endless(epoch_batches, start_step=0):
    """Yield (epoch, batch) for ever from a pure function epoch -> list of batches, as if `start_step` had been taken.

    Because the order is a function of the epoch alone, the position of the sampler is the step: nothing else to save.
    """
    epoch, skip = 0, start_step
    while True:
        batches = epoch_batches(epoch)
        if not batches:
            raise ValueError("the corpus is empty: no batch can be made from it. Check the data set and its length limits.")
        if skip >= len(batches):
            skip -= len(batches)
        else:
            for batch in batches[skip:]:
                yield epoch, batch
            skip = 0
        epoch += 1


def clip(accelerator, model, max_norm, step):
    """Clip the gradient to `max_norm` and return its norm before clipping (float); NaN stops the run, naming the step.

    FloatingPointError  the norm is not finite; the parameters have not been touched by this step
    """
    norm = float(accelerator.clip_grad_norm_(model.parameters(), max_norm))
    check_finite(step, gradient_norm=norm)
    return norm


def check_finite(step, **values):
    """FloatingPointError naming the step and the first value that is NaN or infinite."""
    for name, value in values.items():
        if not np.isfinite(float(value)):
            raise FloatingPointError(
                f"{name} is {float(value)} at step {step}; a finite number was expected. The last checkpoint is intact: "
                "lower the learning rate or use precision='fp32', and start again."
            )


@contextlib.contextmanager
def autocast(accelerator):
    """The accelerator's autocast for forward *and* backward of a training step.

    On a CPU in bf16 the fused attention kernel's backward is about seven times slower than plain matrix products at the
    lengths of sentences (torch 2.13), so plain products are asked for there.
    """
    plain = accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16"
    with accelerator.autocast(), sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext():
        yield


def syncing(accelerator, model, last):
    """Context of one micro-batch: ranks exchange gradients only in the last one of a step."""
    return contextlib.nullcontext() if last else accelerator.no_sync(model)


class EMA:
    """Exponential moving average of a model's parameters, kept in fp32: average <- decay * average + (1 - decay) * p."""

    def __init__(self, model, decay):
        self.decay = decay
        self.average = {name: p.detach().float().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model):
        for name, p in model.named_parameters():
            self.average[name].lerp_(p.detach().float(), 1 - self.decay)

    @torch.no_grad()
    def copy_to(self, model):
        """Overwrite the model's parameters by their averages."""
        for name, p in model.named_parameters():
            p.copy_(self.average[name])

    def state_dict(self):
        return {"average": self.average}

    def load_state_dict(self, state):
        for name, value in state["average"].items():
            self.average[name].copy_(value)


# checkpoints


def save_state(run, step, accelerator, parts, keep=2):
    """Write checkpoints/step-XXXXXXXX atomically and keep the last `keep`.

    parts  name -> object with state_dict() (tensors, numbers, strings, lists and dicts; never pickled)
    """
    target = run.checkpoints / f"step-{step:08d}"
    scratch = run.checkpoints / f".writing-{step:08d}"
    try:
        if accelerator.is_main_process:
            _clear_scratch(run.checkpoints)
            scratch.mkdir(parents=True)
        accelerator.wait_for_everyone()
        _write_part(scratch, f"rng-{accelerator.process_index}", _random_state())
        if accelerator.is_main_process:
            for name, part in parts.items():
                _write_part(scratch, name, accelerator.unwrap_model(part).state_dict()
                            if isinstance(part, torch.nn.Module) else part.state_dict())
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            digests = {file.name: _sha256(file) for file in sorted(scratch.iterdir())}
            manifest = {"format": FORMAT, "step": step, "world_size": accelerator.num_processes, "sha256": digests}
            write_json(scratch / "manifest.json", manifest)
            if target.exists():
                shutil.rmtree(target)
            os.replace(scratch, target)
            for old in _list_checkpoints(run)[:-keep]:
                shutil.rmtree(old)
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "No space" not in str(error):
            raise
        shutil.rmtree(scratch, ignore_errors=True)
        raise write_error(target, error if isinstance(error, OSError) else OSError(28, str(error))) from error
    return target


def load_state(run, accelerator, parts):
    """Take up the newest whole checkpoint and return its step, or 0 where there is none.

    A truncated or altered checkpoint is named in a warning and the one before it is used. Metrics logged after the
    checkpoint are forgotten, so that the run goes on as if it had never been interrupted.
    """
    chosen = [None]
    if accelerator.is_main_process:
        for folder in reversed(_list_checkpoints(run)):
            problem = _problem(folder)
            if problem is None:
                chosen = [str(folder)]
                break
            warnings.warn(f"{folder} cannot be used ({problem}); trying the checkpoint before it.", stacklevel=2)
    broadcast_object_list(chosen)
    if chosen[0] is None:
        if accelerator.is_main_process:
            run.rewind(0)
        return 0
    folder = Path(chosen[0])
    manifest = read_json(folder / "manifest.json")
    for name, part in parts.items():
        target = accelerator.unwrap_model(part) if isinstance(part, torch.nn.Module) else part
        try:
            target.load_state_dict(_read_part(folder, name))
        except (RuntimeError, KeyError, ValueError) as error:
            first = " ".join(str(error).split())[:300]
            raise ValueError(f"{folder} does not fit this configuration ({name}: {first}). Start a new run folder.") from None
    mine = f"rng-{accelerator.process_index}"
    if (folder / f"{mine}.json").exists():
        _set_random_state(_read_part(folder, mine))
    if accelerator.is_main_process:
        run.rewind(manifest["step"])
    return manifest["step"]


def _list_checkpoints(run):
    return sorted(run.checkpoints.glob("step-*"))


def _clear_scratch(folder):
    for left in folder.glob(".writing-*"):  # what a killed process left half-written
        shutil.rmtree(left, ignore_errors=True)


def _problem(folder):
    """Why a checkpoint cannot be used, in words; None when it is whole."""
    try:
        manifest = read_json(folder / "manifest.json")
    except ValueError as error:
        return str(error)
    if manifest is None:
        return "manifest.json is missing"
    if manifest["format"] != FORMAT:
        return f"its format is {manifest['format']}, this version reads {FORMAT}"
    for name, digest in manifest["sha256"].items():
        if not (folder / name).exists():
            return f"{name} is missing"
        if _sha256(folder / name) != digest:
            return f"{name} is truncated or corrupted: its sha256 is not the recorded one"
    return None


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_part(folder, name, state):
    tensors = {}
    tree = _flatten(state, tensors, {})
    if tensors:
        save_file(tensors, folder / f"{name}.safetensors")
    with open(folder / f"{name}.json", "w", encoding="utf-8") as file:
        json.dump(tree, file)
        file.flush()
        os.fsync(file.fileno())


def _read_part(folder, name):
    if not (folder / f"{name}.json").exists():
        raise KeyError(f"part '{name}' is not in the checkpoint")
    path = folder / f"{name}.safetensors"
    tensors = load_file(path) if path.exists() else {}
    return _unflatten(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")), tensors)


def _flatten(value, tensors, seen):
    """A JSON tree with the tensors taken out; tied tensors are stored once, dicts keep their key types."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        key = (value.data_ptr(), tuple(value.shape), value.dtype) if value.numel() else None
        if key is None or key not in seen:
            name = f"t{len(tensors)}"
            tensors[name] = value.contiguous().cpu().clone()
            if key is None:
                return {"tensor": name}
            seen[key] = name
        return {"tensor": seen[key]}
    if isinstance(value, dict):
        return {"dict": [[key, _flatten(item, tensors, seen)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [_flatten(item, tensors, seen) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a checkpoint holds tensors, numbers, strings, lists and dicts, found {type(value).__name__}.")


def _unflatten(tree, tensors):
    (kind, value), = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in value}
    if kind in ("list", "tuple"):
        items = [_unflatten(item, tensors) for item in value]
        return tuple(items) if kind == "tuple" else items
    return value


def _random_state():
    name, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state):
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


# progress


class Progress:
    """A bar in JupyterLab or a terminal; in a log, a printed line every few seconds; under the runner, nothing.

    Either way status.json says how far the run is (the runner prints that). Only the main process shows anything.
    """

    def __init__(self, run, n_steps, start_step=0, title="", seconds=5.0, show=True):
        self.run, self.n_steps, self.title, self.seconds, self.show = run, n_steps, title, seconds, show
        self.began, self.first = time.monotonic(), start_step
        self.last_shown = self.last_saved = 0.0
        self.bar = None
        if show and not headless():
            from tqdm.auto import tqdm

            self.bar = tqdm(total=n_steps, initial=start_step, desc=title)

    def update(self, step, **numbers):
        """Report `step` (counted from 1) and the numbers worth watching."""
        if not self.show:
            return
        now = time.monotonic()
        line = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix_str(line, refresh=False)
        elif not supervised() and (now - self.last_shown >= self.seconds or step == self.n_steps):
            rate = (step - self.first) / max(now - self.began, 1e-9)
            left = (self.n_steps - step) / rate if rate > 0 else float("nan")
            print(f"{self.title} {step}/{self.n_steps}  {line}  {rate:.1f} steps/s  {left:.0f} s left", flush=True)
            self.last_shown = now
        if now - self.last_saved >= 2.0 or step == self.n_steps:
            self.run.set_status(step=step, n_steps=self.n_steps, line=line)
            self.last_saved = now

    def close(self):
        if self.bar is not None:
            self.bar.close()


def supervised():
    """True under the runner, which reads status.json and prints it."""
    return bool(os.environ.get("DGMLAB_RUN"))


def headless():
    """True where a moving bar would only spoil a log: under the runner, or with standard error going to a file."""
    return supervised() or ("ipykernel" not in sys.modules and not sys.stderr.isatty())


@contextlib.contextmanager
def reported(run, show=True):
    """Mark the run as done, failed or interrupted when the block ends; errors pass through."""
    try:
        yield
    except KeyboardInterrupt:
        if show:
            run.set_status("interrupted")
        raise
    except Exception as error:
        if show:
            with contextlib.suppress(OSError):  # a full disk must not hide the error itself
                run.set_status("failed", error=f"{type(error).__name__}: {error}"[:500])
        raise
    else:
        if show:
            run.set_status("done")
    finally:
        run.close()
