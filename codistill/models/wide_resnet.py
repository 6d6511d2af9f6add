"""Wide residual networks for 32-pixel images: WRN-d-k has depth d = 6n + 4 and stages of 16k, 32k, 64k channels.

Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016 (arXiv:1605.07146): normalisation and ReLU come before each
convolution, and where a stage changes shape the shortcut is a 1x1 convolution of what they gave. With 100 classes
WRN-40-2 has 2,255,156 parameters (2.26 M in the table of CRD, arXiv:1910.10699).
"""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.models.base import Staged, initialise

STEM = 16


class PreActivationBlock(nn.Module):
    """Twice normalisation, ReLU and 3x3 convolution; a shortcut: (B, C_in, H, W) -> (B, C, H / stride, W / stride)."""

    def __init__(self, channels: int, out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.shortcut = None if channels == out else nn.Conv2d(channels, out, 1, stride, bias=False)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        y = F.relu(self.bn2(self.conv1(active)), inplace=True)
        if self.dropout:
            y = F.dropout(y, self.dropout, self.training)
        return self.conv2(y).add_(x if self.shortcut is None else self.shortcut(active))


class WideResNet(Staged):
    """WRN-``depth``-``factor`` without its classifier. The last map is taken after the last ReLU.

    ``dropout`` is the share of values dropped between the convolutions of a block; the paper tries 0.3.
    """

    def __init__(self, depth: int, factor: int, *, dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> None:
        if depth < 10 or (depth - 4) % 6:
            raise UserError(f"A wide residual network has depth 6n + 4 with n >= 1, got {depth}.")
        blocks = (depth - 4) // 6
        stages = []
        channels = STEM
        for stage, width in enumerate((16 * factor, 32 * factor, 64 * factor)):
            layers: list[nn.Module] = [nn.Conv2d(3, STEM, 3, padding=1, bias=False)] if stage == 0 else []
            for number in range(blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                layers.append(PreActivationBlock(channels, width, stride, dropout))
                channels = width
            stages.append(nn.Sequential(*layers))
        stages[-1].extend([nn.BatchNorm2d(channels), nn.ReLU(inplace=True)])
        super().__init__(*stages, width=channels)
        initialise(self)
