"""The builder's options, bad arguments, the parts and the rules; test_parity.py compares with the reference."""

import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from effnet_utils import B0_BLOCKS, LAYOUTS, VARIANTS, BlockArgs, count_macs, efficientnet, endpoints
from effnet_utils.blocks import inverted_residual_block, mbconv_block, se_block, swish
from effnet_utils.scaling import compound_coefficients, round_filters, round_repeats


def trainable(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@pytest.fixture(autouse=True)
def fresh_graph():
    yield
    keras.backend.clear_session()


@pytest.mark.slow
def test_mult_adds_of_a_nested_model_and_without_a_size():
    inner = efficientnet("b0", layout="cifar-fast", classes=10)
    outer = keras.Sequential([keras.Input((32, 32, 3)), inner, keras.layers.Dense(2)])
    assert count_macs(outer) == count_macs(inner) + 20
    with pytest.raises(ValueError, match="fixed input size"):
        count_macs(efficientnet("b0", input_shape=(None, None, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels):
    model = efficientnet("b0", input_shape=(32, 32, channels), classes=5)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, channels), dtype=np.uint8)
    assert model.predict(images, verbose=0).shape == (2, 5)


@pytest.mark.slow
def test_headless_models():
    maps = efficientnet("b0", input_shape=(64, 64, 3), include_top=False)
    assert maps.output.shape == (None, 2, 2, 1280) and trainable(maps) == 4_007_548
    assert efficientnet("b0", include_top=False, pooling="max").output.shape == (None, 1280)


@pytest.mark.slow
def test_endpoints_halve_the_image():
    model = efficientnet("b0")
    sides = {name: model.get_layer(layer).output.shape[1] for name, layer in endpoints(model).items()}
    assert sides == {f"reduction_{i}": 224 // 2**i for i in range(1, 6)}
    assert endpoints(model)["reduction_4"] == "block5c_add"
    assert list(endpoints(efficientnet("b0", layout="cifar"))) == [f"reduction_{k}" for k in (1, 2, 3, 4)]


@pytest.mark.slow
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "imagenet"])
def test_layouts_change_strides_and_nothing_else(layout):
    paper, ours = efficientnet("b0", classes=10), efficientnet("b0", classes=10, layout=layout)
    assert [(w.path, w.shape) for w in ours.weights] == [(w.path, w.shape) for w in paper.weights]
    assert ours.input_shape == (None, 32, 32, 3)
    assert ours.get_layer("top_activation").output.shape[1] > 1


