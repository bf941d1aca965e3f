"""Where the batches of a training run come from: a corpus in memory, or streamed shards; the same for Optimus and its twin."""

import glob
import os

import numpy as np

from dgmlab import training
from dgmlab.data.batching import share
from dgmlab.data.text import load_text
from dgmlab.optimus.data import Corpus, Tokenizers, build_tokenizers, model_folder

SHARDS = "shards:"
MAX_EMPTY = 1000  # streamed batches in a row without a sentence that is short enough


class Data:
    """Training batches, validation and test corpora and tokenizers of one run.

    valid, test  `Corpus`, as is train unless it is streamed
    state_parts  what a checkpoint must hold besides the step (the stream's position)
    """

    def __init__(self, tokenizers, corpora, config, accelerator, stream=None):
        self.tokenizers = tokenizers
        self.train, self.valid, self.test = corpora
        self.config, self.accelerator, self.stream = config, accelerator, stream
        self.state_parts = {} if stream is None else {"stream": stream}

    def batches(self, first_step):
        """Endless `Corpus`-and-index batches from the position after `first_step` steps; global over the ranks."""
        if self.stream is None:
            epochs = self.train.epoch_batches(self.config.batch_size, self.config.seed)
            return ((self.train, index) for _, index in training.endless(epochs, first_step))
        return self._streamed()

    def _streamed(self):
        n_empty = 0
        for sentences in self.stream:
            try:
                corpus = Corpus(sentences, self.tokenizers, self.config.max_length, "a streamed batch")
            except ValueError:  # batches hold sentences of like length: in some, all have too many tokens
                n_empty += 1
                if n_empty > MAX_EMPTY:
                    raise
                continue
            n_empty = 0
            yield corpus, np.arange(len(corpus))

    def micro_batches(self, batch, accumulate):
        """Yield (Pair on this device, weight, is the last) of this rank's share of a global batch.

        The weights make the sum of weighted mean losses, averaged over ranks, equal to the mean over the global batch,
        however unevenly it divides; so accumulation and ranks give the gradient of the large batch.
        """
        corpus, index = batch
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        mine = share(index, rank, world)
        whole = len(index) if rank < len(index) else np.inf  # a lent row takes part with weight 0
        groups = [rows for rows in np.array_split(mine, accumulate) if len(rows)]
        for i, rows in enumerate(groups):
            weight = world * len(rows) / whole
            yield corpus.pair(rows).to(self.accelerator.device), weight, i == len(groups) - 1


def open_data(run, config, accelerator):
    """Load the corpora of a TrainConfig, and the tokenizers: those of `init`, those of the run folder, or new ones."""
    if config.data.startswith(SHARDS):
        return _open_stream(run, config, accelerator)
    # drawn over the whole split, not its first sentences: files are often sorted by length, picture or class
    limits = {"train": config.limit, "valid": config.n_watch, "test": config.n_eval}
    splits = {split: load_text(config.data, split, limit=limit or None) for split, limit in limits.items()}
    tokenizers = open_tokenizers(run, config, splits["train"], accelerator)
    return Data(tokenizers, _corpora(splits, tokenizers, config, accelerator), config, accelerator)


def _open_stream(run, config, accelerator):
    """Shards matched by a glob; the last one is held out for validation and test, and never trained on."""
    from dgmlab.data.stream import ShardedText, read_shard

    paths = sorted(glob.glob(os.path.expanduser(config.data.removeprefix(SHARDS))))
    if len(paths) < 2:
        raise FileNotFoundError(f"streamed text needs at least two shards (the last is held out), found {len(paths)} for "
                                f"'{config.data.removeprefix(SHARDS)}'. Give a quoted glob of .txt or .jsonl files.")
    held_out = [sentence for sentence, _ in zip(read_shard(paths[-1]), range(4 * max(config.n_eval, 1000)), strict=False)]
    sample = [sentence for sentence, _ in zip(read_shard(paths[0]), range(200_000), strict=False)]
    tokenizers = open_tokenizers(run, config, sample, accelerator)
    stream = ShardedText(paths[:-1], config.batch_size, seed=config.seed, max_words=config.max_length)
    half = len(held_out) // 2
    splits = {"valid": held_out[:half][:config.n_watch], "test": held_out[half:][:config.n_eval or None]}
    return Data(tokenizers, _corpora(splits, tokenizers, config, accelerator), config, accelerator, stream)


def _corpora(splits, tokenizers, config, accelerator):
    """(train, valid, test) of the sentences by split, each a Corpus or None; says how many are too long and left out."""
    corpora = {split: Corpus(sentences, tokenizers, config.max_length, f"split {split} of '{config.data}'")
               for split, sentences in splits.items()}
    for split, corpus in corpora.items():
        if corpus.n_dropped and accelerator.is_main_process:
            print(f"{split}: {corpus.n_dropped:,} of {len(corpus) + corpus.n_dropped:,} sentences are longer than "
                  f"{config.max_length} tokens and left out", flush=True)
    return [corpora.get(split) for split in ("train", "valid", "test")]


def open_tokenizers(run, config, sentences, accelerator):
    """One tokenizer for the life of a run: made by the main process, then read by all and on every resume."""
    if config.init:
        return Tokenizers.load(model_folder(config.init))
    folder = run.dir / "tokenizers"
    if accelerator.is_main_process and not folder.exists():
        scratch = run.dir / ".tokenizers.tmp"
        build_tokenizers(config.size, sentences, config.vocab_size, config.encoder, config.decoder).save(scratch)
        os.replace(scratch, folder)
    accelerator.wait_for_everyone()
    return Tokenizers.load(folder)
