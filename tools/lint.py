"""What `make lint` checks beside ruff, without TensorFlow, a kernel or a network: python -m tools.lint

Each check takes a file and yields lines that say where something is wrong, what it is, and what to do.
"""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from itertools import zip_longest

import nbformat
from markdown_it import MarkdownIt

from tools import links as link_check
from tools import measured, numbers, reading
from tools.notebooks import (
    COLLAPSED,
    LONG,
    MARK,
    NOTEBOOKS,
    ROOT,
    committed_metadata,
    definitions,
    module_of,
    number_of,
    read,
    tags,
)

PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("data/*.md"))]
# Their links lead to pages that tools/site_pages.py makes; tools/site_check.py follows these.
SITE_PAGES = sorted(ROOT.glob("site/*.md"))
CODE = [
    path
    for folder in ("benchmarks", "effnet_utils", "site", "tests", "tools")
    for path in sorted(ROOT.glob(f"{folder}/**/*.py"))
    if not {"node_modules", "_build"} & set(path.parts)
]
# Codespell's form: wrong->right, one a line.
WORDS = ROOT / "tools" / "words.txt"
LESSON_WORDS = ROOT / "tools" / "words_lessons.txt"  # the field's words for ours, where the network is taught
PEOPLE = "Borad"  # names that codespell takes for mistakes
MARKDOWN = MarkdownIt("commonmark").enable("table")
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
MACHINE = re.compile(r"(/home/|/root/|/tmp/|/Users/|/content/(?!drive))[\w./-]*")


# --- Where a text is ----------------------------------------------------------------------------------------------


def name(path):
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def command(path, code=False):
    """What executes a notebook and stores it clean; with ``code``, with the package's code copied into it."""
    number = number_of(path)
    return f"`make {'execute' if code and number in LONG else 'notebooks'} NB={number}`"


read = cache(read)


def cells(path):
    """(place, cell) of each cell; numbered from 1 as ruff does, a code cell's own number in brackets."""
    for index, cell in enumerate(read(path).cells, 1):
        count = f" [{cell.execution_count}]" if cell.cell_type == "code" else ""
        yield f"{name(path)}, cell {index}{count}", cell


def code_cells(path):
    return [(place, cell) for place, cell in cells(path) if cell.cell_type == "code"]


def tokens(path):
    """(place, token) of a file's Markdown without its formulas; the tokens of a line one by one."""
    if path.suffix == ".md":
        texts = [(name(path), path.read_text(encoding="utf-8"))]
    else:
        texts = [(place, cell.source) for place, cell in cells(path) if cell.cell_type == "markdown"]
    for place, text in texts:
        without_formulas = FORMULA.sub(lambda found: "\n" * found[0].count("\n"), text)
        for token in MARKDOWN.parse(without_formulas):
            line = f":{token.map[0] + 1}" if path.suffix == ".md" and token.map else ""
            for each in token.children or [token]:
                yield place + line, each


def html_values(token, attribute):
    """The values of an attribute in a piece of HTML."""
    return re.findall(rf'{attribute}="([^"]*)"', token.content) if token.type.startswith("html") else []


# --- The checks ---------------------------------------------------------------------------------------------------


