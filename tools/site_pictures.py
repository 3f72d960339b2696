"""Pictures for the README and the site: a small one of each notebook, and charts of the records.

    python -m tools.site_pictures

writes the small ones, notebooks/images/thumbnails; the charts are drawn when the site is built.
"""

import base64
import io
from functools import cache

from PIL import Image

from effnet_utils import plots
from effnet_utils.experiments import records
from tools import tables
from tools.notebooks import NOTEBOOKS, ROOT, read

THUMBNAILS = ROOT / "notebooks" / "images" / "thumbnails"

# Of each notebook the cell whose figure stands for it in the list.
CELL_OF = {
    "00": "e01b68f4",
    "01": "f8a4069c",
    "02": "cell-5",
    "03": "6f9df9f5",
    "04": "225cb44c",
    "05": "26c36a04",
    "06": "f4c0b73c",
    "07": "cell-8",
    "08": "c08",
    "09": "cell-29",
    "10": "cell-22",
    "11": "a2d256b7",
    "12": "873ee98a",
    "A1": "d4dbec92",
    "A2": "0875cfdf",
}
# In pixels; the page shows them half as large, sharp on screens with twice as many pixels.
THUMBNAIL_SIZE = (240, 160)
ACCENT = plots.COLORS[0]
OTHERS = "#9a9a9a"


# --- Small pictures of the notebooks -------------------------------------------------------------------------------


