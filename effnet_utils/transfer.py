"""Transfer learning: features of a trained network computed once, a linear classifier on them, and fine-tuning."""

import hashlib
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

from effnet_utils.data import check_images
from effnet_utils.records import whole_file
from effnet_utils.train import outputs


def on_upsampled(backbone, image_shape):
    """The features that a trained network sees in smaller images: upsampling is part of the graph.

    Not by Keras's ``Resizing``: called without ``training=``, it puts all layers after it into training mode.

    Args:
        backbone: ``efficientnet(..., include_top=False, pooling="avg", input_shape=(side, side, 3))``, or a part of it.
        image_shape: (height, width, 3) of the images as they lie in memory; the backbone's sides are multiples of it.

    Returns:
        ``keras.Model`` from images (batch, height, width, 3), pixels 0..255, to features (batch, channels).

    Raises:
        ValueError: a side is no multiple.

    Copy with: nothing.
    """
    sides = backbone.input_shape[1:3]
    if any(side % small for side, small in zip(sides, image_shape, strict=False)):
        raise ValueError(
            f"images of {image_shape} for a network of {sides}: its sides must be multiples of the images'"
        )
    factors = tuple(side // small for side, small in zip(sides, image_shape, strict=False))
    inputs = layers.Input(image_shape)
    x = layers.UpSampling2D(factors, interpolation="bilinear", name="upsampling")(inputs)
    return keras.Model(inputs, backbone(x), name=f"{backbone.name}_{sides[0]}")


def extract_features(model, images, cache_dir, part=5000, batch_size=100):
    """Features of all images, computed once: parts that lie in ``cache_dir`` already are read from there.

    Prints a line for each part that is computed. A run that is stopped loses one part at most.

    Args:
        model: ``keras.Model`` from images to features, such as ``on_upsampled`` returns.
        images: uint8 (n, height, width, 3), pixels 0..255.
        cache_dir: folder, made when it is not there. A file's name is made from the model's weights and input size and
            from the part's pixels, so that nothing is taken for something else.
        part, batch_size: images in a file and in a step.

    Returns:
        float32 (n, channels), or (n, height, width, channels) where the model ends in maps.

    Raises:
        TypeError, ValueError: as in ``check_images``.

    Copy with: check_images, outputs, whole_file.
    """
    check_images(images)
    cache_dir = Path(cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    weights = hashlib.sha256(b"".join([model.name.encode(), *(w.tobytes() for w in model.get_weights())]))
    features, start = [], time.perf_counter()
    for first in range(0, len(images), part):
        chunk = np.ascontiguousarray(images[first : first + part])
        name = weights.copy()
        name.update(str(chunk.shape).encode() + chunk.tobytes())
        path = cache_dir / f"{name.hexdigest()[:32]}.npy"
        if not path.is_file():
            with whole_file(path) as file:
                np.save(file, outputs(model, chunk, batch_size))
            print(f"features of {first + len(chunk):6} of {len(images)} images, {time.perf_counter() - start:4.0f} s")
        features.append(np.load(path))
    return np.concatenate(features)


def linear_probe(features, labels, classes, *, learning_rate=1e-3, weight_decay=1.0, batch_size=256):
    """Train a linear classifier on features that stay as they are: 15 passes over them, but at least 1,000 steps.

    Args:
        features: float32 (n, channels).
        labels: integers (n,).
        classes: int.
        learning_rate: float, at the start; it falls to zero along a cosine.
        weight_decay: float, of AdamW.
        batch_size: int, features in a step, drawn at random.

    Returns:
        ``keras.Model`` from features to logits (n, classes); its first layer scales all features alike.

    Copy with: nothing.
    """
    # One mean and one deviation: a feature that hardly varies in a few images would be blown up by its own.
    scale = layers.Normalization(axis=None, name="scale")
    scale.adapt(features)
    # Zeros: all classes are equally likely at first.
    dense = layers.Dense(classes, kernel_initializer="zeros", name="predictions")
    probe = keras.Sequential([layers.Input(features.shape[1:]), scale, dense])
    steps = max(1000, 15 * len(features) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=weight_decay)
    probe.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.integers(len(features), size=batch_size)
        probe.train_on_batch(features[chosen], labels[chosen])
    return probe


def split(backbone, first):
    """Cut a network in two: what stays as it is, and is computed once, and what is to be fine-tuned.

    Args:
        backbone: what ``efficientnet`` returns.
        first: name of the first block of the second part, such as "block6a", or of its first layer, such as "avg_pool".

    Returns:
        (``keras.Model`` from images to maps, ``keras.Model`` from maps to the backbone's output); they share the layers
        of ``backbone``.

    Raises:
        ValueError: there is no such block.

    Copy with: nothing.
    """
    inside = [layer for layer in backbone.layers if f"{layer.name}_".startswith(f"{first}_")]
    if not inside:
        blocks = sorted({layer.name.split("_")[0] for layer in backbone.layers if layer.name.startswith("block")})
        raise ValueError(f"there is no block {first!r}; blocks: {', '.join(blocks)}")
    cut = inside[0].input
    lower = keras.Model(backbone.input, cut, name=f"{backbone.name}_below_{first}")
    return lower, keras.Model(cut, backbone.output, name=f"{backbone.name}_from_{first}")


def unfreeze(network, first):
    """Let the layers from one on learn, and no others; no BatchNormalization learns, wherever it is.

    A BatchNormalization that may not learn keeps the statistics that it was trained with, and uses them also while the
    rest learns. Calling the network with ``training=False`` does not do that in Keras 3: ``fit`` overrides it.

    Args:
        network: what ``efficientnet`` or ``split`` returns.
        first: beginning of the first layer's name, such as "block6a" for the last two stages and the head.

    Returns:
        int, the number of weights that will learn.

    Raises:
        ValueError: no layer's name begins so.

    Copy with: nothing.
    """
    names = [layer.name for layer in network.layers]
    start = next((k for k, name in enumerate(names) if name.startswith(first)), None)
    if start is None:
        raise ValueError(f"no layer's name begins with {first!r}; layers: {', '.join(names)}")
    for k, layer in enumerate(network.layers):
        layer.trainable = k >= start and not isinstance(layer, layers.BatchNormalization)
    return sum(int(np.prod(w.shape)) for w in network.trainable_weights)
