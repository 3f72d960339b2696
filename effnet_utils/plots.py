"""Figures: one style, colours that colour-blind readers can tell apart, and alt text for each."""

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's colours.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# One colour for each thing, in all notebooks.
COLOR_OF = {
    "swish": COLORS[0],
    "relu": COLORS[1],
    "se": "#007F5F",  # COLORS[2], darker: white text on it is readable
    "depth": COLORS[3],
    "width": COLORS[4],
    "resolution": COLORS[5],
    "compound": COLORS[6],
}
STYLE = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "axes.prop_cycle": mpl.cycler(color=COLORS),
    "legend.frameon": False,
    "lines.linewidth": 2,
}


def figure(rows=1, columns=1, size=(6.4, 3.6)):
    """A figure in the project's style and its axes; the style then holds for later figures of any kind.

    Args:
        rows, columns: ints, of the grid of axes.
        size: (width, height) in inches.

    Returns:
        (matplotlib Figure, Axes or array of Axes).
    """
    mpl.rcParams.update(STYLE)
    # Not through pyplot: nothing is kept open, and no figure is shown twice.
    fig = Figure(figsize=size)
    return fig, fig.subplots(rows, columns)


def show(fig, alt, path=None):
    """Show a figure in a notebook with a text for those who cannot see it, and save it where a path is given.

    Args:
        fig: matplotlib Figure.
        alt: str, what the figure shows, in a sentence or two.
        path: of a PNG file, or None.

    Raises:
        ValueError: ``alt`` is empty.
    """
    from IPython.display import display

    drawn = image(fig, alt)
    if path is not None:
        Path(path).write_bytes(drawn.data)
    display(drawn)


def image(fig, alt):
    """A figure as what a notebook displays: ``IPython.display.Image``, a PNG with its alt text.

    Args, Raises: as ``show``.
    """
    from IPython.display import Image

    if not alt.strip():
        raise ValueError("alt is empty; say in a sentence what the figure shows")
    buffer = io.BytesIO()
    # Twice as many pixels as the figure is wide on the page: sharp on screens that have them.
    fig.savefig(buffer, format="png", dpi=200)
    width = round(100 * fig.get_figwidth())
    return Image(buffer.getvalue(), format="png", metadata={"alt": alt, "width": width})


def image_grid(images, columns, titles=None, row_labels=None, title=None):
    """Small images in rows.

    Args:
        images: uint8 (n, height, width, 3) or (n, height, width, 1).
        columns: int, images in a row.
        titles: n strings above the images, or None.
        row_labels: a string for each row, or None.
        title: str above all, or None.

    Returns:
        matplotlib Figure.
    """
    rows = -(-len(images) // columns)
    height = 0.62 * rows if titles is None else 1.05 * rows
    width = 0.62 * columns + 0.9 if titles is None else 1.15 * columns
    fig, axes = figure(rows, columns, (width, height + 0.4))
    axes = np.atleast_1d(axes).reshape(rows, columns)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
    for ax, image in zip(axes.flat, images, strict=False):
        ax.imshow(image, cmap="gray", interpolation="nearest")
    for ax, text in zip(axes.flat, titles or [], strict=False):
        ax.set_title(text, fontsize=8, loc="center")
    for ax, label in zip(axes[:, 0], row_labels or [], strict=False):
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


# The parts of an MBConv block: (name, label, centre, width, row: 0 the main path, 1 the branch above it).
BLOCK_PARTS = (
    ("expand", "expand\n1×1", 0.9, 1.0, 0),
    ("swish", "swish", 1.95, 0.75, 0),
    ("depthwise", "depthwise\nk×k", 3.1, 1.2, 0),
    ("swish", "swish", 4.25, 0.75, 0),
    ("se", "SE block", 5.0, 1.2, 1),
    ("se", "×", 5.0, 0.4, 0),
    ("project", "project\n1×1", 5.95, 1.0, 0),
    ("skip", "+", 6.95, 0.4, 0),
)


def mbconv_picture(lit):
    """EfficientNet's MBConv block as a small picture, with the part that a notebook is about in colour.

    Args:
        lit: names of the parts in colour, of "expand", "swish", "depthwise", "se", "project" and "skip".

    Returns:
        matplotlib Figure.
    """
    fig, ax = figure(size=(5.6, 1.9))
    ax.set(xlim=(-0.35, 7.65), ylim=(-1.15, 1.75))
    ax.set_axis_off()
    grey = "#999999"
    arrow = {"arrowstyle": "->", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}

    def connect(points, part):
        color = COLOR_OF.get(part, COLORS[0]) if part in lit else grey
        ax.plot(*zip(*points[:-1], strict=True), color=color, linewidth=1.2)
        ax.annotate("", points[-1], points[-2], arrowprops=arrow | {"color": color})

    connect([(-0.3, 0), (-0.3, 0), (7.6, 0)], "path")
    connect([(-0.1, 0), (-0.1, -0.9), (6.95, -0.9), (6.95, -0.2)], "skip")
    connect([(4.7, 0), (4.7, 0), (4.7, 0.75)], "se")
    connect([(5.0, 0.75), (5.0, 0.75), (5.0, 0.2)], "se")
    ax.text(3.1, -0.83, "skip connection", ha="center", va="bottom", fontsize=9, color="#555555")
    for name, label, centre, width, row in BLOCK_PARTS:
        on = name in lit
        face = COLOR_OF.get(name, COLORS[0]) if on else "#eeeeee"
        height = 0.4 if len(label) == 1 else 0.9
        edge = "black" if on else grey
        box = mpl.patches.FancyBboxPatch(
            (centre - width / 2, 1.2 * row - height / 2), width, height,
            boxstyle="round,pad=0,rounding_size=0.12", facecolor=face, edgecolor=edge, linewidth=1, zorder=3,
        )  # fmt: skip
        ax.add_patch(box)
        color = "white" if on else "#555555"
        ax.text(centre, 1.2 * row, label, ha="center", va="center", fontsize=9, color=color, zorder=4)
    return fig


def curves(per_epoch, title, final=None):
    """Loss and accuracy by epoch.

    Args:
        per_epoch: list of dicts with epoch, loss, accuracy, and validation_accuracy where there is one.
        title: str.
        final: (name, accuracy) of the evaluation after training, drawn as a point, or None.

    Returns:
        matplotlib Figure.
    """
    fig, (left, right) = figure(1, 2, (6.0, 2.9))
    epochs = [row["epoch"] for row in per_epoch]
    left.plot(epochs, [row["loss"] for row in per_epoch], marker="o", markersize=4)
    left.set(xlabel="epoch", ylabel="training loss (nats)")
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    for key, label, marker in (("accuracy", "training", "o"), ("validation_accuracy", "validation", "s")):
        if key in per_epoch[0]:
            right.plot(epochs, [100 * row[key] for row in per_epoch], marker=marker, markersize=4, label=label)
    if final:
        right.plot(epochs[-1], 100 * final[1], "*", markersize=12, color=COLORS[1], label=f"{final[0]}, at the end")
    right.set(xlabel="epoch", ylabel="accuracy (%)")
    right.legend(loc="lower right")
    for ax in (left, right):
        ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, min_n_ticks=1))
    return fig


