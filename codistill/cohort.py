"""A cohort: students, their tasks and a method as one module. Its forward pass is the training step's losses.

The story of one step: each view that any task names is made once; every student sees all its views in one forward
pass; each student is marked on the upright images and by its tasks; teachers say what they would answer; each learner
is compared with its target. Every loss comes back under its name, none of them weighed.
"""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from codistill.batch import Batch
from codistill.errors import UserError, unknown
from codistill.method import Method
from codistill.student import Student, StudentOutput
from codistill.tasks.task import Task
from codistill.teacher import Target, Teacher
from codistill.views import CLEAN, VIEWS

VIEW_STATISTICS = ("together", "clean_only")


class Cohort(nn.Module):
    """Students that learn together.

    students: by name, two or more. tasks: for each student, its tasks by name. view_statistics: which images count in
    batch normalisation: ``"together"`` normalises all views of a student as one batch, as the papers do;
    ``"clean_only"`` lets only the upright images into the running statistics, each group of views being normalised
    by itself (two forward passes).
    """

    def __init__(
        self,
        students: Mapping[str, Student],
        tasks: Mapping[str, Mapping[str, Task]],
        method: Method,
        view_statistics: str = "together",
    ) -> None:
        super().__init__()
        _check_names(students, tasks, method)
        if view_statistics not in VIEW_STATISTICS:
            raise unknown("view_statistics", view_statistics, VIEW_STATISTICS)
        self.students = nn.ModuleDict(students)
        self.tasks = nn.ModuleDict({name: nn.ModuleDict(tasks.get(name, {})) for name in students})
        self.teachers = nn.ModuleDict({name: lesson.teacher for name, lesson in method.lessons.items()})
        self.lessons = method.lessons
        self.view_statistics = view_statistics
        # Which views each student sees, the clean one first, in a fixed order.
        self.views_of = {
            name: (CLEAN, *_unique(view for task in own.values() for view in task.views))
            for name, own in ((name, tasks.get(name, {})) for name in students)
        }

    @property
    def views(self) -> tuple[str, ...]:
        """Every view that some student sees."""
        return _unique(view for views in self.views_of.values() for view in views)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Every loss by name, as scalars: ``student/ce``, ``student/task``, ``teacher/ce``, ``learner/lesson_loss``."""
        views = {view: VIEWS[view](batch) for view in self.views}
        seen = {name: self._look(name, views) for name in self.students}
        outputs = {name: looks[CLEAN] for name, looks in seen.items()}

        losses = {f"{name}/ce": F.cross_entropy(output.logits, batch.labels) for name, output in outputs.items()}
        for name, tasks in self.tasks.items():
            for task_name, task in cast(nn.ModuleDict, tasks).items():
                losses[f"{name}/{task_name}"] = task(seen[name], batch)

        for lesson_name, lesson in self.lessons.items():
            taught = lesson.teacher(outputs, batch)
            for loss_name, loss in taught.losses.items():
                losses[f"{lesson_name}/{loss_name}"] = loss
            for learner, target in taught.targets.items():
                if not lesson.through_target:  # the one place where targets are detached
                    target = Target(target.logits.detach(), target.weights.detach())
                for loss_name, distill in lesson.losses.items():
                    losses[f"{learner}/{lesson_name}_{loss_name}"] = distill(outputs[learner], target)
            if taught.output is not None:
                outputs[lesson_name] = taught.output
        return losses

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Logits (B, K) of each student, and of each teacher that has an answer of its own."""
        outputs = {name: student(images) for name, student in self.students.items()}
        logits = {name: output.logits for name, output in outputs.items()}
        for name in self.answering_teachers:
            answer = self._teacher(name).predict(outputs)
            if answer is not None:
                logits[name] = answer
        return logits

    @property
    def answering_teachers(self) -> list[str]:
        """The names of the teachers that are evaluated beside the students."""
        return [name for name in self.teachers if self._teacher(name).answers]

    def after_step(self) -> None:
        """To be called after each optimizer step."""
        for name in self.teachers:
            self._teacher(name).after_step()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each student, of each of its tasks and of each teacher, by name; none twice."""
        modules = [*self.students.items(), *self.teachers.items()]
        for name, tasks in self.tasks.items():
            modules += [(f"{name}/{key}", task) for key, task in cast(nn.ModuleDict, tasks).items()]
        groups: dict[str, list[nn.Parameter]] = {}
        taken: set[nn.Parameter] = set()
        for name, module in modules:
            parameters = [parameter for parameter in module.parameters() if parameter not in taken]
            taken.update(parameters)
            if parameters:
                groups[name] = parameters
        return groups

    def parameter_counts(self) -> tuple[dict[str, int], int]:
        """How many parameters each student has, and how many are there for training only."""
        students = {name: sum(p.numel() for p in student.parameters()) for name, student in self.students.items()}
        return students, sum(p.numel() for p in self.parameters()) - sum(students.values())

    def _look(self, name: str, views: Mapping[str, Tensor]) -> dict[str, StudentOutput]:
        """Everything one student sees, in one forward pass (two where only clean images count as statistics)."""
        student = self.students[name]
        wanted = self.views_of[name]
        if len(wanted) == 1:
            return {CLEAN: student(views[CLEAN])}
        if self.view_statistics == "together":
            return _split(wanted, student(torch.cat([views[view] for view in wanted])))
        # The other views run against copies of the running statistics, which are then forgotten.
        clean = student(views[CLEAN])
        forgotten = {key: buffer.clone() for key, buffer in student.named_buffers()}
        others = functional_call(student, forgotten, (torch.cat([views[view] for view in wanted[1:]]),))
        return {CLEAN: clean, **_split(wanted[1:], others)}

    def _teacher(self, name: str) -> Teacher:
        return cast(Teacher, self.teachers[name])


def _split(views: tuple[str, ...], joined: StudentOutput) -> dict[str, StudentOutput]:
    """One output over V * B images -> V outputs over B."""
    logits, embeddings = joined.logits.chunk(len(views)), joined.embedding.chunk(len(views))
    maps = zip(*(feature_map.chunk(len(views)) for feature_map in joined.feature_maps), strict=True)
    return {
        view: StudentOutput(own_logits, embedding, own_maps)
        for view, own_logits, embedding, own_maps in zip(views, logits, embeddings, maps, strict=True)
    }


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _check_names(students: Mapping[str, Student], tasks: Mapping[str, Mapping[str, Task]], method: Method) -> None:
    if len(students) < 2:
        raise UserError(f"A cohort needs at least two students, got {len(students)}.")
    for name in students:
        if not name or set(name) & set("./*?[]"):
            raise UserError(f"A student's name may not be empty or contain any of . / * ? [ ], got '{name}'.")
    for name in tasks:
        if name not in students:
            raise unknown("student in tasks", name, students)
    for name, lesson in method.lessons.items():
        has_weights = any(True for _ in lesson.teacher.parameters())
        if name in students and (lesson.teacher.answers or has_weights):
            raise UserError(f"The student name '{name}' is taken by a part of this method. Name the student otherwise.")
