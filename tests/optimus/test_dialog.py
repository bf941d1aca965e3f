"""The model with two ways in: where the paths meet at the start, what padding may not change, and the batches."""

import pytest
import torch

from dgmlab.data.dialog import Exchange, load_dialog
from dgmlab.optimus.data import build_tokenizers, load_trained, save_trained
from dgmlab.optimus.dialog import DialogCorpus, DialogOptimus, context_batch, context_ids, load_dialog_model
from dgmlab.optimus.model import Optimus

EXCHANGES = [Exchange(("are you free tonight ?", "yes , i am .", "what shall we eat ?"), "how about soup tonight ?"),
             Exchange(("what shall we play today ?",), "i would love chess ."),
             Exchange(("what shall we play today ?",), "chess again , please .")]


@pytest.fixture(scope="module")
def tokenizers():
    texts = [text for pair in load_dialog("toy") for text in (*pair.context, pair.response)]
    return build_tokenizers("tiny", texts, 0)


@pytest.fixture
def model(tokenizers):
    torch.manual_seed(0)
    optimus = Optimus.from_preset("tiny", tokenizers, latent_size=6, n_positions=40, dropout=0.0)
    return DialogOptimus.from_optimus(optimus, 2).eval()


def shake(model):
    """Away from the start, where the context layers are the identity."""
    torch.manual_seed(1)
    for parameter in model.context_layers.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def test_at_the_start_a_context_is_read_as_a_sentence_and_later_not(model, tokenizers):
    batch = DialogCorpus(EXCHANGES, tokenizers, 30, 12).batch([0, 1])
    as_sentence = model.encode_response(batch.context_ids, batch.context_mask)
    assert torch.allclose(model.encode_context(batch.context_ids, batch.context_mask), as_sentence, atol=1e-5)
    moved = shake(model).encode_context(batch.context_ids, batch.context_mask)
    assert (moved - as_sentence).abs().max() > 1e-3
    assert torch.equal(model.encode_response(batch.context_ids, batch.context_mask), as_sentence)


def test_padding_changes_no_context(model, tokenizers):
    shake(model)
    together = DialogCorpus(EXCHANGES, tokenizers, 30, 12).batch([0, 1])
    alone = DialogCorpus(EXCHANGES, tokenizers, 30, 12).batch([1])
    assert together.context_ids.shape[1] > alone.context_ids.shape[1]
    z = [model.encode_context(batch.context_ids, batch.context_mask)[-1] for batch in (together, alone)]
    assert torch.allclose(*z, atol=1e-5)


def test_every_parameter_learns(model, tokenizers):
    batch = DialogCorpus(EXCHANGES, tokenizers, 30, 12).batch([0, 1, 2])
    z = shake(model).train().encode_context(batch.context_ids, batch.context_mask)
    model(batch.response.decoder_ids, latent=z).logits.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []


def test_a_pre_trained_optimus_is_taken_over(tokenizers):
    optimus = Optimus.from_preset("tiny", tokenizers, latent_size=6, n_positions=40).eval()
    model = DialogOptimus.from_optimus(optimus).eval()
    ids = torch.tensor([[4, 5, 6]])
    assert torch.equal(model.encode_response(ids), optimus.encode(ids).mu)
    z = torch.randn(1, 6)
    assert torch.equal(model(ids, latent=z).logits, optimus(ids, latent=z).logits)
    with pytest.raises(ValueError, match="at least 1 layer of its own, found context_layers=0"):
        DialogOptimus.from_optimus(optimus, 0)


def test_saved_and_loaded_model_is_the_same(model, tokenizers, tmp_path):
    shake(model).config.radius = 0.25
    save_trained(tmp_path, model, tokenizers)
    loaded, _ = load_dialog_model(tmp_path)
    ids, mask = torch.tensor([[4, 5, 6, 7]]), torch.ones(1, 4)
    assert torch.equal(loaded.encode_context(ids, mask), model.encode_context(ids, mask)) and loaded.config.radius == 0.25
    plain = Optimus.from_preset("tiny", tokenizers, latent_size=6, n_positions=40)
    save_trained(tmp_path / "plain", plain, tokenizers)
    assert type(load_trained(tmp_path / "plain")[0]) is Optimus
    with pytest.raises(ValueError, match="holds no dialog model. Train one with 15_dialog_train"):
        load_dialog_model(tmp_path / "plain")


def test_contexts_are_their_last_turns_between_marks_and_speakers_alternate(tokenizers):
    tokenizer = tokenizers.encoder
    rows = context_ids([pair.context for pair in EXCHANGES[:2]], tokenizer, 12)
    assert [len(turn) for turn in rows[0]] == [5, 5], "5 + 1 + 5 tokens fit; the first turn does not"
    ids, mask, speakers = context_batch(rows, tokenizer)
    text = tokenizer.convert_ids_to_tokens(ids[0])
    assert text == ["<bos>", "yes", ",", "i", "am", ".", "<eos>", "what", "shall", "we", "eat", "?", "<eos>"]
    assert mask.sum(1).tolist() == [13, 8] and tokenizer.convert_ids_to_tokens(ids[1])[8:] == ["<pad>"] * 5
    # who answers said 'yes , i am .'; the other asked
    assert speakers[0].tolist() == [0] * 7 + [1] * 6 and speakers[1].tolist() == [1] * 8 + [0] * 5


def test_a_corpus_drops_long_responses_and_knows_equal_texts(tokenizers):
    long = Exchange(("hello !",), "how about soup tonight ? " * 4)
    corpus = DialogCorpus([long, *EXCHANGES], tokenizers, 30, 12)
    assert len(corpus) == 3 and corpus.n_dropped == 1 and corpus.exchanges == EXCHANGES
    batch = corpus.batch([1, 0, 2])
    assert batch.context_keys.tolist() == [1, 0, 1] and len(set(batch.response_keys.tolist())) == 3
    assert batch.response.target_ids[0, -1] in (-100, tokenizers.decoder.eos_token_id)
    with pytest.raises(ValueError, match="the responses has no sentence of 1 to 2 tokens"):
        DialogCorpus(EXCHANGES, tokenizers, 30, 2)


def test_token_types_tell_who_speaks_where_the_encoder_has_them(backbones):
    from dgmlab.optimus.data import paper_tokenizers

    tokenizers = paper_tokenizers(*backbones)
    optimus = Optimus.from_preset("paper", tokenizers, latent_size=6, encoder=backbones[0], decoder=backbones[1])
    model = DialogOptimus.from_optimus(optimus).eval()
    rows = context_ids([("the dog runs", "the cat sees")], tokenizers.encoder, 20)
    ids, mask, speakers = context_batch(rows, tokenizers.encoder)
    assert speakers.shape == ids.shape and speakers.unique().tolist() == [0, 1]
    assert (model.encode_context(ids, mask, speakers) - model.encode_context(ids, mask)).abs().max() > 1e-5
