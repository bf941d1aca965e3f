"""Training a GAN from a shell, without a notebook."""

import json

import pytest

from dgmlab.command import build_config
from dgmlab.fqgan.__main__ import LOOPS, NOTEBOOKS, SWITCHES, find_loop, main
from dgmlab.notebooks import list_recipes, read_recipe

SMALLEST = {
    "biggan": ["data=digits", "width=2", "limit=64", "batch_size=4", "n_watch=32", "n_eval=32"],
    "stylegan": ["data=digits", "resolution=8", "channel_base=64", "channel_max=8", "z_size=4", "w_size=4", "limit=64",
                 "batch_size=4", "n_watch=32", "n_eval=32"],
    "ugatit": ["image_size=16", "channels=4", "n_blocks=1", "limit=16", "n_eval=8"],
}


@pytest.mark.parametrize("model", LOOPS)
def test_training_from_a_shell(model, tmp_path, capsys):
    words = [word for pair in (*SMALLEST[model], "n_steps=1", "precision=fp32") for word in ("-p", pair)]
    assert main([str(tmp_path / "run"), "--model", model, *words]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.splitlines()
    params = json.loads((tmp_path / "run" / "params.json").read_text())
    assert params["model"] == model and params["n_steps"] == 1
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"
    assert (tmp_path / "run" / "model").is_dir()


def recipe_for(folder, notebook, **parameters):
    path = folder / "mine.yaml"
    path.write_text(json.dumps({"notebook": notebook, "parameters": parameters}))  # JSON is YAML
    return str(path)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_recipe_chooses_the_loop(notebook, tmp_path):
    for name in (notebook, notebook[:2], f"{notebook}.ipynb"):
        assert find_loop(recipe_for(tmp_path, name)) == NOTEBOOKS[notebook]
    assert find_loop(recipe_for(tmp_path, notebook), NOTEBOOKS[notebook][0]) == NOTEBOOKS[notebook]


def test_notebook_22_trains_two_classifiers_unless_its_recipe_says_otherwise(tmp_path, monkeypatch):
    heads = []
    monkeypatch.setitem(LOOPS, "biggan", (lambda run, config: heads.append(config.head) or {}, LOOPS["biggan"][1]))
    for given in ({"width": 3}, {"head": "ac"}):
        assert main([str(tmp_path / f"run{len(heads)}"), "-f", recipe_for(tmp_path, "22_tacgan_train", **given)]) == 0
    assert main([str(tmp_path / "plain"), "--model", "biggan"]) == 0
    assert heads == ["tac", "ac", "projection"]


def test_every_recipe_of_a_training_notebook_fits_its_loop():
    for path in list_recipes():
        if read_recipe(path)[1].get("notebook") in NOTEBOOKS:
            model, defaults = find_loop(path)
            build_config(LOOPS[model][1], path, [], SWITCHES, **defaults)


@pytest.mark.parametrize(("words", "message"), [
    ([], "which GAN? Give a recipe that names its notebook, or --model: biggan, stylegan, ugatit."),
    (["-f", "ptb_small"], "recipe ptb_small: no training notebook of a GAN is called '11_optimus_train'."),
    (["--model", "stylegan", "-p", "head=tac"], "no field of StyleGANConfig is called 'head'."),
])
def test_mistakes_are_one_line(words, message, tmp_path, capsys):
    assert main([str(tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_model_that_the_recipe_does_not_train_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "run"), "-f", recipe_for(tmp_path, "23_stylegan_train"), "--model", "biggan"]) == 2
    assert "recipe mine is for 23_stylegan_train, which trains stylegan, not biggan. Leave --model out." in (
        capsys.readouterr().err)
