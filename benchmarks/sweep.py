"""What two runs at a time are worth: a sweep with one worker and with two, beside matrix products in two processes.

    python -m benchmarks.sweep         # about 10 minutes on 2 cores; writes records/benchmarks/sweep_cpu.json
    python -m benchmarks.sweep --tiny  # one short run for each worker; writes runs/tiny/sweep_cpu.json

The same grid of notebook 07 (toy dataset) is swept by one worker that has one core, by one that has two cores, and by
two workers of one core each. What the machine could give at best is measured in the same way: matrix products in one
single-threaded process, then in two at once. Needs two cores that nothing else uses.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks._common import argument_parser, in_turn, spread, write_benchmark
from effnet_utils.experiments import records

# Matrix products for so many seconds; prints how many per second.
PRODUCTS = """
import sys, time
import numpy as np
a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
began = time.monotonic()
count = 0
while time.monotonic() < began + float(sys.argv[1]):
    a @ a
    count += 1
print(count / (time.monotonic() - began))
"""
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def on_cores(cores):
    """What a process that is being started calls in order to run on these cores only."""
    return lambda: os.sched_setaffinity(0, cores)


def products(cores, seconds):
    """Matrix products per second, of one process on each of the cores."""
    command = [sys.executable, "-c", PRODUCTS, str(seconds)]
    environment = {**os.environ, **ONE_THREAD}
    running = []
    for core in cores:
        process = subprocess.Popen(command, env=environment, preexec_fn=on_cores({core}), stdout=subprocess.PIPE)
        running.append(process)
    return sum(float(process.communicate()[0]) for process in running)


def sweep(grid, folder, cores, workers):
    """Sweep the grid of a file on some cores.

    Returns:
        dict: runs_an_hour once the first has begun, start (seconds before that), overhead (seconds of each run that
        its cells do not take).
    """
    command = [sys.executable, "-m", "effnet_utils", "sweep", grid, "--out", folder, "--workers", str(workers)]
    began = time.time()
    subprocess.run(command, check=True, preexec_fn=on_cores(cores), stdout=subprocess.DEVNULL)
    ended = time.time()
    starts = []
    in_cells = []
    for path in folder.glob("*/07_*.ipynb"):
        executed = json.loads(path.read_text())
        starts.append(datetime.fromisoformat(executed["metadata"]["papermill"]["start_time"]).timestamp())
        in_cells.append(sum(cell["metadata"]["papermill"]["duration"] or 0 for cell in executed["cells"]))
    first = min(starts)
    seconds = ended - first
    return {
        "runs_an_hour": 3600 * len(starts) / seconds,
        "start": first - began,
        "overhead": seconds * workers / len(starts) - float(np.mean(in_cells)),
    }


def main(arguments=None):
    given = argument_parser("sweep", __doc__).parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("the sweep benchmark compares one core with two; this process may use one only")
    first, second = cores[:2]
    parameters = {"dataset": "toy", "layout": "cifar-fast", "epochs": 1}
    parameters["max_train_samples"] = 128 if given.tiny else 2000
    parameters["overrides"] = {"width": 0.5, "depth": 0.5}
    setups = {
        "one worker, one core": ({first}, 1),
        "one worker, two cores": ({first, second}, 1),
        "two workers, one core each": ({first, second}, 2),
    }
    figures = {key: {name: [] for name in setups} for key in ("runs_an_hour", "start", "overhead")}
    rates = {"one process": [], "two processes": []}
    with tempfile.TemporaryDirectory() as place:
        for number in range(1 if given.tiny else 3):
            for name in in_turn(setups, number):
                allowed, workers = setups[name]
                grid = Path(place, "grid.yaml")
                seeds = list(range(workers if given.tiny else 2 * workers))
                grid.write_text(json.dumps({"parameters": parameters, "seeds": seeds}))
                for key, value in sweep(grid, Path(place, f"{name}{number}"), allowed, workers).items():
                    figures[key][name].append(value)
            for name, used in (("one process", [first]), ("two processes", [first, second])):
                rates[name].append(products(used, 0.5 if given.tiny else 10))
    an_hour = figures["runs_an_hour"]
    gain = np.divide(an_hour["two workers, one core each"], an_hour["one worker, one core"])
    best = np.divide(rates["two processes"], rates["one process"])
    spreads = {key: {name: spread(values) for name, values in rows.items()} for key, rows in figures.items()}
    record = {
        "what": "a grid of notebook 07 on the toy dataset, swept by one worker and by two",
        "grid": {"parameters": parameters},
        "runs_an_hour": spreads["runs_an_hour"],
        "start_seconds": spreads["start"],
        "overhead_seconds": spreads["overhead"],
        "two_workers_to_one": spread(gain),
        "two_matrix_products_to_one": spread(best),
        "share_of_what_two_processes_reach": spread(gain / best),
        "environment": records.environment(),
    }
    write_benchmark(given, "sweep_cpu", record)


if __name__ == "__main__":
    main()
