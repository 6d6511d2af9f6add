"""Teachers: whoever turns what the students said into a target for each learner.

"The other students" is a teacher, and so is a module with weights of its own that fuses their features.
Targets come attached to the graph; the cohort detaches them, in one place.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from codistill.core.batch import Batch, cross_entropy
from codistill.core.student import Student, StudentOutput


class Target(NamedTuple):
    """What M teachers say to one learner, and how much each of them counts."""

    logits: Tensor  #: (M, B, K)
    weights: Tensor  #: (M,) a distill loss is the sum over teachers of weight x loss; plain average: 1/M each


class Taught(NamedTuple):
    """Everything a teacher has to say about one batch."""

    targets: dict[str, Target]  #: learner -> target
    losses: dict[str, Tensor]  #: the teacher's own training losses, by name
    output: StudentOutput | None = None  #: its own answer; later lessons may teach it under the lesson's name
    loss_scale: Mapping[str, Tensor] = {}  #: student -> factor on the gradients of its losses; 0: it waits for a step


class Teacher(nn.Module, ABC):
    """One way of teaching. ``outputs`` holds every student and every teacher that answered before this one."""

    answers: ClassVar[bool] = False  # whether it gives an answer of its own, under the lesson's name
    one_label: ClassVar[bool] = False  # whether an image must have one label: no mixup, no cutmix

    @abstractmethod
    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        """Listen to ``outputs`` and teach.

        ``outputs`` are over the views of the lesson, joined view by view (upright images only unless the lesson says
        otherwise); ``batch.labels`` has a label for each of their rows.
        """

    def predict(self, outputs: Mapping[str, StudentOutput]) -> Tensor:
        """The logits (B, K) of a teacher that ``answers``, evaluated beside the students'. The others are not asked."""
        raise NotImplementedError(f"{type(self).__name__} has no answer of its own.")

    def enrol(self, students: Mapping[str, Student]) -> None:
        """Meet the students, once, before training: for teachers that copy them."""

    def after_step(self, students: Mapping[str, Student], taken: Tensor | float = 1.0) -> None:
        """Called after every optimizer step, for teachers that follow the students (moving averages).

        ``taken``: 1, or 0 for a step that was skipped, in which the students stayed as they were. A number on the
        device, which is multiplied by and not looked at.
        """


class AnsweringTeacher(Teacher):
    """A teacher with an answer of its own: trained on the labels, the target of its ``students``, and evaluated."""

    answers = True
    students: Sequence[str]

    @abstractmethod
    def answer(self, outputs: Mapping[str, StudentOutput]) -> StudentOutput:
        """What it says itself about the images that ``outputs`` are about."""

    def forward(self, outputs: Mapping[str, StudentOutput], batch: Batch) -> Taught:
        answer = self.answer(outputs)
        target = Target(answer.logits[None], answer.logits.new_ones(1))
        own = {"ce": cross_entropy(answer.logits, batch)}
        return Taught({name: target for name in self.students}, own, answer)

    def predict(self, outputs: Mapping[str, StudentOutput]) -> Tensor:
        return self.answer(outputs).logits
