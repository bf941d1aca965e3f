"""Prevalent's encoder: a cross layer against numpy, the text stage against BERT, and each stage alone against both at once."""

import math

import numpy as np
import pytest
import torch
from transformers import BertModel

from dgmlab.prevalent.model import ACTIONS, PRESETS, CrossLayer, Prevalent, PrevalentConfig, PrevalentForPretraining

V, F, B, T, N = 40, 20, 3, 7, 36


def make(cls=Prevalent, seed=0, **fields):
    torch.manual_seed(seed)
    model = cls.from_preset("tiny", V, F, **fields)
    with torch.no_grad():  # a random start this small would hide errors below the tolerance
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([T, 5, 3])
    mask = torch.arange(T) < lengths[:, None]
    ids = torch.randint(5, V, (B, T), generator=generator) * mask
    return ids, mask, torch.randn(B, N, F, generator=generator)


# a cross layer, written out number by number


def numpy_attention(p, x, context, keep, heads):
    """One head and one query at a time; p(name) gives the parameters."""
    def linear(name, y):
        return y @ p(f"{name}.weight").T + p(f"{name}.bias")

    q, k, v = linear("query", x), linear("key", context), linear("value", context)
    size, mixed = q.shape[-1] // heads, np.zeros_like(q)
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        for t in range(len(x)):
            scores = np.array([q[t, part] @ k[s, part] / math.sqrt(size) for s in range(len(context))])
            weights = np.exp(scores - scores.max()) * keep
            mixed[t, part] = weights / weights.sum() @ v[:, part]
    return numpy_norm(p, x + linear("output", mixed))


def numpy_norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * p("norm.weight") + p("norm.bias")


def numpy_feed(p, x):
    inner = x @ p("inner.weight").T + p("inner.bias")
    gelu = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
    return numpy_norm(p, x + gelu @ p("outer.weight").T + p("outer.bias"))


def test_cross_layer_equals_one_written_out_in_numpy():
    torch.manual_seed(1)
    config = PrevalentConfig(hidden_size=12, heads=3, intermediate_size=10)
    layer = CrossLayer(config).double().eval()
    text, views = torch.randn(1, 5, 12, dtype=torch.float64), torch.randn(1, 6, 12, dtype=torch.float64)
    keep = torch.tensor([True, True, True, False, True])
    found = layer(text, views, keep[None, None, None])
    values = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    all_views, some_words = np.ones(6), keep.numpy().astype(float)

    def of(part):
        return lambda name: values[f"{part}.{name}"]

    x, y = text[0].numpy(), views[0].numpy()
    seen = numpy_attention(of("cross"), x, y, all_views, 3)  # both directions: the same weights, the streams as they came in
    read = numpy_attention(of("cross"), y, x, some_words, 3)
    expected_text = numpy_feed(of("text_feed"), numpy_attention(of("text_attention"), seen, seen, some_words, 3))
    expected_views = numpy_feed(of("view_feed"), numpy_attention(of("view_attention"), read, read, all_views, 3))
    np.testing.assert_allclose(found[0][0].detach(), expected_text, atol=1e-10)
    np.testing.assert_allclose(found[1][0].detach(), expected_views, atol=1e-10)
    assert torch.equal(layer(text, views, keep[None, None, None], with_views=False)[0], found[0])


def test_whole_encoder_equals_its_parts_and_the_pooler_reads_the_first_token():
    model, (ids, mask, views) = make(), inputs()
    text = model.text(ids, mask)
    out = model.cross(text, mask, views)
    both = model(ids, mask, views)
    assert all(torch.equal(a, b) for a, b in zip(out[:3], both[:3], strict=True)) and both.attention is None
    assert out.text.shape == (B, T, 64) and out.views.shape == (B, N, 64) and out.pooled.shape == (B, 64)
    assert torch.allclose(out.pooled, torch.tanh(model.pooler(out.text[:, 0])))
    assert model(ids, mask, views, with_views=False).views is None
    assert torch.equal(model(ids, mask, views, with_views=False).text, out.text)


