"""Training without a notebook, for servers that have no Jupyter, and under torchrun. The recipe tells which GAN.

    python -m dgmlab.fqgan runs/cifar10 -f notebooks/recipes/cifar10_biggan_fq.yaml -p precision=bf16
    torchrun --standalone --nproc_per_node 8 -m dgmlab.fqgan runs/cifar10 -f notebooks/recipes/cifar10_biggan_fq.yaml
    python -m dgmlab.fqgan runs/photos --model stylegan -p resolution=64
"""

import sys
from functools import partial

from dgmlab import command
from dgmlab.command import Loop, build_config, make_parser, run_loop
from dgmlab.fqgan import train, train_stylegan, translate

LOOPS = {"biggan": (train.train, train.TrainConfig), "stylegan": (train_stylegan.train, train_stylegan.StyleGANConfig),
         "ugatit": (translate.train, translate.TranslateConfig)}
NOTEBOOKS = {  # what each trains, and with which defaults other than the loop's
    "21_biggan_train": ("biggan", {}),
    "22_tacgan_train": ("biggan", {"head": "tac"}),
    "23_stylegan_train": ("stylegan", {}),
    "24_ugatit_train": ("ugatit", {}),
}
SWITCHES = ("heads",)  # parameters of these notebooks alone; of several heads, the command trains tac
find_loop = partial(command.find_loop, loops=LOOPS, notebooks=NOTEBOOKS, what="GAN")


def main(arguments=None):
    """Parse, train, print the final numbers; a user's mistake is one line and exit code 2."""
    parser = make_parser("python -m dgmlab.fqgan", __doc__, *(config for _, config in LOOPS.values()))
    parser.add_argument("--model", choices=LOOPS, help="what to train without a recipe; TAC-GAN is biggan with -p head=tac")
    asked = parser.parse_args(arguments)

    def choose():
        model, defaults = find_loop(asked.recipe, asked.model)
        loop, cls = LOOPS[model]
        config = build_config(cls, asked.recipe, asked.parameter, SWITCHES, **defaults)
        return Loop(loop, config, {"model": model, **vars(config)})

    return run_loop(asked, choose)


if __name__ == "__main__":
    sys.exit(main())
