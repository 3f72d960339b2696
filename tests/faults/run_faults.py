"""The long tests of faults (`make faults`): runs killed, disks filled, nodes lost, damaged files. Prints a table.

Fewer, for a try: `python tests/faults.py --kills 2 --disks 2 --runs 8 --cases 100 --record runs/faults.json`.
Some again, with the rest of the table as it is: `python tests/faults.py --only Ctrl-C`.
Ends with 1 when one was not survived.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cluster
import fuzzing
import keras
import nbformat
import numpy as np
import pytest

from effnet_utils import records
from effnet_utils.records import PARTIAL

TINY = {
    "dataset": "toy", "layout": "imagenet", "epochs": 4, "batch_size": 32, "train_limit": 256,
    "overrides": '{"width": 0.2, "depth": 0.3, "drop_connect_rate": 0.2, "dropout_rate": 0.2}',
}  # fmt: skip
# One thread, and TensorFlow's deterministic operations: what is computed twice is equal to the last bit.
ENVIRONMENT = os.environ | {"TF_DETERMINISTIC_OPS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

# The short tests that `make test` runs too, again.
SHORT = {
    "two runs into one folder": "test_checkpoints.py::test_a_folder_belongs_to_one_process",
    "two processes download at once": "test_data.py::test_two_processes_that_want_the_data_download_it_once",
    "archives truncated or altered": "test_data.py::test_damaged_archive_is_refused",
    "hostile archives": "test_data.py::test_hostile_members_write_nothing",
    "hostile pickles": "test_data.py::test_hostile_opcodes_are_refused",
    "damaged checkpoints": "test_checkpoints.py::test_takes_the_one_before_a_damaged_one",
    "a loss that is no number": "test_checkpoints.py::test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_state",
    "Ctrl-C": "test_run.py::test_an_interrupted_run_ends_with_130_and_takes_its_kernel_along",
    "a kernel that dies under the runner": "test_run.py::test_a_kernel_that_dies",
    "a notebook over its time limit": "test_run.py::test_time_limit",
}


def command(notebook, folder, values=()):
    given = [f"-p{name}={value}" for name, value in dict(values).items()]
    return [sys.executable, "-m", "effnet_utils", "run", str(notebook), "-o", str(folder), *given]


def start(notebook, folder, values=()):
    log = open(folder.with_suffix(".log"), "ab")
    run = command(notebook, folder, values)
    return subprocess.Popen(run, stdout=log, stderr=log, env=ENVIRONMENT, start_new_session=True)


def finish(folder, values):
    runner = start("07", folder, values)
    if runner.wait() != 0:
        raise RuntimeError(f"a run did not end well:\n{folder.with_suffix('.log').read_text()[-2000:]}")


def outcome(folder):
    """What a run leaves: all weights, the figures of its epochs but for the time, its result."""
    model = keras.saving.load_model(folder / "model.keras")
    results = json.loads((folder / "record.json").read_text())["results"]
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in results.pop("per_epoch")]
    return model.get_weights(), rows, results


def same(found, expected):
    weights = all(np.array_equal(a, b) for a, b in zip(found[0], expected[0], strict=True))
    return weights and found[1:] == expected[1:]


def kill(runner, whole):
    """SIGKILL to the runner alone, whose kernel has to notice, or to its whole process tree."""
    kernels = subprocess.run(["pgrep", "-P", str(runner.pid)], capture_output=True, text=True).stdout.split()
    for pid in [*(map(int, kernels) if whole else ()), runner.pid]:
        os.kill(pid, signal.SIGKILL)
    runner.wait()


def kills(count, place, expected, length, chance):
    """Runs killed at a random moment, at times twice, and gone on with; one for each core at a time."""
    plans = [[(chance.uniform(0.1, 1) * length, chance.random() < 0.5) for _ in range(1 + k % 2)] for k in range(count)]

    def one(k):
        folder = place / f"kill{k}"
        for delay, whole in plans[k]:
            runner = start("07", folder, TINY | {"resume": "true"})
            try:
                runner.wait(delay)
            except subprocess.TimeoutExpired:
                kill(runner, whole)
            if (folder / "record.json").exists():
                break
        if not (folder / "record.json").exists():
            finish(folder, TINY | {"resume": "true"})
        assert not list(folder.glob(f"{PARTIAL}*")) and not list(folder.glob("checkpoint-*"))
        # The folders of hundreds of runs are large; what failed is kept to be looked at.
        good = same(outcome(folder), expected)
        if good:
            shutil.rmtree(folder)
        return good

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, range(count)))


# In a name space of its own, so that a small disk can be made by everybody: fill it, look, enlarge it, go on.
FULL = """
mount -t tmpfs -o size=$1 none "$2" || exit 3
shift; place=$1; shift
"$@" > "$place.full" 2>&1; echo $? > "$place.code"
ls -A "$place/out" > "$place.left" 2> /dev/null
mount -o remount,size=100m "$place" && "$@" > "$place.again" 2>&1 && cp -a "$place/out" "$place.out"
"""
READ_ONLY = """
mount -t tmpfs -o ro none "$1" || exit 3
place=$1; shift
"$@" > "$place.full" 2>&1; echo $? > "$place.code"
"""


def apart(script, *arguments):
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", *map(str, arguments)], env=ENVIRONMENT)
    if done.returncode == 3:
        raise RuntimeError("no small disk could be made here: mounting in a name space of one's own is not allowed")


def full_disks(sizes, place, expected):
    """Disks that are full at another moment each; then there is room, and the run is gone on with."""

    def one(size):
        disk = place / f"disk{size}"
        disk.mkdir()
        apart(FULL, f"{size}k", disk, *command("07", disk / "out", TINY | {"resume": "true"}))
        code, last = (
            int((place / f"{disk.name}.code").read_text()),
            (place / f"{disk.name}.full").read_text().split("\n")[-2],
        )
        left = (place / f"{disk.name}.left").read_text().split()
        clear = code in (1, 2) and last.startswith("error: ") and "No space left" in last
        whole = "record.json" not in left and not any(name.startswith(PARTIAL) for name in left)
        if not (clear and whole):
            print(f"disk of {size} kB: code {code}, left {left}, last line: {last}")
        return clear and whole and same(outcome(place / f"{disk.name}.out"), expected)

    return [one(size) for size in sizes]


def read_only_disk(place):
    disk = place / "read-only"
    disk.mkdir()
    apart(READ_ONLY, disk, *command("07", disk / "out", TINY))
    last = (place / "read-only.full").read_text().split("\n")[-2]
    return [(place / "read-only.code").read_text() == "2\n" and last.startswith("error: ") and "written to" in last]


def lost_node(place):
    """A grid of 12 runs on a cluster of two nodes, the second of which is killed."""
    grid, fixed = place / "grid.yaml", TINY | {"epochs": 1}
    axes = {"learning_rate": [0.003, 0.006], "batch_size": [32, 64]}
    fixed.pop("batch_size")
    grid.write_text(json.dumps({"parameters": fixed, "grid": axes, "seeds": [0, 1, 2]}))
    code, printed, there = cluster.sweep_and_lose_a_node(grid, place / "grid", 4)
    if code:
        print(printed)
    found = {tuple(run[name] for name in (*axes, "seed")) for run in cluster.records(place / "grid")}
    return [code == 0 and there < 12] + [len(cluster.records(place / "grid")) == 12] * len(found)


def small_runs(count, place):
    """Small notebooks, eight at a time."""
    cells = [
        nbformat.v4.new_code_cell('seed: int = 0  # a number\noutput_dir: str = ""  # where to'),
        nbformat.v4.new_code_cell("from pathlib import Path\nPath(output_dir, 'done').write_text(str(seed))"),
    ]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), place / "small.ipynb")

    def one(k):
        code = start(place / "small.ipynb", place / f"small{k}", {"seed": k}).wait()
        return code == 0 and (place / f"small{k}" / "done").read_text() == str(k)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, range(count)))


class Outcomes:
    """A plugin that keeps whether each test passed."""

    def __init__(self):
        self.passed = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.failed or report.skipped:
            self.passed.append(report.passed)


def short(name):
    outcomes = Outcomes()
    test = str(Path(__file__).parent / SHORT[name])
    pytest.main([test, "-q", "--no-header", "--no-summary", "-p", "no:cacheprovider"], plugins=[outcomes])
    return outcomes.passed or [False]


def faults(given, place):
    """{what is done: a function that does it and returns whether each was survived}."""
    chance, whole = random.Random(given.seed), []

    def expected():
        if not whole:
            began = time.monotonic()
            finish(place / "whole", TINY)
            whole.extend([outcome(place / "whole"), time.monotonic() - began])
        return whole

    def damaged(name):
        return [True] * sum(fuzzing.fuzz(name, given.cases, place, given.seed))

    sizes = [round(400 * 1.25**k) for k in range(given.disks)]
    return {
        "runs of 07 killed at a random moment, resumed bit for bit": lambda: kills(
            given.kills, place, *expected(), chance
        ),
        "disks full in the midst of a run, then resumed bit for bit": lambda: full_disks(sizes, place, expected()[0]),
        "a folder on a read-only disk": lambda: read_only_disk(place),
        "small notebooks, eight at a time": lambda: small_runs(given.runs, place),
        **{f"damaged inputs, {name}": partial(damaged, name) for name in fuzzing.READERS},
        **{name: partial(short, name) for name in SHORT},
        "a sweep of 12 runs on two nodes, one of them lost": lambda: lost_node(place),
    }


def main(given):
    commit = records.environment()["commit"]
    found = json.loads(given.record.read_text()) if given.only and given.record.is_file() else {"faults": {}}
    for row in found["faults"].values():
        row.setdefault("commit", found["environment"]["commit"])
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        for name, test in faults(given, Path(place)).items():
            if given.only in name:
                each = test()
                found["faults"][name] = {"tried": len(each), "survived": sum(each), "commit": commit}
    print(f"{'fault':62}{'tried':>8}{'survived':>10}")
    for name, row in found["faults"].items():
        print(f"{name:62}{row['tried']:8,}{row['survived']:10,}")
    record = {"faults": found["faults"], "seed": given.seed, "environment": records.environment()}
    given.record.parent.mkdir(parents=True, exist_ok=True)
    given.record.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if all(row["tried"] == row["survived"] for row in found["faults"].values()) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("kills", 50), ("disks", 10), ("runs", 200), ("cases", 10_000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", default="", metavar="TEXT", help="the faults with this in their name; the rest stays")
    record = Path(__file__).parents[1] / "records" / "benchmarks" / "faults.json"
    parser.add_argument("--record", type=Path, default=record, help="where the table goes as a record")
    sys.exit(main(parser.parse_args()))
