"""The top of a page: who gained how much over its control, and all runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from codistill.errors import UserError
from codistill.report import at_end
from codistill.report.compare import Row, compare, mean_and_deviation
from codistill.report.drawing import Figure
from codistill.report.gains import Gain, Pair, command_for_control, find_control, gains, is_control, signed
from codistill.report.parts import Table, command
from codistill.report.story import Story

MEAN = "students' mean"


class Overview(NamedTuple):
    """What a page begins with."""

    headline: str
    detail: str
    missing: list[tuple[str, str]]
    figures: list[Figure]
    tables: list[Table]
    pairs: dict[Path, Pair]


def overview(stories: Sequence[Story], beside: Sequence[Path]) -> Overview:
    """Of the runs of a page; ``beside``: finished runs among which controls are looked for."""
    finished = [story for story in stories if story.finished]
    if not finished:
        done = max((len(story.epochs) for story in stories), default=0)
        text = f"Training goes on: {done} of {stories[0].config.get('epochs', '?')} epochs done."
        watch = command("report", stories[0].path, "--watch")
        return Overview(text, "", [("No run is finished.", watch)], [], [], {})
    try:
        rows = compare([story.path for story in finished])
    except UserError as error:
        return Overview("These runs do not compare.", str(error), [], [], [], {})
    pairs = {story.path: pair for story in finished if (pair := find_control(story.path, beside))}
    shown: list[dict[str, Gain]] = []
    missing = []
    names = {story.path: story for story in finished}
    for row in rows.rows:
        own = [pairs[run] for run in row.runs if run in pairs]
        own = [pair for pair in own if pair.same_tasks] or own
        if own:
            shown.append(gains(_label(row, rows.rows), own))
        elif not is_control(names[row.runs[0]].config):
            missing.append((f"No control of {_label(row, rows.rows)}.", command_for_control(row.runs[0])))
    shown.sort(key=lambda gain: -gain[MEAN].mean)
    headline, detail = _headline(shown, finished)
    tables = [_gained(shown)] if shown else []
    if len(finished) > 1:
        tables.append(_compared(rows.rows))
    if rows.differing_terms:
        missing.append((f"Rows that differ in {', '.join(rows.differing_terms)} do not compete.", ""))
    figure = at_end.gains_over_control([gain[MEAN] for gain in shown])
    return Overview(headline, detail, missing, [figure] if figure else [], tables, pairs)


def _headline(shown: Sequence[dict[str, Gain]], finished: Sequence[Story]) -> tuple[str, str]:
    if not shown:
        highest = max(finished, key=_mean)
        if all(is_control(story.config) for story in finished):
            return f"Each student alone: {_mean(highest):.2f} % on average", "Nobody taught anybody in these runs."
        return (
            f"The students reach {_mean(highest):.2f} % on average",
            f"In {highest.name}, test accuracy. Without a control nobody knows whether each would reach it alone.",
        )
    gain = shown[0][MEAN]
    who = "Students that learned together" if len(shown) == 1 else f"{gain.label}: its students"
    headline = f"{who} {'gained' if gain.mean >= 0 else 'lost'} {abs(gain.mean):.2f} points over each alone"
    said = [f"Students' mean, test accuracy: {gain.told}."]
    if gain.interval is None:
        said.append("One run is one sample, and proves little.")
    elif gain.interval[0] <= 0 <= gain.interval[1]:
        said.append("The interval holds 0: it may be chance.")
    if len(shown) > 1:
        said.append(f"It is the best of {len(shown)} by that very number, so expect less of it again.")
    if not gain.same_tasks:
        said.append("The control has no tasks: this is what tasks and teaching gained together.")
    if gain.passes is not None and gain.passes[0] != gain.passes[1]:
        own, alone = gain.passes
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
    cells = []
    for row in rows:
        means = [sum(own) / len(own) for own in zip(*row.students.values(), strict=True)]
        cells.append([row.name, mean_and_deviation(means), str(len(row.seeds)), row.method, row.tasks])
    caption = "Test accuracy after the last epoch in percent; mean ± deviation over seeds"
    return Table(caption, ["run", "students' mean", "seeds", "method", "tasks"], cells)


def _gained(shown: Sequence[Mapping[str, Gain]]) -> Table:
    """Each row's gains, with intervals."""
    names = list(dict.fromkeys(name for gain in shown for name in gain))
    cells = []
    for gain in shown:
        first = gain[MEAN]
        line = [f"{signed(gain[name].mean)}{_between(gain[name])}" if name in gain else "" for name in names]
        cells.append([first.label, *line, first.basis, "same" if first.same_tasks else "none"])
    caption = "Gain over the control in percent points, with its 95 % interval"
    return Table(caption, ["", *names, "interval over", "control's tasks"], cells)


def _between(gain: Gain) -> str:
    return "" if gain.interval is None else f" ({signed(gain.interval[0])} to {signed(gain.interval[1])})"


def _mean(story: Story) -> float:
    assert story.summary is not None
    students = story.summary["test_accuracy"]["students"]
    return float(sum(students.values()) / len(students))
