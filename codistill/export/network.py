"""The networks that can be exported, each from normalised images (B, 3, H, W) to logits (B, K), and from pixels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from codistill.core.cohort import Cohort
from codistill.core.student import Student
from codistill.core.teacher import Teacher
from codistill.errors import UserError, unknown
from codistill.export.select import BEST, ENSEMBLE, TEACHER


class OneStudent(nn.Module):
    """A student's logits."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> Tensor:
        return self.student(images).logits


class Ensemble(nn.Module):
    """The logarithm of the students' mean probabilities, of which softmax makes those again."""

    def __init__(self, students: Mapping[str, Student]) -> None:
        super().__init__()
        self.students = nn.ModuleDict(students)

    def forward(self, images: Tensor) -> Tensor:
        answers = torch.stack([student(images).logits.log_softmax(dim=-1) for student in self.students.values()])
        return answers.logsumexp(dim=0)  # less log N, which softmax does not see


class StudentsAndTeacher(nn.Module):
    """The answer that a teacher of its own weights gives to what the students see."""

    def __init__(self, students: Mapping[str, Student], teacher: Teacher) -> None:
        super().__init__()
        self.students = nn.ModuleDict(students)
        self.teacher = teacher

    def forward(self, images: Tensor) -> Tensor:
        answer = self.teacher.predict({name: student(images) for name, student in self.students.items()})
        assert answer is not None, "only teachers that answer are exported"
        return answer


class Deployed(nn.Module):
    """Pixels in [0, 1], (B, 3, H, W) -> logits: normalisation is part of the network, so nobody gets it wrong."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std)


def network_of(cohort: Cohort, name: str, method: str) -> nn.Module:
    """A student's, the ensemble's or the teacher's network, in evaluation mode. A student's own name comes first."""
    students: dict[str, Student] = dict(cohort.students.items())  # type: ignore[arg-type]
    if name in students:
        network: nn.Module = OneStudent(students[name])
    elif name == ENSEMBLE and len(students) > 1:
        network = Ensemble(students)
    else:
        network = StudentsAndTeacher(students, _answering_teacher(cohort, name, method))
    return network.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _answering_teacher(cohort: Cohort, name: str, method: str) -> Teacher:
    answering = cohort.answering_teachers
    if name in answering or (name == TEACHER and answering):
        return cohort.teachers[answering[0] if name == TEACHER else name]  # type: ignore[return-value]
    several = [ENSEMBLE] if len(cohort.students) > 1 else []
    if name in (TEACHER, "cpm") and not answering:
        raise UserError(
            f"Method '{method}' has no teacher with an answer of its own, so there is no '{name}' to export. Choose a "
            f"student ({', '.join(cohort.students)}){f', {BEST} or {ENSEMBLE}' if several else f' or {BEST}'}."
        )
    raise unknown("network", name, [*cohort.students, BEST, *several, *answering])
