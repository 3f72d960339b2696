"""Fine-tune all of EfficientNet-Lite0, from its ImageNet weights, on CIFAR-10 enlarged inside the graph.

    export KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR=.cache/jax   # on a GPU
    python benchmarks/finetune.py                # chooses the rate, then trains on 10,000 and on all images
    python benchmarks/finetune.py --sides 160 --epochs 5 --precision float32 --rates 5e-4 --amounts 0
    python benchmarks/finetune.py --sides 128 224 --epochs 7 --precision float32 --rates 5e-4 --amounts 0
    python benchmarks/finetune.py --tiny         # 200 images at 64 pixels, one epoch: shows that everything runs

The third and fourth are one hour's and two hours' work for two CPU cores with TensorFlow, at the rate that the runs on
a GPU had chosen. With several sides the images grow while the network learns: the epochs are shared evenly among them,
the longer part to the smaller ("progressive learning", Tan and Le 2021, section 4).

The rate is chosen by short runs on 10,000 images, measured on the 5,000 training images that are held out; then the
test images are used once for each number of images and seed. All convolutions learn and no BatchNormalization does, as
notebook 08 has it: AdamW, one cycle, label smoothing 0.1, images mirrored and moved by up to 2 pixels, bfloat16 with
the classifier in float32. Writes <out>/finetune_lite0_<sides>px_<images>_rate<rate>_<split>_seed<seed>.json, and
the model to runs/finetune. What has a record is not run again, and a run that was stopped goes on after its last whole
epoch.
"""

import argparse
import json
import math
from pathlib import Path

import keras
import pilots
from throughput import ROOT

from effnet_utils import data, efficientnet, records, train
from effnet_utils.checkpoints import Checkpoints
from effnet_utils.transfer import on_upsampled, unfreeze

CHECKPOINTS = ROOT / "runs" / "finetune"
TINY = {"sides": [64], "batch_size": 50, "choose_on": 100, "amounts": [200], "epochs": 1}


def build(side):
    """(network from 32-pixel images to logits, number of weights that learn)."""
    backbone = efficientnet("lite0", weights="imagenet", include_top=False, pooling="avg", input_shape=(side, side, 3))
    learning = unfreeze(backbone, "stem")
    features = on_upsampled(backbone, (32, 32, 3))
    x = keras.layers.Dropout(0.2)(features.output)
    logits = keras.layers.Dense(10, kernel_initializer="zeros", dtype="float32", name="predictions")(x)
    return keras.Model(features.input, logits), learning


def prepare(side, images, rate, steps):
    """(learner at this side, number of weights that learn)."""
    recipe = train.Recipe()
    net, learning = build(side)
    learner = train.Learner(net, images)
    optimizer = keras.optimizers.AdamW(train.OneCycle(rate, steps, recipe.warmup), weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    learner.compile(optimizer, loss, metrics=["accuracy"])
    return learner, learning


def run(given, path, rate, train_limit, epochs, evaluate_on, seed):
    """One run; writes its record to ``path``."""
    keras.utils.set_random_seed(seed)
    clock, seconds = records.Stopwatch(), {"setup": 0.0}
    (images, labels), evaluated = pilots.load(given.data_dir, train_limit, evaluate_on)
    batches = train.Batches(labels, given.batch_size, 10, train.Recipe(), seed)
    facts = data.describe_dataset("cifar10", given.data_dir, len(images), len(evaluated[0]))
    folder = CHECKPOINTS / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    for part, side in enumerate(given.sides, start=1):
        learner, learning = prepare(side, images, rate, len(batches) * epochs)
        parameters = {
            "variant": "lite0", "side": given.sides[-1], "sides": given.sides, "learning_rate": rate, "epochs": epochs,
            "seed": seed, "batch_size": given.batch_size, "train_limit": train_limit, "evaluate_on": evaluate_on,
            "precision": keras.config.dtype_policy().name, "weights_that_learn": learning,
        }  # fmt: skip
        identity = parameters | facts | {"backend": keras.backend.backend()}
        lines = train.EpochLines()
        checkpoints = Checkpoints(folder, learner, batches, lines, identity)
        # No weight depends on the side: the network of the next side goes on from the last one's checkpoint.
        done, until = checkpoints.start(resume=True), math.ceil(part * epochs / len(given.sides))
        seconds["setup"] += clock.lap()
        if done < until:
            callbacks = [lines, train.StopAtNaN(), checkpoints]
            learner.fit(batches, epochs=until, initial_epoch=done, verbose=0, callbacks=callbacks)
        clock.lap()
    seconds |= {"compile": lines.compile_seconds, "train": sum(row["seconds"] for row in lines.per_epoch)}
    learner.net.save(CHECKPOINTS / f"{path.stem}.keras")
    probabilities = train.predict(learner.net, evaluated[0])
    scores = train.evaluate(probabilities, evaluated[1])
    scores["flip_averaged_accuracy"] = pilots.flip_averaged(learner.net, probabilities, evaluated)
    seconds["evaluate"] = clock.lap()
    record = {
        "parameters": parameters,
        "dataset": facts,
        "results": {f"{evaluate_on}_accuracy": scores.pop("accuracy"), **scores, "per_epoch": lines.per_epoch},
        "seconds": {key: round(value, 2) for key, value in seconds.items()},
        "environment": records.environment(),
        "notebook": "benchmarks/finetune.py",
    }
    records.write_record(path, record)
    checkpoints.remove()


def measured(given, rate, train_limit, epochs, evaluate_on, seed):
    """Accuracy of a run, from its record where there is one."""
    sides = "-".join(map(str, given.sides))
    name = f"finetune_lite0_{sides}px_{train_limit or 'all'}_rate{rate:g}_{evaluate_on}_seed{seed}"
    path = given.out / f"{name}.json"
    if not path.is_file():
        print(name, flush=True)
        run(given, path, rate, train_limit, epochs, evaluate_on, seed)
        keras.backend.clear_session()
    record = json.loads(path.read_text())
    accuracy = record["results"][f"{evaluate_on}_accuracy"]
    print(f"{name}: {accuracy:.2%}, training {record['seconds']['train']:.0f} s", flush=True)
    return accuracy


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--rates", nargs="+", type=float, default=[2e-4, 5e-4, 1e-3], help="peak rates to choose from")
    parser.add_argument("--amounts", nargs="+", type=int, default=[10_000, 0], help="training images; 0 is all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--sides", nargs="+", type=int, default=[224], help="pixels that images are enlarged to")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", default="mixed_bfloat16", choices=("mixed_bfloat16", "mixed_float16", "float32"))
    parser.add_argument("--out", type=Path, default=ROOT / "records")
    parser.add_argument("--tiny", action="store_true")
    parser.set_defaults(choose_on=10_000)
    given = parser.parse_args(arguments)
    if given.tiny:
        vars(given).update(TINY)
    keras.config.set_dtype_policy(given.precision)
    given.out.mkdir(parents=True, exist_ok=True)
    best = given.rates[0]
    if len(given.rates) > 1:
        epochs = min(3, given.epochs)
        found = {rate: measured(given, rate, given.choose_on, epochs, "validation", 0) for rate in given.rates}
        best = max(found, key=found.get)
        print(f"chosen on the held-out images: {best:g}")
    for train_limit in given.amounts:
        for seed in given.seeds:
            measured(given, best, train_limit, given.epochs, "test", seed)


if __name__ == "__main__":
    main()
