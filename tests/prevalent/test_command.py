"""Training a network of navigation from a shell: each notebook's recipes fit the loop that it trains."""

import json

import pytest

from dgmlab.command import build_config
from dgmlab.notebooks import list_recipes, read_recipe
from dgmlab.prevalent.__main__ import LOOPS, NOTEBOOKS, SWITCHES, find_loop, main


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_recipe_chooses_the_loop(notebook, tmp_path):
    path = tmp_path / "mine.yaml"
    for name in (notebook, notebook[:2], f"{notebook}.ipynb"):
        path.write_text(json.dumps({"notebook": name, "parameters": {}}))  # JSON is YAML
        assert find_loop(str(path)) == NOTEBOOKS[notebook]


def test_every_recipe_of_a_training_notebook_fits_its_loop():
    found = [path for path in list_recipes() if read_recipe(path)[1].get("notebook") in NOTEBOOKS]
    assert {read_recipe(path)[1]["notebook"] for path in found} >= {"33_agent_train", "36_hanna_train"}
    for path in found:
        model, defaults = find_loop(path)
        build_config(LOOPS[model][1], path, [], SWITCHES, **defaults)


@pytest.mark.parametrize(("words", "message"), [
    ([], "which network of navigation? Give a recipe that names its notebook, or --model: speaker, encoder, agent, hanna."),
    (["-f", "cifar10_biggan"], "no training notebook of a network of navigation is called '21_biggan_train'."),
    (["--model", "hanna", "-p", "twin=true"], "no field of HannaConfig is called 'twin'."),
])
def test_mistakes_are_one_line(words, message, tmp_path, capsys):
    assert main([str(tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "run").exists()
