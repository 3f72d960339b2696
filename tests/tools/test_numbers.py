"""Numbers and verdicts in prose: a false one is caught in a copy of each text."""

import re
import time

import nbformat
import pytest

from tools import numbers
from tools.notebooks import NOTEBOOKS, ROOT, number_of, read

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("site/*.md"))]
FALSE = [
    ("02", "1,152 channels and squeezes", "1,252 channels and squeezes"),
    ("02", "one percentage point lower", "four percentage points lower"),
    ("02", "With each seed the network loses accuracy", "With no seed the network loses accuracy"),
    ("03", "or 28 % more", "or 18 % more"),
    ("03", "144 channels for 24 unknowns", "244 channels for 24 unknowns"),
    ("04", "(168)", "(186)"),
    ("05", "(momentum 0.99, epsilon", "(momentum 0.9, epsilon"),
    ("05", "= 4,020,358 are left", "= 4,020,385 are left"),
    ("06", "gained 4.8 points", "gained 5.8 points"),
    ("06", "to 77.3 %", "to 78.3 %"),
    ("06", "44 % more", "54 % more"),
    ("07", "87.32 %", "88.32 %"),
    ("07", "93.77 %", "97.33 %"),
    ("07", "together gain nine", "together gain five"),
    ("07", "**Muon** showed no difference by itself", "**Muon** showed a difference by itself"),
    ("07", "| 60 minutes", "| 12 minutes"),
    ("07", "In the last epoch 73 %", "In the last epoch 93 %"),
    ("08", "more than twenty points ahead", "more than ten points ahead"),
    ("08", "is level with fine-tuning", "is ahead of fine-tuning"),
    ("08", "on 1,017 test images", "on 1,071 test images"),
    ("09", "hold 54 % of", "hold 45 % of"),
    ("09", "At 0.05, confidence", "At 0.15, confidence"),
    ("10", "up to 5.6 points", "up to 3.6 points"),
    ("10", "resolution alone is ahead of it", "resolution alone is behind it"),
    ("10", "depth and width are behind", "depth and width are ahead"),
    ("11", "more than fifteen points", "more than five points"),
    ("12", "200 small notebooks", "400 small notebooks"),
    ("A1", "have the 84.4 %", "have the 84.9 %"),
    ("README.md", "(170 MB)", "(117 MB)"),
    ("results.md", "10,000 training images", "20,000 training images"),
]


def text(which):
    """The path of a notebook by its number, or of a page by its name."""
    paths = {number_of(path): path for path in NOTEBOOKS} | {path.name: path for path in PAGES}
    return paths[which]


def falsified(path, old, new, folder):
    """A copy of a text in which one phrase is another; a line may end anywhere in the phrase."""
    copy = folder / path.parent.name / path.name
    copy.parent.mkdir()
    phrase = re.compile(r"\s+".join(map(re.escape, old.split())))
    if path.suffix == ".ipynb":
        notebook = read(path)
        cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
        changed = 0
        for cell in cells:
            cell.source, count = phrase.subn(new, cell.source)
            changed += count
        nbformat.write(notebook, copy)
    else:
        text, changed = phrase.subn(new, path.read_text(encoding="utf-8"))
        copy.write_text(text, encoding="utf-8")
    assert changed
    return copy


@pytest.mark.parametrize(("which", "old", "new"), FALSE)
def test_a_false_statement_is_caught(which, old, new, tmp_path):
    copy = falsified(text(which), old, new, tmp_path)
    assert not list(numbers.unproved(text(which))) and list(numbers.unproved(copy))


def test_the_texts_are_true_and_checked_in_seconds():
    start = time.perf_counter()
    found = [problem for path in [*NOTEBOOKS, *PAGES] for problem in numbers.unproved(path)]
    assert found == [] and time.perf_counter() - start < 20


def test_what_counts_as_a_number():
    said = "In 2019 (arXiv:1905.11946) Keras 3.15 took 47 minutes for 1,000 images: 87.3 %, `0.5` and ten points more"
    assert [number for number, _ in numbers.numbers(numbers.plain(said))] == ["47", "1,000", "87.3", "ten"]


def test_a_number_occurs_as_a_whole_with_or_without_commas():
    assert numbers.occurs("1,000", "at 1_000 steps") and numbers.occurs("0.5", "(0.5)")
    assert not numbers.occurs("1,000", "at 11000 steps") and not numbers.occurs("0.5", "10.5 or 0.51")


def test_the_value_of_a_source():
    record = "record cifar10-jpeg_b0_cifar_seed0 > results > test_accuracy"
    gain = "published scaled_b0 > compound > top1 minus published imagenet_v1 > b0 > top1"
    assert numbers.agrees("87.32", numbers.value_of(record)) and numbers.agrees("4.8", numbers.value_of(gain))
    assert numbers.value_of("given a reason") is None
    assert numbers.wrong_source("reached 88 %", record, "") and not numbers.wrong_source("reached 87 %", record, "")
    assert numbers.wrong_source("it is ahead", "output a is ahead", "b is ahead")
    assert numbers.wrong_source("5 %", "given ", "")


def test_a_phrase_that_is_nowhere_is_named(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("Nothing here.")
    monkeypatch.setattr(numbers, "ledger", lambda: [("page.md", "90 % of it", "given an example")])
    (found,) = numbers.unproved(page)
    assert "“90 % of it” of tools/numbers.txt is not in the text" in found
