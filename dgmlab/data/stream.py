"""Batches of text too large for memory: shards (.txt, .jsonl, .tsv, each also .gz), one block of sentences in memory.

An epoch visits all shards in a random order. The sentences of a shard are read in blocks; a block is shuffled, sorted into
batches of similar length, and the batches are shuffled. All of it follows from (seed, epoch, shard, block), so the position
is four small numbers, and a resumed stream re-reads at most one shard up to its block.
"""

import glob
import itertools
from pathlib import Path

import numpy as np

from dgmlab.data.batching import batches
from dgmlab.data.reading import rows

BLOCK = 200  # batches in a block


def read_shard(path):
    """Yield the sentences of a shard, in order, stripped, without blank ones."""
    return (row.sentence for row in rows(path))


class ShardedText:
    """Endless batches of sentences over many shards, resumable after any batch.

    paths         list of paths, or a glob pattern such as "wiki/*.jsonl.gz"
    batch_size    sentences in a batch; the last one of a block may be smaller
    seed          decides every order
    max_words     longer sentences (whitespace words) are left out; None keeps all
    rank, world   this process reads sentences rank, rank + world, ... of every shard: disjoint and complete
    epochs        stop after so many passes; None goes on for ever
    block         batches shuffled together, and all that is in memory

    Iterating gives lists of str. `state_dict()` holds the position after the last batch that was given out. Ranks hold equal
    numbers of sentences to within one a shard; over different numbers of processes a position has no meaning and is refused.
    """

    def __init__(self, paths, batch_size, seed=0, max_words=None, rank=0, world=1, epochs=None, block=BLOCK):
        self.paths = _shards(paths)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, found {batch_size}.")
        if not 0 <= rank < world:
            raise ValueError(f"rank must lie in 0..{world - 1} for {world} processes, found {rank}.")
        self.batch_size, self.seed, self.max_words = batch_size, seed, max_words
        self.rank, self.world, self.epochs, self.block = rank, world, epochs, block
        self.epoch = self.shard = self.block_index = self.batch = 0  # the next batch to give out

    def __iter__(self):
        """Yield batches from the present position on."""
        while self.epochs is None or self.epoch < self.epochs:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.paths))
            empty = not (self.shard or self.block_index or self.batch)
            while self.shard < len(order):
                for batch in self._shard_batches(int(order[self.shard])):
                    empty = False
                    yield batch
                self.shard, self.block_index, self.batch = self.shard + 1, 0, 0
            if empty:  # else an endless stream would look for a sentence for ever
                raise ValueError(self._nothing_left())
            self.epoch, self.shard = self.epoch + 1, 0

    def _shard_batches(self, shard):
        """Batches of one shard from (block_index, batch) on; the position moves before a batch is given out."""
        size = self.block * self.batch_size
        sentences = itertools.islice(self._sentences(shard), self.block_index * size, None)
        while block := list(itertools.islice(sentences, size)):
            lengths = [len(sentence.split()) for sentence in block]
            key = int(np.random.SeedSequence([self.seed, shard, self.block_index]).generate_state(1)[0])
            made = batches(lengths, self.batch_size, key, self.epoch)
            while self.batch < len(made):
                self.batch += 1
                yield [block[i] for i in made[self.batch - 1]]
            self.block_index, self.batch = self.block_index + 1, 0

    def _sentences(self, shard):
        kept = (s for s in read_shard(self.paths[shard]) if self.max_words is None or len(s.split()) <= self.max_words)
        return itertools.islice(kept, self.rank, None, self.world)

    def _nothing_left(self):
        kept = f" of at most {self.max_words} words" if self.max_words else ""
        share = f" for rank {self.rank} of {self.world}" if self.world > 1 else ""
        return f"expected sentences{kept}{share}, found none in {len(self.paths)} shards. Add text, or raise max_words."

    def state_dict(self):
        """The position, and what it depends on. -> dict of plain values"""
        position = {"epoch": self.epoch, "shard": self.shard, "block_index": self.block_index, "batch": self.batch}
        return {**position, "made_for": self._made_for()}

    def _made_for(self):
        """What must be the same for a position to mean the same; sizes stand in for the content of the shards."""
        return {
            "shards": [[path.name, path.stat().st_size] for path in self.paths],
            **{key: getattr(self, key) for key in ("batch_size", "seed", "max_words", "rank", "world", "block")},
        }

    def load_state_dict(self, state):
        """Go on exactly where `state_dict` was taken; other shards or settings are refused."""
        mine = self._made_for()
        differing = [key for key in mine if state["made_for"].get(key) != mine[key]]
        if differing:
            what = "; ".join(f"{key} was {_short(state['made_for'].get(key))}, is {_short(mine[key])}" for key in differing)
            raise ValueError(f"the stream's position was saved with other settings: {what}. Restore them, or start anew.")
        self.epoch, self.shard = state["epoch"], state["shard"]
        self.block_index, self.batch = state["block_index"], state["batch"]


def _short(value):
    return f"{len(value)} files of {sum(size for _, size in value):,} bytes" if isinstance(value, list) else value


def _shards(paths):
    """Existing files, in the order given (a glob pattern: sorted). -> list of Path"""
    found = sorted(glob.glob(paths)) if isinstance(paths, str) else list(paths)
    if not found:
        raise FileNotFoundError(f"expected shards, found none for '{paths}'. Give files, or a pattern like 'wiki/*.jsonl'.")
    missing = [str(path) for path in found if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(found)} shards do not exist, first {missing[0]}. Check the paths.")
    return [Path(path) for path in found]
