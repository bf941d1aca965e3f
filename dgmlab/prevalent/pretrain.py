"""Pre-training of Prevalent on image-text-action triplets (Hao et al. 2020, section 3).

`train(run, PretrainConfig())` learns in toy houses; `data="r2r"` takes the training instructions of R2R, and `synthetic` the
folder of what a speaker wrote for all paths. Leaves model/ (with its words) and results.json; resumes where the folder has
state. `load_trained(run.dir)` gives encoder and words back.
"""

from dataclasses import dataclass

import torch

from dgmlab import training
from dgmlab.prevalent.angles import ANGLE_SIZE
from dgmlab.prevalent.grounding import evaluate
from dgmlab.prevalent.model import Prevalent, PrevalentForPretraining
from dgmlab.prevalent.objective import pretrain_sums
from dgmlab.prevalent.pretrain_data import open_data
from dgmlab.prevalent.words import Words
from dgmlab.run import locate

IMAGE_GAIN = {"toy": 2.0, "semantic": 2.0}  # features that list a few names in many zeros start louder, else 1


@dataclass(frozen=True)
class PretrainConfig:
    """What a pre-training run is made of. The released code's values in brackets."""

    data: str = "toy"  # toy | r2r
    features: str = ""  # what a view looks like: toy | semantic | tsv | hdf5 | none; '' takes that of the data [tsv]
    features_path: str = ""  # file of tsv or hdf5 features [ResNet-152-imagenet.tsv]
    synthetic: str = ""  # folder of shards that a speaker wrote for training houses; '' is none
    synthetic_share: float = -1.0  # of a batch that is synthetic, 0 to 1; -1 takes the natural share [0.984]
    n_houses: int = 40  # toy: training houses
    n_episodes: int = 6000  # toy: training instructions
    max_moves: int = 7  # toy: moves of the longest path
    limit: int = 0  # r2r: training instructions; 0 takes all
    words: str = ""  # vocabulary: a file or folder of Words.load; '' is made of the training words [bert-base-uncased]
    min_count: int = 5  # uses of a word that is in a vocabulary of one's own
    max_length: int = 80  # tokens of an instruction, both ends included; the rest is cut [80]
    size: str = "tiny"  # preset: tiny | small | paper
    bert: str = ""  # hub name or folder of a BERT to take the text stage from; '' starts at random [random]
    action_space: str = "candidate_rank"  # candidate_rank | view_stop [candidate_rank]
    blind: bool = False  # zeros in place of all views: the twin that shows what seeing is worth
    n_steps: int = 1000  # optimiser steps; 0 takes one pass over the triplets [12,864]
    batch_size: int = 64  # triplets of a step over all ranks [512]
    accumulate: int = 1  # parts that a rank splits its share into
    lr: float = 3e-3  # peak learning rate of AdamW; 5e-4 for small [5e-5]
    warmup: int = 50  # steps of linear warm-up [0]
    clip: float = 1.0  # gradient norm [1.0]
    dropout: float = 0.0  # in the encoder; a few passes over the data need none [0.1]
    precision: str = "auto"  # fp32 | bf16 | auto: bf16 where the hardware has it
    seed: int = 0  # of everything [42]
    eval_every: int = 200  # steps between looks at the held-out triplets
    save_every: int = 500  # steps between checkpoints
    n_watch: int = 512  # held-out triplets of each split in those looks
    n_eval: int = 2000  # held-out triplets of each split in the final evaluation; 0 takes all


