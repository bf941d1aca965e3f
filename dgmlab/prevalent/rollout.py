"""Agents in houses: the one loop that evaluation, training and beam search stand on.

    for taken in unroll(policy, memory, walk, look, choose, max_steps): ...
    trajectories = run_episodes(policy, houses, features, words, episodes)

A walker that has stopped leaves the batch: it can neither move on nor be trained on by mistake (the upstream bug of actions
for ended episodes), and long episodes do not cost what short ones have saved.

Letters: B walkers at the start, A walkers still walking, T words, K candidates, G goals.
"""

import contextlib
import gzip
import json
import os
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from dgmlab.config import unknown_name
from dgmlab.prevalent.features import observe
from dgmlab.prevalent.policies import goal_rows, select, teacher_actions
from dgmlab.prevalent.walk import STOP, Walk
from dgmlab.run import write_error

FEEDBACK = ("argmax", "sample", "teacher")


class Trajectory(NamedTuple):
    """What one agent did in one episode, ready for `evaluate`, for a submission and for the replay."""

    instr_id: str
    scan: str
    path: list  # viewpoint ids, one more than moves, the start first
    views: list  # view index of the agent at each step, 0..35
    actions: list  # at each step, 0 is STOP; the last one is a move where the steps ran out
    scores: list  # at each step (K+1,) float32 probabilities of the actions
    candidates: list  # at each step the viewpoint ids that scores[1:] belong to
    words: list  # tokens of the instruction
    word_attention: list  # at each step (T,) float32 over `words`; [] where the policy has none
    view_attention: list  # at each step (36,) float32; [] where the policy has none


class Taken(NamedTuple):
    """One step of those who still walk."""

    who: np.ndarray  # (A,) int numbers of the walkers in the batch at the start
    observation: NamedTuple  # before the step
    step: NamedTuple  # the policy's answer
    actions: np.ndarray  # (A,) int64
    walk: Walk  # the walkers after the step, those included that have just stopped


def unroll(policy, memory, walk, look, choose, max_steps):
    """Drive walkers until all have stopped or `max_steps` steps are taken.

    look    Walk -> Observation
    choose  (Step, Walk, who (A,)) -> (A,) int64 actions
    -> generator of Taken
    """
    who = np.arange(len(walk.row))
    for _ in range(max_steps):
        observation = look(walk)
        step = policy.step(memory, observation)
        actions = choose(step, walk, who)
        walk.move(actions)
        yield Taken(who, observation, step, actions, walk)
        memory = step.memory
        if walk.ended.any():
            left = np.flatnonzero(~walk.ended)
            if not len(left):
                return
            who, walk, memory = who[left], walk.take(left), select(memory, left)


# choosing


def chooser(feedback, houses, episodes, generator=None):
    """What `unroll` should choose by: 'argmax' the agent's best, 'sample' its draws, 'teacher' the shortest way."""
    if feedback not in FEEDBACK:
        raise KeyError(unknown_name(feedback, FEEDBACK, "feedback"))
    if feedback == "teacher":
        return partial(choose_teacher, houses=houses, goals=goal_rows(houses, episodes))
    return choose_argmax if feedback == "argmax" else partial(choose_sample, generator=generator)


def choose_argmax(step, walk, who):
    """The likeliest action; 'student' feedback of R2R."""
    return step.logits.argmax(1).cpu().numpy()


def choose_sample(step, walk, who, generator=None):
    """An action drawn from the policy."""
    probabilities = step.logits.detach().float().softmax(1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0].cpu().numpy()


def choose_teacher(step, walk, who, houses, goals):
    """The shortest way to the nearest of the goals (B, G) of each walker."""
    return teacher_actions(houses, walk.row, goals[who])


def choose_given(step, walk, who, columns):
    """Actions known beforehand: `columns` iterates over the steps, (B,) actions each. This replays a path."""
    return next(columns)[who]


def start_walk(houses, episodes):
    """Walkers at the start of each episode, looking where it says."""
    rows = np.array([houses.row(episode.scan, episode.path[0]) for episode in episodes])
    return Walk(houses, rows, np.array([episode.heading for episode in episodes]),
                np.array([episode.elevation for episode in episodes]))


def encode(words, episodes, max_length=80, cut=None, device=None):
    """Instructions as ids (B, T) long and mask (B, T) bool; without words (scripted policies) T is 0."""
    if words is None:
        return torch.zeros(len(episodes), 0, dtype=torch.long), torch.zeros(len(episodes), 0, dtype=torch.bool)
    ids, mask = words.batch([episode.instruction for episode in episodes], max_length, cut)
    return ids.to(device), mask.to(device)


