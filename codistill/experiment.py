"""One run from a configuration: everything is built and checked first, then trained, evaluated and written down."""

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codistill import __version__, run_files
from codistill.batch import Batch
from codistill.cohort import Cohort
from codistill.config import AugmentConfig, RunConfig, TaskConfig, make_config
from codistill.data import EvaluationLoader, Images, TrainLoader, channel_statistics, open_source, prepare, superclasses
from codistill.engine.evaluate import Accuracy, evaluate
from codistill.engine.fit import fit
from codistill.engine.recorder import Display, Recorder
from codistill.engine.run_folder import RunFolder, load_weights
from codistill.engine.runtime import Runtime, choose_device
from codistill.engine.schedule import learning_rate
from codistill.errors import UserError
from codistill.methods import METHODS
from codistill.models import MODELS
from codistill.objective import Objective
from codistill.student import Student, StudentShape, observe_shapes
from codistill.tasks import TASKS, Task


@dataclass(frozen=True)
class Experiment:
    """Everything that a run needs, built and found to fit together."""

    config: RunConfig  # complete: what depends on the data is filled in
    cohort: Cohort
    objective: Objective
    loader: TrainLoader
    validation: EvaluationLoader | None
    test: EvaluationLoader
    runtime: Runtime
    facts: dict[str, Any]  # class names, image size, mean and std: what a student needs to be used alone
    sizes: dict[str, int]  # images per split
    warnings: list[str]  # what is possible but hardly meant


def build(config: RunConfig) -> Experiment:
    """Read the data and build the cohort. Raises UserError for whatever would only fail later."""
    runtime = Runtime(choose_device(config.device), config.precision, config.compile)
    source = open_source(config.data.name, config.data.label)
    splits = prepare(source, **config.data.model_dump(exclude={"name", "label", "superclass"}))
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
    cohort = runtime.place(cohort)
    objective.table(_loss_names(cohort, size, runtime))
    # Training starts from the same random state whatever was built: a method with more modules changes no dropout.
    torch.manual_seed(config.seed)

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
        device=runtime.device,
    )

    def once(images: Images | None) -> EvaluationLoader | None:
        return EvaluationLoader(images, mean=mean, std=std, device=runtime.device) if images is not None else None

    test = once(splits.test)
    assert test is not None
    facts = {"class_names": splits.train.class_names, "image_size": size, "mean": mean, "std": std}
    sizes = {name: len(part.labels) for name, part in splits._asdict().items() if part is not None}
    return Experiment(
        config, cohort, objective, loader, once(splits.validation), test, runtime, facts, sizes, _warnings(cohort)
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


def train(
    config: RunConfig, run: Path, display: Display, *, overwrite: bool = False, resume: bool = False
) -> dict[str, Any]:
    """Train, test once at the end, and write the run folder. Returns the summary."""
    folder = RunFolder(run)
    state = folder.load_checkpoint() if resume else None
    experiment = build(config)
    config, cohort = experiment.config, experiment.cohort
    optimizer = torch.optim.SGD(
        [{"params": parameters, "name": name} for name, parameters in cohort.parameter_groups().items()],
        lr=config.optimizer.lr,
        momentum=config.optimizer.momentum,
        nesterov=config.optimizer.nesterov,
        weight_decay=config.optimizer.weight_decay,
    )
    steps = len(experiment.loader)
    recorder = Recorder(
        folder,
        cohort,
        optimizer,
        experiment.validation,
        experiment.runtime,
        display,
        epochs=config.epochs,
        steps_per_epoch=steps,
        batch_size=config.batch_size,
        log_every=config.log_every,
        config_yaml=config.to_yaml(),
    )
    schedule = learning_rate(
        config.optimizer.schedule,
        config.optimizer.lr,
        total=config.epochs * steps,
        warmup=round(config.optimizer.warmup_epochs * steps),
    )
    # Nothing is written before everything is built: a run that cannot start must not replace one that was finished.
    for warning in experiment.warnings:
        display.warn(warning)
    if state is None:
        start_epoch = 0
        folder.start(config.to_yaml(), overwrite)
    else:
        start_epoch = recorder.restore(state)
    fit(
        cohort,
        experiment.objective,
        optimizer,
        schedule,
        experiment.loader,
        config.epochs,
        experiment.runtime,
        recorder,
        clip_norm=config.optimizer.clip_norm,
        start_epoch=start_epoch,
    )
    accuracy = evaluate(cohort, experiment.test, experiment.runtime)  # the one look at the test images
    for name, student in cohort.students.items():
        folder.save_student(name, student.state_dict(), {"model": config.students[name], **experiment.facts})
    summary = _summary(experiment, accuracy, recorder)
    folder.save_summary(summary)
    return summary


def evaluate_run(run: Path, device: str = "auto") -> tuple[Accuracy, dict[str, Any]]:
    """Test accuracy of a finished run, measured again from its saved weights on any device, and its summary."""
    folder = RunFolder(run)
    summary = run_files.read_summary(run)
    experiment = build(read_run_config(run).model_copy(update={"device": device}))
    load_weights(experiment.cohort, folder.load_checkpoint()["cohort"], f"{run}/checkpoint.pt")
    for name, student in experiment.cohort.students.items():
        load_weights(student, folder.load_student(name), f"{run}/students/{name}.safetensors")
    return evaluate(experiment.cohort, experiment.test, experiment.runtime), summary


def read_run_config(run: Path) -> RunConfig:
    """The configuration of a run folder. Raises UserError if it is not complete, as it was written."""
    given = run_files.read_config(run)
    missing = [key for key in RunConfig.model_fields if key not in given]
    if missing:
        raise UserError(f"'{run}/config.yaml' is damaged: it lacks {', '.join(missing)}.")
    try:
        return make_config(given)
    except UserError as error:
        raise UserError(f"'{run}/config.yaml': {error}") from error


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


def _loss_names(cohort: Cohort, size: tuple[int, int], runtime: Runtime) -> list[str]:
    """Every loss that a step will have, from one dry step that leaves no trace."""
    images = torch.zeros(2, 3, *size, device=runtime.device)
    labels = torch.zeros(2, dtype=torch.int64, device=runtime.device)
    cohort.eval()
    with torch.no_grad():
        names = list(cohort(Batch(images, labels, (images,) * (cohort.augmentations - 1), labels)))
    cohort.train()
    return names


def _summary(experiment: Experiment, test: Accuracy, recorder: Recorder) -> dict[str, Any]:
    students, training_only = experiment.cohort.parameter_counts()
    validation = recorder.accuracy
    return {
        "test_accuracy": test._asdict(),
        "validation_accuracy": validation._asdict() if validation else None,
        "parameters": {"students": students, "training_only": training_only},
        "images": experiment.sizes,
        "images_per_second": round(recorder.images_per_second, 1),
        "peak_memory_bytes": experiment.runtime.peak_memory_bytes(),
        "seconds": round(recorder.total_seconds, 1),
        "training_seconds": round(recorder.training_seconds, 1),
        "seed": experiment.config.seed,
        "device": experiment.runtime.describe(),
        "versions": {
            "codistill": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": f"{sys.platform} {platform.machine()}",
        },
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of codistill's own source, with "+" if it was changed; None where it is not a checkout."""
    here = Path(__file__).resolve().parent
    try:
        tracked = subprocess.run(["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True)
        if tracked.returncode:
            return None
        revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain", "."], cwd=here, capture_output=True, text=True)
        return revision.stdout.strip() + ("+" if changed.stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None
