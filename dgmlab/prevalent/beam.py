"""Beam search over trajectories, and re-ranking by a speaker (Fried et al. 2018, "pragmatic inference").

    trajectories = beam_search(policy, houses, features, words, episodes, beam_size=10, score=..., speaker_weight=0.5)

A beam is a walker with its own memory; an episode's beams stand side by side in the batch, so that every step is one call of
the policy for all of them. Note that an agent that searches has, in effect, seen all panoramas of its beams: results are not
comparable with those of a single walk, and leaderboards list them apart.

Letters: B episodes, M beams an episode, K candidates.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.prevalent.features import observe
from dgmlab.prevalent.policies import select
from dgmlab.prevalent.rollout import choose_given, device_of, encode, evaluating, record, start_walk, tokens_of, unroll
from dgmlab.prevalent.walk import STOP


class Beams(NamedTuple):
    """What the search found, the likeliest beam first; beams that do not exist have log_p -inf.

    actions  (B, M, S) int64    0 (STOP) behind the end
    log_p    (B, M) float64     log probability of all actions under the policy
    paths    B lists of M lists of rows of the houses, the start first
    """

    actions: np.ndarray
    log_p: np.ndarray
    paths: list


@torch.no_grad()
def search(policy, memory, walk, look, beam_size=10, max_steps=35):
    """The likeliest sequences of actions that beam search finds for B walkers. -> Beams

    A beam that has stopped keeps its probability and its place until likelier ones push it out.
    """
    n = len(walk.row)
    walk, memory = walk.take(np.repeat(np.arange(n), beam_size)), select(memory, np.repeat(np.arange(n), beam_size))
    log_p = np.full((n, beam_size), -np.inf)
    log_p[:, 0] = 0.0  # all beams of an episode are the same walker yet: one of them counts
    actions = np.zeros((n, beam_size, 0), np.int64)
    for _ in range(max_steps):
        step = policy.step(memory, look(walk))
        ahead = step.logits.float().log_softmax(1).cpu().double().numpy()  # (B M, K+1)
        ahead[walk.ended] = -np.inf
        ahead[walk.ended, STOP] = 0.0
        total = (log_p[:, :, None] + ahead.reshape(n, beam_size, -1)).reshape(n, -1)  # (B, M (K+1))
        best = np.argsort(-total, axis=1, kind="stable")[:, :beam_size]
        log_p = np.take_along_axis(total, best, axis=1)
        parent, action = np.divmod(best, ahead.shape[1])
        action = np.where(np.isfinite(log_p), action, STOP)  # fewer ways than beams: the rest stand still
        actions = np.concatenate([np.take_along_axis(actions, parent[:, :, None], axis=1), action[:, :, None]], axis=2)
        flat = (parent + beam_size * np.arange(n)[:, None]).ravel()
        walk, memory = walk.take(flat), select(step.memory, flat)
        walk.move(action.ravel())
        if walk.ended.all():
            break
    trails = [list(map(int, trail)) for trail in walk.trails]
    return Beams(actions, log_p, [trails[i:i + beam_size] for i in range(0, len(trails), beam_size)])


def rank(log_p, scores=None, speaker_weight=0.5):
    """Which beam wins: log_p (B, M) of the policy, scores (B, M) of a speaker or None -> (B,) int

    The speaker's log likelihood has the weight `speaker_weight` in [0, 1], the policy's the rest.
    """
    if scores is None:
        return log_p.argmax(axis=1)
    mixed = speaker_weight * scores + (1 - speaker_weight) * np.where(np.isfinite(log_p), log_p, 0.0)
    return np.where(np.isfinite(log_p), mixed, -np.inf).argmax(axis=1)


def beam_search(policy, houses, features, words, episodes, beam_size=10, max_steps=35, batch_size=16, score=None,
                speaker_weight=0.5, max_length=80, cut=None):
    """Search a trajectory for every episode.

    score           (paths, instructions, headings) -> (N,) log likelihood of each instruction given its path of rows, such as
                    `speaking.log_likelihood` with its first four arguments given; None ranks by the policy alone
    speaker_weight  of the speaker against the policy, 0 to 1 [tuned on val_seen]
    other arguments as of `run_episodes`
    -> list of N Trajectory, in the order of the episodes; scores and attentions are those of the policy along the chosen path
    """
    if not 0 <= speaker_weight <= 1:
        raise ValueError(f"speaker_weight is {speaker_weight}; expected 0 (policy alone) to 1 (speaker alone).")
    if beam_size < 1:
        raise ValueError(f"beam_size is {beam_size}; expected at least 1, which is greedy search.")
    device, found = device_of(policy), []
    look = partial(observe, features, device=device)
    with evaluating(policy), torch.no_grad():
        for begin in range(0, len(episodes), batch_size):
            chosen = episodes[begin:begin + batch_size]
            ids, mask = encode(words, chosen, max_length, cut, device)
            beams = search(policy, policy.start(ids, mask, chosen), start_walk(houses, chosen), look, beam_size, max_steps)
            best = rank(beams.log_p, None if score is None else speaker_scores(score, beams, chosen), speaker_weight)
            given = partial(choose_given, columns=iter(beams.actions[np.arange(len(chosen)), best].T))
            steps = unroll(policy, policy.start(ids, mask, chosen), start_walk(houses, chosen), look, given,
                           beams.actions.shape[2])
            found += record(houses, chosen, tokens_of(words, ids, mask), steps)
    return found


def speaker_scores(score, beams, episodes):
    """The speaker's log likelihood of every beam that exists, 0 for the others -> (B, M) float64"""
    scores, there = np.zeros_like(beams.log_p), np.argwhere(np.isfinite(beams.log_p))
    scores[tuple(there.T)] = np.asarray(score([beams.paths[i][k] for i, k in there],
                                              [episodes[i].instruction for i, _ in there],
                                              np.array([episodes[i].heading for i, _ in there])), np.float64)
    return scores
