"""Prove that efficientnet equals keras.applications, and that a wrong detail would be noticed.

    python -m tools.proof          # about 3 minutes on 2 cores

parity.verify has seven checks; MUTANTS are networks with one mistake each, on which they are tried (mutation tests).
The script writes records/benchmarks/proof.json, from which tools/tables.py makes the README's tables;
tests/test_parity.py runs the same functions and compares their results with that record. TensorFlow only.
"""

import json
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from effnet_utils import B0_BLOCKS, VARIANTS, blocks, efficientnet
from effnet_utils import model as builder
from effnet_utils.experiments.records import environment
from effnet_utils.parity import compare, copy_weights, randomise, verify
from tools.notebooks import ROOT

RECORD = ROOT / "records" / "benchmarks" / "proof.json"
PUBLISHED = [variant for variant in VARIANTS if variant.startswith("b")]
# Odd at every level or not square; B2 and B3 at their own sizes, which are odd inside.
SIZES = [("b0", (33, 33)), ("b0", (65, 65)), ("b0", (96, 64)), ("b2", (260, 260)), ("b3", (300, 300))]


def ours(variant, size=(75, 75), **arguments):
    return efficientnet(variant, input_shape=(*size, 3), classifier_activation=None, **arguments)


def reference(variant, size=(75, 75), **arguments):
    """keras.applications' network with fresh weights, the same ones each time."""
    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, f"EfficientNet{variant.upper()}")
    return build(weights=None, input_shape=(*size, 3), classifier_activation=None, **arguments)


def pixels(size, batch=2):
    return np.random.default_rng(1).integers(0, 256, (batch, *size, 3), dtype=np.uint8)


USUAL = "initial weights, 1e-5"


def usual_test(model, expected):
    """What is often done: copy the initial weights, and ask for logits that are equal within 1e-5."""
    try:
        copy_weights(expected, model)
    except ValueError as error:
        return str(error)
    images = pixels(model.input_shape[1:3])
    a, b = (keras.ops.convert_to_numpy(network(images, training=False)) for network in (model, expected))
    difference = np.abs(a - b).max()
    return "" if difference <= 1e-5 else f"logits differ by {difference:.1g}"


# --- Mutants: networks with one mistake -------------------------------------------------------------------------------


