"""Muon for convolutional networks: the kernel of a 1x1 convolution is a matrix, and is updated as one."""

import keras


@keras.saving.register_keras_serializable("effnet_utils")
class Muon(keras.optimizers.Muon):
    """Keras's Muon, for 1x1 convolutions instead of dense layers.

    A gradient of a matrix has few large singular values; Muon orthogonalises the momentum, so that the step moves all
    directions by the same amount. ``keras.optimizers.Muon`` leaves every convolution to AdamW, since kernels have four
    dimensions; but a 1x1 kernel (1, 1, inputs, outputs) is a matrix, and EfficientNet has most of its parameters there.
    Depthwise kernels, the stem, the SE blocks, the classifier and all vectors stay with AdamW.

    Args:
        learning_rate: float or schedule, the same for both kinds: the step of a matrix is scaled by
            0.2 sqrt(max(rows, columns)), to the size of a step of AdamW.
        weight_decay: float, decoupled, of both kinds.
        **options: as for ``keras.optimizers.Muon``.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the scale: Liu et al. 2025
    (arXiv:2502.16982, section 2.2).
    """

    def __init__(self, learning_rate=0.001, weight_decay=0.004, **options):
        options.setdefault("adam_weight_decay", weight_decay)
        super().__init__(learning_rate, weight_decay=weight_decay, **options)

    def _should_use_adamw(self, variable):
        is_pointwise = len(variable.shape) == 4 and tuple(variable.shape[:2]) == (1, 1)
        return not is_pointwise or "_se_" in variable.path

    def lr_adjust(self, x):
        # Keras takes the first two dimensions; those of a kernel are 1 and 1.
        return x * self.rms_rate * max(x.shape[-2:]) ** 0.5
