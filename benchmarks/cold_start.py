"""From a fresh clone to a trained model, and the seconds of `import effnet_utils`.

    python -m benchmarks.cold_start         # about 15 minutes; writes records/benchmarks/cold_start.json
    python -m benchmarks.cold_start --tiny  # few images and few imports; writes runs/tiny/cold_start.json

Clones the last commit of this checkout into a temporary folder, makes its environment there without a cache, and
trains by `make run`, once. The packages are downloaded: the seconds of the set-up depend on the network and the
package index as much as on this machine. Imports run in fresh interpreters, in rounds of one each, forwards and
backwards alternately, after one round that is not counted; beyond_python is what a statement takes beyond `pass` in the
same round.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._common import ROOT, argument_parser, in_turn, seconds_of, spread, write_benchmark
from effnet_utils.experiments import records

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
    """Clone a repository, set up, and train by ``make run`` with arguments; returns what was measured.

    Raises subprocess.CalledProcessError when a step fails; its output is above.
    """
    environment = {name: value for name, value in os.environ.items() if name not in PRIVATE}
    environment |= {"PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1"}
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        steps = {
            "clone": ["git", "clone", "--quiet", "--no-hardlinks", repository, clone],
            "set-up": ["make", "-C", clone, ".venv/.stamp"],
            "run": ["make", "-C", clone, "run", *arguments],
        }
        for step, command in steps.items():
            seconds[step] = round(seconds_of(subprocess.run, command, env=environment, check=True), 3)
        (written,) = clone.glob("runs/*/*/record.json")
        run = json.loads(written.read_text())
        venv_bytes = sum(path.lstat().st_size for path in (clone / ".venv").rglob("*") if not path.is_dir())
    return {
        "seconds": {**seconds, "total": round(sum(seconds.values()), 3)},
        "downloads": "in the set-up, without a cache; its seconds depend on the network and the package index",
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
    options = {"cwd": ROOT, "check": True, "stderr": subprocess.DEVNULL}
    taken = {statement: [] for statement in STATEMENTS}
    for number in range(repeats + 1):
        for statement in in_turn(STATEMENTS, number):
            seconds = seconds_of(subprocess.run, [sys.executable, "-c", statement], **options)
            taken[statement].append(seconds)
    found = {}
    for statement, seconds in taken.items():
        beyond = [a - b for a, b in zip(seconds[1:], taken["pass"][1:], strict=True)]
        found[statement] = {"seconds": spread(seconds[1:]), "beyond_python": spread(beyond)}
    return found


def main(arguments=None):
    given = argument_parser("cold_start", __doc__).parse_args(arguments)
    repeats = 3 if given.tiny else 15
    record = {
        "what": f"clone, set-up and run once; imports {repeats} times each, in turn",
        "imports": imports(repeats),
        "from_clone": from_clone(ROOT, ["ARGS=-p epochs=1 -p max_train_samples=128"] if given.tiny else []),
        "environment": records.environment(),
    }
    clone = record["from_clone"]
    print(f"seconds: {clone['seconds']}; test accuracy {clone['run']['test_accuracy']:.2%}")
    write_benchmark(given, "cold_start", record)


if __name__ == "__main__":
    main()
