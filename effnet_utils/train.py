"""Training: the recipe and its reasons, the learning-rate schedule, batches, prediction, checks of parameters."""

import json
import math
import time
from dataclasses import dataclass, fields, replace
from typing import get_args

import keras
import numpy as np

from effnet_utils.data import augment, check_images, warn_if_scaled
from effnet_utils.distribution import shares
from effnet_utils.fast_cpu import accelerate
from effnet_utils.model import B0_BLOCKS, LAYOUTS
from effnet_utils.muon import Muon
from effnet_utils.records import device_name
from effnet_utils.scaling import VARIANTS


@dataclass(frozen=True)
class Recipe:
    """How to train from scratch in about ten epochs. Every value can be changed by ``overrides``.

    The reasons stand beside the values; layout and peak rate come from the pilot runs in ``records/``.
    Copy with: B0_BLOCKS.
    """

    # One cycle: the rate climbs to its peak in the first fifth of the steps and falls to zero in the rest.
    # Short runs need a high peak, and BatchNorm nets need a warm-up to survive it (Smith and Topin 2018).
    warmup: float = 0.2
    # Decoupled decay, on kernels only: pulling BatchNorm's gamma or a bias to zero does not regularise.
    weight_decay: float = 0.05
    # Targets of 0.9 + 0.1 / classes: with noisy labels and few epochs, less overconfident (Szegedy et al. 2016).
    label_smoothing: float = 0.1
    # Pixels an image may move, and whether it is mirrored in every other epoch: each image is seen both ways.
    translate: int = 2
    flip: bool = True
    # gamma = 0 at the end of each residual block: the network starts shallow and deepens as it learns
    # (Goyal et al. 2017, section 5.1).
    zero_last_gamma: bool = True
    # A classifier of zeros: the run starts at a loss of ln(classes). The reference's initial values are made for 1000
    # classes; for 10 they start at logits of about +-3, all of them noise.
    zero_classifier: bool = True
    # The moving averages remember about 1 / (1 - momentum) steps. Keras's 0.99 was made for long runs: at 100 steps
    # an epoch it still carries the initial values after the first epoch.
    bn_momentum: float = 0.9
    # Stochastic depth and dropout regularise runs of hundreds of epochs; ten epochs underfit without their help.
    drop_connect_rate: float = 0.0
    dropout_rate: float = 0.0
    # Centred input; "rescale" feeds the first convolution positive values only.
    preprocessing: str = "imagenet"
    # The rest of the builder's values, as the paper has them.
    activation: str = "auto"
    bn_epsilon: float = 1e-3
    # To take the network apart or to scale it: of all stages (expansion: of those that expand). None is the variant's
    # own; a resolution is the side that the images are resized to before anything else.
    se_ratio: float | None = None
    expand_ratio: int | None = None
    kernel_size: int | None = None
    id_skip: bool | None = None
    width: float | None = None
    depth: float | None = None
    resolution: int | None = None

    def builder(self):
        """The values that go to ``efficientnet``, as a dict."""
        names = (
            "bn_momentum", "drop_connect_rate", "dropout_rate", "preprocessing", "activation", "bn_epsilon", "width",
            "depth",
        )  # fmt: skip
        se_ratio = "auto" if self.se_ratio is None else self.se_ratio
        return {name: getattr(self, name) for name in names} | {"se_ratio": se_ratio, "blocks": self._blocks()}

    def _blocks(self):
        changes = {"kernel_size": self.kernel_size, "id_skip": self.id_skip}
        changes = {name: value for name, value in changes.items() if value is not None}
        wider = {} if self.expand_ratio is None else {"expand_ratio": self.expand_ratio}
        return [replace(stage, **changes, **(wider if stage.expand_ratio > 1 else {})) for stage in B0_BLOCKS]


