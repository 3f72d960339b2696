"""What `make lint` checks beside ruff, without TensorFlow, a kernel or a network: python tests/lint.py

Each check takes a file and yields lines that say where something is wrong, what it is, and what to do.
"""

import ast
import json
import re
import sys
from functools import cache
from itertools import zip_longest
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from markdown_it import MarkdownIt
from spellchecker import SpellChecker

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import publish  # noqa: E402

NOTEBOOKS = sorted(ROOT.glob("notebooks/*_*.ipynb"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("data/*.md"))]
CODE = [path for folder in ("benchmarks", "effnet_utils", "notebooks", "tests") for path in ROOT.glob(f"{folder}/*.py")]
WORDS = ROOT / "tests" / "words.txt"
MARKDOWN = MarkdownIt("commonmark").enable("table")
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
MACHINE = re.compile(r"(/home/|/root/|/tmp/|/Users/|/content/(?!drive))[\w./-]*")


# --- Where text stands --------------------------------------------------------------------------------------------


def name(path):
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def command(path, code=False):
    """What executes a notebook again and stores it clean; with ``code``, the package's code taken over."""
    number = path.name.split("_")[0]
    return f"`make {'full' if code and number in publish.LONG else 'notebooks'} NB={number}`"


@cache
def read(path):
    return nbformat.read(path, as_version=4)


def cells(path):
    """(place, cell) of each cell; numbered from 1 as ruff does, a code cell's own number in brackets."""
    for index, cell in enumerate(read(path).cells, 1):
        count = f" [{cell.execution_count}]" if cell.cell_type == "code" else ""
        yield f"{name(path)}, cell {index}{count}", cell


def tokens(path):
    """(place, token) of a file's Markdown without its formulas; tokens of a line one by one."""
    texts = [(name(path), path.read_text(encoding="utf-8"))] if path.suffix == ".md" else []
    if path.suffix == ".ipynb":
        texts = [(place, cell.source) for place, cell in cells(path) if cell.cell_type == "markdown"]
    for place, text in texts:
        for token in MARKDOWN.parse(FORMULA.sub(lambda found: "\n" * found[0].count("\n"), text)):
            line = f":{token.map[0] + 1}" if path.suffix == ".md" and token.map else ""
            for each in token.children or [token]:
                yield place + line, each


def html(token, attribute):
    """The values of an attribute in a piece of HTML."""
    return re.findall(rf'{attribute}="([^"]*)"', token.content) if token.type.startswith("html") else []


# --- The checks ---------------------------------------------------------------------------------------------------


def form(path):
    """Executed from top to bottom without errors, nothing of the machine that it ran on, small."""
    notebook, mend = read(path), f"{command(path)} mends it"
    nbformat.validate(notebook)
    if path.stat().st_size >= 1_000_000:
        yield f"{name(path)}: {path.stat().st_size / 1e6:.1f} MB, at most 1 MB; show fewer or smaller figures"
    if stray := sorted(set(notebook.metadata) - {"kernelspec", "language_info", "accelerator"}):
        yield f"{name(path)}: metadata of an editor or a run: {', '.join(stray)}; {mend}"
    count = 0
    for place, cell in cells(path):
        if stray := sorted(set(cell.metadata) - {"tags"}):
            yield f"{place}: metadata of an editor or a run: {', '.join(stray)}; {mend}"
        if found := MACHINE.search(json.dumps(cell)):
            yield f"{place}: a path of one machine, {found[0]}; print less, then {command(path)}"
        if cell.cell_type != "code":
            continue
        count += 1
        if cell.execution_count != count:
            yield f"{place}: not executed from top to bottom, {count} is due; {mend}"
        if any(output.output_type == "error" or output.get("name") == "stderr" for output in cell.outputs):
            yield f"{place}: an error or a warning among the outputs; mend the code, then {command(path)}"
        if "NBVAL_CHECK_OUTPUT" in cell.source and not cell.outputs:
            yield f"{place}: a marked cell without an output is never compared; print something, then {command(path)}"
    if not any(cell.get("outputs") for cell in notebook.cells):
        yield f"{name(path)}: no outputs; {mend}"


def code(path):
    """What a notebook builds and the package ships is the same code."""
    for place, cell in cells(path):
        module = publish.module_of(cell) if cell.cell_type == "code" else None
        if module is None:
            continue
        here, there = publish.definitions(cell.source), publish.definitions(module.read_text(encoding="utf-8"))
        if not here:
            yield f"{place}: nothing is defined below `{cell.source.splitlines()[0]}`; drop that line"
        for function, (text, _) in here.items():
            if function not in there:
                yield f"{place}: {function} is not in {module.name}; define it there, or drop the cell's first line"
            elif text != there[function][0]:
                lines = zip_longest(there[function][0].splitlines(), text.splitlines(), fillvalue="")
                new, old = next((new.strip(), old.strip()) for new, old in lines if new != old)
                yield (
                    f"{place}: {function} differs from effnet_utils/{module.name} (`{new}` there, `{old}` here); "
                    f"{command(path, code=True)} takes the module's code over and executes the notebook"
                )


