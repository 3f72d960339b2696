"""Figures show what they are given, in colours that can be read."""

import ast
import re

import numpy as np
import pytest

from effnet_utils import B0_BLOCKS, BlockArgs, evidence, plots
from tools.notebooks import NOTEBOOKS, ROOT, code_cells, read

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
HISTORY = [{"epoch": e, "loss": 1 / e, "accuracy": e / 5, "validation_accuracy": e / 6} for e in (1, 2, 3)]


def texts(items):
    return [item.get_text() for item in items]


def test_image_grid():
    grid = plots.image_grid(IMAGES, 3, titles=list("abcde"))
    assert sum(bool(ax.images) for ax in grid.axes) == 5


def test_curves():
    right = plots.curves(HISTORY, "t", final=("test", 0.6)).axes[1]
    assert texts(right.get_legend().get_texts()) == ["training", "validation", "test, at the end"]
    one_epoch = plots.curves(HISTORY[:1], "t").axes[0]
    low, high = one_epoch.get_xlim()
    assert [tick for tick in one_epoch.get_xticks() if low <= tick <= high] == [1], "epochs are whole"


def test_confusion():
    ax = plots.confusion(np.array([[1, 1], [0, 1]]), ["x", "y"], "t").axes[0]
    assert texts(ax.texts) == ["50", "50", "100"]


def test_architecture():
    ax = plots.architecture(B0_BLOCKS, title="t").axes[0]
    found = texts(ax.texts)
    assert found.count("3×3 ↓") == 3 and found.count("5×5 ↓") == 2, "five layers or blocks halve the resolution"
    assert sum(text[:3] in ("3×3", "5×5") and len(text) < 6 for text in found) == 17, "the stem and sixteen blocks"
    arrows = [text for text in ax.texts if hasattr(text, "arrow_patch")]
    assert len(arrows) == 9, "blocks with a skip connection"
    bars = [patch.get_width() for patch in ax.patches if patch.get_height() == pytest.approx(0.6)]
    lines = len(bars) // 2
    assert lines == 1 + 1 + 7 + 3, "image, stem, stages, and the head's three layers"
    resolutions, channels = bars[::2], bars[1::2]
    assert resolutions == sorted(resolutions, reverse=True)
    assert resolutions[0] / resolutions[1] == pytest.approx(2) and max(channels) == channels[-2]
    assert found[-1].startswith("3×3, 5×5 (filled): kernel")


def test_architecture_of_other_stages():
    stages = [BlockArgs(kernel_size=3, num_repeat=2, input_filters=8, output_filters=8, expand_ratio=1)]
    ax = plots.architecture(stages, resolution=33, stem_filters=8, head_filters=16, classes=10).axes[0]
    assert sum(hasattr(text, "arrow_patch") for text in ax.texts) == 2, "the first block has a skip connection, too"
    assert texts(ax.texts).count("17") == 3, "stem, stage and head, rounded up"


def test_bars():
    ax = plots.bars(["x", "y"], [2, 1], "t", "accuracy").axes[0]
    assert [bar.get_width() for bar in ax.patches] == [1, 2]


def test_forest():
    ax = plots.forest({"low": [-1, -2], "high": [3, 1], "one": [0.5]}, "t", "gain").axes[0]
    assert texts(ax.get_yticklabels()) == ["low", "one", "high"]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"] == [-1.5, 0.5, 2]


def test_forest_draws_the_intervals_that_are_judged():
    runs = {"base": (0.5, 0.51), "far": (0.8, 0.8), "near": (0.5, 0.52), "single": (0.6,)}
    verdicts = evidence.compare({name: dict(enumerate(row)) for name, row in runs.items()}, "base", 5000)
    ax = plots.forest(verdicts, "t", "gain").axes[0]
    assert texts(ax.get_yticklabels()) == ["near", "single", "far"]
    bars = [line for line in ax.lines if line.get_linewidth() == 5]
    far, near, single = verdicts
    assert [tuple(bar.get_xdata()) for bar in bars[::2]] == [(near.low, near.high), (far.low, far.high)]
    assert bars[0].get_color() != bars[2].get_color(), "a difference is in colour"
    assert np.isnan(bars[1].get_xdata()).all()
    ax = plots.forest(verdicts, "t", "gain", colors={"far": "#123456", "near": "#123456"}).axes[0]
    assert [line.get_color() for line in ax.lines if line.get_linewidth() == 5].count("#123456") == 1, "far alone"


def test_show_needs_alt_text_and_saves_a_png(tmp_path, capsys):
    fig, _ = plots.figure()
    with pytest.raises(ValueError, match="alt is empty"):
        plots.show(fig, " ")
    plots.show(fig, "An empty figure.", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


# --- The colours of text ------------------------------------------------------------------------------------------

TEXT = {"text", "annotate", "set_title", "set_xlabel", "set_ylabel", "suptitle", "bar_label", "legend", "set_color"}
READABLE = 4.5  # WCAG 1.4.3


def contrast_with_white(color):
    values = np.array(plots.mpl.colors.to_rgb(color))
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def text_colors(source):
    """The colours that a source text gives to text in figures, as far as they are written there."""
    for node in ast.walk(ast.parse(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", source))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in TEXT:
            for keyword in node.keywords:
                if keyword.arg in ("color", "c"):
                    try:
                        yield eval(ast.unparse(keyword.value), vars(plots) | {"plots": plots})
                    except NameError:  # a variable of the cell
                        continue


def test_text_is_dark_enough_on_white():
    sources = {
        f"{path.name} [{cell.execution_count}]": cell.source for path in NOTEBOOKS for cell in code_cells(read(path))
    }
    sources |= {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("effnet_utils/*.py")}
    found = [(place, color) for place, source in sources.items() for color in text_colors(source)]
    assert len(found) > 5 and contrast_with_white("#767676") > READABLE > contrast_with_white(plots.COLORS[1])
    light = [(place, color) for place, color in found if color != "white" and contrast_with_white(color) < READABLE]
    assert not light, "text on white: darker colours, please; white is for text on a dark patch"
