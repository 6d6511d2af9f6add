"""The linear probe sees what is linear, and no image twice."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from codistill.metrics.linear_probe import halves, linear_probe

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 300)


def test_it_is_the_mean_of_two_probes_each_tested_on_the_other_half() -> None:
    embeddings = RANDOM.normal(size=(300, 5)) + np.eye(3, 5)[LABELS]
    second, right = halves(LABELS, 0), 0
    for trained in (second, ~second):
        mean, std = embeddings[trained].mean(axis=0), embeddings[trained].std(axis=0)
        probe = LogisticRegression().fit((embeddings[trained] - mean) / std, LABELS[trained])
        right += (probe.predict((embeddings[~trained] - mean) / std) == LABELS[~trained]).sum()
    assert linear_probe(embeddings, LABELS) == pytest.approx(right / 300)
    assert 0.5 < right / 300 < 0.9


def test_it_reads_off_what_is_linear_and_learns_nothing_by_heart() -> None:
    assert linear_probe(np.eye(3)[LABELS], LABELS) == 1.0
    share = linear_probe(RANDOM.normal(size=(300, 200)), LABELS)  # enough width to fit any half
    assert share is not None
    assert share < 0.45


def test_the_halves_have_each_class_alike_and_depend_on_the_seed_alone() -> None:
    second = halves(LABELS, 0)
    for label in range(3):
        count = (label == LABELS).sum()
        assert second[label == LABELS].sum() == count // 2
    np.testing.assert_array_equal(second, halves(LABELS, 0))
    assert (second != halves(LABELS, 1)).any()


def test_where_a_half_has_one_class_there_is_no_probe() -> None:
    assert linear_probe(np.ones((4, 2)), np.array([0, 0, 0, 1])) is None
    assert linear_probe(np.ones((9, 2)), np.zeros(9, dtype=int)) is None
    assert linear_probe(np.full((300, 2), np.nan), LABELS) is None
