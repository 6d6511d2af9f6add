"""From a configuration to everything that a run needs, built and found to fit together before anything is trained."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, count, islice
from statistics import median
from typing import Any

import torch

from codistill.config.faults import wrong_labels
from codistill.config.schema import RunConfig, TaskConfig
from codistill.core.batch import Batch
from codistill.core.cohort import Cohort
from codistill.core.objective import Objective
from codistill.core.student import Statistics, Student
from codistill.data.fingerprint import changed_since, fingerprint, fingerprints, some_names
from codistill.data.images import Images, Splits, channel_statistics
from codistill.data.leakage import repeated_pictures
from codistill.data.loader import EvaluationLoader, TrainLoader, batches_per_epoch
from codistill.data.pixel_store import padded_bytes
from codistill.data.sources.base import Progress, Source
from codistill.data.sources.registry import open_source
from codistill.data.splits import place_of, prepare, superclasses, test_origin
from codistill.data.transforms.augmentation import augmentation
from codistill.errors import UserError
from codistill.errors.printable import printable
from codistill.models import as_it_begins, make_backbone
from codistill.models.checks import warnings_of_models
from codistill.training.auto import ENOUGH_FOR_PEERS, Length, is_open, settle
from codistill.training.build_cohort import build_cohort
from codistill.training.burn_in import check_burn_in
from codistill.training.checks import warnings_of_cohort, warnings_of_data, warnings_of_optimizer
from codistill.training.distributed.process_group import ALONE, Processes
from codistill.training.runtime import Runtime, choose_device
from codistill.training.step import Step

TIMED_STEPS = 4  # tell roughly how many fit into the time there is
SAMPLE = 1000  # validation images that are enough to see whether students collapse


@dataclass(frozen=True)
class Experiment:
    """Everything that a run needs, built and found to fit together."""

    config: RunConfig  # complete: what depends on the data is filled in
    cohort: Cohort
    objective: Objective
    train_images: Images
    fingerprint: str  # of the training images, as runs of earlier versions know it
    fingerprints: dict[str, str]  # of the images of each split
    loader: TrainLoader
    validation: EvaluationLoader | None
    test: EvaluationLoader
    sample: EvaluationLoader | None  # of the validation images, for another look at the students after each epoch
    runtime: Runtime
    facts: dict[str, Any]  # class names, image size, mean and std: what a student needs to be used alone
    sizes: dict[str, int]  # images per split
    data: str  # how many images, and where they come from, in words
    company: str  # the method, and the students with their tasks, in words
    choice: str  # what was settled of what was left to auto, and why; empty if nothing was
    place: Callable[[Images, int], str]  # where an image is, in words by which a user finds it
    find_warnings: Callable[[], list[str]]

    @cached_property
    def warnings(self) -> list[str]:
        """What is possible but hardly meant. Looked for when asked: images are compared with each other for it."""
        return self.find_warnings()


def read_data(
    config: RunConfig, progress: Progress | None = None, checkpoint: Mapping[str, Any] | None = None
) -> tuple[Source, Splits]:
    """The data of a configuration, decoded; ``progress`` is told meanwhile.

    checkpoint: of a run that is taken up again. Where its data are those of earlier runs, so are the classes' names and
    order.
    """
    data = config.data
    source = open_source(data.name, data.label, cache=data.cache, progress=progress, ignore_splits=data.ignore_splits)
    how = data.model_dump(exclude={"name", "label", "superclass", "cache", "ignore_splits"})
    splits = prepare(source, **how)
    if checkpoint is not None and (earlier := source.as_earlier()) is not None:
        then = prepare(earlier, **how)
        if not changed_since(checkpoint, *identity(then)):
            return earlier, then
    return source, splits


def identity(splits: Splits) -> tuple[str, dict[str, str]]:
    """By what images are known again: the fingerprint of those to train on, and that of each split."""
    return fingerprint(splits.train, *channel_statistics(splits.train.pixels)), fingerprints(splits)


def build(
    config: RunConfig,
    progress: Progress | None = None,
    runtime: Runtime | None = None,
    *,
    pretrained: bool = True,
    ends: float | None = None,
    checkpoint: Mapping[str, Any] | None = None,
) -> Experiment:
    """Read the data and build the cohort. Raises UserError for whatever would only fail later.

    progress: told while images are decoded. runtime: in place of the one that the configuration asks for.
    pretrained: read the pretrained weights that students ask for; not if others will be loaded. ends: when training is
    to be over, in seconds as of ``time.time``, in place of the configuration's epochs: what is left to ``auto`` is
    settled by how many steps fit, for which a few are timed. checkpoint: of the run that is taken up again, which knows
    its data; nothing is loaded from it.
    """
    runtime = runtime or choose_runtime(config)
    source, splits = read_data(config, progress, checkpoint)
    size = (splits.train.pixels.shape[1], splits.train.pixels.shape[2])
    config = _fill_in(config, size, source.flip)
    if (column := config.data.superclass) is not None:
        kept = superclasses(source, column, classes=config.data.classes, seed=config.data.seed)
        config = _fill_in_superclasses(config, kept)
    mean, std = channel_statistics(splits.train.pixels)
    if min(std) == 0:
        raise UserError(f"Data '{config.data.name}': all training pixels of a channel are equal.")
    config, choice = _settled(config, splits.train, (mean, std), runtime, ends)
    has_own_setting = "own_augmentations" in config.method.settings
    if config.burn_in and config.augment.per_student is None and not has_own_setting:  # sets equal students apart
        config = config.model_copy(update={"augment": config.augment.model_copy(update={"per_student": True})})

    if pretrained:
        students = {name: as_it_begins(model) for name, model in config.students.items()}
        config = config.model_copy(update={"students": students})
    torch.manual_seed(config.seed)
    cohort, objective = build_cohort(config, (3, *size), len(splits.train.class_names), (mean, std), pretrained)
    _check_labels_can_be_mixed(config, cohort)
    _check_students_are_apart(config, cohort)
    if config.burn_in:
        check_burn_in(cohort, runtime)
    cohort = runtime.place(cohort, (3, *size))
    losses = list(objective.table(loss_names(cohort, size, runtime)))
    objective.check_heard(config.weights, losses)
    # Training starts from the same random state whatever was built: a method with more modules changes no dropout.
    # Each process has one of its own, or all would drop the same units of other images.
    torch.manual_seed((config.seed + 1_000_003 * runtime.processes.rank) % 2**32)

    how: dict[str, Any] = {"mean": mean, "std": std, "device": runtime.device}
    share: dict[str, Any] = {"rank": runtime.processes.rank, "processes": runtime.processes.count}
    loader = _train_loader(splits.train, config, cohort, runtime, **how, **share)
    validation = sample = None
    if splits.validation is not None:
        validation = EvaluationLoader(splits.validation, **how, **share)
        sample = EvaluationLoader(splits.validation.spread(SAMPLE), **how)
    facts = {
        "class_names": splits.train.class_names,
        "image_size": size,
        "resize": "squash" if config.data.image_size is None else config.data.resize,  # images of one size stay whole
        "mean": mean,
        "std": std,
    }
    sizes = {name: len(part.labels) for name, part in splits._asdict().items() if part is not None}
    backbones = {name: student.get_submodule("backbone") for name, student in cohort.students.items()}
    tested_on = test_origin(source, config.data.test, config.data.ignore_splits)
    warnings = [
        *warnings_of_data(splits.train, cohort, config.order),
        *warnings_of_cohort(cohort, runtime),
        *warnings_of_optimizer(config.optimizer),
        *warnings_of_models(config.students, backbones, size),
    ]
    return Experiment(
        config,
        cohort,
        objective,
        splits.train,
        fingerprint(splits.train, mean, std),
        fingerprints(splits),
        loader,
        validation,
        EvaluationLoader(splits.test, **how, **share),
        sample,
        runtime,
        facts,
        sizes,
        _about_data(config, splits.train.class_names, sizes, tested_on),
        _company(config),
        choice,
        lambda images, row: place_of(images, row, source),
        lambda: [*source.warnings, *repeated_pictures(splits, source), *warnings],
    )


def _settled(
    config: RunConfig, images: Images, statistics: Statistics, runtime: Runtime, ends: float | None
) -> tuple[RunConfig, str]:
    """The configuration without ``auto``, and what was chosen, in words."""
    if not is_open(config):
        return config, ""
    steps_per_epoch = batches_per_epoch(images, config.batch_size, config.order, runtime.processes.count)
    epochs: float = config.epochs
    if ends is not None:
        dearest, _ = settle(config, ENOUGH_FOR_PEERS)  # of what is chosen in a training that is not long
        left = runtime.processes.on_main(
            lambda: max(0.0, ends - time.time()) / _seconds_a_step(dearest, images, statistics, runtime)
        )
        epochs = left / steps_per_epoch
    return settle(config, Length(round(epochs * steps_per_epoch), epochs), runtime.processes.count)


def _seconds_a_step(config: RunConfig, images: Images, statistics: Statistics, runtime: Runtime) -> float:
    """Median of a few steps that leave no trace, on images as they are; the first, which may compile, is none."""
    size = (3, *images.pixels.shape[1:3])
    cohort, objective = build_cohort(config, size, len(images.class_names), statistics, pretrained=False)
    alone = replace(runtime, compile=False, processes=ALONE)
    cohort = alone.place(cohort, size).train()
    step = Step(cohort, objective, alone.optimizer(cohort, config.lr_factors, lr=0.0), alone)
    loader = _train_loader(images, config, cohort, alone, mean=statistics[0], std=statistics[1], device=runtime.device)
    seconds = []
    for batch in islice(chain.from_iterable(loader.epoch(number) for number in count()), 1 + TIMED_STEPS):
        began = time.perf_counter()
        _, loss = step.forward(batch, progress=1.0)
        step.backward(loss)
        step.update(0.0)
        runtime.synchronise()
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])


def _train_loader(images: Images, config: RunConfig, cohort: Cohort, runtime: Runtime, **how: Any) -> TrainLoader:
    """Training images as the configuration augments and orders them, with the labels that a poisoned student is told.

    how: normalisation, device, and this process's share.
    """
    size = (images.pixels.shape[1], images.pixels.shape[2])
    poison, told = config.poison, {}
    if poison is not None and poison.random_labels is not None:
        told = {poison.student: wrong_labels(images.labels, len(images.class_names), poison.random_labels, config.seed)}
    return TrainLoader(
        images,
        batch_size=config.batch_size,
        seed=config.seed,
        **augmentation(size, **config.augment.model_dump(exclude={"per_student"}))._asdict(),
        told=told,
        augmentations=cohort.augmentations,
        order=config.order,
        resident=padded_bytes(images.pixels, config.augment.padding or 0) < runtime.free_memory_bytes() // 2,
        **how,
    )


def _about_data(config: RunConfig, class_names: Sequence[str], sizes: Mapping[str, int], test_origin: str) -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
    classes = f"{len(class_names)} classes ({some_names(class_names)})"
    return f"{printable(config.data.name)}: {counts} images of {classes}; test is {test_origin}."


def _company(config: RunConfig) -> str:
    own = config.tasks_of_students.items()
    students = [f"{name} ({', '.join(task.name for task in tasks) or 'no task'})" for name, tasks in own]
    return f"Method {config.method.name}, students {', '.join(students)}."


def choose_runtime(config: RunConfig, processes: Processes = ALONE) -> Runtime:
    """Where and how a configuration wants to run. Raises UserError for what cannot be here."""
    if config.sharding == "parameters" and processes.count == 1:
        raise UserError(
            "sharding=parameters divides them among several processes; there is one. "
            "Start several with torchrun, or set sharding=none."
        )
    if processes.sharded and config.poison and config.poison.reinitialise is not None:
        raise UserError("poison.reinitialise does not go with sharding=parameters. Set sharding=none.")
    device = processes.device or choose_device(config.device)
    return Runtime(
        device, config.precision, config.compile, config.side_by_side, config.sync_batchnorm, processes=processes
    )


def fresh_student(experiment: Experiment, name: str) -> Student:
    """A student with other first weights than the run began with. No other random number changes."""
    config, facts = experiment.config, experiment.facts
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed((config.seed + 2_147_483_647) % 2**32)  # the CPU's; a GPU's goes on
        backbone = make_backbone(config.students[name], facts["image_size"], pretrained=False)
        return Student(backbone, len(facts["class_names"]), (facts["mean"], facts["std"]))


def _fill_in(config: RunConfig, size: tuple[int, int], flip: bool) -> RunConfig:
    augment = config.augment
    padding = augment.padding
    if padding is None:
        padding = min(size) // 8 if augment.crop == "padded" else 0
    filled = {"padding": padding, "flip": flip if augment.flip is None else augment.flip}
    return config.model_copy(update={"augment": augment.model_copy(update=filled)})


def _fill_in_superclasses(config: RunConfig, superclass_of_each: list[int]) -> RunConfig:
    """Give every task ``coarse`` that was told no superclasses those of the data."""

    def filled(task: TaskConfig) -> TaskConfig:
        if task.name != "coarse" or task.settings["superclasses"] is not None:
            return task
        return task.model_copy(update={"settings": {**task.settings, "superclasses": superclass_of_each}})

    if isinstance(config.tasks, str):  # auto never chooses it
        return config
    return config.model_copy(update={"tasks": [[filled(task) for task in own] for own in config.tasks]})


def _check_labels_can_be_mixed(config: RunConfig, cohort: Cohort) -> None:
    mixing = " and ".join(f"augment.{key}" for key in ("mixup", "cutmix") if getattr(config.augment, key))
    needy = cohort.in_need_of_one_label() + (["order=class_pairs"] if config.order == "class_pairs" else [])
    if mixing and needy:
        raise UserError(
            f"{mixing} gives images two labels each, but {needy[0]} needs images of one. Set {mixing} to 0, or leave "
            f"{needy[0]} out."
        )


def _check_students_are_apart(config: RunConfig, cohort: Cohort) -> None:
    if config.burn_in and config.poison is not None:
        raise UserError("burn_in trains one network for all students, of which poison harms one: set burn_in=0.")
    given = {"poison": config.poison is not None, "optimizer.lr_factors": bool(config.optimizer.lr_factors)}
    for key, is_given in given.items():
        if is_given and cohort.method.shared_trunk:
            raise UserError(f"{key} is for students of their own, but method '{config.method.name}' shares a trunk.")


def loss_names(cohort: Cohort, size: tuple[int, int], runtime: Runtime) -> list[str]:
    """The name of every loss that a step will have, from a forward pass that leaves no trace.

    Raises UserError for a loss that is not a single number.
    """
    images = torch.zeros(2, 3, *size, device=runtime.device)
    labels = torch.zeros(2, dtype=torch.int64, device=runtime.device)
    cohort.eval()
    with torch.no_grad():
        losses = cohort(Batch(images, labels, (images,) * (cohort.augmentations - 1), labels))
    cohort.train()
    for name, loss in losses.items():
        if not isinstance(loss, torch.Tensor) or loss.shape != ():
            found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else repr(loss)
            raise UserError(f"Loss '{name}' should be a tensor that holds one number, is {found}.")
    return list(losses)
