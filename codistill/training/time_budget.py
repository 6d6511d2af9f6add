"""Training that is to be over in time: it is seen on the way how many epochs fit, and the schedules follow.

A schedule that is cut off before its end leaves much of the accuracy behind; one that ends early leaves time unused. As
the end comes near, less and less is unknown: plans become as exact as an epoch is long.
"""

import math
import time
from collections.abc import Callable, Sequence
from statistics import median

from torch import Tensor

from codistill.errors import UserError
from codistill.errors.counted import counted
from codistill.training.duration import Horizon
from codistill.training.loop import Observer
from codistill.training.runtime import Runtime

SPARE = 0.03  # of the time that is left, for epochs that take longer than those before
WORTH_MORE = 0.1  # of the epochs that are yet to come: fewer more are not worth another plan,
WORTH_AT_ALL = 0.01  # nor fewer than this share of all epochs
WORTH_TELLING = 0.25  # of the epochs that were told last
FIRST_LOOK = 20  # steps that tell enough of an epoch for a first plan; the first of a process, which compiles, is none
RECENT = 5  # epochs, or a quarter of all, whose median says how long one takes


def deadline(minutes: float, now: Callable[[], float] = time.time) -> float:
    """When ``minutes`` from now are over, in seconds by the clock on the wall. Raises UserError for what is no time."""
    if not 0 < minutes < math.inf:
        raise UserError(f"minutes={minutes:g} should be a finite number above 0.")
    return now() + 60 * minutes


def epochs_in_time(done: float, planned: int, fit: float, least: int = 0) -> int:
    """How many epochs there should be in all when ``done`` are, and ``fit`` more do; ``planned`` if that will do.

    The plan changes if it would be late, or end too early for the epochs that are yet to come: near the end a few more
    are worth it, and set the learning rate back by little. least: epochs that there must be.
    """
    least = max(math.ceil(done), least)
    surely, at_most = (max(math.floor(done + share * fit), least) for share in (1 - SPARE, 1.0))
    early = surely - planned > max(WORTH_MORE * (planned - done), WORTH_AT_ALL * planned)
    return surely if planned > at_most or early else planned


class InTime:
    """Hands on to another observer, and lets training last as many epochs as fit before ``ends``.

    ends: of ``deadline``. testing: what comes after training, as a multiple of an epoch. least: epochs that there must
    be. dearer: how many times as long as before a step takes when burn-in is over. replanned: called when the horizon
    is another. tell: called in words with the first plan, with each that is far from the one told before, and when
    time is over.
    """

    def __init__(
        self,
        observer: Observer,
        horizon: Horizon,
        runtime: Runtime,
        ends: float,
        *,
        testing: float,
        least: int,
        dearer: float = 1.0,
        replanned: Callable[[], None],
        tell: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._observer, self._horizon, self._runtime, self._ends = observer, horizon, runtime, ends
        self._testing, self._least, self._replanned, self._tell, self._now = testing, least, replanned, tell, now
        self._dearer = dearer
        self._begun: float | None = None  # when the steps began that are counted since
        self._steps = 0
        self._a_step: list[float] = []  # seconds, of each epoch on average
        self._besides: list[float] = []  # seconds of each epoch for evaluation and saving
        self._told: int | None = None  # the epochs of the plan that was told last

    def after_step(self, epoch: int, step: int, losses: dict[str, Tensor], total: Tensor) -> None:
        self._observer.after_step(epoch, step, losses, total)
        if self._begun is None:
            self._begun = self._look_at_the_clock()
            return
        self._steps += 1
        if self._steps == FIRST_LOOK and self._told is None and (step + 1) % self._horizon.steps_per_epoch:
            self._decide(step + 1, (self._look_at_the_clock() - self._begun) / self._steps)

    def after_epoch(self, epoch: int) -> None:
        trained = self._look_at_the_clock()
        if self._begun is not None and self._steps:
            self._a_step.append((trained - self._begun) / self._steps)
        self._observer.after_epoch(epoch)
        self._begun, self._steps = self._look_at_the_clock(), 0
        self._besides.append(self._begun - trained)
        if self._a_step or self._begun > self._ends:
            steps = (epoch + 1) * self._horizon.steps_per_epoch
            self._decide(steps, _lately(self._a_step))
        if epoch + 1 == self._horizon.burn_in_epochs:
            self._a_step.clear()  # the next ones take longer, and are the ones to go by

    def _look_at_the_clock(self) -> float:
        self._runtime.synchronise()
        return self._now()

    def _decide(self, steps_done: int, seconds_a_step: float) -> None:
        horizon = self._horizon
        done = steps_done / horizon.steps_per_epoch
        besides = _lately(self._besides)
        an_epoch = horizon.steps_per_epoch * seconds_a_step + besides
        later = self._dearer * horizon.steps_per_epoch * seconds_a_step + besides
        left = max(0.0, self._ends - self._now())
        if done < horizon.burn_in_epochs:
            fit = epochs_that_fit(left - self._testing * an_epoch, done, an_epoch, later, horizon.burn_in)
        else:
            an_epoch = later if done == horizon.burn_in_epochs and horizon.burn_in else an_epoch
            fit = max(0.0, left / an_epoch - self._testing)
        # Clocks differ: the main process decides.
        epochs = self._runtime.processes.on_main(lambda: epochs_in_time(done, horizon.epochs, fit, self._least))
        changed, ends_now = epochs != horizon.epochs, epochs == done
        if changed:
            horizon.replan(epochs, steps_done)
            self._replanned()
        known = self._told is not None and abs(epochs - self._told) <= WORTH_TELLING * self._told
        if known and not (changed and ends_now):
            return
        self._told = epochs
        each = f"{an_epoch:,.{0 if an_epoch >= 10 else 1}f} s"
        more = f"an epoch takes {each}, and {left / 60:,.1f} min are left"
        what = f"Training ends with epoch {epochs}" if ends_now else counted(epochs, "epoch")
        self._tell(f"{what}: {more}.")


def epochs_that_fit(left: float, done: float, before: float, after: float, burn_in: float) -> float:
    """How many more epochs fit into ``left`` seconds, within burn-in, when ``done`` are.

    N in all, of which the share ``burn_in`` takes ``before`` seconds each and the others ``after``:
    left = (burn_in N - done) before + (1 - burn_in) N after.

    >>> epochs_that_fit(30.0, done=4.0, before=1.0, after=3.0, burn_in=0.5)
    13.0
    """
    in_all = (left + done * before) / (burn_in * before + (1.0 - burn_in) * after)
    return max(0.0, in_all - done)


def _lately(seconds: Sequence[float]) -> float:
    """What one takes by now."""
    return median(seconds[-max(RECENT, len(seconds) // 4) :] or [0.0])
