"""Who knew what first, on five images over four epochs that can be followed by hand."""

import numpy as np

from codistill.metrics.learning import (
    NEVER,
    Order,
    first_right,
    forgotten,
    never_forgotten,
    right_for_good,
    who_was_first,
)

#                image 0  1  2  3  4
FIRST = np.array([[1, 0, 1, 0, 0], [1, 0, 0, 0, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]], dtype=bool)
SECOND = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 1], [1, 1, 0, 0, 1]], dtype=bool)


def test_the_first_epoch_in_which_an_image_is_right() -> None:
    assert first_right(FIRST).tolist() == [0, 2, 0, NEVER, 1]


def test_the_epoch_from_which_on_an_image_stays_right() -> None:
    assert right_for_good(FIRST).tolist() == [0, 2, 3, NEVER, NEVER]
    assert right_for_good(SECOND).tolist() == [2, 2, NEVER, NEVER, 2]


def test_who_was_first_counts_every_image_once() -> None:
    by_first = who_was_first(first_right(FIRST), first_right(SECOND))
    assert by_first == Order(2, 0, 1, 1, 0, 1)
    for_good = who_was_first(right_for_good(FIRST), right_for_good(SECOND))
    assert for_good == Order(1, 0, 1, 1, 1, 1)
    assert sum(for_good) == 5
    swapped = who_was_first(right_for_good(SECOND), right_for_good(FIRST))
    assert (swapped.second_then_first, swapped.first_only) == (for_good.first_then_second, for_good.second_only)


def test_forgetting_is_counted_in_the_epoch_in_which_it_happens() -> None:
    assert forgotten(FIRST).tolist() == [1, 1, 0]
    assert never_forgotten(FIRST) == 2
    assert forgotten(FIRST[:1]).tolist() == []
