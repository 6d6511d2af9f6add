"""Rotated-view instance discrimination: a turned image must find its own upright image (SSKD, ECCV 2020).

Projections p of the three turned views of each image, and u of the B upright images, are compared by cosine:

    loss = mean over turned images i of  -log( exp(cos(p_i, u_own(i)) / tau) / sum_b exp(cos(p_i, u_b) / tau) )

Source: Xu et al., arXiv:2006.07114, equations 2 and 3, where it trains a teacher's projection on frozen
features. Deviation: here it trains the student itself.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.task import Task
from codistill.core.views import CLEAN, QUARTER_TURNS
from codistill.tasks.heads import full_precision, projection_mlp


def find_own_upright(turned: Tensor, upright: Tensor, temperature: float) -> Tensor:
    """The loss above. ``turned`` (V * B, D) is view-major: its row v * B + b shows row b of ``upright``."""
    with full_precision(turned.device):
        similarity = F.normalize(turned.float(), dim=1) @ F.normalize(upright.float(), dim=1).T  # (V * B, B)
    own = torch.arange(upright.shape[0], device=upright.device).repeat(turned.shape[0] // upright.shape[0])
    return F.cross_entropy(similarity / temperature, own)


class Contrastive(Task):
    """Each turned image finds its own upright image in the batch.

    temperature: tau, divides the cosine.
    """

    views = QUARTER_TURNS[1:]

    def __init__(self, shape: StudentShape, *, temperature: PositiveFloat = 0.5) -> None:
        super().__init__()
        self.temperature = temperature
        self.projection = projection_mlp(shape.embedding, shape.embedding)

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        turned = torch.cat([seen[view].embedding for view in self.views])
        return find_own_upright(self.projection(turned), self.projection(seen[CLEAN].embedding), self.temperature)
