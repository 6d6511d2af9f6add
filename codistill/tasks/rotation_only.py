"""Which of the four quarter turns is shown, without the class (RotNet, Gidaris et al., ICLR 2018).

Each image is seen under all four quarter turns r = 0..3, and a linear head on the embedding tells them apart:

    loss = cross-entropy of the turn r among 4, mean over the 4B images

Source: arXiv:1803.07728. Deviation: there it is the only training of a network whose features are used later; here
it is trained beside the class, with a linear head on what the classifier reads. Features that must tell turns apart
whatever the class can be worse for the class (arXiv:1910.05872); ``rotation`` is the joint-label remedy.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codistill.core.batch import Batch
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.task import Task
from codistill.core.views import QUARTER_TURNS


def turn_labels(batch_size: int, device: torch.device) -> Tensor:
    """(4 * batch_size,) the turn of each row where views are joined one after the other."""
    return torch.arange(len(QUARTER_TURNS), device=device).repeat_interleave(batch_size)


class RotationOnly(Task):
    """Tell the four quarter turns apart. It has no settings."""

    views = QUARTER_TURNS[1:]

    def __init__(self, shape: StudentShape) -> None:
        super().__init__()
        self.head = nn.Linear(shape.embedding, len(QUARTER_TURNS))

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        embeddings = torch.cat([seen[view].embedding for view in QUARTER_TURNS])
        return F.cross_entropy(self.head(embeddings), turn_labels(len(batch.labels), embeddings.device))
