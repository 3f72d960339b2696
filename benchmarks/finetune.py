"""Fine-tune all of EfficientNet-Lite0, from its ImageNet weights, on CIFAR-10 upsampled inside the graph.

    export KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR=.cache/jax   # on a GPU
    python -m benchmarks.finetune --eval-split validation --amounts 10000 --epochs 3 --rates 2e-4 5e-4 1e-3
    python -m benchmarks.finetune --rates 5e-4
    python -m benchmarks.finetune --sizes 160 --epochs 5 --precision float32 --amounts 0
    python -m benchmarks.finetune --sizes 128 224 --epochs 7 --precision float32 --amounts 0

The first command compares peak learning rates on the 5,000 training images that are held out; the others use the test
images once for each number of training images and seed. The last two take one hour and two hours on two CPU cores with
TensorFlow. With several sizes the images grow during training: the epochs are divided evenly among the sizes, and a
remainder goes to the smaller ones ("progressive learning", Tan and Le 2021, section 4).

All convolutions are trained and no BatchNormalization is, as in notebook 08: AdamW, one cycle, label smoothing 0.1,
images flipped and shifted by up to 2 pixels, bfloat16 with the classifier in float32. Writes
records/finetune_lite0_<sizes>px_<images>_rate<rate>_<split>_seed<seed>.json, and the model to runs/finetune. A run that
has a record is not repeated, and one that was stopped resumes after its last whole epoch. --tiny: 200 images at 64
pixels, one epoch.
"""

import itertools
import math

import keras

from benchmarks._common import ROOT, add_training_options, argument_parser, load_split, record_of, run_missing
from benchmarks._finetune import RECIPE, build, start
from effnet_utils.experiments import records
from effnet_utils.training.augment import Batches
from effnet_utils.training.trainer import StopAtNaN

CHECKPOINTS = ROOT / "runs" / "finetune"
TINY = {"sizes": [64], "batch_size": 50, "amounts": [200], "epochs": 1}


def finetune(settings, name, data_dir):
    """Fine-tune once, with checkpoints and the saved model in CHECKPOINTS; returns the run's record."""
    keras.utils.set_random_seed(settings["seed"])
    clock = records.Stopwatch()
    (images, labels), evaluated = load_split(data_dir, settings["max_train_samples"], settings["eval_split"])
    batches = Batches(labels, settings["batch_size"], 10, RECIPE, settings["seed"])
    sizes = settings["image_sizes"]
    folder = CHECKPOINTS / name
    setup = 0.0
    for number, size in enumerate(sizes, start=1):
        network, trained = build(size)
        # No weight depends on the size: the network for the next size resumes from the last one's checkpoint.
        trainer, logger, checkpoints, done = start(
            network, images, batches, RECIPE, settings, folder, data_dir, len(evaluated[0])
        )
        until = math.ceil(number * settings["epochs"] / len(sizes))
        setup += clock.lap()
        if done < until:
            callbacks = [logger, StopAtNaN(), checkpoints]
            trainer.fit(batches, epochs=until, initial_epoch=done, verbose=0, callbacks=callbacks)
        clock.lap()
    network.save(CHECKPOINTS / f"{name}.keras")
    parameters = {**settings, "weights_that_learn": trained}
    record = record_of(network, logger, parameters, data_dir, len(images), evaluated, setup)
    checkpoints.remove()
    return record


def main(arguments=None):
    parser = argument_parser("finetune", __doc__)
    add_training_options(parser, rates=[5e-4], seeds=[0])
    parser.add_argument("--amounts", nargs="+", type=int, default=[10_000, 0], help="training images; 0 is all")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--sizes", "--sides", nargs="+", type=int, default=[224], help="pixels, multiples of 32")
    parser.add_argument("--batch-size", type=int, default=128)
    given = parser.parse_args(arguments)
    if given.tiny:
        vars(given).update(TINY)
    keras.config.set_dtype_policy(given.precision)
    sizes = "-".join(str(size) for size in given.sizes)
    runs = {}
    for rate, amount, seed in itertools.product(given.rates, given.amounts, given.seeds):
        runs[f"finetune_lite0_{sizes}px_{amount or 'all'}_rate{rate:g}_{given.eval_split}_seed{seed}"] = {
            "variant": "lite0",
            "image_sizes": given.sizes,
            "learning_rate": rate,
            "epochs": given.epochs,
            "seed": seed,
            "batch_size": given.batch_size,
            "max_train_samples": amount,
            "eval_split": given.eval_split,
            "precision": given.precision,
        }
    run_missing(given, "finetune.py", runs, lambda settings, name: finetune(settings, name, given.data_dir))


if __name__ == "__main__":
    main()
