"""The interface of auxiliary tasks: one student's private lesson, which leaves with training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from codistill.core.batch import Batch
from codistill.core.student import StudentOutput


class Task(nn.Module, ABC):
    """Marks one student on what it saw. It owns its heads and names the views that it needs.

    A subclass is built as ``SomeTask(shape, **settings)`` from the student's ``StudentShape``.
    """

    views: tuple[str, ...] = ()  #: besides "clean", which every student always sees
    default_weight: ClassVar[float] = 1.0
    one_label: ClassVar[bool] = False  # whether an image must have one label: no mixup, no cutmix
    fraction: float = 1.0  #: of the batch that the task runs on: its first rows

    @abstractmethod
    def forward(self, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
        """The task's scalar loss. ``seen`` holds the student's output for ``"clean"`` and for each view asked for."""
