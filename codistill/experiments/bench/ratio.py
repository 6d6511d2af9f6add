"""How a ratio of two loops is to be read: by which clock first, and whether the one on the wall means anything.

Threads of a step wait for each other, so other work on the machine slows one loop more than the other.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from codistill.experiments.bench.other_work import disturbs, in_words

TIE = 0.1  # ratios nearer than this are alike
ROUNDS_DIFFER = 1.5  # the largest ratio of a round by the smallest; 1.3 is usual on a quiet machine

Ratio = Mapping[str, float]  # median, min and max over rounds


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """Over rounds."""
    return {"median": round(median(ratios), 3), "min": round(min(ratios), 3), "max": round(max(ratios), 3)}


def first_ratio(clock: Ratio, processor: Ratio, on_cpu: bool) -> str:
    """Which is to be read first: that of processor time where they differ. On a GPU that is not what a step costs."""
    apart = abs(clock["median"] / processor["median"] - 1) > TIE
    return "cpu_ratio" if on_cpu and apart else "ratio"


def doubts(clock: Ratio, others: Sequence[float | None]) -> list[str]:
    """Why the clock's ratio is not meaningful, in words. others: cores of other work beside each loop."""
    found = []
    known = [cores for cores in others if cores is not None]
    if known and disturbs(max(known)):
        found.append(in_words(max(known)))
    if clock["max"] > ROUNDS_DIFFER * clock["min"]:
        found.append(f"rounds differ, from {clock['min']:.2f}x to {clock['max']:.2f}x")
    return found


def ratio_in_words(result: Mapping[str, Any]) -> str:
    """What ``bench`` found of two loops, in one line."""
    clock = result["ratio"]
    by = {
        "ratio": f"by the clock (rounds from {clock['min']:.2f}x to {clock['max']:.2f}x)",
        "cpu_ratio": "in processor time",
    }
    first, second = ("cpu_ratio", "ratio") if result["first_ratio"] == "cpu_ratio" else ("ratio", "cpu_ratio")
    return (
        f"{result[first]['median']:.2f}x the plain loop {by[first]}; {result[second]['median']:.2f}x {by[second]}. "
        f"Losses of the first 5 steps differ by {result['loss_difference']:.1e} at most."
    )
