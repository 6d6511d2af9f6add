"""Labelled images: uint8, once, all of one size, in memory or mapped from a file. What every data source returns.

Mapped images may be more than memory holds, so nothing here copies or converts more than a chunk of them at a time.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codistill.data.sources.base import Part
from codistill.data.transforms.resize import resize as resize_image

SMALLEST = 4  # pixels: students halve the sides of an image twice


@dataclass(frozen=True)
class Images:
    """n images of K classes."""

    pixels: Tensor  # (n, H, W, 3) uint8, channels last: one image's pixel is one contiguous triple
    labels: Tensor  # (n,) int64 in [0, K)
    class_names: tuple[str, ...]  # K
    origin: Part | None = None  # which rows of a source they are, where that is known

    def __len__(self) -> int:
        return len(self.labels)

    def spread(self, most: int) -> "Images":
        """At most ``most`` of the images, evenly spread, for they may lie class by class. Nothing is copied."""
        every = math.ceil(len(self) / most)
        return Images(self.pixels[::every], self.labels[::every], self.class_names)


class Splits(NamedTuple):
    """Train, validation (None if none was asked for) and test images of the same classes."""

    train: Images
    validation: Images | None
    test: Images


_CHUNK_BYTES = 2**24


def gather(images: Iterable[Tensor], count: int) -> Tensor:
    """``count`` images of (H, W, 3), which come one by one, as (count, H, W, 3): never in memory twice."""
    pixels = torch.empty(0, dtype=torch.uint8)
    for row, image in enumerate(images):
        if row == 0:
            pixels = torch.empty(count, *image.shape, dtype=torch.uint8)
        pixels[row] = image
    return pixels


def chunks(pixels: Tensor) -> tuple[Tensor, ...]:
    """Parts of (n, H, W, 3) that are small enough to be copied or converted."""
    return pixels.split(max(1, _CHUNK_BYTES // max(1, pixels[:1].numel())))


def resize(pixels: Tensor, size: int, how: str = "squash") -> Tensor:
    """(n, H, W, 3) uint8 -> (n, size, size, 3) uint8, each image as ``codistill.data.transforms.resize`` does."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    resized = torch.empty(len(pixels), size, size, pixels.shape[3], dtype=torch.uint8)
    for row, image in enumerate(pixels):
        resized[row] = torch.from_numpy(resize_image(image.numpy(), (size, size), how))
    return resized


def channel_statistics(pixels: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of (n, H, W, 3) uint8 pixels, in units of 1 = white.

    Exact, from counts of the 256 values, so that it does not depend on the order of summation.
    """
    values = np.arange(256) / 255.0
    counts = np.zeros((pixels.shape[-1], 256), dtype=np.int64)
    for chunk in chunks(pixels):
        for channel, of_channel in enumerate(counts):
            of_channel += np.bincount(chunk[..., channel].reshape(-1).numpy(), minlength=256)
    means = [float(np.average(values, weights=of_channel)) for of_channel in counts]
    deviations = [
        float(np.sqrt(np.average((values - mean) ** 2, weights=of_channel)))
        for mean, of_channel in zip(means, counts, strict=True)
    ]
    return means, deviations


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, H, W) uint8 -> float with the given mean and std (C,), both in units of 1 = white.

    Fast for images in channels-last memory order, which it keeps.
    """
    lines = images.permute(0, 2, 3, 1).flatten(2)  # (B, H, W * C): long contiguous lines, not runs of three values
    width = images.shape[-1]
    scaled = lines.float().mul_((1.0 / (255.0 * std)).repeat(width)).sub_((mean / std).repeat(width))
    return scaled.unflatten(2, (width, -1)).permute(0, 3, 1, 2)
