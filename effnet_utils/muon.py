"""Muon for convolutional networks: the 1x1 convolutions' kernels are matrices, and move as matrices."""

import keras
from keras import ops


def orthogonalise(matrix, steps=5):
    """A matrix with the same singular vectors and all singular values near 1 (0.7 to 1.2).

    Args:
        matrix: float (rows, columns), not all zero.
        steps: int, of the Newton-Schulz iteration; each pushes the singular values towards 1 by an odd polynomial.

    Returns:
        float (rows, columns).

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". Copy with: nothing.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else ops.transpose(matrix)
    x = x / (ops.norm(x) + 1e-7)
    for _ in range(steps):
        square = ops.matmul(x, ops.transpose(x))
        x = 3.4445 * x + ops.matmul(2.0315 * ops.matmul(square, square) - 4.7750 * square, x)
    return x if wide else ops.transpose(x)


@keras.saving.register_keras_serializable("effnet_utils")
class Muon(keras.optimizers.AdamW):
    """AdamW, but the kernels of 1x1 convolutions step along their orthogonalised momentum.

    A gradient of a matrix has few large singular values; orthogonalised, the step moves all directions by the same
    amount. Depthwise kernels, the stem, the gates of squeeze and excitation, the classifier and all vectors stay with
    AdamW. ``keras.optimizers.Muon`` leaves every convolution to AdamW, since their kernels have four dimensions.

    Args:
        learning_rate: float or schedule; the same for both kinds: a step along a matrix is scaled by
            0.2 sqrt(max(rows, columns)), which is the size of a step of AdamW.
        momentum: float in 0..1, of the matrices.
        **options: as for AdamW.

    Source: Jordan et al. 2024; the scale: Liu et al. 2025 (arXiv:2502.16982, section 2.2). Copy with: orthogonalise.
    """

    def __init__(self, learning_rate=0.001, momentum=0.95, **options):
        super().__init__(learning_rate, **options)
        self.momentum = momentum

    def build(self, variables):
        super().build(variables)
        kernels = [v for v in variables if tuple(v.shape[:2]) == (1, 1) and "_se_" not in v.path]
        self.matrices = set(map(self._get_variable_index, kernels))

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        if index not in self.matrices:
            return super().update_step(gradient, variable, learning_rate)
        average = self._momentums[index]
        self.assign(average, self.momentum * average + gradient)
        # Nesterov's way: one step ahead.
        step = orthogonalise((gradient + self.momentum * average)[0, 0])
        rate = ops.cast(learning_rate, variable.dtype) * 0.2 * max(variable.shape[2:]) ** 0.5
        self.assign_sub(variable, rate * step[None, None])

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}