@keras.saving.register_keras_serializable("effnet_utils")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from a tenth of ``peak`` up to ``peak`` in ``warmup`` of ``steps``, then linear to zero.

    Args:
        peak: float > 0.
        steps: int, optimizer steps of the whole run.
        warmup: float, 0 < warmup < 1.

    Source: Smith and Topin 2018 (arXiv:1708.07120). Copy with: nothing.
    """

    def __init__(self, peak, steps, warmup=0.2):
        self.peak, self.steps, self.warmup = peak, steps, warmup

    def __call__(self, step):
        position = keras.ops.cast(step, "float32") / self.steps
        up = 0.1 + 0.9 * position / self.warmup
        down = (1 - position) / (1 - self.warmup)
        return self.peak * keras.ops.maximum(keras.ops.minimum(up, down), 0.0)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}


class Batches(keras.utils.PyDataset):
    """Which images a step trains on, and how each is moved; the same for the same seed, in every run and on every
    backend. No pixel is touched here: the images lie in the memory of the ``Learner``.

    Args:
        labels: integers (n,).
        batch_size: int; the last, smaller batch of an epoch is left out, so that shapes are fixed.
        classes: int, length of the one-hot targets.
        recipe: Recipe; ``flip`` and ``translate`` are used.
        seed: int.

    Raises:
        ValueError: a label out of range; a batch larger than the data.

    Yields:
        plan int32 (batch_size, 4) as in ``augment``, targets float32 (batch_size, classes); of several processes that
        train together each its ``share``, (number, of how many).

    Copy with: Recipe.
    """

    share = 0, 1

    def __init__(self, labels, batch_size, classes, recipe, seed=0):
        # With more than one worker Keras leaves out tf.data's tuning, whose thread can hold up the end of an epoch: it
        # sleeps for up to a minute, and sometimes nothing wakes it.
        super().__init__(workers=2)
        if np.min(labels) < 0 or np.max(labels) >= classes:
            raise ValueError(f"labels lie in {np.min(labels)}..{np.max(labels)}; expected 0..{classes - 1}")
        if batch_size > len(labels):
            raise ValueError(f"batch_size is {batch_size}, but there are only {len(labels)} images")
        self.labels, self.batch_size, self.classes = labels, batch_size, classes
        self.recipe, self.seed = recipe, seed
        self.mirrored = np.random.default_rng(seed).random(len(labels)) < 0.5
        self.restart()

    def restart(self, epoch=0):
        """Go to the beginning of an epoch, the first or another."""
        self.epoch = epoch
        self._shuffle()

    def _shuffle(self):
        self.order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.labels))

    def __len__(self):
        return len(self.labels) // self.batch_size

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        pad = self.recipe.translate
        # Each image is mirrored in every other epoch, half of them in the even ones.
        flip = (self.mirrored[chosen] ^ (self.epoch % 2 == 1)) & self.recipe.flip
        shift = np.random.default_rng((self.seed, self.epoch, index)).integers(-pad, pad + 1, (len(chosen), 2))
        targets = np.eye(self.classes, dtype=np.float32)[self.labels[chosen]]
        plan, (number, processes) = np.column_stack([chosen, flip, shift]).astype(np.int32), self.share
        return np.split(plan, processes)[number], np.split(targets, processes)[number]

    def on_epoch_end(self):
        self.epoch += 1
        self._shuffle()


class Learner(keras.Model):
    """A network together with its training images, for ``fit`` with ``Batches``.

    The images lie in the device's memory as uint8; a step is sent a few numbers for each image, and choosing,
    mirroring and moving are part of the compiled step. The network is ``net``: predict with it and save it; weights
    files of the learner do not hold the images.

    Args:
        net: ``keras.Model``.
        images: uint8 (n, height, width, channels), pixels 0..255.

    Raises:
        TypeError, ValueError: as in ``check_images``.

    Copy with: augment, check_images, warn_if_scaled, shares.
    """

    def __init__(self, net, images):
        check_images(images)
        super().__init__()
        self.net = net
        self.accelerated = accelerate(net)
        self.images = keras.Variable(images, trainable=False, dtype="uint8", name="images")

    def call(self, plan, training=None):
        # For several devices Keras first tries the model on the mean of their plans, which are no integers.
        plan = keras.ops.cast(plan, "int32")
        return self.accelerated(augment(self.images, plan), training=training)

    def fit(self, batches, callbacks=(), **options):
        """As ``keras.Model.fit``; the order is that of ``Batches``, which Keras would shuffle once more."""
        batches, first = shares(batches, self)
        return super().fit(batches, callbacks=[*first, *callbacks], shuffle=False, **options)

    def save_own_variables(self, store):
        """Nothing: the images are data, not weights."""

    def load_own_variables(self, store):
        """Nothing, as above."""


def prepare(net, images, recipe, learning_rate, steps):
    """A learner, compiled for training by the recipe.

    XLA compiles the step on GPUs and not on CPUs, where it makes it three times as long (``benchmarks/throughput.py``);
    nor with TensorFlow for several devices, where Keras turns it off.

    Args:
        net: ``keras.Model`` that ends in logits (``classifier_activation=None``).
        images: uint8 (n, height, width, channels), pixels 0..255, to be trained on.
        recipe: Recipe.
        learning_rate: float, the peak of the one-cycle schedule.
        steps: int, optimizer steps of the whole run.

    Returns:
        Learner.

    Copy with: Recipe, OneCycle, Muon, Learner, device_name.
    """
    if recipe.zero_last_gamma:
        names = {layer.name for layer in net.layers}
        for name in sorted(names):
            # Only where a skip is added: without one the block must pass something on.
            if name.endswith("_add"):
                gamma = net.get_layer(name.replace("_add", "_project_bn")).gamma
                gamma.assign(keras.ops.zeros(gamma.shape))
    if recipe.zero_classifier:
        kernel = net.get_layer("predictions").kernel
        kernel.assign(keras.ops.zeros(kernel.shape))
    optimizer = Muon(OneCycle(learning_rate, steps, recipe.warmup), weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    learner = Learner(net, images)
    # "auto" is all that, but leaves PyTorch uncompiled everywhere.
    jit_compile = True if keras.backend.backend() == "torch" and not device_name().startswith("CPU") else "auto"
    learner.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile)
    return learner


class EpochLines(keras.callbacks.Callback):
    """Prints one line for each epoch and keeps the figures.

    Args:
        validation: (images, labels) evaluated after each epoch, or None.

    Attributes:
        per_epoch: list of dicts: epoch, loss, accuracy (while training, on augmented images), learning_rate,
            seconds, and validation_loss, validation_accuracy where there is a validation set.
        compile_seconds: float, time of the first step, in which the model is compiled; of all first steps, when the
            run was taken up again.

    For a ``Learner``. Copy with: evaluate, predict.
    """

    def __init__(self, validation=None):
        super().__init__()
        self.validation, self.per_epoch, self.compile_seconds = validation, [], 0.0

    def on_train_begin(self, logs=None):
        self.compiled = False

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if not self.compiled:
            self.compiled, now = True, time.perf_counter()
            self.compile_seconds += now - self.started
            self.started = now

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        seconds = time.perf_counter() - self.started
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "accuracy": float(logs["accuracy"]),
            "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
            "seconds": round(seconds, 2),
        }
        text = f"epoch {epoch + 1:2d}/{self.params['epochs']}  loss {row['loss']:.3f}  accuracy {row['accuracy']:.1%}"
        if self.validation is not None:
            scores = evaluate(predict(self.model.net, self.validation[0]), self.validation[1])
            row["validation_loss"], row["validation_accuracy"] = scores["loss"], scores["accuracy"]
            text += f"  validation {scores['accuracy']:.1%}"
        print(f"{text}  {seconds:.0f} s", flush=True)
        self.per_epoch.append(row)


class StopAtNaN(keras.callbacks.Callback):
    """Ends the training with an error when the loss is no longer a number; looks at it every 50 steps.

    Raises:
        FloatingPointError: names the epoch and the batch.

    Copy with: nothing.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.losses = epoch, []

    def on_train_batch_end(self, batch, logs=None):
        # The mean since the epoch began. Not looked at in each step: that would wait for the device.
        self.losses.append(logs["loss"])
        if len(self.losses) % 50 == 0:
            self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._look()

    def _look(self):
        bad = np.flatnonzero(~np.isfinite([float(loss) for loss in self.losses]))
        if len(bad):
            raise FloatingPointError(
                f"the loss is {float(self.losses[bad[0]])} since batch {bad[0] + 1} of epoch {self.epoch + 1}; a lower "
                "learning_rate is the usual cure. The state after the epoch before is kept as a checkpoint"
            )


