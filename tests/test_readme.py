"""The README's numbers are those of the records, its links lead somewhere, its table lists every notebook."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ROWS = re.findall(r"^\|.*\]\((records/[^)]+\.json)\) \|$", README, re.MULTILINE)


def test_results_are_those_of_the_records():
    assert ROWS, "the results table quotes no record"
    for line in README.splitlines():
        link = re.search(r"\]\((records/[^)/]+\.json)\) \|$", line)
        if not link:
            continue
        record = json.loads((ROOT / link.group(1)).read_text())
        assert f"{100 * record['results']['test_accuracy']:.2f} %" in line
        assert f"{record['seconds']['train'] / 60:.1f} min" in line
        assert f"`{record['parameters']['layout']}`" in line
        if not record["dataset"]["official"] and record["dataset"]["name"] == "cifar10":
            assert record["dataset"]["source"] in line


def test_speed_ratio_is_that_of_the_record():
    ratio = json.loads((ROOT / "records" / "benchmarks" / "fit_ratio.json").read_text())["ratio"]
    text = f"{ratio['median']:.2f} times its speed (quartiles {ratio['quartile_1']:.2f} and {ratio['quartile_3']:.2f})"
    assert text in README
    assert ratio["median"] >= 0.97


def test_links_and_alt_text():
    for text, target in re.findall(r"!?\[([^\]]*)\]\(([^)\s]+)\)", README):
        assert text.strip(), f"a link or image without text: {target}"
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_every_notebook_is_in_the_table():
    for path in (ROOT / "notebooks").glob("*_*.ipynb"):
        assert f"](notebooks/{path.name})" in README and f"/blob/main/notebooks/{path.name})" in README
