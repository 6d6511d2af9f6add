"""A comparison as CSV: a line for each row and each accuracy, unrounded, for whoever computes further."""

import csv
import io
import statistics
from collections.abc import Sequence
from typing import Any

from codistill.errors.printable import printable
from codistill.evaluation.compare.comparability import written
from codistill.evaluation.compare.controls import PLAIN, WITHOUT_TEACHING, find_row, role
from codistill.evaluation.compare.differences import Difference, Measure, differences, measures, students_of
from codistill.evaluation.compare.rows import Comparison
from codistill.evaluation.compare.statistics import Interval

_DIFFERENCE = (
    *("against", "against_is", "differs_in", "paired_seeds", "difference", "t_low", "t_high", "bootstrap_seeds_low"),
    *("bootstrap_seeds_high", "images", "bootstrap_images_low", "bootstrap_images_high", "mcnemar_p"),
)
COLUMNS = (
    *("block", "run", "method", "tasks", "settings", "control", "accuracy_of", "weights", "mean", "std", "seeds"),
    "values",
    *_DIFFERENCE,
    *(f"plain_{column}" for column in _DIFFERENCE),
    *("training_only_parameters", "passes_per_step", "epochs", "seconds", "training_seconds", "processor_seconds"),
    "images_per_second",
)


def to_csv(comparison: Comparison, against: str | None = None) -> str:
    """Accuracies in percent; what has an entry per seed is joined by ``;``. What is not known is empty.

    ``difference`` is that to ``against``, or else to the control without teaching; ``plain_difference`` that to plain
    training.
    """
    named = find_row(against, comparison.rows) if against is not None else None
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for number, block in enumerate(comparison.blocks, 1):
        found: dict[tuple[str, Measure, str], Difference] = {}
        for own in differences(block, named):
            found |= {(own.row, own.measure, kind): own for kind in own.kinds or (WITHOUT_TEACHING,)}
        names = students_of(block.rows)
        for row in block.rows:
            of_row = {
                "block": number,
                "run": row.name,
                "method": row.method,
                "tasks": row.tasks,
                "settings": _joined([written({key: value}) for key, value in row.settings.items()]),
                "control": role(row, block),
                "seeds": _joined(row.seeds),
                "training_only_parameters": row.cost.training_only,
                "passes_per_step": "" if row.cost.passes is None else row.cost.passes,
                "epochs": "" if row.epochs is None else row.epochs,
                "seconds": _mean(row.cost.seconds),
                "training_seconds": _mean(row.cost.training_seconds),
                "processor_seconds": _mean(row.cost.processor_seconds),
                "images_per_second": _mean(row.cost.images_per_second),
            }
            for measure in measures([row]):
                values = measure.values(row) or []
                accuracy = {
                    "accuracy_of": measure._replace(selected=False).label(names),
                    "weights": "selected" if measure.selected else "last",
                    "mean": _mean(values),
                    "std": statistics.stdev(values) if len(values) > 1 else "",
                    "values": _joined(values),
                }
                first = _difference(found.get((row.name, measure, WITHOUT_TEACHING)))
                plain = _difference(found.get((row.name, measure, PLAIN)))
                line = {**of_row, **accuracy, **first, **{f"plain_{key}": own for key, own in plain.items()}}
                writer.writerow({key: printable(cell) if isinstance(cell, str) else cell for key, cell in line.items()})
    return text.getvalue()


def _difference(difference: Difference | None) -> dict[str, Any]:
    if difference is None:
        return {}
    return {
        "against": difference.against,
        "against_is": difference.label,
        "differs_in": _joined(difference.differs),
        "paired_seeds": _joined(difference.seeds),
        "difference": difference.mean,
        "images": difference.images or "",
        "mcnemar_p": _joined(difference.mcnemar),
        **_limits("t", difference.t),
        **_limits("bootstrap_seeds", difference.over_seeds),
        **_limits("bootstrap_images", difference.over_images),
    }


def _limits(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}


def _mean(values: Sequence[float]) -> float | str:
    return statistics.fmean(values) if values else ""


def _joined(values: Sequence[Any]) -> str:
    return ";".join(map(str, values))
