"""How much better a row is than the row that it is compared with, seed by seed and image by image."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from codistill.errors import UserError
from codistill.evaluation.compare.comparability import belongs
from codistill.evaluation.compare.controls import EQUAL, PLAIN, Reference, references
from codistill.evaluation.compare.predictions import Right, read_right
from codistill.evaluation.compare.rows import Accuracies, Block, Row
from codistill.evaluation.compare.statistics import Interval, bootstrap, mcnemar, t_interval
from codistill.storage import run_files


class Measure(NamedTuple):
    """What is compared: one student (by its place), the students' mean, the teacher or the ensemble."""

    kind: str
    place: int = 0  # of a student
    selected: bool = False  # of the epoch that is best on validation images, not of the last

    def label(self, students: Sequence[str]) -> str:
        name = run_files.told_apart(students[self.place]) if self.kind == "student" else self.kind
        return f"{name}, selected" if self.selected else name

    def values(self, row: Row) -> list[float] | None:
        """Percent, one per seed; None where a row has none."""
        accuracies = row.selected if self.selected else row.last
        return None if accuracies is None else _of(self, accuracies)

    def right(self, right: Right) -> NDArray[Any] | None:
        """Whether each image is answered rightly; for the students' mean, the share of them that does."""
        if self.selected:  # whose answers are not kept
            return None
        students = list(right.students.values())
        if self.kind == "student":
            return students[self.place]
        return {"students' mean": np.mean(students, axis=0), "teacher": right.teacher, "ensemble": right.ensemble}[
            self.kind
        ]


class Difference(NamedTuple):
    """Percent points by which a row is better; intervals hold it in 95 of 100 cases, each in its own sense."""

    row: str
    against: str
    label: str  # what that is: ``plain, at equal compute``; empty where it was asked for by name
    kinds: tuple[str, ...]  # of control
    differs: tuple[str, ...]  # terms in which the two do not compete
    measure: Measure
    seeds: list[int]  # that both have
    by_seed: list[float]
    mean: float
    t: Interval | None  # over seeds
    over_seeds: Interval | None  # bootstrap
    images: int  # 0 where answers were not kept
    over_images: Interval | None  # bootstrap, of these seeds
    mcnemar: list[float]  # p, one per seed; empty where an image is not simply right or wrong

    @property
    def interval(self) -> Interval | None:
        """The one to tell where there is room for one: over seeds, or over images if there is but one seed."""
        return self.t or self.over_images

    @property
    def basis(self) -> str:
        """What this interval is over; why there is none."""
        seeds = "one seed" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"
        if self.t is not None:
            return seeds
        alike = " with the same difference" if len(self.seeds) > 1 else ""
        return f"{seeds}{alike}" + (f"; over {self.images:,} test images only" if self.over_images else ", no interval")

    @property
    def unequal(self) -> str:
        """``same epochs``, ``30 epochs``: how long plain training was that is not at equal compute; else empty."""
        return "" if PLAIN not in self.kinds or self.label == EQUAL else self.label.removeprefix(f"{PLAIN}, ")

    @property
    def significant(self) -> bool | None:
        """Whether the interval leaves zero out; None where there is no interval."""
        return None if self.interval is None else not self.interval.spans_zero


def measures(rows: Sequence[Row]) -> list[Measure]:
    """What at least one of the rows has, in the order of a table's columns."""
    students = max(len(row.students) for row in rows)
    every = [
        Measure(kind, place, selected)
        for selected in (False, True)
        for kind, places in (("student", students), ("students' mean", 1), ("teacher", 1), ("ensemble", 1))
        for place in range(places)
    ]
    return [measure for measure in every if any(measure.values(row) for row in rows)]


def students_of(rows: Sequence[Row]) -> list[str]:
    """Their names; where rows name them differently, ``student 1`` and so on, by their order."""
    names = [list(row.students) for row in rows]
    if all(own == names[0] for own in names):
        return names[0]
    return [f"student {place + 1}" for place in range(max(map(len, names)))]


def differences(block: Block, against: Row | None = None) -> list[Difference]:
    """Every row's, to ``against`` or to its controls. Raises UserError where answers do not belong."""
    found, read = [], lru_cache(maxsize=None)(_read)  # a control is compared with many
    for row in block.rows:
        for other in references(row, block, against):
            if seeds := [seed for seed in row.seeds if seed in other.row.seeds]:
                same_images = not any(belongs(key, ("data",)) for key in other.differs)
                rights = _rights(row, other.row, seeds, read) if same_images else []
                found += [
                    _difference(row, other, measure, seeds, rights)
                    for measure in measures([row, other.row])
                    if measure.values(row) and measure.values(other.row)
                ]
    return found


def _of(measure: Measure, accuracies: Accuracies) -> list[float] | None:
    if measure.kind == "student":
        students = list(accuracies.students.values())
        return students[measure.place] if measure.place < len(students) else None
    own = {"students' mean": accuracies.students_mean, "teacher": accuracies.teacher, "ensemble": accuracies.ensemble}
    return own[measure.kind]


def _difference(
    row: Row, other: Reference, measure: Measure, seeds: list[int], rights: list[tuple[Right, Right]]
) -> Difference:
    ours, theirs = (_by_seed(one, measure) for one in (row, other.row))
    by_seed = [ours[seed] - theirs[seed] for seed in seeds]
    pairs = [(measure.right(one), measure.right(another)) for one, another in rights]
    whole = [(one, another) for one, another in pairs if one is not None and another is not None]
    by_image = [100.0 * (one.astype(float) - another.astype(float)) for one, another in whole]
    binary = [pair for pair in whole if pair[0].dtype == pair[1].dtype == bool]
    return Difference(
        row.name,
        other.row.name,
        other.label,
        other.kinds,
        other.differs,
        measure,
        seeds,
        by_seed,
        fmean(by_seed),
        t_interval(by_seed),
        bootstrap(by_seed),
        len(by_image[0]) if by_image else 0,
        bootstrap(np.mean(by_image, axis=0)) if by_image else None,
        [mcnemar(one, another) for one, another in binary],
    )


def _by_seed(row: Row, measure: Measure) -> dict[int, float]:
    values = measure.values(row)
    assert values is not None
    return dict(zip(row.seeds, values, strict=True))


def _rights(
    row: Row, other: Row, seeds: Sequence[int], read: Callable[[Path], Right | None]
) -> list[tuple[Right, Right]]:
    """Answers of both rows for each seed; empty unless every run kept them."""
    found = []
    for seed in seeds:
        runs = [one.runs[one.seeds.index(seed)] for one in (row, other)]
        one, another = (read(run) for run in runs)
        if one is None or another is None:
            return []
        if not np.array_equal(one.labels, another.labels):
            raise UserError(
                f"'{runs[0]}' and '{runs[1]}' were tested on other images, though their data has the same name and "
                "settings: it changed in between. Train one of them again."
            )
        found.append((one, another))
    return found


def _read(run: Path) -> Right | None:
    return read_right(run, run_files.read_summary(run).get("sha256", {}))
