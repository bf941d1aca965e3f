"""Optimus against its GPT-2 twin on several corpora: each fine-tuned for one pass, Optimus at several thresholds.

Li et al. 2020, section 5.1: a model pre-trained on other text is fine-tuned for an epoch on each of four corpora, and the
threshold of the KL (free bits) says how much of a sentence goes into z. Every fine-tuning is a run of its own below the run of
the comparison. What is done is not done again, so that several processes can share the work, and notebook 16 draws the rest:

    python -m dgmlab.optimus.compare runs/16_rate_distortion_compare/four_corpora_small -f four_corpora_small

The same command in a second shell takes the next fine-tuning that nobody has begun.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmlab.command import build_config, guarded, make_parser
from dgmlab.config import from_namespace
from dgmlab.data.seen import seen_in
from dgmlab.data.text import load_text
from dgmlab.metrics.text import bootstrap_interval
from dgmlab.notebooks import InUse, only_one
from dgmlab.optimus import baseline, train
from dgmlab.optimus.data import Tokenizers, model_folder
from dgmlab.optimus.evaluate import PER_SENTENCE
from dgmlab.optimus.source import SHARDS
from dgmlab.run import Run, locate, move_aside, read_json

TWIN = "gpt2"

# PPL, -ELBO, MI, AU by free bits; of GPT-2 the PPL alone. Optimus in the article: 32 dimensions, pre-trained on Wikipedia, its
# PPL from T + 2 tokens. Remembered from the article's table and not verified, but for the first PPL of PTB and of Yelp.
PUBLISHED = {
    "PTB": {TWIN: (24.23,), 0.05: (23.58, 91.31, 3.78, 32), 0.1: (23.66, 91.60, 4.34, 32), 0.25: (24.34, 93.18, 5.98, 32),
            0.5: (26.69, 96.82, 7.64, 32), 1.0: (35.53, None, 8.18, 32)},
    "Yelp": {TWIN: (23.40,), 0.05: (21.99, 337.41, 2.54, 32), 0.1: (21.99, 337.61, 2.87, 32), 0.25: (22.20, 340.03, 5.31, 32),
             0.5: (22.79, 344.10, 7.67, 32), 1.0: (24.59, 353.67, 9.13, 32)},
    "Yahoo": {TWIN: (22.00,), 0.05: (22.34, 282.70, 5.34, 32), 0.1: (22.56, 289.88, 5.80, 32), 0.25: (22.63, 290.69, None, 32),
              0.5: (23.11, 293.34, 8.85, 32), 1.0: (24.92, 301.21, 9.18, 32)},
    "SNLI": {TWIN: (20.24,), 0.05: (13.47,), 0.1: (13.48,), 0.25: (14.08,), 0.5: (16.67, 38.50, 8.89, 32),
             1.0: (29.63, None, 9.20, 32)},
}


@dataclass(frozen=True)
class CompareConfig:
    """What is compared, and how each fine-tuning is done. The article's values in brackets."""

    corpora: str = "grammar"  # names of `load_text`, separated by commas [PTB, Yelp, Yahoo, SNLI]
    thresholds: str = "0.05,0.25,1.0"  # free bits of Optimus, separated by commas [0.05,0.1,0.25,0.5,1.0]
    init: str = ""  # folder of a pre-trained Optimus; '' starts from `n_pretrain` steps, or the preset [Wikipedia]
    init_twin: str = ""  # folder of a pre-trained twin; '' takes the one beside `init`, else the preset
    n_pretrain: int = 0  # without `init`: steps on the corpora joined, of Optimus and of the twin; 0 does without
    size: str = "tiny"  # preset where there is no `init`: tiny | small | paper
    encoder: str = "bert-base-cased"  # paper preset: hub name or folder of the encoder
    decoder: str = "gpt2"  # paper preset: hub name or folder of the decoder
    latent_size: int = 32  # Z [32]
    injection: str = "both"  # memory | embedding | both [both]
    vocab_size: int = 8000  # BPE vocabulary where there is no `init`; 0 takes whole words
    max_length: int = 64  # longest sentence in tokens; longer ones are dropped
    limit: int = 0  # training sentences of each corpus; 0 takes all
    batch_size: int = 64  # sentences a step [5 to 10]
    lr: float = 5e-4  # peak learning rate of both [5e-5]
    warmup: int = 20  # steps of linear warm-up [0]
    dropout: float = 0.0  # of presets that start at random
    beta: float = 1.0  # weight of the KL at the plateau [1.0]
    ratio_zero: float = 0.5  # share of the pass at beta = 0 [0.5]
    ratio_increase: float = 0.25  # share of the pass on the ramp [0.25]
    length_weighted: bool = False  # divide the reconstruction by T + 2 [true in the released recipe]
    precision: str = "auto"  # fp32 | bf16 | auto
    seed: int = 0  # of everything [42]
    eval_every: int = 200  # steps between looks at the validation set
    save_every: int = 200  # steps between checkpoints
    n_eval: int = 1000  # test sentences of each corpus; 0 takes all
    iw_samples: int = 100  # importance samples [100]


