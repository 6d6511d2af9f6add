"""A cohort: students, their tasks and a method as one module. Its forward pass is the training step's losses.

The story of one step: each view that any task names is made once; every student sees all its views in one forward
pass; each student is marked on the upright images and by its tasks; teachers say what they would answer; each learner
is compared with its target. Every loss comes back under its name, none of them weighed.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from codistill.core.batch import Batch, cross_entropy
from codistill.core.forward import Look, Seen, first_rows, join_views, look_through_trunk, one_by_one, scale_gradient
from codistill.core.method import Lesson, Method
from codistill.core.student import Student, StudentOutput, check_student_names, share_trunk
from codistill.core.task import Task
from codistill.core.teacher import Target, Teacher
from codistill.core.views import CLEAN, SECOND, VIEWS
from codistill.errors import UserError, unknown

VIEW_STATISTICS = ("together", "clean_only")


class Cohort(nn.Module):
    """Students that learn together.

    students: by name; one alone is for methods without lessons. tasks: for each student, its tasks by name.
    view_statistics: which images count in batch normalisation: ``"together"`` normalises all views of a student as one
    batch, as the papers do; ``"clean_only"`` lets only the upright images into the running statistics, each group of
    views being normalised by itself (two forward passes). ``look`` may be set to another way to run students that
    share nothing.

    >>> from codistill import Student, observe_shapes
    >>> from codistill.methods import dml
    >>> from codistill.models import CifarResNet
    >>> students = {name: Student(CifarResNet(8), num_classes=10) for name in "ab"}
    >>> shapes = {name: observe_shapes(student, (3, 32, 32)) for name, student in students.items()}
    >>> cohort = Cohort(students, tasks={}, method=dml(shapes))
    >>> losses = cohort(Batch(torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])))
    >>> list(losses)
    ['a/ce', 'b/ce', 'a/peers_kl', 'b/peers_kl']
    """

    look: Look

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
        if method.shared_trunk:
            if view_statistics != "together":
                raise UserError("view_statistics=clean_only is not possible for methods that share a trunk.")
            share_trunk(students)
        self.students = nn.ModuleDict(students)
        self.tasks = nn.ModuleDict({name: nn.ModuleDict(tasks.get(name, {})) for name in students})
        self.teachers = nn.ModuleDict({name: lesson.teacher for name, lesson in method.lessons.items()})
        self.method = method
        self.view_statistics = view_statistics
        self.look = one_by_one
        for view in {view for views in self.views_of.values() for view in views}:
            if view not in VIEWS:
                raise unknown("view", view, VIEWS)
        for lesson in method.lessons.values():
            lesson.teacher.enrol(students)

    @property
    def views_of(self) -> dict[str, dict[str, float]]:
        """Student -> each view that it sees, the clean one first -> the share of the batch that it sees of it.

        Read off the tasks in each step, so ``task.fraction`` may change during training.
        """
        return {name: _wanted_views(cast(Mapping[str, Task], self.tasks[name]), self.method) for name in self.students}

    @property
    def augmentations(self) -> int:
        """How many independent augmentations of the images a batch must hold."""
        second = any(SECOND in views for views in self.views_of.values())
        return self._second + int(second)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Every loss by name, as scalars: ``student/ce``, ``student/task``, ``teacher/ce``, ``learner/lesson_loss``.

        Where a teacher scales a student's losses (``Taught.loss_scale``), their gradients are scaled, not their values.
        Raises UserError where two losses have one name, and ValueError for images without a label each.
        """
        if len(batch.images) != len(batch.labels):
            raise ValueError(f"A batch needs a label for each image, got {len(batch.labels)} for {len(batch.images)}.")
        seen = self._look(batch)
        outputs = {name: looks[CLEAN] for name, looks in seen.items()}
        own = {name: batch.for_student(name, self._augmentation_of(name)) for name in self.students}
        losses = {f"{name}/ce": cross_entropy(output.logits, own[name]) for name, output in outputs.items()}
        for name, tasks in self.tasks.items():
            for task_name, task in cast(nn.ModuleDict, tasks).items():
                _add(losses, {f"{name}/{task_name}": _hold_task(cast(Task, task), seen[name], own[name])})

        # What was said about which views: lessons on the same views hear the teachers that answered before them.
        heard: dict[tuple[str, ...], dict[str, StudentOutput]] = {(CLEAN,): outputs}
        loss_scale: dict[str, Tensor] = {}
        for lesson_name, lesson in self.method.lessons.items():
            if lesson.views not in heard:
                heard[lesson.views] = {n: join_views([looks[v] for v in lesson.views]) for n, looks in seen.items()}
            outputs = heard[lesson.views]
            taught = lesson.teacher(outputs, batch.seen_in(len(lesson.views)))
            _add(losses, {f"{lesson_name}/{loss_name}": loss for loss_name, loss in taught.losses.items()})
            _add(losses, _distill(lesson_name, lesson, outputs, taught.targets))
            if taught.output is not None:
                outputs[lesson_name] = taught.output
            loss_scale |= taught.loss_scale
        for name, loss in losses.items():
            if (scale := loss_scale.get(name.split("/")[0])) is not None:
                losses[name] = scale_gradient(loss, scale.detach())
        return losses

    def see(self, images: Tensor) -> dict[str, StudentOutput]:
        """What each student says about upright images (B, C, H, W)."""
        looks = self.look(self._students, {name: {CLEAN: images} for name in self.students}, self.view_statistics)
        return {name: views[CLEAN] for name, views in looks.items()}

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Logits (B, K) of each student, and of each teacher that has an answer of its own."""
        return self.logits(self.see(images))

    def logits(self, outputs: Mapping[str, StudentOutput]) -> dict[str, Tensor]:
        """``predict`` for images that the students have seen."""
        students = {name: output.logits for name, output in outputs.items()}
        return students | {name: self._teacher(name).predict(outputs) for name in self.answering_teachers}

    @property
    def answering_teachers(self) -> list[str]:
        """The names of the teachers that are evaluated beside the students."""
        return [name for name in self.teachers if self._teacher(name).answers]

    @property
    def speakers(self) -> list[str]:
        """The students, and the first teacher that answers: whose accuracy is measured."""
        return [*self.students, *self.answering_teachers[:1]]

    def after_step(self, taken: Tensor | float = 1.0) -> None:
        """To be called after each optimizer step; ``taken`` is 0 if it was skipped."""
        for name in self.teachers:
            self._teacher(name).after_step(self._students, taken)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained of each student, of each of its tasks and of each teacher, by name; nothing twice.

        A shared trunk belongs to the first student.
        """
        modules = [*self.students.items(), *self.teachers.items()]
        for name, tasks in self.tasks.items():
            modules += [(f"{name}/{key}", task) for key, task in cast(nn.ModuleDict, tasks).items()]
        groups: dict[str, list[nn.Parameter]] = {}
        taken: set[nn.Parameter] = set()
        for name, module in modules:
            parameters = [p for p in module.parameters() if p.requires_grad and p not in taken]
            taken.update(parameters)
            if parameters:
                groups[name] = parameters
        return groups

    def parameter_counts(self) -> tuple[dict[str, int], int]:
        """How many parameters each student has, and how many are there for training only."""
        students = {name: sum(p.numel() for p in student.parameters()) for name, student in self.students.items()}
        deployed = {parameter for student in self.students.values() for parameter in student.parameters()}
        return students, sum(p.numel() for p in self.parameters() if p not in deployed)

    def identical_peers(self) -> list[tuple[str, str]]:
        """Pairs of students of equal weights: they say the same, so there is nothing to learn from each other."""
        return [
            (one, other)
            for one, other in combinations(self.students, 2)
            if _equal(self.students[one].state_dict(), self.students[other].state_dict())
        ]

    def in_need_of_one_label(self) -> list[str]:
        """Tasks and lessons, in words, to which images of two labels (``Batch.mixed``) would be nonsense."""
        tasks = [
            f"task '{task_name}' of student '{name}'"
            for name, own in self.tasks.items()
            for task_name, task in cast(nn.ModuleDict, own).items()
            if cast(Task, task).one_label
        ]
        return tasks + [f"the method's lesson '{name}'" for name in self.teachers if self._teacher(name).one_label]

    @property
    def fractions(self) -> list[float]:
        """Of the batch that each task runs on."""
        return [cast(Task, task).fraction for own in self.tasks.values() for task in cast(nn.ModuleDict, own).values()]

    @property
    def _second(self) -> int:
        """The number of the augmentation that the view "second" shows: the one after the students' own."""
        return len(self.students) if self.method.own_augmentations else 1

    def _augmentation_of(self, student: str) -> int:
        """The number of the augmentation that a student sees."""
        return list(self.students).index(student) if self.method.own_augmentations else 0

    def _look(self, batch: Batch) -> Seen:
        """What each student says about each of its views. Each distinct view is made once."""
        made: dict[tuple[int, str], Tensor] = {}
        pieces: dict[str, dict[str, Tensor]] = {}
        for name, views in self.views_of.items():
            pieces[name] = {}
            for view, fraction in views.items():
                augmentation = self._second if view == SECOND else self._augmentation_of(name)
                if (augmentation, view) not in made:
                    images = VIEWS[view](batch.augmentation(augmentation), batch.draws)
                    if len(images) != len(batch.labels):
                        raise ValueError(f"View '{view}' made {len(images)} images of {len(batch.labels)}.")
                    made[augmentation, view] = images
                pieces[name][view] = made[augmentation, view][: _rows(fraction, batch)]
        if self.method.shared_trunk:
            return look_through_trunk(self._students, pieces, self.method.trunk_gradient, self.method.own_augmentations)
        return self.look(self._students, pieces, self.view_statistics)

    @property
    def _students(self) -> dict[str, Student]:
        return {name: cast(Student, student) for name, student in self.students.items()}

    def _teacher(self, name: str) -> Teacher:
        return cast(Teacher, self.teachers[name])


