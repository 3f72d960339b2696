"""The short runs by which layout and recipe were chosen: 10,000 training images, 4 epochs, evaluated on the 5,000
training images that are held out for validation. The test images are not touched.

    python benchmarks/pilots.py --data-dir data  # all, two seeds each; 3 to 4 minutes a run
    python benchmarks/pilots.py --data-dir data --only cifar-fast rate-x2 --seeds 0

Writes records/pilot_<name>_<seed>.json; what has a record already is not run again.
"""

import argparse
import gc
from pathlib import Path

import keras

from effnet_utils import LAYOUTS, data, efficientnet, records, train

# name -> (strides of the stem and the stages, peak rate, changes to the recipe)
FAST = LAYOUTS["cifar-fast"]
PILOTS = {
    "cifar-fast": (FAST, 1.5e-3, {}),
    "rate-x2": (FAST, 3e-3, {}),
    "classifier-not-zero": (FAST, 1.5e-3, {"zero_classifier": False}),
    "late-strides-1": ((2, 1, 2, 2, 1, 1, 1, 1), 1.5e-3, {}),
    "one-stride-less": ((2, 1, 2, 2, 2, 1, 1, 1), 1.5e-3, {}),
}
TRAIN_LIMIT, EPOCHS, BATCH_SIZE = 10_000, 4, 128


def run(name, seed, data_dir):
    """One run; returns its record."""
    strides, rate, changes = PILOTS[name]
    keras.utils.set_random_seed(seed)
    recipe = train.Recipe(**changes)
    clock = records.Stopwatch()
    (images, labels), _ = data.load_cifar10(data_dir)
    held_out = len(images) - len(images) // 10
    validation = images[held_out:], labels[held_out:]
    LAYOUTS["pilot"] = strides
    model = efficientnet("b0", layout="pilot", classes=10, classifier_activation=None, **recipe.builder())
    batches = train.Batches(images[:TRAIN_LIMIT], labels[:TRAIN_LIMIT], BATCH_SIZE, 10, recipe, seed)
    train.prepare(model, recipe, rate, len(batches) * EPOCHS)
    lines = train.EpochLines(validation)
    seconds = {"setup": clock.lap()}
    model.fit(batches, epochs=EPOCHS, verbose=0, callbacks=[lines])
    fitted = clock.lap()
    # Seconds of the epochs alone: the validation after each of them is not training.
    seconds |= {"compile": lines.compile_seconds, "train": sum(row["seconds"] for row in lines.per_epoch)}
    seconds["evaluate"] = fitted - seconds["compile"] - seconds["train"]
    scores = train.evaluate(train.predict(model, validation[0]), validation[1])
    return {
        "parameters": {
            "pilot": name, "strides": strides, "learning_rate": rate, "overrides": changes, "epochs": EPOCHS,
            "batch_size": BATCH_SIZE, "train_limit": TRAIN_LIMIT, "evaluate_on": "validation", "seed": seed,
        },
        "dataset": data.describe_dataset("cifar10", data_dir, TRAIN_LIMIT, len(validation[0])),
        "results": {
            "validation_accuracy": scores["accuracy"], "loss": scores["loss"], "per_class": scores["per_class"],
            "per_epoch": lines.per_epoch,
        },
        "seconds": {key: round(value, 2) for key, value in seconds.items()},
        "environment": records.environment(),
        "notebook": "benchmarks/pilots.py",
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--only", nargs="+", choices=PILOTS, default=list(PILOTS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    given = parser.parse_args()
    for seed in given.seeds:
        for name in given.only:
            path = Path(__file__).parents[1] / "records" / f"pilot_{name}_{seed}.json"
            if path.is_file():
                continue
            print(f"{name}, seed {seed}", flush=True)
            record = run(name, seed, given.data_dir)
            records.write_record(path, record)
            print(f"{name}, seed {seed}: {record['results']['validation_accuracy']:.2%}", flush=True)
            keras.backend.clear_session()
            gc.collect()


if __name__ == "__main__":
    main()
