"""The effective rank of embeddings whose spectrum is known."""

import math

import numpy as np
import pytest

from codistill.metrics.effective_rank import effective_rank

RANDOM = np.random.default_rng(0)


def with_singular_values(*sigma: float, images: int = 20) -> np.ndarray:
    left, _ = np.linalg.qr(RANDOM.normal(size=(images, len(sigma))))
    right, _ = np.linalg.qr(RANDOM.normal(size=(len(sigma), len(sigma))))
    return left @ np.diag(sigma) @ right


def test_equal_singular_values_count_each_as_one() -> None:
    assert effective_rank(with_singular_values(2.0, 2.0, 2.0)) == pytest.approx(3)
    assert effective_rank(with_singular_values(2.0, 2.0, 0.0)) == pytest.approx(2)


def test_it_is_the_exponential_of_the_entropy_of_the_singular_values_and_not_of_their_squares() -> None:
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(with_singular_values(3.0, 1.0)) == pytest.approx(math.exp(entropy))


def test_embeddings_that_became_a_point_and_noise_have_rank_one() -> None:
    assert effective_rank(5.0 + 1e-6 * RANDOM.normal(size=(100, 16))) == pytest.approx(1, abs=0.01)


def test_nothing_has_no_rank() -> None:
    assert effective_rank(np.zeros((5, 3))) == 0.0
    assert math.isnan(effective_rank(np.array([[1.0, np.inf]])))
