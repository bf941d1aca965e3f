"""What every test stands on: its own home folder, no network, one thread, pictures without a screen.

Set before anything imports torch, and inherited by the kernels and commands that tests start.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FIRST = ("slow", "browser")  # markers of the files that take longest


def pytest_configure(config):
    """Environment of the whole session. Every xdist worker comes by here too, with a scratch folder of its own."""
    scratch = Path(tempfile.mkdtemp(prefix="dgmlab-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(scratch, ignore_errors=True))
    for name in ("DGMLAB_RUN", "DGMLAB_DEBUG", "MPLBACKEND"):
        os.environ.pop(name, None)
    os.environ.update(
        DGMLAB_HOME=str(scratch / "home"), HF_HOME=str(scratch / "huggingface"), IPYTHONDIR=str(scratch / "ipython"),
        HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
    )
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    beside = ROOT.parent / "shared" / "data"
    if os.environ.get("DGMLAB_DATA"):
        os.environ["DGMLAB_DATA"] = str(Path(os.environ["DGMLAB_DATA"]).expanduser().resolve())
    elif beside.is_dir():
        os.environ["DGMLAB_DATA"] = str(beside)
    import matplotlib

    matplotlib.use("Agg")  # not by MPLBACKEND: notebook kernels inherit that, and would show no pictures
    # Hooks in a conftest are heard only below its own folder; as a plugin they are heard for notebooks/ as well.
    config.pluginmanager.register(EveryFile(scratch), "dgmlab-every-file")


class EveryFile:
    """Hooks for test files and notebooks alike."""

    def __init__(self, scratch):
        self.scratch = scratch

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item):
        """A home folder per file: the order of files and the number of workers change nothing."""
        home = self.scratch / "home" / re.sub(r"\W+", "-", os.path.relpath(item.path, ROOT))
        home.mkdir(parents=True, exist_ok=True)
        os.environ["DGMLAB_HOME"] = str(home)

    def pytest_collectstart(self, collector):
        """Where a notebook's stored output is compared at all, warnings on stderr are not part of it."""
        if hasattr(collector, "skip_compare"):
            collector.skip_compare += ("stderr",)


def pytest_collection_modifyitems(items):
    """Long files first, so that two workers end together; `gpu` tests are skipped where there is no CUDA."""
    def rank(path):
        return 0 if path in long else 1 if path.suffix == ".ipynb" else 2

    long = {item.path for item in items if any(item.get_closest_marker(name) for name in FIRST)}
    items.sort(key=lambda item: rank(item.path))
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        if not torch.cuda.is_available():
            for item in items:
                if item.get_closest_marker("gpu"):
                    item.add_marker(pytest.mark.skip(reason="needs a CUDA device, found none"))


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    """(BERT with its WordPiece, GPT-2 with its BPE), small and random: folders as the hub has them."""
    from transformers import BertConfig, BertModel, BertTokenizerFast, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from dgmlab.data import grammar
    from dgmlab.optimus.data import bpe_tokenizer

    folder = tmp_path_factory.mktemp("hub")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *grammar.vocabulary()]
    (folder / "bert").mkdir()
    (folder / "bert" / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "bert" / "vocab.txt")).save_pretrained(folder / "bert")
    BertModel(BertConfig(vocab_size=len(words), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                         intermediate_size=64, max_position_embeddings=64)).save_pretrained(folder / "bert")
    core = bpe_tokenizer(grammar.sentences()[:200], 400).backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>").save_pretrained(folder / "gpt2")
    GPT2LMHeadModel(GPT2Config(vocab_size=core.get_vocab_size(), n_embd=48, n_layer=2, n_head=4, n_positions=64,
                               bos_token_id=0, eos_token_id=2)).save_pretrained(folder / "gpt2")
    return str(folder / "bert"), str(folder / "gpt2")