def form(path):
    """Executed from top to bottom without errors, nothing of the machine that it ran on, small."""
    notebook = read(path)
    fix = f"{command(path)} fixes it"
    nbformat.validate(notebook)
    if path.stat().st_size >= 1_000_000:
        yield f"{name(path)}: {path.stat().st_size / 1e6:.1f} MB, at most 1 MB; show fewer or smaller figures"
    if stray := sorted(set(notebook.metadata) - {"kernelspec", "language_info", "accelerator"}):
        yield f"{name(path)}: metadata of an editor or a run: {', '.join(stray)}; {fix}"
    for place, cell in cells(path):
        if cell.metadata != committed_metadata(tags(cell)):
            yield f"{place}: metadata of an editor or a run: {', '.join(sorted(cell.metadata))}; {fix}"
        if found := MACHINE.search(json.dumps(cell)):
            yield f"{place}: a path of one machine, {found[0]}; print less, then {command(path)}"
    for count, (place, cell) in enumerate(code_cells(path), 1):
        if cell.execution_count != count:
            yield f"{place}: not executed from top to bottom, expected {count}; {fix}"
        if any(output.output_type == "error" or output.get("name") == "stderr" for output in cell.outputs):
            yield f"{place}: an error or a warning among the outputs; correct the code, then {command(path)}"
        if MARK in tags(cell) and not cell.outputs:
            yield f"{place}: tagged {MARK} without an output to compare; print something, then {command(path)}"
        if (COLLAPSED in tags(cell)) != cell.source.startswith("# @title "):
            yield f"{place}: a collapsed cell has the tag {COLLAPSED} and the first line `# @title ...`; add the other"
    if not any(cell.get("outputs") for cell in notebook.cells):
        yield f"{name(path)}: no outputs; {fix}"


def code(path, root=ROOT):
    """What a notebook builds and the package ships is the same code."""
    for place, cell in code_cells(path):
        module = module_of(cell, root)
        if module is None:
            continue
        here = definitions(cell.source)
        there = definitions(module.read_text(encoding="utf-8"))
        if not here:
            yield f"{place}: nothing is defined below `{cell.source.splitlines()[0]}`; drop that line"
        for function, (text, _) in here.items():
            if function not in there:
                yield f"{place}: {function} is not in {module.name}; define it there, or drop the cell's first line"
            elif text != there[function][0]:
                new, old = first_difference(there[function][0], text)
                yield (
                    f"{place}: {function} differs from effnet_utils/{module.name} (`{new}` there, `{old}` here); "
                    f"{command(path, code=True)} copies the module's code and executes the notebook"
                )


def first_difference(one, other):
    """The first lines of two texts that differ."""
    for a, b in zip_longest(one.splitlines(), other.splitlines(), fillvalue=""):
        if a != b:
            return a.strip(), b.strip()
    raise ValueError("the two texts are equal")


def badges(path):
    """Each badge opens its own notebook; the README lists all of them, with the minutes that they state."""
    if path.suffix == ".ipynb":
        first = read(path).cells[0].source
        if not first.startswith("# ") or f"/blob/main/notebooks/{path.name})" not in first:
            yield f"{name(path)}, cell 1: no title and badge for notebooks/{path.name}; copy another's and change both"
    if path.name == "README.md":
        lines = path.read_text(encoding="utf-8").splitlines()
        for notebook in NOTEBOOKS:
            parts = (f"](notebooks/{notebook.name})", f"/blob/main/notebooks/{notebook.name})")
            found = [line for line in lines if all(part in line for part in parts)]
            minutes = re.search(r"\| Reading \| (\d+) minutes", read(notebook).cells[0].source)[1]
            if not found:
                yield f"{name(path)}: no line with badge and link of notebooks/{notebook.name}; add it to the table"
            elif f"| {minutes} min |" not in found[0]:
                yield f"{name(path)}: {notebook.name} states {minutes} minutes of reading; write | {minutes} min |"


def pictures(path):
    """Each picture has a text that says what it shows, each link one that says where it leads."""
    before = None
    for place, token in tokens(path):
        bare = token.type.startswith("html") and re.search(r"<img\b(?![^>]*alt=\"[^\"])", token.content)
        if bare or (token.type == "image" and not token.content.strip()):
            yield f"{place}: an image without alt text; write what it shows: ![...](...)"
        if token.type == "link_close" and before == "link_open":
            yield f"{place}: a link without text; write where it leads: [...](...)"
        before = token.type
    for place, cell in code_cells(path) if path.suffix == ".ipynb" else ():
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                if not output.metadata.get("image/png", {}).get("alt", "").strip():
                    yield f'{place}: a figure without alt text; show(figure, "what it shows"), then {command(path)}'


