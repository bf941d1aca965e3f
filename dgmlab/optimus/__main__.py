"""Training without a notebook, for servers that have no Jupyter, and under torchrun.

    python -m dgmlab.optimus runs/ptb -f notebooks/recipes/ptb_small.yaml -p precision=bf16
    torchrun --standalone --nproc_per_node 8 -m dgmlab.optimus runs/ptb -f notebooks/recipes/ptb_small.yaml
    python -m dgmlab.optimus runs/ptb_twin -f notebooks/recipes/ptb_small.yaml --twin
"""

import sys

from dgmlab.command import Loop, build_config, make_parser, run_loop
from dgmlab.optimus import baseline
from dgmlab.optimus.train import TrainConfig, train

SWITCHES = ("twin", "collapsed")  # parameters of notebook 11 alone


def main(arguments=None):
    """Parse, train, print the final numbers; a user's mistake is one line and exit code 2."""
    parser = make_parser("python -m dgmlab.optimus", __doc__, TrainConfig)
    parser.add_argument("--twin", action="store_true", help="train the GPT-2 twin instead of Optimus")
    asked = parser.parse_args(arguments)

    def choose():
        config = build_config(TrainConfig, asked.recipe, asked.parameter, SWITCHES)
        return Loop(baseline.train if asked.twin else train, config, {**vars(config), "twin": asked.twin})

    return run_loop(asked, choose)


if __name__ == "__main__":
    sys.exit(main())
