"""Images of one's own, features computed once, the linear classifier on them, and what fine-tuning lets learn."""

import io
import os

import keras
import numpy as np
import pytest
from effnet_utils.data import load_image_dir
from PIL import Image

from effnet_utils import B0_BLOCKS, efficientnet, transfer

SIDE = 16
RNG = np.random.default_rng(0)


# --- load_image_dir ---------------------------------------------------------------------------------------------------


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes with one ordinary image each."""
    for name, colour in (("cats", "red"), ("dogs", "blue")):
        save(tmp_path / name / "plain.png", Image.new("RGB", (20, 20), colour))
    return tmp_path


def the_other(folder, name="cats/z.png"):
    """What became of the one further image in cats."""
    images, labels, classes, left_out = load_image_dir(folder, SIDE)
    assert classes == ("cats", "dogs") and labels.tolist() == [0, 0, 1] and not left_out
    assert images.shape == (3, SIDE, SIDE, 3) and images.dtype == np.uint8
    return images[1]


def test_plain_images(folder):
    images, labels, classes, left_out = load_image_dir(folder, SIDE)
    assert (images == np.array([[255, 0, 0], [0, 0, 255]])[:, None, None]).all()
    assert labels.tolist() == [0, 1] and classes == ("cats", "dogs") and left_out == []


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (20, 20), 7), (7, 7, 7)),
        (Image.new("1", (20, 20), 1), (255, 255, 255)),
        (Image.fromarray(np.full((20, 20), 514, np.uint16)), (2, 2, 2)),
        (Image.new("RGBA", (20, 20), (9, 9, 9, 0)), (255, 255, 255)),
        (Image.new("RGBA", (20, 20), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("LA", (20, 20), (9, 0)), (255, 255, 255)),
        (Image.new("RGB", (20, 20), (5, 6, 7)).quantize(2), (5, 6, 7)),
        (Image.new("RGB", (1, 1), (5, 6, 7)), (5, 6, 7)),
        (Image.new("RGB", (301, 7), (5, 6, 7)), (5, 6, 7)),
    ],
    ids=["grey", "black and white", "16 bits", "transparent", "half transparent", "grey, transparent", "palette",
         "one pixel", "odd size"],
)  # fmt: skip
def test_other_kinds_of_images(folder, image, expected):
    save(folder / "cats" / "z.png", image)
    assert (the_other(folder) == np.array(expected)).all()


def test_transparent_colour_of_a_palette(folder):
    save(folder / "cats" / "z.png", Image.new("RGB", (20, 20), (5, 6, 7)).quantize(2), transparency=0)
    assert (the_other(folder) == 255).all()


def test_the_middle_is_cut_out_and_shape_is_kept(folder):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    save(folder / "cats" / "z.png", Image.fromarray(wide))
    assert (the_other(folder)[:, 2:-2] == 200).all()


def test_images_are_turned_upright(folder):
    image = Image.fromarray(np.repeat(np.uint8([[[255] * 3], [[0] * 3]]), 20, axis=1).repeat(10, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    save(folder / "cats" / "z.png", image, exif=exif)
    turned = the_other(folder)
    assert turned[0].mean() < 50 and turned[-1].mean() > 200


def broken(kind):
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG" if kind == "cut.jpg" else "PNG")
    whole = buffer.getvalue()
    return {
        "text.png": b"no image",
        "empty.png": b"",
        "cut.jpg": whole[: len(whole) // 2],
        "cut.png": whole[: len(whole) // 2],
        "broken.png": whole[:60] + bytes(60) + whole[120:],
    }[kind]


@pytest.mark.parametrize("kind", ["text.png", "empty.png", "cut.jpg", "cut.png", "broken.png"])
def test_unreadable_files_are_named_and_left_out(folder, kind):
    (folder / "cats" / kind).write_bytes(broken(kind))
    (folder / "cats" / ".DS_Store").write_bytes(b"passed over")
    images, labels, _, left_out = load_image_dir(folder, SIDE)
    assert labels.tolist() == [0, 1] and len(images) == 2
    assert len(left_out) == 1 and left_out[0].startswith(os.path.join("cats", kind) + ": ") and len(left_out[0]) > 15


def test_changed_bytes_raise_nothing_of_pillows_own(folder):
    """Images with bytes changed at random are read or left out."""
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        Image.fromarray(RNG.integers(0, 256, (12, 12, 3), np.uint8)).save(buffer, kind)
        for trial in range(40):
            content = bytearray(buffer.getvalue())
            for place in RNG.integers(0, len(content), 1 + trial % 8):
                content[place] = RNG.integers(256)
            (folder / "cats" / f"{kind}{trial}").write_bytes(content)
    images, labels, _, left_out = load_image_dir(folder, SIDE)
    assert len(images) == len(labels) and len(labels) + len(left_out) == 242 and left_out


def test_folders_that_do_not_fit(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_image_dir(tmp_path / "nowhere", SIDE)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="'empty' has no readable image: the folder is empty"):
        load_image_dir(folder, SIDE)
    with pytest.raises(ValueError, match="at least two; found: none"):
        load_image_dir(folder / "cats", SIDE)


# --- Features ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone():
    keras.utils.set_random_seed(0)
    shape = (48, 48, 3)
    return efficientnet("lite0", blocks=B0_BLOCKS[:2], include_top=False, pooling="avg", input_shape=shape)


@pytest.fixture(scope="module")
def extractor(backbone):
    return transfer.on_upsampled(backbone, (SIDE, SIDE, 3))


IMAGES = RNG.integers(0, 256, (7, SIDE, SIDE, 3), np.uint8)


def test_upsampling_in_the_graph_is_resizing_before_it(backbone, extractor):
    large = keras.ops.image.resize(keras.ops.cast(IMAGES, "float32"), (48, 48), interpolation="bilinear")
    before = keras.ops.convert_to_numpy(backbone(large, training=False))
    # However it is called: a Resizing layer in this place would put the backbone into training mode.
    for inside in (extractor(IMAGES), extractor(IMAGES, training=False), extractor.predict_on_batch(IMAGES)):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(inside), before, atol=1e-5)
    with pytest.raises(ValueError, match="must be multiples"):
        transfer.on_upsampled(backbone, (20, 20, 3))


@pytest.mark.parametrize("frozen", [True, False])
def test_fit_leaves_what_is_frozen_in_inference_mode(frozen):
    """Keras's ``fit`` calls every layer in training mode; a BatchNormalization that may not learn ignores that."""
    shape = {"input_shape": (48, 48, 3), "include_top": False, "pooling": "avg"}
    backbone = efficientnet("lite0", blocks=B0_BLOCKS[:2], drop_connect_rate=0.0, **shape)
    if frozen:
        transfer.unfreeze(backbone, "top")
    model = transfer.on_upsampled(backbone, (SIDE, SIDE, 3))
    statistics = [w.numpy().copy() for w in backbone.weights if "moving" in w.path]
    training, inference = (keras.ops.convert_to_numpy(model(IMAGES, training=on)) for on in (True, False))
    assert np.allclose(training, inference, atol=1e-5) == frozen
    now = [w.numpy() for w in backbone.weights if "moving" in w.path]
    assert all(np.array_equal(a, b) for a, b in zip(statistics, now, strict=True)) == frozen


