"""tools/reading.py: what it counts, what it complains about, and that no notebook is over its budget."""

import nbformat
import pytest

from tools import reading
from tools.notebooks import NOTEBOOKS, committed_metadata, number_of, read

text = nbformat.v4.new_markdown_cell
FIGURE = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})


def code(source, *tags, outputs=()):
    return nbformat.v4.new_code_cell(source, metadata=committed_metadata(list(tags)), outputs=list(outputs))


def notebook(words=200):
    cells = [
        text("# T\n| Reading | 5 minutes, 2 of them for writing code yourself |"),
        code("# @title Plot\nplots.show()", "hide-input", outputs=[FIGURE]),
        text("word " * words + "$a + b$ [link text](nowhere.md)\n```python\nnot counted\n```"),
        code("# a comment\nx = 1\ny = plots.figure()"),
        text("## 1 · Your turn: write `f` (2 minutes)"),
        code("def f(): ...", "exercise"),
        text("<details>\n<summary>Hint</summary>\nnot counted\n</details>\n\nafter it"),
        text("## Optional: more\n\n" + "word " * 1000),
        code("z = 1"),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_the_core_is_counted_and_nothing_else():
    counts = reading.measured(notebook())
    seen = {name: counts[name] for name in ("visible", "lines", "plotting", "collapsed", "figures", "graders")}
    assert seen == {"visible": 1, "lines": 2, "plotting": 1, "collapsed": 1, "figures": 1, "graders": 1}
    assert counts["exercises"] == 2
    # T, the table's ten, 200, a formula, a link's two, the heading's seven, after it.
    assert counts["words"] == 1 + 10 + 200 + 1 + 2 + 7 + 2
    assert counts["minutes"] == pytest.approx(counts["words"] / 200 + 0.5 + 0.5 + 2)


def test_problems_are_named():
    over, plotting, stated = reading.problems("00", notebook(2000))
    assert "13.1 minutes, at most 10; make something optional" in over
    assert "1 of 2 visible lines draw figures; collapse their cells" in plotting
    assert "the first cell says" in stated and "`make notebooks NB=00` fixes it" in stated


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if number_of(path) in reading.BUDGET], ids=number_of)
def test_no_notebook_is_over_its_budget(path):
    assert list(reading.problems(number_of(path), read(path))) == []
