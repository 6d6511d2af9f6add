"""How long a network takes to answer on this machine, once its images are decoded and resized. No torch."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from codistill.export.types import Answer

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


class Beside(NamedTuple):
    """Milliseconds for one image of a network and of another that stands for the same, as medians over rounds."""

    median_ms: float
    other_median_ms: float
    least_ratio: float  # of both, in a round
    largest_ratio: float


def in_turn(
    answer: Answer,
    other: Answer,
    image_size: tuple[int, int],
    *,
    rounds: int = 5,
    seconds: float = 0.1,
    now: Callable[[], float] = time.perf_counter,
) -> Beside:
    """Time both in turn, so that what else the machine does falls on both. seconds: of each, in each round."""
    pairs = [
        tuple(latency(network, image_size, 1, seconds, now).median_ms for network in (answer, other))
        for _ in range(rounds)
    ]
    ratios = [one / another for one, another in pairs]
    median, other_median = (float(number) for number in np.median(pairs, axis=0))
    return Beside(median, other_median, min(ratios), max(ratios))


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
