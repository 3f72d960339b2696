"""What the pages with a network compute with: eight bits per weight, read back as they were stored; the stored B0."""

import base64
import hashlib
import json
import re

import keras
import numpy as np
import pytest
from PIL import Image

from effnet_utils import efficientnet
from effnet_utils.classifier import save_classifier
from effnet_utils.deploy import fold_batch_norm
from effnet_utils.files import photographs
from tools import explore

pytestmark = pytest.mark.slow  # the pages' data


@pytest.fixture(scope="module")
def small():
    """A folded network with every kind of layer, its parameters random, and what is stored of it."""
    keras.utils.set_random_seed(0)
    model = efficientnet("b0", input_shape=(32, 32, 3), classes=7, classifier_activation=None, layout="cifar-fast")
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.random.default_rng(0).uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    folded = fold_batch_norm(model)
    return folded, *explore.packed(folded)


def test_a_kernel_is_stored_to_half_a_step_of_each_filter():
    kernel = np.random.default_rng(1).normal(size=(40, 5)) * [1, 10, 1e-3, 0, 100]
    eight_bits, scale = explore.quantised(kernel)
    assert eight_bits.dtype == np.int8 and np.abs(eight_bits).max(axis=0).tolist() == [127, 127, 127, 0, 127]
    assert (np.abs(eight_bits * scale - kernel) <= scale * 0.5001).all()


def test_what_is_stored_is_read_back(small):
    folded, found, numbers = small
    values = explore.unpacked(found, numbers)
    assert sum(kernel.size + 8 * bias.size + -kernel.size % 4 for kernel, bias in values.values()) == len(numbers)
    for name, (kernel, bias) in values.items():
        wanted = explore.flat_kernel(folded.get_layer(name))
        step = np.abs(wanted).max(axis=0) / 127
        assert (np.abs(kernel - wanted) <= step * 0.5001).all(), name
        np.testing.assert_array_equal(bias, folded.get_layer(name).bias)
    assert {layer.name for layer in folded.layers if layer.weights} == set(values)


def test_layers_are_described_in_order(small):
    _, found, _ = small
    block = [layer for layer in found if layer["name"].startswith("block2b")]
    assert [(layer["kind"], layer.get("activation"), layer.get("other")) for layer in block] == [
        ("pointwise", "swish", None),
        ("depthwise", "swish", None),
        ("pool", None, None),
        ("pointwise", "swish", None),
        ("pointwise", "sigmoid", None),
        ("multiply", None, "block2b_dwconv"),
        ("pointwise", None, None),
        ("add", None, "block2a_project_conv"),
    ]
    assert found[0]["kind"] == "rescale" and len(found[0]["scale"]) == 3
    assert found[1] == {"name": "stem_conv", "kind": "convolution", "kernel": 3, "stride": 2, "inputs": 27,
                        "filters": 32, "activation": "swish"}  # fmt: skip
    assert [layer["kind"] for layer in found[-2:]] == ["pool", "pointwise"]


def test_what_the_script_does_not_know_is_refused():
    def network(layer):
        inputs = keras.Input((8, 8, 3))
        return keras.Model(inputs, layer(keras.layers.Conv2D(4, 3)(inputs)))

    with pytest.raises(TypeError, match="MaxPooling2D"):
        explore.packed(network(keras.layers.MaxPooling2D()))
    with pytest.raises(TypeError, match="gelu.* activation"):
        explore.packed(network(keras.layers.Activation("gelu", name="gelu")))


def test_switches(small):
    folded, _, _ = small
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    wanted = folded.predict_on_batch(images)
    np.testing.assert_allclose(explore.changed(folded).predict_on_batch(images), wanted, rtol=1e-5, atol=1e-5)
    relu = explore.changed(folded, activation="relu")
    kinds = {getattr(layer, "activation", None) for layer in relu.layers}
    assert keras.activations.silu not in kinds and keras.activations.relu in kinds
    # A block whose projection gives zeros is one that is off.
    off = explore.changed(folded, off=("block3b",)).predict_on_batch(images)
    zero = explore.changed(folded)
    projection = zero.get_layer("block3b_project_conv")
    projection.set_weights([np.zeros_like(value) for value in projection.get_weights()])
    np.testing.assert_allclose(off, zero.predict_on_batch(images), rtol=1e-5, atol=1e-5)
    assert np.abs(off - wanted).max() > 2e-4


