"""A finished run, taken up again: its configuration, its cohort as it was in the end, what that says of every image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codistill import run_files
from codistill.config import RunConfig, make_config
from codistill.engine import outputs
from codistill.engine.evaluate import Accuracy, evaluate
from codistill.engine.run_folder import RunFolder
from codistill.errors import UserError
from codistill.experiment import Experiment, build
from codistill.weights import load_weights

# Keys that run folders of earlier versions lack; their defaults change no results.
ADDED_LATER = {"side_by_side", "save_minutes", "sync_batchnorm", "trackers", "project", "poison", "sharding"}
# Settings that a method did not have yet, with the values that leave out what is new.
SETTINGS_ADDED_LATER: dict[str, dict[str, Any]] = {"ffsd": {"decoders": 0.0}}


def evaluate_run(run: str | Path, device: str = "auto") -> tuple[Accuracy, dict[str, Any]]:
    """Test accuracy of a finished run, measured again from its saved weights on any device, and its summary."""
    experiment, summary = rebuild(Path(run), device)
    return evaluate(experiment.cohort, experiment.test, experiment.runtime), summary


def rebuild(run: Path, device: str = "auto") -> tuple[Experiment, dict[str, Any]]:
    """A finished run as it was when training ended, on any device, and its summary. Raises UserError if damaged."""
    folder = RunFolder(run)
    summary = run_files.read_summary(run)
    # How it was sped up belongs to the device that trained.
    any_device = {"compile": False, "side_by_side": "auto", "sync_batchnorm": False, "sharding": "none"}
    config = make_config({**read_run_config(run).model_dump(mode="json"), "device": device, **any_device})
    experiment = build(config, pretrained=False)
    built = "the run's config.yaml"
    load_weights(experiment.cohort, folder.load_checkpoint()["cohort"], f"{run}/checkpoint.pt", built)
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
    folder.save_outputs(split, outputs.collect(cohort, loader, experiment.runtime), about)


def read_run_config(run: Path) -> RunConfig:
    """The configuration of a run folder. Raises UserError if it is not complete, as it was written."""
    return complete_config(run_files.read_config(run), f"{run}/config.yaml")


def complete_config(given: dict[str, Any], place: str) -> RunConfig:
    """A configuration that a run wrote; keys that are newer than the run have their defaults."""
    missing = [key for key in RunConfig.model_fields if key not in given and key not in ADDED_LATER]
    if missing:
        raise UserError(f"'{place}' is damaged: it lacks {', '.join(missing)}.")
    if isinstance(method := given["method"], dict):
        given = {**given, "method": {**SETTINGS_ADDED_LATER.get(str(method.get("name")), {}), **method}}
    try:
        return make_config(given)
    except UserError as error:
        raise UserError(f"'{place}': {error}") from error
