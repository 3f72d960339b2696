"""The rules of compound scaling, and the count of multiply-adds."""

import keras
import pytest
from keras import layers

from effnet_utils import B0_BLOCKS, VARIANTS
from effnet_utils.scaling import compound_coefficients, count_macs, round_filters, round_repeats


def test_round_filters_keeps_within_ten_percent():
    # 16 * 1.2 = 19.2 would round to 16, which is more than 10 % below; B3 has 24.
    assert round_filters(16, 1.2) == 24
    for width in (1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0):
        for filters in (32, 16, 24, 40, 80, 112, 192, 320, 1280):
            rounded = round_filters(filters, width)
            assert rounded % 8 == 0 and rounded >= 0.9 * filters * width
    assert round_filters(8, 0.1) == 8


def test_round_repeats_rounds_up():
    assert [round_repeats(n, 1.1) for n in (1, 2, 3, 4)] == [2, 3, 4, 5]


@pytest.mark.parametrize(("variant", "blocks"), [("b0", 16), ("b7", 55)])
def test_numbers_of_blocks(variant, blocks):
    depth = VARIANTS[variant][1]
    assert sum(round_repeats(stage.num_repeat, depth) for stage in B0_BLOCKS) == blocks


def test_compound_coefficients():
    assert compound_coefficients(0) == (1, 1, 1)
    assert compound_coefficients(2) == pytest.approx((1.44, 1.21, 1.3225))


def test_compound_coefficients_below_1_are_refused():
    with pytest.raises(ValueError, match="beta is 0.9; .* at least 1"):
        compound_coefficients(1, beta=0.9)


def network(size):
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.DepthwiseConv2D(5, strides=2, padding="same")(x)
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def test_count_macs_of_a_model_flat_and_nested():
    convolution = 8 * 8 * (3 * 3 * 3 * 4)
    depthwise = 4 * 4 * (5 * 5 * 4)
    assert count_macs(network(8)) == convolution + depthwise + 4 * 10
    nested = keras.Sequential([keras.Input((8, 8, 3)), network(8), layers.Dense(2)])
    assert count_macs(nested) == count_macs(network(8)) + 10 * 2


def test_count_macs_needs_a_size():
    with pytest.raises(ValueError, match="give the model a fixed input size"):
        count_macs(network(None))
