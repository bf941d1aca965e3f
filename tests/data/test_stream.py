"""A stream loses no sentence, shares none between ranks, and goes on exactly where it stopped."""

import gzip
import itertools
import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgmlab.data.stream import ShardedText, read_shard


def sentence(shard, i):
    return " ".join(["word"] * (1 + (7 * i + shard) % 9) + [f"s{shard}n{i}"])


SIZES = (37, 1, 60, 12)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Four shards of 37, 1, 60 and 12 sentences: plain, gzipped, JSON lines, gzipped JSON lines."""
    folder = tmp_path_factory.mktemp("shards")
    paths = [folder / name for name in ("a.txt", "b.txt.gz", "c.jsonl", "d.jsonl.gz")]
    for shard, (path, size) in enumerate(zip(paths, SIZES, strict=True)):
        items = [sentence(shard, i) for i in range(size)]
        items = [json.dumps({"text": item}) for item in items] if ".jsonl" in path.name else items
        with gzip.open(path, "wt") if path.suffix == ".gz" else open(path, "w") as file:
            file.write("\n".join([*items, "", ""]))
    return paths


ALL = {sentence(shard, i) for shard, size in enumerate(SIZES) for i in range(size)}


def test_read_shard_gives_the_sentences_in_order(shards):
    for shard, path in enumerate(shards):
        assert list(read_shard(path)) == [sentence(shard, i) for i in range(SIZES[shard])]


def test_every_sentence_once_an_epoch(shards):
    first, second = ([s for batch in ShardedText(shards, 5, epochs=n, block=3) for s in batch] for n in (1, 2))
    assert Counter(first) == dict.fromkeys(ALL, 1)
    assert Counter(second) == dict.fromkeys(ALL, 2)
    assert second[: len(first)] == first != second[len(first) :]


def test_ranks_are_disjoint_and_complete(shards):
    seen = [[s for batch in ShardedText(shards, 4, rank=rank, world=2, epochs=1, block=2) for s in batch] for rank in (0, 1)]
    assert Counter(seen[0] + seen[1]) == dict.fromkeys(ALL, 1)
    assert len(seen[0]) == 19 + 1 + 30 + 6 and len(seen[1]) == 18 + 0 + 30 + 6


@given(stop=st.integers(0, 90), seed=st.integers(0, 3), rank=st.integers(0, 1), max_words=st.sampled_from([None, 6]))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_interrupted_stream_gives_the_same_following_batches(shards, stop, seed, rank, max_words):
    def make():
        return ShardedText(shards, 3, seed=seed, max_words=max_words, rank=rank, world=2, block=4)

    whole = list(itertools.islice(make(), stop + 30))
    first = make()
    assert list(itertools.islice(first, stop)) == whole[:stop]
    second = make()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert list(itertools.islice(second, 30)) == whole[stop:]


def test_order_depends_on_the_seed(shards):
    runs = [list(itertools.islice(ShardedText(shards, 5, seed=seed, block=3), 20)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_shards_are_visited_in_another_order_each_epoch(shards):
    def order(epoch):
        stream = ShardedText(shards, 100, seed=1)
        batches = list(itertools.islice(stream, 4 * epoch, 4 * epoch + 4))
        return tuple(batch[0].split()[-1].split("n")[0] for batch in batches)

    assert len({order(epoch) for epoch in range(6)}) > 1
    assert all(sorted(order(epoch)) == ["s0", "s1", "s2", "s3"] for epoch in range(6))


def test_batches_hold_sentences_of_similar_length(shards):
    batches = list(ShardedText(shards[2:3], 6, epochs=1))
    spread = [max(len(s.split()) for s in batch) - min(len(s.split()) for s in batch) for batch in batches]
    assert len(batches) == 10 and max(spread) <= 2


def test_long_sentences_are_left_out(shards):
    kept = {s for batch in ShardedText(shards, 4, max_words=5, epochs=1) for s in batch}
    assert kept == {s for s in ALL if len(s.split()) <= 5}


def test_memory_holds_one_block(tmp_path, monkeypatch):
    """After the first batch no more than a block and one sentence has been read."""
    from dgmlab.data import stream

    path = tmp_path / "long.txt"
    path.write_text("\n".join(f"sentence number {i}" for i in range(1000)))
    read = []
    monkeypatch.setattr(stream, "read_shard", lambda path: (read.append(s) or s for s in read_shard(path)))
    batches = iter(ShardedText([path], 4, block=5))
    next(batches)
    assert len(read) == 20
    for _ in range(5):
        next(batches)
    assert len(read) == 40


def test_a_position_of_other_settings_is_refused(shards):
    state = ShardedText(shards, 5).state_dict()
    with pytest.raises(ValueError, match="other settings: batch_size was 5, is 6"):
        ShardedText(shards, 6).load_state_dict(state)
    with pytest.raises(ValueError, match=r"world was 1, is 2"):
        ShardedText(shards, 5, world=2).load_state_dict(state)
    with pytest.raises(ValueError, match=r"shards was 4 files of .* bytes, is 3 files"):
        ShardedText(shards[:3], 5).load_state_dict(state)


def test_mistakes_are_named(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected shards, found none"):
        ShardedText(str(tmp_path / "*.txt"), 4)
    with pytest.raises(FileNotFoundError, match=r"1 of 5 shards do not exist, first .*gone.txt"):
        ShardedText([*shards, tmp_path / "gone.txt"], 4)
    with pytest.raises(ValueError, match="batch_size must be at least 1, found 0"):
        ShardedText(shards, 0)
    with pytest.raises(ValueError, match=r"expected sentences of at most 1 words, found none in 4 shards"):
        next(iter(ShardedText(shards, 4, max_words=1)))


def test_a_cut_gzip_shard_is_named(shards, tmp_path):
    broken = tmp_path / "cut.txt.gz"
    whole = gzip.compress("\n".join(f"sentence {i}" for i in range(500)).encode())
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut.txt.gz is not a complete gzip file"):
        list(ShardedText([broken], 4, epochs=1))
