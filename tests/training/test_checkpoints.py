"""A training that is stopped and taken up again ends as one that was not; what is damaged or foreign is not taken."""

import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from effnet_utils.checkpoints import Checkpoints, _unsealed

from effnet_utils import efficientnet, records, train

pytestmark = pytest.mark.slow

RECIPE = train.Recipe(width=0.2, depth=0.3, drop_connect_rate=0.2, dropout_rate=0.2)
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (64, 32, 32, 3), np.uint8), RNG.integers(0, 10, 64)
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
    """(callbacks, batches, learner, epochs done) of a run, as notebook 07 makes them."""
    keras.utils.set_random_seed(0)
    net = efficientnet(
        "b0", layout="imagenet", input_shape=(32, 32, 3), classes=10, classifier_activation=None, **RECIPE.builder()
    )
    batches = train.Batches(LABELS, 16, 10, RECIPE)
    learner = train.prepare(net, IMAGES, RECIPE, learning_rate, EPOCHS * len(batches))
    lines = train.EpochLines()
    checkpoints = Checkpoints(folder, learner, batches, lines, {"learning_rate": learning_rate})
    return [lines, train.StopAtNaN(), checkpoints], batches, learner, checkpoints.start(resume)


def run(folder, *more, resume=False):
    """(state, figures of the epochs) at the end."""
    callbacks, batches, learner, done = begin(folder, resume=resume)
    learner.fit(batches, epochs=EPOCHS, initial_epoch=done, verbose=0, callbacks=[*callbacks, *more])
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


def test_goes_on_to_the_same_end(whole, stopped, capsys):
    assert_same(run(stopped, resume=True), whole)
    assert "goes on from checkpoint-0002: 2 epochs are done" in capsys.readouterr().out
    assert sorted(path.name for path in stopped.iterdir()) == ["checkpoint-0002", "checkpoint-0003"]


def test_takes_the_one_before_a_damaged_one(whole, stopped, capsys):
    newest = stopped / "checkpoint-0002"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert_same(run(stopped, resume=True), whole)
    out = capsys.readouterr().out
    assert "checkpoint-0002 is removed: it is damaged" in out and "goes on from checkpoint-0001" in out


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:99] + b"\0" + b[100:], lambda b: b[1:], lambda b: b + b"1"]
)
def test_damage_is_seen(killed, damage):
    content = (killed / "checkpoint-0001").read_bytes()
    about, arrays = _unsealed(content)
    assert about["epochs"] == 1 and len(arrays) > 100 and damage(content) != content
    with pytest.raises(ValueError, match="it is damaged"):
        _unsealed(damage(content))


def test_starts_again_when_all_are_damaged(stopped, capsys):
    for path in stopped.iterdir():
        path.write_bytes(b"nothing")
    assert begin(stopped, resume=True)[-1] == 0 and not list(stopped.iterdir())
    assert "starts with the first epoch" in capsys.readouterr().out


def test_refuses_another_run_and_names_what_differs(stopped):
    before = [path.read_bytes() for path in stopped.iterdir()]
    with pytest.raises(ValueError, match=r"another run: learning_rate \(0.01 there, 0.02 here\); set"):
        begin(stopped, resume=True, learning_rate=0.02)
    with pytest.raises(ValueError, match="did not end; go on with it by resume=true"):
        begin(stopped)
    assert before == [path.read_bytes() for path in stopped.iterdir()]


class Poison(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 2:
            self.model.net.get_layer("predictions").bias.assign(np.full(10, np.nan))


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_state(stopped):
    kept = (stopped / "checkpoint-0002").read_bytes()
    with pytest.raises(FloatingPointError, match="nan since batch 3 of epoch 3; a lower learning_rate"):
        run(stopped, Poison(), resume=True)
    assert (stopped / "checkpoint-0002").read_bytes() == kept and not (stopped / "checkpoint-0003").exists()


def test_a_file_is_whole_or_not_there(tmp_path):
    (tmp_path / "a").write_bytes(b"before")
    with pytest.raises(OSError, match="no space"), records.whole_file(tmp_path / "a") as file:
        file.write(b"half")
        raise OSError("no space")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"before"


def test_a_folder_belongs_to_one_process(tmp_path):
    (tmp_path / f"{records.PARTIAL}1").write_bytes(b"half")
    ask = f"from effnet_utils import records; records.open_output_dir({str(tmp_path)!r}, '07')"
    hold = [sys.executable, "-c", f"{ask}; print('held', flush=True); input()"]
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert not list(tmp_path.glob(f"{records.PARTIAL}*"))
        refused = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
        assert refused.returncode == 1 and "is in use by another run; choose another" in refused.stderr
        holder.kill()
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True).returncode == 0
