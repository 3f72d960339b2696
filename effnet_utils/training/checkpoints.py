"""Checkpoints: a run that was killed continues where it was.

Keras's own ``BackupAndRestore`` loses the state of dropout's seed generators: with dropout 0.2 a resumed run differed
in 363 of 380 variables (tried with Keras 3.15).
"""

import hashlib
import io
import json
from pathlib import Path

import keras
import numpy as np

from effnet_utils.files import atomic_write

KEPT = 2  # the newest, and one before it in case that one is damaged


class Checkpoints(keras.callbacks.Callback):
    """Writes all of a training's state after each epoch, and gives it back.

    The state: weights, statistics of BatchNorm, states of random generators, the optimizer's moments and step, the
    figures of the epochs so far. The order of the images and their augmentation follow from the epoch's number
    (``Batches``). So a resumed run ends with the weights of one that was never stopped, bit for bit where the
    backend computes the same way twice.

    Args:
        folder: Path of the run's folder; no other run may write there at the same time.
        trainer: compiled ``OnDeviceTrainer``.
        batches: the ``Batches`` that it is trained on.
        logger: the ``EpochLogger`` of the same run, before this callback.
        run: dict of plain values that say which run this is. Another run's checkpoint is refused.
    """

    def __init__(self, folder, trainer, batches, logger, run):
        super().__init__()
        self.folder = Path(folder)
        self.trainer = trainer
        self.batches = batches
        self.logger = logger
        self.run = run
        trainer.optimizer.build(trainer.trainable_variables)

    def _state(self):
        kept = [variable for variable in self.trainer.variables if variable is not self.trainer.images]
        return kept + list(self.trainer.optimizer.variables)

    def on_epoch_end(self, epoch, logs=None):
        about = {"run": self.run, "epochs": epoch + 1, "per_epoch": self.logger.per_epoch}
        about["compile_seconds"] = self.logger.compile_seconds
        arrays = {f"{k:04}": keras.ops.convert_to_numpy(variable) for k, variable in enumerate(self._state())}
        with atomic_write(self.folder / f"checkpoint-{epoch + 1:04}") as file:
            file.write(_with_checksum(about, arrays))
        for path in self._paths()[KEPT:]:
            path.unlink()

    def _paths(self):
        """The newest first."""
        return sorted(self.folder.glob("checkpoint-*"), reverse=True)

    def start(self, resume):
        """Go back to the state of the newest checkpoint, or see to it that there is none.

        Args:
            resume: bool. A damaged checkpoint is removed, and the one before it taken.

        Returns:
            int, the epochs that are done. With ``resume`` it says in a line what it found.

        Raises:
            ValueError: the checkpoint belongs to another run (names what differs), there is one without ``resume``, or
                there is none and the trainer has been trained already.
        """
        if not resume and self._paths():
            raise ValueError(
                f"{self.folder} holds checkpoints of a run that did not end; continue it with resume=true, or choose "
                "another folder"
            )
        for path in self._paths():
            try:
                about, arrays = _read_checked(path.read_bytes())
            except ValueError as error:
                print(f"{path.name} is removed: {error}")
                path.unlink()
                continue
            self._require_same_run(path, about["run"])
            self._restore(about, arrays)
            print(f"resuming from {path.name}, after {about['epochs']} epochs")
            return about["epochs"]
        steps = int(keras.ops.convert_to_numpy(self.trainer.optimizer.iterations))
        if steps:
            raise ValueError(
                f"this trainer has taken {steps} steps already; build the network and the trainer anew (in 07, run "
                "section 5 from its beginning), or set resume=true where there is a checkpoint"
            )
        if resume:
            print(f"no checkpoint in {self.folder}: starting with the first epoch")
        return 0

    def _require_same_run(self, path, there):
        differs = []
        for name in self.run | there:
            if self.run.get(name) != there.get(name):
                differs.append(f"{name} ({there.get(name)!r} there, {self.run.get(name)!r} here)")
        if differs:
            raise ValueError(
                f"{path} belongs to another run: {', '.join(differs)}; set these as there, or choose another folder"
            )

    def _restore(self, about, arrays):
        for variable, value in zip(self._state(), arrays, strict=True):
            variable.assign(value)
        self.logger.per_epoch = about["per_epoch"]
        self.logger.compile_seconds = about["compile_seconds"]
        self.batches.restart(about["epochs"])

    def remove(self):
        """Delete the checkpoints, when the run's results are written."""
        for path in self._paths():
            path.unlink()


def _with_checksum(about, arrays):
    """Bytes: SHA-256 of the rest, then the arrays as an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, about=np.array(json.dumps(about)), **arrays)
    return hashlib.sha256(buffer.getbuffer()).digest() + buffer.getvalue()


def _read_checked(content):
    """(about, list of arrays). Raises ValueError when the checksum does not fit."""
    digest = content[:32]
    rest = content[32:]
    if hashlib.sha256(rest).digest() != digest:
        raise ValueError("it is damaged, its SHA-256 is not the one that was written with it")
    with np.load(io.BytesIO(rest), allow_pickle=False) as file:
        names = sorted(name for name in file.files if name != "about")
        return json.loads(str(file["about"])), [file[name] for name in names]
