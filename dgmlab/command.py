"""What the commands of the papers' folders have in common: a mistake is one line and exit code 2, an interruption 130.

And of `python -m dgmlab.optimus`, `dgmlab.fqgan` and `dgmlab.prevalent`, which start a training loop from a shell: recipe and
NAME=VALUE words -> config -> run folder -> numbers. It needs no Jupyter, and runs under torchrun.
"""

import argparse
import contextlib
import dataclasses
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from dgmlab.config import from_params, unknown_name
from dgmlab.notebooks import check_parameters, only_one, read_recipe
from dgmlab.run import Run, one_line

MISTAKES = (ValueError, KeyError, TypeError, OSError, FloatingPointError)


def guarded(act, mistakes=MISTAKES):
    """Call `act()`; what is in `mistakes` becomes one line on stderr, or a traceback with DGMLAB_DEBUG=1.

    -> exit code: 0, 2 for a mistake, 130 when interrupted
    """
    try:
        act()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    except mistakes as error:
        if os.environ.get("DGMLAB_DEBUG"):
            raise
        print(one_line(error), file=sys.stderr)
        return 2
    return 0


class Loop(NamedTuple):
    """What is to be run."""

    train: Callable  # (run, config) -> dict of the final numbers
    config: Any  # frozen dataclass
    params: dict  # noted in params.json: another run may not use the folder


class Field(NamedTuple):
    """What `check_parameters` wants to know of a parameter."""

    type: type


def make_parser(program, description, *configs):
    """An ArgumentParser with the folder, -f, -p and --fresh, whose help lists the fields of the dataclasses `configs`."""
    lists = [textwrap.fill(", ".join(field.name for field in dataclasses.fields(config)), 100,
                           initial_indent=f"parameters of {config.__name__}: ", subsequent_indent="  ") for config in configs]
    parser = argparse.ArgumentParser(program, description=description, epilog="\n\n".join(lists),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="run folder; the same command resumes what it holds")
    parser.add_argument("-f", "--recipe", help="YAML file, or its name in notebooks/recipes")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="set a parameter")
    parser.add_argument("--fresh", action="store_true", help="move what the folder holds aside instead of resuming it")
    return parser


def build_config(cls, recipe, overrides, switches=(), **defaults):
    """The dataclass `cls` of a recipe's parameters and NAME=VALUE words, which win.

    recipe    a YAML file, its name in notebooks/recipes, or None
    switches  names of parameters that steer the recipe's notebook and not the loop; they are left out
    defaults  what that notebook has in place of the dataclass's own defaults
    """
    fields = {name: Field(kind) for name, kind in get_type_hints(cls).items()}
    content = read_recipe(recipe)[1] if recipe else {}
    given = {**defaults, **(content.get("parameters") or {})}
    given = {name: value for name, value in given.items() if name not in switches}
    for word in overrides:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"-p takes NAME=VALUE, found '{word}'.")
        if name not in fields:
            raise KeyError(unknown_name(name, fields, f"field of {cls.__name__}"))
        given[name] = value
    return from_params(cls, check_parameters(given, fields, cls.__name__))


def find_loop(recipe, model=None, *, loops, notebooks, what, also=(), default=None):
    """Which of a system's loops to run: that of the notebook that a recipe names or, where there is none, the one asked for.

    recipe     a YAML file, its name in notebooks/recipes, or None
    model      key of `loops`, or None
    notebooks  stem of a training notebook -> (key of `loops`, defaults other than the loop's)
    what       of what the loops are kinds, for the messages: "GAN"
    also       key of `loops` -> the one beside which it is trained: it takes the recipes of that one, when asked for
    default    key of `loops` where neither a recipe nor `model` tells
    -> (key of `loops`, defaults)
    """
    also = dict(also)
    name, content = read_recipe(recipe) if recipe else ("", {})
    if "notebook" not in content:
        if (model or default) is None:
            raise ValueError(f"which {what}? Give a recipe that names its notebook, or --model: {', '.join(loops)}.")
        return model or default, {}
    stem = Path(str(content["notebook"])).name.removesuffix(".ipynb")
    found = [known for known in notebooks if known.startswith(stem)]
    if len(found) != 1:
        raise KeyError(f"recipe {name}: {unknown_name(stem, notebooks, f'training notebook of a {what}')}")
    trained, defaults = notebooks[found[0]]
    if trained not in (model or trained, also.get(model)):
        raise ValueError(f"recipe {name} is for {found[0]}, which trains {trained}, not {model}. Leave --model out.")
    return model or trained, defaults


def run_loop(asked, choose):
    """Train in the folder that was asked for and print the final numbers.

    asked   what the parser of `make_parser` read
    choose  () -> Loop; a mistake that it finds is one line, as is any other
    -> exit code: 0, 2 for a user's mistake or a loss that is not finite, 130 when interrupted
    """
    main_process = os.environ.get("RANK", "0") == "0"  # of torchrun
    run = Run(asked.folder)

    def train():
        try:
            loop = choose()
            with only_one(run.dir) if main_process else contextlib.nullcontext():
                if main_process:
                    Run.start(run.dir, loop.params, asked.fresh)
                numbers = loop.train(run, loop.config)
        except MISTAKES as error:
            status = run.status if main_process else {}
            if status.get("pid") == os.getpid() and status["state"] == "running":  # stopped before the loop could say so
                run.set_status("failed", error=one_line(error))
            raise
        for name, value in numbers.items():
            print(f"{name:24} {value:.6g}")

    return guarded(train)
