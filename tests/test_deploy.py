"""BatchNorm folded into the convolutions before it."""

import keras
import numpy as np
import pytest
from keras import layers

from effnet_utils import B0_BLOCKS, efficientnet, parity
from effnet_utils.deploy import fold_batch_norm


def trained(variant, **arguments):
    """A network whose BatchNormalizations have statistics as after training: none of them 0 or 1."""
    arguments = {"layout": "cifar-fast", "classes": 10, "classifier_activation": None, **arguments}
    model = efficientnet(variant, **arguments)
    parity.randomise(model)
    return model


def check(model):
    folded = fold_batch_norm(model)
    assert not any(isinstance(layer, (layers.BatchNormalization, layers.Normalization)) for layer in folded.layers)
    assert folded.output_shape == model.output_shape
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    expected = model.predict_on_batch(images)
    assert expected.std() > 0.01
    np.testing.assert_allclose(folded.predict_on_batch(images), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("preprocessing", ["rescale", "imagenet"])
def test_a_small_folded_network_gives_the_same(preprocessing):
    # The ratio-1 block, an expanding one, and one with a skip connection.
    stages = (B0_BLOCKS[0], B0_BLOCKS[2])
    check(trained("b0", blocks=stages, layout=(2, 1, 2), preprocessing=preprocessing, bn_epsilon=1e-2))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["b0", "lite0"])
@pytest.mark.parametrize("preprocessing", ["rescale", "imagenet", "lite"])
def test_the_folded_network_gives_the_same(variant, preprocessing):
    check(trained(variant, preprocessing=preprocessing, bn_epsilon=1e-2))


def test_the_network_itself_stays_as_it_was():
    model = trained("b0", width=0.25, depth=0.25)
    before = [weight.copy() for weight in model.get_weights()]
    folded = fold_batch_norm(model)
    folded.set_weights([0 * weight for weight in folded.get_weights()])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_norm_with_nothing_to_fold_into_is_named():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    for build in (
        lambda: layers.BatchNormalization(name="norm")(x),
        lambda: layers.BatchNormalization(name="norm")(layers.Activation("relu", name="relu")(x)),
    ):
        with pytest.raises(ValueError, match="norm follows (conv|relu); expected a convolution without"):
            fold_batch_norm(keras.Model(inputs, build()))
