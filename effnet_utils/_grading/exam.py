"""The exam: is a reader's model EfficientNet-B0? Each check yields (title, whether it is right, what was found)."""

import math
from collections import Counter

import keras
import numpy as np

from effnet_utils import scaling
from effnet_utils._grading.cases import ERRORS, array, fill
from effnet_utils.model import IMAGENET_MEAN, IMAGENET_VARIANCE
from effnet_utils.parity import compare_initialisation, count_parameters, map_outputs

SMALL = 0.05  # difference of a kernel's standard deviation that does not matter: Keras's default comes within 2 % in SE
CLOSE = 1e-4  # largest difference of two feature maps that counts as equal, in standard deviations of the map
B0_PARAMETERS = {
    4_652_008: "there are no SE blocks",
    8_423_848: "the squeezed channels are taken from the expanded channels; expected: from the block's input channels",
    2_859_748: "each stage has one block only, instead of num_repeat blocks",
    4_007_548: "the classifier is missing",
    5_309_556: "the convolutions before a BatchNormalization have a bias",
    5_289_636: "block1a has an expansion, although its expand_ratio is 1",
    4_209_118: "the later blocks of a stage keep the row's input_filters; expected: its output_filters",
    5_107_006: "the later blocks of a stage take their squeezed channels from the row's input_filters; expected: from "
    "the channels of their own input",
}
B0_MACS = {78_613_456: "every block has its stage's stride; expected: only the first, and stride 1 in the others"}
WITH_SKIP = (2, 4, 6, 7, 9, 10, 12, 13, 14)  # numbers of the blocks that have a skip connection
B0_RATES = {
    "they are all the same": lambda block: 0.2,
    "the blocks are counted from 1; the first has drop rate 0": lambda block: 0.2 * (block + 1) / 16,
    "they reach 0.2 at the last block: divide by 16, the number of blocks, not by 15": lambda block: 0.2 * block / 15,
}
# {what a kernel may start with instead: its variance, from the scale that is expected, fan-in and fan-out}
B0_VARIANCES = {
    "this were Keras's default, Glorot uniform": lambda scale, fan_in, fan_out: 2 / (fan_in + fan_out),
    'mode were "fan_in"': lambda scale, fan_in, fan_out: scale / fan_in,
    "scale were 1": lambda scale, fan_in, fan_out: 1 / fan_out,
}
# The layers inside a block, in order.
B0_INSIDE = {
    "expand_conv": "the expansion",
    "expand_bn": "the BatchNormalization after the expansion",
    "expand_activation": "the swish after the expansion",
    "dwconv": "the depthwise convolution",
    "bn": "the BatchNormalization after the depthwise convolution",
    "activation": "the swish after the depthwise convolution",
    "se_excite": "the SE block (swish, then sigmoid)",
    "project_conv": "the projection",
    "project_bn": "the BatchNormalization after the projection",
}
# {what the reader's stem gets: function of the pixels that gives the reference's stem, which divides by 255, the same}
B0_PIXELS = {
    "": lambda x: x,
    "pixels normalised by ImageNet's mean and standard deviation": (
        lambda x: 255 * (x - IMAGENET_MEAN) / np.sqrt(IMAGENET_VARIANCE)
    ),
    "pixels that are not scaled; expected: divided by 255": lambda x: 255 * x,
    "pixels scaled to -1..1; expected: 0..1, divided by 255": lambda x: 2 * x - 255,
}


def _b0_counts(model, reference):
    for title, unit, number, known in (
        ("parameters", " trainable", lambda network: count_parameters(network.trainable_weights), B0_PARAMETERS),
        ("MACs", "", scaling.count_macs, B0_MACS),
    ):
        found, expected = number(model), number(reference)
        hint = f": it looks as if {known[found]}" if found in known else ""
        yield title, found == expected, f"{found:,}{unit}, expected {expected:,}{hint}"


