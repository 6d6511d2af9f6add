"""The training loop. It knows a cohort's losses, an objective and an optimizer; no student, task, teacher or method."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from codistill.cohort import Cohort
from codistill.data.loader import TrainLoader
from codistill.engine.runtime import Runtime
from codistill.objective import Objective


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
    epochs: int,
    runtime: Runtime,
    observer: Observer,
    *,
    clip_norm: float | None = None,
    start_epoch: int = 0,
) -> None:
    """Train a cohort that lies on the runtime's device, from ``start_epoch`` (as many are done) to ``epochs``."""
    step_module = runtime.step_module(cohort)
    for epoch in range(start_epoch, epochs):
        cohort.train()
        for index, batch in enumerate(loader.epoch(epoch)):
            step = epoch * len(loader) + index
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step)

            with runtime.autocast():
                losses = step_module(batch)
                loss = objective(losses, progress=step / (epochs * len(loader)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if clip_norm is not None:  # by group: a norm over all would couple the students
                for group in optimizer.param_groups:
                    torch.nn.utils.clip_grad_norm_(group["params"], clip_norm)
            optimizer.step()
            cohort.after_step()

            observer.after_step(epoch, step, losses, loss)
        observer.after_epoch(epoch)
