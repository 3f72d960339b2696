"""The bar and the curves that a notebook shows while a training runs."""

import math

import IPython.display
import numpy as np
import pytest

from effnet_utils import efficientnet
from effnet_utils.training import live
from effnet_utils.training.augment import Batches
from effnet_utils.training.recipe import Recipe
from effnet_utils.training.trainer import EpochLogger, make_trainer

pytestmark = pytest.mark.slow  # each test trains

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(48) % 10


class Place:
    """What ``display`` returns in a notebook; remembers what it was filled with."""

    def __init__(self):
        self.shown = []

    def update(self, content):
        self.shown.append(content)


def fit(epochs=2):
    recipe = Recipe()
    model = efficientnet("b0", width=0.25, depth=0.1, input_shape=(32, 32, 3), classes=10, classifier_activation=None)
    batches = Batches(LABELS, 16, 10, recipe, 0)
    trainer = make_trainer(model, IMAGES, recipe, 0.003, epochs * len(batches))
    logger = EpochLogger()
    trainer.fit(batches, epochs=epochs, verbose=0, callbacks=[logger, live.LiveProgress(logger)])


@pytest.fixture
def places(monkeypatch):
    made = []

    def display(content, display_id):
        assert display_id
        made.append(Place())
        return made[-1]

    monkeypatch.setattr(IPython.display, "display", display)
    return made


def test_a_bar_and_curves_that_go_at_the_end(places, monkeypatch):
    monkeypatch.setattr(live, "_in_a_notebook", lambda: True)
    monkeypatch.setattr(live, "EVERY", 0)
    fit()
    bar, curves = places
    texts = [content.data for content in bar.shown]
    assert len(texts) == 2 * 2 + 1 and texts[-1] == ""
    assert 'max="3" value="1"' in texts[0] and "> 1 of 3 steps of this epoch<" in texts[0]
    assert "> 2 of 3 steps of this epoch, about 0 seconds left in it<" in texts[1]
    assert [type(content).__name__ for content in curves.shown] == ["Image", "Image", "HTML"]
    assert curves.shown[1].metadata["alt"] == "Training loss and accuracy after 2 epochs."
    assert curves.shown[-1].data == ""


def test_nothing_outside_a_notebook(places, capsys):
    fit(epochs=1)
    assert places == [] and capsys.readouterr().out.count("\n") == 2  # that it compiles, and the epoch


def test_the_bar_is_seldom_updated(places, monkeypatch):
    monkeypatch.setattr(live, "_in_a_notebook", lambda: True)
    monkeypatch.setattr(live, "EVERY", math.inf)
    fit(epochs=1)
    assert len(places[0].shown) == 2  # once, and emptied at the end
