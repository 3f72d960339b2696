"""What the page "Explore" needs beside its scripts: a network's parameters and the photographs, as JavaScript files.

    python -m tools.explore site/_build/static/explore

JavaScript rather than JSON and JPEG files: a page that was opened from a folder may load scripts only. Kernels are
stored as one byte for each value and one scale for each filter, BatchNorm is folded into them before.
"""

import base64
import json
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image, ImageOps

from effnet_utils import efficientnet
from effnet_utils.deploy import fold_batch_norm
from effnet_utils.files import photographs
from effnet_utils.pretrained import imagenet_classes

SIZE = 224


def quantised(kernel):
    """Kernel (inputs, filters) as (int8 of the same shape, float32 scale of each filter)."""
    scale = np.abs(kernel).max(axis=0) / 127
    scale = np.where(scale == 0, 1, scale).astype("float32")
    return np.round(kernel / scale).astype("int8"), scale


def read_back(numbers, scale):
    """The kernel that the page computes with."""
    return numbers.astype("float32") * scale


def flat_kernel(layer):
    """A layer's kernel as (what is summed over, filters); of a depthwise convolution as (positions, channels)."""
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    if isinstance(layer, layers.DepthwiseConv2D):
        return kernel[..., 0].reshape(-1, kernel.shape[2])
    return kernel.reshape(-1, kernel.shape[-1])


def described(layer, producer, before):
    """A layer of a folded network as the page's script knows it, and its kernel or None.

    Args:
        layer: Keras layer.
        producer: dict from the id of a tensor to the name of the script's layer that computes it.
        before: name of the script's layer before this one.
    """
    name = layer.name
    if isinstance(layer, layers.Rescaling):
        return {"kind": "rescale", "name": name, "scale": float(layer.scale), "offset": float(layer.offset)}, None
    if isinstance(layer, layers.DepthwiseConv2D):
        about = {"kind": "depthwise", "name": name, "kernel": layer.kernel_size[0], "stride": layer.strides[0]}
        return about, flat_kernel(layer)
    if isinstance(layer, layers.Conv2D):
        if layer.kernel_size == (1, 1):
            return {"kind": "pointwise", "name": name}, flat_kernel(layer)
        about = {"kind": "convolution", "name": name, "kernel": layer.kernel_size[0], "stride": layer.strides[0]}
        return about, flat_kernel(layer)
    if isinstance(layer, layers.Dense):
        return {"kind": "dense", "name": name}, flat_kernel(layer)
    if isinstance(layer, layers.Add):
        (skip,) = {producer[id(tensor)] for tensor in layer.input} - {before}
        return {"kind": "add", "name": name, "skip": skip}, None
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return {"kind": "pool", "name": name}, None
    raise TypeError(f"{name} is a {type(layer).__name__}, which the page's script does not know")


def network_of(model):
    """A folded Lite network: (list of the script's layers, bytes of all their numbers, list of kernels read back)."""
    found = []
    numbers = b""
    kernels = {}
    producer = {}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer | layers.Dropout | layers.ZeroPadding2D):
            producer[id(layer.output)] = producer.get(id(layer.input), "")
        elif is_relu6(layer):
            found[-1]["relu6"] = True
            producer[id(layer.output)] = found[-1]["name"]
        else:
            before = found[-1]["name"] if found else ""
            about, kernel = described(layer, producer, before)
            found.append(about)
            producer[id(layer.output)] = about["name"]
            if kernel is not None:
                eight_bits, scale = quantised(kernel)
                kernels[about["name"]] = read_back(eight_bits, scale)
                bias = keras.ops.convert_to_numpy(layer.bias).astype("float32")
                about["filters"] = len(bias)
                about["inputs"] = len(kernel)
                numbers += scale.tobytes() + bias.tobytes() + eight_bits.tobytes()
                numbers += bytes(-len(numbers) % 4)
    return found, numbers, kernels


def is_relu6(layer):
    return isinstance(layer, layers.Activation) and layer.activation is keras.activations.relu6


def write(folder):
    """Write lite0.js and photos.js, for site/explore.md."""
    folder.mkdir(parents=True, exist_ok=True)
    found, numbers, _ = network_of(folded())
    about = {"size": SIZE, "classes": imagenet_classes(), "layers": found}
    text = f"const NETWORK = {json.dumps(about)};\nNETWORK.numbers = {base64.b64encode(numbers).decode()!r};\n"
    (folder / "lite0.js").write_text(text, encoding="utf-8")
    photos = {}
    for name, path in photographs().items():
        photos[name] = f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
    (folder / "photos.js").write_text(f"const PHOTOS = {json.dumps(photos)};\n", encoding="utf-8")


@cache
def folded():
    return fold_batch_norm(efficientnet("lite0", weights="imagenet", classifier_activation=None))


def middle_square(path):
    """The middle square of a photograph as the page's script resizes it: uint8 (SIZE, SIZE, 3)."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(ImageOps.fit(upright, (SIZE, SIZE), Image.Resampling.BICUBIC))


@cache
def logits():
    """(logits of the photographs by Keras, the same with the kernels that the page has), each (photographs, 1000)."""
    images = np.stack([middle_square(path) for path in photographs().values()])
    exact = folded().predict_on_batch(images)
    _, _, kernels = network_of(folded())
    rounded = keras.models.clone_model(folded())
    for layer in folded().layers:
        weights = layer.get_weights()
        if layer.name in kernels:
            weights[0] = kernels[layer.name].reshape(weights[0].shape)
        rounded.get_layer(layer.name).set_weights(weights)
    return exact, rounded.predict_on_batch(images)


def difference():
    """By how much one byte for each weight changes the photographs' logits at most, as text."""
    exact, rounded = logits()
    return f"{np.abs(exact - rounded).max():.2f}"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
