"""One run: train an experiment, test it when training is over, and write it down."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from codistill.config.resolve import AUTO
from codistill.config.schema import RunConfig, make_config
from codistill.errors import UserError
from codistill.storage import run_files
from codistill.storage.run_dir import RunFolder
from codistill.training.amp import Scaling
from codistill.training.build import Experiment, build, choose_runtime, fresh_student, loss_names
from codistill.training.checks import remark_on_length
from codistill.training.collapse_monitor import Health
from codistill.training.display import Keeping, Silent
from codistill.training.distributed.init import join
from codistill.training.distributed.process_group import Processes
from codistill.training.divergence_dump import BadBatch
from codistill.training.duration import Horizon
from codistill.training.error_hints import uncompilable_explained
from codistill.training.error_hints_memory import out_of_memory_explained
from codistill.training.finalize import conclude
from codistill.training.loop import Observer, fit
from codistill.training.once import Once
from codistill.training.onlooker import Onlooker
from codistill.training.prediction_history import Answers
from codistill.training.recorder import Display, Recorder, Timetable
from codistill.training.reinitialise import Reinitialising
from codistill.training.restore import moved_data_explained
from codistill.training.resume import MAY_DIFFER, as_planned, horizon_of, taken_up, with_horizon
from codistill.training.schedule import learning_rate
from codistill.training.signals import StopRequest
from codistill.training.time_budget import InTime, deadline
from codistill.training.trackers import Trackers
from codistill.training.train_state import Origin, Snapshot


def train(
    config: RunConfig | Mapping[str, Any],
    run: str | Path,
    display: Display | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    minutes: float | None = None,
) -> dict[str, Any]:
    """Train, test, and write the run folder, which is locked meanwhile. Returns the summary.

    config: of ``make_config``, or what that takes.
    minutes: from now on until all is done. In place of the configuration's epochs there are as many as fit, one
    and the warm-up at least; how many, and what was planned until when, is written into the run's configuration.
    display: who is told of progress, ``codistill.training.display.Lines()`` for one; None is nobody.
    Called in each of several processes that a launcher started, they train together and the main one writes. One that
    the launcher restarted goes on with the run that is there. Raises UserError for what cannot be trained; SaveError if
    the disk is full, or the folder is no longer there or writable, DivergedError, OutOfMemory, and ProcessLost if
    another process ended; Stopped, which is a KeyboardInterrupt, if a signal asked it to end and all is saved.
    """
    ends = None if minutes is None else deadline(minutes)
    config = given = config if isinstance(config, RunConfig) else make_config(config)
    if ends is not None and config.poison is not None and config.poison.reinitialise is not None:
        raise UserError("poison.reinitialise is at a share of training, which minutes would change: give epochs.")
    run, display = Path(run), Keeping(display or Silent())
    processes = join(config.device, config.sharding)
    trackers = Trackers(config.trackers if processes.main else [], config.project, run, display.warn)
    with processes, RunFolder(run, display.warn) if processes.main else Onlooker(run) as folder, trackers:
        if processes.restarted:
            if processes.on_main(lambda: folder.finished):
                return processes.on_main(lambda: run_files.read_summary(run))
            resume = resume or processes.on_main((run / "config.yaml").exists)
            if ends is not None and resume:
                config = processes.on_main(lambda: as_planned(given, run))
        elif ends is not None and not resume:
            config = config.model_copy(update={"replanned": []})  # of the run whose configuration is the recipe
        return _train(config, folder, trackers, processes, display, overwrite, resume, ends)


def _train(
    config: RunConfig,
    folder: RunFolder,
    trackers: Trackers,
    processes: Processes,
    display: Keeping,
    overwrite: bool,
    resume: bool,
    ends: float | None,
) -> dict[str, Any]:
    processes.together(trackers.check)
    state = processes.on_main(lambda: _take_up(folder)) if resume else None
    if state is not None:
        config = processes.together(lambda: taken_up(config, state))
        if ends is not None and processes.restarted:
            ends = state.get("ends") or ends
    if not resume:  # before all images are decoded
        processes.on_main(lambda: folder.check(overwrite))

    def built() -> Experiment:
        with moved_data_explained(folder.path) if resume else nullcontext():
            runtime = choose_runtime(config, processes)
            return build(config, display.decoding, runtime, pretrained=state is None, ends=ends, checkpoint=state)

    tasks_are_set = config.tasks != AUTO and not resume  # a run that goes on does not tell
    experiment = processes.together(built)
    config, cohort, runtime = experiment.config, experiment.cohort, experiment.runtime
    # Not before all have built everything: sharding is work that they do together.
    image_size = experiment.facts["image_size"]
    processes.together(lambda: processes.shard(cohort, lambda: loss_names(cohort, image_size, runtime)))
    optimizer = runtime.optimizer(cohort, config.lr_factors, lr=config.optimizer.lr, **config.optimizer.settings)
    scaling = Scaling(optimizer, runtime)
    horizon = horizon_of(config, len(experiment.loader))
    stop = StopRequest(display.note, patient=processes.count > 1)
    once = Once()
    recorder = _recorder(experiment, folder, optimizer, scaling, horizon, ends, display, stop, once)

    def remark() -> None:
        if tasks_are_set and (text := remark_on_length(cohort, horizon.steps, config.students.values())):
            once.tell(display.note, text, "length")

    start_step = 0
    if state is not None:
        start_step = processes.together(lambda: recorder.restore(state))
        display.note(f"Resuming after step {start_step} of {horizon.steps}.")
    once.tell(display.note, experiment.data)
    if experiment.choice:
        once.tell(display.note, experiment.choice)
    once.tell(display.note, experiment.company)
    if ends is None:
        remark()
    for warning in experiment.warnings:
        once.tell(display.warn, warning)
    # Nothing is written before everything is built: a run that cannot start must not replace one that was finished.
    if state is not None:
        folder.write_config(config.to_yaml())
    elif resume:
        folder.begin_anew(config.to_yaml())
    else:
        processes.on_main(lambda: folder.start(config.to_yaml(), overwrite))
    processes.together(lambda: trackers.start(config.model_dump(mode="json"), start_step))
    folder.listeners.append(trackers.log)
    rate = config.optimizer
    observer = _observer(experiment, recorder, optimizer, horizon)
    if ends is not None:
        observer = _in_time(experiment, folder, observer, horizon, ends, display, remark)
    with stop, out_of_memory_explained(folder.path, config.batch_size), uncompilable_explained(folder.path):
        fit(
            cohort,
            experiment.objective,
            optimizer,
            learning_rate(
                rate.schedule, rate.lr, horizon.progress, warmup=round(rate.warmup_epochs * horizon.steps_per_epoch)
            ),
            experiment.loader,
            horizon,
            runtime,
            observer,
            clip_norm=rate.clip_norm,
            scaling=scaling,
            start_step=start_step,
            warn=display.warn,
        )
    skipped = scaling.figures()
    if any(skipped.values()):
        display.note(
            f"{skipped['skipped_steps']} of {horizon.steps} steps were skipped, for their gradients overflowed "
            "in fp16. It takes a few to find the scale."
        )
    summary = {**conclude(experiment, folder, recorder, horizon.epochs), **skipped}
    folder.save_summary(summary)
    trackers.log_summary(summary, horizon.steps)
    return summary


def _take_up(folder: RunFolder) -> dict[str, Any] | None:
    state = folder.take_up()
    folder.check_unfinished()  # it may have been finished until the lock was had
    return state


def _recorder(
    experiment: Experiment,
    folder: RunFolder,
    optimizer: torch.optim.Optimizer,
    scaling: Scaling,
    horizon: Horizon,
    ends: float | None,
    display: Keeping,
    stop: StopRequest,
    once: Once,
) -> Recorder:
    """Who logs, evaluates and saves while training goes on."""
    config, cohort, class_names = experiment.config, experiment.cohort, experiment.facts["class_names"]
    prints = experiment.fingerprint, experiment.fingerprints
    origin = Origin(folder.path, lambda: with_horizon(config, horizon).to_yaml(), config.data.name, *prints)
    steps = horizon.steps_per_epoch
    return Recorder(
        Timetable(horizon, config.batch_size, config.log_every, config.save_minutes, ends),
        folder,
        Snapshot(origin, cohort, optimizer, scaling, experiment.runtime, may_differ=MAY_DIFFER),
        cohort,
        experiment.objective,
        optimizer,
        scaling,
        experiment.runtime,
        validation=experiment.validation,
        sample=experiment.sample,
        display=display,
        warned=display.warned,
        health=Health(list(cohort.students), class_names, config.optimizer.warmup_epochs, steps),
        answers=Answers(len(class_names)),
        bad_batch=BadBatch(folder, experiment.loader.at, steps),
        stop=stop,
        once=once,
    )


def _observer(
    experiment: Experiment, recorder: Recorder, optimizer: torch.optim.Optimizer, horizon: Horizon
) -> Observer:
    """The recorder, behind what draws a student's weights anew if the run is poisoned so."""
    poison = experiment.config.poison
    if poison is None or poison.reinitialise is None:
        return recorder
    at = max(1, round(poison.reinitialise * horizon.steps))
    student = experiment.cohort.students[poison.student]
    return Reinitialising(recorder, student, fresh_student(experiment, poison.student), optimizer, at)


def _in_time(
    experiment: Experiment,
    folder: RunFolder,
    observer: Observer,
    horizon: Horizon,
    ends: float,
    display: Display,
    remark: Callable[[], None],
) -> Observer:
    """The observer, behind what lets training last as many epochs as fit."""
    config, sizes = experiment.config, experiment.sizes

    def tell(plan: str) -> None:
        display.note(plan)
        remark()

    return InTime(
        observer,
        horizon,
        experiment.runtime,
        ends,
        testing=sizes["test"] / sizes["train"],  # each image up to three times, forward only
        least=math.ceil(config.optimizer.warmup_epochs),
        dearer=sum(sum(views.values()) for views in experiment.cohort.views_of.values()),  # passes, where one was
        replanned=lambda: folder.write_config(with_horizon(config, horizon).to_yaml()),
        tell=tell,
    )
