"""Training without a notebook, for servers that have no Jupyter, and under torchrun.

    python -m dgmlab.optimus runs/ptb -f notebooks/recipes/ptb_small.yaml -p precision=bf16
    torchrun --standalone --nproc_per_node 8 -m dgmlab.optimus runs/ptb -f notebooks/recipes/ptb_small.yaml
    python -m dgmlab.optimus runs/ptb_twin -f notebooks/recipes/ptb_small.yaml --twin
"""

import argparse
import contextlib
import dataclasses
import os
import sys
import typing

from dgmlab.config import from_params, unknown_name
from dgmlab.notebooks import check_parameters, only_one, read_recipe
from dgmlab.optimus import baseline
from dgmlab.optimus.train import TrainConfig, train
from dgmlab.run import Run


class Field(typing.NamedTuple):
    """What `check_parameters` wants to know of a parameter."""

    type: type


def build_config(recipe, overrides):
    """TrainConfig of a recipe's parameters and NAME=VALUE overrides; the recipe's notebook-only switches are left out."""
    fields = {name: Field(kind) for name, kind in typing.get_type_hints(TrainConfig).items()}
    given = {}
    if recipe:
        _, content = read_recipe(recipe)
        given = {name: value for name, value in (content.get("parameters") or {}).items() if name not in ("twin", "collapsed")}
    for word in overrides:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"-p takes NAME=VALUE, found '{word}'.")
        if name not in fields:
            raise KeyError(unknown_name(name, fields, "field of TrainConfig"))
        given[name] = value
    return from_params(TrainConfig, check_parameters(given, fields, "TrainConfig"))


def main(arguments=None):
    """Parse, train, print the final numbers; a user's mistake is one line and exit code 2."""
    fields = ", ".join(field.name for field in dataclasses.fields(TrainConfig))
    parser = argparse.ArgumentParser("python -m dgmlab.optimus", description=__doc__, epilog=f"parameters: {fields}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="run folder; the same command resumes what it holds")
    parser.add_argument("-f", "--recipe", help="YAML file, or its name in notebooks/recipes")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="set a parameter")
    parser.add_argument("--twin", action="store_true", help="train the GPT-2 twin instead of Optimus")
    parser.add_argument("--fresh", action="store_true", help="move what the folder holds aside instead of resuming it")
    asked = parser.parse_args(arguments)
    main_process = os.environ.get("RANK", "0") == "0"
    run = Run(asked.folder)
    try:
        config = build_config(asked.recipe, asked.parameter)
        with only_one(run.dir) if main_process else contextlib.nullcontext():
            Run.start(run.dir, {**vars(config), "twin": asked.twin}, asked.fresh and main_process)
            numbers = (baseline.train if asked.twin else train)(run, config)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes it", file=sys.stderr)
        return 130
    except (ValueError, KeyError, TypeError, OSError, FloatingPointError) as error:
        if os.environ.get("DGMLAB_DEBUG"):
            raise
        line = f"{type(error).__name__}: {error.args[0] if len(error.args) == 1 else error}"
        if main_process and run.status.get("pid") == os.getpid():  # started, and stopped before its first step
            run.set_status("failed", error=line)
        print(line, file=sys.stderr)
        return 2
    for name, value in numbers.items():
        print(f"{name:24} {value:.6g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
