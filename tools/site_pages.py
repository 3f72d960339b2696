"""Put together what Sphinx reads: the pages of site/ with their tables filled, the notebooks, a page for each module.

    python -m tools.site_pages

Writes site/_build/source, and MathJax and the small pictures into site/_build/static. In a page, ``{{ name }}`` or
``{{ name argument }}`` stands for what the function of that name in PIECES returns.
"""

import ast
import json
import re
import shutil
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.pilots import COMBINED, PILOTS
from effnet_utils import evidence
from effnet_utils.experiments import records
from effnet_utils.files import read_published
from tools import architecture_map, explore, measured, site_pictures, tables
from tools.notebooks import NOTEBOOKS, ROOT, read, title_of

SITE = ROOT / "site"
SOURCE = SITE / "_build" / "source"
STATIC = SITE / "_build" / "static"
PACKAGE = ROOT / "effnet_utils"
# Those of a folder follow the package's own; names that begin with an underscore are not for readers.
# Those whose file and folder do not begin with an underscore.
MODULES = [*sorted(PACKAGE.glob("[!_]*.py")), *sorted(PACKAGE.glob("[!_]*/[!_]*.py"))]


def dotted(path):
    """A module's name in the package: "training.recipe"."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def first_cell(path):
    """What a notebook's first cell says: its title, and {row: text} of its table."""
    notebook = read(path)
    rows = re.findall(r"^\| ([A-Z][^|]*?) \| ([^|]*?) \|$", notebook.cells[0].source, re.MULTILINE)
    return title_of(notebook), dict(rows)


def notebook_map():
    """The notebooks in reading order: of each a picture, its question, as the README puts it, and its minutes."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = []
    for path in NOTEBOOKS:
        title, facts = first_cell(path)
        question = re.search(rf"\]\(notebooks/{path.name}\) <br>(.*?) \|", readme)[1]
        times = []
        for row, text in facts.items():
            if row.startswith(("Reading", "Running")):
                what = row.removeprefix("Running").removeprefix(", ")
                times.append(f"{what}: {text}" if what else text)
        picture = f'<img class="thumbnail" src="_static/thumbnails/{path.stem}.png" alt="" width="120" height="80">'
        rows.append([f"[{picture} {title}](notebooks/{path.name})", question, "; ".join(times)])
    return tables.table(["notebook", "what it answers", "time"], rows)


def notebook_names():
    return "\n".join(f"notebooks/{path.stem}" for path in NOTEBOOKS)


def module_map():
    rows = []
    for path in MODULES:
        first_line = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n", 1)[0]
        rows.append([f"[`{dotted(path)}`](api/{dotted(path)}.rst)", first_line.replace("``", "`")])
    return tables.table(["module", "what is in it"], rows)


def module_names():
    return "\n".join(f"api/{dotted(path)}" for path in MODULES)


def published(name):
    """A table of data/published.json."""
    found = read_published(name)
    rows = []
    for model, row in found["rows"].items():
        rows.append([str(model), *(str(row.get(column, "–")) for column in found["columns"])])
    note = f"{found['source']}: {found['where']}. {found.get('note', '')}"
    return f"{tables.table(['', *found['columns'].values()], rows)}\n\n{note}"


def pilots():
    """The short runs by which notebook 07's recipe was chosen: each against the base, by the rule of ``evidence``."""
    accuracies = records.validation_accuracies("pilot_*", "pilot")
    rows = []
    for row in sorted(evidence.compare(accuracies, "base", images=5000), key=lambda row: -row.mean):
        interval = "–" if row.verdict == evidence.TOO_FEW else f"{row.low:+.1f} to {row.high:+.1f}"
        rows.append([f"`{row.name}`", f"{row.mean:+.1f}", interval, f"{len(row.gains)}", row.verdict])
    for name in (*PILOTS, *COMBINED):
        if name not in accuracies:
            rows.append([f"`{name}`", *[tables.NOT_MEASURED] * 2, "0", tables.NOT_MEASURED])
    base = ", ".join(f"{100 * accuracy:.1f} %" for accuracy in accuracies["base"].values())
    titles = ["what differs", "points", "interval", "seeds", "verdict"]
    return f"The base reached {base}.\n\n{tables.table(titles, rows)}"


def all_records():
    found = records.read_records("*") | records.read_records("benchmarks/*")
    before = measured.listed()
    rows = []
    for name, record in found.items():
        made = record["environment"]
        code = "changed" if name in before else "the same"
        rows.append([f"[`{name}`](records/{name}.json)", tables.device(made), made["date"], made["commit"][:10], code])
    return tables.table(["record", "device", "date", "commit", "code since"], rows)


def network_source():
    """The page's script of the network; the page runs the text that it shows."""
    return f"```javascript\n{(SITE / '_static' / 'explore' / 'network.js').read_text(encoding='utf-8')}```"


PIECES = {
    **{name: partial(tables.block, name) for name in tables.BLOCKS},
    "notebook_map": notebook_map,
    "notebook_names": notebook_names,
    "module_map": module_map,
    "module_names": module_names,
    "published": published,
    "pilots": pilots,
    "all_records": all_records,
    "network_source": network_source,
    "chart": site_pictures.chart_image,
    "explore_difference": explore.difference,
    "b0_fact": explore.b0_fact,
    "architecture": architecture_map.site_map,
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
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(ROOT / "records", folder / "records")
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "published.json", folder / "data")
    used = set()
    for page in SITE.glob("*.md"):
        (folder / page.name).write_text(filled(page.read_text(encoding="utf-8"), used), encoding="utf-8")
    site_pictures.write_charts(folder / "charts")
    (folder / "api").mkdir()
    for path in MODULES:
        name = dotted(path)
        text = f"{name}\n{'=' * len(name)}\n\n.. automodule:: effnet_utils.{name}\n"
        (folder / "api" / f"{name}.rst").write_text(text, encoding="utf-8")
    published = json.loads((ROOT / "data" / "published.json").read_text(encoding="utf-8"))
    wanted = {*tables.BLOCKS, *(f"published {name}" for name in published["tables"])} - {*tables.README_ONLY}
    if not wanted <= used:
        raise ValueError(f"on no page of site/: {', '.join(f'{{{{ {name} }}}}' for name in sorted(wanted - used))}")


def copy_mathjax(folder):
    """The parts of MathJax 3.2.2, the last version 3, that the pages need; the package holds four times as much."""
    package = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    fonts = Path("output", "chtml", "fonts", "woff-v2")
    shutil.copytree(package / fonts, folder / fonts)
    shutil.copy(package / "tex-chtml.js", folder)


def main():
    for folder in (SOURCE, STATIC):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    write_pages(SOURCE)
    copy_mathjax(STATIC / "mathjax")
    explore.write(STATIC / "explore")
    shutil.copytree(ROOT / "notebooks" / "images" / "thumbnails", STATIC / "thumbnails")


if __name__ == "__main__":
    main()
