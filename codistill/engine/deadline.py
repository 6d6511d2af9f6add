"""Training that is to be over in time. After each epoch it is seen how many epochs fit, and the schedules follow.

A schedule that is cut off before its end leaves much of the accuracy behind; one that ends early leaves time unused.
"""

import math
import time
from collections.abc import Callable
from statistics import median

from torch import Tensor

from codistill.engine.fit import Observer
from codistill.engine.horizon import Horizon
from codistill.engine.processes import Processes
from codistill.errors import UserError

SPARE = 0.03  # of the time that is left, for epochs that take longer than those before
WORTH_MORE = 0.1  # of the planned epochs: fewer more are not worth another plan
RECENT = 5  # epochs whose median says how long one takes


class Deadline:
    """``minutes`` from now on, for all that a run still does.

    Raises UserError for minutes that are none.
    """

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        if not 0 < minutes < math.inf:
            raise UserError(f"minutes={minutes:g} should be more than 0.")
        self.minutes = minutes
        self._now, self._end = now, now() + 60 * minutes
        self._epochs: list[float] = []  # seconds that each took in this process
        self._last = now()

    def begin(self) -> None:
        """Training begins, and with it an epoch."""
        self._last = self._now()

    def epoch_done(self, share: float = 1.0) -> None:
        """An epoch has ended, of which this process trained a ``share``."""
        now = self._now()
        self._epochs.append((now - self._last) / share)
        self._last = now

    @property
    def seconds_an_epoch(self) -> float:
        """With its evaluation. The first one, which also compiles, counts until there is a second."""
        return median((self._epochs[1:] or self._epochs)[-RECENT:])

    def epochs_in_time(self, done: int, planned: int, testing: float, least: int = 0) -> int:
        """How many epochs there should be in all when ``done`` are; ``planned`` if that is about right.

        testing: what comes after training, as a multiple of an epoch. least: that there must be.
        """
        left = (self._end - self._now()) / self.seconds_an_epoch - testing  # in epochs
        surely = max(done + math.floor((1 - SPARE) * left), done, least)
        late = planned > max(done + math.floor(left), done, least)
        early = surely > (1 + WORTH_MORE) * planned
        return surely if late or early else planned


class InTime:
    """Hands on to another observer, and after each epoch lets training last as many epochs as then fit."""

    def __init__(
        self,
        observer: Observer,
        deadline: Deadline,
        horizon: Horizon,
        processes: Processes,
        replanned: Callable[[str], None],
        *,
        start_step: int,
        testing: float,
        least: int,
    ) -> None:
        """replanned: called when the horizon is another, with the reason. Others: as in ``epochs_in_time``."""
        self._observer, self._deadline, self._horizon, self._processes = observer, deadline, horizon, processes
        self._replanned, self._start_step, self._testing, self._least = replanned, start_step, testing, least
        deadline.begin()

    def after_step(self, epoch: int, step: int, losses: dict[str, Tensor], total: Tensor) -> None:
        self._observer.after_step(epoch, step, losses, total)

    def after_epoch(self, epoch: int) -> None:
        self._observer.after_epoch(epoch)
        done, steps = epoch + 1, self._horizon.steps_per_epoch
        self._deadline.epoch_done(min(1.0, done - self._start_step / steps))

        def decide() -> int:
            return self._deadline.epochs_in_time(done, self._horizon.epochs, self._testing, self._least)

        epochs = self._processes.on_main(decide)  # clocks differ
        if epochs != self._horizon.epochs:
            self._horizon.replan(epochs, done * steps)
            self._replanned(self._reason(epochs, done))

    def _reason(self, epochs: int, done: int) -> str:
        seconds = self._deadline.seconds_an_epoch
        given, each = f"{self._deadline.minutes:g} min", f"{seconds:,.{0 if seconds >= 10 else 1}f} s"
        if epochs == done:
            return f"Training ends with epoch {done}: an epoch takes {each}, and no more fit into {given}."
        return f"{epochs} epochs of {each} fit into {given}."
