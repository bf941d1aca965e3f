"""Every layout of a corpus on files made here; the real ones where DGMLAB_DATA (or ../shared/data) has them."""

import gzip
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from dgmlab.data import grammar, registry
from dgmlab.data.reading import Row, cut, rows
from dgmlab.data.text import KNOWN, load_labelled, load_text

REAL = Path(os.environ.get("DGMLAB_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_real = pytest.mark.skipif(not (REAL / "ptb").is_dir(), reason=f"no corpora at {REAL}; set DGMLAB_DATA to run this")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder; write(path, *lines) puts a file there."""
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))

    def write(name, *lines):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


def test_ptb_lines_are_stripped_and_blank_ones_dropped(data):
    data("ptb/ptb.train.txt", " aer banknote <unk> ", "", " mr. <unk> is N years old ")
    data("ptb/ptb.valid.txt", " a valid one ")
    data("ptb/ptb.test.txt", " a test one ")
    assert load_text("ptb") == ["aer banknote <unk>", "mr. <unk> is N years old"]
    for alias in ("valid", "dev", "val", "validation"):
        assert load_text("ptb", alias) == ["a valid one"]
    assert load_text("ptb", "test") == ["a test one"]


def test_snli_is_cut_from_the_distinct_sentences_of_dev_and_test(data):
    data("snli/s1.dev", *(f"premise {i // 3}" for i in range(900)))
    data("snli/s2.dev", *(f"hypothesis {i}" for i in range(900)))
    data("snli/s1.test", *(f"premise {i // 3 + 200}" for i in range(300)))
    data("snli/s2.test", *(f"other {i}" for i in range(300)))
    parts = {split: load_text("snli", split) for split in ("train", "valid", "test")}
    everything = sum(parts.values(), [])
    assert len(everything) == len(set(everything)) == 300 + 900 + 300
    assert 0.75 < len(parts["train"]) / 1500 < 0.85 and 0.07 < len(parts["test"]) / 1500 < 0.13
    assert all(cut(sentence, 10) == split for split, sentences in parts.items() for sentence in sentences)


def test_snli_with_a_train_part_keeps_the_official_parts(data):
    for split in ("train", "dev", "test"):
        data(f"snli/s1.{split}", f"{split} premise", f"{split} premise")
        data(f"snli/s2.{split}", f"{split} hypothesis", "")
    assert load_text("snli", "valid") == ["dev premise", "dev hypothesis"]
    assert load_text("snli") == ["train premise", "train hypothesis"]


def test_snli_as_plain_lines(data):
    for split in ("train", "dev", "test"):
        data(f"snli/{split}.txt", f"a {split} sentence")
    assert load_text("snli", "valid") == ["a dev sentence"]


def test_yelp_short_in_both_layouts(data):
    data("yelp_short/sentiment.train.0", "bad food", "bad place")
    data("yelp_short/sentiment.train.1", "good food")
    data("yelp_short/sentiment.dev.0", "sad dev")
    data("yelp_short/sentiment.dev.1", "glad dev")
    data("yelp_short/reference.0", "bad food\tgood food")
    data("yelp_short/sentiment.test.text", "nice", "", "awful")
    data("yelp_short/sentiment.test.labels", "1", "0", "0")
    found = load_labelled("yelp_short")
    assert found.sentences == load_text("yelp_short") == ["bad food", "bad place", "good food"]
    assert found.labels.tolist() == [0, 0, 1] and found.labels.dtype == np.int64
    assert found.label_names == ("negative", "positive")
    test = load_labelled("yelp_short", "test")
    assert (test.sentences, test.labels.tolist()) == (["nice", "awful"], [1, 0])
    data("yelp_short/sentiment.test.labels", "1", "0")
    with pytest.raises(ValueError, match="expected 3 labels, one a line of sentiment.test.text, found 2"):
        load_text("yelp_short", "test")


def test_yelp15_has_a_label_in_front(data):
    for split in ("train", "valid", "test"):
        data(f"yelp15/yelp.{split}.tsv", "4\tgreat place", "0\tnever again", "2\tfine")
    assert load_text("yelp15") == ["great place", "never again", "fine"]
    found = load_labelled("yelp15", "test")
    assert (found.labels.tolist(), found.label_names) == ([2, 0, 1], ("0", "2", "4"))


