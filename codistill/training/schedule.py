"""Learning-rate schedules as pure functions of the step: nothing to save, nothing to resume."""

import math
from collections.abc import Callable
from functools import partial

from codistill.errors import unknown


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine; ``progress`` in [0, 1]."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def step(progress: float) -> float:
    """1, then 0.1 from half of training on, then 0.01 from three quarters on."""
    return 0.1 ** sum(progress >= milestone for milestone in (0.5, 0.75))


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "step": step}


def learning_rate(name: str, peak: float, progress: Callable[[int], float], warmup: int) -> Callable[[int], float]:
    """step number -> learning rate. The schedule, times a factor that grows to 1 over ``warmup`` steps.

    progress: step number -> share of training done. Warm-up is part of it, so that milestones do not move with warm-up;
    along a cosine the rate therefore does not reach ``peak``.

    >>> rate = learning_rate("step", peak=0.1, progress=lambda step: step / 100, warmup=10)
    >>> [round(rate(step), 4) for step in (0, 9, 49, 50, 75)]
    [0.01, 0.1, 0.1, 0.01, 0.001]
    """
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    return partial(_rate, SCHEDULES[name], peak, progress, warmup)


def _rate(
    shape: Callable[[float], float], peak: float, progress: Callable[[int], float], warmup: int, number: int
) -> float:
    return peak * min(1.0, (number + 1) / max(1, warmup)) * shape(progress(number))
