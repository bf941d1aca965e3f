"""The networks: the decoder against one written out by hand in float64, padding, freezing, folders."""

import numpy as np
import pytest
import torch

from dgmlab.prevalent.agent import AgentConfig, Decoder, Memory, build_agent, load_agent, save_agent
from dgmlab.prevalent.features import observe, open_features
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.model import Prevalent
from dgmlab.prevalent.rollout import start_walk
from dgmlab.prevalent.toy_tasks import toy_episodes
from dgmlab.prevalent.words import Words

KINDS = ("seq2seq", "follower", "prevalent")


@pytest.fixture(scope="module")
def world():
    """(houses, features, episodes, words)"""
    houses = Houses.toy([7, 8])
    episodes = toy_episodes(houses, 30, 0)
    return houses, open_features("toy", houses), episodes, Words.build([episode.instruction for episode in episodes], 1)


def make_agent(world, kind, seed=0, **overrides):
    torch.manual_seed(seed)
    _, features, _, words = world
    encoder = Prevalent.from_preset("tiny", len(words), features.size + 128) if kind == "prevalent" else None
    return build_agent(kind, "tiny", len(words), features.size + 128, encoder, **overrides).eval()


def begin(world, agent, episodes):
    """(memory, observation) of the first step."""
    houses, features, _, words = world
    ids, mask = words.batch([episode.instruction for episode in episodes])
    return agent.start(ids, mask), observe(features, start_walk(houses, episodes))


def two_steps(world, agent, episodes):
    houses, features, _, _ = world
    memory, observation = begin(world, agent, episodes)
    first = agent.step(memory, observation)
    walk = start_walk(houses, episodes)
    walk.move(np.ones(len(episodes), np.int64))
    return first, agent.step(first.memory, observe(features, walk))


