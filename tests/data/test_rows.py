"""Choosing rows."""

import numpy as np
import pytest

from codistill.data.rows import choose_classes, per_class_subset, stratified_split
from codistill.errors import UserError

LABELS = np.repeat([0, 1, 2], [10, 20, 30])


def test_a_stratified_split_takes_the_same_share_of_every_class_and_loses_no_row() -> None:
    kept, held = stratified_split(LABELS, 0.1, seed=0)
    assert np.bincount(LABELS[held]).tolist() == [1, 2, 3]
    assert sorted([*kept, *held]) == list(range(60))


def test_the_seed_alone_decides_which_rows() -> None:
    first, again, other = (stratified_split(LABELS, 0.5, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_even_a_small_class_has_a_row_held_out_but_not_its_last() -> None:
    assert np.bincount(np.array([0, 0, 1, 1])[stratified_split(np.array([0, 0, 1, 1]), 0.01, 0)[1]]).tolist() == [1, 1]
    with pytest.raises(UserError, match=r"Class 1 has 1 image\(s\) to train on: too few"):
        stratified_split(np.array([0, 0, 1]), 0.1, 0)


def test_a_subset_has_so_many_rows_of_each_class() -> None:
    assert np.bincount(LABELS[per_class_subset(LABELS, 7, seed=0)]).tolist() == [7, 7, 7]
    with pytest.raises(UserError, match="class 0 has 10 training images left"):
        per_class_subset(LABELS, 11, seed=0)


def test_classes_are_chosen_by_the_seed_and_kept_in_order() -> None:
    chosen = choose_classes(100, 20, seed=0).tolist()
    assert len(set(chosen)) == 20
    assert chosen == sorted(chosen)
    assert chosen == choose_classes(100, 20, seed=0).tolist() != choose_classes(100, 20, seed=1).tolist()
    with pytest.raises(UserError, match="the data has 10 classes"):
        choose_classes(10, 11, seed=0)
