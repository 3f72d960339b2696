"""The graders: right answers pass, however they are written; wrong ones are refused, and known mistakes are named."""

import inspect
import json
import math
import os
import statistics
from functools import cache, partial
from itertools import combinations

import keras
import numpy as np
import pytest
from keras import layers, ops

from effnet_utils import B0_BLOCKS, BlockArgs, efficientnet, grading
from effnet_utils._grading.cases import GRADERS
from effnet_utils._grading.mistakes import MISTAKES
from effnet_utils.blocks import inverted_residual_block, mbconv_block, se_block
from effnet_utils.grading import grade
from effnet_utils.scaling import compound_coefficients, count_macs, round_filters
from effnet_utils.transfer import unfreeze

LAYERS = ("se_block", "inverted_residual_block", "mbconv_block")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Progress is stored in the working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def initialiser():
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


# --- Right answers, written in other ways ---------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def tape_gradient(x):
    """By difference quotient, as exact as numbers of 64 bits allow."""
    x = np.asarray(x, "float64")
    step = 1e-5
    return ((x + step) * sigmoid(x + step) - (x - step) * sigmoid(x - step)) / (2 * step)


def cost_by_layer(height, width, in_channels, out_channels, kernel_size, stride=1, groups=1):
    layer = layers.Conv2D(out_channels, kernel_size, stride, padding="same", groups=groups, use_bias=False)
    positions = math.prod(layer(keras.Input((height, width, in_channels))).shape[1:3])
    return [layer.count_params(), positions * layer.count_params()]


def cost_with_other_names(h, w, c_in, c_out, k, stride=1, groups=1):
    weights = k * k * c_in * c_out // groups
    return np.int64(weights), np.int64(weights * -(-h // stride) * -(-w // stride))


def filters_without_minimum(filters, width):
    """The 10 % rule implies the minimum: below 4 the nearest multiple is 0, and 8 is added."""
    nearest = int(filters * width / 8 + 0.5) * 8
    return nearest + 8 if nearest < 0.9 * filters * width else nearest


def filters_by_numpy(c, w):
    nearest = np.maximum(8, np.floor((c * w + 4) / 8) * 8)
    return np.int32(np.where(nearest < 0.9 * c * w, nearest + 8, nearest))[()]


def cycle_by_interpolation(step, total_steps, peak, warmup):
    if warmup == 0:
        return peak * (1 - step / total_steps)
    return np.interp(step, [0, warmup * total_steps, total_steps], [0.1 * peak, peak, 0])


def cycle_by_minimum(step, total, peak, warmup):
    position = step / total
    down = (1 - position) / (1 - warmup)
    return peak * down if warmup == 0 else peak * min(0.1 + 0.9 * position / warmup, down)


def depth_by_binomial(branch, drop_rate, training, rng):
    if not training or drop_rate == 0:
        return branch
    kept = rng.binomial(1, 1 - drop_rate, size=len(branch))
    return branch * kept[:, None, None, None] / (1 - drop_rate)


def depth_by_loop(images, rate, training, rng):
    return [image * ((rng.random() > rate) / (1 - rate) if training else 1) for image in images]


def depth_by_keras(branch, drop_rate, training, rng):
    seed = int(rng.integers(2**31))
    return layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), seed=seed)(branch, training=training)


def se_by_dense(x, squeeze_filters, *, activation="swish", name="se_"):
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(squeeze_filters, activation)(y)
    y = layers.Dense(channels, "sigmoid", name="other")(y)
    return layers.multiply([x, layers.Reshape((1, 1, channels))(y)])


def se_by_ops(x, width, **options):
    y = ops.mean(x, axis=(1, 2), keepdims=True)
    y = keras.activations.get(options.get("activation", "swish"))(layers.Dense(width)(y))
    return x * ops.sigmoid(layers.Dense(x.shape[-1])(y))


def se_without_options(x, squeeze_filters):
    y = layers.AveragePooling2D(x.shape[1:3])(x)
    y = layers.Conv2D(squeeze_filters, 1)(y)
    y = y * ops.sigmoid(y)
    return x * layers.Conv2D(x.shape[-1], (1, 1), activation="sigmoid")(y)


def inverted_by_dense(x, filters, *, expand_ratio=6, kernel_size=3, strides=1, activation="relu6", name=""):
    y = x
    if expand_ratio > 1:
        y = layers.Dense(x.shape[-1] * expand_ratio, use_bias=False)(y)
        y = layers.Activation(activation)(layers.BatchNormalization()(y))
    y = layers.Conv2D(y.shape[-1], kernel_size, strides, padding="same", groups=y.shape[-1], use_bias=False)(y)
    y = layers.Activation(activation)(layers.BatchNormalization()(y))
    y = layers.BatchNormalization()(layers.Dense(filters, use_bias=False)(y))
    return y + x if x.shape == y.shape else y


def inverted_by_ops(x, f, expand_ratio=6, kernel_size=3, strides=1, *, skip=lambda s, same: s == 1 and same):
    y = x
    if expand_ratio != 1:
        y = layers.Conv2D(x.shape[-1] * expand_ratio, [1, 1], use_bias=False, name="a")(y)
        y = ops.relu6(layers.BatchNormalization(name="b")(y))
    y = layers.DepthwiseConv2D([kernel_size, kernel_size], [strides, strides], "same", use_bias=False, name="c")(y)
    y = ops.relu6(layers.BatchNormalization(name="d")(y))
    y = layers.BatchNormalization(name="e")(layers.Conv2D(f, 1, use_bias=False, name="f")(y))
    return layers.add([x, y]) if skip(strides, f == x.shape[-1]) else y


