"""The parts of EfficientNet: swish, squeeze-and-excitation, the inverted residual block and MBConv.

Everything here is plain Keras 3 and channels-last. Each function can be copied out of this file; the line
``Copy with:`` of its docstring names what it needs beside it.

Sources: Ramachandran et al. 2017 (swish, arXiv:1710.05941); Hu et al. 2018 (squeeze-and-excitation,
arXiv:1709.01507); Sandler et al. 2018 (inverted residual, arXiv:1801.04381); Tan and Le 2019 (EfficientNet,
arXiv:1905.11946, section 4).
"""

from dataclasses import dataclass

import keras
from keras import layers

# Initialisation: normal with variance 2 / fan_out, as in the reference code. A dict, so that each layer draws its own
# values: one initializer object shared by two layers of the same shape would give both the same weights.
CONV_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}


def swish(x):
    """Swish with beta = 1 (also called SiLU): ``x * sigmoid(x)``.

    Args:
        x: float tensor of any shape.

    Returns:
        Tensor of the shape and dtype of ``x``; values from about -0.278 upwards.

    Example:
        >>> [round(float(y), 3) for y in swish(keras.ops.array([-1.0, 0.0, 1.0]))]
        [-0.269, 0.0, 0.731]

    Source: Ramachandran et al. 2017, section 3. Copy with: nothing.
    """
    return x * keras.ops.sigmoid(x)


def se_block(x, squeeze_filters, *, activation="swish", name="se_"):
    """Squeeze-and-excitation (channel attention): multiply each channel by a weight computed from all channels.

    Args:
        x: float tensor (batch, height, width, channels).
        squeeze_filters: int >= 1, squeezed channels (the bottleneck). SENet takes channels / 16; EfficientNet takes
            a quarter of the channels that enter the MBConv block, before expansion.
        activation: of the bottleneck; the gate at the end is always a sigmoid.
        name: prefix of the layers' names.

    Returns:
        Tensor of the shape of ``x``: ``x`` times its channel weights, numbers in 0..1 for each image and channel.

    Raises:
        ValueError: ``squeeze_filters`` is below 1.

    Example:
        >>> se_block(keras.Input((8, 8, 64)), squeeze_filters=4).shape
        (None, 8, 8, 64)

    Source: Hu et al. 2018, section 3. Copy with: CONV_INITIALIZER.
    """
    if squeeze_filters < 1:
        raise ValueError(f"squeeze_filters is {squeeze_filters}; it must be at least 1")
    channels = x.shape[-1]
    squeezed = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}squeeze")(x)
    reduced = layers.Conv2D(
        squeeze_filters, 1, activation=activation, kernel_initializer=CONV_INITIALIZER, name=f"{name}reduce"
    )(squeezed)
    channel_weights = layers.Conv2D(
        channels, 1, activation="sigmoid", kernel_initializer=CONV_INITIALIZER, name=f"{name}expand"
    )(reduced)
    return layers.Multiply(name=f"{name}excite")([x, channel_weights])


def inverted_residual_block(x, filters, *, expand_ratio=6, kernel_size=3, strides=1, activation="relu6", name=""):
    """Inverted residual with linear bottleneck, MobileNetV2's block: expand, filter each channel, project, add.

    Expansion and projection are 1x1 convolutions; between them a depthwise convolution filters each channel by itself.

    Args:
        x: float tensor (batch, height, width, channels).
        filters: int, channels of the output.
        expand_ratio: int >= 1, expanded channels / input channels; 1 leaves the expansion out.
        kernel_size: int, height and width of the depthwise kernel.
        strides: 1 or 2, of the depthwise convolution.
        activation: after expansion and after the depthwise convolution, never after the projection.
        name: prefix of the layers' names.

    Returns:
        Tensor (batch, ceil(height / strides), ceil(width / strides), filters). The input is added to it (skip
        connection) where both have the same shape: ``strides=1`` and ``filters`` equal to the input's channels.

    Example:
        >>> inverted_residual_block(keras.Input((8, 8, 16)), filters=24, strides=2).shape
        (None, 4, 4, 24)

    Source: Sandler et al. 2018, section 3 and table 1. Copy with: CONV_INITIALIZER.
    """
    inputs = x
    channels = x.shape[-1]
    if expand_ratio != 1:
        x = layers.Conv2D(
            channels * expand_ratio, 1, use_bias=False, kernel_initializer=CONV_INITIALIZER, name=f"{name}expand_conv"
        )(x)
        x = layers.BatchNormalization(name=f"{name}expand_bn")(x)
        x = layers.Activation(activation, name=f"{name}expand_activation")(x)
    x = layers.DepthwiseConv2D(
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=CONV_INITIALIZER,
        name=f"{name}dwconv",
    )(x)
    x = layers.BatchNormalization(name=f"{name}bn")(x)
    x = layers.Activation(activation, name=f"{name}activation")(x)
    x = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=CONV_INITIALIZER, name=f"{name}project_conv")(x)
    x = layers.BatchNormalization(name=f"{name}project_bn")(x)
    if strides == 1 and channels == filters:
        x = layers.Add(name=f"{name}add")([x, inputs])
    return x


