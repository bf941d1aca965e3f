"""Rewards, returns and losses: worked out by hand, and against a loop over episodes that shares nothing with the batch."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from dgmlab.prevalent import actor_critic as ac
from dgmlab.prevalent.houses import Houses
from dgmlab.prevalent.policies import Step, goal_rows, teacher_actions
from dgmlab.prevalent.rollout import choose_argmax, start_walk
from dgmlab.prevalent.toy_tasks import toy_episodes


def test_returns_are_those_worked_out_by_hand():
    table = np.array([[1.0, -1.0], [-1.0, 2.0], [2.0, 0.0]])  # the second episode stops at its second step
    assert ac.discounted(table, [0.0, 0.0], 0.9) == pytest.approx(np.array([[1.72, 0.8], [0.8, 2.0], [2.0, 0.0]]))
    assert ac.discounted(table[:1], [10.0, 0.0], 0.9) == pytest.approx(np.array([[10.0, -1.0]]))  # one goes on: 1 + 0.9 x 10
    assert ac.discounted(table, [0.0, 0.0], 0.0) == pytest.approx(table)


def test_the_loss_is_the_one_worked_out_by_hand():
    log_p, value = torch.tensor([-1.0, -2.0], requires_grad=True), torch.tensor([0.5, 1.0], requires_grad=True)
    terms = ac.loss_terms(log_p, value, torch.tensor([0.3, 0.7]), np.array([1.5, -1.0]))
    # advantages 1 and -2: policy (1 - 4) / 2, value (1 + 4) / 4, entropy 0.5
    assert terms.policy.item() == pytest.approx(-1.5) and terms.value.item() == pytest.approx(1.25)
    assert terms.loss.item() == pytest.approx(-1.5 + 1.25 - 0.005)
    terms.loss.backward()
    assert log_p.grad.tolist() == pytest.approx([-0.5, 1.0])
    assert value.grad.tolist() == pytest.approx([-0.5, 1.0])  # of the squares alone: none through the advantage


def test_entropy_of_a_fair_choice_is_its_logarithm_and_impossible_actions_leave_no_trace():
    logits = torch.tensor([[0.0, 0.0, 0.0, -torch.inf], [5.0, -torch.inf, -torch.inf, -torch.inf]], requires_grad=True)
    entropy = ac.entropies(logits.log_softmax(1))
    assert entropy.tolist() == pytest.approx([math.log(3), 0.0])
    entropy.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_rewards_of_moves_are_signs_and_of_stops_two():
    houses = Houses.toy([1])
    episodes = toy_episodes(houses, 1, 0)
    path = [houses.row("toy1", viewpoint) for viewpoint in episodes[0].path]
    goals = goal_rows(houses, episodes * 4)
    before, after = np.array([path[0], path[1], path[0], path[-1]]), np.array([path[1], path[0], path[0], path[-1]])
    assert ac.rewards(houses, before, after, np.array([1, 2, 0, 0]), goals).tolist() == [1, -1, -2, 2]
    assert ac.rewards(houses, before[:1], before[:1], np.array([1]), goals[:1]).tolist() == [0]  # no nearer, no farther


class Count(NamedTuple):
    who: torch.Tensor
    moves: torch.Tensor


class Fixed:
    """A policy of a table: logits and value depend on the panorama, the walker and its moves, and nothing else."""

    def __init__(self, houses, n, seed):
        generator = torch.Generator().manual_seed(seed)
        shape = (len(houses), houses.candidates.index.shape[1] + 1)
        self.logits = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        self.value = torch.randn(len(houses), n, 9, generator=generator, dtype=torch.float64).requires_grad_()
        self.n = n

    def start(self):
        return Count(torch.arange(self.n), torch.zeros(self.n, dtype=torch.long))

    def step(self, memory, observation):
        logits = self.logits[observation.row].masked_fill(~observation.mask, -torch.inf)
        return Step(logits, Count(memory.who, memory.moves + 1), value=self.value[observation.row, memory.who, memory.moves])


class Bare(NamedTuple):
    row: torch.Tensor
    mask: torch.Tensor


def look(walk):
    return Bare(torch.from_numpy(walk.row), torch.from_numpy(walk.mask))


@pytest.mark.parametrize("max_steps", [1, 4, 8])
def test_actor_critic_equals_a_loop_over_episodes(monkeypatch, max_steps):
    houses, n = Houses.toy([2]), 40
    episodes = toy_episodes(houses, n, 0)
    goals, policy = goal_rows(houses, episodes), Fixed(houses, n, max_steps)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # the reference is in float64
    plan = np.random.default_rng(max_steps).random((n, max_steps))

    times = iter(range(max_steps))

    def draw(step, walk, who):
        t = next(times)
        return np.floor(plan[who, t] * walk.mask.sum(1)).astype(np.int64)

    monkeypatch.setattr(ac, "choose_sample", draw)
    terms = ac.actor_critic(policy, policy.start(), start_walk(houses, episodes), look, houses, goals, max_steps)
    terms.loss.backward()
    found = policy.logits.grad.clone(), policy.value.grad.clone()

    policy.logits.grad = policy.value.grad = None
    losses, total = [], 0.0
    for i, episode in enumerate(episodes):
        walk, steps = start_walk(houses, [episode]), []
        for t in range(max_steps):
            row, mask = int(walk.row[0]), torch.from_numpy(walk.mask[0])
            action = int(plan[i, t] * mask.sum())
            far = houses.distance(row, goals[i, 0])
            walk.move(np.array([action]))
            near = houses.distance(walk.row[0], goals[i, 0])
            log_p = torch.log_softmax(policy.logits[row][mask], 0)
            steps.append((log_p[action], -(log_p.exp() * log_p).sum(), policy.value[row, i, t],
                          float(np.sign(far - near)) if action else 2.0 if near < 3 else -2.0))
            if not action:
                break
        following = 0.0 if walk.ended[0] else policy.value[walk.row[0], i, max_steps].item()
        total += sum(step[3] for step in steps)
        for log_p, entropy, value, reward in reversed(steps):
            following = reward + 0.9 * following
            error = following - value
            losses.append(-log_p * error.detach() + 0.5 * error**2 - 0.01 * entropy)
    expected = sum(losses) / len(losses)
    assert terms.loss.item() == pytest.approx(expected.item(), rel=1e-12) and terms.reward == pytest.approx(total / n)
    expected.backward()
    torch.testing.assert_close(found[0], policy.logits.grad, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[1], policy.value.grad, rtol=1e-10, atol=1e-12)


def test_imitation_sums_over_steps_and_leaves_out_who_has_stopped():
    houses, n = Houses.toy([2]), 24
    episodes = toy_episodes(houses, n, 5)
    goals, policy = goal_rows(houses, episodes), Fixed(houses, n, 0)
    loss = ac.imitation(policy, policy.start(), start_walk(houses, episodes), look, choose_argmax, houses, goals, 8)
    expected = 0.0
    for i, episode in enumerate(episodes):
        walk = start_walk(houses, [episode])
        for _ in range(8):
            logits = policy.logits[walk.row[0]][torch.from_numpy(walk.mask[0])]
            expected -= torch.log_softmax(logits, 0)[teacher_actions(houses, walk.row, goals[i:i + 1])[0]].item()
            walk.move(np.array([logits.argmax().item()]))
            if walk.ended[0]:
                break
    assert loss.item() == pytest.approx(expected / n, rel=1e-5)
