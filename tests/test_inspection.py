"""Gradients, Grad-CAM and calibration against what is known of them without our code."""

import keras
import numpy as np
import pytest

from effnet_utils import efficientnet, inspection, records


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
    photos = {name: np.array(keras.utils.load_img(path, **size)) for name, path in records.photographs().items()}
    both = np.concatenate([photos["cat"][:, 56:168], photos["espresso"][:, 56:168]], axis=1)
    return np.stack([both, both]), [285, 967]


def test_on_the_last_maps_it_is_the_class_activation_map(lite, half_and_half):
    """Zhou et al. 2016: the maps times the class's column of the kernel; 1/49 of each place goes into the logit."""
    images, classes = half_and_half
    maps = keras.Model(lite.input, lite.get_layer("top_activation").output)(images, training=False)
    kernel = keras.ops.convert_to_numpy(lite.get_layer("predictions").kernel)[:, classes]
    expected = np.maximum(np.einsum("nhwc,cn->nhw", keras.ops.convert_to_numpy(maps), kernel), 0) / 49
    heat = inspection.grad_cam(lite, images, classes)
    assert heat.shape == (2, 7, 7) and heat.dtype == np.float32
    assert np.abs(heat - expected).max() < 1e-4 * expected.max()


def test_the_heat_lies_on_what_was_asked_for(lite, half_and_half):
    cat, espresso = inspection.grad_cam(lite, *half_and_half)
    assert cat[:, :3].sum() > 0.7 * cat.sum()
    assert espresso[:, 4:].sum() > 0.7 * espresso.sum()


def ranks(values):
    return values.ravel().argsort().argsort()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["predictions", "block6", ""], ids=["the classifier", "stage 6", "all layers"])
def test_random_weights_give_an_unrelated_map(lite, half_and_half, part):
    """The sanity check of Adebayo et al. 2018: a map that survives it shows the picture, not the network."""
    images, classes = half_and_half
    true, alike = inspection.grad_cam(lite, images, classes), []
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
    assert np.allclose(again, true), "the trained network itself gives the same map again"


def test_an_unknown_layer_is_refused(lite, half_and_half):
    with pytest.raises(ValueError, match="no block 'block9a'; blocks: block1a"):
        inspection.grad_cam(lite, *half_and_half, first="block9a")


def test_reliability_of_what_is_known():
    sure = np.tile([0.9, 0.1], (10, 1))
    rows, error = inspection.reliability(sure, np.array([0] * 6 + [1] * 4))
    assert rows == [{"confidence": pytest.approx(0.9), "accuracy": 0.6, "count": 10}]
    assert error == pytest.approx(0.3)
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert inspection.reliability(certain, np.array([0, 1, 2, 0])) == (
        [{"confidence": 1.0, "accuracy": 1.0, "count": 4}],
        0.0,
    )


def test_labels_drawn_by_the_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), 20_000)
    labels = (probabilities.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    rows, error = inspection.reliability(probabilities, labels, bins=10)
    assert error < 0.015 and sum(row["count"] for row in rows) == 20_000
    assert inspection.reliability(probabilities, np.roll(labels, 1), bins=10)[1] > 0.2
