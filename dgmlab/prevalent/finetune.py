"""Training of agents: imitation and advantage actor-critic, with back-translation (Tan et al. 2019; Hao et al. 2020).

`train(run, FinetuneConfig(data="r2r", agent="follower", size="small"))` trains, resumes where the folder has state, and
leaves model/, results.json and samples/trajectories-SPLIT.json.gz. One loop serves Seq2Seq, the follower and Prevalent, in
toy houses, R2R and CVDN: they differ in their settings only.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from dgmlab import training
from dgmlab.config import unknown_name
from dgmlab.prevalent.actor_critic import actor_critic, imitation
from dgmlab.prevalent.agent import build_agent, load_agent, save_agent
from dgmlab.prevalent.agent_data import PseudoLabels, endless_batches, open_data
from dgmlab.prevalent.angles import ANGLE_SIZE
from dgmlab.prevalent.evaluate import PROTOCOLS, evaluate
from dgmlab.prevalent.features import environment_mask, observe
from dgmlab.prevalent.pretrain import build_encoder, load_trained
from dgmlab.prevalent.rollout import choose_argmax, choose_sample, choose_teacher, run_episodes, save_trajectories
from dgmlab.prevalent.words import Words

OPTIMIZERS = {"rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam}
WATCHED = ("success_rate", "spl", "ndtw", "goal_progress")  # of every split, while it trains
CHOOSES = {"toy": "spl", "r2r": "spl", "ndh": "goal_progress"}  # whose best look gives the checkpoint


@dataclass(frozen=True)
class FinetuneConfig:
    """What training an agent is made of. EnvDrop's agent stage in brackets, then Prevalent's where it differs."""

    data: str = "toy"  # toy | r2r | ndh
    agent: str = "follower"  # seq2seq | follower | prevalent
    size: str = "tiny"  # preset: tiny | small | paper
    init: str = ""  # folder of a trained agent to go on from; '' starts anew [back-translation and Prevalent: an agent]
    pretrained: str = ""  # prevalent: run folder of its pre-training; '' starts the encoder at random
    tune: str = "none"  # prevalent: what learns of the encoder, none | cross | all [none; a second stage: cross]
    speaker: str = ""  # run folder of a speaker for back-translation; '' trains on labelled paths alone
    features: str = ""  # toy | semantic | tsv | hdf5 | none; '' takes toy or semantic [tsv: ResNet-152]
    features_path: str = ""  # file of tsv or hdf5
    supervision: str = "mixed"  # ndh: whose path is the reference of the real dialogs, oracle | navigator | mixed [mixed]
    n_houses: int = 30  # toy: houses to train in
    n_episodes: int = 3000  # toy: instructions to train on
    dev_houses: int = 6  # houses put aside to choose the checkpoint in; 0 chooses on val_unseen [0]
    max_length: int = 80  # longest instruction in tokens [80; CVDN 300]
    cut: str = "end"  # what a longer one loses: end | start | '' is an error [end; CVDN start]
    n_steps: int = 450  # optimiser steps [80000; 100000]
    batch_size: int = 32  # episodes a step [64; 20]
    optimizer: str = "adam"  # rmsprop | adam [rmsprop]
    lr: float = 5e-3  # learning rate [1e-4; 2e-5]
    decay: bool = True  # let the learning rate fall linearly to 0 [false]
    clip: float = 2.0  # gradient norm [40]
    feedback: str = "teacher"  # imitation along whose actions: teacher | argmax (student) | sample [teacher]
    ml_weight: float = 1.0  # of imitation [0.2]
    rl_weight: float = 0.0  # of the actor-critic; 0 imitates only [1]
    ml_weight_aug: float = 0.6  # of imitation on pseudo-labelled paths [0.6]
    gamma: float = 0.9  # discount of rewards [0.9]
    entropy_weight: float = 0.01  # of the policy's entropy [0.01]
    image_dropout: float = 0.0  # of picture features, in every step [0.3; 0.4]
    environment_dropout: float = 0.4  # of the environments of pseudo-labelled paths [0.4]
    max_steps: int = 35  # of an episode, in training and evaluation [35]
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    seed: int = 0  # of everything
    eval_every: int = 200  # steps between looks at the splits
    save_every: int = 500  # steps between checkpoints
    n_watch: int = 256  # episodes of each split in those looks
    n_eval: int = 0  # episodes of each split in the final evaluation; 0 takes all (toy: 500)


class Best:
    """The best look so far, kept over interruptions: its score, and the step it was at."""

    def __init__(self):
        self.score, self.step = -math.inf, 0

    def beaten(self, score, step):
        """Note a score; whether it is the best yet."""
        if score <= self.score:
            return False
        self.score, self.step = float(score), int(step)
        return True

    def state_dict(self):
        return {"score": self.score, "step": self.step}

    def load_state_dict(self, state):
        self.score, self.step = state["score"], state["step"]


def train(run, config):
    """Train an agent in the folder `run`; take up the latest checkpoint if there is one.

    run     `dgmlab.run.Run`; gets metrics.jsonl, checkpoints/, model/, results.json, samples/trajectories-SPLIT.json.gz
    config  FinetuneConfig
    -> dict of the final numbers, SPLIT_METRIC with _low and _high, of the checkpoint with the best SPL (CVDN: goal progress)
       on the split that chooses, see `agent_data`
    """
    accelerator = training.start(config.seed, config.precision)
    with training.reported(run):
        if accelerator.num_processes > 1:
            raise ValueError(f"an agent is trained by one process, found {accelerator.num_processes}. Leave torchrun out.")
        data = open_data(config)
        agent, words = build(config, data)
        agent.to(accelerator.device)
        optimizer = make_optimizer(config, agent)
        pseudo = PseudoLabels(config.speaker, data, words, config, accelerator.device) if config.speaker else None
        best = Best()
        parts = {"model": agent, "optimizer": optimizer, "best": best}

        first = training.load_state(run, accelerator, parts)
        progress = training.Progress(run, config.n_steps, first, run.dir.name)
        batches, watched = endless_batches(data, words, config, first, accelerator.device), {}
        look = partial(observe, data.features, device=accelerator.device, image_dropout=config.image_dropout)
        agent.train()
        for step in range(first, config.n_steps):
            if config.decay:
                training.set_lr(optimizer, config.lr * training.warmup_linear(step, config.n_steps))
            optimizer.zero_grad(set_to_none=True)
            with training.autocast(accelerator):
                loss, numbers = losses(agent, next(batches), look, data.houses, config, config.ml_weight)
                loss.backward()
            if pseudo:
                environment = environment_mask(data.features.size, config.environment_dropout)
                batch = pseudo.batch(step, environment)
                through = partial(observe, data.features, device=accelerator.device, environment=environment)
                with training.autocast(accelerator):
                    loss_aug, _ = losses(agent, batch, through, data.houses, config, config.ml_weight_aug)
                    loss_aug.backward()
                numbers["loss_aug"] = loss_aug.detach()
            numbers = {name: float(value) for name, value in numbers.items()}
            training.check_finite(step + 1, **numbers)
            numbers["gradient_norm"] = training.clip(accelerator, agent, config.clip, step + 1)
            optimizer.step()

            done = step + 1
            if training.every(done, 10, config.n_steps) or done == 1:
                run.log(done, **numbers, lr=optimizer.param_groups[0]["lr"])
            if training.every(done, config.eval_every, config.n_steps):
                looked = look_at(agent, words, data, config, accelerator)
                run.log(done, **looked)
                watched = {name: value for name, value in looked.items() if name.startswith("success_rate")}
                if best.beaten(looked[f"{CHOOSES[config.data]}/{next(iter(data.splits))}"], done):
                    training.save_state(run, done, accelerator, {"model": agent}, name="best")
            progress.update(done, loss=numbers["loss"], **watched)
            if training.every(done, config.save_every, config.n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()
        return finish(run, config, agent, words, data, best, accelerator)


def losses(agent, batch, look, houses, config, ml_weight):
    """The loss of a batch, () float with its graph, and what is logged of it: imitation, then the actor-critic.

    The two play the batch one after the other, each from its start (EnvDrop's two rollouts of `feedback=sample`).
    """
    along = {"teacher": partial(choose_teacher, houses=houses, goals=batch.goals), "argmax": choose_argmax,
             "sample": choose_sample}[config.feedback]
    begin = agent.start(batch.ids, batch.mask)
    ml = imitation(agent, begin, batch.walk.copy(), look, along, houses, batch.goals, config.max_steps)
    if not config.rl_weight:
        loss = ml_weight * ml
        return loss, {"loss": loss.detach(), "ml": ml.detach()}
    begin = agent.start(batch.ids, batch.mask)
    rl = actor_critic(agent, begin, batch.walk.copy(), look, houses, batch.goals, config.max_steps, config.gamma,
                      config.entropy_weight)
    loss = ml_weight * ml + config.rl_weight * rl.loss
    return loss, {"loss": loss.detach(), "ml": ml.detach(), "rl": rl.loss.detach(), "value_loss": rl.value.detach(),
                  "entropy": rl.entropy.detach(), "reward": rl.reward}


def build(config, data):
    """The agent a FinetuneConfig asks for and its words: a trained one (init), one on a pre-trained encoder, or a new one."""
    _check(config)
    size = data.features.size + ANGLE_SIZE
    if config.init:
        agent, words, about = load_agent(config.init)
        for name, found, asked in (("agent", about["kind"], config.agent), ("feature_size", agent.config.feature_size, size),
                                   ("max_length", agent.config.max_length, config.max_length)):
            if found != asked:
                raise ValueError(f"{name} is {found} in {config.init} but {asked} was asked for. Ask for {found}, "
                                 "or train a new agent.")
    elif config.agent == "prevalent":
        if config.pretrained:
            encoder, words = load_trained(config.pretrained)
        else:
            words = build_words(data)
            encoder = build_encoder(config.size, words, data.features)
        agent = build_agent(config.agent, config.size, len(words), size, encoder, max_length=config.max_length)
    else:
        words = build_words(data)
        agent = build_agent(config.agent, config.size, len(words), size, max_length=config.max_length)
    return agent.tune(config.tune) if config.agent == "prevalent" else agent, words


def build_words(data):
    """The words of the training instructions, those with five uses or more (Anderson et al. 2018)."""
    return Words.build([episode.instruction for episode in data.train])


def _check(config):
    for name, valid in (("feedback", ("teacher", "argmax", "sample")), ("optimizer", OPTIMIZERS)):
        if getattr(config, name) not in valid:
            raise KeyError(unknown_name(getattr(config, name), valid, name))
    if config.agent == "seq2seq" and config.rl_weight:
        raise ValueError(f"rl_weight is {config.rl_weight} but seq2seq has no critic. Use rl_weight=0: it imitates only.")
    if config.pretrained and config.agent != "prevalent":
        raise ValueError(f"pretrained is '{config.pretrained}' but {config.agent} has no encoder to take it. "
                         "Use agent='prevalent', or leave it out.")


def make_optimizer(config, agent):
    """The optimizer over the parameters that learn; frozen ones are not in it."""
    return OPTIMIZERS[config.optimizer]([p for p in agent.parameters() if p.requires_grad], lr=config.lr)


def look_at(agent, words, data, config, accelerator):
    """Scores of the first `n_watch` episodes of every split -> dict 'METRIC/SPLIT' -> float"""
    found = {}
    for split, episodes in data.splits.items():
        some = episodes[: config.n_watch]
        summary = evaluate(play(agent, words, data, some, config, accelerator), some, data.houses, n_draws=1,
                           **protocol(config)).summary
        found |= {f"{name}/{split}": summary[name].mean for name in WATCHED}
    return found


def first_step(run, key, target):
    """The first look of a run at which a metric such as 'success_rate/val_unseen' was at least `target` -> int, or None"""
    steps, values = run.column(key)
    reached = steps[values >= target]
    return int(reached[0]) if len(reached) else None


def protocol(config):
    """What counts as arrived -> keyword arguments of `evaluate`"""
    return PROTOCOLS["ndh" if config.data == "ndh" else "r2r"]


def play(agent, words, data, episodes, config, accelerator):
    """The agent's trajectories, greedy."""
    with accelerator.autocast():
        return run_episodes(agent, data.houses, data.features, words, episodes, config.max_steps,
                            max_length=config.max_length, cut=config.cut or None)


def finish(run, config, agent, words, data, best, accelerator):
    """Take up the best checkpoint, save the agent, play and score every split; what was done before is read back."""
    if done := run.finished("model/about.json"):
        return done
    training.load_state(run, accelerator, {"model": agent}, name="best")
    agent.eval()
    save_agent(run.dir / "model", agent, words, data=config.data, features=data.features.name, step=best.step)
    numbers = {"best_step": best.step}
    for split, episodes in data.splits.items():
        trajectories = play(agent, words, data, episodes, config, accelerator)
        save_trajectories(Path(run.samples) / f"trajectories-{split}.json.gz", trajectories)
        for name, interval in evaluate(trajectories, episodes, data.houses, **protocol(config)).summary.items():
            numbers |= {f"{split}_{name}": interval.mean, f"{split}_{name}_low": interval.low,
                        f"{split}_{name}_high": interval.high}
    run.save_results(numbers)
    return numbers
