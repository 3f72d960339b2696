"""The maps of B0..B3 on TensorFlow, for the other backends to reproduce. `make test-backends` writes them first:

KERAS_BACKEND=tensorflow python tests/backends/tensorflow_maps.py
"""

import math
from pathlib import Path

import keras
import numpy as np

from effnet_utils import efficientnet
from effnet_utils.parity import map_outputs, randomise

FILE = Path(__file__).parents[2] / ".cache" / "tensorflow_maps.npz"
VARIANTS = ("b0", "b1", "b2", "b3")
IMAGES = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype("float32")


def build(variant):
    """The network with weights that are the same on every backend: NumPy draws them all."""
    model = efficientnet(variant, input_shape=IMAGES.shape[1:], classifier_activation=None)
    randomise(model)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if layer.weights and hasattr(layer, "kernel"):
            shape = layer.kernel.shape
            fan_in = math.prod(shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else shape[:-1])
            layer.kernel.assign(rng.normal(0, math.sqrt(2 / fan_in), shape))
    return model


def maps(model):
    """{"stem": array, "block1a": ..., "output": ...}."""
    ends = map_outputs(model)
    arrays = keras.Model(model.input, list(ends.values()))(IMAGES, training=False)
    return dict(zip(ends, map(keras.ops.convert_to_numpy, arrays), strict=True))


if __name__ == "__main__":
    assert keras.backend.backend() == "tensorflow", f"the backend is {keras.backend.backend()}: set KERAS_BACKEND"
    FILE.parent.mkdir(exist_ok=True)
    found = {variant: maps(build(variant)) for variant in VARIANTS}
    np.savez(FILE, **{f"{variant} {name}": value for variant in VARIANTS for name, value in found[variant].items()})
