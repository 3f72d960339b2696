"""The functions that readers write: references, and the calls on which a reader's function is compared with them."""

import copy
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral

import keras
import numpy as np

from effnet_utils import blocks, scaling, transfer
from effnet_utils.blocks import BlockArgs
from effnet_utils.model import efficientnet
from effnet_utils.parity import DRAWS, count_parameters, weights_by_key

ERRORS = 5  # standard errors by which a random number may differ from what is expected
# {number of seeds: the 97.5 % quantile of Student's t for one degree of freedom less}
T_QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}


class NotWritten(Exception):
    """The function returns None or ``...``."""


@dataclass(frozen=True)
class Case:
    """One call: how it reads, and ``observe(function)``, which makes it and yields (what is compared, value)."""

    call: str
    observe: Callable
    images: int = 0  # how many random images go through the layers that it builds
    optional: tuple = ()  # the case is left out for a function that does not take these arguments
    x: np.ndarray | None = None  # the input, where each number of the result belongs to one of its numbers


# --- References that the package does not have elsewhere ------------------------------------------------------------


def _swish(x, beta=1.0):
    return x * keras.ops.sigmoid(beta * x)


def _swish_gradient(x):
    gate = 1 / (1 + np.exp(-x))
    return gate + x * gate * (1 - gate)