@dataclass(frozen=True)
class BlockArgs:
    """One stage of an EfficientNet: a row of the paper's table 1.

    A stage is ``num_repeat`` MBConv blocks. The first has ``input_filters`` input channels and ``strides``; the others
    have ``output_filters`` input channels and stride 1. ``se_ratio`` is the SE block's squeezed channels divided by the
    block's input channels; 0 means no SE block. ``id_skip=False`` leaves out the skip connection. Copy with: nothing.
    """

    kernel_size: int
    num_repeat: int
    input_filters: int
    output_filters: int
    expand_ratio: int
    id_skip: bool = True
    strides: int = 1
    se_ratio: float = 0.25


def mbconv_block(x, args, *, activation="swish", drop_rate=0.0, bn_momentum=0.99, bn_epsilon=1e-3, name=""):
    """One MBConv block: an inverted residual with squeeze-and-excitation and stochastic depth.

    Args:
        x: float tensor (batch, height, width, args.input_filters).
        args: BlockArgs; ``num_repeat`` is not used here.
        activation: after expansion, after the depthwise convolution and in the SE block's bottleneck.
        drop_rate: 0 <= rate < 1, stochastic depth (drop connect): the fraction of images for which training skips the
            block; has no effect on a block without a skip connection.
        bn_momentum, bn_epsilon: of every BatchNormalization.
        name: prefix of the layers' names.

    Returns:
        Tensor (batch, ceil(height / strides), ceil(width / strides), args.output_filters).

    Raises:
        ValueError: ``x`` does not have ``args.input_filters`` channels.

    Example:
        >>> args = BlockArgs(5, num_repeat=2, input_filters=24, output_filters=40, expand_ratio=6, strides=2)
        >>> mbconv_block(keras.Input((56, 56, 24)), args).shape
        (None, 28, 28, 40)

    Source: Tan and Le 2019, section 4; names and order of the layers as in ``keras.applications``.
    Copy with: BlockArgs, se_block, CONV_INITIALIZER.
    """
    if x.shape[-1] != args.input_filters:
        raise ValueError(f"the input has {x.shape[-1]} channels, but args.input_filters is {args.input_filters}")

    def norm(y, suffix):
        return layers.BatchNormalization(momentum=bn_momentum, epsilon=bn_epsilon, name=f"{name}{suffix}")(y)

    inputs = x
    if args.expand_ratio != 1:
        x = layers.Conv2D(
            args.input_filters * args.expand_ratio, 1, use_bias=False,
            kernel_initializer=CONV_INITIALIZER, name=f"{name}expand_conv",
        )(x)  # fmt: skip
        x = norm(x, "expand_bn")
        x = layers.Activation(activation, name=f"{name}expand_activation")(x)

    x = layers.DepthwiseConv2D(
        args.kernel_size, args.strides, padding="same", use_bias=False,
        depthwise_initializer=CONV_INITIALIZER, name=f"{name}dwconv",
    )(x)  # fmt: skip
    x = norm(x, "bn")
    x = layers.Activation(activation, name=f"{name}activation")(x)

    if args.se_ratio:
        squeeze_filters = max(1, int(args.input_filters * args.se_ratio))
        x = se_block(x, squeeze_filters, activation=activation, name=f"{name}se_")

    x = layers.Conv2D(
        args.output_filters, 1, use_bias=False, kernel_initializer=CONV_INITIALIZER, name=f"{name}project_conv"
    )(x)
    x = norm(x, "project_bn")
    if args.id_skip and args.strides == 1 and args.input_filters == args.output_filters:
        if drop_rate > 0:
            # One draw per image: the whole block is kept (and scaled up) or left out.
            x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}drop")(x)
        x = layers.Add(name=f"{name}add")([x, inputs])
    return x