def _b0_initialisation(model, reference):
    """How the new weights start, against the reference's."""
    wrong = {}  # {weight's path: (what is found, the sentences of B0_VARIANCES that explain it)}
    for row in compare_initialisation(model, reference):
        name, weight = row.path.split("/")
        if "kernel" not in weight:
            if row.differs:
                wrong[row.path] = f"{row.path} starts with {row.found:.3g}; expected {row.expected:.3g}", ()
            continue
        *receptive, fan_in, fan_out = row.shape
        fan_in *= math.prod(receptive)
        fan_out *= math.prod(receptive)
        scale = 1 / 3 if name == "predictions" else 2
        expected = math.sqrt(scale / fan_out)
        if row.differs and abs(row.found / expected - 1) > SMALL:
            text = f"{name} starts with standard deviation {row.found:.3f}; expected {expected:.3f}"
            tolerance = max(SMALL, ERRORS / math.sqrt(2 * math.prod(row.shape)))
            variances = {sentence: variance(scale, fan_in, fan_out) for sentence, variance in B0_VARIANCES.items()}
            wrong[name] = text, [each for each in variances if abs(row.found / variances[each] ** 0.5 - 1) <= tolerance]
    # For a depthwise kernel two of the reasons hardly differ: that which explains most kernels comes first.
    common = Counter(sentence for _, reasons in wrong.values() for sentence in reasons)
    kinds = {}
    for name, (text, reasons) in wrong.items():
        likely = max(reasons, key=common.get, default="")
        if likely:
            text += f": it looks as if {likely}"
            if "dwconv" in name and "default" in likely:
                text += " (DepthwiseConv2D needs depthwise_initializer)"
        kinds.setdefault(name.split("_", 1)[-1], text)
    text = "standard deviations of all kernels as expected"
    if wrong:
        subject = "1 weight starts" if len(wrong) == 1 else f"{len(wrong)} weights start"
        text = "\n    ".join([f"{subject} with different values; the first of each kind:", *kinds.values()])
    yield "initialisation", not wrong, text


def _operations(model):
    for operation in model.operations:
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
        else:
            yield operation


def _b0_drop_rates(model, reference):
    """Rates are read from layers that have a number ``rate`` or ``drop_rate``; each is tried on a batch of ones."""
    found = _drop_layers(model)
    rates = [rate for rate, _ in found]
    expected = [rate for rate, _ in _drop_layers(reference)]
    ok = len(rates) == len(expected) and np.allclose(rates, expected, atol=1e-6)
    text = f"{', '.join(f'{rate:.4g}' for rate in rates) or 'none'}"
    if not ok:
        text += f"; expected {', '.join(f'{rate:.4g}' for rate in expected)} (blocks with a skip connection, "
        text += "then the classifier; read from the layers' `rate` or `drop_rate`)"
        if len(rates) < 2:
            text += ": it looks as if there were no stochastic depth"
        elif len(rates) == 9 and np.allclose(rates, expected[:9], atol=1e-6):
            text += ": it looks as if the dropout before the classifier were missing"
        for sentence, rule in B0_RATES.items():
            if len(rates) >= 9 and np.allclose(rates[:9], [rule(block) for block in WITH_SKIP], atol=1e-6):
                text += f": it looks as if {sentence}"
    for rate, layer in found:
        shape = layer.output.shape[1:]
        if len(shape) == 3 and shape[0] > 1:
            result = array(layer(np.ones((8, *shape), "float32"), training=True)).reshape(8, -1)
            if np.ptp(result, axis=1).any():
                ok = False
                text += f"\n    {layer.name} (rate {rate:.4g}) leaves out single numbers; expected: whole images"
                break
            if type(layer.input._keras_history.operation).__name__ == "Add":
                ok = False
                text += f"\n    {layer.name} (rate {rate:.4g}) is after an addition and sets the skip connection "
                text += "to zero, too; expected: before the addition, on the block's branch"
                break
    yield "drop rates", ok, text


def _b0_momentum(model, reference):
    """Of layers that have one; the epsilon shows in the feature maps."""
    found = {operation.momentum for operation in _operations(model) if hasattr(operation, "momentum")}
    (expected,) = {operation.momentum for operation in _operations(reference) if hasattr(operation, "momentum")}
    wrong = sorted(found - {expected})
    text = ", ".join(map(str, sorted(found)))
    if wrong:
        text += f"; expected {expected} in every BatchNormalization, which is Keras's default"
    yield "momentum", not wrong, text


def _drop_layers(model):
    found = []
    for operation in _operations(model):
        rate = getattr(operation, "rate", getattr(operation, "drop_rate", None))
        if isinstance(rate, float) and rate > 0:
            found.append((rate, operation))
    return found


