"""What tools.publish makes of a notebook before it is committed."""

import base64
import io

import nbformat
import numpy as np
import pytest
from PIL import Image

from tools import notebooks, publish

MODULE = '''STEPS = 2


@dataclass
class Args:
    """A stage, at length."""

    strides: int = 1


def scale(phi, alpha=1.2):
    """Long."""
    return alpha**phi
'''
CELL = '''# -> effnet_utils/scaling.py
@dataclass
class Args:
    strides: int = 2


def scale(phi, alpha=1.3):
    """Short."""
    return phi


STEPS = 1
OTHER = 3'''


def test_the_package_code_is_copied_and_the_short_docstring_kept():
    updated = notebooks.updated(CELL, MODULE)
    module = notebooks.definitions(MODULE)
    found = notebooks.definitions(updated)
    assert {name: found[name][0] for name in module} == {name: code for name, (code, _) in module.items()}
    assert updated.startswith("# -> effnet_utils/scaling.py\n@dataclass\nclass Args:\n") and updated.count("@data") == 1
    assert '    """Short."""\n    return alpha**phi' in updated and updated.endswith("STEPS = 2\nOTHER = 3")
    assert notebooks.updated(updated, MODULE) == updated


# The tags are kept and say what else there is.
COLLAPSED = {"tags": ["hide-input", "nbval-check-output"], "scrolled": True}
KERNEL = {"name": "python3", "display_name": "Python 3"}


def notebook(*outputs):
    cells = [
        nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["injected-parameters"]}),
        nbformat.v4.new_markdown_cell("# T\n| Running | 10 seconds |\n| Memory | 1.0 GB |", metadata={"editor": 1}),
        nbformat.v4.new_code_cell("print(1)", execution_count=7, outputs=list(outputs), metadata=COLLAPSED),
    ]
    return nbformat.v4.new_notebook(cells=cells, metadata={"papermill": {}, "kernelspec": KERNEL})


def printed(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def test_what_tells_of_the_run_is_removed():
    noise = printed("WARNING: All log messages before absl\n", "stderr")
    emptied = nbformat.v4.new_output("display_data", data={"text/html": "", "text/plain": "<HTML object>"})
    cleaned = publish.clean(notebook(emptied, printed("1"), noise, printed("2")))
    assert set(cleaned.metadata) == {"kernelspec", "language_info"}
    collapsed = {"tags": COLLAPSED["tags"], "jupyter": {"source_hidden": True}, "cellView": "form"}
    assert [cell.metadata for cell in cleaned.cells] == [{}, collapsed]
    assert cleaned.cells[1].execution_count == 1
    assert publish.marked_outputs(cleaned) == {"print(1)": "12"}


def figure(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    png = base64.b64encode(buffer.getvalue()).decode()
    return nbformat.v4.new_output("display_data", data={"image/png": png})


def stored(output):
    return publish.clean(notebook(output)).cells[1].outputs[0].data["image/png"]


def test_a_chart_keeps_its_size_and_a_photograph_its_colours():
    chart = np.full((100, 200, 3), 255, np.uint8)
    chart[40:60] = (0, 114, 178)
    photograph = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    for pixels, mode, size in ((chart, "P", (200, 100)), (photograph, "RGB", (100, 50))):
        png = stored(figure(pixels))
        image = Image.open(io.BytesIO(base64.b64decode(png)))
        assert (image.mode, image.size) == (mode, size)
        again = nbformat.v4.new_output("display_data", data={"image/png": png})
        assert stored(again) == png


def test_an_error_is_not_stored():
    for output in (printed("a warning", "stderr"), nbformat.v4.new_output("error", ename="E", evalue="")):
        with pytest.raises(ValueError, match="cell 1 has an error or something on stderr"):
            publish.clean(notebook(output))


def test_an_unknown_notebook_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["publish", "77"])
    with pytest.raises(SystemExit):
        publish.main()
    assert "there is no notebook 77; notebooks: 00, 01" in capsys.readouterr().err


def test_measured_time_and_memory_are_stated_unless_they_are_close():
    measured = notebook()
    measured.cells.pop(0)
    publish.state(measured, 11, 1.1)
    assert publish.stated(measured) == (10, 1.0)
    publish.state(measured, 95, 2.04)
    assert measured.cells[0].source == "# T\n| Running | 1.5 minutes |\n| Memory | 2.0 GB |"


@pytest.mark.parametrize(("commit", "noted"), [("abc", True), ("abc-dirty", False)])
def test_costs_are_noted_of_committed_code_only(commit, noted, tmp_path, monkeypatch):
    executed = notebook()
    del executed.cells[0]
    monkeypatch.setattr(publish, "COSTS", tmp_path / "notebooks.json")
    monkeypatch.setattr(publish, "execute", lambda path: (executed, 90.0, 2.0))
    stored = []
    monkeypatch.setattr(publish, "store", lambda made, name: stored.append(publish.stated(made)))
    publish.publish(notebooks.NOTEBOOKS[0], {"commit": commit})
    assert publish.COSTS.exists() == noted
    assert stored == [(90, 2) if noted else (10, 1)]


@pytest.mark.slow
def test_exercises_are_executed_too(tmp_path):
    exercise = nbformat.v4.new_code_cell("print(7)", metadata={"tags": ["exercise"]})
    cells = [nbformat.v4.new_code_cell('output_dir: str = ""', metadata={"tags": ["parameters"]}), exercise]
    executed = publish._run(
        nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {**KERNEL, "language": "python"}}), "small.ipynb"
    )
    assert executed.cells[-1].outputs[0].text == "7\n"
