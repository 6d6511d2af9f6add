"""A finished run, taken up again: its configuration, its cohort as it was in the end, what that says of every image."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codistill.config.schema import IF_SET, RunConfig, make_config
from codistill.data.fingerprint import changed_since
from codistill.data.sources.folder import NoSuchData
from codistill.errors import UserError
from codistill.errors.printable import printable_list
from codistill.storage import run_files
from codistill.storage.run_dir import RunFolder
from codistill.storage.weights import load_weights
from codistill.training import predictions
from codistill.training.build import Experiment, build
from codistill.training.evaluate import Accuracy, evaluate


def evaluate_run(run: str | Path, device: str = "auto") -> tuple[Accuracy, dict[str, Any]]:
    """Test accuracy of a finished run, measured again from its saved weights on any device, and its summary."""
    experiment, summary = rebuild(Path(run), device)
    return evaluate(experiment.cohort, experiment.test, experiment.runtime), summary


def rebuild(run: Path, device: str = "auto") -> tuple[Experiment, dict[str, Any]]:
    """A finished run as it was when training ended, on any device, and its summary.

    Raises UserError if it is damaged, or if its data are no longer those that it was trained on: what is measured on
    others would not be its accuracy, and images that were trained on might be among those of its test.
    """
    folder = RunFolder(run)
    summary = run_files.read_summary(run)
    # How it was sped up belongs to the device that trained.
    any_device = {"compile": False, "side_by_side": "auto", "sync_batchnorm": False, "sharding": "none"}
    config = make_config({**read_run_config(run).model_dump(mode="json"), "device": device, **any_device})
    checkpoint = folder.load_checkpoint()
    with moved_data_explained(run):
        experiment = build(config, pretrained=False, checkpoint=checkpoint)
    built = "the run's config.yaml"
    _check_data(experiment, folder, summary, checkpoint)
    load_weights(experiment.cohort, checkpoint["cohort"], f"{run}/checkpoint.pt", built)
    for name, student in experiment.cohort.students.items():
        load_weights(student, folder.load_student(name), f"{run}/students/{name}.safetensors", built)
        folder.check_student(name, summary.get("sha256", {}).get(name))
    return experiment, summary


def save_outputs(experiment: Experiment, folder: RunFolder, split: str, digests: Mapping[str, str]) -> None:
    """What the cohort says of every image of the split ("test" or "validation"); ``digests`` tell its weights."""
    cohort = experiment.cohort
    loader = experiment.test if split == "test" else experiment.validation
    assert loader is not None
    about = {
        "students": list(cohort.students),
        "teacher": next(iter(cohort.answering_teachers), None),
        "class_names": experiment.facts["class_names"],
        "sha256": digests,
    }
    folder.save_outputs(split, predictions.collect(cohort, loader, experiment.runtime), about)


def _check_data(experiment: Experiment, folder: RunFolder, summary: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    """Raises UserError, naming what differs, unless the data are those of the run.

    What an altered file of a student no longer says is passed over: its checksum is looked at next.
    """
    then = folder.student_facts(next(iter(experiment.cohort.students)))
    now = {key: list(value) if isinstance(value, tuple) else value for key, value in experiment.facts.items()}
    images = experiment.sizes
    others = changed_since(checkpoint, experiment.fingerprint, experiment.fingerprints)
    if now["class_names"] != then.get("class_names", now["class_names"]):
        names = [printable_list(of["class_names"][:5]) + " ..." * (len(of["class_names"]) > 5) for of in (then, now)]
        found = "its classes were {}, and are {}".format(*names)
    elif (before := summary["images"]) != images:
        counts = (", ".join(f"{count:,} {split}" for split, count in of.items()) for of in (before, images))
        found = "there were {} images, and are {}".format(*counts)
    elif others or any(now[key] != then.get(key, now[key]) for key in now):
        found = f"there are as many images, of the same classes, but others in {' and '.join(others) or 'train'}, or "
        found += "another Pillow decodes them otherwise"
    else:
        return
    raise UserError(
        f"Data '{experiment.config.data.name}' changed since the run in '{folder.path}' was trained: {found}. Put the "
        "data back. Without them its students still predict: codistill predict, or load_student in Python."
    )


def read_run_config(run: Path) -> RunConfig:
    """The configuration of a run folder. Raises UserError if it is not complete, as it was written."""
    given, place = run_files.read_config(run), f"{run}/config.yaml"
    missing = [key for key in RunConfig.model_fields if key not in given and key not in IF_SET]
    if missing:
        raise UserError(f"'{place}' is damaged: it lacks {', '.join(missing)}.")
    try:
        return make_config(given)
    except UserError as error:
        raise UserError(f"'{place}': {error}") from error


@contextmanager
def moved_data_explained(run: Path) -> Iterator[None]:
    """As a context: where there are no such data, say what to do about a run of which they moved."""
    try:
        yield
    except NoSuchData as error:
        command = shlex.join(["codistill", "relocate", str(run), "--data"])
        raise UserError(f"{error} If the data of this run moved, say where to: {command} PLACE") from error
