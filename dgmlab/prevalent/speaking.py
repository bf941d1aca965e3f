"""What a trained speaker does: it looks at paths, writes instructions greedily or by sampling, and scores instructions.

    speaker, words = load_speaker("runs/31_speaker_train/r2r_speaker_small/speaker")
    inputs = path_inputs(features, houses, paths, headings)
    texts = decode_texts(words, speak(speaker, words, inputs, temperature=0.5, n=6, generator=generator))
    log_likelihood(speaker, words, features, houses, paths, texts)      beam search ranks its paths by it
    back_translate(speaker, words, features, houses, paths, headings, environment)      EnvDrop's pseudo-instructions

A path is a list of rows of `houses`; B paths, S panoramas, T words as in `dgmlab.prevalent.speaker`.
"""

from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.prevalent.angles import HEADINGS, STEP
from dgmlab.prevalent.features import observe_at
from dgmlab.prevalent.speaker import PathInputs, Speaker, word_nll
from dgmlab.prevalent.words import Words
from dgmlab.run import locate


class Speaking(NamedTuple):
    """A speaker and the words it writes with."""

    speaker: Speaker
    words: Words


def save_speaker(folder, speaker, words):
    """model/ with config.json, model.safetensors and the words beside them; what `load_speaker` reads."""
    speaker.save_pretrained(Path(folder))
    words.save(folder)


def load_speaker(folder):
    """Speaking (the speaker in evaluation mode) of a training run, of a run of notebook 31, or of a model/ folder."""
    folder = model_folder(folder)
    return Speaking(Speaker.from_pretrained(folder).eval(), Words.load(folder))


def model_folder(folder):
    """The folder with config.json: the one that is named, or model/ or speaker/model/ inside it."""
    folder = locate(folder)
    for found in (folder, folder / "model", folder / "speaker" / "model"):
        if (found / "config.json").exists():
            return found
    raise FileNotFoundError(f"a speaker was expected at {folder}/model/config.json. Train one with 31_speaker_train.")


# paths as tensors


def path_inputs(features, houses, paths, headings, device=None, image_dropout=0.0, environment=None, generator=None):
    """What a speaker sees of B paths.

    The agent starts level, its heading turned to the nearest of the 12; after each move it keeps the heading of the view that
    its choice stood in, as the simulator does.

    paths          B lists of rows of `houses`, one or more
    headings       (B,) float radians, where the agent looks at the start
    image_dropout, environment, generator  as in `features.observe`
    -> PathInputs of B paths, S the longest

    ValueError  a path is empty, or two rows of it are not joined by an edge that an agent can take
    """
    lengths = np.array([len(path) for path in paths])
    if not lengths.all():
        raise ValueError(f"path {int(lengths.argmin())} is empty; a speaker needs one panorama or more.")
    mask = np.arange(lengths.max()) < lengths[:, None]
    rows = np.zeros(mask.shape, np.int64)
    rows[mask] = np.fromiter(chain.from_iterable(paths), np.int64)

    view, action = np.zeros_like(rows), np.zeros_like(rows)  # action 0 is STOP, action i candidate i - 1
    view[:, 0] = HEADINGS + np.floor(np.asarray(headings, np.float64) % (2 * np.pi) / STEP + 0.5) % HEADINGS
    here, there = rows[:, :-1][mask[:, 1:]], rows[:, 1:][mask[:, 1:]]
    table = houses.candidates
    found = table.index[here] == there[:, None]  # (moves, K)
    if not found.any(1).all():
        wrong = int(found.any(1).argmin())
        (scan, a), (_, b) = houses.name(here[wrong]), houses.name(there[wrong])
        raise ValueError(f"a path of house {scan} goes from {a} to {b}, but no agent can: there is no such edge. "
                         "Check the path against the house.")
    choice = found.argmax(1)
    view[:, 1:][mask[:, 1:]] = table.view[here, choice]
    action[:, :-1][mask[:, 1:]] = 1 + choice

    seen = observe_at(features, torch.from_numpy(rows.ravel()), torch.from_numpy(view.ravel()), device, image_dropout,
                      environment, generator)
    actions = seen.candidates[torch.arange(rows.size), torch.from_numpy(action.ravel())]
    return PathInputs(actions.unflatten(0, rows.shape), seen.views.unflatten(0, rows.shape), torch.from_numpy(mask).to(device))


