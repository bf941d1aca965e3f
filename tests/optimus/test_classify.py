"""Frozen features: those of the model, whatever the company; pairs as BERT reads them; the twin pools like its Optimus."""

import numpy as np
import pytest
import torch
from transformers import BertModel, BertTokenizerFast

from dgmlab.data import grammar
from dgmlab.optimus.classify import (
    Classifier,
    Encoder,
    Reader,
    open_encoder,
    pair_features,
    pool,
    sentence_features,
    untrained,
)
from dgmlab.optimus.data import Tokenizers, save_trained, word_tokenizer
from dgmlab.optimus.latent import encode_sentences
from dgmlab.optimus.masked import build_twin
from dgmlab.optimus.model import Optimus
from dgmlab.optimus.train import TrainConfig

SENTENCES = grammar.sample(9, seed=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of an Optimus and of its BERT twin, both at their random start."""
    home = tmp_path_factory.mktemp("encoders")
    tokenizers = Tokenizers(*[word_tokenizer(grammar.sentences())] * 2)
    torch.manual_seed(0)
    optimus = Optimus.from_preset("tiny", tokenizers, latent_size=4, n_positions=16 + 3)
    save_trained(home / "optimus" / "model", optimus, tokenizers)
    twin = build_twin(TrainConfig(max_length=16), tokenizers)
    twin.save_pretrained(home / "twin" / "model")
    tokenizers.save(home / "twin" / "model")
    return home / "optimus", home / "twin"


@pytest.fixture(scope="module")
def optimus(folders):
    return open_encoder(folders[0])


def test_both_are_opened_from_their_folders_and_read_alike(folders, optimus):
    twin = open_encoder(str(folders[1] / "model"))
    assert (optimus.label, twin.label) == ("Optimus", "BERT twin") and optimus.pooling == twin.pooling == "mean"
    assert optimus.room == twin.room == 19 and not twin.body.training
    ids = [Reader(encoder, SENTENCES).batch(range(9)).ids for encoder in (optimus, twin)]
    assert torch.equal(*ids)
    assert sentence_features(twin, SENTENCES).shape == sentence_features(optimus, SENTENCES).shape == (9, 128)


def test_mu_is_what_optimus_itself_says_and_z_a_draw_around_it(folders, optimus):
    model = Optimus.from_pretrained(folders[0] / "model").eval()
    mu = sentence_features(optimus, SENTENCES, "mu")
    assert np.allclose(mu, encode_sentences(model, Tokenizers.load(folders[0] / "model"), SENTENCES), atol=1e-5)
    batch = Reader(optimus, SENTENCES).batch(range(9))
    with torch.no_grad():
        logvar = model.encode(batch.ids, batch.mask).logvar.numpy()
    eps = np.random.default_rng(3).standard_normal(mu.shape)
    z = sentence_features(optimus, SENTENCES, "z", seed=3)
    assert np.allclose(z, mu + np.exp(0.5 * logvar) * eps, atol=1e-5)
    assert np.array_equal(z, sentence_features(optimus, SENTENCES, "z", seed=3))


def test_features_do_not_depend_on_the_company(optimus):
    together = sentence_features(optimus, SENTENCES)
    assert together.dtype == np.float32
    assert np.allclose(together, sentence_features(optimus, SENTENCES, batch_size=1), atol=1e-5)
    assert np.allclose(together[::-1], sentence_features(optimus, SENTENCES[::-1]), atol=1e-5)


def test_pairs_are_read_with_three_marks_and_two_types(optimus):
    token = optimus.tokenizer
    a, b = (token(text, add_special_tokens=False)["input_ids"] for text in ("this kind cat", "the soup"))
    batch = Reader(optimus, ["this kind cat", "this"], ["the soup", "the"]).batch([0, 1])
    bos, eos = token.bos_token_id, token.eos_token_id
    assert batch.ids[0].tolist() == [bos, *a, eos, *b, eos]
    assert batch.ids[1].tolist() == [bos, a[0], eos, b[0], eos, *[token.pad_token_id] * 3]
    assert batch.mask[1].tolist() == [1] * 5 + [0] * 3
    assert batch.types.tolist() == [[0] * 5 + [1] * 3, [0, 0, 0, 1, 1, 0, 0, 0]]


def test_the_longer_side_is_cut_and_counted(optimus):
    reader = Reader(optimus._replace(room=10), ["cat " * 9, "cat cat"], ["the the the", "the"])
    assert [tuple(map(len, parts)) for parts in reader.rows] == [(4, 3), (2, 1)] and reader.n_cut == 1
    assert reader.batch([0]).ids.shape == (1, 10)
    alone = Reader(optimus, ["cat " * 40])
    assert alone.batch([0]).ids.shape == (1, optimus.room) and alone.n_cut == 1
    sentence_features(optimus, ["cat " * 40])  # the encoder takes what the reader leaves


def test_pair_features_by_hand(optimus):
    u, v = sentence_features(optimus, SENTENCES[:4], "mu"), sentence_features(optimus, SENTENCES[4:8], "mu")
    found = pair_features(optimus, SENTENCES[:4], SENTENCES[4:8], "mu")
    assert found.shape == (4, 16)
    assert np.allclose(found[:, :8], np.c_[u, v]) and np.allclose(found[:, 8:], np.c_[abs(u - v), u * v], atol=1e-6)
    assert np.array_equal(pair_features(optimus, SENTENCES[:4], kind="mu"), u)


def test_a_bert_reads_as_the_library_does(backbones):
    bert = open_encoder(backbones[0])
    assert bert.label == "BERT" and bert.pooling == "pooler" and bert.room == 64
    token, model = BertTokenizerFast.from_pretrained(backbones[0]), BertModel.from_pretrained(backbones[0]).eval()
    inputs = token(SENTENCES[:3], SENTENCES[3:6], padding=True, return_tensors="pt")
    batch = Reader(bert, SENTENCES[:3], SENTENCES[3:6]).batch(range(3))
    assert torch.equal(batch.ids, inputs["input_ids"]) and torch.equal(batch.types, inputs["token_type_ids"])
    with torch.no_grad():
        assert torch.allclose(pool(bert.body, "pooler", batch), model(**inputs).pooler_output, atol=1e-5)


def test_an_untrained_encoder_differs_only_in_its_weights(optimus):
    state = torch.get_rng_state()
    plain = untrained(optimus, seed=1)
    assert torch.equal(state, torch.get_rng_state()) and plain.to_posterior is None and plain.label == "untrained"
    assert [p.shape for p in plain.body.parameters()] == [p.shape for p in optimus.body.parameters()]
    assert not np.allclose(sentence_features(plain, SENTENCES), sentence_features(optimus, SENTENCES), atol=1e-2)


def test_every_parameter_of_a_classifier_learns(folders, backbones):
    for folder in (*folders, backbones[0]):
        encoder = open_encoder(folder)
        model = Classifier(encoder.body, encoder.pooling, 3)
        model(Reader(encoder, SENTENCES).batch(range(9))).square().sum().backward()
        missing = [name for name, p in model.named_parameters() if p.grad is None]
        assert missing == [], folder


def test_mistakes_are_one_line(folders, optimus):
    with pytest.raises(KeyError, match="no kind of features is called 'pool'. Did you mean 'pooled'"):
        sentence_features(optimus, SENTENCES, "pool")
    with pytest.raises(ValueError, match="mu is of a posterior, which BERT twin has not. Use kind='pooled'"):
        sentence_features(open_encoder(folders[1]), SENTENCES, "mu")
    with pytest.raises(FileNotFoundError, match="an encoder was expected in the folder /no/such/folder"):
        open_encoder("/no/such/folder")
    with pytest.raises(FileNotFoundError, match="a trained model was expected at"):
        open_encoder(folders[0].parent)
    with pytest.raises(ValueError, match="found 2 first and 1 second ones"):
        Reader(optimus, ["a", "b"], ["c"])
    with pytest.raises(ValueError, match="found 0 first. Check the data"):
        Reader(optimus, [])
    assert isinstance(optimus, Encoder)