@pytest.mark.slow
def test_preprocessing():
    def first(preprocessing, variant="b0"):
        model = efficientnet(variant, input_shape=(32, 32, 3), preprocessing=preprocessing)
        images = np.array([0, 128, 255], np.float32).reshape(3, 1, 1, 1) * np.ones((1, 32, 32, 3), np.float32)
        return keras.ops.convert_to_numpy(model.layers[1](images))[:, 0, 0, 0]

    pixels = np.array([0, 128, 255])
    np.testing.assert_allclose(first("auto"), pixels / 255, rtol=1e-6)
    np.testing.assert_allclose(first("auto", "lite0"), (pixels - 127) / 128, atol=1e-6)
    np.testing.assert_allclose(first("imagenet"), (pixels / 255 - 0.485) / 0.229, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_ends_in_float32(precision):
    keras.config.set_dtype_policy(precision)
    try:
        model = efficientnet("b0", layout="cifar-fast", classes=10, classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.output.dtype == "float32"
    assert model.get_layer("top_conv").compute_dtype == precision.removeprefix("mixed_")


@pytest.mark.slow
def test_a_saved_model_loads_without_this_package(tmp_path):
    model = efficientnet("b0", layout="cifar-fast", classes=10, preprocessing="imagenet", drop_connect_rate=0.2)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    script = (
        "import json, sys, keras, numpy as np\n"
        "model = keras.saving.load_model('model.keras')\n"
        "assert 'effnet_utils' not in sys.modules\n"
        "np.save('outputs.npy', model.predict(np.load('images.npy'), verbose=0))\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), model.predict(images, verbose=0))


@pytest.mark.slow
def test_weights_from_a_file(tmp_path):
    first = efficientnet("b0", layout="cifar-fast", classes=10)
    first.save_weights(tmp_path / "b0.weights.h5")
    second = efficientnet("b0", layout="cifar-fast", classes=10, weights=tmp_path / "b0.weights.h5")
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "b9"}, "variant is 'b9'; allowed: 'b0'"),
        ({"layout": "cifar10"}, "layout is 'cifar10'; allowed: 'imagenet', 'cifar'"),
        ({"preprocessing": "torch"}, "preprocessing is 'torch'; allowed: 'auto', 'rescale', 'imagenet', 'lite'"),
        ({"pooling": "sum", "include_top": False}, "pooling is 'sum'"),
        ({"pooling": "avg"}, "include_top=False"),
        ({"classes": 1}, "softmax over one class is always 1"),
        ({"classes": 0, "classifier_activation": None}, "classes=0"),
        ({"input_shape": (3, 224, 224)}, r"looks like \(channels, height, width\).*moveaxis"),
        ({"input_shape": (224, 224)}, r"expected \(height, width, channels\)"),
        ({"input_shape": (32, 32, 1), "preprocessing": "imagenet"}, "3 colour channels"),
        ({"weights": "no/such/file.weights.h5"}, "no such file"),
        ({"layout": "cifar", "blocks": B0_BLOCKS[:3]}, "7 stages; blocks has 3"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        efficientnet(**arguments)


def test_channels_first_setting_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="channels_last"):
            efficientnet("b0")
    finally:
        keras.config.set_image_data_format("channels_last")


# --- the parts ---------------------------------------------------------------------------------------------------


def test_swish():
    x = np.linspace(-20, 20, 4001, dtype=np.float32)
    y = keras.ops.convert_to_numpy(swish(x))
    np.testing.assert_allclose(y, x / (1 + np.exp(-x)), rtol=2e-6, atol=1e-6)
    assert y.min() == pytest.approx(-0.27846, abs=1e-5)
    np.testing.assert_allclose(y, keras.ops.convert_to_numpy(keras.activations.swish(x)), rtol=1e-6, atol=1e-6)


def test_se_block_gates_each_channel_between_0_and_1():
    inputs = keras.Input((6, 6, 8))
    model = keras.Model(inputs, se_block(inputs, 2))
    images = np.random.default_rng(0).normal(1, 1, (3, 6, 6, 8)).astype(np.float32)
    gates = model.predict(images, verbose=0) / images
    assert gates.min() > 0 and gates.max() < 1
    np.testing.assert_allclose(gates, np.broadcast_to(gates[:, :1, :1], gates.shape), rtol=1e-4)
    assert model.count_params() == 8 * 2 + 2 + 2 * 8 + 8
    with pytest.raises(ValueError, match="squeeze_filters is 0"):
        se_block(inputs, 0)


@pytest.mark.parametrize(("filters", "strides", "skip"), [(16, 1, True), (16, 2, False), (24, 1, False)])
def test_inverted_residual_block_has_a_skip_where_shapes_agree(filters, strides, skip):
    inputs = keras.Input((8, 8, 16))
    model = keras.Model(inputs, inverted_residual_block(inputs, filters, strides=strides))
    assert model.output.shape == (None, 8 // strides, 8 // strides, filters)
    assert any(layer.name == "add" for layer in model.layers) == skip


ARGS = BlockArgs(kernel_size=3, num_repeat=1, input_filters=16, output_filters=16, expand_ratio=6)


@pytest.mark.parametrize(
    ("args", "skip"),
    [(ARGS, True), (replace(ARGS, id_skip=False), False), (replace(ARGS, strides=2), False)]
    + [(replace(ARGS, output_filters=24), False)],
)
def test_mbconv_block_has_a_skip_where_it_may(args, skip):
    inputs = keras.Input((8, 8, 16))
    model = keras.Model(inputs, mbconv_block(inputs, args, name="x_"))
    assert any(layer.name == "x_add" for layer in model.layers) == skip


def test_mbconv_block_without_expansion_and_without_gate():
    inputs = keras.Input((8, 8, 16))
    model = keras.Model(inputs, mbconv_block(inputs, replace(ARGS, expand_ratio=1, se_ratio=0), name="x_"))
    assert not [layer.name for layer in model.layers if "expand" in layer.name or "se_" in layer.name]


def test_mbconv_block_refuses_other_channels():
    with pytest.raises(ValueError, match="the input has 8 channels, but args.input_filters is 16"):
        mbconv_block(keras.Input((8, 8, 8)), ARGS)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    inputs = keras.Input((4, 4, 16))
    model = keras.Model(inputs, mbconv_block(inputs, ARGS, drop_rate=0.5, name="x_"))
    drop = model.get_layer("x_drop")
    kept = keras.ops.convert_to_numpy(drop(np.ones((4000, 4, 4, 16), np.float32), training=True))
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert (kept == kept[:, :1, :1, :1]).all()
    assert kept.mean() == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_layers_of_one_shape_start_with_different_weights():
    model = efficientnet("b0", input_shape=(32, 32, 3))
    a, b = (keras.ops.convert_to_numpy(model.get_layer(f"block6{x}_expand_conv").kernel) for x in "bc")
    assert a.shape == b.shape and np.abs(a - b).max() > 0.01


# --- the rules ---------------------------------------------------------------------------------------------------


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
    assert [sum(round_repeats(s.num_repeat, VARIANTS[v][1]) for s in B0_BLOCKS) for v in ("b0", "b7")] == [16, 55]


def test_compound_coefficients():
    assert compound_coefficients(0) == (1, 1, 1)
    assert compound_coefficients(2) == pytest.approx((1.44, 1.21, 1.3225))
    with pytest.raises(ValueError, match="beta is 0.9"):
        compound_coefficients(1, beta=0.9)


@pytest.mark.slow
def test_importing_the_package_does_not_import_keras():
    script = "import sys, json, effnet_utils; print(json.dumps('keras' in sys.modules)); effnet_utils.swish"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) is False
    import effnet_utils

    assert all(hasattr(effnet_utils, name) for name in effnet_utils.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        effnet_utils.no_such_name  # noqa: B018
