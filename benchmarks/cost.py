"""How the cost of EfficientNet grows with images, resolution, width and variant, on the device that is there.

    python benchmarks/cost.py                    # about 10 minutes on 2 cores; writes records/benchmarks/cost.json
    python benchmarks/cost.py --figure cost.png  # draws that record
    python benchmarks/cost.py --tiny             # tries the script in seconds; writes runs/cost_tiny.json

A training step (AdamW) and inference of each point, float32 as the backend computes it by default (on some GPUs in
TF32), strides of the paper, images already on the device. All points of a series are compiled and warmed up, then timed
in turn, forwards and backwards alternately. Beside each timing stands that of a large matrix product: the share of the
peak is the point's rate over that product's rate in the same turn, with 2 floating-point operations for a mult-add of
inference and 6 of training. The seconds of the first call, in which the step is compiled, are reported apart.
"""

import argparse
import gc
import json
import math
import time
from pathlib import Path

import keras
import numpy as np
from throughput import spread

from effnet_utils import B0_BLOCKS, count_macs, efficientnet, plots, records

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "records" / "benchmarks" / "cost.json"
# Floating-point operations of a mult-add: the backward pass computes two products for each one of the forward pass.
OPERATIONS = {"train": 6, "inference": 2}
TITLES = {"train": "training", "inference": "inference"}
PEAK_COLOR = "#666666"


def plan(on_cpu):
    """{series: {point: (arguments of efficientnet, side in pixels, images in a step)}} and sides of the product."""
    # A GPU needs more images to be busy.
    factor = 1 if on_cpu else 8
    series = {
        "images": {f"{n * factor}": ({}, 32, n * factor) for n in (8, 32, 128, 512)},
        "pixels": {f"{side}": ({}, side, 32 * factor) for side in (32, 64, 96, 128)},
        "width": {f"{width:g}": ({"width": width}, 64, 32 * factor) for width in (0.5, 1.0, 1.5, 2.0)},
        "variant": {f"B{i}": ({"variant": f"b{i}"}, 64, 16 * factor) for i in range(8)},
    }
    return series, (1024, 1536, 2048) if on_cpu else (4096, 6144, 8192)


def tiny_plan():
    """As ``plan``, with the first stage only."""
    first = {"blocks": B0_BLOCKS[:1]}
    series = {
        "images": {f"{n}": (first, 32, n) for n in (4, 16)},
        "variant": {f"B{i}": ({"variant": f"b{i}", **first}, 32, 4) for i in (0, 2)},
    }
    return series, (128, 256)


def prepare(arguments, side, images):
    """One point: mult-adds of a step, and what is to be timed, each of which waits for its result."""
    shape = (side, side, 3)
    model = efficientnet(**arguments, input_shape=shape, classes=10, classifier_activation=None)
    # As in train.prepare: "auto" leaves PyTorch uncompiled, and XLA on a CPU takes ten times the time.
    jit_compile = "auto" if records.device_name().startswith("CPU") else True
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss, jit_compile=jit_compile)
    # Otherwise TensorFlow traces the step twice: with and without making the optimizer's variables.
    model.optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    pixels = keras.ops.convert_to_tensor(random.integers(0, 256, (images, *shape)), "float32")
    labels = keras.ops.convert_to_tensor(random.integers(0, 10, images), "int32")
    calls = {
        "train": lambda: model.train_on_batch(pixels, labels),
        "inference": lambda: model.predict_on_batch(pixels),
    }
    return images * count_macs(model), calls


def matrix_product(sides, seconds):
    """The fastest of the square products: its side, its operations, the call, and how often to call it."""
    found = []
    for side in sides:
        a, b = (keras.random.normal((side, side), seed=seed) for seed in (0, 1))

        def call(a=a, b=b):
            return float(keras.ops.convert_to_numpy(keras.ops.matmul(a, b)[0, 0]))

        _, count = warm_up(call, seconds)
        rate = max(2 * side**3 / time_calls(call, count) for _ in range(3))
        found.append((rate, side, call, count))
    _, side, call, count = max(found, key=lambda row: row[0])
    return side, 2 * side**3, call, count


def time_calls(call, count):
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def warm_up(call, seconds):
    """(seconds of the first call, number of calls that last about ``seconds``)."""
    first = time_calls(call, 1)
    call()
    return first, math.ceil(seconds / time_calls(call, 1))


def measure(points, product, repeats, seconds):
    """Time the points of one series in turn.

    Args:
        points: dict as in ``plan``.
        product: as from ``matrix_product``.
        repeats: int.
        seconds: float, the least that one timing lasts.

    Returns:
        (list of a dict for each point, list of the product's rates in operations a second).
    """
    rows, jobs = {}, {}
    for name, (arguments, side, images) in points.items():
        mult_adds, calls = prepare(arguments, side, images)
        warm = {mode: warm_up(call, seconds) for mode, call in calls.items()}
        rows[name] = {"point": name, "side": side, "images": images, "mult_adds": mult_adds}
        rows[name]["compile_seconds"] = {mode: round(first, 2) for mode, (first, _) in warm.items()}
        jobs[name] = {mode: (call, warm[mode][1]) for mode, call in calls.items()}
    _, operations, *product_job = product
    samples, peaks = {(name, mode): [] for name in rows for mode in OPERATIONS}, []
    for repeat in range(repeats):
        direction = 1 if repeat % 2 == 0 else -1
        for name in list(rows)[::direction]:
            turn = list({"product": product_job, **jobs[name]}.items())[::direction]
            took = {what: time_calls(*job) for what, job in turn}
            peaks.append(operations / took.pop("product"))
            for mode, value in took.items():
                rate = OPERATIONS[mode] * rows[name]["mult_adds"] / value
                samples[name, mode].append((value, rate / peaks[-1]))
    for name, row in rows.items():
        for index, key in enumerate(("seconds", "share_of_peak")):
            row[key] = {mode: spread([pair[index] for pair in samples[name, mode]]) for mode in OPERATIONS}
    return list(rows.values()), peaks


