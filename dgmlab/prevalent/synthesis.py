"""Synthetic instructions: a speaker tells every path worth telling, several times each; 6.5 million triplets of Prevalent.

    python -m dgmlab.prevalent.synthesis --speaker RUN --out FOLDER                       all paths of the training houses
    python -m dgmlab.prevalent.synthesis --speaker RUN --out FOLDER --limit 3400          20,400 instructions
    torchrun --standalone --nproc_per_node 8 -m dgmlab.prevalent.synthesis --speaker RUN --out FOLDER

Of the 61 training houses of R2R these are 178,300 paths with 1,080,378 panoramas; six instructions a path give the 6,482,268
triplets of Hao et al. (2020), who drew them at temperature 0.5. Killed or interrupted? The same command goes on: finished
shards are kept. What is in a shard depends on its number alone, not on how many processes share the work.

    FOLDER/plan.json            what was asked for; another plan needs another folder
    FOLDER/shard-00000.jsonl.gz a line a path: {"scan", "path": viewpoint ids, "heading": radians, "instructions": [str, ...]}
"""

import argparse
import gzip
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.command import guarded
from dgmlab.config import differences, from_namespace
from dgmlab.data.reading import draw_rows
from dgmlab.prevalent.episodes import Episode, n_steps
from dgmlab.prevalent.features import open_features
from dgmlab.prevalent.paths import augmentation_paths
from dgmlab.prevalent.speaking import decode_texts, load_speaker, model_folder, path_inputs, speak
from dgmlab.prevalent.train_speaker import FEATURES, SpeakerTrainConfig, training_houses
from dgmlab.run import Run, locate, read_json, write_error, write_json


class Counts(NamedTuple):
    """How much there is to learn from: steps are triplets of instruction, panorama and action, STOP included."""

    paths: int
    instructions: int
    steps: int


class Teller(NamedTuple):
    """What writes: the speaker in evaluation mode, its words, and the houses it speaks of as it sees them."""

    speaker: torch.nn.Module
    words: object
    houses: object
    features: object


def open_teller(folder, device=None):
    """The speaker of a training run, in its training houses and with the features that it was trained on. -> Teller

    folder  run folder of `train_speaker`, with params.json and model/, or of notebook 31
    """
    speaker, words = load_speaker(folder)
    run = Run(model_folder(folder).parent)
    params = run.params
    if "data" not in params:
        raise FileNotFoundError(f"the settings of the speaker, which name its houses, were expected at {run.dir}/params.json. "
                                "Leave the model in the run that it was trained in.")
    config = from_namespace(SpeakerTrainConfig, params)
    houses = training_houses(config)
    features = open_features(config.features or FEATURES[config.data], houses, config.features_path)
    return Teller(speaker.to(device), words, houses, features)


# writing


def write_synthetic(teller, folder, n_instructions=6, temperature=0.5, seed=0, limit=0, shard_size=256, rank=0, world=1,
                    show=False):
    """Tell the paths of `augmentation_paths` and write them in shards; those that are there already are left alone.

    teller          Teller; its houses are those whose paths are told
    n_instructions  a path [6]
    temperature     of the sampling [0.5]; 0 gives the same instruction n times
    limit           so many paths, drawn at random from all houses; 0 takes all [178,300]
    shard_size      paths a file
    rank, world     process `rank` of `world` writes the shards rank, rank + world, ...
    show            print a line a shard
    -> number of instructions that this call has written

    ValueError  the folder holds shards of another plan (named); nothing is written
    """
    if n_instructions < 1 or shard_size < 1 or temperature < 0 or not 0 <= rank < world:
        raise ValueError("n_instructions and shard_size start at 1, temperature at 0, and rank is below world; found "
                         f"{n_instructions}, {shard_size}, {temperature}, and rank {rank} of {world}.")
    folder = Path(folder)
    paths = augmentation_paths(teller.houses)
    chosen = draw_rows(paths.n, limit, seed)
    shards = [chosen[start:start + shard_size] for start in range(0, len(chosen), shard_size)]
    _check_plan(folder, {
        "speaker": _fingerprint(teller), "scans": len(teller.houses.scans), "n_paths": len(chosen), "n_shards": len(shards),
        "n_instructions": n_instructions, "temperature": temperature, "seed": seed, "limit": limit, "shard_size": shard_size})

    written, began = 0, time.monotonic()
    mine = [number for number in range(rank, len(shards), world) if not _shard(folder, number).exists()]
    for done, number in enumerate(mine, start=1):
        told = tell(teller, [paths.path(i).tolist() for i in shards[number]], n_instructions, temperature, [seed, number])
        _write_shard(_shard(folder, number), told)
        written += len(told) * n_instructions
        if show:
            rate = written / (time.monotonic() - began)
            left = (len(mine) - done) * shard_size * n_instructions / rate
            print(f"shard {number} ({done}/{len(mine)})  {rate:,.0f} instructions/s  {left:,.0f} s left", flush=True)
    return written