# writing


@torch.no_grad()
def speak(speaker, words, inputs, temperature=0.0, n=1, max_length=120, generator=None):
    """Write instructions for B paths, all at once; those that are finished leave the batch.

    temperature  0 takes the likeliest word each time; else words are drawn from softmax(logits / temperature)
    n            instructions a path; they differ only where words are drawn
    max_length   most words; an instruction that is not finished by then is ended there
    generator    torch.Generator on the CPU
    -> ids (B * n, T) long, path after path, CLS ... SEP, padded; never UNK, never without a word
    """
    path, mask = speaker.encode(inputs).repeat_interleave(n, 0), inputs.mask.repeat_interleave(n, 0)
    max_length = min(max_length, speaker.config.max_length)
    never = torch.tensor([words.pad, words.unk, words.cls, words.mask], device=path.device)
    ids = torch.full((len(path), max_length + 2), words.pad, device=path.device)
    ids[:, 0] = words.cls
    going, state = torch.arange(len(path), device=path.device), None  # rows of `ids` that are still being written
    for t in range(1, max_length + 1):
        decoded = speaker.decode(ids[going, t - 1:t], path, mask, state)
        logits = decoded.logits[:, 0].float().index_fill(1, never, -torch.inf)
        if t == 1:
            logits[:, words.sep] = -torch.inf
        word = draw(logits, temperature, generator)
        ids[going, t] = word
        kept = (word != words.sep).nonzero()[:, 0]
        state = decoded.state
        if len(kept) < len(going):
            going, path, mask, *state = (part[kept] for part in (going, path, mask, *state))
        if not len(going):
            return ids[:, :t + 1]
    ids[going, max_length + 1] = words.sep
    return ids


def draw(logits, temperature, generator=None):
    """One word a row: logits (B, V) float, -inf where forbidden; temperature 0 takes the likeliest -> (B,) long"""
    if not temperature:
        return logits.argmax(-1)
    cumulated = (logits / temperature).softmax(-1).cumsum(-1)
    chosen = torch.rand(len(logits), 1, generator=generator).to(logits.device) * cumulated[:, -1:]
    return torch.searchsorted(cumulated, chosen, right=True)[:, 0].clamp(max=logits.shape[1] - 1)


def decode_texts(words, ids):
    """ids (B, T) -> list of B str"""
    return [words.decode(row) for row in ids.tolist()]


# scoring


@torch.no_grad()
def log_likelihood(speaker, words, features, houses, paths, texts, headings=None, batch_size=256):
    """log p(text | path) in nats, the end included: what beam search ranks its paths by (Fried et al. 2018).

    paths     B lists of rows of `houses`
    texts     B instructions; one longer than the speaker writes is cut at its end
    headings  (B,) radians at the start; default 0
    -> (B,) float32 on the CPU
    """
    device = next(speaker.parameters()).device
    headings = np.zeros(len(paths)) if headings is None else headings
    scores = [torch.zeros(0)]
    for start in range(0, len(paths), batch_size):
        some = slice(start, start + batch_size)
        inputs = path_inputs(features, houses, paths[some], headings[some], device)
        ids = words.batch(texts[some], speaker.config.max_length + 2, "end")[0].to(device)
        scores.append(-word_nll(speaker(inputs, ids).logits, ids).sum(1).cpu())
    return torch.cat(scores)


def back_translate(speaker, words, features, houses, paths, headings, environment=None, temperature=0.0, max_length=78,
                   generator=None):
    """Pseudo-instructions of paths in an environment with dropout (Tan et al. 2019, section 3.4).

    environment  (F,) mask of `features.environment_mask`: the one the agent sees the same paths through
    temperature  0, the likeliest words, is what EnvDrop takes
    max_length   most words; 78 and the two marks make EnvDrop's 80
    -> ids (B, T) long, CLS ... SEP, padded, and mask (B, T) bool: what `Words.batch` gives for real instructions
    """
    was_training = speaker.training
    speaker.eval()
    inputs = path_inputs(features, houses, paths, headings, next(speaker.parameters()).device, environment=environment)
    ids = speak(speaker, words, inputs, temperature, max_length=max_length, generator=generator)
    speaker.train(was_training)
    return ids, ids != words.pad