def test_multi30k_gives_all_five_captions(data):
    for i in range(1, 6):
        data(f"multi30k/train.{i}.en", f"caption {i} a", f"caption {i} b")
        data(f"multi30k/val.{i}.en", f"val {i}")
        data(f"multi30k/test_2016.{i}.en", f"test {i}")
    assert len(load_text("multi30k")) == 10
    assert load_text("multi30k", "valid") == [f"val {i}" for i in range(1, 6)]
    assert load_text("multi30k", "test") == [f"test {i}" for i in range(1, 6)]


def test_caption_style_test_has_no_class(data):
    for split in ("train", "dev", "test"):
        data(f"caption_style/sentiment.{split}.0", f"{split} joke" if split != "test" else "a fact")
        data(f"caption_style/sentiment.{split}.1", f"{split} love" if split != "test" else "a fact")
    assert load_labelled("caption_style", "dev").label_names == ("humorous", "romantic")
    assert load_text("caption_style", "test") == ["a fact"]
    with pytest.raises(ValueError, match="'caption_style' has no labels; labelled corpora are: grammar:FACTOR, yelp_short"):
        load_labelled("caption_style", "test")


def test_dailydialog_gives_turns(data):
    data("dailydialog/validation/dialogues_validation.txt", "hi , jim . __eou__ hello . __eou__", "bye . __eou__")
    assert load_text("dailydialog", "dev") == ["hi , jim .", "hello .", "bye ."]


def test_sentence_classification_sets(data):
    data("sentence_classification/TREC.test.all", "5 How far is it ?", "0 Why ?")
    data("sentence_classification/custrev.all", *(f"{i % 2} review {i}" for i in range(200)), "0 ")
    trec = load_labelled("trec", "test")
    assert trec.sentences == ["How far is it ?", "Why ?"] and trec.label_names[5] == "number"
    parts = [load_labelled("cr", split) for split in ("train", "valid", "test")]
    assert sorted(sum((part.sentences for part in parts), [])) == sorted(f"review {i}" for i in range(200))
    assert all(int(s.split()[1]) % 2 == y for part in parts for s, y in zip(part.sentences, part.labels, strict=True))
    data("sentence_classification/TREC.test.all", "NUM How far ?")
    with pytest.raises(ValueError, match="TREC.test.all, line 1: expected a number, a space and a sentence, found 'NUM How"):
        load_text("trec", "test")


def test_ag_news_and_glue(data):
    data("ag_news/test.tsv", "Cup final tonight\tSports", "Rates rise\tBusiness")
    assert load_labelled("ag_news", "test").labels.tolist() == [1, 2]
    data("ag_news/test.tsv", "Cup final tonight\tHobby")
    with pytest.raises(ValueError, match="has the classes World, Sports, Business, Sci/Tech, but found Hobby in split 'test'"):
        load_labelled("ag_news", "test")
    data("glue/SST-2/dev.tsv", "sentence\tlabel", "it 's charming . \t1", "bleak \t0")
    assert load_labelled("sst2", "dev").sentences == ["it 's charming .", "bleak"]
    data("glue/CoLA/dev.tsv", "gj04\t1\t\tShe left.", "gj04\t0\t*\tLeft she.")
    assert load_labelled("cola", "dev").labels.tolist() == [1, 0]


def test_grammar_by_name_is_the_grammar(data):
    assert load_text("grammar", "valid") == grammar.sample(2000, 0, ("valid",))
    assert load_text("grammar", limit=7, seed=5) == grammar.sample(7, 5, ("train",))
    assert not set(load_text("grammar")) & set(load_text("grammar", "test"))
    found = load_labelled("grammar:tense", "test", limit=50)
    assert found.label_names == grammar.FACTORS["tense"]
    assert [grammar.factors(s)["tense"] for s in found.sentences] == [found.label_names[y] for y in found.labels]
    with pytest.raises(KeyError, match="no factor or slot 'tensed' in the grammar; choose one of: number"):
        load_labelled("grammar:tensed")


@pytest.mark.parametrize("suffix", ["txt", "tsv", "jsonl", "txt.gz", "jsonl.gz"])
def test_a_file_of_any_format_is_cut_into_parts_for_good(tmp_path, suffix):
    wanted = [f"sentence number {i}" for i in range(400)]
    line = {"tsv": "{}\tx", "json": '{{"sentence": "{}", "label": 1}}'}.get(suffix[:4].rstrip("."), "{}")
    path = tmp_path / f"mine.{suffix}"
    text = "\n".join(line.format(sentence) for sentence in wanted)
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    parts = {split: load_text(str(path), split) for split in ("train", "valid", "test")}
    assert sorted(sum(parts.values(), [])) == sorted(wanted)
    assert [s for s in wanted if cut(s, 5) == "valid"] == parts["valid"] != []


