"""Every public function that takes a model, with every kind of model that people have: right, or refused in a sentence.

The models compute the same: one as ``efficientnet`` builds it, and the ways to wrap, fold, save and extend it.
"""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from effnet_utils import classifier, count_macs, deploy, evaluation, inspection, parity, training, transfer
from effnet_utils.model import endpoints
from tests.tiny import tiny

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(6)
NAMES = tuple("abcdefghij")
RECIPE = training.Recipe(zero_classifier=False, zero_last_gamma=False)

NESTED = "contains the model 'backbone' as one layer; expected a flat model"
TWO = "outputs"


def build(kind, folder):
    keras.utils.set_random_seed(0)
    plain = tiny()
    parity.randomise(plain)
    plain.get_layer("predictions").set_weights(
        [
            0.1 * np.random.default_rng(1).normal(size=weights.shape)
            for weights in plain.get_layer("predictions").get_weights()
        ]
    )
    backbone = keras.Model(plain.input, plain.get_layer("avg_pool").output, name="backbone")
    dense = layers.Dense(10, name="predictions")
    if kind == "plain":
        return plain
    if kind == "folded":
        return deploy.fold_batch_norm(plain)
    if kind == "loaded":
        return classifier.load_classifier(classifier.save_classifier(plain, NAMES, folder))[0]
    if kind == "two outputs":
        return keras.Model(plain.input, [plain.output, plain.get_layer("avg_pool").output], name="two")
    if kind == "head of one's own":
        model = keras.Model(backbone.input, dense(backbone.output))
    elif kind == "nested":
        inputs = keras.Input((32, 32, 3))
        model = keras.Model(inputs, dense(backbone(inputs)))
    elif kind == "sequential":
        model = keras.Sequential([keras.Input((32, 32, 3)), backbone, dense])
    dense.set_weights(plain.get_layer("predictions").get_weights())
    return model


FLAT = ["plain", "folded", "loaded", "head of one's own"]
INSIDE = ["nested", "sequential"]
KINDS = [*FLAT, *INSIDE, "two outputs"]


def unfrozen(model, folder):
    count = transfer.unfreeze(model, "block2a")
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    assert not any(layer.trainable for layer in norms)
    trained = {layer.name.split("_")[0] for layer in model.layers if layer.trainable and layer.weights}
    assert trained == {"block2a", "block2b", "top", "predictions"} and count == sum(
        int(np.prod(weight.shape)) for weight in model.trainable_weights
    )
    return sorted(trained)


def without_se(model, folder):
    inspection.freeze_se(model, "block2a", np.full(48, 0.5))
    return evaluation.predict_in_batches(model, IMAGES)


def without_a_block(model, folder):
    assert inspection.residual_blocks(model) == ["block2b"]
    inspection.switch_off(model, "block2b")
    return evaluation.predict_in_batches(model, IMAGES)


def trained(model, folder):
    recipe = training.Recipe(drop_connect_rate=0.0, dropout_rate=0.0)
    batches = training.Batches(LABELS, 3, 10, recipe)
    trainer = training.make_trainer(model, IMAGES, RECIPE, 0.001, len(batches))
    trainer.fit(batches, epochs=1, verbose=0)
    assert np.isfinite(trainer.get_weights()[0]).all()


def saved(model, folder):
    classifier.save_classifier(model, NAMES, folder)
    return evaluation.predict_in_batches(classifier.load_classifier(folder)[0], IMAGES)


def folded(model, folder):
    return evaluation.predict_in_batches(deploy.fold_batch_norm(model), IMAGES)


def features(model, folder):
    return transfer.extract_features(model, IMAGES, folder)


def cut(model, folder):
    lower, upper = transfer.split(model, "block2a")
    return upper.predict_on_batch(lower.predict_on_batch(IMAGES))


