"""A short real training, and what each of its parts promises."""

import warnings

import keras
import numpy as np
import pytest

from effnet_utils import load_toy
from effnet_utils.training.augment import Batches, augment
from effnet_utils.training.live import LiveProgress
from effnet_utils.training.recipe import Recipe
from effnet_utils.training.trainer import EpochLogger, OnDeviceTrainer, StopAtNaN, make_trainer
from tests.tiny import dtype_policy, tiny

(IMAGES, LABELS), _ = load_toy()
ZERO_NOTHING = Recipe(zero_last_gamma=False, zero_classifier=False)


def numbers(weight):
    return keras.ops.convert_to_numpy(weight)


def fit(seed=0, epochs=2, callbacks=(), recipe=ZERO_NOTHING):
    keras.utils.set_random_seed(seed)
    network = tiny()
    batches = Batches(LABELS[:320], 32, 10, recipe, seed)
    trainer = make_trainer(network, IMAGES[:320], recipe, 2e-2, epochs * len(batches))
    logger = EpochLogger(validation=(IMAGES[-100:], LABELS[-100:]))
    trainer.fit(batches, epochs=epochs, verbose=0, callbacks=[logger, *callbacks])
    return network, logger


def test_training_lowers_the_loss_and_logs_each_epoch(capsys):
    network, logger = fit(epochs=3)
    assert logger.per_epoch[-1]["loss"] < logger.per_epoch[0]["loss"] < 3
    assert [row["epoch"] for row in logger.per_epoch] == [1, 2, 3]
    assert logger.per_epoch[-1]["learning_rate"] < 2e-3
    assert logger.compile_seconds > 0
    first, *lines = capsys.readouterr().out.strip().splitlines()
    assert first == "compiling the training step (a minute or more) ..."
    assert len(lines) == 3 and all("accuracy" in line and "validation" in line for line in lines)
    assert [line.endswith(" left") for line in lines] == [True, True, False]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_training():
    first, second = (fit(seed=1)[1].per_epoch for _ in range(2))
    assert [row["loss"] for row in first] == pytest.approx([row["loss"] for row in second], rel=1e-3)


@pytest.mark.slow
def test_the_step_of_a_gpu_trains_here_too():
    """As far as a CPU can tell: compiled by XLA, uint8 images in a variable, half precision with loss scaling."""
    with dtype_policy("mixed_float16"):
        keras.utils.set_random_seed(0)
        network = tiny()
        batches = Batches(LABELS[:320], 32, 10, ZERO_NOTHING, 0)
        trainer = make_trainer(network, IMAGES[:320], ZERO_NOTHING, 2e-2, 3 * len(batches))
        trainer.jit_compile = True
        logger = EpochLogger()
        trainer.fit(batches, epochs=3, verbose=0, callbacks=[logger, StopAtNaN()])
    assert logger.per_epoch[-1]["loss"] < logger.per_epoch[0]["loss"] < 3
    assert network.get_layer("stem_conv").compute_dtype == "float16"
    assert {weight.dtype for weight in network.trainable_weights} == {"float32"}


def test_the_recipe_sets_zeros_where_there_is_a_skip():
    network = tiny()
    make_trainer(network, IMAGES[:8], Recipe(), 1e-3, 100)
    names = [layer.name for layer in network.layers]
    norms = [layer for layer in network.layers if layer.name.endswith("project_bn")]
    with_skip = [layer.name.replace("project_bn", "add") in names for layer in norms]
    assert sorted(with_skip) == [False, False, True]
    assert [not numbers(layer.gamma).any() for layer in norms] == with_skip
    assert not numbers(network.get_layer("predictions").kernel).any()


def test_the_recipe_can_leave_the_weights_alone():
    network = tiny()
    before = network.get_weights()
    make_trainer(network, IMAGES[:8], ZERO_NOTHING, 1e-3, 100)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_weights_in_half_precision_are_refused():
    with dtype_policy("float16"):
        network = tiny()
    with pytest.raises(ValueError, match=r"half precision; expected float32.*mixed_float16"):
        make_trainer(network, IMAGES[:8], Recipe(), 1e-3, 100)


def test_norms_and_biases_are_not_decayed():
    trainer = make_trainer(tiny(), IMAGES[:8], Recipe(), 1e-3, 100)
    trainer.optimizer.build(trainer.trainable_variables)
    decayed = [v.path for v in trainer.trainable_variables if trainer.optimizer._use_weight_decay(v)]
    assert {path.split("/")[-1] for path in decayed} == {"kernel"}


def test_another_optimizer_takes_the_schedule():
    trainer = make_trainer(tiny(), IMAGES[:8], Recipe(), 0.5, 100, optimizer=keras.optimizers.SGD)
    assert type(trainer.optimizer) is keras.optimizers.SGD
    assert float(trainer.optimizer.learning_rate) == pytest.approx(0.05)


def test_the_trainer_sees_augmented_images_and_trains_its_network():
    network = tiny()
    inputs, _ = Batches(LABELS[:64], 64, 10, Recipe(), seed=3)[0]
    trainer = make_trainer(network, IMAGES[:64], ZERO_NOTHING, 1e-3, 10)
    expected = network(augment(IMAGES[:64], **inputs), training=False)
    np.testing.assert_allclose(trainer(inputs, training=False), expected, atol=1e-5)
    assert [v.path for v in trainer.trainable_variables] == [v.path for v in network.trainable_variables]


