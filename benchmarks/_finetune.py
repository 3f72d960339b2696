"""What the scripts share that fine-tune EfficientNet-Lite0 on CIFAR-10."""

from functools import partial

import keras

from effnet_utils import efficientnet
from effnet_utils.datasets import describe_dataset
from effnet_utils.training.checkpoints import Checkpoints
from effnet_utils.training.recipe import Recipe
from effnet_utils.training.trainer import EpochLogger, make_trainer
from effnet_utils.transfer import on_upsampled, unfreeze

# The initialisation of the recipe is for training from scratch; these weights are trained already.
RECIPE = Recipe(zero_last_gamma=False)


def build(size, first="stem"):
    """Lite0 with its ImageNet weights and a new classifier.

    Args:
        size: int, to which 32-pixel images are upsampled; a multiple of 32.
        first: beginning of the name of the first layer that is trained. No BatchNormalization is.

    Returns:
        (``keras.Model`` from 32-pixel images to logits, number of the backbone's trainable parameters).
    """
    shape = (size, size, 3)
    backbone = efficientnet("lite0", weights="imagenet", include_top=False, pooling="avg", input_shape=shape)
    trained = unfreeze(backbone, first)
    features = on_upsampled(backbone, (32, 32, 3))
    x = keras.layers.Dropout(0.2)(features.output)
    logits = keras.layers.Dense(10, kernel_initializer="zeros", dtype="float32", name="predictions")(x)
    return keras.Model(features.input, logits), trained


def start(network, images, batches, recipe, settings, folder, data_dir, n_evaluated):
    """A trainer with AdamW, brought to the state of the newest checkpoint in ``folder``.

    Args:
        network: what ``build`` returns.
        images, batches, recipe: as in ``make_trainer``.
        settings: dict of the run, with learning_rate and epochs; a checkpoint of a run with other settings is refused.
        folder: Path, made if need be.
        data_dir, n_evaluated: folder of CIFAR-10, and the number of images to evaluate on.

    Returns:
        (``OnDeviceTrainer``, ``EpochLogger``, ``Checkpoints``, int: the epochs that are done).
    """
    adamw = partial(keras.optimizers.AdamW, weight_decay=recipe.weight_decay)
    steps = len(batches) * settings["epochs"]
    trainer = make_trainer(network, images, recipe, settings["learning_rate"], steps, optimizer=adamw)
    logger = EpochLogger()
    facts = describe_dataset("cifar10", data_dir, len(images), n_evaluated)
    identity = {**settings, **facts, "backend": keras.backend.backend()}
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(folder, trainer, batches, logger, identity)
    done = checkpoints.start(resume=True)
    return trainer, logger, checkpoints, done
