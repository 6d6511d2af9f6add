"""A backbone of your own, beside a network of the library: three names are all that a student asks of it.

python examples/custom_backbone.py --epochs 20
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from plain_loop import digits, run
from torch import Tensor, nn

from codistill import Cohort, Objective, Student, observe_shapes
from codistill.methods import collaborative
from codistill.models import CifarResNet


class SmallCNN(nn.Module):
    """Three convolutions; the first two stages halve the image. It has no classifier: the student brings one."""

    head_hidden_size = 48  # the width of what forward_head returns

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 12, 24, 48)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, out, 3, stride=2 if stage < 2 else 1, padding=1, bias=False)
            for stage, (channels, out) in enumerate(pairwise(widths))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])

    def forward_intermediates(self, x: Tensor, *, output_fmt: str = "NCHW") -> tuple[Tensor, list[Tensor]]:
        """Images (B, 3, H, W) -> the final features, and a map (B, C, H', W') of each stage."""
        maps = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
            maps.append(x)
        return x, maps

    def forward_head(self, x: Tensor) -> Tensor:
        """The final features -> the embedding (B, head_hidden_size) that the classifier reads."""
        return x.mean(dim=(-2, -1))


if __name__ == "__main__":
    torch.manual_seed(0)
    students = {"own": Student(SmallCNN(), num_classes=10), "resnet": Student(CifarResNet(8), num_classes=10)}
    shapes = {
        name: observe_shapes(student, (3, 8, 8)) for name, student in students.items()
    }  # read off, never typed in
    method = collaborative(shapes)
    run(Cohort(students, {}, method), Objective(method.weights), *digits())
