"""What happens beside training: losses are logged, each epoch is evaluated and saved, progress is shown."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from codistill.batch import Batch
from codistill.cohort import Cohort
from codistill.engine.answers import Answers
from codistill.engine.bad_batch import BadBatch
from codistill.engine.best_epoch import BestEpoch
from codistill.engine.clock import Clock
from codistill.engine.evaluate import Accuracy, evaluate
from codistill.engine.glance import look
from codistill.engine.health import Health
from codistill.engine.meter import TOTAL, DivergedError, Meter
from codistill.engine.run_folder import RunFolder
from codistill.engine.runtime import Runtime
from codistill.engine.scaling import Scaling
from codistill.engine.stopping import Stopped, StopRequest
from codistill.errors import UserError
from codistill.objective import Objective
from codistill.run_files import differing_keys
from codistill.weights import load_weights


class Progress(NamedTuple):
    """Where training is; what a display shows."""

    epoch: int  # running, counted from 1
    epochs: int
    step: int  # done so far, of all epochs
    steps: int
    loss: float | None  # the objective's mean over the last interval
    validation: Accuracy | None  # after the last finished epoch
    images_per_second: float
    seconds_left: float


class Display(Protocol):
    """Shows progress: a bar on a terminal, lines elsewhere, nothing in tests."""

    def decoding(self, done: int, total: int) -> None:
        """While images are decoded, before training: first with 0, last with all done."""

    def tick(self, progress: Progress) -> None:
        """After every step."""

    def line(self, progress: Progress) -> None:
        """After every log interval."""

    def note(self, text: str) -> None:
        """Before training or after it, what is good to know."""

    def warn(self, text: str) -> None:
        """Before training, for what is possible but hardly meant; during training, for students that collapse."""


class Recorder:
    """The observer of ``codistill.engine.fit``."""

    def __init__(
        self,
        folder: RunFolder,
        cohort: Cohort,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        scaling: Scaling,
        validation: Iterable[Batch] | None,
        sample: Iterable[Batch] | None,
        runtime: Runtime,
        display: Display,
        health: Health,
        answers: Answers,
        bad_batch: BadBatch,
        *,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        log_every: int,
        save_minutes: float,
        config_yaml: str,
        data: tuple[str, str],
        stop: StopRequest,
    ) -> None:
        self._folder, self._cohort, self._objective = folder, cohort, objective
        self._optimizer, self._scaling = optimizer, scaling
        self._validation, self._sample, self._runtime, self._display = validation, sample, runtime, display
        self._health, self._answers, self._bad_batch = health, answers, bad_batch
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._batch_size, self._log_every = batch_size, log_every
        self._save_seconds, self._stop = 60.0 * save_minutes, stop
        self._processes = runtime.processes
        # Several processes ask each other whether to save or to stop only now and then: asking waits for the slowest.
        self._ask_every = 1 if self._processes.count == 1 else log_every
        self._config_yaml, self._data = config_yaml, data  # name, and fingerprint of the training images
        self._interval, self._whole_epoch = Meter(self._processes), Meter(self._processes)
        self._loss: float | None = None
        self.accuracy: Accuracy | None = None  # on validation, after the last finished epoch
        self.best = BestEpoch()
        self.clock = Clock()
        self._steps_timed = 0
        self._saved = time.perf_counter()

    def after_step(self, epoch: int, step: int, losses: dict[str, Tensor], total: Tensor) -> None:
        named = {**losses, TOTAL: total}
        self._interval.update(named)
        self._whole_epoch.update(named)
        self._steps_timed += 1
        if (step + 1) % self._log_every == 0:
            means = self._read(self._interval, step + 1)
            self._loss = means[TOTAL]
            progress = self._progress(epoch, step + 1)
            self._folder.log({"kind": "interval", "epoch": epoch + 1, "step": step + 1, **self._figures(means)})
            self._display.line(progress)
        self._display.tick(self._progress(epoch, step + 1))
        # After an epoch's last step there is more to do first.
        if (step + 1) % self._steps_per_epoch and (step + 1) % self._ask_every == 0:
            due = time.perf_counter() - self._saved > self._save_seconds
            asked, due_somewhere = self._processes.largest(self._stop.number or 0, due)
            if asked or due_somewhere:
                self._save_within_epoch(step + 1)
            if asked:
                raise Stopped(asked, epoch + 1, step + 1)

    def after_epoch(self, epoch: int) -> None:
        means = self._read(self._whole_epoch, (epoch + 1) * self._steps_per_epoch)
        self._interval = Meter(self._processes)  # intervals end with their epoch, where a resumed run begins too
        self._loss = means[TOTAL]
        self._check_weights((epoch + 1) * self._steps_per_epoch)
        self._pause_clock()
        if self._validation is not None:
            self.accuracy = evaluate(self._cohort, self._validation, self._runtime)
            self.best.offer(epoch + 1, self.accuracy, self._cohort)
        record = {"kind": "epoch", "epoch": epoch + 1, "step": (epoch + 1) * self._steps_per_epoch}
        accuracy = self.accuracy._asdict() if self.accuracy else None
        seen = look(self._cohort, self._sample, self._runtime) if self._sample is not None else None
        geometry = {}
        if seen is not None:
            self._answers.add(epoch + 1, seen)
            geometry = {"richness": seen.richness(), "diversity": seen.diversity()}
        warnings = self._health.check(epoch, means, seen)
        for warning in warnings:
            self._display.warn(warning)
        weights = self._objective.at((name for name in means if name != TOTAL), (epoch + 1) / self._epochs)
        figures = {**self._figures(means), "weights": weights}
        accuracies = {"validation_accuracy": accuracy, **geometry}
        self._folder.log({**record, **figures, **accuracies, "warnings": warnings})
        self._save((epoch + 1) * self._steps_per_epoch)
        (asked,) = self._processes.largest(self._stop.number or 0)
        if asked:
            raise Stopped(asked, epoch + 1, (epoch + 1) * self._steps_per_epoch)

    @property
    def images_per_second(self) -> float:
        """Images per second of training, in the epochs that are done; each counts once, whoever sees it."""
        return self._steps_timed * self._batch_size / max(self.clock.training_seconds, 1e-9)

    @property
    def warnings(self) -> list[str]:
        """Those of students that collapsed, in the order in which they were told."""
        return list(self._health.told.values())

    def restore(self, state: dict[str, Any]) -> int:
        """Take up training from a checkpoint; returns how many steps are done."""
        if differing := differing_keys(self._config_yaml, state["config"]):
            raise UserError(
                f"The configuration in '{self._folder.path}' is not the one that its checkpoint was trained with: it "
                f"differs in {', '.join(differing[:3])}{' and more' if differing[3:] else ''}. "
                "Put config.yaml back, or start another run with the new configuration."
            )
        name, fingerprint = self._data
        if state.get("data", fingerprint) != fingerprint:  # older checkpoints have none
            raise UserError(
                f"The training images of data '{name}' are not those that the run in '{self._folder.path}' began with: "
                "files were changed, added or removed since, or another version of Pillow decodes them otherwise. "
                "Put the data back, or start another run."
            )
        place, built = f"{self._folder.path}/checkpoint.pt", "the run's config.yaml"
        load_weights(self._cohort, state["cohort"], place, built, self._processes.part)
        self._optimizer.load_state_dict(self._parts(state["optimizer"]))
        self._scaling.restore(state.get("scaling", {}))  # older checkpoints have none, and need none
        own = self._own_of(state)
        torch.set_rng_state(own["random_state"])
        if "cuda_random_state" in own and self._runtime.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda_random_state"], self._runtime.device)
        self.clock.restore(state)
        self._steps_timed = done = int(state["steps_done"])
        for meter, name in ((self._interval, "interval"), (self._whole_epoch, "whole_epoch")):
            meter.restore(own["meters"][name], self._runtime.device)
        if state["validation_accuracy"] is not None:
            self.accuracy = Accuracy(**state["validation_accuracy"])
        self._health.told = dict(state.get("warnings", {}))  # older checkpoints have none
        self._answers.restore(state.get("answers", {}))
        like = self._cohort.state_dict()
        self.best.restore(state.get("best_epoch", {}), lambda name, whole: self._processes.part(whole, like[name]))
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
        main, *others = self._processes.gather(self._own())
        return {
            **main,
            **({"other_processes": others} if others else {}),
            "cohort": self._processes.whole(self._cohort.state_dict()),
            "optimizer": self._processes.whole(self._optimizer.state_dict()),
            "scaling": self._scaling.state(),
            "config": self._config_yaml,
            "data": self._data[1],
            "epochs_done": steps_done // self._steps_per_epoch,
            "steps_done": steps_done,
            **self.clock.state(),
            "validation_accuracy": self.accuracy._asdict() if self.accuracy else None,
            "warnings": self._health.told,
            "answers": self._answers.state(),
            "best_epoch": self._processes.whole(self.best.state()),
        }

    def _parts(self, optimizer: dict[str, Any]) -> dict[str, Any]:
        """An optimizer's state with this process's part of each momentum."""
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        parts = {
            number: {
                key: self._processes.part(value, parameters[number]) if isinstance(value, Tensor) else value
                for key, value in own.items()
            }
            for number, own in optimizer["state"].items()
        }
        return {**optimizer, "state": parts}

    def _own(self) -> dict[str, Any]:
        """What of a checkpoint is another in each process."""
        own: dict[str, Any] = {
            "meters": {"interval": self._interval.state(), "whole_epoch": self._whole_epoch.state()},
            "random_state": torch.get_rng_state(),
        }
        if self._runtime.device.type == "cuda":
            own["cuda_random_state"] = torch.cuda.get_rng_state(self._runtime.device)
        return own

    def _own_of(self, state: dict[str, Any]) -> dict[str, Any]:
        """This process's part of a checkpoint. Raises UserError if there were more or fewer processes."""
        all_of_them = [state, *state.get("other_processes", [])]
        if len(all_of_them) != self._processes.count:
            raise UserError(
                f"The run in '{self._folder.path}' was trained by {len(all_of_them)} processes, now there are "
                f"{self._processes.count}. Go on with as many as before."
            )
        return all_of_them[self._processes.rank]

    def _figures(self, means: dict[str, float]) -> dict[str, Any]:
        learning_rate = self._optimizer.param_groups[0]["lr"]
        speed = round(self._current_speed, 1)
        return {"losses": means, "lr": learning_rate, "images_per_second": speed, **self._scaling.figures()}

    @property
    def _current_speed(self) -> float:
        """Images per second, the running epoch included."""
        return self._steps_timed * self._batch_size / max(self.clock.training_so_far, 1e-9)

    def _progress(self, epoch: int, done: int) -> Progress:
        speed = self._current_speed
        total = self._epochs * self._steps_per_epoch
        left = (total - done) * self._batch_size / speed
        return Progress(epoch + 1, self._epochs, done, total, self._loss, self.accuracy, speed, left)

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
