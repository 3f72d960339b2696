"""Right answers to the exercises, written in other ways than the references."""

import math
import statistics

import keras
import numpy as np
from keras import layers, ops

from effnet_utils.blocks import inverted_residual_block, mbconv_block, se_block
from effnet_utils.scaling import round_filters
from effnet_utils.transfer import unfreeze

LAYERS = ("se_block", "inverted_residual_block", "mbconv_block")


def initialiser():
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


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
        layer.trainable = True
    for layer in model.layers:
        if layer.name.startswith(first):
            break
        layer.trainable = False
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def unfreeze_by_switch(model, first):
    """Leaves layers without weights as they are."""
    model.trainable = True
    reached = False
    for layer in model.layers:
        reached = reached or layer.name.startswith(first)
        if layer.weights:
            layer.trainable = reached and "moving_mean" not in {weight.name for weight in layer.weights}


def unfreeze_by_index(model, first):
    model.trainable = True
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
