"""Small training-only heads that tasks put on a student."""

import math

import torch
from torch import Tensor, nn


def full_precision(device: torch.device) -> torch.autocast:
    """For similarities that a small temperature divides: autocast would round them before, and enlarge the error."""
    return torch.autocast(device.type, enabled=False)


def projection_mlp(width: int, out: int) -> nn.Sequential:
    """Embedding (B, width) -> projection (B, out), with one hidden layer as wide as the embedding."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, out))


class StageHead(nn.Module):
    """Stage map (B, C_s, H_s, W_s) -> logits (B, K): brought to the last grid, pooled, classified.

    One depthwise-separable block per halving of the grid (at least one), so that an early stage is asked for
    features that the later stages could go on from, and not for the answer itself.
    """

    def __init__(self, stage: tuple[int, int, int], last: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, size, _ = stage
        wanted, last_size, _ = last
        halvings = max(0, round(math.log2(size / last_size)))
        blocks = []
        for step in range(max(1, halvings)):
            # Widen evenly on the way, as the backbone's own stages do.
            out = wanted if step == max(1, halvings) - 1 else min(wanted, channels * 2)
            blocks.append(_separable(channels, out, stride=2 if halvings else 1))
            channels = out
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, feature_map: Tensor) -> Tensor:
        return self.classifier(self.blocks(feature_map).mean(dim=(-2, -1)))


def _separable(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )
