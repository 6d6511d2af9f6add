"""The top of a page: how students end beside plain training, and all runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codistill.errors import UserError
from codistill.errors.counted import counted
from codistill.evaluation.compare.controls import PLAIN, WITHOUT_TEACHING, alone_among, controls_of, missing
from codistill.evaluation.compare.differences import Difference, measures, students_of
from codistill.evaluation.compare.rows import Row, compare, mean_and_deviation
from codistill.evaluation.report import figures_final
from codistill.evaluation.report.drawing import Figure
from codistill.evaluation.report.gains import MEAN, Gain, find_gains
from codistill.evaluation.report.headline import headline
from codistill.evaluation.report.parts import Table, between, command, signed
from codistill.evaluation.report.run_record import Story


class Overview(NamedTuple):
    """What a page begins with. What is found beside a single run, its control, has no row here."""

    headline: str
    detail: str = ""
    missing: Sequence[tuple[str, str]] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    rows: Sequence[Row] = ()
    controls: Mapping[Path, Path] = {}  # of runs, without teaching if there is one
    plain: Mapping[Path, Path] = {}  # of runs, in plain training


def overview(stories: Sequence[Story], beside: Sequence[Path]) -> Overview:
    """Of the runs of a page; ``beside``: runs among which controls are looked for, too."""
    finished = [story.path for story in stories if story.finished]
    stopped = [_how_to_go_on(story) for story in stories if story.state == "stopped"]
    if not finished:
        return Overview(_unfinished(stories), missing=stopped)
    try:
        comparison = compare([*finished, *alone_among(beside, finished[0])])
    except UserError as error:
        return Overview("These runs do not compare.", str(error), missing=stopped)
    rows = [row for row in comparison.rows if row.runs[0] in finished]
    tables = [_compared(rows)] if len(finished) > 1 else []
    controls, plain = controls_of(comparison), controls_of(comparison, PLAIN)
    try:
        gains = find_gains(comparison, rows)
    except UserError as error:
        return Overview("These runs do not compare.", str(error), stopped, (), tables, rows, controls, plain)
    lacking = [(f"{text}.", how) for text, how in dict.fromkeys(own for of in comparison.blocks for own in missing(of))]
    figures = [_drawn(gains, kind) for kind in (PLAIN, WITHOUT_TEACHING)]
    tables = [*([_gained(gains)] if gains else []), *tables]
    shown = [figure for figure in figures if figure is not None]
    return Overview(*headline(comparison, gains, rows), [*stopped, *lacking], shown, tables, rows, controls, plain)


def facts(stories: Sequence[Story]) -> list[str]:
    """What holds for all of the runs: how many, their methods, students, data and epochs."""
    configs = [story.config for story in stories]
    students = dict.fromkeys(
        ", ".join(
            f"{name} ({own if isinstance(own, str) else own['name']})" for name, own in config["students"].items()
        )
        for config in configs
    )
    methods = dict.fromkeys(str(config["method"]["name"]) for config in configs)
    data = dict.fromkeys(str(config.get("data", {}).get("name", "")) for config in configs)
    lengths = sorted({config["epochs"] for config in configs if "epochs" in config})
    longest = "".join(counted(number, "epoch") for number in lengths[-1:])
    epochs = f"{lengths[0]} to {longest}" if len(lengths) > 1 else longest
    found = [
        f"{len(stories)} runs" if len(stories) > 1 else "",
        ", ".join(methods),
        next(iter(students)) if len(students) == 1 else f"{len(students)} sets of students",
        ", ".join(data),
        epochs,
    ]
    return [fact for fact in found if fact]


def _students(config: Mapping[str, Any]) -> str:
    models = {name: own if isinstance(own, str) else own["name"] for name, own in config["students"].items()}
    return ", ".join(f"{name} ({model})" for name, model in models.items())


def _unfinished(stories: Sequence[Story]) -> str:
    running = sum(story.training for story in stories)
    if len(stories) == 1:
        return f"Training {'goes on' if running else 'was stopped'}: {stories[0].progress} done."
    return f"None of {len(stories)} runs is finished; {running or 'none'} {'is' if running < 2 else 'are'} training."


def _how_to_go_on(story: Story) -> tuple[str, str]:
    return f"'{story.name}' was stopped: {story.progress} done.", command("train", "--resume", story.path)


def _drawn(gains: Sequence[Gain], kind: str) -> Figure | None:
    title = "Minus plain training" if kind == PLAIN else "What teaching adds"
    own = []
    for gain in gains:
        if kind in gain.kinds:
            unequal = f" ({gain.mean.unequal})" if kind == PLAIN and gain.mean.unequal else ""
            own.append((f"{gain.label}{unequal}", gain.mean))
    return figures_final.gains_over_control(f"minus_{kind.replace(' ', '_')}", title, own)


def _compared(rows: Sequence[Row]) -> Table:
    """The students' mean of each row, side by side."""
    cells = [
        [row.name, mean_and_deviation(row.last.students_mean), str(len(row.seeds)), row.method, row.tasks]
        for row in rows
    ]
    caption = "Test accuracy after the last epoch in percent; mean ± deviation over seeds"
    return Table(caption, ["run", "students' mean", "seeds", "method", "tasks"], cells)


def _gained(gains: Sequence[Gain]) -> Table:
    """Each row's differences to its controls, with intervals."""
    rows = [gain.row for gain in gains]
    shown = [measure for measure in measures(rows) if any(measure in gain.of for gain in gains)]
    shown.sort(key=lambda measure: measure != MEAN)
    cells = []
    for gain in sorted(gains, key=lambda gain: PLAIN not in gain.kinds):
        line = [_points(gain.of[measure]) if measure in gain.of else "" for measure in shown]
        cells.append([gain.label, f"{gain.control.name} ({gain.what})", *line, gain.mean.basis])
    caption = "Test accuracy minus the control's in percent points, with its 95 % interval"
    heads = [measure.label(students_of(rows)) for measure in shown]
    return Table(caption, ["", "minus", *heads, "interval over"], cells)


def _points(gain: Difference) -> str:
    return f"{signed(gain.mean)}" + (f" ({between(gain)})" if between(gain) else "")
