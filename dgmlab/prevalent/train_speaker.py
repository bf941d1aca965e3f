"""Training of the speaker: teacher forcing on paths and their instructions, watched by what it writes on its own.

    train(run, SpeakerTrainConfig(data="r2r", features="semantic", size="small"))

trains, resumes where the folder has state, and leaves model/ and results.json. The model that is kept is the one with the best
BLEU on val_unseen, as in EnvDrop (Tan et al. 2019): on that split BLEU is a little flattered, and with choose="val_seen" it is
not.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import broadcast_object_list

from dgmlab import training
from dgmlab.config import unknown_name
from dgmlab.data.batching import batches, share
from dgmlab.data.reading import draw
from dgmlab.metrics.overlap import bleu, cider
from dgmlab.prevalent.episodes import check_episodes, groups
from dgmlab.prevalent.features import Features, open_features
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.speaker import Speaker, word_nll
from dgmlab.prevalent.speaking import decode_texts, path_inputs, save_speaker, speak
from dgmlab.prevalent.tasks import load_r2r
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.words import Words, tokenize

SPLITS = ("val_seen", "val_unseen")
FEATURES = {"toy": "toy", "r2r": "semantic"}  # what is seen where nothing else is asked for
UNSEEN = 10_000  # seeds of toy houses that are never trained on start here


@dataclass(frozen=True)
class SpeakerTrainConfig:
    """What a training run of a speaker is made of. EnvDrop's values in brackets."""

    data: str = "toy"  # toy | r2r [r2r]
    features: str = ""  # toy | semantic | tsv | hdf5; '' takes toy or, for r2r, semantic [tsv, ResNet-152 of ImageNet]
    features_path: str = ""  # the file, for tsv and hdf5
    n_houses: int = 12  # toy: houses to train in
    n_paths: int = 2000  # toy: paths to train on; a tenth as many in each validation split
    min_moves: int = 1  # toy: least moves of a path
    max_moves: int = 3  # toy: most
    phrasings: int = 3  # toy: instructions a path [3 in R2R]
    limit: int = 0  # r2r: training instructions taken, drawn at random; 0 takes all [14,039]
    min_count: int = 5  # uses that a word needs to be in the vocabulary [5]
    size: str = "tiny"  # preset: tiny | small | paper
    decoder: str = "lstm"  # lstm | transformer [lstm]
    dropout: float = -1.0  # between layers; -1 takes the preset's [0.6]
    image_dropout: float = 0.3  # of the picture features, anew for each number [0.3]
    max_length: int = 80  # tokens of a training instruction with both marks; longer ones are cut at the end [80]
    n_steps: int = 600  # optimiser steps [80,000]
    batch_size: int = 64  # instructions a step, over all ranks [64]
    lr: float = 2e-3  # learning rate of Adam [1e-4]
    decay: bool = True  # let the learning rate fall linearly to 0 [false]
    clip: float = 40.0  # gradient norm [40]
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    seed: int = 0  # of everything
    eval_every: int = 200  # steps between looks at the validation splits
    save_every: int = 200  # steps between checkpoints
    n_eval: int = 0  # paths of each validation split in these looks; 0 takes all
    choose: str = "val_unseen"  # split whose BLEU chooses the model that is kept: val_unseen | val_seen [val_unseen]


class Corpus(NamedTuple):
    """Houses, what is seen in them, the words, and the episodes of each split."""

    houses: Houses
    features: Features
    words: Words
    splits: dict  # train, val_seen, val_unseen -> list of Episode


class Lessons(NamedTuple):
    """N training examples: paths, N lists of rows; headings (N,) radians; ids, N lists of word ids."""

    paths: list
    headings: np.ndarray
    ids: list

    def batch(self, index, corpus, device, image_dropout=0.0):
        """(PathInputs, ids (B, T) long) of the examples `index`."""
        inputs = path_inputs(corpus.features, corpus.houses, [self.paths[i] for i in index], self.headings[index], device,
                             image_dropout)
        return inputs, corpus.words.pad_batch([self.ids[i] for i in index])[0].to(device)


