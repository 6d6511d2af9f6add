"""How many epochs fit before a deadline, by a clock that the tests turn."""

import math
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from codistill import UserError
from codistill.training.duration import EarlierPlan, Horizon
from codistill.training.runtime import Runtime
from codistill.training.time_budget import FIRST_LOOK, InTime, deadline, epochs_in_time


@pytest.mark.parametrize(("planned", "expected"), [(97, 97), (100, 100), (101, 97), (90, 90), (88, 97), (30, 97)])
def test_a_plan_stays_unless_it_would_be_late_or_much_too_early(planned: int, expected: int) -> None:
    assert epochs_in_time(done=1, planned=planned, fit=99) == expected  # with something to spare 96.03 more


@pytest.mark.parametrize(
    ("done", "fit", "expected"),
    [(50, 55, 100), (50, 60, 108), (90, 10.9, 100), (90, 13, 102), (98, 3, 100), (98, 4.2, 102), (100, 1.5, 100)],
)
def test_near_the_end_a_few_more_epochs_are_worth_another_plan(done: int, fit: float, expected: int) -> None:
    assert epochs_in_time(done, planned=100, fit=fit) == expected


def test_what_would_be_late_is_taken_away_at_any_time() -> None:
    assert epochs_in_time(done=51, planned=100, fit=40) == 89
    assert epochs_in_time(done=98, planned=100, fit=1.5) == 99


def test_an_epoch_that_has_begun_is_trained_to_its_end_and_so_is_the_warm_up() -> None:
    assert epochs_in_time(done=2.25, planned=30, fit=0.5) == 3
    assert epochs_in_time(done=2.25, planned=30, fit=2.0) == 4
    assert epochs_in_time(done=1, planned=30, fit=0) == 1
    assert epochs_in_time(done=1, planned=30, fit=0, least=3) == 3
    assert epochs_in_time(done=1, planned=3, fit=0, least=3) == 3


def test_a_deadline_is_so_many_minutes_from_now() -> None:
    assert deadline(1.5, lambda: 1000.0) == 1090


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf])
def test_minutes_that_are_no_time_are_refused(minutes: float) -> None:
    with pytest.raises(UserError, match=r"minutes=.* should be a finite number above 0"):
        deadline(minutes)


class Training:
    """An observer for whom time passes, and the clock that tells it."""

    def __init__(self) -> None:
        self.now, self.a_step, self.besides = 1000.0, 1.0, 2.0

    def after_step(self, *step: object) -> None:
        self.now += self.a_step

    def after_epoch(self, epoch: int) -> None:
        self.now += self.besides


class Trained(NamedTuple):
    """An epoch of ten seconds: eight steps that count, and two for what comes after."""

    in_time: InTime
    training: Training
    horizon: Horizon
    told: list[str]
    replanned: list[int]

    def epoch(self, number: int, done: int = 0) -> None:
        for index in range(done, self.horizon.steps_per_epoch):
            loss = torch.zeros(())
            self.in_time.after_step(number, number * self.horizon.steps_per_epoch + index, {}, loss)
        self.in_time.after_epoch(number)


@pytest.fixture
def trained() -> Callable[..., Trained]:
    def make(
        minutes: float = 10, steps: int = 8, testing: float = 0.0, burn_in: float = 0.0, dearer: float = 1.0
    ) -> Trained:
        training, told, replanned = Training(), list[str](), list[int]()
        horizon = Horizon(30, steps, burn_in=burn_in)
        in_time = InTime(
            training,
            horizon,
            Runtime(torch.device("cpu")),
            deadline(minutes, lambda: training.now),
            testing=testing,
            least=1,
            dearer=dearer,
            replanned=lambda: replanned.append(horizon.epochs),
            tell=told.append,
            now=lambda: training.now,
        )
        return Trained(in_time, training, horizon, told, replanned)

    return make


def test_as_many_epochs_are_planned_as_fit_with_a_little_to_spare(trained: Callable[..., Trained]) -> None:
    run = trained()
    run.epoch(0)
    assert run.horizon.epochs == 1 + math.floor(0.97 * 590 / 10) == 58
    assert run.horizon.earlier == [EarlierPlan(8, 30)]
    assert run.replanned == [58]
    assert run.told == ["58 epochs: an epoch takes 10 s, and 9.8 min are left."]


