"""A training that was killed and resumed ends as one that was not; damaged or foreign checkpoints are not used."""

import shutil

import keras
import numpy as np
import pytest

from effnet_utils.training.augment import Batches
from effnet_utils.training.checkpoints import Checkpoints, _read_checked
from effnet_utils.training.recipe import Recipe
from effnet_utils.training.trainer import EpochLogger, StopAtNaN, make_trainer
from tests.tiny import tiny

pytestmark = pytest.mark.slow  # each test trains

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, 32, 32, 3), np.uint8)
LABELS = RNG.integers(0, 10, 64)
EPOCHS = 3


class Killed(BaseException):
    """As a signal, past every ``except Exception``."""


class Kill(keras.callbacks.Callback):
    """Ends the process's training in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 2):
            raise Killed


def begin(folder, *, resume=False, learning_rate=0.01):
    """(callbacks, batches, trainer, epochs done) of a run, as notebook 07 makes them."""
    keras.utils.set_random_seed(0)
    network = tiny(drop_connect_rate=0.2, dropout_rate=0.2)
    batches = Batches(LABELS, 16, 10, Recipe())
    trainer = make_trainer(network, IMAGES, Recipe(), learning_rate, EPOCHS * len(batches))
    logger = EpochLogger()
    checkpoints = Checkpoints(folder, trainer, batches, logger, {"learning_rate": learning_rate})
    return [logger, StopAtNaN(), checkpoints], batches, trainer, checkpoints.start(resume)


def run(folder, *more, resume=False):
    """(state, figures of the epochs) at the end."""
    callbacks, batches, trainer, done = begin(folder, resume=resume)
    trainer.fit(batches, epochs=EPOCHS, initial_epoch=done, verbose=0, callbacks=[*callbacks, *more])
    return [np.array(value) for value in callbacks[2]._state()], callbacks[0].per_epoch


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        run(folder, Kill(2))
    return folder


@pytest.fixture
def stopped(killed, tmp_path):
    """The folder of a run that was killed in its third epoch."""
    return shutil.copytree(killed, tmp_path / "stopped")


def assert_same(found, expected):
    for ours, theirs in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(found[1], expected[1], strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_it_resumes_to_the_same_end(whole, stopped, capsys):
    assert_same(run(stopped, resume=True), whole)
    assert "resuming from checkpoint-0002, after 2 epochs" in capsys.readouterr().out
    assert sorted(path.name for path in stopped.iterdir()) == ["checkpoint-0002", "checkpoint-0003"]


def test_takes_the_one_before_a_damaged_one(whole, stopped, capsys):
    newest = stopped / "checkpoint-0002"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert_same(run(stopped, resume=True), whole)
    out = capsys.readouterr().out
    assert "checkpoint-0002 is removed: it is damaged" in out and "resuming from checkpoint-0001" in out


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:99] + b"\0" + b[100:], lambda b: b[1:], lambda b: b + b"1"]
)
def test_damage_is_seen(killed, damage):
    content = (killed / "checkpoint-0001").read_bytes()
    about, arrays = _read_checked(content)
    assert about["epochs"] == 1 and len(arrays) > 50 and damage(content) != content
    with pytest.raises(ValueError, match="it is damaged"):
        _read_checked(damage(content))


def test_starts_again_when_all_are_damaged(stopped, capsys):
    for path in stopped.iterdir():
        path.write_bytes(b"nothing")
    assert begin(stopped, resume=True)[-1] == 0 and not list(stopped.iterdir())
    assert "starting with the first epoch" in capsys.readouterr().out


def test_refuses_another_run_and_names_what_differs(stopped):
    before = [path.read_bytes() for path in stopped.iterdir()]
    with pytest.raises(ValueError, match=r"another run: learning_rate \(0.01 there, 0.02 here\); set"):
        begin(stopped, resume=True, learning_rate=0.02)
    with pytest.raises(ValueError, match="did not end; continue it with resume=true"):
        begin(stopped)
    assert before == [path.read_bytes() for path in stopped.iterdir()]


class Poison(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2:
            self.model.network.get_layer("predictions").bias.assign(np.full(10, np.nan))


def test_a_nan_loss_ends_the_run_and_keeps_the_state(stopped):
    kept = (stopped / "checkpoint-0002").read_bytes()
    with pytest.raises(FloatingPointError, match="nan since batch 3 of epoch 3; a lower learning_rate"):
        run(stopped, Poison(), resume=True)
    assert (stopped / "checkpoint-0002").read_bytes() == kept and not (stopped / "checkpoint-0003").exists()


def test_a_trainer_that_was_trained_is_not_trained_on_by_mistake(tmp_path):
    """As when the cell that trains in 07 is interrupted in the first epoch and run again."""
    callbacks, batches, trainer, done = begin(tmp_path)
    with pytest.raises(Killed):
        trainer.fit(batches, epochs=EPOCHS, initial_epoch=done, verbose=0, callbacks=[*callbacks, Kill(0)])
    for resume in (False, True):
        with pytest.raises(ValueError, match="this trainer has taken 3 steps already; build the network"):
            callbacks[2].start(resume)
