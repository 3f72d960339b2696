"""Compound scaling: the rules that turn B0 into B1..B7, and the cost (MACs) of the networks that they make.

Source: Tan and Le 2019 (arXiv:1905.11946), section 3; coefficients and rounding as in the authors' released code.
"""

import math

# (width, depth, resolution in pixels, dropout before the classifier)
VARIANTS = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
    "lite0": (1.0, 1.0, 224, 0.2),
    "lite1": (1.0, 1.1, 240, 0.2),
    "lite2": (1.1, 1.2, 260, 0.3),
    "lite3": (1.2, 1.4, 280, 0.3),
    "lite4": (1.4, 1.8, 300, 0.3),
}

# Stride layouts: the strides of the stem and of the seven stages. At 32x32 pixels the paper's strides leave a feature
# map of one position; the others leave more.
LAYOUTS = {
    "imagenet": (2, 1, 2, 2, 2, 1, 2, 1),
    "cifar": (1, 1, 2, 2, 2, 1, 2, 1),
    "cifar-fast": (2, 1, 1, 2, 2, 1, 2, 1),
    "cifar-fine": (1, 1, 1, 2, 2, 1, 2, 1),
}


def round_filters(filters, width):
    """Number of channels after scaling the width: a multiple of 8, at most 10 % below ``filters * width``.

    Args:
        filters: int, channels in B0.
        width: float > 0, width coefficient.

    Returns:
        int, at least 8.

    Example:
        >>> round_filters(32, 1.4)
        48

    Source: the authors' code; the paper does not mention this rule. Copy with: nothing.
    """
    scaled = filters * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    if rounded < 0.9 * scaled:
        rounded += 8
    return rounded


def round_repeats(repeats, depth):
    """Number of blocks in a stage after scaling the depth: ``repeats * depth``, rounded up.

    Args:
        repeats: int, blocks in B0.
        depth: float > 0, depth coefficient.

    Returns:
        int.

    Example:
        >>> round_repeats(4, 1.1)
        5

    Source: the authors' code. Copy with: nothing.
    """
    return int(math.ceil(depth * repeats))


def compound_coefficients(phi, alpha=1.2, beta=1.1, gamma=1.15):
    """Depth, width and resolution multipliers for the compound coefficient ``phi``.

    The MACs grow by about ``(alpha * beta**2 * gamma**2) ** phi``, which is close to ``2 ** phi`` for the paper's
    values. The released B1..B7 follow a rounded table instead (``VARIANTS``).

    Args:
        phi: float, 0 gives B0.
        alpha, beta, gamma: floats >= 1, for depth, width and resolution.

    Returns:
        (depth, width, resolution), floats.

    Raises:
        ValueError: one of alpha, beta, gamma is below 1.

    Example:
        >>> compound_coefficients(1)
        (1.2, 1.1, 1.15)

    Source: Tan and Le 2019, equation 3. Copy with: nothing.
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if value < 1:
            raise ValueError(f"{name} is {value}; equation 3 of the paper asks for at least 1")
    return alpha**phi, beta**phi, gamma**phi


def layer_calls(model):
    """How often a functional model calls each of its layers: Counter {name: calls}; empty for other models.

    A layer's own list of calls has those of other models, too. Copy with: nothing.
    """
    from collections import Counter

    calls = Counter()
    for nodes in getattr(model, "_nodes_by_depth", {}).values():
        calls.update(node.operation.name for node in nodes)
    return calls


def count_macs(model):
    """Multiply-adds (MACs) of one image through the convolutions and dense layers of a model.

    The paper calls them FLOPS; as floating-point operations there are twice as many. Normalisation, activations,
    additions and pooling are not counted, as in the published figures. Convolutions of one to three dimensions,
    depthwise and grouped ones, and dense layers are counted.

    Args:
        model: built ``keras.Model`` with a fixed input size, flat or nested.

    Returns:
        int.

    Raises:
        ValueError: a layer has no fixed output size, is used more than once, or has weights and is of a kind that this
            function cannot count; the message names it.

    Example:
        >>> from effnet_utils import efficientnet
        >>> f"{count_macs(efficientnet('b0')):,}"
        '385,814,752'

    Copy with: layer_calls.
    """
    from keras import Model, layers  # here, so that the rules above need nothing but Python

    counted = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv2D, layers.Dense)
    not_counted = (
        layers.BatchNormalization,
        layers.LayerNormalization,
        layers.GroupNormalization,
        layers.Normalization,
    )
    calls = layer_calls(model)
    total = 0
    for layer in model.layers:
        if isinstance(layer, Model):
            total += count_macs(layer)
        elif isinstance(layer, counted):
            if calls[layer.name] > 1:
                raise ValueError(f"layer {layer.name} is used {calls[layer.name]} times; expected once")
            positions = layer.output.shape[1:-1]
            if None in positions:
                raise ValueError(
                    f"layer {layer.name} has output {layer.output.shape}: give the model a fixed input size"
                )
            total += math.prod(positions) * math.prod(layer.kernel.shape)
        elif layer.trainable_weights and not isinstance(layer, not_counted):
            raise ValueError(f"layer {layer.name} is a {type(layer).__name__}, whose MACs this function does not know")
    return total
