"""Which superclass does the image belong to: labels coarser than the classes, given in addition to them.

With S superclasses and s(y) the superclass of class y, for a linear head on the embedding:

    loss = cross-entropy of s(y) among S, mean over the B images

It stands for no paper: it is the control for what other tasks gain, with labels that they do not have (CIFAR-100:
20 superclasses of 5 classes). Numbers with this task used extra labels, and a report must say so.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from codistill.core.batch import Batch, cross_entropy
from codistill.core.student import StudentOutput, StudentShape
from codistill.core.task import Task
from codistill.core.views import CLEAN
from codistill.errors import UserError


class Coarse(Task):
    """Classify superclasses, which are extra labels.

    superclasses: for each class its superclass, numbered from 0; None takes them from the label column that
    data.superclass names.
    """

    superclass_of: Tensor  # (K,) int64

    def __init__(self, shape: StudentShape, *, superclasses: list[int] | None = None) -> None:
        super().__init__()
        if superclasses is None:
            raise UserError(
                "Task 'coarse' needs to know the superclass of each class. Set data.superclass to the label column "
                "that holds it (CIFAR-100: data.superclass=coarse_label), or list one number for each class, from 0: "
                "{name: coarse, superclasses: [0, 0, 1, ...]}."
            )
        count = _check(superclasses, shape.num_classes)
        self.register_buffer("superclass_of", torch.tensor(superclasses))
        self.head = nn.Linear(shape.embedding, count)

    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        coarse = batch.relabelled(lambda labels: self.superclass_of[labels])
        return cross_entropy(self.head(seen[CLEAN].embedding), coarse)


def _check(superclasses: list[int], num_classes: int) -> int:
    """The number of superclasses. Raises UserError for a list that is none."""
    if len(superclasses) != num_classes:
        raise UserError(
            f"Task 'coarse': {len(superclasses)} superclasses for {num_classes} classes, give one for each."
        )
    given = sorted(set(superclasses))
    if given != list(range(len(given))) or len(given) < 2:
        raise UserError(f"Task 'coarse': superclasses must be numbered 0, 1, ... with at least two, got {given}.")
    return len(given)
