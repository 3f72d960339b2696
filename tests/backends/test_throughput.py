"""The PyTorch network of benchmarks/throughput.py is the same network, and it trains; for `make test-backends`."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from effnet_utils import LAYOUTS

if keras.backend.backend() != "torch":
    pytest.skip("for PyTorch; make test-backends runs it there", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import throughput_worker  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("layout", ("imagenet", "cifar"))
def test_efficientnet_pytorch_has_our_weights_and_maps(layout):
    given = {
        "model": "efficientnet-pytorch", "on": "cpu", "layout": layout, "strides": LAYOUTS[layout], "size": 32,
        "batch_size": 4, "steps": 1, "precision": "float32", "compiled": False, "channels_last": True,
    }  # fmt: skip
    images, labels = throughput_worker.load(given)
    fit, predict, trainable, maps = throughput_worker.build_torch(given, images, labels)
    *_, ours_trainable, ours_maps = throughput_worker.build_keras(
        {**given, "model": "ours", "input": "arrays"}, images, labels
    )
    assert (trainable, maps) == (ours_trainable, ours_maps)
    before = predict()
    assert before.shape == (4, 10) and np.isfinite(before).all()
    fit()
    assert np.abs(predict() - before).max() > 1e-4
