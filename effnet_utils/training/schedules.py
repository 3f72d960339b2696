"""The learning-rate schedule."""

import keras


@keras.saving.register_keras_serializable("effnet_utils")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from a tenth of ``peak`` up to ``peak`` in ``warmup`` of ``steps``, then linear to zero.

    Args:
        peak: float > 0.
        steps: int, optimizer steps of the whole run.
        warmup: float, 0 <= warmup < 1; 0 starts at the peak.

    Source: Smith and Topin 2018 (arXiv:1708.07120).
    """

    def __init__(self, peak, steps, warmup=0.2):
        self.peak = peak
        self.steps = steps
        self.warmup = warmup

    def __call__(self, step):
        position = keras.ops.cast(step, "float32") / self.steps
        down = (1 - position) / (1 - self.warmup)
        if self.warmup == 0:
            return self.peak * keras.ops.maximum(down, 0.0)
        up = 0.1 + 0.9 * position / self.warmup
        return self.peak * keras.ops.maximum(keras.ops.minimum(up, down), 0.0)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}
