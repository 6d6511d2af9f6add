"""Instance discrimination between two augmentations of each image (SimCLR, Chen et al., ICML 2020).

Projections z (unit length) of the 2B augmented images; o(i) is the other augmentation of image i:

    loss = mean over i of  -log( exp(z_i . z_o(i) / tau) / sum_{k != i} exp(z_i . z_k / tau) )         (NT-Xent)

Source: arXiv:2002.05709, equation 1. It is ``supcon`` with every image as a class of its own.
tau = 0.5 is the paper's choice for CIFAR-10.
Deviation: the two augmentations are those that the training has (crop, flip, ``augment.policy``), without the
paper's colour distortion and blur.
"""

from collections.abc import Mapping

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.task import Task
from codistill.core.views import CLEAN, SECOND
from codistill.tasks.heads import projection_mlp
from codistill.tasks.supcon import supervised_contrastive


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The loss above for projections (B, D) of two augmentations, not yet normalised; row b of both is one image."""
    images = torch.arange(len(first), device=first.device).repeat(2)
    return supervised_contrastive(torch.cat([first, second]), images, temperature)


class SimCLR(Task):
    """NT-Xent on a projection of the embedding; adds a second augmentation of each image.

    temperature: tau. width: of the projection.
    """

    # As supcon, the loss of the same form: instance discrimination with weight 1 cost its own student in our probe.
    default_weight = 0.1
    views = (SECOND,)

    def __init__(self, shape: StudentShape, *, temperature: PositiveFloat = 0.5, width: PositiveInt = 128) -> None:
        super().__init__()
        self.temperature = temperature
        self.projection = projection_mlp(shape.embedding, width)

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        first, second = self.projection(seen[CLEAN].embedding), self.projection(seen[SECOND].embedding)
        return nt_xent(first, second, self.temperature)