# name: (what to call, {kind: what the refusal says})
IN_MODEL = dict.fromkeys(INSIDE, NESTED)
ONE = {"two outputs": TWO}
CALLS = {
    "predict_proba": (lambda model, folder: evaluation.predict_proba(model, IMAGES), ONE),
    "predict_tta": (lambda model, folder: evaluation.predict_tta(model, IMAGES), ONE),
    "predict_in_batches": (lambda model, folder: evaluation.predict_in_batches(model, IMAGES), ONE),
    "extract_features": (features, ONE),
    "split": (cut, IN_MODEL | ONE),
    "unfreeze": (unfrozen, IN_MODEL),
    "grad_cam": (lambda model, folder: inspection.grad_cam(model, IMAGES, LABELS), IN_MODEL | ONE),
    "with_logits": (
        lambda model, folder: evaluation.predict_in_batches(inspection.with_logits(model), IMAGES),
        IN_MODEL | ONE,
    ),
    "se_weights": (lambda model, folder: list(inspection.se_weights(model, IMAGES).values()), IN_MODEL),
    "freeze_se": (without_se, IN_MODEL | ONE),
    "switch_off": (without_a_block, IN_MODEL | ONE),
    "receptive_fields": (lambda model, folder: str(inspection.receptive_fields(model)), IN_MODEL),
    "fold_batch_norm": (folded, {"nested": NESTED, "sequential": "is a Sequential; expected a functional model"} | ONE),
    "save_classifier": (saved, IN_MODEL | ONE),
    "count_macs": (lambda model, folder: count_macs(model), {}),
    "endpoints": (lambda model, folder: list(endpoints(model)), dict.fromkeys(INSIDE, "no layer 'stem_conv'")),
    "compare": (
        lambda model, folder: all(row.exact for row in parity.compare(model, model, IMAGES).rows),
        dict.fromkeys(INSIDE, "nothing to compare") | ONE,
    ),
    "make_trainer": (trained, ONE),
}


CHANGING = {"unfreeze", "freeze_se", "switch_off", "make_trainer"}


