"""What a trained network looks at (Grad-CAM), and what its SE blocks and its residual blocks do."""

import keras
import numpy as np

from effnet_utils._flat import check_flat, check_one_output
from effnet_utils.datasets import (
    CIFAR10_CLASSES,
    TOY_CLASSES,
    check_labels,
    load_cifar10,
    load_image_dir,
    load_toy,
    resize,
)
from effnet_utils.evaluation import predict_in_batches
from effnet_utils.transfer import split

# --- Any classifier, any images -------------------------------------------------------------------------------------


def with_logits(model):
    """The same classifier without the softmax at its end: gradients of a probability vanish where it is near 1.

    Args:
        model: flat EfficientNet classifier, such as ``classifier.load_classifier`` reads; it is not changed.

    Returns:
        ``keras.Model`` that ends in logits and shares all other layers.

    Raises:
        ValueError: not an EfficientNet, or it ends in something else than logits or a softmax.
    """
    check_flat(model)
    check_one_output(model)
    missing = {"top_activation", "avg_pool"} - {layer.name for layer in model.layers}
    if missing:
        raise ValueError(
            f"the model has no layer {' and no layer '.join(sorted(missing))}; expected an EfficientNet, its layers "
            "named as by effnet_utils and keras.applications"
        )
    last = model.layers[-1]
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax):
        return keras.Model(model.input, last.input)
    if activation is keras.activations.linear:
        return model
    if activation is not keras.activations.softmax:
        raise ValueError(f"the model's last layer, {last.name!r}, gives neither logits nor a softmax's probabilities")
    linear = type(last).from_config(last.get_config() | {"activation": "linear"})
    model = keras.Model(model.input, linear(last.input))
    linear.set_weights(last.get_weights())
    return model


def images_for(model, class_names, dataset="toy", data_dir="data", image_dir="", limit=0, seed=0):
    """Test images at a classifier's input size, in random order, and their labels as the classifier numbers them.

    Args:
        model: ``keras.Model`` from square images (batch, size, size, 3) to one output for each class.
        class_names: strings, one for each output.
        dataset: "toy" or "cifar10": its test images, resized where the model takes another size.
        data_dir: of CIFAR-10, as in ``datasets.load_cifar10``.
        image_dir: folder with one subfolder for each class, in place of the dataset; some classes may be missing.
            Files that cannot be read are printed and left out.
        limit: int, at most so many images; 0 is all.
        seed: int, of the order.

    Returns:
        images uint8 (n, size, size, 3), labels int64 (n,).

    Raises:
        ValueError: the model's input is not square, or the images are of classes that the model does not know.
    """
    height, width, channels = model.input_shape[1:]
    if height is None or height != width or channels != 3:
        raise ValueError(f"the model takes images of shape {model.input_shape[1:]}; expected (size, size, 3)")
    if image_dir:
        images, labels, found, left_out = load_image_dir(image_dir, height)
        unknown = sorted(set(found) - set(class_names))
        if unknown:
            raise ValueError(
                f"image_dir has the folders {', '.join(unknown)}, which are no classes of the model; rename or move "
                f"them. Its classes: {', '.join(class_names)}"
            )
        labels = np.array([list(class_names).index(name) for name in found])[labels]
        for line in left_out:
            print("left out:", line)
    else:
        known = {"toy": TOY_CLASSES, "cifar10": CIFAR10_CLASSES}[dataset]
        if list(class_names) != list(known):
            raise ValueError(
                f"the model's classes are {', '.join(class_names)}; those of dataset={dataset!r} are "
                f"{', '.join(known)}. Choose another dataset, or set image_dir to a folder of images of your classes"
            )
        images, labels = load_toy()[1] if dataset == "toy" else load_cifar10(data_dir)[1]
    chosen = np.random.default_rng(seed).permutation(len(images))[: limit or None]
    images = images[chosen]
    if images.shape[1] != height:
        images = resize(images, height)
    return images, labels[chosen].astype(np.int64)


# --- Where does it look? --------------------------------------------------------------------------------------------


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
    feature_maps = keras.ops.convert_to_numpy(lower(np.asarray(images), training=False)).astype(np.float32)
    chosen = keras.ops.convert_to_tensor(np.eye(model.output_shape[-1], dtype=np.float32)[np.asarray(classes)])
    gradients = gradient(lambda maps: upper(maps, training=False) * chosen, feature_maps)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    return np.maximum((weights * feature_maps).sum(axis=-1), 0)


# --- What do the blocks do? -----------------------------------------------------------------------------------------


