"""By how much each row of a page is better than its controls."""

from collections.abc import Sequence
from typing import NamedTuple

from codistill.evaluation.compare.differences import Difference, Measure, differences
from codistill.evaluation.compare.rows import Comparison, Row

MEAN = Measure("students' mean")


class Gain(NamedTuple):
    """A row, its control, and by how much it is better in each measure."""

    label: str
    row: Row
    control: Row
    what: str  # the control is, beside this row
    kinds: tuple[str, ...]
    of: dict[Measure, Difference]

    @property
    def mean(self) -> Difference:
        return self.of[MEAN]


def find_gains(comparison: Comparison, rows: Sequence[Row]) -> list[Gain]:
    """Of the rows that have a control, the highest first. They are those of compare."""
    found, names = list[Gain](), [row.name for row in rows]
    for block in comparison.blocks:
        by_name = {row.name: row for row in block.rows}
        own: dict[tuple[str, str], Gain] = {}
        for one in differences(block):
            row = by_name[one.row]
            if row.name in names and not one.measure.selected:
                gain = Gain(_label(row, rows), row, by_name[one.against], one.label, one.kinds, {})
                own.setdefault((one.row, one.against), gain).of[one.measure] = one
        found += own.values()
    return sorted(found, key=lambda gain: -gain.mean.mean)


def _label(row: Row, rows: Sequence[Row]) -> str:
    """As short as tells a row from the others: its method, its tasks too, or what its runs are called."""
    for label in (row.method, f"{row.method}, {row.tasks}"):
        if sum(label in (other.method, f"{other.method}, {other.tasks}") for other in rows) == 1:
            return label
    return row.name
