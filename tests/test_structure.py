"""Imports run downwards only: experiments -> training -> what is built on the network -> the network -> its parts."""

import ast
import subprocess

import pytest

from tools.notebooks import ROOT

# The floor of each module and folder of the package, from the ground up; what is not named is built on the network.
GROUND = ("files", "datasets", "blocks", "scaling")
FLOORS = {**dict.fromkeys(GROUND, 0), "model": 1, "training": 3, "experiments": 4, "__main__": 5}
BUILT_ON_THE_NETWORK = 2
# Building a network reads pretrained weights only when they are asked for.
ALLOWED_UPWARDS = {("effnet_utils.model", "effnet_utils.pretrained")}


def module_name(path, root):
    parts = list(path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, root):
    """The modules below ``root`` that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import; write the whole name"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    # `from effnet_utils import blocks` names a module, `from effnet_utils.blocks import swish` a function.
    return {name for name in found if is_module(name, root)}


def is_module(name, root):
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def floor(name):
    return FLOORS.get(name.split(".")[1], BUILT_ON_THE_NETWORK)


def problems(root, files):
    """What the files of a tree import against the rules: a list of lines, empty when all is well."""
    graph = {module_name(path, root): imports(path, root) for path in files}
    package = {name: set(imported) for name, imported in graph.items() if name.startswith("effnet_utils.")}
    for name, other in ALLOWED_UPWARDS:
        package.get(name, set()).discard(other)
    found = []
    for name, imported in package.items():
        for other in sorted(imported):
            top = other.split(".")[0]
            if top in ("benchmarks", "tools", "tests"):
                found.append(f"{name} imports {other}: the package stands alone")
            elif other.startswith("effnet_utils.") and floor(other) > floor(name):
                found.append(f"{name} imports {other}: upwards")
    for name, imported in graph.items():
        for other in sorted(imported - {name}):
            if name.startswith("benchmarks.") and other.startswith("benchmarks.") and "._" not in other:
                found.append(f"{name} imports {other}: benchmarks share benchmarks._common only")
    found += [f"a cycle: {' -> '.join(cycle)}" for cycle in cycles(package)]
    for path in files:
        found += path_manipulation(path)
    return found


def cycles(graph):
    """Each import cycle once, as the names along it."""
    found = []
    done = set()

    def visit(name, way):
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name in graph and name not in done:
            for other in sorted(graph[name] - {name}):
                visit(other, [*way, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def path_manipulation(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ("addsitedir", "syspath_prepend"):
            yield f"{path.name}:{node.lineno}: {node.attr}"
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            yield f"{path.name}:{node.lineno}: sys.path; run it as `python -m` from the root"


def test_the_project_keeps_the_rules():
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = problems(ROOT, [ROOT / name for name in tracked.split()])
    assert not found, "\n".join(found)


TREE = {
    "effnet_utils/__init__.py": "from effnet_utils.experiments import run",
    "effnet_utils/files.py": "import json",
    "effnet_utils/datasets.py": "from effnet_utils.files import project_path",
    "effnet_utils/blocks.py": "import keras",
    "effnet_utils/model.py": "from effnet_utils.blocks import swish\ndef f():\n    import effnet_utils.pretrained",
    "effnet_utils/pretrained.py": "from effnet_utils.model import efficientnet",
    "effnet_utils/plots.py": "",
    "effnet_utils/training/recipe.py": "from effnet_utils import plots",
    "effnet_utils/training/trainer.py": "from effnet_utils.training import recipe",
    "effnet_utils/experiments/run.py": "from effnet_utils.training.trainer import OnDeviceTrainer",
    "benchmarks/_common.py": "from effnet_utils import model",
    "benchmarks/cost.py": "import sys\nfrom benchmarks import _common\nprint(sys.argv)",
    "tools/tables.py": "from effnet_utils.experiments import run",
}
# (file, its text, what is said of it)
MISTAKES = [
    ("effnet_utils/plots.py", "import keras", None),
    (
        "effnet_utils/blocks.py",
        "def f():\n    from effnet_utils.model import x",
        "imports effnet_utils.model: up",
    ),
    (
        "effnet_utils/files.py",
        "from effnet_utils import datasets",
        "effnet_utils.datasets -> effnet_utils.files",
    ),
    ("effnet_utils/training/recipe.py", "from effnet_utils.experiments.run import x", "experiments.run: upwards"),
    ("effnet_utils/plots.py", "from tools.tables import table", "imports tools.tables: the package stands alone"),
    ("effnet_utils/model.py", "from benchmarks import cost", "imports benchmarks.cost: the package stands alone"),
    ("benchmarks/pilots.py", "from benchmarks.cost import x", "imports benchmarks.cost: benchmarks share"),
    ("tools/tables.py", 'import sys\nsys.path.insert(0, ".")', "tables.py:2: sys.path; run it"),
]


@pytest.mark.parametrize(("changed", "source", "expected"), MISTAKES)
def test_each_mistake_is_noticed(changed, source, expected, tmp_path):
    files = {**TREE, changed: source}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = problems(tmp_path, [tmp_path / name for name in files])
    assert found == [] if expected is None else any(expected in line for line in found), found