class Arm(NamedTuple):
    """One fine-tuning: its folder, its corpus, its threshold (None: the twin), and what it is trained with."""

    name: str
    corpus: str
    free_bits: float | None
    config: train.TrainConfig


class Difference(NamedTuple):
    """Optimus minus twin in nats a sentence, of n sentences, with its 95 % interval.

    winner  optimus | twin | cannot be told
    """

    mean: float
    low: float
    high: float
    n: int
    winner: str


def plan(config):
    """The fine-tunings that a CompareConfig asks for: of each corpus the twin first, then Optimus by threshold -> list of Arm

    Each takes one pass: as many steps as batches hold the training sentences.
    """
    corpora, thresholds = _words(config.corpora), sorted({_threshold(word) for word in _words(config.thresholds)})
    if not corpora or not thresholds:
        raise ValueError(f"a comparison needs a corpus and a threshold, found corpora='{config.corpora}' and "
                         f"thresholds='{config.thresholds}'. Separate several by commas.")
    if len(set(map(_folder_name, corpora))) < len(corpora):
        raise ValueError(f"corpora of the same name would share a folder: {config.corpora}. Name each once.")
    config = replace(config, **{name: str(locate(folder).resolve()) for name in ("init", "init_twin")
                                if (folder := getattr(config, name))})  # as the notebook, which runs elsewhere, names it
    check_start(config)
    return [arm for corpus in corpora for arm in _arms(config, corpus, thresholds)]


