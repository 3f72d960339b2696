"""Predictions are probabilities; accuracy, loss, confusion and calibration are what they are by hand."""

import math
import warnings

import numpy as np
import pytest

from effnet_utils import load_toy
from effnet_utils.evaluation import (
    accuracy_interval,
    confusion_counts,
    evaluate,
    predict_in_batches,
    predict_proba,
    predict_tta,
    reliability,
)
from tests.tiny import tiny

IMAGES = load_toy()[1][0][:20]


@pytest.fixture(scope="module")
def model():
    return tiny()


def test_probabilities_of_logits_and_of_a_softmax(model):
    softmax = tiny(classifier_activation="softmax")
    softmax.set_weights(model.get_weights())
    found = predict_proba(model, IMAGES)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, predict_proba(softmax, IMAGES), atol=1e-5)
    np.testing.assert_allclose(found, predict_proba(model, IMAGES.astype(np.float32), batch_size=7), atol=1e-5)


def test_tta_is_the_mean_over_both_ways(model):
    expected = (predict_proba(model, IMAGES) + predict_proba(model, IMAGES[:, :, ::-1])) / 2
    np.testing.assert_allclose(predict_tta(model, IMAGES), expected, atol=1e-6)
    np.testing.assert_allclose(predict_tta(model, IMAGES[:, :, ::-1]), expected, atol=1e-6)


def test_scaled_pixels_warn_and_others_do_not(model):
    with pytest.warns(UserWarning, match="expects 0..255 and scales them itself"):
        predict_proba(model, IMAGES / np.float32(255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_proba(model, IMAGES)


@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (32, 32, 3), (4, 28, 28, 3), (4, 32, 32, 1)])
def test_a_wrong_shape_is_named(model, shape):
    with pytest.raises(ValueError, match=r"the model expects \(n, 32, 32, 3\)"):
        predict_proba(model, np.zeros(shape, np.uint8))


def test_predictions_in_batches_are_those_of_one(model):
    whole = predict_in_batches(model, IMAGES, batch_size=20)
    assert (whole.dtype, whole.shape) == (np.float32, (20, 10))
    np.testing.assert_allclose(predict_in_batches(model, IMAGES, batch_size=6), whole, atol=1e-4)


def test_evaluate():
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0]])
    scores = evaluate(probabilities, np.array([0, 1, 1]))
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["loss"] == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3)
    assert scores["per_class"] == [1.0, 0.5, None]


def test_confusion_counts():
    assert confusion_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist() == [[1, 1], [0, 1]]


def test_reliability_of_what_is_known():
    sure = np.tile([0.9, 0.1], (10, 1))
    rows, error = reliability(sure, np.array([0] * 6 + [1] * 4))
    assert rows == [{"confidence": pytest.approx(0.9), "accuracy": 0.6, "count": 10}]
    assert error == pytest.approx(0.3)
    certain = np.eye(3)[[0, 1, 2, 0]]
    rows, error = reliability(certain, np.array([0, 1, 2, 0]))
    assert (rows, error) == ([{"confidence": 1.0, "accuracy": 1.0, "count": 4}], 0.0)


def test_labels_drawn_by_the_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), 20_000)
    labels = (probabilities.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)
    rows, error = reliability(probabilities, labels)
    assert error < 0.015 and sum(row["count"] for row in rows) == 20_000
    assert reliability(probabilities, np.roll(labels, 1))[1] > 0.2


def test_the_number_of_bins_can_be_chosen():
    probabilities = np.array([[0.6, 0.4], [0.7, 0.3], [0.9, 0.1]])
    rows, error = reliability(probabilities, np.array([0, 1, 0]), bins=4)
    assert [(row["count"], row["accuracy"]) for row in rows] == [(2, 0.5), (1, 1.0)]
    assert error == pytest.approx((2 * 0.15 + 0.1) / 3)


def test_the_interval_of_an_accuracy():
    """Wilson's: as published for 81 of 263 (Newcombe 1998, table I, method 3), and with a width also at the ends."""
    np.testing.assert_allclose(accuracy_interval(81, 263), (0.2553, 0.3662), atol=1e-4)
    np.testing.assert_allclose(accuracy_interval(0, 20), (0.0, 0.1611), atol=1e-4)
    np.testing.assert_allclose(accuracy_interval(20, 20), (1 - 0.1611, 1.0), atol=1e-4)


def test_the_interval_holds_the_true_accuracy_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for true, count in ((0.9, 60), (0.97, 60), (0.5, 12)):
        found = [accuracy_interval(correct, count) for correct in rng.binomial(count, true, 2000)]
        covered = np.mean([low <= true <= high for low, high in found])
        assert 0.91 < covered < 0.99
