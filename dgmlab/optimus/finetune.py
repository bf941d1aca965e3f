"""Fine-tuning of a whole encoder for classification, from a few labels or from all of them (Li et al. 2020, section 5.4).

One `train` fits a task on every number of labels and every draw, each from the same pre-trained encoder; a run that was
interrupted goes on with the fit after the last whole one. The draws are those of `dgmlab.metrics.probe`.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from dgmlab import training
from dgmlab.data.batching import batches, sorted_batches
from dgmlab.data.glue import Task, load_glue
from dgmlab.data.text import load_labelled
from dgmlab.metrics.agreement import SCORES
from dgmlab.metrics.probe import Curve, draw_labels
from dgmlab.optimus.classify import Classifier, Reader, open_encoder
from dgmlab.run import read_json, write_json

GLUE, ALL = "glue:", "all"


@dataclass(frozen=True)
class ClassifyConfig:
    """What fine-tuning is made of. The released recipe's values in brackets (Yelp and GLUE)."""

    encoder: str = ""  # folder of an Optimus or of its BERT twin, or any BERT by folder or hub name
    data: str = "grammar:sentiment"  # a labelled corpus, or glue:TASK
    test_split: str = "test"  # part the scores are taken on; GLUE's test labels are hidden, so it takes valid
    n_labels: str = "1,10,100"  # labels a class, by commas; all takes every row [1 to 10,000; all for GLUE]
    n_draws: int = 5  # draws of labels; with all, seeds of the training
    limit: int = 0  # rows that labels are drawn from; 0 takes all
    n_test: int = 0  # rows of the test part; 0 takes all
    n_epochs: int = 50  # passes over the drawn rows [50]
    max_steps: int = 300  # steps after which a fit ends all the same; 0 sets no bound [none]
    batch_size: int = 32  # sentences a step [32]
    lr: float = 2e-5  # peak learning rate of AdamW, linear decay [2e-5]
    warmup: float = 0.0  # share of the steps on the way up [0]
    dropout: float = 0.1  # before the linear layer [0.1]
    clip: float = 1.0  # gradient norm [1.0]
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    seed: int = 0  # of the draws and of everything else [42]


def train(run, config):
    """Fit every size and draw of a ClassifyConfig in the folder `run`; fits that are there already are not repeated.

    run  gets metrics.jsonl, a row a fit with n_labels (0: all), draw, score, n_rows and seed; predictions/, results.json
    -> dict: METRIC_N, the mean over draws for N labels a class
    """
    accelerator = training.start(config.seed, config.precision)
    with training.reported(run):
        if accelerator.num_processes > 1:
            raise ValueError(f"a classifier is tuned by one process, found {accelerator.num_processes}. Leave torchrun out.")
        encoder = open_encoder(config.encoder)
        encoder.body.to(accelerator.device)
        known, unseen = (open_task(config.data, split, limit or None, config.seed)
                         for split, limit in (("train", config.limit), (config.test_split, config.n_test)))
        readers = [Reader(encoder, part.first, part.second) for part in (known, unseen)]
        fits = [(n, draw) for n in sizes(config.n_labels) for draw in range(config.n_draws)]
        drawn = {fit: draw_labels(known.labels, *fit, config.seed) if fit[0] else np.arange(len(known.labels)) for fit in fits}
        done = len(run.metrics())
        progress = training.Progress(run, len(fits), done, run.dir.name)
        for step, (n, draw) in enumerate(fits[done:], done + 1):
            with torch.random.fork_rng():
                torch.manual_seed(1000 * config.seed + step)  # a fit does not depend on the ones before it
                model = fine_tune(encoder, readers[0], drawn[n, draw], known, config, accelerator)
            predicted = predict(model, readers[1], known, accelerator)
            write_json(run.dir / "predictions" / f"{step:04d}.json", predicted.tolist())
            value = SCORES[known.metric](predicted, unseen.labels)
            run.log(step, n_labels=n, draw=draw, score=value, n_rows=len(known.labels), seed=config.seed)
            progress.update(step, n_labels=n, score=value)
        progress.close()
        curve = tuned_curve(run)
        names = [n or ALL for n in curve.n_labels]
        numbers = {f"{known.metric}_{n}": float(row.mean()) for n, row in zip(names, curve.scores, strict=True)}
        run.save_results(numbers)
        return numbers


