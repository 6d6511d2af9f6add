"""How long training is meant to be, and how far it has come. That may be decided anew on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class EarlierPlan(NamedTuple):
    """Until ``until_step`` steps were done, training was meant to last ``epochs``."""

    until_step: int
    epochs: int


@dataclass
class Horizon:
    """The length of training, in which schedules and ramps see the share that is done.

    >>> horizon = Horizon(epochs=4, steps_per_epoch=10, earlier=[EarlierPlan(until_step=20, epochs=20)])
    >>> [horizon.progress(step) for step in (0, 19, 20, 39)]
    [0.0, 0.095, 0.5, 0.975]
    """

    epochs: int
    steps_per_epoch: int
    earlier: Sequence[EarlierPlan] = ()  # oldest first
    burn_in: float = 0.0  # share of the epochs in which one network is trained for all students

    @property
    def steps(self) -> int:
        """Of all epochs."""
        return self.epochs * self.steps_per_epoch

    def replan(self, epochs: int, steps_done: int) -> None:
        """From ``steps_done`` on, training is to last ``epochs`` in all."""
        self.earlier = earlier_plans(self.epochs, self.earlier, epochs, steps_done)
        self.epochs = epochs

    def progress(self, step: int) -> float:
        """Before the step numbered ``step``, from 0: the share of training that is done, in [0, 1]."""
        return min(1.0, step / self._planned_at(step))

    def progress_after(self, steps: int) -> float:
        """The share of training that ``steps`` steps are, as their last one saw it."""
        return min(1.0, steps / self._planned_at(steps - 1))

    @property
    def burn_in_epochs(self) -> int:
        """The epochs after which students part: the share of those that were planned when it was reached."""
        begun = 0  # the first step that a plan was of
        for until_step, epochs in self.earlier:
            epoch = max(self._share_of(epochs), math.ceil(begun / self.steps_per_epoch))
            if epoch * self.steps_per_epoch < until_step:
                return epoch
            begun = until_step
        return max(self._share_of(self.epochs), math.ceil(begun / self.steps_per_epoch))

    def _share_of(self, epochs: int) -> int:
        return round(self.burn_in * (epochs * self.steps_per_epoch) / self.steps_per_epoch)

    def ramp_progress(self, step: int) -> float:
        """Before the step numbered ``step``: the share of what follows burn-in that is done, which ramps go by."""
        return self._since_burn_in(self.progress(step))

    def ramp_progress_after(self, steps: int) -> float:
        """The same of ``progress_after``."""
        return self._since_burn_in(self.progress_after(steps))

    def _since_burn_in(self, progress: float) -> float:
        if not self.burn_in:
            return progress
        parted = self.progress(self.burn_in_epochs * self.steps_per_epoch)
        return max(0.0, progress - parted) / (1.0 - parted) if parted < 1.0 else 0.0

    def _planned_at(self, step: int) -> int:
        epochs = next((plan.epochs for plan in self.earlier if step < plan.until_step), self.epochs)
        return epochs * self.steps_per_epoch


def earlier_plans(epochs: int, earlier: Sequence[EarlierPlan], now: int, steps_done: int) -> list[EarlierPlan]:
    """What becomes of a plan (``epochs``, ``earlier``) that is to last ``now`` epochs from ``steps_done`` on.

    To its own ``epochs`` it goes on as it is, also where something earlier is yet to come.
    """
    if now == epochs:
        return list(earlier)
    past = [plan for plan in earlier if plan.until_step < steps_done]
    ahead = next((plan.epochs for plan in earlier if plan.until_step >= steps_done), epochs)
    return past if ahead == now else [*past, EarlierPlan(steps_done, ahead)]
