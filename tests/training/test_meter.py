"""Running means, and the name of what went wrong first."""

import pytest
import torch

from codistill.training.meter import DivergedError, Meter


def losses(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_means_are_over_the_steps_since_the_last_reading() -> None:
    meter = Meter()
    meter.update(losses(a=1.0, b=10.0))
    meter.update(losses(b=20.0, a=3.0))
    assert meter.read() == {"a": 2.0, "b": 15.0}
    meter.update(losses(a=7.0, b=0.0))
    assert meter.read() == {"a": 7.0, "b": 0.0}
    assert meter.read() == {}


def test_the_loss_that_was_not_finite_first_is_named_even_if_all_are_nan_later() -> None:
    meter = Meter()
    meter.update(losses(a=1.0, b=1.0))
    meter.update(losses(a=1.0, b=float("inf")))
    meter.update(losses(a=float("nan"), b=float("nan")))
    with pytest.raises(DivergedError, match=r"^Loss b is NaN or infinite") as caught:
        meter.read()
    assert caught.value.steps_ago == 2