def predict(model, images, batch_size=500):
    """Class probabilities.

    Args:
        model: ``keras.Model`` that ends in logits or in a softmax.
        images: (n, height, width, channels), pixels 0..255, uint8 or float.
        batch_size: int; bounds the memory.

    Returns:
        float32 (n, classes); rows sum to 1.

    Raises:
        ValueError: the images' shape does not fit the model.

    Warns:
        UserWarning: all pixels lie in 0..1.

    Copy with: outputs, warn_if_scaled.
    """
    images = np.asarray(images)
    expected = model.input_shape[1:]
    fits = images.ndim == 4 and all(e in (None, found) for e, found in zip(expected, images.shape[1:], strict=True))
    if not fits:
        raise ValueError(f"images have shape {images.shape}; the model expects (n, {', '.join(map(str, expected))})")
    warn_if_scaled(images)
    values = outputs(model, images, batch_size)
    if getattr(model.layers[-1], "activation", None) is keras.activations.softmax:
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def outputs(model, inputs, batch_size=100):
    """What a model gives for all inputs, batch by batch: float32. Copy with: nothing."""
    # By hand, because tf.data's tuning can hold up the end of ``model.predict`` (see Batches).
    parts = [inputs[k : k + batch_size] for k in range(0, len(inputs), batch_size)]
    # Each of several devices computes all: JAX is told so, and TensorFlow gives the results of one after the other.
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        return np.concatenate([model.predict_on_batch(part)[: len(part)] for part in parts]).astype(np.float32)
    finally:
        keras.distribution.set_distribution(distribution)