def mbconv_by_dense(x, args, *, activation="swish", drop_rate=0.0, bn_momentum=0.99, bn_epsilon=1e-3, name=""):
    def norm(y):
        return layers.BatchNormalization(momentum=bn_momentum, epsilon=bn_epsilon)(y)

    y = x
    if args.expand_ratio > 1:
        y = layers.Activation(activation)(norm(layers.Dense(x.shape[-1] * args.expand_ratio, use_bias=False)(y)))
    y = layers.DepthwiseConv2D(args.kernel_size, args.strides, "same", use_bias=False)(y)
    y = layers.Activation(activation)(norm(y))
    if args.se_ratio > 0:
        y = se_by_dense(y, int(max(1, args.input_filters * args.se_ratio)), activation=activation)
    y = norm(layers.Dense(args.output_filters, use_bias=False)(y))
    if not args.id_skip or x.shape != y.shape:
        return y
    return x + layers.Dropout(drop_rate, noise_shape=[None, 1, 1, 1])(y)


class StochasticDepth(layers.Layer):
    """Stochastic depth as a layer of its own."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.seeds = keras.random.SeedGenerator()

    def call(self, x, training=False):
        if not training:
            return x
        kept = keras.random.uniform((ops.shape(x)[0], 1, 1, 1), seed=self.seeds) >= self.rate
        return x * ops.cast(kept, x.dtype) / (1 - self.rate)


def mbconv_plain(x, args, drop_rate=0.0, dropped=StochasticDepth, skips=True, init=initialiser):
    """Without the options that B0 does not need; ``dropped``, ``skips`` and ``init`` are for wrong answers."""
    y = x
    if args.expand_ratio != 1:
        y = layers.Conv2D(x.shape[-1] * args.expand_ratio, 1, use_bias=False, kernel_initializer=init())(y)
        y = ops.silu(layers.BatchNormalization()(y))
    options = {"padding": "same", "use_bias": False, "depthwise_initializer": init()}
    y = layers.DepthwiseConv2D(args.kernel_size, args.strides, **options)(y)
    y = ops.silu(layers.BatchNormalization()(y))
    if args.se_ratio:
        w = ops.mean(y, axis=(1, 2), keepdims=True)
        width = max(1, math.floor(args.input_filters * args.se_ratio))
        w = layers.Conv2D(width, 1, activation="silu", kernel_initializer=init())(w)
        y = y * layers.Conv2D(y.shape[-1], 1, activation="sigmoid", kernel_initializer=init())(w)
    y = layers.Conv2D(args.output_filters, 1, use_bias=False, kernel_initializer=init())(y)
    y = layers.BatchNormalization()(y)
    if skips and args.id_skip and args.strides == 1 and x.shape[-1] == y.shape[-1]:
        y = (dropped(drop_rate)(y) if drop_rate else y) + x
    return y


def unfreeze_from_the_top(model, first):
    """Everything trainable, then frozen as far as the first layer, then BatchNormalization."""
    model.trainable = True
    for layer in model.layers:
        if layer.name.startswith(first):
            break
        layer.trainable = False
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def unfreeze_by_switch(model, first):
    """Leaves layers without weights as they are."""
    reached = False
    for layer in model.layers:
        reached = reached or layer.name.startswith(first)
        if layer.weights:
            layer.trainable = reached and "moving_mean" not in {weight.name for weight in layer.weights}


def unfreeze_by_index(model, first):
    names = [layer.name for layer in model.layers]
    (start, *_) = (names.index(name) for name in names if name.startswith(first))
    for layer in model.layers[:start]:
        layer.trainable = False
    for layer in model.layers[start:]:
        layer.trainable = not isinstance(layer, layers.BatchNormalization)
    return model


def grad_cam_by_loop(feature_maps, gradients):
    heat = np.zeros(feature_maps.shape[:2])
    for channel in range(feature_maps.shape[-1]):
        heat += gradients[:, :, channel].mean() * feature_maps[:, :, channel]
    heat[heat < 0] = 0
    return heat


def interval_in_words(changed, base, t):
    """In plain Python, and in place."""
    changed -= base
    n = len(changed)
    mean = sum(changed) / n
    squares = sum((each - mean) ** 2 for each in changed)
    error = (squares / (n - 1) / n) ** 0.5
    return [float(mean - t * error), float(mean + t * error)]


def interval_by_statistics(changed, base, t):
    differences = [one - other for one, other in zip(changed, base, strict=True)]
    width = t * statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.mean(differences) - width, statistics.mean(differences) + width


def fold_by_loop(kernel, gamma, beta, mean, variance, epsilon):
    bias = np.zeros(len(gamma))
    for channel in range(len(gamma)):
        factor = gamma[channel] / math.sqrt(variance[channel] + epsilon)
        kernel[..., channel] *= factor
        bias[channel] = beta[channel] - mean[channel] * factor
    return kernel, bias


def fold_by_layers(kernel, gamma, beta, mean, variance, epsilon):
    """The bias is what BatchNormalization makes of 0."""
    norm = layers.BatchNormalization(epsilon=epsilon)
    norm.build((None, len(gamma)))
    norm.set_weights([gamma, beta, mean, variance])
    bias = norm(np.zeros((1, len(gamma))), training=False)[0]
    rows = kernel.reshape(-1, len(gamma))
    return ops.reshape(norm(rows, training=False) - bias, kernel.shape), bias


RIGHT = {
    "swish": [
        lambda x: x / (1 + ops.exp(-x)),
        keras.activations.swish,
        layers.Activation("silu").call,
        lambda x, beta=1.0: x * ops.sigmoid(beta * x),
        lambda x: x / 2 * (1 + ops.tanh(x / 2)),
    ],
    "swish_gradient": [
        tape_gradient,
        lambda x: x * sigmoid(x) + sigmoid(x) * (1 - x * sigmoid(x)),
        lambda x: ops.sigmoid(x) * (1 + x * ops.sigmoid(-x)),
        lambda x: tape_gradient(x).tolist(),
    ],
    "conv_cost": [
        cost_by_layer,
        cost_with_other_names,
        lambda *sizes, **options: list(cost_with_other_names(*sizes, **options)),
    ],
    "se_block": [se_block, se_by_dense, se_by_ops, se_without_options],
    "inverted_residual_block": [inverted_residual_block, inverted_by_dense, inverted_by_ops],
    "mbconv_block": [mbconv_block, mbconv_by_dense, mbconv_plain],
    "stochastic_depth": [depth_by_binomial, depth_by_loop, depth_by_keras],
    "round_filters": [round_filters, filters_without_minimum, filters_by_numpy],
    "round_repeats": [
        lambda repeats, depth: -int(-repeats * depth // 1),
        lambda r, d: int(np.ceil(r * d)),
        lambda r, d: np.int64(math.ceil(d * r)),
    ],
    "compound_coefficients": [
        lambda phi, alpha=1.2, beta=1.1, gamma=1.15: [alpha**phi, beta**phi, gamma**phi],
        lambda phi, a=1.2, b=1.1, c=1.15: np.array([a, b, c]) ** phi,
        lambda phi, *bases: tuple(math.exp(phi * math.log(base)) for base in bases or (1.2, 1.1, 1.15)),
    ],
    "one_cycle": [cycle_by_interpolation, cycle_by_minimum, lambda *args: np.float32(cycle_by_minimum(*args))],
    "unfreeze": [unfreeze, unfreeze_from_the_top, unfreeze_by_switch, unfreeze_by_index],
    "grad_cam": [
        grad_cam_by_loop,
        lambda maps, slopes: grad_cam_by_loop(maps, slopes).tolist(),
        lambda maps, slopes: ops.relu(ops.sum(ops.mean(slopes, (0, 1)) * maps, -1)),
        lambda maps, slopes: np.einsum("hwc,ijc->hw", maps, slopes / slopes[..., 0].size).clip(0),
    ],
    "paired_interval": [
        interval_in_words,
        interval_by_statistics,
        lambda c, b, t: (c - b).mean() + np.array([-t, t]) * np.std(c - b, ddof=0) / np.sqrt(len(c) - 1),
        lambda c, b, t: ops.stack(interval_in_words(c, b, t)),
    ],
    "fold_batch_norm": [
        fold_by_loop,
        fold_by_layers,
        lambda kernel, gamma, beta, mean, variance, epsilon: (
            (kernel * gamma / (variance + epsilon) ** 0.5).tolist(),
            ops.convert_to_tensor(beta - gamma * mean * (variance + epsilon) ** -0.5),
        ),
    ],
}


SLOW = (*LAYERS, "stochastic_depth")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in RIGHT]
)
def test_right_answers_pass(name):
    assert len(RIGHT[name]) >= 3
    for function in RIGHT[name]:
        report = grade(name, function)
        assert report, report.message
        assert f"{name}: passed. In " in report.message
    assert "passed" in repr(report)


def test_each_grader_makes_fifty_calls_or_sends_fifty_images():
    for name, grader in GRADERS.items():
        cases = [case for case in grader.make_cases() if not case.optional]
        assert name == "b0" or len(cases) >= 50 or sum(case.images for case in cases) >= 50


# --- Wrong answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MISTAKES if name not in LAYERS])
def test_each_known_mistake_is_refused_and_named_alone(name):
    """The mistakes themselves, and so at least six wrong answers for each grader."""
    assert len(MISTAKES[name]) >= 6
    for sentence in MISTAKES[name]:
        report = grade(name, grading._mistaken(name, sentence))
        assert not report
        assert report.message.endswith(f"\nIt looks as if {sentence}."), report.message


@cache
def outcome(name, sentence, number):
    """What a mistake, or the reference for None, gives in a grader's case."""
    case, expected = grading._expected(name)[number]
    return dict(grading._observe(case, grading._mistaken(name, sentence))) if sentence else expected


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_the_known_mistakes_of_a_block_differ_from_the_reference_and_from_each_other(name):
    """So each of them is refused and named alone; the wrong blocks below show the messages."""
    assert len(MISTAKES[name]) >= 14
    for one, other in combinations([None, *MISTAKES[name]], 2):
        numbers = range(len(grading._expected(name)))
        assert not all(grading._equal(outcome(name, one, n), outcome(name, other, n)) for n in numbers), (one, other)


