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
    except (OSError, RuntimeError, SafetensorError) as error:
        if not isinstance(error, OSError) and "No space" not in str(error):
            raise
        shutil.rmtree(scratch, ignore_errors=True)
        raise write_error(target, error if isinstance(error, OSError) else OSError(28, "No space left on device")) from error
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
