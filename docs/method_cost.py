"""Is a method worth its price? A table and two figures of accuracy over what training took, from committed runs.

The control is plain training for as long: students alone without tasks, trained for more and more epochs. Between two
such rows their accuracy is drawn as a line over the logarithm of the cost, for each seed, and read off where a method
stands; what costs less than the shortest, or more than the longest of them, is held against that one. A method that
ends below the line is better replaced by patience.

FLOPs are counted as if every forward pass had a backward pass: too many for ``pcl``, whose averages have none.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, mode
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from codistill.config.schema import RunConfig
from codistill.evaluation.compare.rows import ALONE, Row, compare, mean_and_deviation
from codistill.evaluation.compare.statistics import Interval, t_interval
from codistill.evaluation.compare.tables import Table, brackets, markdown
from codistill.evaluation.report.drawing import Figure, draw, spread
from codistill.evaluation.report.palette import LIGHT, MUTED
from codistill.experiments.flops import dry_step
from codistill.storage.run_files import read_config, read_summary
from codistill.tasks import TASKS
from codistill.training.build_cohort import build_cohort
from codistill.training.runtime import Runtime

COLUMNS = [
    "method (tasks)",
    "students' mean",
    "seeds",
    "processor minutes",
    "training TFLOPs",
    "minus plain training for as long",
    "beats it",
]
GAP = 0.045  # between names in a figure, of its height
PASSES_OF_A_STEP = 3  # forward, and a backward pass that costs twice as much


class Priced(NamedTuple):
    """A row with what it took. ``accuracy``: the students' mean on test images, in percent, by seed."""

    name: str
    plain: bool  # students alone, without tasks
    accuracy: dict[int, float]
    minutes: float  # of the processor, mean over seeds
    teraflops: float  # of all of training

    @property
    def mean(self) -> float:
        return fmean(self.accuracy.values())


class Verdict(NamedTuple):
    """Points over plain training for as many minutes, paired by seed; the interval is over seeds."""

    points: float
    interval: Interval | None

    @property
    def words(self) -> str:
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return "not decided"
        return "yes" if self.points > 0 else "no"


def read_prices(runs: Sequence[Path]) -> list[Priced]:
    """The rows of these runs, cheapest first. Raises ValueError if more than epochs differ, or no row is plain."""
    found = compare(runs)
    if differing := sorted(set(found.differing_terms) - {"epochs"}):
        raise ValueError(f"The rows differ in {', '.join(differing)}.")
    usual = mode(row.epochs for row in found.rows)
    prices = [_priced(row, usual) for row in found.rows]
    if not any(price.plain for price in prices):
        raise ValueError(f"No row of '{ALONE}' without tasks.")
    if len({price.name for price in prices}) < len(prices):
        raise ValueError(f"Rows that look alike: {', '.join(sorted(price.name for price in prices))}.")
    return sorted(prices, key=lambda price: price.minutes)


def verdict(price: Priced, prices: Sequence[Priced]) -> Verdict:
    """A row against plain training for as many minutes, over the seeds that all rows involved have."""
    plain = sorted((other for other in prices if other.plain), key=lambda other: other.minutes)
    seeds = sorted(set(price.accuracy).intersection(*(other.accuracy for other in plain)))
    if not seeds:
        raise ValueError(f"'{price.name}' has no seed in common with {', '.join(other.name for other in plain)}.")
    at = math.log(price.minutes)
    costs = [math.log(other.minutes) for other in plain]
    differences = [
        price.accuracy[seed] - float(np.interp(at, costs, [other.accuracy[seed] for other in plain])) for seed in seeds
    ]
    return Verdict(fmean(differences), t_interval(differences))


def table(prices: Sequence[Priced]) -> str:
    """In Markdown, cheapest first; plain rows have nothing to beat."""
    lines = []
    for price in prices:
        accuracy = mean_and_deviation(list(price.accuracy.values()))
        cells = [price.name, accuracy, str(len(price.accuracy)), f"{price.minutes:.1f}", f"{price.teraflops:.1f}"]
        found = None if price.plain else verdict(price, prices)
        told = [f"{found.points:+.2f} {brackets(found.interval)}".strip(), found.words] if found else ["", ""]
        lines.append([*cells, *told])
    return markdown([Table("", COLUMNS, lines)])


