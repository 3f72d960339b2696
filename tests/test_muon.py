"""Muon moves the 1x1 kernels along orthogonal matrices, and everything else as AdamW does."""

import keras
import numpy as np
import pytest

from effnet_utils.muon import Muon, orthogonalise

RNG = np.random.default_rng(0)


def variables():
    shapes = {
        "conv": (1, 1, 6, 4),
        "dwconv": (3, 3, 6, 1),
        "bias": (6,),
        "block_se_reduce": (1, 1, 6, 2),
        "dense": (6, 4),
    }
    values = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {name: keras.Variable(value, name=name) for name, value in values.items()}


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_orthogonalise_keeps_the_directions_and_evens_the_sizes(shape):
    matrix = RNG.normal(size=shape).astype(np.float32)
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    found = keras.ops.convert_to_numpy(orthogonalise(keras.ops.convert_to_tensor(matrix)))
    evened = left.T @ found @ right.T
    assert sizes.max() / sizes.min() > 2
    np.testing.assert_allclose(evened, np.diag(np.diag(evened)), atol=1e-4)
    assert 0.65 < np.diag(evened).min() and np.diag(evened).max() < 1.25


def test_a_step_of_a_1x1_kernel():
    ours, gradients = (
        variables(),
        {name: RNG.normal(size=v.shape).astype(np.float32) for name, v in variables().items()},
    )
    before = {name: v.numpy() for name, v in ours.items()}
    optimizer = Muon(0.01, weight_decay=0.5)
    optimizer.apply(list(gradients.values()), list(ours.values()))
    first = keras.ops.convert_to_numpy(orthogonalise(keras.ops.convert_to_tensor(1.95 * gradients["conv"][0, 0])))
    expected = before["conv"] * (1 - 0.01 * 0.5) - 0.01 * 0.2 * 6**0.5 * first
    np.testing.assert_allclose(ours["conv"].numpy(), expected, atol=1e-6)
    # The second step: the average is 0.95 g + g, and it looks one step ahead.
    middle = ours["conv"].numpy()
    optimizer.apply(list(gradients.values()), list(ours.values()))
    second = (1 + 0.95 * 1.95) * gradients["conv"][0, 0]
    second = keras.ops.convert_to_numpy(orthogonalise(keras.ops.convert_to_tensor(second)))
    np.testing.assert_allclose(
        ours["conv"].numpy(), middle * (1 - 0.01 * 0.5) - 0.01 * 0.2 * 6**0.5 * second, atol=1e-6
    )


def test_all_else_moves_as_with_adamw():
    ours = variables()
    theirs = {name: keras.Variable(v.numpy(), name=name) for name, v in ours.items()}
    gradients = [RNG.normal(size=v.shape).astype(np.float32) for v in ours.values()]
    for optimizer, moved in ((Muon(0.01), ours), (keras.optimizers.AdamW(0.01), theirs)):
        for _ in range(3):
            optimizer.apply(gradients, list(moved.values()))
    for name in ours:
        same = np.allclose(ours[name].numpy(), theirs[name].numpy(), atol=1e-7)
        assert same == (name != "conv"), name


def test_it_can_be_saved_with_its_settings():
    again = keras.optimizers.deserialize(keras.optimizers.serialize(Muon(0.02, momentum=0.8, weight_decay=0.1)))
    assert type(again) is Muon and again.momentum == 0.8 and again.weight_decay == 0.1
