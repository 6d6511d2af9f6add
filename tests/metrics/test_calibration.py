"""Calibration against loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from codistill.metrics.calibration import BINS, confidence_bins, expected_calibration_error, negative_log_likelihood
from codistill.metrics.probabilities import ensemble, log_softmax

RANDOM = np.random.default_rng(0)
LOGITS = 3 * RANDOM.normal(size=(500, 4)).astype(np.float32)
LABELS = np.where(RANDOM.random(500) < 0.6, LOGITS.argmax(axis=1), RANDOM.integers(0, 4, 500))


def test_nll_is_scikit_learns_log_loss() -> None:
    probabilities = np.exp(log_softmax(LOGITS))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = log_loss(LABELS, probabilities)
    assert negative_log_likelihood(log_softmax(LOGITS), LABELS) == pytest.approx(expected)


def test_nll_is_finite_where_a_probability_is_too_small_to_be_a_number() -> None:
    assert negative_log_likelihood(log_softmax(np.array([[0.0, 2000.0]])), np.array([0])) == pytest.approx(2000)


def test_ece_is_that_of_a_loop_over_bins_and_images() -> None:
    probabilities = np.exp(log_softmax(LOGITS)).tolist()
    error = 0.0
    for m in range(1, BINS + 1):
        inside = [i for i, row in enumerate(probabilities) if (m - 1) / BINS < max(row) <= m / BINS]
        if inside:
            accuracy = sum(probabilities[i].index(max(probabilities[i])) == LABELS[i] for i in inside) / len(inside)
            confidence = sum(max(probabilities[i]) for i in inside) / len(inside)
            error += len(inside) / 500 * abs(accuracy - confidence)
    bins = confidence_bins(log_softmax(LOGITS), LABELS)
    assert bins.images.sum() == 500
    assert expected_calibration_error(bins) == pytest.approx(error)
    assert error > 0.02


def test_who_is_sure_and_always_right_has_no_ece_and_who_is_sure_and_always_wrong_has_one() -> None:
    sure = log_softmax(np.array([[100.0, 0.0]] * 8))
    assert expected_calibration_error(confidence_bins(sure, np.zeros(8, dtype=int))) == pytest.approx(0)
    assert expected_calibration_error(confidence_bins(sure, np.ones(8, dtype=int))) == pytest.approx(1)


def test_the_ensembles_probabilities_are_the_mean_of_its_members() -> None:
    members = [log_softmax(LOGITS), log_softmax(-LOGITS), log_softmax(LOGITS**2)]
    expected = np.mean([np.exp(member) for member in members], axis=0)
    np.testing.assert_allclose(np.exp(ensemble(members)), expected, atol=1e-12)
