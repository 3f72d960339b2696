"""BatchNorm folded into the convolutions before it."""

import keras
import numpy as np
import pytest
from keras import layers

from effnet_utils import B0_BLOCKS, efficientnet, endpoints, parity
from effnet_utils.deploy import fold_batch_norm
from tests.tiny import tiny

pytestmark = pytest.mark.slow  # networks are folded and exported


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


def test_a_bias_a_norm_without_gamma_and_beta_and_several_outputs_of_a_depthwise_convolution():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, bias_initializer="normal")(inputs)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)
    x = layers.BatchNormalization(center=False, epsilon=0.1)(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    parity.randomise(model)
    check(model)


def nested(x):
    return keras.Model(x, tiny(include_top=False)(x), name="outer")


def shared(x):
    conv = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")
    return keras.Model(x, layers.BatchNormalization()(conv(x)) + layers.BatchNormalization()(conv(x)))


def used_twice(x):
    y = layers.Conv2D(4, 3, use_bias=False, name="conv")(x)
    return keras.Model(x, layers.BatchNormalization(name="norm")(y) + 2 * y)


def also_an_output(x):
    y = layers.Conv2D(4, 3, use_bias=False, name="conv")(x)
    return keras.Model(x, [y, layers.BatchNormalization(name="norm")(y)])


def wrong_axis(x):
    return keras.Model(x, layers.BatchNormalization(axis=1, name="norm")(layers.Conv2D(4, 3, use_bias=False)(x)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (nested, "outer contains the model 'efficientnetb0' as one layer; expected a flat model"),
        (shared, "conv is called more than once; expected a model without shared layers"),
        (used_twice, "the output of conv is used besides norm"),
        (also_an_output, "the output of conv is used besides norm"),
        (wrong_axis, "norm has axis 1; expected the channels to be the last axis"),
        (lambda x: keras.Sequential([x, layers.Flatten()], name="line"), "line is a Sequential; expected a functional"),
        (
            lambda x: keras.Model(x, layers.Normalization(mean=0, variance=1, invert=True, name="back")(x)),
            "back has inv",
        ),
    ],
)
def test_a_model_that_cannot_be_folded_is_refused_in_one_sentence(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        fold_batch_norm(build(keras.Input((32, 32, 3))))
    assert "\n" not in str(caught.value)


def test_the_endpoints_of_a_folded_network_have_the_same_feature_maps():
    model = trained("b0", width=0.25, depth=0.25)
    folded = fold_batch_norm(model)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = []
    for network in (model, folded):
        names = endpoints(network)
        outputs = {key: network.get_layer(name).output for key, name in names.items()}
        found.append(keras.Model(network.input, outputs).predict_on_batch(images))
    before, after = found
    assert list(before) == list(after)
    for key in before:
        np.testing.assert_allclose(after[key], before[key], atol=1e-4 * np.abs(before[key]).max())


@pytest.mark.parametrize("fold", [False, True])
def test_an_exported_network_has_one_input(tmp_path, fold):
    """In an ONNX file the mean and the variance of a Normalization would be two more."""
    import onnxruntime

    network = trained("b0", width=0.25, depth=0.25, preprocessing="imagenet")
    if fold:
        network = fold_batch_norm(network)  # can be exported at once
    else:
        network.predict_on_batch(np.zeros((1, 32, 32, 3)))  # Keras exports only what was called once
    network.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (entry,) = session.get_inputs()
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    (found,) = session.run(None, {entry.name: images})
    expected = network.predict_on_batch(images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
