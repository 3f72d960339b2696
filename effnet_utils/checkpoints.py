"""Checkpoints: a run that was killed goes on where it was."""

import hashlib
import io
import json
from pathlib import Path

import keras
import numpy as np

from effnet_utils.records import whole_file


class Checkpoints(keras.callbacks.Callback):
    """Writes all of a training's state after each epoch, and gives it back.

    The state: weights, statistics of BatchNorm, states of random generators, the optimizer's moments and step, the
    figures of the epochs so far. The order of the images and how they are moved follow from the epoch's number
    (``Batches``). So a run that goes on ends with the weights of one that was never stopped, bit for bit where the
    backend computes the same way twice.

    Args:
        folder: Path of the run's folder; no other run may write there at the same time.
        learner: compiled ``Learner``.
        batches: the ``Batches`` that it is trained on.
        lines: the ``EpochLines`` that goes along, before this callback.
        run: dict of plain values that say which run this is. Another run's checkpoint is refused.

    Copy with: whole_file, KEPT, _sealed, _unsealed.
    """

    def __init__(self, folder, learner, batches, lines, run):
        super().__init__()
        self.folder, self.learner, self.batches, self.lines, self.run = Path(folder), learner, batches, lines, run
        learner.optimizer.build(learner.trainable_variables)

    def _state(self):
        kept = [variable for variable in self.learner.variables if variable is not self.learner.images]
        return kept + list(self.learner.optimizer.variables)

    def on_epoch_end(self, epoch, logs=None):
        about = {"run": self.run, "epochs": epoch + 1, "per_epoch": self.lines.per_epoch}
        about["compile_seconds"] = self.lines.compile_seconds
        arrays = {f"{k:04}": keras.ops.convert_to_numpy(variable) for k, variable in enumerate(self._state())}
        with whole_file(self.folder / f"checkpoint-{epoch + 1:04}") as file:
            file.write(_sealed(about, arrays))
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
            ValueError: the checkpoint belongs to another run (names what differs), or there is one without ``resume``.
        """
        if not resume and self._paths():
            raise ValueError(
                f"{self.folder} holds checkpoints of a run that did not end; go on with it by resume=true, or choose "
                "another folder"
            )
        for path in self._paths():
            try:
                about, arrays = _unsealed(path.read_bytes())
            except ValueError as error:
                print(f"{path.name} is removed: {error}")
                path.unlink()
                continue
            there = about["run"]
            differs = [name for name in self.run | there if self.run.get(name) != there.get(name)]
            if differs:
                pairs = ", ".join(
                    f"{name} ({there.get(name)!r} there, {self.run.get(name)!r} here)" for name in differs
                )
                raise ValueError(
                    f"{path} belongs to another run: {pairs}; set these as there, or choose another folder"
                )
            for variable, value in zip(self._state(), arrays, strict=True):
                variable.assign(value)
            self.lines.per_epoch, self.lines.compile_seconds = about["per_epoch"], about["compile_seconds"]
            self.batches.restart(about["epochs"])
            print(f"goes on from {path.name}: {about['epochs']} epochs are done")
            return about["epochs"]
        if resume:
            print(f"no checkpoint in {self.folder}: starts with the first epoch")
        return 0

    def remove(self):
        """Delete the checkpoints, when the run's results are written."""
        for path in self._paths():
            path.unlink()


KEPT = 2


def _sealed(about, arrays):
    """Bytes: SHA-256 of the rest, then the arrays as an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, about=np.array(json.dumps(about)), **arrays)
    return hashlib.sha256(buffer.getbuffer()).digest() + buffer.getvalue()


def _unsealed(content):
    """(about, list of arrays). Raises ValueError when the seal is broken."""
    seal, rest = content[:32], content[32:]
    if hashlib.sha256(rest).digest() != seal:
        raise ValueError("it is damaged, its SHA-256 is not the one that it was sealed with")
    with np.load(io.BytesIO(rest), allow_pickle=False) as held:
        return json.loads(str(held["about"])), [held[name] for name in sorted(held.files) if name != "about"]