def test_middle_square_is_upright_on_white_and_as_pillow_resizes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype="uint8")
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif)
    wanted = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC, box=(10, 0, 50, 40)))
    np.testing.assert_array_equal(explore.middle_square(tmp_path / "lying.png", 16), wanted)
    Image.new("RGBA", (20, 30), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (explore.middle_square(tmp_path / "clear.png", 8) == 255).all()


# --- The stored B0 ----------------------------------------------------------------------------------------------------


def test_stored_b0_is_the_one_that_was_measured():
    facts, numbers = explore.stored()
    assert hashlib.sha256(numbers).hexdigest() == facts["sha256"] and 4e6 < len(numbers) < 4.3e6
    found, _ = explore.packed(explore.b0())
    adds = [layer["name"].removesuffix("_add") for layer in found if layer["kind"] == "add"]
    assert list(facts["accuracy"]["without"]) == list(facts["gamma"]) == adds
    assert facts["accuracy"]["float32"] == 0.8713 and facts["test_images"] == 10_000
    assert explore.b0_fact("test_images") == "10,000" and explore.b0_fact("float32") == "87.1 %"


def test_one_byte_changes_little():
    assert 0 < float(explore.difference("b0_cifar10")) <= 0.1
    logits = explore.logits(explore.stored_network())
    assert explore.stored()[0]["classes"][logits[list(photographs()).index("cat")].argmax()] == "cat"


def test_store_writes_what_it_measured(tmp_path, monkeypatch):
    """A run of notebook 07 on twenty images, stored and read back."""
    keras.utils.set_random_seed(1)
    model = efficientnet("b0", layout="cifar", classes=10, classifier_activation=None, preprocessing="imagenet")
    save_classifier(model, [str(number) for number in range(10)], tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype="uint8")
    labels = np.arange(20, dtype="uint8") % 10
    np.savez(tmp_path / "cifar10.npz", x_train=images, y_train=labels, x_test=images, y_test=labels, source="noise")
    dataset = explore.describe_dataset("cifar10", tmp_path / "cifar10.npz", 20, 20)
    record = {"dataset": dataset, "parameters": {"layout": "cifar", "epochs": 0, "seed": 1}}
    (tmp_path / "record.json").write_text(json.dumps(record))
    monkeypatch.setattr(explore, "STORED", tmp_path / "site" / "b0")
    explore.store(tmp_path, tmp_path / "cifar10.npz")
    facts, numbers = explore.stored()
    assert facts["source"] == "noise" and facts["test_images"] == 20 and facts["training"]["seed"] == 1
    assert facts["sha256"] == hashlib.sha256(numbers).hexdigest()
    assert 0 <= facts["accuracy"]["relu"] <= 1 and len(facts["accuracy"]["without"]) == 9
    record["dataset"]["sha256"] = "0"
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="is not the data set of"):
        explore.store(tmp_path, tmp_path / "cifar10.npz")


# --- Files of the site ------------------------------------------------------------------------------------------------


def test_files_for_the_pages(tmp_path):
    explore.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"lite0.js", "b0_cifar10.js", "photos.js"}
    for name, classes, size in (("lite0", 1000, 224), ("b0_cifar10", 10, 32)):
        text = (tmp_path / f"{name}.js").read_text()
        about = json.loads(re.match(r"const NETWORK = (.*);\n", text)[1])
        assert len(about["classes"]) == about["layers"][-1]["filters"] == classes and about["size"] == size
        numbers = base64.b64decode(re.search(r"^NETWORK.numbers = '(.*)';$", text, re.MULTILINE)[1])
        assert set(explore.unpacked(about["layers"], numbers)) == {
            layer["name"] for layer in about["layers"] if "filters" in layer
        }


def test_network_script_has_at_most_150_lines():
    path = explore.ROOT / "site" / "_static" / "explore" / "network.js"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 150
