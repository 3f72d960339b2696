"""The long tests of faults (`make test-faults`): runs killed, disks filled, nodes lost, damaged files. Prints a table.

Fewer, for a try: `make test-faults ARGS="--kills 2 --disks 2 --runs 8 --sweeps 3 --cases 99 --record runs/f.json"`.
Some again, with the rest of the table unchanged: `make test-faults ARGS="--only Ctrl-C"`.
The exit code is 1 when a run did not survive a fault.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest

from effnet_utils.experiments.records import environment
from effnet_utils.files import PARTIAL
from tests.faults import cluster
from tools.notebooks import ROOT

TINY = {
    "dataset": "toy", "layout": "imagenet", "epochs": 4, "batch_size": 32, "max_train_samples": 256,
    "overrides": '{"width": 0.2, "depth": 0.3, "drop_connect_rate": 0.2, "dropout_rate": 0.2}',
}  # fmt: skip
# One thread, and TensorFlow's deterministic operations: what is computed twice is equal to the last bit.
ENVIRONMENT = os.environ | {"TF_DETERMINISTIC_OPS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

# The short tests that `make test` runs too, again: what is done, and the test.
SHORT = {
    "two runs into one folder": "experiments/test_records.py::test_a_folder_belongs_to_one_process",
    "two processes download at once": "test_datasets.py::test_one_downloads_while_others_wait",
    "archives truncated or altered": "test_datasets.py::test_wrong_archive_is_refused_before_it_is_opened",
    "unpacking interrupted": "test_datasets.py::test_interrupted_unpacking_leaves_no_folder",
    "hostile pickles": "tools/test_pack_cifar10.py::test_foreign_objects_are_refused_before_they_act",
    "damaged checkpoints": "training/test_checkpoints.py::test_takes_the_one_before_a_damaged_one",
    "NaN loss": "training/test_checkpoints.py::test_a_nan_loss_ends_the_run_and_keeps_the_state",
    "cells of 07 run again in other orders": "notebooks/test_rerun.py",
    "Ctrl-C": "experiments/test_run.py::test_an_interrupted_run_ends_with_130_and_takes_its_kernel_along",
    "a kernel that dies under the runner": "experiments/test_run.py::test_a_kernel_that_dies",
    "a notebook over its time limit": "experiments/test_run.py::test_time_limit",
}
# Sweeps ended by SIGTERM, by SIGKILL and by the closing of their terminal; then the same command again.
KILLED_SWEEP = "experiments/test_sweep.py::test_a_killed_sweep_leaves_no_run_behind_and_the_same_command_continues"
# A case for each reader of files; each tries as many damaged files as FUZZ_EXAMPLES says.
FUZZING = "faults/test_fuzzing.py::test_nothing_but_a_value_error_comes_out"


# --- Runs of 07 ---------------------------------------------------------------------------------------------------


def command(notebook, folder, values):
    given = [f"-p{name}={value}" for name, value in values.items()]
    return [sys.executable, "-m", "effnet_utils", "run", "--no-trials", str(notebook), "-o", str(folder), *given]


def start(notebook, folder, values):
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
    per_epoch = results.pop("per_epoch")
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in per_epoch]
    return model.get_weights(), rows, results


def same(found, expected):
    weights = all(np.array_equal(a, b) for a, b in zip(found[0], expected[0], strict=True))
    return weights and found[1:] == expected[1:]


def kill(runner, all_processes):
    """SIGKILL to the runner alone, whose kernel has to notice, or to its kernel too."""
    pids = [runner.pid]
    if all_processes:
        kernels = subprocess.run(["pgrep", "-P", str(runner.pid)], capture_output=True, text=True).stdout
        pids = [*map(int, kernels.split()), *pids]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    runner.wait()


def kills(count, place, undisturbed, chance):
    """Runs killed at a random moment, every other one twice, and resumed; one for each core at a time."""
    expected, length = undisturbed()
    plans = []
    for number in range(count):
        plans.append([(chance.uniform(0.1, 1) * length, chance.random() < 0.5) for _ in range(1 + number % 2)])

    def one(number):
        folder = place / f"kill{number}"
        for delay, all_processes in plans[number]:
            runner = start("07", folder, TINY | {"resume": "true"})
            try:
                runner.wait(delay)
            except subprocess.TimeoutExpired:
                kill(runner, all_processes)
            if (folder / "record.json").exists():
                break
        if not (folder / "record.json").exists():
            finish(folder, TINY | {"resume": "true"})
        assert not list(folder.glob(f"{PARTIAL}*")) and not list(folder.glob("checkpoint-*"))
        return same(outcome(folder), expected)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, range(count)))


# In a name space of its own, so that every user can make a small disk: fill it, look, enlarge it, resume.
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


def in_name_space(script, *arguments):
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", *map(str, arguments)], env=ENVIRONMENT)
    if done.returncode == 3:
        raise RuntimeError("no small disk could be made: mounting in a name space of one's own is not allowed here")


def full_disks(count, place, undisturbed):
    """Disks that are full at a different moment each; then they are enlarged, and the run is resumed."""
    expected, _ = undisturbed()
    survived = []
    for number in range(count):
        size = round(400 * 1.25**number)
        disk = place / f"disk{size}"
        disk.mkdir()
        in_name_space(FULL, f"{size}k", disk, *command("07", disk / "out", TINY | {"resume": "true"}))
        code = int((place / f"{disk.name}.code").read_text())
        last = (place / f"{disk.name}.full").read_text().split("\n")[-2]
        left = (place / f"{disk.name}.left").read_text().split()
        clear = code in (1, 2) and last.startswith("error: ") and "No space left" in last
        nothing_half_written = "record.json" not in left and not any(name.startswith(PARTIAL) for name in left)
        if not (clear and nothing_half_written):
            print(f"disk of {size} kB: code {code}, left {left}, last line: {last}")
        survived.append(clear and nothing_half_written and same(outcome(place / f"{disk.name}.out"), expected))
    return survived


def read_only_disk(place):
    disk = place / "read-only"
    disk.mkdir()
    in_name_space(READ_ONLY, disk, *command("07", disk / "out", TINY))
    last = (place / "read-only.full").read_text().split("\n")[-2]
    return [(place / "read-only.code").read_text() == "2\n" and last.startswith("error: ") and "written to" in last]


# --- Many runs ----------------------------------------------------------------------------------------------------


def lost_node(place):
    """A grid of 12 runs on a cluster of two nodes, the second of which is killed."""
    axes = {"learning_rate": [0.003, 0.006], "batch_size": [32, 64]}
    fixed = {name: value for name, value in TINY.items() if name not in axes} | {"epochs": 1}
    grid = place / "grid.yaml"
    grid.write_text(json.dumps({"parameters": fixed, "grid": axes, "seeds": [0, 1, 2]}))
    code, printed, there = cluster.sweep_and_lose_a_node(grid, place / "grid", 4)
    if code:
        print(printed)
    records = cluster.records(place / "grid")
    found = {tuple(run[name] for name in (*axes, "seed")) for run in records}
    return [code == 0 and there < 12] + [len(records) == 12] * len(found)


def small_runs(count, place):
    """Small notebooks, eight at a time."""
    cells = [
        nbformat.v4.new_code_cell('seed: int = 0  # a number\noutput_dir: str = ""  # where to'),
        nbformat.v4.new_code_cell("from pathlib import Path\nPath(output_dir, 'done').write_text(str(seed))"),
    ]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), place / "small.ipynb")

    def one(seed):
        code = start(place / "small.ipynb", place / f"small{seed}", {"seed": seed}).wait()
        return code == 0 and (place / f"small{seed}" / "done").read_text() == str(seed)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, range(count)))


# --- Tests that `make test` runs too ------------------------------------------------------------------------------


class Outcomes:
    """A plugin of pytest that keeps whether each test passed."""

    def __init__(self):
        self.passed = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.failed or report.skipped:
            self.passed.append(report.passed)


def short(test):
    """Whether each test of a file, or each case of one test, passed."""
    outcomes = Outcomes()
    arguments = [str(ROOT / "tests" / test), "--no-header", "--no-summary", "-p", "no:cacheprovider"]
    pytest.main(arguments, plugins=[outcomes])
    return outcomes.passed or [False]


def killed_sweeps(count):
    survived = []
    while len(survived) < count:
        survived += short(KILLED_SWEEP)
    return survived


def fuzzed(cases):
    """Damaged files: those of a reader that lets something else than a ValueError out count as one, not survived."""
    os.environ["FUZZ_EXAMPLES"] = str(cases)
    survived = []
    for passed in short(FUZZING):
        survived += [True] * cases if passed else [False]
    return survived


# --- The table ----------------------------------------------------------------------------------------------------


def faults(given, place):
    """{what is done: a function that does it and returns whether each was survived}."""
    chance = random.Random(given.seed)

    @cache
    def undisturbed():
        """(outcome, seconds) of a run that nothing interrupts."""
        began = time.monotonic()
        finish(place / "undisturbed", TINY)
        return outcome(place / "undisturbed"), time.monotonic() - began

    return {
        "runs of 07 killed at a random moment, resumed bit for bit": partial(
            kills, given.kills, place, undisturbed, chance
        ),
        "disks full during a run, then resumed bit for bit": partial(full_disks, given.disks, place, undisturbed),
        "a folder on a read-only disk": partial(read_only_disk, place),
        "small notebooks, eight at a time": partial(small_runs, given.runs, place),
        "sweeps killed, no process left, the same command goes on": partial(killed_sweeps, given.sweeps),
        "damaged files": partial(fuzzed, given.cases),
        **{name: partial(short, test) for name, test in SHORT.items()},
        "a sweep of 12 runs on two nodes, one of them lost": partial(lost_node, place),
    }


def main(given):
    here = environment()
    table = {}
    if given.only and given.record.is_file():
        table = json.loads(given.record.read_text())["faults"]
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        for name, test in faults(given, Path(place)).items():
            if given.only in name:
                survived = test()
                table[name] = {"tried": len(survived), "survived": sum(survived), "commit": here["commit"]}
    print(f"{'fault':62}{'tried':>8}{'survived':>10}")
    for name, row in table.items():
        print(f"{name:62}{row['tried']:8,}{row['survived']:10,}")
    given.record.parent.mkdir(parents=True, exist_ok=True)
    given.record.write_text(json.dumps({"faults": table, "seed": given.seed, "environment": here}, indent=1) + "\n")
    return 0 if all(row["tried"] == row["survived"] for row in table.values()) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 50), ("disks", 10), ("runs", 200), ("sweeps", 21), ("cases", 10_000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", default="", metavar="TEXT", help="the faults with this in their name; the rest stays")
    record = ROOT / "records" / "benchmarks" / "faults.json"
    parser.add_argument("--record", type=Path, default=record, help="file of the record of the table")
    sys.exit(main(parser.parse_args()))
