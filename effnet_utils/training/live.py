"""How far a training is, in a notebook while it runs."""

import math
import time

import keras

from effnet_utils import plots

EVERY = 0.5  # seconds from one update of the bar to the next


class LiveProgress(keras.callbacks.Callback):
    """In a notebook: a bar for the epoch that runs, and the curves so far; both go when the training has ended.

    In a script or a log it does nothing: ``EpochLogger`` prints one line per epoch there, as everywhere.

    Args:
        logger: the ``EpochLogger`` of the same training, before this callback in the list.
    """

    def __init__(self, logger):
        super().__init__()
        self.logger = logger

    def on_train_begin(self, logs=None):
        self.bar = self.curves = None
        if _in_a_notebook():
            self.bar, self.curves = _place(), _place()
            self.shown = -math.inf
            if self.logger.per_epoch:
                self._draw()

    # Not at a step's end: for that, Keras on JAX and PyTorch would fetch the metrics, and the GPU would wait.
    def on_train_batch_begin(self, batch, logs=None):
        now = time.perf_counter()
        if self.bar is None or batch == 0 or now - self.shown < EVERY:
            return
        self.shown = now
        steps, done = self.params["steps"], batch
        text = f"{done} of {steps} steps of this epoch"
        if done > 1:  # the first step of all is compiled, and its time is counted apart
            left = (now - self.logger.started) / (done - 1) * (steps - done)
            text += f", about {left:.0f} seconds left in it"
        bar = f'<progress max="{steps}" value="{done}" style="width: 16em" aria-label="this epoch"></progress>'
        self.bar.update(_html(f"<div>{bar} {text}</div>"))

    def on_epoch_end(self, epoch, logs=None):
        if self.bar is not None:
            self._draw()

    def on_train_end(self, logs=None):
        if self.bar is not None:
            self.bar.update(_html(""))
            self.curves.update(_html(""))

    def _draw(self):
        done = self.logger.per_epoch[-1]["epoch"]
        fig = plots.curves(self.logger.per_epoch, f"After {done} of {self.params['epochs']} epochs")
        self.curves.update(plots.image(fig, f"Training loss and accuracy after {done} epochs."))


def _in_a_notebook():
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return False
    return hasattr(get_ipython(), "kernel")


def _place():
    """A place in the output of the cell that runs, to be filled later."""
    from IPython.display import display

    return display(_html(""), display_id=True)


def _html(text):
    from IPython.display import HTML

    return HTML(text)
