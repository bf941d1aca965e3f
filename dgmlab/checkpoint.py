"""Checkpoints: everything that makes the next step, written so that a kill at any moment loses nothing older.

A checkpoint holds the parts handed over (model, optimizer, EMA, sampler ...) and the random states of every rank, as
safetensors and JSON, never a pickle. It is written beside its place and renamed, so it is either whole or absent, and each
file's sha256 is checked on loading.
"""

import hashlib
import json
import os
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dgmlab.run import read_json, write_error, write_json

FORMAT = 1  # raised when the layout of a checkpoint changes


def save_state(run, step, accelerator, parts, keep=2, name=None):
    """Write checkpoints/step-XXXXXXXX atomically and keep the last `keep`. All ranks call it.

    parts  name -> object with state_dict() (tensors, numbers, strings, lists and dicts; never pickled)
    name   write checkpoints/NAME instead, e.g. 'best', in place of the one before. `keep` does not count it, and only
           load_state(..., name=NAME) takes it up
    """
    target = run.checkpoints / (name or f"step-{step:08d}")
    scratch = run.checkpoints / f".writing-{name or f'{step:08d}'}"
    try:
        if accelerator.is_main_process:
            _clear_scratch(run.checkpoints)
            scratch.mkdir(parents=True)
        accelerator.wait_for_everyone()
        _write_part(scratch, f"rng-{accelerator.process_index}", _random_state())
        if accelerator.is_main_process:
            for part_name, part in parts.items():
                _write_part(scratch, part_name, _inside(accelerator, part).state_dict())
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            digests = {file.name: _sha256(file) for file in sorted(scratch.iterdir())}
            manifest = {"format": FORMAT, "step": step, "world_size": accelerator.num_processes, "sha256": digests}
            write_json(scratch / "manifest.json", manifest)
            _put_in_place(scratch, target)
            for old in _list_checkpoints(run)[:-keep]:
                shutil.rmtree(old)
    except (OSError, RuntimeError, SafetensorError) as error:
        if not isinstance(error, OSError) and "No space" not in str(error):
            raise
        shutil.rmtree(scratch, ignore_errors=True)
        raise write_error(target, error if isinstance(error, OSError) else OSError(28, "No space left on device")) from error
    return target


def load_state(run, accelerator, parts, name=None, rewind=None):
    """Take up the newest whole checkpoint and return its step, or 0 where there is none.

    A truncated or altered checkpoint is named in a warning and the one before it is used. Metrics logged after the
    checkpoint are forgotten, so that the run goes on as if it had never been interrupted.

    name    take up checkpoints/NAME instead, e.g. 'best', with the random states that are in it
    rewind  whether to forget the later metrics; by default only without a name: a run that goes back to its best state keeps
            the record of what went wrong

    FileNotFoundError  there is no checkpoint called `name`, or it is damaged
    ValueError         the checkpoint does not fit the parts
    """
    chosen = [None]
    if accelerator.is_main_process:
        chosen = [_choose(_list_checkpoints(run) if name is None else _list_named(run, name))]
    broadcast_object_list(chosen)
    if chosen[0] is None and name is not None:
        raise FileNotFoundError(f"a whole checkpoint was expected at {run.checkpoints / name}. Save one with "
                                f"save_state(..., name='{name}') first, or load the newest: leave the name out.")
    step = 0 if chosen[0] is None else _take_up(Path(chosen[0]), accelerator, parts)
    if accelerator.is_main_process and (name is None if rewind is None else rewind):
        run.rewind(step)
    return step


def _choose(folders):
    """Path of the last whole checkpoint among `folders` as a string, or None; those that are not whole are named."""
    for folder in reversed(folders):
        problem = _problem(folder)
        if problem is None:
            return str(folder)
        warnings.warn(f"{folder} cannot be used ({problem}); trying the checkpoint before it.", stacklevel=3)
    return None


def _take_up(folder, accelerator, parts):
    """Load the parts and this rank's random states from a checkpoint -> its step."""
    for name, part in parts.items():
        try:
            _inside(accelerator, part).load_state_dict(_read_part(folder, name))
        except (RuntimeError, KeyError, ValueError) as error:
            first = " ".join(str(error).split())[:300]
            raise ValueError(f"{folder} does not fit this configuration ({name}: {first}). Start a new run folder.") from None
    mine = f"rng-{accelerator.process_index}"
    if (folder / f"{mine}.json").exists():
        _set_random_state(_read_part(folder, mine))
    return read_json(folder / "manifest.json")["step"]


def _inside(accelerator, part):
    """A module without what DistributedDataParallel or torch.compile put around it; any other part as it is."""
    return accelerator.unwrap_model(part) if isinstance(part, torch.nn.Module) else part


def _put_in_place(scratch, target):
    """Rename a whole checkpoint to its name. Until it is there, the one it replaces is at hand under another."""
    replaced = target.with_name(f".replaced-{target.name}")
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(target, replaced)
    os.replace(scratch, target)
    shutil.rmtree(replaced, ignore_errors=True)


def _list_named(run, name):
    """The checkpoint called `name`, after the one that it was about to replace when the process was killed."""
    found = (run.checkpoints / f".replaced-{name}", run.checkpoints / name)
    return [folder for folder in found if folder.exists()]


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
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return f"its manifest.json is not of format {FORMAT}"
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
        # fused Adam goes through memory, not through indices: its averages must lie as the parameter does
        by_pixel = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last) and not value.is_contiguous()
        return {"channels_last" if by_pixel else "tensor": seen[key]}
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
    if kind == "channels_last":
        return tensors[value].contiguous(memory_format=torch.channels_last)
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
