"""On the backend that KERAS_BACKEND names, each block of B0..B3 computes the same as on TensorFlow.

Each block gets TensorFlow's feature map as its input: a difference in the last bit grows from block to block (the
seventh digit after one is the first after thirty), so comparing whole networks would say little.
"""

import keras
import numpy as np
import pytest

from effnet_utils.parity import map_outputs
from tests.backends import tensorflow_maps

pytestmark = pytest.mark.slow


def expected_maps(variant, model):
    """TensorFlow's feature maps; the model gets TensorFlow's moving statistics."""
    if keras.backend.backend() == "tensorflow":
        tensorflow_maps.calibrate(model)
        return tensorflow_maps.maps(model)  # here the test says that the network can be cut into its blocks
    assert tensorflow_maps.FILE.is_file(), f"{tensorflow_maps.FILE} is missing; `make test-backends` writes it"
    stored = np.load(tensorflow_maps.FILE)
    for path, weight in tensorflow_maps.statistics(model).items():
        weight.assign(stored[f"{variant} {path}"])
    names = [name.split()[1] for name in stored.files if name.startswith(f"{variant} ")]
    return {name: stored[f"{variant} {name}"] for name in names if "/" not in name}


@pytest.mark.parametrize("variant", tensorflow_maps.VARIANTS)
def test_each_block_gives_tensorflows_feature_map(variant):
    model = tensorflow_maps.build(variant)
    expected = expected_maps(variant, model)
    ends = map_outputs(model)
    assert list(expected) == list(ends)
    differences = {}
    image = model.input
    given = tensorflow_maps.IMAGES
    for name, end in ends.items():
        found = keras.ops.convert_to_numpy(keras.Model(image, end)(given, training=False))
        differences[name] = np.abs(found - expected[name]).max() / expected[name].std()
        image = end
        given = expected[name]
    assert max(differences.values()) <= 1e-5, differences
