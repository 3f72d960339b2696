"""Every notebook: its run offline, its marked outputs, its exercises, what it costs; lint.py checks its form."""

import json
import re
import statistics
import subprocess
import sys

import nbformat
import papermill
import pytest
from notebook_copies import NOTEBOOKS, OFFLINE, OVERRIDES, ROOT, code_cells, prepare, read, run, solutions

sys.path.insert(0, str(ROOT / "notebooks"))
import publish  # noqa: E402

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
LESSONS = [path for path in NOTEBOOKS if path.name.split("_")[0] not in publish.LONG]
COSTS = {}  # of the notebooks run so far: (seconds, peak gigabytes)


def test_there_are_notebooks_and_each_has_test_values():
    assert NOTEBOOKS
    assert set(OVERRIDES) == {path.stem for path in NOTEBOOKS}


@each
def test_first_cells(path):
    """The set-up cell, the same everywhere; one cell tagged parameters, each with its type and help."""
    notebook = read(path)
    setup = read(NOTEBOOKS[0])
    assert code_cells(notebook)[0].source == code_cells(setup)[0].source
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) <= 1
    for name, row in papermill.inspect_notebook(str(path)).items():
        assert row["inferred_type_name"] in ("str", "int", "float", "bool") and row["help"], name


SHARED = """# -> effnet_utils/scaling.py
def compound_coefficients(phi, alpha=1.3, beta=1.1, gamma=1.15):
    \"\"\"Short.\"\"\"
    return phi


STEPS = 1"""


def test_a_changed_constant_is_seen_and_taken_over():
    cell = nbformat.v4.new_code_cell(SHARED)
    module = publish.definitions((ROOT / "effnet_utils" / "scaling.py").read_text())
    assert publish.definitions(cell.source)["compound_coefficients"][0] != module["compound_coefficients"][0]
    publish.take_over(cell)
    assert publish.definitions(cell.source)["compound_coefficients"][0] == module["compound_coefficients"][0]
    assert cell.source.startswith("# -> effnet_utils/scaling.py\ndef compound_coefficients(phi, alpha=1.2,")
    assert '"""Short."""' in cell.source and cell.source.endswith("STEPS = 1")
    blocks = (ROOT / "effnet_utils" / "blocks.py").read_text()
    cell = nbformat.v4.new_code_cell(
        "# -> effnet_utils/blocks.py\n@dataclass\nclass BlockArgs:\n    strides: int = 2\n\n\nOTHER = 3"
    )
    publish.take_over(cell)
    assert publish.definitions(cell.source)["BlockArgs"][0] == publish.definitions(blocks)["BlockArgs"][0]
    assert cell.source.count("@dataclass") == 1 and cell.source.endswith("OTHER = 3")


def test_the_network_is_off_in_the_runs():
    asks = "import urllib.request as r\nr.urlopen('http://192.0.2.1', timeout=2)"
    done = subprocess.run(
        [sys.executable, "-c", asks], env={"PYTHONPATH": str(OFFLINE)}, capture_output=True, text=True
    )
    assert "the network is off in this test; something asked for 192.0.2.1" in done.stderr