@pytest.mark.slow
def test_its_weights_file_does_not_hold_the_images(tmp_path):
    network = tiny()
    trainer = make_trainer(network, IMAGES, ZERO_NOTHING, 1e-3, 10)
    inputs, _ = Batches(LABELS, 2, 10, Recipe())[0]
    trainer(inputs)
    trainer.save_weights(tmp_path / "trainer.weights.h5")
    network.save_weights(tmp_path / "network.weights.h5")
    sizes = [(tmp_path / f"{name}.weights.h5").stat().st_size for name in ("trainer", "network")]
    assert abs(sizes[0] - sizes[1]) < IMAGES.nbytes / 10
    kernel = network.get_layer("stem_conv").kernel
    before = numbers(kernel).copy()
    kernel.assign(kernel + 1)
    trainer.load_weights(tmp_path / "trainer.weights.h5")
    np.testing.assert_array_equal(numbers(kernel), before)
    np.testing.assert_array_equal(numbers(trainer.images), IMAGES)


def test_it_checks_its_images():
    with pytest.raises(TypeError, match="expected uint8"):
        OnDeviceTrainer(tiny(), np.zeros((4, 32, 32, 3), np.float32))


@pytest.mark.slow
def test_callbacks_of_keras_work_after_the_logger(tmp_path):
    """They find the validation's figures in their logs, and save and restore the network alone."""
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_accuracy", save_best_only=True)
    table = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    # No epoch is better than the first by 10: it stops after the second, with the first one's weights.
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=10, restore_best_weights=True)
    after_first = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: after_first.append(network_of(keep).get_weights()) if epoch == 0 else None
    )
    network, logger = fit(epochs=4, callbacks=[keep, best, table, stop])
    assert len(logger.per_epoch) == 2
    for ours, theirs in zip(network.get_weights(), after_first[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert header == "epoch,accuracy,loss,val_accuracy,val_loss" and len(rows) == 2
    assert float(rows[0].split(",")[3]) == logger.per_epoch[0]["validation_accuracy"]
    saved = keras.saving.load_model(tmp_path / "best.keras")
    assert [weight.path for weight in saved.weights] == [weight.path for weight in network.weights]


def network_of(callback):
    return callback.model.network


def test_a_resumed_run_shows_the_epochs_before(capsys):
    logger = EpochLogger()
    logger.set_params({"epochs": 3})
    logger.per_epoch = [{"epoch": 1, "loss": 2.0, "accuracy": 0.25, "learning_rate": 0.1, "seconds": 7.6}]
    logger.on_train_begin()
    assert capsys.readouterr().out == "epoch  1/3  loss 2.000  accuracy 25.0%  8 s\n"


@pytest.mark.parametrize(("seconds", "said"), [(20, ", about 40 seconds left"), (288, ", about 10 minutes left")])
def test_the_time_left(seconds, said):
    logger = EpochLogger()
    logger.set_params({"epochs": 5})
    assert logger._time_left(2, seconds) == said
    assert logger._time_left(4, seconds) == ""


def test_what_would_mean_other_images_is_refused():
    trainer = make_trainer(tiny(), IMAGES[:8], Recipe(), 1e-3, 10)
    batches = Batches(LABELS[:8], 8, 10, Recipe())
    with pytest.raises(TypeError, match=r"use EpochLogger\(validation="):
        trainer.fit(batches, validation_data=batches)
    with pytest.raises(TypeError, match=r"evaluate the network: .*predict_proba\(trainer.network, images\)"):
        trainer.evaluate(batches)
    with pytest.raises(TypeError, match="fit was given ndarray; expected Batches"):
        trainer.fit(IMAGES[:8])


@pytest.mark.slow
def test_what_wraps_the_images_shows_and_predicts_as_its_network(tmp_path):
    network = tiny()
    trainer = make_trainer(network, IMAGES[:8], ZERO_NOTHING, 1e-3, 10)
    np.testing.assert_array_equal(trainer.predict(IMAGES[:8], verbose=0), network.predict(IMAGES[:8], verbose=0))
    lines, expected = [], []
    trainer.summary(print_fn=lambda text, **_: lines.append(text))
    network.summary(print_fn=lambda text, **_: expected.append(text))
    assert lines == expected and f"{network.count_params():,}" in "".join(lines)
    trainer.export(tmp_path / "exported", verbose=False)
    size = sum(path.stat().st_size for path in (tmp_path / "exported").rglob("*") if path.is_file())
    assert size < 3e6, "the images are not in it"


def test_keras_need_not_wait_for_the_metrics_of_each_step(monkeypatch):
    """Where it can do without: on JAX and PyTorch. With TensorFlow it fetches them after each step in any case."""
    monkeypatch.setattr("keras.src.backend.IS_THREAD_SAFE", True)
    logger = EpochLogger()
    together = keras.callbacks.CallbackList([logger, StopAtNaN(), LiveProgress(logger)], add_history=True)
    assert together._async_train


class Poison(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2:
            self.model.network.get_layer("predictions").bias.assign(np.full(10, np.nan))


def test_the_step_is_traced_once(monkeypatch):
    """TensorFlow traces it again when it creates variables, such as the optimizer's: half of the time before step 1."""
    traced = []
    step = OnDeviceTrainer.train_step
    monkeypatch.setattr(OnDeviceTrainer, "train_step", lambda self, data: traced.append(1) or step(self, data))
    fit(epochs=1)
    assert traced == [1]


@pytest.mark.slow
def test_a_nan_loss_ends_the_training():
    with pytest.raises(FloatingPointError, match="nan since batch 3 of epoch 1; a lower learning_rate"):
        fit(callbacks=[Poison(), StopAtNaN()])


@pytest.mark.slow
def test_no_warnings_of_retracing(capfd):
    """TensorFlow says so when it compiles a function again and again."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(epochs=1)
    assert "retracing" not in capfd.readouterr().err
