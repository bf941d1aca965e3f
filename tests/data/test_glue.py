"""The tasks of GLUE: written by hand with the oddities of the files, and the real ones where they are at hand."""

import numpy as np
import pytest

from dgmlab.data import registry
from dgmlab.data.glue import TASKS, load_glue

FILES = {
    "SST-2/train.tsv": "sentence\tlabel\nhide new secretions \t0\n\na charming journey \t1\n",
    "CoLA/train.tsv": "gj04\t1\t\tOur friends won't buy this.\nbc01\t0\t*\tThey drank the pub.\n",
    "MRPC/dev.tsv": '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tHe said " no .\t" No , " he said .\n',
    "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA b.\tC.\tnot_entailment\n1\tD.\tE f.\tentailment\n",
    "STS-B/train.tsv": "i\tg\tf\ty\to\ts1\ts2\ta\tb\tscore\n0\tg\tf\ty\to\tn\tn\tA plane.\tAn air plane.\t4.750\n",
    "WNLI/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\t1\n",
}


@pytest.fixture
def glue(tmp_path, monkeypatch):
    """A data folder with a few lines of each task."""
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))
    for name, text in FILES.items():
        (tmp_path / "glue" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "glue" / name).write_text(text, encoding="utf-8")
    return tmp_path / "glue"


def test_single_sentences_and_their_classes(glue):
    sst2, cola = load_glue("sst2"), load_glue("cola")
    assert sst2.first == ["hide new secretions", "a charming journey"] and sst2.second is None
    assert sst2.labels.tolist() == [0, 1] and sst2.label_names == ("negative", "positive") and sst2.metric == "accuracy"
    assert cola.first == ["Our friends won't buy this.", "They drank the pub."], "the file has no header"
    assert cola.labels.tolist() == [1, 0] and cola.labels.dtype == np.int64 and cola.metric == "matthews"


def test_pairs_with_quotes_a_byte_order_mark_and_numbers(glue):
    mrpc, rte, stsb = load_glue("mrpc", "dev"), load_glue("rte"), load_glue("stsb")
    assert (mrpc.first, mrpc.second) == (['He said " no .'], ['" No , " he said .']) and mrpc.labels.tolist() == [1]
    assert rte.second == ["C.", "E f."] and rte.labels.tolist() == [0, 1] and rte.label_names[1] == "entailment"
    assert stsb.labels.tolist() == [4.75] and stsb.label_names == () and stsb.metric == "spearman"
    assert (stsb.first, stsb.second) == (["A plane."], ["An air plane."])


def test_a_limit_is_drawn_in_the_order_of_the_file(glue):
    (glue / "WNLI" / "train.tsv").write_text("h\th\th\th\n" + "".join(f"{i}\ta{i}\tb{i}\t{i % 2}\n" for i in range(40)))
    some = load_glue("wnli", limit=10)
    numbers = [int(text[1:]) for text in some.first]
    assert len(numbers) == 10 and numbers == sorted(numbers) != list(range(10))
    assert [int(text[1:]) for text in some.second] == numbers and (some.labels == np.array(numbers) % 2).all()


def test_mistakes_are_one_line(glue):
    with pytest.raises(KeyError, match="no task of GLUE is called 'mprc'. Did you mean 'mrpc'"):
        load_glue("mprc")
    with pytest.raises(ValueError, match="labels of rte's test part are hidden by GLUE. Score on split 'valid'"):
        load_glue("rte", "test")
    (glue / "RTE" / "train.tsv").write_text("h\n0\tA.\tB.\tmaybe\n")
    with pytest.raises(ValueError, match="line 2: expected a label among not_entailment, entailment, found 'maybe'"):
        load_glue("rte")
    (glue / "RTE" / "train.tsv").write_text("h\n0\tA.\tB.\n")
    with pytest.raises(ValueError, match="line 2: expected 4 tab-separated cells, found 3"):
        load_glue("rte")
    (glue / "STS-B" / "train.tsv").write_text("h\n" + "x\t" * 9 + "much\n")
    with pytest.raises(ValueError, match="expected a number as label, found 'much'"):
        load_glue("stsb")


@pytest.mark.skipif(not registry.is_here("glue"), reason="the data folder has no glue")
@pytest.mark.parametrize("name, n_train, n_dev", [("sst2", 67_349, 872), ("cola", 8_551, 1_043), ("mrpc", 3_667, 408),
                                                  ("rte", 2_490, 277), ("stsb", 5_749, 1_500), ("wnli", 635, 71)])
def test_real_files_are_whole(name, n_train, n_dev):
    parts = [load_glue(name, split) for split in ("train", "dev")]
    assert [len(part.first) for part in parts] == [len(part.labels) for part in parts] == [n_train, n_dev]
    assert all(text for part in parts for text in (*part.first, *(part.second or ["-"])))
    kinds = set(range(len(TASKS[name].classes)))
    assert all(set(part.labels.tolist()) == kinds for part in parts) or name == "stsb"
    if name == "stsb":
        assert all(0 <= part.labels.min() and part.labels.max() == 5 for part in parts)
