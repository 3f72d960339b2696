"""Images a second of EfficientNet-B0 in training and in prediction: ours against other implementations.

    python benchmarks/throughput.py                              # on the CPU, about 15 minutes on 2 cores
    KERAS_BACKEND=jax python benchmarks/throughput.py --on gpu   # needs JAX, PyTorch and timm; at most 10 minutes

Each implementation lives in a process of its own (throughput_worker.py): it builds B0 for 10 classes with the strides
of --layout, compiles and warms up. Then they run in turn, one at a time, A B C, C B A, ..., so that a drift of the
machine's speed hits all; ratios are formed inside a round. The numbers of trainable parameters and the sides of the
maps must be equal. All have AdamW, cross-entropy, dropout and drop-connect 0.2, and batches of the same size.

On the CPU, float32 and the paper's strides, which keras.applications cannot change:
  ours           the fast path: ``Batches`` and ``train.prepare``, images moved and mirrored inside the step; no XLA
  ours, arrays   ``fit`` on uint8 arrays, as a reader of Keras's guides would write it; no augmentation
  ours, plain operations     the fast path without ``fast_cpu``: against "arrays" it shows what the images' way costs
  ours, XLA      the fast path with jit_compile=True; shows why ``prepare`` leaves XLA off on a CPU
  keras.applications     ``fit`` on the same arrays
  PyTorch eager, PyTorch compiled     efficientnet-pytorch 0.7.1 in .venv-backends (``make .venv-backends/.stamp``) at
    its best: with the channels first and last in memory; normalised float images in memory, in order and unmoved;
    PyTorch's own swish in place of the package's memory-saving one; fused AdamW; as many threads as cores
Prediction is ``predict`` on arrays; for PyTorch, eval() under inference_mode.

On the GPU, bfloat16 and layout "cifar": ours on JAX and on PyTorch (torch.compile) by the fast path, and timm under
torch.compile in its default mode with channels last, autocast and fused AdamW, its uint8 images in the GPU's memory,
gathered and normalised inside the timed loop, unmoved. When the faster of ours is below timm, the kernels that took
most of the time of both are written beside the record.

Prints tables and writes records/benchmarks/throughput_cpu.json or throughput_gpu.json. --tiny shows in minutes that
everything runs (on a CPU, too) and measures nothing.
"""

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from effnet_utils import LAYOUTS, records

ROOT = Path(__file__).parents[1]
BACKENDS_PYTHON = ROOT / ".venv-backends" / "bin" / "python"
OURS = {"model": "ours", "input": "device", "accelerated": True}
TORCH = {"model": "efficientnet-pytorch", "python": str(BACKENDS_PYTHON), "backend": "torch", "channels_last": False}
TIMM = {"model": "timm", "backend": "torch", "compiled": True, "channels_last": True}
# What differs from DEFAULTS. "steps": optimizer steps in a run, few for the slow ones.
CPU = {
    "ours": OURS,
    "ours, arrays": {**OURS, "input": "arrays"},
    "ours, plain operations": {**OURS, "accelerated": False},
    "ours, XLA": {**OURS, "compiled": True, "steps": 2},
    "keras.applications": {"model": "keras.applications", "input": "arrays"},
    "PyTorch eager": {**TORCH, "steps": 2},
    "PyTorch eager, channels last": {**TORCH, "channels_last": True, "steps": 2},
    "PyTorch compiled": {**TORCH, "compiled": True},
    "PyTorch compiled, channels last": {**TORCH, "channels_last": True, "compiled": True},
}
GPU = {
    "ours, JAX": {**OURS, "backend": "jax", "compiled": True},
    "ours, PyTorch": {**OURS, "backend": "torch", "compiled": True},
    "timm": TIMM,
}
DEFAULTS = {
    "cpu": {"backend": "tensorflow", "compiled": False, "precision": "float32", "steps": 8, "batch_size": 128},
    "gpu": {"precision": "mixed_bfloat16", "steps": 96, "batch_size": 512},
}
LAYOUT = {"cpu": "imagenet", "gpu": "cifar"}
MINUTES = {"cpu": 60, "gpu": 9.5}
TINY = {"steps": 1, "batch_size": 8}
TASKS = ("train", "predict")
SIZE = 32


class WorkerError(Exception):
    """A worker stopped or took too long; the message says which, and the end of what it printed."""


