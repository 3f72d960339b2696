"""How long the core of each notebook takes to read, as a table: python -m tools.reading

Counted as words / 200 per minute, half a minute for each visible code cell and for each figure, and the minutes that
the heading of each exercise states. The core ends at the heading "Optional". `make notebooks` writes the result into
the first cell. The exit code is 1 when a notebook takes longer than its budget.
"""

import re
import sys

from tools.notebooks import COLLAPSED, NOTEBOOKS, lines_of_code, number_of, read, tags

# Minutes; a notebook without a budget has no optional sections and is not listed.
BUDGET = {"00": 10, "01": 25, "02": 30, "03": 30, "04": 40, "05": 40, "06": 35, "A1": 30, "A2": 30}
BUDGET |= dict.fromkeys(("07", "08", "09", "10", "11", "12"), 30)
LARGEST_FRACTION_OF_PLOTTING = 0.1
OPTIONAL = re.compile(r"^## Optional", re.MULTILINE)
EXERCISE = re.compile(r"^##+ .*Your turn.*\((\d+) minutes\)$", re.MULTILINE)
PLOTTING = re.compile(r"\b(plots|plt|axe?s?|fig|figure)\b[.,( ]")
NOT_WORDS = (
    (r"```.*?```", " "),  # code
    (r"\[!\[.*?\]\(.*?\)\]\(.*?\)", " "),  # the badge
    (r"\$\$.*?\$\$|\$[^$]+\$", "formula"),
    (r"\]\([^)]*\)", "]"),  # where links lead
    (r"<[^>]+>", " "),
)
READING = re.compile(r"^\| Reading \| .*? \|$", re.MULTILINE)


def core(notebook):
    """The cells before the optional sections."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and OPTIONAL.search(cell.source):
            break
        found.append(cell)
    return found


def words(text):
    for pattern, instead in NOT_WORDS:
        text = re.sub(pattern, instead, text, flags=re.DOTALL)
    return len(re.findall(r"\S*\w\S*", text))


def measured(notebook):
    """What there is to read in a notebook's core: {quantity: number}."""
    counts = dict.fromkeys(("words", "visible", "lines", "plotting", "collapsed", "figures", "graders", "exercises"), 0)
    after_exercise = False
    for cell in core(notebook):
        if cell.cell_type == "markdown":
            text = cell.source
            if after_exercise:  # hints and solution: part of the exercise's minutes
                text = re.sub(r"<details>.*?</details>", " ", text, flags=re.DOTALL)
            counts["words"] += words(text)
            counts["exercises"] += sum(int(minutes) for minutes in EXERCISE.findall(text))
            after_exercise = False
            continue
        after_exercise = "exercise" in tags(cell)
        counts["figures"] += sum("image/png" in output.get("data", {}) for output in cell.outputs)
        if after_exercise:
            counts["graders"] += 1
        elif COLLAPSED in tags(cell):
            counts["collapsed"] += 1
        else:
            lines = lines_of_code(cell)
            counts["visible"] += 1
            counts["lines"] += len(lines)
            counts["plotting"] += sum(bool(PLOTTING.search(line)) for line in lines)
    counts["minutes"] = counts["words"] / 200 + 0.5 * counts["visible"] + 0.5 * counts["figures"] + counts["exercises"]
    return counts


def row(counts):
    """The line of the first cell's table that says how long the core takes."""
    text = f"{round(counts['minutes'])} minutes"
    if counts["exercises"]:
        text += f", {counts['exercises']} of them for writing code yourself"
    return f"| Reading | {text} |"


def problems(number, notebook):
    counts = measured(notebook)
    if counts["minutes"] > BUDGET[number]:
        yield f"{number}: {counts['minutes']:.1f} minutes, at most {BUDGET[number]}; make something optional or drop it"
    if counts["plotting"] > LARGEST_FRACTION_OF_PLOTTING * counts["lines"]:
        yield f"{number}: {counts['plotting']} of {counts['lines']} visible lines draw figures; collapse their cells"
    stated = READING.findall(notebook.cells[0].source)
    if stated != [row(counts)]:
        fix = f"`make notebooks NB={number}` fixes it"
        yield f"{number}: the first cell says {stated}, counted is {row(counts)!r}; {fix}"


def main():
    print(
        "notebook  core minutes  budget  words  exercises (min)  visible cells  lines  of them plotting"
        "  collapsed cells  figures  graders"
    )
    found = []
    for path in NOTEBOOKS:
        number = number_of(path)
        if number not in BUDGET:
            continue
        notebook = read(path)
        c = measured(notebook)
        print(
            f"{number:8}  {c['minutes']:12.1f}  {BUDGET[number]:6}  {c['words']:5}  {c['exercises']:15}  "
            f"{c['visible']:13}  {c['lines']:5}  {c['plotting']:16}  {c['collapsed']:15}  {c['figures']:7}  "
            f"{c['graders']:7}"
        )
        found += problems(number, notebook)
    print("\n".join(found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