def test_features_are_computed_once(extractor, tmp_path, capsys):
    first = transfer.extract_features(extractor, IMAGES, tmp_path, part=3, batch_size=2)
    assert first.shape == (7, 1280) and first.dtype == np.float32
    assert capsys.readouterr().out.count("of 7 images") == 3
    again = transfer.extract_features(extractor, IMAGES, tmp_path, part=3)
    np.testing.assert_array_equal(first, again)
    assert capsys.readouterr().out == ""
    # One part is missing, as after a run that was stopped; a half-written file does not count.
    gone = sorted(tmp_path.glob("*.npy"))[0]
    gone.replace(gone.with_suffix(".123"))
    np.testing.assert_allclose(transfer.extract_features(extractor, IMAGES, tmp_path, part=3), first, atol=1e-5)
    assert capsys.readouterr().out.count("images") == 1


def test_other_images_weights_or_sizes_have_features_of_their_own(backbone, extractor, tmp_path, capsys):
    def computed(model, images):
        capsys.readouterr()
        transfer.extract_features(model, images, tmp_path)
        return bool(capsys.readouterr().out)

    changed = IMAGES.copy()
    changed[0, 0, 0, 0] ^= 1
    assert computed(extractor, IMAGES) and computed(extractor, changed)
    other = efficientnet("lite0", blocks=B0_BLOCKS[:2], include_top=False, pooling="avg", input_shape=(32, 32, 3))
    other.set_weights(backbone.get_weights())
    assert computed(transfer.on_upsampled(other, (SIDE, SIDE, 3)), IMAGES)
    other.layers[2].set_weights([w + 1 for w in other.layers[2].get_weights()])
    assert computed(transfer.on_upsampled(other, (SIDE, SIDE, 3)), IMAGES)
    assert not computed(extractor, IMAGES)


def test_images_must_be_pixels(extractor, tmp_path):
    with pytest.raises(TypeError, match="expected uint8 in 0..255"):
        transfer.extract_features(extractor, IMAGES / 255, tmp_path)


# --- Learning ---------------------------------------------------------------------------------------------------------


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
    right = probe.predict(features[count:], verbose=0).argmax(axis=1) == labels[count:]
    assert right.mean() > least


def test_unfreeze(backbone):
    for layer in backbone.layers:
        layer.trainable = True
    count = transfer.unfreeze(backbone, "block2b")
    learning = {w.path.split("/")[0] for w in backbone.trainable_weights}
    expected = {"block2b_expand_conv", "block2b_dwconv", "block2b_project_conv", "top_conv"}
    assert learning == expected
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
    # A copy of the upper part learns without the backbone.
    copy = keras.models.clone_model(upper)
    copy.set_weights(upper.get_weights())
    before = backbone.get_weights()
    transfer.unfreeze(copy, "block2b")
    copy.compile("sgd", "mse")
    copy.fit(lower.predict_on_batch(images), np.ones((3, 1280)), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, backbone.get_weights(), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(upper.get_weights(), copy.get_weights(), strict=True))
    with pytest.raises(ValueError, match="no block 'block7'; blocks: block1a, block2a, block2b"):
        transfer.split(backbone, "block7")
