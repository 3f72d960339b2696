"""The feature maps of B0..B3 on TensorFlow, for the other backends to reproduce. `make test-backends` writes them:

KERAS_BACKEND=tensorflow python -m tests.backends.tensorflow_maps
"""

from pathlib import Path

import keras
import numpy as np

from effnet_utils import efficientnet
from effnet_utils.parity import map_outputs, randomise, randomise_kernels

FILE = Path(__file__).parents[2] / ".cache" / "tensorflow_maps.npz"
VARIANTS = ("b0", "b1", "b2", "b3")
BATCH = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype("float32")
IMAGES = BATCH[:1]


def build(variant):
    """The network with weights that are the same on every backend: NumPy draws them all."""
    # Momentum 0: one batch sets BatchNormalization's moving statistics.
    options = {"bn_momentum": 0.0, "dropout_rate": 0, "drop_connect_rate": 0}
    model = efficientnet(variant, input_shape=IMAGES.shape[1:], classifier_activation=None, **options)
    randomise(model)
    randomise_kernels(model)
    return model


def calibrate(model):
    """Statistics as in a trained network. With random ones the feature maps grow from block to block until the SE
    blocks' sigmoids get arguments in the hundreds, where float32 is coarse: up to 2e-5 of the spread was measured."""
    model(BATCH, training=True)


def statistics(model):
    return {weight.path: weight for weight in model.weights if weight.name.startswith("moving_")}


def maps(model):
    """{"stem": array, "block1a": ..., "output": ...}."""
    ends = map_outputs(model)
    arrays = keras.Model(model.input, list(ends.values()))(IMAGES, training=False)
    return dict(zip(ends, map(keras.ops.convert_to_numpy, arrays), strict=True))


def main():
    assert keras.backend.backend() == "tensorflow", f"the backend is {keras.backend.backend()}: set KERAS_BACKEND"
    arrays = {}
    for variant in VARIANTS:
        model = build(variant)
        calibrate(model)
        found = {**maps(model), **statistics(model)}
        arrays |= {f"{variant} {name}": keras.ops.convert_to_numpy(value) for name, value in found.items()}
    FILE.parent.mkdir(exist_ok=True)
    np.savez(FILE, **arrays)


if __name__ == "__main__":
    main()