def test_without_views_the_text_stage_is_what_comes_out():
    model, (ids, mask, views) = make(), inputs()
    out = model(ids, mask)
    assert torch.equal(out.text, model.text(ids, mask)) and out.views is None
    assert not torch.allclose(out.text, model(ids, mask, views).text, atol=0.1)


def test_padding_changes_nothing():
    model, (ids, mask, views) = make(), inputs()
    together = model(ids, mask, views)
    for row in range(B):
        n = int(mask[row].sum())
        alone = model(ids[row:row + 1, :n], mask[row:row + 1, :n].long(), views[row:row + 1])
        assert torch.allclose(together.text[row, :n], alone.text[0], atol=1e-5)
        assert torch.allclose(together.views[row], alone.views[0], atol=1e-5)


def test_order_of_the_views_carries_nothing():
    """There is no position in the view stream: only the angle features say where a view lies."""
    model, (ids, mask, views) = make(), inputs()
    order = torch.randperm(N)
    a, b = model(ids, mask, views), model(ids, mask, views[:, order])
    assert torch.allclose(a.pooled, b.pooled, atol=1e-5) and torch.allclose(a.views[:, order], b.views, atol=1e-5)


def test_attention_is_the_one_that_is_used():
    model, (ids, mask, views) = make(cross_layers=1), inputs()
    out = model(ids, mask, views, with_attention=True)
    assert out.attention.shape == (1, B, 4, T, N)
    assert torch.allclose(out.attention.sum(-1), torch.ones(1, B, 4, T))
    assert torch.equal(out.text, model(ids, mask, views).text)
    attention = model.cross_layers[0].cross
    text, seen = model.text(ids, mask), model.view_embeddings(views)
    mixed = (out.attention[0] @ attention.split(attention.value(seen))).transpose(1, 2).flatten(2)
    assert torch.allclose(attention.norm(text + attention.output(mixed)), attention(text, seen), atol=1e-5)


# sizes and BERT


def test_paper_preset_has_the_parameters_of_the_released_model():
    with torch.device("meta"):
        model = PrevalentForPretraining(PrevalentConfig(**PRESETS["paper"], feature_size=2048 + 128))

    def count(part):
        return sum(parameter.numel() for parameter in part.parameters())

    encoder = model.prevalent
    assert [len(encoder.text_layers), len(encoder.cross_layers)] == [9, 4]
    assert count(encoder.embeddings) == 30522 * 768 + 512 * 768 + 2 * 768 + 2 * 768  # 23.8 M
    assert count(encoder.text_layers[0]) == 7_087_872 and count(encoder.cross_layers[0]) == 16_539_648
    assert count(encoder.view_embeddings) == 1_673_472 and count(encoder.pooler) == 590_592
    assert count(model) - count(encoder) == 768 * 768 + 3 * 768 + 30522 + 36 * 769  # the heads; the words' weights are tied
    assert round(count(model) / 1e6) == 157


def test_text_stage_taken_from_bert_is_bert(backbones):
    bert = BertModel.from_pretrained(backbones[0]).eval()
    size = bert.config
    same = {"hidden_size": 48, "heads": 4, "intermediate_size": 64, "max_positions": 64}
    model = Prevalent.from_preset("tiny", size.vocab_size, F, bert=backbones[0], text_layers=2, **same).eval()
    ids, mask = torch.randint(5, size.vocab_size, (B, T)), inputs()[1]
    expected = bert(ids, mask.long()).last_hidden_state
    assert torch.allclose(model.text(ids, mask)[mask], expected[mask], atol=1e-5)
    one = PrevalentForPretraining.from_preset("tiny", size.vocab_size, F, bert=backbones[0], text_layers=1, **same).eval()
    states = bert(ids, mask.long(), output_hidden_states=True).hidden_states
    assert torch.allclose(one.prevalent.text(ids, mask)[mask], states[1][mask], atol=1e-5)
    with pytest.raises(ValueError, match="has 2 layers but text_layers is 3"):
        Prevalent.from_preset("tiny", size.vocab_size, F, bert=backbones[0], text_layers=3, **same)
    with pytest.raises(ValueError, match=f"vocab_size is {size.vocab_size} in '.*' but vocab_size is 41 here"):
        Prevalent.from_preset("tiny", 41, F, bert=backbones[0], **same)


