"""The exam: right networks pass, and what is wrong with the others is told."""

import inspect
import math
from functools import partial

import keras
import pytest
from keras import layers, ops

from effnet_utils import B0_BLOCKS, BlockArgs, efficientnet
from effnet_utils.blocks import mbconv_block
from effnet_utils.grading import grade
from effnet_utils.scaling import count_macs
from tests._grading import answers
from tests._grading.answers import initialiser, mbconv_plain

pytestmark = pytest.mark.usefixtures("working_folder")  # a grader stores progress there


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
    namespace = dict(vars(answers))
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
