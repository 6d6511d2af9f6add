"""The collapse test: one student of a cohort is harmed on purpose; what do the others lose?

Each method trains healthy and under each poison; the control is the healthy student alone with the same tasks, which
is what method ``independent`` trains, whatever its peer suffers. Runs of one seed start from the same weights and see
the same images in the same order, so differences are taken seed by seed.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codistill.config.recipe import merged
from codistill.config.schema import make_config
from codistill.errors import UserError, unknown
from codistill.evaluation.compare.comparability import kept_alone
from codistill.experiments.sweep.sweep_file import Entry
from codistill.storage import run_files

CONTROL = "independent"
HEALTHY = "healthy"
POISONS: dict[str, dict[str, float]] = {
    "labels40": {"random_labels": 0.4},
    "labels80": {"random_labels": 0.8},
    "lr10": {"learning_rate": 10.0},
    "reinit": {"reinitialise": 0.5},
}
SMALL = "small"

Cells = tuple[list[str], list[list[str]]]  # header and rows


class Harm(NamedTuple):
    """What one method's healthy students lose under one poison, in points of test accuracy, per paired seed."""

    method: str
    poison: str
    minus_alone: list[float]  # against themselves alone, with the same tasks
    minus_healthy: list[float]  # against themselves with the same method and a healthy peer


def stress_entries(
    given: Mapping[str, Any],
    methods: Sequence[str],
    poisons: Mapping[str, int],
    *,
    poisoned: str | None = None,
    smaller: str | None = None,
) -> list[Entry]:
    """The runs of a collapse test, first seeds first.

    given: keys of a recipe; without ``tasks`` students have none. poisons: how many seeds each gets; healthy runs get
    as many as the most. poisoned: a student, the last if None. smaller: the model that takes its place under the poison
    "small".
    Raises UserError for an unknown method, poison or student.
    """
    given = {"tasks": "none", **given}  # the same for all methods, the control included
    students = make_config(given).students
    victim = poisoned or list(students)[-1]
    if victim not in students:
        raise unknown("student", victim, students)
    for poison in poisons:
        if poison not in POISONS and poison != SMALL:
            raise unknown("poison", poison, [*POISONS, SMALL])
    if SMALL in poisons and smaller is None:
        raise UserError("The poison 'small' needs to know a smaller model: add --smaller MODEL.")
    seeds = {HEALTHY: max(poisons.values()), **poisons}
    entries = []
    for seed in range(seeds[HEALTHY]):
        for poison in (name for name, count in seeds.items() if seed < count):
            for method in [CONTROL] if poison == HEALTHY and CONTROL not in methods else []:
                entries.append(_entry(given, method, poison, seed, victim, smaller))
            for method in methods:
                if method != CONTROL or poison == HEALTHY:  # a peer's harm cannot reach who listens to nobody
                    entries.append(_entry(given, method, poison, seed, victim, smaller))
    return entries


def harms(runs: Sequence[Path], healthy: str) -> list[Harm]:
    """A row for each method and poison of those runs that are finished, told by their folders' names.

    healthy: the student that is looked at.
    """
    accuracy: dict[tuple[str, str], dict[int, float]] = {}
    for run in runs:
        if (run / "summary.json").exists():
            method, poison = run.name.rpartition("-seed")[0].rsplit("_", 1)
            summary = run_files.read_summary(run)
            accuracy.setdefault((method, poison), {})[summary["seed"]] = summary["test_accuracy"]["students"][healthy]
    alone = accuracy.get((CONTROL, HEALTHY), {})
    rows = []
    for (method, poison), of_seed in accuracy.items():
        if method != CONTROL:
            well = accuracy.get((method, HEALTHY), {})
            minus_alone = [percent - alone[seed] for seed, percent in of_seed.items() if seed in alone]
            minus_healthy = [percent - well[seed] for seed, percent in of_seed.items() if seed in well]
            rows.append(Harm(method, poison, minus_alone, minus_healthy))
    return sorted(rows, key=lambda row: list(POISONS).index(row.poison) if row.poison in POISONS else -1)


def against_alone(rows: Sequence[Harm]) -> Cells:
    """A row for each poison, a column for each method; points against the student alone: was the company worth it?"""
    return _table(rows, [HEALTHY, *POISONS, SMALL], lambda row: row.minus_alone)


def against_healthy(rows: Sequence[Harm]) -> Cells:
    """The same against the student beside a healthy peer, with the same method: what does the harm cost?"""
    return _table(rows, [*POISONS, SMALL], lambda row: row.minus_healthy)


def _table(rows: Sequence[Harm], poisons: Sequence[str], differences: Callable[[Harm], list[float]]) -> Cells:
    methods = list(dict.fromkeys(row.method for row in rows))
    cells = []
    for poison in poisons:
        of_method = {row.method: differences(row) for row in rows if row.poison == poison}
        if any(of_method.values()):
            seeds = max(len(found) for found in of_method.values())
            cells.append([poison, *(_cell(of_method.get(method, []), seeds) for method in methods), str(seeds)])
    return ["peer", *methods, "seeds"], cells


def _cell(differences: Sequence[float], seeds: int) -> str:
    """With the number of seeds where it is not that of the line."""
    return points(differences) + (f" ({len(differences)})" if 0 < len(differences) < seeds else "")


def points(differences: Sequence[float]) -> str:
    """``+1.20 ± 0.45``: mean and sample standard deviation."""
    if not differences:
        return ""
    mean = f"{statistics.fmean(differences):+.2f}"
    return f"{mean} ± {statistics.stdev(differences):.2f}" if len(differences) > 1 else mean


def _entry(given: Mapping[str, Any], method: str, poison: str, seed: int, victim: str, smaller: str | None) -> Entry:
    keys = merged(given, {"seed": seed})
    config = make_config(keys)
    if config.method.name != method:  # else it keeps its settings, and the weights of its own losses
        keys = {**merged(keys, {"method": method}), "weights": kept_alone(config.model_dump(mode="json"))}
    if poison in POISONS:
        keys["poison"] = {"student": victim, **POISONS[poison]}
    elif poison == SMALL:
        students = make_config(keys).students
        keys["students"] = {**students, victim: smaller}
    return Entry(f"{method}_{poison}-seed{seed}", make_config(keys))
