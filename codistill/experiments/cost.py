"""What training would cost, before it starts: sizes, passes, FLOPs, steps and memory, as plain data."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from codistill.config.schema import RunConfig
from codistill.core.student import Student, StudentShape, observe_shapes
from codistill.data.pixel_store import padded_bytes
from codistill.data.sources.base import Progress
from codistill.experiments.flops import Counts, dry_step, flops_of_pass
from codistill.models import Model
from codistill.tasks import Task
from codistill.training.auto import burn_in_of
from codistill.training.build import Experiment, build, choose_runtime
from codistill.training.runtime import Runtime


@dataclass(frozen=True)
class TaskPlan:
    """One task of one student."""

    views: tuple[str, ...]  # besides the upright images, which every student sees anyway
    fraction: float  # of the batch
    passes: float  # of the student over the batch, for these views; another task may ask for the same ones
    heads: dict[str, int]  # parameters of each part
    parameters: int
    flops: int  # of the heads, for one image of the batch under all its views


@dataclass(frozen=True)
class StudentPlan:
    """One student with its tasks."""

    model: Model
    parameters: int
    flops: int  # of one pass over one image
    shape: StudentShape
    views: dict[str, float]  # view -> fraction of the batch
    passes: float  # over the batch in a step; plain training has 1
    tasks: dict[str, TaskPlan]


@dataclass(frozen=True)
class TeacherPlan:
    """The teacher of one lesson."""

    kind: str
    views: tuple[str, ...]  # on which the lesson is held
    answers: bool  # whether it has an answer of its own, which is evaluated
    parameters: int
    flops: int  # for one image of the batch under all views


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a step of one process cannot do without. The program itself and working space come on top."""

    weights: int  # and buffers
    gradients: int
    momentum: int
    kept: int  # by autograd for the backward pass, counted in the dry step and scaled to the batch
    images: int  # all for training; they stay on a GPU's host where they would take half of what it has free
    total: int


@dataclass(frozen=True)
class Plan:
    """A training run in numbers."""

    data: str
    choice: str  # what was settled of what is left to auto, in words
    burn_in: float  # share of the epochs in which one network is trained for all students
    students: dict[str, StudentPlan]
    teachers: dict[str, TeacherPlan]
    training_only_parameters: int
    training_only_share: float  # of the students' parameters
    flops: int  # of a whole step's forward pass, for one image of the batch
    batch_size: int
    steps_per_epoch: int
    epochs: int
    memory: MemoryPlan
    warnings: list[str]


def build_to_plan(config: RunConfig, progress: Progress | None = None) -> Experiment:
    """The experiment on the CPU, whatever will train it. Raises UserError for what training would refuse."""
    wanted = choose_runtime(config)  # a device that is not there is an error here too
    return build(config, progress, Runtime(torch.device("cpu"), wanted.precision, side_by_side=False))


def describe(experiment: Experiment) -> Plan:
    """The plan of an experiment that lies on the CPU. It is left as it was."""
    config, cohort = experiment.config, experiment.cohort
    size = (3, *experiment.facts["image_size"])
    counts = dry_step(cohort, size, len(experiment.facts["class_names"]), experiment.runtime)
    parameters, training_only = cohort.parameter_counts()
    students = {}
    for name, module in cohort.students.items():
        student, tasks, views = cast(Student, module), cast(nn.ModuleDict, cohort.tasks[name]), cohort.views_of[name]
        students[name] = StudentPlan(
            config.students[name],
            parameters[name],
            flops_of_pass(student, size),
            observe_shapes(student, size),
            views,
            sum(views.values()),
            {
                key: _task(cast(Task, task), counts.flops_of.get(f"tasks.{name}.{key}", 0))
                for key, task in tasks.items()
            },
        )
    teachers = {
        name: TeacherPlan(
            type(lesson.teacher).__name__,
            lesson.views,
            lesson.teacher.answers,
            _size(lesson.teacher),
            counts.flops_of.get(f"teachers.{name}", 0),
        )
        for name, lesson in cohort.method.lessons.items()
    }
    return Plan(
        experiment.data,
        experiment.choice,
        burn_in_of(config),
        students,
        teachers,
        training_only,
        training_only / sum(parameters.values()),
        counts.flops,
        config.batch_size,
        len(experiment.loader),
        config.epochs,
        _memory(experiment, counts),
        experiment.warnings,
    )


def _task(task: Task, flops: int) -> TaskPlan:
    heads = {name: _size(module) for name, module in task.named_children()}
    return TaskPlan(tuple(task.views), task.fraction, len(task.views) * task.fraction, heads, _size(task), flops)


def _memory(experiment: Experiment, counts: Counts) -> MemoryPlan:
    config, cohort = experiment.config, experiment.cohort
    weights = sum(tensor.nbytes for tensor in {*cohort.parameters(), *cohort.buffers()})
    gradients = sum(parameter.nbytes for parameter in cohort.parameters() if parameter.requires_grad)
    adamw = config.optimizer.name == "adamw"  # which remembers squares too
    momentum = gradients * (2 if adamw else bool(config.optimizer.momentum))
    kept = counts.kept_bytes * config.batch_size
    images = padded_bytes(experiment.train_images.pixels, config.augment.padding or 0)
    return MemoryPlan(weights, gradients, momentum, kept, images, total=weights + gradients + momentum + kept + images)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
