"""The comparison on several corpora: what is planned, shared between processes, and concluded."""

import json

import numpy as np
import pytest

from dgmlab.notebooks import InUse, only_one
from dgmlab.optimus import baseline, compare, train
from dgmlab.optimus.compare import CompareConfig, difference, plan
from dgmlab.optimus.train import TrainConfig
from dgmlab.run import Run

SMALLEST = {"vocab_size": 0, "max_length": 16, "limit": 60, "batch_size": 8, "n_eval": 30, "iw_samples": 2, "latent_size": 4,
            "precision": "fp32", "warmup": 0}


def config(**given):
    return CompareConfig(**{**SMALLEST, "thresholds": "0.5,0.1", **given})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Folders of a pre-trained Optimus and of a twin elsewhere."""
    folder = tmp_path_factory.mktemp("pretrained")
    own = {key: value for key, value in SMALLEST.items() if key in TrainConfig.__dataclass_fields__}
    start = TrainConfig(**{**own, "n_steps": 2, "limit": 3000})
    train.train(Run.start(folder / "a" / "vae", vars(start)), start)
    baseline.train(Run.start(folder / "b" / "gpt2", vars(start)), start)
    return folder / "a" / "vae", folder / "b" / "gpt2"


@pytest.fixture(scope="module")
def compared(pretrained, tmp_path_factory):
    """(run, arms, numbers) of a comparison from the pre-trained pair."""
    run = Run.start(tmp_path_factory.mktemp("runs") / "compare", {})
    arms = plan(config(init=str(pretrained[0]), init_twin=str(pretrained[1])))
    return run, arms, {arm.name: compare.fine_tune(run, arm) for arm in arms}


def test_plan_takes_one_pass_over_each_corpus_by_twin_and_thresholds(tmp_path):
    (tmp_path / "mine").mkdir()
    for split, n in (("train", 21), ("valid", 3), ("test", 3)):
        (tmp_path / "mine" / f"{split}.txt").write_text("\n".join(f"{split} {i}" for i in range(n)))
    arms = plan(config(corpora=f"grammar, {tmp_path / 'mine'}"))
    assert [arm.name for arm in arms] == ["grammar_gpt2", "grammar_0.1", "grammar_0.5", "mine_gpt2", "mine_0.1", "mine_0.5"]
    assert [arm.config.n_steps for arm in arms] == 3 * [8] + 3 * [3], "60 of the grammar and 21 sentences, 8 a step"
    assert [arm.free_bits for arm in arms[:3]] == [None, 0.1, 0.5] and arms[1].config.free_bits == 0.1
    assert {arm.config.data for arm in arms[3:]} == {str(tmp_path / "mine")}


def test_twin_starts_from_the_pre_trained_twin_and_optimus_from_optimus(compared, pretrained):
    _, arms, _ = compared
    assert {arm.config.init for arm in arms if arm.free_bits is None} == {str(pretrained[1])}
    assert {arm.config.init for arm in arms if arm.free_bits is not None} == {str(pretrained[0])}
    given = config(init=str(pretrained[0]), init_twin=str(pretrained[1]))
    assert compare.start_of_twin(given).startswith(str(pretrained[1]))
    assert compare.start_of_twin(config(init=str(pretrained[0]))) == "the preset tiny"


def test_without_a_start_both_are_pre_trained_on_the_corpora_joined(tmp_path, pretrained):
    (tmp_path / "mine").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "mine" / f"{split}.txt").write_text("\n".join(f"{split} words {i}" for i in range(9)))
    run = Run.start(tmp_path / "run", {})
    given = config(corpora=f"{tmp_path / 'mine'},grammar", n_pretrain=2, n_eval=8)
    start = compare.pretrain(run, given)
    assert start.init == str(run.dir / "pretrained") and compare.start_of_twin(start) == str(run.dir / "gpt2" / "model")
    assert compare.text_behind(start.init) == [str(tmp_path / "mine"), "grammar"]
    assert {arm.config.init for arm in plan(start)} == {start.init}
    assert [Run(run.dir / name).params["n_steps"] for name in ("pretrained", "gpt2")] == [2, 2]
    for other in (config(), config(init=str(pretrained[0]), n_pretrain=2)):
        assert compare.pretrain(run, other) is other


def test_a_relative_start_is_the_same_run_from_everywhere(pretrained, monkeypatch):
    monkeypatch.chdir(pretrained[0].parent)
    assert {arm.config.init for arm in plan(config(init="vae"))} == {str(pretrained[0].resolve())}


def test_what_is_done_is_read_and_not_done_again(compared, monkeypatch):
    run, arms, numbers = compared
    monkeypatch.setattr(train, "train", None)
    monkeypatch.setattr(baseline, "train", None)
    assert {arm.name: compare.fine_tune(run, arm) for arm in arms} == numbers
    assert Run(run.dir / arms[0].name).status["state"] == "done"


def test_an_arm_that_another_process_holds_is_left_to_it(compared, tmp_path):
    _, arms, _ = compared
    with only_one(tmp_path / "run" / arms[0].name), pytest.raises(InUse, match="is in use by another dgmlab run"):
        compare.fine_tune(Run.start(tmp_path / "run", {}), arms[0])


def test_command_makes_the_runs_that_the_notebook_reads(compared, tmp_path, capsys):
    _, _, numbers = compared
    recipe = tmp_path / "mine.yaml"
    given = {**SMALLEST, "thresholds": "0.1,0.5"}
    recipe.write_text(json.dumps({"notebook": "16_rate_distortion_compare", "parameters": given}))
    words = [str(tmp_path / "run"), "-f", str(recipe), "-p", "limit=16"]
    with only_one(tmp_path / "run" / "grammar_0.1"):
        assert compare.main([*words, "--arms", "grammar_0.1", "grammar_gpt2"]) == 0
    out = capsys.readouterr().out
    assert "grammar_0.1: another process is at it" in out and "grammar_gpt2: ppl " in out and "grammar_0.5" not in out
    arms = plan(config(limit=16))
    stored = json.loads((tmp_path / "run" / "grammar_gpt2" / "params.json").read_text())
    assert stored == json.loads(json.dumps(vars(arms[0].config)))
    assert compare.main([*words, "--arms", "grammar_9"]) == 2
    assert "no fine-tuning is called 'grammar_9'; choose of: grammar_gpt2, grammar_0.1" in capsys.readouterr().err


def test_numbers_of_the_table_are_those_of_the_sentences(compared, pretrained):
    run, arms, numbers = compared
    found = compare.likelihoods(run, arms, "grammar", compare.text_behind(str(pretrained[0])))
    rows = compare.table_rows(arms, numbers, {"grammar": found})
    assert [row["model"] for row in rows] == ["GPT-2 twin", "Optimus 0.1", "Optimus 0.5"]
    assert not found.seen.any(), "the grammar's parts share no sentence"
    for row in rows:
        assert row["ppl unseen"] == pytest.approx(row["ppl"], rel=1e-4) and row["low"] < row["ppl"] < row["high"]
        assert row["n"] == 30
    assert rows[0]["MI"] is None and rows[1]["-ELBO"] >= rows[1]["nats"] > 0
    assert difference(found.optimus[0.1], found.twin).mean == pytest.approx(rows[1]["nats"] - rows[0]["nats"], abs=1e-4)


def test_sentences_of_the_training_text_are_found_and_left_out(tmp_path):
    (tmp_path / "mine").mkdir()
    for split, text in (("train", "Thank you .\nnever again"), ("valid", "c"), ("test", "a b")):
        (tmp_path / "mine" / f"{split}.txt").write_text(text)
    run = Run.start(tmp_path / "run", {})
    for name, nll in (("mine_gpt2", [1.0, 4.0, 9.0]), ("mine_0.1", [2.0, 5.0, 6.0])):
        (run.dir / name).mkdir()
        kept = {"sentences": ["thank you!", "a b", "c"], "n_tokens": [2, 2, 1], "nll": nll}
        (run.dir / name / "per_sentence.json").write_text(json.dumps(kept))
    corpus = str(tmp_path / "mine")
    arms = [compare.Arm("mine_gpt2", corpus, None, TrainConfig()), compare.Arm("mine_0.1", corpus, 0.1, TrainConfig())]
    found = compare.likelihoods(run, arms, corpus)
    assert found.seen.tolist() == [True, False, False]
    ends = {"ppl": 1, "ppl_low": 1, "ppl_high": 1, "nll": 1}
    numbers = {"mine_gpt2": ends, "mine_0.1": {f"{key}_iw100".replace("_low_iw100", "_iw100_low"): 1 for key in ends}}
    numbers["mine_0.1"]["ppl_iw100_high"] = 1
    rows = compare.table_rows(arms, numbers, {corpus: found})
    assert [row["ppl unseen"] for row in rows] == pytest.approx([np.exp(13 / 5), np.exp(11 / 5)])
    (run.dir / "mine_0.1" / "per_sentence.json").write_text(json.dumps({**kept, "sentences": ["x", "a b", "c"]}))
    with pytest.raises(ValueError, match="Optimus at 0.1 and the twin were tested on other sentences"):
        compare.likelihoods(run, arms, corpus)


def test_difference_is_paired_and_tells_when_it_cannot_be_told():
    rng = np.random.default_rng(3)
    hard = rng.gamma(2.0, 40.0, 400)  # sentences differ far more than models do
    noise = rng.normal(0, 1, 400)
    won = difference(hard + noise - 0.5, hard)
    assert won.winner == "optimus" and won.low < won.mean < won.high < 0 and won.n == 400
    assert won.mean == pytest.approx(noise.mean() - 0.5)
    half = 1.96 * noise.std(ddof=1) / 20
    assert won.high - won.low == pytest.approx(2 * half, rel=0.1), "as the normal approximation has it"
    assert difference(hard + noise + 0.5, hard).winner == "twin"
    assert difference(hard + rng.permutation(hard) / 9 - hard.mean() / 9, hard).winner == "cannot be told"
    with pytest.raises(ValueError, match="needs the nats of at least 2 sentences"):
        difference([1.0], [2.0])


def test_text_behind_a_model_follows_its_beginnings(pretrained, tmp_path):
    assert compare.text_behind("") == [] and compare.text_behind(str(pretrained[0])) == ["grammar"]
    later = tmp_path / "later"
    (later / "model").mkdir(parents=True)
    (later / "model" / "config.json").write_text("{}")
    (later / "params.json").write_text(json.dumps({"data": "ptb+yelp_short+shards:a*.txt", "init": str(pretrained[0])}))
    assert compare.text_behind(str(later)) == ["grammar", "ptb", "yelp_short"]


MISTAKES = {
    "corpora=,": "a comparison needs a corpus and a threshold, found corpora=','",
    "thresholds=0.1,much": "a threshold must be a number of nats from 0 on, found 'much'",
    "corpora=grammar,grammar": "corpora of the same name would share a folder",
    "corpora=nowhere": "no corpus 'nowhere'",
    "init=nowhere": "nowhere/config.json. Train one with 11_optimus_train.",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line_before_anything_is_trained(mistake, tmp_path, capsys):
    assert compare.main([str(tmp_path / "run"), "-p", "vocab_size=0", "-p", mistake]) == 2
    error = capsys.readouterr().err
    assert MISTAKES[mistake] in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_folders_that_cannot_be_compared_are_refused(pretrained):
    optimus, twin = map(str, pretrained)
    with pytest.raises(ValueError, match="init must be a trained Optimus, found a twin in"):
        plan(config(init=twin))
    with pytest.raises(ValueError, match="init_twin must be a trained twin, found an Optimus in"):
        plan(config(init=optimus, init_twin=optimus))
    with pytest.raises(ValueError, match="expected both pre-trained, or neither"):
        plan(config(init_twin=twin))
