"""`make lint` finds nothing here, notices each kind of mistake, and says where it is and what fixes it."""

import re
import shutil

import nbformat
import pytest

from tools import lint, notebooks

ROOT = notebooks.ROOT


@pytest.mark.parametrize("check", lint.CHECKS, ids=lambda check: check.__name__)
def test_nothing_to_fix(check):
    assert lint.CHECKS[check]
    assert [line for path in lint.CHECKS[check] for line in check(path)] == []


def test_nothing_is_misspelt():
    assert list(lint.spelling(*lint.SPELT)) == []


def test_what_is_found_ends_with_an_error(monkeypatch, capsys):
    monkeypatch.setattr(lint, "problems", lambda: ["README.md:1: wrong"])
    assert lint.main() == 1 and capsys.readouterr().out == "README.md:1: wrong\n"


# --- A change in the package that a notebook does not have ----------------------------------------------------------


def test_a_change_in_the_package_is_named_with_place_and_command(tmp_path):
    shutil.copytree(ROOT / "effnet_utils", tmp_path / "effnet_utils", ignore=shutil.ignore_patterns("__pycache__"))
    scaling = tmp_path / "effnet_utils" / "scaling.py"
    module = scaling.read_text(encoding="utf-8")
    assert "alpha=1.2" in module
    scaling.write_text(module.replace("alpha=1.2", "alpha=1.3"), encoding="utf-8")
    path = ROOT / "notebooks" / "06_compound_scaling.ipynb"
    (line,) = lint.code(path, tmp_path)
    assert "compound_coefficients differs from effnet_utils/scaling.py (`def " in line
    assert "`make notebooks NB=06` copies the module's code" in line
    assert lint.command(path.with_name("11_deploy.ipynb"), code=True) == "`make execute NB=11`"
    fixed = tmp_path / path.name
    nbformat.write(notebooks.with_package_code(path, tmp_path), fixed)
    assert not [*lint.code(fixed, tmp_path)]


# --- The other mistakes ---------------------------------------------------------------------------------------------


def notebook(*cells, **metadata):
    return nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)


def executed(source, *outputs, count=1, **metadata):
    return nbformat.v4.new_code_cell(source, execution_count=count, outputs=list(outputs), metadata=metadata)


def printed(text="1\n", name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


text = nbformat.v4.new_markdown_cell
figure = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})
failed = nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])
unmarked = executed("1", tags=["nbval-check-output"])
one = printed()

# (check, a notebook or a page, what the check says)
MISTAKES = [
    (lint.form, notebook(executed("1", one), colab={}), ": metadata .* colab; `make notebooks"),
    (lint.form, notebook(executed("1", one, id="x")), r", cell 1 \[1\]: metadata .* id; `make"),
    (lint.form, notebook(executed("1", one, count=3)), r"cell 1 \[3\]: not executed .* expected 1"),
    (lint.form, notebook(executed("1")), ": no outputs; `make notebooks NB=98` fixes it"),
    (lint.form, notebook(executed("1", printed("/home/me/x"))), "cell 1 .*a path of one machine, /home/me/x"),
    (lint.form, notebook(executed("1", failed)), "an error or a warning among the outputs"),
    (lint.form, notebook(executed("1", printed("1" * 1_000_000))), "1.0 MB, at most 1 MB"),
    (
        lint.form,
        notebook(unmarked, executed("1", one, count=2)),
        r"cell 1 \[1\]: tagged nbval-check-output without an output",
    ),
    (lint.form, notebook(executed("# @title Plot", one)), r"cell 1 \[1\]: a collapsed cell has the tag hide-input"),
    (lint.code, notebook(executed("# -> effnet_utils/blocks.py\nx()")), "nothing is defined below `# ->"),
    (lint.code, notebook(executed("# -> effnet_utils/blocks.py\ndef f(): pass")), "f is not in blocks.py; define it"),
    (lint.badges, notebook(text("# Title")), "cell 1: no title and badge for notebooks/98_some.ipynb"),
    (lint.badges, notebook(text("# T\n(/blob/main/notebooks/01_swish.ipynb)")), "98_some.ipynb; copy"),
    (lint.badges, "# No table", "README.md: no line with badge and link of notebooks/00_start_here"),
    (lint.pictures, notebook(executed("1", figure)), r"cell 1 \[1\]: a figure without alt text; show\(figure"),
    (lint.pictures, notebook(text("![](a.png)")), r"98_some.ipynb, cell 1: an image without alt text"),
    (lint.pictures, 'One\n\nTwo <img src="a.png">', "README.md:3: an image without alt text"),
    (lint.pictures, "[](README.md)", "README.md:1: a link without text"),
    (lint.links, "# One\n\n[text](none.md)", "README.md:3: none.md leads nowhere; correct it"),
    (lint.links, "# It's `one`\n[text](#its-two)", "README.md:2: README.md has no heading #its-two; it has its-one"),
    (lint.links, notebook(text("# My title\n[x](#my-title)")), "no heading #my-title; it has My-title"),
    (lint.spelling, "One\n\nthe cofficient", "README.md:3: cofficient is .* write coefficient"),
    (lint.spelling, "The color", "README.md:1: color is .* write colour"),
    (lint.spelling, notebook(executed('%pip\ndef f():\n    """A cofficient."""')), r"cell 1 \[1\]: cofficient is"),
]


@pytest.mark.parametrize(("check", "content", "expected"), MISTAKES, ids=[mistake[2] for mistake in MISTAKES])
def test_each_mistake_is_noticed(check, content, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(lint, "NOTEBOOKS", lint.NOTEBOOKS[:1])
    path = tmp_path / ("README.md" if isinstance(content, str) else "98_some.ipynb")
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        nbformat.write(content, path)
    (line,) = check(path)
    assert re.search(expected, line), line


def test_a_docstring_of_code_is_read_without_its_code(tmp_path):
    (tmp_path / "some.py").write_text(
        '"""Fine: ``cofficient``, cofficient.x."""\n\n\ndef f():\n    """A cofficient."""'
    )
    (line,) = lint.spelling(tmp_path / "some.py")
    assert line.startswith("some.py:5: cofficient is")