def tell(teller, paths, n_instructions, temperature, seed, batch_size=64):
    """Instructions for paths (lists of rows), each from a heading drawn at random.

    seed  what the headings and words are drawn by: ints, as numpy takes them
    -> list of dicts as they stand in a shard
    """
    rng = np.random.default_rng(seed)
    headings = rng.uniform(0, 2 * np.pi, len(paths)).round(3)  # R2R's have three digits too
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    device = next(teller.speaker.parameters()).device
    told = []
    for start in range(0, len(paths), batch_size):
        some = slice(start, start + batch_size)
        inputs = path_inputs(teller.features, teller.houses, paths[some], headings[some], device)
        ids = speak(teller.speaker, teller.words, inputs, temperature, n_instructions, generator=generator)
        texts = decode_texts(teller.words, ids)
        for i, (path, heading) in enumerate(zip(paths[some], headings[some].tolist(), strict=True)):
            places = [teller.houses.name(row) for row in path]
            told.append({"scan": places[0][0], "path": [viewpoint for _, viewpoint in places], "heading": heading,
                         "instructions": texts[i * n_instructions:(i + 1) * n_instructions]})
    return told


def _fingerprint(teller):
    """The first digits of a sha256 over the weights: two speakers must not write into one folder."""
    digest = hashlib.sha256()
    for name, tensor in sorted(teller.speaker.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_plan(folder, plan):
    """Write plan.json, or hold it against the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = read_json(folder / "plan.json")
    if stored not in (None, plan):
        raise ValueError(f"{folder} holds shards of another plan ({'; '.join(differences(stored, plan))}). "
                         "Use another folder, or the same settings to go on.")
    if stored is None:
        write_json(folder / "plan.json", plan)


def _shard(folder, number):
    return folder / f"shard-{number:05d}.jsonl.gz"


def _write_shard(path, told):
    """Write lines of JSON so that the file is whole or absent; the same lines give the same bytes."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in told)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(gzip.compress(text.encode(), mtime=0))
        os.replace(scratch, path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise write_error(path, error) from error


# reading


def read_lines(folder):
    """Iterate over (name of the path, line of the shard as a dict), shard after shard; never more than a shard in memory.

    FileNotFoundError  there is no synthesis here;  ValueError  it is not finished, or a shard is damaged
    """
    folder = locate(folder)
    plan = read_json(folder / "plan.json")
    if plan is None:
        raise FileNotFoundError(f"synthetic instructions were expected at {folder}, with a plan.json. "
                                "Write them: python -m dgmlab.prevalent.synthesis --help.")
    missing = [number for number in range(plan["n_shards"]) if not _shard(folder, number).exists()]
    if missing:
        raise ValueError(f"{folder} lacks {len(missing)} of {plan['n_shards']} shards, the first of them {missing[0]}. "
                         "Start the same command again; it goes on where it stopped.")
    for number in range(plan["n_shards"]):
        path = _shard(folder, number)
        try:
            lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}). Delete it and start the synthesis again: it writes what is "
                             "missing.") from None
        yield from ((f"synthetic-{number:05d}-{i}", line) for i, line in enumerate(lines))


def read_synthetic(folder):
    """Iterate over the instructions of a folder of shards, as Episodes; about: path_id, the same for those of one path."""
    for path_id, line in read_lines(folder):
        path = tuple(line["path"])
        for k, instruction in enumerate(line["instructions"]):
            yield Episode(f"{path_id}_{k}", line["scan"], line["heading"], 0.0, path, instruction, path[-1:],
                          {"path_id": path_id})


# counting


def count_synthetic(folder):
    """What is in a folder of shards. -> Counts"""
    paths = instructions = steps = 0
    for _, line in read_lines(folder):
        paths += 1
        instructions += len(line["instructions"])
        steps += len(line["path"]) * len(line["instructions"])
    return Counts(paths, instructions, steps)


def count_possible(houses, n_instructions=6):
    """What a synthesis without limit gives in these houses; 6,482,268 steps in the 61 of R2R's training split. -> Counts"""
    paths = augmentation_paths(houses)
    return Counts(paths.n, paths.n * n_instructions, len(paths.rows) * n_instructions)


def count_real(episodes):
    """The same of real instructions; 84,280 steps in R2R's training split, 104,494 with both validation splits. -> Counts"""
    return Counts(len({(episode.scan, episode.path) for episode in episodes}), len(episodes), n_steps(episodes))


def main(arguments=None):
    """Parse, write, print the counts; a user's mistake is one line and exit code 2."""
    parser = argparse.ArgumentParser("python -m dgmlab.prevalent.synthesis", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speaker", required=True, help="run folder of a trained speaker")
    parser.add_argument("--out", required=True, help="folder of the shards")
    parser.add_argument("--instructions", type=int, default=6, help="a path (default %(default)s, as published)")
    parser.add_argument("--temperature", type=float, default=0.5, help="of the sampling (default %(default)s, as published)")
    parser.add_argument("--seed", type=int, default=0, help="of headings and words (default %(default)s)")
    parser.add_argument("--limit", type=int, default=0, help="so many paths, drawn at random (default: all)")
    parser.add_argument("--shard-size", type=int, default=256, help="paths a file (default %(default)s)")
    parser.add_argument("--rank", type=int, default=int(os.environ.get("RANK", 0)), help="of this process; torchrun sets it")
    parser.add_argument("--world", type=int, default=int(os.environ.get("WORLD_SIZE", 1)), help="number of processes")
    asked = parser.parse_args(arguments)

    def write():
        teller = open_teller(asked.speaker, "cuda" if torch.cuda.is_available() else "cpu")
        written = write_synthetic(teller, asked.out, asked.instructions, asked.temperature, asked.seed, asked.limit,
                                  asked.shard_size, asked.rank, asked.world, show=True)
        print(f"process {asked.rank} of {asked.world} has written {written:,} instructions to {asked.out}")

    return guarded(write)


if __name__ == "__main__":
    sys.exit(main())
