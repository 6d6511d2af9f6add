"""Supervised contrastive learning: images of a class attract, all others repel (Khosla et al., NeurIPS 2020).

For anchors i among the n projections z (unit length), with P(i) the other projections of the same class:

    loss = mean over anchors with P(i) not empty of
           -1/|P(i)| sum_{p in P(i)} log( exp(z_i . z_p / tau) / sum_{a != i} exp(z_i . z_a / tau) )

Source: arXiv:2004.11362, equation 2 (L_out), without the constant tau / tau_base of its public code.
Deviation: with ``second_view=False`` an image alone of its class in the batch has no positive and is left out.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.losses.contrastive import contrast
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.task import Task
from codistill.core.views import CLEAN
from codistill.tasks.heads import full_precision, projection_mlp


def supervised_contrastive(projections: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The loss above for projections (n, D), not yet normalised, and their labels (n,). Zero without any positive."""
    with full_precision(projections.device):
        z = F.normalize(projections.float(), dim=1)
        similarity = z @ z.T / temperature
    return contrast(similarity, labels)


class SupCon(Task):
    """Supervised contrastive loss on a 128-d projection of the embedding.

    temperature: tau. second_view: also use an independent augmentation of each image (one more forward pass).
    width: of the projection.
    """

    default_weight = 0.1
    one_label = True

    def __init__(
        self,
        shape: StudentShape,
        *,
        temperature: PositiveFloat = 0.1,
        second_view: bool = False,
        width: PositiveInt = 128,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.views = ("second",) if second_view else ()
        self.projection = projection_mlp(shape.embedding, width)

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        looks = (CLEAN, *self.views)
        projections = self.projection(torch.cat([seen[view].embedding for view in looks]))
        return supervised_contrastive(projections, batch.labels.repeat(len(looks)), self.temperature)
