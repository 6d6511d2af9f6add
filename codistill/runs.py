"""One run: train an experiment, test it when training is over, and write it down; or measure a finished one again."""

import math
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from codistill import __version__, run_files
from codistill.config import RunConfig, make_config
from codistill.display import Silent
from codistill.engine import outputs
from codistill.engine.answers import Answers
from codistill.engine.bad_batch import BadBatch
from codistill.engine.best_epoch import BestEpoch
from codistill.engine.evaluate import Accuracy, evaluate
from codistill.engine.fit import Observer, fit
from codistill.engine.health import Health
from codistill.engine.memory import out_of_memory_explained
from codistill.engine.onlooker import Onlooker
from codistill.engine.outputs import MOST_BYTES
from codistill.engine.processes import Processes, join
from codistill.engine.recorder import Display, Recorder, Timetable
from codistill.engine.reinitialise import Reinitialising
from codistill.engine.run_folder import RunFolder
from codistill.engine.runtime import Runtime
from codistill.engine.scaling import Scaling
from codistill.engine.schedule import learning_rate
from codistill.engine.snapshot import Origin, Snapshot
from codistill.engine.stopping import StopRequest
from codistill.engine.tracking import Trackers
from codistill.errors import UserError
from codistill.experiment import SAMPLE, Experiment, build, choose_runtime, dry_step, fresh_student
from codistill.strict_yaml import read_yaml
from codistill.weights import load_weights

# Keys that run folders of earlier versions lack; their defaults change no results.
ADDED_LATER = {"side_by_side", "save_minutes", "sync_batchnorm", "trackers", "project", "poison", "sharding"}
# Settings that a method did not have yet, with the values that leave out what is new.
SETTINGS_ADDED_LATER: dict[str, dict[str, Any]] = {"ffsd": {"decoders": 0.0}}


def train(
    config: RunConfig,
    run: str | Path,
    display: Display | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
) -> dict[str, Any]:
    """Train, test, and write the run folder, which is locked meanwhile. Returns the summary.

    display: who is told of progress, ``codistill.display.Lines()`` for one; None is nobody.
    Called in each of several processes that a launcher started, they train together and the main one writes. One that
    the launcher restarted goes on with the run that is there. Raises SaveError if the disk is full, or the folder is
    no longer there or writable, OutOfMemory, and ProcessLost if another process ended.
    """
    run, display = Path(run), display or Silent()
    processes = join(config.device, config.sharding)
    trackers = Trackers(config.trackers if processes.main else [], config.project, run, display.warn)
    with processes, RunFolder(run, display.warn) if processes.main else Onlooker(run) as folder, trackers:
        if processes.restarted:
            if processes.on_main(lambda: folder.finished):
                return processes.on_main(lambda: run_files.read_summary(run))
            resume = resume or processes.on_main((run / "config.yaml").exists)
        return _train(config, folder, trackers, processes, display, overwrite, resume)


def _train(
    config: RunConfig,
    folder: RunFolder,
    trackers: Trackers,
    processes: Processes,
    display: Display,
    overwrite: bool,
    resume: bool,
) -> dict[str, Any]:
    processes.together(trackers.check)
    state = processes.on_main(folder.take_up) if resume else None
    if state is not None:
        state["config"] = _complete(read_yaml(state["config"]), f"{folder.path}/checkpoint.pt").to_yaml()
    experiment = processes.together(
        lambda: build(config, display.decoding, choose_runtime(config, processes), pretrained=state is None)
    )
    config, cohort = experiment.config, experiment.cohort
    # Not before all have built everything: sharding is work that they do together.
    image_size = experiment.facts["image_size"]
    processes.together(lambda: processes.shard(cohort, lambda: dry_step(cohort, image_size, experiment.runtime)))
    optimizer = experiment.runtime.optimizer(
        cohort, config.lr_factors, lr=config.optimizer.lr, **config.optimizer.settings
    )
    scaling = Scaling(optimizer, experiment.runtime)
    steps = len(experiment.loader)
    stop = StopRequest(display.note, patient=processes.count > 1)
    class_names = experiment.facts["class_names"]
    answers = Answers(len(class_names))
    origin = Origin(folder.path, config.to_yaml(), config.data.name, experiment.fingerprint)
    recorder = Recorder(
        Timetable(config.epochs, steps, config.batch_size, config.log_every, config.save_minutes),
        folder,
        Snapshot(origin, cohort, optimizer, scaling, experiment.runtime),
        cohort,
        experiment.objective,
        optimizer,
        scaling,
        experiment.runtime,
        validation=experiment.validation,
        sample=experiment.sample,
        display=display,
        health=Health(list(cohort.students), class_names, config.optimizer.warmup_epochs, steps),
        answers=answers,
        bad_batch=BadBatch(folder, experiment.loader.at, steps),
        stop=stop,
    )
    schedule = learning_rate(
        config.optimizer.schedule,
        config.optimizer.lr,
        total=config.epochs * steps,
        warmup=round(config.optimizer.warmup_epochs * steps),
    )
    # Nothing is written before everything is built: a run that cannot start must not replace one that was finished.
    display.note(experiment.data)
    display.note(experiment.company)
    for warning in experiment.warnings:
        display.warn(warning)
    start_step = 0
    if state is not None:
        start_step = processes.together(lambda: recorder.restore(state))
    elif resume:
        folder.begin_anew(config.to_yaml())
    else:
        processes.on_main(lambda: folder.start(config.to_yaml(), overwrite))
    processes.together(lambda: trackers.start(config.model_dump(mode="json"), start_step))
    folder.listeners.append(trackers.log)
    with stop, out_of_memory_explained(folder.path, config.batch_size):
        fit(
            cohort,
            experiment.objective,
            optimizer,
            schedule,
            experiment.loader,
            config.epochs,
            experiment.runtime,
            _observer(experiment, recorder, optimizer),
            clip_norm=config.optimizer.clip_norm,
            scaling=scaling,
            start_step=start_step,
        )
    skipped = scaling.figures()
    if any(skipped.values()):
        display.note(
            f"{skipped['skipped_steps']} of {config.epochs * steps} steps were skipped, for their gradients overflowed "
            "in fp16. It takes a few to find the scale."
        )
    # Not before training is over: no choice is made on test images.
    accuracy = evaluate(cohort, experiment.test, experiment.runtime)
    students = {name: processes.whole(student.state_dict()) for name, student in cohort.students.items()}
    digests = {
        name: folder.save_student(name, weights, {"model": config.students[name], **experiment.facts})
        for name, weights in students.items()
    }
    if seen_over_epochs := answers.state():
        assert experiment.validation is not None
        every = math.ceil(len(experiment.validation.images) / SAMPLE)
        folder.save_outputs("answers", seen_over_epochs, {"speakers": answers.speakers, "every": every})
    if processes.count == 1 and outputs.size(cohort, len(experiment.test.images), len(class_names)) < MOST_BYTES:
        save_outputs(experiment, folder, "test", digests)  # else ``codistill analyse`` does
    selected = _test_best_epoch(experiment, folder, recorder.best, accuracy)
    summary = {**_summary(experiment, accuracy, recorder), **selected, **skipped, "sha256": digests}
    folder.save_summary(summary)
    trackers.log_summary(summary, config.epochs * steps)
    return summary


