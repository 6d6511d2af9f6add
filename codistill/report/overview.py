"""The top of a page: who gained how much over its control, and all runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from codistill.errors import UserError
from codistill.report import at_end
from codistill.report.compare import Row, compare, mean_and_deviation
from codistill.report.drawing import Figure
from codistill.report.gains import Gain, Pair, command_for_control, find_control, gains, is_control
from codistill.report.sections import Table
from codistill.report.story import Story

MEAN = "students' mean"


class Overview(NamedTuple):
    """What a page begins with."""

    headline: str
    detail: str
    missing: list[tuple[str, str]]
    figures: list[Figure]
    tables: list[Table]
    gained: dict[Path, dict[str, Gain]]  # of each run, what its row gained
    pairs: dict[Path, Pair]


def overview(stories: Sequence[Story], beside: Sequence[Path]) -> Overview:
    """Of the runs of a page; ``beside``: finished runs among which controls are looked for."""
    finished = [story for story in stories if story.finished]
    if not finished:
        done = max((len(story.epochs) for story in stories), default=0)
        text = f"Training goes on: {done} of {stories[0].config.get('epochs', '?')} epochs done."
        return Overview(text, "", [("No run is finished.", f"codistill report {stories[0].path} --watch")], [], [], {}, {})
    try:
        rows = compare([story.path for story in finished])
    except UserError as error:
        return Overview("These runs do not compare.", str(error), [], [], [], {}, {})
    pairs = {story.path: pair for story in finished if (pair := find_control(story.path, beside))}
    found: dict[Path, dict[str, Gain]] = {}
    shown: list[dict[str, Gain]] = []
    missing = []
    names = {story.path: story for story in finished}
    for row in rows.rows:
        own = [pairs[run] for run in row.runs if run in pairs]
        own = [pair for pair in own if pair.same_tasks] or own
        if own:
            also = ", ".join(f"{key}={value}" for key, value in row.settings.items()) if len(rows.rows) > 2 else ""
            label = f"{row.method}, tasks {row.tasks}" + (f", {also}" if also else "")
            shown.append(gains(label, own))
            found |= dict.fromkeys(row.runs, shown[-1])
        elif not is_control(names[row.runs[0]].config):
            missing.append((f"No control of {row.method} ({row.tasks}).", command_for_control(row.runs[0])))
    headline, detail = _headline(shown, pairs, finished)
    tables = [_gained(shown)] if shown else []
    if len(finished) > 1:
        tables.append(_compared(rows.rows))
    if rows.differing_terms:
        missing.append((f"Rows that differ in {', '.join(rows.differing_terms)} do not compete.", ""))
    figure = at_end.gains_over_control([gain[MEAN] for gain in shown])
    return Overview(headline, detail, missing, [figure] if figure else [], tables, found, pairs)


def _headline(shown: Sequence[dict[str, Gain]], pairs: dict[Path, Pair], finished: Sequence[Story]) -> tuple[str, str]:
    if not shown:
        best = max(finished, key=lambda story: _mean(story))
        if all(is_control(story.config) for story in finished):
            return f"Each student alone: {_mean(best):.2f} % on average", "Nobody taught anybody in these runs."
        return (
            f"The students reach {_mean(best):.2f} % on average",
            f"In {best.name}, test accuracy. Whether that is more than each would alone, nobody knows without a control.",
        )
    best = max(shown, key=lambda gain: gain[MEAN].mean)
    gain = best[MEAN]
    sure = gain.interval is not None and (gain.interval[0] > 0 or gain.interval[1] < 0)
    verb = "gained" if gain.mean >= 0 else "lost"
    who = "Students that learned together" if len(shown) == 1 else f"Most: {gain.label}. Its students"
    headline = f"{who} {verb} {abs(gain.mean):.2f} points over each alone"
    basis = f"Students' mean, test accuracy: {gain.told}."
    doubt = "" if sure else " An interval that holds 0, or none, proves nothing yet."
    chosen = f" The best of {len(shown)} rows by that very number, so expect less again." if len(shown) > 1 else ""
    with_tasks = all(pair.same_tasks for pair in pairs.values())
    terms = (
        " The control has the same tasks."
        if with_tasks
        else " Where no control with the same tasks is at hand, it has none: the gain is then of tasks and teaching together."
    )
    return headline, basis + doubt + chosen + terms


def _compared(rows: Sequence[Row]) -> Table:
    """Test accuracies side by side."""
    cells = []
    for row in rows:
        also = ", ".join(f"{key}={value}" for key, value in row.settings.items())
        students = [f"{name} {mean_and_deviation(values)}" for name, values in row.students.items()]
        means = [sum(own) / len(own) for own in zip(*row.students.values(), strict=True)]
        cells.append(
            [row.method, row.tasks, mean_and_deviation(means), "; ".join(students), str(len(row.seeds)), also]
        )
    header = ["method", "tasks", "students' mean", "students", "seeds", "also differs"]
    return _without_empty(Table("Test accuracy after the last epoch, percent; mean ± deviation over seeds", header, cells))


def _gained(shown: Sequence[Mapping[str, Gain]]) -> Table:
    """Each gain with its interval."""
    cells = []
    for gain in shown:
        for name, own in gain.items():
            between = "" if own.interval is None else f"{own.interval[0]:+.2f} to {own.interval[1]:+.2f}"
            cells.append([own.label, name, f"{own.mean:+.2f}", between, own.basis])
    return Table("Gain over the control, percent points", ["", "who", "gain", "95 % interval", "over"], cells)


def _without_empty(table: Table) -> Table:
    """No column that says nothing."""
    kept = [place for place in range(len(table.header)) if any(row[place] for row in table.rows)]
    rows = [[row[place] for place in kept] for row in table.rows]
    return Table(table.caption, [table.header[place] for place in kept], rows)


def _mean(story: Story) -> float:
    assert story.summary is not None
    students = story.summary["test_accuracy"]["students"]
    return float(sum(students.values()) / len(students))