def se_weights(model, images):
    """The channel weights that each SE block computes for each image.

    Args:
        model: what ``efficientnet`` or ``keras.applications`` builds.
        images: (n, height, width, 3), pixels 0..255.

    Returns:
        dict {block: float32 (n, channels) in 0..1}, in the network's order; empty where there are no SE blocks.

    Raises:
        ValueError: the model contains a model.
    """
    check_flat(model)
    expands = [layer for layer in model.layers if layer.name.endswith("_se_expand")]
    if not expands:
        return {}
    joined = keras.layers.Concatenate()([layer.output for layer in expands])
    values = predict_in_batches(keras.Model(model.input, joined), images)[:, 0, 0]
    ends = np.cumsum([layer.filters for layer in expands])[:-1]
    blocks = [layer.name.removesuffix("_se_expand") for layer in expands]
    return dict(zip(blocks, np.split(values, ends, axis=1), strict=True))


def freeze_se(model, block, means):
    """Let an SE block give every image the same channel weights; changes the model.

    Args:
        model: as in ``se_weights``.
        block: str, such as "block2b".
        means: float (channels,) in 0..1, the channel weights to give.

    Raises:
        ValueError: the model contains a model.
    """
    check_flat(model)
    # With a kernel of zeros only the bias is left; log(w / (1 - w)) is the bias whose sigmoid is w.
    expand = model.get_layer(f"{block}_se_expand")
    means = np.clip(means, 1e-6, 1 - 1e-6)
    expand.set_weights([np.zeros(expand.kernel.shape), np.log(means / (1 - means))])


def between_classes(values, labels):
    """The fraction of the variance between images that is between the means of the classes.

    Args:
        values: float (n, channels).
        labels: integers (n,).

    Returns:
        float in 0..1: 0 where all classes have the same mean, 1 where all images of a class have the same values.
    """
    labels = check_labels(labels)
    mean = values.mean(axis=0)
    of_class = np.zeros_like(values)
    for label in np.unique(labels):
        of_class[labels == label] = values[labels == label].mean(axis=0)
    return float(((of_class - mean) ** 2).sum() / max(((values - mean) ** 2).sum(), 1e-12))


def residual_blocks(model):
    """The names of the blocks with a skip connection, such as "block2b", in the network's order.

    Raises:
        ValueError: the model contains a model.
    """
    check_flat(model)
    names = {layer.name for layer in model.layers}
    adding = [layer.name.removesuffix("_add") for layer in model.layers if layer.name.endswith("_add")]
    return [name for name in adding if f"{name}_project_conv" in names]


def switch_off(model, block):
    """Let a block with a skip connection add nothing, so that it outputs its input; changes the model.

    Args:
        model: flat EfficientNet, also after ``deploy.fold_batch_norm``.
        block: one of ``residual_blocks(model)``.

    Raises:
        ValueError: there is no such block.
    """
    known = residual_blocks(model)
    if block not in known:
        raise ValueError(f"there is no block {block!r} with a skip connection; expected one of {', '.join(known)}")
    names = {layer.name for layer in model.layers}
    if f"{block}_project_bn" in names:
        norm = model.get_layer(f"{block}_project_bn")
        norm.set_weights([np.zeros(norm.gamma.shape), np.zeros(norm.beta.shape), *norm.get_weights()[2:]])
    else:  # BatchNorm is folded into the convolution
        conv = model.get_layer(f"{block}_project_conv")
        conv.set_weights([np.zeros(weights.shape) for weights in conv.get_weights()])


# --- How far does one position see? ---------------------------------------------------------------------------------


def receptive_fields(model):
    """The receptive field of one position after the stem and after each block, by kernels and strides.

    The SE blocks are left out: through their means, every position depends a little on the whole image.

    Args:
        model: what ``efficientnet`` builds, with a fixed, square input size.

    Returns:
        list of dicts, in the network's order: ``name`` ("stem", "block 1a", ...), ``count`` (rows of the feature map),
        ``side`` (height and width of the field, in pixels of the image), ``step`` (pixels from one position's field to
        the next one's), ``first`` (row where the field of the first position begins; below 0 is outside the image).

    Raises:
        ValueError: the model contains a model, or it has no fixed, square input size.
    """
    check_flat(model)
    height, width = model.input_shape[1:3]
    if height is None or height != width:
        raise ValueError(f"the model's input has the shape {model.input_shape[1:]}; expected a fixed, square size")
    found, side, step, first = [], 1, 1, 0
    for layer in model.layers:
        if hasattr(layer, "kernel_size") and "_se_" not in layer.name:
            kernel, strides, rows = layer.kernel_size[0], layer.strides[0], layer.input.shape[1]
            # The rows of zeros that padding="same" adds; of an odd number, the larger part is below.
            padding = max((layer.output.shape[1] - 1) * strides + kernel - rows, 0)
            first -= padding // 2 * step
            side += (kernel - 1) * step
            step *= strides
        if layer.name == "stem_conv" or layer.name.endswith("_project_conv"):
            name = layer.name.split("_")[0].replace("block", "block ")
            found.append({"name": name, "count": layer.output.shape[1], "side": side, "step": step, "first": first})
    return found