class Worker:
    """The process of one implementation; started and asked one after the other."""

    def __init__(self, name, options, deadline):
        self.name, self.options, self.deadline = name, options, deadline
        environment = {
            **os.environ,
            "KERAS_BACKEND": options["backend"],
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Several processes share the GPU's memory; JAX would take three quarters of it.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [options["python"], str(Path(__file__).with_name("throughput_worker.py")), json.dumps(options)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, bufsize=0,
        )  # fmt: skip

    def read(self):
        """The next line of the worker. Raises WorkerError."""
        left = max(0, self.deadline - time.monotonic())
        in_time = select.select([self.process.stdout], [], [], left)[0]
        line = self.process.stdout.readline() if in_time else b""
        if not line:
            self.log.seek(0)
            printed = self.log.read().decode(errors="replace").strip()[-2000:]
            raise WorkerError(f"{self.name} {'stopped' if in_time else 'was not done in time'}; it printed:\n{printed}")
        return json.loads(line)

    def ask(self, **request):
        with suppress(BrokenPipeError):  # it stopped; reading says so
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
        return self.read()

    def images_per_second(self, task):
        return self.options["steps"] * self.options["batch_size"] / self.ask(task=task)["seconds"]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def worker_options(on, layout, tiny):
    """{name: everything that a worker is told}, in the order of a round."""
    chosen = {"cpu": CPU, "gpu": GPU}[on]
    shared = {"python": sys.executable, "on": on, "layout": layout, "strides": LAYOUTS[layout], "size": SIZE}
    options = {name: {**shared, **DEFAULTS[on], **own, **(TINY if tiny else {})} for name, own in chosen.items()}
    if layout != LAYOUT["cpu"]:
        options.pop("keras.applications", None)
    return options


def check_machine(on, tiny, options):
    """Leave with a message when this machine lacks what will be measured."""
    # Asking JAX for its devices must not take the memory that the workers need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    device = records.device_name()
    if on == "gpu" and not tiny and device.startswith("CPU"):
        sys.exit(f"--on gpu needs a GPU; Keras's backend sees {device}. On a CPU: --on cpu, or --on gpu --tiny")
    missing = {row["python"] for row in options.values() if not Path(row["python"]).is_file()}
    if missing:
        sys.exit(f"there is no {', '.join(sorted(missing))}; make it: make .venv-backends/.stamp")


def check_equal(facts):
    """Raise unless all networks have the same number of trainable parameters and maps of the same sides."""
    for key in ("trainable", "maps"):
        found = {name: row[key] for name, row in facts.items()}
        if len(set(map(str, found.values()))) > 1:
            raise ValueError(f"the networks differ in {key}, so their speeds cannot be compared: {found}")


def spread(values):
    """Repeated measurements as a record holds them.

    Args:
        values: numbers.

    Returns:
        dict: min, quartile_1, median, quartile_3, max, with four significant digits.
    """
    names = ("min", "quartile_1", "median", "quartile_3", "max")
    found = np.quantile(values, (0, 0.25, 0.5, 0.75, 1))
    return {name: float(f"{value:.4g}") for name, value in zip(names, found, strict=True)}


def ratios(rates, pairs):
    """{"a / b": spread of the ratios within the rounds}; rates is {name: [images a second in each round]}."""
    return {f"{a} / {b}": spread(np.divide(rates[a], rates[b])) for a, b in pairs}


def pairs_of(names):
    """Ours against each of the others, and the two inputs; on the GPU, each against the others."""
    if "ours" in names:
        inputs = ("ours, plain operations", "ours, arrays")
        return [("ours", name) for name in names if name != "ours"] + [inputs] * (set(inputs) <= set(names))
    return [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]


def start_all(options, deadline, stack):
    """({name: worker}, {name: facts}, {name: why not}); one after the other, so that compile times are undisturbed."""
    workers, facts, failed = {}, {}, {}
    for name, own in options.items():
        worker = Worker(name, own, deadline)
        stack.callback(worker.stop)
        try:
            facts[name] = worker.read()
        except WorkerError as error:
            failed[name] = str(error)
            print(error, flush=True)
            continue
        workers[name] = worker
        print(f"{name}: ready, compiled in {facts[name]['compile_seconds']} s", flush=True)
    return workers, facts, failed


