"""The faster training step gives the outputs, gradients and statistics of the network itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_utils import efficientnet, load_toy
from effnet_utils.training import _fast_cpu
from effnet_utils.training._fast_cpu import accelerate
from tests.tiny import dtype_policy

pytestmark = pytest.mark.slow

IMAGES = load_toy()[0][0][:24]
KINDS = ["_FusedBatchNormalization", "_PointwiseConv2D", "_SmallDepthwiseConv2D", "_Swish"]
TARGETS = np.eye(10, dtype=np.float32)[np.arange(24) % 10]


def build(layout="cifar-fast"):
    keras.utils.set_random_seed(0)
    # No dropout: two steps would draw different masks.
    rates = {"drop_connect_rate": 0.0, "dropout_rate": 0.0}
    return efficientnet("b0", layout=layout, input_shape=(32, 32, 3), classes=10, classifier_activation=None, **rates)


def step(model, net):
    """Outputs, gradients and moving statistics of one training step; the weights of ``net`` are put back."""
    before = net.get_weights()
    with tf.GradientTape() as tape:
        outputs = model(IMAGES, training=True)
        loss = keras.losses.categorical_crossentropy(TARGETS, outputs, from_logits=True)
    gradients = tape.gradient(loss, [v.value for v in net.trainable_variables])
    found = {"outputs": outputs.numpy()}
    found |= {f"gradient of {v.path}": g.numpy() for v, g in zip(net.trainable_variables, gradients, strict=True)}
    found |= {v.path: v.numpy() for v in net.non_trainable_variables if "moving" in v.path}
    net.set_weights(before)
    return found


def differences(expected, found):
    """Largest difference of each pair of arrays, in standard deviations: the array's or, if greater, all gradients'."""
    spread = np.concatenate([a.ravel() for name, a in expected.items() if name.startswith("gradient")]).std()
    return {
        name: np.abs(found[name] - a).max() / max(a.std(), spread if name.startswith("gradient") else 1e-3)
        for name, a in expected.items()
    }


@pytest.mark.parametrize("layout", ["cifar-fast", "imagenet", "cifar"])
def test_the_faster_step_is_the_same_step(layout):
    net = build(layout)
    fast = accelerate(net)
    assert fast is not net
    assert [id(v) for v in fast.trainable_variables] == [id(v) for v in net.trainable_variables]
    kinds = {type(layer).__name__ for layer in fast.layers}
    assert set(KINDS) <= kinds
    expected, found = step(net, net), step(fast, net)
    assert sum("moving" in name for name in expected) == 2 * sum("_bn" in layer.name for layer in net.layers)
    worst = differences(expected, found)
    assert max(worst.values()) < 5e-3, sorted(worst.items(), key=lambda row: -row[1])[:5]
    assert np.median(list(worst.values())) < 1e-4


@pytest.mark.parametrize("wrapper", KINDS)
def test_a_fault_in_one_of_them_is_seen(wrapper, monkeypatch):
    kind = getattr(_fast_cpu, wrapper)
    call = kind.call
    monkeypatch.setattr(kind, "call", lambda self, x, **more: call(self, x, **more) * 1.01)
    net = build()
    assert max(differences(step(net, net), step(accelerate(net), net)).values()) > 1e-2


def test_prediction_and_the_networks_own_graph_stay():
    net = build()
    config, outputs = net.get_config(), net(IMAGES, training=False).numpy()
    fast = accelerate(net)
    np.testing.assert_allclose(fast(IMAGES, training=False), outputs, atol=1e-5)
    assert net.get_config() == config
    assert net.get_layer("stem_conv").output.shape == (None, 16, 16, 32)


def test_frozen_statistics_are_not_touched():
    net = build()
    for layer in net.layers:
        if layer.name.endswith("_bn"):
            layer.trainable = False
    before = net.get_weights()
    accelerate(net)(IMAGES, training=True)
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_half_precision_is_left_as_it_is():
    with dtype_policy("mixed_bfloat16"):
        net = build()
    assert accelerate(net) is net


def plain(*body):
    """A small network of the layers that are given, and what it would be without the faster forms."""
    inputs = keras.Input((4, 4, 6))
    x = inputs
    for layer in body:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "body",
    [
        [keras.layers.BatchNormalization(scale=False)],
        [keras.layers.BatchNormalization(center=False)],
        [keras.layers.BatchNormalization(axis=1)],
        [keras.layers.GlobalAveragePooling2D(), keras.layers.BatchNormalization()],
        [keras.layers.Conv2D(6, 1, groups=3)],
        [keras.layers.DepthwiseConv2D(5, padding="same", bias_initializer="ones")],
        [keras.layers.DepthwiseConv2D(5, padding="same", use_bias=False, activation="relu")],
        [keras.layers.DepthwiseConv2D(5, padding="same", use_bias=False, dilation_rate=2)],
        [keras.layers.DepthwiseConv2D(5, padding="same", use_bias=False, depth_multiplier=2)],
    ],
    ids=lambda body: "-".join(layer.name for layer in body),
)
def test_a_layer_with_other_options_stays_and_trains_the_same(body):
    network = plain(*body)
    faster = accelerate(network)
    assert {type(layer) for layer in faster.layers} == {type(layer) for layer in network.layers}
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 6)).astype("float32")
    np.testing.assert_allclose(faster(x, training=True), network(x, training=True), atol=1e-5)


def test_lora_and_images_of_any_size_are_left_to_keras():
    conv = keras.layers.Conv2D(8, 1)
    network = plain(conv)
    conv.enable_lora(2)
    assert type(accelerate(network).layers[-1]) is keras.layers.Conv2D
    inputs = keras.Input((None, None, 6))
    anywhere = keras.Model(inputs, keras.layers.DepthwiseConv2D(5, padding="same", use_bias=False)(inputs))
    assert type(accelerate(anywhere).layers[-1]) is keras.layers.DepthwiseConv2D
