"""Images per second of EfficientNet-B0 in training and in prediction: ours against other implementations.

    python -m benchmarks.throughput                              # on the CPU, about 15 minutes on 2 cores
    KERAS_BACKEND=jax python -m benchmarks.throughput --on gpu   # needs JAX, PyTorch and timm; about 10 minutes
    KERAS_BACKEND=jax python -m benchmarks.throughput --on gpu --image-size 224   # the paper's size and strides

Each implementation has a process of its own (_throughput_worker.py), which builds and compiles B0 for 10 classes.
Then they run in turn, one at a time, A B C, C B A, ..., so that a drift of the machine's speed affects all; ratios are
formed within a round. The numbers of trainable parameters and the sizes of the feature maps must be equal. All have
AdamW, cross-entropy, dropout and drop-connect 0.2, and batches of the same size.

On the CPU, float32 and the paper's strides, which keras.applications cannot change:
  ours           the fast path: ``Batches`` and ``OnDeviceTrainer``, images flipped and shifted inside the step; no XLA
  ours, arrays   ``fit`` on uint8 arrays, as a reader of Keras's guides would write it; no augmentation
  ours, plain operations     the fast path with Keras's own operations: against "arrays" it shows what augmenting costs
  ours, XLA      the fast path with jit_compile=True; shows why ``make_trainer`` leaves XLA off on a CPU
  keras.applications     ``fit`` on the same arrays
  PyTorch eager, PyTorch compiled     efficientnet-pytorch 0.7.1 in .venv-backends (``make .venv-backends/.stamp``) at
    its best: with the channels first and last in memory; normalised float images in memory, in order, not augmented;
    PyTorch's own swish in place of the package's memory-saving one; fused AdamW; as many threads as cores
Prediction is ``predict`` on arrays; for PyTorch, eval() under inference_mode.

On the GPU, bfloat16, at 32×32 with the stride layout "cifar": ours on JAX and on PyTorch (torch.compile) by the fast
path, and timm under torch.compile in its default mode with channels last, autocast and fused AdamW, its uint8 images in
the GPU's memory, gathered and normalised inside the timed loop, not augmented.

The processes differ in one thing besides: how much memory the C library gives back to the system after each step, to
take it again in the next. "Plain operations" is a fifth slower than "arrays" for that alone, and as fast with
MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ at 8 GB; choosing, flipping and shifting takes 1.5 ms of a step's 300.

Times are those of the steps. What ``fit`` and ``predict`` wait after the last one stands apart in the record
("seconds_after_last_step"): tf.data's autotuning delays the end of stock ``fit`` by nothing to several seconds.

Writes records/benchmarks/throughput_cpu_amd.json, throughput_cpu_intel.json (after the processor's maker),
throughput_gpu.json or throughput_gpu_224.json. --tiny runs --on gpu on a CPU, too.
"""

import itertools
import re
from contextlib import ExitStack

import numpy as np

from benchmarks._common import argument_parser, in_turn, spread, write_benchmark
from benchmarks._throughput import CPU, DEFAULTS, GPU, IMPLEMENTATIONS, Worker, check_machine, worker_options
from effnet_utils import LAYOUTS
from effnet_utils.experiments import records

# Whose rates are divided by whose.
PAIRS = {
    "cpu": [*(("ours", name) for name in CPU if name != "ours"), ("ours, plain operations", "ours, arrays")],
    "gpu": list(itertools.combinations(GPU, 2)),
}
TASKS = ("train", "predict")


def check_equal(facts):
    """Raise unless all networks have the same number of trainable parameters and sizes of feature maps."""
    for key in ("trainable", "feature_map_sizes"):
        found = {name: row[key] for name, row in facts.items()}
        first, *others = found.values()
        if any(value != first for value in others):
            raise ValueError(f"the networks differ in {key}, so their speeds cannot be compared: {found}")


def ratios(rates, pairs):
    """{"a / b": spread of the ratios within the rounds}; rates is {name: [images per second in each round]}."""
    return {f"{a} / {b}": spread(np.divide(rates[a], rates[b])) for a, b in pairs}


def spreads(values):
    """The spread of each list in a dict."""
    return {name: spread(found) for name, found in values.items()}


def record_name(on, size, device):
    """Such as "throughput_cpu_amd" for the device "CPU: AMD EPYC": each maker's processors have a record."""
    maker = re.match(r"CPU: ([A-Za-z]+)", device)
    if on == "cpu" and maker:
        return f"throughput_cpu_{maker[1].lower()}"
    return f"throughput_{on}" if size == 32 else f"throughput_{on}_{size}"


def run_rounds(workers, rounds):
    """Images per second and seconds after the last step, each {task: {name: [value in each round]}}."""
    rates = {task: {name: [] for name in workers} for task in TASKS}
    waits = {task: {name: [] for name in workers} for task in TASKS}
    for number in range(rounds):
        for task in TASKS:
            for name in in_turn(workers, number):
                rate, waited = workers[name].run(task)
                rates[task][name].append(rate)
                waits[task][name].append(waited)
            text = ", ".join(f"{name} {values[-1]:.0f}" for name, values in rates[task].items())
            print(f"round {number + 1}, {task}, images/s: {text}", flush=True)
    return rates, waits


def measure(on, size, rounds, tiny):
    """Start the workers and let them run in turn; returns the record."""
    options = worker_options(on, size, tiny)
    check_machine(on, tiny, options)
    environment = records.environment()  # now: what is edited while it runs is not measured
    workers = {}
    facts = {}
    with ExitStack() as stack:
        # One after the other, so that compile times are undisturbed.
        for name, own in options.items():
            workers[name] = Worker(name, own)
            stack.callback(workers[name].stop)
            facts[name] = workers[name].read()
            print(f"{name}: ready, compiled in {facts[name]['compile_seconds']} s", flush=True)
        check_equal(facts)
        rates, waits = run_rounds(workers, rounds)
    implementations = {}
    for name, own in options.items():
        implementations[name] = {"steps": own["steps"], "precision": own["precision"], **facts[name]}
    what = f"B0 at {size}x{size} with the strides of {own['layout']!r}, batch {own['batch_size']}, {own['precision']}"
    return {
        "what": f"{'tiny, no measurement: ' if tiny else ''}{what}, {rounds} rounds",
        "layout": own["layout"],
        "strides": LAYOUTS[own["layout"]],
        "batch_size": own["batch_size"],
        "rounds": rounds,
        "implementations": implementations,
        "images_per_second": {task: spreads(rates[task]) for task in TASKS},
        "seconds_after_last_step": {task: spreads(waits[task]) for task in TASKS},
        "ratio": {task: ratios(rates[task], PAIRS[on]) for task in TASKS},
        "environment": environment,
    }


def main(arguments=None):
    parser = argument_parser("throughput", __doc__)
    parser.add_argument("--on", choices=IMPLEMENTATIONS, default="cpu")
    parser.add_argument("--image-size", type=int, default=32, help="32, or 224 on a GPU")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error(f"--rounds is {given.rounds}; expected at least 1")
    if (given.on, given.image_size) not in DEFAULTS:
        parser.error(f"--image-size is {given.image_size}; expected 32, or 224 with --on gpu")
    record = measure(given.on, given.image_size, 2 if given.tiny else given.rounds, given.tiny)
    write_benchmark(given, record_name(given.on, given.image_size, record["environment"]["device"]), record)


if __name__ == "__main__":
    main()
