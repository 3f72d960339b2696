"""What a trained network looks at: gradients with respect to the input, and Grad-CAM."""

import keras
import numpy as np

from effnet_utils.transfer import split


def gradient(function, x):
    """The gradient of the sum of a function's outputs with respect to its input; on TensorFlow, JAX and PyTorch.

    Args:
        function: of one tensor; a Keras model inside it is to be called with ``training=False``.
        x: float array.

    Returns:
        float array of the shape of ``x``.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = keras.ops.sum(function(x))
        return tape.gradient(total, x).numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: keras.ops.sum(function(x)))(keras.ops.convert_to_tensor(x)))
    x = keras.ops.convert_to_tensor(x).detach().requires_grad_()
    keras.ops.sum(function(x)).backward()
    return x.grad.cpu().numpy()


def grad_cam(model, images, classes, first="avg_pool"):
    """Grad-CAM: where the evidence for a class is, from a layer's input feature maps weighted by the class's gradient.

    Args:
        model: ``keras.Model`` as ``efficientnet`` builds it, that ends in logits (``classifier_activation=None``).
        images: (n, height, width, 3), pixels 0..255; few, since all go through the network at once.
        classes: integers (n,), the class to explain in each image.
        first: name of the layer, or of the block such as "block6a", whose input feature maps are used. "avg_pool" is
            the paper's choice; there the result is the class activation map of Zhou et al. 2016, up to a factor.

    Returns:
        float32 (n, h, w), at least 0, with the feature maps' height and width.

    Raises:
        ValueError: there is no such layer or block.

    Source: Selvaraju et al. 2017 (arXiv:1610.02391), section 3.
    """
    lower, upper = split(model, first)
    maps = keras.ops.convert_to_numpy(lower(np.asarray(images), training=False))
    chosen = keras.ops.convert_to_tensor(np.eye(model.output_shape[-1], dtype=np.float32)[np.asarray(classes)])
    slopes = gradient(lambda maps: upper(maps, training=False) * chosen, maps)
    return np.maximum((slopes.mean(axis=(1, 2), keepdims=True) * maps).sum(axis=-1), 0)
