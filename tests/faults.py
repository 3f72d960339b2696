"""The long tests of faults (`make faults`): runs killed, many notebooks at once, damaged files. Prints a table.

Fewer, for a try: `python tests/faults.py --kills 2 --runs 8 --cases 100`. Ends with 1 when one was not survived.
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
from pathlib import Path

import fuzzing
import keras
import nbformat
import numpy as np

TINY = {
    "dataset": "toy", "layout": "imagenet", "epochs": 4, "batch_size": 32, "train_limit": 256,
    "overrides": '{"width": 0.2, "depth": 0.3, "drop_connect_rate": 0.2, "dropout_rate": 0.2}',
}  # fmt: skip
# One thread, and TensorFlow's deterministic operations: what is computed twice is equal to the last bit.
ENVIRONMENT = os.environ | {"TF_DETERMINISTIC_OPS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def start(notebook, folder, values=()):
    command = [sys.executable, "-m", "effnet_utils", "run", str(notebook), "-o", str(folder)]
    for name, value in dict(values).items():
        command += ["-p", f"{name}={value}"]
    log = open(folder.with_suffix(".log"), "ab")
    return subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT, start_new_session=True)


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


def kills(count, place, chance):
    """Runs killed at a random moment, at times twice, and gone on with."""
    began = time.monotonic()
    finish(place / "whole", TINY)
    expected, length = outcome(place / "whole"), time.monotonic() - began

    def one(k):
        folder, delays = place / f"kill{k}", [chance.uniform(0.1, 1) * length for _ in range(1 + k % 2)]
        for delay in delays:
            runner = start("07", folder, TINY | {"resume": "true"})
            try:
                runner.wait(delay)
            except subprocess.TimeoutExpired:
                kill(runner, whole=chance.random() < 0.5)
            if (folder / "record.json").exists():
                break
        if not (folder / "record.json").exists():
            finish(folder, TINY | {"resume": "true"})
        assert not list(folder.glob(".partial-*")) and not list(folder.glob("checkpoint-*"))
        return same(outcome(folder), expected)

    return [one(k) for k in range(count)]


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


def main(given):
    chance, survived = random.Random(given.seed), {}
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        place = Path(place)
        survived["runs of 07 killed at a random moment, resumed bit for bit"] = kills(given.kills, place, chance)
        survived["small notebooks, eight at a time"] = small_runs(given.runs, place)
        for name in fuzzing.READERS:
            refused, read = fuzzing.fuzz(name, given.cases, place, given.seed)
            survived[f"damaged inputs, {name}"] = [True] * (refused + read)
    print(f"{'fault':60}{'tried':>8}{'survived':>10}")
    for name, each in survived.items():
        print(f"{name:60}{len(each):8}{sum(each):10}")
    return 0 if all(map(all, survived.values())) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("kills", 50), ("runs", 200), ("cases", 10_000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    sys.exit(main(parser.parse_args()))
