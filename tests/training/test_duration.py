"""How far training has come, also where its length was decided anew on the way."""

import pytest

from codistill.training.duration import EarlierPlan, Horizon, earlier_plans


def test_progress_is_the_share_of_what_was_planned_at_the_time() -> None:
    horizon = Horizon(epochs=5, steps_per_epoch=2, earlier=[EarlierPlan(3, 50), EarlierPlan(6, 20)])
    assert [horizon.progress(step) for step in (0, 2, 3, 5, 6, 9)] == [0, 2 / 100, 3 / 40, 5 / 40, 6 / 10, 9 / 10]
    assert horizon.steps == 10


def test_what_is_logged_after_a_step_is_of_the_plan_that_the_step_was_of() -> None:
    horizon = Horizon(epochs=5, steps_per_epoch=2, earlier=[EarlierPlan(4, 50)])
    assert [horizon.progress_after(steps) for steps in (2, 4, 6, 10)] == [2 / 100, 4 / 100, 6 / 10, 1]


@pytest.mark.parametrize(
    ("epochs", "earlier", "now", "steps_done", "expected"),
    [
        (20, [], 20, 7, []),
        (3, [(4, 20)], 3, 2, [(4, 20)]),  # done over, and interrupted before
        (20, [], 5, 7, [(7, 20)]),
        (20, [], 50, 7, [(7, 20)]),
        (5, [(7, 20)], 5, 9, [(7, 20)]),
        (5, [(7, 20)], 8, 9, [(7, 20), (9, 5)]),
        (5, [(7, 20)], 8, 7, [(7, 20)]),  # decided twice, with no step between
        (5, [(7, 20)], 20, 7, []),  # taken back
        (8, [(7, 20), (9, 5)], 6, 8, [(7, 20), (8, 5)]),  # an older checkpoint: its last decision is yet to come
    ],
)
def test_a_plan_that_is_changed_keeps_what_was_planned_for_the_steps_that_are_done(
    epochs: int, earlier: list[tuple[int, int]], now: int, steps_done: int, expected: list[tuple[int, int]]
) -> None:
    plans = [EarlierPlan(*plan) for plan in earlier]
    assert earlier_plans(epochs, plans, now, steps_done) == expected
