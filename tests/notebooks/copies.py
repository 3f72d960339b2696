"""Copies of the notebooks as the tests run them: small parameters, exercises tested."""

import os
import re
import subprocess
from pathlib import Path

import nbformat
import papermill
import yaml

from effnet_utils.experiments.run import declared
from tools.notebooks import MARK, code_cells, committed_metadata, read, tags

HERE = Path(__file__).parent
OVERRIDES = yaml.safe_load((HERE / "overrides.yaml").read_text(encoding="utf-8"))
OFFLINE = HERE / "offline"


def solutions(notebook):
    """(exercise cell's index, its checker's call, solution) for each exercise."""
    found = []
    for index, cell in enumerate(notebook.cells):
        if "exercise" not in tags(cell):
            continue
        answer = re.search(r"<details>.*?```python\n(.*?)```", notebook.cells[index + 1].source, re.DOTALL)
        assert answer, f"no folded solution follows the exercise: {cell.source[:60]}"
        found.append((index, cell.source.strip().split("\n")[-1], answer.group(1)))
    return found


def _expecting(source, printed):
    """A cell that nbval compares."""
    cell = nbformat.v4.new_code_cell(source, execution_count=1, metadata=committed_metadata([MARK]))
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=printed)]
    return cell


def with_small_values(path, folder):
    """Write a copy into ``folder`` that has the parameters and the short trainings of overrides.yaml; its path."""
    target = folder / path.name
    values = dict(OVERRIDES[path.stem].get("parameters", {}))
    known = declared(path)
    assert set(values) <= set(known), f"overrides.yaml: {path.stem} has the parameters {', '.join(known)}"
    if "output_dir" in known:
        values["output_dir"] = str(folder / "out")
    papermill.execute_notebook(str(path), str(target), parameters=values, prepare_only=True, progress_bar=False)
    shorten(target, OVERRIDES[path.stem].get("replace", {}))
    return target


def shorten(path, replacements):
    """Replace code of a notebook; each text must stand in one cell, or it would no longer shorten anything."""
    notebook = read(path)
    for old, new in replacements.items():
        found = [cell for cell in code_cells(notebook) if old in cell.source]
        assert len(found) == 1, f"overrides.yaml: {len(found)} cells of {path.name} hold {old!r}; exactly one should"
        found[0].source = found[0].source.replace(old, new)
    nbformat.write(notebook, path)


def prepare(path, folder):
    """Write a copy into ``folder``: small values; after each exercise the verdict on the stub (False) and on the
    folded solution put in its place (True), for nbval to compare.

    Returns its path.
    """
    target = with_small_values(path, folder)
    notebook = read(target)
    for index, check, answer in reversed(solutions(notebook)):
        ask = "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n"
        ask += f"    verdict = {check}\nprint(bool(verdict))"
        notebook.cells[index + 1 : index + 1] = [
            _expecting(ask, "False\n"),
            nbformat.v4.new_code_cell(answer),
            _expecting(ask, "True\n"),
        ]
    nbformat.write(notebook, target)
    return target


def run(copy, python, environment):
    """nbval runs a copy alone in its folder; a cell that fails, is not run, or is marked and differs fails the test."""
    limit = OVERRIDES[copy.stem]["cell_timeout"]
    command = [python, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-x", "-p", "no:cacheprovider"]
    command += [f"--nbval-cell-timeout={limit}", f"--rootdir={copy.parent}", str(copy)]
    done = subprocess.run(command, cwd=copy.parent, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stdout[-5000:]
    assert f"{len(code_cells(read(copy)))} passed" in done.stdout
