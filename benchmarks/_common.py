"""What the benchmarks share: arguments, the order of measurements, records, and training runs on CIFAR-10."""

import argparse
import gc
import json
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np

from effnet_utils import efficientnet
from effnet_utils.datasets import describe_dataset, load_cifar10, load_toy
from effnet_utils.evaluation import evaluate, predict_proba, predict_tta
from effnet_utils.experiments import records
from effnet_utils.training.augment import Batches
from effnet_utils.training.recipe import Recipe
from effnet_utils.training.trainer import EpochLogger, make_trainer

ROOT = Path(__file__).resolve().parents[1]
# PyTorch and the packages that ours is compared with; `make .venv-backends/.stamp` makes it.
BACKENDS_PYTHON = ROOT / ".venv-backends" / "bin" / "python"
QUANTILES = {"min": 0, "quartile_1": 0.25, "median": 0.5, "quartile_3": 0.75, "max": 1}


def argument_parser(name, description):
    """The command line of ``benchmarks.<name>``, with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tiny", action="store_true", help="try the script with the smallest values, in runs/tiny")
    parser.add_argument("--output-dir", "--out", "-o", type=Path, metavar="DIR", help="folder for the records")
    return parser


def add_training_options(parser, rates, seeds):
    """The options of scripts that train a network with several peak learning rates and seeds, given their defaults."""
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--rates", nargs="+", type=float, default=rates, help="peak learning rates")
    parser.add_argument("--seeds", nargs="+", type=int, default=seeds)
    parser.add_argument("--eval-split", "--evaluate-on", default="test", choices=("test", "validation"))
    precisions = ("mixed_bfloat16", "mixed_float16", "float32")
    parser.add_argument("--precision", default="mixed_bfloat16", choices=precisions)


def output_folder(given, default="records/benchmarks"):
    """The folder for records, made if need be: --output-dir, else ``default``, or runs/tiny with --tiny."""
    folder = given.output_dir or ROOT / ("runs/tiny" if given.tiny else default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_benchmark(given, name, record):
    """Write a benchmark's record as <name>.json, and say what was measured and where the record is."""
    path = output_folder(given) / f"{name}.json"
    records.write_json(path, record)
    print_spreads(record)
    print("->", path)


def print_spreads(values, prefix=""):
    """A line for each ``spread`` in nested dicts."""
    for name, value in values.items():
        label = f"{prefix}{name}"
        if isinstance(value, dict) and value.keys() == QUANTILES.keys():
            print(f"{label:56} {value['median']:.4g} ({value['quartile_1']:.4g} to {value['quartile_3']:.4g})")
        elif isinstance(value, dict):
            print_spreads(value, f"{label}, ")


def seconds_of(call, *arguments, **options):
    """Seconds that a call takes."""
    start = time.perf_counter()
    call(*arguments, **options)
    return time.perf_counter() - start


def in_turn(names, number):
    """The names in the order of a round: forwards in even rounds, backwards in odd ones.

    A machine that becomes faster or slower meanwhile then affects all of them alike.
    """
    names = list(names)
    return names if number % 2 == 0 else names[::-1]


def spread(values):
    """Repeated measurements as a record holds them: the names of QUANTILES, each with four significant digits."""
    found = np.quantile(values, list(QUANTILES.values()))
    return {name: float(f"{value:.4g}") for name, value in zip(QUANTILES, found, strict=True)}


def toy_images(n, size):
    """uint8 images (n, size, size, 3), labels (n,): the toy dataset again and again, its pixels repeated."""
    (images, labels), _ = load_toy()
    chosen = np.arange(n) % len(images)
    factor = size // images.shape[1]
    return images[chosen].repeat(factor, axis=1).repeat(factor, axis=2), labels[chosen]


def load_split(data_dir, max_train_samples, eval_split):
    """CIFAR-10: (images, labels) to train on, at most max_train_samples (0: all), and (images, labels) to evaluate on.

    For eval_split "validation" the latter are the last tenth of the training images, which is then held out.
    """
    (images, labels), evaluated = load_cifar10(data_dir)
    n = len(images)
    if eval_split == "validation":
        n -= n // 10
        evaluated = images[n:], labels[n:]
    if max_train_samples:
        n = min(n, max_train_samples)
    return (images[:n], labels[:n]), evaluated


