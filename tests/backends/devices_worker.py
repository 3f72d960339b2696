"""A short training on one or two devices, in a process of its own: devices are set before the backend starts.

The first argument is a JSON object with the arguments of ``train``; the last line printed is one with its result.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from effnet_utils import B0_BLOCKS, efficientnet, load_toy
from effnet_utils.checkpoints import Checkpoints
from effnet_utils.distribution import join_hosts, scope_over
from effnet_utils.train import Batches, EpochLines, Recipe, StopAtNaN, predict, prepare

EPOCHS, STEPS, BATCH = 10, 5, 64


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
    scope = scope_over(devices)
    with scope():
        net = efficientnet(
            "b0", layout="imagenet", input_shape=(32, 32, 3), classes=10, classifier_activation=None,
            **recipe.builder() | {"blocks": B0_BLOCKS[:2]},
        )  # fmt: skip
        for layer in net.layers:
            layer.trainable = not (frozen and isinstance(layer, keras.layers.BatchNormalization))
        learner = prepare(net, images[: STEPS * BATCH], recipe, 5e-3, EPOCHS * STEPS)
    # Seven images are no multiple of the devices, nor of the batch of a prediction.
    few, losses, lines = images[-7:], Losses(), EpochLines(validation=(images[-7:], labels[-7:]))
    with scope():
        checkpoints = Checkpoints(folder, learner, batches, lines, {})
        done = checkpoints.start(resume)
        callbacks = [lines, StopAtNaN(), checkpoints, losses]
        learner.fit(batches, epochs=EPOCHS, initial_epoch=done, verbose=0, callbacks=callbacks)
    net.save(Path(folder) / "model.keras")
    loaded = keras.saving.load_model(Path(folder) / "model.keras", compile=False)
    predictions = [predict(model, few, batch_size=5) for model in (net, loaded)]
    assert predictions[0].shape == (7, 10)
    saved = float(np.abs(predictions[0] - predictions[1]).max())
    return {"rows": len(batches[0][0]), "losses": losses.steps, "saved": saved}


if __name__ == "__main__":
    join_hosts()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    print(json.dumps(train(**json.loads(sys.argv[1]))))
