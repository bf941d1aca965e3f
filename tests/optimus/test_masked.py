"""The BERT twin: gaps are made as BERT makes them, the loss is that of the gaps alone, and training resumes exactly."""

import json
import math

import pytest
import torch
from torch.nn import functional

from dgmlab import training
from dgmlab.data import grammar
from dgmlab.optimus.data import Corpus, Tokenizers, load_trained, save_trained, word_tokenizer
from dgmlab.optimus.masked import Cloze, build_twin, fill_gaps, hide_tokens, load_twin, train, twin_config
from dgmlab.optimus.model import Optimus
from dgmlab.optimus.train import TrainConfig
from dgmlab.optimus.train import train as train_optimus
from dgmlab.run import Run

CONFIG = TrainConfig(vocab_size=0, max_length=16, n_steps=12, batch_size=16, lr=2e-3, warmup=2, dropout=0.1, precision="fp32",
                     limit=400, eval_every=6, save_every=5, n_watch=16, n_eval=40, iw_samples=2, latent_size=4)


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def tokenizers():
    tokenizer = word_tokenizer(grammar.sentences())
    return Tokenizers(tokenizer, tokenizer)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run, its numbers) of a whole training."""
    run = Run.start(tmp_path_factory.mktemp("masked") / "whole", {})
    return run, train(run, CONFIG)


def test_fifteen_per_cent_are_hidden_eighty_ten_ten():
    generator = torch.Generator().manual_seed(0)
    ids = torch.full((4000, 22), 7)
    hidden = hide_tokens(ids, torch.ones_like(ids), mask_id=50, n_words=50, generator=generator)
    chosen = hidden.targets != -100
    n = int(chosen.sum())
    assert not chosen[:, 0].any() and not chosen[:, -1].any(), "the marks of a sentence are never hidden"
    assert n / (4000 * 20) == pytest.approx(0.15, abs=4 * math.sqrt(0.15 * 0.85 / 80_000))
    assert (hidden.targets[chosen] == 7).all() and (hidden.ids[~chosen] == 7).all()
    found = hidden.ids[chosen]
    spread = 4 * math.sqrt(0.25 / n)
    assert (found == 50).float().mean() == pytest.approx(0.8, abs=spread)
    assert (found == 7).float().mean() == pytest.approx(0.1 + 0.1 / 50, abs=spread)
    assert len(found.unique()) == 51, "a random token may be any word"


def test_padding_and_the_end_of_each_sentence_are_left_alone():
    ids = torch.tensor([[1, 5, 6, 2, 0, 0], [1, 5, 6, 7, 8, 2]] * 200)
    mask = (ids != 0).long()
    hidden = hide_tokens(ids, mask, 9, 9, torch.Generator().manual_seed(1))
    untouched = ids <= 2
    assert (hidden.targets[untouched] == -100).all() and torch.equal(hidden.ids[untouched], ids[untouched])
    assert set(hidden.targets[hidden.targets != -100].tolist()) == {5, 6, 7, 8}


def test_the_loss_is_the_librarys_and_every_parameter_learns(tokenizers):
    torch.manual_seed(0)
    model = build_twin(CONFIG, tokenizers).eval()
    batch = Corpus(grammar.sample(20, seed=3), tokenizers, 16).pair(range(20))
    hidden = hide_tokens(batch.encoder_ids, batch.encoder_mask, model.config.mask_token_id, len(tokenizers.encoder))
    gap = Cloze(model)(hidden.ids, batch.encoder_mask, hidden.targets)
    logits = model(input_ids=hidden.ids, attention_mask=batch.encoder_mask).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), hidden.targets.flatten(), ignore_index=-100)
    assert torch.allclose(gap.loss, expected, atol=1e-5)
    assert 0 <= gap.right.item() <= 1
    gap.loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_batch_without_a_gap_is_worth_nothing(tokenizers):
    model = build_twin(CONFIG, tokenizers)
    ids = torch.tensor([[1, 5, 2]])
    gap = Cloze(model)(ids, torch.ones_like(ids), torch.full_like(ids, -100))
    gap.loss.backward()
    assert gap.loss.item() == 0 and gap.right.item() == 0


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_twin_is_optimuss_encoder_and_one_more_word(size, tokenizers):
    config = TrainConfig(**{**vars(CONFIG), "size": size})
    optimus = Optimus.from_preset(size, tokenizers, dropout=config.dropout, n_positions=config.max_length + 3)
    twin = build_twin(config, tokenizers)
    shapes = {name: tuple(p.shape) for name, p in optimus.encoder.named_parameters()}
    word = "embeddings.word_embeddings.weight"
    shapes[word] = (shapes[word][0] + 1, shapes[word][1])
    assert {name: tuple(p.shape) for name, p in twin.base_model.named_parameters()} == shapes
    assert twin.config.sentence_pooling == optimus.config.pooling and twin.config.mask_token_id == len(tokenizers.encoder)


def test_training_goes_on_as_if_it_had_never_stopped(trained, tmp_path, monkeypatch):
    whole, numbers = trained
    with monkeypatch.context() as patch:
        real = training.Progress.update

        def update(self, done, **values):
            if done == 8:
                raise Stopped
            real(self, done, **values)

        patch.setattr(training.Progress, "update", update)
        with pytest.raises(Stopped):
            train(Run.start(tmp_path / "stopped", {}), CONFIG)
    stopped = Run.start(tmp_path / "stopped", {})
    assert train(stopped, CONFIG) == numbers
    lines = [(run.dir / "metrics.jsonl").read_text().splitlines() for run in (whole, stopped)]
    assert [json.loads(line) for line in lines[0]] == [json.loads(line) for line in lines[1]]
    assert train(stopped, CONFIG) == numbers, "a finished run is read back"


def test_it_learns_and_loads_again(trained):
    run, numbers = trained
    steps, loss = run.column("val_loss")
    assert loss[-1] < loss[0] < math.log(90) and numbers["masked_nll"] < math.log(85) and numbers["n_sentences"] == 40
    model, tokenizers = load_twin(run.dir)
    corpus = Corpus(grammar.sample(40, seed=0, parts=("test",)), tokenizers, 16)
    autocast = training.start(0, "fp32").autocast
    first = fill_gaps(model, corpus, autocast)
    assert first == fill_gaps(load_twin(run.dir / "model")[0], corpus, autocast) and not model.training
    assert first["masked_nll"] == pytest.approx(numbers["masked_nll"], abs=0.3)


def test_a_twin_goes_on_from_a_twin_only(tokenizers, tmp_path):
    save_trained(tmp_path / "model", Optimus.from_preset("tiny", tokenizers, latent_size=4, n_positions=19), tokenizers)
    with pytest.raises(ValueError, match="a twin goes on from a twin, which .* is not"):
        build_twin(TrainConfig(**{**vars(CONFIG), "init": str(tmp_path)}), tokenizers)


def test_it_sees_the_batches_and_the_words_that_optimus_sees(trained, tmp_path, monkeypatch):
    """The order of the sentences follows from the seed, so a twin's batches are its model's."""
    seen = {}
    real = Corpus.pair

    def pair(self, index):
        seen.setdefault(name, []).append(tuple(self.sentences[i] for i in index))
        return real(self, index)

    monkeypatch.setattr(Corpus, "pair", pair)
    config = TrainConfig(**{**vars(CONFIG), "n_steps": 3, "eval_every": 3, "n_eval": 4, "n_watch": 4})
    for name, loop in (("optimus", train_optimus), ("twin", train)):
        loop(Run.start(tmp_path / name, {}), config)
    assert seen["optimus"][:3] == seen["twin"][:3]
    ours, theirs = load_trained(tmp_path / "optimus")[1], load_twin(tmp_path / "twin")[1]
    assert ours.encoder.get_vocab() == theirs.encoder.get_vocab()


def test_paper_size_starts_from_a_bert_at_hand(backbones, tmp_path):
    encoder, decoder = backbones
    config = TrainConfig(**{**vars(CONFIG), "size": "paper", "encoder": encoder, "decoder": decoder, "n_steps": 2,
                            "max_length": 30, "lr": 5e-5})
    numbers = train(Run.start(tmp_path / "paper", {}), config)
    model, tokenizers = load_twin(tmp_path / "paper")
    assert math.isfinite(numbers["masked_nll"]) and model.config.model_type == "bert"
    assert model.config.mask_token_id == tokenizers.encoder.mask_token_id and model.config.sentence_pooling == "cls"
    again = TrainConfig(**{**vars(config), "init": str(tmp_path / "paper")})
    assert math.isfinite(train(Run.start(tmp_path / "again", {}), again)["masked_nll"])


def test_the_twin_of_a_run_is_made_as_that_run_was(tmp_path):
    run = Run.start(tmp_path / "vae", {**vars(CONFIG), "twin": False, "collapsed": True})
    assert twin_config(run.dir) == CONFIG and twin_config(run.dir, 99).n_steps == 99
    with pytest.raises(FileNotFoundError, match="run folder of an Optimus was expected, with params.json"):
        twin_config(tmp_path)
    tuned = Run.start(tmp_path / "tuned", {**vars(CONFIG), "init": "runs/vae"})
    with pytest.raises(ValueError, match="goes on from another .runs/vae., and so must its twin"):
        twin_config(tuned.dir)
