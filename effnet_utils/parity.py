"""Numerical parity: are two models the same function? Their feature maps are compared block by block.

``randomise`` gives the weights values under which a mistake shows. ``verify`` tries seven checks, ``compare`` among
them.

The models need the layers' names of ``efficientnet`` and ``keras.applications``: ``stem_...``, ``block1a_...``,
``top_...``::

    randomise(theirs)
    copy_weights(theirs, ours)
    print(compare(ours, theirs, images))
"""

import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import zip_longest

import keras
import numpy as np

from effnet_utils._flat import check_one_output
from effnet_utils.scaling import count_macs

CLOSE = 1e-5  # largest difference that counts as close, in standard deviations of the feature map

# A new BatchNormalization multiplies by 1 and adds 0, and new biases are 0: with these values a comparison would not
# notice a wrong use of them.
DRAWS = {
    "gamma": lambda rng, shape: rng.uniform(0.5, 1.5, shape),
    "moving_variance": lambda rng, shape: rng.uniform(0.3, 2, shape),
    **dict.fromkeys(("beta", "moving_mean", "bias"), lambda rng, shape: rng.normal(0, 0.3, shape)),
}


def randomise(model, seed=0):
    """Give every scale, shift and bias a random value of its own; kernels are random already and stay.

    Args:
        model: ``keras.Model``; changed in place.
        seed: int.
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in DRAWS:
            weight.assign(DRAWS[weight.name](rng, weight.shape))


def randomise_kernels(model, seed=1):
    """Draw every kernel with NumPy, so that it is the same on every backend: normal, variance 2 / fan-out.

    Args:
        model: ``keras.Model``; changed in place.
        seed: int.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.weights and hasattr(layer, "kernel"):
            *size, _, outputs = (1, 1, *layer.kernel.shape)[-4:]
            layer.kernel.assign(rng.normal(0, math.sqrt(2 / (math.prod(size) * outputs)), layer.kernel.shape))


def copy_weights(source, target):
    """Give the layers of ``target`` the weights of those of the same names in ``source``.

    Args:
        source, target: ``keras.Model``; target is changed in place. A Normalization layer's weights do not count:
            that of ``keras.applications`` has some (mean 0, variance 1), ours has none.

    Raises:
        ValueError: a layer with weights lacks a partner, or the two differ in shape; nothing is copied then.
    """
    given = _layers_with_weights(source)
    wanted = _layers_with_weights(target)
    for name in given:
        if name not in wanted:
            raise ValueError(f"layer {name!r} of the source has weights and no partner: the target has no such layer")
    for name in wanted:
        if name not in given:
            raise ValueError(f"layer {name!r} of the target has weights and no partner: the source has no such layer")
        a = [tuple(weight.shape) for weight in given[name].weights]
        b = [tuple(weight.shape) for weight in wanted[name].weights]
        if a != b:
            raise ValueError(f"layer {name!r} has weights of shapes {a} in the source, {b} in the target")
    for name, layer in wanted.items():
        layer.set_weights(given[name].get_weights())


def _layers_with_weights(model):
    """{name: layer}, without Normalization."""
    found = {}
    for layer in model.layers:
        if layer.weights and not isinstance(layer, keras.layers.Normalization):
            found[layer.name] = layer
    return found