def fine_tune(encoder, reader, rows, task, config, accelerator):
    """A Classifier that starts from `encoder` and has learnt the items `rows` of a task. Draws come from torch's global state.

    A class is learnt by cross entropy, a number, centred and divided by its deviation, by its squared error.
    """
    n_outputs = len(task.label_names) or 1
    model = Classifier(copy.deepcopy(encoder.body), encoder.pooling, n_outputs, config.dropout).to(accelerator.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, eps=1e-8, weight_decay=0.0)
    targets = torch.from_numpy(task.labels if task.label_names else standard(task.labels)).to(accelerator.device)
    n_steps = config.n_epochs * -(-len(rows) // config.batch_size)
    n_steps = min(n_steps, config.max_steps) if config.max_steps else n_steps
    plan = training.endless(lambda epoch: batches(reader.lengths[rows], config.batch_size, config.seed, epoch))
    model.train()
    for step in range(n_steps):
        training.set_lr(optimizer, config.lr * training.warmup_linear(step, n_steps, round(config.warmup * n_steps)))
        index = rows[next(plan)[1]]
        optimizer.zero_grad(set_to_none=True)
        with training.autocast(accelerator):
            outputs = model(reader.batch(index).to(accelerator.device)).float()
        wanted = targets[index]
        loss = (functional.cross_entropy(outputs, wanted) if task.label_names
                else functional.mse_loss(outputs[:, 0], wanted.float()))
        loss.backward()
        training.check_finite(step + 1, loss=loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
    return model.eval()


def standard(labels):
    """Numbers centred and divided by their deviation."""
    return (labels - labels.mean()) / max(1e-12, labels.std())


@torch.no_grad()
def predict(model, reader, task, accelerator, batch_size=256):
    """What a Classifier says of every item of a reader: classes (N,) int64, or numbers (N,) on the scale of the task."""
    outputs = np.empty((len(reader), len(task.label_names) or 1))
    for rows in sorted_batches(reader.lengths, batch_size):
        with accelerator.autocast():
            outputs[rows] = model(reader.batch(rows).to(accelerator.device)).float().cpu().numpy()
    return outputs.argmax(1) if task.label_names else outputs[:, 0] * task.labels.std() + task.labels.mean()


def open_task(data, split="train", limit=None, seed=0):
    """The items of a labelled corpus, scored by accuracy, or of glue:TASK, whose part to score on is valid. -> Task"""
    if data.startswith(GLUE):
        return load_glue(data.removeprefix(GLUE), split, limit, seed)
    found = load_labelled(data, split, limit, seed)
    return Task(found.sentences, None, found.labels, found.label_names, "accuracy")


def sizes(n_labels):
    """The numbers of a list such as '1,10,100', ascending; 0 stands for 'all'. -> list of int"""
    words = [word.strip() for word in n_labels.split(",")]
    if not all(word == ALL or word.isdigit() and int(word) for word in words) or ALL in words[1:]:
        raise ValueError(f"labels a class were expected as numbers by commas, like 1,10,100, or as the word all; "
                         f"found '{n_labels}'. Write them so.")
    return [0 if word == ALL else int(word) for word in words]


def tuned_curve(run):
    """The fits of a run of `train` -> Curve, comparable with `probe_curve` on the same labels and seed; 0 labels means all."""
    rows = run.metrics()
    n_labels = tuple(dict.fromkeys(int(row["n_labels"]) for row in rows))
    scores = np.array([[row["score"] for row in rows if row["n_labels"] == n] for n in n_labels])
    return Curve(n_labels, scores, rows[0]["seed"], rows[0]["n_rows"])


def predictions(run, step):
    """What fit number `step` (from 1) of a run said of the test part. -> (M,) array"""
    return np.array(read_json(run.dir / "predictions" / f"{step:04d}.json"))
