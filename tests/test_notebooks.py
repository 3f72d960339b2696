"""Every notebook: its committed form, its run with small parameters, its marked outputs, its exercises."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*_*.ipynb"))
OVERRIDES = yaml.safe_load((ROOT / "tests" / "overrides.yaml").read_text())
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def definitions(source):
    """Functions, classes and constants of a source text by name, docstrings aside."""
    found = {}
    for node in ast.parse(TransformerManager().transform_cell(source)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            for inner in ast.walk(node):
                if isinstance(inner, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(inner):
                    inner.body = inner.body[1:]
            found[node.name] = ast.unparse(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.unparse(node)
    return found


def test_there_are_notebooks_and_each_has_test_values():
    assert NOTEBOOKS
    assert set(OVERRIDES) == {path.stem for path in NOTEBOOKS}


@each
def test_committed_form(path):
    """Executed top to bottom without errors, nothing of the machine it ran on, small."""
    notebook, text = read(path), path.read_text()
    nbformat.validate(notebook)
    assert path.stat().st_size < 1_000_000
    assert set(notebook.metadata) <= {"kernelspec", "language_info", "accelerator"}
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)
    assert not re.search(r"(/home/|/root/|/tmp/|/Users/|/content/(?!drive))", text)
    for cell in cells:
        if "NBVAL_CHECK_OUTPUT" in cell.source:
            assert cell.outputs, f"a marked cell without a stored output is never compared: {cell.source[:60]}"


@each
def test_first_cells(path):
    """Title, badge with its own path, then the set-up cell, the same everywhere; one cell tagged parameters."""
    notebook = read(path)
    assert notebook.cells[0].source.startswith("# ")
    assert f"/blob/main/notebooks/{path.name})" in notebook.cells[0].source
    setup = read(NOTEBOOKS[0])
    assert code_cells(notebook)[0].source == code_cells(setup)[0].source
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) <= 1
    for name, row in papermill.inspect_notebook(str(path)).items():
        assert row["inferred_type_name"] in ("str", "int", "float", "bool") and row["help"], name


@each
def test_figures_have_alt_text(path):
    for cell in code_cells(read(path)):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert output.metadata["image/png"]["alt"].strip()
    for cell in read(path).cells:
        assert cell.cell_type != "markdown" or not re.search(r"!\[\]\(", cell.source)


@each
def test_code_shared_with_the_package_is_the_same_code(path):
    for cell in code_cells(read(path)):
        first = cell.source.split("\n", 1)[0]
        if not first.startswith("# -> "):
            continue
        module = definitions((ROOT / first.removeprefix("# -> ").strip()).read_text())
        here = definitions(cell.source)
        assert here, f"nothing is defined under {first}"
        for name, source in here.items():
            assert source == module.get(name), f"{name} differs from {first.removeprefix('# -> ')}"


def solutions(notebook):
    """(exercise cell's index, its checker's name, solution) for each exercise."""
    found = []
    for index, cell in enumerate(notebook.cells):
        if "exercise" not in cell.metadata.get("tags", []):
            continue
        answer = re.search(r"<details>.*?```python\n(.*?)```", notebook.cells[index + 1].source, re.DOTALL)
        assert answer, f"no folded solution follows the exercise: {cell.source[:60]}"
        found.append((index, cell.source.strip().split("\n")[-1], answer.group(1)))
    return found


@each
def test_runs_with_small_parameters_and_exercises_have_teeth(path, tmp_path):
    """papermill runs the notebook; each stub fails its checker, each folded solution passes it."""
    notebook, values = read(path), OVERRIDES[path.stem]
    exercises = solutions(notebook)
    for index, check, answer in reversed(exercises):
        notebook.cells.insert(index + 1, nbformat.v4.new_code_cell(f"{answer}\n\n{check}"))
    source, target = tmp_path / path.name, tmp_path / "executed.ipynb"
    nbformat.write(notebook, source)
    parameters = values.get("parameters", {})
    if "output_dir" in papermill.inspect_notebook(str(source)):
        parameters = {**parameters, "output_dir": str(tmp_path / "out")}
    papermill.execute_notebook(
        str(source),
        str(target),
        parameters=parameters,
        kernel_name="python3",
        progress_bar=False,
        execution_timeout=values["cell_timeout"],
    )
    results = [
        [output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
        for cell in code_cells(read(target))
    ]
    verdicts = [result[-1] for result in results if result and result[-1] in ("True", "False")]
    assert verdicts == ["False", "True"] * len(exercises)


@each
def test_marked_outputs_are_reproduced(path, tmp_path):
    """nbval runs a copy with small parameters and compares the outputs of the cells marked NBVAL_CHECK_OUTPUT."""
    values, copy = OVERRIDES[path.stem], tmp_path / path.name
    parameters = values.get("parameters", {})
    if "output_dir" in papermill.inspect_notebook(str(path)):
        parameters = {**parameters, "output_dir": str(tmp_path / "out")}
    papermill.execute_notebook(str(path), str(copy), parameters=parameters, prepare_only=True, progress_bar=False)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-p", "no:cacheprovider"]
    command += [f"--nbval-cell-timeout={values['cell_timeout']}", f"--rootdir={tmp_path}", str(copy)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    cells = len(code_cells(read(copy)))
    assert f"{cells} passed" in done.stdout
