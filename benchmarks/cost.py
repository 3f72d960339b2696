"""How the cost of EfficientNet grows with batch size, resolution, width and variant, on the device that is there.

    python -m benchmarks.cost         # about 10 minutes on 2 cores; writes records/benchmarks/cost.json
    python -m benchmarks.cost --tiny  # tries the script in seconds; writes runs/tiny/cost.json

Measures a training step (AdamW) and inference of each point, in float32 as the backend computes it by default (on some
GPUs in TF32), with the paper's strides and images already on the device. All points of a series are compiled and warmed
up, then timed in turn, forwards and backwards alternately. Each turn also times a large matrix product: the fraction of
the peak FLOP/s is the point's rate over the product's rate in the same turn, with 2 floating-point operations for a MAC
of inference and 6 of training.
"""

import gc
import math
from collections import defaultdict

import keras
import numpy as np

from benchmarks._common import argument_parser, in_turn, print_spreads, seconds_of, spread, write_benchmark
from effnet_utils import B0_BLOCKS, count_macs, efficientnet
from effnet_utils.experiments import records

# Floating-point operations of a MAC: the backward pass computes two products for each one of the forward pass.
OPERATIONS = {"train": 6, "inference": 2}


def plan(on_cpu):
    """{series: {point: (arguments of efficientnet, image size, images in a step)}}, size of the matrix product."""
    # A GPU needs more images to be busy.
    factor = 1 if on_cpu else 8
    series = {
        "images": {f"{n * factor}": ({}, 32, n * factor) for n in (8, 32, 128, 512)},
        "pixels": {f"{size}": ({}, size, 32 * factor) for size in (32, 64, 96, 128)},
        "width": {f"{width:g}": ({"width": width}, 64, 32 * factor) for width in (0.5, 1.0, 1.5, 2.0)},
        "variant": {f"B{i}": ({"variant": f"b{i}"}, 64, 16 * factor) for i in range(8)},
    }
    return series, 2048 if on_cpu else 8192


def tiny_plan():
    """As ``plan``, with the first stage only."""
    first = {"blocks": B0_BLOCKS[:1]}
    series = {
        "images": {f"{n}": (first, 32, n) for n in (4, 16)},
        "variant": {f"B{i}": ({"variant": f"b{i}", **first}, 32, 4) for i in (0, 2)},
    }
    return series, 256


def prepare(arguments, size, images, on_cpu):
    """A point's MACs of a step, and what is to be timed: {mode: call}. Each call waits for its result."""
    shape = (size, size, 3)
    model = efficientnet(**arguments, input_shape=shape, classes=10, classifier_activation=None)
    # As in ``make_trainer``: "auto" leaves PyTorch uncompiled, and XLA on a CPU takes ten times the time.
    jit_compile = "auto" if on_cpu else True
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


def repeat(call, count):
    for _ in range(count):
        call()


def warm_up(call, seconds):
    """Compile; returns how many calls last about ``seconds``."""
    call()
    call()
    return math.ceil(seconds / seconds_of(call))


def matrix_product(size):
    """Function that multiplies two square matrices and waits for the result."""
    a = keras.random.normal((size, size), seed=0)
    b = keras.random.normal((size, size), seed=1)
    return lambda: float(keras.ops.convert_to_numpy(keras.ops.matmul(a, b)[0, 0]))


def measure(points, matrix_size, repeats, seconds, on_cpu):
    """Time the points of one series in turn, each beside the matrix product; a timing lasts ``seconds`` or longer.

    Returns:
        (list of a dict for each point, list of the product's rates in operations per second).
    """
    product = matrix_product(matrix_size)
    product_job = (product, warm_up(product, seconds))
    rows = {}
    jobs = {}
    for name, (arguments, size, images) in points.items():
        macs, calls = prepare(arguments, size, images, on_cpu)
        rows[name] = {"point": name, "image_size": size, "images": images, "macs": macs}
        jobs[name] = {"product": product_job}
        for mode, call in calls.items():
            jobs[name][mode] = (call, warm_up(call, seconds))
    times = defaultdict(list)
    fractions = defaultdict(list)
    peaks = []
    for number in range(repeats):
        for name in in_turn(rows, number):
            took = {}
            for what in in_turn(jobs[name], number):
                call, count = jobs[name][what]
                took[what] = seconds_of(repeat, call, count) / count
            peak = 2 * matrix_size**3 / took["product"]
            peaks.append(peak)
            for mode, operations in OPERATIONS.items():
                times[name, mode].append(took[mode])
                fractions[name, mode].append(operations * rows[name]["macs"] / took[mode] / peak)
    for name, row in rows.items():
        row["seconds"] = {mode: spread(times[name, mode]) for mode in OPERATIONS}
        row["fraction_of_peak"] = {mode: spread(fractions[name, mode]) for mode in OPERATIONS}
    return list(rows.values()), peaks


def run(series, matrix_size, on_cpu, repeats=7, seconds=0.25):
    """Measure all series; returns the record."""
    measured = {}
    peaks = []
    for name, points in series.items():
        print(f"{name}: {', '.join(points)}", flush=True)
        measured[name], rates = measure(points, matrix_size, repeats, seconds, on_cpu)
        peaks += rates
        keras.backend.clear_session()
        gc.collect()
    return {
        "what": f"training step (AdamW) and inference, float32, {repeats} turns; macs are those of all images",
        "series": measured,
        "peak": {"matrix_size": matrix_size, "operations_per_second": spread(peaks)},
        "environment": records.environment(),
    }


def main(arguments=None):
    given = argument_parser("cost", __doc__).parse_args(arguments)
    on_cpu = records.environment()["device"].startswith("CPU")
    if given.tiny:
        record = run(*tiny_plan(), on_cpu, repeats=3, seconds=0.02)
    else:
        record = run(*plan(on_cpu), on_cpu)
    for name, rows in record["series"].items():
        for row in rows:
            print_spreads(row, f"{name} {row['point']}, ")
    write_benchmark(given, "cost", record)


if __name__ == "__main__":
    main()
