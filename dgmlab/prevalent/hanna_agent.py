"""An agent that navigates and asks for help (Nguyen and Daume 2019, Help, Anna!).

    agent = HannaAgent(build_agent("follower", "tiny", len(words), features.size + 128))

Any navigator of `agent.py` may be inside, Prevalent's too. At every step it chooses where to go and whether to ask (the loop
is in hanna_play). What Anna shows, the panorama where to leave her route, later that of the goal, pulls towards candidates
that look like it.

Letters: B walkers, T words, K candidates, F feature of a view with its direction, H hidden.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from dgmlab.prevalent.agent import SoftDot, load_agent, save_agent
from dgmlab.prevalent.angles import ANGLE_SIZE, VIEWS
from dgmlab.prevalent.policies import Step

DO_NOTHING, REQUEST_HELP = 0, 1  # ask actions
REASONS = ("lost", "uncertain_wrong", "already_asked")
TOP = 4  # largest probabilities of the navigator that the asker sees
FLAGS = 4
FILE = "asking.safetensors"


class Situation(NamedTuple):
    """What B agents know besides what they see and read.

    shown    (B, F) float  mean of the views of the panorama that Anna shows, directions 0; zeros where she shows none
    flags    (B, 4) float  on a route; something is shown; has asked at this panorama before; share of the steps gone
    can_ask  (B,) bool
    """

    shown: torch.Tensor
    flags: torch.Tensor
    can_ask: torch.Tensor


class HannaStep(NamedTuple):
    """step: the navigator's, with logits (B, K+1); logits ask (B, 2), -inf where it cannot, and reasons (B, 3) of REASONS."""

    step: Step
    ask: torch.Tensor
    reasons: torch.Tensor


class HannaAgent(nn.Module):
    """A navigator, a pull towards what Anna shows, and an asker that sees the navigator's state and doubt."""

    def __init__(self, navigator, hidden=64):
        super().__init__()
        size = navigator.config.feature_size
        self.navigator = navigator
        self.aim = SoftDot(size, size)
        nn.init.zeros_(self.aim.query.weight)  # at first a navigator like any other
        self.arrive = nn.Linear(3, 1)
        self.ask = nn.Sequential(nn.Linear(navigator.config.hidden + TOP + 1 + FLAGS, hidden), nn.ReLU(),
                                 nn.Linear(hidden, 2 + len(REASONS)))

    def start(self, ids, mask):
        """Read: ids (B, T) long, mask (B, T) bool -> memory of the navigator"""
        return self.navigator.start(ids, mask)

    def step(self, memory, observation, situation):
        """-> HannaStep"""
        step = self.navigator.step(memory, observation)
        here = observation.views.mean(1)
        like = functional.cosine_similarity(here[:, :-ANGLE_SIZE], situation.shown[:, :-ANGLE_SIZE], dim=1)
        arrived = self.arrive(torch.cat([like[:, None], situation.flags[:, :2]], dim=1))  # (B, 1)
        pull = self.aim.scores(situation.shown, observation.candidates)  # (B, K+1), 0 for STOP
        logits = step.logits + pull + functional.pad(arrived, (0, pull.shape[1] - 1))
        doubt = self.doubt(logits.detach())
        state = torch.cat([step.memory.attended, doubt, situation.flags], dim=1)
        ask, reasons = self.ask(state).split((2, len(REASONS)), dim=1)
        cannot = functional.pad(~situation.can_ask[:, None], (1, 0))
        return HannaStep(step._replace(logits=logits), ask.masked_fill(cannot, -torch.inf), reasons)

    def doubt(self, logits):
        """The largest probabilities and the entropy of logits (B, K+1), in units of 36 views and STOP -> (B, TOP + 1)"""
        probabilities = logits.float().softmax(1)
        top = functional.pad(probabilities, (0, TOP)).topk(TOP, dim=1).values
        return torch.cat([top, entropy(probabilities)[:, None]], dim=1)


def entropy(probabilities):
    """Entropy of (B, K+1) as a share of the greatest over 36 views and STOP, as the released code has it -> (B,) in [0, 1]"""
    return torch.special.entr(probabilities).sum(1) / np.log(VIEWS + 1)


def renewed(memory, fresh, who):
    """The memory, but of the walkers `who` (A,) the words and states of `fresh` (A walkers).

    A navigator that begins without a state (Prevalent's) keeps the one it has.
    """
    words = max(memory.mask.shape[1], fresh.mask.shape[1])
    memory, fresh = _wider(memory, words), _wider(fresh, words)
    return type(memory)(*(old if new is None else old.index_copy(0, who, new.to(old.dtype))
                          for old, new in zip(memory, fresh, strict=True)))


def _wider(memory, n_words):
    """The memory with room for so many words."""
    more = n_words - memory.mask.shape[1]
    return memory._replace(words=functional.pad(memory.words, (0, 0, 0, more)), mask=functional.pad(memory.mask, (0, more)))


# folders


def save_hanna(folder, agent, words, **about):
    """Write an agent that asks so that `load_hanna_agent` rebuilds it. -> Path"""
    folder = save_agent(folder, agent.navigator, words, **about)
    parts = {name: tensor.contiguous() for name, tensor in agent.state_dict().items() if not name.startswith("navigator.")}
    save_file(parts, folder / FILE)
    return folder


def load_hanna_agent(folder):
    """The agent and the words of a folder written by `save_hanna`, or of a run folder with such a folder model/ inside."""
    loaded = load_agent(folder)
    folder = Path(folder)
    path = next((place / FILE for place in (folder, folder / "model") if (place / FILE).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"an agent that asks was expected in {folder}, found a navigator alone. See hanna_train.")
    parts = load_file(path)
    agent = HannaAgent(loaded.agent, parts["ask.0.bias"].shape[0])
    agent.load_state_dict(parts, strict=False)
    return agent.eval(), loaded.words
