"""The speaker's networks against EnvDrop's written out by hand, and what it must not depend on."""

import math

import pytest
import torch

from dgmlab.prevalent.angles import ANGLE_SIZE
from dgmlab.prevalent.speaker import DECODERS, PRESETS, PathInputs, SoftDotAttention, Speaker, SpeakerConfig, word_nll

V, F, B, S, T = 23, 5, 4, 6, 9
D = F + ANGLE_SIZE


def make_speaker(decoder="lstm", seed=0, **settings):
    torch.manual_seed(seed)
    settings = {"hidden_size": 16, "embedding_size": 8, "dropout": 0.0, "decoder": decoder, "n_heads": 2, **settings}
    speaker = Speaker(SpeakerConfig(V, F, **settings)).eval().double()
    with torch.no_grad():  # a faint start would hide errors below the tolerance
        for parameter in speaker.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.4)
    return speaker


def make_inputs(lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    n, width = len(lengths), max(lengths)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    return PathInputs(torch.randn(n, width, D, generator=generator, dtype=torch.float64),
                      torch.randn(n, width, 36, D, generator=generator, dtype=torch.float64), mask)


def lstm_by_hand(x, w, suffix=""):
    """The states (T, H) of one LSTM layer over x (T, C), gate by gate."""
    n = w["weight_hh_l0" + suffix].shape[1]
    h = c = torch.zeros(n, dtype=torch.float64)
    states = []
    for row in x:
        gates = (w["weight_ih_l0" + suffix] @ row + w["bias_ih_l0" + suffix] + w["weight_hh_l0" + suffix] @ h
                 + w["bias_hh_l0" + suffix])
        i, f, g, o = gates.split(n)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states)


def both_ways(x, w):
    return torch.cat([lstm_by_hand(x, w), lstm_by_hand(x.flip(0), w, "_reverse").flip(0)], 1)


def soft_dot_by_hand(query, context, w):
    scores = torch.stack([torch.dot(w["to_context.weight"] @ query, row) for row in context])
    weights = scores.exp() / scores.exp().sum()
    mixed = sum(weight * row for weight, row in zip(weights, context, strict=True))
    return torch.tanh(w["to_output.weight"] @ torch.cat([mixed, query])), weights


def part(speaker, name):
    prefix = name + "."
    return {key.removeprefix(prefix): value for key, value in speaker.state_dict().items() if key.startswith(prefix)}


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_the_lstm_speaker_is_envdrops_written_out_by_hand(gain):
    speaker, lengths = make_speaker(input_gain=gain), [3, 6]
    inputs = make_inputs(lengths)
    words = torch.randint(1, V, (2, T))
    decoded = speaker(inputs, words)
    for b, length in enumerate(lengths):
        states = both_ways(gain * inputs.actions[b, :length], part(speaker, "encoder.actions"))
        looks = [soft_dot_by_hand(state, gain * views, part(speaker, "encoder.attention"))
                 for state, views in zip(states, inputs.views[b], strict=False)]
        path = both_ways(torch.stack([seen for seen, _ in looks]), part(speaker, "encoder.path"))
        assert torch.allclose(speaker.encoder.look(inputs).weights[b, :length], torch.stack([w for _, w in looks]), atol=1e-10)
        embedded = speaker.decoder.embedding.weight[words[b]]
        for t, hidden in enumerate(lstm_by_hand(embedded, part(speaker, "decoder.lstm"))):
            output, weights = soft_dot_by_hand(hidden, path, part(speaker, "decoder.attention"))
            logits = speaker.decoder.projection.weight @ output + speaker.decoder.projection.bias
            assert torch.allclose(decoded.logits[b, t], logits, atol=1e-10)
            assert torch.allclose(decoded.attention[b, t, :length], weights, atol=1e-10)
            assert not decoded.attention[b, t, length:].any()


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_path_is_told_the_same_whatever_it_is_batched_with(decoder):
    speaker, lengths = make_speaker(decoder), [2, 6, 1, 4]
    inputs, words = make_inputs(lengths), torch.randint(1, V, (4, T))
    together = speaker(inputs, words).logits
    for b, length in enumerate(lengths):
        alone = PathInputs(*(x[b:b + 1, :length] for x in inputs))
        assert torch.allclose(speaker(alone, words[b:b + 1]).logits[0], together[b], atol=1e-10)


@pytest.mark.parametrize("decoder", DECODERS)
def test_words_one_at_a_time_give_what_all_at_once_give(decoder):
    speaker, inputs = make_speaker(decoder), make_inputs([6, 3, 5, 2])
    words = torch.randint(1, V, (B, T))
    whole = speaker(inputs, words)
    path, state, logits, attention = speaker.encode(inputs), None, [], []
    for piece in words.split([1, 3, 1, 4], dim=1):
        decoded = speaker.decode(piece, path, inputs.mask, state)
        state = decoded.state
        logits.append(decoded.logits)
        attention.append(decoded.attention)
        assert all(len(tensor) == B for tensor in state), "a state is batch-first, so that rows of it can be taken"
    assert torch.allclose(torch.cat(logits, 1), whole.logits, atol=1e-10)
    assert torch.allclose(torch.cat(attention, 1), whole.attention, atol=1e-10)
    assert torch.allclose(whole.attention.sum(-1), torch.ones(B, T, dtype=torch.float64))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_word_depends_on_those_before_it_and_on_every_panorama(decoder):
    speaker, inputs = make_speaker(decoder), make_inputs([6] * B)
    words = torch.randint(1, V, (B, T))
    changed = words.clone()
    changed[:, 5] = changed[:, 5] % (V - 1) + 1
    before, after = speaker(inputs, words).logits, speaker(inputs, changed).logits
    assert torch.equal(before[:, :5], after[:, :5]) and not torch.allclose(before[:, 5:], after[:, 5:])
    for name in ("actions", "views"):
        leaf = getattr(inputs, name).clone().requires_grad_()
        speaker(inputs._replace(**{name: leaf}), words).logits[0, -1].sum().backward()
        touched = leaf.grad.abs().flatten(2).sum(-1) > 0
        assert touched[0].all() and not touched[1:].any(), "its own path, all of it, and no other"


