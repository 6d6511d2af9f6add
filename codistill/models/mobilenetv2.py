"""MobileNetV2 of half the width for 32-pixel images, as the distillation papers train it.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018 (arXiv:1801.04381), in the variant
of CRD (arXiv:1910.10699) and its successors: expansion 6, half of each width but for the last 1280 channels, plain
ReLU, and four halvings of the image instead of five. With 100 classes it has 812,836 parameters.
"""

from torch import Tensor, nn

from codistill.models.base import Staged, initialise

STEM, LAST, EXPANSION = 16, 1280, 6
# Per stage: (channels, blocks, stride of the first block).
STAGES = (((8, 1, 1), (12, 2, 1)), ((16, 3, 2),), ((32, 4, 2), (48, 3, 1)), ((80, 3, 2), (160, 1, 1)))


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow: (B, C_in, H, W) -> (B, C, H / stride, W / stride)."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.layers = nn.Sequential(
            *convolution(channels, wide, 1),
            *convolution(wide, wide, 3, stride, groups=wide),
            *convolution(wide, out, 1)[:-1],  # linear: no ReLU after narrowing
        )
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return y.add_(x) if self.residual else y


class MobileNetV2(Staged):
    """Without its classifier: four maps, of H/2, H/4, H/8 and H/16 pixels."""

    def __init__(self) -> None:
        stages = []
        channels = STEM
        for number, groups in enumerate(STAGES):
            layers: list[nn.Module] = convolution(3, STEM, 3, stride=2) if number == 0 else []
            for width, blocks, stride in groups:
                for block in range(blocks):
                    expansion = 1 if channels == STEM and number == 0 else EXPANSION
                    layers.append(InvertedResidual(channels, width, stride if block == 0 else 1, expansion))
                    channels = width
            stages.append(nn.Sequential(*layers))
        stages[-1].extend(convolution(channels, LAST, 1))
        super().__init__(*stages, width=LAST)
        initialise(self)


def convolution(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution, batch normalisation, ReLU."""
    conv = nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
