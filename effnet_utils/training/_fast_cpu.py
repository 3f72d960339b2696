"""A faster training step for TensorFlow on a CPU: the same network and weights, four operations computed otherwise.

Keras computes BatchNormalization's statistics, its output and all their gradients as a chain of elementwise
operations, each of which reads and writes whole feature maps; on a CPU that, not the arithmetic, is most of a step. XLA
would fuse the chains but is slow on convolutions there. Only the training step is affected: prediction, saving and
every other device use the network itself.
"""

import keras
import numpy as np

from effnet_utils.scaling import layer_calls

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    ANY_SHAPE = tf.TensorSpec(None, tf.float32)

    # Compiled by XLA, which is fast where nothing is convolved. Traced once for all shapes.
    @tf.function(jit_compile=True, input_signature=[ANY_SHAPE])
    def _swish_forward(x):
        return x * tf.sigmoid(x)

    @tf.function(jit_compile=True, input_signature=[ANY_SHAPE, ANY_SHAPE])
    def _swish_backward(x, upstream):
        s = tf.sigmoid(x)
        return upstream * s * (1 + x * (1 - s))

    @tf.custom_gradient
    def _swish(x):
        def gradient(upstream):
            return tf.ensure_shape(_swish_backward(x, upstream), x.shape)

        return tf.ensure_shape(_swish_forward(x), x.shape), gradient


def accelerate(network):
    """The network for training: itself, or on TensorFlow's CPU a graph of the same layers with faster operations.

    Args:
        network: ``keras.Model`` as ``efficientnet`` builds it.

    Returns:
        ``keras.Model`` with the weights of ``network`` (shared, not copied) and, up to rounding, the same outputs and
        gradients.
    """
    tensorflow = keras.backend.backend() == "tensorflow"
    if not tensorflow or network.compute_dtype != "float32" or tf.config.list_logical_devices("GPU"):
        return network
    calls = layer_calls(network)
    return keras.models.clone_model(
        network, clone_function=lambda layer: layer if calls[layer.name] > 1 else _faster(layer)
    )


def _faster(layer):
    """The layer in its faster form, where it has only options that the form knows; else the layer itself."""
    if type(layer) is keras.layers.Activation and layer.activation is keras.activations.silu:
        return _Swish(layer)
    forms = {
        keras.layers.BatchNormalization: (_is_usual_norm, _FusedBatchNormalization),
        keras.layers.DepthwiseConv2D: (_is_small_depthwise, _SmallDepthwiseConv2D),
        keras.layers.Conv2D: (_is_pointwise, _PointwiseConv2D),
    }
    if type(layer) not in forms:
        return layer
    is_known, form = forms[type(layer)]
    fixed = len(layer.input.shape) == 4 and None not in layer.input.shape[1:]
    return form(layer) if fixed and is_known(layer) else layer


def _is_usual_norm(layer):
    return layer.scale and layer.center and layer.axis in (-1, 3) and not layer.synchronized


def _is_small_depthwise(layer):
    plain = not layer.use_bias and layer.activation is keras.activations.linear and layer.dilation_rate == (1, 1)
    same = layer.padding == "same" and layer.strides[0] == layer.strides[1]
    usual = plain and same and layer.depth_multiplier == 1 and layer.data_format == "channels_last"
    return usual and max(layer.input.shape[1:3]) < layer.kernel_size[0]


def _is_pointwise(layer):
    one = layer.kernel_size == layer.strides == (1, 1) and layer.groups == 1
    return one and not layer.lora_enabled and layer.data_format == "channels_last"


class _Wrapper(keras.layers.Layer):
    """Computes otherwise what ``layer`` computes; the weights stay the layer's."""

    def __init__(self, layer):
        super().__init__(name=layer.name)
        self.layer = layer
        self.built = True


class _FusedBatchNormalization(_Wrapper):
    """One operation of TensorFlow in place of a dozen."""

    def call(self, inputs, training=None, mask=None):
        bn = self.layer
        if not training or not bn.trainable or mask is not None:
            return bn(inputs, training=training, mask=mask)
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, bn.gamma.value, bn.beta.value, epsilon=bn.epsilon)
        # TensorFlow divides by n - 1 in the variance that it returns, Keras by n.
        n = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
        variance = variance * (n - 1) / n
        bn.moving_mean.assign(bn.moving_mean * bn.momentum + mean * (1 - bn.momentum))
        bn.moving_variance.assign(bn.moving_variance * bn.momentum + variance * (1 - bn.momentum))
        return y


class _Swish(_Wrapper):
    """Swish and its gradient, each one pass over the feature map."""

    def call(self, x):
        return _swish(x)


class _PointwiseConv2D(_Wrapper):
    """A 1x1 convolution as the matrix product that it is."""

    def call(self, x):
        conv = self.layer
        shape = x.shape[1:3]
        kernel = tf.reshape(conv.kernel.value, (-1, conv.filters))
        y = tf.matmul(tf.reshape(x, (-1, x.shape[3])), kernel)
        y = tf.nn.bias_add(y, conv.bias.value) if conv.use_bias else y
        return conv.activation(tf.reshape(y, (-1, *shape, conv.filters)))


class _SmallDepthwiseConv2D(_Wrapper):
    """A depthwise convolution on a feature map that is smaller than the kernel as one matrix product for each channel.

    On 4x4 pixels the matrix has 16 rows and 16 columns, each entry a weight of the kernel or 0 (a Toeplitz matrix).
    TensorFlow's own gradient with respect to the kernel takes several times as long as the rest.
    """

    def call(self, x):
        conv = self.layer
        height, width, channels = x.shape[1:]
        rows, row_fits = _taps(height, conv.kernel_size[0], conv.strides[0])
        columns, column_fits = _taps(width, conv.kernel_size[1], conv.strides[1])
        # [input row, input column, output row, output column], then [input pixel, output pixel]
        index = rows[:, None, :, None] * conv.kernel_size[1] + columns[:, None, :]
        fits = row_fits[:, None, :, None] & column_fits[:, None, :]
        shape = (height * width, -1)
        kernel = tf.reshape(conv.kernel.value, (-1, channels))
        matrices = tf.gather(kernel, index.reshape(shape)) * fits.reshape(*shape, 1).astype(np.float32)
        y = tf.einsum("nic,ioc->noc", tf.reshape(x, (-1, height * width, channels)), matrices)
        return tf.reshape(y, (-1, rows.shape[1], columns.shape[1], channels))


def _taps(length, size, stride):
    """The kernel's element between input position i and output position o, and whether there is one: [i, o]."""
    outputs = -(-length // stride)
    # "same" padding: what is odd goes to the end.
    before = max((outputs - 1) * stride + size - length, 0) // 2
    taps = np.arange(length)[:, None] - np.arange(outputs) * stride + before
    fits = (taps >= 0) & (taps < size)
    return np.where(fits, taps, 0), fits
