"""What the pages with a network need beside their scripts: parameters and photographs, as JavaScript files.

    python -m tools.explore FOLDER --data-dir data

`make docs` calls ``write``. The command stores the B0 that notebook 07 trained on CIFAR-10 and saved into FOLDER in
site/explore/, with its accuracy; Lite0 comes from a package. JavaScript rather than JSON and JPEG files, because a page
that was opened from a folder may load scripts only. BatchNorm is folded into the convolutions; kernels are stored as
one byte per value and one scale per filter.
"""

import argparse
import base64
import hashlib
import json
from functools import cache
from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image, ImageOps

from effnet_utils import efficientnet
from effnet_utils.classifier import load_classifier
from effnet_utils.datasets import describe_dataset, load_cifar10
from effnet_utils.deploy import fold_batch_norm
from effnet_utils.evaluation import predict_in_batches
from effnet_utils.files import atomic_write, photographs
from effnet_utils.pretrained import imagenet_classes
from tools.notebooks import ROOT

STORED = ROOT / "site" / "explore" / "b0_cifar10"
ACTIVATIONS = {
    keras.activations.relu: "relu",
    keras.activations.relu6: "relu6",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.silu: "swish",
    keras.activations.linear: None,
}


# --- From a network to what the page's script computes with, and back ------------------------------------------------


def quantised(kernel):
    """Kernel (inputs, filters) as (int8 of the same shape, float32 scale of each filter)."""
    scale = np.abs(kernel).max(axis=0) / 127
    scale = np.where(scale == 0, 1, scale).astype("float32")
    return np.round(kernel / scale).astype("int8"), scale


def flat_kernel(layer):
    """A layer's kernel as (what is summed over, filters); of a depthwise convolution as (positions, channels)."""
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    if isinstance(layer, layers.DepthwiseConv2D):
        return kernel[..., 0].reshape(-1, kernel.shape[2])
    return kernel.reshape(-1, kernel.shape[-1])


def activation_of(layer):
    """The script's name of a layer's activation, None for a linear one."""
    if layer.activation not in ACTIVATIONS:
        raise TypeError(f"{layer.name} has an activation that the page's script does not know")
    return ACTIVATIONS[layer.activation]


def described(layer):
    """A layer of a folded network as the page's script knows it: dict with its kind and what belongs to the kind."""
    if isinstance(layer, layers.Rescaling):
        scale, offset = (np.broadcast_to(value, 3).tolist() for value in (layer.scale, layer.offset))
        return {"kind": "rescale", "scale": scale, "offset": offset}
    if isinstance(layer, layers.DepthwiseConv2D):
        return {"kind": "depthwise", "kernel": layer.kernel_size[0], "stride": layer.strides[0]}
    if isinstance(layer, layers.Conv2D) and layer.kernel_size != (1, 1):
        return {"kind": "convolution", "kernel": layer.kernel_size[0], "stride": layer.strides[0]}
    simple = {
        layers.Conv2D: "pointwise",
        layers.Dense: "pointwise",
        layers.GlobalAveragePooling2D: "pool",
        layers.Multiply: "multiply",
        layers.Add: "add",
    }
    if type(layer) not in simple:
        raise TypeError(f"{layer.name} is a {type(layer).__name__}, which the page's script does not know")
    return {"kind": simple[type(layer)]}


def packed(model):
    """A folded network as the page's script reads it.

    Args:
        model: ``keras.Model`` that ends in logits, with BatchNorm folded.

    Returns:
        (list of a dict for each of the script's layers, in order; bytes of all their numbers: for each layer with a
        kernel its filters' scales and biases as float32 and the kernel as int8, padded to four bytes).

    Raises:
        TypeError: a layer or an activation that the script does not know.
    """
    found = []
    numbers = b""
    producer = {}  # from the id of a tensor to the name of the script's layer that computes it
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer | layers.Dropout | layers.ZeroPadding2D):
            producer[id(layer.output)] = producer.get(id(layer.input), "")
            continue
        if isinstance(layer, layers.Activation):
            found[-1]["activation"] = activation_of(layer)
            producer[id(layer.output)] = found[-1]["name"]
            continue
        about = {"name": layer.name, **described(layer)}
        if about["kind"] in ("add", "multiply"):
            (about["other"],) = {producer[id(tensor)] for tensor in layer.input} - {found[-1]["name"]}
        if layer.weights:
            kernel, scale = quantised(flat_kernel(layer))
            bias = keras.ops.convert_to_numpy(layer.bias).astype("float32")
            about |= {"inputs": len(kernel), "filters": len(bias)}
            numbers += scale.tobytes() + bias.tobytes() + kernel.tobytes() + bytes(-kernel.size % 4)
            if activation_of(layer):
                about["activation"] = activation_of(layer)
        found.append(about)
        producer[id(layer.output)] = about["name"]
    return found, numbers


