"""Ten epochs of EfficientNet-B0 from scratch on a GPU: accuracy and seconds of training by layout, peak rate and seed.

    export KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR=.cache/jax  # the second run of a layout compiles in no time
    python benchmarks/gpu.py --evaluate-on validation --layouts cifar cifar-fine --rates 6e-3 1e-2 --seeds 0
    python benchmarks/gpu.py --layouts cifar-fine --rates 1e-2 --seeds 0 1 2 3 4

The second line chooses: a tenth of the training images is held out and the test images are not touched. The third uses
the test images once a seed. bfloat16 with the classifier in float32, batch 512, and else the recipe of notebook 07.
Writes <out>/gpu_<layout>_rate<rate>_<test or validation>_<seed>.json, a record like those of 07, as soon as a run
is done, and prints the table of all that are there. A run that has a record is not repeated; after --minutes no other
run begins, and the exit code is 1 when runs are left.
--tiny: 200 images, 1 epoch; shows on any machine that everything runs.
"""

import argparse
import gc
import itertools
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pilots

from effnet_utils import LAYOUTS, records

BATCH_SIZE, EPOCHS = 512, 10
TINY = {"batch_size": 50, "epochs": 1, "train_limit": 200}


def table(found):
    """One line for each layout, rate and split: median and range of the accuracy and of the seconds over the seeds.

    Args:
        found: list of records.
    """
    groups = {}
    for record in found:
        given = record["parameters"]
        key = given["pilot"], given["learning_rate"], given["evaluate_on"]
        groups.setdefault(key, []).append(record)
    lines = ["layout       rate  accuracy on   seeds  median  lowest  highest  flip-averaged  training seconds"]
    for (layout, rate, split), runs in sorted(groups.items()):
        accuracy = [100 * run["results"][f"{split}_accuracy"] for run in runs]
        flipped = [100 * run["results"]["flip_averaged_accuracy"] for run in runs]
        seconds = [run["seconds"]["train"] for run in runs]
        lines.append(
            f"{layout:10} {rate:6g}  {split:12} {len(runs):6}  {np.median(accuracy):6.2f}  {min(accuracy):6.2f}  "
            f"{max(accuracy):7.2f}  {np.median(flipped):13.2f}  {np.median(seconds):7.1f} ({min(seconds):.1f} to "
            f"{max(seconds):.1f})"
        )
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--layouts", nargs="+", default=["cifar", "cifar-fine"], choices=LAYOUTS)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-2], help="peak rates")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--evaluate-on", default="test", choices=("test", "validation"))
    parser.add_argument("--precision", default="mixed_bfloat16", choices=("mixed_bfloat16", "mixed_float16", "float32"))
    parser.add_argument("--minutes", type=float, default=9, help="after these no other run begins")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "records")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(arguments)
    size = TINY if given.tiny else {"batch_size": BATCH_SIZE, "epochs": EPOCHS, "train_limit": 0}
    keras.config.set_dtype_policy(given.precision)
    stop, found, left = time.monotonic() + 60 * given.minutes, [], []
    # Seeds outermost: whatever changes on the machine hits all layouts and rates.
    for seed, layout, rate in itertools.product(given.seeds, given.layouts, given.rates):
        path = given.out / f"gpu_{layout}_rate{rate:g}_{given.evaluate_on}_{seed}.json"
        if not path.is_file():
            if time.monotonic() > stop:
                left.append(path.stem)
                continue
            print(path.stem, flush=True)
            changes = {"strides": LAYOUTS[layout], "rate": rate, "batch_size": size["batch_size"]}
            changes["optimizer"] = pilots.muon
            record = pilots.run(
                changes, seed, given.data_dir,
                epochs=size["epochs"], train_limit=size["train_limit"], evaluate_on=given.evaluate_on,
            )  # fmt: skip
            record["parameters"]["pilot"], record["notebook"] = layout, "benchmarks/gpu.py"
            records.write_record(path, record)
            keras.backend.clear_session()
            gc.collect()
        found.append(json.loads(path.read_text()))
    print(table(found))
    if left:
        sys.exit(f"no time left for {len(left)} runs: {', '.join(left)}; the same command goes on with them")


if __name__ == "__main__":
    main()