def _arms(config, corpus, thresholds):
    n_sentences = len(load_text(corpus, "train", config.limit or None))
    shared = {**vars(config), "data": corpus, "n_steps": -(-n_sentences // config.batch_size)}
    twin = from_namespace(train.TrainConfig, {**shared, "init": config.init_twin or config.init, "free_bits": 0.0})
    name = _folder_name(corpus)
    return [Arm(f"{name}_{TWIN}", corpus, None, twin),
            *(Arm(f"{name}_{value:g}", corpus, value, from_namespace(train.TrainConfig, {**shared, "free_bits": value}))
              for value in thresholds)]


def _words(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def _folder_name(corpus):
    """A corpus may be a path: its last part names the folder."""
    return Path(corpus).name.replace(":", "-")


def _threshold(word):
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"a threshold must be a number of nats from 0 on, found '{word}'. Write 0.05,0.25,1.")
    return value


def check_start(config):
    """Refuse folders that cannot be compared: not an Optimus, not a twin, or of two vocabularies."""
    if config.init and not baseline.is_optimus(model_folder(config.init)):
        raise ValueError(f"init must be a trained Optimus, found a twin in {config.init}. Give that as init_twin.")
    if config.init_twin:
        if not config.init:
            raise ValueError(f"init_twin is {config.init_twin} but init is '': expected both pre-trained, or neither. "
                             "Give the folder of an Optimus as init.")
        if baseline.is_optimus(model_folder(config.init_twin)):
            raise ValueError(f"init_twin must be a trained twin, found an Optimus in {config.init_twin}. Give that as init.")
        baseline.check_vocabulary(model_folder(config.init_twin), Tokenizers.load(model_folder(config.init)))


def pretrain(run, config):
    """Without `init`: pre-train Optimus and its twin below `run` for `n_pretrain` steps on the corpora joined.

    One cycle of beta at a threshold of 0.5 nats, all sentences of the corpora.
    -> the CompareConfig that starts from them, or the one that was given
    """
    if config.init or not config.n_pretrain:
        return config
    plan(config)  # a mistake is told before anything is trained
    shared = from_namespace(train.TrainConfig, {
        **vars(config), "data": "+".join(_words(config.corpora)), "limit": 0, "n_steps": config.n_pretrain, "free_bits": 0.5,
        "iw_samples": 2})
    fine_tune(run, Arm(baseline.BESIDE, shared.data, None, shared))
    fine_tune(run, Arm("pretrained", shared.data, shared.free_bits, shared))
    return replace(config, init=str(run.dir / "pretrained"))


def start_of_twin(config):
    """Where twins start from, in words for a caption: a folder, or the preset."""
    found = baseline.find_twin(config.init_twin or config.init) if config.init else None
    return str(found) if found else f"the preset {config.size}"


def text_behind(folder):
    """Corpora that the model in `folder` has learnt from, as its run folder and those before it say -> list of names

    Streamed shards are left out, as too much to look through; [] where nothing is known.
    """
    if not folder:
        return []
    params = read_json(model_folder(folder).parent / "params.json", {})
    own = [name for name in params.get("data", "").split("+") if name and not name.startswith(SHARDS)]
    return [*text_behind(params.get("init")), *own]


def fine_tune(run, arm):
    """Train one Arm in its folder below `run`, or read what it gave -> dict of its final numbers

    InUse  another process is at it
    """
    with only_one(run.dir / arm.name):
        child = run.child(arm.name, vars(arm.config))
        if numbers := child.finished(PER_SENTENCE):
            child.set_status("done")
            return numbers
        loop = baseline.train if arm.free_bits is None else train.train
        return loop(child, arm.config)


class Likelihoods(NamedTuple):
    """N test sentences with their n_tokens (N,), the twin's nats (N,), Optimus's by threshold, and seen (N,) bool."""

    sentences: list
    n_tokens: np.ndarray
    twin: np.ndarray
    optimus: dict
    seen: np.ndarray


def likelihoods(run, arms, corpus, pretrained_on=()):
    """What the fine-tunings of a `corpus` below `run` gave on each test sentence -> Likelihoods

    pretrained_on  corpora of the pre-training; a sentence in their training text or in the corpus's own (but for case and
                   punctuation marks) counts as seen
    """
    kept = {arm.free_bits: read_json(run.dir / arm.name / PER_SENTENCE) for arm in arms if arm.corpus == corpus}
    twin = kept.pop(None)
    for value, found in kept.items():
        if found["sentences"] != twin["sentences"]:
            raise ValueError(f"Optimus at {value:g} and the twin were tested on other sentences of '{corpus}', as they drop "
                             "others as too long. Raise max_length, or pre-train both with one vocabulary.")
    seen = seen_in(twin["sentences"], dict.fromkeys([*pretrained_on, corpus])).alike
    return Likelihoods(twin["sentences"], np.array(twin["n_tokens"]), np.array(twin["nll"]),
                       {value: np.array(found["nll"]) for value, found in kept.items()}, seen)


def difference(optimus, twin, n_draws=2000, seed=0):
    """Compare two models sentence by sentence, so that hard and easy ones cancel out.

    optimus, twin  (N,) nats a sentence on the same sentences; Optimus's is an upper bound, so the comparison is on the twin's
                   side by as much as the bound is loose
    -> Difference; the interval is a bootstrap over sentences and says nothing of other seeds of training
    """
    gaps = np.asarray(optimus, dtype=np.float64) - np.asarray(twin, dtype=np.float64)
    if gaps.ndim != 1 or len(gaps) < 2:
        raise ValueError(f"a paired difference needs the nats of at least 2 sentences, found an array of shape {gaps.shape}.")
    low, high = bootstrap_interval(gaps, n_draws=n_draws, seed=seed)
    winner = "optimus" if high < 0 else "twin" if low > 0 else "cannot be told"
    return Difference(float(gaps.mean()), low, high, len(gaps), winner)


def table_rows(arms, numbers, found):
    """Rows of the comparison's table.

    arms     of `plan`; numbers: name of an arm -> what `fine_tune` gave; found: corpus -> Likelihoods
    -> list of dict: corpus, model, ppl of all test sentences (Optimus: the importance-weighted bound) with its interval and of
       those not seen in training, nats a sentence, -ELBO, MI, AU, n
    """
    rows = []
    for arm in arms:
        own, test = numbers[arm.name], found[arm.corpus]
        end = "" if arm.free_bits is None else f"_iw{arm.config.iw_samples}"
        nll = test.twin if arm.free_bits is None else test.optimus[arm.free_bits]
        rows.append({"corpus": arm.corpus, "model": label(arm.free_bits), "ppl": own[f"ppl{end}"], "low": own[f"ppl{end}_low"],
                     "high": own[f"ppl{end}_high"], "ppl unseen": _ppl(nll, test.n_tokens, ~test.seen),
                     "nats": own[f"nll{end}"], "-ELBO": own.get("elbo"), "MI": own.get("mi"), "AU": own.get("au"),
                     "n": len(nll)})
    return rows


def label(free_bits):
    """The name of a model in tables and pictures: the twin's, or Optimus at its threshold."""
    return "GPT-2 twin" if free_bits is None else f"Optimus {free_bits:g}"


def _ppl(nll, n_tokens, rows):
    """Perplexity per predicted token of the sentences `rows` (N,) bool; None without any."""
    return float(np.exp(nll[rows].sum() / (n_tokens[rows] + 1).sum())) if rows.any() else None


def main(arguments=None):
    """Fine-tune what is not done and not begun elsewhere; a user's mistake is one line and exit code 2."""
    parser = make_parser("python -m dgmlab.optimus.compare", __doc__, CompareConfig)
    parser.add_argument("--arms", nargs="+", metavar="NAME", help="only these, e.g. ptb_gpt2 ptb_0.25; default: all")
    asked = parser.parse_args(arguments)
    return guarded(lambda: _fine_tune_asked(asked))


def _fine_tune_asked(asked):
    """What the words of the command ask for, a line each."""
    config = build_config(CompareConfig, asked.recipe, asked.parameter)
    names = [arm.name for arm in plan(config)]
    for name in asked.arms or ():
        if name not in names:
            raise KeyError(f"no fine-tuning is called '{name}'; choose of: {', '.join(names)}.")
    run = Run(asked.folder)
    if asked.fresh and run.dir.exists():
        move_aside(run.dir)
    for arm in plan(pretrain(run, config)):
        if arm.name in (asked.arms or names):
            print(f"{arm.name}: {_told(run, arm)}", flush=True)


def _told(run, arm):
    """Fine-tune one arm; a line of what came of it."""
    try:
        numbers = fine_tune(run, arm)
    except InUse:
        return "another process is at it"
    return "  ".join(f"{name} {value:.6g}" for name, value in numbers.items() if name.startswith(("ppl", "elbo", "mi", "au")))


if __name__ == "__main__":
    sys.exit(main())
