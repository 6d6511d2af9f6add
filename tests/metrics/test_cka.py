"""Linear CKA against kernels formed one by one, and over batches against a sum over all fours of images."""

import itertools

import numpy as np
import pytest
import torch
from references import linear_cka as slow_linear_cka

from codistill.metrics.cka import MinibatchCKA, linear_cka, unbiased_hsic

RANDOM = np.random.default_rng(0)


def kernel(x: np.ndarray) -> np.ndarray:
    return x @ x.T


def test_linear_cka_is_that_of_the_formula() -> None:
    x, y = RANDOM.normal(size=(7, 4)), np.sin(np.arange(21.0)).reshape(7, 3)
    assert linear_cka(x, y) == pytest.approx(slow_linear_cka(torch.tensor(x), torch.tensor(y)), rel=1e-9)


def test_linear_cka_is_one_for_a_rotation_and_a_scale_and_nought_for_what_is_constant() -> None:
    x = RANDOM.normal(size=(50, 8))
    rotation, _ = np.linalg.qr(RANDOM.normal(size=(8, 8)))
    assert linear_cka(x, 3.0 * x @ rotation + 5.0) == pytest.approx(1.0, abs=1e-9)
    for constant in (0.1, 0.0, 7.0):
        assert linear_cka(x, np.full((50, 3), constant)) == 0.0


def test_linear_cka_of_noise_is_what_the_docstring_says() -> None:
    alike = linear_cka(RANDOM.normal(size=(300, 100)), RANDOM.normal(size=(300, 100)))
    assert alike == pytest.approx(100 / 400, abs=0.02)


def test_the_unbiased_hsic_is_the_mean_over_all_fours_of_different_images() -> None:
    k, other = kernel(RANDOM.normal(size=(6, 3)) + 2), kernel(RANDOM.normal(size=(6, 2)) - 1)
    fours = list(itertools.permutations(range(6), 4))
    literal = sum(k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in fours) / len(fours)
    assert unbiased_hsic(k, other) == pytest.approx(literal, rel=1e-9)


def test_the_unbiased_hsic_of_unrelated_features_is_nought_in_the_mean_and_the_mean_of_features_does_not_count() -> (
    None
):
    found = [unbiased_hsic(*(kernel(RANDOM.normal(size=(20, 30))) for _ in range(2))) for _ in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20
    x, y = RANDOM.normal(size=(2, 10, 4))
    assert unbiased_hsic(kernel(x + 5), kernel(y)) == pytest.approx(unbiased_hsic(kernel(x), kernel(y)), rel=1e-6)


def test_cka_over_batches_nears_that_of_all_images_and_is_one_with_itself() -> None:
    x = RANDOM.normal(size=(2000, 10)) * np.arange(1, 11)
    y = np.hstack([x[:, 5:], 8 * RANDOM.normal(size=(2000, 4))])
    found = MinibatchCKA(["x", "y", "constant"])
    for rows in np.array_split(np.arange(2000), 8):
        found.update({"x": kernel(x[rows]), "y": kernel(y[rows]), "constant": np.ones((len(rows), len(rows)))})
    matrix = found.matrix()
    assert found.images == 2000
    np.testing.assert_allclose(np.diag(matrix)[:2], 1.0)
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(linear_cka(x, y), abs=0.02)
    assert not np.isfinite(matrix[2]).any()


def test_batches_count_by_their_images_and_too_few_images_do_not_count() -> None:
    def of(*batches: np.ndarray) -> MinibatchCKA:
        found = MinibatchCKA(["x", "y"])
        for batch in batches:
            found.update({"x": kernel(batch[:, :2]), "y": kernel(batch[:, 1:])})
        return found

    many, few = RANDOM.normal(size=(40, 4)), RANDOM.normal(size=(3, 4))
    assert of(many, few).images == 40
    np.testing.assert_array_equal(of(many, few).matrix(), of(many).matrix())
    one, other = many[:30], many[30:]
    hsic = sum(len(b) * unbiased_hsic(kernel(b[:, :2]), kernel(b[:, 1:])) for b in (one, other))
    own = [sum(len(b) * unbiased_hsic(kernel(b[:, s]), kernel(b[:, s])) for b in (one, other)) for s in np.s_[:2, 1:]]
    assert of(one, other).matrix()[0, 1] == pytest.approx(hsic / np.sqrt(own[0] * own[1]))