def run_rounds(workers, rounds, deadline):
    """{task: {name: [images a second in each round]}}; stops early when another round would not end in time."""
    rates = {task: {name: [] for name in workers} for task in TASKS}
    longest = 0
    for number in range(rounds):
        start = time.monotonic()
        if start + 1.2 * longest > deadline:
            print(f"time is up: {number} of {rounds} rounds", flush=True)
            break
        for task in TASKS:
            for name in list(workers)[:: -1 if number % 2 else 1]:
                rates[task][name].append(workers[name].images_per_second(task))
            text = ", ".join(f"{name} {values[-1]:.0f}" for name, values in rates[task].items())
            print(f"round {number + 1}, {task}, images/s: {text}", flush=True)
        longest = max(longest, time.monotonic() - start)
    return rates


def profiles(workers, train_rates):
    """Of timm and of the faster of ours, when timm is faster still; else {}."""
    medians = {name: np.median(values) for name, values in train_rates.items()}
    ours = [name for name in medians if name.startswith("ours")]
    if "timm" not in medians or not ours:
        return {}
    best = max(ours, key=medians.get)
    if medians[best] >= medians["timm"]:
        return {}
    steps = workers[best].options["steps"]
    return {
        "what": f"{steps} training steps",
        **{name: workers[name].ask(task="train", profile=True) for name in (best, "timm")},
    }


def measure(on, layout, rounds, tiny, minutes):
    """(record, profiles); profiles is {} unless ours are slower than timm."""
    deadline = time.monotonic() + 60 * minutes
    options = worker_options(on, layout, tiny)
    check_machine(on, tiny, options)
    with ExitStack() as stack:
        workers, facts, failed = start_all(options, deadline, stack)
        if not workers:
            raise WorkerError("no implementation could be started")
        check_equal(facts)
        rates = run_rounds(workers, rounds, deadline)
        done = len(rates["train"][next(iter(workers))])
        if not done:
            raise WorkerError(f"starting took the {minutes} minutes; nothing was measured")
        found = profiles(workers, rates["train"])
    first = next(iter(options.values()))
    record = {
        "what": f"{'tiny, no measurement: ' * tiny}B0 at {SIZE}x{SIZE} with the strides of {layout!r}, batch "
        f"{first['batch_size']}, {first['precision']}, {done} rounds",
        "layout": layout,
        "strides": LAYOUTS[layout],
        "batch_size": first["batch_size"],
        "rounds": done,
        "implementations": {
            name: {"steps": options[name]["steps"], "precision": options[name]["precision"], **row}
            for name, row in facts.items()
        },
        "failed": failed,
        "images_per_second": {task: {name: spread(values) for name, values in rates[task].items()} for task in TASKS},
        "ratio": {task: ratios(rates[task], pairs_of(list(workers))) for task in TASKS},
        "environment": records.environment(),
    }
    return record, found


def tables(record):
    """Images a second and ratios, as text."""
    lines = [record["what"]]
    for task in TASKS:
        for title, part, digits in (("images/s", "images_per_second", 1), ("ratio", "ratio", 3)):
            lines.append(f"\n{task + ', ' + title:40} {'median':>9}  {'quartiles':>19}  {'range':>19}")
            for name, row in record[part][task].items():
                low, q1, median, q3, high = (
                    f"{row[k]:.{digits}f}" for k in ("min", "quartile_1", "median", "quartile_3", "max")
                )
                lines.append(f"{name:40} {median:>9}  {q1 + ' to ' + q3:>19}  {low + ' to ' + high:>19}")
    return "\n".join(lines)


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", choices=MINUTES, default="cpu")
    parser.add_argument("--layout", choices=LAYOUTS, help="default: imagenet on the CPU, cifar on the GPU")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="only show that everything runs; writes to runs/")
    parser.add_argument("--out", type=Path, help="folder for the record; default: records/benchmarks")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error(f"--rounds is {given.rounds}; expected at least 1")
    given.layout = given.layout or LAYOUT[given.on]
    given.out = given.out or ROOT / ("runs" if given.tiny else "records/benchmarks")
    return given


def write(folder, on, record, found):
    """Write the record, and the profiles where there are any. Returns the record's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((f"throughput_{on}", record), (f"throughput_{on}_profile", found)):
        if content:
            (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    return folder / f"throughput_{on}.json"


def main():
    given = parse()
    record, found = measure(given.on, given.layout, 2 if given.tiny else given.rounds, given.tiny, MINUTES[given.on])
    print(tables(record), write(given.out, given.on, record, found), sep="\n\n")
    if record["failed"]:
        sys.exit(f"not measured: {', '.join(record['failed'])}")


if __name__ == "__main__":
    main()
