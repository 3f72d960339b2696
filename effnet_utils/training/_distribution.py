"""One run on several devices: each computes its part of every batch, and all take the same step.

The batches, their order and the augmentation are those of one device. JAX computes what one device would. With
TensorFlow, BatchNormalization takes the statistics of each part, and the moving averages are the first device's.
"""

import contextlib
import os
import platform
import re
from functools import partial
from pathlib import Path

import keras

PROCESSES = "KERAS_DISTRIBUTION_NUM_PROCESSES"


def device_name():
    """What the backend computes on: the GPU's name, or "CPU" and the processor's."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    elif backend == "jax":
        import jax

        if jax.devices()[0].platform != "cpu":
            return jax.devices()[0].device_kind
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    model = re.search(r"^model name\s*: (.*)", text, re.MULTILINE)
    return f"CPU: {model[1].strip() if model else platform.processor() or platform.machine()}"


def init_distributed():
    """Wait for the other processes when the environment says that several train together; before any computation.

    Each sets KERAS_DISTRIBUTION_JOB_ADDRESSES (host:port of the first), KERAS_DISTRIBUTION_NUM_PROCESSES and
    KERAS_DISTRIBUTION_PROCESS_ID (0, 1, ...).

    Raises:
        ValueError: the backend is not JAX.
    """
    if PROCESSES in os.environ:
        if keras.backend.backend() != "jax":
            raise ValueError(f"{PROCESSES} is set, and only JAX trains on several hosts: unset it, or use JAX")
        keras.distribution.initialize()


def distribution_scope(devices):
    """The scope in which a network and its trainer are made and trained.

    Args:
        devices: int, how many share each batch: GPUs, or CPUs where there is no GPU. 1 changes nothing.

    Returns:
        Function without arguments: ``scope = distribution_scope(2)``, then ``with scope():`` around all training.

    Raises:
        ValueError: there are fewer devices, or several hosts would not use all of theirs; PyTorch takes one.
    """
    backend = keras.backend.backend()
    several_hosts = PROCESSES in os.environ
    if devices == 1 and not several_hosts:
        return contextlib.nullcontext
    if backend == "tensorflow":
        import tensorflow as tf

        logical = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        found = [device.name for device in logical]
        strategy = tf.distribute.MirroredStrategy
    elif backend == "jax":
        found = keras.distribution.list_devices()
        strategy = partial(keras.distribution.DataParallel, auto_shard_dataset=False)
    else:
        found = ["the one that PyTorch takes here"]
        strategy = None
    if devices > len(found) or (several_hosts and devices < len(found)):
        allowed = f"{'' if several_hosts else 'at most '}{len(found)}"
        raise ValueError(f"devices is {devices}; allowed: {allowed}; found: {', '.join(found)}")
    return strategy(devices=found[:devices]).scope


def distribute(batches, trainer):
    """What ``fit`` is given in place of ``batches``, within a scope.

    Args:
        batches: ``Batches``.
        trainer: ``OnDeviceTrainer``, made in the same scope.

    Returns:
        (dataset, callbacks that ``fit`` needs with it): ``batches`` themselves and no callbacks for one device.
    """
    distribution = keras.distribution.distribution()
    if distribution is not None:
        batches = batches.sharded(distribution.data_shard_id, distribution.num_processes)
    replicas = trainer.distribute_strategy.num_replicas_in_sync if keras.backend.backend() == "tensorflow" else 1
    if replicas == 1:
        return batches, []
    import tensorflow as tf

    # Keras reads ahead for several devices and discards some of it, so that what its threads prepare is lost or comes
    # late: here each epoch reads its own. Without tf.data's autotuning, as in ``Batches``.
    dataset = tf.data.Dataset.from_generator(
        lambda: map(batches.__getitem__, range(len(batches))),
        output_signature=keras.tree.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), batches[0]),
    ).apply(tf.data.experimental.assert_cardinality(len(batches)))
    options = tf.data.Options()
    options.autotune.enabled = False
    # As with one device: the order in ``fit``'s first epoch is that of epoch 1.
    restart = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: batches.restart(epoch + 1))
    return dataset.with_options(options), [restart]