def _is_among(expected, candidates):
    alike = [each for each in candidates if each.shape == expected.shape]
    return any(np.abs(each - expected).max() <= CLOSE * expected.std() for each in alike)


def _values(model, points, images):
    """{name: array} for {name: symbolic tensor}."""
    values = keras.Model(model.input, points)(images, training=False)
    return {name: array(values[name]) for name in points}


def _all_values(model, shapes, images):
    """What the tensors of these shapes between the layers of a model are."""
    # Keras has no public name for these tensors. Those inside a layer, or inside a nested model, are not among them.
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth]
    tensors = [tensor for node in nodes for tensor in node.output_tensors if tensor.shape in shapes]
    return list(_values(model, {str(i): tensor for i, tensor in enumerate(tensors)}, images).values())


def _b0_feature_maps(model, reference):
    """The first feature map of the reference that none of the same shape in the reader's graph is equal to."""
    fill(model, 0)
    fill(reference, 0)
    points = map_outputs(reference)
    names = list(points)
    for layer in reference.layers:
        if layer.name.endswith("project_bn"):
            points[layer.name] = layer.output
    images = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    found = _all_values(model, {tensor.shape for tensor in points.values()}, images)
    output = array(model(images, training=False))
    title = "feature maps"

    seen = None
    for pixels, prepare in B0_PIXELS.items():
        prepared = prepare(images).astype("float32")
        expected = _values(reference, points, prepared)
        if _is_among(expected["stem"], found):
            seen = pixels
            break
    if seen is None:
        text = "the first that differs from the reference's on the same weights is that of the stem"
        yield title, False, f"{text}: check how it scales pixels, its activation and BatchNormalization's epsilon, 1e-3"
        return
    if "expected" in seen:
        yield title, False, f"the stem gets {seen}"
        return
    for name in names:
        branch = expected.get(f"{name}_project_bn")
        place = _activation_too_many(branch, expected[name], found)
        if place is None and _is_among(expected[name], [output] if name == "output" else found):
            continue
        text = f"the first that differs from the reference's on the same weights is that of {name}"
        text += f" (shape {expected[name].shape[1:]})"
        if place is not None:
            text += f": it looks as if there were an activation after {place}"
        elif branch is not None and _is_among(branch, found):
            text += ": it looks as if its skip connection were missing"
        else:
            text += _inside(name, model, reference, images, prepared)
        yield title, False, text
        return
    text = f"{len(names)} compared on the same weights, all equal"
    yield title, True, f"{text}, with {seen}" if seen else text


def _activation_too_many(branch, output, found):
    """After which part of a block the reader has an activation that the reference does not have, or None."""
    if branch is None:
        return None
    for place, value in (("the projection", branch), ("the addition", output)):
        activated = (value / (1 + np.exp(-value)), np.maximum(value, 0), np.clip(value, 0, 6))
        if any(_is_among(each, found) for each in activated):
            return place
    return None


def _inside(name, model, reference, images, prepared):
    """A sentence on the first layer that differs inside a block whose input is right."""
    present = {layer.name: layer.output for layer in reference.layers}
    points = {text: present[f"{name}_{end}"] for end, text in B0_INSIDE.items() if f"{name}_{end}" in present}
    found = _all_values(model, {tensor.shape for tensor in points.values()}, images) if points else []
    values = _values(reference, points, prepared) if points else {}
    order = list(points)
    wrong = next((i for i, text in enumerate(order) if not _is_among(values[text], found)), 0)
    if wrong:
        return f".\n    In this block, {order[wrong - 1]} is right, {order[wrong]} is not"
    if count_parameters(model.trainable_weights) == count_parameters(reference.trainable_weights):
        return ". The parameters are right: check the activations and the order of the layers"
    return ""


def check_classes(build):
    """Whether the function heeds its argument ``classes``."""
    try:
        shape = tuple(build(classes=10).output.shape[1:])
    except Exception as error:
        yield "classes", False, f"with classes=10, the function raised {type(error).__name__}: {error}"
        return
    yield "classes", shape == (10,), f"with classes=10, the output has shape {shape}, expected (10,)"


CHECKS = (_b0_counts, _b0_initialisation, _b0_drop_rates, _b0_momentum, _b0_feature_maps)
