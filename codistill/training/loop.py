"""The training loop. It knows a cohort's losses, an objective and an optimizer; no student, task, teacher or method."""

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from codistill.core.cohort import Cohort
from codistill.core.objective import Objective
from codistill.data.loader import TrainLoader
from codistill.training.amp import Scaling
from codistill.training.burn_in import BurnIn
from codistill.training.duration import Horizon
from codistill.training.runtime import Runtime
from codistill.training.step import Step


class Observer(Protocol):
    """Looks on: logs, evaluates, saves."""

    def after_step(self, epoch: int, step: int, losses: dict[str, Tensor], total: Tensor) -> None: ...

    def after_epoch(self, epoch: int) -> None: ...


def fit(
    cohort: Cohort,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float],
    loader: TrainLoader,
    horizon: Horizon,
    runtime: Runtime,
    observer: Observer,
    *,
    clip_norm: float | None = None,
    scaling: Scaling | None = None,
    start_step: int = 0,
    warn: Callable[[str], None] = warnings.warn,
) -> None:
    """Train a cohort that lies on the runtime's device, after ``start_step`` steps that are done, to the end.

    The observer may replan the horizon. warn: of ``Step``.
    """
    step = Step(cohort, objective, optimizer, runtime, clip_norm, scaling, warn)
    burn_in = BurnIn(cohort, objective, optimizer, runtime) if horizon.burn_in else None
    epoch = start_step // len(loader)
    while epoch < horizon.epochs:
        cohort.train()
        alone = burn_in if epoch < horizon.burn_in_epochs else None
        done = max(start_step - epoch * len(loader), 0)  # in this epoch, by the run that is gone on with
        for index, batch in enumerate(loader.epoch(epoch, done), done):
            number = epoch * len(loader) + index
            losses, loss = step.forward(batch, progress=horizon.ramp_progress(number), burn_in=alone)
            step.backward(loss)
            step.update(learning_rate(number))
            observer.after_step(epoch, number, losses, loss)
        if alone is not None:
            alone.share()
        observer.after_epoch(epoch)
        epoch += 1
