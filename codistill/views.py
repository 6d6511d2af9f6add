"""Views: the other ways to look at a batch that tasks may ask for, by name.

A view keeps the rows of the batch in order, so row b of every view shows the same image. The cohort makes
each view that any task names once per step and shares it among the students.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from codistill.batch import Batch
from codistill.errors import UserError

CLEAN = "clean"  # the upright, augmented image: every student always sees it
QUARTER_TURNS = (CLEAN, "rot90", "rot180", "rot270")  # counter-clockwise; the index is the rotation label


def quarter_turn(images: Tensor, turns: int) -> Tensor:
    """Turn (B, C, H, W) images counter-clockwise by ``turns`` x 90 degrees."""
    if images.shape[-1] != images.shape[-2]:
        height, width = images.shape[-2:]
        raise UserError(f"Rotated views need square images, got {height}x{width}. Set data.image_size.")
    return torch.rot90(images, turns, dims=(-2, -1))


def second_augmentation(batch: Batch) -> Tensor:
    """The independent augmentation that the loader made."""
    if batch.second is None:
        raise ValueError("A task asks for the view 'second', but Batch.second is None: let the loader make it.")
    return batch.second


VIEWS: dict[str, Callable[[Batch], Tensor]] = {
    CLEAN: lambda batch: batch.images,
    "rot90": lambda batch: quarter_turn(batch.images, 1),
    "rot180": lambda batch: quarter_turn(batch.images, 2),
    "rot270": lambda batch: quarter_turn(batch.images, 3),
    "second": second_augmentation,
}
