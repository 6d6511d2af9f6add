"""From a configuration to everything that a run needs, built and found to fit together before anything is trained."""

from dataclasses import dataclass
from typing import Any

import torch

from codistill.batch import Batch
from codistill.cohort import Cohort
from codistill.config import AugmentConfig, RunConfig, TaskConfig
from codistill.data import (
    EvaluationLoader,
    Images,
    Progress,
    TrainLoader,
    channel_statistics,
    open_source,
    padded_bytes,
    prepare,
    superclasses,
    test_origin,
)
from codistill.engine.processes import ALONE, Processes
from codistill.engine.runtime import Runtime, choose_device
from codistill.errors import UserError
from codistill.methods import METHODS
from codistill.models import MODELS
from codistill.objective import Objective
from codistill.student import Student, StudentShape, observe_shapes
from codistill.tasks import TASKS, Task

SAMPLE = 1000  # validation images that are enough to see whether students collapse


@dataclass(frozen=True)
class Experiment:
    """Everything that a run needs, built and found to fit together."""

    config: RunConfig  # complete: what depends on the data is filled in
    cohort: Cohort
    objective: Objective
    train_images: Images
    loader: TrainLoader
    validation: EvaluationLoader | None
    test: EvaluationLoader
    sample: EvaluationLoader | None  # of the validation images, for another look at the students after each epoch
    runtime: Runtime
    facts: dict[str, Any]  # class names, image size, mean and std: what a student needs to be used alone
    sizes: dict[str, int]  # images per split
    data: str  # how many images, and where they come from, in words
    warnings: list[str]  # what is possible but hardly meant


def build(config: RunConfig, progress: Progress | None = None, runtime: Runtime | None = None) -> Experiment:
    """Read the data and build the cohort. Raises UserError for whatever would only fail later.

    progress: told while images are decoded. runtime: in place of the one that the configuration asks for.
    """
    runtime = runtime or choose_runtime(config)
    share = {"rank": runtime.processes.rank, "processes": runtime.processes.count}
    source = open_source(config.data.name, config.data.label, cache=config.data.cache, progress=progress)
    splits = prepare(source, **config.data.model_dump(exclude={"name", "label", "superclass", "cache"}))
    size = (splits.train.pixels.shape[1], splits.train.pixels.shape[2])
    config = _fill_in(config, size, source.flip)
    if (column := config.data.superclass) is not None:
        kept = superclasses(source, column, classes=config.data.classes, seed=config.data.seed)
        config = _fill_in_superclasses(config, kept)
    mean, std = channel_statistics(splits.train.pixels)
    if min(std) == 0:
        raise UserError(f"Data '{config.data.name}': all training pixels of a channel are equal.")

    torch.manual_seed(config.seed)
    cohort, objective = build_cohort(config, (3, *size), len(splits.train.class_names))
    cohort = runtime.place(cohort, (3, *size))
    objective.table(dry_step(cohort, size, runtime))
    # Training starts from the same random state whatever was built: a method with more modules changes no dropout.
    # Each process has one of its own, or all would drop the same units of other images.
    torch.manual_seed((config.seed + 1_000_003 * runtime.processes.rank) % 2**32)

    loader = TrainLoader(
        splits.train,
        batch_size=config.batch_size,
        mean=mean,
        std=std,
        padding=config.augment.padding or 0,
        flip=bool(config.augment.flip),
        seed=config.seed,
        augmentations=cohort.augmentations,
        order=config.order,
        resident=padded_bytes(splits.train.pixels, config.augment.padding or 0) < runtime.free_memory_bytes() // 2,
        device=runtime.device,
        **share,
    )

    def once(images: Images | None) -> EvaluationLoader | None:
        if images is None:
            return None
        return EvaluationLoader(images, mean=mean, std=std, device=runtime.device, **share)

    test = once(splits.test)
    assert test is not None
    facts = {"class_names": splits.train.class_names, "image_size": size, "mean": mean, "std": std}
    sizes = {name: len(part.labels) for name, part in splits._asdict().items() if part is not None}
    counts = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
    classes = len(splits.train.class_names)
    data = f"{config.data.name}: {counts} images of {classes} classes; test is {test_origin(source)}."
    validation = once(splits.validation)
    sample = None
    if splits.validation is not None:
        sample = EvaluationLoader(splits.validation.spread(SAMPLE), mean=mean, std=std, device=runtime.device)
    train, warnings = splits.train, [*source.warnings, *_warnings(cohort)]
    return Experiment(
        config, cohort, objective, train, loader, validation, test, sample, runtime, facts, sizes, data, warnings
    )


