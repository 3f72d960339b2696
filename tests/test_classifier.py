"""A trained classifier written and read back: the same predictions and names; what does not fit is refused."""

import json

import keras
import numpy as np
import pytest

from effnet_utils import efficientnet
from effnet_utils.classifier import load_classifier, save_classifier

pytestmark = pytest.mark.slow  # files are written and read

NAMES = ["Äpfel", "birnen", "クリ"]


def network():
    return efficientnet("b0", width=0.25, depth=0.25, input_shape=(32, 32, 3), classes=3, classifier_activation=None)


def test_it_reads_what_it_wrote(tmp_path):
    model = network()
    path = save_classifier(model, NAMES, tmp_path / "a" / "b")
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    for given in (path, path.parent):
        again, names = load_classifier(given)
        assert names == NAMES
        np.testing.assert_array_equal(again.predict_on_batch(images), model.predict_on_batch(images))
    plain = keras.saving.load_model(path)
    np.testing.assert_array_equal(plain.predict_on_batch(images), model.predict_on_batch(images))


def test_a_model_inside_the_model_is_refused(tmp_path):
    inner = network()
    nested = keras.Sequential([keras.Input((32, 32, 3)), inner])
    with pytest.raises(ValueError, match=f"contains the model '{inner.name}' as one layer; expected a flat model"):
        save_classifier(nested, NAMES, tmp_path)
    nested.save(tmp_path / "model.keras")
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    with pytest.raises(ValueError, match="expected a flat model"):
        load_classifier(tmp_path)


def test_names_and_outputs_have_to_fit(tmp_path):
    model = network()
    with pytest.raises(ValueError, match=r"outputs of shape \(None, 3\); expected \(None, 2\)"):
        save_classifier(model, NAMES[:2], tmp_path)
    headless = keras.Model(model.input, [model.output, model.layers[-2].output])
    with pytest.raises(ValueError, match="one for each class"):
        save_classifier(headless, NAMES, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ("model.keras", "classes.json"))
def test_a_missing_file_is_named(missing, tmp_path):
    path = save_classifier(network(), NAMES, tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"{missing} does not exist; expected model.keras and classes.json"):
        load_classifier(path)
