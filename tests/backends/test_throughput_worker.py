"""The PyTorch network of benchmarks/throughput.py is the same network, and it trains; for `make test-backends`."""

import keras
import numpy as np
import pytest

if keras.backend.backend() != "torch":
    pytest.skip("for PyTorch; make test-backends runs it there", allow_module_level=True)

from benchmarks import _throughput_worker as throughput_worker  # noqa: E402

pytestmark = pytest.mark.slow


def test_efficientnet_pytorch_has_our_weights_and_feature_maps():
    given = {
        "model": "efficientnet-pytorch", "on": "cpu", "layout": "imagenet", "batch_size": 4, "steps": 1,
        "precision": "float32", "compiled": False, "channels_last": True,
    }  # fmt: skip
    images, labels = throughput_worker.load(given)
    train, predict, *found = throughput_worker.build_torch(given, images, labels)
    *_, trainable, sizes = throughput_worker.build_keras({**given, "model": "ours", "input": "arrays"}, images, labels)
    assert found == [trainable, sizes]
    before = predict()
    assert before.shape == (4, 10) and np.isfinite(before).all()
    train()
    assert np.abs(predict() - before).max() > 1e-4
