"""The model is built, trained, saved and read back on the backend that KERAS_BACKEND names.

`make test` runs this file on TensorFlow, `make test-backends` on JAX and on PyTorch.
"""

import os
import time
from functools import partial

import keras
import numpy as np
import pytest

from benchmarks._throughput_worker import StepClock, profile
from effnet_utils import efficientnet, load_toy
from effnet_utils.evaluation import evaluate, predict_proba
from effnet_utils.inspection import grad_cam, gradient
from effnet_utils.training._fast_cpu import accelerate
from effnet_utils.training.augment import Batches
from effnet_utils.training.recipe import Recipe
from effnet_utils.training.trainer import EpochLogger, make_trainer

pytestmark = pytest.mark.slow

EPOCHS = 3
BATCH = 32


@pytest.fixture(scope="module")
def trained():
    """A small model after 60 steps, its figures per epoch, and images that it was trained on."""
    keras.utils.set_random_seed(0)
    (images, labels), _ = load_toy()
    images = images[:640]
    labels = labels[:640]
    # JAX compiles again for each shape: a quarter of B0's width and depth keeps that to seconds.
    recipe = Recipe(width=0.25, depth=0.25)
    model = efficientnet("b0", layout="cifar-fast", classes=10, classifier_activation=None, **recipe.build_options())
    batches = Batches(labels, BATCH, 10, recipe)
    trainer = make_trainer(model, images, recipe, 5e-3, EPOCHS * len(batches))
    logger = EpochLogger()
    trainer.fit(batches, epochs=EPOCHS, verbose=0, callbacks=[logger])
    return model, logger.per_epoch, images, labels


def test_it_is_the_backend_asked_for():
    # Keras silently uses a different backend where a settings file names one.
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    assert keras.backend.backend() == backend
    assert type(keras.ops.ones(1)).__module__.startswith(backend)


def test_training_lowers_the_loss(trained):
    model, per_epoch, images, labels = trained
    losses = [row["loss"] for row in per_epoch]
    assert len(losses) == EPOCHS and np.isfinite(losses).all()
    assert losses[0] < 2.4, "a classifier of zeros starts at ln(10) = 2.30"
    assert losses[-1] < losses[0] - 0.1
    scores = evaluate(predict_proba(model, images, batch_size=BATCH), labels)
    assert scores["accuracy"] > 0.2, "chance is 0.1"


def test_gradients_and_grad_cam(trained):
    model, _, images, labels = trained
    x = np.array([-1.0, 0.5, 2.0], np.float32)
    assert np.allclose(gradient(lambda x: x**3, x), 3 * x**2, atol=1e-5)
    feature_maps = keras.Model(model.input, model.get_layer("top_activation").output)(images[:4], training=False)
    kernel = keras.ops.convert_to_numpy(model.get_layer("predictions").kernel)[:, labels[:4]]
    places = feature_maps.shape[1] * feature_maps.shape[2]
    expected = np.maximum(np.einsum("nhwc,cn->nhw", keras.ops.convert_to_numpy(feature_maps), kernel), 0) / places
    assert np.allclose(grad_cam(model, images[:4], labels[:4]), expected, atol=1e-5)


def test_a_saved_model_needs_no_custom_objects(trained, tmp_path, monkeypatch):
    model, _, images, _ = trained
    model.save(tmp_path / "model.keras")
    registered = keras.saving.get_custom_objects()
    for name in list(registered):
        monkeypatch.delitem(registered, name)
    # Not compiled: the optimizer's schedule is this package's own class; the model is stock layers only.
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    found = predict_proba(loaded, images[:BATCH], batch_size=BATCH)
    np.testing.assert_allclose(found, predict_proba(model, images[:BATCH], batch_size=BATCH), atol=1e-6)


def test_the_faster_step_is_for_tensorflow_alone(trained):
    model = trained[0]
    assert (accelerate(model) is model) == (keras.backend.backend() != "tensorflow")


def test_the_clock_of_the_throughput_sees_the_last_step():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    clock = StepClock(4)
    inputs = np.ones((32, 3), "float32")
    for call in (partial(model.fit, inputs, inputs[:, :2]), partial(model.predict, inputs)):
        clock.begin = clock.end = None
        steps, after = clock.seconds(partial(call, batch_size=8, verbose=0))
        assert steps > 0 and after >= 0


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="of ours, a GPU trains with JAX and PyTorch")
def test_a_profile_adds_up_the_operations():
    layer = keras.layers.Dense(1000)
    images = np.ones((4000, 1000), "float32")
    layer(images)  # builds it

    def train():
        start = time.perf_counter()
        keras.ops.convert_to_numpy(layer(images))
        return time.perf_counter() - start, 0.0

    found = profile(train)
    assert all(type(name) is str for name in found["operations"])
    # The matrix product alone; the threads of a CPU may add theirs.
    assert found["seconds"] / 10 < sum(found["operations"].values()) < 10 * found["seconds"]
