"""Training without a notebook, for servers that have no Jupyter, and under torchrun. The recipe tells what.

    python -m dgmlab.optimus runs/ptb -f notebooks/recipes/ptb_small.yaml -p precision=bf16
    torchrun --standalone --nproc_per_node 8 -m dgmlab.optimus runs/ptb -f notebooks/recipes/ptb_small.yaml
    python -m dgmlab.optimus runs/ptb_twin -f notebooks/recipes/ptb_small.yaml --twin
"""

import sys
from functools import partial

from dgmlab import command
from dgmlab.command import Loop, build_config, make_parser, run_loop
from dgmlab.optimus import baseline, masked, train, train_conditional, train_dialog

LOOPS = {"optimus": (train.train, train.TrainConfig),
         "twin": (baseline.train, train.TrainConfig),
         "masked": (masked.train, train.TrainConfig),
         "conditional": (train_conditional.train, train_conditional.ConditionalConfig),
         "dialog": (train_dialog.train, train_dialog.DialogTrainConfig)}
NOTEBOOKS = {"11_optimus_train": ("optimus", {}), "14_conditional_generation": ("conditional", {}),
             "15_dialog_train": ("dialog", {})}
BESIDE = {"twin": "optimus", "masked": "optimus"}  # trained on the recipes of another, for comparison
SWITCHES = ("twin", "collapsed", "opening", "model")  # parameters of these notebooks alone
find_loop = partial(command.find_loop, loops=LOOPS, notebooks=NOTEBOOKS, what="language model", also=BESIDE,
                    default="optimus")


def main(arguments=None):
    """Parse, train, print the final numbers; a user's mistake is one line and exit code 2."""
    parser = make_parser("python -m dgmlab.optimus", __doc__, *dict.fromkeys(config for _, config in LOOPS.values()))
    parser.add_argument("--model", choices=LOOPS, help="what to train; default: what the recipe's notebook trains, or optimus")
    parser.add_argument("--twin", action="store_const", dest="model", const="twin", help="--model twin: GPT-2 of that size")
    asked = parser.parse_args(arguments)

    def choose():
        model, defaults = find_loop(asked.recipe, asked.model)
        loop, cls = LOOPS[model]
        config = build_config(cls, asked.recipe, asked.parameter, SWITCHES, **defaults)
        return Loop(loop, config, {**vars(config), **noted(model)})

    return run_loop(asked, choose)


def noted(model):
    """What params.json says of the kind of model beside its configuration."""
    return {"twin": model == "twin"} if model in ("optimus", "twin") else {"model": model}


if __name__ == "__main__":
    sys.exit(main())
