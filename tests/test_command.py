"""The command that starts a training loop, with a loop that trains nothing."""

import json
from dataclasses import dataclass

import pytest

from dgmlab import training
from dgmlab.command import Loop, build_config, guarded, make_parser, run_loop
from dgmlab.notebooks import only_one
from dgmlab.run import Run


@dataclass(frozen=True)
class Config:
    """What the toy loop takes."""

    n_steps: int = 3
    rate: float = 0.5
    name: str = "a"
    mirror: bool = False


@pytest.fixture
def go(tmp_path, monkeypatch):
    """`go(train, words...)` -> exit code, in the folder tmp_path / "run"."""
    monkeypatch.delenv("RANK", raising=False)

    def call(train, *words):
        asked = make_parser("toy", "A toy.", Config).parse_args([str(tmp_path / "run"), *words])

        def choose():
            config = build_config(Config, asked.recipe, asked.parameter, ("show",))
            return Loop(train, config, vars(config))

        return run_loop(asked, choose)

    return call


def status(folder):
    return json.loads((folder / "run" / "status.json").read_text())


def finish(run, config):
    with training.reported(run):
        return {"loss": config.rate / config.n_steps}


def test_recipe_and_words_become_a_config(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("notebook: 21_x\nparameters:\n  rate: 1e-3\n  show: true\n  mirror: true\n")
    assert build_config(Config, str(recipe), ["n_steps=7", "name=b=c"], ("show",), name="z") == Config(7, 1e-3, "b=c", True)
    assert build_config(Config, str(recipe), ["mirror=no"], ("show",), rate=9.0, name="z") == Config(3, 1e-3, "z", False)
    assert build_config(Config, None, []) == Config()
    with pytest.raises(KeyError, match="no parameter of Config is called 'show'"):
        build_config(Config, str(recipe), [])


def test_numbers_are_printed_and_the_run_is_done(go, tmp_path, capsys):
    assert go(finish, "-p", "rate=1.5") == 0
    assert capsys.readouterr().out.split() == ["loss", "0.5"]
    assert json.loads((tmp_path / "run" / "params.json").read_text())["rate"] == 1.5 and status(tmp_path)["state"] == "done"
    assert go(finish, "-p", "rate=1.5") == 0, "the same command again"
    assert go(finish, "-p", "rate=2") == 2
    assert "rate: 1.5 -> 2.0" in capsys.readouterr().err and status(tmp_path)["state"] == "done", "refused, and left alone"
    assert go(finish, "-p", "rate=2", "--fresh") == 0
    assert len(list(tmp_path.glob("run.old-*"))) == 1


@pytest.mark.parametrize(("words", "message"), [
    (["-p", "n_step=1"], "KeyError: no field of Config is called 'n_step'. Did you mean 'n_steps'?"),
    (["-p", "n_steps"], "ValueError: -p takes NAME=VALUE, found 'n_steps'."),
    (["-p", "n_steps=many"], "TypeError: parameter 'n_steps' must be int, found 'many'"),
    (["-f", "nowhere"], "FileNotFoundError: recipe 'nowhere' was expected"),
])
def test_mistakes_are_one_line_and_write_nothing(words, message, go, tmp_path, capsys):
    assert go(finish, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_failure_is_noted_once_whoever_sees_it_first(go, tmp_path, monkeypatch, capsys):
    from dgmlab.run import Run

    def early(run, config):
        raise ValueError("precision is 'fp8'")

    def late(run, config):
        with training.reported(run):
            raise FloatingPointError("loss is nan at step 3")

    noted, real = [], Run.set_status
    monkeypatch.setattr(Run, "set_status",
                        lambda self, state=None, **info: (noted.append(state), real(self, state, **info)))
    for train, line in ((early, "ValueError: precision is 'fp8'"), (late, "FloatingPointError: loss is nan at step 3")):
        noted.clear()
        assert go(train) == 2
        assert noted.count("failed") == 1 and status(tmp_path)["error"] == line
        assert capsys.readouterr().err == line + "\n"


def test_interruption_has_its_own_code(go, tmp_path, capsys):
    def interrupted(run, config):
        with training.reported(run):
            raise KeyboardInterrupt

    assert go(interrupted) == 130
    assert "the same command goes on" in capsys.readouterr().err and status(tmp_path)["state"] == "interrupted"


def test_a_folder_in_use_is_refused(go, tmp_path, capsys):
    with only_one(tmp_path / "run"):
        assert go(finish) == 2
    assert "is in use by another dgmlab run" in capsys.readouterr().err


def test_other_ranks_of_torchrun_write_nothing(go, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with only_one(tmp_path / "run"):  # of rank 0
        assert go(lambda run, config: {}) == 0
        assert go(lambda run, config: 1 / 0 if config.n_steps == 0 else {}.pop("x"), "--fresh") == 2
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_errors_pass_through_for_a_developer(go, monkeypatch):
    monkeypatch.setenv("DGMLAB_DEBUG", "1")
    with pytest.raises(KeyError):
        go(finish, "-p", "n_step=1")


def test_help_lists_the_fields(capsys):
    with pytest.raises(SystemExit) as stopped:
        make_parser("toy", "A toy.", Config).parse_args(["--help"])
    assert stopped.value.code == 0 and "parameters of Config: n_steps, rate, name, mirror" in capsys.readouterr().out


def test_a_folder_that_a_recipe_names_is_found_from_any_working_folder(tmp_path, monkeypatch):
    from dgmlab.run import locate

    (tmp_path / "home" / "runs" / "encoder").mkdir(parents=True)
    (tmp_path / "elsewhere" / "near").mkdir(parents=True)
    monkeypatch.setenv("DGMLAB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert locate("runs/encoder") == tmp_path / "home" / "runs" / "encoder"
    assert locate("near").resolve() == tmp_path / "elsewhere" / "near", "what is in the working folder comes first"
    assert locate(tmp_path / "nowhere") == tmp_path / "nowhere"


@pytest.mark.parametrize("error, code, told", (
    (None, 0, ""), (ValueError("expected a, found b. Do c."), 2, "ValueError: expected a, found b. Do c.\n"),
    (KeyError("no such thing"), 2, "KeyError: no such thing\n"),
    (FileNotFoundError(2, "No such file or directory", "x.txt"), 2, "FileNotFoundError: No such file or directory: x.txt\n"),
    (KeyboardInterrupt(), 130, "interrupted; the same command goes on\n")))
def test_a_mistake_is_one_line_and_an_exit_code(error, code, told, capsys, monkeypatch):
    monkeypatch.delenv("DGMLAB_DEBUG", raising=False)

    def act():
        if error is not None:
            raise error

    assert guarded(act) == code and capsys.readouterr().err == told


def test_a_fault_is_not_taken_for_a_mistake(monkeypatch):
    def fail():
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        guarded(fail)
    assert guarded(fail, (RuntimeError,)) == 2
    monkeypatch.setenv("DGMLAB_DEBUG", "1")
    with pytest.raises(RuntimeError, match="ours"):
        guarded(fail, (RuntimeError,))


def test_a_run_is_finished_when_its_numbers_and_its_model_are_there(tmp_path):
    run = Run(tmp_path)
    assert run.finished() == {}
    run.save_results({"nll": 1.5})
    assert run.finished() == {}, "the model is missing"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert run.finished() == {"nll": 1.5} and run.finished("model/about.json") == {}
