"""Which parts of a method earn their cost? A table and a figure of rows that differ from one row, from committed runs.

The first row is the whole; the others have a part less, or another setting. Differences to it are paired by seed.

Many rows with few seeds each are a screen. A row's own seeds say too little of how much its difference scatters (for
two of them Student's t is 12.7), so all rows say it together, as in an experiment of randomised blocks: accuracy is
taken for the sum of what the row does, what the seed does, and noise that is alike in all rows. Of so many intervals of
95 % one in twenty misses by chance.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from codistill.evaluation.compare.comparability import differing
from codistill.evaluation.compare.rows import Row, compare, mean_and_deviation
from codistill.evaluation.compare.statistics import LEVEL, Interval
from codistill.evaluation.compare.tables import Table, brackets, markdown
from codistill.evaluation.report.drawing import Figure, draw
from codistill.evaluation.report.palette import LIGHT, MUTED
from codistill.storage.run_files import read_summary

Accuracies = Mapping[int, float]  # the students' mean in percent, by seed
IMAGES = ("test", "validation")


class Part(NamedTuple):
    """A row: what is otherwise in it than in the first, and the students' mean after the last epoch."""

    name: str
    otherwise: str
    accuracy: Mapping[str, Accuracies]  # on test and on validation images
    minutes: float  # of the processor, mean over seeds


class Difference(NamedTuple):
    """To the first row, over the seeds that both have, in points."""

    mean: float
    interval: Interval | None


def read_parts(runs: Sequence[Path]) -> list[Part]:
    """The rows of these runs, in their order. Raises ValueError for rows that do not compete."""
    rows, blocks, terms = compare(runs)
    if len(blocks) != 1:
        raise ValueError(f"The rows differ in {', '.join(terms)}.")
    return [_part(row, rows[0]) for row in rows]


def noise(rows: Sequence[Accuracies]) -> tuple[float, int]:
    """Standard deviation of what neither row nor seed explains, in points, and its degrees of freedom.

    Least squares of accuracy = row + seed + noise, whichever rows have which seeds. (nan, 0) where nothing is left.
    """
    seeds = sorted(set(chain.from_iterable(rows)))
    found = [(row, seed, value) for row, of in enumerate(rows) for seed, value in of.items()]
    design = np.zeros((len(found), len(rows) + len(seeds)))
    for line, (row, seed, _) in enumerate(found):
        design[line, [row, len(rows) + seeds.index(seed)]] = 1.0
    values = np.array([value for *_, value in found])
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(found) - int(rank)
    if freedom == 0:
        return math.nan, 0
    return math.sqrt(float(((values - design @ solution) ** 2).sum()) / freedom), freedom


def difference(part: Accuracies, whole: Accuracies, deviation: float, freedom: int) -> Difference:
    """Of two rows, paired by seed; a single row has the noise ``deviation``, known with ``freedom``."""
    seeds = sorted(set(part) & set(whole))
    if not seeds:
        raise ValueError("Two rows without a seed in common.")
    mean = fmean(part[seed] - whole[seed] for seed in seeds)
    if freedom == 0:
        return Difference(mean, None)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * deviation * math.sqrt(2 / len(seeds))
    return Difference(mean, Interval(mean - half, mean + half))


def differences(parts: Sequence[Part], images: str) -> list[Difference]:
    """Of each row but the first."""
    whole, *others = (part.accuracy[images] for part in parts)
    around = noise([whole, *others])
    return [difference(other, whole, *around) for other in others]


def table(parts: Sequence[Part]) -> str:
    """In Markdown."""
    against = [f"minus {parts[0].name}: {images}" for images in IMAGES]
    header = ["row", "otherwise", "students' mean", *against, "seeds", "processor minutes"]
    told = [differences(parts, images) for images in IMAGES]
    cells = []
    for place, part in enumerate(parts):
        test = list(part.accuracy["test"].values())
        own = [_words(found[place - 1]) if place else "" for found in told]
        cells.append([part.name, part.otherwise, mean_and_deviation(test), *own, str(len(test)), f"{part.minutes:.1f}"])
    return markdown([Table("", header, cells)])


def figures(parts: Sequence[Part]) -> list[Figure]:
    """Each row's difference to the first, on test and on validation images."""
    return [_figure(parts)]


def _part(row: Row, whole: Row) -> Part:
    accuracy = {
        images: {
            seed: fmean(read_summary(run)[f"{images}_accuracy"]["students"].values())
            for seed, run in zip(row.seeds, row.runs, strict=True)
        }
        for images in IMAGES
    }
    return Part(row.name, _otherwise(row.flat, whole.flat), accuracy, fmean(row.cost.processor_seconds) / 60)


def _otherwise(flat: dict[str, Any], whole: dict[str, Any]) -> str:
    """The keys that have another value, but settings of a method or task that the other row does not have."""
    told = {key: flat[key] for key in differing([flat, whole]) if key in flat}
    return ", ".join(f"{key.removesuffix('.name')}={value}" for key, value in told.items())


def _words(found: Difference) -> str:
    return f"{found.mean:+.2f} {brackets(found.interval)}".strip()


def _figure(parts: Sequence[Part]) -> Figure:
    names = [part.name for part in parts[1:]]

    def plot(axes: Axes) -> None:
        axes.axvline(0.0, color=LIGHT[MUTED], linewidth=0.8)
        for images, shift, colour in ((IMAGES[0], -0.15, LIGHT["s1"]), (IMAGES[1], 0.15, LIGHT["s2"])):
            for place, found in enumerate(differences(parts, images)):
                label = f"{images} images" if place == 0 else None
                axes.plot(found.mean, place + shift, "o", color=colour, markersize=4, label=label)
                if found.interval is not None:
                    axes.plot(found.interval, [place + shift] * 2, color=colour, linewidth=1.2)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xlabel(f"points minus {parts[0].name}", fontsize=9)
        axes.legend(frameon=False, fontsize=8, loc="best")

    both = zip(names, *(differences(parts, images) for images in IMAGES), strict=True)
    alt = "; ".join(f"{name}: test {_words(test)}, validation {_words(other)}" for name, test, other in both)
    height = 1.0 + 0.24 * len(names)
    return draw("parts", "What each part brings", plot, alt=alt, height=height)
