"""Running means of named losses, kept on the device and read once per log interval.

It also knows which loss stopped being finite first, without a look at the device in between.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from codistill.errors import TrainingEnded
from codistill.training.distributed.process_group import ALONE, Processes

TOTAL = "total"  # the objective, logged beside the losses that it sums


class DivergedError(TrainingEnded):
    """A loss or a weight is NaN or infinite; training cannot go on from here.

    steps_ago: when it became so; 1 is the last step.
    """

    headline = "Training diverged"
    advice = (
        "The checkpoint of the last epoch that was good, if any, is kept. "
        "Try a lower optimizer.lr, more optimizer.warmup_epochs or optimizer.clip_norm=5."
    )

    def __init__(self, message: str, steps_ago: int = 1) -> None:
        super().__init__(message)
        self.steps_ago = steps_ago


class Meter:
    """Mean of each loss since the last ``read``, over all processes, which read at the same step."""

    def __init__(self, processes: Processes = ALONE) -> None:
        self._processes = processes
        self._names: list[str] = []
        self._sums: Tensor | None = None  # (losses,)
        self._finite: Tensor | None = None  # (losses,) for how many steps each was, until it first was not
        self._count = 0

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """Add the scalars of one step."""
        self._names = sorted(losses)
        values = torch.stack([losses[name].detach().float() for name in self._names])
        finite = values.isfinite()
        if self._sums is None or self._finite is None:
            self._sums, self._finite = values, finite.float()
        else:
            self._sums = self._sums + values
            # A loss may be finite again, where fp16 skipped the step: what counts is when it first was not.
            self._finite = self._finite + (finite & (self._finite == self._count))
        self._count += 1

    def read(self) -> dict[str, float]:
        """The means, and start over. Raises DivergedError as ``check`` does."""
        if self._sums is None:
            return {}
        self.check()
        means = self._processes.mean(self._sums / self._count).tolist()
        self._sums, self._finite, self._count = None, None, 0
        return dict(zip(self._names, means, strict=True))

    def check(self) -> None:
        """Raises DivergedError naming the loss that was finite for the fewest steps, if one was not in all of them."""
        if self._finite is None:
            return
        lost = self._processes.largest(*(self._count - self._finite).int().tolist())  # steps, since it was not
        if any(lost):
            culprits = [name for name, steps in zip(self._names, lost, strict=True) if steps == max(lost)]
            culprits = [name for name in culprits if name != TOTAL] or [TOTAL]
            raise DivergedError(f"Loss {', '.join(culprits)} is NaN or infinite.", max(lost))

    def state(self) -> dict[str, Any]:
        """What has been added up, on the CPU, for a checkpoint in the middle of it."""
        sums, finite = (None if tensor is None else tensor.cpu() for tensor in (self._sums, self._finite))
        return {"names": self._names, "sums": sums, "finite": finite, "count": self._count}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        self._names, self._count = list(state["names"]), int(state["count"])
        self._sums, self._finite = (None if state[key] is None else state[key].to(device) for key in ("sums", "finite"))
