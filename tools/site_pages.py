"""Put together what Sphinx reads: this folder's pages with their tables filled, the notebooks, a page for each module.

    python site/pages.py

Writes site/_build/source, and MathJax into site/_build/static. In a page, ``{{ name }}`` or ``{{ name argument }}``
stands for what the function of that name in PIECES returns.
"""

import ast
import json
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
SOURCE = HERE / "_build" / "source"
STATIC = HERE / "_build" / "static"
sys.path.insert(0, str(ROOT / "benchmarks"))
import proof  # noqa: E402
import tables  # noqa: E402

from effnet_utils import records  # noqa: E402

NOTEBOOKS = sorted(ROOT.glob("notebooks/*_*.ipynb"))
MODULES = [path for path in sorted(ROOT.glob("effnet_utils/*.py")) if not path.stem.startswith("_")]


def first_cell(path):
    """What a notebook's first cell says: its title, and {row: text} of its table."""
    text = "".join(json.loads(path.read_text())["cells"][0]["source"])
    rows = re.findall(r"^\| ([A-Z][^|]*?) \| ([^|]*?) \|$", text, re.MULTILINE)
    return text.split("\n", 1)[0].removeprefix("# "), dict(rows)


def notebook_map():
    """The notebooks in reading order: the question of each, as the README puts it, and its minutes."""
    readme, rows = (ROOT / "README.md").read_text(), []
    for path in NOTEBOOKS:
        title, facts = first_cell(path)
        question = re.search(rf"\]\(notebooks/{path.name}\) \| (.*) \|$", readme, re.MULTILINE)[1]
        times = {row.removeprefix("Time").removeprefix(", "): text for row, text in facts.items() if row[:4] == "Time"}
        time = "; ".join(f"{what}: {text}" if what else text for what, text in times.items())
        rows.append([f"[{title}](notebooks/{path.name})", question, time])
    return tables.table(["notebook", "what it answers", "time"], rows)


def notebook_names():
    return "\n".join(f"notebooks/{path.stem}" for path in NOTEBOOKS)


def module_map():
    rows = [
        [f"[`{path.stem}`](api/{path.stem}.rst)", ast.get_docstring(ast.parse(path.read_text())).split("\n", 1)[0]]
        for path in MODULES
    ]
    return tables.table(["module", "what is in it"], rows).replace("``", "`")


def module_names():
    return "\n".join(f"api/{path.stem}" for path in MODULES)


def parity():
    """What was found equal to the reference, and which mistakes the comparison notices."""
    record = records.read_record("benchmarks/proof")
    sizes, step, opened, teeth = proof.sentences(record)
    made = f"{tables.device(record['environment'])}, Keras {record['environment']['keras']}"
    link = tables.linked("benchmarks/proof")
    texts = [proof.parity_table(record), f"{sizes} {step}", opened, f"On {made}; {link}, `make bench BENCH=proof`."]
    return "\n\n".join([*texts, "## Would a mistake be noticed?", proof.teeth_table(record), teeth])


def published(name):
    """A table of data/published.json."""
    found = records.read_published(name)
    rows = [
        [str(model), *(str("–" if row.get(column) is None else row[column]) for column in found["columns"])]
        for model, row in found["rows"].items()
    ]
    source = f"{found['source']}: {found['where']}."
    return f"{tables.table(['', *found['columns'].values()], rows)}\n\n{' '.join([source, found.get('note', '')])}"


def all_records():
    found = records.read_records("*") | records.read_records("benchmarks/*")
    rows = [
        [f"[`{name}`](records/{name}.json)", tables.device(record["environment"]), record["environment"]["date"]]
        for name, record in found.items()
    ]
    return tables.table(["record", "device", "date"], rows)


PIECES = {
    **tables.BLOCKS,
    **{piece.__name__: piece for piece in (notebook_map, notebook_names, module_map, module_names)},
    **{piece.__name__: piece for piece in (parity, published, all_records)},
}


def filled(text, used):
    """A page with its pieces in place; notes in ``used`` which they were."""

    def piece(found):
        name, *arguments = found[1].split()
        used.add(found[1])
        return PIECES[name](*arguments)

    return re.sub(r"\{\{ (\w+(?: \w+)?) \}\}", piece, text)


def write_pages(folder):
    """All that Sphinx reads, into ``folder``. Raises ValueError when a table would be on no page."""
    used = set()
    shutil.copytree(
        ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns("*.py", "__pycache__", ".*")
    )
    shutil.copytree(ROOT / "records", folder / "records")
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "published.json", folder / "data")
    for page in HERE.glob("*.md"):
        (folder / page.name).write_text(filled(page.read_text(), used))
    (folder / "api").mkdir()
    for path in MODULES:
        title = f"{path.stem}\n{'=' * len(path.stem)}\n"
        (folder / "api" / f"{path.stem}.rst").write_text(f"{title}\n.. automodule:: effnet_utils.{path.stem}\n")
    names = json.loads((ROOT / "data" / "published.json").read_text())["tables"]
    wanted = {*tables.BLOCKS, *(f"published {name}" for name in names)}
    if not wanted <= used:
        raise ValueError(f"on no page of site/: {', '.join(f'{{{{ {name} }}}}' for name in sorted(wanted - used))}")


def copy_mathjax(folder):
    """The parts of MathJax 3.2.2, the last version 3, that the pages need; the package holds four times as much."""
    package = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    fonts = Path("output", "chtml", "fonts", "woff-v2")
    shutil.copytree(package / fonts, folder / fonts)
    shutil.copy(package / "tex-chtml.js", folder)


if __name__ == "__main__":
    for folder in (SOURCE, STATIC):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    write_pages(SOURCE)
    copy_mathjax(STATIC / "mathjax")