def test_cut_is_frozen():
    """The parts of every corpus cut by us rest on this hash: a change would mix test into train."""
    parts = [cut(f"sentence {i}", 10) for i in range(60)]
    assert [i for i in range(60) if parts[i] == "valid"] == [11, 15, 29, 42, 58]
    assert [i for i in range(60) if parts[i] == "test"] == [25, 30, 32, 33, 34, 36]


def test_a_folder_of_splits_and_one_without_valid(tmp_path):
    for split, size in (("train", 300), ("test", 3)):
        (tmp_path / f"{split}.txt").write_text("\n".join(f"{split} {i}" for i in range(size)))
    (tmp_path / "README.md").write_text("train and test")
    assert load_text(str(tmp_path), "test") == ["test 0", "test 1", "test 2"]
    train, valid = load_text(str(tmp_path)), load_text(str(tmp_path), "valid")
    assert sorted(train + valid) == sorted(f"train {i}" for i in range(300)) and 3 < len(valid) < 40
    (tmp_path / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match="has no split 'train', nor a train part to cut it from; found test"):
        load_text(str(tmp_path))


def test_labels_of_own_files(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"text\n {i}", "label": "no" if i % 3 else "yes"}) for i in range(300)))
    found = load_labelled(str(path), "valid")
    assert found.label_names == ("no", "yes")
    assert all(("no" if int(s.split()[1]) % 3 else "yes") == found.label_names[y] for s, y in zip(*found[:2], strict=True))


def test_limit_draws_with_its_seed_and_keeps_the_order(data):
    data("yahoo/train.txt", *(f"{i:03}" for i in range(500)))
    data("yahoo/valid.txt", "v")
    data("yahoo/test.txt", "t")
    first = load_text("yahoo", limit=20)
    assert len(first) == 20 and first == sorted(first) == load_text("yahoo", limit=20) != load_text("yahoo", limit=20, seed=1)
    assert len(load_text("yahoo", limit=1000)) == 500
    with pytest.raises(ValueError, match="limit must be at least 1, found 0"):
        load_text("yahoo", limit=0)


def test_tab_separated_headers_and_columns(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("id\tlabel\tsentence\n7\tgood\ta b\n8\tbad\t\n", encoding="utf-8-sig")
    assert list(rows(path)) == [Row("a b", "good")]
    path.write_text("a b\nc d\n")
    assert list(rows(path)) == [Row("a b"), Row("c d")]
    path.write_text("1\ta b\n2\n")
    with pytest.raises(ValueError, match="x.tsv, line 2: expected 2 tab-separated cells, found 1"):
        list(rows(path))
    path.write_text("1\t2\t3\n")
    with pytest.raises(ValueError, match="found 3 columns without such a header"):
        list(rows(path))


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"body": "x", "id": 3}', "line 2: expected a key 'text' or 'sentence', found keys: body, id"),
        ("{broken", "line 2: expected one JSON object, found broken JSON"),
        ("[1, 2]", "line 2: expected one JSON object, found list"),
    ],
)
def test_broken_json_lines_name_the_line(tmp_path, line, message):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ValueError, match=message):
        load_text(str(path))