# evaluation


@torch.no_grad()
def run_episodes(policy, houses, features, words, episodes, max_steps=35, batch_size=64, feedback="argmax", generator=None,
                 max_length=80, cut=None):
    """Play every episode once, with no gradient and no dropout.

    policy      a network of `agent.py`, or a scripted policy of `policies.py`
    words       Words of the policy; None for policies that do not read
    episodes    list of N Episode
    max_steps   steps after which an agent is where it is, stopped or not [35]
    feedback    'argmax' | 'sample' | 'teacher'
    generator   torch.Generator of 'sample'
    max_length  longest instruction in tokens; `cut` ('start' | 'end') says what a longer one loses, else it is an error
    -> list of N Trajectory, in the order of the episodes
    """
    device = device_of(policy)
    look = partial(observe, features, device=device)
    found = [None] * len(episodes)
    order = np.argsort([len(episode.instruction) for episode in episodes], kind="stable")  # little padding in a batch
    with evaluating(policy):
        for begin in range(0, len(order), batch_size):
            batch = order[begin:begin + batch_size]
            chosen = [episodes[i] for i in batch]
            ids, mask = encode(words, chosen, max_length, cut, device)
            choose = chooser(feedback, houses, chosen, generator)
            steps = unroll(policy, policy.start(ids, mask, chosen), start_walk(houses, chosen), look, choose, max_steps)
            for i, trajectory in zip(batch, record(houses, chosen, tokens_of(words, ids, mask), steps), strict=True):
                found[i] = trajectory
    return found


def record(houses, episodes, tokens, steps):
    """Write down what the generator of `unroll` yields -> list of B Trajectory."""
    made = [Trajectory(episode.instr_id, episode.scan, [episode.path[0]], [], [], [], [], tokens[i], [], [])
            for i, episode in enumerate(episodes)]
    for taken in steps:
        scores = taken.step.logits.float().softmax(1).cpu().numpy()
        before, view = taken.observation.row.cpu().numpy(), taken.observation.view.cpu().numpy()
        looks = [(name, getattr(taken.step, name)) for name in ("word_attention", "view_attention")]
        looks = [(name, weights.float().cpu().numpy()) for name, weights in looks if weights is not None]
        for k, who in enumerate(taken.who):
            one = made[who]
            here = houses.candidates.index[before[k], : houses.candidates.count[before[k]]]
            one.views.append(int(view[k]))
            one.actions.append(int(taken.actions[k]))
            one.scores.append(scores[k, : len(here) + 1])
            one.candidates.append([houses.name(row)[1] for row in here])
            if taken.actions[k] != STOP:
                one.path.append(houses.name(taken.walk.row[k])[1])
            for name, weights in looks:
                getattr(one, name).append(weights[k, : len(one.words)] if name == "word_attention" else weights[k])
    return made


def tokens_of(words, ids, mask):
    """The tokens of ids (B, T) where mask is True, as B lists of str; B empty lists without words."""
    if words is None:
        return [[] for _ in ids]
    return [words.tokens(row[keep].tolist()) for row, keep in zip(ids.cpu(), mask.cpu(), strict=True)]


@contextlib.contextmanager
def evaluating(policy):
    """Without dropout inside the block; a network that was in training mode goes back to it."""
    training = getattr(policy, "training", False)
    if training:
        policy.eval()
    try:
        yield
    finally:
        if training:
            policy.train()


def device_of(policy):
    """Device of a network's parameters; the CPU for a scripted policy."""
    return next(policy.parameters()).device if isinstance(policy, nn.Module) else torch.device("cpu")


# files


def save_trajectories(path, trajectories):
    """Write trajectories as gzipped JSON, numbers to four digits, in place of what was there. -> Path"""
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    rows = [{name: _rounded(value) for name, value in trajectory._asdict().items()} for trajectory in trajectories]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(gzip.compress(json.dumps(rows, separators=(",", ":")).encode(), mtime=0))
        os.replace(scratch, path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise write_error(path, error) from error
    return path


def load_trajectories(path, kind=Trajectory):
    """The trajectories of a file written by `save_trajectories` -> list of `kind`: Trajectory, or HannaTrajectory"""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"trajectories were expected at {path}, found none. Train an agent, or name another split.")
    arrays = ("scores", "word_attention", "view_attention")
    return [kind(**{name: [np.array(x, np.float32) for x in value] if name in arrays else value
                    for name, value in row.items()}) for row in json.loads(gzip.decompress(path.read_bytes()))]


def _rounded(value):
    """Lists of float arrays as lists of lists; everything else as it is."""
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [[round(float(x), 4) for x in row] for row in value]
    return value
