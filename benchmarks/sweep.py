"""What two runs at a time are worth: a sweep with one worker and with two, beside matrix products in two processes.

    python benchmarks/sweep.py         # about 10 minutes on 2 cores; writes records/benchmarks/sweep_cpu.json
    python benchmarks/sweep.py --tiny  # two short runs each; writes runs/sweep_tiny.json

The same grid of notebook 07 (toy set) is swept by one worker that has one core, by one that has two cores, and by two
workers of one core each. What the machine could give at best is measured in the same way: products of matrices in one
single-threaded process, then in two at once. Needs two cores that nothing else uses.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
from throughput import ROOT, spread

from effnet_utils import records

# Products of matrices for so many seconds; prints how many a second.
PRODUCTS = """
import sys, time
import numpy as np
a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
until, count = time.monotonic() + float(sys.argv[1]), 0
began = time.monotonic()
while time.monotonic() < until:
    a @ a
    count += 1
print(count / (time.monotonic() - began))
"""
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def on_cores(cores):
    return lambda: os.sched_setaffinity(0, cores)


def products(cores, seconds):
    """Matrix products a second, of one process on each of the cores."""
    command = [sys.executable, "-c", PRODUCTS, str(seconds)]
    running = [
        subprocess.Popen(command, env=os.environ | ONE_THREAD, preexec_fn=on_cores({core}), stdout=subprocess.PIPE)
        for core in cores
    ]
    return sum(float(process.communicate()[0]) for process in running)


def sweep(grid, folder, cores, workers):
    """Runs an hour once the first has begun, seconds before that, and of each run those that are not its cells' own."""
    command = [sys.executable, "-m", "effnet_utils", "sweep", grid, "--out", folder, "--workers", str(workers)]
    began = time.time()
    subprocess.run(command, check=True, preexec_fn=on_cores(cores), stdout=subprocess.DEVNULL)
    ended = time.time()
    executed = [json.loads(path.read_text()) for path in folder.glob("*/07_*.ipynb")]
    first = min(datetime.fromisoformat(notebook["metadata"]["papermill"]["start_time"]) for notebook in executed)
    seconds = ended - first.timestamp()
    own = [sum(cell["metadata"]["papermill"]["duration"] or 0 for cell in each["cells"]) for each in executed]
    a_run = seconds * workers / len(executed)
    return {
        "runs_an_hour": 3600 * len(executed) / seconds,
        "start": first.timestamp() - began,
        "overhead": a_run - float(np.mean(own)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="two short runs each, to try the script")
    tiny = parser.parse_args().tiny
    first, second = sorted(os.sched_getaffinity(0))[:2]
    parameters = {"dataset": "toy", "layout": "cifar-fast", "epochs": 1, "train_limit": 128 if tiny else 2000}
    grid = {"parameters": parameters | {"overrides": {"width": 0.5, "depth": 0.5}}}
    layouts = {
        "one worker, one core": ({first}, 1),
        "one worker, two cores": ({first, second}, 1),
        "two workers, one core each": ({first, second}, 2),
    }
    rounds = 1 if tiny else 3
    sweeps, rates = {name: [] for name in layouts}, {"one process": [], "two processes": []}
    with tempfile.TemporaryDirectory() as place:
        for k in range(rounds):
            for name in list(layouts)[:: (-1) ** k]:
                file = Path(place, "grid.yaml")
                file.write_text(json.dumps(grid | {"seeds": list(range(2 * layouts[name][1]))}))
                sweeps[name].append(sweep(file, Path(place, f"{name}{k}"), *layouts[name]))
                print(name, {key: round(value, 1) for key, value in sweeps[name][-1].items()}, flush=True)
            for name, cores in (("one process", [first]), ("two processes", [first, second])):
                rates[name].append(products(cores, 2 if tiny else 10))
                print(f"products, {name}: {rates[name][-1]:.1f} a second", flush=True)
    an_hour = {name: np.array([row["runs_an_hour"] for row in rows]) for name, rows in sweeps.items()}
    gain = an_hour["two workers, one core each"] / an_hour["one worker, one core"]
    best = np.array(rates["two processes"]) / np.array(rates["one process"])
    record = {
        "what": "a grid of notebook 07 on the toy set, swept by one worker and by two",
        "grid": grid,
        "runs_an_hour": {name: spread(values) for name, values in an_hour.items()},
        **{
            f"{part}_seconds": {name: spread(np.array([row[part] for row in rows])) for name, rows in sweeps.items()}
            for part in ("start", "overhead")
        },
        "two_workers_to_one": spread(gain),
        "two_matrix_products_to_one": spread(best),
        "share_of_what_two_processes_reach": spread(gain / best),
        "environment": records.environment(),
    }
    print(json.dumps(record, indent=1))
    path = ROOT / ("runs/sweep_tiny.json" if tiny else "records/benchmarks/sweep_cpu.json")
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
