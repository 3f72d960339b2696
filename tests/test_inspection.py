"""Gradients and Grad-CAM against what is known of them without our code; the blocks of any classifier."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from effnet_utils import B0_BLOCKS, efficientnet, inspection
from effnet_utils.classifier import load_classifier, save_classifier
from effnet_utils.datasets import TOY_CLASSES, load_toy
from effnet_utils.evaluation import predict_in_batches, predict_proba
from effnet_utils.files import photographs
from tests.tiny import tiny

pytestmark = pytest.mark.slow  # the network itself is tested in seconds by test_model.py and test_parity.py


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


# --- Any classifier, any images -------------------------------------------------------------------------------------

OWN_NAMES = ["ant", "bee", "cricket"]


def write_images(folder, names, size, each=4):
    """A folder of random photographs, one subfolder for each class."""
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 256, (size + 7, size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def small_b0(classes=10):
    """B0 at 32 pixels with few channels, and channel weights that differ from image to image."""
    keras.utils.set_random_seed(0)
    return efficientnet("b0", width=0.25, layout="cifar", classes=classes, classifier_activation=None)


def fine_tuned_lite():
    """Lite0 at 96 pixels with three classes of the reader's own and a softmax, trained for a step as in notebook 08."""
    backbone = efficientnet("lite0", include_top=False, pooling="avg", input_shape=(96, 96, 3))
    outputs = keras.layers.Dense(3, activation="softmax", name="predictions")(backbone.output)
    model = keras.Model(backbone.input, outputs)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    rng = np.random.default_rng(0)
    model.fit(rng.integers(0, 256, (6, 96, 96, 3)), np.arange(6) % 3, batch_size=6, verbose=0)
    return model


@pytest.fixture(scope="module")
def saved_lite(tmp_path_factory):
    return save_classifier(fine_tuned_lite(), OWN_NAMES, tmp_path_factory.mktemp("lite"))


def test_a_softmax_is_dropped_and_the_probabilities_stay(saved_lite):
    model, _ = load_classifier(saved_lite)
    images = np.random.default_rng(1).integers(0, 256, (3, 96, 96, 3), np.uint8)
    before = predict_proba(model, images)
    logits = inspection.with_logits(model)
    assert np.abs(predict_in_batches(logits, images).sum(axis=1) - 1).min() > 1e-3
    np.testing.assert_allclose(predict_proba(logits, images), before, atol=1e-6)
    np.testing.assert_array_equal(predict_proba(model, images), before, "the given model is not changed")
    assert inspection.with_logits(logits) is logits