def badges(path):
    """Each badge opens its own notebook; the README lists all of them."""
    if path.suffix == ".ipynb":
        first = read(path).cells[0].source
        if not first.startswith("# ") or f"/blob/main/notebooks/{path.name})" not in first:
            yield f"{name(path)}, cell 1: no title and badge for notebooks/{path.name}; copy another's and change both"
    if path.name == "README.md":
        lines = path.read_text(encoding="utf-8").splitlines()
        for notebook in NOTEBOOKS:
            parts = f"](notebooks/{notebook.name})", f"/blob/main/notebooks/{notebook.name})"
            if not any(all(part in line for part in parts) for line in lines):
                yield f"{name(path)}: no line with badge and link of notebooks/{notebook.name}; add it to the table"


def pictures(path):
    """Each picture has a text that says what it shows, each link one that says where it leads."""
    before = None
    for place, token in tokens(path):
        bare = re.search(r"<img\b(?![^>]*alt=\"[^\"])", token.content) if token.type.startswith("html") else None
        if bare or (token.type == "image" and not token.content.strip()):
            yield f"{place}: an image without alt text; write what it shows: ![...](...)"
        if token.type == "link_close" and before == "link_open":
            yield f"{place}: a link without text; write where it leads: [...](...)"
        before = token.type
    for place, cell in cells(path) if path.suffix == ".ipynb" else ():
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                if not output.metadata.get("image/png", {}).get("alt", "").strip():
                    yield f'{place}: a figure without alt text; show(figure, "what it shows"), then {command(path)}'


def anchors(path):
    """What links into a file may name: headings as GitHub writes them, in notebooks as Jupyter does; ids in HTML."""
    found, heading = set(), None
    for _, token in tokens(path):
        found |= {*html(token, "id"), *html(token, "name")}
        if token.type == "heading_open":
            heading = ""
        elif token.type == "heading_close":
            heading = re.sub(r"[^\w\- ]", "", heading.lower()) if path.suffix == ".md" else heading
            found.add(heading.replace(" ", "-"))
            heading = None
        elif heading is not None:
            heading += token.content
    return found


def links(path):
    """Each relative link leads to a file of the project, and to a heading that is there."""
    for place, token in tokens(path):
        attributes = {**token.attrs} if token.type in ("link_open", "image") else {}
        for target in [*attributes.values(), *html(token, "href"), *html(token, "src")]:
            url = urlsplit(unquote(target))
            if url.scheme or url.netloc:
                continue
            file = (path.parent / url.path).resolve() if url.path else path
            if not file.exists():
                yield f"{place}: {target} leads nowhere; correct it"
            elif url.fragment and file.suffix in (".md", ".ipynb") and url.fragment not in anchors(file):
                yield f"{place}: {name(file)} has no heading #{url.fragment}; it has {', '.join(sorted(anchors(file)))}"


# --- Spelling -----------------------------------------------------------------------------------------------------


def docstrings(place, source):
    """(place, text) of each docstring of a source text, which may have IPython's magics."""
    tree = ast.parse(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", source))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            line = "" if ", cell" in place else f":{node.body[0].lineno}"
            yield place + line, re.sub(r"(?m)^ +[\w, *]+: |Copy with:[^.]*\.", "", ast.get_docstring(node))


def prose(path):
    """(place, text) of what is written for people: Markdown without code and formulas, and docstrings."""
    if path.suffix == ".py":
        found = docstrings(name(path), path.read_text(encoding="utf-8"))
    else:
        yield from ((place, token.content) for place, token in tokens(path) if token.type in ("text", "image"))
        sources = [each for each in cells(path) if each[1].cell_type == "code"] if path.suffix == ".ipynb" else []
        found = (each for place, cell in sources for each in docstrings(place, cell.source))
    for place, text in found:
        for token in (each for outer in MARKDOWN.parse(text) for each in outer.children or []):
            yield place, token.content if token.type == "text" else ""


def words(text):
    """The plain words of a text: no addresses, names of things in code, abbreviations or formulas."""
    text = re.sub(r"\S*[\w)]?[_/@=(){}<>\\]\S*\w\S*|\S*\w[.]\w\S*", " ", text)
    return [word.removesuffix("'s") for word in re.findall(r"(?<![\w'])[A-Z]?[a-z]{2,}(?:'[a-z]+)?(?!\w)", text)]


@cache
def dictionary():
    checker = SpellChecker(distance=1)
    checker.word_frequency.load_words(WORDS.read_text(encoding="utf-8").split())
    return checker


def spelling(path):
    """Words of the dictionary or of tests/words.txt."""
    checker = dictionary()
    for place, text in prose(path):
        for word in words(text):
            if checker.unknown([word]):
                guess = checker.correction(word)
                guess = f" ({guess}?)" if guess and guess != word.lower() else ""
                yield f"{place}: {word} is not in the dictionary{guess}; correct it, or add it to tests/words.txt"


CHECKS = {
    form: NOTEBOOKS,
    code: NOTEBOOKS,
    badges: [ROOT / "README.md", *NOTEBOOKS],
    pictures: PAGES + NOTEBOOKS,
    links: PAGES + NOTEBOOKS,
    spelling: PAGES + NOTEBOOKS + CODE,
}


def main():
    found = [line for check, paths in CHECKS.items() for path in paths for line in check(path)]
    print("\n".join(found) or "Notebooks, links, alt text and spelling: nothing to mend")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
