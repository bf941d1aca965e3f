"""Agents that read: Seq2Seq (Anderson et al. 2018), the EnvDrop follower (Tan et al. 2019) and Prevalent (Hao et al. 2020).

    Seq2Seq           LSTM over the words; decoder that sees the view ahead and attends to the words
    Follower          bi-LSTM over the words; decoder that attends to the 36 views and to the words; critic
    PrevalentAgent    the pre-trained encoder over words and views at every step, a bi-LSTM over that, the same decoder

All choose among STOP and the candidates of the panorama (Fried et al. 2018). For Seq2Seq that is a liberty: the original turns
and steps in a low-level action space. The interface is that of `policies.py`; `save_agent` and `load_agent` keep an agent with
its words.

Letters: B batch, T words, K candidates, F feature of a view, C context, H hidden.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors import SafetensorError
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dgmlab.config import unknown_name
from dgmlab.prevalent.angles import ANGLE_SIZE
from dgmlab.prevalent.model import Prevalent, PrevalentConfig
from dgmlab.prevalent.policies import Step
from dgmlab.prevalent.words import Words
from dgmlab.run import locate, read_json, write_error, write_json


@dataclass(frozen=True)
class AgentConfig:
    """Everything that rebuilds an agent; the defaults are EnvDrop's."""

    vocab_size: int  # words, the special ones included
    feature_size: int = 2176  # F of a view, its 128 numbers of direction included [2048 + 128]
    max_length: int = 80  # longest instruction in tokens [80; CVDN 300]
    embedding: int = 256  # of a word; Prevalent has its encoder's width
    context: int = 512  # C, what the reader makes of a word, both directions together [512; Prevalent 2048]
    hidden: int = 512  # H of the decoder [512; Prevalent 1024]; of Follower and Seq2Seq the same as the context
    direction: int = 64  # embedding of where the agent looks
    dropout: float = 0.5  # of words, context and states [0.5; Prevalent 0.4]
    encoder: dict = field(default_factory=dict)  # of Prevalent: the fields of its encoder's PrevalentConfig


PRESETS = {  # of all three; 'paper' stands for their different sizes
    "tiny": {"embedding": 64, "context": 128, "hidden": 128, "direction": 16, "dropout": 0.2},
    "small": {"embedding": 128, "context": 256, "hidden": 256, "direction": 32, "dropout": 0.4},
    "paper": {},
}


class Memory(NamedTuple):
    """What an agent carries from step to step, batch-first.

    words     (B, T, E) float   the words as its reader left them; for Prevalent after the text stage
    mask      (B, T) bool       True where a word is
    attended  (B, H) float      h-tilde, what the decoder's LSTM takes for its state; None before Prevalent's first step
    cell      (B, H) float      its cell; None likewise
    """

    words: torch.Tensor
    mask: torch.Tensor
    attended: torch.Tensor | None
    cell: torch.Tensor | None


class Attended(NamedTuple):
    """read (B, C), the weighted mean of the items, and weights (B, N), which sum to 1."""

    read: torch.Tensor
    weights: torch.Tensor


