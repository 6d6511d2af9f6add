"""Labelled images in memory: uint8, once, all of one size. What every data source returns."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 4  # pixels: students halve the sides of an image twice


@dataclass(frozen=True)
class Images:
    """n images of K classes."""

    pixels: Tensor  # (n, H, W, 3) uint8, channels last: one image's pixel is one contiguous triple
    labels: Tensor  # (n,) int64 in [0, K)
    class_names: tuple[str, ...]  # K

    def __len__(self) -> int:
        return len(self.labels)


class Splits(NamedTuple):
    """Train, validation (None if none was asked for) and test images of the same classes."""

    train: Images
    validation: Images | None
    test: Images


def resize(pixels: Tensor, size: int) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, size, size, 3) uint8: means over areas when shrinking, bilinear when enlarging.

    Halving the size is the mean of 2x2 pixels, rounded to the nearest integer.
    """
    if pixels.shape[1:3] == (size, size):
        return pixels
    shrinks = size <= min(pixels.shape[1:3])
    resized = []
    for chunk in pixels.split(4096):  # a float copy of everything at once could be four times the data
        planes = chunk.permute(0, 3, 1, 2).float()
        planes = (
            F.adaptive_avg_pool2d(planes, size)
            if shrinks
            else F.interpolate(planes, size=(size, size), mode="bilinear", align_corners=False)
        )
        resized.append(planes.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1))
    return torch.cat(resized).contiguous()


def channel_statistics(pixels: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of (n, H, W, 3) uint8 pixels, in units of 1 = white.

    Exact, from counts of the 256 values, so that it does not depend on the order of summation.
    """
    values = np.arange(256) / 255.0
    means, deviations = [], []
    for channel in range(pixels.shape[-1]):
        counts = np.bincount(pixels[..., channel].reshape(-1).numpy(), minlength=256)
        mean = float(np.average(values, weights=counts))
        means.append(mean)
        deviations.append(float(np.sqrt(np.average((values - mean) ** 2, weights=counts))))
    return means, deviations
