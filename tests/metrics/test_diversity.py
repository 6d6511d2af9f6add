"""Measures of diversity against other ways to compute them."""

import math

import numpy as np
import pytest

from codistill.metrics.diversity import (
    Both,
    count_both,
    disagreement,
    double_fault,
    error_correlation,
    mean_kl,
    q_statistic,
)
from codistill.metrics.probabilities import log_softmax

RANDOM = np.random.default_rng(0)
RIGHT, OTHER = RANDOM.random((2, 200)) < 0.7
OTHER[:80] = RIGHT[:80]


def test_images_are_counted_by_who_has_them_right() -> None:
    right, other = np.array([1, 1, 1, 0, 0, 0], dtype=bool), np.array([1, 1, 0, 1, 0, 0], dtype=bool)
    assert count_both(right, other) == Both(n11=2, n10=1, n01=1, n00=2)
    assert double_fault(count_both(right, other)) == pytest.approx(2 / 6)


def test_the_error_correlation_is_pearsons_of_the_errors() -> None:
    expected = np.corrcoef(~RIGHT, ~OTHER)[0, 1]
    assert error_correlation(count_both(RIGHT, OTHER)) == pytest.approx(expected)


def test_q_is_of_the_same_sign_as_the_correlation_and_further_from_nought() -> None:
    both = count_both(RIGHT, OTHER)
    odds = both.n11 * both.n00 / (both.n10 * both.n01)
    assert q_statistic(both) == pytest.approx((odds - 1) / (odds + 1))  # Yule's form of it
    assert abs(q_statistic(both)) >= abs(error_correlation(both)) > 0.1
    assert q_statistic(Both(6, 3, 2, 1)) == 0.0
    assert error_correlation(Both(6, 3, 2, 1)) == 0.0


def test_equal_errors_correlate_fully_opposite_ones_not_at_all_and_perfection_with_nothing() -> None:
    assert error_correlation(count_both(RIGHT, RIGHT)) == pytest.approx(1)
    assert error_correlation(count_both(RIGHT, ~RIGHT)) == pytest.approx(-1)
    assert q_statistic(count_both(RIGHT, ~RIGHT)) == -1
    always = np.ones(200, dtype=bool)
    assert math.isnan(error_correlation(count_both(RIGHT, always)))
    assert math.isnan(q_statistic(count_both(RIGHT, always)))


def test_disagreement_counts_different_answers_right_or_wrong() -> None:
    assert disagreement(np.array([0, 1, 2, 2]), np.array([0, 2, 1, 2])) == 0.5


def test_kl_is_that_of_a_loop_and_not_the_same_both_ways() -> None:
    log_p, log_q = (log_softmax(RANDOM.normal(size=(20, 5))) for _ in range(2))

    def literal(p: list[list[float]], q: list[list[float]]) -> float:
        total = 0.0
        for of_p, of_q in zip(p, q, strict=True):
            total += sum(math.exp(a) * (a - b) for a, b in zip(of_p, of_q, strict=True))
        return total / len(p)

    assert mean_kl(log_p, log_q) == pytest.approx(literal(log_p.tolist(), log_q.tolist()))
    assert mean_kl(log_p, log_q) != pytest.approx(mean_kl(log_q, log_p))
    assert mean_kl(log_p, log_p) == 0.0


def test_a_class_of_no_probability_adds_nothing_to_kl() -> None:
    impossible = np.array([[0.0, -np.inf]])
    assert mean_kl(impossible, log_softmax(np.zeros((1, 2)))) == pytest.approx(math.log(2))