def _observer(experiment: Experiment, recorder: Recorder, optimizer: torch.optim.Optimizer) -> Observer:
    """The recorder, behind what draws a student's weights anew if the run is poisoned so."""
    poison = experiment.config.poison
    if poison is None or poison.reinitialise is None:
        return recorder
    at = max(1, round(poison.reinitialise * experiment.config.epochs * len(experiment.loader)))
    student = experiment.cohort.students[poison.student]
    return Reinitialising(recorder, student, fresh_student(experiment, poison.student), optimizer, at)


def _test_best_epoch(experiment: Experiment, folder: RunFolder, best: BestEpoch, last: Accuracy) -> dict[str, Any]:
    """Test and save the weights that validation images chose; the last epoch's accuracy is known."""
    if best.epoch is None:
        return {"test_accuracy_selected": None}
    config, cohort, whole = experiment.config, experiment.cohort, experiment.runtime.processes.whole
    with best.put_into(cohort):
        known = best.epoch == config.epochs
        accuracy = last if known else evaluate(cohort, experiment.test, experiment.runtime)
        facts = {**experiment.facts, "epoch": best.epoch}
        for name, student in cohort.students.items():
            folder.save_student(f"{name}.best", whole(student.state_dict()), {"model": config.students[name], **facts})
    return {"test_accuracy_selected": {"epoch": best.epoch, **accuracy._asdict()}}


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
    return _complete(run_files.read_config(run), f"{run}/config.yaml")


def _complete(given: dict[str, Any], place: str) -> RunConfig:
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


def _summary(experiment: Experiment, test: Accuracy, recorder: Recorder) -> dict[str, Any]:
    students, training_only = experiment.cohort.parameter_counts()
    validation, runtime = recorder.accuracy, experiment.runtime
    return {
        "test_accuracy": test._asdict(),
        "validation_accuracy": validation._asdict() if validation else None,
        "warnings": recorder.warnings,
        "parameters": {"students": students, "training_only": training_only},
        "forward_passes": {name: sum(views.values()) for name, views in experiment.cohort.views_of.items()},
        "images": experiment.sizes,
        "images_per_second": round(recorder.images_per_second, 1),
        "peak_memory_bytes": runtime.peak_memory_bytes(),
        "seconds": round(recorder.clock.total_seconds, 1),
        "training_seconds": round(recorder.clock.training_seconds, 1),
        "processor_seconds": _processor_seconds(recorder, runtime),
        "seed": experiment.config.seed,
        "device": runtime.describe(),
        "processes": runtime.processes.count,
        "versions": {
            "codistill": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": f"{sys.platform} {platform.machine()}",
        },
        "commit": _commit(),
    }


def _processor_seconds(recorder: Recorder, runtime: Runtime) -> float | None:
    """What training took of the processor; nothing on a GPU, nor where other processes worked too."""
    seconds = recorder.clock.processor_seconds
    known = seconds is not None and runtime.device.type == "cpu" and runtime.processes.count == 1
    return round(seconds, 1) if seconds is not None and known else None


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
