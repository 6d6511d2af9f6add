"""ShuffleNetV2 for 32-pixel images, as the distillation papers train it.

Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018 (arXiv:1807.11164),
width 1, in the variant of CRD (arXiv:1910.10699) and its successors: the stem is a 1x1 convolution that keeps the
image's size. With 100 classes it has 1,355,528 parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codistill.models.base import Staged
from codistill.models.mobilenetv2 import convolution

STEM, LAST = 24, 1024
STAGES = ((116, 4), (232, 8), (464, 4))  # channels, units


class SplitUnit(nn.Module):
    """Half of the channels pass, the other half is filtered, and they are shuffled: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            *convolution(half, half, 1),
            *convolution(half, half, 3, groups=half)[:-1],
            *convolution(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, filtered = x.chunk(2, dim=1)
        return F.channel_shuffle(torch.cat([kept, self.branch(filtered)], dim=1), 2)


class DownUnit(nn.Module):
    """Two branches side by side, shuffled: (B, C_in, H, W) -> (B, C, H / 2, W / 2)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        half = out // 2
        self.left = nn.Sequential(
            *convolution(channels, channels, 3, stride=2, groups=channels)[:-1],
            *convolution(channels, half, 1),
        )
        self.right = nn.Sequential(
            *convolution(channels, half, 1),
            *convolution(half, half, 3, stride=2, groups=half)[:-1],
            *convolution(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.channel_shuffle(torch.cat([self.left(x), self.right(x)], dim=1), 2)


class ShuffleNetV2(Staged):
    """Without its classifier: three maps, of H/2, H/4 and H/8 pixels; the last is the 1024 channels after all units."""

    def __init__(self) -> None:
        stages = []
        channels = STEM
        for number, (width, units) in enumerate(STAGES):
            layers: list[nn.Module] = convolution(3, STEM, 1) if number == 0 else []
            layers += [DownUnit(channels, width), *(SplitUnit(width) for _ in range(units - 1))]
            channels = width
            stages.append(nn.Sequential(*layers))
        stages[-1].extend(convolution(channels, LAST, 1))
        super().__init__(*stages, width=LAST)
