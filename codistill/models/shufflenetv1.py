"""ShuffleNetV1 for 32-pixel images, as the distillation papers train it.

Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices", CVPR 2018
(arXiv:1707.01083), three groups, in the variant of CRD (arXiv:1910.10699) and its successors: the stem is a 1x1
convolution that keeps the image's size, and a ReLU follows the depthwise convolution. With 100 classes it has 949,258
parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codistill.models.base import Staged

STEM, GROUPS = 24, 3
STAGES = ((240, 4), (480, 8), (960, 4))  # channels, units


class ShuffleUnit(nn.Module):
    """Grouped convolutions and a shortcut: (B, C_in, H, W) -> (B, C, H / stride, W / stride).

    With stride 2 the shortcut is an average, and comes beside the branch instead of being added to it.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        own = out - channels if stride == 2 else out
        middle = own // 4
        self.stride = stride
        self.groups = 1 if channels == STEM else GROUPS  # so few channels are not worth grouping
        self.conv1 = nn.Conv2d(channels, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, own, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(own)

    def forward(self, x: Tensor) -> Tensor:
        y = F.channel_shuffle(F.relu(self.bn1(self.conv1(x)), inplace=True), self.groups)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y = torch.cat([y, F.avg_pool2d(x, 3, 2, padding=1)], dim=1) if self.stride == 2 else y.add_(x)
        return F.relu(y, inplace=True)


class ShuffleNetV1(Staged):
    """Without its classifier: three maps, of H/2, H/4 and H/8 pixels."""

    def __init__(self) -> None:
        stages = []
        channels = STEM
        for number, (width, units) in enumerate(STAGES):
            layers: list[nn.Module] = []
            if number == 0:
                layers += [nn.Conv2d(3, STEM, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True)]
            for unit in range(units):
                layers.append(ShuffleUnit(channels, width, 2 if unit == 0 else 1))
                channels = width
            stages.append(nn.Sequential(*layers))
        super().__init__(*stages, width=channels)
