"""Numbers and verdicts in prose: each comes from an output above, or stands in tools/numbers.txt with its source.

`make lint` calls ``unproved`` for each text. A line of numbers.txt has three parts:

    07 :: reached 87.32 % :: record cifar10-jpeg_b0_cifar_seed0 > results > test_accuracy

the notebook's number or the page's path, or * for any text; a phrase that is in the text, word for word, and
covers the numbers in it; and the source, one of

    record NAME > KEY > KEY     a value of records/NAME.json
    published TABLE > ROW > COLUMN      a value of data/published.json; "A minus B" is a difference of two values
    output TEXT             what an output above the phrase says, word for word; for verdicts
    given REASON            no result: a setting, a definition, an example, arithmetic that the reader can follow
    measured REASON         a rough time or size of the machine that executed the notebooks

The first number of a phrase must be the source's value, rounded as the phrase rounds it.
"""

import json
import re
from functools import cache

from tools.notebooks import ROOT, number_of, read

LEDGER = ROOT / "tools" / "numbers.txt"
WORDS = "one two three four five six seven eight nine ten eleven twelve fifteen twenty".split()
UNITS = r"(?:percentage )?points?|percent|%|minutes?|hours?|seconds?|[GMk]B|million|billion|times as"
DIGITS = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d{3,}"
# A number with a decimal point or three digits, or any number, also in words, before one of UNITS.
NUMBER = re.compile(
    rf"(?<![\w.,/-])(?:({DIGITS})(?![\w/]|\.\d)"
    rf"|(\d+)(?=[\s-]?(?:{UNITS})\b|\s?%)"
    rf"|({'|'.join(WORDS)})(?=[\s-](?:percentage )?points?\b))",
    re.IGNORECASE,
)
NO_RESULT = re.compile(
    r"\| Reading \|[^\n]*|\n##[^\n]*Your turn[^\n]*"  # minutes that tools/reading.py compares
    r"|```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$"  # code and formulas
    r"|<!-- from records.*?<!-- end -->"  # tables that tools/tables.py compares
    r"|\]\([^)]*\)|https?://\S+|<[^>]*>"  # addresses and HTML
    r"|arXiv:[\d.]+|doi:\S+|section \d\.\d|(?:19|20)\d\d(?![\d,.]\d|\s?%)"  # papers and years
    r"|\b(?:Keras|TensorFlow|Python|NumPy|PyTorch|JAX|release|version|issue|Colab) v?\d[\d.]*"
    r"(?: (?:to|and|or) \d[\d.]*)?",
    re.DOTALL,
)


def plain(text):
    """A Markdown text without what holds no results, on one line."""
    return re.sub(r"\s+", " ", NO_RESULT.sub(" ", text))


def numbers(text):
    """(number as it is written, its place) of each number that wants a source, in what ``plain`` returns."""
    for found in NUMBER.finditer(text):
        yield next(part for part in found.groups() if part), found.span()


def outputs(cell):
    """What the outputs of a code cell say, as text."""
    said = []
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        said += [output.get("text", ""), data.get("text/plain", ""), data.get("text/markdown", "")]
        said.append(output.get("metadata", {}).get("image/png", {}).get("alt", ""))
        said.append(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", data.get("text/html", ""), flags=re.DOTALL))
    return "\n".join(said)


def occurs(number, text):
    """Whether a number stands in a text, with or without commas between the thousands."""
    bare = number.replace(",", "")
    return re.search(rf"(?<![\d.]){re.escape(bare)}(?!\d|\.\d)", re.sub(r"(?<=\d)[,_](?=\d{3})", "", text)) is not None


def paragraphs(path):
    """(place, text, code and outputs above) of each Markdown cell of a notebook; of a page, the whole as one."""
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    if path.suffix != ".ipynb":
        yield name, plain(path.read_text(encoding="utf-8")), ""
        return
    above = ""
    for index, cell in enumerate(read(path).cells, 1):
        if cell.cell_type == "markdown":
            yield f"{name}, cell {index}", plain(cell.source), above
        else:
            above += f"{cell.source}\n{outputs(cell)}\n"


@cache
def ledger():
    """[(which text, phrase, source)] of numbers.txt."""
    lines = [line for line in LEDGER.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [tuple(part.strip() for part in line.split(" :: ")) for line in lines]


def value_of(source):
    """The value of a "record" or "published" source; None for the other kinds."""
    first, minus, second = source.partition(" minus ")
    if minus:
        return value_of(first) - value_of(second)
    kind, _, rest = source.partition(" ")
    if kind not in ("record", "published"):
        return None
    file, *keys = rest.split(" > ")
    path = f"records/{file}.json" if kind == "record" else "data/published.json"
    value = json.loads((ROOT / path).read_text(encoding="utf-8"))
    for key in keys if kind == "record" else ("tables", file, "rows", *keys):
        value = value[key]
    return value


def agrees(number, value):
    """Whether a number as it is written is a value, or 100 times it, rounded to as many places."""
    places = len(number.partition(".")[2])
    return float(number.replace(",", "")) in (round(value, places), round(100 * value, places))


def wrong_source(phrase, source, above):
    """What does not hold about a line of numbers.txt whose phrase is in the text; None if all holds."""
    kind, _, rest = source.partition(" ")
    if kind in ("given", "measured"):
        return None if rest else f"{kind} without a reason"
    if kind == "output":
        return None if rest in re.sub(r"\s+", " ", above) else f"no output above says {rest!r}"
    number, _ = next(numbers(phrase))
    value = value_of(source)
    return None if agrees(number, value) else f"{source} is {value}"


def unproved(path):
    """Where a text has a number without a source, or a line of numbers.txt does not hold."""
    folder = f"{path.parent.name}/" if path.parent.name in ("data", "site") else ""
    which = number_of(path) if path.suffix == ".ipynb" else folder + path.name
    lines = [(phrase, source) for text, phrase, source in ledger() if text in (which, "*")]
    seen = set()
    for place, text, above in paragraphs(path):
        covered = []
        for phrase, source in lines:
            spans = [found.span() for found in re.finditer(re.escape(phrase), text)]
            covered += spans
            if spans and (wrong := wrong_source(phrase, source, above)):
                yield f"{place}: “{phrase}”, but {wrong}; correct the text, or its line in tools/numbers.txt"
            if spans:
                seen.add(phrase)
        for number, (start, end) in numbers(text):
            inside = any(first <= start and end <= last for first, last in covered)
            if not inside and (number.isalpha() or not occurs(number, above)):
                around = text[max(0, start - 30) : end + 20].strip()
                remedy = "show it, or add its source to tools/numbers.txt"
                yield f"{place}: “{around}”: no output above says {number}; {remedy}"
    for text, phrase, _ in ledger():
        if text == which and phrase not in seen:
            yield f"{path.name}: “{phrase}” of tools/numbers.txt is not in the text; correct one of the two"
