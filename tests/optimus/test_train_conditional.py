"""The loop of conditional training on the grammar: resuming, what each term is for, and its mistakes in one line."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from dgmlab.data.text import load_labelled
from dgmlab.metrics.style import StyleJudge
from dgmlab.optimus.conditional import load_conditional
from dgmlab.optimus.data import Corpus, Tokenizers, word_tokenizer
from dgmlab.optimus.train_conditional import (
    ConditionalConfig,
    Data,
    Objective,
    build_conditional,
    split_for_judge,
    train,
)
from dgmlab.optimus.transfer import (
    conditioned,
    draw_latents,
    generate_label,
    label_in_latent,
    label_numbers,
    other_labels,
    transfer,
)
from dgmlab.run import Run

CONFIG = ConditionalConfig(latent_size=16, n_steps=6, limit=300, batch_size=16, warmup=2, transfer_from=0.5, eval_every=6,
                           save_every=3, n_watch=24, n_eval=24, precision="fp32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of six steps."""
    run = Run.start(tmp_path_factory.mktemp("conditional") / "whole", {})
    return run, train(run, CONFIG)


@pytest.fixture
def lesson():
    """(model's data, make): sentences of the grammar and a function of config changes -> an Objective on a new model."""
    text = load_labelled("grammar:sentiment", "train", 400)
    words = word_tokenizer(text.sentences)
    tokenizers = Tokenizers(words, words)
    data = Data(tokenizers, Corpus(text.sentences, tokenizers, 16), text.labels, text.label_names, None, None, None, None)

    def make(**changes):
        torch.manual_seed(0)
        config = dataclasses.replace(CONFIG, **changes)
        return Objective(build_conditional(config, data), tokenizers, config)

    return data, make


def steps(objective, data, n, rewriting=False, lr=2e-3, pick=None):
    """n steps of Adam on the loss, or on one of its terms -> the terms of the last step."""
    optimizer = torch.optim.Adam(objective.parameters(), lr=lr)
    rng = np.random.default_rng(0)
    for _ in range(n):
        rows = rng.integers(len(data.corpus), size=32)
        labels = torch.from_numpy(data.labels[rows])
        terms = objective(data.corpus.pair(rows), labels, 1 - labels, 0.02, rewriting)
        optimizer.zero_grad()
        (terms.loss if pick is None else getattr(terms, pick)).backward()
        optimizer.step()
    return terms


def test_resume_gives_the_same_next_loss(trained, tmp_path):
    whole, numbers = trained
    run = Run.start(tmp_path / "cut", {})
    with pytest.raises(InterruptedError):
        interrupted(run)
    assert train(run, CONFIG) == pytest.approx(numbers)
    assert (run.dir / "metrics.jsonl").read_text() == (whole.dir / "metrics.jsonl").read_text()


def interrupted(run):
    """Train until the fifth step, where the power fails."""
    import dgmlab.optimus.train_conditional as loop

    original, calls = loop.training.set_lr, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 5:
            raise InterruptedError
        original(*args)

    loop.training.set_lr = failing
    try:
        train(run, CONFIG)
    finally:
        loop.training.set_lr = original


