"""One run on several devices: each computes its share of every batch, and all take the same step.

The batch, the order of the images and how they are moved are those of one device. JAX computes what one device would.
With TensorFlow, BatchNormalization takes each share's own statistics, and the moving averages are the first device's.
"""

import contextlib
import os
from functools import partial

import keras

PROCESSES = "KERAS_DISTRIBUTION_NUM_PROCESSES"


def join_hosts():
    """Wait for the other processes when the environment says that several train together; before any computation.

    Each sets KERAS_DISTRIBUTION_JOB_ADDRESSES (host:port of the first), KERAS_DISTRIBUTION_NUM_PROCESSES and
    KERAS_DISTRIBUTION_PROCESS_ID (0, 1, ...).

    Raises:
        ValueError: the backend is not JAX.

    Copy with: PROCESSES.
    """
    if PROCESSES in os.environ:
        if keras.backend.backend() != "jax":
            raise ValueError(f"{PROCESSES} is set, and only JAX trains on several hosts: unset it, or take that")
        keras.distribution.initialize()


def scope_over(devices):
    """The scope in which a network and its learner are made and trained.

    Args:
        devices: int, how many share each batch: GPUs, or CPUs where there is no GPU. 1 changes nothing.

    Returns:
        Function without arguments: ``scope = scope_over(2)``, then ``with scope():`` wherever the network is trained.

    Raises:
        ValueError: there are not so many, or several hosts would not use all of theirs; PyTorch takes one.

    Copy with: PROCESSES.
    """
    backend, together = keras.backend.backend(), PROCESSES in os.environ
    if devices == 1 and not together:
        return contextlib.nullcontext
    if backend == "tensorflow":
        import tensorflow as tf

        found = [one.name for one in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
        strategy = tf.distribute.MirroredStrategy
    else:
        found = keras.distribution.list_devices() if backend == "jax" else ["the one that PyTorch takes here"]
        strategy = partial(keras.distribution.DataParallel, auto_shard_dataset=False)
    if devices > len(found) or (together and devices < len(found)):
        allowed = f"{'' if together else 'at most '}{len(found)}"
        raise ValueError(f"devices is {devices}; allowed: {allowed}; found: {', '.join(found)}")
    return strategy(devices=found[:devices]).scope


def shares(batches, learner):
    """What ``fit`` is given in place of ``batches``, within a scope.

    Args:
        batches: ``Batches``.
        learner: ``Learner``.

    Returns:
        (dataset, callbacks that ``fit`` needs with it).

    Copy with: nothing.
    """
    distribution = keras.distribution.distribution()
    if distribution is not None:
        batches.share = distribution.data_shard_id, distribution.num_processes
    if keras.backend.backend() != "tensorflow" or learner.distribute_strategy.num_replicas_in_sync == 1:
        return batches, []
    import tensorflow as tf

    # Keras reads ahead for several devices and throws some of it away: what its threads prepare gets lost or comes
    # late, so here each epoch reads its own. Without tf.data's tuning, as in ``Batches``.
    dataset = tf.data.Dataset.from_generator(
        lambda: map(batches.__getitem__, range(len(batches))),
        output_signature=tuple(tf.TensorSpec(part.shape, part.dtype) for part in batches[0]),
    ).apply(tf.data.experimental.assert_cardinality(len(batches)))
    options = tf.data.Options()
    options.autotune.enabled = False
    # As with one device: ``fit`` begins with the order of epoch 1.
    restart = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.restart(epoch + 1))
    return dataset.with_options(options), [restart]
