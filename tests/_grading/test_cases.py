"""The graders: right answers pass, however they are written, and wrong ones are refused."""

from functools import partial

import numpy as np
import pytest
from keras import layers, ops

from effnet_utils._grading.cases import GRADERS
from effnet_utils.blocks import BlockArgs
from effnet_utils.grading import grade
from effnet_utils.scaling import compound_coefficients, round_filters
from effnet_utils.transfer import unfreeze
from tests._grading.answers import (
    LAYERS,
    RIGHT,
    cycle_by_interpolation,
    depth_by_binomial,
    fold_by_loop,
    grad_cam_by_loop,
    interval_in_words,
    inverted_by_dense,
    inverted_by_ops,
    mbconv_by_dense,
    mbconv_plain,
    se_by_ops,
    sigmoid,
)

pytestmark = pytest.mark.usefixtures("working_folder")  # a grader stores progress there


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
    ("unfreeze", lambda model, first: setattr(model, "trainable", True), "but no layer's own flag"),
    ("unfreeze", lambda model, first: unfreeze(model, first) and setattr(model, "trainable", False),
     "; all trainable before\n  trainable layers: missing are "),
    ("unfreeze", lambda model, first: [setattr(model, "trainable", True)] and [
        setattr(layer, "trainable", not isinstance(layer, layers.BatchNormalization)) for layer in model.layers
    ], "you made every layer but BatchNormalization trainable, also those before `first`"),
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


@pytest.mark.slow
def test_random_draws_are_not_told_where_the_branch_is_a_different_one():
    message = grade("mbconv_block", mbconv_reader(squeeze=lambda args: args.input_filters)).message
    assert "drop_rate=0.25" in message and "\n  output at inference, " in message
    assert "random draws" not in message and "becomes 0" not in message
