"""How many epochs fit before a deadline, by a clock that the tests turn."""

import math
from collections.abc import Callable

import pytest

from codistill import UserError
from codistill.engine.deadline import Deadline, InTime
from codistill.engine.horizon import EarlierPlan, Horizon
from codistill.engine.processes import ALONE

STEPS = 4  # of an epoch


class Clock:
    """Seconds, which pass when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def after(clock: Clock, epochs: list[float], minutes: float = 10) -> Deadline:
    """A deadline of which epochs took so many seconds."""
    deadline = Deadline(minutes, clock)
    deadline.begin()
    for seconds in epochs:
        clock.seconds += seconds
        deadline.epoch_done()
    return deadline


def test_as_many_epochs_are_planned_as_fit_with_a_little_to_spare(clock: Clock) -> None:
    deadline = after(clock, [6.0])
    assert deadline.epochs_in_time(done=1, planned=30, testing=0) == 1 + math.floor(0.97 * 594 / 6)


def test_time_for_testing_is_kept_free(clock: Clock) -> None:
    deadline = after(clock, [6.0])
    assert deadline.epochs_in_time(done=1, planned=30, testing=10) == 1 + math.floor(0.97 * (594 / 6 - 10))


def test_what_passed_before_training_began_is_of_the_minutes_but_of_no_epoch(clock: Clock) -> None:
    deadline = Deadline(10, clock)
    clock.seconds += 300
    deadline.begin()
    clock.seconds += 3
    deadline.epoch_done()
    assert deadline.seconds_an_epoch == 3
    assert deadline.epochs_in_time(done=1, planned=30, testing=0) == 1 + math.floor(0.97 * 297 / 3)


def test_the_first_epoch_counts_only_until_there_is_a_second(clock: Clock) -> None:
    assert after(clock, [60.0]).seconds_an_epoch == 60
    assert after(clock, [60.0, 5.0, 7.0, 6.0]).seconds_an_epoch == 6


def test_an_epoch_that_was_begun_by_another_process_counts_as_a_whole_one(clock: Clock) -> None:
    deadline = Deadline(10, clock)
    deadline.begin()
    clock.seconds += 2
    deadline.epoch_done(share=0.25)
    assert deadline.seconds_an_epoch == 8


@pytest.mark.parametrize(("planned", "expected"), [(97, 97), (100, 100), (101, 97), (90, 90), (88, 97), (30, 97)])
def test_a_plan_stays_unless_it_would_be_late_or_much_too_early(clock: Clock, planned: int, expected: int) -> None:
    deadline = after(clock, [6.0])  # at most 100 fit, 97 with something to spare
    assert deadline.epochs_in_time(done=1, planned=planned, testing=0) == expected


def test_when_time_is_over_training_ends_with_the_epochs_that_are_done_but_not_within_warm_up(clock: Clock) -> None:
    deadline = after(clock, [700.0])
    assert deadline.epochs_in_time(done=1, planned=30, testing=0) == 1
    assert deadline.epochs_in_time(done=1, planned=30, testing=0, least=3) == 3
    assert deadline.epochs_in_time(done=1, planned=3, testing=0, least=3) == 3


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf])
def test_minutes_that_are_no_time_are_refused(minutes: float) -> None:
    with pytest.raises(UserError, match=r"minutes=.* should be more than 0"):
        Deadline(minutes)


class Training:
    """An observer for whom every epoch takes as long as it is told."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds, self.epochs = clock, 6.0, 0

    def after_step(self, *step: object) -> None: ...

    def after_epoch(self, epoch: int) -> None:
        self.clock.seconds += self.seconds
        self.epochs += 1


@pytest.fixture
def in_time(clock: Clock) -> Callable[..., tuple[InTime, Training, Horizon, list[str]]]:
    def make(start_step: int = 0) -> tuple[InTime, Training, Horizon, list[str]]:
        told: list[str] = []
        training, horizon = Training(clock), Horizon(30, STEPS)
        arguments = (Deadline(10, clock), horizon, ALONE, told.append)
        return InTime(training, *arguments, start_step=start_step, testing=0, least=1), training, horizon, told

    return make


def test_the_horizon_follows_and_keeps_what_was_planned_before(
    in_time: Callable[..., tuple[InTime, Training, Horizon, list[str]]],
) -> None:
    observer, training, horizon, told = in_time()
    observer.after_epoch(0)
    assert (horizon.epochs, horizon.earlier) == (97, [EarlierPlan(STEPS, 30)])
    assert told == ["97 epochs of 6.0 s fit into 10 min."]
    observer.after_epoch(1)
    assert len(told) == 1
    training.seconds = 60
    for epoch in range(2, 6):
        observer.after_epoch(epoch)
    assert horizon.epochs < 20
    assert horizon.earlier[:2] == [EarlierPlan(STEPS, 30), EarlierPlan(3 * STEPS, 97)]
    assert training.epochs == 6


def test_that_training_ends_for_want_of_time_is_said(
    in_time: Callable[..., tuple[InTime, Training, Horizon, list[str]]],
) -> None:
    observer, training, horizon, told = in_time(start_step=10 * STEPS + 2)
    training.seconds = 601
    observer.after_epoch(10)
    assert horizon.epochs == 11
    assert told == ["Training ends with epoch 11: an epoch takes 1,202 s, and no more fit into 10 min."]
