"""What an agent that asks learns from: the shortest way, its own mistakes, where it should have asked (Nguyen and Daume 2019).

    navigation   -log p(a+) + alpha * mean of log p(a-): a+ leads to the target of what it reads; a- are the actions that it
                 took wrongly before, at the same panorama while reading the same text (curiosity: do not repeat a mistake)
    asking       cross entropy of what a teacher says in retrospect, and binary cross entropy of its reasons:
                 lost             reading the same text, it never came as near to the target again: ask
                 uncertain_wrong  high entropy, and the likeliest action was wrong: ask
                 already_asked    it has asked at this panorama before: do not

The rules are those of the released code (oracle.py), but for two: log p(a-) ends at -7, as the published term has no lower
bound, and the means are over all steps of a batch, not first over each step's agents.

Letters: S steps, B walkers, K candidates, N steps of the batch that count.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from dgmlab.prevalent.hanna_agent import DO_NOTHING, REASONS, REQUEST_HELP, entropy
from dgmlab.prevalent.walk import STOP

IGNORE = -1
FLOOR = -7.0  # nats; a mistake less likely than this is not pushed down further


class AskTargets(NamedTuple):
    """ask (S, B) int64: DO_NOTHING, REQUEST_HELP or -1 where it could not; reasons (S, B, 3) float32 of 0 and 1."""

    ask: np.ndarray
    reasons: np.ndarray


class HannaTerms(NamedTuple):
    """Each () float with its graph, a mean over steps that count; loss = navigation + alpha * curiosity + ask + reasons."""

    loss: torch.Tensor
    navigation: torch.Tensor
    curiosity: torch.Tensor
    ask: torch.Tensor
    reasons: torch.Tensor


def hanna_loss(played, alpha=1.0, threshold=0.25):
    """The loss of what `hanna_play.play` gives (`Played`).

    alpha      weight of the curiosity term [1]
    threshold  entropy from which doubt is a reason to ask, a share of the greatest [0.25]
    -> HannaTerms
    """
    records = played.records
    logits = torch.stack([record.out.step.logits for record in records]).float()  # (S, B, K+1)
    device = logits.device
    moving = np.array([record.active & ~record.asked for record in records])
    counts = torch.from_numpy(moving).to(device)
    best = torch.from_numpy(np.array([record.best for record in records])).to(device)
    navigation = functional.cross_entropy(logits[counts], best[counts])

    wrong = torch.from_numpy(past_mistakes(records, logits.shape[2])).to(device) & counts[:, :, None]  # (S, B, K+1)
    log_p = logits.log_softmax(2).clamp(min=FLOOR).masked_fill(~wrong, 0.0)
    curiosity = (log_p.sum(2) / wrong.sum(2).clamp(min=1))[counts].mean()

    targets = ask_targets(played, threshold)
    asked = torch.from_numpy(targets.ask).to(device)
    able = asked != IGNORE
    ask_logits, reason_logits = (torch.stack([getattr(record.out, name) for record in records]).float()
                                 for name in ("ask", "reasons"))
    ask = reasons = logits.new_zeros(())
    if able.any():
        ask = functional.cross_entropy(ask_logits[able], asked[able])
        reasons = functional.binary_cross_entropy_with_logits(reason_logits[able],
                                                              torch.from_numpy(targets.reasons).to(device)[able])
    return HannaTerms(navigation + alpha * curiosity + ask + reasons, navigation, curiosity, ask, reasons)


def past_mistakes(records, n_actions):
    """Actions that a walker took before, wrongly, at the same panorama and reading the same text. -> (S, B, K+1) bool"""
    mistakes = np.zeros((len(records), len(records[0].row), n_actions), bool)
    known = {}  # (walker, panorama, task) -> actions
    for t, record in enumerate(records):
        for i in np.flatnonzero(record.active & ~record.asked):
            made = known.setdefault((i, record.row[i], record.task[i]), set())
            mistakes[t, i, list(made)] = True
            if record.action[i] != record.best[i]:
                made.add(record.action[i])
    return mistakes


def ask_targets(played, threshold=0.25):
    """Where agents should have asked, seen from the end of their episodes. -> AskTargets"""
    records = played.records
    able = np.array([record.active & record.can_ask for record in records])
    ask = np.where(able, DO_NOTHING, IGNORE)
    reasons = np.zeros((*ask.shape, len(REASONS)), np.float32)

    for i in range(ask.shape[1]):
        for t in _lost(records, played.final, i):
            if able[t, i]:
                ask[t, i] = REQUEST_HELP
                reasons[t, i, REASONS.index("lost")] = 1
    for t, record in enumerate(records):
        probabilities = record.out.step.logits.detach().float().softmax(1)
        doubtful = (entropy(probabilities) >= threshold).cpu().numpy()
        unsure = able[t] & doubtful & (probabilities.argmax(1).cpu().numpy() != record.best)
        ask[t, unsure] = REQUEST_HELP
        reasons[t, unsure, REASONS.index("uncertain_wrong")] = 1
    places = [set() for _ in range(ask.shape[1])]
    for t, record in enumerate(records):
        for i in np.flatnonzero(able[t]):
            if record.row[i] in places[i]:
                ask[t, i] = DO_NOTHING
                reasons[t, i, REASONS.index("already_asked")] = 1
            if record.asked[i]:
                places[i].add(record.row[i])
    return AskTargets(ask, reasons)


def _lost(records, final, i):
    """Steps at which walker i was past the place where it was nearest to its target; each text that it read by itself."""
    steps = [record for record in records if record.active[i]]
    lost, start = [], 0
    for t, record in enumerate(steps):
        over = record.asked[i] or record.action[i] == STOP
        if over or t == len(steps) - 1:
            away = [one.distance[i] for one in steps[start:t + 1]] + ([] if over else [final[i]])
            lost += range(start + int(np.argmin(away)) + 1, t + 1)
            start = t + 1
    return lost
