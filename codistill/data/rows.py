"""Choosing rows: a subset of the classes, and stratified, seeded cuts of the images.

All of it depends on labels and seeds only, never on the run's own seed, so that every run and every method sees the
same images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from codistill.errors import UserError
from codistill.errors.printable import printable

Rows = NDArray[np.int64]


def choose_classes(num_classes: int, wanted: int, seed: int) -> Rows:
    """``wanted`` of the classes 0 .. num_classes - 1, ascending."""
    if not 2 <= wanted <= num_classes:
        raise UserError(f"data.classes={wanted} is not possible: the data has {num_classes} classes, choose 2 or more.")
    return np.sort(np.random.default_rng(seed).permutation(num_classes)[:wanted])


def stratified_split(labels: Rows, fraction: float, seed: int, names: Sequence[str] = ()) -> tuple[Rows, Rows]:
    """Rows kept and rows held out, each ascending; ``fraction`` of every class (at least one image) is held out.

    ``names`` of the classes are for errors.
    """
    if not 0 < fraction < 1:
        raise UserError(f"A held-out fraction must lie between 0 and 1, got {fraction}.")
    random = np.random.default_rng(seed)
    held_out = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        count = max(1, round(fraction * len(rows)))
        if count == len(rows):
            raise UserError(
                f"Class {_name(label, names)} has {len(rows)} image(s) to train on: too few to hold out {fraction:.0%} "
                "and keep any. Add images of it: it needs one to train on, one for validation, and one for test where "
                "that is held out too."
            )
        held_out.append(rows[:count])
    held = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), held), held


def per_class_subset(labels: Rows, per_class: int, seed: int, names: Sequence[str] = ()) -> Rows:
    """Rows of ``per_class`` images of each class, ascending. ``names`` of the classes are for errors."""
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        if len(rows) < per_class:
            raise UserError(
                f"data.per_class={per_class} is not possible: class {_name(label, names)} has {len(rows)} training "
                "images left. Lower it."
            )
        chosen.append(rows[:per_class])
    return np.sort(np.concatenate(chosen))


def _name(label: int, names: Sequence[str]) -> str:
    return f"'{printable(names[label])}'" if names else str(label)