def unpacked(found, numbers):
    """What the page's script reads out of ``packed``'s two parts: {layer's name: (kernel (inputs, filters), bias)}."""
    values = {}
    at = 0
    for layer in (layer for layer in found if "filters" in layer):
        filters, size = layer["filters"], layer["filters"] * layer["inputs"]
        scale, bias = np.frombuffer(numbers, "float32", 2 * filters, at).reshape(2, filters)
        kernel = np.frombuffer(numbers, "int8", size, at + 8 * filters).reshape(-1, filters)
        values[layer["name"]] = kernel * scale, bias
        at += 8 * filters + size + -size % 4
    return values


def changed(model, values=None, activation="swish", off=()):
    """A copy of a folded network after the page's switches.

    Args:
        model: folded ``keras.Model``.
        values: what ``unpacked`` returns, in place of the model's own parameters; None keeps those.
        activation: "relu" or "relu6" replaces swish everywhere.
        off: names of blocks with a skip connection, such as "block2b", that output their input.
    """

    def rebuild(layer):
        config = layer.get_config()
        if config.get("activation") in ("silu", "swish"):
            config["activation"] = activation
        return type(layer).from_config(config)

    def call(layer, inputs, **kwargs):
        is_off = isinstance(layer, layers.Add) and layer.name.removesuffix("_add") in off
        return inputs[1] if is_off else layer(inputs)

    copy = keras.models.clone_model(model, clone_function=rebuild, call_function=call)
    for layer in copy.layers:
        weights = model.get_layer(layer.name).get_weights()
        if values and layer.name in values:
            weights = [value.reshape(old.shape) for value, old in zip(values[layer.name], weights, strict=True)]
        layer.set_weights(weights)
    return copy


# --- The two networks -------------------------------------------------------------------------------------------------


@cache
def lite0():
    return fold_batch_norm(efficientnet("lite0", weights="imagenet", classifier_activation=None))


@cache
def b0():
    """The B0 of notebook 07 with random parameters, folded, ending in logits: the layers of what is stored."""
    return fold_batch_norm(
        efficientnet("b0", layout="cifar", classes=10, classifier_activation=None, preprocessing="imagenet")
    )


def stored():
    """The B0 of site/explore/: (what the JSON file holds, bytes of the numbers)."""
    return json.loads(STORED.with_suffix(".json").read_text(encoding="utf-8")), STORED.with_suffix(".bin").read_bytes()


@cache
def stored_network():
    """The B0 of site/explore/ as ``keras.Model`` with the parameters that the page has."""
    return changed(b0(), unpacked(packed(b0())[0], stored()[1]))