def confusion(counts, names, title):
    """Which class is predicted as which.

    Args:
        counts: int (classes, classes), as from ``evaluation.confusion_counts``.
        names: the classes' names.
        title: str.

    Returns:
        matplotlib Figure; cells below half a percent stay empty.
    """
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    fig, ax = figure(size=(6.0, 5.2))
    ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            color = "white" if value > 55 else "black"
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=color)
    ticks = range(len(names))
    ax.set(title=title, yticks=ticks, yticklabels=names, xlabel="predicted (% of the true class)", ylabel="true")
    ax.set_xticks(ticks, names, rotation=45, ha="right")
    ax.grid(False)
    return fig


def bars(names, values, title, xlabel):
    """Horizontal bars, the longest on top.

    Args:
        names: strings.
        values: numbers.
        title, xlabel: str.

    Returns:
        matplotlib Figure.
    """
    order = np.argsort(values)
    fig, ax = figure(size=(6.4, 0.28 * len(names) + 0.9))
    drawn = ax.barh([names[i] for i in order], [values[i] for i in order])
    ax.bar_label(drawn, fmt="%.1f", padding=3)
    ax.set(title=title, xlabel=xlabel)
    ax.margins(x=0.1)
    ax.grid(axis="y", visible=False)
    return fig


def forest(rows, title, xlabel, colors=None):
    """Repeated measurements of several variants, the best on top: small points, one for each seed, and their mean.

    Args:
        rows: list of ``evidence.Verdict``, or a dict {name: numbers}, such as the differences from a base.
        title, xlabel: str.
        colors: dict {name of a row: colour of its bar}, such as ``COLOR_OF``, or None.

    Returns:
        matplotlib Figure, with a line at zero. The bars of verdicts are their intervals, in colour where they say
        "difference"; rows with too few seeds have none. The bars of numbers reach from the smallest to the largest.
    """
    if isinstance(rows, dict):
        rows = [(name, values, np.mean(values), min(values), max(values), COLORS[5]) for name, values in rows.items()]
    else:
        colors = colors or {}
        shades = [colors.get(row.name, COLORS[5]) if row.verdict == "difference" else "#bbbbbb" for row in rows]
        rows = [
            (row.name, row.gains, row.mean, row.low, row.high, shade) for row, shade in zip(rows, shades, strict=True)
        ]
    rows = sorted(rows, key=lambda row: row[2])
    fig, ax = figure(size=(6.0, 0.3 * len(rows) + 1.0))
    for place, (_, values, mean, low, high, color) in enumerate(rows):
        ax.plot([low, high], [place, place], color=color, linewidth=5, solid_capstyle="butt")
        ax.plot(values, [place] * len(values), "o", color=COLORS[0], markersize=4)
        ax.plot(mean, place, "D", color=COLORS[1], markersize=6)
    ax.axvline(0, color=COLORS[6], linewidth=1)
    ax.set(yticks=range(len(rows)), yticklabels=[row[0] for row in rows], ylim=(-0.6, len(rows) - 0.4), xlabel=xlabel)
    ax.locator_params("x", nbins=6)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    ax.grid(axis="y", visible=False)
    return fig


