"""The smallest network that has all parts of EfficientNet, for tests that train or build many."""

import contextlib
from functools import partial

import keras

from effnet_utils import B0_BLOCKS, efficientnet

# For scripts that build B0 by themselves: a third of its widths and depths.
third = partial(efficientnet, width=0.3, depth=0.3)


def tiny(**options):
    """Two stages of B0 (three blocks, one with a skip), 32x32 images, ten logits."""
    given = {
        "layout": "imagenet", "blocks": B0_BLOCKS[:2], "width": 0.5, "input_shape": (32, 32, 3), "classes": 10,
        "classifier_activation": None,
    }  # fmt: skip
    return efficientnet("b0", **given | options)


@contextlib.contextmanager
def dtype_policy(name):
    """What is built inside has the precision of this name, such as "mixed_float16"."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
