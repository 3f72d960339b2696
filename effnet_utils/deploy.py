"""Deployment: the same network with less to compute."""

import keras
import numpy as np
from keras import layers


def fold_batch_norm(model):
    """Fold BatchNorm: a copy of a trained network in which each convolution includes the BatchNorm that followed it.

    At inference BatchNorm multiplies each channel by one number and adds another, which a convolution can do by itself:
    ``gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta`` is a convolution with different kernels and a bias.
    A ``Normalization`` of the input becomes a ``Rescaling`` by constants: when Keras 3.15 exports the former to ONNX,
    its mean and variance become inputs that a caller would have to pass.

    Args:
        model: flat functional ``keras.Model``, such as ``efficientnet`` returns, in which every BatchNormalization
            follows a convolution without activation.

    Returns:
        ``keras.Model`` for inference with the same inputs and, up to rounding, the same outputs.

    Raises:
        ValueError: a BatchNormalization follows something else.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3.2.
    """
    makers = {id(layer.output): layer for layer in model.layers}
    norms = {}
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            before = makers[id(layer.input)]
            plain = isinstance(before, layers.Conv2D | layers.DepthwiseConv2D) and not before.use_bias
            if not plain or before.activation is not keras.activations.linear:
                raise ValueError(
                    f"{layer.name} follows {before.name}; expected a convolution without bias and activation before it"
                )
            norms[before.name] = layer

    def rebuild(layer):
        if isinstance(layer, layers.Normalization):
            mean, variance = (np.ravel(keras.ops.convert_to_numpy(value)) for value in (layer.mean, layer.variance))
            scale = 1 / np.sqrt(variance)
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
            norm = norms[layer.name]
            gamma, beta, mean, variance = norm.get_weights()
            scale = gamma / np.sqrt(variance + norm.epsilon)
            kernel = weights[0] * (scale[:, None] if isinstance(layer, layers.DepthwiseConv2D) else scale)
            weights = [kernel, beta - mean * scale]
        layer.set_weights(weights)
    return folded
