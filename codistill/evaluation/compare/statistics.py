"""How sure a difference between two methods is: intervals over seeds and over images, and McNemar's exact test.

Pure functions of numbers. All differences are paired: a seed gives both methods the same initial weights and the same
order of images, and both answer the same test images, so what is random in these is not counted twice.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95  # of all intervals
RESAMPLES = 10_000
_NONE = 1e-9  # narrower is no interval: all values are equal but for rounding, which does not make them certain


class Interval(NamedTuple):
    """Limits, in the unit of what was given."""

    low: float
    high: float

    @property
    def spans_zero(self) -> bool:
        return self.low <= 0 <= self.high


def t_interval(differences: Sequence[float]) -> Interval | None:
    """Student's interval for the mean of n paired differences: mean ± t(n - 1) s / sqrt(n). None for n < 2, and for
    differences that are all equal: they tell nothing of how much others would differ.

    It takes the differences for normal. Three seeds make it wide: t is 4.3 there, and 2.0 only from 60 on.
    """
    if len(differences) < 2:
        return None
    values = np.asarray(differences, dtype=np.float64)
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return _interval(values.mean() - half, values.mean() + half)


def bootstrap(values: Sequence[float] | NDArray[np.floating], resamples: int = RESAMPLES) -> Interval | None:
    """Percentile interval for the mean of n values, each drawn again with replacement. None for n < 2,
    and for values that are all equal.

    Draws how often each distinct value comes, which is the same and takes no more time for more images. Repeatable: the
    random numbers are always the same. Source: Efron, "Bootstrap methods: another look at the jackknife", 1979.
    """
    if len(values) < 2:
        return None
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(values), counts / len(values), size=resamples)
    low, high = np.quantile(drawn @ distinct / len(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return _interval(low, high)


def _interval(low: float, high: float) -> Interval | None:
    return Interval(float(low), float(high)) if high - low > _NONE else None


def mcnemar(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """p of McNemar's exact test of whether two answerers of the same n images are right equally often.

    one, other: (n,) whether each was right. Only images that one alone has right count: were both equally good, each
    of the two would have half of them. Two-sided. Source: McNemar, Psychometrika 12, 1947.
    """
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    if only_one + only_other == 0:
        return 1.0
    return float(stats.binomtest(only_one, only_one + only_other, 0.5).pvalue)
