"""Pre-training: what is hidden and lost, runs that stop and go on, parts and ranks that add up, and no leak."""

import gzip
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from dgmlab import training
from dgmlab.data.registry import data_home
from dgmlab.prevalent import pretrain_data
from dgmlab.prevalent.grounding import VIEWS, Predictions, evaluate, predict, word_attention, word_profit
from dgmlab.prevalent.model import PretrainOut, Prevalent, PrevalentForPretraining
from dgmlab.prevalent.objective import hide_words, pretrain_sums
from dgmlab.prevalent.pretrain import PretrainConfig, build_model, load_trained, train
from dgmlab.prevalent.pretrain_data import open_data
from dgmlab.prevalent.words import Words
from dgmlab.run import Run

real = pytest.mark.skipif(not (data_home() / "matterport" / "R2R").is_dir(), reason=f"no R2R files below {data_home()}")
TINY = {"n_houses": 3, "n_episodes": 60, "n_steps": 6, "batch_size": 12, "warmup": 2, "eval_every": 3, "save_every": 3,
        "n_watch": 20, "n_eval": 20, "min_count": 1, "precision": "fp32"}


def config(**changed):
    return PretrainConfig(**{**TINY, **changed})


def metric_lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run, numbers) of six steps in toy houses."""
    run = Run.start(tmp_path_factory.mktemp("runs") / "whole", {})
    return run, train(run, config())


@pytest.fixture(scope="module")
def data(trained):
    """The data of that run, opened again."""
    return open_data(trained[0], config(), training.start(0, "fp32"))


# objective


def test_fifteen_words_in_a_hundred_are_hidden_as_bert_hides_them():
    words = Words.build(["a b c d e f g h i j k l m n o p q r s t"], 1)
    ids = torch.randint(5, len(words), (2000, 50))
    ids[:, 0], ids[:, 40], ids[:, 41:], ids[:, 7] = words.cls, words.sep, words.pad, words.unk
    hidden = hide_words(ids, words, np.random.default_rng(0))
    ordinary = torch.ones_like(ids, dtype=torch.bool)
    ordinary[:, [0, 7, *range(40, 50)]] = False
    assert not hidden.asked[~ordinary].any() and torch.equal(hidden.ids[~hidden.asked], ids[~hidden.asked])
    assert abs(hidden.asked[ordinary].double().mean() - 0.15) < 0.005
    now, before = hidden.ids[hidden.asked], ids[hidden.asked]
    assert abs((now == words.mask).double().mean() - (0.8 + 0.1 / 25)) < 0.015
    assert abs((now == before).double().mean() - (0.1 + 0.1 / 25)) < 0.015  # a random word may be the word itself
    assert len(set(now.tolist())) == len(words)
    again = hide_words(ids, words, np.random.default_rng(0))
    assert torch.equal(again.ids, hidden.ids) and torch.equal(again.asked, hidden.asked)


def test_losses_of_ignorance_are_the_logarithms_of_the_choices():
    ignorant = PretrainOut(torch.zeros(5, 40), torch.zeros(3, 36))
    sums = pretrain_sums(ignorant, torch.tensor([0, 7, 3, 9, 0]), torch.tensor([0, 1, 0]))
    assert math.isclose(sums.mlm_loss, 5 * math.log(40), rel_tol=1e-6)
    assert math.isclose(sums.action_loss, 3 * math.log(36), rel_tol=1e-6)
    assert (int(sums.mlm_right), int(sums.action_right)) == (2, 2)  # argmax of equals is 0
    logits = torch.full((1, 2), 0.0)
    logits[0, 1] = math.log(3)
    sums = pretrain_sums(PretrainOut(logits[:0], logits), torch.zeros(0, dtype=torch.long), torch.tensor([1]))
    assert sums.mlm_loss == 0 and math.isclose(sums.action_loss, math.log(4 / 3), rel_tol=1e-6)


# data


def test_held_out_paths_and_houses_are_not_those_of_training(data):
    def paths(triplets):
        return set(triplets.path_key.tolist())

    seen, unseen = (data.held_out[split] for split in ("val_seen", "val_unseen"))
    assert set(seen.scans) <= set(data.train.scans) and not set(unseen.scans) & set(data.train.scans)
    assert not paths(data.train) & (paths(seen) | paths(unseen))


def test_a_step_is_the_same_whoever_asks_and_ranks_share_it(data):
    def rank(number, world, accumulate=1):
        class Accelerator:
            process_index, num_processes, device = number, world, torch.device("cpu")

        asked = config(accumulate=accumulate)
        return list(pretrain_data.PretrainData(asked, data.words, data.features, data.train, {}, Accelerator).micro_batches(4))

    whole, = rank(0, 1)
    halves = [rank(number, 2)[0] for number in (0, 1)]
    for number, half in enumerate(halves):
        assert torch.equal(half.ids, whole.ids[number::2]) and torch.equal(half.batch.action, whole.batch.action[number::2])
        assert half.n_asked == whole.n_asked == int(whole.asked.sum())
    thirds = rank(0, 1, accumulate=3)
    assert [part.last for part in thirds] == [False, False, True]
    assert torch.equal(torch.cat([part.targets for part in thirds]), whole.targets)
    assert torch.equal(whole.targets, whole.batch.ids[whole.asked])


def write_shard(folder, episodes, instructions):
    """A shard as `synthesis` leaves it, where these are all paths that were told."""
    folder.mkdir(exist_ok=True)
    (folder / "plan.json").write_text('{"n_shards": 1}')
    lines = [{"scan": one.scan, "path": one.path, "heading": one.heading, "instructions": instructions} for one in episodes]
    with gzip.open(folder / "shard-00000.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def test_synthetic_triplets_join_and_only_about_training_houses(tmp_path):
    accelerator = training.start(0, "fp32")
    _, episodes = pretrain_data._toy(config())
    shards, spoken = tmp_path / "shards", episodes["train"][:20]
    write_shard(shards, spoken, ["go on and stop", "walk there"])
    mixed = open_data(Run.start(tmp_path / "mixed", {}), config(synthetic=str(shards), synthetic_share=0.5), accelerator)
    counts = mixed.train.counts
    assert (counts.real_instructions, counts.synthetic_instructions) == (60, 40)
    assert counts.synthetic_steps == 2 * sum(len(episode.path) for episode in spoken)
    assert len(mixed.order.parts) == 2 and mixed.held_out["val_seen"].counts.synthetic_steps == 0
    write_shard(shards, [*spoken, episodes["val_unseen"][0]], ["go on and stop"])
    with pytest.raises(ValueError, match="leak: a synthetic instruction is about house 'toy10"):
        open_data(Run.start(tmp_path / "leak", {}), config(synthetic=str(shards)), accelerator)
    assert not (tmp_path / "leak" / "triplets" / "train").exists()


# runs


def test_a_run_leaves_model_words_and_numbers(trained, data):
    run, numbers = trained
    assert run.status["state"] == "done" and run.results["metrics"] == numbers
    assert numbers["real_steps"] == len(data.train) and numbers["synthetic_steps"] == 0
    for split in ("val_seen", "val_unseen"):
        assert 0 < numbers[f"{split}_mlm_loss"] < 7 and 0 <= numbers[f"{split}_action_accuracy_elsewhere"] <= 1
    encoder, words = load_trained(run.dir)
    assert isinstance(encoder, Prevalent) and words.vocabulary == data.words.vocabulary
    whole, _ = load_trained(run.dir / "model", PrevalentForPretraining)
    again = evaluate(whole, data, data.held_out["val_unseen"], 20, ("seen",))
    assert again == {name: pytest.approx(numbers[f"val_unseen_{name}"]) for name in again}
    with pytest.raises(FileNotFoundError, match="a pre-trained model was expected"):
        load_trained(run.dir / "nowhere")


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_bit_by_bit(trained, tmp_path, monkeypatch):
    run, numbers = trained
    with monkeypatch.context() as patch:
        real = training.Progress.update

        def update(self, done, **shown):
            if done == 5:
                raise Stopped
            real(self, done, **shown)

        patch.setattr(training.Progress, "update", update)
        with pytest.raises(Stopped):
            train(Run.start(tmp_path / "stopped", {}), config())
    assert train(Run.start(tmp_path / "stopped", {}), config()) == numbers
    assert metric_lines(tmp_path / "stopped") == metric_lines(run.dir)
    one, two = (load_trained(folder)[0].state_dict() for folder in (run.dir, tmp_path / "stopped"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path):
    losses = []
    for accumulate in (1, 3):
        train(Run.start(tmp_path / f"in{accumulate}", {}), config(accumulate=accumulate, dropout=0.0, save_every=0))
        rows = metric_lines(tmp_path / f"in{accumulate}")
        losses.append([row["mlm_loss"] + row["action_loss"] for row in rows if "lr" in row])
    assert len(losses[0]) == 2 and np.allclose(*losses, rtol=1e-4) and losses[0][0] != losses[0][1]


def test_bf16_and_the_other_label_space_and_one_pass(tmp_path):
    asked = config(action_space="view_stop", precision="bf16", n_steps=0, n_houses=2, n_episodes=20, eval_every=0)
    numbers = train(Run.start(tmp_path / "run", {}), asked)
    rows = metric_lines(tmp_path / "run")
    assert rows[-1]["step"] == -(-numbers["real_steps"] // 12) and math.isfinite(rows[-1]["val_seen_action_loss"])
    assert load_trained(tmp_path / "run")[0].config.action_space == "view_stop"


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain_data, "panoramas", lambda *a: torch.full((12, 36, 266), torch.nan))
    with pytest.raises(FloatingPointError, match="loss is nan at step 1"):
        train(Run.start(tmp_path / "run", {}), config())


@pytest.mark.parametrize(("wrong", "message"), [
    ({"data": "r3r"}, "no data of pre-training is called 'r3r'. Did you mean 'r2r'"),
    ({"max_length": 600}, "max_length is 600 but the model holds 512 tokens"),
    ({"size": "big"}, "no preset of Prevalent is called 'big'"),
    ({"synthetic_share": 0.5}, "0 synthetic triplets"),
    ({"action_space": "compass"}, "action_space is 'compass'; choose one of: candidate_rank, view_stop"),
])
def test_mistakes_are_named(tmp_path, wrong, message):
    with pytest.raises((KeyError, ValueError), match=message):
        train(Run.start(tmp_path / "run", {}), config(**wrong))


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    """torchrun with 2 gloo processes: the same global batch, dropout off: the losses of one process."""
    asked = {**TINY, "n_steps": 12, "batch_size": 9, "dropout": 0.0}
    script = tmp_path / "go.py"
    script.write_text(
        "import sys, torch\n"
        "torch.set_num_threads(1)\n"
        "from dgmlab.run import Run\n"
        "from dgmlab.prevalent.pretrain import PretrainConfig, train\n"
        f"train(Run.start(sys.argv[1], {{}}), PretrainConfig(**{asked!r}))\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    for world in (1, 2):
        done = subprocess.run([*command, str(world), str(script), str(tmp_path / f"world{world}")],
                              capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (metric_lines(tmp_path / f"world{world}") for world in (1, 2))
    for name in ("mlm_loss", "action_loss", "gradient_norm"):
        found = [[row[name] for row in rows if name in row] for rows in (one, two)]
        assert len(found[0]) == 3 and np.allclose(*found, rtol=1e-3), name
    manifest = json.loads((tmp_path / "world2" / "checkpoints" / "step-00000012" / "manifest.json").read_text())
    assert manifest["world_size"] == 2 and "rng-1.json" in manifest["sha256"]


@real
def test_r2r_is_checked_for_leaks_each_time(tmp_path, monkeypatch):
    asked = config(data="r2r", limit=30, n_steps=1, batch_size=4, n_watch=4, n_eval=4)
    numbers = train(Run.start(tmp_path / "run", {}), asked)
    assert numbers["real_instructions"] == 30 and numbers["synthetic_steps"] == 0
    load = pretrain_data.load_r2r
    intruder = load("val_seen")[:1]
    monkeypatch.setattr(pretrain_data, "load_r2r", lambda split: [*(intruder if split == "train" else ()), *load(split)])
    with pytest.raises(ValueError, match=r"leak: '.*' \(val_seen, instr_id"):
        train(Run.start(tmp_path / "leak", {}), asked)


# what the views do


def test_the_same_words_are_asked_for_whatever_is_shown(data):
    model = build_model(config(), data)
    found = {views: predict(model, data, data.held_out["val_seen"], 30, views) for views in VIEWS}
    for views in VIEWS:
        assert np.array_equal(found[views].word, found["seen"].word) and len(found[views].action) == 30
        assert np.array_equal(found[views].action, found["seen"].action)
    assert not np.array_equal(found["seen"].word_loss, found["zeroed"].word_loss)
    assert not np.array_equal(found["seen"].word_loss, found["elsewhere"].word_loss)
    with pytest.raises(KeyError, match="no way to show the views is called 'dark'. .* seen, zeroed, elsewhere"):
        predict(model, data, data.held_out["val_seen"], 30, "dark")
    blind = pretrain_data.PretrainData(config(blind=True), data.words, data.features, data.train, {}, data.accelerator)
    found = [predict(model, blind, data.held_out["val_seen"], 30, views).word_loss for views in VIEWS]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_profit_of_words_by_hand(data):
    word = np.array([6, 6, 7, 7, 7, 7, 8])

    def predictions(right):
        return Predictions(word, np.array(right, bool), np.zeros(7), *[np.zeros(0)] * 3)

    seen, unseen = predictions([1, 0, 1, 1, 1, 0, 1]), predictions([1, 0, 0, 1, 0, 0, 0])
    rows = word_profit(seen, unseen, data.words, min_count=2)
    assert [tuple(row) for row in rows] == [(data.words.vocabulary[7], 4, 0.75, 0.25), (data.words.vocabulary[6], 2, 0.5, 0.5)]
    with pytest.raises(ValueError, match="different words"):
        word_profit(seen, seen._replace(word=word + 1), data.words)


def test_attention_of_words_is_a_distribution_over_views(data):
    model = build_model(config(), data).eval()
    batch = data.train.batch(np.arange(3))
    attention = word_attention(model, batch.ids, batch.mask, data.views(batch))
    assert attention.shape == (1, 3, batch.ids.shape[1], 36)
    assert torch.allclose(attention.sum(-1), torch.ones(attention.shape[:-1]))
