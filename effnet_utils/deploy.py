"""Deployment: the same network with less to compute."""

from collections import Counter

import keras
import numpy as np
from keras import layers

from effnet_utils._flat import check_flat
from effnet_utils.scaling import layer_calls


def fold_batch_norm(model):
    """Fold BatchNorm: a copy of a trained network in which each convolution includes the BatchNorm that followed it.

    At inference BatchNorm multiplies each channel by one number and adds another, which a convolution can do by itself:
    ``gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta`` is a convolution with different kernels and a bias.
    A ``Normalization`` of the input becomes a ``Rescaling`` by constants: when Keras 3.15 exports the former to ONNX,
    its mean and variance become inputs that a caller would have to pass.

    Args:
        model: flat functional ``keras.Model``, such as ``efficientnet`` returns, in which every BatchNormalization
            follows a convolution without activation whose output nothing else uses.

    Returns:
        ``keras.Model`` for inference with the same inputs and, up to rounding, the same outputs; ready to be exported.

    Raises:
        ValueError: the model is not functional or contains a model, a layer is called more than once, or a
            BatchNormalization cannot be folded; the message names the layer.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3.2.
    """
    norms = _norms_to_fold(model)

    def rebuild(layer):
        if isinstance(layer, layers.Normalization):
            mean, variance = (np.ravel(keras.ops.convert_to_numpy(value)) for value in (layer.mean, layer.variance))
            scale = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())  # as Keras does
            offset = -mean * scale
            return layers.Rescaling(scale.tolist(), offset.tolist(), name=layer.name)
        more = {"use_bias": True} if layer.name in norms else {}
        return type(layer).from_config(layer.get_config() | more)

    def call(layer, inputs, **kwargs):
        return inputs if isinstance(layer, layers.BatchNormalization) else layer(inputs)

    folded = keras.models.clone_model(model, clone_function=rebuild, call_function=call)
    for layer in (layer for layer in folded.layers if layer.weights):
        weights = model.get_layer(layer.name).get_weights()
        if layer.name in norms:
            weights = _fold(weights, norms[layer.name], isinstance(layer, layers.DepthwiseConv2D))
        layer.set_weights(weights)
    folded(folded.input)  # Keras exports only what was called once
    return folded


def _fold(weights, norm, depthwise):
    """[kernel, bias] of a convolution that includes a BatchNormalization."""
    kernel = weights[0]
    bias = weights[1] if len(weights) > 1 else 0
    mean, variance = (keras.ops.convert_to_numpy(value) for value in (norm.moving_mean, norm.moving_variance))
    gamma = keras.ops.convert_to_numpy(norm.gamma) if norm.scale else np.ones_like(mean)
    beta = keras.ops.convert_to_numpy(norm.beta) if norm.center else 0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    # The output channels are a kernel's last axis; those of a depthwise kernel are its last two.
    return [kernel * (scale.reshape(kernel.shape[2:]) if depthwise else scale), beta + (bias - mean) * scale]


def _norms_to_fold(model):
    """{name of a convolution: the BatchNormalization after it}; ValueError for a model that cannot be folded."""
    if isinstance(model, keras.Sequential) or not hasattr(model, "operations"):
        raise ValueError(
            f"{model.name} is a {type(model).__name__}; expected a functional model, keras.Model(inputs, x)"
        )
    check_flat(model)
    for operation in model.operations:
        if isinstance(operation, layers.Normalization) and operation.invert:
            raise ValueError(f"{operation.name} has invert=True; expected a Normalization that subtracts the mean")
    for name, calls in layer_calls(model).items():
        if calls > 1:
            raise ValueError(f"{name} is called more than once; expected a model without shared layers")
    makers = {}
    uses = Counter(id(tensor) for tensor in model.outputs)
    for operation in model.operations:
        makers |= {id(tensor): operation for tensor in keras.tree.flatten(operation.output)}
        uses.update(id(tensor) for tensor in keras.tree.flatten(operation.input))
    norms = {}
    for norm in (layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)):
        before = makers[id(norm.input)]
        convolves = isinstance(before, layers.Conv2D | layers.DepthwiseConv2D)
        if not convolves or before.activation is not keras.activations.linear:
            raise ValueError(f"{norm.name} follows {before.name}; expected a convolution without activation before it")
        if uses[id(norm.input)] > 1:
            raise ValueError(f"the output of {before.name} is used besides {norm.name}; expected it alone")
        if norm.axis not in (-1, 3) or before.data_format != "channels_last":
            raise ValueError(f"{norm.name} has axis {norm.axis}; expected the channels to be the last axis")
        norms[before.name] = norm
    return norms
