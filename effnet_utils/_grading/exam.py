"""The exam: is a reader's model EfficientNet-B0? Each check yields (title, whether it is right, what was found)."""

import math

import keras
import numpy as np

from effnet_utils import scaling
from effnet_utils._grading.cases import array, count, fill
from effnet_utils.model import IMAGENET_MEAN, IMAGENET_VARIANCE
from effnet_utils.parity import compare_initialisation, map_outputs

CLOSE = 1e-4  # largest difference of two feature maps that counts as equal, in standard deviations of the map
B0_PARAMETERS = {
    4_652_008: "there are no SE blocks",
    8_423_848: "the squeezed channels are taken from the expanded channels; expected: from the block's input channels",
    2_859_748: "each stage has one block only, instead of num_repeat blocks",
    4_007_548: "the classifier is missing",
    5_309_556: "the convolutions before a BatchNormalization have a bias",
    5_289_636: "block1a has an expansion, although its expand_ratio is 1",
}
B0_RATES = {
    "they are all the same": lambda block: 0.2,
    "the blocks are counted from 1; the first has drop rate 0": lambda block: 0.2 * (block + 1) / 16,
    "they reach 0.2 at the last block: divide by 16, the number of blocks, not by 15": lambda block: 0.2 * block / 15,
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
    trainable = count(model.trainable_weights)
    expected = count(reference.trainable_weights)
    hint = f": it looks as if {B0_PARAMETERS[trainable]}" if trainable in B0_PARAMETERS else ""
    yield "parameters", trainable == expected, f"{trainable:,} trainable, expected {expected:,}{hint}"
    macs = scaling.count_macs(model)
    expected = scaling.count_macs(reference)
    yield "MACs", macs == expected, f"{macs:,}, expected {expected:,}"


def _b0_initialisation(model, reference):
    """How the new weights start, against the reference's."""
    wrong = []
    for row in compare_initialisation(model, reference):
        if not row.differs:
            continue
        name, weight = row.path.split("/")
        if "kernel" not in weight:
            wrong.append((row.path, f"{row.path} starts with {row.found:.3g}; expected {row.expected:.3g}"))
            continue
        *receptive, fan_in, fan_out = row.shape
        fan_in *= math.prod(receptive)
        fan_out *= math.prod(receptive)
        expected = math.sqrt((1 / 3 if name == "predictions" else 2) / fan_out)
        default = math.sqrt(2 / (fan_in + fan_out))
        why = " from Keras's default, Glorot uniform" if abs(row.found / default - 1) < 0.2 else ""
        if "dwconv" in name and why:
            why += " (DepthwiseConv2D needs depthwise_initializer)"
        wrong.append((name, f"{name} starts with standard deviation {row.found:.3f}{why}; expected {expected:.3f}"))
    kinds = {}
    for name, text in wrong:
        kinds.setdefault(name.split("_", 1)[-1], text)
    text = "standard deviations of all kernels as expected"
    if wrong:
        title = f"initial values of {len(wrong)} weights differ; the first of each kind:"
        text = "\n    ".join([title, *kinds.values()])
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
        text += f"; expected {', '.join(f'{rate:.4g}' for rate in expected)} (blocks with a skip, then the classifier)"
        text += ", by the layers' `rate` or `drop_rate`"
        for sentence, rule in B0_RATES.items():
            with_skip = [rule(block) for block in (2, 4, 6, 7, 9, 10, 12, 13, 14)]
            if len(rates) >= 9 and np.allclose(rates[:9], with_skip, atol=1e-6):
                text += f": it looks as if {sentence}"
    for rate, layer in found:
        shape = layer.output.shape[1:]
        if len(shape) == 3 and shape[0] > 1:
            result = array(layer(np.ones((8, *shape), "float32"), training=True)).reshape(8, -1)
            if np.ptp(result, axis=1).any():
                ok = False
                text += f"\n    {layer.name} (rate {rate:.4g}) leaves out single numbers; expected: whole images"
                break
    yield "drop rates", ok, text


def _drop_layers(model):
    found = []
    for operation in _operations(model):
        rate = getattr(operation, "rate", getattr(operation, "drop_rate", None))
        if isinstance(rate, float) and rate > 0:
            found.append((rate, operation))
    return found


def _b0_feature_maps(model, reference):
    """The first feature map of the reference that none of the same shape in the reader's graph is equal to."""
    fill(model, 0)
    fill(reference, 0)
    points = map_outputs(reference)
    for layer in reference.layers:
        if layer.name.endswith("project_bn"):
            points[layer.name] = layer.output
    shapes = {tensor.shape for tensor in points.values()}
    # Keras has no public name for the tensors between the layers of a graph, nested models included.
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth]
    tensors = [tensor for node in nodes for tensor in node.output_tensors if tensor.shape in shapes]
    images = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype("float32")
    *found, output = keras.Model(model.input, [*tensors, model.output])(images, training=False)
    found = [array(each) for each in found]
    title = "feature maps"

    def is_among(expected, candidates):
        alike = [each for each in candidates if each.shape == expected.shape]
        return any(np.abs(each - expected).max() <= CLOSE * expected.std() for each in alike)

    seen = None
    for pixels, prepare in B0_PIXELS.items():
        outputs = keras.Model(reference.input, points)(prepare(images).astype("float32"), training=False)
        expected = {name: array(value) for name, value in outputs.items()}
        if is_among(expected["stem"], found):
            seen = pixels
            break
    if seen is None:
        text = "the first that differs from the reference's on the same weights is that of the stem"
        yield title, False, f"{text}: check how it scales pixels, its activation and BatchNormalization's epsilon, 1e-3"
        return
    if "expected" in seen:
        yield title, False, f"the stem gets {seen}"
        return
    for name in map_outputs(reference):
        if is_among(expected[name], [array(output)] if name == "output" else found):
            continue
        text = f"the first that differs from the reference's on the same weights is that of {name}"
        branch = f"{name}_project_bn"
        if branch in expected and is_among(expected[branch], found):
            text += ": it looks as if its skip connection were missing"
        yield title, False, f"{text} (shape {expected[name].shape[1:]})"
        return
    text = f"{len(map_outputs(reference))} compared on the same weights, all equal"
    yield title, True, f"{text}, with {seen}" if seen else text


CHECKS = (_b0_counts, _b0_initialisation, _b0_drop_rates, _b0_feature_maps)
