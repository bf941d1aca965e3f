"""Training from a shell, without a notebook."""

import json
import subprocess
import sys

import pytest

from dgmlab.command import build_config
from dgmlab.notebooks import list_recipes, only_one, read_recipe
from dgmlab.optimus.__main__ import LOOPS, NOTEBOOKS, SWITCHES, find_loop, main

SMALLEST = ["vocab_size=0", "max_length=16", "limit=64", "n_steps=3", "batch_size=8", "n_watch=8", "n_eval=8", "iw_samples=2",
            "latent_size=4", "precision=fp32"]


def call(*words):
    command = [sys.executable, "-m", "dgmlab.optimus", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_training_from_a_shell_with_a_recipe(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("parameters:\n  data: grammar\n  lr: 1e-3\n  twin: false\n")
    options = [word for pair in SMALLEST for word in ("-p", pair)]
    done = call(tmp_path / "run", "-f", recipe, *options)
    assert done.returncode == 0, done.stderr
    assert "ppl_iw2" in done.stdout
    params = json.loads((tmp_path / "run" / "params.json").read_text())
    assert params["lr"] == 1e-3 and params["n_steps"] == 3
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "done"
    twin = call(tmp_path / "twin", "--twin", *options)
    assert twin.returncode == 0 and "ppl_word" in twin.stdout


def recipe_for(folder, notebook):
    path = folder / f"{notebook[:2]}.yaml"
    path.write_text(f"notebook: {notebook}\nparameters: {{}}\n")
    return str(path)


def test_the_notebook_of_a_recipe_chooses_the_loop(tmp_path):
    for notebook, found in NOTEBOOKS.items():
        assert find_loop(recipe_for(tmp_path, notebook)) == find_loop(recipe_for(tmp_path, notebook[:2])) == found
        assert found[0] in LOOPS
    plain = tmp_path / "plain.yaml"
    plain.write_text("parameters: {}\n")
    assert find_loop(None)[0] == find_loop(str(plain))[0] == "optimus"
    assert find_loop(recipe_for(tmp_path, "11_optimus_train"), "twin")[0] == find_loop(None, "twin")[0] == "twin"
    with pytest.raises(KeyError, match="no training notebook of a language model is called '21_biggan_train'"):
        find_loop(recipe_for(tmp_path, "21_biggan_train"))


def test_every_recipe_of_a_training_notebook_fits_its_loop():
    for path in list_recipes():
        if read_recipe(path)[1].get("notebook") in NOTEBOOKS:
            model, defaults = find_loop(path)
            build_config(LOOPS[model][1], path, [], SWITCHES, **defaults)


def test_twin_is_a_model_among_others(tmp_path, capsys):
    options = [word for pair in (*SMALLEST, "data=grammar") for word in ("-p", pair)]
    assert main([str(tmp_path / "a"), "--twin", *options]) == main([str(tmp_path / "b"), "--model", "twin", *options]) == 0
    lines = capsys.readouterr().out.split("\n")
    numbers = [line for line in lines if line.startswith("ppl ")]
    assert len(numbers) == 2 and numbers[0] == numbers[1]
    params = [json.loads((tmp_path / name / "params.json").read_text()) for name in "ab"]
    assert params[0] == params[1] and params[0]["twin"] is True and "model" not in params[0]


def test_paper_recipe_trains_from_local_backbones_and_another_run_takes_it_up(tmp_path, backbones, capsys):
    encoder, decoder = backbones
    options = ["data=grammar", f"encoder={encoder}", f"decoder={decoder}", "latent_size=8", "max_length=40", "limit=64",
               "n_steps=4", "n_watch=8", "n_eval=8", "iw_samples=2", "precision=fp32"]
    options = [word for option in options for word in ("-p", option)]
    assert main([str(tmp_path / "paper"), "-f", "ptb_paper", *options]) == 0
    assert main([str(tmp_path / "twin"), "-f", "ptb_paper", "--twin", *options]) == 0
    assert main([str(tmp_path / "more"), "-f", "ptb_paper", *options, "-p", f"init={tmp_path / 'paper' / 'model'}"]) == 0
    capsys.readouterr()
    assert main([str(tmp_path / "wrong"), "-f", "ptb_paper", *options, "-p", "latent_size=9",
                 "-p", f"init={tmp_path / 'paper' / 'model'}"]) == 2
    assert "latent_size is 8 in this checkpoint but 9 was asked for" in capsys.readouterr().err


def test_a_refused_run_has_failed_and_can_begin_anew(tmp_path, capsys):
    options = [word for pair in (*SMALLEST, "data=grammar") for word in ("-p", pair)]
    assert main([str(tmp_path / "run"), *options, "-p", "size=huge"]) == 2
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "failed" and "huge" in status["error"]
    assert main([str(tmp_path / "run"), *options]) == 2
    assert "start over with --fresh" in capsys.readouterr().err
    assert main([str(tmp_path / "run"), *options, "--fresh"]) == 0
    with only_one(tmp_path / "run"):
        assert main([str(tmp_path / "run"), *options]) == 2
    assert "is in use by another dgmlab run" in capsys.readouterr().err


MISTAKES = {
    "free_bit=1": "no field of TrainConfig is called 'free_bit'. Did you mean 'free_bits'?",
    "n_steps=many": "parameter 'n_steps' must be int, found 'many'",
    "data=nowhere": "nowhere",
    "size=huge": "no preset of Optimus is called 'huge'",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake, tmp_path, capsys):
    assert main([str(tmp_path / "run"), "-p", "vocab_size=0", "-p", mistake]) == 2
    error = capsys.readouterr().err
    assert MISTAKES[mistake] in error and error.count("\n") == 1
