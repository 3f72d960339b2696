"""Transfer learning: features computed once, the linear classifier on them, and what fine-tuning trains."""

import keras
import numpy as np
import pytest

from effnet_utils import B0_BLOCKS, efficientnet, parity, transfer
from effnet_utils.classifier import load_classifier, save_classifier
from effnet_utils.deploy import fold_batch_norm
from effnet_utils.inspection import grad_cam

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 16, 16, 3), np.uint8)


def small(size=48, **arguments):
    shape = (size, size, 3)
    return efficientnet("lite0", blocks=B0_BLOCKS[:2], include_top=False, pooling="avg", input_shape=shape, **arguments)


# --- Features ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    return small()


@pytest.fixture(scope="module")
def extractor(backbone):
    return transfer.on_upsampled(backbone, (16, 16, 3))


def test_upsampling_in_the_graph_is_resizing_before_it(backbone, extractor):
    large = keras.ops.image.resize(keras.ops.cast(IMAGES, "float32"), (48, 48), interpolation="bilinear")
    before = keras.ops.convert_to_numpy(backbone(large, training=False))
    # For every way to call the model: with a Resizing layer, some would put the backbone into training mode.
    for inside in (extractor(IMAGES), extractor(IMAGES, training=False), extractor.predict_on_batch(IMAGES)):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(inside), before, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 16, 3), (16, 20, 3)])
def test_the_input_size_must_be_a_multiple_of_the_images(backbone, shape):
    with pytest.raises(ValueError, match="a network with inputs of 48x48: expected .* multiples"):
        transfer.on_upsampled(backbone, shape)


def test_features_are_computed_once(extractor, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(transfer, "CACHED_IMAGES", 3)
    first = transfer.extract_features(extractor, IMAGES, tmp_path)
    assert first.shape == (7, 1280) and first.dtype == np.float32
    assert capsys.readouterr().out.count("of 7 images") == 3
    again = transfer.extract_features(extractor, IMAGES, tmp_path)
    np.testing.assert_array_equal(first, again)
    assert capsys.readouterr().out == ""
    # One file is missing, as after a run that was stopped; a partly written file does not count.
    gone = sorted(tmp_path.glob("*.npy"))[0]
    gone.replace(gone.with_suffix(".123"))
    np.testing.assert_allclose(transfer.extract_features(extractor, IMAGES, tmp_path), first, atol=1e-5)
    assert capsys.readouterr().out.count("images") == 1


def test_features_are_computed_again_for_other_images_weights_or_sizes(backbone, extractor, tmp_path, capsys):
    def computed(model, images):
        capsys.readouterr()
        transfer.extract_features(model, images, tmp_path)
        return bool(capsys.readouterr().out)

    changed = IMAGES.copy()
    changed[0, 0, 0, 0] ^= 1
    assert computed(extractor, IMAGES) and computed(extractor, changed)
    other = small(size=32)
    other.set_weights(backbone.get_weights())
    assert computed(transfer.on_upsampled(other, (16, 16, 3)), IMAGES)
    other.layers[2].set_weights([w + 1 for w in other.layers[2].get_weights()])
    assert computed(transfer.on_upsampled(other, (16, 16, 3)), IMAGES)
    assert not computed(extractor, IMAGES)


def test_images_must_be_pixels(extractor, tmp_path):
    with pytest.raises(TypeError, match="expected uint8 in 0..255"):
        transfer.extract_features(extractor, IMAGES / 255, tmp_path)


# --- Training ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("count", "least"), [(30, 0.65), (600, 0.95)])
def test_linear_probe_finds_a_plane(count, least):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(1)
    # Far from zero, and one column is constant.
    features = 500 + rng.normal(size=(count + 200, 12)).astype(np.float32) * np.float32([1] * 11 + [0])
    labels = (features[:, 0] + features[:, 1] > 1000).astype(int)
    probe = transfer.linear_probe(features[:count], labels[:count], 2)
    assert probe.output_shape == (None, 2)
    correct = probe.predict(features[count:], verbose=0).argmax(axis=1) == labels[count:]
    assert correct.mean() > least


@pytest.mark.parametrize("before", [True, False])
def test_unfreeze(backbone, before):
    backbone.trainable = before
    count = transfer.unfreeze(backbone, "block2b")
    trainable = {weight.path.split("/")[0] for weight in backbone.trainable_weights}
    assert trainable == {"block2b_expand_conv", "block2b_dwconv", "block2b_project_conv", "top_conv"}
    assert count == sum(int(np.prod(w.shape)) for w in backbone.trainable_weights) > 0
    with pytest.raises(ValueError, match="'block7a'; layers: .*block2b_add"):
        transfer.unfreeze(backbone, "block7a")


@pytest.mark.slow
def test_split(backbone):
    lower, upper = transfer.split(backbone, "block2b")
    assert lower.output_shape == (None, 12, 12, 24) and upper.output_shape == (None, 1280)
    images = RNG.integers(0, 256, (3, 48, 48, 3), np.uint8)
    parts = upper.predict_on_batch(lower.predict_on_batch(images))
    np.testing.assert_allclose(parts, backbone.predict_on_batch(images), atol=1e-5)
    with pytest.raises(ValueError, match="no block 'block7'; blocks: block1a, block2a, block2b"):
        transfer.split(backbone, "block7")


# --- What notebook 08 saves -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fine_tuned_classifier_can_be_saved_folded_and_looked_into(tmp_path):
    """Flat, with a dropout and a dense layer on the backbone: read back, without BatchNorm, by Grad-CAM, all agree."""
    keras.utils.set_random_seed(0)
    backbone = small()
    x = keras.layers.Dropout(0.2)(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(3, name="predictions")(x))
    parity.randomise(model)
    transfer.unfreeze(model, "block2b")
    model.compile("adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = RNG.integers(0, 256, (6, 48, 48, 3), np.uint8)
    model.fit(images, np.array([0, 1, 2] * 2), verbose=0)
    expected = model.predict_on_batch(images)

    save_classifier(model, ("a", "b", "ü"), tmp_path)
    again, names = load_classifier(tmp_path)
    assert names == ["a", "b", "ü"] and again.input_shape == (None, 48, 48, 3)
    np.testing.assert_allclose(again.predict_on_batch(images), expected, atol=1e-5 * np.abs(expected).max())

    folded = fold_batch_norm(again)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    np.testing.assert_allclose(folded.predict_on_batch(images), expected, atol=1e-4 * np.abs(expected).max())

    heat = grad_cam(again, images[:2], [0, 2])
    kernel = again.get_layer("predictions").get_weights()[0]
    maps = transfer.split(again, "avg_pool")[0].predict_on_batch(images[:2])
    # The class activation map: at the last feature maps, the classifier's own weights.
    by_hand = np.maximum(np.einsum("nhwc,cn->nhw", maps, kernel[:, [0, 2]]), 0) / np.prod(maps.shape[1:3])
    np.testing.assert_allclose(heat, by_hand, atol=1e-4 * by_hand.max())
