"""Transfer learning: features of a trained network computed once, a linear classifier on them, and fine-tuning."""

import hashlib
import re
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

from effnet_utils._flat import check_flat, check_one_output
from effnet_utils.datasets import check_images, check_labels
from effnet_utils.evaluation import predict_in_batches
from effnet_utils.files import atomic_write

# Images whose features are stored in one file.
CACHED_IMAGES = 5000


def on_upsampled(backbone, image_shape):
    """Upsample small images inside the graph, so that a trained network sees them at the resolution it was trained for.

    Keras's ``Resizing`` would not do: called without ``training=``, it puts all layers after it into training mode.

    Args:
        backbone: ``efficientnet(..., include_top=False, pooling="avg", input_shape=(size, size, 3))``, or a part of it.
        image_shape: (height, width, 3) of the images in memory; the backbone's input size is a multiple of it.

    Returns:
        ``keras.Model`` from images (batch, height, width, 3), pixels 0..255, to features (batch, channels).

    Raises:
        ValueError: the input size is not a multiple of the images' size.
    """
    height, width = backbone.input_shape[1:3]
    if height % image_shape[0] or width % image_shape[1]:
        expected = "expected a network whose input height and width are multiples of the images'"
        raise ValueError(f"images of {image_shape} for a network with inputs of {height}x{width}: {expected}")
    factors = (height // image_shape[0], width // image_shape[1])
    inputs = layers.Input(image_shape)
    x = layers.UpSampling2D(factors, interpolation="bilinear", name="upsampling")(inputs)
    return keras.Model(inputs, backbone(x), name=f"{backbone.name}_{height}")


def extract_features(model, images, cache_dir):
    """Features of all images, computed once: those already in ``cache_dir`` are read from there.

    Each file holds the features of CACHED_IMAGES images; a line is printed for each that is computed. A run that is
    stopped loses one file at most.

    Args:
        model: ``keras.Model`` from images to features, such as ``on_upsampled`` returns.
        images: uint8 (n, height, width, 3), pixels 0..255.
        cache_dir: folder, made if it does not exist. A file's name is a hash of the model's configuration and weights
            and of the images, so that no features are taken for those of something else.

    Returns:
        float32 (n, channels), or (n, height, width, channels) where the model ends in feature maps.

    Raises:
        TypeError, ValueError: as in ``check_images``, or the model has several outputs or layers without a
            configuration.
    """
    check_images(images)
    check_one_output(model)
    cache_dir = Path(cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    network = hashlib.sha256(_configuration(model).encode())
    for weight in model.get_weights():
        network.update(weight.tobytes())
    features = []
    start = time.perf_counter()
    for first in range(0, len(images), CACHED_IMAGES):
        chunk = np.ascontiguousarray(images[first : first + CACHED_IMAGES])
        name = network.copy()
        name.update(str(chunk.shape).encode() + chunk.tobytes())
        path = cache_dir / f"{name.hexdigest()[:32]}.npy"
        if not path.is_file():
            with atomic_write(path) as file:
                np.save(file, predict_in_batches(model, chunk))
            print(f"features of {first + len(chunk):6} of {len(images)} images, {time.perf_counter() - start:4.0f} s")
        features.append(np.load(path))
    return np.concatenate(features)


def _configuration(model):
    """A model's layers and their options as text, the same in every session.

    Keras numbers the names that it makes up ("rescaling_3"), and so each name is replaced by its place in the model.
    """
    try:
        text = model.to_json()
    except NotImplementedError as error:
        raise ValueError(f"{model.name} cannot be described, so its features cannot be kept: {error}") from error
    places = {name: f'"{place}"' for place, name in enumerate(_names(model))}
    return re.sub("|".join(re.escape(f'"{name}"') for name in places), lambda found: places[found[0][1:-1]], text)


def _names(model):
    """The names of a model, its layers and theirs, each once."""
    names = [model.name]
    for layer in model.layers:
        names += _names(layer) if isinstance(layer, keras.Model) else [layer.name]
    return dict.fromkeys(names)


def linear_probe(features, labels, classes):
    """Train a linear classifier on fixed features with AdamW: 15 epochs, but at least 1,000 steps.

    Args:
        features: float32 (n, channels).
        labels: integers (n,), as ``check_labels`` takes them.
        classes: int.

    Returns:
        ``keras.Model`` from features to logits (n, classes); its first layer scales all features alike.
    """
    labels = check_labels(labels, classes)
    # One mean and one deviation: a feature that hardly varies in a few images would be blown up by its own.
    scale = layers.Normalization(axis=None, name="scale")
    scale.adapt(features)
    # Zeros: all classes are equally likely at first.
    dense = layers.Dense(classes, kernel_initializer="zeros", name="predictions")
    probe = keras.Sequential([layers.Input(features.shape[1:]), scale, dense])
    batch_size = 256
    steps = max(1000, 15 * len(features) // batch_size)
    learning_rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=1.0)
    probe.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.integers(len(features), size=batch_size)
        probe.train_on_batch(features[chosen], labels[chosen])
    return probe


def split(backbone, first):
    """Cut a network in two: a lower part that stays fixed, and an upper part to fine-tune.

    Args:
        backbone: what ``efficientnet`` returns.
        first: name of the first block of the second part, such as "block6a", or of its first layer, such as "avg_pool".

    Returns:
        (``keras.Model`` from images to feature maps, ``keras.Model`` from these to the backbone's output); they share
        the layers of ``backbone``.

    Raises:
        ValueError: the model contains a model or has several outputs, or there is no such block.
    """
    check_flat(backbone)
    check_one_output(backbone)
    inside = [layer for layer in backbone.layers if f"{layer.name}_".startswith(f"{first}_")]
    if not inside:
        blocks = sorted({layer.name.split("_")[0] for layer in backbone.layers if layer.name.startswith("block")})
        raise ValueError(f"there is no block {first!r}; blocks: {', '.join(blocks)}")
    cut = inside[0].input
    lower = keras.Model(backbone.input, cut, name=f"{backbone.name}_below_{first}")
    return lower, keras.Model(cut, backbone.output, name=f"{backbone.name}_from_{first}")


def unfreeze(network, first):
    """Make the layers from one on trainable and freeze all others, and every BatchNormalization.

    A frozen BatchNormalization keeps the statistics that it was trained with, and uses them while the rest is trained.
    Calling the network with ``training=False`` does not do that in Keras 3: ``fit`` overrides it.

    Args:
        network: what ``efficientnet`` or ``split`` returns.
        first: beginning of the first layer's name, such as "block6a" for the last two stages and the head.

    Returns:
        int, the number of trainable parameters.

    Raises:
        ValueError: the network contains a model, or no layer's name begins with ``first``.
    """
    check_flat(network)
    names = [layer.name for layer in network.layers]
    start = next((k for k, name in enumerate(names) if name.startswith(first)), None)
    if start is None:
        raise ValueError(f"no layer's name begins with {first!r}; layers: {', '.join(names)}")
    network.trainable = True  # where it is False, the layers' own flags count for nothing
    for k, layer in enumerate(network.layers):
        layer.trainable = k >= start and not isinstance(layer, layers.BatchNormalization)
    return sum(int(np.prod(w.shape)) for w in network.trainable_weights)
