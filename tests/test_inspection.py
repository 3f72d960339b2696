"""Gradients and Grad-CAM against what is known of them without our code."""

import keras
import numpy as np
import pytest

from effnet_utils import efficientnet, inspection
from effnet_utils.files import photographs


def test_the_gradient_of_a_polynomial():
    x = np.array([-1.0, 0.5, 2.0], np.float32)
    assert np.allclose(inspection.gradient(lambda x: x**3 + 2 * x, x), 3 * x**2 + 2)


@pytest.fixture(scope="module")
def lite():
    return efficientnet("lite0", weights="imagenet", classifier_activation=None)


@pytest.fixture(scope="module")
def half_and_half():
    """Half a cat on the left, half an espresso on the right; ImageNet's numbers for the two."""
    size = {"target_size": (224, 224), "keep_aspect_ratio": True}
    photos = {name: np.array(keras.utils.load_img(path, **size)) for name, path in photographs().items()}
    both = np.concatenate([photos["cat"][:, 56:168], photos["espresso"][:, 56:168]], axis=1)
    return np.stack([both, both]), [285, 967]


def test_on_the_last_feature_maps_it_is_the_class_activation_map(lite, half_and_half):
    """Zhou et al. 2016: feature maps times the class's column of the kernel; 1/49 of each position enters the logit."""
    images, classes = half_and_half
    maps = keras.Model(lite.input, lite.get_layer("top_activation").output)(images, training=False)
    kernel = keras.ops.convert_to_numpy(lite.get_layer("predictions").kernel)[:, classes]
    expected = np.maximum(np.einsum("nhwc,cn->nhw", keras.ops.convert_to_numpy(maps), kernel), 0) / 49
    heat = inspection.grad_cam(lite, images, classes)
    assert heat.shape == (2, 7, 7) and heat.dtype == np.float32
    assert np.abs(heat - expected).max() < 1e-4 * expected.max()


def test_the_heat_is_on_the_object_of_the_class(lite, half_and_half):
    cat, espresso = inspection.grad_cam(lite, *half_and_half)
    assert cat[:, :3].sum() > 0.7 * cat.sum()
    assert espresso[:, 4:].sum() > 0.7 * espresso.sum()


def ranks(values):
    return values.ravel().argsort().argsort()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["predictions", "block6", ""], ids=["the classifier", "stage 6", "all layers"])
def test_random_weights_give_an_unrelated_map(lite, half_and_half, part):
    """The sanity check of Adebayo et al. 2018: a heat map that survives it shows the image, not the network."""
    images, classes = half_and_half
    true = inspection.grad_cam(lite, images, classes)
    alike = []
    for seed in range(4):
        keras.utils.set_random_seed(seed)
        random = efficientnet("lite0", classifier_activation=None)
        for layer, trained in zip(random.layers, lite.layers, strict=True):
            if not layer.name.startswith(part):
                layer.set_weights(trained.get_weights())
        heat = inspection.grad_cam(random, images, classes)
        alike += [np.corrcoef(ranks(a), ranks(b))[0, 1] for a, b in zip(true, heat, strict=True)]
    assert abs(np.mean(alike)) < 0.35, alike
    again = inspection.grad_cam(lite, images, classes)
    assert np.allclose(again, true), "the trained network itself gives the same heat map again"


def test_an_unknown_layer_is_refused(lite, half_and_half):
    with pytest.raises(ValueError, match="no block 'block9a'; blocks: block1a"):
        inspection.grad_cam(lite, *half_and_half, first="block9a")