def run(series, sides, repeats=7, seconds=0.25):
    """Measure all series; returns the record."""
    clock = records.Stopwatch()
    product = matrix_product(sides, seconds)
    measured, peaks = {}, []
    for name, points in series.items():
        print(f"{name}: {', '.join(points)}", flush=True)
        measured[name], rates = measure(points, product, repeats, seconds)
        peaks += rates
        keras.backend.clear_session()
        gc.collect()
    return {
        "what": f"training step (AdamW) and inference, float32, {repeats} turns; mult_adds are those of all images",
        "series": measured,
        "peak": {"side": product[0], "operations_per_second": spread(peaks)},
        "seconds": round(clock.lap(), 1),
        "environment": records.environment(),
    }


def print_table(record):
    environment, rate = record["environment"], record["peak"]["operations_per_second"]["median"]
    print(f"\n{environment['device']}, {environment['backend']}; matrix products at {rate / 1e9:.4g} GFLOP/s")
    print("milliseconds of a step: median (quartiles), share of the matrix products' rate, seconds of the first call")
    for series, rows in record["series"].items():
        print(f"\n{series:>8} {'mult-adds':>11}" + "".join(f"{title:>44}" for title in TITLES.values()))
        for row in rows:
            cells = (_cell(row, mode) for mode in OPERATIONS)
            print(f"{row['point']:>8} {row['mult_adds'] / 1e6:>9.0f} M" + "".join(f"{cell:>44}" for cell in cells))
        macs, *times = (f"× {value:.3g}" for value in growth(rows).values())
        print(f"{'growth':>8} {macs:>11}" + "".join(f"{text:>44}" for text in times))


def _cell(row, mode):
    low, middle, high = (f"{1e3 * row['seconds'][mode][key]:.4g}" for key in ("quartile_1", "median", "quartile_3"))
    share, first = row["share_of_peak"][mode]["median"], row["compile_seconds"][mode]
    return f"{middle} ({low} to {high}) {share:>6.1%} {first:>6.1f} s"


def growth(rows):
    """Mult-adds, and seconds of each mode, of a series' last point over those of its first."""
    first, last = rows[0], rows[-1]
    times = {mode: last["seconds"][mode]["median"] / first["seconds"][mode]["median"] for mode in OPERATIONS}
    return {"mult_adds": last["mult_adds"] / first["mult_adds"], **times}


def draw(record):
    """Seconds against mult-adds, a line for each series.

    Args:
        record: dict as from ``run``.

    Returns:
        (matplotlib Figure, alt text), for ``plots.show``.
    """
    fig, axes = plots.figure(1, 2, (7.2, 3.2))
    axes[1].sharey(axes[0])
    peak = record["peak"]["operations_per_second"]["median"]
    alt = ["Seconds of a step against its mult-adds, both axes logarithmic; a dashed line for matrix products."]
    for ax, (mode, title) in zip(axes, TITLES.items(), strict=True):
        ends, shares = {}, []
        for color, (name, rows) in zip(plots.COLORS, record["series"].items(), strict=False):
            macs, seconds = [row["mult_adds"] for row in rows], [row["seconds"][mode]["median"] for row in rows]
            ax.loglog(macs, seconds, "o-", markersize=4, color=color)
            ends[f"{name} {rows[0]['point']} to {rows[-1]['point']}"] = seconds[-1], color
            shares += [row["share_of_peak"][mode]["median"] for row in rows]
        reach = np.array(ax.dataLim.intervalx)
        ax.loglog(reach, OPERATIONS[mode] * reach / peak, "--", color=PEAK_COLOR)
        ends["peak: matrix product"] = OPERATIONS[mode] * reach[1] / peak, PEAK_COLOR
        finding = f"{title}: {min(shares):.0%} to {max(shares):.0%} of the peak"
        ax.set(title=finding, xlabel="mult-adds of a step")
        alt.append(f"{finding[0].upper()}{finding[1:]}.")
    axes[0].set_ylabel("seconds")
    axes[1].tick_params(labelleft=False)
    _label_ends(axes[1], ends, 1.4 * reach[1])
    for name, rows in zip(ends, record["series"].values(), strict=False):
        macs, train, inference = (f"{value:.3g}" for value in growth(rows).values())
        alt.append(
            f"{name}: {macs} times the mult-adds take {train} times as long in training, {inference} in inference."
        )
    return fig, " ".join(alt)


def _label_ends(ax, ends, x):
    """Each line's name beside its end, in the line's colour, moved up where two would overlap."""
    low, high = np.log10(ax.get_ylim())
    place = -np.inf
    for name, (y, color) in sorted(ends.items(), key=lambda item: item[1]):
        place = max(np.log10(y), place + 0.07 * (high - low))
        ax.text(x, 10**place, name, color=color, fontsize=9, va="center")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small networks and few turns, to try the script")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="draw the record there (PNG); measures nothing")
    given = parser.parse_args(arguments)
    path = ROOT / "runs" / "cost_tiny.json" if given.tiny else RECORD
    if given.figure:
        if not path.is_file():
            parser.error(f"{path} is not there; make it first: the same command without --figure")
        fig, alt = draw(json.loads(path.read_text()))
        fig.savefig(given.figure, metadata={"Description": alt})
        print(alt)
        return
    if given.tiny:
        record = run(*tiny_plan(), repeats=3, seconds=0.02)
    else:
        record = run(*plan(records.device_name().startswith("CPU")))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print_table(record)
    print("->", path)


if __name__ == "__main__":
    main()
