"""What every navigator has in common, and the three that need no training: random, stop, shortest path.

    memory = policy.start(ids, mask, episodes)          once an episode
    step = policy.step(memory, observation)             once a move: logits over STOP and the candidates, and the next memory

Networks (`agent.py`) and the scripted policies here share this interface, so that rollouts, evaluation and beam search do not
know which one they drive. Everything in a memory is batch-first: `select` keeps, repeats or reorders walkers.

Letters: B walkers, T words, K candidates, G goals.
"""

from typing import NamedTuple

import numpy as np
import torch

from dgmlab.prevalent.walk import STOP


class Step(NamedTuple):
    """What a policy answers to one observation.

    logits          (B, K+1) float   action 0 is STOP, action i candidate i - 1; -inf where there is no such action
    memory          NamedTuple       for the next step
    word_attention  (B, T) float     or None
    view_attention  (B, 36) float    or None
    value           (B,) float       the critic's estimate of the discounted reward to come, or None
    """

    logits: torch.Tensor
    memory: NamedTuple
    word_attention: torch.Tensor | None = None
    view_attention: torch.Tensor | None = None
    value: torch.Tensor | None = None


def select(memory, indices):
    """The memory of the walkers `indices` (N,), in that order; a walker may be named more than once."""
    indices = torch.as_tensor(indices)
    return type(memory)(*(part if part is None else part[indices.to(part.device)] for part in memory))


# who knows the way


def goal_rows(houses, episodes):
    """Where each episode should end, as rows of `houses` -> (B, G) int64, padded with -1.

    The end of the reference path, as upstream's teachers take it; where that is one of the episode's goals, all of them.
    A path that a navigator walked in CVDN may end elsewhere than at the target, and is then followed to its own end.
    ValueError  the split hides the goal
    """
    found = []
    for episode in episodes:
        if not episode.goals and len(episode.path) < 2:
            raise ValueError(f"episode '{episode.instr_id}' hides its goal, as test splits do; a teacher needs to know it. "
                             "Train and compare on train, val_seen or val_unseen.")
        end = episode.path[-1]
        goals = episode.goals if not episode.path[1:] or end in episode.goals else (end,)
        found.append([houses.row(episode.scan, goal) for goal in goals])
    rows = np.full((len(found), max(map(len, found), default=1)), -1, dtype=np.int64)
    for row, goals in zip(rows, found, strict=True):
        row[: len(goals)] = goals
    return rows


def goal_distance(houses, rows, goals):
    """Metres from each row (B,) to each of its goals (B, G), inf where the goal is padding -> (B, G) float64"""
    rows = np.asarray(rows)[:, None]
    return np.where(goals < 0, np.inf, houses.distance(rows, np.where(goals < 0, rows, goals)))


def teacher_actions(houses, rows, goals):
    """What leads on the shortest path to the nearest goal: STOP there, else the candidate that is the next panorama.

    This is the teacher of EnvDrop (Tan et al. 2019): it knows the way from wherever the agent has got to, and does not follow
    the annotated path.

    rows   (B,) int    where the agents are
    goals  (B, G) int  as `goal_rows` gives them
    -> (B,) int64 actions
    """
    nearest = goals[np.arange(len(rows)), goal_distance(houses, rows, goals).argmin(axis=1)]
    ahead = houses.next_row(rows, nearest)  # -1 where there is no path
    found = houses.candidates.index[rows] == ahead[:, None]  # (B, K)
    return np.where((ahead == rows) | (ahead < 0), STOP, found.argmax(axis=1) + 1)


# policies without parameters


class Moves(NamedTuple):
    """Memory of the scripted policies: how often each has moved (B,), and its goals (B, G) or (B, 0)."""

    moves: torch.Tensor
    goals: torch.Tensor


def certain(actions, mask):
    """Logits (B, K+1) of policies that have no doubt: 0 for the action, -inf for all others."""
    logits = torch.full(mask.shape, -torch.inf, device=mask.device)
    return logits.scatter_(1, actions.to(mask.device)[:, None], 0.0)


class StopAgent:
    """Stops where it starts: the floor of every metric."""

    def start(self, episode_ids, mask, episodes=None):
        """-> Moves; looks at nothing"""
        return _no_moves(episode_ids)

    def step(self, memory, observation):
        """-> Step with all weight on STOP"""
        return Step(certain(torch.full((len(observation.mask),), STOP), observation.mask), memory)


class RandomAgent:
    """R2R's random baseline (Anderson et al. 2018, section 5): a random direction, then five steps straight on.

    In the panoramic action space that is: first any candidate, all equally likely; then, until it has made `n_moves`, the
    candidate whose heading differs least from its own; then STOP.
    """

    def __init__(self, n_moves=5):
        self.n_moves = n_moves

    def start(self, episode_ids, mask, episodes=None):
        """-> Moves; looks at nothing"""
        return _no_moves(episode_ids)

    def step(self, memory, observation):
        """-> Step; the first one is the only random one, and is drawn by whoever drives the policy ('sample')"""
        mask = observation.mask.clone()
        mask[:, STOP] = ~mask[:, 1:].any(1)  # a panorama without neighbours leaves nothing but to stop
        ahead = observation.candidates[..., -3].masked_fill(~mask, -torch.inf)  # cosine of the relative heading
        ahead = certain(ahead.argmax(1), mask)
        free = torch.zeros_like(ahead).masked_fill(~mask, -torch.inf)
        stop = certain(torch.full((len(mask),), STOP), mask)
        moves = memory.moves.to(mask.device)[:, None]
        logits = torch.where(moves == 0, free, torch.where(moves < self.n_moves, ahead, stop))
        return Step(logits, memory._replace(moves=memory.moves + 1))


class ShortestAgent:
    """Knows the way: the ceiling of every metric, SR = SPL = 1 on R2R. `houses` are those of the rollout."""

    def __init__(self, houses):
        self.houses = houses

    def start(self, episode_ids, mask, episodes=None):
        """-> Moves with the goals of the episodes, which it must be given"""
        if episodes is None:
            raise ValueError("ShortestAgent needs the episodes, to know their goals: start(ids, mask, episodes).")
        return _no_moves(episode_ids)._replace(goals=torch.from_numpy(goal_rows(self.houses, episodes)))

    def step(self, memory, observation):
        """-> Step with all weight on the teacher's action"""
        actions = teacher_actions(self.houses, observation.row.cpu().numpy(), memory.goals.numpy())
        return Step(certain(torch.from_numpy(actions), observation.mask), memory)


def _no_moves(episode_ids):
    n = len(episode_ids)
    return Moves(torch.zeros(n, dtype=torch.long), torch.zeros(n, 0, dtype=torch.long))
