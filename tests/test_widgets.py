"""The figures that a reader can operate: small, self-contained, the same on every run; browser/widgets.py runs them."""

import base64
import json
import re

import numpy as np
import pytest

from effnet_utils import plots, widgets
from tools.notebooks import NOTEBOOKS, code_cells, number_of, read

LARGEST = 10_000  # bytes
CALL = re.compile(r'widgets\.show\(\s*"(\w+)"')
VALUES = re.compile(r"^const values = (.*);$", re.MULTILINE)

each = pytest.mark.parametrize("name", widgets.names())


def stored():
    """What the notebooks store: {name: (notebook's number, HTML, the outputs of its cell)}."""
    found = {}
    for path in NOTEBOOKS:
        for cell in code_cells(read(path)):
            for name in CALL.findall(cell.source):
                texts = [output.data["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]
                found[name] = (number_of(path), "".join(texts), cell.outputs)
    return found


STORED = stored()


def values_of(html):
    """The values that a piece of HTML holds."""
    return json.loads(VALUES.search(html)[1].replace("<\\!", "<!"))


@each
def test_a_figure_is_small_and_asks_for_nothing(name):
    path = widgets.HERE / f"{name}.html"
    source = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= LARGEST
    assert source.startswith("<style>\n") and source.count("<script>") == 1 and source.endswith("</script>\n")
    html = widgets.html(name)
    outside = set(re.findall(r"\w+://[^\s\"'`]+", html)) - {"http://www.w3.org/2000/svg"}
    assert not outside and not re.search(r"\b(fetch|import|XMLHttpRequest|setInterval|requestAnimationFrame)\b", html)
    assert all(len(line) <= 120 for line in source.splitlines())


@each
def test_where_no_script_runs_nothing_is_left(name):
    html = widgets.html(name, text="</script><!-- <b>")
    assert html.startswith("<script>") and html.endswith("</script>")
    assert html.count("<script") == html.count("</script") == 1 and "<!--" not in html


def test_the_same_values_give_the_same_html():
    values = {"x": np.arange(3, dtype="float32"), "n": {2: np.int64(1)}, "image": b"\x00\xff"}
    html = widgets.html("swish", **values)
    assert html == widgets.html("swish", **values)
    assert values_of(html) == {"x": [0, 1, 2], "n": {"2": 1}, "image": base64.b64encode(b"\x00\xff").decode()}
    assert values_of(widgets.html("swish", text="</b><!--")) == {"text": "</b><!--"}


def test_an_unknown_figure_is_refused():
    with pytest.raises(ValueError, match="no figure 'swing'; figures: animation, block_cost"):
        widgets.html("swing")


def test_show_puts_the_image_first(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    widgets.show("swish", plots.figure()[0], "A curve.", beta=1, x=0)
    image, html = shown
    assert image.data.startswith(b"\x89PNG") and image.metadata["alt"] == "A curve."
    assert html.data == widgets.html("swish", beta=1, x=0)
    with pytest.raises(ValueError, match="alt is empty"):
        widgets.show("swish", plots.figure()[0], "")


@pytest.mark.parametrize("name", STORED)
def test_the_notebooks_store_an_image_and_then_the_figure_as_it_is_now(name):
    number, html, outputs = STORED[name]
    kinds = [kind for output in outputs for kind in output.get("data", {}) if kind != "text/plain"]
    assert kinds == ["image/png", "text/html"]
    assert html == widgets.html(name, **values_of(html)), f"`make notebooks NB={number}` stores the new one"
