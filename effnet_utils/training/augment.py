"""Augmentation: images flipped left to right and shifted by a few pixels, chosen anew in each epoch."""

import keras
import numpy as np
from keras import ops

from effnet_utils.datasets import check_labels


def augment(images, index, flip, shift):
    """Choose images, flip and shift them, by indices alone: on any backend, inside or outside a compiled graph.

    Args:
        images: tensor or array (n, height, width, channels) of any dtype.
        index: integers (batch,), which images.
        flip: integers (batch,), 1 to flip an image left to right, else 0.
        shift: integers (batch, 2), rows and columns by which the result begins below and right of the image's corner,
            each smaller than the image's size. What lies outside is the reflection at the edge.

    Returns:
        Tensor (batch, height, width, channels) of the dtype of ``images``.
    """
    height, width, channels = images.shape[1:]

    def reflect(places, size):
        return size - 1 - ops.abs(size - 1 - ops.abs(places))

    rows = reflect(shift[:, :1] + ops.arange(height, dtype="int32"), height)
    columns = reflect(shift[:, 1:] + ops.arange(width, dtype="int32"), width)
    columns = ops.where(flip[:, None] == 1, width - 1 - columns, columns)
    # Two small gathers, whole images and then pixels: a single one over all images would need 64-bit indices.
    first_row = ops.arange(ops.shape(index)[0], dtype="int32")[:, None] * height
    places = (first_row + rows)[:, :, None] * width + columns[:, None, :]
    chosen = ops.reshape(ops.take(images, index, axis=0), (-1, channels))
    return ops.take(chosen, places, axis=0)


class Batches(keras.utils.PyDataset):
    """Which images a step trains on, and how each is augmented; the same for the same seed, on every backend.

    No pixel is touched here: the images are in the device's memory, with the ``OnDeviceTrainer``.

    Args:
        labels: integers (n,), as ``check_labels`` takes them.
        batch_size: int; the last, smaller batch of an epoch is left out, so that shapes are fixed.
        classes: int, length of the one-hot targets.
        recipe: Recipe; ``flip`` and ``translate`` are used.
        seed: int.
        shard: (number of this process, how many processes train together); each yields its part of every batch.

    Raises:
        TypeError, ValueError: as in ``check_labels``, or a batch is larger than the data.

    Yields:
        {"index", "flip", "shift"} as in ``augment``, int32; one-hot targets float32 (batch_size, classes).
    """

    def __init__(self, labels, batch_size, classes, recipe, seed=0, shard=(0, 1)):
        # With more than one worker Keras does without tf.data's autotuning, whose thread can delay the end of an epoch
        # by up to a minute.
        super().__init__(workers=2)
        labels = check_labels(labels, classes)
        if batch_size > len(labels):
            raise ValueError(f"batch_size is {batch_size}, but there are only {len(labels)} images")
        self.labels = labels
        self.batch_size = batch_size
        self.classes = classes
        self.recipe = recipe
        self.seed = seed
        self.shard = shard
        self.flipped_first = np.random.default_rng(seed).random(len(labels)) < 0.5
        self.restart()

    def sharded(self, number, count):
        """The same batches, of which process ``number`` of ``count`` takes its part."""
        batches = Batches(self.labels, self.batch_size, self.classes, self.recipe, self.seed, shard=(number, count))
        batches.restart(self.epoch)
        return batches

    def restart(self, epoch=0):
        """Go to the beginning of an epoch."""
        self.epoch = epoch
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.labels))

    def on_epoch_end(self):
        self.restart(self.epoch + 1)

    def __len__(self):
        return len(self.labels) // self.batch_size

    def __getitem__(self, number):
        index = self.order[number * self.batch_size : (number + 1) * self.batch_size]
        inputs = {"index": index, "flip": self._flips(index), "shift": self._shifts(number)}
        targets = np.eye(self.classes, dtype=np.float32)[self.labels[index]]
        return {name: self._part(values.astype(np.int32)) for name, values in inputs.items()}, self._part(targets)

    def _flips(self, index):
        """Half of the images are flipped in even epochs, the other half in odd ones."""
        odd = self.epoch % 2 == 1
        return (self.flipped_first[index] ^ odd) & self.recipe.flip

    def _shifts(self, number):
        pixels = self.recipe.translate
        rng = np.random.default_rng((self.seed, self.epoch, number))
        return rng.integers(-pixels, pixels + 1, (self.batch_size, 2))

    def _part(self, values):
        number, count = self.shard
        return np.split(values, count)[number]