@functools.cache
def kept(kind, folder):
    return build(kind, folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A function from a call and a kind to a model: a new one for calls that change it."""
    folder = tmp_path_factory.mktemp("models")
    return lambda name, kind: build(kind, folder) if name in CHANGING else kept(kind, folder)


@pytest.fixture(scope="module")
def expected(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    return {name: call(models(name, "plain"), folder / name) for name, (call, _) in CALLS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_right_or_refused(name, kind, models, expected, tmp_path):
    call, refusals = CALLS[name]
    model = models(name, kind)
    if kind in refusals:
        with pytest.raises(ValueError, match=refusals[kind]) as caught:
            call(model, tmp_path)
        assert "\n" not in str(caught.value)
        return
    found, wanted = call(model, tmp_path), expected[name]
    if isinstance(wanted, np.ndarray | list) and not isinstance(wanted[0], str):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
    else:
        assert found == wanted


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("model", [Subclassed(), keras.Sequential([layers.Dense(3)])], ids=["subclassed", "unbuilt"])
def test_models_that_do_not_say_their_outputs_predict(model):
    assert evaluation.predict_in_batches(model, np.ones((4, 2), "float32")).shape == (4, 3)


# --- What a model outputs -----------------------------------------------------------------------------------------


def ending(*last):
    """A model on four numbers that ends so."""
    inputs = keras.Input((1, 1, 4))
    x = layers.Flatten()(inputs)
    for layer in last:
        x = layer(x)
    return keras.Model(inputs, x, name="ending")


@pytest.mark.parametrize(
    "model",
    [
        ending(layers.Dense(3, activation="softmax")),
        ending(layers.Dense(3), layers.Softmax()),
        ending(layers.Dense(3), layers.Activation("softmax")),
        ending(keras.Sequential([layers.Dense(3), layers.Softmax()])),
        keras.Sequential([keras.Input((1, 1, 4)), ending(layers.Dense(3, activation="softmax"))]),
        ending(layers.Dense(3)),
        ending(keras.Sequential([layers.Dense(3)])),
    ],
    ids=["softmax", "Softmax", "Activation", "nested Sequential", "nested", "logits", "nested logits"],
)
def test_probabilities_are_taken_once_wherever_the_softmax_is(model):
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 1, 4), dtype=np.uint8)
    outputs = model.predict_on_batch(images)
    if not np.allclose(outputs.sum(axis=1), 1):
        outputs = np.asarray(keras.ops.softmax(outputs))
    np.testing.assert_allclose(evaluation.predict_proba(model, images), outputs, atol=1e-6)


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ([layers.Dense(3, activation="sigmoid")], "with activation 'sigmoid'; expected logits"),
        ([layers.Dense(3), layers.Activation("relu")], "with activation 'relu'; expected logits"),
        ([layers.Dense(3), layers.Rescaling(0.5)], "ends in rescaling.*, a Rescaling; expected logits"),
        ([layers.Dense(12), layers.Reshape((4, 3))], "expected one output \\(None, classes\\)"),
    ],
)
def test_outputs_that_are_no_classes_probabilities_are_refused(last, message):
    with pytest.raises(ValueError, match=message):
        evaluation.predict_proba(ending(*last), np.zeros((2, 1, 1, 4), np.uint8) + 7)


# --- The key of the features that are kept ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"pooling": "max"},
        {"layout": (1, 1, 2)},
        {"activation": "relu"},
        {"preprocessing": "lite"},
        {"bn_epsilon": 0.1},
    ],
    ids=str,
)
def test_features_of_another_configuration_are_not_taken_for_these(changed, tmp_path):
    options = {"include_top": False, "pooling": "avg"}
    one, other = tiny(**options), tiny(**options | changed)
    other.set_weights(one.get_weights())
    transfer.extract_features(one, IMAGES, tmp_path)
    found = transfer.extract_features(other, IMAGES, tmp_path)
    np.testing.assert_allclose(found, other.predict_on_batch(IMAGES), atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 2


def test_features_are_found_again_under_other_names_of_layers(tmp_path, capsys):
    one = tiny(include_top=False, pooling="avg")
    transfer.extract_features(transfer.on_upsampled(one, (16, 16, 3)), IMAGES[:, :16, :16], tmp_path)
    for _ in range(3):
        keras.layers.Rescaling(1.0)  # Keras counts the names it makes up
    again = tiny(include_top=False, pooling="avg")
    again.set_weights(one.get_weights())
    capsys.readouterr()
    transfer.extract_features(transfer.on_upsampled(again, (16, 16, 3)), IMAGES[:, :16, :16], tmp_path)
    assert capsys.readouterr().out == "" and len(list(tmp_path.iterdir())) == 1


# --- Labels -------------------------------------------------------------------------------------------------------

GOOD = [LABELS, LABELS[:, None], LABELS.astype("uint8"), LABELS.tolist()]
BAD = [
    (np.eye(10)[LABELS], ValueError, r"labels have shape \(6, 10\); .*one-hot labels: use labels.argmax"),
    (LABELS.astype(float), TypeError, "labels are float64; expected integers"),
    (LABELS + 10, ValueError, "labels are 10 to 15; expected 0 to 9"),
    (LABELS - 1, ValueError, "labels are -1 to 4; expected 0 to 9"),
]
PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(10), 6)
WITH_LABELS = {
    "evaluate": lambda labels: evaluation.evaluate(PROBABILITIES, labels),
    "reliability": lambda labels: evaluation.reliability(PROBABILITIES, labels),
    "confusion_counts": lambda labels: evaluation.confusion_counts(labels, PROBABILITIES.argmax(axis=1), 10),
    "Batches": lambda labels: training.Batches(labels, 3, 10, RECIPE)[0][1],
}


@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_of_any_usual_form_mean_the_same_and_others_are_refused(name):
    call = WITH_LABELS[name]
    for labels in GOOD:
        np.testing.assert_equal(call(labels), call(LABELS))
    for labels, error, message in BAD:
        with pytest.raises(error, match=message):
            call(labels)


def test_as_many_labels_as_predictions():
    with pytest.raises(ValueError, match="6 predictions and 5 labels"):
        evaluation.evaluate(PROBABILITIES, LABELS[:5])


# --- Multiply-adds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Conv1D(4, 3, padding="same"), (10, 2), 10 * 3 * 2 * 4),
        (layers.Conv3D(4, 3, padding="same"), (5, 5, 5, 2), 125 * 27 * 2 * 4),
        (layers.Conv2D(4, 3, padding="same", groups=2), (8, 8, 2), 64 * 9 * 1 * 4),
        (layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), (8, 8, 2), 64 * 9 * 2 * 2),
        (layers.Dense(4), (5, 3), 5 * 3 * 4),
    ],
)
def test_multiply_adds_by_hand(layer, shape, expected):
    inputs = keras.Input(shape)
    assert count_macs(keras.Model(inputs, layer(inputs))) == expected


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2DTranspose(4, 3),
        layers.SeparableConv2D(4, 3),
        layers.TimeDistributed(layers.Dense(3)),
        layers.EinsumDense("abcd,de->abce", (None, None, 3)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_are_not_counted_are_named(layer):
    inputs = keras.Input((8, 8, 2))
    with pytest.raises(ValueError, match=f"layer {layer.name} is a {type(layer).__name__}, whose MACs"):
        count_macs(keras.Model(inputs, layer(inputs)))


def test_a_layer_that_is_used_twice_is_named():
    inputs, conv = keras.Input((8, 8, 2)), layers.Conv2D(2, 3, padding="same", name="conv")
    with pytest.raises(ValueError, match="layer conv is used 2 times; expected once"):
        count_macs(keras.Model(inputs, conv(conv(inputs))))