# heads, freezing, files


def test_words_are_predicted_by_the_embeddings_after_the_cross_stage():
    model, (ids, mask, views) = make(PrevalentForPretraining), inputs()
    whole = model(ids, mask, views)
    assert whole.mlm_logits.shape == (B, T, V) and whole.action_logits.shape == (B, ACTIONS["candidate_rank"])
    asked = torch.rand(B, T) < 0.5
    assert torch.allclose(model(ids, mask, views, asked).mlm_logits, whole.mlm_logits[asked], atol=1e-5)
    assert not torch.allclose(model(ids, mask, views + 1).mlm_logits, whole.mlm_logits)
    with torch.no_grad():
        model.prevalent.embeddings.words.weight[9] = 0
        model.word_bias[9] = 7.5
    assert torch.allclose(model(ids, mask, views).mlm_logits[..., 9], torch.tensor(7.5))
    assert make(PrevalentForPretraining, action_space="view_stop")(ids, mask, views).action_logits.shape == (B, 37)


def test_idle_parameters_are_those_that_no_head_reaches():
    """DistributedDataParallel refuses parameters that get no gradient."""
    model, (ids, mask, views) = make(PrevalentForPretraining), inputs()
    out = model(ids, mask, views)
    (out.mlm_logits.sum() + out.action_logits.sum()).backward()
    idle = {id(parameter) for parameter in model.idle_parameters()}
    assert {id(parameter) for parameter in model.parameters() if parameter.grad is None} == idle and idle


def gradients(model):
    return {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_frozen_stages_get_no_gradient_but_let_it_through():
    ids, mask, views = inputs()
    model = make(dropout=0.5).freeze("cross").train()
    model(ids, mask, views).views.sum().backward()
    assert gradients(model) == {"embeddings", "text_layers"}
    model = make(dropout=0.5).freeze("text").train()
    assert not model.text(ids, mask).requires_grad
    assert torch.equal(model.text(ids, mask), model.text(ids, mask)), "a frozen stage drops nothing out"
    assert not torch.equal(model(ids, mask, views).text, model(ids, mask, views).text)
    out = model(ids, mask, views)
    (out.views.sum() + out.pooled.sum()).backward()
    assert gradients(model) == {"view_embeddings", "cross_layers", "pooler"}
    assert all(parameter.requires_grad for parameter in model.freeze().parameters()) and model.text_layers.training
    with pytest.raises(KeyError, match="no stage of Prevalent is called 'vision'"):
        model.freeze("vision")


def test_models_come_back_from_their_folder(tmp_path):
    model, (ids, mask, views) = make(PrevalentForPretraining, action_space="view_stop"), inputs()
    model.save_pretrained(tmp_path)
    again, encoder = PrevalentForPretraining.from_pretrained(tmp_path), Prevalent.from_pretrained(tmp_path)
    for a, b in zip(model(ids, mask, views), again(ids, mask, views), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(encoder(ids, mask, views).pooled, model.prevalent(ids, mask, views).pooled)
    assert not encoder.training and encoder.config.action_space == "view_stop"
    encoder.save_pretrained(tmp_path / "encoder")
    assert torch.equal(Prevalent.from_pretrained(tmp_path / "encoder").text(ids, mask), encoder.text(ids, mask))


def test_mistakes_are_named():
    model, (ids, mask, views) = make(max_positions=8), inputs()
    with pytest.raises(ValueError, match="an instruction of 9 tokens does not fit the model, which holds 8"):
        model(torch.ones(1, 9, dtype=torch.long), torch.ones(1, 9), views[:1])
    with pytest.raises(ValueError, match="feature_size is 20 in this model but the views have 19"):
        model(ids, mask, views[..., 1:])
    with pytest.raises(KeyError, match="no preset of Prevalent is called 'smal'. Did you mean 'small'"):
        Prevalent.from_preset("smal", V, F)
    with pytest.raises(ValueError, match="action_space is 'views'; choose one of: candidate_rank, view_stop"):
        Prevalent.from_preset("tiny", V, F, action_space="views")
