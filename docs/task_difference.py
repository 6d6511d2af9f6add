"""Do different tasks pay? A table and a figure for each measure of how different students are, from committed runs.

A point is a pair of tasks. Its gain is what teaching adds: the students' mean test accuracy with ``collaborative``,
minus that of the same students alone with the same tasks. Who listens to nobody does not depend on the peer's task, so
the row of a task alone, in both students, serves each pair that it is part of. Means over the seeds that all have.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from scipy.stats import permutation_test, spearmanr

from codistill.evaluation.compare.rows import ALONE, Row, compare
from codistill.evaluation.compare.tables import Table, markdown
from codistill.evaluation.report.drawing import Figure, draw
from codistill.evaluation.report.palette import LIGHT, MUTED
from codistill.storage import run_files

METHOD = "collaborative"


class Pair(NamedTuple):
    """Two tasks: what comes of them with and without teaching, in percent, and how different the students are."""

    tasks: tuple[str, str]
    together: float
    alone: float
    cka: float
    effective_rank: float
    disagreement: float

    @property
    def gain(self) -> float:
        return self.together - self.alone

    @property
    def different(self) -> bool:
        return self.tasks[0] != self.tasks[1]


class Measure(NamedTuple):
    """A way to see how different, or how rich, the students' features are."""

    key: str
    label: str
    of: Callable[[Pair], float]


MEASURES = (
    Measure("cka", "linear CKA between the students", lambda pair: pair.cka),
    Measure("effective_rank", "effective rank of the embeddings", lambda pair: pair.effective_rank),
    Measure("disagreement", "images answered differently, %", lambda pair: pair.disagreement),
)


def read_pairs(runs: Sequence[Path]) -> list[Pair]:
    """The pairs of tasks among the rows of these runs, best gain first; the other rows are controls.

    Raises ValueError for rows that do not compete, a pair that is there twice, and one without a control.
    """
    rows, blocks, terms = compare(runs)
    if len(blocks) != 1:
        raise ValueError(f"The rows differ in {', '.join(terms)}.")
    taught = _by_tasks(row for row in rows if row.method == METHOD)
    alone = _by_tasks(row for row in rows if row.method == ALONE)
    pairs = [_pair(row, tasks, [_control(alone, task) for task in tasks]) for tasks, row in taught.items()]
    return sorted(pairs, key=lambda pair: -pair.gain)


def table(pairs: Sequence[Pair]) -> str:
    """In Markdown, with the rank correlation of each measure with the gain."""
    header = ["tasks", "together", "alone with these tasks", "teaching adds", "CKA", "effective rank", "disagreement %"]
    lines = []
    for pair in pairs:
        accuracies = [f"{pair.together:.2f}", f"{pair.alone:.2f}", f"{pair.gain:+.2f}"]
        measured = [f"{pair.cka:.3f}", f"{pair.effective_rank:.1f}", f"{pair.disagreement:.1f}"]
        lines.append([", ".join(pair.tasks), *accuracies, *measured])
    correlations = [_correlation(pairs, measure) for measure in MEASURES]
    return markdown(
        [Table("", header, [*lines, ["rank correlation with what teaching adds", "", "", "", *correlations]])]
    )


def figures(pairs: Sequence[Pair]) -> list[Figure]:
    """The gain over each measure."""
    return [_figure(pairs, measure) for measure in MEASURES]


def _by_tasks(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        first, second, *_ = 2 * row.tasks.split(", ")  # "none" stands for both
        if (first, second) in found:
            raise ValueError(f"'{row.name}' and '{found[first, second].name}' are the same pair: name one of them.")
        found[first, second] = row
    return found


def _control(alone: Mapping[tuple[str, str], Row], task: str) -> Row:
    if (task, task) not in alone:
        raise ValueError(f"No row of '{ALONE}' in which both students have the task {task}.")
    return alone[task, task]


def _pair(row: Row, tasks: tuple[str, str], controls: Sequence[Row]) -> Pair:
    seeds = set(row.seeds).intersection(*(control.seeds for control in controls))
    if not seeds:
        raise ValueError(f"'{row.name}' has no seed in common with {', '.join(control.name for control in controls)}.")
    together = fmean(fmean(_of_seeds(row, place, seeds)) for place in range(2))
    by_itself = fmean(fmean(_of_seeds(control, place, seeds)) for place, control in enumerate(controls))
    analyses = [run_files.read_analysis(run) for run, seed in zip(row.runs, row.seeds, strict=True) if seed in seeds]
    pairs = list(chain.from_iterable(analysis["pairs"].values() for analysis in analyses))
    students = chain.from_iterable(analysis["students"].values() for analysis in analyses)
    return Pair(
        tasks,
        together,
        by_itself,
        fmean(pair["cka"] for pair in pairs),
        fmean(student["effective_rank"] for student in students),
        fmean(pair["disagreement"] for pair in pairs),
    )


def _of_seeds(row: Row, place: int, seeds: set[int]) -> list[float]:
    accuracies = list(row.students.values())[place]
    return [accuracy for accuracy, seed in zip(accuracies, row.seeds, strict=True) if seed in seeds]


def _correlation(pairs: Sequence[Pair], measure: Measure) -> str:
    """Spearman's, with the p of a permutation test; nothing of fewer than four pairs."""
    if len(pairs) < 4:
        return ""
    ours, gains = [measure.of(pair) for pair in pairs], [pair.gain for pair in pairs]

    def rho(values: Any) -> float:
        return float(spearmanr(values, gains).statistic)

    # Of all orders of so few pairs, or of ten thousand: the p that spearmanr gives is for many.
    shuffling = {"permutation_type": "pairings", "n_resamples": 9999, "rng": 0}
    found: Any = permutation_test((ours,), rho, vectorized=False, **shuffling)
    return f"{found.statistic:+.2f} (p = {found.pvalue:.2f})"


def _figure(pairs: Sequence[Pair], measure: Measure) -> Figure:
    def plot(axes: Axes) -> None:
        axes.axhline(0.0, color=LIGHT[MUTED], linewidth=0.8)
        for different, marker, colour in ((True, "o", LIGHT["s1"]), (False, "s", LIGHT["s2"])):
            those = [pair for pair in pairs if pair.different == different]
            name = "different tasks" if different else "the same, or none"
            x, y = [measure.of(pair) for pair in those], [pair.gain for pair in those]
            axes.plot(x, y, marker, color=colour, label=name)
        for pair in pairs:
            axes.annotate(
                "+".join(task if task == "none" else task[:3] for task in pair.tasks),
                (measure.of(pair), pair.gain),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=8,
                color=LIGHT[MUTED],
            )
        axes.set_xlabel(measure.label)
        axes.set_ylabel("teaching adds, points")
        axes.legend(frameon=False, fontsize=9)

    alt = "; ".join(f"{', '.join(pair.tasks)}: {measure.of(pair):.2f}, {pair.gain:+.2f}" for pair in pairs)
    return draw(f"tasks_{measure.key}", f"What teaching adds, over {measure.label}", plot, alt=alt)
