"""What two runs at a time are worth: a sweep with one worker and with two, beside matrix products in two processes.

    python benchmarks/sweep.py         # about 15 minutes on 2 cores; writes records/benchmarks/sweep_cpu.json
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
    """Runs an hour, and of each run the seconds and those of them that were not training or evaluating."""
    command = [sys.executable, "-m", "effnet_utils", "sweep", grid, "--out", folder, "--workers", str(workers)]
    began = time.monotonic()
    subprocess.run(command, check=True, preexec_fn=on_cores(cores), stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    spent = [json.loads(path.read_text())["seconds"] for path in folder.glob("*/record.json")]
    a_run = seconds * workers / len(spent)
    useful = [sum(row[part] for part in ("compile", "train", "evaluate")) for row in spent]
    overhead = a_run - float(np.mean(useful))
    return {"runs": len(spent), "runs_an_hour": 3600 * len(spent) / seconds, "a_run": a_run, "overhead": overhead}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="two short runs each, to try the script")
    tiny = parser.parse_args().tiny
    first, second = sorted(os.sched_getaffinity(0))[:2]
    parameters = {"dataset": "toy", "layout": "cifar-fast", "epochs": 1, "train_limit": 128 if tiny else 1000}
    grid = {"parameters": parameters, "seeds": list(range(2 if tiny else 4))}
    layouts = {
        "one worker, one core": ({first}, 1),
        "one worker, two cores": ({first, second}, 1),
        "two workers, one core each": ({first, second}, 2),
    }
    rounds = 1 if tiny else 3
    sweeps, rates = {name: [] for name in layouts}, {"one process": [], "two processes": []}
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "grid.yaml")
        file.write_text(json.dumps(grid))
        for k in range(rounds):
            for name in list(layouts)[:: (-1) ** k]:
                sweeps[name].append(sweep(file, Path(place, f"{name}{k}"), *layouts[name]))
                print(name, {key: round(value, 1) for key, value in sweeps[name][-1].items()}, flush=True)
            for name, cores in (("one process", [first]), ("two processes", [first, second])):
                rates[name].append(products(cores, 2 if tiny else 20))
                print(f"products, {name}: {rates[name][-1]:.1f} a second", flush=True)
    an_hour = {name: np.array([row["runs_an_hour"] for row in rows]) for name, rows in sweeps.items()}
    gain = an_hour["two workers, one core each"] / an_hour["one worker, one core"]
    best = np.array(rates["two processes"]) / np.array(rates["one process"])
    record = {
        "what": "a grid of notebook 07 on the toy set, swept by one worker and by two",
        "grid": grid,
        "runs_an_hour": {name: spread(values) for name, values in an_hour.items()},
        "overhead_seconds": {
            name: spread(np.array([row["overhead"] for row in rows])) for name, rows in sweeps.items()
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