def train(run, config):
    """Pre-train in the folder `run`; take up the latest checkpoint if there is one.

    run     `dgmlab.run.Run`; gets triplets/, words/, metrics.jsonl, checkpoints/, model/, results.json
    config  PretrainConfig
    -> dict of the final numbers: counts of the triplets, and for val_seen and val_unseen what `grounding.evaluate` gives
    """
    accelerator = training.start(config.seed, config.precision)
    main, world = accelerator.is_main_process, accelerator.num_processes
    with training.reported(run, main):
        data = open_data(run, config, accelerator)
        n_steps = config.n_steps or -(-len(data.train) // config.batch_size)
        model = build_model(config, data)
        for parameter in model.idle_parameters():
            parameter.requires_grad_(False)
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=config.lr, eps=1e-8, weight_decay=0.0, fused=True)
        wrapped, optimizer = accelerator.prepare(model, optimizer)
        parts = {"model": wrapped, "optimizer": optimizer.optimizer}

        first = training.load_state(run, accelerator, parts)
        progress = training.Progress(run, n_steps, first, run.dir.name, show=main)
        watched = {}
        model.train()
        for step in range(first, n_steps):
            training.set_lr(optimizer, config.lr * training.warmup_linear(step, n_steps, config.warmup))
            optimizer.zero_grad(set_to_none=True)
            sums, n_asked = 0.0, 1
            for micro in data.micro_batches(step):
                with training.syncing(accelerator, wrapped, micro.last):
                    with training.autocast(accelerator):
                        out = wrapped(micro.ids, micro.batch.mask, data.views(micro.batch), micro.asked)
                    terms = pretrain_sums(out, micro.targets, micro.batch.action)
                    loss = terms.mlm_loss / micro.n_asked + terms.action_loss / config.batch_size
                    accelerator.backward(loss * world)  # ranks average their gradients; these are shares of one sum
                sums, n_asked = sums + torch.stack([term.detach().float() for term in terms]), micro.n_asked
            mlm_loss, action_loss, mlm_right, action_right = accelerator.reduce(sums, "sum").tolist()
            numbers = {"mlm_loss": mlm_loss / n_asked, "action_loss": action_loss / config.batch_size,
                       "mlm_accuracy": mlm_right / n_asked, "action_accuracy": action_right / config.batch_size}
            training.check_finite(step + 1, loss=numbers["mlm_loss"] + numbers["action_loss"])
            norm = training.clip(accelerator, wrapped, config.clip, step + 1)
            optimizer.step()

            done = step + 1
            if main and (training.every(done, 10, n_steps) or done == 1):
                run.log(done, **numbers, gradient_norm=norm, lr=optimizer.param_groups[0]["lr"])
            progress.update(done, mlm_loss=numbers["mlm_loss"], action_accuracy=numbers["action_accuracy"], **watched)
            if main and training.every(done, config.eval_every, n_steps):
                looks = held_out(model, data, config.n_watch, ("seen", "zeroed"))
                run.log(done, **looks)
                watched = {name: looks[name] for name in looks if name.endswith("mlm_accuracy")}
            if training.every(done, config.save_every, n_steps):
                training.save_state(run, done, accelerator, parts)
        progress.close()
        return finish(run, config, model, data) if main else {}


def build_model(config, data):
    """The model that a PretrainConfig asks for, for the words and features of its data."""
    model = PrevalentForPretraining.from_preset(
        config.size, len(data.words), data.feature_size, config.bert, IMAGE_GAIN.get(data.features.name, 1.0),
        dropout=config.dropout, action_space=config.action_space)
    if config.max_length > model.config.max_positions:
        raise ValueError(f"max_length is {config.max_length} but the model holds {model.config.max_positions} tokens. "
                         f"Use max_length={model.config.max_positions}.")
    return model


def build_encoder(size, words, features):
    """The encoder at random as pre-training starts it, for an agent without: the two differ in what they have learned only."""
    return Prevalent.from_preset(size, len(words), features.size + ANGLE_SIZE, image_gain=IMAGE_GAIN.get(features.name, 1.0))


def held_out(model, data, n, views=("seen", "zeroed", "elsewhere")):
    """`grounding.evaluate` on every held-out split, the names led by the split's. -> dict"""
    return {f"{split}_{name}": value for split, triplets in data.held_out.items()
            for name, value in evaluate(model, data, triplets, n, views, data.config.seed).items()}


def finish(run, config, model, data):
    """Save the model with its words, and evaluate it; what was evaluated before is read back."""
    if done := run.finished():
        return done
    model.save_pretrained(run.dir / "model")
    data.words.save(run.dir / "model")
    numbers = {**data.train.counts._asdict(), **held_out(model, data, config.n_eval)}
    run.save_results(numbers)
    return numbers


def load_trained(folder, cls=Prevalent):
    """(model in evaluation mode, Words) of a run folder or of its model/ folder; cls: Prevalent or PrevalentForPretraining."""
    folder = locate(folder)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"a pre-trained model was expected at {folder}/config.json. Train one: 32_prevalent_train.")
    return cls.from_pretrained(folder).eval(), Words.load(folder)
