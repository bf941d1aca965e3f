"""What every notebook keeps to, checked without running it: parameters, size, nothing but prose, calls and pictures."""

import ast
import io
import json
import re
import tokenize
from pathlib import Path

import pytest
import yaml

from dgmlab.notebooks import plan_run

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
RECIPES = sorted((Path(__file__).resolve().parents[1] / "notebooks" / "recipes").glob("*.yaml"))
EXPECTED = {"00_start_here", "10_optimus_tour", "11_optimus_train", "12_latent_space_explore", "13_low_resource_evaluate",
            "14_conditional_generation", "15_dialog_train", "16_rate_distortion_compare", "20_quantizer_tour",
            "21_biggan_train", "22_tacgan_train", "23_stylegan_train", "24_ugatit_train", "25_fqgan_compare", "26_toy_compare",
            "30_house_tour", "31_speaker_train", "32_prevalent_train", "33_agent_train", "34_navigation_evaluate",
            "35_episode_explore", "36_hanna_train"}
STEP_CALLS = ("backward", "zero_grad", "clip_grad_norm_")

each_notebook = pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in NOTEBOOKS])


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def code_cells(path):
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]


def faults_of_code(text):
    """What a code cell must not hold: classes, training loops, functions over ten lines, shell lines, over 15 lines."""
    faults = []
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 15:
        faults.append(f"{len(lines)} lines, at most 15")
    if any(line.lstrip().startswith(("%", "!")) for line in lines):
        return [*faults, "a magic or shell line; plain Python runs everywhere"]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            faults.append(f"class {node.name}; classes live in dgmlab/")
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > 10:
            faults.append(f"function {node.name} is over ten lines; it belongs in dgmlab/")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in STEP_CALLS:
            faults.append(f"a training step (.{node.func.attr}); loops live in dgmlab/")
    return faults


def faults_of_parameters(text):
    """Lines of a `parameters` cell that are not `name: type = value  # help`."""
    comments = {token.start[0] for token in tokenize.generate_tokens(io.StringIO(text).readline)
                if token.type == tokenize.COMMENT}
    faults = []
    for node in ast.parse(text).body:
        what = ast.get_source_segment(text, node)
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            faults.append(f"{what!r} is not `name: type = value`")
        elif node.end_lineno not in comments:
            faults.append(f"{what!r} has no comment; `dgmlab list` prints it as help")
    return faults


def test_the_notebooks_that_should_exist_do():
    stems = {path.stem for path in NOTEBOOKS}
    if not stems:
        pytest.skip("there is no notebook yet")
    assert EXPECTED <= stems, f"missing: {sorted(EXPECTED - stems)}"
    assert all(re.fullmatch(r"\d\d_[a-z0-9]+(_[a-z0-9]+)+", stem) for stem in stems), "named NN_subject_verb"
    assert len({stem[:2] for stem in stems}) == len(stems), "two notebooks share a number"


@each_notebook
def test_notebook_is_stripped_and_runs_on_python3(path):
    book = read(path)
    assert book["nbformat"] == 4
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    for cell in code_cells(path):
        assert cell["outputs"] == [] and cell["execution_count"] is None, f"stored output at: {source(cell)[:60]!r}"


@each_notebook
def test_notebook_opens_with_its_title_and_has_10_to_25_code_cells(path):
    first = read(path)["cells"][0]
    assert first["cell_type"] == "markdown" and source(first).startswith("# ")
    assert 10 <= len(code_cells(path)) <= 25


@each_notebook
def test_parameters_are_annotated_and_explained(path):
    tagged = [cell for cell in code_cells(path) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1, "one cell is tagged `parameters`"
    assert faults_of_parameters(source(tagged[0])) == []
    assert source(tagged[0]).strip(), "the cell has no parameter"


@each_notebook
def test_code_is_calls_and_pictures(path):
    found = [f"{source(cell)[:50]!r}: {fault}" for cell in code_cells(path) for fault in faults_of_code(source(cell))
             if not ("parameters" in cell["metadata"].get("tags", []) and fault.endswith("at most 15"))]
    assert found == []


@each_notebook
def test_notebook_states_its_lesson_as_facts(path):
    facts = [node for cell in code_cells(path) for node in ast.walk(ast.parse(source(cell))) if isinstance(node, ast.Assert)]
    assert facts, "no assert: with stripped outputs, nothing else is checked when the notebook runs"


@each_notebook
def test_cells_have_ids_and_no_skip_tags(path):
    cells = read(path)["cells"]
    ids = [cell.get("id") for cell in cells]
    assert None not in ids and len(set(ids)) == len(ids)
    tags = {tag for cell in cells for tag in cell["metadata"].get("tags", [])}
    assert not tags & {"nbval-skip", "raises-exception"}, "a skipped or failing cell hides a broken notebook"


def test_the_rules_themselves():
    assert faults_of_code("x = f(1)\nplot(x);") == []
    assert "class A" in faults_of_code("class A:\n    pass")[0]
    assert "training step" in faults_of_code("for x in data:\n    f(x).backward()")[0]
    assert "over ten lines" in faults_of_code("def f():\n" + "    g()\n" * 10)[0]
    assert faults_of_code("def f():\n" + "    g()\n" * 9) == []
    assert "16 lines" in faults_of_code("x = 1\n" * 16)[0]
    assert "magic" in faults_of_code("%matplotlib inline")[0]
    assert faults_of_parameters("n: int = 3  # how many\nname: str = 'a#b'  # which") == []
    assert len(faults_of_parameters("n: int = 3\nm = 4  # no type\nname: str = 'a # b'")) == 3


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_accepted_and_says_how_it_is_run(recipe):
    plan = plan_run(recipe=recipe)
    assert plan.folder.name == recipe.stem and plan.notebook.stem in EXPECTED
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert set(content) == {"notebook", "description", "parameters"} and len(content["description"]) > 20
    assert recipe.read_text(encoding="utf-8").startswith(f"# dgmlab run -f {recipe.stem}  ")
