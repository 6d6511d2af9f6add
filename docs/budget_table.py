"""Short and long trainings at equal compute: a table, from committed runs called ROW_BUDGET-seedN.

Of each run the student counts that validation images choose. A difference is to the row ``alone`` of the same budget,
paired by seed.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from codistill.evaluation.compare.statistics import t_interval
from codistill.evaluation.compare.tables import Table, markdown
from codistill.export.select import choose_student
from codistill.storage import run_files

ALONE = "alone"

Accuracies = dict[tuple[str, int], dict[int, float]]  # row and budget -> seed -> percent of test images


def read_budgets(runs: Sequence[Path]) -> Accuracies:
    """The test accuracies of finished runs."""
    found: Accuracies = {}
    for run in runs:
        row, _, budget = run.name.rpartition("-seed")[0].rpartition("_")
        summary = run_files.read_summary(run)
        percent = summary["test_accuracy"]["students"][choose_student(run, "best").name]
        found.setdefault((row, int(budget)), {})[summary["seed"]] = percent
    return found


def table(found: Accuracies) -> str:
    """A line for each budget, a column for each row."""
    rows = list(dict.fromkeys(row for row, _ in found))
    budgets = sorted({budget for _, budget in found})
    cells = [
        [f"{budget}", *(_cell(found.get((row, budget), {}), found[ALONE, budget], row) for row in rows)]
        for budget in budgets
    ]
    return markdown([Table("", ["passes as epochs of one network", *(row.replace("_", " ") for row in rows)], cells)])


def _cell(own: dict[int, float], alone: dict[int, float], row: str) -> str:
    """``61.20 ± 0.41 (3): +1.30 [0.20, 2.40]``."""
    if not own:
        return ""
    spread = f" ± {stdev(own.values()):.2f}" if len(own) > 1 else ""
    text = f"{fmean(own.values()):.2f}{spread} ({len(own)})"
    differences = [percent - alone[seed] for seed, percent in own.items() if seed in alone]
    if row == ALONE or not differences:
        return text
    interval = t_interval(differences)
    limits = "" if interval is None else f" [{interval.low:.2f}, {interval.high:.2f}]"
    return f"{text}: {fmean(differences):+.2f}{limits}"
