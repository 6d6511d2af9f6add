"""The residual networks for 32-pixel images of the distillation papers: depth 6n + 2, three stages of 16, 32, 64.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv:1512.03385), section 4.2, in the
variant that the distillation papers train (CRD, HSAKD, MCL and their successors): where a stage changes shape, the
shortcut is a 1x1 convolution with batch normalisation. He et al. themselves pad with zeros there (option A), which
saves 2,752 parameters. With 100 classes ResNet-32 has 472,756 parameters.

Papers mean two different networks by ResNet-110. This one is built of basic blocks (18 a stage, 1.74 M parameters),
as in He et al.; the other reading, of bottleneck blocks (12 a stage, 1.17 M), is not this one.
"""

from collections.abc import Sequence
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.student import Branchable

DEPTHS = (8, 14, 20, 32, 44, 56, 110)
WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == out
            else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        # In place where nobody needs what was there: fresh memory for each step costs a third of a CPU's time.
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y)).add_(self.shortcut(x))
        return F.relu(y, inplace=True)


class CifarResNet(Branchable):
    """ResNet-``depth`` without its classifier, with timm's feature interface. It branches before its last stage."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise UserError(f"A CIFAR ResNet has depth 6n + 2 with n >= 1, got {depth}.")
        blocks = (depth - 2) // 6
        self.depth = depth
        self.head_hidden_size = WIDTHS[-1]
        self.conv = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        self.stages = nn.ModuleList()
        channels = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            layers = [BasicBlock(channels if i == 0 else width, width, stride) for i, stride in enumerate(strides)]
            self.stages.append(nn.Sequential(*layers))
            channels = width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_intermediates(self, x: Tensor, *, output_fmt: str = "NCHW") -> tuple[Tensor, list[Tensor]]:
        """Images (B, 3, H, W) -> last map and all three stage maps, of H, H/2 and H/4 pixels."""
        return self.forward_branch(self.forward_trunk(x))

    def share_trunk(self, other: Self) -> None:
        if self.depth != other.depth:
            raise UserError(f"A trunk is shared by networks of one depth, got ResNet-{self.depth} and -{other.depth}.")
        self.conv, self.bn = other.conv, other.bn
        for number in range(len(self.stages) - 1):
            self.stages[number] = other.stages[number]

    def forward_trunk(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn(self.conv(x)), inplace=True)
        maps = []
        for stage in list(self.stages)[:-1]:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_branch(self, trunk: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        last = self.stages[-1](trunk[-1])
        return last, [*trunk, last]

    def forward_head(self, x: Tensor) -> Tensor:
        """Last map (B, 64, H, W) -> embedding (B, 64)."""
        return x.mean(dim=(-2, -1))
