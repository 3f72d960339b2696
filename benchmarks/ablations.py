"""Notebook 07 with one thing changed at a time, and with a small network made four times as dear in four ways.

    python benchmarks/ablations.py --workers 2  # all, three seeds each: about an hour on 2 cores
    python benchmarks/ablations.py --only base relu --seeds 0

EfficientNet-B0 at half its width and half its depth, so that many runs can be made on a CPU: 10,000 training images, 6
epochs, evaluated on the 5,000 training images that are held out for validation; the test images are not touched. A run
is one command, `python -m effnet_utils run 07 -p ...`, which --commands prints for each. Writes
records/ablation_<row>_seed<seed>.json, the run's own record; what has a record is not run again. With several workers
each has its share of the cores. The exit code is 1 when runs failed.
"""

import argparse
import json
import shlex
import sys
from concurrent.futures import as_completed

from throughput import ROOT

from effnet_utils import records, sweep
from effnet_utils.run import find_notebook

BUDGET = {"train_limit": 10_000, "epochs": 6, "evaluate_on": "validation"}
SMALL = {"width": 0.5, "depth": 0.5}
# row -> what differs from notebook 07's defaults and the budget.
PARTS = {
    "base": {},
    "relu": {"activation": "relu"},
    "no-gates": {"se_ratio": 0.0},
    "no-skips": {"id_skip": False},
    "expand-1": {"expand_ratio": 1},
    "expand-3": {"expand_ratio": 3},
    "kernel-3": {"kernel_size": 3},
    "kernel-5": {"kernel_size": 5},
    "drop-connect-0.2": {"drop_connect_rate": 0.2},
    "bn-0.99": {"bn_momentum": 0.99},
}
LAYOUTS = ("imagenet", "cifar-fast", "cifar-fine")
# A still smaller network at 16 pixels, and four ways to multiply its mult-adds by about four.
SCALING = {
    "scale-start": {"resolution": 16, "width": 0.3},
    "scale-depth": {"resolution": 16, "width": 0.3, "depth": 2.1},
    "scale-width": {"resolution": 16, "width": 0.65},
    "scale-resolution": {"resolution": 32, "width": 0.3},
    "scale-compound": {"resolution": 20, "width": 0.375, "depth": 0.6},
}
ROWS = {
    **{name: ("cifar", changes) for name, changes in PARTS.items()},
    **{f"layout-{name}": (name, {}) for name in LAYOUTS},
    **{name: ("cifar-fine", changes) for name, changes in SCALING.items()},
}


def parameters(row, seed):
    """What notebook 07 is given."""
    layout, changes = ROWS[row]
    return BUDGET | {"layout": layout, "seed": seed, "overrides": json.dumps(SMALL | changes)}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    parser.add_argument("--commands", action="store_true", help="print the commands and run nothing")
    parser.add_argument("--tiny", action="store_true", help="drawn images and one epoch, into runs/: to try the script")
    given = parser.parse_args(arguments)
    tiny = {"dataset": "toy", "train_limit": 256, "epochs": 1} if given.tiny else {}
    place, out = ROOT / "runs" / ("ablations_tiny" if given.tiny else "ablations"), ROOT / "records"
    # Seeds outermost: a run of the script that is ended early leaves whole sets of rows.
    runs = {f"ablation_{row}_seed{seed}": parameters(row, seed) | tiny for seed in given.seeds for row in given.only}
    if given.commands:
        for values in runs.values():
            line = [text for name, value in values.items() for text in ("-p", f"{name}={value}")]
            print("python -m effnet_utils run 07", shlex.join(line))
        return
    target = place if given.tiny else out
    submit, close = sweep._here(given.workers, place)
    todo = [name for name in runs if not (target / f"{name}.json").is_file()]
    running = {submit(name, find_notebook("07"), runs[name]): name for name in todo}
    failed = []
    try:
        for future in as_completed(running):
            name, written = running[future], place / running[future] / "record.json"
            if written.is_file():
                record = json.loads(written.read_text())
                records.write_record(target / f"{name}.json", record)
                print(f"{name}: {record['results']['validation_accuracy']:.2%}", flush=True)
            else:
                failed.append(f"{name}: {future.result()}")
                print(failed[-1], flush=True)
    finally:
        close()
    if failed:
        sys.exit(f"{len(failed)} runs failed; the same command tries them again")


if __name__ == "__main__":
    main()
