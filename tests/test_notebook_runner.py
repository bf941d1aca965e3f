"""The runner, with real kernels on notebooks of a few lines."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dgmlab import kernel, notebooks

PARAMETERS = """\
n_steps: int = 3  # optimizer steps
rate: float = 0.5  # step size
corpus: str = "grammar"  # what to read
verbose: bool = False  # print more"""


def write_notebook(home, name, *cells, parameters=PARAMETERS):
    """A notebook in HOME/notebooks: heading, parameters cell, cells."""
    heading = new_markdown_cell(f"# Title of {name}")
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (home / "notebooks" / "recipes").mkdir(parents=True, exist_ok=True)
    path = home / "notebooks" / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=[heading, tagged, *map(new_code_cell, cells)], metadata=spec), path)
    return path


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A home folder with one notebook, 11_toy_train, that reports what it sees into samples/seen.json."""
    monkeypatch.setenv("DGMLAB_HOME", str(tmp_path))
    monkeypatch.delenv("DGMLAB_DATA", raising=False)
    monkeypatch.delenv("DGMLAB_RUN", raising=False)
    write_notebook(
        tmp_path, "11_toy_train",
        "import os, json, time\nfrom pathlib import Path\nrun = Path(os.environ['DGMLAB_RUN'])",
        "seen = dict(n_steps=n_steps, rate=rate, corpus=corpus, verbose=verbose, cwd=os.getcwd(), env=dict(os.environ))\n"
        "(run / 'seen.json').write_text(json.dumps(seen))",
        "for i in range(n_steps):\n    print('said', i, flush=True)\nassert rate > 0, 'rate must be positive'",
    )
    return tmp_path


def seen(outcome):
    return json.loads((outcome.folder / "seen.json").read_text())


def status(folder):
    return json.loads((folder / "status.json").read_text())


# what is there


def test_notebook_is_found_by_number_start_or_name(lab):
    write_notebook(lab, "12_toy_explore")
    for name in ("11", "11_toy", "11_toy_train", "11_toy_train.ipynb", str(lab / "notebooks" / "11_toy_train.ipynb")):
        assert notebooks.find_notebook(name).name == "11_toy_train.ipynb"
    with pytest.raises(KeyError, match="Did you mean '11_toy_train'.*Choose one of: 11_toy_train, 12_toy_explore"):
        notebooks.find_notebook("11_toy_tarin")
    with pytest.raises(KeyError, match="could be any of: 11_toy_train, 12_toy_explore"):
        notebooks.find_notebook("1")


def test_parameters_cell_is_read_with_types_defaults_and_help(lab):
    found = notebooks.parameters_of(notebooks.find_notebook("11"))
    assert [tuple(p) for p in found.values()] == [
        ("n_steps", int, 3, "optimizer steps"), ("rate", float, 0.5, "step size"),
        ("corpus", str, "grammar", "what to read"), ("verbose", bool, False, "print more"),
    ]
    assert notebooks.title(notebooks.find_notebook("11")) == "Title of 11_toy_train"


# what is refused before anything runs


def test_unknown_parameter_names_the_closest_and_all_valid_ones(lab):
    with pytest.raises(KeyError, match="'n_step'. Did you mean 'n_steps'.*n_steps, rate, corpus, verbose"):
        notebooks.plan_run("11", {"n_step": "3"})
    assert not (lab / "runs").exists()


@pytest.mark.parametrize(
    "name, value, found",
    [("n_steps", "many", "must be int, found 'many'"), ("n_steps", 2.5, "must be int, found 2.5"),
     ("n_steps", True, "must be int, found True"), ("rate", "fast", "must be float"), ("verbose", "maybe", "must be bool"),
     ("corpus", 3, "must be str, found 3")],
)
def test_value_of_another_type_is_refused(lab, name, value, found):
    with pytest.raises(TypeError, match=f"parameter '{name}' {found}"):
        notebooks.plan_run("11", {name: value})


def test_strings_of_a_command_line_are_read_as_the_annotated_type(lab):
    given = notebooks.plan_run("11", {"n_steps": "300", "rate": "1e-4", "corpus": "7", "verbose": "true"}).given
    assert given == {"n_steps": 300, "rate": 1e-4, "corpus": "7", "verbose": True}
    whole = notebooks.plan_run("11", {"rate": 2}).given["rate"]
    assert whole == 2.0 and isinstance(whole, float)


def test_paths_are_those_of_the_folder_one_stands_in(lab, tmp_path, monkeypatch):
    (tmp_path / "here" / "news").mkdir(parents=True)
    (tmp_path / "here" / "my.txt").write_text("a line")
    monkeypatch.chdir(tmp_path / "here")
    for given, read in {"my.txt": f"{tmp_path}/here/my.txt", "shards:*.txt": f"shards:{tmp_path}/here/*.txt", "news": "news",
                        "./news": f"{tmp_path}/here/news", "absent.txt": "absent.txt", "hub:me/news": "hub:me/news"}.items():
        assert notebooks.plan_run("11", {"corpus": given}).given == {"corpus": read}


def test_recipe_gives_parameters_and_overrides_win(lab):
    (lab / "notebooks" / "recipes" / "big.yaml").write_text(
        "notebook: 11_toy_train\ndescription: more\nparameters:\n  n_steps: 9\n  rate: 1e-3\n"
    )
    plan = notebooks.plan_run(None, {"n_steps": "5"}, "big")
    assert plan.given == {"n_steps": 5, "rate": 1e-3}  # YAML itself reads 1e-3 as a string
    assert plan.folder.parent == lab / "runs" / "11_toy_train"
    assert plan.folder.name.startswith("big-") and len(plan.folder.name) == len("big-") + 6
    assert notebooks.plan_run(None, None, "big").folder.name == "big"
    assert notebooks.plan_run("11").folder.name == "default"


@pytest.mark.parametrize(
    "text, kind, message",
    [("parameter:\n  n_steps: 1\n", KeyError, "key of a recipe is called 'parameter'. Did you mean 'parameters'"),
     ("parameters: [1, 2]\n", TypeError, "'parameters' must map names to values, found list"),
     ("parameters: {n_step: 1}\n", KeyError, "Did you mean 'n_steps'"),
     ("- a\n", TypeError, "must hold keys"), ("a: [\n", ValueError, "not valid YAML"),
     ("notebook: 12_toy_explore\n", ValueError, "is for 12_toy_explore, not for 11_toy_train")],
)
def test_bad_recipe_is_named(lab, text, kind, message):
    write_notebook(lab, "12_toy_explore")
    (lab / "bad.yaml").write_text(text)
    with pytest.raises(kind, match=message):
        notebooks.plan_run("11", None, str(lab / "bad.yaml"))


def test_missing_recipe_lists_the_ones_there_are(lab):
    (lab / "notebooks" / "recipes" / "big.yaml").write_text("parameters: {}\n")
    with pytest.raises(FileNotFoundError, match="recipe 'bgi' was expected.*Recipes: big"):
        notebooks.plan_run("11", None, "bgi")


# running


def test_run_injects_parameters_and_leaves_notebook_page_and_status(lab, monkeypatch):
    data = lab / "corpora"
    monkeypatch.chdir(lab)
    monkeypatch.setenv("DGMLAB_DATA", "corpora")
    lines = []
    plan = notebooks.plan_run("11", {"n_steps": "2"})
    outcome = notebooks.run_notebook(plan, say=lines.append)

    found = seen(outcome)
    assert (outcome.state, outcome.error) == ("done", None)
    assert (found["n_steps"], found["rate"], found["corpus"]) == (2, 0.5, "grammar")
    assert found["cwd"] == str(lab / "notebooks")
    assert found["env"]["DGMLAB_DATA"] == str(data) and found["env"]["DGMLAB_RUN"] == str(plan.folder)
    assert [line for line in lines if "said" in line] == ["  said 0", "  said 1"]
    assert status(plan.folder)["state"] == "done"
    assert json.loads((plan.folder / "env.json").read_text())["command"] == "dgmlab run 11 -p n_steps=2"
    executed = nbformat.read(plan.folder / "notebook.ipynb", 4)
    assert "".join(output.text for output in executed.cells[-1].outputs) == "said 0\nsaid 1\n"
    assert "said 1" in (plan.folder / "notebook.html").read_text()


def test_failing_cell_is_named_and_its_notebook_kept(lab):
    outcome = notebooks.run_notebook(notebooks.plan_run("11", {"rate": "-1"}), say=lambda line: None)
    # the fifth cell of the notebook as it is stored: heading, parameters, two cells, this one
    assert outcome.error == "cell 5 `for i in range(n_steps):`: AssertionError: rate must be positive"
    assert status(outcome.folder)["state"] == "failed" and status(outcome.folder)["error"] == outcome.error
    kept = nbformat.read(outcome.folder / "notebook.ipynb", 4)
    assert any(out.output_type == "error" for cell in kept.cells for out in cell.get("outputs", []))
    assert "rate must be positive" in (outcome.folder / "notebook.html").read_text()


def test_kernel_that_dies_is_a_failing_cell(lab):
    write_notebook(lab, "13_toy_die", "x = 1", "import os\nos.system('echo CUDA is on fire >&2'); os._exit(9)")
    outcome = notebooks.run_notebook(notebooks.plan_run("13"), say=lambda line: None)
    assert outcome.state == "failed"
    assert "cell 4 `import os`" in outcome.error and "kernel died" in outcome.error
    assert outcome.error.endswith("it said: CUDA is on fire")


def test_kernel_that_does_not_start_is_tried_again(lab, monkeypatch):
    from jupyter_client.manager import AsyncKernelManager

    start, tries = AsyncKernelManager.start_kernel, []

    async def flaky(self, **options):
        tries.append(self.transport)
        if len(tries) < 3:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return await start(self, **options)

    monkeypatch.setattr(AsyncKernelManager, "start_kernel", flaky)
    lines = []
    assert notebooks.run_notebook(notebooks.plan_run("11"), say=lines.append).state == "done"
    assert tries == ["ipc"] * 3 and "attempt 3 of 3" in " ".join(lines)

    monkeypatch.setattr(kernel, "KERNEL_ATTEMPTS", 1)
    tries.clear()
    with pytest.raises(OSError, match="the Jupyter kernel did not start in 1 attempts"):
        notebooks.run_notebook(notebooks.plan_run("11"), say=lines.append)
    assert status(notebooks.plan_run("11").folder)["state"] == "failed"


def test_progress_is_read_from_the_run_and_the_runs_inside(tmp_path):
    lines = []
    inner = tmp_path / "gpt2"
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "status.json").write_text('{"step": 9, "line": "of an earlier run"}')
    os.utime(tmp_path / "vae" / "status.json", (1, 1))
    progress = kernel.Progress(tmp_path, lines.append, every=0.1)
    progress.enter([None] * 7, 2)
    with progress:
        inner.mkdir()
        (tmp_path / "status.json").write_text('{"state": "running"}')
        (inner / "status.json").write_text('{"step": 120, "n_steps": 300, "line": "kl 3.2"}')
        time.sleep(0.3)
        progress.write("first\nbar 10%\rbar 100%\nrest")
    assert lines == ["[cell 3/7] gpt2: step 120/300  kl 3.2", "  first", "  bar 100%", "  rest"]


# again


def test_same_command_resumes_other_parameters_are_refused_and_fresh_moves_aside(lab):
    plan = notebooks.plan_run("11")
    plan.folder.mkdir(parents=True)
    (plan.folder / "checkpoint").write_text("precious")
    notebooks.run_notebook(plan, say=lambda line: None)
    assert (plan.folder / "checkpoint").read_text() == "precious"

    write_notebook(lab, "11_toy_train", "pass", parameters=PARAMETERS.replace("= 3", "= 4"))
    edited = notebooks.plan_run("11")
    with pytest.raises(ValueError, match=r"n_steps: 3 -> 4\). Add --fresh"):
        notebooks.run_notebook(edited, say=lambda line: None)
    notebooks.run_notebook(edited, fresh=True, say=lambda line: None)
    aside = [path for path in plan.folder.parent.iterdir() if path.name.startswith("default.old-")]
    assert [(path / "checkpoint").read_text() for path in aside] == ["precious"]
    assert not (plan.folder / "checkpoint").exists()


def children_of(pid):
    """Pids whose parent is `pid`, read from /proc."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            stat = open(f"/proc/{entry}/stat").read() if entry.isdigit() else ""
        except OSError:
            continue
        if stat and int(stat.rpartition(")")[2].split()[1]) == pid:
            found.append(int(entry))
    return found


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
@pytest.mark.parametrize("sign, code", [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_interrupted_run_leaves_no_kernel_and_says_how_to_resume(lab, sign, code):
    waiting = "import pathlib, os, time\npathlib.Path(os.environ['DGMLAB_RUN'], 'busy').touch()\ntime.sleep(n_steps)"
    write_notebook(lab, "14_toy_wait", waiting)
    command = [sys.executable, "-m", "dgmlab", "run", "14", "-p", "n_steps", "60"]
    # a shell's background job starts with SIGINT ignored, and would hand that on
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    folder = notebooks.plan_run("14", {"n_steps": 60}).folder
    deadline = time.time() + 40
    while not (folder / "busy").exists():
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.1)
    kernels = children_of(process.pid)
    assert kernels

    with pytest.raises(ValueError, match="is in use by another dgmlab run"):
        notebooks.run_notebook(notebooks.plan_run("14", {"n_steps": 60}), say=lambda line: None)
    process.send_signal(sign)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == code
    assert "interrupted. Resume with: dgmlab run 14 -p n_steps=60" in output
    assert "Traceback" not in output
    assert status(folder)["state"] == "interrupted"
    assert not [pid for pid in kernels if os.path.exists(f"/proc/{pid}")]
    assert (folder / "notebook.ipynb").exists() and (folder / "notebook.html").exists()
