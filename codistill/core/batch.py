"""What one training step is given: images as the students see them, and their labels."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Mixed(NamedTuple):
    """Of images that are mixed with others: the others' labels."""

    labels: Tensor  # (B,) int64
    share: Tensor  # (B,) float in [0, 1], how much each image's own label counts; the other counts the rest


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
    mixed: Mixed | None = None  #: where each image is mixed with another
    told: Mapping[str, Tensor] | None = None  #: other labels (B,) for students of these names

    def augmentation(self, number: int) -> Tensor:
        """``images`` for 0, else one of ``extra``."""
        if number > len(self.extra):
            raise ValueError(f"This cohort needs {number + 1} augmentations of each batch, got {len(self.extra) + 1}.")
        return self.images if number == 0 else self.extra[number - 1]

    def for_student(self, name: str, augmentation: int) -> "Batch":
        """What this student is shown, and told."""
        return self.told_to(name)._replace(images=self.augmentation(augmentation))

    def told_to(self, name: str) -> "Batch":
        """With the labels that this student is told."""
        return self._replace(labels=(self.told or {}).get(name, self.labels))

    def relabelled(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """With other labels: ``change`` makes (B,) labels into (V * B,), for V views joined one after the other."""
        labels = change(self.labels)
        mixed = None
        if self.mixed is not None:
            views = len(labels) // len(self.labels)
            mixed = Mixed(change(self.mixed.labels), self.mixed.share.repeat(views))
        told = None if self.told is None else {name: change(other) for name, other in self.told.items()}
        return self._replace(labels=labels, mixed=mixed, told=told)

    def seen_in(self, views: int) -> "Batch":
        """With labels for so many views of each image, joined one after the other."""
        return self.relabelled(lambda labels: labels.repeat(views))

    def first_rows(self, rows: int) -> "Batch":
        """The batch of the first ``rows`` images."""
        return Batch(
            self.images[:rows],
            self.labels[:rows],
            tuple(images[:rows] for images in self.extra),
            None if self.draws is None else self.draws[:rows],
            None if self.mixed is None else Mixed(*(tensor[:rows] for tensor in self.mixed)),
            None if self.told is None else {name: labels[:rows] for name, labels in self.told.items()},
        )


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Mean over rows of CE(z, y), or of s CE(z, y_a) + (1 - s) CE(z, y_b) where images are mixed: (B, K) -> scalar."""
    if batch.mixed is None:
        return F.cross_entropy(logits, batch.labels)
    own = F.cross_entropy(logits, batch.labels, reduction="none")
    other = F.cross_entropy(logits, batch.mixed.labels, reduction="none")
    return (batch.mixed.share * own + (1.0 - batch.mixed.share) * other).mean()
