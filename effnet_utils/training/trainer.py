"""The training loop: a network with its images on the device, compiled by the recipe; progress; NaN loss."""

import time

import keras
import numpy as np

from effnet_utils._flat import check_one_output
from effnet_utils.datasets import check_images
from effnet_utils.evaluation import evaluate, predict_proba
from effnet_utils.training._distribution import device_name, distribute
from effnet_utils.training._fast_cpu import accelerate
from effnet_utils.training.augment import Batches, augment
from effnet_utils.training.muon import Muon
from effnet_utils.training.schedules import OneCycle


class OnDeviceTrainer(keras.Model):
    """A network together with its training images, for ``fit`` with ``Batches``.

    The images stay in the device's memory as uint8; a step is sent a few numbers per image, and choosing, flipping and
    shifting are part of the compiled step. To predict and to save use ``network``; weights files of the trainer do not
    hold the images.

    Args:
        network: ``keras.Model``.
        images: uint8 (n, height, width, channels), pixels 0..255.

    Raises:
        TypeError, ValueError: as in ``check_images``.
    """

    def __init__(self, network, images):
        check_images(images)
        super().__init__()
        self.network = network
        self.accelerated = accelerate(network)
        self.images = keras.Variable(images, trainable=False, dtype="uint8", name="images")

    def call(self, inputs, training=None):
        # For several devices Keras first tries the model on the mean of their inputs, which are no integers.
        inputs = {name: keras.ops.cast(values, "int32") for name, values in inputs.items()}
        return self.accelerated(augment(self.images, **inputs), training=training)

    def fit(self, batches, callbacks=(), **options):
        """As ``keras.Model.fit``; the order is that of ``Batches``, which Keras would shuffle once more.

        Raises:
            TypeError: not ``Batches``, or ``validation_data`` is given, whose indices would mean training images.
        """
        if not isinstance(batches, Batches):
            kind = type(batches).__name__
            raise TypeError(f"fit was given {kind}; expected Batches(labels, ...): this model holds the images itself")
        if "validation_data" in options:
            raise TypeError("fit takes no validation_data here; use EpochLogger(validation=(images, labels))")
        dataset, needed = distribute(batches, self)
        self._create_variables()
        return super().fit(dataset, callbacks=[*needed, *callbacks], shuffle=False, **options)

    def _create_variables(self):
        """Those of optimizer and metrics: TensorFlow traces a step that creates any twice, which takes seconds."""
        outputs = getattr(self.network, "outputs", None)
        if outputs is None:
            return  # a subclassed network has its own variables only after the first step
        self.optimizer.build(self.trainable_variables)
        scores = np.zeros((1, *outputs[0].shape[1:]), "float32")
        self.compute_metrics(None, scores, scores)
        self.reset_metrics()

    def evaluate(self, *args, **options):
        """Refused: indices would mean training images.

        Raises:
            TypeError: always; it says what to call.
        """
        raise TypeError("evaluate the network: evaluation.evaluate(predict_proba(trainer.network, images), labels)")

    def predict(self, images, **options):
        """What the network predicts for images, as ``keras.Model.predict``."""
        return self.network.predict(images, **options)

    def summary(self, **options):
        """That of the network, without the images."""
        return self.network.summary(**options)

    def export(self, filepath, **options):
        """Exports the network, without the images."""
        return self.network.export(filepath, **options)

    def save(self, filepath, **options):
        """Saves the network, without images and optimizer: what ``ModelCheckpoint`` and people want to keep."""
        self.network.save(filepath, **options)

    def get_weights(self):
        """Those of the network, for ``EarlyStopping``."""
        return self.network.get_weights()

    def set_weights(self, weights):
        self.network.set_weights(weights)

    def save_own_variables(self, store):
        """Nothing: the images are data, not weights."""

    def load_own_variables(self, store):
        """Nothing, as above."""


def make_trainer(network, images, recipe, learning_rate, steps, optimizer=None):
    """A trainer, initialised and compiled by the recipe.

    XLA compiles the step on GPUs and not on CPUs, where it makes it three times as long (``benchmarks/throughput.py``);
    nor with TensorFlow for several devices, where Keras turns it off.

    Args:
        network: ``keras.Model`` that ends in logits (``classifier_activation=None``); its weights may be changed.
        images: uint8 (n, height, width, channels), pixels 0..255, to be trained on.
        recipe: Recipe.
        learning_rate: float, the peak of the one-cycle schedule.
        steps: int, optimizer steps of the whole run.
        optimizer: function from the schedule to a ``keras.optimizers.Optimizer``; None takes Muon with the recipe's
            weight decay.

    Returns:
        OnDeviceTrainer.

    Raises:
        ValueError: the network has several outputs, or weights in half precision, or no layer "predictions" that the
            recipe would start at zero.
    """
    check_one_output(network)
    if any(weight.dtype in ("float16", "bfloat16") for weight in network.weights):
        raise ValueError(
            f"{network.name} has weights in half precision; expected float32. For half precision in the computation "
            "alone call keras.config.set_dtype_policy('mixed_float16') before the network is built"
        )
    if recipe.zero_classifier and "predictions" not in [layer.name for layer in network.layers]:
        raise ValueError(
            f"{network.name} has no layer 'predictions'; name the classifier so, or set zero_classifier=False"
        )
    initialise(network, recipe)
    schedule = OneCycle(learning_rate, steps, recipe.warmup)
    chosen = optimizer(schedule) if optimizer else Muon(schedule, weight_decay=recipe.weight_decay)
    chosen.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    trainer = OnDeviceTrainer(network, images)
    # "auto" is all that, but leaves PyTorch uncompiled everywhere.
    on_torch_gpu = keras.backend.backend() == "torch" and not device_name().startswith("CPU")
    trainer.compile(chosen, loss, metrics=["accuracy"], jit_compile=True if on_torch_gpu else "auto")
    return trainer


