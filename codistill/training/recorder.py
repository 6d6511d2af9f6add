"""What happens beside training: losses are logged, each epoch is evaluated and saved, progress is shown."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from codistill.core.batch import Batch
from codistill.core.cohort import Cohort
from codistill.core.objective import Objective
from codistill.errors import UserError
from codistill.storage.run_dir import RunFolder
from codistill.training.allocator import Surplus
from codistill.training.amp import Scaling
from codistill.training.best_epoch import BestEpoch
from codistill.training.collapse_monitor import Health
from codistill.training.divergence_dump import BadBatch
from codistill.training.duration import Horizon
from codistill.training.evaluate import Accuracy, evaluate
from codistill.training.meter import TOTAL, DivergedError, Meter
from codistill.training.once import Once
from codistill.training.prediction_history import Answers
from codistill.training.probe import look
from codistill.training.runtime import Runtime
from codistill.training.signals import Stopped, StopRequest
from codistill.training.timer import Clock
from codistill.training.train_state import Snapshot


class Progress(NamedTuple):
    """Where training is; what a display shows."""

    epoch: int  # running, counted from 1
    epochs: int
    step: int  # done so far, of all epochs
    steps: int
    objective: float | None  # its mean over the last interval
    cross_entropy: Mapping[str, float]  # of each student, likewise: what its objective has in common with other runs'
    validation: Accuracy | None  # after the last finished epoch
    images_per_second: float
    seconds_left: float | None  # not known before the second step


class Display(Protocol):
    """Shows progress: a bar on a terminal, lines elsewhere, nothing in tests."""

    def decoding(self, done: int, total: int) -> None:
        """While images are decoded, before training: first with 0, last with all done."""

    def tick(self, progress: Progress) -> None:
        """After every step."""

    def line(self, progress: Progress) -> None:
        """After every log interval."""

    def note(self, text: str) -> None:
        """What is good to know."""

    def warn(self, text: str) -> None:
        """Before training, for what is possible but hardly meant; during training, for students that collapse."""


class Timetable(NamedTuple):
    """How long training is, and how often it is written down."""

    horizon: Horizon
    batch_size: int
    log_every: int  # steps
    save_minutes: float
    ends: float | None = None  # when all is to be done, by the clock on the wall


class Recorder:
    """The observer of ``codistill.training.loop``.

    sample: validation images for another look at the students after each epoch. warned: what ``display`` was warned of,
    to be kept with the run.
    """

    def __init__(
        self,
        timetable: Timetable,
        folder: RunFolder,
        snapshot: Snapshot,
        cohort: Cohort,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        scaling: Scaling,
        runtime: Runtime,
        *,
        validation: Iterable[Batch] | None,
        sample: Iterable[Batch] | None,
        display: Display,
        warned: list[str],
        health: Health,
        answers: Answers,
        bad_batch: BadBatch,
        stop: StopRequest,
        once: Once,
    ) -> None:
        self._timetable, self._horizon = timetable, timetable.horizon
        self._folder, self._snapshot = folder, snapshot
        self._cohort, self._objective, self._optimizer, self._scaling = cohort, objective, optimizer, scaling
        self._runtime, self._processes = runtime, runtime.processes
        self._validation, self._sample, self._display = validation, sample, display
        self._health, self._bad_batch, self._stop, self._once = health, bad_batch, stop, once
        self.answers, self.warnings = answers, warned
        # Several processes ask each other whether to save or to stop only now and then: asking waits for the slowest.
        self._ask_every = 1 if self._processes.count == 1 else timetable.log_every
        self._interval, self._whole_epoch = Meter(self._processes), Meter(self._processes)
        self._means: dict[str, float] = {}  # of all losses, when they were last read
        self.accuracy: Accuracy | None = None  # on validation, after the last finished epoch
        self.best = BestEpoch()
        self.clock = Clock()
        self._surplus = Surplus()
        self._saved = time.perf_counter()

    def after_step(self, epoch: int, step: int, losses: dict[str, Tensor], total: Tensor) -> None:
        named = {**losses, TOTAL: total}
        self._interval.update(named)
        self._whole_epoch.update(named)
        if self.clock.goes:
            self.clock.steps += 1
        else:  # the first step of this process, which compiles: on a GPU that may take minutes
            self._runtime.synchronise()
            self.clock.go_on()
        if (step + 1) % self._timetable.log_every == 0:
            means = self._read(self._interval, step + 1)
            self._means = means
            progress = self._progress(epoch, step + 1)
            self._folder.log({"kind": "interval", "epoch": epoch + 1, "step": step + 1, **self._figures(means)})
            self._display.line(progress)
        self._display.tick(self._progress(epoch, step + 1))
        # After an epoch's last step there is more to do first.
        if (step + 1) % self._horizon.steps_per_epoch and (step + 1) % self._ask_every == 0:
            due = time.perf_counter() - self._saved > 60.0 * self._timetable.save_minutes
            asked, due_somewhere = self._processes.largest(self._stop.number or 0, due)
            if asked or due_somewhere:
                self._save_within_epoch(step + 1)
            if asked:
                raise Stopped(asked, epoch + 1, step + 1)

    def after_epoch(self, epoch: int) -> None:
        done = (epoch + 1) * self._horizon.steps_per_epoch
        means = self._read(self._whole_epoch, done)
        self._interval = Meter(self._processes)  # intervals end with their epoch, where a resumed run begins too
        self._means = means
        self._check_weights(done)
        self._pause_clock()
        if self._validation is not None:
            self.accuracy = evaluate(self._cohort, self._validation, self._runtime)
            self.best.offer(epoch + 1, self.accuracy, self._cohort)
        record = {"kind": "epoch", "epoch": epoch + 1, "step": done}
        accuracy = self.accuracy._asdict() if self.accuracy else None
        seen = look(self._cohort, self._sample, self._runtime) if self._sample is not None else None
        geometry = {}
        if seen is not None:
            self.answers.add(epoch + 1, seen)
            geometry = {"richness": seen.richness(), "diversity": seen.diversity()}
        warnings = self._health.check(epoch, means, seen, as_one=self._horizon.burn_in > 0)
        for warning in warnings:
            self._display.warn(warning)
        weights = self._objective.at((name for name in means if name != TOTAL), self._horizon.ramp_progress_after(done))
        figures = {**self._figures(means), "weights": weights}
        accuracies = {"validation_accuracy": accuracy, **geometry}
        self._folder.log({**record, **figures, **accuracies, "warnings": warnings})
        self._surplus.after_epoch()
        self._save(done)
        (asked,) = self._processes.largest(self._stop.number or 0)
        if asked:
            raise Stopped(asked, epoch + 1, done)

    @property
    def images_per_second(self) -> float:
        """Images per second of training so far; each counts once, whoever sees it. 0 after a single step."""
        return self.clock.steps_per_second * self._timetable.batch_size

    @property
    def burn_in_share(self) -> float:
        """Of the epochs, how many were burn-in."""
        return self._horizon.burn_in_epochs / self._horizon.epochs

    def restore(self, state: dict[str, Any]) -> int:
        """Take up training from a checkpoint; returns how many steps are done. Raises UserError if it does not fit."""
        self._snapshot.put_back(state, self._meters)
        done, horizon = int(state["steps_done"]), self._horizon
        if done > horizon.steps:
            begun = math.ceil(done / horizon.steps_per_epoch)
            raise UserError(f"epochs={horizon.epochs} are too few: {begun} are begun already. Give that or more.")
        self.clock.restore(state)
        if state["validation_accuracy"] is not None:
            self.accuracy = Accuracy(**state["validation_accuracy"])
        self._health.told = dict(state["warnings"])
        self._once.told = list(state.get("told", []))  # checkpoints of earlier versions have none
        before = state.get("warned", state["warnings"].values())  # which runs of earlier versions did not keep
        self.warnings[:] = dict.fromkeys([*before, *self.warnings])
        self.answers.restore(state["answers"])
        like = self._cohort.state_dict()
        self.best.restore(state["best_epoch"], lambda name, whole: self._processes.part(whole, like[name]))
        self._folder.keep_log_until(done)
        return done

    def _save_within_epoch(self, steps_done: int) -> None:
        with self._keeping_a_bad_batch(steps_done):
            self._whole_epoch.check()
        self._check_weights(steps_done)
        self._pause_clock()
        self._save(steps_done)

    def _save(self, steps_done: int) -> None:
        self._folder.save_checkpoint(self._state(steps_done))
        self._saved = time.perf_counter()
        self.clock.go_on()

    def _pause_clock(self) -> None:
        """What comes now is no training; ``_save`` lets it go on."""
        self._runtime.synchronise()
        self.clock.pause()

    def _state(self, steps_done: int) -> dict[str, Any]:
        return {
            **self._snapshot.take(self._meters),
            **self.clock.state(),
            "epochs_done": steps_done // self._horizon.steps_per_epoch,
            "steps_done": steps_done,
            "validation_accuracy": self.accuracy._asdict() if self.accuracy else None,
            "warnings": self._health.told,
            "told": self._once.told,
            "warned": list(self.warnings),
            "answers": self.answers.state(),
            "best_epoch": self._processes.whole(self.best.state()),
            "ends": self._timetable.ends,
        }

    @property
    def _meters(self) -> dict[str, Meter]:
        return {"interval": self._interval, "whole_epoch": self._whole_epoch}

    def _figures(self, means: dict[str, float]) -> dict[str, Any]:
        first = self._optimizer.param_groups[0]
        learning_rate = first["lr"] / first["lr_factor"]  # the schedule's, whoever comes first
        speed = round(self.images_per_second, 1)
        return {"losses": means, "lr": learning_rate, "images_per_second": speed, **self._scaling.figures()}

    def _progress(self, epoch: int, done: int) -> Progress:
        epochs, steps = self._horizon.epochs, self._horizon.steps
        speed = self.clock.steps_per_second
        left = (steps - done) / speed if speed else None
        marks = {name: self._means[f"{name}/ce"] for name in self._cohort.students if self._means}
        where = epoch + 1, epochs, done, steps
        return Progress(*where, self._means.get(TOTAL), marks, self.accuracy, self.images_per_second, left)

    def _read(self, meter: Meter, steps_done: int) -> dict[str, float]:
        with self._keeping_a_bad_batch(steps_done):
            return meter.read()

    def _check_weights(self, steps_done: int) -> None:
        """The last update may have gone wrong after the last loss was fine: do not save it."""
        groups = self._cohort.parameter_groups()
        own = {name: [self._processes.own(parameter) for parameter in group] for name, group in groups.items()}
        bad = [int(not torch.stack([tensor.isfinite().all() for tensor in group]).all()) for group in own.values()]
        with self._keeping_a_bad_batch(steps_done):
            for name, found in zip(groups, self._processes.largest(*bad), strict=True):  # each may have other parts
                if found:
                    raise DivergedError(f"A weight of '{name}' is NaN or infinite.")

    @contextmanager
    def _keeping_a_bad_batch(self, steps_done: int) -> Iterator[None]:
        """If something in here is no longer finite, keep the batch that made it so."""
        try:
            yield
        except DivergedError as error:
            raise self._bad_batch.kept(error, steps_done) from None