def evaluate(probabilities, labels):
    """Accuracy and loss of predictions.

    Args:
        probabilities: float (n, classes).
        labels: integers (n,).

    Returns:
        dict: accuracy in 0..1, loss (mean cross-entropy in nats, without label smoothing), per_class (list of the
        accuracies of the classes, None for a class without images).

    Copy with: nothing.
    """
    correct = probabilities.argmax(axis=1) == labels
    likelihood = probabilities[np.arange(len(labels)), labels]
    per_class = [
        float(correct[labels == k].mean()) if (labels == k).any() else None for k in range(probabilities.shape[1])
    ]
    return {
        "accuracy": float(correct.mean()),
        "loss": float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
        "per_class": per_class,
    }


def parse_overrides(text):
    """The recipe with some of its values changed.

    Args:
        text: one JSON object, such as '{"weight_decay": 0.02}'; '{}' changes nothing.

    Returns:
        Recipe.

    Raises:
        ValueError: not a JSON object, an unknown name, a value of another type, or a number below zero.

    Copy with: Recipe.
    """
    try:
        values = json.loads(text)
    except (TypeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"overrides is {text!r}; expected one JSON object, such as '{{\"translate\": 4}}'") from error
    if not isinstance(values, dict):
        raise ValueError(f"overrides is {text!r}; expected one JSON object, such as '{{\"translate\": 4}}'")
    types = {field.name: field.type for field in fields(Recipe)}
    for name, value in values.items():
        if name not in types:
            raise ValueError(f"overrides has {name!r}; allowed: {', '.join(types)}")
        wanted = get_args(types[name]) or (types[name],)
        fits = type(value) in wanted or (float in wanted and type(value) is int)
        if not fits or (type(value) in (int, float) and not 0 <= value < math.inf):
            least = " of at least 0" if wanted[0] in (int, float) else ""
            raise ValueError(f"overrides has {name} = {value!r}; expected {wanted[0].__name__}{least}")
    return replace(Recipe(), **values)