def padded(layer_class, padding=None):
    """A strided convolution with given padding; without one, the left gets as much as the right, as in PyTorch."""

    def make(*arguments, **options):
        layer = layer_class(*arguments, **options)
        if layer.strides[0] == 1:
            return layer
        layer.padding = "valid"
        return lambda x: layer(keras.layers.ZeroPadding2D(padding or layer.kernel_size[0] // 2)(x))

    return make


def wide_se_block(x, squeeze_filters, *, make=blocks.se_block, **options):
    return make(x, x.shape[-1] // 4, **options)


def plain_rounding(filters, width):
    return max(8, int(filters * width + 4) // 8 * 8)


def always_expanding_block(x, args, *, name="", **options):
    """An MBConv block that also expands at ratio 1, where the reference has no expansion."""
    if args.expand_ratio == 1:
        x = keras.layers.Conv2D(args.input_filters, 1, use_bias=False, name=f"{name}expand_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{name}expand_bn")(x)
        x = keras.layers.Activation("swish", name=f"{name}expand_activation")(x)
    return blocks.mbconv_block(x, args, name=name, **options)


def block_with_one_drop_rate(x, args, **options):
    return blocks.mbconv_block(x, args, **{**options, "drop_rate": 0.2})


PADDED = {name: padded(getattr(keras.layers, name)) for name in ("Conv2D", "DepthwiseConv2D")}

# name: (variant, arguments of the builder, what is replaced while it builds)
MUTANTS = {
    "BatchNormalization's epsilon 1e-5": ("b0", {"bn_epsilon": 1e-5}, nullcontext()),
    "symmetric padding": ("b0", {}, mock.patch.multiple(keras.layers, **PADDED)),
    "ReLU for swish": ("b0", {"activation": "relu"}, nullcontext()),
    "squeezed channels from the expanded ones": ("b0", {}, mock.patch.object(blocks, "se_block", wide_se_block)),
    "no 10 % rule (B3)": ("b3", {}, mock.patch.object(builder, "round_filters", plain_rounding)),
    "one drop rate for all blocks": ("b0", {}, mock.patch.object(builder, "mbconv_block", block_with_one_drop_rate)),
    "expansion in the ratio-1 block": ("b0", {}, mock.patch.object(builder, "mbconv_block", always_expanding_block)),
    "no skip connections": ("b0", {"blocks": [replace(stage, id_skip=False) for stage in B0_BLOCKS]}, nullcontext()),
    "Keras's default initialiser in the blocks": (
        "b0", {}, mock.patch.object(blocks, "CONV_INITIALIZER", "glorot_uniform"),
    ),
}  # fmt: skip


def mutant(name, size=(75, 75)):
    variant, arguments, change = MUTANTS[name]
    with change:
        return ours(variant, size, **arguments)


def noticed(name):
    """{check: what it says of a mutant, "" for nothing}: seven checks, and for comparison the usual test."""
    build = partial(mutant, name)
    build_reference = partial(reference, MUTANTS[name][0])
    return verify(build, build_reference) | {USUAL: usual_test(build(), build_reference())}


# --- What is measured -------------------------------------------------------------------------------------------------


def parity(model, expected):
    """Both with random weights: how much was compared, and the largest difference."""
    randomise(expected)
    copy_weights(expected, model)
    rows = compare(expected, model, pixels(model.input_shape[1:3], batch=1)).rows
    difference = max(row.max_difference for row in rows)
    return {"weights": len(model.weights), "maps": len(rows), "max_difference": difference}


def training_step(model, expected):
    """The largest differences between the gradients, and between the moving statistics after one step."""
    randomise(expected)
    copy_weights(expected, model)
    images = pixels(model.input_shape[1:3], batch=4)
    found = {}
    names = ("gradients", "moving statistics")
    for name, a, b in zip(names, _step(model, images), _step(expected, images), strict=True):
        differences = [float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True)]
        found[name] = {"tensors": len(differences), "max_difference": max(differences)}
    return found


def _step(network, images):
    """(gradients, moving statistics) of a step, as arrays."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0  # each network would draw its own
    with tf.GradientTape() as tape:
        logits = network(images, training=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(np.arange(4), logits)
    gradients = tape.gradient(loss, network.trainable_weights)
    moving = [weight for weight in network.non_trainable_weights if weight.name.startswith("moving_")]
    return [[keras.ops.convert_to_numpy(value) for value in values] for values in (gradients, moving)]


def open_size(build):
    """{size: first map of a network built for (None, None, 3) that differs from one built for the size, or None}."""
    opened = build("b0", (None, None), include_top=False)
    randomise(opened)
    found = {}
    for size in ((75, 75), (96, 64)):
        fixed = build("b0", size, include_top=False)
        copy_weights(opened, fixed)
        found[text(size)] = compare(fixed, opened, pixels(size)).first
    return found


def text(size):
    return f"{size[0]}×{size[1]}"


def main():
    record = {"parity": {variant: parity(ours(variant), reference(variant)) for variant in PUBLISHED}}
    record["sizes"] = {
        f"{variant.upper()} at {text(size)}": parity(ours(variant, size), reference(variant, size))
        for variant, size in SIZES
    }
    record["training step"] = training_step(ours("b0"), reference("b0"))
    record["open size"] = {"ours": open_size(ours), "reference": open_size(reference)}
    record["teeth"] = {name: noticed(name) for name in MUTANTS}
    record["environment"] = environment()
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{RECORD}\nthe README's tables of it: make tables")


if __name__ == "__main__":
    main()