def train(run, config):
    """Train a speaker in the folder `run`; take up the latest checkpoint if there is one.

    run     `dgmlab.run.Run`; gets metrics.jsonl, checkpoints/, model/, results.json
    config  SpeakerTrainConfig
    -> dict of the final numbers: bleu, cider, ppl and n_words of `Report`, as val_seen_bleu and so on
    """
    accelerator = training.start(config.seed, config.precision)
    main, device = accelerator.is_main_process, accelerator.device
    with training.reported(run, main):
        corpus = open_corpus(config)
        lessons = make_lessons(corpus, config)
        speaker = build_speaker(config, corpus)
        optimizer = torch.optim.Adam(speaker.parameters(), lr=config.lr, fused=True)
        wrapped, optimizer = accelerator.prepare(speaker, optimizer)
        parts = {"model": wrapped, "optimizer": optimizer.optimizer}
        lengths = [len(ids) for ids in lessons.ids]

        first = training.load_state(run, accelerator, parts)
        progress = training.Progress(run, config.n_steps, first, run.dir.name, show=main)
        epochs = training.endless(lambda epoch: batches(lengths, config.batch_size, config.seed, epoch), first)
        accelerator.wait_for_everyone()  # until the metrics are rewound
        best, watched = max(run.column(f"bleu/{config.choose}")[1], default=-1.0), {}
        wrapped.train()
        for step in range(first, config.n_steps):
            training.set_lr(optimizer, config.lr * (training.warmup_linear(step, config.n_steps) if config.decay else 1.0))
            _, index = next(epochs)
            rank, world = accelerator.process_index, accelerator.num_processes
            inputs, ids = lessons.batch(share(index, rank, world), corpus, device, config.image_dropout)
            optimizer.zero_grad(set_to_none=True)
            with training.autocast(accelerator):
                nll = word_nll(wrapped(inputs, ids).logits, ids)
            n_words = sum(lengths[i] - 1 for i in index)  # of the whole batch: ranks of unequal shares then add up to its mean
            loss = nll.sum() * (rank < len(index)) * world / n_words  # a lent row counts nothing
            accelerator.backward(loss)
            total = float(accelerator.reduce(loss.detach(), "mean"))
            training.check_finite(step + 1, nll=total)
            norm = training.clip(accelerator, wrapped, config.clip, step + 1)
            optimizer.step()

            done = step + 1
            if main and (training.every(done, 10, config.n_steps) or done == 1):
                run.log(done, nll=total, gradient_norm=norm, lr=optimizer.param_groups[0]["lr"])
            progress.update(done, nll=total, **watched)
            if training.every(done, config.eval_every, config.n_steps):
                scores = watch(speaker, corpus, config.n_eval, accelerator)
                watched = {"bleu": scores[config.choose]["bleu"]}
                if watched["bleu"] > best:
                    best = watched["bleu"]
                    training.save_state(run, done, accelerator, {"model": wrapped}, name="best")
                if main:
                    run.log(done, **{f"{name}/{split}": scores[split][name] for split in SPLITS for name in scores[split]})
            if training.every(done, config.save_every, config.n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()
        return finish(run, corpus, wrapped, accelerator)


# what it is trained on


def open_corpus(config):
    """Houses, features, words and episodes of a SpeakerTrainConfig. -> Corpus"""
    for given, valid, what in ((config.data, SOURCES, "data of the speaker"), (config.choose, SPLITS, "split to choose by")):
        if given not in valid:
            raise KeyError(unknown_name(given, valid, what))
    houses, splits = SOURCES[config.data](config)
    features = open_features(config.features or FEATURES[config.data], houses, config.features_path)
    words = Words.build([episode.instruction for episode in splits["train"]], config.min_count)
    return Corpus(houses, features, words, splits)


def _r2r(config):
    splits = {split: load_r2r(split) for split in ("train", *SPLITS)}
    splits["train"] = draw(splits["train"], config.limit, config.seed)
    houses = Houses.load(sorted({episode.scan for episodes in splits.values() for episode in episodes}))
    return houses, {split: check_episodes(episodes, houses) for split, episodes in splits.items()}


def _toy(config):
    """Seen houses are those of the seeds 0, 1, ...; validation paths in them are no training paths."""
    seen, unseen = Houses.toy(range(config.n_houses)), Houses.toy(range(UNSEEN, UNSEEN + 1 + config.n_houses // 4))
    n_train, n_valid = config.n_paths * config.phrasings, max(1, config.n_paths // 10) * config.phrasings
    told = {"moves": (config.min_moves, config.max_moves), "phrasings": config.phrasings}
    both = toy_episodes(seen, n_train + n_valid, config.seed, **told)
    trained = {(episode.scan, episode.path) for episode in both[:n_train]}
    splits = {"train": both[:n_train],
              "val_seen": [episode for episode in both[n_train:] if (episode.scan, episode.path) not in trained],
              "val_unseen": toy_episodes(unseen, n_valid, config.seed, **told)}
    if not splits["val_seen"]:
        raise ValueError(f"{config.n_houses} toy houses have at most n_paths={config.n_paths} paths of {config.min_moves} to "
                         f"{config.max_moves} moves, and none is left for val_seen. Take more houses, or fewer paths.")
    return Houses([*seen.houses.values(), *unseen.houses.values()]), splits


SOURCES = {"toy": _toy, "r2r": _r2r}


def training_houses(config):
    """The houses that a speaker of this SpeakerTrainConfig was trained in, and may tell paths of. -> Houses"""
    if config.data == "toy":
        return Houses.toy(range(config.n_houses))
    return Houses.load(sorted({episode.scan for episode in load_r2r("train")}))


def make_lessons(corpus, config):
    """The training episodes as rows of the houses and ids of the words. -> Lessons"""
    episodes = corpus.splits["train"]
    ids = [corpus.words.encode(episode.instruction, config.max_length, "end") for episode in episodes]
    return Lessons(row_paths(corpus.houses, episodes), np.array([episode.heading for episode in episodes]), ids)


def row_paths(houses, episodes):
    """The paths of episodes as lists of rows of `houses`."""
    return [[houses.row(episode.scan, viewpoint) for viewpoint in episode.path] for episode in episodes]


def build_speaker(config, corpus):
    """The speaker that a SpeakerTrainConfig asks for, at random."""
    own = {} if config.dropout < 0 else {"dropout": config.dropout}
    return Speaker.from_preset(config.size, len(corpus.words), corpus.features.size, decoder=config.decoder, **own)


# how it does


def by_path(episodes, limit=0):
    """The episodes of each path together, in the order of the first; limit: so many paths, drawn the same way each time."""
    together = defaultdict(list)
    for path, episode in zip(groups(episodes), episodes, strict=True):
        together[path].append(episode)
    return draw(list(together.values()), limit)


class Report(NamedTuple):
    """What a speaker writes for N paths, greedily: texts (N,), references (N,) of lists of str, and its scores."""

    texts: list
    references: list
    scores: dict  # bleu and cider in [0, 1] and [0, 10]; ppl, per word and end; n_words, mean words of an instruction


@torch.no_grad()
def examine(speaker, corpus, episodes, limit=0, batch_size=256):
    """Write for each path of `episodes` and score that against its instructions; and the perplexity of these. -> Report"""
    words, paths = corpus.words, by_path(episodes, limit)
    device = next(speaker.parameters()).device
    texts, nll, n_words = [], 0.0, 0
    for start in range(0, len(paths), batch_size):
        some = paths[start:start + batch_size]
        firsts = [group[0] for group in some]
        inputs = path_inputs(corpus.features, corpus.houses, row_paths(corpus.houses, firsts),
                             [episode.heading for episode in firsts], device)
        texts += decode_texts(words, speak(speaker, words, inputs))
        path = speaker.encode(inputs)
        for number in range(max(map(len, some))):  # the first instruction of each path, the second, ...
            of = [i for i, group in enumerate(some) if number < len(group)]
            ids, mask = words.batch([some[i][number].instruction for i in of], speaker.config.max_length + 2, "end")
            ids = ids.to(device)
            nll += float(word_nll(speaker.decode(ids, path[of], inputs.mask[of]).logits, ids).sum())
            n_words += int(mask[:, 1:].sum())
    references = [[" ".join(tokenize(episode.instruction)) for episode in group] for group in paths]
    scores = {"bleu": bleu(texts, references), "cider": cider(texts, references), "ppl": float(np.exp(nll / n_words)),
              "n_words": float(np.mean([len(text.split()) for text in texts]))}
    return Report(texts, references, scores)


def watch(speaker, corpus, limit, accelerator):
    """The scores of `examine` on both validation splits, made by the main process for all. -> dict split -> dict of scores"""
    scores = [{}]
    if accelerator.is_main_process:
        speaker.eval()
        with accelerator.autocast():
            scores = [{split: examine(speaker, corpus, corpus.splits[split], limit).scores for split in SPLITS}]
        speaker.train()
    broadcast_object_list(scores)
    return scores[0]


def finish(run, corpus, wrapped, accelerator):
    """Save the best speaker and score it on all of both validation splits; what was scored before is read back."""
    if done := run.finished():
        return done
    training.load_state(run, accelerator, {"model": wrapped}, name="best")
    speaker = accelerator.unwrap_model(wrapped)
    scores = watch(speaker, corpus, 0, accelerator)
    numbers = {f"{split}_{name}": scores[split][name] for split in SPLITS for name in scores[split]}
    if accelerator.is_main_process:
        save_speaker(run.dir / "model", speaker, corpus.words)
        run.save_results(numbers)
    return numbers
