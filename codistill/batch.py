"""What one training step is given: images as the students see them, and their labels."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Augmented, normalised images and their ground truth, on the device that trains.

    ``extra`` holds further independent augmentations of the same images, row by row, for cohorts that ask for them
    (``Cohort.augmentations`` says how many there should be in all). ``draws`` is one random integer per image, for
    views that choose at random (which jigsaw, which mask), so that a view and the task that asks about it agree.
    """

    images: Tensor  #: (B, C, H, W) float
    labels: Tensor  #: (B,) int64
    extra: tuple[Tensor, ...] = ()  #: each (B, C, H, W) float
    draws: Tensor | None = None  #: (B,) int64 in [0, 2^31)

    def augmentation(self, number: int) -> Tensor:
        """``images`` for 0, else one of ``extra``."""
        if number > len(self.extra):
            raise ValueError(f"This cohort needs {number + 1} augmentations of each batch, got {len(self.extra) + 1}.")
        return self.images if number == 0 else self.extra[number - 1]