def test_undecodable_bytes_name_the_line(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("fine\n\ncaf\xe9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.txt, line 3: expected UTF-8, found byte 0xE9. Convert the file"):
        load_text(str(path))


def test_mistaken_names_and_empty_corpora(data, tmp_path):
    with pytest.raises(KeyError, match="no corpus 'yelp_shrot'. Did you mean 'yelp_short'. Choose one of: grammar, ptb, snli"):
        load_text("yelp_shrot")
    with pytest.raises(ValueError, match="no split 'tset'; choose one of: train, valid"):
        load_text("grammar", "tset")
    with pytest.raises(FileNotFoundError, match="corpus 'gone/file.txt' was expected as a file or folder at"):
        load_text("gone/file.txt")
    with pytest.raises(FileNotFoundError, match="data set 'ptb' was expected at .*Run `dgmlab data get ptb`, or set DGM"):
        load_text("ptb")
    empty = data("empty.txt", "", "  ")
    with pytest.raises(ValueError, match="split 'train' of '.*empty.txt' is empty: expected a sentence or more"):
        load_text(str(empty))
    with pytest.raises(FileNotFoundError, match="expected files that name their split"):
        (tmp_path / "nothing").mkdir()
        load_text(str(tmp_path / "nothing"))


def test_hub_without_the_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"needs the package datasets, found none. Run `pip install dgmlab\[hub\]`"):
        load_text("hub:owner/name")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder laid out like a data set of the hub: train and test, columns text, label, other."""
    pytest.importorskip("datasets", reason="the package datasets is not installed (pip install dgmlab[hub])")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache" / "datasets")
    folder = tmp_path / "hubset"
    folder.mkdir()
    for split, size in (("train", 200), ("test", 10)):
        texts = [f"{split} {i}\n" + (f"{split} {i} again" if i == 5 else "") for i in range(size)]
        items = [{"text": text, "label": i % 2, "other": "o"} for i, text in enumerate(texts)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, items)))
    return folder


def test_hub_splits_fields_and_multi_line_texts(hub):
    numbers = [f"test {i}" for i in range(10)]
    assert load_text(f"hub:{hub}", "test") == [*numbers[:6], "test 5 again", *numbers[6:]]
    assert load_text(f"hub:{hub}::other", "test") == ["o"] * 10
    train, valid = load_text(f"hub:{hub}"), load_text(f"hub:{hub}", "valid")
    assert len(train) + len(valid) == 201 and not set(train) & set(valid) and valid
    assert load_labelled(f"hub:{hub}", "test").labels.tolist() == [0, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1]
    with pytest.raises(ValueError, match="expected a column 'body', found: text, label, other"):
        load_text(f"hub:{hub}::body")


def test_hub_with_a_limit_streams(hub, monkeypatch):
    import datasets

    calls = []
    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **kw: calls.append(kw) or real(*a, **kw))
    first = load_text(f"hub:{hub}", limit=12)
    assert len(first) == len(set(first)) == 12 and first == load_text(f"hub:{hub}", limit=12)
    assert first != load_text(f"hub:{hub}", limit=12, seed=1)
    assert all(kw["streaming"] for kw in calls)


@needs_real
@pytest.mark.parametrize(
    "name, sizes",
    [
        ("ptb", (42068, 3370, 3761)),
        ("multi30k", (145000, 5070, 5000)),
        ("yelp_short", (181243, 4000, 1000)),
        ("caption_style", (12000, 1000, 300)),
        ("dailydialog", (87171, 8069, 7740)),
        ("sst", (8544, 1101, 2210)),
    ],
)
def test_real_corpora_have_their_documented_sizes(monkeypatch, name, sizes):
    monkeypatch.setenv("DGMLAB_DATA", str(REAL))
    assert tuple(len(load_text(name, split)) for split in ("train", "valid", "test")) == sizes


@needs_real
def test_real_snli_parts_are_disjoint_and_complete(monkeypatch):
    monkeypatch.setenv("DGMLAB_DATA", str(REAL))
    everything = [s for split in ("train", "valid", "test") for s in load_text("snli", split)]
    assert len(everything) == len(set(everything)) == 25741


@needs_real
@pytest.mark.parametrize("name", sorted({known.folder for known in KNOWN.values()} - {"yahoo", "yelp15"}))
def test_real_files_have_the_registered_checksums(monkeypatch, name):
    monkeypatch.setenv("DGMLAB_DATA", str(REAL))
    assert registry.check(name) == []


def test_corpora_joined_by_plus_follow_each_other(tmp_path):
    for name, sentences in {"a": ["one", "two", "three"], "b": ["four", "five"]}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text("\n".join(sentences) + "\n")
        (tmp_path / name / "test.txt").write_text(f"{name} ends\n")
    both = f"{tmp_path / 'a'}+{tmp_path / 'b'}"
    assert load_text(both, "test") == ["a ends", "b ends"]
    assert set(load_text(both)) <= {"one", "two", "three", "four", "five"}
    assert load_text(both) == load_text(str(tmp_path / "a")) + load_text(str(tmp_path / "b"))
    assert len(load_text(both, limit=2)) == 2


def test_unknown_corpus_of_several_is_named():
    with pytest.raises(KeyError, match="no corpus 'ptc'"):
        load_text("grammar+ptc")