def choose_runtime(config: RunConfig, processes: Processes = ALONE) -> Runtime:
    """Where and how a configuration wants to run. Raises UserError for what cannot be here."""
    if config.sharding == "parameters" and processes.count == 1:
        raise UserError(
            "sharding=parameters divides them among several processes; there is one. "
            "Start several with torchrun, or set sharding=none."
        )
    device = processes.device or choose_device(config.device)
    return Runtime(
        device, config.precision, config.compile, config.side_by_side, config.sync_batchnorm, processes=processes
    )


def build_cohort(config: RunConfig, image_shape: tuple[int, int, int], num_classes: int) -> tuple[Cohort, Objective]:
    """The cohort of a configuration and its objective. Students come first: their weights depend on the seed alone."""
    students = {name: Student(MODELS[model](), num_classes) for name, model in config.students.items()}
    shapes = {name: observe_shapes(student, image_shape) for name, student in students.items()}
    tasks = {
        name: {task.name: _build_task(task, shapes[name]) for task in own}
        for name, own in zip(students, config.tasks, strict=True)
    }
    method = METHODS[config.method.name](shapes, **config.method.settings)
    cohort = Cohort(students, tasks, method, config.view_statistics)
    return cohort, Objective(config.objective_weights(method.weights))


def _build_task(config: TaskConfig, shape: StudentShape) -> Task:
    task = TASKS[config.name](shape, **config.settings)
    task.fraction = config.fraction
    return task


def _fill_in(config: RunConfig, size: tuple[int, int], flip: bool) -> RunConfig:
    augment = config.augment
    filled = AugmentConfig(
        padding=min(size) // 8 if augment.padding is None else augment.padding,
        flip=flip if augment.flip is None else augment.flip,
    )
    return config.model_copy(update={"augment": filled})


def _fill_in_superclasses(config: RunConfig, superclass_of_each: list[int]) -> RunConfig:
    """Give every task ``coarse`` that was told no superclasses those of the data."""

    def filled(task: TaskConfig) -> TaskConfig:
        if task.name != "coarse" or task.settings["superclasses"] is not None:
            return task
        return task.model_copy(update={"settings": {**task.settings, "superclasses": superclass_of_each}})

    return config.model_copy(update={"tasks": [[filled(task) for task in own] for own in config.tasks]})


def _warnings(cohort: Cohort) -> list[str]:
    warnings = []
    for one, other in cohort.identical_peers():
        warnings.append(f"Peers are identical: students '{one}' and '{other}' start from the same weights.")
    students, training_only = cohort.parameter_counts()
    if training_only > sum(students.values()):
        warnings.append(
            f"The parts for training only have {training_only:,} parameters, more than the students together "
            f"({sum(students.values()):,}). They leave after training, but they cost memory and time until then."
        )
    return warnings


def dry_step(cohort: Cohort, size: tuple[int, int], runtime: Runtime) -> list[str]:
    """Every loss that a step will have, from a forward pass that leaves no trace."""
    images = torch.zeros(2, 3, *size, device=runtime.device)
    labels = torch.zeros(2, dtype=torch.int64, device=runtime.device)
    cohort.eval()
    with torch.no_grad():
        names = list(cohort(Batch(images, labels, (images,) * (cohort.augmentations - 1), labels)))
    cohort.train()
    return names
