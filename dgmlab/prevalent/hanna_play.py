"""The loop of HANNA: agents look for objects, ask Anna, and follow what she tells (Nguyen and Daume 2019).

    played = play(agent, anna, features, words, episodes, feedback="sample")      with the graph, for training
    trajectories = run_hanna(agent, anna, features, words, episodes)
    evaluate(trajectories, episodes, houses, **PROTOCOLS["hanna"])

Asking leads an agent to the start of a route and changes what it reads, from the task to the route. There STOP means to leave
the route, and only when it is back on its task does STOP end the episode. It may ask again on a route.

Letters: B walkers, S steps, K candidates, G goals.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from dgmlab.prevalent.angles import ANGLE_SIZE
from dgmlab.prevalent.features import observe_at
from dgmlab.prevalent.hanna_agent import REQUEST_HELP, HannaStep, Situation, entropy, renewed
from dgmlab.prevalent.policies import Step, goal_distance, goal_rows, teacher_actions
from dgmlab.prevalent.rollout import choose_argmax, choose_sample, device_of, evaluating, start_walk
from dgmlab.prevalent.walk import STOP


class HannaTrajectory(NamedTuple):
    """As `rollout.Trajectory`, and of each step: whether it asked, and what it read."""

    instr_id: str
    scan: str
    path: list  # viewpoint ids, one more than moves; asking may be a move
    views: list  # view index at each step
    actions: list  # at each step; 0 where it stayed: it stopped, left a route, or asked at the start of one
    scores: list  # at each step (K+1,) float32 probabilities of the navigator
    candidates: list  # at each step the viewpoint ids that scores[1:] belong to
    words: list  # tokens of the task
    word_attention: list  # [], as what is read changes
    view_attention: list  # []
    asked: list  # at each step bool
    told: list  # at each step the text that it read


class Record(NamedTuple):
    """One step of B walkers, before it was taken; what teachers look at."""

    active: np.ndarray  # (B,) bool had not ended
    row: np.ndarray  # (B,)
    view: np.ndarray  # (B,)
    can_ask: np.ndarray  # (B,) bool
    task: np.ndarray  # (B,) int, another one whenever the walker reads something else
    distance: np.ndarray  # (B,) metres to the nearest target of that
    best: np.ndarray  # (B,) action on the shortest path there
    action: np.ndarray  # (B,) action taken, 0 where it asked
    asked: np.ndarray  # (B,) bool
    told: list  # B str
    out: HannaStep  # with its graph


class Played(NamedTuple):
    """trajectories: list of B HannaTrajectory; records: list of S Record; final: (B,) metres to the target in the end."""

    trajectories: list
    records: list
    final: np.ndarray


class Openings(NamedTuple):
    """The N steps at which help was to be had: whether the agent asked, its doubt there, and how far it had to go.

    asked     (N,) bool
    entropy   (N,) float32  of where to go, as a share of that of 36 views and STOP, [0, 1]
    distance  (N,) float64  metres to the nearest goal
    """

    asked: np.ndarray
    entropy: np.ndarray
    distance: np.ndarray


class Party:
    """B walkers on their errands: where they are, what they read, where that leads, and what Anna shows them."""

    def __init__(self, anna, episodes):
        n = len(episodes)
        self.anna, self.houses, self.episodes = anna, anna.houses, episodes
        self.walk = start_walk(self.houses, episodes)
        self.goals = goal_rows(self.houses, episodes)
        self.targets = self.goals.copy()
        self.told = [episode.instruction for episode in episodes]
        self.shown, self.task = np.full(n, -1), np.zeros(n, int)
        self.answers = [None] * n  # of those on a route
        self.asked_at = [set() for _ in range(n)]

    @property
    def on_route(self):
        return np.array([answer is not None for answer in self.answers])

    @property
    def distance(self):
        """(B,) metres to the nearest target."""
        return goal_distance(self.houses, self.walk.row, self.targets).min(1)

    def situation(self, features, observation, gone):
        """What the agents know, `gone` of their steps being over -> Situation"""
        device, views = observation.row.device, observation.views
        shown = views.new_zeros(len(views), views.shape[2])
        some = torch.from_numpy(np.flatnonzero(self.shown >= 0)).to(device)
        if len(some):
            rows = torch.from_numpy(self.shown).to(device)[some]
            seen = observe_at(features, rows, torch.zeros_like(rows), device).views.mean(1)
            shown[some, :-ANGLE_SIZE] = seen[:, :-ANGLE_SIZE]
        again = [row in places for row, places in zip(self.walk.row.tolist(), self.asked_at, strict=True)]
        flags = np.stack([self.on_route, self.shown >= 0, again, np.full(len(again), gone)], axis=1).astype(np.float32)
        can_ask = torch.from_numpy(self.anna.can_request[self.walk.row])
        return Situation(shown, torch.from_numpy(flags).to(device), can_ask.to(device))

    def act(self, actions, asks, generator=None):
        """One step of all who have not ended: those who ask (B,) bool are led to a route, the others do as chosen (B,).

        -> (B,) bool who reads something else now
        """
        active, changed = ~self.walk.ended, np.zeros(len(asks), bool)
        leaving = active & ~asks & self.on_route & (actions == STOP)
        others = np.flatnonzero(active & ~asks & ~leaving)
        self.walk.move(actions[others], others)
        for i in np.flatnonzero(leaving):
            self._read(i, self.episodes[i].instruction, self.answers[i].goal, None)
            changed[i] = True
        for i in np.flatnonzero(active & asks):
            self.asked_at[i].add(int(self.walk.row[i]))
            answer = self.anna.answer(self.walk.row[i], self.goals[i], generator)
            if answer.start != self.walk.row[i]:
                slot = np.flatnonzero(self.houses.candidates.index[self.walk.row[i]] == answer.start)[0]
                self.walk.move(np.array([slot + 1]), [i])
            self.walk.view = np.where(np.arange(len(asks)) == i, answer.route.view, self.walk.view)
            self._read(i, answer.route.instruction, answer.depart, answer)
            changed[i] = True
        return changed

    def _read(self, i, text, target, answer):
        self.told[i], self.shown[i], self.answers[i] = text, target, answer
        self.targets[i] = -1
        self.targets[i, 0] = target
        self.task[i] += 1


def play(agent, anna, features, words, episodes, max_steps=50, feedback="argmax", generator=None, draws=None,
         image_dropout=0.0, max_length=50):
    """Play episodes side by side.

    feedback       'argmax' or 'sample', of both choices
    generator      torch.Generator of 'sample' and of the dropout; draws: numpy Generator of Anna, None: her first answer
    max_length     tokens that are read of a text, CLS and SEP included; the end of a longer one is not [50]
    -> Played; its records hold the graph for training
    """
    device = device_of(agent)
    party, records = Party(anna, episodes), []

    def read(who):
        ids, mask = words.batch([party.told[i] for i in who], max_length, "end")
        return agent.start(ids.to(device), mask.to(device))

    choose = choose_argmax if feedback == "argmax" else partial(choose_sample, generator=generator)
    memory = read(range(len(episodes)))
    for t in range(max_steps):
        row, view = party.walk.row, party.walk.view
        here = torch.from_numpy(row), torch.from_numpy(view)
        observation = observe_at(features, *here, device, image_dropout, generator=generator)
        situation = party.situation(features, observation, t / max_steps)
        out = agent.step(memory, observation, situation)
        asks = choose(Step(out.ask, None), None, None) == REQUEST_HELP
        actions = np.where(asks, STOP, choose(out.step, None, None))
        records.append(Record(~party.walk.ended, row, view, anna.can_request[row], party.task.copy(), party.distance,
                              teacher_actions(anna.houses, row, party.targets), actions, asks, list(party.told), out))
        who = np.flatnonzero(party.act(actions, asks, draws))
        if party.walk.ended.all():
            break
        memory = out.step.memory
        if len(who):
            memory = renewed(memory, read(who), torch.from_numpy(who).to(device))
    return Played(_trajectories(anna.houses, episodes, words, records, party.walk.trails, max_length), records, party.distance)


@torch.no_grad()
def run_hanna(agent, anna, features, words, episodes, max_steps=50, batch_size=64, max_length=50):
    """Play every episode once, greedily, without dropout -> list of HannaTrajectory, in the order of the episodes"""
    with evaluating(agent):
        return [trajectory for begin in range(0, len(episodes), batch_size)
                for trajectory in play(agent, anna, features, words, episodes[begin:begin + batch_size], max_steps,
                                       max_length=max_length).trajectories]


def openings(trajectories, episodes, anna):
    """When agents ask and when they do not, of trajectories of the same episodes in the same order -> Openings"""
    asked, doubt, distance = [], [], []
    for trajectory, goals in zip(trajectories, goal_rows(anna.houses, episodes), strict=True):
        scores = [torch.as_tensor(one)[None] for one in trajectory.scores]
        moves = np.cumsum([0, *(action != STOP for action in trajectory.actions)])[:-1]
        rows = np.array([anna.houses.row(trajectory.scan, trajectory.path[i]) for i in moves])
        able = anna.can_request[rows]
        asked.append(np.array(trajectory.asked)[able])
        doubt.append(np.array([entropy(one).item() for one in scores], np.float32)[able])
        distance.append(goal_distance(anna.houses, rows, np.tile(goals, (len(rows), 1))).min(1)[able])
    return Openings(*map(np.concatenate, (asked, doubt, distance)))


def _trajectories(houses, episodes, words, records, trails, max_length):
    made = []
    scores = [record.out.step.logits.detach().float().softmax(1).cpu().numpy() for record in records]
    for i, (episode, trail) in enumerate(zip(episodes, trails, strict=True)):
        steps = [(record, score[i]) for record, score in zip(records, scores, strict=True) if record.active[i]]
        ids = words.encode(episode.instruction, max_length, "end")
        path = [houses.name(row)[1] for row in trail]
        one = HannaTrajectory(episode.instr_id, episode.scan, path, [], [], [], [], words.tokens(ids), [], [], [], [])
        for (record, score), after in zip(steps, [record.row[i] for record, _ in steps[1:]] + trail[-1:], strict=True):
            here = houses.candidates.index[record.row[i]][: houses.candidates.count[record.row[i]]]
            moved = after != record.row[i]
            one.views.append(int(record.view[i]))
            one.actions.append(int(np.flatnonzero(here == after)[0]) + 1 if moved else STOP)
            one.scores.append(score[: len(here) + 1])
            one.candidates.append([houses.name(row)[1] for row in here])
            one.asked.append(bool(record.asked[i]))
            one.told.append(record.told[i])
        made.append(one)
    return made
