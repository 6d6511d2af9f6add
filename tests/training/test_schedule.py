"""Learning-rate schedules."""

import math

import pytest

from codistill.training.schedule import learning_rate


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    rate = learning_rate("step", peak=0.1, progress=lambda step: step / 1000, warmup=4)
    assert [rate(step) for step in range(5)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


def test_step_divides_by_ten_at_half_and_at_three_quarters() -> None:
    rate = learning_rate("step", peak=1.0, progress=lambda step: step / 100, warmup=0)
    assert [rate(step) for step in (49, 50, 74, 75, 99)] == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_goes_from_the_peak_to_almost_nothing() -> None:
    rate = learning_rate("cosine", peak=2.0, progress=lambda step: step / 100, warmup=0)
    assert rate(0) == 2.0
    assert rate(50) == pytest.approx(1.0)
    assert rate(25) == pytest.approx(1 + math.cos(math.pi / 4))
    assert 0 < rate(99) < 0.001
