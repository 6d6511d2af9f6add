"""Views: the other ways to look at a batch that tasks and lessons may ask for, by name.

A view keeps the rows of the batch in order, so row b of every view shows the same image. The cohort makes each view
that anybody names once per step and shares it among the students.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from codistill.errors import UserError

CLEAN = "clean"  # the upright, augmented image: every student always sees it
SECOND = "second"  # another augmentation of it, independent of the first
QUARTER_TURNS = (CLEAN, "rot90", "rot180", "rot270")  # counter-clockwise; the index is the rotation label


def quarter_turn(images: Tensor, turns: int) -> Tensor:
    """Turn (B, C, H, W) images counter-clockwise by ``turns`` x 90 degrees."""
    if images.shape[-1] != images.shape[-2]:
        height, width = images.shape[-2:]
        raise UserError(f"Rotated views need square images, got {height}x{width}. Set data.image_size.")
    return torch.rot90(images, turns, dims=(-2, -1))


# name -> function of augmented images (B, C, H, W) and the batch's draws (B,), which most views leave alone
VIEWS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    CLEAN: lambda images, draws: images,
    SECOND: lambda images, draws: images,
    "rot90": lambda images, draws: quarter_turn(images, 1),
    "rot180": lambda images, draws: quarter_turn(images, 2),
    "rot270": lambda images, draws: quarter_turn(images, 3),
}