@dataclass(frozen=True)
class Row:
    """A feature map of both models: ``max_difference`` and, in standard deviations of the map, ``relative``."""

    name: str
    exact: bool
    close: bool
    max_difference: float
    relative: float
    note: str = ""

    def __str__(self):
        verdict = "exact" if self.exact else "close" if self.close else "differs"
        figures = self.note or f"{self.max_difference:<14.3g}  {self.relative:.3g}"
        return f"{self.name:<11}  {verdict:<7}  {figures}"


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found: a Row for each feature map. ``print`` shows a table."""

    rows: tuple

    @property
    def first(self):
        """Name of the first feature map that is not equal to the last bit, or None."""
        return next((row.name for row in self.rows if not row.exact), None)

    def __str__(self):
        title = f"{'feature map':<11}  {'':<7}  {'max difference':<14}  in standard deviations"
        end = f"all {len(self.rows)} feature maps are exactly equal"
        if self.first:
            end = f"first that differs: {self.first}"
        return "\n".join([title, *map(str, self.rows), end])


def compare(model_a, model_b, images):
    """Compare the feature maps of two models after the stem, each block and the head, and their outputs.

    Both models run in inference mode. A block's feature map is the output of its last layer, by the layers' names.

    Args:
        model_a, model_b: functional ``keras.Model`` with the layers' names of ``efficientnet``.
        images: array (batch, height, width, channels) that fits both.

    Returns:
        Comparison; ``exact`` in a row means equal to the last bit, ``close`` within CLOSE standard deviations of
        model_a's feature map. One that a model lacks, or that has a different shape there, differs by NaN; ``note``
        says so.

    Raises:
        ValueError: as in ``map_outputs``.
    """
    maps_a = _feature_maps(model_a, images)
    maps_b = _feature_maps(model_b, images)
    rows = [_row(name, maps_a.get(name), maps_b.get(name)) for name in _in_order(maps_a | maps_b)]
    return Comparison(tuple(rows))


def map_outputs(model):
    """Where ``compare`` looks: {"stem", "block1a", ..., "head", "output": symbolic tensor}.

    Args:
        model: functional ``keras.Model`` with the layers' names of ``efficientnet``.

    Returns:
        dict of ``keras.KerasTensor``, in the model's order.

    Raises:
        ValueError: no layer has such a name, or the model has several outputs.
    """
    check_one_output(model)
    ends = {}
    for layer in model.layers:
        # The dropout before the classifier comes after the pooling: not the head's feature map.
        part = re.match(r"(stem|block\d+[a-z]|top)_(?!dropout)", layer.name)
        if part:
            ends[part[1].replace("top", "head")] = layer.output
    if not ends:
        raise ValueError(f"{model.name!r} has no layer named stem_..., block1a_... or top_...; nothing to compare")
    return {**ends, "output": model.output}


def _feature_maps(model, images):
    outputs = map_outputs(model)
    maps = keras.Model(model.input, outputs)(images, training=False)
    return {name: keras.ops.convert_to_numpy(found) for name, found in maps.items()}


def _row(name, a, b):
    if a is None or b is None:
        note = f"not in the {'first' if a is None else 'second'} model"
    elif a.shape != b.shape:
        note = f"shape {a.shape} in the first model, {b.shape} in the second"
    else:
        difference = float(np.abs(a - b).max())
        relative = difference / max(float(a.std()), 1e-30)  # a feature map may be constant
        return Row(name, np.array_equal(a, b), relative <= CLOSE, difference, relative)
    return Row(name, False, False, np.nan, np.nan, note)


def _in_order(names):
    """Stem, blocks by number and letter, head, output; also where only one of the models has a block."""
    last = {"stem": -1, "head": 1e3, "output": 1e4}
    return sorted(names, key=lambda name: (last[name] if name in last else int(name[5:-1]), name))


# --- Initialisation -----------------------------------------------------------------------------------------------


def weights_by_key(model):
    """The weights by what they are, the same for equivalent models whatever their layers' names.

    Args:
        model: ``keras.Model``.

    Returns:
        dict {(role, shape without axes of size 1, number among those alike): weight}; the role is "kernel", "bias",
        "gamma" and so on.
    """
    count = Counter()
    found = {}
    for weight in model.weights:
        role = "kernel" if "kernel" in weight.name else weight.name
        kind = (role, tuple(size for size in weight.shape if size != 1))
        found[*kind, count[kind]] = weight
        count[kind] += 1
    return found


@dataclass(frozen=True)
class InitialValues:
    """A weight of two new models: the standard deviation of a kernel, the mean of any other weight."""

    path: str
    shape: tuple
    found: float
    expected: float
    differs: bool


def compare_initialisation(model, reference):
    """Compare how the weights of two new models start.

    Kernels start with random values: their standard deviations may differ by chance, 2 % or five standard errors. All
    other weights start with constants, which must be equal.

    Args:
        model, reference: ``keras.Model``, neither trained nor given other weights. Weights are matched by
            ``weights_by_key``; those without a partner are left out.

    Returns:
        list of InitialValues, in the reference's order and with its names.
    """
    partners = weights_by_key(model)
    rows = []
    for key, weight in weights_by_key(reference).items():
        if key not in partners:
            continue
        kernel = key[0] == "kernel"
        statistic = np.std if kernel else np.mean
        found, expected = (float(statistic(keras.ops.convert_to_numpy(each))) for each in (partners[key], weight))
        tolerance = max(0.02, 5 / math.sqrt(math.prod(weight.shape))) if kernel else 0
        differs = not abs(found - expected) <= tolerance * abs(expected)
        rows.append(InitialValues(weight.path, tuple(weight.shape), found, expected, differs))
    return rows


# --- Seven checks ---------------------------------------------------------------------------------------------------


def verify(build, build_reference, size=(64, 64), odd_size=(75, 50)):
    """Seven checks whether two functions build the same network.

    Args:
        build, build_reference: functions of an image size (height, width); each call returns a new functional
            ``keras.Model`` with the layers' names of ``efficientnet``.
        size: image size for all checks but one.
        odd_size: image size for the check "odd sizes".

    Returns:
        dict {check: the first thing that differs, "" where nothing does}. Checks: "names and shapes" of the weights,
        and their order; "parameters", trainable ones; "MACs"; "feature maps" in inference, with random weights, equal
        to the last bit; "training mode": drop rates of Dropout layers, output and BatchNormalization's moving
        statistics; "odd sizes": feature maps again; "initialisation". Where weights do not fit, that is what differs.
    """
    model = build(size)
    reference = build_reference(size)
    initialisation = _initialisation(model, reference)  # before other checks change the weights
    return {
        "names and shapes": _names_and_shapes(model, reference),
        "parameters": _difference(*(count_parameters(each.trainable_weights) for each in (model, reference))),
        "MACs": _difference(*(count_macs(each) for each in (model, reference))),
        "feature maps": _maps(model, reference),
        "training mode": _training_mode(model, reference),
        "odd sizes": _maps(build(odd_size), build_reference(odd_size)),
        "initialisation": initialisation,
    }


def _difference(found, expected):
    return "" if found == expected else f"{found:,} for {expected:,}"


def count_parameters(weights):
    """The number of parameters that some weights hold.

    Args:
        weights: list of variables, such as ``model.trainable_weights``.

    Returns:
        int.
    """
    return sum(math.prod(weight.shape) for weight in weights)


def _names_and_shapes(model, reference):
    lists = []
    for each in (model, reference):
        layers = _layers_with_weights(each).values()
        lists.append([f"{weight.path} {tuple(weight.shape)}" for layer in layers for weight in layer.weights])
    for found, expected in zip_longest(*lists):
        if found != expected:
            return f"{found} for {expected}"
    return ""


def _pixels(model):
    return np.random.default_rng(1).integers(0, 256, (2, *model.input_shape[1:]), dtype=np.uint8)


def _same_random_weights(model, reference):
    """Give both the same random weights. Returns why that is not possible, or ""."""
    randomise(reference)
    try:
        copy_weights(reference, model)
    except ValueError as error:
        return str(error)
    return ""


def _maps(model, reference):
    if trouble := _same_random_weights(model, reference):
        return trouble
    for row in compare(reference, model, _pixels(model)).rows:
        if not row.exact:
            return f"{row.name}: {row.note or f'differs by {row.max_difference:.1g}'}"
    return ""


def _training_mode(model, reference):
    found, expected = ({layer.name: round(layer.rate, 12) for layer in _dropouts(each)} for each in (model, reference))
    for name in expected | found:
        if found.get(name) != expected.get(name):
            return f"{name}: {found.get(name)} for {expected.get(name)}"
    if trouble := _same_random_weights(model, reference):
        return trouble
    results = []
    for each in (model, reference):
        for layer in _dropouts(each):
            layer.rate = 0  # each model would draw its own
        values = {"output": each(_pixels(each), training=True)}
        values |= {weight.path: weight for weight in each.non_trainable_weights if weight.name.startswith("moving_")}
        results.append({name: keras.ops.convert_to_numpy(value) for name, value in values.items()})
    for name, expected in results[1].items():
        if not np.array_equal(results[0][name], expected):
            return f"{name} differs by {np.abs(results[0][name] - expected).max():.1g}"
    return ""


def _dropouts(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]


def _initialisation(model, reference):
    for row in compare_initialisation(model, reference):
        if row.differs:
            return f"{row.path}: {row.found:.2f} for {row.expected:.2f}"
    return ""