def anchors(path):
    """What links into a file may name: headings as GitHub writes them, in notebooks as Jupyter does; ids in HTML."""
    if path.suffix not in (".md", ".ipynb"):
        return None
    found = set()
    heading = None
    for _, token in tokens(path):
        found |= {*html_values(token, "id"), *html_values(token, "name")}
        if token.type == "heading_open":
            heading = ""
        elif token.type == "heading_close":
            if path.suffix == ".md":
                heading = re.sub(r"[^\w\- ]", "", heading.lower())
            found.add(heading.replace(" ", "-"))
            heading = None
        elif heading is not None:
            heading += token.content
    return found


def links(path):
    """Each relative link leads to a file of the project, and to a heading that is there."""
    for place, token in tokens(path):
        targets = html_values(token, "href") + html_values(token, "src")
        if token.type in ("link_open", "image"):
            targets += [token.attrs[key] for key in ("href", "src") if key in token.attrs]
        for target in targets:
            if wrong := link_check.problem(path, target, anchors):
                yield f"{place}: {wrong}"


# --- Spelling -----------------------------------------------------------------------------------------------------


def docstrings(place, source):
    """(place, text) of each docstring of a source text, which may have IPython's magics."""
    tree = ast.parse(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", source))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            line = "" if ", cell" in place else f":{node.body[0].lineno}"
            yield place + line, ast.get_docstring(node)


def prose(path):
    """(place, text) of what is written for people: Markdown without code and formulas, and docstrings."""
    if path.suffix == ".py":
        found = [*docstrings(name(path), path.read_text(encoding="utf-8"))]
    else:
        yield from ((place, token.content) for place, token in tokens(path) if token.type in ("text", "image"))
        sources = code_cells(path) if path.suffix == ".ipynb" else []
        found = [each for place, cell in sources for each in docstrings(place, cell.source)]
    for place, text in found:
        for token in MARKDOWN.parse(text):
            for each in token.children or []:
                if each.type == "text":
                    yield place, each.content


def spelling(*paths, words=WORDS):
    """No word for which codespell's dictionaries or ``words`` have a better one."""
    texts = [each for path in paths for each in prose(path)]
    # Addresses and names of things in code, which Markdown does not mark in a docstring.
    in_code = re.compile(r"\S*[\w)]?[_/@=(){}<>\\]\S*\w\S*|\S*\w[.]\w\S*")
    lines = [in_code.sub(" ", text).replace("\n", " ") for _, text in texts]
    command = [sys.executable, "-m", "codespell_lib", "--stdin-single-line", "--ignore-words-list", PEOPLE.lower()]
    command += ["--builtin", "clear,rare", "--dictionary", "-", "--dictionary", str(words), "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, encoding="utf-8")
    if done.stderr:
        raise RuntimeError(f"codespell: {done.stderr}")
    for line, wrong, better in re.findall(r"(?m)^(\d+): (\S+) ==> (.+)$", done.stdout):
        place, _ = texts[int(line) - 1]
        yield f"{place}: {wrong} is misspelt or not our word; write {better}"


CHECKS = {
    form: NOTEBOOKS,
    code: NOTEBOOKS,
    badges: [ROOT / "README.md", *NOTEBOOKS],
    pictures: PAGES + NOTEBOOKS,
    links: PAGES + NOTEBOOKS,
    numbers.unproved: [ROOT / "README.md", ROOT / "data" / "README.md", *SITE_PAGES, *NOTEBOOKS],
}
LESSONS = [path for path in NOTEBOOKS if number_of(path) in reading.BUDGET]
SPELT = PAGES + SITE_PAGES + NOTEBOOKS + CODE


def problems():
    """Everything that the checks find in the project."""
    for check, paths in CHECKS.items():
        for path in paths:
            yield from check(path)
    yield from measured.problems()
    yield from spelling(*SPELT)
    yield from spelling(*LESSONS, words=LESSON_WORDS)


def main():
    found = list(problems())
    _, unknown = measured.measured_before()
    if unknown:
        print(
            f"{len(unknown)} records name a commit that this clone's history does not have; whether their code has "
            "changed was not checked"
        )
    print("\n".join(found) or "Notebooks, records, links, alt text and spelling: nothing to fix")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