TRAIN_IMAGES = {"cifar10": 50_000, "toy": 5_000}


def _choice(*allowed):
    return str, lambda value: value in allowed, " or ".join(map(repr, allowed))


def _number(type_, least):
    kind = "a whole number" if type_ is int else "a number"
    return type_, lambda value: least <= value < math.inf, f"{kind} of at least {least}"


# name -> (type, test, what is allowed); one meaning for a name in all notebooks.
PARAMETERS = {
    "dataset": _choice(*TRAIN_IMAGES),
    "data_dir": (str, lambda value: value != "", "a path"),
    "variant": _choice(*VARIANTS),
    "layout": _choice(*LAYOUTS),
    "epochs": _number(int, 1),
    "batch_size": _number(int, 1),
    "devices": _number(int, 1),
    "learning_rate": _number(float, 1e-6),
    "train_limit": _number(int, 0),
    "evaluate_on": _choice("test", "validation"),
    "seed": _number(int, 0),
    "precision": _choice("float32", "mixed_float16", "mixed_bfloat16"),
    "overrides": (str, lambda value: True, "one JSON object"),
    "resume": (bool, lambda value: True, "true or false"),
    "output_dir": (str, lambda value: True, "a path"),
    "image_dir": (str, lambda value: True, "a path"),
    "model_path": (str, lambda value: True, "a path"),
    "lite_path": (str, lambda value: True, "a path"),
    "test_limit": _number(int, 0),
    "resolution": (int, lambda value: 0 <= value <= 640 and value % 32 == 0, "0 or a multiple of 32, at most 640"),
    "tune_limit": _number(int, 1),
    "tune_epochs": _number(int, 1),
    "repeats": _number(int, 1),
    "rows": (str, lambda value: True, "names with spaces between"),
    "workers": _number(int, 1),
}


def check_parameters(values):
    """Check a notebook's parameters before anything is done with them.

    Args:
        values: dict name -> value; names without a rule here pass.

    Returns:
        ``values``.

    Raises:
        ValueError: one line with the parameter, what was given and what is allowed.

    Copy with: PARAMETERS, parse_overrides.
    """
    for name in PARAMETERS.keys() & values.keys():
        type_, test, allowed = PARAMETERS[name]
        value = values[name]
        fits = type(value) is type_ or (type_ is float and type(value) is int)
        if not fits or not test(value):
            raise ValueError(f"{name} is {value!r}; allowed: {allowed}")
    if "overrides" in values:
        parse_overrides(values["overrides"])
    if values.keys() >= {"batch_size", "devices"} and values["batch_size"] % values["devices"]:
        raise ValueError(f"batch_size is {values['batch_size']}; allowed: a multiple of devices, {values['devices']}")
    if values.keys() >= {"dataset", "batch_size", "train_limit", "evaluate_on"}:
        available = images_to_train_on(TRAIN_IMAGES[values["dataset"]], values["train_limit"], values["evaluate_on"])
        if values["batch_size"] > available:
            raise ValueError(f"batch_size is {values['batch_size']}; allowed: at most {available}, the training images")
    return values


def images_to_train_on(n, train_limit, evaluate_on):
    """Training images left of ``n`` after the held-out last tenth (for "validation") and the limit (0 = all)."""
    left = n - n // 10 if evaluate_on == "validation" else n
    return min(train_limit, left) if train_limit else left