def test_a_finished_run_is_not_trained_again(trained):
    run, numbers = trained
    before = (run.dir / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(run, CONFIG) == numbers
    assert (run.dir / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_numbers_are_named_and_all_terms_are_logged(trained):
    run, numbers = trained
    assert {"accuracy", "accuracy_low", "bleu_source", "g_source", "self_bleu", "copied", "bleu_copy", "accuracy_generated",
            "z_accuracy", "judge_accuracy", "ppl_trigram", "ppl_trigram_source"} <= set(numbers)
    assert numbers["judge_accuracy"] > 0.9 and numbers["n_sentences"] == 24
    last = [row for row in map(json.loads, (run.dir / "metrics.jsonl").read_text().splitlines()) if "loss" in row][-1]
    assert min(last[name] for name in ("rec", "bag", "adversary", "confusion", "classifier", "style", "cycle")) > 0


def test_the_saved_model_rewrites_and_generates(trained):
    model, tokenizers = load_conditional(trained[0].dir)
    sentences = load_labelled("grammar:sentiment", "test", 6).sentences
    assert model.label_names == ("positive", "negative")
    by_name, by_number = transfer(model, tokenizers, sentences, "negative"), transfer(model, tokenizers, sentences, 1)
    assert by_name == by_number and len(by_name) == 6
    assert transfer(model, tokenizers, sentences, 1, own=0, degree=1.0) == by_name
    assert transfer(model, tokenizers, sentences, 1, own=0, degree=0.0) == transfer(model, tokenizers, sentences, 0)
    assert len(generate_label(model, tokenizers, "positive", 5)) == 5
    assert generate_label(model, tokenizers, 0, 5, "sample", 1) == generate_label(model, tokenizers, 0, 5, "sample", 1)


def test_the_degree_is_a_straight_line_between_two_embeddings(trained):
    model, _ = load_conditional(trained[0].dir)
    z, (a, b) = np.ones((1, 16), np.float32), model.label_embedding.weight.detach().numpy()
    assert np.allclose(conditioned(model, z, [0], [1], 0.25), 1 + 0.75 * a + 0.25 * b, atol=1e-6)
    assert np.allclose(conditioned(model, z, [0]), 1 + a)


def test_z_tells_the_label_unless_confusion_is_on(lesson):
    data, make = lesson
    found = {}
    for weight in (0.0, 5.0):
        objective = make(confusion=weight)
        steps(objective, data, 140)
        z = draw_latents(objective.model, data.tokenizers, data.corpus.sentences)
        found[weight] = label_in_latent(z, data.labels)
    assert found[0.0] > 0.9 and found[5.0] < 0.75, found


@pytest.mark.parametrize("term, side", (("style", "decoder"), ("cycle", "encoder"), ("confusion", "encoder"),
                                        ("bag", "encoder")))
def test_each_term_reaches_the_side_it_is_for(lesson, term, side):
    data, make = lesson
    objective = make()
    steps(objective, data, 1, rewriting=True, pick=term)
    grads = {name: parameter.grad for name, parameter in objective.named_parameters()}
    assert sum(float(g.abs().sum()) for name, g in grads.items() if name.startswith(f"model.{side}.") and g is not None) > 0
    readers = [g for name, g in grads.items() if name.startswith(("adversary.", "classifier.")) and g is not None]
    assert all(float(g.abs().sum()) == 0 for g in readers), "a reader learns from its own loss alone"


def test_labels_that_mean_nothing_get_their_meaning_from_style_alone(lesson):
    data, make = lesson
    objective = make()
    steps(objective, data, 60)
    embedding = objective.model.label_embedding.weight
    with torch.no_grad():
        embedding.copy_(embedding.mean(0).expand_as(embedding) + 0.01 * torch.randn_like(embedding))
    before = steps(objective, data, 1, rewriting=True, pick="style", lr=0.0).style.item()
    after = steps(objective, data, 30, rewriting=True, pick="style").style.item()
    assert after < 0.6 * before, (before, after)


def test_the_cycle_keeps_the_content_and_nothing_else_does(lesson):
    data, make = lesson
    objective = make()
    before = steps(objective, data, 1, rewriting=True, pick="cycle", lr=0.0).cycle.item()
    after = steps(objective, data, 25, rewriting=True, pick="cycle").cycle.item()
    assert after < 0.75 * before
    off = make(cycle=0.0, style=0.0)
    assert steps(off, data, 1, rewriting=True).cycle.item() == 0.0


# mistakes


def test_the_judge_sees_other_sentences_than_the_model():
    text = load_labelled("grammar:sentiment", "train", 200)
    mine, judged = split_for_judge(text, ConditionalConfig(judge_share=0.25))
    assert len(mine.sentences) == 150 and len(judged.sentences) == 50
    assert sorted(mine.sentences + judged.sentences) == sorted(text.sentences)
    with pytest.raises(ValueError, match="judge_share is 1.0; expected a share between 0 and 1"):
        split_for_judge(text, ConditionalConfig(judge_share=1.0))
    with pytest.raises(ValueError, match="the judge's corpus 'grammar:topic' has the labels animals, .* must be the same"):
        split_for_judge(text, ConditionalConfig(judge="grammar:topic"))


def labelled_file(path, labels):
    path.write_text("".join(f"{label}\tthe food was {word} .\n" for label, word in zip(labels, "abcdefgh", strict=False)))
    return str(path)


@pytest.mark.parametrize("content, message", [
    ("0\ta b c .\n" * 8, "needs sentences of two labels or more, found 1"),
    ("a b c .\n" * 8, "has no labels"),
])
def test_corpora_without_labels_or_with_one_are_named(tmp_path, content, message):
    path = tmp_path / ("one.tsv" if "\t" in content else "none.txt")
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        train(Run.start(tmp_path / "run", {}), dataclasses.replace(CONFIG, data=str(path), limit=0))
    assert Run(tmp_path / "run").status["state"] == "failed"


def test_a_missing_folder_to_start_from_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="a trained model was expected at"):
        train(Run.start(tmp_path / "run", {}), dataclasses.replace(CONFIG, init=str(tmp_path / "nothing")))


def test_labels_that_do_not_exist_are_named(trained):
    model, _ = load_conditional(trained[0].dir)
    assert label_numbers(model, ["negative", 0], 2).tolist() == [1, 0]
    with pytest.raises(ValueError, match="no label 'sad'; choose one of: positive, negative, or 0 to 1"):
        label_numbers(model, "sad", 3)
    with pytest.raises(ValueError, match="one for each of 3 sentences; found 2"):
        label_numbers(model, [0, 1], 3)
    with pytest.raises(ValueError, match="degree=0.5 mixes .* give own"):
        transfer(model, None, ["a"], 0, degree=0.5)


def test_other_labels_are_other_and_all_are_drawn():
    labels = np.arange(3000) % 3
    other = other_labels(labels, 3)
    assert (other != labels).all() and {tuple(pair) for pair in zip(labels, other, strict=True)} == {
        (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}
    assert other_labels([0, 1], 2).tolist() == [1, 0]


def test_label_in_latent_is_chance_for_noise_and_one_for_the_label_itself():
    rng, labels = np.random.default_rng(0), np.arange(2000) % 2
    noise = rng.standard_normal((2000, 4))
    assert abs(label_in_latent(noise, labels) - 0.5) < 0.05
    assert label_in_latent(np.column_stack([noise, labels]), labels) == 1.0


def test_judges_are_no_part_of_the_model(trained):
    text = load_labelled("grammar:sentiment", "train", 200)
    judge = StyleJudge(text.sentences, text.labels)
    assert not isinstance(judge, torch.nn.Module)