def test_time_for_testing_is_kept_free(trained: Callable[..., Trained]) -> None:
    run = trained(testing=10)
    run.epoch(0)
    assert run.horizon.epochs == 1 + math.floor(0.97 * 49)


def test_a_first_step_that_compiles_and_an_epoch_that_another_process_began_tell_nothing_of_the_pace(
    trained: Callable[..., Trained],
) -> None:
    run = trained()
    run.training.a_step = 100
    run.in_time.after_step(3, 29, {}, torch.zeros(()))
    run.training.a_step = 1
    run.epoch(3, done=6)
    assert "an epoch takes 10 s, and 8.3 min are left" in run.told[0]


def test_of_a_long_epoch_its_first_steps_tell_how_many_fit(trained: Callable[..., Trained]) -> None:
    run = trained(steps=200)  # of 202 s, of which the first look sees 200
    for step in range(FIRST_LOOK + 1):
        run.in_time.after_step(0, step, {}, torch.zeros(()))
        assert len(run.told) == (step == FIRST_LOOK)
    assert run.horizon.epochs == math.floor(21 / 200 + 0.97 * 579 / 200) == 2
    assert run.horizon.earlier == [EarlierPlan(FIRST_LOOK + 1, 30)]


def test_the_plan_follows_the_pace_of_the_last_epochs(trained: Callable[..., Trained]) -> None:
    run = trained()
    run.epoch(0)
    run.epoch(1)
    assert len(run.told) == 1
    run.training.a_step = 10
    for number in range(2, 6):
        run.epoch(number)
    assert run.horizon.epochs < 12
    assert [plan.epochs for plan in run.horizon.earlier[:2]] == [30, 58]
    assert len(run.told) < len(run.replanned)


@pytest.mark.parametrize("jitter", [0.0, 0.15])
def test_the_time_is_used_but_for_a_hundredth_or_an_epoch(trained: Callable[..., Trained], jitter: float) -> None:
    """Whether steps are as long, shorter or longer in the second half of the time."""
    for late in (0.6, 1.0, 1.4):
        run, chance = trained(minutes=20), random.Random(0)
        run.training.besides, number, begun = 0.1, 0, run.training.now
        while number < run.horizon.epochs:
            later = late if run.training.now - begun > 600 else 1.0
            run.training.a_step = 0.1 * later * (1 + jitter * chance.random())
            run.epoch(number)
            number += 1
        assert 0 <= 1200 - (run.training.now - begun) < 0.015 * 1200
        assert len(run.told) < 4


def test_a_plan_that_fits_as_it_is_is_told_once(trained: Callable[..., Trained]) -> None:
    run = trained(minutes=5.1)
    run.epoch(0)
    run.epoch(1)
    assert run.told == ["30 epochs: an epoch takes 10 s, and 4.9 min are left."]
    assert run.replanned == []


def test_when_time_is_over_training_ends_and_says_so(trained: Callable[..., Trained]) -> None:
    run = trained(minutes=0.1)
    run.epoch(0)
    assert run.horizon.epochs == 1
    assert run.told == ["Training ends with epoch 1: an epoch takes 10 s, and 0.0 min are left."]


@pytest.mark.parametrize(("minutes", "epochs"), [(1, 30), (0.01, 1)])
def test_one_step_tells_nothing_but_whether_time_is_over(
    minutes: float, epochs: int, trained: Callable[..., Trained]
) -> None:
    run = trained(minutes, steps=1)
    run.epoch(0)
    assert run.horizon.epochs == epochs


def test_what_burn_in_saves_is_not_expected_of_the_epochs_after_it(trained: Callable[..., Trained]) -> None:
    run = trained(minutes=15, burn_in=0.5, dearer=3.5)  # epochs of 10 s, and of 30 s after burn-in
    run.epoch(0)
    planned = run.horizon.epochs
    assert planned == 1 + math.floor(0.97 * (900 / 20 - 1))
    for number in range(1, run.horizon.burn_in_epochs):
        run.epoch(number)
    run.training.a_step = 3.5
    number = run.horizon.burn_in_epochs
    while number < run.horizon.epochs:
        run.epoch(number)
        number += 1
    assert planned <= number <= planned + 1  # the spare time becomes an epoch when the end is near
    assert 0.9 * 900 < run.training.now - 1000.0 <= 900
