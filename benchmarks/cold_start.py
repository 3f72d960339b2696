"""From a fresh clone to a trained model, and the seconds of `import effnet_utils`.

    python benchmarks/cold_start.py         # about 15 minutes; writes records/benchmarks/cold_start.json
    python benchmarks/cold_start.py --tiny  # few images and few imports; writes runs/cold_start_tiny.json

Clones the last commit of this checkout into a temporary folder, makes its environment there without pip's cache, and
trains by `make run`, once. The packages are downloaded: the seconds of the set-up are those of the network and of the
package index as much as those of this machine. Imports run in fresh interpreters, one statement after the
other in turn, forwards and backwards alternately, after one turn that is not counted; beyond_python is what a statement
takes beyond `pass` in the same turn.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from throughput import spread

from effnet_utils import records

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "records" / "benchmarks" / "cold_start.json"
STATEMENTS = (
    "pass",
    "import numpy",
    "import keras",
    "import effnet_utils",
    "import effnet_utils; effnet_utils.efficientnet",
)
# What this process was given and the fresh clone must not see.
PRIVATE = ("ARGS", "BENCH", "KERAS_BACKEND", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH", "VIRTUAL_ENV")


def from_clone(repository, arguments=()):
    """Clone, set up, train.

    Args:
        repository: path of a git repository with this project's Makefile.
        arguments: of ``make run``.

    Returns:
        dict: seconds, venv_bytes, and the commit, seconds and accuracy that the run recorded.

    Raises:
        subprocess.CalledProcessError: a step failed; what it printed stands above.
    """
    environment = {name: value for name, value in os.environ.items() if name not in PRIVATE}
    environment["PIP_NO_CACHE_DIR"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        steps = {
            "clone": ["git", "clone", "--quiet", "--no-hardlinks", repository, clone],
            "set-up": ["make", "-C", clone, ".venv/.stamp"],
            "run": ["make", "-C", clone, "run", *arguments],
        }
        seconds = {}
        for step, command in steps.items():
            start = time.perf_counter()
            subprocess.run(command, env=environment, check=True)
            seconds[step] = round(time.perf_counter() - start, 3)
        (written,) = clone.glob("runs/*/*/record.json")
        run = json.loads(written.read_text())
        venv_bytes = sum(path.lstat().st_size for path in (clone / ".venv").rglob("*") if not path.is_dir())
    return {
        "seconds": {**seconds, "total": round(sum(seconds.values()), 3)},
        "downloads": "in the set-up, without pip's cache; its seconds depend on the network and the package index",
        "venv_bytes": venv_bytes,
        "run": {
            "commit": run["environment"]["commit"],
            "parameters": run["parameters"],
            "seconds": run["seconds"],
            "test_accuracy": run["results"]["test_accuracy"],
        },
    }


def imports(repeats):
    """{statement: {"seconds": spread, "beyond_python": spread}}, each run in a fresh interpreter from the checkout."""
    taken = {statement: [] for statement in STATEMENTS}
    for repeat in range(repeats + 1):
        for statement in STATEMENTS[:: 1 if repeat % 2 == 0 else -1]:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
            taken[statement].append(time.perf_counter() - start)
    found = {}
    for statement, seconds in taken.items():
        beyond = [a - b for a, b in zip(seconds[1:], taken["pass"][1:], strict=True)]
        found[statement] = {"seconds": spread(seconds[1:]), "beyond_python": spread(beyond)}
    return found


def print_tables(record):
    clone = record["from_clone"]
    print(f"\n{record['environment']['device']}, {record['environment']['cores']} cores")
    print("from a fresh clone      seconds  (the set-up downloads the packages)")
    for step, seconds in clone["seconds"].items():
        print(f"{step:<22} {seconds:>8.1f}")
    accuracy, size = clone["run"]["test_accuracy"], clone["venv_bytes"] / 1e9
    print(f"test accuracy {accuracy:.2%}; .venv takes {size:.2f} GB")
    print(f"\n{'in a fresh interpreter':<48} {'seconds: median (quartiles)':>30} {'beyond pass':>12}")
    for statement, row in record["imports"].items():
        low, middle, high = (f"{row['seconds'][key]:.3f}" for key in ("quartile_1", "median", "quartile_3"))
        print(f"{statement:<48} {f'{middle} ({low} to {high})':>30} {row['beyond_python']['median']:>12.3f}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="few images and few imports, to try the script")
    tiny = parser.parse_args(arguments).tiny
    path = ROOT / "runs" / "cold_start_tiny.json" if tiny else RECORD
    repeats = 3 if tiny else 15
    record = {
        "what": f"clone, set-up and run once; imports {repeats} times each, in turn",
        "imports": imports(repeats),
        "from_clone": from_clone(ROOT, ["ARGS=-p epochs=1 -p train_limit=128"] if tiny else []),
        "environment": records.environment(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print_tables(record)
    print("->", path)


if __name__ == "__main__":
    main()
