"""Intervals and tests against literal computations, and against what is known of them."""

from itertools import product
from math import comb, sqrt

import numpy as np
import pytest
from scipy import stats

from codistill.evaluation.compare.statistics import bootstrap, mcnemar, t_interval


def test_the_t_interval_of_three_seeds_is_that_of_the_textbook() -> None:
    differences = [1.0, 2.0, 6.0]  # mean 3, s = sqrt((4 + 1 + 9) / 2)
    half = 4.302652729911275 * sqrt(7) / sqrt(3)  # t of 2 degrees of freedom, from a table
    assert t_interval(differences) == pytest.approx((3 - half, 3 + half), abs=1e-9)
    other = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert t_interval(differences) == pytest.approx((other.low, other.high), abs=1e-9)


def test_one_seed_has_no_interval() -> None:
    assert t_interval([1.0]) is None
    assert bootstrap([1.0]) is None


@pytest.mark.parametrize("equal", [[2.0, 2.0], [0.0, 0.0, 0.0], [50.3 - 47.3, 51.3 - 48.3]])
def test_equal_differences_have_no_interval_for_they_tell_nothing_of_how_much_others_would_differ(
    equal: list[float],
) -> None:
    assert t_interval(equal) is None
    assert bootstrap(equal) is None


def test_the_bootstrap_of_few_seeds_is_near_that_of_all_samples_that_can_be_drawn() -> None:
    values = [0.0, 1.0, 3.0, 7.0]
    every = [float(np.mean(sample)) for sample in product(values, repeat=4)]  # each as likely as any other
    low, high = np.quantile(every, [0.025, 0.975])
    assert bootstrap(values, resamples=100_000) == pytest.approx((low, high), abs=0.3)


def test_the_bootstrap_of_images_is_near_one_that_draws_image_by_image() -> None:
    chance = np.random.default_rng(1)
    values = chance.choice([-100.0, 0.0, 100.0], size=300, p=[0.1, 0.7, 0.2])
    means = [float(np.mean(chance.choice(values, size=300))) for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert bootstrap(values) == pytest.approx((low, high), abs=0.7)
    assert bootstrap(values) == bootstrap(values[::-1]), "not repeatable"


def test_95_of_100_t_intervals_hold_the_truth() -> None:
    chance = np.random.default_rng(0)
    intervals = [t_interval(list(chance.normal(1.0, 2.0, size=3))) for _ in range(1000)]
    held = sum(interval is not None and interval.low <= 1.0 <= interval.high for interval in intervals)
    assert 930 <= held <= 970


@pytest.mark.parametrize(("only_one", "only_other"), [(0, 0), (0, 1), (5, 5), (9, 2), (2, 9), (30, 14)])
def test_mcnemar_counts_images_that_one_alone_has_right(only_one: int, only_other: int) -> None:
    one = np.array([True] * only_one + [False] * only_other + [True] * 50 + [False] * 20)
    other = np.array([False] * only_one + [True] * only_other + [True] * 50 + [False] * 20)
    n, most = only_one + only_other, max(only_one, only_other)
    tail = sum(comb(n, k) for k in range(most, n + 1)) / 2**n
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail), abs=1e-12)