def middle_square(path, size):
    """The middle square of a photograph as the page's script resizes it: uint8 (size, size, 3)."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGBA")
    on_white = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    width, height = upright.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    # First the rows, then the columns: Pillow's own order depends on the image's shape and on Pillow's version.
    narrow = on_white.resize((size, height), Image.Resampling.BICUBIC, box=(left, 0, left + side, height))
    return np.asarray(narrow.resize((size, size), Image.Resampling.BICUBIC, box=(0, top, size, top + side)))


def logits(model):
    """Logits of the photographs, (photographs, classes), in the order of ``photographs``."""
    size = model.input_shape[1]
    return model.predict_on_batch(np.stack([middle_square(path, size) for path in photographs().values()]))


@cache
def lite0_logits():
    """(logits of the photographs with Lite0's own parameters, with those that the page has)."""
    return logits(lite0()), logits(changed(lite0(), unpacked(*packed(lite0()))))


def difference(network):
    """By how much one byte for each value of a kernel changes the photographs' logits at most, as text.

    Args:
        network: "lite0" or "b0_cifar10".
    """
    if network == "lite0":
        exact, rounded = lite0_logits()
    else:
        exact, rounded = list(stored()[0]["logits"].values()), logits(stored_network())
    return f"{np.abs(exact - rounded).max():.2f}"


def b0_fact(name):
    """One fact about the stored B0, as text for its page: an accuracy, a block's mean gamma, or another value."""
    facts, _ = stored()
    if name in facts["accuracy"]:
        return f"{100 * facts['accuracy'][name]:.1f} %"
    value = (facts | facts["training"] | facts["gamma"])[name]
    return f"{value:,}" if isinstance(value, int) else str(value)


# --- Files ------------------------------------------------------------------------------------------------------------


def write(folder):
    """Write lite0.js, b0_cifar10.js and photos.js, for the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    found, numbers = packed(lite0())
    write_network(folder, "lite0", {"size": 224, "classes": imagenet_classes(), "layers": found}, numbers)
    facts, numbers = stored()
    about = {"size": 32, "classes": facts["classes"], "accuracy": facts["accuracy"], "layers": packed(b0())[0]}
    write_network(folder, "b0_cifar10", about, numbers)
    photos = {}
    for name, path in photographs().items():
        photos[name] = f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
    (folder / "photos.js").write_text(f"const PHOTOS = {json.dumps(photos)};\n", encoding="utf-8")


def write_network(folder, name, about, numbers):
    text = f"const NETWORK = {json.dumps(about)};\nNETWORK.numbers = {base64.b64encode(numbers).decode()!r};\n"
    (folder / f"{name}.js").write_text(text, encoding="utf-8")


def mean_gamma(norm):
    """Mean of the absolute values of a BatchNormalization's gamma."""
    return round(float(np.abs(keras.ops.convert_to_numpy(norm.gamma)).mean()), 2)


def store(folder, data_dir):
    """Write site/explore/b0_cifar10.json and .bin from a run of notebook 07; its images are the ones to be tested on.

    Args:
        folder: Path with model.keras, classes.json and record.json.
        data_dir: the data set that the record names, as for ``load_cifar10``.

    Raises:
        ValueError: it is a different data set, or the network is not a B0 for ten classes that ends in logits.
    """
    model, classes = load_classifier(folder)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    dataset = record["dataset"]
    if describe_dataset("cifar10", data_dir, 0, 0)["sha256"] != dataset["sha256"]:
        raise ValueError(f"{data_dir} is not the data set of {folder / 'record.json'}: {dataset['source']}")
    images, labels = load_cifar10(data_dir)[1]
    folded = fold_batch_norm(model)
    found, numbers = packed(folded)
    if found != packed(b0())[0]:
        raise ValueError(f"{folder} holds no B0 of layout 'cifar' with 10 logits and preprocessing 'imagenet'")
    on_page = changed(folded, unpacked(found, numbers))

    def accuracy(network):
        return round(float(np.mean(predict_in_batches(network, images).argmax(axis=1) == labels)), 4)

    blocks = [layer["name"].removesuffix("_add") for layer in found if layer["kind"] == "add"]
    about = {
        "source": dataset["source"],
        "training": {name: record["parameters"][name] for name in ("layout", "epochs", "seed")},
        "sha256": hashlib.sha256(numbers).hexdigest(),
        "test_images": len(labels),
        "accuracy": {
            "float32": accuracy(folded),
            "int8": accuracy(on_page),
            "relu": accuracy(changed(on_page, activation="relu")),
            "without": {block: accuracy(changed(on_page, off=(block,))) for block in blocks},
        },
        "gamma": {block: mean_gamma(model.get_layer(f"{block}_project_bn")) for block in blocks},
        "logits": dict(zip(photographs(), logits(folded).astype("float64").round(4).tolist(), strict=True)),
        "classes": classes,
    }
    STORED.parent.mkdir(exist_ok=True)
    with atomic_write(STORED.with_suffix(".bin")) as file:
        file.write(numbers)
    with atomic_write(STORED.with_suffix(".json")) as file:
        file.write(f"{json.dumps(about, indent=1)}\n".encode())


def main():
    parser = argparse.ArgumentParser(description="Store the B0 of the page on SE blocks.")
    parser.add_argument("folder", type=Path, help="with model.keras, classes.json and record.json of notebook 07")
    parser.add_argument("--data-dir", default="data", help="the data set that the record names")
    given = parser.parse_args()
    store(given.folder, given.data_dir)


if __name__ == "__main__":
    main()
