"""What the notebooks share: EfficientNet built step by step, CIFAR-10, training, records and figures."""

from importlib import import_module
from importlib.util import find_spec

__version__ = "0.1.0"

_HOME = {
    "blocks": ("BlockArgs", "inverted_residual_block", "mbconv_block", "se_block", "swish"),
    "scaling": ("VARIANTS", "compound_coefficients", "count_macs", "round_filters", "round_repeats"),
    "model": ("B0_BLOCKS", "LAYOUTS", "efficientnet", "endpoints"),
    "datasets": ("load_cifar10", "load_toy"),
    "experiments.run": ("run_notebook",),
}
__all__ = [name for names in _HOME.values() for name in names]


def __getattr__(name):
    """Load a public name or module when it is first asked for: Keras takes seconds to import, `--help` should not."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"effnet_utils.{module}"), name)
    if find_spec(f"effnet_utils.{name}"):
        return import_module(f"effnet_utils.{name}")
    raise AttributeError(f"module 'effnet_utils' has no attribute {name!r}")
