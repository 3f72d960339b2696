"""What a trained network looks at, how far it sees, and how sure it may be."""

import keras
import numpy as np

from effnet_utils.transfer import split


def gradient(function, x):
    """How the sum of what a function returns changes with its input; on TensorFlow, JAX and PyTorch.

    Args:
        function: of one tensor; a Keras model inside it is to be called with ``training=False``.
        x: float array.

    Returns:
        float array of the shape of ``x``.

    Copy with: nothing.
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
    """Where the evidence for a class lies: the maps that enter a layer, weighted by the class's gradient.

    Args:
        model: ``keras.Model`` as ``efficientnet`` builds it, that ends in logits (``classifier_activation=None``).
        images: (n, height, width, 3), pixels 0..255; few, since all go through the network at once.
        classes: integers (n,), the class that is asked for in each image.
        first: the layer, or the block such as "block6a", whose input is looked at. "avg_pool" is the paper's choice;
            there the result is the class activation map of Zhou et al. 2016, up to a factor.

    Returns:
        float32 (n, h, w), at least 0, of the size of the maps.

    Raises:
        ValueError: there is no such layer or block.

    Source: Selvaraju et al. 2017 (arXiv:1610.02391), section 3. Copy with: gradient, split.
    """
    lower, upper = split(model, first)
    maps = keras.ops.convert_to_numpy(lower(np.asarray(images), training=False))
    chosen = keras.ops.convert_to_tensor(np.eye(model.output_shape[-1], dtype=np.float32)[np.asarray(classes)])
    slopes = gradient(lambda maps: upper(maps, training=False) * chosen, maps)
    return np.maximum((slopes.mean(axis=(1, 2), keepdims=True) * maps).sum(axis=-1), 0)


def reliability(probabilities, labels, bins=15):
    """How often a network is right when it is so sure, and how far the two are apart.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,).
        bins: int, of equal width, for the probability of the predicted class.

    Returns:
        (list of dicts with confidence (mean), accuracy (mean) and count of each bin that is not empty;
        expected calibration error, in 0..1: the mean distance of the two, each bin weighted by its count).

    Source: Guo et al. 2017 (arXiv:1706.04599), section 2. Copy with: nothing.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = [
        {"confidence": float(confidence[at].mean()), "accuracy": float(correct[at].mean()), "count": int(at.sum())}
        for at in (place == k for k in range(bins))
        if at.any()
    ]
    error = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / len(labels)
    return rows, float(error)
