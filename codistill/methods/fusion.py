"""Fusing students' last maps into one answer: the module of FFL (Kim et al., ICPR 2020, arXiv:1904.09058).

    x   = concat_i F_i                                              on the smallest grid: (B, sum C_i, H, W)
    f   = ReLU BN Conv1x1 ReLU BN DepthwiseConv3x3 (x)              sum C_i -> width
    z_f = Linear(mean over positions of f)

FFL and FFSD differ in whom this trains and whom it teaches, not in what it is.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codistill.core.student import StudentOutput
from codistill.errors import UserError


def separable(channels: int, out: int) -> nn.Sequential:
    """A depthwise 3x3, then a pointwise convolution, each with BN and ReLU: (B, channels, H, W) -> (B, out, H, W)."""
    layers = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layers


def join_maps(feature_maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
    """Maps (B, C_i, H_i, W_i) -> one (B, sum C_i, *grid), each averaged down to the grid."""
    return torch.cat([F.adaptive_avg_pool2d(feature_map, grid) for feature_map in feature_maps], dim=1)


class FeatureFusion(nn.Module):
    """The fusion module with its classifier, for last maps of any shapes (C_i, H_i, W_i).

    width: of the fused map; None is the narrowest student's.
    """

    def __init__(self, last_maps: Sequence[tuple[int, int, int]], num_classes: int, width: int | None = None) -> None:
        super().__init__()
        channels = [size[0] for size in last_maps]
        self.width = min(channels) if width is None else width
        if self.width < 1:
            raise UserError(f"The fused map's width must be at least 1, got {self.width}.")
        self.grid = min(((height, wide) for _, height, wide in last_maps), key=math.prod)
        self.channels = sum(channels)
        self.mix = separable(self.channels, self.width)
        self.classifier = nn.Linear(self.width, num_classes)

    def forward(self, joined: Tensor) -> StudentOutput:
        """Joined maps (B, sum C_i, H, W) -> the module's answer; its only feature map is f (B, width, H, W)."""
        fused = self.mix(joined)
        embedding = fused.mean(dim=(-2, -1))
        return StudentOutput(self.classifier(embedding), embedding, (fused,))
