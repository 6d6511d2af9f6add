"""Calibration: whether somebody who is sure to 80 % is right 80 times out of 100.

    ECE = sum_m |B_m| / n |acc(B_m) - conf(B_m)|,    B_m: images whose confidence lies in ((m-1)/M, m/M]

with M = 15 bins: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599, equation 3. NLL
is the mean of -log p(label), in nats: the cross-entropy.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15
Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


class Bins(NamedTuple):
    """Images by their confidence; the bins of a reliability diagram. Mean of an empty bin: NaN."""

    images: Integers  # (M,)
    confidence: Floats  # (M,) mean
    accuracy: Floats  # (M,) share that is right


def confidence_bins(log_probabilities: Floats, labels: Integers) -> Bins:
    """Log-probabilities (n, K) and labels (n,) -> what is in each bin; confidence is the largest probability."""
    confidence = np.exp(log_probabilities.max(axis=1))
    right = log_probabilities.argmax(axis=1) == labels
    number = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(number, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(number, weights=of, minlength=BINS) / count for of in (confidence, right)]
    return Bins(count, *means)


def expected_calibration_error(bins: Bins) -> float:
    """From 0 to 1, of the bins of a reliability diagram."""
    filled = bins.images > 0
    gaps = np.abs(bins.accuracy - bins.confidence)[filled]
    return float((gaps * bins.images[filled]).sum() / bins.images.sum())


def negative_log_likelihood(log_probabilities: Floats, labels: Integers) -> float:
    """Log-probabilities (n, K) and labels (n,) -> nats."""
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())