def test_a_mistake_needs_its_right_text_in_the_source(monkeypatch):
    monkeypatch.setitem(MISTAKES["swish"], "nothing", [("no such text", "")])
    with pytest.raises(ValueError, match="'no such text' is not in the source of _swish"):
        grading._mistaken("swish", "nothing")


def depth_every_fifth(branch, drop_rate, training, rng):
    result = np.array(branch)
    if training:
        result[::5] = 0
        result /= 1 - drop_rate
    return result


def depth_exact_count(branch, drop_rate, training, rng):
    """Always the same number of images of a batch, and so never an image that is alone."""
    keep = np.ones(len(branch))
    keep[rng.permutation(len(branch))[: round(drop_rate * len(branch) - 0.01)]] = 0
    return branch * keep[:, None, None, None] / (1 - drop_rate) if training else branch


def mbconv_reader(change=None, squeeze=None):
    """A reader's block whose arguments are changed on the way."""

    def block(x, args, drop_rate=0.0):
        fields = dict(vars(args))
        fields.update(change(args) if change else {})
        if squeeze and args.se_ratio:
            fields["se_ratio"] = (squeeze(args) + 0.5) / args.input_filters
        return mbconv_plain(x, BlockArgs(**fields), drop_rate)

    return block


TABLE = {
    (f, w): round_filters(f, w) for f in (16, 24, 32, 40, 80, 112, 192, 320, 1280) for w in (1.0, 1.1, 1.2, 1.4, 1.6)
}

