"""What agents learn from: the teacher's actions, and rewards (EnvDrop, Tan et al. 2019, section 3.3 and its code).

    imitation      sum over steps of the cross entropy of the teacher's action, divided by the batch
    actor_critic   advantage actor-critic on sampled trajectories, averaged over the steps of the batch

    reward         stop: +2 within 3 m of the goal, else -2; move: +1 where the goal comes nearer, -1 where it recedes
    return         R_t = r_t + 0.9 R_{t+1}; after the last step the critic's value where the steps ran out, 0 after a stop
    loss_t         -log p(a_t) (R_t - V_t) + 0.5 (R_t - V_t)^2 - 0.01 entropy_t, the first R_t - V_t is a constant

Letters: B episodes, S steps, N = all steps that were taken in the batch, G goals.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from dgmlab.prevalent.policies import goal_distance, select, teacher_actions
from dgmlab.prevalent.rollout import choose_sample, unroll
from dgmlab.prevalent.walk import STOP

SUCCESS_RADIUS = 3.0  # metres, exclusive


class Terms(NamedTuple):
    """The parts of the actor-critic loss, each () float: mean over the N steps; `loss` is their weighted sum.

    `reward` is the mean undiscounted sum of rewards of an episode.
    """

    loss: torch.Tensor
    policy: torch.Tensor
    value: torch.Tensor
    entropy: torch.Tensor
    reward: float


def rewards(houses, before, after, actions, goals):
    """What one step of A agents is worth.

    before, after  (A,) rows of `houses`
    actions        (A,) int, 0 is STOP
    goals          (A, G) rows, padded with -1; the nearest counts
    -> (A,) float64 in {-2, -1, 0, 1, 2}
    """
    far, near = (goal_distance(houses, rows, goals).min(axis=1) for rows in (before, after))
    return np.where(actions == STOP, np.where(near < SUCCESS_RADIUS, 2.0, -2.0), np.sign(far - near))


def discounted(table, last, gamma):
    """Returns from rewards.

    table  (S, B) float  rewards, 0 after the end of an episode
    last   (B,) float    value of the state after the last step, 0 where the episode has ended
    -> (S, B) float64
    """
    returns, following = np.zeros(np.shape(table)), np.asarray(last, np.float64)
    for step in range(len(returns) - 1, -1, -1):
        following = table[step] + gamma * following
        returns[step] = following
    return returns


def entropies(log_p):
    """Entropy in nats of distributions given by log probabilities (N, K+1), -inf where impossible -> (N,)"""
    possible = torch.isfinite(log_p)
    return -(log_p.exp() * log_p.masked_fill(~possible, 0.0)).sum(1)


def imitation(policy, memory, walk, look, choose, houses, goals, max_steps):
    """Cross entropy of the teacher's action along whatever `choose` does: the teacher itself, the agent's best or its draws.

    -> () float, nats summed over steps, divided by B
    """
    loss = 0.0
    for taken in unroll(policy, memory, walk, look, choose, max_steps):
        target = torch.from_numpy(teacher_actions(houses, taken.observation.row.cpu().numpy(), goals[taken.who]))
        loss = loss + functional.cross_entropy(taken.step.logits.float(), target.to(taken.step.logits.device), reduction="sum")
    return loss / len(goals)


def actor_critic(policy, memory, walk, look, houses, goals, max_steps, gamma=0.9, entropy_weight=0.01):
    """Play a batch by sampling, and say how the policy and its critic should change.

    policy  with a critic (Step.value)
    goals   (B, G) as of `goal_rows`
    -> Terms
    """
    who, at, log_p, entropy, value, earned = [], [], [], [], [], []
    taken = None
    for step, taken in enumerate(unroll(policy, memory, walk, look, choose_sample, max_steps)):
        logits = taken.step.logits.float().log_softmax(1)
        actions = torch.from_numpy(taken.actions).to(logits.device)
        log_p.append(logits.gather(1, actions[:, None])[:, 0])
        entropy.append(entropies(logits))
        value.append(taken.step.value.float())
        earned.append(rewards(houses, taken.observation.row.cpu().numpy(), taken.walk.row, taken.actions, goals[taken.who]))
        who.append(taken.who)
        at.append(np.full(len(taken.who), step))
    who, at = np.concatenate(who), np.concatenate(at)
    table = np.zeros((at[-1] + 1, len(goals)))
    table[at, who] = np.concatenate(earned)
    returns = discounted(table, bootstrap(policy, taken, look, len(goals)), gamma)[at, who]
    return loss_terms(torch.cat(log_p), torch.cat(value), torch.cat(entropy), returns, entropy_weight,
                      float(table.sum(0).mean()))


@torch.no_grad()
def bootstrap(policy, taken, look, n):
    """The critic's value of where the walkers are whom the steps ran out on: (n,) float64, 0 for the others."""
    values, left = np.zeros(n), np.flatnonzero(~taken.walk.ended)
    if len(left):
        step = policy.step(select(taken.step.memory, left), look(taken.walk.take(left)))
        values[taken.who[left]] = step.value.float().cpu().numpy()
    return values


def loss_terms(log_p, value, entropy, returns, entropy_weight=0.01, reward=0.0):
    """The loss over N steps: log_p (N,) of the actions taken, value (N,), entropy (N,), returns (N,) numbers -> Terms"""
    returns = torch.as_tensor(returns, dtype=value.dtype).to(value.device)
    error = returns - value
    policy_term, value_term = -(log_p * error.detach()).mean(), 0.5 * error.square().mean()
    return Terms(policy_term + value_term - entropy_weight * entropy.mean(), policy_term, value_term, entropy.mean(), reward)
