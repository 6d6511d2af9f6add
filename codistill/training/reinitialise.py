"""An observer that draws one student's weights anew at one step of training: a stress test for its peers."""

import torch
from torch import Tensor, nn

from codistill.training.loop import Observer
from codistill.training.optim import start_over


class Reinitialising:
    """Hands on to another observer, and after step ``at`` first puts ``fresh`` weights into ``student``.

    What the optimizer remembers of it starts over too. What is saved after that step is saved with it, so a resumed run
    is the same.
    """

    def __init__(
        self, observer: Observer, student: nn.Module, fresh: nn.Module, optimizer: torch.optim.Optimizer, at: int
    ) -> None:
        self._observer, self._student, self._fresh = observer, student, fresh
        self._optimizer, self._at = optimizer, at

    def after_step(self, epoch: int, step: int, losses: dict[str, Tensor], total: Tensor) -> None:
        if step + 1 == self._at:
            self._student.load_state_dict(self._fresh.state_dict())
            for parameter in self._student.parameters():
                start_over(self._optimizer, parameter)
        self._observer.after_step(epoch, step, losses, total)

    def after_epoch(self, epoch: int) -> None:
        self._observer.after_epoch(epoch)