class SoftDot(nn.Module):
    """Attention by the dot product of W query with each item: no bias, no scale."""

    def __init__(self, query_size, item_size):
        super().__init__()
        self.query = nn.Linear(query_size, item_size, bias=False)

    def scores(self, query, items):
        """query (B, H), items (B, N, C) -> (B, N)"""
        return (items @ self.query(query)[:, :, None]).squeeze(2)

    def forward(self, query, items, mask=None):
        """query (B, H), items (B, N, C), mask (B, N) bool, False for items that are not there -> Attended"""
        scores = self.scores(query, items)
        weights = (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(1)
        return Attended((weights[:, None] @ items).squeeze(1), weights)


class Read(NamedTuple):
    """context (B, T, C), zero at padding; hidden and cell (B, C), the last ones, of both directions side by side."""

    context: torch.Tensor
    hidden: torch.Tensor
    cell: torch.Tensor


class Reader(nn.Module):
    """LSTM over a sequence, which the padding behind a short one does not touch."""

    def __init__(self, size, context, bidirectional):
        super().__init__()
        self.lstm = nn.LSTM(size, context // 2 if bidirectional else context, batch_first=True, bidirectional=bidirectional)

    def forward(self, x, mask):
        """x (B, T, E) float, mask (B, T) bool with its True entries first -> Read"""
        packed = pack_padded_sequence(x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        context, (hidden, cell) = self.lstm(packed)
        context, _ = pad_packed_sequence(context, batch_first=True, total_length=x.shape[1])
        return Read(context, *(state.transpose(0, 1).flatten(1) for state in (hidden, cell)))  # (2, B, C/2) -> (B, C)


class Decoder(nn.Module):
    """EnvDrop's decoder (Tan et al. 2019): look around, move the state on, read, choose; and a critic of the state.

    The LSTM's recurrent state is the attended one of the step before, h-tilde; the critic sees the LSTM's own.
    """

    def __init__(self, config):
        super().__init__()
        size = config.hidden
        self.direction = nn.Sequential(nn.Linear(ANGLE_SIZE, config.direction), nn.Tanh())
        self.look = SoftDot(size, config.feature_size)
        self.lstm = nn.LSTMCell(config.direction + config.feature_size, size)
        self.read = SoftDot(size, config.context)
        self.join = nn.Sequential(nn.Linear(config.context + size, size, bias=False), nn.Tanh())
        self.choose = SoftDot(size, config.feature_size)
        self.drop = nn.Dropout(config.dropout)
        self.critic = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(size, 1))

    def forward(self, context, memory, observation):
        """One step: context (B, T, C), memory with attended and cell (B, H), observation of the 36 views -> Step"""
        check_features(observation, self.choose.query.out_features)
        direction = self.drop(self.direction(observation.angle))
        seen = self.look(self.drop(memory.attended), observation.views)
        hidden, cell = self.lstm(torch.cat([direction, seen.read], dim=1), (memory.attended, memory.cell))
        dropped = self.drop(hidden)
        words = self.read(dropped, context, memory.mask)
        attended = self.join(torch.cat([words.read, dropped], dim=1))
        logits = self.choose.scores(self.drop(attended), observation.candidates)
        return Step(logits.masked_fill(~observation.mask, -torch.inf), memory._replace(attended=attended, cell=cell),
                    words.weights, seen.weights, self.critic(hidden).squeeze(1))


def check_features(observation, size):
    """ValueError where an agent is shown features that it was not made for."""
    found = observation.views.shape[-1]
    if found != size:
        raise ValueError(f"feature_size is {size} in this agent but the views have {found} numbers each. "
                         "Use the features it was trained with, or train a new agent.")


def check_length(ids, longest):
    """ValueError where an instruction is longer than the agent reads."""
    if ids.shape[1] > longest:
        raise ValueError(f"an instruction of {ids.shape[1]} tokens does not fit the agent, which reads {longest}. "
                         "Cut it, or train with a larger max_length.")


class Seq2Seq(nn.Module, PyTorchModelHubMixin):
    """R2R's first baseline (Anderson et al. 2018, section 4.3): an LSTM reads, another walks and attends to the words.

    The walking LSTM sees the view straight ahead, and where it looks in place of the embedding of its last action.
    """

    def __init__(self, config: AgentConfig):
        super().__init__()
        self.config = config
        size = _same_width(config)
        self.embed = nn.Embedding(config.vocab_size, config.embedding, padding_idx=0)
        self.reader = Reader(config.embedding, size, bidirectional=False)
        self.begin = nn.Sequential(nn.Linear(size, size), nn.Tanh())
        self.direction = nn.Sequential(nn.Linear(ANGLE_SIZE, config.direction), nn.Tanh())
        self.lstm = nn.LSTMCell(config.direction + config.feature_size, size)
        self.read = SoftDot(size, size)
        self.join = nn.Sequential(nn.Linear(2 * size, size, bias=False), nn.Tanh())
        self.choose = SoftDot(size, config.feature_size)
        self.drop = nn.Dropout(config.dropout)

    def start(self, ids, mask, episodes=None):
        """Read the instructions: ids (B, T) long, mask (B, T) bool -> Memory"""
        check_length(ids, self.config.max_length)
        read = self.reader(self.drop(self.embed(ids)), mask)
        return Memory(self.drop(read.context), mask, self.begin(read.hidden), read.cell)

    def step(self, memory, observation):
        """-> Step; `attended` of its memory is the LSTM's own state, and there is no critic"""
        check_features(observation, self.config.feature_size)
        ahead = observation.views[torch.arange(len(observation.view), device=observation.view.device), observation.view]
        seen = torch.cat([self.direction(observation.angle), ahead], dim=1)
        hidden, cell = self.lstm(self.drop(seen), (memory.attended, memory.cell))
        dropped = self.drop(hidden)
        words = self.read(dropped, memory.words, memory.mask)
        attended = self.join(torch.cat([words.read, dropped], dim=1))
        logits = self.choose.scores(self.drop(attended), observation.candidates).masked_fill(~observation.mask, -torch.inf)
        return Step(logits, memory._replace(attended=hidden, cell=cell), words.weights)


class Follower(nn.Module, PyTorchModelHubMixin):
    """The EnvDrop follower (Tan et al. 2019, section 3.2), also the agent that Prevalent is compared with."""

    def __init__(self, config: AgentConfig):
        super().__init__()
        self.config = config
        size = _same_width(config)
        self.embed = nn.Embedding(config.vocab_size, config.embedding, padding_idx=0)
        self.reader = Reader(config.embedding, size, bidirectional=True)
        self.begin = nn.Sequential(nn.Linear(size, size), nn.Tanh())
        self.drop = nn.Dropout(config.dropout)
        self.decoder = Decoder(config)

    def start(self, ids, mask, episodes=None):
        """Read the instructions: ids (B, T) long, mask (B, T) bool -> Memory; its state begins at the context's maxima"""
        check_length(ids, self.config.max_length)
        read = self.reader(self.drop(self.embed(ids)), mask)
        largest = read.context.masked_fill(~mask[:, :, None], -torch.inf).amax(1)  # of words, not of padding as upstream
        return Memory(self.drop(read.context), mask, self.begin(largest), read.cell)

    def step(self, memory, observation):
        """-> Step"""
        return self.decoder(memory.words, memory, observation)


TUNED = {"none": ("text", "cross"), "cross": ("text",), "all": ()}  # what learns -> stages of the encoder that are frozen


class PrevalentAgent(nn.Module, PyTorchModelHubMixin):
    """The EnvDrop decoder on top of the pre-trained encoder (Hao et al. 2020, section 3.4; sizes of the released code).

    At every step the encoder's cross stage runs over the instruction and the 36 views of the panorama, a bi-LSTM runs over
    what it gives, and the decoder attends to that. The first step's last states start the decoder; later ones only change what
    it attends to. The text stage runs once an episode. Upstream's switch that reverses the words is left out: the LSTM reads
    both ways. Made alone, the encoder starts at random; `build_agent` takes over a trained one.
    """

    def __init__(self, config: AgentConfig):
        super().__init__()
        self.config = config
        self.encoder = Prevalent(PrevalentConfig(**config.encoder))
        if self.encoder.config.feature_size != config.feature_size:
            raise ValueError(f"feature_size is {self.encoder.config.feature_size} in the encoder but {config.feature_size} "
                             "in the agent. Use the features that the encoder was trained with.")
        self.reader = Reader(self.encoder.config.hidden_size, config.context, bidirectional=True)
        self.begin = nn.Sequential(nn.Linear(config.context, config.hidden), nn.Tanh())
        self.begin_cell = nn.Linear(config.context, config.hidden)
        self.drop = nn.Dropout(config.dropout)
        self.decoder = Decoder(config)

    def tune(self, what):
        """Let learn of the encoder: 'none' of it, its 'cross' stage, or 'all'. -> self"""
        if what not in TUNED:
            raise KeyError(unknown_name(what, TUNED, "part of the encoder that learns"))
        self.encoder.freeze(*TUNED[what])
        return self

    def start(self, ids, mask, episodes=None):
        """The text stage: ids (B, T) long, mask (B, T) bool -> Memory without a state"""
        check_length(ids, min(self.config.max_length, self.encoder.config.max_positions))
        return Memory(self.encoder.text(ids, mask), mask, None, None)

    def step(self, memory, observation):
        """-> Step"""
        check_features(observation, self.config.feature_size)
        text = self.encoder.cross(memory.words, memory.mask, observation.views, with_views=False).text
        read = self.reader(text, memory.mask)
        if memory.attended is None:
            memory = memory._replace(attended=self.begin(read.hidden), cell=self.begin_cell(read.cell))
        return self.decoder(self.drop(read.context), memory, observation)


def _same_width(config):
    if config.context != config.hidden:
        raise ValueError(f"context is {config.context} but hidden is {config.hidden}; this agent starts its decoder from its "
                         f"reader's cell, so both must be equal. Use context={config.hidden}.")
    return config.hidden


# presets and folders

KINDS = {"seq2seq": Seq2Seq, "follower": Follower, "prevalent": PrevalentAgent}


def build_agent(kind, size, vocab_size, feature_size, encoder=None, **overrides):
    """A new agent at random, but for its encoder.

    kind          'seq2seq' | 'follower' | 'prevalent'
    size          'tiny' | 'small' | 'paper'
    feature_size  F of a view, the 128 of its direction included
    encoder       of 'prevalent': a Prevalent, whose weights it takes over (a new one, or pre-trained)
    overrides     other fields of AgentConfig
    """
    if kind not in KINDS:
        raise KeyError(unknown_name(kind, KINDS, "agent"))
    if size not in PRESETS:
        raise KeyError(unknown_name(size, PRESETS, "preset of an agent"))
    fields = dict(PRESETS[size])
    if kind == "prevalent":
        fields |= {"context": 2048, "hidden": 1024, "dropout": 0.4} if size == "paper" else {}
        fields |= {"embedding": encoder.config.hidden_size, "encoder": encoder.config.to_diff_dict()}
    agent = KINDS[kind](AgentConfig(vocab_size, feature_size, **{**fields, **overrides}))
    if kind == "prevalent":
        agent.encoder.load_state_dict(encoder.state_dict())
    return agent


class Loaded(NamedTuple):
    """An agent in evaluation mode with its words, and about: kind and what the training loop wrote."""

    agent: nn.Module
    words: Words
    about: dict


def save_agent(folder, agent, words, **about):
    """Write an agent so that `load_agent` rebuilds it: config.json, model.safetensors, its words, about.json. -> Path"""
    folder = Path(folder)
    kind = next(kind for kind, cls in KINDS.items() if isinstance(agent, cls))
    scratch = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # what a killed process left
        agent.save_pretrained(scratch)
        words.save(scratch)
        write_json(scratch / "about.json", {**about, "kind": kind})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise write_error(folder, error if isinstance(error, OSError) else OSError(28, "No space left on device")) from error
    return folder


def load_agent(folder):
    """The agent of a folder written by `save_agent`, or of a run folder with such a folder model/ inside -> Loaded.

    FileNotFoundError  there is no agent
    """
    folder = locate(folder)
    folder = folder / "model" if (folder / "model" / "about.json").is_file() else folder
    about = read_json(folder / "about.json")
    if not isinstance(about, dict) or about.get("kind") not in KINDS:
        raise FileNotFoundError(f"an agent was expected in {folder}, found none. Give the run folder of a trained one.")
    agent = KINDS[about["kind"]].from_pretrained(str(folder))
    return Loaded(agent.eval(), Words.load(folder), about)