def initialise(network, recipe):
    """Set to zero what the recipe starts at zero: the last gamma of each residual branch, and the classifier.

    Args:
        network: what ``efficientnet`` returns; changed in place.
        recipe: Recipe; ``zero_last_gamma`` and ``zero_classifier`` are used.
    """
    if recipe.zero_last_gamma:
        # Only where there is a skip: without one the block must pass something on.
        for layer in network.layers:
            if layer.name.endswith("_add"):
                last_norm = network.get_layer(layer.name.replace("_add", "_project_bn"))
                last_norm.gamma.assign(keras.ops.zeros(last_norm.gamma.shape))
    if recipe.zero_classifier:
        kernel = network.get_layer("predictions").kernel
        kernel.assign(keras.ops.zeros(kernel.shape))


class EpochLogger(keras.callbacks.Callback):
    """Says what a training does: that it compiles, then one line per epoch; for an ``OnDeviceTrainer``.

    Callbacks after this one find ``val_loss`` and ``val_accuracy`` in their ``logs``, as after ``fit`` with
    ``validation_data``. A resumed run prints the lines of the epochs before, too.

    Args:
        validation: (images, labels) evaluated after each epoch, or None.

    Attributes:
        per_epoch: list of dicts: epoch, loss, accuracy (while training, on augmented images), learning_rate,
            seconds, and validation_loss, validation_accuracy where there is a validation set.
        compile_seconds: float, time of the first step, in which the model is compiled; of all first steps, when the
            run was resumed.
    """

    async_safe = True  # else Keras on JAX and PyTorch would fetch the metrics after each step, and the GPU would wait

    def __init__(self, validation=None):
        super().__init__()
        self.validation = validation
        self.per_epoch = []
        self.compile_seconds = 0.0

    def on_train_begin(self, logs=None):
        self.compiled = False
        for row in self.per_epoch:
            print(self._line(row), flush=True)

    def on_epoch_begin(self, epoch, logs=None):
        if not self.compiled:
            print("compiling the training step (a minute or more) ...", flush=True)
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0 and not self.compiled:
            self.compiled = True
            now = time.perf_counter()
            self.compile_seconds += now - self.started
            self.started = now

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.started
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": round(seconds, 2),
        }
        if self.validation is not None:
            images, labels = self.validation
            scores = evaluate(predict_proba(self.model.network, images), labels)
            logs["val_loss"] = row["validation_loss"] = scores["loss"]
            logs["val_accuracy"] = row["validation_accuracy"] = scores["accuracy"]
        self.per_epoch.append(row)
        print(self._line(row) + self._time_left(epoch, time.perf_counter() - self.started), flush=True)

    def _line(self, row):
        text = f"epoch {row['epoch']:2d}/{self.params['epochs']}"
        text += f"  loss {row['loss']:.3f}  accuracy {row['accuracy']:.1%}"
        if "validation_accuracy" in row:
            text += f"  validation {row['validation_accuracy']:.1%}"
        return f"{text}  {row['seconds']:.0f} s"

    def _time_left(self, epoch, seconds):
        """Such as ", about 12 minutes left", if every epoch takes so many seconds; "" after the last one."""
        left = seconds * (self.params["epochs"] - epoch - 1)
        if left == 0:
            return ""
        return f", about {left / 60:.0f} minutes left" if left >= 90 else f", about {left:.0f} seconds left"


class StopAtNaN(keras.callbacks.Callback):
    """Ends the training with an error when the loss is NaN or infinite; looks at it every 50 steps.

    Raises:
        FloatingPointError: names the epoch and the batch.
    """

    async_safe = True

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.losses = {}

    def on_train_batch_end(self, batch, logs=None):
        # The mean since the epoch began. Not looked at in each step: that would wait for the device.
        self.losses[batch] = logs["loss"]
        if len(self.losses) % 50 == 0:
            self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._look()

    def _look(self):
        bad = [batch for batch, loss in sorted(self.losses.items()) if not np.isfinite(float(loss))]
        if bad:
            raise FloatingPointError(
                f"the loss is {float(self.losses[bad[0]])} since batch {bad[0] + 1} of epoch {self.epoch + 1}; a lower "
                "learning_rate is the usual cure. The state after the epoch before is kept as a checkpoint"
            )
