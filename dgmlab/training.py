"""The bookkeeping of a training loop, a thin layer on accelerate: start, schedules, clipping, progress.

What a step computes is written out in each system's `train`; what surrounds it lives here (checkpoints: `checkpoint.py`).
"""

import contextlib
import sys
import time

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch.nn.attention import SDPBackend, sdpa_kernel

from dgmlab.checkpoint import load_state, save_state
from dgmlab.run import supervised

__all__ = ["EMA", "Progress", "autocast", "check_finite", "clip", "endless", "every", "load_state", "native_bf16", "reported",
           "save_state", "set_lr", "start", "syncing", "warmup_linear"]


def start(seed, precision="auto", deterministic=False):
    """Seed python, numpy and torch, and open an Accelerator for CPU, one GPU or the ranks of torchrun.

    precision  'fp32', 'bf16', or 'auto': bf16 where the hardware multiplies it natively, else fp32
    """
    choices = ("auto", "fp32", "bf16")
    if precision not in choices:
        raise ValueError(f"precision is '{precision}'; choose one of: {', '.join(choices)}.")
    if precision == "auto":
        precision = "bf16" if native_bf16() else "fp32"
    if AcceleratorState._shared_state:  # a notebook may train with another precision next; accelerate keeps the first one
        AcceleratorState._reset_state()
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
    """Exponential moving average of a model, kept in fp32: average <- decay * average + (1 - decay) * value.

    Parameters and floating-point buffers (BatchNorm's running statistics, StyleGAN's w_avg) are averaged, integer and boolean
    buffers copied. Buffers that a state_dict leaves out are constants or scratch, and left out here as well.
    """

    def __init__(self, model, decay):
        self.decay = decay
        names = set(model.state_dict())
        self.average = {name: tensor.detach().to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
                        for name, tensor in _parameters_and_buffers(model).items() if name in names}

    @torch.no_grad()
    def update(self, model, decay=None):
        """One step towards `model`; `decay`, in [0, 1], replaces the usual one in this step, as a ramp-up does. 0 copies."""
        values = _parameters_and_buffers(model)
        floats = [name for name, average in self.average.items() if average.is_floating_point()]
        others = [name for name, average in self.average.items() if not average.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in floats], [values[name].detach().float() for name in floats],
                             1 - (self.decay if decay is None else decay))
        for name in others:
            self.average[name].copy_(values[name])

    @torch.no_grad()
    def copy_to(self, model):
        """Overwrite the model's parameters and buffers by their averages."""
        values = _parameters_and_buffers(model)
        for name, average in self.average.items():
            values[name].copy_(average)

    def state_dict(self):
        return {"average": self.average}

    def load_state_dict(self, state):
        for name, value in state["average"].items():
            self.average[name].copy_(value)


def _parameters_and_buffers(model):
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


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


def headless():
    """True where a moving bar would only spoil a log: under the runner, or with standard error going to a file."""
    return bool(supervised()) or ("ipykernel" not in sys.modules and not sys.stderr.isatty())


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
