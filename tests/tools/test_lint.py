"""`make lint` finds nothing here, notices each kind of mistake, and says where it is and what mends it."""

import ast
import re
import shutil
import subprocess
import sys

import lint
import nbformat
import pytest

ROOT = lint.ROOT


@pytest.mark.parametrize("check", lint.CHECKS, ids=lambda check: check.__name__)
def test_nothing_to_mend(check):
    assert lint.CHECKS[check]
    assert [line for path in lint.CHECKS[check] for line in check(path)] == []


def test_each_word_of_the_list_is_needed():
    texts = [text for path in lint.CHECKS[lint.spelling] for _, text in lint.prose(path)]
    written = {word.lower() for text in texts for word in lint.words(text)}
    listed = lint.WORDS.read_text(encoding="utf-8").split()
    assert listed == sorted(set(listed), key=str.lower), "tests/words.txt: one word a line, in alphabetical order"
    assert not {word.lower() for word in listed} - written, "tests/words.txt: words that no text has; drop them"


# --- A change in the package that a notebook does not have ----------------------------------------------------------


def shared():
    """(notebook, cell's number, module, name) of what notebooks build and the package ships."""
    for path in lint.NOTEBOOKS:
        for place, cell in lint.cells(path):
            module = lint.publish.module_of(cell) if cell.cell_type == "code" else None
            for name in lint.publish.definitions(cell.source) if module else ():
                yield pytest.param(path, place, module, name, id=f"{path.stem.split('_')[0]}-{name}")


def with_another_constant(text, name):
    """A module's text with the first number in a function, class or constant one larger; with `pass` if it has none."""
    (node,) = [node for node in ast.parse(text).body if name in (getattr(node, "name", ""), *targets(node))]
    numbers = [each for each in ast.walk(node) if isinstance(each, ast.Constant) and type(each.value) in (int, float)]
    lines = text.split("\n")
    if not numbers:
        lines.insert(node.end_lineno, "    pass")
        return "\n".join(lines)
    number = numbers[0]
    line = lines[number.lineno - 1]
    lines[number.lineno - 1] = line[: number.col_offset] + str(number.value + 1) + line[number.end_col_offset :]
    return "\n".join(lines)


def targets(node):
    return [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]


@pytest.mark.parametrize(("path", "place", "module", "name"), [*shared()])
def test_a_changed_constant_is_named_with_notebook_cell_and_command(path, place, module, name, tmp_path, monkeypatch):
    changed = tmp_path / "effnet_utils" / module.name
    changed.parent.mkdir()
    changed.write_text(with_another_constant(module.read_text(encoding="utf-8"), name), encoding="utf-8")
    monkeypatch.setattr(lint.publish, "HERE", tmp_path / "notebooks")
    for each in (ROOT / "effnet_utils").glob("*.py"):
        if each.name != module.name:
            shutil.copy(each, changed.parent)
    (line,) = lint.code(path)
    number = path.name.split("_")[0]
    target = "full" if number in lint.publish.LONG else "notebooks"
    assert line.startswith(f"{place}: {name} differs from effnet_utils/{module.name} (`")
    assert f"`make {target} NB={number}` takes the module's code over and executes the notebook" in line
    mended = tmp_path / "notebooks" / path.name
    mended.parent.mkdir()
    nbformat.write(lint.publish.with_packages_code(path), mended)
    assert not [*lint.code(mended)]


