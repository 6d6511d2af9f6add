"""The top of a page: who gained how much over its control, and all runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from codistill.errors import UserError
from codistill.report import at_end
from codistill.report.compare import ALONE, Comparison, Row, compare, mean_and_deviation
from codistill.report.controls import alone_among, controls_of, missing, same_tasks
from codistill.report.differences import Difference, Measure, differences, measures, students_of
from codistill.report.drawing import Figure
from codistill.report.parts import Table, command, signed, told
from codistill.report.story import Story

MEAN = Measure("students' mean")


class Overview(NamedTuple):
    """What a page begins with. What is found beside a single run, its control, has no row here."""

    headline: str
    detail: str = ""
    missing: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    rows: Sequence[Row] = ()
    controls: Mapping[Path, Path] = {}  # of runs


class Gain(NamedTuple):
    """A row, its control, and by how much it is better in each measure."""

    label: str
    row: Row
    control: Row
    of: dict[Measure, Difference]

    @property
    def same_tasks(self) -> bool:
        return same_tasks(self.row, self.control)


def overview(stories: Sequence[Story], beside: Sequence[Path]) -> Overview:
    """Of the runs of a page; ``beside``: runs among which controls are looked for, too."""
    finished = [story.path for story in stories if story.finished]
    if not finished:
        done = max((len(story.epochs) for story in stories), default=0)
        text = f"Training goes on: {done} of {stories[0].config.get('epochs', '?')} epochs done."
        return Overview(text, missing=[("No run is finished.", command("report", stories[0].path, "--watch"))])
    try:
        comparison = compare([*finished, *alone_among(beside, finished[0])])
    except UserError as error:
        return Overview("These runs do not compare.", str(error))
    rows = [row for row in comparison.rows if row.runs[0] in finished]
    tables = [_compared(rows)] if len(finished) > 1 else []
    controls = controls_of(comparison)
    try:
        gains = _gains(comparison, rows)
    except UserError as error:
        return Overview("These runs do not compare.", str(error), tables=tables, rows=rows, controls=controls)
    lacking = [(f"{text}.", how) for text, how in dict.fromkeys(own for of in comparison.blocks for own in missing(of))]
    if comparison.differing_terms:
        lacking.append((f"Rows that differ in {', '.join(comparison.differing_terms)} do not compete.", ""))
    figure = at_end.gains_over_control([(gain.label, gain.of[MEAN]) for gain in gains])
    tables = [*([_gained(gains)] if gains else []), *tables]
    return Overview(*_headline(gains, rows), lacking, [figure] if figure else [], tables, rows, controls)


def _gains(comparison: Comparison, rows: Sequence[Row]) -> list[Gain]:
    """Of the rows that learned together and have a control, the highest first. They are those of compare."""
    found: list[Gain] = []
    for block in comparison.blocks:
        by_name = {row.name: row for row in block.rows}
        own: dict[str, Gain] = {}
        for one in differences(block, without_tasks=True):
            row, control = by_name[one.row], by_name[one.against]
            if row.method != ALONE and not one.measure.selected:
                own.setdefault(row.name, Gain(_label(row, rows), row, control, {})).of[one.measure] = one
        found += own.values()
    return sorted(found, key=lambda gain: -gain.of[MEAN].mean)


def _headline(gains: Sequence[Gain], rows: Sequence[Row]) -> tuple[str, str]:
    if not gains:
        highest = max(rows, key=lambda row: fmean(row.last.students_mean))
        reached = f"{fmean(highest.last.students_mean):.2f} % on average"
        if all(len(row.students) == 1 for row in rows):
            return f"One student alone: {fmean(highest.last.students_mean):.2f} %", "It has no peer to learn from."
        if all(row.method == ALONE for row in rows):
            return f"Each student alone: {reached}", "Nobody taught anybody in these runs."
        return (
            f"The students reach {reached}",
            f"In {highest.name}, test accuracy. Without a control nobody knows whether each would reach it alone.",
        )
    gain = gains[0]
    mean, row, control = gain.of[MEAN], gain.row, gain.control
    who = "Students that learned together" if len(gains) == 1 else f"{gain.label}: its students"
    headline = f"{who} {'gained' if mean.mean >= 0 else 'lost'} {abs(mean.mean):.2f} points over each alone"
    said = [f"Students' mean, test accuracy: {told(mean)}."]
    if mean.interval is None:
        said.append("One run is one sample, and proves little.")
    elif mean.interval.low <= 0 <= mean.interval.high:
        said.append("The interval holds 0: it may be chance.")
    if len(gains) > 1:
        said.append(f"It is the best of {len(gains)} by that very number, so expect less of it again.")
    if not gain.same_tasks:
        said.append("The control has no tasks: this is what tasks and teaching gained together.")
    if control.epochs != row.epochs:
        said.append(f"The control trained for {control.epochs} epochs, these students for {row.epochs}.")
    if row.cost.passes and control.cost.passes and row.cost.passes != control.cost.passes:
        own, alone = row.cost.passes, control.cost.passes
        said.append(f"A step takes {own:.3g} forward passes of a student, one of the control {alone:.3g}.")
    return headline, " ".join(said)


def _label(row: Row, rows: Sequence[Row]) -> str:
    """As short as tells a row from the others: its method, its tasks too, or what its runs are called."""
    for label in (row.method, f"{row.method}, {row.tasks}"):
        if sum(label in (other.method, f"{other.method}, {other.tasks}") for other in rows) == 1:
            return label
    return row.name


def _compared(rows: Sequence[Row]) -> Table:
    """The students' mean of each row, side by side."""
    cells = [
        [row.name, mean_and_deviation(row.last.students_mean), str(len(row.seeds)), row.method, row.tasks]
        for row in rows
    ]
    caption = "Test accuracy after the last epoch in percent; mean ± deviation over seeds"
    return Table(caption, ["run", "students' mean", "seeds", "method", "tasks"], cells)


def _gained(gains: Sequence[Gain]) -> Table:
    """Each row's gains, with intervals."""
    rows = [gain.row for gain in gains]
    shown = [measure for measure in measures(rows) if any(measure in gain.of for gain in gains)]
    shown.sort(key=lambda measure: measure != MEAN)
    cells = []
    for gain in gains:
        line = [_points(gain.of[measure]) if measure in gain.of else "" for measure in shown]
        cells.append([gain.label, *line, gain.of[MEAN].basis, "same" if gain.same_tasks else "none"])
    caption = "Gain over the control in percent points, with its 95 % interval"
    heads = [measure.label(students_of(rows)) for measure in shown]
    return Table(caption, ["", *heads, "interval over", "control's tasks"], cells)


def _points(gain: Difference) -> str:
    between = f" ({' to '.join(map(signed, gain.interval))})" if gain.interval else ""
    return f"{signed(gain.mean)}{between}"