def _wanted_views(tasks: Mapping[str, Task], method: Method) -> dict[str, float]:
    """Each view that one student sees, the clean one first, and the largest fraction of the batch anybody needs."""
    wanted = {CLEAN: 1.0}
    for task in tasks.values():
        for view in task.views:
            wanted[view] = max(wanted.get(view, 0.0), task.fraction)
    for lesson in method.lessons.values():
        wanted |= dict.fromkeys(lesson.views, 1.0)
    return wanted


def _hold_task(task: Task, seen: Mapping[str, StudentOutput], batch: Batch) -> Tensor:
    """The task's loss on its fraction of the batch."""
    rows = _rows(task.fraction, batch)
    if rows == len(batch.labels):
        return task(seen, batch)
    return task({view: first_rows(output, rows) for view, output in seen.items()}, batch.first_rows(rows))


def _rows(fraction: float, batch: Batch) -> int:
    """Two at least: of one alone, batch normalisation of small maps and losses that compare images can say nothing."""
    return min(len(batch.labels), max(2, round(fraction * len(batch.labels))))


def _add(losses: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    """In place. One of two losses of the same name would not be trained."""
    for name, loss in more.items():
        if name in losses:
            raise UserError(f"Two losses are called '{name}'. Name the task, or the lesson, otherwise.")
        losses[name] = loss


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _distill(
    lesson_name: str, lesson: Lesson, outputs: Mapping[str, StudentOutput], targets: Mapping[str, Target]
) -> dict[str, Tensor]:
    """How far each learner is from its target, by each of the lesson's losses."""
    losses = {}
    for learner, target in targets.items():
        if not lesson.through_target:  # the one place where targets are detached
            target = Target(target.logits.detach(), target.weights.detach())
        for loss_name, distill in lesson.losses.items():
            losses[f"{learner}/{lesson_name}_{loss_name}"] = distill(outputs[learner], target)
    return losses


def _check_names(students: Mapping[str, Student], tasks: Mapping[str, Mapping[str, Task]], method: Method) -> None:
    check_student_names(students)
    for name in tasks:
        if name not in students:
            raise unknown("student in tasks", name, students)
    if len(students) == 1 and method.lessons:
        (lone,), lessons = students, ", ".join(method.lessons)
        raise UserError(f"Student '{lone}' is alone: it has no peer for what the method teaches ({lessons}). Add one.")
    for name, lesson in method.lessons.items():
        has_weights = any(True for _ in lesson.teacher.parameters())
        if name in students and (lesson.teacher.answers or has_weights):
            raise UserError(f"The student name '{name}' is taken by a part of this method. Name the student otherwise.")
