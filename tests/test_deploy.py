"""BatchNorm folded into the convolutions before it."""

import keras
import numpy as np
import pytest
from keras import layers

from effnet_utils import data, efficientnet
from effnet_utils.deploy import fold_batch_norm

pytestmark = pytest.mark.slow


def with_statistics(model, seed=0):
    """The model with moving averages, gammas and betas as a training leaves them: none of them 0 or 1."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = (weight.shape for weight in layer.weights)
            layer.set_weights(
                [rng.uniform(0.5, 1.5, gamma), rng.normal(0, 0.3, beta), rng.normal(0, 0.3, mean)]
                + [rng.uniform(0.5, 2.0, variance)]
            )
    return model


@pytest.mark.parametrize("variant", ["b0", "lite0"])
@pytest.mark.parametrize("preprocessing", ["rescale", "imagenet", "lite"])
def test_the_folded_network_gives_the_same(variant, preprocessing):
    model = efficientnet(
        variant, layout="cifar-fast", classes=10, classifier_activation=None, preprocessing=preprocessing,
        bn_epsilon=1e-2,
    )  # fmt: skip
    with_statistics(model)
    folded = fold_batch_norm(model)
    assert not any(isinstance(layer, (layers.BatchNormalization, layers.Normalization)) for layer in folded.layers)
    assert folded.output_shape == model.output_shape
    (images, _), _ = data.load_toy()
    expected, got = (net.predict_on_batch(images[:16]) for net in (model, folded))
    assert expected.std() > 0.01
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_the_network_itself_stays_as_it_was():
    model = with_statistics(efficientnet("b0", layout="cifar-fast", classes=10, width=0.25, depth=0.25))
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