def _conv_cost(height, width, in_channels, out_channels, kernel_size, stride=1, groups=1):
    parameters = kernel_size**2 * (in_channels // groups) * out_channels
    out_height = math.ceil(height / stride)
    out_width = math.ceil(width / stride)
    return parameters, out_height * out_width * parameters


def _one_cycle(step, total_steps, peak, warmup):
    warm_steps = warmup * total_steps
    if step < warm_steps:
        return peak * (0.1 + 0.9 * step / warm_steps)
    part = (total_steps - step) / (total_steps - warm_steps)
    return peak * part


def _stochastic_depth(branch, drop_rate, training, rng):
    if not training:
        return branch
    keep = rng.random((len(branch), 1, 1, 1)) >= drop_rate
    return branch * keep / (1 - drop_rate)


def _grad_cam(feature_maps, gradients):
    weights = gradients.mean(axis=(0, 1))
    weighted = weights * feature_maps
    heat = np.maximum(weighted.sum(axis=-1), 0)
    return heat


def _paired_interval(changed, base, t):
    differences = changed - base
    deviation = differences.std(ddof=1)
    half_width = t * deviation / math.sqrt(len(differences))
    mean = differences.mean()
    return mean - half_width, mean + half_width


def _fold_batch_norm(kernel, gamma, beta, mean, variance, epsilon):
    scale = gamma / np.sqrt(variance + epsilon)
    bias = beta - mean * scale
    return kernel * scale, bias


# --- Calls of functions of numbers and arrays -----------------------------------------------------------------------


def array(value):
    """A float array of a number, a tensor, or a sequence of them."""
    if value is None or value is Ellipsis:
        raise NotWritten
    if isinstance(value, (list, tuple)):
        value = [keras.ops.convert_to_numpy(each) if keras.ops.is_tensor(each) else each for each in value]
    return np.asarray(keras.ops.convert_to_numpy(value), "float64")


def _whole(value):
    """An int where it is a whole number of any kind; anything else stays as it is, and will differ."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _call(name, arguments, options):
    shown = [repr(argument) if isinstance(argument, np.ndarray) else str(argument) for argument in arguments]
    parts = [*shown, *(f"{option}={value!r}" for option, value in options.items())]
    return f"{name}({', '.join(parts)})"


def _results_case(name, results, convert, *arguments, **options):
    """A call with numbers or arrays that returns the named ones."""

    def observe(function):
        value = function(*copy.deepcopy(arguments), **options)
        if value is None or value is Ellipsis:
            raise NotWritten
        if len(results) == 1:
            values = [value]
        elif isinstance(value, (dict, set, str)) or not hasattr(value, "__iter__"):
            number = {2: "two", 3: "three"}[len(results)]
            yield "results", f"expected {number} values ({', '.join(results)}), found {type(value).__name__}"
            return
        else:
            values = list(value)
        if len(values) != len(results):
            yield f"number of results (expected: {', '.join(results)})", len(values)
            return
        for result, each in zip(results, values, strict=True):
            yield result, convert(each)

    return Case(_call(name, arguments, options), observe)


def _array_cases(name, betas):
    """Arrays of several shapes with numbers from around 0 to about 30; some with ``beta``."""
    rng = np.random.default_rng(1)
    for number, beta in enumerate([None] * 50 + betas):
        x = rng.normal(0, (0.5, 2, 8)[number % 3], rng.integers(1, 6, number % 4 + 1)).astype("float32")
        if number % 5 == 0:
            x.flat[0] = 0
        options = {} if beta is None else {"beta": beta}

        def observe(function, x=x, options=options):
            yield "result", array(function(x.copy(), **options))

        call = f"{_call(name, ['x'], options)} with x of shape {x.shape}"
        yield Case(call, observe, optional=tuple(options), x=x)


def _swish_cases():
    """Arrays, and then, for a function that is right on an array, the input of a network."""
    yield from _array_cases("swish", [0.0, 0.5, 1.5, 2.0, 10.0])
    x = np.linspace(-3, 3, 5, dtype="float32")
    symbolic = keras.Input(x.shape)

    def observe(function):
        result = array(function(x.copy()))
        if result.shape != x.shape or not np.allclose(result, array(_swish(x)), atol=1e-3):
            return  # the calls with arrays say what is wrong
        try:
            shape = tuple(function(symbolic).shape)
        except Exception:
            yield "It works on arrays, but not inside a network", "use keras.ops in place of np or tf."
        else:
            yield "shape inside a network", str(shape)

    yield Case(f"swish(keras.Input({x.shape}))", observe)


def _conv_cost_cases():
    rng = np.random.default_rng(2)
    for number in range(60):
        sizes = rng.integers(1, 60, 2).tolist()
        in_channels = int(rng.integers(1, 40))
        groups = (1, 1, in_channels)[number % 3]
        arguments = (*sizes, in_channels, groups * int(rng.integers(1, 30)), (1, 3, 5)[number // 3 % 3])
        options = {"stride": int(rng.integers(1, 4)), "groups": groups} if groups > 1 or number % 2 else {}
        yield _results_case("conv_cost", ("parameters", "MACs"), _whole, *arguments, **options)


def _round_filters_cases():
    """The widths of B0..B7, products of 1.1 to 1 / 0.9 times a multiple of 8, one halfway between two, and random ones.

    None is within rounding errors of the 10 % rule's limit.
    """
    rng = np.random.default_rng(3)
    pairs = [(filters, width) for filters in (16, 24, 40, 112, 1280) for width in (1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0)]
    pairs += [(8, 1.105), (16, 1.105), (32, 1.105), (40, 1.3)]
    while len(pairs) < 135:
        pair = (int(rng.integers(1, 40 if len(pairs) % 2 else 400)), int(rng.integers(8, 200)) / 64)
        limit = 0.9 * pair[0] * pair[1]
        if not math.isclose(limit, round(limit / 8) * 8):
            pairs.append(pair)
    for pair in pairs:
        yield _results_case("round_filters", ("channels",), _whole, *pair)


def _round_repeats_cases():
    rng = np.random.default_rng(4)
    pairs = [(repeats, depth) for repeats in (1, 2, 3, 4) for depth in (1.0, 1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1)]
    pairs += [(int(rng.integers(1, 12)), int(rng.integers(1, 30)) / 8) for _ in range(40)]
    for pair in pairs:
        yield _results_case("round_repeats", ("blocks",), _whole, *pair)


def _compound_cases():
    rng = np.random.default_rng(5)
    for number in range(60):
        phi = (0, 1, 2, 0.5, 7)[number] if number < 5 else round(rng.uniform(0, 8), 2)
        bases = [] if number < 5 or number % 3 else rng.uniform(1, 2, 3).round(2).tolist()
        yield _results_case("compound_coefficients", ("depth", "width", "resolution"), array, phi, *bases)


def _one_cycle_cases():
    rng = np.random.default_rng(6)
    for number in range(64):
        total_steps = int(rng.integers(20, 2000))
        warmup = (0.2, 0.0, 0.25, 0.5)[number % 4]
        step = (0, total_steps, round(total_steps * warmup), int(rng.integers(total_steps)))[number // 4 % 4]
        peak = round(rng.uniform(0.001, 1), 3)
        yield _results_case("one_cycle", ("learning rate",), array, step, total_steps, peak, warmup)


def _grad_cam_cases():
    """Feature maps with gradients of both signs. Each result is positive somewhere; every third, everywhere."""
    rng = np.random.default_rng(11)
    for number in range(54):
        shape = (*rng.integers(2, 8, 2).tolist(), int(rng.integers(1, 9)))
        feature_maps = rng.normal(0.5, 1, shape).astype("float32")
        gradients = rng.normal(0.2, 1, shape).astype("float32")
        if number % 3 == 0:
            feature_maps = np.abs(feature_maps)
            gradients += np.float32(2)
        elif _grad_cam(feature_maps, gradients).max() == 0:
            gradients = -gradients

        def observe(function, feature_maps=feature_maps, gradients=gradients):
            yield "result", array(function(feature_maps.copy(), gradients.copy()))

        yield Case(f"grad_cam(feature_maps, gradients) with arrays of shape {shape}", observe)


def _paired_interval_cases():
    """From 2 to 8 seeds, whose accuracy differs more than the change does."""
    rng = np.random.default_rng(12)
    for number in range(56):
        seeds, t = list(T_QUANTILES.items())[number % len(T_QUANTILES)]
        base = rng.uniform(0.6, 0.9, seeds)
        changed = base + rng.normal(0.01, 0.01, seeds)
        accuracies = (changed.round(3), base.round(3))
        yield _results_case("paired_interval", ("low", "high"), array, *accuracies, t)


def _fold_batch_norm_cases():
    """Kernels with as many inputs as outputs, and others; variances below epsilon and above it."""
    rng = np.random.default_rng(13)
    for number in range(54):
        inputs = int(rng.integers(1, 6))
        outputs = inputs if number % 3 == 0 else int(rng.integers(1, 6))
        shape = (*rng.choice([1, 2, 3, 5], 2).tolist(), inputs, outputs)
        kernel = rng.normal(0, 1, shape)
        gamma = rng.uniform(0.5, 2, outputs)
        beta, mean = rng.normal(0, 1, (2, outputs))
        variance = rng.uniform(0.01, 2, outputs)
        epsilon = (1e-3, 1e-5, 0.1)[number // 3 % 3]
        arrays = [values.astype("float32") for values in (kernel, gamma, beta, mean, variance)]
        case = _results_case("fold_batch_norm", ("kernel", "bias"), array, *arrays, epsilon)
        call = f"fold_batch_norm(kernel, gamma, beta, mean, variance, {epsilon}) with a kernel of shape {shape}"
        yield replace(case, call=call)


# --- Stochastic depth -----------------------------------------------------------------------------------------------


def _draws(change, branch, rate):
    """By what the branch of each image was multiplied in training, as far as it does not depend on chance.

    ``change`` was added to the input in training; ``branch`` would be added without stochastic depth.
    """
    what = "random draws"
    axes = tuple(range(1, branch.ndim))
    factors = np.sum(change * branch, axes, keepdims=True) / np.sum(branch**2, axes, keepdims=True)
    if np.abs(change - factors * branch).max() > 1e-3 * np.abs(branch).max():
        large = np.abs(branch) > 0.05 * np.abs(branch).max()
        ratios = change[large] / branch[large]
        each = np.minimum(np.abs(ratios), np.abs(ratios - 1 / (1 - rate))).max() < 1e-2
        other = "something else: the change in training is not the branch times one number per image"
        yield what, "more than one for each image" if each else other
        return
    values = sorted({abs(round(float(factor), 2)) for factor in factors.flat})
    if len(values) == 1:
        yield what, "none: no image is left out" if values == [1] else "one for the whole batch"
        return
    fraction = float(np.mean(np.abs(factors) < 1e-3))
    for candidate in (rate, 1 - rate):
        if abs(fraction - candidate) <= ERRORS * math.sqrt(rate * (1 - rate) / len(branch)):
            fraction = candidate
            break
    yield what, "one for each image"
    yield "the branch is multiplied by", str(values) if len(values) < 4 else "many different numbers"
    yield "fraction of images left out", round(fraction, 2)


def _stochastic_depth_cases():
    """A third at inference; some with drop rate 0; two with 100 calls of one image each."""
    rng = np.random.default_rng(7)
    for number in range(54):
        training = number % 3 > 0
        rate = (0.2, 0.5, 0.35, 0.1, 0.0)[number % 5]
        alone = number in (22, 40)
        branch = rng.normal(0.5, 1, (100 if alone else 300, *rng.integers(2, 5, 3))).astype("float32")
        batches = np.split(branch, len(branch)) if alone else [branch]

        def observe(function, branch=branch, batches=batches, rate=rate, training=training):
            results = []
            for seed in (0, 1):
                rng = np.random.default_rng(seed)
                results.append(np.concatenate([array(function(each.copy(), rate, training, rng)) for each in batches]))
            yield "shape of the result", results[0].shape
            if results[0].shape != branch.shape:
                return
            if not training or rate == 0:
                yield "result", results[0]
                return
            yield from _draws(results[0], branch, rate)
            yield "another call leaves out other images", bool(np.any((results[0] == 0) != (results[1] == 0)))

        call = f"stochastic_depth(branch, {rate}, {training}, rng) with a branch of shape {batches[0].shape}"
        if alone:
            call += f", called {len(batches)} times"
        yield Case(call, observe)


# --- Calls of functions that build layers ---------------------------------------------------------------------------


def fill(model, seed):
    """Give all weights random values that depend on the seed and on their key in ``weights_by_key`` only."""
    for key, weight in weights_by_key(model).items():
        role, shape, _ = key
        rng = np.random.default_rng([seed, zlib.crc32(str(key).encode())])
        # Kernels keep the size of the numbers that go through them.
        fan = max(1, math.prod(shape) // shape[-1]) if shape else 1
        draw = DRAWS.get(role, lambda rng, shape, fan=fan: rng.normal(0, fan**-0.5, shape))
        weight.assign(draw(rng, weight.shape))


def _build(function, size, channels, arguments, options):
    inputs = keras.Input((*size, channels))
    outputs = function(inputs, *arguments, **options)
    if outputs is None or outputs is Ellipsis:
        raise NotWritten
    if not isinstance(outputs, keras.KerasTensor):
        raise TypeError(f"expected the block's output, a tensor; the function returned {type(outputs).__name__}")
    return keras.Model(inputs, outputs)


def _layer_case(name, seed, size, channels, *arguments, optional=(), **options):
    """A call that builds layers, and a batch of images through them, at inference and in training.

    Where a drop rate is given, the draws of stochastic depth are compared in place of the output in training; but not
    where the output at inference already differs, since then the branch is a different one.
    """
    rate = options.get("drop_rate")
    images = np.random.default_rng(seed).normal(0.5, 2, (64 if rate else 4, *size, channels)).astype("float32")

    def observe(function):
        model = _build(function, size, channels, arguments, options)
        yield "output shape", tuple(model.output.shape[1:])
        yield "trainable parameters", count_parameters(model.trainable_weights)
        yield "non-trainable parameters", count_parameters(model.non_trainable_weights)
        weights = weights_by_key(model)
        yield "weights", sorted(f"{role} {'×'.join(map(str, shape)) or 1}" for role, shape, _ in weights)
        fill(model, seed)
        inference = array(model(images, training=False))
        yield "output at inference", inference
        if name == "se_block":
            return  # it computes the same in training
        result = array(model(images, training=True))
        if not rate:
            yield "output in training", result
        else:
            without = _build(blocks.mbconv_block, size, channels, arguments, {**options, "drop_rate": 0.0})
            fill(without, seed)
            expected = array(without(images, training=False))
            if inference.shape == expected.shape and np.abs(inference - expected).max() < 1e-3 * np.abs(expected).max():
                skip = images if any("Add" in type(layer).__name__ for layer in without.layers) else 0
                yield from _draws(result - skip, array(without(images, training=True)) - skip, rate)
                yield "an image becomes 0 everywhere", bool(np.any(np.all(result == 0, axis=(1, 2, 3))))
        for (role, shape, number), weight in weights.items():
            if "bn_momentum" in optional and role.startswith("moving"):
                yield f"{role} ({shape[0]} channels, number {number + 1}) after a training step", array(weight)

    text = f"{_call(name, ['x', *arguments], options)} with x of shape {(None, *size, channels)}"
    return Case(text, observe, len(images), optional)


def _se_block_cases():
    """16 models with 4 images each, of odd and even sizes."""
    rng = np.random.default_rng(8)
    for seed in range(16):
        size = tuple(rng.integers(1, 8, 2).tolist())
        options = {"activation": ("relu", "tanh")[seed % 2]} if seed > 13 else {}
        squeeze_filters = int(rng.integers(1, 7))
        channels = int(rng.integers(2, 34))
        yield _layer_case("se_block", seed, size, channels, squeeze_filters, optional=tuple(options), **options)


def _shapes(rng, seed):
    """(image size, channels in, channels out, expand_ratio, kernel_size, strides); half of them allow a skip."""
    size = tuple(rng.integers(3, 9, 2).tolist())
    channels = int(rng.integers(3, 12))
    filters = channels + seed % 2 * int(rng.integers(1, 6))
    strides = 2 if seed % 4 == 3 or seed % 8 == 4 else 1
    return size, channels, filters, (6, 1, 4)[seed % 3], (3, 5)[seed // 2 % 2], strides


def _inverted_residual_cases():
    """14 models with 4 images each."""
    rng = np.random.default_rng(9)
    for seed in range(14):
        size, channels, filters, expand_ratio, kernel_size, strides = _shapes(rng, seed)
        options = {"expand_ratio": expand_ratio, "kernel_size": kernel_size, "strides": strides} if seed else {}
        extra = {"activation": "tanh"} if seed == 13 else {}
        yield _layer_case(
            "inverted_residual_block", seed, size, channels, filters, optional=tuple(extra), **options, **extra
        )


def _mbconv_cases():
    """11 models with 4 images each, and 5 with 64 images and a drop rate; for two of these it has no effect."""
    rng = np.random.default_rng(10)
    for seed in range(16):
        size, channels, filters, expand_ratio, kernel_size, strides = _shapes(rng, seed)
        args = BlockArgs(kernel_size, 1 + seed % 3, channels, filters, expand_ratio, strides=strides)
        args = replace(args, se_ratio=(0.25, 0.25, 0.5, 0.1, 0.0)[seed % 5], id_skip=seed != 6)
        options = {"drop_rate": 0.25} if seed in (0, 4, 5, 8, 14) else {}
        extra = {9: {"bn_momentum": 0.7}, 10: {"bn_epsilon": 0.1}, 11: {"activation": "relu"}}.get(seed, {})
        yield _layer_case("mbconv_block", seed, size, channels, args, optional=tuple(extra), **options, **extra)


# --- Layers that are to be trained ----------------------------------------------------------------------------------


def _random_model(rng):
    """A flat model of convolutions, Dense layers and BatchNormalization, with names such as block1a_conv.

    Not every BatchNormalization is called bn: that has to be seen from its class.
    """
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3, name="stem_conv")(inputs)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    for stage in range(1, int(rng.integers(3, 5))):
        for letter in "ab"[: rng.integers(1, 3)]:
            block = f"block{stage}{letter}"
            units = int(rng.integers(2, 6))
            if rng.random() < 0.7:
                x = keras.layers.Conv2D(units, 1, use_bias=False, name=f"{block}_conv")(x)
            else:
                x = keras.layers.Dense(units, name=f"{block}_dense")(x)
            x = keras.layers.BatchNormalization(name=f"{block}_{'bn' if letter == 'a' else 'norm'}")(x)
            x = keras.layers.ReLU(name=f"{block}_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="predictions")(x))


def _set_trainable(model, trainable, exceptions=()):
    """Make a model and all its layers trainable or not, but for the layers of some names."""
    model.trainable = trainable
    for layer in model.layers:
        layer.trainable = trainable != (layer.name in exceptions)


def _changes_nothing(function, model, first):
    """Whether a function leaves both a trainable and a frozen model as it is."""
    for trainable in (True, False):
        _set_trainable(model, trainable)
        function(model, first)
        if any(layer.trainable != trainable for layer in model.layers):
            return False
    return True


def _unfreeze_cases():
    """9 models and two names for each; at first all layers are trainable, or all are frozen, or some of them.

    A model that is frozen at first is so itself, too, as after ``model.trainable = False``: a right answer begins
    with ``model.trainable = True``, without which its layers' flags have no effect. TensorFlow ignores that line where
    it is True already, as when fine-tuning goes on from more blocks: then each layer has to be set, too.
    """
    rng = np.random.default_rng(14)
    for number in range(18):
        if number % 2 == 0:
            model = _random_model(rng)
        names = [layer.name for layer in model.layers if layer.weights]
        # The beginning of the name of a layer, of a block and of a stage.
        place = int(rng.integers(2, len(names)))
        first = (names[place].split("_")[0], "stem", "predictions", names[place], "block2")[number % 5]
        some = [name for name in names if rng.random() < 0.5]
        call = f"unfreeze(model, {first!r}) with the layers {', '.join(names)}"
        for text, trainable, exceptions in (
            ("all trainable before", True, []),
            ("frozen before by model.trainable = False", False, []),
            (f"all trainable before, but for {', '.join(some)}", True, some),
        ):

            def observe(function, model=model, first=first, before=(trainable, exceptions), is_first=number == 0):
                if is_first and _changes_nothing(function, model, first):
                    raise NotWritten
                _set_trainable(model, *before)
                function(model, first)
                yield "trainable layers", [layer.name for layer in model.layers if layer.weights and layer.trainable]
                yield "model.trainable", model.trainable

            yield Case(f"{call}; {text}", observe)


# --- All graders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grader:
    """What a reader is asked to write, and the cases on which it is compared with the reference."""

    notebook: str
    signature: str
    reference: Callable
    make_cases: Callable
    unwritten: str = "it returns nothing. Write its body in place of `...`, and end it with `return`"


BLOCK = 'x, args, *, activation="swish", drop_rate=0.0, bn_momentum=0.99, bn_epsilon=1e-3, name=""'
INVERTED = 'x, filters, *, expand_ratio=6, kernel_size=3, strides=1, activation="relu6", name=""'
SE_BLOCK = 'x, squeeze_filters, *, activation="swish", name="se_"'
COMPOUND = "phi, alpha=1.2, beta=1.1, gamma=1.15"
CONVOLUTION = "height, width, in_channels, out_channels, kernel_size, stride=1, groups=1"
FOLD = "kernel, gamma, beta, mean, variance, epsilon"
UNCHANGED = "it changes no layer's `trainable`. Write its body in place of `...`"
# In the order of the notebooks.
GRADERS = {
    "swish": Grader("01", "x", _swish, _swish_cases),
    "swish_gradient": Grader("01", "x", _swish_gradient, partial(_array_cases, "swish_gradient", [])),
    "se_block": Grader("02", SE_BLOCK, blocks.se_block, _se_block_cases),
    "conv_cost": Grader("03", CONVOLUTION, _conv_cost, _conv_cost_cases),
    "inverted_residual_block": Grader("03", INVERTED, blocks.inverted_residual_block, _inverted_residual_cases),
    "stochastic_depth": Grader("04", "branch, drop_rate, training, rng", _stochastic_depth, _stochastic_depth_cases),
    "mbconv_block": Grader("04", BLOCK, blocks.mbconv_block, _mbconv_cases),
    "b0": Grader("05", "classes=1000", efficientnet, tuple),
    "compound_coefficients": Grader("06", COMPOUND, scaling.compound_coefficients, _compound_cases),
    "round_repeats": Grader("06", "repeats, depth", scaling.round_repeats, _round_repeats_cases),
    "round_filters": Grader("06", "filters, width", scaling.round_filters, _round_filters_cases),
    "one_cycle": Grader("07", "step, total_steps, peak, warmup", _one_cycle, _one_cycle_cases),
    "unfreeze": Grader("08", "model, first", transfer.unfreeze, _unfreeze_cases, UNCHANGED),
    "grad_cam": Grader("09", "feature_maps, gradients", _grad_cam, _grad_cam_cases),
    "paired_interval": Grader("10", "changed, base, t", _paired_interval, _paired_interval_cases),
    "fold_batch_norm": Grader("11", FOLD, _fold_batch_norm, _fold_batch_norm_cases),
}
