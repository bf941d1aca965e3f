"""The rules of the house, checked over every tracked file (code and texts; notebooks are in test_notebook_rules)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dgmlab"

LAYERS = {
    **dict.fromkeys(("__init__", "run", "config", "training", "checkpoint", "notebooks", "kernel", "sweep", "command"), 0),
    **dict.fromkeys(("data", "metrics", "quantize", "decoding"), 1),
    **dict.fromkeys(("optimus", "fqgan", "prevalent", "igpt", "textgen", "randwire", "mac", "memory"), 2),
    **dict.fromkeys(("viz", "widgets", "report"), 3),
    **dict.fromkeys(("cli", "__main__", "bench", "bench_gan", "bench_navigation", "doctor"), 4),
}
JUPYTER = ("IPython", "ipykernel", "ipywidgets", "jupyter_client", "jupyter_core", "jupyter_server", "jupyterlab", "nbclient",
           "nbconvert", "nbformat", "notebook", "traitlets")
NEEDED_BY_NO_CORE = (*JUPYTER, "papermill", "nbval", "datasets", "submitit", "playwright")
CORE = ("run", "config", "training", "optimus", "fqgan", "quantize", "data", "metrics")


def tracked():
    """Paths of the tracked files; in an unpacked archive, of the files that a checkout would have."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    if not any(names):
        tops = ("dgmlab", "tests", "notebooks", "figures")
        found = [path for top in tops for path in (ROOT / top).rglob("*")] + list(ROOT.glob("*"))
        return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)
    return sorted(ROOT / name for name in names if name and (ROOT / name).is_file())


TRACKED = tracked()
PYTHON = [path for path in TRACKED if path.suffix == ".py"]
MODULES = [path for path in PYTHON if PACKAGE in path.parents]
TEXTS = [path for path in TRACKED if path.suffix in (".py", ".md", ".ipynb", ".toml", ".yml", ".yaml", ".txt", ".cfg", "")]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PYTHON}


def name_of(path):
    return str(path.relative_to(ROOT))