def architecture(blocks, resolution=224, stem_filters=32, head_filters=1280, classes=1000, title=""):
    """A whole EfficientNet, one line for each stage: its blocks with their kernels, its resolution and its channels.

    Args:
        blocks: sequence of BlockArgs, one for each stage, such as ``model.B0_BLOCKS``.
        resolution: int, height and width of the image in pixels.
        stem_filters, head_filters, classes: ints, outputs of the stem, of the head's convolution, of the classifier.
        title: str.

    Returns:
        matplotlib Figure. A line over a block is its skip connection, an arrow in it stride 2; the bars of resolution
        and of channels have linear scales.
    """
    # (name, type of block, [(label, stride, whether it has a skip connection)], resolution of the output, channels)
    lines = [("image", "", [], resolution, 3)]
    resolution = -(-resolution // 2)
    lines.append(("stem", "", [("3×3", 2, False)], resolution, stem_filters))
    for number, row in enumerate(blocks, start=1):
        resolution = -(-resolution // row.strides)
        kernel = f"{row.kernel_size}×{row.kernel_size}"
        first = (kernel, row.strides, row.strides == 1 and row.input_filters == row.output_filters)
        boxes = [first] + [(kernel, 1, True)] * (row.num_repeat - 1)
        lines.append((f"stage {number}", f"MBConv{row.expand_ratio}", boxes, resolution, row.output_filters))
    lines.append(("head", "", [("1×1", 1, False)], resolution, head_filters))
    lines.append(("", "", [("mean", 1, False)], 1, head_filters))
    lines.append(("", "", [("dense", 1, False)], 1, classes))

    box = 0.62  # inches from one block to the next
    most_blocks = max(len(boxes) for _, _, boxes, _, _ in lines)
    columns = {"blocks": 1.32, "resolution": 1.4 + box * most_blocks}
    columns["channels"] = columns["resolution"] + 1.1
    width = columns["channels"] + 1.15
    fig, ax = figure(size=(width, 0.36 * len(lines) + 1.05 + 0.17 * title.count("\n")))
    ax.set(xlim=(0, width), ylim=(0.45 - len(lines) - 0.9, 1.4))
    ax.set_axis_off()
    for column, left in columns.items():
        title_of_column = column if column == "blocks" else f"output\n{column}"
        ax.text(left, 0.65, title_of_column, va="bottom", fontsize=9, fontweight="bold")
    largest = max(size for _, _, _, size, _ in lines)
    most_channels = max(channels for _, _, _, _, channels in lines)
    for place, (name, kind, boxes, size, channels) in enumerate(lines):
        ax.text(0, -place, name, va="center", fontsize=9)
        ax.text(0.62, -place, kind, va="center", fontsize=9, color="#555555")
        for count, (label, strides, skip) in enumerate(boxes):
            _block_box(ax, columns["blocks"] + box * count, -place, label, strides, skip, bool(kind))
        for column, number, maximum, thing in (
            ("resolution", size, largest, "resolution"),
            ("channels", channels, most_channels, "width"),
        ):
            length = 0.72 * number / maximum
            ax.barh(-place, length, 0.6, columns[column], align="center", color=COLOR_OF[thing])
            ax.text(columns[column] + length + 0.05, -place, f"{number:,}", va="center", fontsize=9)
    note = "3×3, 5×5 (filled): kernel     ↓ stride 2, halves the resolution     ⊓ skip connection"
    ax.text(0, -len(lines), note, va="center", fontsize=9, color="#555555")
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def _block_box(ax, left, y, label, strides, skip, is_block):
    """A layer or block of ``architecture`` as a box: in colour for an MBConv block, filled for a kernel of 5×5."""
    edge = COLOR_OF["depth"] if is_block else "#999999"
    face = mpl.colors.to_rgba(edge, 0.5) if label == "5×5" else "white"
    ax.add_patch(mpl.patches.Rectangle((left, y - 0.29), 0.52, 0.58, facecolor=face, edgecolor=edge, linewidth=1.2))
    text = f"{label} ↓" if strides == 2 else label
    ax.text(left + 0.26, y, text, ha="center", va="center", fontsize=9)
    if skip:
        start, end, top = left - 0.05, left + 0.57, y + 0.42
        ax.plot([start, start, end], [y, top, top], color="#444444", linewidth=1)
        arrow = {"arrowstyle": "->", "color": "#444444", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
        ax.annotate("", (end, y - 0.05), (end, top), arrowprops=arrow)
