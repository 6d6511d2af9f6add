"""Random crops of a whole batch at once: one gather cuts uint8 images where they lie, and some are mirrored."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Crop(ABC):
    """How a part of each image is cut out. All that is random is drawn first, for the whole batch of all processes."""

    padding: int  # of the images that it is given

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random numbers for ``count`` images, each (count,), on the generator's device."""

    @abstractmethod
    def cut(self, padded: Tensor, rows: Tensor, *drawn: Tensor) -> Tensor:
        """The images ``rows`` (B,) of ``padded`` (n, H', W', C) -> (B, C, H, W) uint8, in channels-last order."""


class PaddedCrop(Crop):
    """Crops of the images' own size from within a border that mirrors them; half of them mirrored if ``flip``."""

    def __init__(self, size: tuple[int, int], padding: int, flip: bool) -> None:
        self._size, self.padding, self._flip = size, padding, flip

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        device = generator.device
        top, left = torch.randint(0, 2 * self.padding + 1, (2, count), generator=generator, device=device)
        return top, left, torch.rand(count, generator=generator, device=device) < (0.5 if self._flip else 0.0)

    def cut(self, padded: Tensor, rows: Tensor, *drawn: Tensor) -> Tensor:
        top, left, mirrored = drawn
        return crop_and_flip(padded, rows, top, left, mirrored, self._size)


def pad_reflect(pixels: Tensor, padding: int) -> Tensor:
    """(n, H, W, C) -> (n, H + 2p, W + 2p, C), mirrored at the borders without repeating them. Keeps uint8."""
    if padding == 0:
        return pixels
    height, width = pixels.shape[1:3]
    rows = _mirrored(height, padding, pixels.device)
    columns = _mirrored(width, padding, pixels.device)
    return pixels[:, rows][:, :, columns].contiguous()


def crop_and_flip(
    padded: Tensor, rows: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, size: tuple[int, int]
) -> Tensor:
    """Crops of (H, W) = ``size`` from the images ``rows`` (B,) of ``padded`` (n, H', W', C), some mirrored.

    ``top`` and ``left`` (B,) are the crops' corners, ``mirrored`` (B,) is bool. Returns (B, C, H, W) uint8, in
    channels-last memory order.
    """
    height, width = size
    n, full_height, full_width, channels = padded.shape
    line = full_width * channels
    windows = padded.as_strided(  # every possible crop, without a copy; each line of one is contiguous
        (n, full_height - height + 1, full_width - width + 1, height, width * channels),
        (full_height * line, line, channels, line, 1),
    )
    crops = windows[rows, top, left].view(-1, height, width, channels)
    return torch.where(mirrored[:, None, None, None], crops.flip(2), crops).permute(0, 3, 1, 2)


def _mirrored(length: int, padding: int, device: torch.device) -> Tensor:
    """Indices -p .. length + p - 1, reflected into 0 .. length - 1."""
    index = torch.arange(-padding, length + padding, device=device).abs()
    return torch.where(index >= length, 2 * (length - 1) - index, index)
