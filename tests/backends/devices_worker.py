"""A short training on one or two devices, in a process of its own: devices are set before the backend starts.

The first argument is a JSON object with the arguments of ``train``; the last line printed is one with its result.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from effnet_utils import B0_BLOCKS, efficientnet, load_toy
from effnet_utils.evaluation import predict_proba
from effnet_utils.training import Batches, Checkpoints, EpochLogger, Recipe, StopAtNaN, make_trainer
from effnet_utils.training._distribution import distribute, distribution_scope, init_distributed

EPOCHS = 10
STEPS = 5
BATCH = 64


class Losses(keras.callbacks.Callback):
    """The loss of each step, out of the means that Keras gives."""

    def on_train_begin(self, logs=None):
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.before = 0 if batch == 0 else self.before
        total = float(logs["loss"]) * (batch + 1)
        self.steps.append(total - self.before)
        self.before = total


def train(folder, devices=1, seed=0, frozen=False, resume=False):
    """dict: images of a step that this process takes; losses of the steps; largest difference of predictions before
    and after saving. Leaves two checkpoints in the folder."""
    keras.utils.set_random_seed(seed)
    (images, labels), _ = load_toy()
    recipe = Recipe(width=0.5, depth=0.25)
    batches = Batches(labels[: STEPS * BATCH], BATCH, 10, recipe, seed)
    scope = distribution_scope(devices)
    with scope():
        network = efficientnet(
            "b0", layout="imagenet", input_shape=(32, 32, 3), classes=10, classifier_activation=None,
            **recipe.build_options() | {"blocks": B0_BLOCKS[:2]},
        )  # fmt: skip
        for layer in network.layers:
            layer.trainable = not (frozen and isinstance(layer, keras.layers.BatchNormalization))
        trainer = make_trainer(network, images[: STEPS * BATCH], recipe, 5e-3, EPOCHS * STEPS)
    # Seven images are no multiple of the devices, nor of the batch of a prediction.
    few = images[-7:]
    losses = Losses()
    logger = EpochLogger(validation=(few, labels[-7:]))
    with scope():
        checkpoints = Checkpoints(folder, trainer, batches, logger, {})
        done = checkpoints.start(resume)
        callbacks = [logger, StopAtNaN(), checkpoints, losses]
        trainer.fit(batches, epochs=EPOCHS, initial_epoch=done, verbose=0, callbacks=callbacks)
    network.save(Path(folder) / "model.keras")
    loaded = keras.saving.load_model(Path(folder) / "model.keras", compile=False)
    predictions = [predict_proba(model, few, batch_size=5) for model in (network, loaded)]
    assert predictions[0].shape == (7, 10)
    saved = float(np.abs(predictions[0] - predictions[1]).max())
    with scope():
        dataset, _ = distribute(batches, trainer)
    _, targets = next(iter(dataset))
    return {"rows": len(targets), "losses": losses.steps, "saved": saved}


if __name__ == "__main__":
    init_distributed()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    print(json.dumps(train(**json.loads(sys.argv[1]))))