def test_a_softmax_layer_of_its_own_is_dropped():
    model = small_b0()
    ended = keras.Model(model.input, keras.layers.Softmax()(model.output))
    assert inspection.with_logits(ended).layers[-1].name == "predictions"
    activated = keras.Model(model.input, keras.layers.Activation("softmax")(model.output))
    images = np.zeros((1, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(
        predict_in_batches(inspection.with_logits(activated), images), predict_in_batches(model, images)
    )


def test_what_is_no_efficientnet_or_no_classifier_is_refused():
    inputs = keras.Input((32, 32, 3))
    other = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    with pytest.raises(ValueError, match="no layer avg_pool and no layer top_activation; expected an EfficientNet"):
        inspection.with_logits(other)
    model = efficientnet("b0", width=0.25, layout="cifar", classes=2, classifier_activation="sigmoid")
    with pytest.raises(ValueError, match="'predictions', gives neither logits nor a softmax's probabilities"):
        inspection.with_logits(model)


def test_own_images_get_the_models_size_and_numbers(saved_lite, tmp_path, capsys):
    model, names = load_classifier(saved_lite)
    folder = write_images(tmp_path / "mine", ["cricket", "ant"], 50)  # no bees
    (folder / "ant" / "notes.txt").write_text("no image")
    images, labels = inspection.images_for(model, names, image_dir=folder)
    assert images.shape == (8, 96, 96, 3) and images.dtype == np.uint8
    assert sorted(labels) == [0] * 4 + [2] * 4 and list(labels) != sorted(labels)
    assert capsys.readouterr().out.startswith("left out: ant/notes.txt: ")
    again, same = inspection.images_for(model, names, image_dir=folder, limit=3)
    np.testing.assert_array_equal(again, images[:3])
    np.testing.assert_array_equal(same, labels[:3])


def test_images_of_unknown_classes_are_refused(saved_lite, tmp_path):
    model, names = load_classifier(saved_lite)
    folder = write_images(tmp_path / "mine", ["ant", "wasp"], 96, each=1)
    with pytest.raises(ValueError, match="folders wasp, which are no classes of the model.*Its classes: ant, bee"):
        inspection.images_for(model, names, image_dir=folder)
    with pytest.raises(ValueError, match="model's classes are ant, bee, cricket; those of dataset='toy' are disk"):
        inspection.images_for(model, names, "toy")


def test_an_input_without_a_fixed_square_size_is_refused():
    for shape in ((None, None, 3), (32, 48, 3), (32, 32, 1)):
        model = efficientnet("b0", width=0.25, input_shape=shape, classes=2)
        with pytest.raises(ValueError, match=r"expected \(size, size, 3\)"):
            inspection.images_for(model, ["a", "b"])


def test_the_datasets_images_are_resized():
    model = efficientnet("b0", width=0.25, input_shape=(64, 64, 3), classes=10)
    images, labels = inspection.images_for(model, TOY_CLASSES, "toy", limit=5, seed=1)
    assert images.shape == (5, 64, 64, 3)
    _, (_, expected) = load_toy()
    np.testing.assert_array_equal(labels, expected[np.random.default_rng(1).permutation(1000)[:5]])


# --- What do the blocks do? -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["b0 at 32 pixels", "keras.applications"])
def with_se(request):
    if request.param == "keras.applications":
        return keras.applications.EfficientNetB0(weights=None, input_shape=(32, 32, 3), classes=10)
    return small_b0()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).integers(0, 256, (6, 32, 32, 3), np.uint8)


def test_the_channel_weights_are_what_scales_the_feature_maps(with_se, images):
    weights = inspection.se_weights(with_se, images)
    assert len(weights) == 16 and list(weights)[:3] == ["block1a", "block2a", "block2b"]
    excite = with_se.get_layer("block3b_se_excite")
    ends = keras.Model(with_se.input, [excite.input[0], excite.output])
    before, after = (keras.ops.convert_to_numpy(x) for x in ends(images, training=False))
    np.testing.assert_allclose(before * weights["block3b"][:, None, None], after, atol=1e-5 * np.abs(after).max())


def test_frozen_channel_weights_are_the_same_for_every_image(with_se, images):
    before = with_se.get_weights()
    means = inspection.se_weights(with_se, images)["block2b"].mean(axis=0)
    inspection.freeze_se(with_se, "block2b", means)
    np.testing.assert_allclose(inspection.se_weights(with_se, images)["block2b"], np.stack([means] * 6), atol=1e-5)
    with_se.set_weights(before)


def test_a_block_that_is_switched_off_outputs_its_input(with_se, images):
    before = with_se.get_weights()
    blocks = inspection.residual_blocks(with_se)
    assert {"block2b", "block3b", "block4b", "block4c", "block5b", "block5c", "block6b", "block6d"} <= set(blocks)
    inspection.switch_off(with_se, "block4c")
    adding = with_se.get_layer("block4c_add")
    ends = keras.Model(with_se.input, [*adding.input, adding.output])
    *inputs, output = (keras.ops.convert_to_numpy(x) for x in ends(images, training=False))
    assert any(np.array_equal(x, output) for x in inputs) and np.abs(output).max() > 0
    with_se.set_weights(before)


def test_lite0_has_no_channel_weights_and_its_blocks_can_be_switched_off(saved_lite):
    model, _ = load_classifier(saved_lite)
    model = inspection.with_logits(model)
    images = np.random.default_rng(3).integers(0, 256, (2, 96, 96, 3), np.uint8)
    assert inspection.se_weights(model, images) == {}
    for block in inspection.residual_blocks(model):
        inspection.switch_off(model, block)
    assert len(inspection.residual_blocks(model)) == 9 and np.isfinite(predict_in_batches(model, images)).all()
    assert inspection.grad_cam(model, images, [0, 2]).shape == (2, 3, 3)
    assert inspection.grad_cam(model, images, [0, 2], "block4a").shape == (2, 12, 12)


def test_frozen_layers_have_heat_maps_too(saved_lite):
    """GradientTape does not record layers without trainable weights, unless the feature maps are watched."""
    model, _ = load_classifier(saved_lite)
    images = np.random.default_rng(4).integers(0, 256, (2, 96, 96, 3), np.uint8)
    expected = inspection.grad_cam(model, images, [0, 1])
    model.trainable = False
    np.testing.assert_array_equal(inspection.grad_cam(model, images, [0, 1]), expected)
    assert expected.max() > 0


def test_a_network_without_skips_has_no_residual_blocks():
    blocks = [replace(block, id_skip=False) for block in B0_BLOCKS]
    model = efficientnet("b0", width=0.25, blocks=blocks, layout="cifar", classes=2)
    assert inspection.residual_blocks(model) == []


def test_the_variance_between_classes():
    labels = np.repeat([0, 1, 2], 4)
    assert inspection.between_classes(np.eye(3)[labels], labels) == pytest.approx(1)
    assert inspection.between_classes(np.tile([[0.0], [1.0]], (6, 1)), labels) == pytest.approx(0)
    assert inspection.between_classes(np.ones((12, 2)), labels) == 0, "no variance at all"
    values = np.array([[0.0], [2.0], [4.0], [6.0]])  # class means 1 and 5: 16 of 20
    assert inspection.between_classes(values, np.array([7, 7, 9, 9])) == pytest.approx(0.8)


@pytest.mark.parametrize("size", [33, 48, 62])
def test_receptive_fields_are_where_the_gradient_is_not_zero(size):
    model = tiny(se_ratio=0, input_shape=(size, size, 3), blocks=B0_BLOCKS[:3])
    images = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
    rows = inspection.receptive_fields(model)
    assert [row["name"] for row in rows] == ["stem", *(f"block {name}" for name in ("1a", "2a", "2b", "3a", "3b"))]
    for row, layer in zip(rows, ["stem_conv", "block1a_project_conv", "block2a_project_conv"], strict=False):
        part = keras.Model(model.input, model.get_layer(layer).output)
        assert row["count"] == part.output.shape[1]
        for at in (0, row["count"] // 2, row["count"] - 1):
            slopes = inspection.gradient(lambda x, part=part, at=at: part(x, training=False)[:, at, at], images)
            seen = np.flatnonzero(np.abs(slopes).sum(axis=(0, 2, 3)))
            start = row["first"] + row["step"] * at
            assert seen.min() == max(start, 0) and seen.max() == min(start + row["side"], size) - 1


def test_receptive_fields_of_b0_at_the_end_of_its_stages():
    sides = {row["name"]: row["side"] for row in inspection.receptive_fields(efficientnet("b0", include_top=False))}
    assert [sides[f"block {name}"] for name in ("1a", "2b", "3b", "4c", "5c", "6d", "7a")] == [
        7, 19, 67, 147, 339, 787, 851,
    ]  # fmt: skip


def test_receptive_fields_need_a_fixed_size():
    with pytest.raises(ValueError, match="fixed, square size"):
        inspection.receptive_fields(efficientnet("b0", include_top=False, input_shape=(None, None, 3)))