def each(paths):
    """One test a file, named by its path."""
    return pytest.mark.parametrize("path", [pytest.param(path, id=name_of(path)) for path in paths])


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def import_nodes(nodes):
    """(line, dotted module) of each import among `nodes`; `from a.b import c` gives a.b and a.b.c."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the whole name, from dgmlab.x import y"
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room(dotted):
    """The room of the package that a dotted module is in ('optimus' for dgmlab.optimus.model), or None outside it."""
    parts = dotted.split(".")
    if parts[0] != "dgmlab":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "__init__"


def trespasses(owner, target):
    """Why a module in the room `owner` may not import from the room `target`, or None where it may."""
    if owner == target:
        return None
    if LAYERS[target] > LAYERS[owner]:
        return f"{owner} (layer {LAYERS[owner]}) imports {target} (layer {LAYERS[target]}); imports go down only"
    if LAYERS[owner] == LAYERS[target] == 2:
        return f"system {owner} imports system {target}; copy what is needed, or move it to a lower layer"
    if LAYERS[owner] == 3 and LAYERS[target] == 2:
        return f"{owner} imports system {target}; pictures and widgets take arrays and callables"
    return None


def test_there_is_something_to_check():
    assert len(MODULES) >= 10 and (PACKAGE / "__init__.py") in MODULES
    assert Path(__file__).resolve() in PYTHON, "tests/test_rules.py is not tracked: git does not see this checkout"


@each(PYTHON)
def test_files_have_at_most_400_lines(path):
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= 400, f"{n_lines} lines; split it where a reader would"


@each(PYTHON)
def test_functions_have_at_most_60_lines_and_a_train_120(path):
    for node in functions(TREES[path]):
        limit = 120 if node.name == "train" else 60
        n_lines = node.end_lineno - node.lineno + 1
        assert n_lines <= limit, f"{node.name} (line {node.lineno}) has {n_lines} lines, at most {limit}"


@each(MODULES)
def test_constructors_take_at_most_12_arguments(path):
    for node in functions(TREES[path]):
        if node.name == "__init__":
            n_args = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
            assert n_args <= 12, f"constructor at line {node.lineno} takes {n_args} arguments; use a config dataclass"


@each(MODULES)
def test_modules_are_at_most_one_folder_deep_and_have_telling_names(path):
    inside = path.relative_to(PACKAGE)
    assert len(inside.parts) <= 2, "nothing is deeper than dgmlab/x/y.py"
    for word in ("utils", "util", "common", "helpers", "helper", "misc"):
        assert word not in (path.stem, *inside.parts), f"'{word}' says nothing about what is inside"


@each(MODULES)
def test_modules_have_a_docstring(path):
    assert ast.get_docstring(TREES[path]), "a file opens with what it is for"


@each(MODULES)
def test_public_functions_and_classes_have_docstrings(path):
    for node in TREES[path].body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} (line {node.lineno}) has no docstring"
        if isinstance(node, ast.ClassDef):
            for method in functions(node):
                if method.name == "forward" and not node.name.startswith("_"):
                    text = ast.get_docstring(method) or ""
                    assert re.search(r"\([A-Z]\w*(, [\w .*+-]+)*\)", text), f"{node.name}.forward states no shape like (B, T)"


@each(MODULES)
def test_imports_go_one_way(path):
    inside = path.relative_to(PACKAGE)
    owner = inside.parts[0].removesuffix(".py")
    assert owner in LAYERS, f"{owner} has no layer yet: give it one in LAYERS of tests/test_rules.py"
    for line, dotted in import_nodes(ast.walk(TREES[path])):
        target = room(dotted)
        if target is not None:
            assert trespasses(owner, target) is None, f"line {line}: {trespasses(owner, target)}"


def test_the_rule_of_imports_itself():
    assert room("dgmlab.optimus.model") == "optimus" and room("torch.nn") is None and room("dgmlab") == "__init__"
    assert trespasses("optimus", "data") is None and trespasses("cli", "viz") is None and trespasses("viz", "run") is None
    assert "layer 3" in trespasses("optimus", "viz")
    assert "system igpt imports system optimus" in trespasses("igpt", "optimus")
    assert "arrays and callables" in trespasses("widgets", "optimus")
    assert "layer 1" in trespasses("run", "data")


@each([path for path in MODULES if path.name == "__init__.py" and LAYERS.get(path.parent.name) == 2])
def test_front_doors_cite_their_paper(path):
    door = ast.get_docstring(TREES[path]) or ""
    assert re.search(r"\b(19|20)\d\d\b", door), "the front door of a system names its paper, with the year"
    assert "from dgmlab." in door, "the front door of a system shows the smallest usage that works"


@each(TEXTS)
def test_texts_hold_no_machine_path_and_no_open_end(path):
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"(?<![\w.~/}>)])/(work|root|Users/\w+|home/\w+|opt/wheels)\b", text):
        pytest.fail(f"path of one machine: {text[max(match.start() - 30, 0):match.end() + 20]!r}")
    for match in re.finditer("|".join(("TO" + "DO", "FIX" + "ME", r"\bX" + r"XX\b")), text):
        pytest.fail(f"open end: {text[max(match.start() - 30, 0):match.end() + 40]!r}; do it, or leave it out")


@each(TRACKED)
def test_files_are_small(path):
    assert path.stat().st_size < 1_000_000, "tracked files stay under 1 MB; data and runs are made on use"


@each([path for path in TRACKED if ROOT / "figures" in path.parents])
def test_figures_are_png_with_their_numbers_and_named_after_a_notebook(path):
    assert path.suffix in (".png", ".json"), "a figure is a small PNG and the JSON numbers behind it"
    number = re.match(r"\d\d(?=_)", path.name)
    assert number, "the name starts with the number of the notebook that draws it"
    assert list((ROOT / "notebooks").glob(f"{number[0]}_*.ipynb")), f"there is no notebook {number[0]}"
    if path.suffix == ".png":
        assert path.with_suffix(".json") in TRACKED, "the numbers behind the picture are missing"


# what is imported when


def fresh_python(code):
    """Standard output of `code` in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def loaded_of(names, code):
    """Which of the top-level packages `names` are loaded after `code`."""
    tail = f"\nimport sys\nprint('LOADED', *[n for n in {list(names)!r} if n in sys.modules])"
    return fresh_python(code + tail).split("LOADED")[-1].split()


def test_import_dgmlab_loads_nothing_heavy():
    heavy = ("torch", "transformers", "numpy", "matplotlib", "sklearn", "scipy", "papermill", "IPython", "typer", "pandas")
    assert loaded_of(heavy, "import dgmlab") == []


def test_help_loads_no_model_and_no_notebook_machinery():
    heavy = ("torch", "transformers", "papermill", "matplotlib", "sklearn", "scipy", "pandas", "nbconvert", "datasets")
    code = ("import sys\nsys.argv = ['dgmlab', '--help']\nfrom dgmlab.cli import main\n"
            "try:\n    main()\nexcept SystemExit:\n    pass")
    assert loaded_of(heavy, code) == []
    for command in ("list", "run", "run-all", "sweep", "runs", "report", "data", "doctor", "bench"):
        assert re.search(rf"\b{command}\b", fresh_python(code)), f"`dgmlab --help` does not mention {command}"


BLOCK = """
import sys

class Without:
    # a finder that cannot see some packages, as if they were not installed
    def __init__(self, finder, names):
        self.finder, self.names = finder, names
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in self.names else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder, {names!r}) for finder in sys.meta_path]
"""


@pytest.mark.slow
def test_core_imports_without_jupyter_papermill_and_datasets():
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES
               if path.name != "__main__.py"]
    core = [name for name in modules if name.split(".")[1:2] and name.split(".")[1] in CORE]
    assert {"dgmlab.run", "dgmlab.optimus.train", "dgmlab.optimus.evaluate", "dgmlab.data.grammar"} <= set(core)
    code = BLOCK.format(names=NEEDED_BY_NO_CORE) + "\n".join(f"import {name}" for name in core)
    blocked = "\nimport importlib.util\nassert importlib.util.find_spec('papermill') is None"
    assert loaded_of(NEEDED_BY_NO_CORE, code + blocked) == []