def test_make_lint_ends_with_the_message(tmp_path):
    for folder in (".github", "benchmarks", "data/photos", "effnet_utils", "notebooks", "records", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (ROOT / "Makefile", ROOT / "LICENSE", ROOT / "data" / "published.json", *lint.PAGES):
        shutil.copy(file, tmp_path / file.relative_to(ROOT))
    scaling = tmp_path / "effnet_utils" / "scaling.py"
    text = scaling.read_text(encoding="utf-8")
    assert "alpha=1.2" in text
    scaling.write_text(text.replace("alpha=1.2", "alpha=1.3"), encoding="utf-8")
    done = subprocess.run([sys.executable, tmp_path / "tests" / "lint.py"], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    (line,) = done.stdout.splitlines()
    assert re.fullmatch(
        r"notebooks/06_compound_scaling\.ipynb, cell \d+ \[\d+\]: compound_coefficients differs from "
        r"effnet_utils/scaling\.py \(`def .*alpha=1\.3.*` there, `def .*alpha=1\.2.*` here\); `make notebooks NB=06` "
        r"takes the module's code over and executes the notebook",
        line,
    )


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

MISTAKES = {
    "editor's metadata": (
        lint.form,
        notebook(executed("1", printed()), colab={}),
        ": metadata .* colab; `make notebooks",
    ),
    "cell's metadata": (
        lint.form,
        notebook(executed("1", printed(), id="x")),
        r", cell 1 \[1\]: metadata .* id; `make",
    ),
    "not in order": (lint.form, notebook(executed("1", printed(), count=3)), r"cell 1 \[3\]: not executed .* 1 is due"),
    "not executed": (lint.form, notebook(executed("1")), ": no outputs; `make notebooks NB=98` mends it"),
    "path": (lint.form, notebook(executed("1", printed("/home/me/x"))), "cell 1 .*a path of one machine, /home/me/x"),
    "error": (lint.form, notebook(executed("1", failed)), "an error or a warning among the outputs"),
    "warning": (lint.form, notebook(executed("1", printed(name="stderr"))), "an error or a warning among the outputs"),
    "large": (lint.form, notebook(executed("1", printed("1" * 1_000_000))), "1.0 MB, at most 1 MB"),
    "never compared": (
        lint.form,
        notebook(executed("# NBVAL_CHECK_OUTPUT\n1"), executed("1", printed(), count=2)),
        r"cell 1 \[1\]: a marked cell without an output",
    ),
    "nothing defined": (
        lint.code,
        notebook(executed("# -> effnet_utils/blocks.py\nx()")),
        "nothing is defined below `# ->",
    ),
    "not in the package": (
        lint.code,
        notebook(executed("# -> effnet_utils/blocks.py\ndef nowhere(): pass")),
        "nowhere is not in blocks.py; define it there",
    ),
    "no badge": (lint.badges, notebook(text("# Title")), "cell 1: no title and badge for notebooks/98_some.ipynb"),
    "another's badge": (
        lint.badges,
        notebook(text("# T\n(/blob/main/notebooks/01_swish.ipynb)")),
        "98_some.ipynb; copy",
    ),
    "not in the table": (
        lint.badges,
        "# No table",
        "README.md: no line with badge and link of notebooks/00_start_here",
    ),
    "figure": (
        lint.pictures,
        notebook(executed("1", figure)),
        r"cell 1 \[1\]: a figure without alt text; show\(figure",
    ),
    "image": (lint.pictures, notebook(text("![](a.png)")), r"98_some.ipynb, cell 1: an image without alt text"),
    "HTML image": (lint.pictures, 'One\n\nTwo <img src="a.png">', "README.md:3: an image without alt text"),
    "empty link": (lint.pictures, "[](README.md)", "README.md:1: a link without text"),
    "file": (lint.links, "# One\n\n[text](none.md)", "README.md:3: none.md leads nowhere; correct it"),
    "heading": (
        lint.links,
        "# It's `one`\n[text](#its-two)",
        "README.md:2: README.md has no heading #its-two; it has its-one",
    ),
    "notebook's heading": (
        lint.links,
        notebook(text("# My title\n[x](#my-title)")),
        "no heading #my-title; it has My-title",
    ),
    "HTML link": (lint.links, 'a <a href="none.md">x</a>', "README.md:1: none.md leads nowhere"),
    "typing mistake": (
        lint.spelling,
        "One\n\nthe cofficient",
        r"README.md:3: cofficient is not .*\(coefficient\?\); correct",
    ),
    "in a notebook": (lint.spelling, notebook(text("a *paramter*")), "98_some.ipynb, cell 1: paramter is not"),
    "in a notebook's docstring": (
        lint.spelling,
        notebook(executed('%pip list\ndef one():\n    """A cofficient."""')),
        r"cell 1 \[1\]: cofficient is not",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_noticed(mistake, tmp_path):
    check, content, expected = MISTAKES[mistake]
    path = tmp_path / ("README.md" if isinstance(content, str) else "98_some.ipynb")
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        nbformat.write(content, path)
    lines = list(check(path))
    assert lines and re.search(expected, lines[0]), lines
    assert len(lines) == (len(lint.NOTEBOOKS) if mistake == "not in the table" else 1), lines


def test_a_docstring_of_code_is_read(tmp_path):
    (tmp_path / "some.py").write_text(
        '"""Fine: ``cofficient``."""\n\n\ndef one():\n    """A cofficient.\n\n    Copy with: x.\n    """'
    )
    (line,) = lint.spelling(tmp_path / "some.py")
    assert line.startswith("some.py:5: cofficient is not in the dictionary")


def test_good_links_pass(tmp_path):
    page = '# A & b: `c`\n\n<a id="here"></a>\n[x](#a--b-c) [y](#here) [z](https://none.example/#x) ![p](README.md)'
    (tmp_path / "README.md").write_text(page)
    assert not [*lint.links(tmp_path / "README.md"), *lint.pictures(tmp_path / "README.md")]
