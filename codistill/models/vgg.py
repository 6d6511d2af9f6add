"""VGG networks for 32-pixel images, with batch normalisation and a single linear classifier.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015
(arXiv:1409.1556), in the variant of CRD (arXiv:1910.10699) and its successors: five groups of 3x3 convolutions with
biases, of which the last two work at the same size. VGG-8 has one convolution in each group. With 100 classes VGG-8
has 3,965,028 parameters and VGG-13 9,462,180.
"""

from torch import nn

from codistill.models.base import Staged, initialise

WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}  # of each group, by depth


class VGG(Staged):
    """VGG-``depth`` without its classifier: five maps, of H, H/2, H/4, H/8 and H/8 pixels."""

    def __init__(self, depth: int) -> None:
        stages = []
        channels = 3
        for group, (count, width) in enumerate(zip(CONVOLUTIONS[depth], WIDTHS, strict=True)):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if 0 < group < 4 else []
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
            stages.append(nn.Sequential(*layers))
        super().__init__(*stages, width=channels)
        initialise(self)
