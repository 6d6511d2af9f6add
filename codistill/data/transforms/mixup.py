"""Mixup and CutMix: each image of a batch together with another, and both labels in proportion.

    mixup    x = s x_a + (1 - s) x_b with s ~ Beta(alpha, alpha)       (Zhang et al., ICLR 2018, arXiv:1710.09412)
    cutmix   x is x_a, but for a box that shows x_b; s is the share of the area around it. With t ~ Beta(alpha, alpha)
             the box has sides of sqrt(1 - t) times the image's, around a uniform centre, and is cut off at the border
             (Yun et al., ICCV 2019, arXiv:1905.04899)
    loss     s CE(z, y_a) + (1 - s) CE(z, y_b)

One s for a batch, as in the papers. b is the image before a in the shuffled batch, the last one for the first. With
both, a coin decides for each batch.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Mix(NamedTuple):
    """How one batch is mixed."""

    share: float  # s, of the image itself
    box: tuple[int, int, int, int] | None  # top, bottom, left, right of what shows the other; None is mixup


class Mixing(NamedTuple):
    """alpha of each; 0 is without."""

    mixup: float
    cutmix: float

    def draw(self, random: np.random.Generator, size: tuple[int, int]) -> Mix:
        """For images of (H, W) = ``size``."""
        cut, alpha = False, self.mixup
        if self.cutmix and (not self.mixup or random.random() < 0.5):
            cut, alpha = True, self.cutmix
        share = float(random.beta(alpha, alpha))
        if not cut:
            return Mix(share, None)
        return cut_box(share, (int(random.integers(size[0])), int(random.integers(size[1]))), size)


def cut_box(share: float, centre: tuple[int, int], size: tuple[int, int]) -> Mix:
    """The box around ``centre`` (row, column) that leaves about ``share`` of the image, and what it does leave."""
    sides = []
    for middle, length in zip(centre, size, strict=True):
        half = int(0.5 * (1.0 - share) ** 0.5 * length)
        sides.append((max(middle - half, 0), min(middle + half, length)))
    (top, bottom), (left, right) = sides
    return Mix(1.0 - (bottom - top) * (right - left) / (size[0] * size[1]), (top, bottom, left, right))


def mixed(images: Tensor, others: Tensor, mix: Mix) -> Tensor:
    """(B, C, H, W) images and as many others, mixed row by row; neither is changed."""
    if mix.box is None:
        return torch.lerp(others, images, mix.share)
    top, bottom, left, right = mix.box
    images = images.clone(memory_format=torch.preserve_format)
    images[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return images
