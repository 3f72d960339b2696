"""Every notebook: its run offline, its marked outputs, its exercises, what it states; tools/lint.py checks its form."""

import json
import statistics
import subprocess
import sys

import nbformat
import papermill
import pytest

from tests.notebooks.copies import OFFLINE, OVERRIDES, prepare, run, solutions
from tools import publish
from tools.notebooks import COLLAPSED, LONG, NOTEBOOKS, code_cells, lines_of_code, number_of, read, tags

LESSONS = [path for path in NOTEBOOKS if number_of(path) not in LONG]
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@each
def test_first_cells(path):
    """The set-up cell, the same everywhere; one cell tagged parameters, each with its type and help."""
    notebook = read(path)
    assert code_cells(notebook)[0].source == code_cells(read(NOTEBOOKS[0]))[0].source
    tagged = [cell for cell in notebook.cells if "parameters" in tags(cell)]
    assert len(tagged) <= 1
    for name, row in papermill.inspect_notebook(str(path)).items():
        assert row["inferred_type_name"] in ("str", "int", "float", "bool") and row["help"], name


@each
def test_cells_are_short(path):
    visible = [cell for cell in code_cells(read(path)) if COLLAPSED not in tags(cell)]
    lines = [len(lines_of_code(cell)) for cell in visible]
    assert statistics.median(lines) <= 8


@pytest.mark.parametrize("path", LESSONS[1:], ids=lambda path: path.stem)  # the first one is a tour
def test_lessons_have_marked_outputs_figures_and_exercises(path):
    notebook = read(path)
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert publish.marked_outputs(notebook)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert 1 <= len(solutions(notebook)) <= 3


# --- Runs ---------------------------------------------------------------------------------------------------------


def test_the_network_is_off_in_the_runs():
    asks = "import urllib.request as r\nr.urlopen('http://192.0.2.1', timeout=2)"
    command = [sys.executable, "-c", asks]
    done = subprocess.run(command, env={"PYTHONPATH": str(OFFLINE)}, capture_output=True, text=True)
    assert "the network is off in this test; something asked for 192.0.2.1" in done.stderr


@pytest.mark.slow
@each
def test_runs_offline_with_the_marked_outputs_and_working_exercises(path, tmp_path):
    """nbval runs a copy alone in an empty folder; each stub fails its checker, each folded solution passes it."""
    run(prepare(path, tmp_path), sys.executable, {"PYTHONPATH": str(OFFLINE)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stub", "solution", "printed"),
    [("1", "1", "3"), ("0", "2", "3"), ("0", "1", "4")],
    ids=["stub passes", "solution fails", "marked output differs"],
)
def test_a_mistake_in_a_notebook_fails_its_run(stub, solution, printed, tmp_path, monkeypatch):
    cell = nbformat.v4.new_code_cell
    output = nbformat.v4.new_output("stream", name="stdout", text=f"{printed}\n")
    exercise = f"def one():\n    return {stub}\n\n\ndef check_one():\n    return one() == 1\n\n\ncheck_one()"
    marked = {"tags": ["nbval-check-output"]}
    cells = [cell("print(3)", outputs=[output], execution_count=1, metadata=marked)]
    cells += [cell(exercise, metadata={"tags": ["exercise"]})]
    cells += [
        nbformat.v4.new_markdown_cell(f"<details>\n```python\ndef one():\n    return {solution}\n```\n</details>")
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (tmp_path / "source").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "source" / "small.ipynb")
    monkeypatch.setitem(OVERRIDES, "small", {"cell_timeout": 60})
    copy = prepare(tmp_path / "source" / "small.ipynb", tmp_path)
    with pytest.raises(AssertionError, match="1 failed"):
        run(copy, sys.executable, {})


# --- Stated time and memory ---------------------------------------------------------------------------------------


@each_lesson
def test_stated_time_and_memory_are_those_of_the_record(path):
    measured = json.loads(publish.COSTS.read_text())["notebooks"][path.stem]
    seconds, gigabytes = publish.stated(read(path))
    assert 0.5 < measured["seconds"] / seconds < 1.5, f"{path.name} states {seconds} s, the record {measured}"
    assert 0.5 < measured["peak_gb"] / gigabytes < 1.5, f"{path.name} states {gigabytes} GB, the record {measured}"
