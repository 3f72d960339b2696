"""Notebook 07 with one thing changed at a time, and with a small network scaled to four times its MACs in four ways.

    python -m benchmarks.ablations --workers 2  # all, three seeds each: about two hours on two cores
    python -m benchmarks.ablations --only base relu --seeds 0

EfficientNet-B0 at half its width and half its depth, so that many runs can be made on a CPU: 10,000 training images, 6
epochs, evaluated on the 5,000 training images that are held out for validation; the test images are not touched. Writes
records/ablation_<row>_seed<seed>.json, the run's own record; a row that has a record is not run again. With several
workers each has its share of the cores. The row layout-cifar-fine has no records yet. The exit code is 1 when runs
failed. --tiny: the toy dataset and one epoch.
"""

import json
import sys

from benchmarks._common import ROOT, argument_parser, output_folder
from effnet_utils.experiments import records
from effnet_utils.experiments.run import find_notebook
from effnet_utils.experiments.sweep import run_many

RUNS = ROOT / "runs" / "ablations"
BUDGET = {"max_train_samples": 10_000, "epochs": 6, "eval_split": "validation"}
TINY = {"dataset": "toy", "max_train_samples": 256, "epochs": 1}
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
# A still smaller network at 16 pixels, and four ways to multiply its MACs by about four.
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


def main(arguments=None):
    parser = argument_parser("ablations", __doc__)
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=1, help="runs at a time")
    given = parser.parse_args(arguments)
    folder = output_folder(given, "records")
    notebook = find_notebook("07")
    budget = {**BUDGET, **TINY} if given.tiny else BUDGET
    runs = {}
    # Seeds outermost: when the script is ended early, whole sets of rows are done.
    for seed in given.seeds:
        for row in given.only:
            name = f"ablation_{row}_seed{seed}"
            layout, changes = ROWS[row]
            parameters = {**budget, "layout": layout, "seed": seed, "overrides": json.dumps({**SMALL, **changes})}
            if not (folder / f"{name}.json").is_file():
                runs[name] = (notebook, parameters)
    failed = 0
    for name, record, last_line in run_many(runs, RUNS / "tiny" if given.tiny else RUNS, given.workers):
        if record is None:
            failed += 1
            print(f"{name}: {last_line}", flush=True)
        else:
            records.write_record(folder / f"{name}.json", record)
            print(f"{name}: {record['results']['validation_accuracy']:.2%}", flush=True)
    if failed:
        sys.exit(f"{failed} runs failed; the same command tries them again")


if __name__ == "__main__":
    main()
