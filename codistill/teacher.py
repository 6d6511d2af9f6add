"""Teachers: whoever turns what the students said into a target for each learner.

"The other students" is a teacher, and so is a module with weights of its own that fuses their features.
Targets come attached to the graph; the cohort detaches them, in one place.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from codistill.batch import Batch
from codistill.student import StudentOutput


class Target(NamedTuple):
    """What M teachers say to one learner, and how much each of them counts."""

    logits: Tensor  # (M, B, K)
    weights: Tensor  # (M,) a distill loss is the sum over teachers of weight x loss; plain average: 1/M each


class Taught(NamedTuple):
    """Everything a teacher has to say about one batch."""

    targets: dict[str, Target]  # learner -> target
    losses: dict[str, Tensor]  # the teacher's own training losses, by name
    output: StudentOutput | None = None  # its own answer; later lessons may teach it under the lesson's name


class Teacher(nn.Module, ABC):
    """One way of teaching. ``outputs`` holds every student and every teacher that answered before this one."""

    answers: ClassVar[bool] = False  # whether it gives an answer of its own, under the lesson's name

    @abstractmethod
    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        """Listen to ``outputs`` on the upright images and teach."""

    def predict(self, outputs: Mapping[str, StudentOutput]) -> Tensor | None:
        """The teacher's own logits (B, K), evaluated beside the students'; None if it has no opinion."""
        return None

    def after_step(self) -> None:
        """Called after every optimizer step, for teachers that follow the students (moving averages)."""
