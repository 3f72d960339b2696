"""The project's notebooks, and the code that they share with the package: one source for each function.

A notebook's cell that begins with ``# -> effnet_utils/blocks.py`` holds code of that module. `make lint` compares the
two by their syntax trees; tools/publish.py copies the module's code into the cell where they differ.
"""

import ast
import re
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*_*.ipynb"))
# 07 and 08 run for half an hour or more, 09 and 11 need what 07 left, and 10 and 12 run 07 several times: their
# committed copies are taken from the runs that wrote the records which the texts quote.
LONG = ("07", "08", "09", "10", "11", "12")
ARROW = "# -> "
MARK = "nbval-check-output"  # the tag of a cell whose output nbval compares
COLLAPSED = "hide-input"  # the tag of a cell whose code a reader need not see


def title_of(notebook):
    """A notebook's title, the first line of its first cell."""
    return notebook.cells[0].source.split("\n", 1)[0].removeprefix("# ")


def number_of(path):
    """A notebook's number: "07" of ``07_train_cifar10.ipynb``."""
    return path.name.split("_")[0]


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def lines_of_code(cell):
    """A cell's lines that are neither blank nor only a comment."""
    return [line for line in cell.source.splitlines() if re.match(r"\s*[^\s#]", line)]


def tags(cell):
    return cell.metadata.get("tags", [])


def committed_metadata(tags):
    """The metadata of a committed cell with these tags; a collapsed cell is collapsed in JupyterLab and Colab, too."""
    metadata = {"tags": tags} if tags else {}
    if COLLAPSED in tags:
        metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
    return metadata


def module_of(cell, root=ROOT):
    """The path of the module that a cell's first line names (``# -> effnet_utils/blocks.py``), or None.

    In a collapsed cell it is the line after the title.
    """
    for line in cell.source.split("\n")[:2]:
        if line.startswith(ARROW):
            return root / line.removeprefix(ARROW).strip()
        if not line.startswith("# @title "):
            return None
    return None


def definitions(source):
    """The functions, classes and constants of a source text: {name: (code without docstrings, its syntax tree)}."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = (_without_docstrings(node), node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = (ast.unparse(node), node)
    return found


def _without_docstrings(node):
    tree = ast.parse(ast.unparse(node))
    for inner in ast.walk(tree):
        if isinstance(inner, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(inner):
            inner.body = inner.body[1:]
    return ast.unparse(tree)


def with_package_code(path, root=ROOT):
    """The notebook at ``path`` with the package's code in every shared cell."""
    notebook = read(path)
    for cell in code_cells(notebook):
        module = module_of(cell, root)
        if module is not None:
            cell.source = updated(cell.source, module.read_text(encoding="utf-8"))
    return notebook


def updated(source, module_source):
    """A cell's source with the module's code wherever the two differ; the cell keeps its own, shorter docstrings."""
    lines = source.split("\n")
    module = definitions(module_source)
    # From the last to the first: the line numbers of those before stay as they are.
    for name, (code, node) in reversed(definitions(source).items()):
        if name not in module:
            continue
        module_code, module_node = module[name]
        if module_code == code:
            continue
        start = _first_line(module_node)
        new_lines = module_source.split("\n")[start - 1 : module_node.end_lineno]
        old_docstring = _docstring(node)
        new_docstring = _docstring(module_node)
        if old_docstring and new_docstring:
            kept = lines[old_docstring.lineno - 1 : old_docstring.end_lineno]
            new_lines[new_docstring.lineno - start : new_docstring.end_lineno - start + 1] = kept
        lines[_first_line(node) - 1 : node.end_lineno] = new_lines
    return "\n".join(lines)


def _first_line(node):
    decorators = getattr(node, "decorator_list", [])
    return min(part.lineno for part in (node, *decorators))


def _docstring(node):
    """The syntax tree of a function's or class's docstring, or None."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
        return node.body[0]
    return None