def softmax(x):
    e = np.exp(x - x[np.isfinite(x)].max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference_step(w, context, mask, attended, cell, views, candidates, there, angle):
    """EnvDrop's decoder for one walker, in numpy: no batch, no library layer."""
    direction = np.tanh(w["direction.0.weight"] @ angle + w["direction.0.bias"])
    look = softmax(views @ (w["look.query.weight"] @ attended))
    x = np.concatenate([direction, look @ views])
    gates = w["lstm.weight_ih"] @ x + w["lstm.bias_ih"] + w["lstm.weight_hh"] @ attended + w["lstm.bias_hh"]
    i, f, g, o = np.split(gates, 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    hidden = sigmoid(o) * np.tanh(cell)
    read = softmax(np.where(mask, context @ (w["read.query.weight"] @ hidden), -np.inf))
    attended = np.tanh(w["join.0.weight"] @ np.concatenate([read @ context, hidden]))
    logits = np.where(there, candidates @ (w["choose.query.weight"] @ attended), -np.inf)
    value = w["critic.3.weight"] @ np.maximum(w["critic.0.weight"] @ hidden + w["critic.0.bias"], 0) + w["critic.3.bias"]
    return logits, attended, cell, read, look, value[0]


def test_the_decoder_equals_one_written_out_by_hand(world):
    houses, features, episodes, _ = world
    torch.manual_seed(torch.seed() % 2**31)
    decoder = Decoder(AgentConfig(9, features.size + 128, context=10, hidden=6, direction=5)).double().eval()
    seen = observe(features, start_walk(houses, episodes[:4]))
    seen = seen._replace(**{name: getattr(seen, name).double() for name in ("views", "candidates", "angle")})
    mask = torch.arange(7) < torch.tensor([[7], [3], [1], [5]])
    memory = Memory(torch.zeros(4, 0), mask, *torch.randn(2, 4, 6, dtype=torch.float64))
    context = torch.randn(4, 7, 10, dtype=torch.float64)
    step = decoder(context, memory, seen)
    w = {name: value.detach().numpy() for name, value in decoder.named_parameters()}
    for k in range(4):
        expected = reference_step(w, *(part[k].numpy() for part in (context, mask, memory.attended, memory.cell, seen.views,
                                                                     seen.candidates, seen.mask, seen.angle)))
        found = (step.logits, step.memory.attended, step.memory.cell, step.word_attention, step.view_attention, step.value)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one[k].detach().numpy(), other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_neighbours_in_the_batch_change_nothing(world, kind):
    agent, episodes = make_agent(world, kind), sorted(world[2], key=lambda episode: len(episode.instruction))[::7]
    episodes[1] = episodes[1]._replace(instruction="go")  # short: in some dimension all states of its words are below padding
    together = two_steps(world, agent, episodes)
    for k, episode in enumerate(episodes):
        for one, other in zip(together, two_steps(world, agent, [episode]), strict=True):
            torch.testing.assert_close(one.logits[k:k + 1], other.logits, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(one.word_attention[k, : other.word_attention.shape[1]], other.word_attention[0],
                                       rtol=1e-4, atol=1e-5)
            assert one.word_attention[k, other.word_attention.shape[1]:].sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_there_exactly_where_actions_are(world, kind):
    for step in two_steps(world, make_agent(world, kind), world[2]):
        assert torch.equal(step.logits.softmax(1) > 0, torch.isfinite(step.logits))
        assert torch.isfinite(step.logits[:, 0]).all() and (step.logits[:, 0] == 0).all()  # STOP looks like nothing
    _, observation = begin(world, make_agent(world, kind), world[2])
    assert torch.equal(torch.isfinite(two_steps(world, make_agent(world, kind), world[2])[0].logits), observation.mask)


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_comes_back_from_its_folder_to_the_bit(world, kind, tmp_path):
    agent = make_agent(world, kind, seed=3)
    save_agent(tmp_path / "model", agent, world[3], data="toy", step=7)
    loaded = load_agent(tmp_path)
    assert loaded.about == {"kind": kind, "data": "toy", "step": 7} and not loaded.agent.training
    assert loaded.words.vocabulary == world[3].vocabulary and loaded.agent.config == agent.config
    for one, other in zip(two_steps(world, agent, world[2]), two_steps(world, loaded.agent, world[2]), strict=True):
        assert torch.equal(one.logits, other.logits)
    with pytest.raises(FileNotFoundError, match="an agent was expected in .*nowhere, found none"):
        load_agent(tmp_path / "nowhere")


def test_prevalent_takes_over_its_encoder_and_tunes_what_it_is_told(world):
    torch.manual_seed(1)
    encoder = Prevalent.from_preset("tiny", len(world[3]), world[1].size + 128)
    agent = build_agent("prevalent", "tiny", len(world[3]), world[1].size + 128, encoder).train()
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in agent.encoder.state_dict().items())
    for what, learning in (("none", set()), ("cross", {"view_embeddings", "cross_layers", "pooler"}),
                           ("all", {"embeddings", "text_layers", "view_embeddings", "cross_layers", "pooler"})):
        agent.tune(what).zero_grad()
        memory, observation = begin(world, agent, world[2][:4])
        assert memory.words.requires_grad is (what == "all")
        agent.step(memory, observation).logits[:, 1].sum().backward()
        found = {name.split(".")[0] for name, p in agent.encoder.named_parameters() if p.requires_grad}
        moved = {name.split(".")[0] for name, p in agent.encoder.named_parameters() if p.grad is not None}
        assert found == learning and moved == learning - {"pooler"}
        assert agent.reader.lstm.weight_ih_l0.grad is not None
    with pytest.raises(KeyError, match="none, cross, all"):
        agent.tune("some")


def test_a_frozen_encoder_is_the_same_in_training(world):
    agent = make_agent(world, "prevalent", dropout=0.0).tune("none")
    quiet = two_steps(world, agent, world[2])
    loud = two_steps(world, agent.train(), world[2])
    assert all(torch.equal(one.logits, other.logits) for one, other in zip(quiet, loud, strict=True))


def test_later_steps_of_prevalent_keep_the_decoders_state(world):
    agent = make_agent(world, "prevalent")
    first, _ = two_steps(world, agent, world[2][:3])
    _, observation = begin(world, agent, world[2][:3])
    changed = first.memory._replace(attended=torch.zeros_like(first.memory.attended))
    assert not torch.allclose(agent.step(first.memory, observation).logits, agent.step(changed, observation).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_named_in_one_line(world, kind):
    houses, _, episodes, words = world
    agent = make_agent(world, kind, max_length=10)
    ids = torch.ones(1, 11, dtype=torch.long)
    with pytest.raises(ValueError, match=r"11 tokens does not fit the agent, which reads 10\. Cut it"):
        agent.start(ids, torch.ones(1, 11, dtype=torch.bool))
    memory = agent.start(ids[:, :9], torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match=rf"feature_size is {agent.config.feature_size} in this agent but the views have 128"):
        agent.step(memory, observe(open_features("none", houses), start_walk(houses, episodes[:1])))


def test_presets_have_their_papers_sizes_and_unknown_ones_name_the_valid():
    follower = build_agent("follower", "paper", 991, 2176)
    assert follower.reader.lstm.hidden_size == 256 and follower.decoder.lstm.hidden_size == 512
    assert follower.embed.weight.shape == (991, 256) and follower.drop.p == 0.5
    assert sum(p.numel() for p in follower.decoder.critic.parameters()) == 512 * 512 + 512 + 512 + 1
    encoder = Prevalent.from_preset("tiny", 50, 2176)
    agent = build_agent("prevalent", "paper", 50, 2176, encoder)
    assert agent.reader.lstm.hidden_size == 1024 and agent.decoder.read.query.weight.shape == (2048, 1024)
    with pytest.raises(KeyError, match="seq2seq, follower, prevalent"):
        build_agent("folower", "tiny", 9, 130)
    with pytest.raises(KeyError, match="tiny, small, paper"):
        build_agent("follower", "smal", 9, 130)
    with pytest.raises(ValueError, match="context is 8 but hidden is 128"):
        build_agent("follower", "tiny", 9, 130, context=8)
    with pytest.raises(ValueError, match="feature_size is 2176 in the encoder but 140 in the agent"):
        build_agent("prevalent", "tiny", 50, 140, encoder)
