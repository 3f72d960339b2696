"""The parts of the network: swish, the SE block, the inverted residual block and MBConv."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from effnet_utils.blocks import BlockArgs, inverted_residual_block, mbconv_block, se_block, swish

ARGS = BlockArgs(kernel_size=3, num_repeat=1, input_filters=16, output_filters=16, expand_ratio=6)


def built(block, *arguments, **options):
    """A model of one block on inputs of 8x8 positions and 16 channels."""
    inputs = keras.Input((8, 8, 16))
    return keras.Model(inputs, block(inputs, *arguments, name="x_", **options))


def names(model):
    return {layer.name for layer in model.layers}


def test_swish():
    x = np.linspace(-20, 20, 4001, dtype=np.float32)
    y = keras.ops.convert_to_numpy(swish(x))
    np.testing.assert_allclose(y, x / (1 + np.exp(-x)), rtol=2e-6, atol=1e-6)
    assert y.min() == pytest.approx(-0.27846, abs=1e-5)
    np.testing.assert_allclose(y, keras.ops.convert_to_numpy(keras.activations.swish(x)), rtol=1e-6, atol=1e-6)


def test_se_block_multiplies_each_channel_by_a_weight_between_0_and_1():
    model = built(se_block, 2)
    images = np.random.default_rng(0).normal(1, 1, (3, 8, 8, 16)).astype(np.float32)
    weights = keras.ops.convert_to_numpy(model(images)) / images
    assert weights.min() > 0 and weights.max() < 1
    np.testing.assert_allclose(weights, np.broadcast_to(weights[:, :1, :1], weights.shape), rtol=1e-4)
    assert model.count_params() == (16 * 2 + 2) + (2 * 16 + 16)


def test_se_block_needs_a_squeezed_channel():
    with pytest.raises(ValueError, match="squeeze_filters is 0"):
        built(se_block, 0)


@pytest.mark.parametrize(("filters", "strides", "skip"), [(16, 1, True), (16, 2, False), (24, 1, False)])
def test_inverted_residual_block_has_a_skip_where_shapes_agree(filters, strides, skip):
    model = built(inverted_residual_block, filters, strides=strides)
    assert model.output.shape == (None, 8 // strides, 8 // strides, filters)
    assert ("x_add" in names(model)) == skip


def test_mbconv_block_has_a_skip_where_shapes_agree():
    assert "x_add" in names(built(mbconv_block, ARGS))


@pytest.mark.parametrize("change", [{"id_skip": False}, {"strides": 2}, {"output_filters": 24}])
def test_mbconv_block_has_no_skip(change):
    assert "x_add" not in names(built(mbconv_block, replace(ARGS, **change)))


def test_mbconv_block_without_expansion_and_without_se_block():
    model = built(mbconv_block, replace(ARGS, expand_ratio=1, se_ratio=0))
    assert not [name for name in names(model) if "expand" in name or "se_" in name]


def test_mbconv_block_squeezes_a_quarter_of_its_input_channels():
    assert built(mbconv_block, ARGS).get_layer("x_se_reduce").filters == 4


def test_mbconv_block_refuses_other_channels():
    with pytest.raises(ValueError, match="the input has 16 channels, but args.input_filters is 8"):
        built(mbconv_block, replace(ARGS, input_filters=8))


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    drop = built(mbconv_block, ARGS, drop_rate=0.5).get_layer("x_drop")
    kept = keras.ops.convert_to_numpy(drop(np.ones((4000, 4, 4, 16), np.float32), training=True))
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert (kept == kept[:, :1, :1, :1]).all()
    assert kept.mean() == pytest.approx(1, abs=0.1)


def test_layers_of_the_same_shape_start_with_different_weights():
    kernels = []
    for _ in range(2):
        layer = built(inverted_residual_block, 16).get_layer("x_expand_conv")
        kernels.append(keras.ops.convert_to_numpy(layer.kernel))
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
