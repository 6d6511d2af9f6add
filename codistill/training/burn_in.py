"""Burn-in: first one network is trained for all students, then each student goes on from its weights.

    steps before  b    L = CE(z_1, y)                       the first student alone, without tasks or teachers
    at step       b    theta_i <- theta_1 for all i         weights, running statistics and what the optimizer remembers
    steps from    b on the method's objective, with ramps that begin at b

Peers pay late, and two networks cost twice the time of one: until then, one is trained at half of the cost. Students
that begin alike come apart because each sees an augmentation of its own.

Source: Anil et al., "Large scale distributed neural network training through online distillation", ICLR 2018,
arXiv:1804.03235, let each network burn in by itself before peers teach it. Deviation: here one burns in for all.
"""

from typing import cast

import torch
from torch import Tensor, nn

from codistill.core.batch import Batch, cross_entropy
from codistill.core.cohort import Cohort
from codistill.core.objective import Objective
from codistill.core.student import Student
from codistill.core.teacher import Teacher
from codistill.errors import UserError
from codistill.training.runtime import Runtime


class BurnIn:
    """The steps before students part. ``optimizer`` has the parameters of the whole cohort."""

    def __init__(
        self, cohort: Cohort, objective: Objective, optimizer: torch.optim.Optimizer, runtime: Runtime
    ) -> None:
        self._names = list(cohort.students)
        self._students = [cast(Student, student) for student in cohort.students.values()]
        self._first: nn.Module = runtime.compiled_student(self._students[0])
        self._weight = objective.at([f"{self._names[0]}/ce"], 0.0)[f"{self._names[0]}/ce"]
        self._optimizer = optimizer

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Each student's cross-entropy by name, which is the first one's for all, and the objective."""
        own = batch.for_student(self._names[0], 0)
        loss = cross_entropy(self._first(own.images).logits, own)
        return {f"{name}/ce": loss for name in self._names}, self._weight * loss

    def compile_no_more(self) -> None:
        """Go on with the student as it is."""
        self._first = self._students[0]

    @torch.no_grad()
    def share(self) -> None:
        """Give every student the first one's weights and buffers, and what the optimizer remembers of them."""
        first, *others = self._students
        for other in others:
            for own, buffer in zip(other.buffers(), first.buffers(), strict=True):
                own.copy_(buffer)
            for own, parameter in zip(other.parameters(), first.parameters(), strict=True):
                own.copy_(parameter)
                if parameter in self._optimizer.state:
                    self._optimizer.state[own] = {
                        key: value.clone() if isinstance(value, Tensor) else value
                        for key, value in self._optimizer.state[parameter].items()
                    }


def check_burn_in(cohort: Cohort, runtime: Runtime) -> None:
    """Raises UserError for a cohort whose students cannot begin as one network, and several processes."""
    shapes = [
        {name: tensor.shape for name, tensor in student.state_dict().items()} for student in cohort.students.values()
    ]
    reason = ""
    if any(own != shapes[0] for own in shapes):
        reason = "students of one model, which can have the same weights; theirs differ"
    elif cohort.method.shared_trunk:
        reason = "students of their own; this method has them share a trunk"
    elif len(shapes) == 1:
        reason = "two students or more; there is one"
    elif any(cast(type[Teacher], type(t)).after_step is not Teacher.after_step for t in cohort.teachers.values()):
        reason = "a method whose teachers keep no averages over steps, as this one's do"
    elif runtime.processes.count > 1:
        reason = "one process; there are several"
    if reason:
        raise UserError(f"burn_in needs {reason}. Set burn_in=0.")