# Answers that earlier checks let pass, and others that are written in ways of their own: (grader, function, message).
WRONG = [
    ("conv_cost", lambda h, w, i, o, k, stride=1, groups=1: (
        k * k * i * o // groups, k * k * i * o // groups * (h // stride + h % stride) * (w // stride + w % stride)
    ), "the output size were n // s + n % s"),
    ("conv_cost", lambda h, w, i, o, k, stride=1, groups=1: k * k * i * o // groups,
     "\n  results: expected two values (parameters, MACs), found int"),
    ("conv_cost", lambda h, w, i, o, k, stride=1, groups=1: (1, 2, 3),
     "number of results (expected: parameters, MACs): 3"),
    ("conv_cost", lambda h, w, i, o, k: (k * k * i * o, k * k * i * o * h * w), "unexpected keyword argument"),
    ("swish", lambda x: x * np.asarray(ops.sigmoid(x)), "not inside a network: use keras.ops in place of np"),
    ("swish", lambda x: np.maximum(x, 0) * sigmoid(x), "x were cut off at 0 before it is multiplied"),
    ("swish", lambda x, beta=1.0: x * ops.sigmoid(beta**2 * x), "beta were squared"),
    ("swish", lambda x: np.where(x > -1, x * sigmoid(x), 0), "where x is -1."),
    ("swish", lambda x: (x * sigmoid(x)).ravel(), "expected shape"),
    ("round_filters", lambda f, w: round_filters(f, w) > f * w, "the answer to a question"),
    ("round_filters", lambda f, w: TABLE.get((f, w), max(8, int(f * w + 4) // 8 * 8)), "channels: expected"),
    ("round_filters", lambda f, w: float(round_filters(f, w)), "of type float"),
    ("round_filters", lambda f, w: (n := int(f * w + 4) // 8 * 8) + 8 * (f * w > 1.1 * n),
     "round_filters(8, 1.105)\n  channels: expected 8, found 16\nIt looks as if you compared filters * width with 1.1"),
    ("stochastic_depth", lambda b, rate, training, rng: (
        np.ones_like(b) * (rng.random((len(b), 1, 1, 1)) >= rate) / (1 - rate) if training else b
    ), "the mask alone"),
    ("stochastic_depth", lambda b, rate, training, rng: (
        (rng.random((len(b), 1, 1, 1)) >= rate) / (1 - rate) if training else b
    ), "shape of the result: expected (300, "),
    ("stochastic_depth", depth_every_fifth, "you left out every fifth image"),
    ("stochastic_depth", lambda b, rate, training, rng: (
        b * (rng.random((len(b), 1, 1, b.shape[-1])) >= rate) / (1 - rate) if training else b
    ), "found more than one for each image\nIt looks as if you made more than one draw for each image."),
    ("stochastic_depth", lambda b, rate, training, rng: depth_by_binomial(b, rate, training, rng) + training,
     "something else: the change in training is not the branch times one number per image"),
    ("stochastic_depth", depth_exact_count, ", called 100 times\n  random draws: expected one for each image, found "),
    ("stochastic_depth", lambda b, rate, training, rng: depth_by_binomial(b, rate, training, np.random.default_rng(0)),
     "another call leaves out other images: expected True, found False"),
    ("stochastic_depth", lambda b, rate, training, rng: depth_by_binomial(b, 0.2 if rate else 0, training, rng),
     "the branch is multiplied by: expected [0.0, 2.0], found [0.0, 1.25]"),
    ("one_cycle", lambda step, total, peak, warmup: cycle_by_interpolation(step, total, 2 * peak, warmup),
     "learning rate: expected"),
    ("one_cycle", lambda step, total, peak, warmup: peak * min(0.1 + 0.9 * step / (warmup * total), 1),
     "ZeroDivisionError"),
    ("compound_coefficients", lambda phi, a=1.2, b=1.1, c=1.15: (2 ** (phi / 3),) * 3,
     "depth: expected 1.2, found 1.2599"),
    ("compound_coefficients", lambda phi: compound_coefficients(phi), "compound_coefficients(phi, alpha=1.2"),
    ("compound_coefficients", lambda phi, a=1.2, b=1.1, c=1.15: (a, b, c),
     "the first is\n  compound_coefficients(0)\n"),
    ("compound_coefficients", lambda phi, a=1.2, b=1.1, c=1.15: {"depth": a**phi, "width": b**phi},
     "\n  results: expected three values (depth, width, resolution), found dict"),
    ("compound_coefficients", lambda phi, a=1.2, b=1.1, c=1.15: (a**phi, b**phi, int(224 * c**phi + 0.5)),
     "It looks as if you returned the resolution in whole pixels"),
    ("unfreeze", lambda model, first: setattr(model, "trainable", True), "you made every layer trainable"),
    ("unfreeze", lambda model, first: unfreeze(model, first) and setattr(model, "trainable", False),
     "; all trainable before\n  trainable layers: missing are "),
    ("unfreeze", lambda model, first: [setattr(layer, "trainable", "bn" not in layer.name) for layer in model.layers],
     "you made every layer but BatchNormalization trainable, also those before `first`"),
    ("unfreeze", lambda model, first: unfreeze(model, model.get_layer(first).name), "No such layer: block1b"),
    ("unfreeze", lambda model, first: unfreeze(model, model.layers[-1].name), "layers: missing are block"),
    ("grad_cam", lambda maps, slopes: np.abs((maps * slopes.mean((0, 1))).sum(-1)), "you took the absolute value; ex"),
    ("grad_cam", lambda maps, slopes: (h := grad_cam_by_loop(maps, slopes)) / (h.max() + 1e-8), "so that maps can be"),
    ("grad_cam", lambda maps, slopes: np.float32(grad_cam_by_loop(maps, slopes) * 255), "largest difference at ["),
    ("grad_cam", lambda maps, slopes: grad_cam_by_loop(maps, slopes)[..., None], ", 1)"),
    ("grad_cam", lambda maps, slopes: (maps @ slopes.mean((0, 1))).max(), ", found ()"),
    ("paired_interval", lambda c, b, t: t * np.std(c - b, ddof=1) / len(c) ** 0.5,
     "paired_interval(array([0.693, 0.901]), array([0.675, 0.884]), 12.706)\n"
     "  results: expected two values (low, high), found float64"),
    ("paired_interval", lambda c, b, t: interval_in_words(np.sort(c), np.sort(b), t), "low: expected "),
    ("paired_interval", lambda c, b, t: np.percentile(c - b, [2.5, 97.5]), "low: expected "),
    ("paired_interval", lambda c, b, t: interval_in_words(b, c, t), "you subtracted the wrong way round"),
    ("fold_batch_norm", lambda kernel, gamma, beta, mean, variance, epsilon: gamma, "number of results (expected: ker"),
    ("fold_batch_norm", lambda kernel, gamma, beta, mean, variance, epsilon: (
        kernel * (gamma / np.sqrt(variance + epsilon))[:, None], beta - gamma * mean / np.sqrt(variance + epsilon)
    ), "you scaled the inputs of the kernel"),
    ("fold_batch_norm", lambda kernel, gamma, beta, mean, variance, epsilon: fold_by_loop(
        kernel, gamma, np.zeros_like(beta), mean, variance, epsilon
    ), "\n  bias, largest difference at ["),
    ("fold_batch_norm", lambda kernel, gamma, beta, mean, variance: (kernel, beta), "The expected signature is fold_b"),
    ("se_block", lambda x, n: se_by_ops(x, 6 * n), "too many by the expansion ratio"),
    ("se_block", lambda x, n: x + se_by_ops(x, n), "x were multiplied by 1 + weight"),
    ("se_block", lambda x, n: se_by_ops(x, max(1, x.shape[-1] // 4)), "a quarter of the channels of x"),
    ("se_block", lambda x, n: layers.GlobalAveragePooling2D()(x), "output shape: expected"),
    ("se_block", lambda x, n: layers.Conv2D(n), "expected the block's output, a tensor; the function returned Conv2D"),
]  # fmt: skip

# Blocks take seconds each.
WRONG_BLOCKS = [
    ("inverted_residual_block", lambda x, f, expand_ratio=6, kernel_size=3, strides=1: inverted_by_ops(
        x, f, expand_ratio, kernel_size, 1 if expand_ratio == 1 else strides
    ), "output shape"),
    ("inverted_residual_block", partial(inverted_by_ops, skip=lambda s, same: same), "added although the stride is 2"),
    ("inverted_residual_block", partial(inverted_by_ops, skip=lambda s, same: s == 1), "although the channels differ"),
    ("inverted_residual_block", lambda x, f, **options: inverted_by_dense(x, f, **{**options, "activation": "relu"}),
     "the activation were ReLU instead of ReLU6"),
    ("mbconv_block", mbconv_reader(lambda args: {"id_skip": False}), "you left out the skip connection"),
    ("mbconv_block", mbconv_reader(lambda args: {"id_skip": True}), "you ignored id_skip"),
    ("mbconv_block", mbconv_reader(squeeze=lambda args: max(1, args.input_filters // 4)),
     "you always squeezed to a quarter"),
    ("mbconv_block", mbconv_reader(squeeze=lambda args: max(1, round(args.input_filters * args.se_ratio))),
     "rounded the squeezed channels to the nearest number"),
    ("mbconv_block", mbconv_reader(squeeze=lambda args: int(args.input_filters * args.expand_ratio * args.se_ratio)),
     "took the squeezed channels from the expanded channels"),
    ("mbconv_block", lambda x, args, drop_rate=0.0: mbconv_plain(x, args, drop_rate, layers.Dropout),
     "you made more than one draw for each image"),
    ("mbconv_block", lambda x, args, **options: mbconv_by_dense(x, args, **{**options, "activation": "swish"}),
     "you ignored the argument activation"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "message"), WRONG)
def test_wrong_answers_are_refused(name, function, message):
    report = grade(name, function)
    assert not report
    assert message in report.message, report.message


@pytest.mark.slow
@pytest.mark.parametrize(("name", "function", "message"), WRONG_BLOCKS)
def test_wrong_blocks_are_refused(name, function, message):
    test_wrong_answers_are_refused(name, function, message)


# --- What a message says --------------------------------------------------------------------------------------------


def test_the_first_call_that_differs_is_shown_with_its_arguments():
    report = grade("round_filters", lambda filters, width: max(8, int(filters * width + 4) // 8 * 8))
    assert report.message.startswith("round_filters: not yet. ")
    assert " of 135 calls differ; the first is\n  round_filters(16, 1.2)\n" in report.message
    assert "\n  channels: expected 24, found 16\n" in report.message
    assert repr(report) == report.message


def test_a_function_that_works_on_arrays_only_is_told_so_and_nothing_else():
    report = grade("swish", lambda x: x * sigmoid(x))
    assert report.message == (
        "swish: not yet. 1 of 51 calls differ; the first is\n  swish(keras.Input((5,)))\n"
        "  It works on arrays, but not inside a network: use keras.ops in place of np or tf."
    )


def test_missing_weights_are_listed():
    report = grade(
        "se_block", lambda x, n: x * layers.Dense(x.shape[-1], "sigmoid")(ops.mean(x, (1, 2), keepdims=True))
    )
    assert "  trainable parameters: expected" in report.message
    assert "  weights: missing are bias " in report.message


@pytest.mark.slow
def test_random_draws_are_not_told_where_the_branch_is_a_different_one():
    message = grade("mbconv_block", mbconv_reader(squeeze=lambda args: args.input_filters)).message
    assert "drop_rate=0.25" in message and "\n  output at inference, " in message
    assert "random draws" not in message and "becomes 0" not in message


def test_an_exception_is_told_with_its_arguments_and_line():
    def se_block(x, squeeze_filters):
        y = layers.GlobalAveragePooling2D()(x)
        return layers.Reshape((1, 1, squeeze_filters))(y)

    line = se_block.__code__.co_firstlineno + 2
    report = grade("se_block", se_block)
    assert not report
    assert "  Your function raised ValueError: Exception encountered when calling Reshape.call()" in report.message
    assert f"\n  in line {line}: return layers.Reshape((1, 1, squeeze_filters))(y)" in report.message
    assert "the first is\n  se_block(x, " in report.message and ") with x of shape (None, " in report.message


def test_a_graph_without_the_input_is_told():
    report = grade("se_block", lambda x, n: keras.Input((3, 3, 1)))
    assert "Your function raised ValueError" in report.message


def not_written(*arguments, **options):
    """A body that is still to be written."""
    ...


def raises_not_implemented(*arguments, **options):
    raise NotImplementedError


@pytest.mark.parametrize("name", GRADERS)
@pytest.mark.parametrize("function", [not_written, raises_not_implemented, lambda *arguments, **options: ...])
def test_not_written_yet(name, function, folder):
    report = grade(name, function)
    assert not report
    assert report.message.startswith(f"{name}: not written yet; ")
    assert list(folder.iterdir()) == []


def test_a_function_without_result_that_does_nothing_is_told_what_it_should_do():
    report = grade("unfreeze", lambda model, first: None)
    assert report.message == (
        "unfreeze: not written yet; it changes no layer's `trainable`. Write its body in place of `...`."
    )


def test_an_unknown_name_lists_the_graders():
    report = grade("se", se_block)
    assert not report
    assert report.message == f"There is no grader 'se'; there are {', '.join(GRADERS)}."
    assert grade(se_block).message.startswith("There is no grader <function se_block")
    assert grade(["se_block"], se_block).message.startswith("There is no grader ['se_block']; ")


@pytest.mark.parametrize("thing", [24, None, layers.ReLU()])
def test_something_else_than_a_function(thing):
    report = grade("swish", thing)
    assert not report
    assert "expected the function itself, grade('swish', swish); found " in report.message


# --- Progress -------------------------------------------------------------------------------------------------------


def test_progress_counts_tries_until_a_pass(folder):
    grade("round_repeats", lambda repeats, depth: round(repeats * depth))
    assert "06        round_repeats            not yet     1\n" in grade.progress().message
    for _ in range(2):
        grade("round_repeats", lambda repeats, depth: math.ceil(repeats * depth))
    grade("round_repeats", lambda repeats, depth: 0)
    progress = grade.progress()
    assert not progress
    assert "06        round_repeats            yes         2\n" in progress.message
    assert progress.message.endswith(f"1 of {len(GRADERS)} passed")
    assert [path.name for path in folder.iterdir()] == ["progress.json"]


def test_progress_is_true_when_everything_has_passed(folder):
    stored = {name: {"tries": 1, "passed": True} for name in GRADERS}
    (folder / "progress.json").write_text(json.dumps(stored))
    assert grade.progress()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"swish": 3}', '{"swish": {"tries": "many", "passed": true}}', "\xff"]
)
def test_a_damaged_progress_file_is_replaced_with_a_sentence(text, folder):
    (folder / "progress.json").write_text(text, encoding="latin-1")
    assert "progress.json is damaged" in grade.progress().message
    report = grade("swish", keras.activations.swish)
    assert report
    assert "progress.json is damaged; it starts again from nothing." in report.message
    assert json.loads((folder / "progress.json").read_text()) == {"swish": {"tries": 1, "passed": True}}


def test_a_folder_that_cannot_be_written_is_told(monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(grading.tempfile, "NamedTemporaryFile", refuse)
    report = grade("swish", keras.activations.swish)
    assert report
    assert report.message.endswith("Progress is not stored: progress.json can't be written (Permission denied).")


def test_a_progress_file_that_cannot_be_read_is_told(folder):
    (folder / "progress.json").mkdir()
    assert "progress.json can't be read (Is a directory)." in grade.progress().message
    report = grade("swish", keras.activations.swish)
    assert report and report.message.endswith("progress.json can't be replaced (Is a directory).")
    assert os.listdir(folder) == ["progress.json"]


# --- The exam -------------------------------------------------------------------------------------------------------


def b0(
    classes=1000,
    block=mbconv_plain,
    scale=1 / 255,
    rate=lambda number: 0.2 * number / 16,
    init=initialiser,
    top=None,
    dropout=0.2,
    row_as_it_is=(),
    **options,
):
    """B0 as a reader would write it; the options are for wrong answers."""
    bend = ops.silu

    def convolve(x, filters, kernel_size, strides):
        x = layers.Conv2D(filters, kernel_size, strides, "same", use_bias=False, kernel_initializer=init())(x)
        return bend(layers.BatchNormalization()(x))

    inputs = keras.Input((224, 224, 3))
    x = convolve(inputs * scale, 32, 3, 2)
    number = 0
    for row in B0_BLOCKS:
        for repeat in range(row.num_repeat):
            later = {"input_filters": row.output_filters, "strides": 1} if repeat else {}
            args = BlockArgs(**{**vars(row), **{key: later[key] for key in later if key not in row_as_it_is}})
            x = block(x, args, rate(number), init=init, **options)
            number += 1
    x = layers.GlobalAveragePooling2D()(convolve(x, 1280, 1, 1))
    x = layers.Dropout(dropout)(x)
    top = top or keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
    return keras.Model(inputs, layers.Dense(classes, "softmax", kernel_initializer=top)(x))


def nested(x, args, drop_rate, **options):
    """Each block a model of its own."""
    inputs = keras.Input(x.shape[1:])
    return keras.Model(inputs, mbconv_block(inputs, args, drop_rate=drop_rate))(x)


def nested_relu(x, args, drop_rate, **options):
    inputs = keras.Input(x.shape[1:])
    return keras.Model(inputs, mbconv_block(inputs, args, drop_rate=drop_rate, activation="relu"))(x)


def altered(right, wrong):
    """mbconv_plain with a mistake."""
    source = inspect.getsource(mbconv_plain)
    assert right in source
    namespace = dict(globals())
    exec(source.replace(right, wrong), namespace)
    return namespace["mbconv_plain"]


def first_block_only(x, args, drop_rate, **options):
    return mbconv_plain(x, args, drop_rate, **options) if x.shape[-1] != args.output_filters else x


def squeezed_from_expanded(x, args, drop_rate, **options):
    return mbconv_plain(x, BlockArgs(**{**vars(args), "se_ratio": 0.25 * args.expand_ratio}), drop_rate, **options)


def without_se(x, args, drop_rate, **options):
    return mbconv_plain(x, BlockArgs(**{**vars(args), "se_ratio": 0}), drop_rate, **options)


def no_skip_in_4b(x, args, drop_rate, **options):
    return mbconv_plain(x, BlockArgs(**{**vars(args), "id_skip": round(drop_rate, 3) != 0.075}), drop_rate, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        b0,
        lambda: b0(block=nested),
        lambda: efficientnet("b0"),
        lambda classes: efficientnet("b0", classes=classes, preprocessing="imagenet"),
        lambda: b0(dropped=lambda rate: layers.Dropout(rate, noise_shape=(None, 1, 1, 1))),
    ],
)
def test_right_networks_pass(build):
    report = grade("b0", build)
    assert report, report.message
    assert "5,288,548 trainable" in report.message


GLOROT = keras.initializers.GlorotUniform
FAN_IN = partial(keras.initializers.VarianceScaling, 2.0, "fan_in", "truncated_normal")
LAST_NORM = "    y = layers.BatchNormalization()(y)\n    if skips"
DROP = "(dropped(drop_rate)(y) if drop_rate else y) + x"
DEPTHWISE_SWISH = "    y = ops.silu(layers.BatchNormalization()(y))\n    if args.se"
EXPAND = "parameters      wrong  8,423,848 trainable, expected 5,288,548: it looks as if the squeezed channels"
SKIPLESS = (
    "wrong  the first that differs from the reference's on the same weights is that of block2b (shape (56, 56, 24)): "
    "it looks as if its skip connection were missing"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": GLOROT}, "block1a_dwconv starts with standard deviation 0.0"),
        (
            {"init": GLOROT},
            "; expected 0.471: it looks as if this were Keras's default, Glorot uniform (DepthwiseConv2D needs "
            "depthwise_initializer)\n    block1a_se_reduce starts",
        ),
        (
            {"top": GLOROT()},
            "1 weight starts with different values; the first of each kind:\n    predictions starts with standard "
            "deviation 0.030; expected 0.018: it looks as if this were Keras's default, Glorot uniform\n",
        ),
        ({"init": FAN_IN}, "block1a_dwconv starts with standard deviation 0.0"),
        ({"init": FAN_IN}, '; expected 0.471: it looks as if mode were "fan_in"\n'),
        (
            {"block": altered('"depthwise_initializer": init()', '"depthwise_initializer": "glorot_uniform"')},
            "16 weights start with different values; the first of each kind:\n    block1a_dwconv starts",
        ),
        (
            {"row_as_it_is": ("strides",)},
            "78,613,456, expected 385,814,752: it looks as if every block has its stage's",
        ),
        (
            {"row_as_it_is": ("input_filters",)},
            "5,107,006 trainable, expected 5,288,548: it looks as if the later blocks of a stage take their squeezed",
        ),
        (
            {
                "row_as_it_is": ("input_filters",),
                "block": altered("x.shape[-1] * args", "args.input_filters * args"),
            },
            "it looks as if the later blocks of a stage keep the row's input_filters; expected: its output_filters",
        ),
        (
            {"block": altered(LAST_NORM, LAST_NORM.replace("\n", "\n    y = ops.silu(y)\n"))},
            "that of block1a (shape (112, 112, 16)): it looks as if there were an activation after the projection",
        ),
        (
            {"block": altered("+ x\n", "+ x\n        y = ops.relu(y)\n")},
            "that of block2b (shape (56, 56, 24)): it looks as if there were an activation after the addition",
        ),
        (
            {"block": altered('activation="silu"', 'activation="relu"')},
            "that of block1a (shape (112, 112, 16)).\n    In this block, the swish after the depthwise convolution is "
            "right, the SE block (swish, then sigmoid) is not",
        ),
        (
            {"block": altered(DEPTHWISE_SWISH, DEPTHWISE_SWISH.replace("ops.silu", ""))},
            "In this block, the BatchNormalization after the depthwise convolution is right, the swish after the",
        ),
        ({"block": nested_relu}, "The parameters are right: check the activations and the order of the layers"),
        ({"skips": False}, SKIPLESS),
        ({"block": no_skip_in_4b}, "is that of block4b (shape (14, 14, 80)): it looks as if its skip"),
        ({"block": squeezed_from_expanded}, EXPAND),
        ({"block": without_se}, "it looks as if there are no SE blocks"),
        ({"block": first_block_only}, "each stage has one block only, instead of num_repeat blocks"),
        ({"scale": 1.0}, "wrong  the stem gets pixels that are not scaled; expected: divided by 255"),
        ({"scale": 1 / 127.5}, "is that of the stem: check how it scales pixels"),
        ({"rate": lambda number: 0.2}, "it looks as if they are all the same"),
        ({"rate": lambda number: 0.2 * (number + 1) / 16}, "the blocks are counted from 1; the first has drop rate 0"),
        ({"rate": lambda number: 0.2 * number / 15}, "divide by 16, the number of blocks, not by 15"),
        ({"rate": lambda number: 0}, "it looks as if there were no stochastic depth"),
        ({"dropout": 0}, "it looks as if the dropout before the classifier were missing"),
        ({"dropped": layers.Dropout}, "leaves out single numbers; expected: whole images"),
        (
            {"block": altered(DROP, "dropped(drop_rate)(y + x) if drop_rate else y + x")},
            "is after an addition and sets",
        ),
        ({"block": altered("Normalization()", "Normalization(momentum=0.9)")}, "0.9, 0.99; expected 0.99 in every"),
    ],
)
def test_wrong_networks_are_refused(options, message):
    keras.utils.set_random_seed(0)
    report = grade("b0", lambda: b0(**options))
    assert not report
    assert message in report.message, report.message


@pytest.mark.slow
def test_a_small_difference_of_the_initialisation_is_not_reported():
    """Glorot uniform differs by 2 % in the SE block's second layer."""
    message = grade("b0", lambda: b0(init=GLOROT)).message
    assert "se_reduce starts with" in message
    assert "se_expand" not in message


@pytest.mark.slow
def test_the_exam_tries_another_number_of_classes():
    assert "classes         right" in grade("b0", b0).message
    report = grade("b0", lambda classes=1000: b0())
    assert not report
    assert report.message.count("wrong") == 1
    assert "with classes=10, the output has shape (1000,), expected (10,)" in report.message
    assert "the function raised ValueError: only 1000" in grade("b0", only_1000).message


def only_1000(classes=1000):
    if classes != 1000:
        raise ValueError("only 1000")
    return efficientnet("b0")


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
def test_the_exam_finds_a_wrong_epsilon_in_the_first_feature_map(epsilon):
    report = grade("b0", lambda: efficientnet("b0", bn_epsilon=epsilon))
    assert report.message.count("wrong") == 1
    assert (
        "is that of the stem: check how it scales pixels, its activation and BatchNormalization's epsilon"
        in report.message
    )


def test_the_exam_wants_a_functional_model_of_the_right_shapes():
    report = grade("b0", lambda: efficientnet("b0", input_shape=(32, 32, 3), classes=10))
    assert "expected ((None, 224, 224, 3), (None, 1000)), found ((None, 32, 32, 3), (None, 10))" in report.message
    assert "expected a functional keras.Model" in grade("b0", lambda: 3).message
    assert "Your function raised ZeroDivisionError: division by zero\n  in line " in grade("b0", lambda: 1 / 0).message


def test_the_exam_does_not_take_the_model_for_the_function():
    report = grade("b0", keras.Sequential([keras.Input((2,)), layers.Dense(1)]))
    assert "expected the function itself, grade('b0', b0); found Sequential" in report.message


@pytest.mark.slow
def test_the_parameters_of_known_mistakes():
    """The numbers by which the exam knows them."""
    from effnet_utils._grading.exam import B0_PARAMETERS

    blocks = [BlockArgs(**{**vars(row), "num_repeat": 1}) for row in B0_BLOCKS]
    wide = [BlockArgs(**{**vars(row), "se_ratio": 0.25 * row.expand_ratio}) for row in B0_BLOCKS]
    for options in ({"se_ratio": 0.0}, {"blocks": blocks}, {"blocks": wide}, {"include_top": False}):
        model = efficientnet("b0", **options)
        assert sum(math.prod(weight.shape) for weight in model.trainable_weights) in B0_PARAMETERS
    model = efficientnet("b0")
    moving = sum(math.prod(weight.shape) for weight in model.non_trainable_weights)
    assert 5_288_548 + moving // 2 in B0_PARAMETERS, "a bias for each channel that is normalised"
    assert 5_288_548 + 32 * 32 + 2 * 32 in B0_PARAMETERS, "an expansion and its BatchNormalization in block1a"
    assert count_macs(model) == 385_814_752


def twice_softmax():
    model = efficientnet("b0")
    return keras.Model(model.input, ops.softmax(model.output))


def not_a_number():
    model = efficientnet("b0")
    return keras.Model(model.input, model.output * ops.log(-model.output))


@pytest.mark.slow
@pytest.mark.parametrize("build", [twice_softmax, not_a_number])
def test_the_exam_compares_the_output_itself(build):
    """The reference's output is in the graph, but it is not what comes out."""
    report = grade("b0", build)
    assert not report
    assert "on the same weights is that of output (shape (1000,))" in report.message