def record_of(network, logger, settings, data_dir, n_train, evaluated, setup):
    """Evaluate a network that was trained with some settings; returns the run's record but for "notebook".

    logger is the ``EpochLogger`` of the training, n_train the number of its images, setup the seconds before it.
    """
    images, labels = evaluated
    clock = records.Stopwatch()
    scores = evaluate(predict_proba(network, images), labels)
    averaged = evaluate(predict_tta(network, images), labels)
    seconds = {
        "setup": setup,
        "compile": logger.compile_seconds,
        "train": sum(row["seconds"] for row in logger.per_epoch),
        "evaluate": clock.lap(),
    }
    return {
        "parameters": {**settings, "precision": keras.config.dtype_policy().name},
        "dataset": describe_dataset("cifar10", data_dir, n_train, len(labels)),
        "results": {
            f"{settings['eval_split']}_accuracy": scores["accuracy"],
            "loss": scores["loss"],
            "per_class": scores["per_class"],
            "flip_averaged_accuracy": averaged["accuracy"],
            "per_epoch": logger.per_epoch,
        },
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "environment": records.environment(),
    }


def run_missing(given, script, runs, train):
    """Train what has no record yet, and print the accuracy of each.

    Args:
        given: the command line's values.
        script: file name in ``benchmarks``, for the records.
        runs: dict {name of the record: settings}.
        train: function of the settings and the name, which returns what ``record_of`` does.
    """
    folder = output_folder(given, "records")
    for name, settings in runs.items():
        path = folder / f"{name}.json"
        if not path.is_file():
            print(name, flush=True)
            records.write_record(path, {**train(settings, name), "notebook": f"benchmarks/{script}"})
            keras.backend.clear_session()
            gc.collect()
        record = json.loads(path.read_text())
        accuracy = record["results"][f"{settings['eval_split']}_accuracy"]
        print(f"{name}: accuracy {accuracy:.2%}, training {record['seconds']['train']:.0f} s", flush=True)


# Functions of the learning rate schedule; None is the trainer's own optimizer.
OPTIMIZERS = {
    "adamw": partial(keras.optimizers.AdamW, weight_decay=0.05),
    "sgd": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True, weight_decay=5e-3),
    "muon": None,
    "averaged": partial(keras.optimizers.AdamW, weight_decay=0.05, use_ema=True, ema_momentum=0.98),
}


def train_b0(settings, data_dir):
    """Train EfficientNet-B0 on CIFAR-10 from scratch, once.

    Args:
        settings: dict with the keys strides (of the stem and the stages), learning_rate (the peak), batch_size,
            optimizer (name in OPTIMIZERS), overrides (dict, fields of ``Recipe``), epochs, max_train_samples,
            eval_split and seed.
        data_dir: folder of CIFAR-10.
    """
    keras.utils.set_random_seed(settings["seed"])
    clock = records.Stopwatch()
    recipe = Recipe(**settings["overrides"])
    (images, labels), evaluated = load_split(data_dir, settings["max_train_samples"], settings["eval_split"])
    options = {"input_shape": (32, 32, 3), "classes": 10, "classifier_activation": None, **recipe.build_options()}
    network = efficientnet("b0", layout=tuple(settings["strides"]), **options)
    batches = Batches(labels, settings["batch_size"], 10, recipe, settings["seed"])
    steps = len(batches) * settings["epochs"]
    optimizer = OPTIMIZERS[settings["optimizer"]]
    trainer = make_trainer(network, images, recipe, settings["learning_rate"], steps, optimizer=optimizer)
    logger = EpochLogger()
    setup = clock.lap()
    trainer.fit(batches, epochs=settings["epochs"], verbose=0, callbacks=[logger])
    return record_of(network, logger, settings, data_dir, len(images), evaluated, setup)
