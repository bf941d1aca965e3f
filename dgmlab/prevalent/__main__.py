"""Training without a notebook, for servers that have no Jupyter. The recipe tells what.

    python -m dgmlab.prevalent runs/speaker -f notebooks/recipes/r2r_speaker_small.yaml
    python -m dgmlab.prevalent.synthesis --speaker runs/speaker --out runs/synthetic
    torchrun --standalone --nproc_per_node 8 -m dgmlab.prevalent runs/encoder -f notebooks/recipes/r2r_prevalent_paper.yaml
    python -m dgmlab.prevalent runs/asking -f notebooks/recipes/hanna_agent_small.yaml
    python -m dgmlab.prevalent runs/agent --model agent -p data=r2r -p agent=prevalent -p pretrained=runs/encoder
"""

import sys
from functools import partial

from dgmlab import command
from dgmlab.command import Loop, build_config, make_parser, run_loop
from dgmlab.prevalent import finetune, hanna_train, pretrain, train_speaker

LOOPS = {"speaker": (train_speaker.train, train_speaker.SpeakerTrainConfig),
         "encoder": (pretrain.train, pretrain.PretrainConfig),
         "agent": (finetune.train, finetune.FinetuneConfig),
         "hanna": (hanna_train.train, hanna_train.HannaConfig)}
NOTEBOOKS = {"31_speaker_train": ("speaker", {}), "32_prevalent_train": ("encoder", {}), "33_agent_train": ("agent", {}),
             "36_hanna_train": ("hanna", {})}
SWITCHES = (  # parameters of these notebooks alone
    "twin", "pretrain_steps", "target", "beam_size", "n_beam", "n_told", "n_instructions", "temperature")
find_loop = partial(command.find_loop, loops=LOOPS, notebooks=NOTEBOOKS, what="network of navigation")


def main(arguments=None):
    """Parse, train, print the final numbers; a user's mistake is one line and exit code 2."""
    parser = make_parser("python -m dgmlab.prevalent", __doc__, *(config for _, config in LOOPS.values()))
    parser.add_argument("--model", choices=LOOPS, help="what to train without a recipe")
    asked = parser.parse_args(arguments)

    def choose():
        model, defaults = find_loop(asked.recipe, asked.model)
        loop, cls = LOOPS[model]
        config = build_config(cls, asked.recipe, asked.parameter, SWITCHES, **defaults)
        return Loop(loop, config, {"model": model, **vars(config)})

    return run_loop(asked, choose)


if __name__ == "__main__":
    sys.exit(main())
