"""Whom the engine asks where several processes may have to agree: a ``Processes``, and never how many there are.

This one is alone and has nothing to agree on. ``together.py`` is several that train one cohort: each sees its share of
every batch, and their gradients are averaged. Process 0 is the main one: it alone writes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from codistill.errors import TrainingEnded

Result = TypeVar("Result")


class ProcessLost(TrainingEnded):
    """Another process of the job ended in the middle of training."""

    advice = "All up to the last checkpoint is saved: start the job again with --resume."
    told_by_all = True


class Processes:
    """One process, alone. As a context it tells of processes that were lost."""

    rank = 0
    count = 1
    device: torch.device | None = None  # where the launcher wants this process; None: wherever the user says
    restarted = False  # whether the launcher began again, after a process was lost
    sharded = False  # whether each has only its part of the parameters

    @property
    def main(self) -> bool:
        return self.rank == 0

    def shard(self, module: nn.Module, dry_step: Callable[[], object]) -> None:
        """Divide the parameters, in place, before an optimizer has them; then see whether a ``dry_step`` works."""

    def wrap(self, module: nn.Module) -> nn.Module:
        """What is called in each step, so that gradients are averaged over processes."""
        return module

    @contextmanager
    def whole_weights(self, module: nn.Module) -> Iterator[None]:
        """In here all weights are whole: for forward passes that not every process makes."""
        yield

    def whole(self, state: Any) -> Any:
        """A state with tensors that are whole, in the main process; all must ask."""
        return state

    def part(self, whole: Tensor, like: Tensor) -> Tensor:
        """Of a whole tensor what this process has of one ``like`` it."""
        return whole

    def own(self, tensor: Tensor) -> Tensor:
        """What this process has of a parameter, as a plain tensor."""
        return tensor

    def align(self, module: nn.Module) -> None:
        """Give every process the buffers (running statistics) of the main one."""

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over processes."""
        return tensor

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes."""
        return tensor

    def largest(self, *numbers: int) -> list[int]:
        """Each number's maximum over processes: how they agree to save or to stop."""
        return list(numbers)

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of ranks."""
        return [value]

    def together(self, call: Callable[[], Result]) -> Result:
        """What this process's call returns. Raises UserError in all processes if it does in one."""
        return call()

    def on_main(self, call: Callable[[], Result]) -> Result:
        """What the main process's call returns, in all of them. Raises UserError in all processes if it does."""
        return call()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


ALONE = Processes()
