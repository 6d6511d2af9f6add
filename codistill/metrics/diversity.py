"""How differently two answer the same images.

Let n11 be the images that both have right, n00 those that both have wrong, n10 and n01 those that one has right alone:

    error correlation  rho = (n11 n00 - n01 n10) / sqrt((n11 + n10) (n01 + n00) (n11 + n01) (n10 + n00))
    Q statistic        Q   = (n11 n00 - n01 n10) / (n11 n00 + n01 n10)
    double fault       n00 / n

Kuncheva and Whitaker, "Measures of Diversity in Classifier Ensembles and Their Relationship with the Ensemble
Accuracy", Machine Learning 51, 2003.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Flags = NDArray[np.bool_]


class Both(NamedTuple):
    """Images, by who has them right."""

    n11: int
    n10: int
    n01: int
    n00: int


def count_both(right: Flags, other: Flags) -> Both:
    """From whether each has each image right, (n,) each."""
    return Both(*(int((a & b).sum()) for a in (right, ~right) for b in (other, ~other)))


def disagreement(answers: Integers, other: Integers) -> float:
    """The share of images that get different answers, right or wrong; (n,) each."""
    return float((answers != other).mean())


def error_correlation(both: Both) -> float:
    """Pearson's correlation of the two 0/1 errors, from -1 to 1; NaN where one is always right or always wrong."""
    n11, n10, n01, n00 = both
    margins = (n11 + n10) * (n01 + n00) * (n11 + n01) * (n10 + n00)
    return (n11 * n00 - n01 * n10) / math.sqrt(margins) if margins else math.nan


def q_statistic(both: Both) -> float:
    """From -1 to 1, 0 for independent errors; NaN where both products are 0."""
    n11, n10, n01, n00 = both
    total = n11 * n00 + n01 * n10
    return (n11 * n00 - n01 * n10) / total if total else math.nan


def double_fault(both: Both) -> float:
    """The share of images that both have wrong."""
    return both.n00 / sum(both)


def mean_kl(log_p: Floats, log_q: Floats) -> float:
    """KL(p || q) in nats, mean over images, at temperature 1: log-probabilities (n, K) each."""
    p = np.exp(log_p)
    with np.errstate(invalid="ignore"):  # 0 log 0 is 0
        terms = np.where(p > 0, p * (log_p - log_q), 0.0)
    return float(terms.sum(axis=1).mean())
