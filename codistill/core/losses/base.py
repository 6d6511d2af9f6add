"""The interface of distill losses: how far a learner is from its target."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from codistill.core.student import StudentOutput
from codistill.core.teacher import Target


class Distill(nn.Module, ABC):
    """A loss between what a learner said and what its teachers say."""

    @abstractmethod
    def forward(self, output: StudentOutput, target: Target) -> Tensor:
        """A scalar, averaged over the batch and summed over teachers with their weights."""