def figures(prices: Sequence[Priced]) -> list[Figure]:
    """Accuracy over minutes of the processor, and over FLOPs."""
    return [
        _figure("cost_minutes", "processor minutes", prices, lambda price: price.minutes),
        _figure("cost_flops", "training TFLOPs", prices, lambda price: price.teraflops),
    ]


def _priced(row: Row, usual_epochs: int | None) -> Priced:
    plain = row.method == ALONE and row.tasks == "none"
    config, summary = read_config(row.runs[0]), read_summary(row.runs[0])
    return Priced(
        _label(row, usual_epochs, plain=plain),
        plain,
        dict(zip(row.seeds, row.last.students_mean, strict=True)),
        fmean(row.cost.processor_seconds) / 60,
        PASSES_OF_A_STEP * _flops_of_an_image(config) * summary["images"]["train"] * config["epochs"] / 1e12,
    )


def _label(row: Row, usual_epochs: int | None, *, plain: bool) -> str:
    if plain:
        return f"students alone, {row.epochs} epochs"
    given = {task: row.flat.get(f"task.{task}.fraction", own.fraction) for task, own in TASKS.items()}
    unusual = [f"fraction {share}" for task, share in given.items() if share != TASKS[task].fraction]
    tasks = "; ".join([row.tasks, *unusual])
    name = row.method if row.tasks == "none" else f"{row.method} ({tasks})"
    return name if row.epochs == usual_epochs else f"{name}, {row.epochs} epochs"


def _flops_of_an_image(given: dict[str, Any]) -> int:
    """Of a step's forward passes; the images need not be there."""
    config = RunConfig.model_validate(given)
    size, classes = config.data.image_size, config.data.classes
    if size is None or classes is None:
        raise ValueError("data.image_size and data.classes must be named, for the images are not read.")
    shape = (3, size, size)
    cohort, _ = build_cohort(config, shape, classes, pretrained=False)
    return dry_step(cohort, shape, classes, Runtime(torch.device("cpu"))).flops


def _name_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Names of points (x, y, name) in a column to the right of them, apart from each other, a thin line to each."""
    to_fractions = axes.transData + axes.transAxes.inverted()
    points = sorted(points, key=lambda point: point[1])
    places = [to_fractions.transform((x, y)) for x, y, _ in points]
    column = max(x for x, _ in places) + 0.05
    upwards = spread([y for _, y in places], GAP)
    downwards = [1.0 - y for y in reversed(spread([1.0 - y for _, y in places], GAP))]
    for (x, y, name), heights in zip(points, zip(upwards, downwards, strict=True), strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(column, fmean(heights)),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=LIGHT[MUTED],
            arrowprops={
                "arrowstyle": "-",
                "color": LIGHT[MUTED],
                "linewidth": 0.5,
                "relpos": (0.0, 0.5),
                "shrinkB": 3,
            },
        )


def _figure(name: str, label: str, prices: Sequence[Priced], cost: Callable[[Priced], float]) -> Figure:
    plain = [price for price in prices if price.plain]
    others = [price for price in prices if not price.plain]

    def plot(axes: Axes) -> None:
        axes.plot([cost(price) for price in plain], [price.mean for price in plain], "o-", color=LIGHT[MUTED])
        axes.plot([cost(price) for price in others], [price.mean for price in others], "o", color=LIGHT["s1"])
        axes.set_xscale("log")
        axes.margins(y=0.1)
        middle = math.sqrt(min(map(cost, prices)) * max(map(cost, prices)))
        for right in (False, True):
            if half := [(cost(one), one.mean, one.name) for one in prices if (cost(one) > middle) == right]:
                _name_points(axes, half)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(label)
        axes.set_ylabel("students' mean, %")

    alt = "; ".join(f"{price.name}: {cost(price):.1f}, {price.mean:.2f} %" for price in prices)
    title = f"Accuracy over {label}; grey: students alone, without tasks"
    return draw(name, title, plot, alt=alt, height=4.0, width=8.0)
