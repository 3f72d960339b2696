"""Which of augmentation, resolution and unfreezing pays when Lite0 is fine-tuned on 10,000 images of CIFAR-10.

    python -m benchmarks.screen  # all, three seeds each; about 7 minutes per run on 2 cores
    python -m benchmarks.screen --only base cutout --seeds 0

As ``benchmarks.finetune``: EfficientNet-Lite0 from its ImageNet weights, images upsampled to 128 pixels in the graph,
AdamW, one cycle of 4 epochs, no BatchNormalization trained. Evaluated on the 5,000 training images that are held out
for validation; the test images are not touched. The base flips images and shifts them by up to 2 pixels; each row
changes one thing of it. Writes records/screen_<row>_seed<seed>.json. A run that has a record is not repeated, and one
that was stopped resumes after its last whole epoch. --tiny: 200 images at 64 pixels, one epoch.

Layers of Keras augment a copy of the 32-pixel images at the beginning of each epoch; flips and shifts come after them.
``RandAugment`` draws its operations once for all images that it is given, and so it is given 100 at a time. It turns
and moves images in one direction only (Keras 3.15); "rotate-zoom-colour" is what one would write by hand instead.
"""

import itertools
from functools import partial

import keras
import numpy as np
from keras import layers

from benchmarks._common import ROOT, argument_parser, load_split, record_of, run_missing
from benchmarks._finetune import RECIPE, build, start
from effnet_utils.experiments import records
from effnet_utils.training.augment import Batches
from effnet_utils.training.trainer import StopAtNaN

CHECKPOINTS = ROOT / "runs" / "screen"
CHUNK = 100  # images that a layer of Keras is given at a time
BASE = {
    "variant": "lite0",
    "image_size": 128,
    "first": "stem",
    "augmentation": "",
    "overrides": {},
    "learning_rate": 5e-4,
    "epochs": 4,
    "batch_size": 128,
    "max_train_samples": 10_000,
    "eval_split": "validation",
}
TINY = {"image_size": 64, "epochs": 1, "batch_size": 50, "max_train_samples": 200}
# row -> what differs from BASE; "overrides" are values of the recipe. In the order of interest.
ROWS = {
    "base": {},
    "cutout": {"augmentation": "cutout"},
    "rotate-zoom-colour": {"augmentation": "rotate-zoom-colour"},
    "mixup": {"augmentation": "mixup"},
    "block6a": {"first": "block6a"},
    "no-augmentation": {"overrides": {"flip": False, "translate": 0}},
    "size-160": {"image_size": 160},
    "size-96": {"image_size": 96},
    "randaugment": {"augmentation": "randaugment"},
    "block4a": {"first": "block4a"},
    "translate-4": {"overrides": {"translate": 4}},
    "epochs-8": {"epochs": 8},
}
# name -> functions of a seed that make layers of Keras, applied one after the other to images and targets
LAYERS = {
    # A square of 16 pixels, for each image.
    "cutout": [partial(layers.RandomErasing, (1.0, 1.0), scale=(0.25, 0.25), fill_value=128.0)],
    "rotate-zoom-colour": [
        partial(layers.RandomRotation, 15 / 360),
        partial(layers.RandomZoom, 0.15),
        partial(layers.RandomColorJitter, brightness_factor=0.2, contrast_factor=0.2, saturation_factor=(0.3, 0.7)),
    ],
    "mixup": [partial(layers.MixUp, 0.2)],
    "randaugment": [layers.RandAugment],
}


class SoftBatches(Batches):
    """Batches whose targets are taken from ``targets``, floats (n, classes), which may change between epochs."""

    def __init__(self, labels, *arguments):
        super().__init__(labels, *arguments)
        self.targets = np.eye(self.classes, dtype=np.float32)[labels]

    def __getitem__(self, number):
        inputs, _ = super().__getitem__(number)
        return inputs, self.targets[inputs["index"]]


def augmented(images, targets, name, seed, epoch):
    """A copy of all images and targets, augmented by the layers of a name in LAYERS; the same for the same epoch."""
    rng = np.random.default_rng((seed, epoch))
    chain = [make(seed=int(rng.integers(2**31))) for make in LAYERS[name]]
    new_images = np.empty_like(images)
    new_targets = np.empty_like(targets)
    order = rng.permutation(len(images))
    for first in range(0, len(order), CHUNK):
        chosen = order[first : first + CHUNK]
        data = {"images": images[chosen].astype(np.float32), "labels": targets[chosen]}
        for layer in chain:
            data = layer(data, training=True)
        pixels = keras.ops.convert_to_numpy(data["images"])
        new_images[chosen] = np.clip(np.round(pixels), 0, 255)
        new_targets[chosen] = keras.ops.convert_to_numpy(data["labels"])
    return new_images, new_targets


def train(settings, name, data_dir):
    """Fine-tune once, with checkpoints in CHECKPOINTS; returns the run's record."""
    seed = settings["seed"]
    keras.utils.set_random_seed(seed)
    clock = records.Stopwatch()
    (images, labels), evaluated = load_split(data_dir, settings["max_train_samples"], settings["eval_split"])
    recipe = RECIPE.model_copy(update=settings["overrides"])
    batches = SoftBatches(labels, settings["batch_size"], 10, recipe, seed)
    targets = batches.targets
    network, trained = build(settings["image_size"], settings["first"])
    folder = CHECKPOINTS / name
    trainer, logger, checkpoints, done = start(
        network, images, batches, recipe, settings, folder, data_dir, len(evaluated[0])
    )
    setup = clock.lap()
    augmenting = 0.0
    for epoch in range(done, settings["epochs"]):
        clock.lap()
        if settings["augmentation"]:
            pixels, batches.targets = augmented(images, targets, settings["augmentation"], seed, epoch)
            trainer.images.assign(pixels)
        augmenting += clock.lap()
        batches.restart(epoch)  # without it, flips would not alternate: fit advances the batches at its start, too
        callbacks = [logger, StopAtNaN(), checkpoints]
        trainer.fit(batches, epochs=epoch + 1, initial_epoch=epoch, verbose=0, callbacks=callbacks)
    parameters = {**settings, "weights_that_learn": trained}
    record = record_of(network, logger, parameters, data_dir, len(images), evaluated, setup)
    record["seconds"]["augment"] = round(augmenting, 2)
    checkpoints.remove()
    return record


def main(arguments=None):
    parser = argument_parser("screen", __doc__)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args(arguments)
    runs = {}
    # Rows outermost: when the script is ended early, whole rows are done.
    for row, seed in itertools.product(given.only, given.seeds):
        settings = {**BASE, **ROWS[row], "row": row, "seed": seed}
        runs[f"screen_{row}_seed{seed}"] = {**settings, **TINY} if given.tiny else settings
    run_missing(given, "screen.py", runs, lambda settings, name: train(settings, name, given.data_dir))


if __name__ == "__main__":
    main()
