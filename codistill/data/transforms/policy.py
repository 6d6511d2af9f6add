"""Augmentation policies: operations chosen at random for each image of a batch.

    trivial   one operation, of a strength uniform among 31 (TrivialAugment, wide: Mueller, Hutter, ICCV 2021,
              arXiv:2103.10158)
    rand      some operations one after the other, all of one strength (RandAugment: Cubuk et al., NeurIPS 2020,
              arXiv:1909.13719)

The strengths are torchvision's. Where images have less than 32 pixels, TrivialAugment moves them by their size at most,
in place of 32 pixels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from codistill.data.transforms.operations import OPERATIONS

STRENGTHS = 31


class Levels(NamedTuple):
    """What an operation's strengths, from 0 to 30, stand for: evenly spaced values."""

    first: float
    last: float
    signed: bool = False  # whether the value is negative for half of the images
    around: float = 0.0  # what the value is added to
    whole: bool = False  # rounded

    def values(self) -> Tensor:
        values = torch.linspace(self.first, self.last, STRENGTHS, dtype=torch.float64)
        return values.round() if self.whole else values


def levels(policy: str, size: tuple[int, int]) -> dict[str, Levels]:
    """By operation, for images of (H, W) = ``size``; those without a value are left out."""
    height, width = size
    wide = policy == "trivial"
    enhance = Levels(0.0, 0.99 if wide else 0.9, signed=True, around=1.0)
    shear = Levels(0.0, 0.99 if wide else 0.3, signed=True)
    return {
        "shear_x": shear,
        "shear_y": shear,
        "translate_x": Levels(0.0, min(32.0, width) if wide else width * 150 / 331, signed=True),
        "translate_y": Levels(0.0, min(32.0, height) if wide else height * 150 / 331, signed=True),
        "rotate": Levels(0.0, 135.0 if wide else 30.0, signed=True),
        "brightness": enhance,
        "colour": enhance,
        "contrast": enhance,
        "sharpness": enhance,
        "posterize": Levels(8.0, 2.0 if wide else 4.0, whole=True),  # bits that are kept
        "solarize": Levels(255.0, 0.0),  # from this value up
    }


class Policy:
    """``draw`` chooses, on the CPU, so that no device is waited for; ``apply`` does it.

    operations: how many one after the other. strength: of all of them; None draws one for each.
    """

    def __init__(self, policy: str, size: tuple[int, int], operations: int = 1, strength: int | None = None) -> None:
        self._count, self._strength = operations, strength
        table = levels(policy, size)
        none = Levels(0.0, 0.0)
        self._levels = [table.get(name, none) for name in OPERATIONS]
        self._values = torch.stack([own.values() for own in self._levels])  # (operations, STRENGTHS)
        self._signed = torch.tensor([own.signed for own in self._levels])
        self._around = torch.tensor([own.around for own in self._levels], dtype=torch.float64)

    def draw(self, images: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Which operations, and with which value, each (images, operations)."""
        shape = (images, self._count)
        which = torch.randint(0, len(OPERATIONS), shape, generator=generator)
        strength = torch.randint(0, STRENGTHS, shape, generator=generator)
        if self._strength is not None:
            strength = torch.full(shape, self._strength)
        negative = self._signed[which] & (torch.rand(shape, generator=generator) < 0.5)
        value = self._values[which, strength]
        return which, self._around[which] + torch.where(negative, -value, value)

    def apply(self, images: Tensor, which: Tensor, value: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 images, changed in their place, and what was drawn for them."""
        for step in range(self._count):
            for number, operation in enumerate(OPERATIONS.values()):
                rows = (which[:, step] == number).nonzero()[:, 0]
                if number and len(rows):  # 0 is the identity
                    own = value[rows, step].to(images.device, non_blocking=True)
                    rows = rows.to(images.device, non_blocking=True)
                    images[rows] = operation(images[rows], own)
        return images
