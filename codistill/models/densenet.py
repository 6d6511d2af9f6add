"""DenseNet-40-12 for 32-pixel images: each layer adds 12 maps to all those before it.

Huang et al., "Densely Connected Convolutional Networks", CVPR 2017 (arXiv:1608.06993), section 4, the plain variant
without bottlenecks and compression: three dense blocks of 12 layers, 1x1 convolutions and pooling between them. With
10 classes it has 1,019,722 parameters (1.0 M in table 2), with 100 classes 1,060,132.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.models.base import Staged, initialise

STEM = 16


class DenseLayer(nn.Module):
    """Normalisation, ReLU and a 3x3 convolution, beside what was there: (B, C, H, W) -> (B, C + growth, H, W)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.bn(x), inplace=True))], dim=1)


class DenseNet(Staged):
    """DenseNet-``depth``-``growth`` without its classifier. The last map is taken after the last ReLU."""

    def __init__(self, depth: int, growth: int) -> None:
        if depth < 7 or (depth - 4) % 3:
            raise UserError(f"A plain DenseNet has depth 3n + 4 with n >= 1, got {depth}.")
        stages = []
        channels = STEM
        for block in range(3):
            layers: list[nn.Module] = []
            if block == 0:
                layers.append(nn.Conv2d(3, STEM, 3, padding=1, bias=False))
            else:
                norm, relu = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
                layers += [norm, relu, nn.Conv2d(channels, channels, 1, bias=False), nn.AvgPool2d(2)]
            for _ in range((depth - 4) // 3):
                layers.append(DenseLayer(channels, growth))
                channels += growth
            stages.append(nn.Sequential(*layers))
        stages[-1].extend([nn.BatchNorm2d(channels), nn.ReLU(inplace=True)])
        super().__init__(*stages, width=channels)
        initialise(self)