def thumbnail(path):
    """A notebook's figure, made small.

    Args:
        path: Path of a notebook.

    Returns:
        PIL Image of THUMBNAIL_SIZE with the whole figure on white, at most 64 colours.

    Raises:
        KeyError: the notebook has no entry in CELL_OF.
        ValueError: that cell has no figure.
    """
    wanted = CELL_OF[path.stem[:2]]
    cells = read(path).cells
    found = [output.get("data", {}) for cell in cells if cell.id == wanted for output in cell.get("outputs", ())]
    figures = [data["image/png"] for data in found if "image/png" in data]
    if not figures:
        raise ValueError(f"{path.name} has no figure in a cell {wanted!r}; name one in CELL_OF")
    figure = Image.open(io.BytesIO(base64.b64decode(figures[0]))).convert("RGB")
    figure.thumbnail(THUMBNAIL_SIZE, Image.Resampling.LANCZOS)
    small = Image.new("RGB", THUMBNAIL_SIZE, "white")
    small.paste(figure, tuple((whole - part) // 2 for whole, part in zip(THUMBNAIL_SIZE, figure.size, strict=True)))
    return small.quantize(64)


def main():
    THUMBNAILS.mkdir(exist_ok=True)
    for path in NOTEBOOKS:
        thumbnail(path).save(THUMBNAILS / f"{path.stem}.png", optimize=True)


# --- Charts of the pages with results ------------------------------------------------------------------------------


def accuracy_chart():
    """Test accuracy against the minutes of training, of the runs that the page's tables list.

    Returns:
        (matplotlib Figure, alt text); so do the other charts.
    """
    scratch = points("cifar10*_b0_*")
    pretrained = points("finetune_lite0_*px_all_*_test_*")
    linear = records.read_record("transfer_lite0_seed0")
    probe = (sum(linear["seconds"].values()) / 60, 100 * linear["results"]["test_accuracy"])
    fig, ax = plots.figure(size=(5.6, 3.6))
    series = (
        ("B0 from scratch", scratch, "o", ACCENT),
        ("Lite0 from ImageNet's weights, all layers", pretrained, "s", plots.COLORS[1]),
        ("Lite0, linear classifier only", [probe], "D", plots.COLORS[2]),
    )
    for label, values, marker, color in series:
        ax.plot(*zip(*values, strict=True), marker, color=color, markersize=7, label=label)
        for minutes, accuracy in values:
            ax.annotate(f"{accuracy:.1f}", (minutes, accuracy), (7, 0), textcoords="offset points", va="center")
    tuned, own = (max(accuracy for _, accuracy in values) for values in (pretrained, scratch))
    title = f"Fine-tuned from ImageNet's weights: {tuned:.1f} %,\ntrained from scratch: {own:.1f} %"
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    ax.set(xlabel="minutes of training on two CPU cores", ylabel="test accuracy (%)")
    everything = [*scratch, *pretrained, probe]
    ax.set(xlim=(0, 1.12 * max(minutes for minutes, _ in everything)))
    ax.set(ylim=(min(accuracy for _, accuracy in everything) - 2, max(accuracy for _, accuracy in everything) + 2))
    ax.legend(loc="lower right")
    listed = "; ".join(
        f"{label}: " + ", ".join(f"{accuracy:.1f} % in {minutes:.0f} minutes" for minutes, accuracy in sorted(values))
        for label, values, *_ in series
    )
    return fig, f"{one_line(title)}. {listed}."


def points(pattern):
    """[(minutes of training, test accuracy in percent)] of the records whose name fits."""
    found = records.read_records(pattern).values()
    return [(record["seconds"]["train"] / 60, 100 * record["results"]["test_accuracy"]) for record in found]


def speed_chart():
    """Images per second of training, of each implementation."""
    record = records.read_record("benchmarks/throughput_cpu_amd")
    rates = record["images_per_second"]["train"]
    medians = {name: row["median"] for name, row in rates.items()}
    fastest = max((name for name in medians if is_theirs(name)), key=medians.get)
    factor = record["ratio"]["train"][f"ours / {fastest}"]["median"]
    title = f"Training on a CPU: ours is {factor:.1f} times as fast\nas the fastest of the others"
    fig = bars_with_quartiles(rates, title, "images per second, median and quartiles", ".0f")
    return fig, f"{one_line(title)}, {fastest}. {listing(medians, '.0f')} images per second."


def latency_chart():
    """Milliseconds for one image, of each way to ask the network."""
    record = records.read_record("benchmarks/latency_cpu")
    times = record["milliseconds"]
    medians = {name: row["median"] for name, row in times.items()}
    factor = record["ratio_to_onnx"]["model.predict"]["median"]
    title = f"One image at a time: an ONNX file answers {factor:.0f} times\nas fast as model.predict"
    fig = bars_with_quartiles(times, title, "milliseconds for one image, median and quartiles", ".1f", smallest=True)
    return fig, f"{one_line(title)}. {listing(medians, '.1f')} milliseconds."


def bars_with_quartiles(rows, title, xlabel, digits, smallest=False):
    """Horizontal bars of medians, the best on top; ours in blue, other implementations in grey.

    Args:
        rows: dict {name: {"quartile_1", "median", "quartile_3"}}.
        digits: format of the numbers, such as ".1f".
        smallest: bool, whether small is good.

    Returns:
        matplotlib Figure.
    """
    order = sorted(rows, key=lambda name: rows[name]["median"], reverse=smallest)
    fig, ax = plots.figure(size=(5.6, 0.3 * len(rows) + 1))
    for place, name in enumerate(order):
        row = rows[name]
        ax.barh(place, row["median"], color=OTHERS if is_theirs(name) else ACCENT)
        ax.plot([row["quartile_1"], row["quartile_3"]], [place, place], color="black", linewidth=1.5)
        ax.annotate(
            format(row["median"], digits),
            (row["quartile_3"], place), (5, 0), textcoords="offset points", va="center",
        )  # fmt: skip
    ax.set(yticks=range(len(order)), yticklabels=order, xlabel=xlabel)
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def is_theirs(name):
    """Whether an implementation of a record is not this project's."""
    return "pytorch" in name.lower() or name == "keras.applications"


def one_line(title):
    return title.replace("\n", " ")


def listing(values, digits):
    return ", ".join(f"{name} {format(value, digits)}" for name, value in values.items())


def cost_chart():
    """How the multiply-adds and the seconds of a training step grow along each series."""
    series = records.read_record("benchmarks/cost")["series"]
    grown = {}
    for name, (first, *_, last) in series.items():
        macs = tables.value(last, "macs") / tables.value(first, "macs")
        seconds = last["seconds"]["train"]["median"] / first["seconds"]["train"]["median"]
        grown[f"{name}\n{first['point']} → {last['point']}"] = (macs, seconds)
    fig, ax = plots.figure(size=(5.6, 3.2))
    parts = (("multiply-adds", OTHERS), ("seconds of a training step", ACCENT))
    for part, (label, color) in enumerate(parts):
        heights = [values[part] for values in grown.values()]
        places = [place + 0.4 * (part - 0.5) for place in range(len(grown))]
        bars = ax.bar(places, heights, width=0.38, color=color, label=label)
        ax.bar_label(bars, fmt="× %.3g", padding=2)
    ax.set(xticks=range(len(grown)), xticklabels=grown, ylabel="growth, from first to last point")
    ax.margins(y=0.15)
    ax.grid(axis="x", visible=False)
    ax.legend()
    ratios = [macs / seconds for macs, seconds in grown.values()]
    slower = f"{min(ratios):.1f} to {max(ratios):.1f} times"
    title = f"Time grows more slowly than the multiply-adds:\nby {slower}, on two CPU cores"
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    listed = "; ".join(
        f"{one_line(name)}: multiply-adds × {macs:.3g}, seconds × {seconds:.3g}"
        for name, (macs, seconds) in grown.items()
    )
    return fig, f"{one_line(title)}. {listed}."


def scale_chart():
    """Runs per hour of a sweep with one worker and with two."""
    sweep = records.read_record("benchmarks/sweep_cpu")
    rates = sweep["runs_an_hour"]
    gain = sweep["two_workers_to_one"]["median"]
    medians = {name: row["median"] for name, row in rates.items()}
    title = f"On two cores, two runs at a time finish {gain:.1f} times\nas many per hour as one that has both cores"
    fig = bars_with_quartiles(rates, title, "runs per hour, median and quartiles", ".0f")
    return fig, f"{one_line(title)}. {listing(medians, '.0f')} runs per hour."


def parity_chart():
    """Which check notices which mistake."""
    found = records.read_record("benchmarks/proof")["teeth"]
    checks = list(next(iter(found.values())))
    fig, ax = plots.figure(size=(6.4, 0.3 * len(found) + 2.2))
    for row, caught in enumerate(found.values()):
        for column, check in enumerate(checks):
            own = check != checks[-1]
            color = (ACCENT if own else OTHERS) if caught[check] else "white"
            ax.plot(column, row, "o", markersize=11, color=color, markeredgecolor=ACCENT if own else OTHERS)
    ax.set(yticks=range(len(found)), yticklabels=found, xlim=(-0.5, len(checks) - 0.5), ylim=(len(found) - 0.5, -0.5))
    ax.set_xticks(range(len(checks)), [*checks[:-1], "usual test"], rotation=35, ha="right")
    ax.grid(visible=False)
    all_checks, usual = tables.noticed(found)
    title = (
        f"Seven checks notice {all_checks} of {len(found)} planted mistakes;\n"
        f"the usual test (initial weights, tolerance 1e-5) notices {usual}"
    )
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return (
        fig,
        f"{one_line(title)}. A filled dot: the check of this column notices the mistake of this row, as in the table.",
    )


CHARTS = {
    "accuracy": accuracy_chart,
    "speed": speed_chart,
    "latency": latency_chart,
    "cost": cost_chart,
    "scale": scale_chart,
    "parity": parity_chart,
}


@cache
def chart(name):
    """(figure, alt text) of a chart, drawn once: its page needs the text, its file the figure."""
    return CHARTS[name]()


def write_charts(folder):
    """Each chart as an SVG with its letters as outlines: sharp on any screen, the same in any browser."""
    folder.mkdir()
    for name in CHARTS:
        chart(name)[0].savefig(folder / f"{name}.svg", metadata={"Date": None})


def chart_image(name):
    """A chart's place in a page, in Markdown.

    Raises:
        KeyError: there is no chart of that name.
    """
    _, alt = chart(name)
    return f"![{alt}](charts/{name}.svg)"


if __name__ == "__main__":
    main()