def test_soft_dot_attention_by_hand():
    layer = SoftDotAttention(2, 1)
    with torch.no_grad():
        layer.to_context.weight.copy_(torch.tensor([[1.0, 2.0]]))
        layer.to_output.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.5]]))
    query, context = torch.tensor([[[1.0, -0.5]]]), torch.tensor([[[0.0], [math.log(3.0)], [7.0]]])
    # W q = 0: all alike but the masked one; mean of 0 and log 3
    output, weights = layer(query, context, torch.tensor([[True, True, False]]))
    assert weights.flatten().tolist() == [0.5, 0.5, 0.0]
    assert torch.allclose(output.flatten(), torch.tanh(torch.tensor([math.log(3.0) / 2, -0.25])))
    output, weights = layer(torch.tensor([[[1.0, 0.0]]]), context[:, :2])  # W q = 1: weights 1 : 3
    assert torch.allclose(weights.flatten(), torch.tensor([0.25, 0.75]))


def test_word_nll_ignores_padding_and_counts_the_end():
    logits = torch.zeros(1, 4, 8)
    logits[0, 0, 5] = 2.0
    nll = word_nll(logits, torch.tensor([[2, 5, 3, 0]]))
    assert torch.allclose(nll, torch.tensor([[math.log(7 + math.e**2) - 2, math.log(8), 0.0]]))


@pytest.mark.parametrize("decoder", DECODERS)
def test_saved_and_loaded_it_says_the_same(decoder, tmp_path):
    speaker = make_speaker(decoder).float()
    speaker.save_pretrained(tmp_path)
    again = Speaker.from_pretrained(tmp_path).eval()
    inputs = PathInputs(*(x.float() if x.is_floating_point() else x for x in make_inputs([4, 2])))
    words = torch.randint(1, V, (2, T))
    assert again.config == speaker.config and torch.equal(again(inputs, words).logits, speaker(inputs, words).logits)
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.stem != "README") == [".json", ".safetensors"]


def test_paper_preset_has_the_sizes_of_envdrop():
    speaker = Speaker.from_preset("paper", vocab_size=992, feature_size=2048)
    shapes = {name: tuple(parameter.shape) for name, parameter in speaker.named_parameters()}
    assert shapes["encoder.actions.weight_ih_l0"] == (4 * 256, 2176) and shapes["decoder.lstm.weight_hh_l0"] == (4 * 512, 512)
    assert shapes["encoder.attention.to_context.weight"] == (2176, 512) and shapes["decoder.embedding.weight"] == (992, 256)
    assert shapes["encoder.attention.to_output.weight"] == (512, 2176 + 512)
    # 2 x (bi-LSTM 2176 -> 256 and 512 -> 256), attentions, embedding, LSTM 256 -> 512, projection
    lstm = lambda c, h: 4 * h * (c + h + 2)  # noqa: E731
    expected = (2 * lstm(2176, 256) + 512 * 2176 + 512 * 2688 + 2 * lstm(512, 256) + 992 * 256 + lstm(256, 512) + 512 * 512
                + 512 * 1024 + 992 * 513)
    assert sum(parameter.numel() for parameter in speaker.parameters()) == expected
    assert (speaker.config.dropout, speaker.config.input_gain) == (0.6, 1.0)
    assert set(PRESETS) == {"tiny", "small", "paper"}


def test_dropout_is_off_in_evaluation_and_on_in_training():
    speaker, inputs = make_speaker(dropout=0.5), make_inputs([6] * B)
    words = torch.randint(1, V, (B, T))
    assert torch.equal(speaker(inputs, words).logits, speaker(inputs, words).logits)
    speaker.train()
    assert not torch.allclose(speaker(inputs, words).logits, speaker(inputs, words).logits)


def test_wrong_settings_are_named():
    with pytest.raises(KeyError, match="no preset of Speaker is called 'big'.*tiny, small, paper"):
        Speaker.from_preset("big", 9, 9)
    with pytest.raises(ValueError, match="decoder is 'gru'; choose one of: lstm, transformer"):
        SpeakerConfig(V, F, decoder="gru")
    with pytest.raises(ValueError, match="hidden_size is 18.*4 heads. Try 16"):
        SpeakerConfig(V, F, decoder="transformer", hidden_size=18)
    with pytest.raises(ValueError, match="sees 133 numbers a view .*found 140"):
        wide = torch.zeros(1, 1, 140, dtype=torch.float64), torch.zeros(1, 1, 36, 140, dtype=torch.float64)
        make_speaker().encode(PathInputs(*wide, torch.ones(1, 1, dtype=torch.bool)))
