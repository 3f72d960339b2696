"""Training from scratch: the recipe, the augmentation, the training loop, checkpoints."""

from effnet_utils.training._distribution import device_name, distribution_scope, init_distributed
from effnet_utils.training.augment import Batches, augment
from effnet_utils.training.checkpoints import Checkpoints
from effnet_utils.training.live import LiveProgress
from effnet_utils.training.muon import Muon
from effnet_utils.training.recipe import Recipe, parse_overrides
from effnet_utils.training.schedules import OneCycle
from effnet_utils.training.trainer import EpochLogger, OnDeviceTrainer, StopAtNaN, make_trainer

__all__ = [
    "Batches", "Checkpoints", "EpochLogger", "LiveProgress", "Muon", "OnDeviceTrainer", "OneCycle", "Recipe",
    "StopAtNaN", "augment", "device_name", "distribution_scope", "init_distributed", "make_trainer", "parse_overrides",
]  # fmt: skip
