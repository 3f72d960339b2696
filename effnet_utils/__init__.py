"""What the notebooks share: EfficientNet built step by step, CIFAR-10, training, records and figures."""

import sys
from importlib import import_module
from importlib.util import find_spec

__version__ = "0.1.0"

_HOME = {
    "blocks": ("BlockArgs", "inverted_residual_block", "mbconv_block", "se_block", "swish"),
    "scaling": ("LAYOUTS", "VARIANTS", "compound_coefficients", "count_macs", "round_filters", "round_repeats"),
    "model": ("B0_BLOCKS", "efficientnet", "endpoints"),
    "datasets": ("load_cifar10", "load_toy"),
    "experiments.run": ("run_notebook",),
}
__all__ = [name for names in _HOME.values() for name in names]


def _lazily(package, home):
    """A package's ``__getattr__`` and ``__dir__``: names and modules are loaded when they are first asked for.

    Keras takes seconds to import; `--help`, and the commands that start notebooks, should not.

    Args:
        package: str, its name.
        home: dict {module: names that the package has from it}.
    """
    public = {name: f"{package}.{module}" for module, names in home.items() for name in names}

    def load(name):
        if name in public:
            return getattr(import_module(public[name]), name)
        if find_spec(f"{package}.{name}"):
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, lambda: sorted({*public, *vars(sys.modules[package])})


__getattr__, __dir__ = _lazily(__name__, _HOME)
