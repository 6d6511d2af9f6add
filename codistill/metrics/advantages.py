"""Where one is right and others are wrong, and where in the classes: what there is to teach."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 50  # images that are listed


def most_confident(where: NDArray[np.bool_], confidence: NDArray[np.floating], most: int = MOST) -> list[int]:
    """The images of ``where`` (n,), those of the highest confidence (n,) first; equal ones in their order."""
    rows = np.flatnonzero(where)
    found: list[int] = rows[np.argsort(-confidence[rows], kind="stable")][:most].tolist()
    return found


def fixed_by(
    right: Mapping[str, NDArray[np.bool_]],
    control: Mapping[str, NDArray[np.bool_]],
    confidence: Mapping[str, NDArray[np.floating]],
    most: int,
) -> list[int]:
    """At most ``most`` images that a student has right and its namesake of the control had wrong; (n,) each.

    The first of each student, by its confidence, then the second of each, so that no student takes all places.
    """
    lists = [most_confident(own & ~control[name], confidence[name], most) for name, own in right.items()]
    turns = [rows[place] for place in range(most) for rows in lists if place < len(rows)]
    return list(dict.fromkeys(turns))[:most]


def alone(right: NDArray[np.bool_], others: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Images (n,) that one has right and nobody else has."""
    return np.asarray(right & ~np.logical_or.reduce(others))


def class_accuracies(answers: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.floating]:
    """The share of each class's images that is right, (K,); NaN for a class without images."""
    count = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[answers == labels], minlength=classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(right / count)


def taken_for(answers: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> list[list[int] | None]:
    """For each class the wrong answer that is most often given to its images, and to how many; None if all are right.

    Of several as frequent ones the first.
    """
    found: list[list[int] | None] = []
    for label in range(classes):
        wrong = answers[(labels == label) & (answers != label)]
        count = np.bincount(wrong, minlength=classes)
        found.append([int(count.argmax()), int(count.max())] if len(wrong) else None)
    return found
