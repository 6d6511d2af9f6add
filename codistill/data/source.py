"""What a data source offers: for each split the labels first, and pixels of chosen rows on demand.

Labels come first so that classes and rows are chosen before any image is decoded.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from codistill.data.split import Rows
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

    def superclasses(self, column: str) -> Rows:
        """(K,) the superclass of each class, from a second label column. Raises UserError where there is none."""
        raise UserError(f"data.superclass={column} names a column of a folder or hub data set; this data has no other.")


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
