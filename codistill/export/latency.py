"""How long a network takes to answer on this machine, once its images are decoded and resized. No torch."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from codistill.export.answer import Answer

LEAST_CALLS = 20
WARM_UP = 0.1  # of the seconds: the first calls allocate, and some choose how to compute


class Latency(NamedTuple):
    """Milliseconds of a call with a whole batch: the median, and what nine calls of ten lie between."""

    batch: int
    median_ms: float
    low_ms: float
    high_ms: float
    calls: int


def latency(
    answer: Answer,
    image_size: tuple[int, int],
    batch: int = 1,
    seconds: float = 2.0,
    now: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Call ``answer`` with batches of random pixels, one after another, for so many seconds and 20 times at least.

    image_size: (height, width).
    """
    pixels = np.random.default_rng(0).random((batch, 3, *image_size), dtype=np.float32)
    _call(answer, pixels, WARM_UP * seconds, 1, now)
    taken = _call(answer, pixels, seconds, LEAST_CALLS, now)
    low, median, high = (1000 * float(share) for share in np.percentile(taken, (5, 50, 95)))
    return Latency(batch, median, low, high, len(taken))


def _call(answer: Answer, pixels: np.ndarray, seconds: float, least: int, now: Callable[[], float]) -> list[float]:
    """The seconds of each call."""
    taken: list[float] = []
    begun = before = now()
    while before - begun < seconds or len(taken) < least:
        answer(pixels)
        after = now()
        taken.append(after - before)
        before = after
    return taken
