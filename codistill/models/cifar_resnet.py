"""The residual networks for 32-pixel images of the distillation papers: three stages, as a rule of 16, 32 and 64.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv:1512.03385), section 4.2, in the
variant that the distillation papers train (CRD, HSAKD, MCL and their successors): where a stage changes shape, the
shortcut is a 1x1 convolution with batch normalisation. He et al. themselves pad with zeros there (option A), which
saves 2,752 parameters. With 100 classes ResNet-32 has 472,756 parameters.

Papers mean two different networks by ResNet-110, and by ResNet-56. ``resnet110`` is built of basic blocks (depth
6n + 2: 18 a stage, 1.74 M parameters), as in He et al.; ``resnet110_bottleneck`` of bottleneck blocks, four times as
wide between them as within (depth 9n + 2: 12 a stage, 1.17 M). WRN-20-8 of OKDDip (arXiv:1912.00350) and its successors
is of this kind, eight times as wide within its blocks; it is not one of Zagoruyko & Komodakis' wide residual networks.
ResNet-8x4 and ResNet-32x4 (CRD, arXiv:1910.10699) have a stem of 32 channels and stages of 64, 128 and 256.
"""

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from codistill.errors import UserError
from codistill.models.base import InStages, initialise

DEPTHS = (8, 14, 20, 32, 44, 56, 110)
WIDTHS = (16, 16, 32, 64)  # of the stem, and within the blocks of each stage
X4 = (32, 64, 128, 256)
EXPANSION = 4  # of a bottleneck block


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = _shortcut(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        # In place where nobody needs what was there: fresh memory for each step costs a third of a CPU's time.
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y)).add_(self.shortcut(x))
        return F.relu(y, inplace=True)


class BottleneckBlock(nn.Module):
    """A 3x3 convolution between 1x1 ones, and a shortcut: (B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""

    def __init__(self, channels: int, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.shortcut = _shortcut(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y)).add_(self.shortcut(x))
        return F.relu(y, inplace=True)


class CifarResNet(InStages):
    """ResNet-``depth`` without its classifier, with timm's feature interface. It branches before its last stage.

    ``factor`` widens the inside of bottleneck blocks.
    """

    def __init__(
        self, depth: int, widths: tuple[int, int, int, int] = WIDTHS, bottleneck: bool = False, factor: int = 1
    ) -> None:
        super().__init__()
        layers_of_block = 9 if bottleneck else 6  # of three blocks, one in each stage
        if depth < layers_of_block + 2 or (depth - 2) % layers_of_block:
            kind = " of bottleneck blocks" if bottleneck else ""
            raise UserError(f"A CIFAR ResNet{kind} has depth {layers_of_block}n + 2 with n >= 1, got {depth}.")
        blocks = (depth - 2) // layers_of_block
        self.kind = (depth, widths, bottleneck, factor)
        channels, *stage_widths = widths
        self.conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.stages = nn.ModuleList()
        for stage, width in enumerate(stage_widths):
            layers: list[nn.Module] = []
            for number in range(blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                if bottleneck:
                    layers.append(BottleneckBlock(channels, factor * width, EXPANSION * width, stride))
                else:
                    layers.append(BasicBlock(channels, width, stride))
                channels = EXPANSION * width if bottleneck else width
            self.stages.append(nn.Sequential(*layers))
        self.head_hidden_size = channels
        initialise(self)

    def share_trunk(self, other: Self) -> None:
        if self.kind != other.kind:
            depths = f"ResNet-{self.kind[0]} and -{other.kind[0]}"
            raise UserError(f"A trunk is shared by networks of one depth and width, got {depths}.")
        super().share_trunk(other)
        self.conv, self.bn = other.conv, other.bn

    def stem(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _shortcut(channels: int, out: int, stride: int) -> nn.Module:
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
