"""The proof that the README quotes: efficientnet equals keras.applications, and a wrong detail does not pass for it.

    python benchmarks/proof.py          # about 2 minutes on 2 cores

CHECKS are six ways to compare two models; MUTANTS are networks with one mistake each. The script writes
records/benchmarks/proof.json and prints the README's tables; tests/test_parity.py runs the same functions and compares
what they find with that record. TensorFlow only.
"""

import json
from contextlib import nullcontext
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from effnet_utils import B0_BLOCKS, VARIANTS, blocks, efficientnet, records
from effnet_utils import model as builder
from effnet_utils.parity import compare, copy_weights, randomise

RECORD = Path(__file__).parents[1] / "records" / "benchmarks" / "proof.json"
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


# --- Six ways to compare a model with another: each says what it noticed, "" for nothing ------------------------------


def parameter_count(model, expected):
    a, b = (sum(int(np.prod(weight.shape)) for weight in net.trainable_weights) for net in (model, expected))
    return "" if a == b else f"{a:,} for {b:,} trainable parameters"


def names_and_shapes(model, expected):
    # The reference's Normalization layer holds three weights that do nothing with weights=None; ours has no such layer.
    a, b = (
        [f"{weight.path} {weight.shape}" for weight in net.weights if not weight.path.startswith("normalization")]
        for net in (model, expected)
    )
    return next((f"{x} for {y}" for x, y in zip_longest(a, b) if x != y), "")


SETTINGS = ("momentum", "epsilon", "strides", "kernel_size", "use_bias", "activation")


def settings(model, expected):
    """Of the layers that both have. Padding is left out: the reference does it by layers of its own."""
    a, b = (
        {
            f"{part.name} {key}": value
            for part in net.layers
            for key, value in part.get_config().items()
            if key in SETTINGS
        }
        for net in (model, expected)
    )
    return next((f"{key} {a[key]} for {b[key]}" for key in a if key in b and a[key] != b[key]), "")


def drop_rates(model, expected):
    a, b = (
        {part.name: round(part.rate, 12) for part in net.layers if isinstance(part, keras.layers.Dropout)}
        for net in (model, expected)
    )
    return next((f"{name}: {a.get(name)} for {b.get(name)}" for name in {**b, **a} if a.get(name) != b.get(name)), "")


def fresh_outputs(model, expected):
    """The usual test: logits of freshly made networks, equal within 1e-5."""
    fresh = {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1, "bias": 0}
    for weight in expected.weights:
        if weight.name in fresh:
            weight.assign(np.full(weight.shape, fresh[weight.name], "float32"))
    try:
        copy_weights(expected, model)
    except ValueError as error:
        return str(error)
    images = pixels(model.input_shape[1:3])
    a, b = (keras.ops.convert_to_numpy(net(images, training=False)) for net in (model, expected))
    return "" if np.abs(a - b).max() <= 1e-5 else f"logits differ by {np.abs(a - b).max():.1g}"


def randomised_maps(model, expected):
    """The strict test: after randomising, every map is equal to the last bit."""
    randomise(expected)
    try:
        copy_weights(expected, model)
    except ValueError as error:
        return str(error)
    return first_difference(compare(expected, model, pixels(model.input_shape[1:3])))


def first_difference(comparison):
    row = next((row for row in comparison.rows if not row.exact), None)
    return f"{row.name}: {row.note or f'differs by {row.max_difference:.1g}'}" if row else ""


CHECKS = {
    "parameter count": parameter_count,
    "names and shapes": names_and_shapes,
    "settings": settings,
    "drop rates": drop_rates,
    "fresh weights, 1e-5": fresh_outputs,
    "random weights, exact": randomised_maps,
}


def noticed(model, expected):
    """{check: what it noticed}."""
    return {name: check(model, expected) for name, check in CHECKS.items()}


# --- Networks with one mistake ----------------------------------------------------------------------------------------


