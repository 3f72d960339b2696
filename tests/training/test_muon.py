"""Muon updates 1x1 kernels along orthogonal matrices, and everything else as AdamW does."""

import keras
import numpy as np

from effnet_utils.training.muon import Muon

RNG = np.random.default_rng(0)
SHAPES = {
    "conv": (1, 1, 6, 4),
    "project_conv": (1, 1, 4, 9),
    "dwconv": (3, 3, 6, 1),
    "bias": (6,),
    "block_se_reduce": (1, 1, 6, 2),
    "dense": (6, 4),
}
MATRICES = ("conv", "project_conv")
START = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
GRADIENTS = [{name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()} for _ in range(5)]


def updated(optimizer):
    """{name: value} after five steps from START along GRADIENTS."""
    variables = {name: keras.Variable(value, name=name) for name, value in START.items()}
    for gradients in GRADIENTS:
        tensors = [keras.ops.convert_to_tensor(gradients[name]) for name in variables]
        optimizer.apply(tensors, list(variables.values()))
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}


def orthogonalised(matrix):
    """Five Newton-Schulz steps in float64, as the paper has them."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / np.linalg.norm(x)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x if wide else x.T


def test_five_steps_of_1x1_kernels_are_those_of_the_formula():
    found = updated(Muon(0.01, weight_decay=0.5))
    for name in MATRICES:
        value = START[name].astype(float)
        average = np.zeros_like(value)
        for gradients in GRADIENTS:
            gradient = gradients[name].astype(float)
            average = 0.95 * average + gradient
            # Nesterov momentum: one step ahead.
            direction = orthogonalised((gradient + 0.95 * average)[0, 0])
            value = value * (1 - 0.01 * 0.5)
            value = value - 0.01 * 0.2 * max(SHAPES[name]) ** 0.5 * direction[None, None]
        np.testing.assert_allclose(found[name], value, atol=1e-6)


def test_all_else_is_updated_as_by_adamw():
    ours = updated(Muon(0.01, weight_decay=0.1))
    theirs = updated(keras.optimizers.AdamW(0.01, weight_decay=0.1))
    for name in SHAPES:
        same = np.allclose(ours[name], theirs[name], atol=1e-6)
        assert same == (name not in MATRICES), name


def test_it_can_be_saved_with_its_settings():
    again = keras.optimizers.deserialize(keras.optimizers.serialize(Muon(0.02, momentum=0.8, weight_decay=0.1)))
    assert type(again) is Muon
    assert (again.momentum, again.weight_decay, again.adam_weight_decay) == (0.8, 0.1, 0.1)
