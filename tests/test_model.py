"""The builder: what its arguments change, and which it refuses; test_parity.py compares with the reference."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

import effnet_utils
from effnet_utils import B0_BLOCKS, LAYOUTS, BlockArgs, efficientnet, endpoints
from tests.tiny import dtype_policy

# Two stages of three blocks: built in a tenth of a second.
TINY = (
    BlockArgs(kernel_size=3, num_repeat=1, input_filters=32, output_filters=16, expand_ratio=1),
    BlockArgs(kernel_size=5, num_repeat=2, input_filters=16, output_filters=24, expand_ratio=6, strides=2),
)


def tiny(variant="b0", **arguments):
    return efficientnet(variant, **{"blocks": TINY, "input_shape": (32, 32, 3), "classes": 10, **arguments})


def outputs(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# --- What the arguments change ------------------------------------------------------------------------------------


def test_width_and_depth_scale_the_stages():
    model = tiny(width=2.0, depth=1.5)
    blocks = {layer.name.split("_")[0] for layer in model.layers if layer.name.startswith("block")}
    assert blocks == {"block1a", "block1b", "block2a", "block2b", "block2c"}
    filters = {name: model.get_layer(f"{name}_conv").filters for name in ("stem", "block2c_project", "top")}
    assert filters == {"stem": 64, "block2c_project": 48, "top": 2560}


def test_lite_keeps_stem_head_and_the_repeats_of_its_first_and_last_stage():
    model = tiny("lite4", blocks=B0_BLOCKS[:3])
    convolutions = [layer.name for layer in model.layers if layer.name.endswith("dwconv")]
    assert [sum(name.startswith(f"block{stage}") for name in convolutions) for stage in (1, 2, 3)] == [1, 4, 2]
    assert (model.get_layer("stem_conv").filters, model.get_layer("top_conv").filters) == (32, 1280)
    assert not any("se_" in layer.name for layer in model.layers)
    assert model.get_layer("stem_activation").activation is keras.activations.relu6


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels):
    model = tiny(input_shape=(32, 32, channels), classes=5)
    assert outputs(model, pixels(2, 32, 32, channels)).shape == (2, 5)


@pytest.mark.slow
def test_two_networks_in_one_model_have_two_names(tmp_path):
    images = pixels(2, 32, 32, 3)
    x = keras.Input((32, 32, 3))
    left, right = (tiny(name=name, include_top=False, pooling="avg") for name in ("left", "right"))
    both = keras.Model(x, keras.layers.Concatenate()([left(x), right(x)]))
    both.save(tmp_path / "both.keras")
    again = keras.models.load_model(tmp_path / "both.keras")
    np.testing.assert_array_equal(outputs(again, images), outputs(both, images))


def test_models_without_a_top():
    whole = efficientnet("b0", input_shape=(64, 64, 3), include_top=False)
    assert whole.output.shape == (None, 2, 2, 1280)
    maps = outputs(tiny(include_top=False), pixels(2, 32, 32, 3))
    for pooling, pooled in (("avg", maps.mean(axis=(1, 2))), ("max", maps.max(axis=(1, 2)))):
        model = tiny(include_top=False, pooling=pooling)
        assert model.output.shape == (None, *pooled.shape[1:]) and model.layers[-1].name == f"{pooling}_pool"


def test_preprocessing():
    values = np.array([0, 128, 255])
    images = np.ones((3, 32, 32, 3), np.float32) * values.reshape(3, 1, 1, 1)

    def scaled(preprocessing, variant="b0"):
        layer = tiny(variant, preprocessing=preprocessing).layers[1]
        return keras.ops.convert_to_numpy(layer(images.astype(np.float32)))[:, 0, 0, 0]

    np.testing.assert_allclose(scaled("auto"), values / 255, rtol=1e-6)
    np.testing.assert_allclose(scaled("auto", "lite0"), (values - 127) / 128, atol=1e-6)
    np.testing.assert_allclose(scaled("imagenet"), (values / 255 - 0.485) / 0.229, rtol=1e-5)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_ends_in_float32(precision):
    with dtype_policy(precision):
        model = tiny(classifier_activation=None)
    assert model.output.dtype == "float32"
    assert model.get_layer("top_conv").compute_dtype == precision.removeprefix("mixed_")


# --- Stride layouts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "imagenet"])
def test_layouts_change_strides_and_nothing_else(layout):
    paper = efficientnet("b0", depth=0.1)
    ours = efficientnet("b0", depth=0.1, layout=layout)
    assert [(w.path, w.shape) for w in ours.weights] == [(w.path, w.shape) for w in paper.weights]
    assert ours.input_shape == (None, 32, 32, 3)
    assert ours.get_layer("top_activation").output.shape[1] > 1


def test_a_layout_may_be_a_sequence_of_strides():
    model = tiny(layout=(1, 2, 1))
    sizes = [model.get_layer(name).output.shape[1] for name in ("stem_conv", "block1a_bn", "block2b_bn")]
    assert sizes == [32, 16, 16]


def test_endpoints_halve_the_image():
    model = efficientnet("b0")
    sizes = {name: model.get_layer(layer).output.shape[1] for name, layer in endpoints(model).items()}
    assert sizes == {f"reduction_{i}": 224 // 2**i for i in range(1, 6)}
    assert endpoints(model)["reduction_4"] == "block5c_add"
    assert list(endpoints(efficientnet("b0", layout="cifar"))) == [f"reduction_{i}" for i in (1, 2, 3, 4)]


# --- Saving and loading -------------------------------------------------------------------------------------------


def test_weights_from_a_file(tmp_path):
    first = tiny()
    first.save_weights(tmp_path / "tiny.weights.h5")
    second = tiny(weights=tmp_path / "tiny.weights.h5")
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_saved_model_loads_without_this_package(tmp_path):
    model = tiny(preprocessing="imagenet")
    model.save(tmp_path / "model.keras")
    script = (
        "import sys, keras\n"
        "model = keras.saving.load_model('model.keras')\n"
        "assert 'effnet_utils' not in sys.modules\n"
        "print(model.to_json())\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == model.to_json()


# --- What is imported ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_building_a_network_loads_nothing_but_keras():
    """No other module of ours, which would bring filelock, pydantic or Pillow along."""
    script = (
        "import sys, effnet_utils\n"
        "assert 'keras' not in sys.modules\n"
        "effnet_utils.efficientnet('b0', input_shape=(32, 32, 3))\n"
        "print(*sorted(name for name in sys.modules if name.startswith('effnet_utils.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "effnet_utils.blocks effnet_utils.model effnet_utils.scaling\n"


def test_public_names():
    assert all(hasattr(effnet_utils, name) for name in effnet_utils.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        effnet_utils.no_such_name  # noqa: B018


# --- What is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "b9"}, "variant is 'b9'; allowed: 'b0'"),
        ({"layout": "cifar10"}, "layout is 'cifar10'; allowed: 'imagenet', 'cifar'"),
        ({"layout": (1, 3, 1)}, r"layout is \(1, 3, 1\); allowed strides, .*: 1, 2"),
        ({"layout": (2, 1)}, r"layout \(2, 1\) has 2 strides; expected 8: one for the stem"),
        ({"preprocessing": "torch"}, "preprocessing is 'torch'; allowed: 'auto', 'rescale', 'imagenet', 'lite'"),
        ({"pooling": "sum", "include_top": False}, "pooling is 'sum'; allowed: None, 'avg', 'max'"),
        ({"pooling": "avg"}, "pooling='avg' is for include_top=False"),
        ({"classes": 1}, "softmax over one class is always 1"),
        ({"classes": 0, "classifier_activation": None}, "classes=0; expected at least 1"),
        ({"input_shape": (3, 224, 224)}, r"looks like \(channels, height, width\).*moveaxis"),
        ({"input_shape": (6, 224, 224)}, r"looks like \(channels, height, width\)"),
        ({"input_shape": 224}, r"input_shape is 224; expected \(height, width, channels\)"),
        ({"input_shape": (224, 224)}, r"expected \(height, width, channels\)"),
        ({"input_shape": (32, 32, 1), "preprocessing": "imagenet"}, "3 colour channels"),
        ({"input_shape": (64, 64, 1), "weights": "imagenet"}, r"3 colour channels.*np\.repeat"),
        ({"blocks": [replace(TINY[0], strides=4)]}, r"strides of blocks are \[4\]; allowed in each: 1, 2"),
        ({"blocks": [replace(TINY[0], num_repeat=30)]}, "stage 1 has 30 blocks; at most 26, which are named a to z"),
        pytest.param(
            {"depth": 6},
            "96 blocks one after the other are too many for Keras; take a smaller depth",
            marks=pytest.mark.slow,
        ),
        ({"weights": "no/such/file.weights.h5"}, "no such file"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        efficientnet(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "lite1"}, "b0..b7 and lite0, variant is 'lite1'"),
        ({"classes": 10}, "classifier for 1000 classes, classes is 10.*include_top=False"),
        ({"classifier_activation": "sigmoid"}, "classifier_activation is 'sigmoid'.*allowed: 'softmax', None"),
        ({"preprocessing": "rescale"}, "preprocessing is 'rescale'.*allowed: 'auto', 'lite'"),
        ({"variant": "b0", "preprocessing": "lite"}, "preprocessing is 'lite'.*allowed: 'auto', 'imagenet'"),
        ({"activation": "swish"}, "activation is 'swish'.*allowed: 'auto', 'relu6'"),
        ({"se_ratio": 0.25}, "se_ratio is 0.25.*allowed: 'auto', 0.0"),
        ({"bn_epsilon": 1e-5}, "bn_epsilon is 1e-05.*allowed: 0.001"),
        ({"width": 2.0}, "width is 2.0.*allowed: None"),
        ({"depth": 2.0}, "depth is 2.0.*allowed: None"),
        ({"blocks": TINY}, "blocks is .*allowed: None"),
    ],
)
def test_what_contradicts_the_imagenet_weights(arguments, message):
    with pytest.raises(ValueError, match=message):
        efficientnet(**{"variant": "lite0", "weights": "imagenet"} | arguments)


def test_channels_first_setting_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="channels_last"):
            efficientnet("b0")
    finally:
        keras.config.set_image_data_format("channels_last")
