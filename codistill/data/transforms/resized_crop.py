"""Random resized crops of a whole batch: a box of random area and shape of each image, enlarged to the image's size.

Each box has a share of the image's area that is uniform in ``scale`` and a ratio of width to height whose logarithm is
uniform in that of ``ratio``. Of ten such boxes the first that fits into the image is taken, at a uniform place; if none
does, the largest central one within ``ratio``. As torchvision's ``RandomResizedCrop`` (Szegedy et al., CVPR 2015,
arXiv:1409.4842), bilinear. Images are kept in the size that students see, so a crop is always enlarged.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from codistill.data.transforms.crop import Crop

TRIES = 10


class Boxes(NamedTuple):
    """Of each image, in pixels, all (B,) int64."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def boxes(tries: Tensor, place: Tensor, size: tuple[int, int], scale: Sequence[float], ratio: Sequence[float]) -> Boxes:
    """Numbers in [0, 1) -> boxes in images of (H, W) = ``size``.

    tries: (B, TRIES, 2) for area and ratio. place: (B, 2), how far down and to the right the box lies.
    """
    tries, place = tries.double(), place.double()
    full_height, full_width = size
    area = full_height * full_width * (scale[0] + (scale[1] - scale[0]) * tries[..., 0])  # (B, TRIES)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = (low + (high - low) * tries[..., 1]).exp()
    widths, heights = (area * shape).sqrt().round().long(), (area / shape).sqrt().round().long()
    fits = (widths > 0) & (widths <= full_width) & (heights > 0) & (heights <= full_height)
    first = fits.int().argmax(dim=1, keepdim=True)
    found = fits.any(dim=1)
    fallback = _largest_central(size, ratio)
    height = torch.where(found, heights.gather(1, first)[:, 0], fallback[0])
    width = torch.where(found, widths.gather(1, first)[:, 0], fallback[1])
    free_rows, free_columns = full_height - height, full_width - width
    top = torch.where(found, (place[:, 0] * (free_rows + 1)).long(), free_rows // 2)
    left = torch.where(found, (place[:, 1] * (free_columns + 1)).long(), free_columns // 2)
    return Boxes(top, left, height, width)


def enlarge(images: Tensor, box: Boxes, mirrored: Tensor) -> Tensor:
    """The boxes of (B, C, H, W) uint8 images in the images' size, bilinear, those ``mirrored`` (B,) from right to left.

    Returns uint8 in channels-last memory order.
    """
    height, width = images.shape[-2:]
    rows, columns = _sources(box.top, box.height, height), _sources(box.left, box.width, width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    grid = torch.stack(
        [
            columns[:, None, :].expand(-1, height, -1),
            rows[:, :, None].expand(-1, -1, width),
        ],
        dim=-1,
    )
    enlarged = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return enlarged.round_().clamp_(0, 255).byte().contiguous(memory_format=torch.channels_last)


class ResizedCrop(Crop):
    """Boxes as above, half of them mirrored if ``flip``."""

    padding = 0

    def __init__(self, size: tuple[int, int], scale: Sequence[float], ratio: Sequence[float], flip: bool) -> None:
        self._size, self._scale, self._ratio, self._flip = size, scale, ratio, flip

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        def uniform(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=generator, device=generator.device)

        tries, place, coin = uniform(TRIES, 2), uniform(2), uniform()
        return *boxes(tries, place, self._size, self._scale, self._ratio), coin < (0.5 if self._flip else 0.0)

    def cut(self, padded: Tensor, rows: Tensor, *drawn: Tensor) -> Tensor:
        *box, mirrored = drawn
        return enlarge(padded[rows].permute(0, 3, 1, 2), Boxes(*box), mirrored)


def _sources(begin: Tensor, length: Tensor, size: int) -> Tensor:
    """(B, size) where the pixels come from, as ``grid_sample`` counts; never from outside of the box."""
    centres = (torch.arange(size, device=begin.device) + 0.5) * (length / size)[:, None] - 0.5
    within = torch.minimum(centres.clamp(min=0), length[:, None] - 1.0)
    return (2 * (within + begin[:, None]) + 1) / size - 1


def _largest_central(size: tuple[int, int], ratio: Sequence[float]) -> tuple[int, int]:
    height, width = size
    if width / height < ratio[0]:
        return round(width / ratio[0]), width
    if width / height > ratio[1]:
        return height, round(height * ratio[1])
    return size