def padded_on_both_sides(layer_class):
    """A strided convolution that pads the left as much as the right, as other frameworks do."""

    def make(*arguments, **options):
        layer = layer_class(*arguments, **options)
        if layer.strides[0] == 1:
            return layer
        layer.padding = "valid"
        return lambda x: layer(keras.layers.ZeroPadding2D(layer.kernel_size[0] // 2)(x))

    return make


def wide_gate(x, squeeze_filters, *, make=blocks.se_block, **options):
    return make(x, x.shape[-1] // 4, **options)


def plain_rounding(filters, width):
    return max(8, int(filters * width + 4) // 8 * 8)


class ExpandsAlways(int):
    """Multiplies as the number it is, but whoever asks whether it is 1 is told that it is not."""

    def __ne__(self, other):
        return True

    __hash__ = int.__hash__


def expanding_block(x, args, **options):
    return blocks.mbconv_block(x, replace(args, expand_ratio=ExpandsAlways(args.expand_ratio)), **options)


def block_with_one_drop_rate(x, args, **options):
    return blocks.mbconv_block(x, args, **{**options, "drop_rate": 0.2})


strided = {name: padded_on_both_sides(getattr(keras.layers, name)) for name in ("Conv2D", "DepthwiseConv2D")}

# name: (variant, arguments of the builder, what is replaced while it builds)
MUTANTS = {
    "BatchNormalization's epsilon 1e-5": ("b0", {"bn_epsilon": 1e-5}, nullcontext()),
    "symmetric padding": ("b0", {}, mock.patch.multiple(keras.layers, **strided)),
    "ReLU for swish": ("b0", {"activation": "relu"}, nullcontext()),
    "gate from the expanded width": ("b0", {}, mock.patch.object(blocks, "se_block", wide_gate)),
    "no 10 % rule (B3)": ("b3", {}, mock.patch.object(builder, "round_filters", plain_rounding)),
    "one drop rate for all blocks": ("b0", {}, mock.patch.object(builder, "mbconv_block", block_with_one_drop_rate)),
    "expansion in the ratio-1 block": ("b0", {}, mock.patch.object(builder, "mbconv_block", expanding_block)),
    "no skip": ("b0", {"blocks": [replace(stage, id_skip=False) for stage in B0_BLOCKS]}, nullcontext()),
}


def mutant(name):
    variant, arguments, change = MUTANTS[name]
    with change:
        return ours(variant, **arguments)


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
    images, found = pixels(model.input_shape[1:3], batch=4), []
    for net in (model, expected):
        for layer in net.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0  # each network would draw its own
        with tf.GradientTape() as tape:
            logits = net(images, training=True)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(np.arange(4), logits)
        gradients = tape.gradient(loss, net.trainable_weights)
        moving = [weight for weight in net.non_trainable_weights if weight.name.startswith("moving_")]
        found.append([[keras.ops.convert_to_numpy(value) for value in values] for values in (gradients, moving)])
    result = {}
    for name, a, b in zip(("gradients", "moving statistics"), *found, strict=True):
        differences = [float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True)]
        result[name] = {"tensors": len(differences), "max_difference": max(differences)}
    return result


def open_size(build):
    """{size: first map of a network built for (None, None, 3) that differs from one built for the size, or None}."""
    opened, found = build("b0", (None, None), include_top=False), {}
    randomise(opened)
    for size in ((75, 75), (96, 64)):
        fixed = build("b0", size, include_top=False)
        copy_weights(opened, fixed)
        found[text(size)] = compare(fixed, opened, pixels(size)).first
    return found


def text(size):
    return f"{size[0]}×{size[1]}"


# --- What the README shows --------------------------------------------------------------------------------------------


def parity_table(record):
    rows = record["parity"]
    lines = [["", *(variant.upper() for variant in rows)], ["---"] * (len(rows) + 1)]
    titles = {"weights": "weight tensors", "maps": "maps, stem to logits", "max_difference": "largest difference"}
    lines += [[title, *(f"{row[key]:g}" for row in rows.values())] for key, title in titles.items()]
    return _table(lines)


def teeth_table(record):
    lines = [["one mistake", *CHECKS], ["---"] * (len(CHECKS) + 1)]
    lines += [[name, *("caught" if said else "–" for said in row.values())] for name, row in record["teeth"].items()]
    return _table(lines)


def sentences(record):
    sizes = ", ".join(f"{name}: {row['max_difference']:g}" for name, row in record["sizes"].items())
    step = ", ".join(
        f"{row['tensors']} {name}: {row['max_difference']:g}" for name, row in record["training step"].items()
    )
    odd, version = record["open size"]["reference"]["75×75"], record["environment"]["keras"]
    fact = f"does not at 75×75: its maps differ from the {odd} on" if odd else "does so too"
    usual, strict = (sum(bool(row[name]) for row in record["teeth"].values()) for name in list(CHECKS)[-2:])
    return [
        f"Largest difference at other sizes: {sizes}.",
        f"After one training step of B0: {step}.",
        f"Built for `(None, None, 3)`, ours gives the maps of the fixed size; the reference of Keras {version} {fact}.",
        f"The usual test, fresh weights and a tolerance of 1e-5, notices {usual} of the {len(record['teeth'])}; "
        f"random weights and exact comparison notice {strict}. Drop rates act in training only.",
    ]


def _table(lines):
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main():
    record = {"parity": {variant: parity(ours(variant), reference(variant)) for variant in PUBLISHED}}
    record["sizes"] = {
        f"{variant.upper()} at {text(size)}": parity(ours(variant, size), reference(variant, size))
        for variant, size in SIZES
    }
    record["training step"] = training_step(ours("b0"), reference("b0"))
    record["open size"] = {"ours": open_size(ours), "reference": open_size(reference)}
    references = {variant: reference(variant) for variant in ("b0", "b3")}
    record["teeth"] = {name: noticed(mutant(name), references[MUTANTS[name][0]]) for name in MUTANTS}
    record["environment"] = records.environment()
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(parity_table(record), *sentences(record), teeth_table(record), RECORD, sep="\n\n")


if __name__ == "__main__":
    main()
