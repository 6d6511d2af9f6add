"""Who knew what first, whether it reached the other, and what was forgotten: from answers after each epoch.

An image is forgotten in an epoch if it was right after the one before and is wrong now (Toneva et al., "An Empirical
Study of Example Forgetting", ICLR 2019, arXiv:1812.05159; they count in steps).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Integers = NDArray[np.integer]
NEVER = np.iinfo(np.int64).max


class Order(NamedTuple):
    """Images, by who of two knew them first."""

    first_then_second: int  # the first of the two earlier, the second later
    second_then_first: int
    together: int  # in the same epoch
    first_only: int  # the second never did
    second_only: int
    neither: int


def first_right(right: Flags) -> Integers:
    """The first epoch (counted as the rows are) in which each image is right: (E, n) -> (n,), or NEVER."""
    return np.where(right.any(axis=0), right.argmax(axis=0), NEVER)


def right_for_good(right: Flags) -> Integers:
    """The epoch from which on each image stays right to the end: (E, n) -> (n,), or NEVER if the last is wrong."""
    wrong_last = np.where(~right, np.arange(len(right))[:, None], -1).max(axis=0)
    return np.where(right[-1], wrong_last + 1, NEVER)


def who_was_first(first: Integers, second: Integers) -> Order:
    """From the epochs (n,) in which two knew each image."""
    knew, also = first != NEVER, second != NEVER
    return Order(
        int((knew & also & (first < second)).sum()),
        int((knew & also & (second < first)).sum()),
        int((knew & also & (first == second)).sum()),
        int((knew & ~also).sum()),
        int((also & ~knew).sum()),
        int((~knew & ~also).sum()),
    )


def forgotten(right: Flags) -> Integers:
    """How many images are forgotten in each epoch but the first: (E, n) -> (E - 1,)."""
    return np.asarray((right[:-1] & ~right[1:]).sum(axis=1))


def never_forgotten(right: Flags) -> int:
    """Images that were right once and from then on in every epoch."""
    return int(((first_right(right) == right_for_good(right)) & (first_right(right) != NEVER)).sum())
