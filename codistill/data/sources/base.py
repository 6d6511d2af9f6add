"""What a data source offers: for each split the labels first, and pixels of chosen rows on demand.

Labels come first so that classes and rows are chosen before any image is decoded.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from codistill.data.rows import Rows
from codistill.errors import UserError

Progress = Callable[[int, int], None]  # told how many images are decoded, of how many: first (0, n), last (n, n)


class Source(ABC):
    """A data set with a train split, and perhaps ``validation`` and ``test`` splits of its own."""

    flip: bool = True  # whether a mirrored image still shows its class
    class_names: tuple[str, ...]
    warnings: tuple[str, ...] = ()  # what is possible but hardly meant

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits it has, among "train", "validation" and "test"; "train" is always there."""

    @abstractmethod
    def labels(self, split: str) -> Rows:
        """(n,) labels of a split."""

    @abstractmethod
    def pixels(self, split: str, rows: Rows, image_size: int | None, resize: str = "squash") -> Tensor:
        """(len(rows), H, W, 3) uint8, resized to ``image_size`` squared if given, in the way of ``images.resize``."""

    def place(self, split: str, row: int) -> str:
        """Where an image is, in words by which a user finds it."""
        return f"row {row} of split '{split}'"

    def as_earlier(self) -> "Source | None":
        """The same data with its classes named and numbered as in earlier runs, None where that is no other way.

        Those had words that are numbers in the order of letters (1, 10, 2), and called a class of 3.0 so.
        """
        return None

    def superclasses(self, column: str) -> Rows:
        """(K,) the superclass of each class, from a second label column. Raises UserError where there is none."""
        raise UserError(f"data.superclass={column} names a column of a folder or hub data set; this data has no other.")


class WithoutSplits(Source):
    """A source, but for some of its splits."""

    def __init__(self, source: Source, ignored: Sequence[str], name: str) -> None:
        """name: of the data. Raises UserError for a split that it does not have."""
        self._source = source
        self._splits = tuple(without({split: split for split in source.splits}, ignored, name))
        self.flip, self.class_names, self.warnings = source.flip, source.class_names, source.warnings

    @property
    def splits(self) -> tuple[str, ...]:
        return self._splits

    def labels(self, split: str) -> Rows:
        return self._source.labels(split)

    def pixels(self, split: str, rows: Rows, image_size: int | None, resize: str = "squash") -> Tensor:
        return self._source.pixels(split, rows, image_size, resize)

    def place(self, split: str, row: int) -> str:
        return self._source.place(split, row)

    def superclasses(self, column: str) -> Rows:
        return self._source.superclasses(column)


def without(splits: Mapping[str, Any], ignored: Sequence[str], name: str) -> dict[str, Any]:
    """What is there of each split of the data ``name``, but for the ``ignored`` ones.

    Raises UserError for one that is not there.
    """
    if missing := [split for split in ignored if split not in splits]:
        raise UserError(
            f"data.ignore_splits={','.join(ignored)}: data '{name}' has no split '{missing[0]}'. Its splits: "
            f"{', '.join(splits)}."
        )
    return {split: own for split, own in splits.items() if split not in ignored}


def leave_out(split: str) -> str:
    """What can be done about a split that does not fit, as a sentence."""
    return f"A split can be left out: data.ignore_splits={split}."


@dataclass(frozen=True)
class Part:
    """Some rows of one of a source's splits."""

    split: str
    rows: Rows

    def only(self, rows: Rows) -> "Part":
        """The part's own rows numbered ``rows``."""
        return Part(self.split, self.rows[rows])


def whole(source: Source, split: str) -> Part:
    """All rows of a split."""
    return Part(split, np.arange(len(source.labels(split))))
