"""Imports run downwards only: experiments -> training -> what is built on the network -> the network -> its parts."""

import ast
import graphlib
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
    graph = {}
    for path in files:
        name = module_name(path, root)
        graph[name] = imports(path, root) - {name}
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
        for other in sorted(imported):
            if name.startswith("benchmarks.") and other.startswith("benchmarks.") and "._" not in other:
                found.append(f"{name} imports {other}: benchmarks share benchmarks._common only")
    try:
        graphlib.TopologicalSorter(package).prepare()
    except graphlib.CycleError as error:
        found.append(f"a cycle: {' -> '.join(reversed(error.args[1]))}")
    for path in files:
        found += path_manipulation(path)
    return found


def path_manipulation(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            yield f"{path.name}:{node.lineno}: sys.path; run it as `python -m` from the root"


def test_the_project_keeps_the_rules():
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = problems(ROOT, [ROOT / name for name in tracked.split()])
    assert not found, "\n".join(found)


# What the mistakes import, and one import that makes a cycle with the opposite one.
TREE = {
    "effnet_utils/datasets.py": "from effnet_utils.files import project_path",
    "effnet_utils/model.py": "",
    "benchmarks/cost.py": "",
    "tools/tables.py": "",
}
# (file, its text, what is said of it)
MISTAKES = [
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
    ("effnet_utils/plots.py", "from tools.tables import table", "imports tools.tables: the package stands alone"),
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
    assert any(expected in line for line in found), found
