"""Training from scratch: the recipe, the augmentation, the training loop, checkpoints."""

from effnet_utils import _lazily

_HOME = {
    "_distribution": ("device_name", "distribution_scope", "init_distributed"),
    "augment": ("Batches", "augment"),
    "checkpoints": ("Checkpoints",),
    "live": ("LiveProgress",),
    "muon": ("Muon",),
    "recipe": ("Recipe", "parse_overrides"),
    "schedules": ("OneCycle",),
    "trainer": ("EpochLogger", "OnDeviceTrainer", "StopAtNaN", "make_trainer"),
}
__all__ = [name for names in _HOME.values() for name in names]

__getattr__, __dir__ = _lazily(__name__, _HOME)
