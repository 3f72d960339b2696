"""What a trained network predicts, and how good that is."""

import keras
import numpy as np

from effnet_utils._flat import check_one_output
from effnet_utils.datasets import check_labels, warn_if_scaled


def predict_proba(model, images, batch_size=500):
    """Class probabilities.

    Args:
        model: ``keras.Model`` with one output, logits or a softmax's probabilities, flat or nested.
        images: (n, height, width, channels), pixels 0..255, uint8 or float.
        batch_size: int; bounds the memory.

    Returns:
        float32 (n, classes); rows sum to 1.

    Raises:
        ValueError: the images' shape does not fit the model, or its outputs are neither logits nor a softmax's.

    Warns:
        UserWarning: all pixels are in 0..1.
    """
    is_softmax = ends_in_softmax(model)
    images = np.asarray(images)
    expected = model.input_shape[1:]
    fits = images.ndim == 4 and all(
        size in (None, found) for size, found in zip(expected, images.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(f"images have shape {images.shape}; the model expects (n, {', '.join(map(str, expected))})")
    warn_if_scaled(images)
    values = predict_in_batches(model, images, batch_size)
    if is_softmax:
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def ends_in_softmax(model):
    """Whether a model's outputs are a softmax's probabilities; else they are logits.

    Args:
        model: ``keras.Model`` with one output (n, classes); what makes it may be inside a nested model.

    Returns:
        bool.

    Raises:
        ValueError: several outputs, an output of another shape, or one that is neither logits nor a softmax's.
    """
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(f"{model.name} has outputs of shape {shape}; expected one output (None, classes)")
    last = model
    while isinstance(last, keras.Model):
        last = last.layers[-1] if isinstance(last, keras.Sequential) else last.output._keras_history.operation
    if isinstance(last, keras.layers.Softmax):
        return True
    activation = getattr(last, "activation", None)
    if activation is keras.activations.softmax:
        return True
    if activation is keras.activations.linear:
        return False
    name = f" with activation {activation.__name__!r}" if activation is not None else ""
    raise ValueError(
        f"{model.name} ends in {last.name}, a {type(last).__name__}{name}; expected logits (a Dense layer without "
        "activation) or a softmax. For other outputs use predict_in_batches"
    )


def predict_tta(model, images, batch_size=500):
    """Class probabilities by flip test-time augmentation: the mean over each image and its mirror image.

    Args, Returns, Raises: as ``predict_proba``.
    """
    images = np.asarray(images)
    flipped = images[:, :, ::-1]
    return (predict_proba(model, images, batch_size) + predict_proba(model, flipped, batch_size)) / 2


def predict_in_batches(model, inputs, batch_size=100):
    """What a model outputs for all inputs.

    Args:
        model: ``keras.Model`` with one output.
        inputs: array (n, ...).
        batch_size: int; bounds the memory.

    Returns:
        float32 (n, ...).

    Raises:
        ValueError: the model has several outputs.
    """
    check_one_output(model)
    # By hand, because tf.data's autotuning can delay the end of ``model.predict``.
    parts = [inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size)]
    # Each of several devices computes everything: JAX is told so, and TensorFlow returns the results of one after the
    # other.
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        outputs = [model.predict_on_batch(part)[: len(part)] for part in parts]
    finally:
        keras.distribution.set_distribution(distribution)
    return np.concatenate(outputs).astype(np.float32)


def evaluate(probabilities, labels):
    """Accuracy and loss of predictions.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,), as ``check_labels`` takes them.

    Returns:
        dict: accuracy in 0..1, loss (mean cross-entropy in nats, without label smoothing), per_class (list of the
        accuracies of the classes, None for a class without images).
    """
    labels = _labels_for(probabilities, labels)
    correct = probabilities.argmax(axis=1) == labels
    likelihood = probabilities[np.arange(len(labels)), labels]
    per_class = []
    for label in range(probabilities.shape[1]):
        of_class = correct[labels == label]
        per_class.append(float(of_class.mean()) if len(of_class) else None)
    return {
        "accuracy": float(correct.mean()),
        "loss": float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
        "per_class": per_class,
    }


def _labels_for(probabilities, labels):
    labels = check_labels(labels, np.shape(probabilities)[1])
    if len(labels) != len(probabilities):
        raise ValueError(f"there are {len(probabilities)} predictions and {len(labels)} labels; expected as many")
    return labels


def accuracy_interval(correct, count):
    """The 95 % interval of an accuracy measured on few images (Wilson's): what other images of the kind could give.

    Args:
        correct: int, images that are right.
        count: int > 0, images in all.

    Returns:
        (low, high), fractions in 0..1. Also for 0 and for all correct, where p ± 2 standard errors would have no width.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z = 1.96
    fraction = correct / count
    centre = fraction + z**2 / (2 * count)
    spread = z * np.sqrt(fraction * (1 - fraction) / count + z**2 / (4 * count**2))
    scale = 1 + z**2 / count
    return float((centre - spread) / scale), float((centre + spread) / scale)


def confusion_counts(labels, predicted, classes):
    """How often each class was predicted as each: int (classes, classes), row = true class, column = predicted."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (check_labels(labels, classes), check_labels(predicted, classes)), 1)
    return counts


def reliability(probabilities, labels, bins=15):
    """How often a network is right when it is so confident (calibration), in bins of equal width.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,).
        bins: int; fewer for few images, so that there are some in each.

    Returns:
        (list of dicts with confidence (mean), accuracy (mean) and count of each bin that is not empty;
        expected calibration error, in 0..1: the mean distance of the two, each bin weighted by its count).

    Source: Guo et al. 2017 (arXiv:1706.04599), section 2.
    """
    labels = _labels_for(probabilities, labels)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        inside = bin_of == number
        if inside.any():
            row = {
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(correct[inside].mean()),
                "count": int(inside.sum()),
            }
            rows.append(row)
    error = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / len(labels)
    return rows, float(error)
