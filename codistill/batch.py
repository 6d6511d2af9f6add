"""What one training step is given: images as the students see them, and their labels."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Augmented, normalised images and their ground truth, on the device that trains.

    ``second`` is an independent augmentation of the same images, row by row. It is made only for
    cohorts whose tasks ask for the view ``"second"`` (see ``codistill.views``).
    """

    images: Tensor  # (B, C, H, W) float
    labels: Tensor  # (B,) int64
    second: Tensor | None = None  # (B, C, H, W) float