@pytest.mark.slow
@each
def test_runs_offline_marked_outputs_agree_and_exercises_have_teeth(path, tmp_path):
    """nbval runs a copy alone in an empty folder; each stub fails its checker, each folded solution passes it."""
    COSTS[path.stem] = run(prepare(path, tmp_path), sys.executable, {"PYTHONPATH": str(OFFLINE)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stub", "solution", "printed", "fails"),
    [("0", "1", "3", 0), ("1", "1", "3", 1), ("0", "2", "3", 1), ("0", "1", "4", 1)],
    ids=["right", "stub passes", "solution fails", "marked output differs"],
)
def test_the_run_has_teeth(stub, solution, printed, fails, tmp_path, monkeypatch):
    cell, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    output = nbformat.v4.new_output("stream", name="stdout", text=f"{printed}\n")
    exercise = f"def one():\n    return {stub}\n\n\ndef check_one():\n    return one() == 1\n\n\ncheck_one()"
    cells = [cell("# NBVAL_CHECK_OUTPUT\nprint(3)", outputs=[output], execution_count=1)]
    cells += [cell(exercise, metadata={"tags": ["exercise"]})]
    cells += [text(f"<details>\n```python\ndef one():\n    return {solution}\n```\n</details>")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (tmp_path / "source").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "source" / "small.ipynb")
    monkeypatch.setitem(OVERRIDES, "small", {"cell_timeout": 60})
    copy = prepare(tmp_path / "source" / "small.ipynb", tmp_path)
    if not fails:
        assert run(copy, sys.executable, {})[1] > 0
        return
    with pytest.raises(AssertionError, match=f"{fails} failed"):
        run(copy, sys.executable, {})


# --- What a notebook says of itself -------------------------------------------------------------------------------


def row(path):
    """A notebook's line of the table: cells, median lines, marked, figures, with alt text, exercises."""
    notebook = read(path)
    cells = code_cells(notebook)
    # Lines of code: neither blank nor only a comment.
    lines = statistics.median(len(re.findall(r"^\s*[^\s#]", cell.source, re.M)) for cell in cells)
    figures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    with_text = [o for o in figures if o.metadata.get("image/png", {}).get("alt", "").strip()]
    marked = publish.marked_outputs(notebook)
    return len(cells), lines, len(marked), len(figures), len(with_text), len(solutions(notebook))


def test_table(say):
    """Says what there is to know of each notebook; seconds and memory of those that ran in this session."""
    titles = ("notebook", "cells", "median lines", "marked", "figures", "with alt text", "exercises")
    template = "{:26}{:>6}{:>14}{:>8}{:>9}{:>15}{:>11}{:>6}{:>10}{:>6}{:>11}"
    lines = ["", template.format(*titles, "s", "stated s", "GB", "stated GB")]
    for path in NOTEBOOKS:
        here = [f"{COSTS[path.stem][0]:.0f}", f"{COSTS[path.stem][1]:.1f}"] if path.stem in COSTS else ["-", "-"]
        # The long ones run with small values here; what they state is of their own, longer runs.
        seconds, gigabytes = publish.stated(read(path)) if path in LESSONS else ("-", "-")
        lines.append(template.format(path.stem, *row(path), here[0], seconds, here[1], gigabytes))
    if COSTS:
        lines.append("exercises: each stub gave False, each folded solution True, in the notebooks with seconds")
    say("\n".join(lines))
    for path in NOTEBOOKS:
        cells, median, marked, figures, with_text, exercises = row(path)
        assert median <= 8 and with_text == figures, path.name
        if path in LESSONS and not path.name.startswith("00_"):
            assert marked and figures and 2 <= exercises <= 3, path.name


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_stated_minutes_and_memory_are_those_of_the_record(path):
    measured = json.loads(publish.COSTS.read_text())["notebooks"][path.stem]
    seconds, gigabytes = publish.stated(read(path))
    assert 0.5 < measured["seconds"] / seconds < 1.5, f"{path.name} states {seconds} s, the record {measured}"
    assert 0.5 < measured["peak_gb"] / gigabytes < 1.5, f"{path.name} states {gigabytes} GB, the record {measured}"


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_stated_minutes_and_memory_hold_here(path):
    """Machines differ in speed, so minutes are compared after dividing by the median of all notebooks run here."""
    if path.stem not in COSTS:
        pytest.skip("this notebook was not run in this session")
    here = [COSTS[other.stem][0] / publish.stated(read(other))[0] for other in LESSONS if other.stem in COSTS]
    seconds, gigabytes = publish.stated(read(path))
    assert 0.5 < COSTS[path.stem][1] / gigabytes < 1.5, f"{path.name} states {gigabytes} GB: {COSTS[path.stem]}"
    # pytest, nbval and two kernels' starts take a few seconds of their own, more than 00 itself.
    ratio = (COSTS[path.stem][0] - 10) / seconds / statistics.median(here)
    assert ratio < 1.5, f"{path.name} states {seconds:.0f} s and took {COSTS[path.stem][0]:.0f} s here"
