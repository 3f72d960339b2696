"""The short runs by which layout and recipe were chosen: 10,000 training images, 4 epochs, evaluated on the 5,000
training images that are held out for validation. The test images are not touched.

    python benchmarks/pilots.py --data-dir data  # all, three seeds each; about 3 minutes a run on 2 cores
    python benchmarks/pilots.py --data-dir data --only base batch-64+sgd --seeds 0

Each changes one thing of the first, or several where names are joined by "+".
Writes records/pilot_<name>_<seed>.json; what has a record already is not run again.
"""

import argparse
import gc
from pathlib import Path

import keras

from effnet_utils import LAYOUTS, data, efficientnet, records, train
from effnet_utils.muon import Muon


def adamw(rate):
    return keras.optimizers.AdamW(rate, weight_decay=0.05)


def sgd(rate):
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-3)


def muon(rate):
    return Muon(rate, weight_decay=0.05)


def averaged(rate):
    return keras.optimizers.AdamW(rate, weight_decay=0.05, use_ema=True, ema_momentum=0.98)


# name -> what differs from BASE. "strides": of the stem and the stages; "rate": the peak; the rest: the recipe.
BASE = {"strides": LAYOUTS["cifar-fast"], "rate": 3e-3, "batch_size": 128, "optimizer": adamw}
PILOTS = {
    "base": {},
    # Layouts
    "strides-late-1": {"strides": (2, 1, 1, 2, 2, 1, 1, 1)},
    "strides-stem-1": {"strides": (1, 1, 2, 2, 2, 1, 2, 1)},
    "strides-stem-late-1": {"strides": (1, 1, 2, 2, 2, 1, 1, 1)},
    "strides-paper": {"strides": LAYOUTS["imagenet"]},
    # Optimizer, its rate, batch
    "rate-0.0015": {"rate": 1.5e-3},
    "rate-0.006": {"rate": 6e-3},
    "sgd": {"optimizer": sgd, "rate": 0.2},
    "muon": {"optimizer": muon},
    "batch-64": {"batch_size": 64},
    "averaged": {"optimizer": averaged},
    # BatchNorm, start, input
    "bn-0.99": {"bn_momentum": 0.99},
    "gamma-one": {"zero_last_gamma": False},
    "classifier-not-zero": {"zero_classifier": False},
    "input-0-1": {"preprocessing": "rescale"},
    # Regularisation
    "no-smoothing": {"label_smoothing": 0.0},
    "no-augmentation": {"translate": 0, "flip": False},
    "translate-4": {"translate": 4},
    "drop-connect": {"drop_connect_rate": 0.1},
}
COMBINED = (
    "batch-64+sgd", "batch-64+muon", "strides-stem-1+batch-64", "strides-stem-1+batch-64+sgd",
    "strides-stem-1+batch-64+muon",
)  # fmt: skip
TRAIN_LIMIT, EPOCHS = 10_000, 4


def differences(name):
    """What the pilot changes of BASE. Raises ValueError for a name that is not in PILOTS."""
    unknown = [part for part in name.split("+") if part not in PILOTS]
    if unknown:
        raise ValueError(f"unknown pilot {', '.join(unknown)}; allowed, also joined by '+': {', '.join(PILOTS)}")
    return {key: value for part in name.split("+") for key, value in PILOTS[part].items()}


def load(data_dir, train_limit, evaluate_on):
    """((images, labels) to train on, (images, labels) to evaluate on): of the test images, or of the held-out ones."""
    (images, labels), evaluated = data.load_cifar10(data_dir)
    if evaluate_on == "validation":
        held_out = len(images) - len(images) // 10
        evaluated = images[held_out:], labels[held_out:]
    n = train.images_to_train_on(len(images), train_limit, evaluate_on)
    return (images[:n], labels[:n]), evaluated


def flip_averaged(model, probabilities, evaluated):
    """Accuracy of the probabilities averaged with those of the mirrored images."""
    images, labels = evaluated
    return train.evaluate((probabilities + train.predict(model, images[:, :, ::-1])) / 2, labels)["accuracy"]


def run(changes, seed, data_dir, *, epochs=EPOCHS, train_limit=TRAIN_LIMIT, evaluate_on="validation"):
    """One training run.

    Args:
        changes: dict, what differs from BASE.
        seed: int.
        data_dir: folder of CIFAR-10.
        epochs, train_limit, evaluate_on: as in notebook 07.

    Returns:
        dict, the record.
    """
    changes = {**BASE, **changes}
    strides, rate, batch_size, optimizer = (changes.pop(key) for key in BASE)
    keras.utils.set_random_seed(seed)
    recipe = train.Recipe(**changes)
    clock = records.Stopwatch()
    (images, labels), evaluated = load(data_dir, train_limit, evaluate_on)
    LAYOUTS["pilot"] = strides
    model = efficientnet("b0", layout="pilot", classes=10, classifier_activation=None, **recipe.builder())
    batches = train.Batches(labels, batch_size, 10, recipe, seed)
    steps = len(batches) * epochs
    learner = train.prepare(model, images, recipe, rate, steps)
    chosen = optimizer(train.OneCycle(rate, steps, recipe.warmup))
    chosen.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    learner.compile(chosen, learner.loss, metrics=["accuracy"], jit_compile=learner.jit_compile)
    lines = train.EpochLines()
    seconds = {"setup": clock.lap()}
    learner.fit(batches, epochs=epochs, verbose=0, callbacks=[lines])
    seconds |= {"compile": lines.compile_seconds, "train": clock.lap() - lines.compile_seconds}
    probabilities = train.predict(model, evaluated[0])
    scores = train.evaluate(probabilities, evaluated[1])
    seconds["evaluate"] = clock.lap()
    return {
        "parameters": {
            "strides": strides, "learning_rate": rate, "overrides": changes,
            "optimizer": optimizer.__name__,
            "epochs": epochs, "batch_size": batch_size, "train_limit": train_limit, "evaluate_on": evaluate_on,
            "seed": seed, "precision": keras.config.dtype_policy().name,
        },
        "dataset": data.describe_dataset("cifar10", data_dir, len(images), len(evaluated[0])),
        "results": {
            f"{evaluate_on}_accuracy": scores["accuracy"], "loss": scores["loss"], "per_class": scores["per_class"],
            "flip_averaged_accuracy": flip_averaged(model, probabilities, evaluated), "per_epoch": lines.per_epoch,
        },
        "seconds": {key: round(value, 2) for key, value in seconds.items()},
        "environment": records.environment(),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--only", nargs="+", default=[*PILOTS, *COMBINED], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    for name in given.only:
        differences(name)
    for seed in given.seeds:
        for name in given.only:
            path = Path(__file__).parents[1] / "records" / f"pilot_{name}_{seed}.json"
            if path.is_file():
                continue
            print(f"{name}, seed {seed}", flush=True)
            record = run(differences(name), seed, given.data_dir)
            record["parameters"]["pilot"], record["notebook"] = name, "benchmarks/pilots.py"
            records.write_record(path, record)
            print(f"{name}, seed {seed}: {record['results']['validation_accuracy']:.2%}", flush=True)
            keras.backend.clear_session()
            gc.collect()


if __name__ == "__main__":
    main()
